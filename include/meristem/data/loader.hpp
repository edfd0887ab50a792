// One pass over a set of samples in batches; images are augmented and normalised on the way.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
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
[[nodiscard]] inline std::vector<std::int64_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  constexpr std::uint64_t stream = std::uint64_t{0x6f7264} << 40;
  const Philox philox(seed, stream | static_cast<std::uint64_t>(epoch));
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[philox.below(i, i)]);
  return order;
}

/// Turns images of a set into batches: inputs (n, height, width, channels) are (pixel / 255 - mean) / stddev, labels
/// (n) are in [0, classes). It refers to the set, which must outlive it.
template <Real T>
class ImageBatches {
 public:
  /// `augmentation` in the pass `epoch` of the stream `seed`. Throws DataError for a set that is empty or whose sizes
  /// do not agree, ArgumentError for more padding than image.
  explicit ImageBatches(const ImageSet& set, const Augmentation& augmentation = {}, std::uint64_t seed = 0,
                        std::int64_t epoch = 0)
      : set_(&set), augmentation_(augmentation), seed_(seed), epoch_(epoch) {
    set.check_sizes();
    augmentation.check(set.height, set.width);
    fill_table();
  }

  /// The images at `indices`, in that order. Throws ArgumentError for an index out of range, DataError for a label that
  /// names no class.
  [[nodiscard]] nn::Batch<T> operator()(Context& ctx, std::span<const std::int64_t> indices) const {
    std::vector<std::int32_t> labels;
    for (const std::int64_t image : indices) labels.push_back(set_->label(image));
    const Shape shape{std::ssize(indices), set_->height, set_->width, set_->channels};
    nn::Batch<T> batch;
#if MERISTEM_GPU
    staging_.resize(static_cast<std::size_t>(shape.size()));
    convert(ctx, indices, staging_.data());
    batch.inputs = from_host<T>(ctx, shape, staging_);
#else
    batch.inputs = meristem::empty<T>(ctx, shape);
    convert(ctx, indices, batch.inputs.data());
#endif
    batch.labels = from_host<std::int32_t>(ctx, {std::ssize(indices)}, labels);
    return batch;
  }

 private:
  /// The normalised value of each of the 256 pixel values, per channel.
  void fill_table() {
    for (std::size_t c = 0; c < static_cast<std::size_t>(set_->channels); ++c) {
      table_.emplace_back();
      for (std::size_t pixel = 0; pixel < 256; ++pixel) {
        const Normalization& norm = set_->normalization;
        const T value = static_cast<T>((static_cast<double>(pixel) / 255 - norm.mean[c]) / norm.stddev[c]);
        if (!std::isfinite(value)) {
          throw DataError(concat("normalization: channel ", c, " with mean ", norm.mean[c], " and stddev ",
                                 norm.stddev[c], " turns pixels into numbers beyond ", dtype_name<T>));
        }
        table_.back()[pixel] = value;
      }
    }
  }

  /// Writes the augmented, normalised images at `indices` one after the other, on the threads of the machine.
  void convert([[maybe_unused]] Context& ctx, std::span<const std::int64_t> indices, T* to) const {
    const std::int64_t bytes = set_->image_bytes(), channels = set_->channels;
    const std::int64_t count = std::ssize(indices);
    const Augmentation& augmentation = augmentation_;
#if defined(_OPENMP)
    const int wanted = ctx.executor().threads > 0 ? ctx.executor().threads : omp_get_max_threads();
#pragma omp parallel num_threads(wanted)
#endif
    {
      std::vector<std::uint8_t> augmented(static_cast<std::size_t>(augmentation.active() ? bytes : 0));
#if defined(_OPENMP)
#pragma omp for schedule(static)
#endif
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t index = indices[static_cast<std::size_t>(i)];
        const std::uint8_t* pixels = set_->pixels.data() + index * bytes;
        if (augmentation.active()) {
          augmentation.apply(augmentation.draw(seed_, epoch_, index), pixels, set_->height, set_->width, channels,
                             augmented.data());
          pixels = augmented.data();
        }
        T* image = to + i * bytes;
        for (std::int64_t p = 0; p < bytes; p += channels) {
          for (std::int64_t c = 0; c < channels; ++c) image[p + c] = table_[static_cast<std::size_t>(c)][pixels[p + c]];
        }
      }
    }
  }

  const ImageSet* set_;
  Augmentation augmentation_;
  std::uint64_t seed_;
  std::int64_t epoch_;
  std::vector<std::array<T, 256>> table_;
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
         const std::string& name = "the set")
      : Loader(ctx, std::move(source), batch_size, options, name, false) {}

  /// Of images; throws DataError for an inconsistent set and ArgumentError for more padding than image, too.
  Loader(Context& ctx, const ImageSet& set, std::int64_t batch_size, const BatchOptions& options = {})
      : Loader(ctx, images(ctx, set, options), batch_size, options, set.source, true) {}

  /// Number of batches.
  [[nodiscard]] std::int64_t size() const {
    return options_.drop_last ? source_.size() / batch_size_ : (source_.size() - 1) / batch_size_ + 1;
  }

  /// Indices into the set, in the order in which the batches hold them.
  [[nodiscard]] std::span<const std::int64_t> order() const { return order_; }

  /// Batch `index` of this pass, the same whichever came before. Throws ArgumentError if there is none.
  [[nodiscard]] nn::Batch<T> batch(std::int64_t index) const {
    if (index < 0 || index >= size()) {
      throw ArgumentError(concat("batches: there is no batch ", index, " in a pass of ", size()));
    }
    const std::int64_t first = index * batch_size_;
    const std::int64_t count = std::min(batch_size_, source_.size() - first);
    return source_.batch(*ctx_, order().subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
  }

  [[nodiscard]] Iterator begin() const { return Iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

 private:
  Loader(Context& ctx, nn::BatchSource<T> source, std::int64_t batch_size, const BatchOptions& options,
         const std::string& name, bool of_images)
      : ctx_(&ctx), source_(std::move(source)), batch_size_(batch_size), options_(options) {
    if (batch_size < 1) {
      throw ArgumentError(concat("batches: the batch size is ", batch_size, "; it must be at least 1"));
    }
    if (options.epoch < 0 || options.epoch >> 40 != 0) {
      throw ArgumentError(concat("batches: the epoch is ", options.epoch, "; it must be from 0 to 2^40 - 1"));
    }
    if (source_.size() == 0) throw DataError(concat("batches: ", name, " is empty; it needs at least one sample"));
    if (options.augmentation.active() && !of_images) {
      throw ArgumentError(concat("batches: augmentation is for images, and ", name, " has none"));
    }
    if (options.drop_last && batch_size > source_.size()) {
      throw ArgumentError(concat("batches: drop_last leaves no batch of ", batch_size, " from the ", source_.size(),
                                 of_images ? " images of " : " samples of ", name, "; choose a smaller batch size"));
    }
    if (options.shuffle) {
      order_ = epoch_order(source_.size(), options.seed.value_or(ctx.seed()), options.epoch);
    } else {
      order_.resize(static_cast<std::size_t>(source_.size()));
      std::iota(order_.begin(), order_.end(), std::int64_t{0});
    }
  }

  static nn::BatchSource<T> images(Context& ctx, const ImageSet& set, const BatchOptions& options) {
    set.check();
    return {set.size(), ImageBatches<T>(set, options.augmentation, options.seed.value_or(ctx.seed()), options.epoch)};
  }

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
Loader<T> ImageSet::batches(Context& ctx, std::int64_t batch_size) const& {
  return Loader<T>(ctx, *this, batch_size);
}

template <Real T>
Loader<T> ImageSet::batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options) const& {
  return Loader<T>(ctx, *this, batch_size, options);
}

}  // namespace meristem::data
