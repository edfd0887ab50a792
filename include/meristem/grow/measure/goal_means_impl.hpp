// Definitions of goal_means.hpp.
#pragma once

#include <algorithm>
#include <cstddef>

#include <meristem/grow/measure/goal_means.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow {

template <Real T>
void detail::GoalMeans<T>::update(Context& ctx, View<const T> unit_input, View<const T> goal) {
  const std::int64_t n = unit_input.extent(0), q = site_.fan_out();
  samples_ += n;
  if (!site_.spatial()) {
    positions_ += unit_input.as_matrix().extent(0);
    add(column_sums(ctx, unit_input), input_sums_);
    add(column_sums(ctx, goal), goal_sums_);
    return;
  }
  positions_ += n * site_.hidden().size();
  // The weight gradient of a layer is the sum of what it reads where its output's gradient is 1.
  const auto ones = [&](Extent2 map) {
    Tensor<T> result(ctx, {n, map.y, map.x, 1});
    kernels::fill(ctx, T(1), result.view());
    return result;
  };
  Tensor<T> patches(ctx, {1, site_.producer.window.kernel.y, site_.producer.window.kernel.x, site_.producer.in});
  kernels::conv2d_backward_weights<T>(ctx, unit_input, ones(site_.hidden()), site_.producer.window,
                                      kernels::Accumulate::overwrite, patches);
  add(to_host(ctx, patches), input_sums_);
  const Window window = site_.consumer_window();
  Tensor<T> reads(ctx, {q, window.kernel.y, window.kernel.x, 1});
  const Extent2 outputs = window.output(site_.pooled());
  kernels::conv2d_backward_weights<T>(ctx, ones(site_.pooled()), goal.reshape({n, outputs.y, outputs.x, q}), window,
                                      kernels::Accumulate::overwrite, reads);
  const std::vector<T> sums = to_host(ctx, reads);
  const std::int64_t taps = window.kernel.size();
  std::vector<T> ordered;
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    for (std::int64_t o = 0; o < q; ++o) ordered.push_back(sums[static_cast<std::size_t>(o * taps + tap)]);
  }
  add(ordered, goal_sums_);
}

template <Real T>
void detail::GoalMeans<T>::merge(const GoalMeans& other) {
  const auto join = [](std::vector<double>& mine, const std::vector<double>& theirs) {
    mine.resize(std::max(mine.size(), theirs.size()), 0.0);
    for (std::size_t i = 0; i < theirs.size(); ++i) mine[i] += theirs[i];
  };
  join(input_sums_, other.input_sums_);
  join(goal_sums_, other.goal_sums_);
  samples_ += other.samples_;
  positions_ += other.positions_;
}

template <Real T>
Tensor<double> detail::GoalMeans<T>::centred(Context& ctx, const Tensor<double>& m) const {
  std::vector<double> values = to_host(ctx, m);
  const std::size_t rows = static_cast<std::size_t>(m.extent(0)), columns = static_cast<std::size_t>(m.extent(1));
  const Window& window = site_.consumer.window;
  const std::size_t q = static_cast<std::size_t>(site_.fan_out());
  const std::size_t first =
      columns == goal_sums_.size()
          ? 0
          : q * static_cast<std::size_t>(window.kernel.y / 2 * window.kernel.x + window.kernel.x / 2);
  for (std::size_t i = 0; i < rows; ++i) {
    const double mean = i < input_sums_.size() ? input_sums_[i] / static_cast<double>(positions_) : 1.0;
    for (std::size_t e = 0; e < columns; ++e) {
      values[i * columns + e] -= mean * goal_sums_[first + e] / static_cast<double>(samples_);
    }
  }
  return from_host<double>(ctx, m.shape(), values);
}

template <Real T>
std::vector<T> detail::GoalMeans<T>::column_sums(Context& ctx, View<const T> rows) {
  const View<const T> matrix = rows.as_matrix();
  Tensor<T> sums(ctx, {matrix.extent(1)});
  kernels::column_sums<T>(ctx, matrix, sums, kernels::Accumulate::overwrite);
  return to_host(ctx, sums);
}

template <Real T>
void detail::GoalMeans<T>::add(const std::vector<T>& batch, std::vector<double>& sums) {
  sums.resize(batch.size(), 0.0);
  for (std::size_t i = 0; i < batch.size(); ++i) sums[i] += static_cast<double>(batch[i]);
}

}  // namespace meristem::grow
