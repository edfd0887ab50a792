// What the statistics of convolutions have to multiply.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace bench {

/// Pairs of positions that offsets `from` to `to` along both axes have on a map of side h; `half`: of opposite offsets
/// one.
inline double position_pairs(std::int64_t h, std::int64_t from, std::int64_t to, bool half) {
  double line = 0.0;
  for (std::int64_t d = from; d <= to; ++d) line += static_cast<double>(std::max<std::int64_t>(h - std::abs(d), 0));
  const double all = line * line, none = static_cast<double>(h * h);
  return half ? (all + none) / 2 : all;
}

/// Operations for one sample of the covariance of 3x3 patches of a map (h, h, c).
inline double patch_covariance_operations(std::int64_t h, std::int64_t c) {
  return 2.0 * position_pairs(h, -2, 2, true) * static_cast<double>(c * c);
}

/// Operations for one sample of 3x3 patches of a map (h, h, c) against q outputs behind a second 3x3 convolution, at
/// its centre tap alone or at all taps.
inline double patch_cross_operations(std::int64_t h, std::int64_t c, std::int64_t q, bool all_taps) {
  const double pairs = all_taps ? position_pairs(h, -2, 2, false) : position_pairs(h, -1, 1, false);
  return 2.0 * pairs * static_cast<double>(c * q);
}

}  // namespace bench
