// How a kernel slides over a map: sizes, strides, padding and dilation along the two spatial axes.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// Numbers along the two axes of a map, rows first. One number stands for both.
struct Extent2 {
  std::int64_t y = 0;
  std::int64_t x = 0;

  constexpr Extent2() = default;
  MERISTEM_HD constexpr Extent2(std::int64_t both) : y(both), x(both) {}
  MERISTEM_HD constexpr Extent2(std::int64_t y_, std::int64_t x_) : y(y_), x(x_) {}

  [[nodiscard]] MERISTEM_HD constexpr std::int64_t size() const { return y * x; }
  friend constexpr bool operator==(const Extent2&, const Extent2&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Extent2& extent) {
    return out << extent.y << 'x' << extent.x;
  }
};

/// A sliding window: output position j reads the map at j·stride - padding + tap·dilation, tap = 0..kernel-1, along
/// each axis; what lies outside the map reads as zero.
struct Window {
  /// The largest number, so that products of two of them and sums of those do not overflow.
  static constexpr std::int64_t most = 0x7fffffff;

  Extent2 kernel = 1;
  Extent2 stride = 1;
  Extent2 padding = 0;
  Extent2 dilation = 1;

  /// Map elements from the first tap to the last, both included.
  [[nodiscard]] MERISTEM_HD constexpr Extent2 reach() const {
    return {(kernel.y - 1) * dilation.y + 1, (kernel.x - 1) * dilation.x + 1};
  }

  /// Positions of the window on a map. Only for a window that `check` accepts on it.
  [[nodiscard]] MERISTEM_HD constexpr Extent2 output(Extent2 map) const {
    const Extent2 r = reach();
    return {(map.y + 2 * padding.y - r.y) / stride.y + 1, (map.x + 2 * padding.x - r.x) / stride.x + 1};
  }

  /// Throws ArgumentError unless kernel, stride and dilation are positive, the padding is not negative, and none is
  /// 2^31 or more. `label` is what messages call the layer or function.
  void check(const std::string& label) const {
    const auto require = [&](const char* what, Extent2 value, std::int64_t least) {
      if (value.y < least || value.x < least) {
        throw ArgumentError(concat(label, ": ", what, " is ", value, "; it must be at least ", Extent2(least)));
      }
      if (value.y > most || value.x > most) {
        throw ArgumentError(concat(label, ": ", what, " is ", value, "; it must be at most ", Extent2(most)));
      }
    };
    require("the kernel", kernel, 1);
    require("the stride", stride, 1);
    require("the dilation", dilation, 1);
    require("the padding", padding, 0);
  }

  /// As above, and throws ShapeError unless the window fits the padded map.
  void check(const std::string& label, Extent2 map) const {
    check(label);
    if (map.y > most || map.x > most) {
      throw ShapeError(concat(label, ": a map of ", map, " is larger than ", Extent2(most)));
    }
    const Extent2 r = reach();
    if (map.y + 2 * padding.y >= r.y && map.x + 2 * padding.x >= r.x) return;
    throw ShapeError(concat(label, ": the kernel ", kernel, dilation == Extent2(1) ? "" : " with its dilation",
                            " spans ", r, ", more than the map of ", map, " with padding ", padding,
                            "; use a smaller kernel, more padding or a larger map"));
  }

  friend constexpr bool operator==(const Window&, const Window&) = default;
};

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
