// Definitions of accumulator.hpp.
#pragma once

#include <algorithm>

#include <meristem/core/blas.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/grow/statistics/accumulator.hpp>
#include <meristem/kernels/covariance.cuh>
#include <meristem/kernels/cross_covariance.cuh>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

template <Real T>
void MoveInto<T>::operator()(std::int64_t i) const {
  total[i] += static_cast<double>(recent[i]);
  recent[i] = T(0);
}

template <Real T>
void SettleSlabs<T>::operator()(std::int64_t i) const {
  double sum = 0.0;
  for (std::int64_t s = 0; s < slabs; ++s) {
    double& whole = total[s * stride + i];
    if (recent != nullptr) {
      whole += static_cast<double>(recent[s * stride + i]);
      recent[s * stride + i] = T(0);
    }
    sum += whole;
  }
  out[i] = factor * sum;
}

/// Calls add(begin, end) for stretches that cover `rows` rows in order; in double one stretch is all rows.
template <Real T, class Add>
void for_each_stretch(std::int64_t rows, Add&& add) {
  const std::int64_t longest = std::is_same_v<T, double> ? std::max<std::int64_t>(rows, 1) : stretch;
  for (std::int64_t begin = 0; begin < rows; begin += longest) add(begin, std::min(begin + longest, rows));
}

template <Real T>
TwoPartSum<T>::TwoPartSum(Context& ctx, const Shape& shape) : total_(zeros<double>(ctx, shape)) {
  if constexpr (two_parts) recent_ = zeros<T>(ctx, shape);
}

template <Real T>
View<T> TwoPartSum<T>::target(Context& ctx, std::int64_t rows) {
  if constexpr (two_parts) {
    if (rows_ > 0 && rows_ + rows > stretch) flush(ctx);
    rows_ += rows;
    return recent_.view();
  } else {
    return total_.view();
  }
}

template <Real T>
void TwoPartSum<T>::merge(Context& ctx, const TwoPartSum& other) {
  kernels::axpy<double>(ctx, 1.0, other.total_, total_);
  if constexpr (two_parts) {
    Tensor<T> theirs = clone(ctx, other.recent_);
    if (!total_.empty()) for_each(ctx, total_.size(), MoveInto<T>{theirs.data(), total_.data()});
  }
}

template <Real T>
Tensor<double> TwoPartSum<T>::scaled(Context& ctx, double factor) {
  Tensor<double> result(ctx, total_.shape());
  for_each_of(ctx, settled(factor, result.data()));
  return result;
}

template <Real T>
Part<SettleSlabs<T>, 1> TwoPartSum<T>::settled(double factor, double* to) {
  rows_ = 0;
  return part(total_.size(),
              SettleSlabs<T>{two_parts ? recent_.data() : nullptr, total_.data(), 1, total_.size(), factor, to});
}

template <Real T>
void TwoPartSum<T>::flush(Context& ctx) {
  if constexpr (two_parts) {
    if (rows_ > 0 && !total_.empty()) for_each(ctx, total_.size(), MoveInto<T>{recent_.data(), total_.data()});
    rows_ = 0;
  }
}

MERISTEM_INLINE void check_features(const char* what, std::int64_t features, std::int64_t expected) {
  if (features != expected) {
    throw ShapeError(concat(what, ": was made for rows of ", expected, " features, got ", features));
  }
}

MERISTEM_INLINE void check_samples(const char* what, std::int64_t samples) {
  if (samples < 0) {
    throw ArgumentError(concat(what, ": the number of samples is ", samples, "; it must be 0 or more"));
  }
}

MERISTEM_INLINE void check_same_bias(const char* what, bool bias, bool expected) {
  if (bias != expected) {
    throw ArgumentError(concat(what, ": one with a bias and one without cannot be merged"));
  }
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
Covariance<T>::Covariance(Context& ctx, std::int64_t features, bool bias)
    : features_(features), bias_(bias), sum_(ctx, {features + bias, features + bias}) {}

template <Real T>
void Covariance<T>::update(Context& ctx, View<const T> x, std::int64_t samples) {
  const View<const T> rows = x.as_matrix();
  detail::check_features("Covariance", rows.extent(1), features_);
  detail::check_samples("Covariance", samples);
  detail::for_each_stretch<T>(rows.extent(0), [&](std::int64_t begin, std::int64_t end) {
    kernels::accumulate_covariance<T>(ctx, rows.slice(0, begin, end), bias_, sum_.target(ctx, end - begin));
  });
  samples_ += samples;
}

template <Real T>
void Covariance<T>::merge(Context& ctx, const Covariance& other) {
  detail::check_features("Covariance", other.features_, features_);
  detail::check_same_bias("Covariance", other.bias_, bias_);
  sum_.merge(ctx, other.sum_);
  samples_ += other.samples_;
}

template <Real T>
Tensor<double> Covariance<T>::mean(Context& ctx) {
  if (samples_ == 0) throw ArgumentError("Covariance: the mean of no samples was asked for; call update first");
  Tensor<double> result = sum_.scaled(ctx, 1.0 / static_cast<double>(samples_));
  symmetrize(ctx, Triangle::lower, result.view());
  return result;
}

template <Real T>
CrossCovariance<T>::CrossCovariance(Context& ctx, std::int64_t features, bool bias, std::int64_t other_features)
    : features_(features), bias_(bias), other_features_(other_features), sum_(ctx, {features + bias, other_features}) {}

template <Real T>
void CrossCovariance<T>::update(Context& ctx, View<const T> x, View<const T> v, std::int64_t samples) {
  const View<const T> left = x.as_matrix(), right = v.as_matrix();
  detail::check_features("CrossCovariance", left.extent(1), features_);
  detail::check_features("CrossCovariance", right.extent(1), other_features_);
  detail::check_samples("CrossCovariance", samples);
  if (left.extent(0) != right.extent(0)) {
    throw ShapeError(concat("CrossCovariance: rows come in pairs; got ", left.extent(0), " rows of x and ",
                            right.extent(0), " of v"));
  }
  detail::for_each_stretch<T>(left.extent(0), [&](std::int64_t begin, std::int64_t end) {
    kernels::accumulate_cross_covariance<T>(ctx, left.slice(0, begin, end), bias_, right.slice(0, begin, end),
                                            sum_.target(ctx, end - begin));
  });
  samples_ += samples;
}

template <Real T>
void CrossCovariance<T>::merge(Context& ctx, const CrossCovariance& other) {
  detail::check_features("CrossCovariance", other.features_, features_);
  detail::check_features("CrossCovariance", other.other_features_, other_features_);
  detail::check_same_bias("CrossCovariance", other.bias_, bias_);
  sum_.merge(ctx, other.sum_);
  samples_ += other.samples_;
}

template <Real T>
Tensor<double> CrossCovariance<T>::mean(Context& ctx) {
  if (samples_ == 0) throw ArgumentError("CrossCovariance: the mean of no samples was asked for; call update first");
  return sum_.scaled(ctx, 1.0 / static_cast<double>(samples_));
}

}  // namespace meristem::grow
