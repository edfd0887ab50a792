// Definitions of augmentation.hpp.
#pragma once

#include <algorithm>

#include <meristem/data/augmentation.hpp>

namespace meristem::data {

MERISTEM_INLINE void Augmentation::check(std::int64_t height, std::int64_t width) const {
  if (crop_padding < 0) {
    throw ArgumentError(concat("augmentation: crop_padding is ", crop_padding, "; it must be 0 or more"));
  }
  if (crop_padding >= std::min(height, width) && crop_padding > 0) {
    throw ArgumentError(concat("augmentation: crop_padding is ", crop_padding, " for images of ", height, " x ", width,
                               "; it must be less than both"));
  }
}

MERISTEM_INLINE void Augmentation::apply(const AugmentationDraw& drawn, const std::uint8_t* from, std::int64_t height,
                                         std::int64_t width, std::int64_t channels, std::uint8_t* to) const {
  for (std::int64_t y = 0; y < height; ++y) {
    const std::int64_t source_y = inside(y + drawn.top, height);
    for (std::int64_t x = 0; x < width; ++x, to += channels) {
      const std::int64_t source_x = inside((drawn.flip ? width - 1 - x : x) + drawn.left, width);
      if (source_y < 0 || source_x < 0) {
        std::fill_n(to, channels, std::uint8_t{0});
      } else {
        std::copy_n(from + (source_y * width + source_x) * channels, channels, to);
      }
    }
  }
}

}  // namespace meristem::data
