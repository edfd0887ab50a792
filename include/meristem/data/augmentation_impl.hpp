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

MERISTEM_INLINE AugmentationDraw Augmentation::draw(std::uint64_t seed, std::int64_t epoch, std::int64_t index) const {
  constexpr std::uint64_t stream = std::uint64_t{0x617567} << 40;
  const Philox philox(seed, stream | static_cast<std::uint64_t>(epoch));
  const Philox::Block random = philox.block(static_cast<std::uint64_t>(index));
  const std::uint64_t places = 2 * static_cast<std::uint64_t>(crop_padding) + 1;
  const auto offset = [&](std::uint32_t word) { return static_cast<int>(word * places >> 32) - crop_padding; };
  return {.top = offset(random.word[0]), .left = offset(random.word[1]), .flip = flip && random.word[2] >> 31 != 0};
}

MERISTEM_INLINE void Augmentation::apply(const AugmentationDraw& drawn, const std::uint8_t* from, std::int64_t height,
                                         std::int64_t width, std::int64_t channels, std::uint8_t* to) const {
  for (std::int64_t y = 0; y < height; ++y) {
    const std::int64_t source_y = source(y + drawn.top, height);
    for (std::int64_t x = 0; x < width; ++x, to += channels) {
      const std::int64_t source_x = source((drawn.flip ? width - 1 - x : x) + drawn.left, width);
      if (source_y < 0 || source_x < 0) {
        std::fill_n(to, channels, std::uint8_t{0});
      } else {
        std::copy_n(from + (source_y * width + source_x) * channels, channels, to);
      }
    }
  }
}

MERISTEM_INLINE std::int64_t Augmentation::source(std::int64_t position, std::int64_t extent) const {
  if (position >= 0 && position < extent) return position;
  if (pad_mode == PadMode::zero) return -1;
  return position < 0 ? -position : 2 * (extent - 1) - position;
}

}  // namespace meristem::data
