// Inverse square roots of covariance matrices that may be singular, badly scaled, or known in float32 only.
//
// Both routes work on Ŝ = D⁻¹ S D⁻¹ with D = diag(S)^{1/2} (1 where a diagonal entry is 0): the scale of a channel says
// nothing about how well its direction is known.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/lapack.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>

namespace meristem::grow {

/// The diagonal D⁻¹ that gives a covariance a unit diagonal; 1 where its diagonal is 0 or less.
[[nodiscard]] std::vector<double> inverse_deviations(const std::vector<double>& variances);

namespace detail {

/// L (shares, p, p) with L Lᵀ = s + share I for each of the shares, for s (p, p) of unit diagonal, or 0 where there is
/// nothing, and their `diagonals` (shares, p) unless null. Waits for nothing: where rounding outweighs a share and the
/// factorisation breaks down, L⁻¹ is 0.
template <Real T>
[[nodiscard]] Tensor<T> damped_factors(Context& ctx, View<const T> s, std::span<const double> shares,
                                       meristem::detail::Decompositions& calls, double* diagonals = nullptr) {
  const std::int64_t p = s.extent(0), count = std::ssize(shares);
  Tensor<T> result(ctx, {count, p, p});
  if (result.empty()) return result;
  const Tensor<double> there = from_host<double>(ctx, {count}, shares);
  for_each(ctx, count, p, p, AddRidges<T>{s, there.data(), result.view()});
  calls.factorize_each(ctx, result.view(), diagonals);
  return result;
}

/// A matrix W, (rank, p), with W S Wᵀ = I for a symmetric positive semi-definite S, (p, p), applied to matrices whose
/// rows have p or rank elements. Wᵀ W is the inverse of S (of S + ridge D² by the Cholesky route), or its Moore–Penrose
/// pseudo-inverse by the eigen route.
template <Real T>
class Whitening {
 public:
  /// W = L⁻¹ D⁻¹ with L Lᵀ = D⁻¹ S D⁻¹ + ridge I. `inverse_scale` (p) is D⁻¹. Only the lower triangle of S is used.
  ///
  /// Every pivot of a matrix that is at least ridge I is at least the ridge: one below half of it, or a breakdown,
  /// means that rounding errors outweigh the ridge, which is then raised tenfold, from `resolution` at least, up to
  /// 1e-2. Returns nothing if that is not enough. `along(w)` may start work with a W of which that is not known yet,
  /// before the device is waited for: once for each ridge, the last time with the W that is returned.
  template <Real S, class Along>
  [[nodiscard]] static std::optional<Whitening> cholesky(Context& ctx, View<const S> s,
                                                         const std::vector<double>& inverse_scale, double ridge,
                                                         double resolution, Along&& along) {
    constexpr double largest_ridge = 1e-2;
    Whitening result(ctx, inverse_scale, Kind::factor);
    const std::int64_t p = result.order_;
    result.rank_ = p;
    for (;; ridge = std::max({10.0 * ridge, resolution, 1e-15})) {
      if (ridge > largest_ridge) return std::nullopt;
      result.ridge_ = ridge;
      result.matrix_ = Tensor<T>(ctx, {p, p});
      if (p == 0) {
        along(std::as_const(result));
        return result;
      }
      for_each(ctx, p, p, detail::Equilibrate<S, T>{s, result.inverse_scale_.data(), ridge, result.matrix_.view()});
      meristem::detail::Decompositions calls;
      Tensor<double> outcome(ctx, {p + 1});
      calls.factorize(ctx, Triangle::lower, result.matrix_.view(), outcome.data());
      along(std::as_const(result));
      const auto found = meristem::detail::factorization("whitening", to_host(ctx, outcome), SourceLocation::current());
      if (found.info != 0) continue;
      double smallest = 1.0;
      for (const double pivot : found.diagonal) smallest = std::min(smallest, pivot * pivot);
      if (smallest < std::max(ridge / 2, 4 * detail::epsilon_of<T>)) continue;
      result.smallest_ = smallest;
      return result;
    }
  }

  /// W = L⁻¹ for a lower triangular L (p, p).
  [[nodiscard]] static Whitening of_factor(Tensor<T> factor) {
    Whitening result(Kind::factor, factor.extent(0));
    result.rank_ = result.order_;
    result.matrix_ = std::move(factor);
    return result;
  }

  /// W = L⁻¹ D⁻¹ for such an L, `inverse_scale` (p) is D⁻¹, of which the least squared pivot is `smallest` in units
  /// where W⁻¹ W⁻ᵀ has unit diagonal.
  [[nodiscard]] static Whitening of_scaled_factor(Tensor<T> factor, Tensor<double> inverse_scale, double smallest) {
    Whitening result = of_factor(std::move(factor));
    result.inverse_scale_ = std::move(inverse_scale);
    result.smallest_ = smallest;
    return result;
  }

  /// W = Λ^{-1/2} Q D⁻¹ Π: Q, Λ the eigenvectors (rows) and eigenvalues of D⁻¹ S D⁻¹ above a threshold, Π the
  /// orthogonal projection on the range of S, which makes every solution the one of minimum norm.
  ///
  /// The threshold is `relative_tolerance` times the largest eigenvalue or, if that is 0, the size of the eigenvalues
  /// that errors of `resolution` in the elements of a matrix with unit diagonal can bring about,
  /// 4 resolution √p + 16 eps Λ_max. Throws NumericError, naming `name`, for a matrix far from positive semi-definite.
  template <Real S>
  [[nodiscard]] static Whitening eigen(Context& ctx, const std::string& name, View<const S> s,
                                       const std::vector<double>& inverse_scale, double relative_tolerance,
                                       double resolution) requires std::is_same_v<T, double> {
    Whitening result(ctx, inverse_scale, Kind::rows);
    const std::int64_t p = result.order_;
    result.matrix_ = Tensor<double>(ctx, {0, p});
    if (p == 0) return result;
    Tensor<double> vectors(ctx, {p, p}), values_there(ctx, {p});
    for_each(ctx, p, p, detail::Equilibrate<S, double>{s, result.inverse_scale_.data(), 0.0, vectors.view()});
    syevd(ctx, vectors.view(), values_there.view());
    const std::vector<double> values = to_host(ctx, values_there);
    const double largest = std::max(values.back(), 0.0);
    if (values.front() < -1e-2 * std::max(1.0, largest)) {
      throw NumericError(concat(name, " scaled to unit diagonal has the eigenvalue ", values.front(),
                                "; a second moment is positive semi-definite: check how it was accumulated"));
    }
    const double threshold = relative_tolerance > 0.0 ? relative_tolerance * largest
                                                      : 4 * resolution * std::sqrt(static_cast<double>(p)) +
                                                            16 * detail::epsilon_of<double> * largest;
    const auto null_rows =
        static_cast<std::int64_t>(std::upper_bound(values.begin(), values.end(), threshold) - values.begin());
    result.rank_ = p - null_rows;
    if (result.rank_ == 0) return result;
    result.smallest_ = values[static_cast<std::size_t>(null_rows)];

    std::vector<std::int64_t> index;
    std::vector<double> factor;
    for (std::int64_t i = null_rows; i < p; ++i) {
      index.push_back(i);
      factor.push_back(1.0 / std::sqrt(values[static_cast<std::size_t>(i)]));
    }
    detail::scale_columns(ctx, vectors.view(), result.inverse_scale_);
    result.matrix_ = detail::gathered<double, double>(ctx, vectors.view(), index, factor);
    if (null_rows > 0) remove_components(ctx, vectors.view().slice(0, 0, null_rows), result.matrix_.view());
    return result;
  }

  [[nodiscard]] std::int64_t order() const { return order_; }
  [[nodiscard]] std::int64_t rank() const { return rank_; }
  /// True if it was made by the eigen route.
  [[nodiscard]] bool is_pseudo_inverse() const { return kind_ == Kind::rows; }
  [[nodiscard]] double ridge() const { return ridge_; }
  /// The smallest pivot or eigenvalue in use, in units where S has unit diagonal.
  [[nodiscard]] double smallest() const { return smallest_; }

  /// b Wᵀ, (k, rank), for b (k, p).
  [[nodiscard]] Tensor<T> times_transposed(Context& ctx, View<const T> b) const;

  /// yᵀ Wᵀ, (m, rank), for y (p, m).
  [[nodiscard]] Tensor<T> times_cross(Context& ctx, View<const T> y) const;

  /// The same of two such matrices, (2, m, rank).
  [[nodiscard]] Tensor<T> times_crosses(Context& ctx, View<const T> first, View<const T> second) const;

  /// y W, (k, p), for y (k, rank).
  [[nodiscard]] Tensor<T> times(Context& ctx, View<const T> y) const;

  /// The x, (k, p), that solves x S = b in the least-squares sense for b (k, p) in the row space of S.
  ///
  /// By the Cholesky route two corrections with the residual b - x S take back the ridge: where D⁻¹ S D⁻¹ has the
  /// eigenvalue μ, its relative effect falls from ridge/μ to (ridge/μ)³.
  template <Real S>
  [[nodiscard]] Tensor<T> solve(Context& ctx, View<const S> s, View<const T> b) const {
    return corrected(
        ctx, s, [b](Context&) { return b; }, times_taken(ctx, times_transposed(ctx, b)));
  }

  /// The x, (m, p), that solves x S = yᵀ for y (p, m).
  template <Real S>
  [[nodiscard]] Tensor<T> solve_cross(Context& ctx, View<const S> s, View<const T> y) const {
    Tensor<T> transposed;
    const auto b = [&](Context& on) { return (transposed = detail::converted_transposed<T, T>(on, y)).view(); };
    return corrected(ctx, s, b, times_taken(ctx, times_cross(ctx, y)));
  }

  /// W itself; the eigen route only.
  [[nodiscard]] View<const T> rows() const { return matrix_.view(); }

 private:
  enum class Kind { factor, rows };

  Whitening(Context& ctx, const std::vector<double>& inverse_scale, Kind kind);
  /// With D = I.
  Whitening(Kind kind, std::int64_t order) : kind_(kind), order_(order) {}

  /// x with the two corrections of `solve`, for the b that `right_side(ctx)` gives. In double a matrix that needed no
  /// ridge needs none.
  template <Real S, class RightSide>
  [[nodiscard]] Tensor<T> corrected(Context& ctx, View<const S> s, const RightSide& right_side, Tensor<T> x) const {
    if (kind_ == Kind::rows || x.empty() || (ridge_ == 0.0 && std::is_same_v<T, double>)) return x;
    const View<const T> b = right_side(ctx);
    Tensor<T> converted;
    View<const T> s_there;
    if constexpr (std::is_same_v<S, T>) {
      s_there = s;
    } else {
      s_there = (converted = detail::converted<T, S>(ctx, s)).view();
    }
    for (int correction = 0; correction < 2; ++correction) {
      Tensor<T> residual = detail::converted<T, T>(ctx, b);
      gemm(ctx, Transpose::no, Transpose::no, -1, x.view(), s_there, 1, residual.view());
      const Tensor<T> change = times_taken(ctx, times_transposed(ctx, residual.view()));
      detail::add(ctx, change.view(), x.view());
    }
    return x;
  }

  /// As `times`, in the place of y where that is possible.
  [[nodiscard]] Tensor<T> times_taken(Context& ctx, Tensor<T> y) const;

  [[nodiscard]] Tensor<T> product(Context& ctx, Transpose transpose, View<const T> a, std::int64_t columns) const;

  /// w -= w Π0 with Π0 the orthogonal projection on the row space of z (k, p), whose rows are independent; z is
  /// overwritten.
  static void remove_components(Context& ctx, View<T> z, View<T> w);

  Kind kind_;
  std::int64_t order_ = 0;
  std::int64_t rank_ = 0;
  double ridge_ = 0.0;
  double smallest_ = 1.0;
  Tensor<double> inverse_scale_;  // empty: ones
  Tensor<T> matrix_;
};

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/solve/whitening_impl.hpp>
#endif
