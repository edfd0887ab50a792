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

  [[nodiscard]] bool active() const { return crop_padding != 0 || flip; }

  /// Throws ArgumentError unless 0 <= crop_padding < min(height, width).
  void check(std::int64_t height, std::int64_t width) const;

  /// The draw for image `index` of a set in `epoch`: a pure function of its arguments, whatever the order of the
  /// batches or the number of threads.
  [[nodiscard]] AugmentationDraw draw(std::uint64_t seed, std::int64_t epoch, std::int64_t index) const;

  /// to = the crop of `from` that `drawn` describes, both (height, width, channels), not overlapping.
  void apply(const AugmentationDraw& drawn, const std::uint8_t* from, std::int64_t height, std::int64_t width,
             std::int64_t channels, std::uint8_t* to) const;

 private:
  /// Where the pixel at `position` of the padded axis comes from; -1 for black.
  [[nodiscard]] std::int64_t source(std::int64_t position, std::int64_t extent) const;
};

}  // namespace meristem::data

#if !defined(MERISTEM_COMPILED)
#include <meristem/data/augmentation_impl.hpp>
#endif
