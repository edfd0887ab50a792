// One pass over a set of samples in batches; images are augmented and normalised on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/data/augmentation.hpp>
#include <meristem/data/device_images.hpp>
#include <meristem/data/image_set.hpp>
#include <meristem/nn/batch.hpp>

namespace meristem::data {

/// How a set is walked. Order and augmentation are pure functions of (seed, epoch).
struct BatchOptions {
  /// A random order, different in every epoch; otherwise the order of the set.
  bool shuffle = false;
  /// Number of the pass, 0 or more.
  std::int64_t epoch = 0;
  /// By default the seed of the Context.
  std::optional<std::uint64_t> seed = std::nullopt;
  /// Of images.
  Augmentation augmentation = {};
  /// Leave out the last batch if it is smaller than the others.
  bool drop_last = false;
};

/// A random permutation of 0 ... size - 1, a pure function of its arguments. R. Fisher and F. Yates, Statistical Tables
/// (1938), as given by D. Knuth, The Art of Computer Programming 2, 3.4.2, algorithm P.
[[nodiscard]] std::vector<std::int64_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch);

/// Turns images of a set into batches: inputs (n, height, width, channels) are (pixel / 255 - mean) / stddev, labels
/// (n) are in [0, classes). It refers to the set, which must outlive it.
template <Real T>
class ImageBatches {
 public:
  /// `augmentation` in the pass `epoch` of the stream `seed`. Throws DataError for a set that is empty or whose sizes
  /// do not agree, ArgumentError for more padding than image.
  explicit ImageBatches(const ImageSet& set, const Augmentation& augmentation = {}, std::uint64_t seed = 0,
                        std::int64_t epoch = 0);

  /// The same of a set whose pixels are on the device: made there.
  explicit ImageBatches(const DeviceImages& images, const Augmentation& augmentation = {}, std::uint64_t seed = 0,
                        std::int64_t epoch = 0);

  /// The images at `indices`, in that order. Throws ArgumentError for an index out of range, DataError for a label that
  /// names no class.
  [[nodiscard]] nn::Batch<T> operator()(Context& ctx, std::span<const std::int64_t> indices) const;

 private:
  /// The normalised value of each of the 256 pixel values, per channel.
  void fill_table();

  /// The batch from images on the device.
  [[nodiscard]] nn::Batch<T> gather(Context& ctx, std::span<const std::int64_t> indices, const Shape& shape) const;

  /// Writes the augmented, normalised images at `indices` one after the other, on the threads of the machine.
  void convert([[maybe_unused]] Context& ctx, std::span<const std::int64_t> indices, T* to) const;

  const ImageSet* set_;
  const DeviceImages* device_ = nullptr;
  Augmentation augmentation_;
  std::uint64_t seed_;
  std::int64_t epoch_;
  std::vector<T> table_;  // (channels, 256)
#if MERISTEM_GPU
  mutable std::vector<T> staging_;
#endif
};

/// The batches of one pass over a set, an input range. It refers to the set and the Context, which must outlive it. Use
/// from one thread at a time.
template <Real T>
class Loader {
 public:
  class Iterator;

  /// Throws ArgumentError for a batch size below 1, a negative epoch, augmentation of what are no images, and
  /// drop_last where it leaves nothing; DataError for an empty source. `name` stands in messages.
  Loader(Context& ctx, nn::BatchSource<T> source, std::int64_t batch_size, const BatchOptions& options = {},
         const std::string& name = "the set");

  /// Of images; throws DataError for an inconsistent set and ArgumentError for more padding than image, too.
  Loader(Context& ctx, const ImageSet& set, std::int64_t batch_size, const BatchOptions& options = {});

  /// The same batches, made on the device.
  Loader(Context& ctx, const DeviceImages& images, std::int64_t batch_size, const BatchOptions& options = {});

  /// Number of batches.
  [[nodiscard]] std::int64_t size() const;

  /// Indices into the set, in the order in which the batches hold them.
  [[nodiscard]] std::span<const std::int64_t> order() const { return order_; }

  /// Batch `index` of this pass, the same whichever came before. Throws ArgumentError if there is none.
  [[nodiscard]] nn::Batch<T> batch(std::int64_t index) const;

  [[nodiscard]] Iterator begin() const { return Iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

 private:
  Loader(Context& ctx, nn::BatchSource<T> source, std::int64_t batch_size, const BatchOptions& options,
         const std::string& name, bool of_images);

  template <class Images>
  static nn::BatchSource<T> source_of(Context& ctx, const Images& images, const BatchOptions& options);

  Context* ctx_;
  nn::BatchSource<T> source_;
  std::int64_t batch_size_;
  BatchOptions options_;
  std::vector<std::int64_t> order_;
};

/// Walks the batches; each is loaded when the iterator reaches it and freed when it leaves.
template <Real T>
class Loader<T>::Iterator {
 public:
  using value_type = nn::Batch<T>;
  using difference_type = std::ptrdiff_t;

  explicit Iterator(const Loader& loader) : loader_(&loader) { load(); }

  [[nodiscard]] const nn::Batch<T>& operator*() const { return batch_; }
  [[nodiscard]] const nn::Batch<T>* operator->() const { return &batch_; }
  Iterator& operator++() {
    ++index_;
    load();
    return *this;
  }
  void operator++(int) { ++*this; }
  friend bool operator==(const Iterator& it, std::default_sentinel_t) { return it.index_ == it.loader_->size(); }

 private:
  void load() {
    batch_ = {};
    if (index_ < loader_->size()) batch_ = loader_->batch(index_);
  }

  const Loader* loader_;
  std::int64_t index_ = 0;
  nn::Batch<T> batch_;
};

template <Real T>
nn::Batch<T> ImageSet::batch(Context& ctx, std::span<const std::int64_t> indices) const {
  return ImageBatches<T>(*this)(ctx, indices);
}

template <Real T>
nn::Batch<T> DeviceImages::batch(Context& ctx, std::span<const std::int64_t> indices) const {
  return ImageBatches<T>(*this)(ctx, indices);
}

template <Real T>
Loader<T> DeviceImages::batches(Context& ctx, std::int64_t batch_size) const& {
  return Loader<T>(ctx, *this, batch_size);
}

template <Real T>
Loader<T> DeviceImages::batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options) const& {
  return Loader<T>(ctx, *this, batch_size, options);
}

template <Real T>
Loader<T> ImageSet::batches(Context& ctx, std::int64_t batch_size) const& {
  return Loader<T>(ctx, *this, batch_size);
}

template <Real T>
Loader<T> ImageSet::batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options) const& {
  return Loader<T>(ctx, *this, batch_size, options);
}

}  // namespace meristem::data

#if !defined(MERISTEM_COMPILED)
#include <meristem/data/loader_impl.hpp>
#endif
