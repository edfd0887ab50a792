// A labelled set of 8-bit images in host memory: what the readers return and the loader walks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

class Context;

}  // namespace MERISTEM_BACKEND
}  // namespace meristem

namespace meristem::nn {

template <Real T>
struct Batch;

}  // namespace meristem::nn

namespace meristem::data {

struct BatchOptions;
template <Real T>
class Loader;

enum class Split { train, test };

[[nodiscard]] inline const char* to_string(Split split) { return split == Split::train ? "train" : "test"; }

/// Per-channel mean and standard deviation, in units of full scale (pixel / 255). A batch holds
/// (pixel / 255 - mean) / stddev. They belong to a training set; its test set is normalised by the same numbers.
struct Normalization {
  std::vector<double> mean;
  std::vector<double> stddev;

  /// Throws DataError unless there is one finite mean and one positive, finite stddev for each of `channels`.
  void check(std::int64_t channels) const;

  friend bool operator==(const Normalization&, const Normalization&) = default;
};

/// Images of one size with their labels. `pixels` is NHWC, (size, height, width, channels), rows from the top.
struct ImageSet {
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 0;
  /// Name of class k at [k]; its length is the number of classes.
  std::vector<std::string> class_names;
  /// What batches are normalised by. The readers fill in the numbers of the training set for both splits; for images of
  /// your own take `train.measure_normalization()` and give the test set the same.
  Normalization normalization;
  /// Where the images come from, for error messages and reports.
  std::string source;

  [[nodiscard]] std::int64_t size() const { return std::ssize(labels); }
  [[nodiscard]] bool empty() const { return labels.empty(); }
  [[nodiscard]] std::int64_t classes() const { return std::ssize(class_names); }
  /// Bytes of one image: height * width * channels.
  [[nodiscard]] std::int64_t image_bytes() const { return height * width * channels; }

  /// Image `index`, (height, width, channels).
  [[nodiscard]] std::span<const std::uint8_t> image(std::int64_t index) const;

  /// Throws DataError unless the set has images, its sizes agree and every label names a class.
  void check() const;

  /// The label of image `index`. Throws ArgumentError if there is none, DataError if it names no class.
  [[nodiscard]] std::int32_t label(std::int64_t index) const;

  /// `check` but for the labels.
  void check_sizes() const;

  /// Mean and standard deviation (over all pixels, not bias-corrected) of each channel, from exact integer sums. A
  /// channel that never varies gets stddev 1, which normalises it to 0. Throws DataError on an empty set.
  [[nodiscard]] Normalization measure_normalization() const;

  /// The images at `indices`, in that order; an index may repeat. Throws ArgumentError if one is out of range.
  [[nodiscard]] ImageSet subset(std::span<const std::int64_t> indices) const;

  /// The first `count` images. Throws ArgumentError if there are fewer, or if `count` is negative.
  [[nodiscard]] ImageSet take(std::int64_t count) const;

  /// `count` images, as many of each class as there are to be had, those of a class spread evenly over the set. Throws
  /// as `take`.
  [[nodiscard]] ImageSet take_evenly(std::int64_t count) const;

  /// The images at `indices`, normalised, with their labels: what growth and evaluation read. Throws DataError for an
  /// inconsistent set, ArgumentError for an index out of range. Defined in loader.hpp, as are those below.
  template <Real T = float>
  [[nodiscard]] nn::Batch<T> batch(Context& ctx, std::span<const std::int64_t> indices) const;

  /// One pass over the images in normalised batches of `batch_size`; see loader.hpp.
  template <Real T = float>
  [[nodiscard]] Loader<T> batches(Context& ctx, std::int64_t batch_size) const&;
  template <Real T = float>
  [[nodiscard]] Loader<T> batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options) const&;
  /// Deleted: the batches would outlive a temporary set.
  template <Real T = float>
  Loader<T> batches(Context& ctx, std::int64_t batch_size) const&& = delete;
  template <Real T = float>
  Loader<T> batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options) const&& = delete;

 private:
  [[nodiscard]] ImageSet empty_like() const;
};

}  // namespace meristem::data

#if !defined(MERISTEM_COMPILED)
#include <meristem/data/image_set_impl.hpp>
#endif
