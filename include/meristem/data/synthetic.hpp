// A procedural image set, so that everything runs with no download: ten geometric classes in clutter.
//
// Each image shows one shape at a random place, size and angle, lighter or darker than what is behind it, on a sloping
// background with small patches and noise. Because the polarity is random, the mean image of every class is alike and
// a linear classifier stays near chance. All arithmetic is on integers, so the bytes are the same on every machine.
#pragma once

#include <cstdint>
#include <functional>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/data/image_set.hpp>

namespace meristem::data {

/// What `synthetic` draws.
struct SyntheticOptions {
  /// Number of images, at least 1; the first n images do not depend on it.
  std::int64_t images = 10'000;
  std::uint64_t seed = 0;
  /// The two splits never share an image.
  Split split = Split::train;
  /// Called before each run of 512 images; what it throws ends the drawing.
  std::function<void()> before_some = {};
};

namespace detail {

/// Numbers one after the other from one Philox stream.
class Draws {
 public:
  Draws(std::uint64_t seed, std::uint64_t stream) : philox_(seed, stream) {}
  /// Uniform in [low, high].
  int range(int low, int high);

 private:
  Philox philox_;
  std::uint64_t next_ = 0;
};

}  // namespace detail

/// Ten classes of 32 x 32 x 3 images, in equal numbers (to within one). A pure function of the options. Throws
/// ArgumentError for fewer than 1 image or more than 2^31, and what before_some throws.
[[nodiscard]] ImageSet synthetic(const SyntheticOptions& options = {});

}  // namespace meristem::data

#if !defined(MERISTEM_COMPILED)
#include <meristem/data/synthetic_impl.hpp>
#endif
