// Widths of layers as a share of those of a full network.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::models {

/// max(1, round(scale·width)). Throws ArgumentError, which starts with `function`, for a scale that is not positive or
/// gives 2^31 or more.
[[nodiscard]] inline std::int64_t scaled_width(const std::string& function, double scale, std::int64_t width) {
  const double scaled = scale * static_cast<double>(width);
  if (!(scale > 0.0) || !(scaled < 0x1p31)) {
    throw ArgumentError(concat(function, ": width is ", scale, "; it is the share of the full widths, such as ", width,
                               ": positive, 1 for the full network"));
  }
  const auto rounded = static_cast<std::int64_t>(std::llround(scaled));
  return rounded < 1 ? 1 : rounded;
}

}  // namespace meristem::models
