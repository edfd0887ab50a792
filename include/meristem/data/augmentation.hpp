// Random crops and horizontal flips of 8-bit NHWC images.
#pragma once

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

  [[nodiscard]] MERISTEM_HD bool active() const { return crop_padding != 0 || flip; }

  /// Throws ArgumentError unless 0 <= crop_padding < min(height, width).
  void check(std::int64_t height, std::int64_t width) const;

  /// The draw for image `index` of a set in `epoch`: a pure function of its arguments, whatever the order of the
  /// batches or the number of threads.
  [[nodiscard]] MERISTEM_HD AugmentationDraw draw(std::uint64_t seed, std::int64_t epoch, std::int64_t index) const {
    constexpr std::uint64_t stream = std::uint64_t{0x617567} << 40;
    const Philox philox(seed, stream | static_cast<std::uint64_t>(epoch));
    const Philox::Block random = philox.block(static_cast<std::uint64_t>(index));
    return {offset(random.word[0]), offset(random.word[1]), flip && random.word[2] >> 31 != 0};
  }

  /// The pixel of the image, counted row by row, that the crop shows at (y, x); -1 for black.
  [[nodiscard]] MERISTEM_HD std::int64_t source(const AugmentationDraw& drawn, std::int64_t y, std::int64_t x,
                                                std::int64_t height, std::int64_t width) const {
    const std::int64_t source_y = inside(y + drawn.top, height);
    const std::int64_t source_x = inside((drawn.flip ? width - 1 - x : x) + drawn.left, width);
    return source_y < 0 || source_x < 0 ? -1 : source_y * width + source_x;
  }

  /// to = the crop of `from` that `drawn` describes, both (height, width, channels), not overlapping.
  void apply(const AugmentationDraw& drawn, const std::uint8_t* from, std::int64_t height, std::int64_t width,
             std::int64_t channels, std::uint8_t* to) const;

 private:
  /// A number in [-crop_padding, crop_padding], from 32 random bits.
  [[nodiscard]] MERISTEM_HD int offset(std::uint32_t word) const {
    const std::uint64_t places = 2 * static_cast<std::uint64_t>(crop_padding) + 1;
    return static_cast<int>(word * places >> 32) - crop_padding;
  }
  /// Where the pixel at `position` of the padded axis comes from; -1 for black.
  [[nodiscard]] MERISTEM_HD std::int64_t inside(std::int64_t position, std::int64_t extent) const {
    if (position >= 0 && position < extent) return position;
    if (pad_mode == PadMode::zero) return -1;
    return position < 0 ? -position : 2 * (extent - 1) - position;
  }
};

}  // namespace meristem::data

#if !defined(MERISTEM_COMPILED)
#include <meristem/data/augmentation_impl.hpp>
#endif
