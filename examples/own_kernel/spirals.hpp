// A data set of one's own: what training, evaluation and growth ask of it is size, subset and batches.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>

namespace own_kernel {

/// Points in the plane, (n, 2), and which of two spirals each is on.
struct Spirals {
  std::vector<double> points;
  std::vector<std::int32_t> labels;

  template <class T>
  struct Batch {
    meristem::Tensor<T> images;  ///< inputs, whatever they are
    meristem::Tensor<std::int32_t> labels;
  };

  [[nodiscard]] std::int64_t size() const { return std::ssize(labels); }

  [[nodiscard]] Spirals subset(std::span<const std::int64_t> indices) const {
    Spirals result;
    for (const std::int64_t index : indices) {
      const auto i = static_cast<std::size_t>(index);
      result.points.insert(result.points.end(), {points[2 * i], points[2 * i + 1]});
      result.labels.push_back(labels[i]);
    }
    return result;
  }

  template <class T>
  [[nodiscard]] std::vector<Batch<T>> batches(meristem::Context& ctx, std::int64_t batch_size) const {
    std::vector<Batch<T>> result;
    for (std::int64_t begin = 0; begin < size(); begin += batch_size) {
      const std::int64_t end = std::min(begin + batch_size, size());
      result.push_back(
          {meristem::from_host<T>(ctx, {end - begin, 2},
                                  std::vector<T>(points.begin() + 2 * begin, points.begin() + 2 * end)),
           meristem::from_host<std::int32_t>(ctx, {end - begin},
                                             std::vector<std::int32_t>(labels.begin() + begin, labels.begin() + end))});
    }
    return result;
  }
};

/// `count` points, noisy, in random order.
[[nodiscard]] inline Spirals spirals(std::int64_t count, std::uint64_t seed) {
  const meristem::Philox random(seed, 0);
  Spirals set;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto draw = static_cast<std::uint64_t>(4 * i);
    const auto label = static_cast<std::int32_t>(random.below(draw, 2));
    const double along = std::sqrt(random.uniform(draw + 1)), angle = 9.0 * along + 3.14159265358979 * label;
    set.points.push_back(2 * along * std::cos(angle) + 0.05 * random.normal(draw + 2));
    set.points.push_back(2 * along * std::sin(angle) + 0.05 * random.normal(draw + 3));
    set.labels.push_back(label);
  }
  return set;
}

}  // namespace own_kernel
