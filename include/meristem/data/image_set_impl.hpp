// Definitions of image_set.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <meristem/data/image_set.hpp>

namespace meristem::data {

MERISTEM_INLINE void Normalization::check(std::int64_t channels) const {
  if (std::ssize(mean) != channels || std::ssize(stddev) != channels) {
    throw DataError(concat("normalization: has ", mean.size(), " means and ", stddev.size(), " stddevs for images of ",
                           channels, " channels; give one of each per channel"));
  }
  for (std::size_t c = 0; c < mean.size(); ++c) {
    if (!std::isfinite(mean[c]) || !std::isfinite(stddev[c]) || stddev[c] <= 0) {
      throw DataError(concat("normalization: channel ", c, " has mean ", mean[c], " and stddev ", stddev[c],
                             "; the mean must be finite, the stddev finite and above 0"));
    }
  }
}

MERISTEM_INLINE std::span<const std::uint8_t> ImageSet::image(std::int64_t index) const {
  if (index < 0 || index >= size()) {
    throw ArgumentError(concat(source, ": there is no image ", index, " in a set of ", size()));
  }
  return std::span(pixels).subspan(static_cast<std::size_t>(index * image_bytes()),
                                   static_cast<std::size_t>(image_bytes()));
}

MERISTEM_INLINE void ImageSet::check() const {
  check_sizes();
  for (std::int64_t i = 0; i < size(); ++i) (void)label(i);
}

MERISTEM_INLINE std::int32_t ImageSet::label(std::int64_t index) const {
  (void)image(index);
  const std::int32_t value = labels[static_cast<std::size_t>(index)];
  if (value < 0 || value >= classes()) {
    throw DataError(concat(source, ": image ", index, " has label ", value, "; the set has ", classes(),
                           " classes, so labels run from 0 to ", classes() - 1));
  }
  return value;
}

MERISTEM_INLINE void ImageSet::check_sizes() const {
  if (height < 1 || width < 1 || channels < 1) {
    throw DataError(concat(source, ": images of ", height, " x ", width, " x ", channels,
                           " (height x width x channels); every extent must be at least 1"));
  }
  if (empty()) throw DataError(concat(source, ": the data set is empty; it needs at least one image"));
  std::int64_t bytes = 0;
  const bool fits = !__builtin_mul_overflow(height, width, &bytes) &&
                    !__builtin_mul_overflow(bytes, channels, &bytes) && !__builtin_mul_overflow(bytes, size(), &bytes);
  if (!fits || std::ssize(pixels) != bytes) {
    throw DataError(concat(source, ": ", labels.size(), " labels of ", height, " x ", width, " x ", channels,
                           " images need ", fits ? std::to_string(bytes) : "more than 2^63", " pixel bytes; there are ",
                           pixels.size()));
  }
  normalization.check(channels);
}

MERISTEM_INLINE Normalization ImageSet::measure_normalization() const {
  if (pixels.empty() || channels < 1) {
    throw DataError(concat(source, ": the data set is empty; mean and stddev need at least one image"));
  }
  const auto channel_count = static_cast<std::size_t>(channels);
  std::vector<std::uint64_t> sum(channel_count), sum_of_squares(channel_count);
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    const std::uint64_t pixel = pixels[i];
    sum[i % channel_count] += pixel;
    sum_of_squares[i % channel_count] += pixel * pixel;
  }
  const double count = static_cast<double>(pixels.size() / channel_count);
  Normalization result;
  for (std::size_t c = 0; c < channel_count; ++c) {
    const double mean = static_cast<double>(sum[c]) / count;
    const double variance = static_cast<double>(sum_of_squares[c]) / count - mean * mean;
    result.mean.push_back(mean / 255);
    // The variance of integers that differ at all is at least (count - 1) / count², far above rounding.
    result.stddev.push_back(variance * count > 0.25 ? std::sqrt(variance) / 255 : 1.0);
  }
  return result;
}

MERISTEM_INLINE ImageSet ImageSet::subset(std::span<const std::int64_t> indices) const {
  ImageSet result = empty_like();
  result.pixels.reserve(indices.size() * static_cast<std::size_t>(image_bytes()));
  result.labels.reserve(indices.size());
  for (const std::int64_t index : indices) {
    const auto one = image(index);
    result.pixels.insert(result.pixels.end(), one.begin(), one.end());
    result.labels.push_back(labels[static_cast<std::size_t>(index)]);
  }
  return result;
}

MERISTEM_INLINE ImageSet ImageSet::take(std::int64_t count) const {
  if (count < 0 || count > size()) {
    throw ArgumentError(concat(source, ": cannot take ", count, " images from a set of ", size()));
  }
  ImageSet result = empty_like();
  result.pixels.assign(pixels.begin(), pixels.begin() + count * image_bytes());
  result.labels.assign(labels.begin(), labels.begin() + count);
  return result;
}

MERISTEM_INLINE ImageSet ImageSet::take_evenly(std::int64_t count) const {
  if (count < 0 || count > size()) {
    throw ArgumentError(concat(source, ": cannot take ", count, " images from a set of ", size()));
  }
  std::vector<std::vector<std::int64_t>> of_class(class_names.size());
  for (std::int64_t i = 0; i < size(); ++i) {
    of_class.at(static_cast<std::size_t>(labels[static_cast<std::size_t>(i)])).push_back(i);
  }
  // What the small classes lack, the larger ones give.
  std::stable_sort(of_class.begin(), of_class.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  std::vector<std::int64_t> taken;
  for (std::size_t c = 0; c < of_class.size(); ++c) {
    const std::int64_t members = std::ssize(of_class[c]);
    const std::int64_t share = (count - std::ssize(taken)) / (std::ssize(of_class) - static_cast<std::int64_t>(c));
    const std::int64_t number = std::min(members, share);
    for (std::int64_t i = 0; i < number; ++i) {
      taken.push_back(of_class[c][static_cast<std::size_t>(i * members / number)]);
    }
  }
  std::sort(taken.begin(), taken.end());
  return subset(taken);
}

MERISTEM_INLINE ImageSet ImageSet::empty_like() const {
  ImageSet result;
  result.height = height;
  result.width = width;
  result.channels = channels;
  result.class_names = class_names;
  result.normalization = normalization;
  result.source = source;
  return result;
}

}  // namespace meristem::data
