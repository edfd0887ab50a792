// Streaming, mergeable sums of outer products: float32 over a stretch of rows, double across stretches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <meristem/core/blas.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/covariance.cuh>
#include <meristem/kernels/cross_covariance.cuh>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow {

namespace detail {

/// total += recent; recent = 0.
template <Real T>
struct MoveInto {
  T* recent;
  double* total;
  MERISTEM_HD void operator()(std::int64_t i) const {
    total[i] += static_cast<double>(recent[i]);
    recent[i] = T(0);
  }
};

struct ScaledCopy {
  const double* from;
  double* to;
  double factor;
  MERISTEM_HD void operator()(std::int64_t i) const { to[i] = from[i] * factor; }
};

/// Rows whose products are added up in T before they join the double total: a float32 sum of this length has an error
/// below about √rows · 2^-24 ≈ 5e-6 of rows times the terms' root mean square.
inline constexpr std::int64_t stretch = 8192;

/// Calls add(begin, end) for stretches that cover `rows` rows in order; in double one stretch is all rows.
template <Real T, class Add>
void for_each_stretch(std::int64_t rows, Add&& add) {
  const std::int64_t longest = std::is_same_v<T, double> ? std::max<std::int64_t>(rows, 1) : stretch;
  for (std::int64_t begin = 0; begin < rows; begin += longest) add(begin, std::min(begin + longest, rows));
}

/// A sum kept in two parts: what came recently in T, everything before in double. In double there is one part only.
template <Real T>
class TwoPartSum {
 public:
  TwoPartSum(Context& ctx, const Shape& shape) : total_(zeros<double>(ctx, shape)) {
    if constexpr (two_parts) recent_ = zeros<T>(ctx, shape);
  }

  /// Where to add products of `rows` rows, at most a stretch.
  [[nodiscard]] View<T> target(Context& ctx, std::int64_t rows) {
    if constexpr (two_parts) {
      if (rows_ > 0 && rows_ + rows > stretch) flush(ctx);
      rows_ += rows;
      return recent_.view();
    } else {
      return total_.view();
    }
  }

  void merge(Context& ctx, const TwoPartSum& other) {
    kernels::axpy<double>(ctx, 1.0, other.total_, total_);
    if constexpr (two_parts) {
      Tensor<T> theirs = clone(ctx, other.recent_);
      if (!total_.empty()) for_each(ctx, total_.size(), MoveInto<T>{theirs.data(), total_.data()});
    }
  }

  /// factor · sum.
  [[nodiscard]] Tensor<double> scaled(Context& ctx, double factor) {
    flush(ctx);
    Tensor<double> result(ctx, total_.shape());
    if (!total_.empty()) for_each(ctx, total_.size(), ScaledCopy{total_.data(), result.data(), factor});
    return result;
  }

 private:
  static constexpr bool two_parts = !std::is_same_v<T, double>;

  void flush(Context& ctx) {
    if constexpr (two_parts) {
      if (rows_ > 0 && !total_.empty()) for_each(ctx, total_.size(), MoveInto<T>{recent_.data(), total_.data()});
      rows_ = 0;
    }
  }

  Tensor<T> recent_;
  Tensor<double> total_;
  std::int64_t rows_ = 0;
};

inline void check_features(const char* what, std::int64_t features, std::int64_t expected) {
  if (features != expected) {
    throw ShapeError(concat(what, ": was made for rows of ", expected, " features, got ", features));
  }
}

inline void check_samples(const char* what, std::int64_t samples) {
  if (samples < 0) {
    throw ArgumentError(concat(what, ": the number of samples is ", samples, "; it must be 0 or more"));
  }
}

inline void check_same_bias(const char* what, bool bias, bool expected) {
  if (bias != expected) {
    throw ArgumentError(concat(what, ": one with a bias and one without cannot be merged"));
  }
}

}  // namespace detail

/// (1/n) Σ [x 1]ᵀ[x 1] over rows that arrive in batches. n counts samples, which may have several rows each (positions,
/// tokens): rows are summed, not averaged.
template <Real T>
class Covariance {
 public:
  /// Rows of `features` numbers; with `bias`, a constant 1 is their last coordinate.
  Covariance(Context& ctx, std::int64_t features, bool bias)
      : features_(features), bias_(bias), sum_(ctx, {features + bias, features + bias}) {}

  /// Adds the rows of x (..., features), which belong to `samples` samples. Throws ShapeError for other features,
  /// ArgumentError for a negative number of samples.
  void update(Context& ctx, View<const T> x, std::int64_t samples) {
    const View<const T> rows = x.as_matrix();
    detail::check_features("Covariance", rows.extent(1), features_);
    detail::check_samples("Covariance", samples);
    detail::for_each_stretch<T>(rows.extent(0), [&](std::int64_t begin, std::int64_t end) {
      kernels::accumulate_covariance<T>(ctx, rows.slice(0, begin, end), bias_, sum_.target(ctx, end - begin));
    });
    samples_ += samples;
  }

  /// Adds everything another one has seen. Throws ShapeError for other features, ArgumentError for another bias.
  void merge(Context& ctx, const Covariance& other) {
    detail::check_features("Covariance", other.features_, features_);
    detail::check_same_bias("Covariance", other.bias_, bias_);
    sum_.merge(ctx, other.sum_);
    samples_ += other.samples_;
  }

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }

  /// (features + bias) × (features + bias), both triangles. Throws ArgumentError before the first sample.
  [[nodiscard]] Tensor<double> mean(Context& ctx) {
    if (samples_ == 0) throw ArgumentError("Covariance: the mean of no samples was asked for; call update first");
    Tensor<double> result = sum_.scaled(ctx, 1.0 / static_cast<double>(samples_));
    symmetrize(ctx, Triangle::lower, result.view());
    return result;
  }

 private:
  std::int64_t features_;
  bool bias_;
  detail::TwoPartSum<T> sum_;
  std::int64_t samples_ = 0;
};

/// (1/n) Σ [x 1]ᵀ v over pairs of rows that arrive in batches.
template <Real T>
class CrossCovariance {
 public:
  CrossCovariance(Context& ctx, std::int64_t features, bool bias, std::int64_t other_features)
      : features_(features),
        bias_(bias),
        other_features_(other_features),
        sum_(ctx, {features + bias, other_features}) {}

  /// Adds the pairs of rows of x (..., features) and v (..., other features), which belong to `samples` samples. Throws
  /// ShapeError for other features or numbers of rows that differ, ArgumentError for a negative number of samples.
  void update(Context& ctx, View<const T> x, View<const T> v, std::int64_t samples) {
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

  /// Adds everything another one has seen. Throws ShapeError for other features, ArgumentError for another bias.
  void merge(Context& ctx, const CrossCovariance& other) {
    detail::check_features("CrossCovariance", other.features_, features_);
    detail::check_features("CrossCovariance", other.other_features_, other_features_);
    detail::check_same_bias("CrossCovariance", other.bias_, bias_);
    sum_.merge(ctx, other.sum_);
    samples_ += other.samples_;
  }

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }

  /// (features + bias) × (other features). Throws ArgumentError before the first sample.
  [[nodiscard]] Tensor<double> mean(Context& ctx) {
    if (samples_ == 0) throw ArgumentError("CrossCovariance: the mean of no samples was asked for; call update first");
    return sum_.scaled(ctx, 1.0 / static_cast<double>(samples_));
  }

 private:
  std::int64_t features_;
  bool bias_;
  std::int64_t other_features_;
  detail::TwoPartSum<T> sum_;
  std::int64_t samples_ = 0;
};

}  // namespace meristem::grow
