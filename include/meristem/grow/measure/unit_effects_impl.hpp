// Definitions of unit_effects.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include <meristem/core/blas.hpp>
#include <meristem/grow/measure/unit_effects.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow::detail {

template <Real T>
void SquaredDeviation<T>::operator()(std::int64_t row, std::int64_t column) const {
  const T mean = static_cast<T>(static_cast<double>(sums[column]) / static_cast<double>(rows));
  const T deviation = h[row * columns + column] - mean;
  out[row * columns + column] = deviation * deviation;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
detail::UnitEffects<T>::UnitEffects(Context& ctx, const Site<T>& site, const Insertion& insertion)
    : UnitEffects(ctx, site, insertion, Options{.norm2 = insertion.taps > 1}) {}

template <Real T>
detail::UnitEffects<T>::UnitEffects(Context& ctx, const Site<T>& site, const Insertion& insertion,
                                    const Options& options)
    : path_(ctx, site, insertion, options.reader),
      options_(options),
      moments_(path_.site().normed()),
      ctx_(&ctx),
      positive_(static_cast<std::size_t>(insertion.units)),
      negative_(static_cast<std::size_t>(insertion.units)),
      mean_(static_cast<std::size_t>(insertion.units)),
      squares_(static_cast<std::size_t>(insertion.units)),
      move_squares_(zeros<double>(ctx, {1})) {
  const Site<T>& to = path_.site();
  if (options.companion) consumer_cross_ = zeros<double>(ctx, {to.fan_out(), to.consumer_inputs()});
  if (options.metric.rank() > 0) metric_ = converted<T, double>(ctx, options.metric);
}

template <Real T>
void detail::UnitEffects<T>::update(Context& ctx, View<const T> unit_input, View<const T> goal,
                                    View<const T> consumer_input) {
  if (path_.units() == 0) return;
  const Tensor<T> h = path_.pre_activation(ctx, unit_input);
  Unread& batch = unread_.emplace_back(Unread{zeros<T>(ctx, {Unread::count, path_.units()}), 0});
  const auto sums = [&](int which) { return batch.sums.view().slice(0, which, which + 1).reshape({path_.units()}); };
  if (moments_) add_moments(ctx, h, batch);
  const Tensor<T> z = path_.backward_fan_out(ctx, goal, h.shape());
  add_products(ctx, path_.through(ctx, h, T(1)), z, sums(Unread::plus));
  if (path_.one_sided()) add_products(ctx, path_.through(ctx, h, T(-1)), z, sums(Unread::minus));
  if (options_.norm2 || options_.companion) {
    Tensor<T> move = path_.contribution(ctx, h);
    add_squares(ctx, move);
    if (options_.companion) {
      add_consumer_products<T>(ctx, path_.site().shape(unit_input.shape()), consumer_input,
                               move.view().reshape(goal.shape()), consumer_cross_);
    }
  }
  samples_ += unit_input.extent(0);
}

template <Real T>
Tensor<double> detail::UnitEffects<T>::consumer_cross(Context& ctx) const {
  Tensor<double> result = clone(ctx, consumer_cross_);
  kernels::scale<double>(ctx, 1.0 / count(), result.view());
  return result;
}

template <Real T>
void detail::UnitEffects<T>::add_squares(Context& ctx, const Tensor<T>& move) {
  const View<const T> rows = move.view().as_matrix();
  if (metric_.empty()) return kernels::add_dot<const T, const T>(ctx, rows, rows, move_squares_.data());
  Tensor<T> seen(ctx, rows.shape());
  gemm(ctx, Transpose::no, Transpose::no, 1, rows, metric_.view(), 0, seen.view());
  kernels::add_dot<const T, T>(ctx, rows, seen.view(), move_squares_.data());
}

template <Real T>
void detail::UnitEffects<T>::add_products(Context& ctx, Tensor<T> u, const Tensor<T>& z, View<T> sums) {
  for_each(ctx, u.size(), detail::Multiply<T>{u.data(), z.data(), u.data()});
  kernels::column_sums<T>(ctx, u.view().as_matrix(), sums, kernels::Accumulate::overwrite);
}

template <Real T>
void detail::UnitEffects<T>::add_moments(Context& ctx, const Tensor<T>& h, Unread& batch) {
  const std::int64_t units = batch.sums.extent(1);
  batch.rows = h.size() / units;
  if (batch.rows == 0) return;
  const auto sums = [&](int which) { return batch.sums.view().slice(0, which, which + 1).reshape({units}); };
  kernels::column_sums<T>(ctx, h.view().as_matrix(), sums(Unread::pre_activation), kernels::Accumulate::overwrite);
  Tensor<T> squares(ctx, h.shape());
  for_each(ctx, batch.rows, units,
           detail::SquaredDeviation<T>{h.data(), batch.sums.data(), squares.data(), batch.rows, units});
  kernels::column_sums<T>(ctx, squares.view().as_matrix(), sums(Unread::squared_deviation),
                          kernels::Accumulate::overwrite);
}

template <Real T>
void detail::UnitEffects<T>::read() const {
  if (unread_.empty()) return;
  std::vector<View<const T>> there;
  for (const Unread& batch : unread_) there.push_back(batch.sums.view());
  const std::vector<double> move_squares = to_host_later(*ctx_, move_squares_.view());
  const std::vector<std::vector<T>> here = to_host(*ctx_, there);
  move_squares_here_ = move_squares[0];
  const std::size_t units = positive_.size();
  for (std::size_t i = 0; i < here.size(); ++i) {
    const auto sums = [&](std::size_t which) { return here[i].data() + which * units; };
    join_moments(sums(Unread::pre_activation), sums(Unread::squared_deviation), unread_[i].rows);
    for (std::size_t k = 0; k < units; ++k) {
      positive_[k] += static_cast<double>(sums(Unread::plus)[k]);
      negative_[k] += static_cast<double>(sums(Unread::minus)[k]);
      if (!path_.one_sided()) negative_[k] = -positive_[k];
    }
  }
  unread_.clear();
}

template <Real T>
void detail::UnitEffects<T>::join_moments(const T* sums, const T* squared_deviations, std::int64_t rows) const {
  if (rows == 0) return;
  const double mine = static_cast<double>(rows_), theirs = static_cast<double>(rows), total = mine + theirs;
  for (std::size_t k = 0; k < mean_.size(); ++k) {
    const double batch_mean = static_cast<double>(sums[k]) / theirs, difference = batch_mean - mean_[k];
    // The deviations were taken from the rounded mean.
    const double rounding = batch_mean - static_cast<double>(static_cast<T>(batch_mean));
    squares_[k] += static_cast<double>(squared_deviations[k]) - theirs * rounding * rounding +
                   difference * difference * mine * theirs / total;
    mean_[k] += difference * theirs / total;
  }
  rows_ += rows;
}

}  // namespace meristem::grow

namespace meristem::grow {

template <Real T>
std::vector<double> choose_signs(Context& ctx, const std::vector<detail::UnitEffects<T>>& effects,
                                 Insertion& insertion) {
  std::vector<double> gains, signs;
  bool turned = false;
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    double positive = 0.0, negative = 0.0;
    for (const detail::UnitEffects<T>& one : effects) {
      positive += one.positive(k);
      negative += one.negative(k);
    }
    gains.push_back(std::max(positive, negative));
    signs.push_back(negative > positive ? -1.0 : 1.0);
    turned = turned || negative > positive;
  }
  if (!turned) return gains;
  const Tensor<double> there = from_host<double>(ctx, {insertion.units}, signs);
  for (Tensor<double>* const numbers : {&insertion.fan_in, &insertion.fan_out, &insertion.mean}) {
    const View<double> rows = numbers->view().reshape({insertion.units, numbers->size() / insertion.units});
    detail::scaled_rows<double, double>(ctx, rows, detail::per_unit(there), rows);
  }
  return gains;
}

}  // namespace meristem::grow
