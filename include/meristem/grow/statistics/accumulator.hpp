// Streaming, mergeable sums of outer products: float32 over a stretch of rows, double across stretches.
#pragma once

#include <cstdint>
#include <type_traits>

#include <meristem/core/dtype.hpp>
#include <meristem/core/for_each.hpp>
#include <meristem/core/tensor.hpp>

namespace meristem::grow {

namespace detail {

/// total += recent; recent = 0.
template <Real T>
struct MoveInto {
  T* recent;
  double* total;
  MERISTEM_HD void operator()(std::int64_t i) const;
};

/// total += recent and recent = 0 in each of `slabs` sums that lie `stride` apart (recent null: nothing came), and out
/// = factor · the sum of all slabs.
template <Real T>
struct SettleSlabs {
  T* recent;
  double* total;
  std::int64_t slabs, stride;
  double factor;
  double* out;
  MERISTEM_HD void operator()(std::int64_t i) const;
};

/// Rows whose products are added up in T before they join the double total: a float32 sum of this length has an error
/// below about √rows · 2^-24 ≈ 5e-6 of rows times the terms' root mean square.
inline constexpr std::int64_t stretch = 8192;

/// A sum kept in two parts: what came recently in T, everything before in double. In double there is one part only.
template <Real T>
class TwoPartSum {
 public:
  TwoPartSum(Context& ctx, const Shape& shape);

  /// Where to add products of `rows` rows, at most a stretch.
  [[nodiscard]] View<T> target(Context& ctx, std::int64_t rows);

  void merge(Context& ctx, const TwoPartSum& other);

  /// factor · sum.
  [[nodiscard]] Tensor<double> scaled(Context& ctx, double factor);

  /// The launch that writes it to `to`, for `for_each_of`; nothing may be added before that.
  [[nodiscard]] Part<SettleSlabs<T>, 1> settled(double factor, double* to);
  [[nodiscard]] std::int64_t size() const { return total_.size(); }

 private:
  static constexpr bool two_parts = !std::is_same_v<T, double>;

  void flush(Context& ctx);

  Tensor<T> recent_;
  Tensor<double> total_;
  std::int64_t rows_ = 0;
};

}  // namespace detail

/// (1/n) Σ [x 1]ᵀ[x 1] over rows that arrive in batches. n counts samples, which may have several rows each (positions,
/// tokens): rows are summed, not averaged.
template <Real T>
class Covariance {
 public:
  /// Rows of `features` numbers; with `bias`, a constant 1 is their last coordinate.
  Covariance(Context& ctx, std::int64_t features, bool bias);

  /// Adds the rows of x (..., features), which belong to `samples` samples. Throws ShapeError for other features,
  /// ArgumentError for a negative number of samples.
  void update(Context& ctx, View<const T> x, std::int64_t samples);

  /// Adds everything another one has seen. Throws ShapeError for other features, ArgumentError for another bias.
  void merge(Context& ctx, const Covariance& other);

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }

  /// (features + bias) × (features + bias), both triangles. Throws ArgumentError before the first sample.
  [[nodiscard]] Tensor<double> mean(Context& ctx);

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
  CrossCovariance(Context& ctx, std::int64_t features, bool bias, std::int64_t other_features);

  /// Adds the pairs of rows of x (..., features) and v (..., other features), which belong to `samples` samples. Throws
  /// ShapeError for other features or numbers of rows that differ, ArgumentError for a negative number of samples.
  void update(Context& ctx, View<const T> x, View<const T> v, std::int64_t samples);

  /// Adds everything another one has seen. Throws ShapeError for other features, ArgumentError for another bias.
  void merge(Context& ctx, const CrossCovariance& other);

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }

  /// (features + bias) × (other features). Throws ArgumentError before the first sample.
  [[nodiscard]] Tensor<double> mean(Context& ctx);

 private:
  std::int64_t features_;
  bool bias_;
  std::int64_t other_features_;
  detail::TwoPartSum<T> sum_;
  std::int64_t samples_ = 0;
};

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/statistics/accumulator_impl.hpp>
#endif
