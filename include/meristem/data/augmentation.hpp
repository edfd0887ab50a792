// Random crops and horizontal flips of 8-bit NHWC images.
#pragma once

#include <algorithm>
#include <cstdint>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/philox.hpp>

namespace meristem::data {

/// What a crop sees beyond the edge of the image.
enum class PadMode {
  zero,     ///< black: pixel value 0, before normalisation
  reflect,  ///< the image mirrored about its edge pixels, which are not repeated
};

/// What was drawn for one image: the crop starts at row `top`, column `left` of the image, both in [-padding, padding];
/// the crop is then mirrored left to right if `flip`.
struct AugmentationDraw {
  int top = 0;
  int left = 0;
  bool flip = false;

  friend bool operator==(const AugmentationDraw&, const AugmentationDraw&) = default;
};

/// Random crop and flip. The image keeps its size: it is padded by `crop_padding` pixels on every side, and a window of
/// the old size is cut out at a uniformly random place. With `flip` half of the images are mirrored.
struct Augmentation {
  int crop_padding = 0;
  bool flip = false;
  PadMode pad_mode = PadMode::zero;

  [[nodiscard]] bool active() const { return crop_padding != 0 || flip; }

  /// Throws ArgumentError unless 0 <= crop_padding < min(height, width).
  void check(std::int64_t height, std::int64_t width) const {
    if (crop_padding < 0) {
      throw ArgumentError(concat("augmentation: crop_padding is ", crop_padding, "; it must be 0 or more"));
    }
    if (crop_padding >= std::min(height, width) && crop_padding > 0) {
      throw ArgumentError(concat("augmentation: crop_padding is ", crop_padding, " for images of ", height, " x ",
                                 width, "; it must be less than both"));
    }
  }

  /// The draw for image `index` of a set in `epoch`: a pure function of its arguments, whatever the order of the
  /// batches or the number of threads.
  [[nodiscard]] AugmentationDraw draw(std::uint64_t seed, std::int64_t epoch, std::int64_t index) const {
    constexpr std::uint64_t stream = std::uint64_t{0x617567} << 40;
    const Philox philox(seed, stream | static_cast<std::uint64_t>(epoch));
    const Philox::Block random = philox.block(static_cast<std::uint64_t>(index));
    const std::uint64_t places = 2 * static_cast<std::uint64_t>(crop_padding) + 1;
    const auto offset = [&](std::uint32_t word) { return static_cast<int>(word * places >> 32) - crop_padding; };
    return {.top = offset(random.word[0]), .left = offset(random.word[1]), .flip = flip && random.word[2] >> 31 != 0};
  }

  /// to = the crop of `from` that `drawn` describes, both (height, width, channels), not overlapping.
  void apply(const AugmentationDraw& drawn, const std::uint8_t* from, std::int64_t height, std::int64_t width,
             std::int64_t channels, std::uint8_t* to) const {
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

 private:
  /// Where the pixel at `position` of the padded axis comes from; -1 for black.
  [[nodiscard]] std::int64_t source(std::int64_t position, std::int64_t extent) const {
    if (position >= 0 && position < extent) return position;
    if (pad_mode == PadMode::zero) return -1;
    return position < 0 ? -position : 2 * (extent - 1) - position;
  }
};

}  // namespace meristem::data
