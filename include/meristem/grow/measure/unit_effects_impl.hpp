// Definitions of unit_effects.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/core/blas.hpp>
#include <meristem/grow/measure/unit_effects.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow::detail {

template <Real T>
void SquaredDeviation<T>::operator()(std::int64_t row, std::int64_t column) const {
  const T deviation = h[row * columns + column] - shift[column];
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
    : path_(ctx, site, insertion),
      options_(options),
      moments_(site.normed()),
      positive_(static_cast<std::size_t>(insertion.units)),
      negative_(static_cast<std::size_t>(insertion.units)),
      mean_(static_cast<std::size_t>(insertion.units)),
      squares_(static_cast<std::size_t>(insertion.units)) {
  if (options.companion) consumer_cross_ = zeros<double>(ctx, {site.fan_out(), site.consumer_inputs()});
  if (!options.metric.empty()) {
    metric_ = from_host<T>(ctx, {site.fan_out(), site.fan_out()},
                           std::vector<T>(options.metric.begin(), options.metric.end()));
  }
}

template <Real T>
void detail::UnitEffects<T>::update(Context& ctx, View<const T> unit_input, View<const T> goal,
                                    View<const T> consumer_input) {
  if (path_.units() == 0) return;
  const Tensor<T> h = path_.pre_activation(ctx, unit_input);
  if (moments_) add_moments(ctx, h);
  const Tensor<T> z = path_.backward_fan_out(ctx, goal, h.shape());
  add_products(ctx, path_.through(ctx, h, T(1)), z, positive_);
  if (path_.one_sided()) {
    add_products(ctx, path_.through(ctx, h, T(-1)), z, negative_);
  } else {
    for (std::size_t k = 0; k < negative_.size(); ++k) negative_[k] = -positive_[k];
  }
  if (options_.norm2 || options_.companion) {
    Tensor<T> move = path_.contribution(ctx, h);
    move_squares_ += squares_of(ctx, move);
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
double detail::UnitEffects<T>::squares_of(Context& ctx, const Tensor<T>& move) const {
  if (metric_.empty()) return kernels::sum_squares<const T>(ctx, move.view());
  const View<const T> rows = move.view().as_matrix();
  Tensor<T> seen(ctx, rows.shape());
  gemm(ctx, Transpose::no, Transpose::no, 1, rows, metric_.view(), 0, seen.view());
  return kernels::dot<const T, T>(ctx, rows, seen.view());
}

template <Real T>
void detail::UnitEffects<T>::add_products(Context& ctx, Tensor<T> u, const Tensor<T>& z,
                                          std::vector<double>& sums) const {
  for_each(ctx, u.size(), detail::Multiply<T>{u.data(), z.data(), u.data()});
  add_columns(ctx, u, sums);
}

template <Real T>
void detail::UnitEffects<T>::add_columns(Context& ctx, const Tensor<T>& terms, std::vector<double>& sums) const {
  Tensor<T> columns(ctx, {path_.units()});
  kernels::column_sums<T>(ctx, terms.view().as_matrix(), columns, kernels::Accumulate::overwrite);
  const std::vector<T> values = to_host(ctx, columns);
  for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += static_cast<double>(values[k]);
}

template <Real T>
void detail::UnitEffects<T>::add_moments(Context& ctx, const Tensor<T>& h) {
  const std::int64_t rows = h.size() / path_.units();
  if (rows == 0) return;
  const std::size_t units = static_cast<std::size_t>(path_.units());
  std::vector<double> sums(units, 0.0), deviations(units, 0.0), offsets(units, 0.0);
  add_columns(ctx, h, sums);
  std::vector<T> centre;
  for (const double sum : sums) centre.push_back(static_cast<T>(sum / static_cast<double>(rows)));
  const Tensor<T> shift = from_host<T>(ctx, {path_.units()}, centre);
  Tensor<T> squares(ctx, h.shape());
  for_each(ctx, rows, path_.units(),
           detail::SquaredDeviation<T>{h.data(), shift.data(), squares.data(), path_.units()});
  add_columns(ctx, squares, deviations);
  const double mine = static_cast<double>(rows_), theirs = static_cast<double>(rows), total = mine + theirs;
  for (std::size_t k = 0; k < units; ++k) {
    const double batch_mean = sums[k] / theirs, difference = batch_mean - mean_[k];
    // The deviations were taken from the rounded mean.
    const double rounding = batch_mean - static_cast<double>(centre[k]);
    squares_[k] += deviations[k] - theirs * rounding * rounding + difference * difference * mine * theirs / total;
    mean_[k] += difference * theirs / total;
  }
  rows_ += rows;
}

}  // namespace meristem::grow

namespace meristem::grow::detail {

template <class Gain>
std::vector<double> turned_to_gain(Gain&& gain, Insertion& insertion) {
  std::vector<double> gains;
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    const auto [positive, negative] = gain(k);
    gains.push_back(std::max(positive, negative));
    if (negative <= positive) continue;
    const auto turn = [k](std::vector<double>& values, std::int64_t each) {
      for (std::int64_t i = 0; i < each; ++i) values[static_cast<std::size_t>(k * each + i)] *= -1.0;
    };
    turn(insertion.fan_in, insertion.inputs);
    turn(insertion.fan_out, insertion.taps * insertion.outputs);
    if (!insertion.mean.empty()) insertion.mean[static_cast<std::size_t>(k)] *= -1.0;
  }
  return gains;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
std::vector<double> choose_signs(const detail::UnitEffects<T>& effects, Insertion& insertion) {
  return detail::turned_to_gain([&](std::int64_t k) { return std::pair(effects.positive(k), effects.negative(k)); },
                                insertion);
}

template <Real T>
std::vector<double> choose_signs(const std::vector<detail::UnitEffects<T>>& effects, Insertion& insertion) {
  return detail::turned_to_gain(
      [&](std::int64_t k) {
        std::pair<double, double> sum{0.0, 0.0};
        for (const detail::UnitEffects<T>& one : effects) {
          sum.first += one.positive(k);
          sum.second += one.negative(k);
        }
        return sum;
      },
      insertion);
}

}  // namespace meristem::grow
