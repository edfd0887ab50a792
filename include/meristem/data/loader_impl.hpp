// Definitions of loader.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>
#include <utility>

#include <meristem/core/for_each.hpp>
#include <meristem/data/loader.hpp>

namespace meristem::data {

MERISTEM_INLINE std::vector<std::int64_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  constexpr std::uint64_t stream = std::uint64_t{0x6f7264} << 40;
  const Philox philox(seed, stream | static_cast<std::uint64_t>(epoch));
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[philox.below(i, i)]);
  return order;
}

namespace detail {

/// to = the pixels of the images at `indices`, cropped, flipped and normalised; their labels, too.
template <class T>
struct GatherImages {
  const std::uint8_t* pixels;
  const std::int32_t* labels;
  const std::int64_t* indices;
  const T* table;  ///< (channels, 256)
  Augmentation augmentation;
  std::uint64_t seed;
  std::int64_t epoch;
  std::int64_t height, width, channels;
  T* to;
  std::int32_t* label_to;
  MERISTEM_HD void operator()(std::int64_t image, std::int64_t pixel) const {
    const std::int64_t index = indices[image], size = height * width;
    if (pixel == 0) label_to[image] = labels[index];
    std::int64_t source = pixel;
    if (augmentation.active()) {
      const AugmentationDraw drawn = augmentation.draw(seed, epoch, index);
      source = augmentation.source(drawn, pixel / width, pixel % width, height, width);
    }
    const std::uint8_t* const from = pixels + (index * size + source) * channels;
    T* const out = to + (image * size + pixel) * channels;
    for (std::int64_t c = 0; c < channels; ++c) out[c] = table[c * 256 + (source < 0 ? 0 : from[c])];
  }
};

}  // namespace detail

template <Real T>
ImageBatches<T>::ImageBatches(const DeviceImages& images, const Augmentation& augmentation, std::uint64_t seed,
                              std::int64_t epoch)
    : ImageBatches(images.set(), augmentation, seed, epoch) {
  device_ = &images;
}

template <Real T>
ImageBatches<T>::ImageBatches(const ImageSet& set, const Augmentation& augmentation, std::uint64_t seed,
                              std::int64_t epoch)
    : set_(&set), augmentation_(augmentation), seed_(seed), epoch_(epoch) {
  set.check_sizes();
  augmentation.check(set.height, set.width);
  fill_table();
}

template <Real T>
nn::Batch<T> ImageBatches<T>::operator()(Context& ctx, std::span<const std::int64_t> indices) const {
  std::vector<std::int32_t> labels;
  for (const std::int64_t image : indices) labels.push_back(set_->label(image));
  const Shape shape{std::ssize(indices), set_->height, set_->width, set_->channels};
  if (device_ != nullptr) return gather(ctx, indices, shape);
  nn::Batch<T> batch;
#if MERISTEM_GPU
  staging_.resize(static_cast<std::size_t>(shape.size()));
  convert(ctx, indices, staging_.data());
  batch.inputs = from_host<T>(ctx, shape, staging_);
#else
  batch.inputs = meristem::empty<T>(ctx, shape);
  const meristem::detail::DeviceAccess access;
  convert(ctx, indices, batch.inputs.data());
#endif
  batch.labels = from_host<std::int32_t>(ctx, {std::ssize(indices)}, labels);
  return batch;
}

template <Real T>
nn::Batch<T> ImageBatches<T>::gather(Context& ctx, std::span<const std::int64_t> indices, const Shape& shape) const {
  device_->require_context(ctx);
  nn::Batch<T> batch;
  batch.inputs = meristem::empty<T>(ctx, shape);
  batch.labels = meristem::empty<std::int32_t>(ctx, {shape[0]});
  const auto chosen = from_host<std::int64_t>(ctx, {shape[0]}, indices);
  const auto table = from_host<T>(ctx, {set_->channels, 256}, table_);
  for_each(ctx, shape[0], set_->height * set_->width,
           detail::GatherImages<T>{device_->pixels().data_handle(), device_->labels().data_handle(), chosen.data(),
                                   table.data(), augmentation_, seed_, epoch_, set_->height, set_->width,
                                   set_->channels, batch.inputs.data(), batch.labels.data()});
  return batch;
}

template <Real T>
void ImageBatches<T>::fill_table() {
  for (std::size_t c = 0; c < static_cast<std::size_t>(set_->channels); ++c) {
    for (std::size_t pixel = 0; pixel < 256; ++pixel) {
      const Normalization& norm = set_->normalization;
      const T value = static_cast<T>((static_cast<double>(pixel) / 255 - norm.mean[c]) / norm.stddev[c]);
      if (!std::isfinite(value)) {
        throw DataError(concat("normalization: channel ", c, " with mean ", norm.mean[c], " and stddev ",
                               norm.stddev[c], " turns pixels into numbers beyond ", dtype_name<T>));
      }
      table_.push_back(value);
    }
  }
}

template <Real T>
void ImageBatches<T>::convert([[maybe_unused]] Context& ctx, std::span<const std::int64_t> indices, T* to) const {
  const std::int64_t bytes = set_->image_bytes(), channels = set_->channels;
  const std::int64_t count = std::ssize(indices);
  const Augmentation& augmentation = augmentation_;
  const T* const table = table_.data();
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
        const T* value = table;
        for (std::int64_t c = 0; c < channels; ++c, value += 256) image[p + c] = value[pixels[p + c]];
      }
    }
  }
}

template <Real T>
Loader<T>::Loader(Context& ctx, nn::BatchSource<T> source, std::int64_t batch_size, const BatchOptions& options,
                  const std::string& name)
    : Loader(ctx, std::move(source), batch_size, options, name, false) {}

template <Real T>
Loader<T>::Loader(Context& ctx, const ImageSet& set, std::int64_t batch_size, const BatchOptions& options)
    : Loader(ctx, source_of(ctx, set, options), batch_size, options, set.source, true) {}

template <Real T>
Loader<T>::Loader(Context& ctx, const DeviceImages& images, std::int64_t batch_size, const BatchOptions& options)
    : Loader(ctx, source_of(ctx, images, options), batch_size, options, images.set().source, true) {}

template <Real T>
std::int64_t Loader<T>::size() const {
  return options_.drop_last ? source_.size() / batch_size_ : (source_.size() - 1) / batch_size_ + 1;
}

template <Real T>
nn::Batch<T> Loader<T>::batch(std::int64_t index) const {
  if (index < 0 || index >= size()) {
    throw ArgumentError(concat("batches: there is no batch ", index, " in a pass of ", size()));
  }
  const std::int64_t first = index * batch_size_;
  const std::int64_t count = std::min(batch_size_, source_.size() - first);
  return source_.batch(*ctx_, order().subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
}

template <Real T>
Loader<T>::Loader(Context& ctx, nn::BatchSource<T> source, std::int64_t batch_size, const BatchOptions& options,
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

template <Real T>
template <class Images>
nn::BatchSource<T> Loader<T>::source_of(Context& ctx, const Images& images, const BatchOptions& options) {
  if constexpr (std::is_same_v<Images, ImageSet>) images.check();
  return {images.size(),
          ImageBatches<T>(images, options.augmentation, options.seed.value_or(ctx.seed()), options.epoch)};
}

}  // namespace meristem::data
