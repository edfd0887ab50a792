// The pieces of a growth step, each usable with statistics of one's own: the best move of today's weights, what it
// leaves, and the units that express most of that. grow/solve/solve.hpp puts them together.
//
// Method: TINY, "Growing Tiny Networks: Spotting Expressivity Bottlenecks and Fixing Them Optimally", Verbockhaven,
// Rudkiewicz, Charpiat, Chevallier, TMLR 2024. Matrices are named as in grow/solve/moments.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
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
#include <meristem/grow/solve/triplets.hpp>
#include <meristem/grow/solve/whitening.hpp>

namespace meristem::grow {

/// How inverse square roots of covariances are computed.
enum class Route {
  cholesky,  ///< equilibrated Cholesky factor with a tiny ridge
  eigen,     ///< equilibrated eigendecomposition in double precision and its pseudo-inverse: the reference
};

/// No limit on the number of units.
inline constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max();

/// Choices of `solve`.
struct SolveOptions {
  Route route = Route::cholesky;
  /// Units and best move together: S⊥ = S - P S1⁺ Pᵀ in place of S, and the companion move δW* - Aᵀ P S1⁺.
  bool joint = false;
  /// Everything in the metric of the outputs' empirical Fisher matrix E: the desired update is E^{-1/2} V, a change of
  /// the pre-activation is measured as E^{1/2} δa. δW = E⁺ δW*, units from S^{-1/2} N E^{-1/2}, ω = E^{-1/2} v.
  bool fisher = false;
  /// False: the units serve V_goal itself and the weights stay; δW = 0, N = M.
  bool best_move = true;
  /// At most this many units.
  std::int64_t max_units = unlimited;
  /// c of `significance_threshold`; 0 keeps every unit that is not rounding error.
  double significance = 1.0;
  /// Blocks after which the space that a few of many units are looked for in gives way to all eigenvectors.
  std::int64_t max_krylov_blocks = 48;
  /// Cholesky route: what is added to the unit diagonal at first; 0 takes the moments' resolution.
  double ridge = 0.0;
  /// Eigen route: eigenvalues below this share of the largest count as zero; 0 derives the bound from the moments'
  /// resolution.
  double rank_tolerance = 0.0;
};

/// What `best_move` found.
template <Real T>
struct BestMove {
  Tensor<T> weights;      ///< δW* (q, d)
  double decrease = 0.0;  ///< D_W = ⟨δW*, M1ᵀ⟩
  double ridge_used = 0.0;
  std::int64_t rank = -1;  ///< of S1 by the eigen route, else -1
  std::string note;        ///< empty, or that the Cholesky route gave way to the eigen route
};

/// What `new_units` found.
template <Real T>
struct Units {
  Tensor<T> fan_in;   ///< (K, p), rows α_k
  Tensor<T> fan_out;  ///< (K, q), rows ω_k
  /// Singular values, descending: all min(p, q), or those that were computed for a few units of a large problem.
  std::vector<double> lambda;
  std::int64_t units = 0;  ///< K
  double threshold = 0.0;  ///< λ a unit had to exceed
  double ridge_used = 0.0;
  std::int64_t rank = -1;  ///< of S by the eigen route, else -1
  std::string note;
};

namespace detail {

void require_options(const SolveOptions& options);

/// As `SolveOptions::ridge`: none at first, as what is whitened is damped.
inline constexpr double no_ridge = -1.0;

/// The whitening of one covariance by the route asked for; nothing if the Cholesky route is not up to it. `along` as in
/// Whitening::cholesky.
template <Real U, Real T, class Along>
[[nodiscard]] std::optional<detail::Whitening<U>> whiten(Context& ctx, const std::string& name, View<const T> s,
                                                         const std::vector<double>& inverse_scale,
                                                         const SolveOptions& options, double resolution,
                                                         Along&& along) {
  if constexpr (std::is_same_v<U, double>) {
    if (options.route == Route::eigen) {
      auto result =
          detail::Whitening<double>::template eigen<T>(ctx, name, s, inverse_scale, options.rank_tolerance, resolution);
      along(std::as_const(result));
      return result;
    }
  }
  return detail::Whitening<U>::template cholesky<T>(
      ctx, s, inverse_scale, options.ridge == 0.0 ? resolution : std::max(options.ridge, 0.0), resolution, along);
}
template <Real U, Real T>
[[nodiscard]] std::optional<detail::Whitening<U>> whiten(Context& ctx, const std::string& name, View<const T> s,
                                                         const std::vector<double>& inverse_scale,
                                                         const SolveOptions& options, double resolution) {
  return whiten<U, T>(ctx, name, s, inverse_scale, options, resolution, [](const detail::Whitening<U>&) {});
}

/// W (r, p) with Wᵀ W = S⁺ for S (p, p).
[[nodiscard]] Tensor<double> whitening_rows(Context& ctx, const std::string& name, const Tensor<double>& s, Route route,
                                            double resolution);

/// λ up to which N = M - P δWᵀ can be made of errors of its parts, which have the size `scale`.
template <Real U>
[[nodiscard]] double rounding_floor(const detail::Whitening<U>& whitening, double scale, std::int64_t p, std::int64_t m,
                                    double resolution) {
  const double aspect = 1.0 + std::sqrt(static_cast<double>(p) / static_cast<double>(std::max<std::int64_t>(m, 1)));
  return scale * 2 * resolution * aspect / std::sqrt(whitening.smallest());
}

inline constexpr const char* krylov_gave_way = "fell back to all eigenvectors: the block Krylov space did not converge";

/// a Wᵀ (p, rank), for a cross moment a (p, q) and the whitening of the outputs w (rank, q).
template <Real U, Real T>
[[nodiscard]] Tensor<U> in_output_metric(Context& ctx, View<const T> a, View<const double> w) {
  const Tensor<double> from = converted<double, T>(ctx, a);
  Tensor<double> to(ctx, {a.extent(0), w.extent(0)});
  gemm(ctx, Transpose::no, Transpose::yes, 1, from.view(), w, 0, to.view());
  return converted<U, double>(ctx, to.view());
}

/// Units from the triplets of a cross moment (p, m) that was whitened; `outputs` (m, q), if not empty, takes v back to
/// ω.
template <Real T, Real U>
Units<T> units_of(Context& ctx, const detail::Whitening<U>& whitening, Triplets triplets, std::int64_t m,
                  View<const double> outputs) {
  const std::int64_t p = whitening.order();
  const std::int64_t q = outputs.rank() == 2 ? outputs.extent(1) : m;
  Units<T> result;
  result.units = triplets.units;
  result.lambda = std::move(triplets.lambda);
  if (triplets.gave_way) result.note = krylov_gave_way;
  if (!triplets.partial) result.lambda.resize(static_cast<std::size_t>(std::min(p, q)), 0.0);
  result.ridge_used = whitening.ridge();
  if constexpr (std::is_same_v<U, double>) {
    if (whitening.is_pseudo_inverse()) result.rank = whitening.rank();
  }
  const Tensor<U> left = converted<U, double>(ctx, triplets.left.view());
  const Tensor<U> fan_in = whitening.times(ctx, left.view());
  result.fan_in = converted<T, U>(ctx, fan_in.view());
  if (outputs.rank() == 2) {
    Tensor<double> fan_out(ctx, {result.units, q});
    gemm(ctx, Transpose::no, Transpose::no, 1, triplets.right.view(), outputs, 0, fan_out.view());
    result.fan_out = converted<T, double>(ctx, fan_out.view());
  } else {
    result.fan_out = converted<T, double>(ctx, triplets.right.view());
  }
  return result;
}

/// Units of the cross moment n (p, m).
template <Real T, Real U>
Units<T> units_from(Context& ctx, const detail::Whitening<U>& whitening, View<const U> n, View<const double> outputs,
                    double threshold, const SolveOptions& options) {
  return units_of<T>(
      ctx, whitening,
      leading_triplets(ctx, WhitenedCross<U>(n, &whitening), threshold, options.max_units, options.max_krylov_blocks),
      n.extent(1), outputs);
}

/// The singular triplets above `threshold`, at most `max_units`, of a cross moment n (p, m) that is whitened, and of
/// `noise`, a second one, the largest singular value alone; both are waited for together unless there are many.
struct TripletsAndNoise {
  Triplets triplets;
  double noise = 0.0;  ///< 0 where there is none
};
/// Where `times_noise` is not 0, the threshold is at least that many times the noise's largest singular value.
template <Real U>
[[nodiscard]] TripletsAndNoise triplets_above_noise(Context& ctx, const detail::Whitening<U>& whitening,
                                                    View<const U> n, View<const U> noise, double threshold,
                                                    double times_noise, const SolveOptions& options);

/// Why there is no unit, or nothing if there is one.
[[nodiscard]] std::string why_no_units(std::int64_t units, const std::vector<double>& lambda, bool s_is_zero,
                                       bool n_is_zero, double threshold, double floor, std::int64_t max_units,
                                       double significance, std::int64_t samples);

inline constexpr const char* fell_back =
    "fell back to the eigen route: rounding errors outweigh the largest ridge of the Cholesky route";

[[nodiscard]] inline std::string joined(const std::string& a, const std::string& b) {
  return a.empty() || b.empty() ? a + b : a + "; " + b;
}

/// Whether what is computed from statistics of this order and resolution is to be in double precision. Up to order 512
/// that costs nothing worth saving.
[[nodiscard]] inline bool deserves_double(std::int64_t order, double resolution) {
  constexpr std::int64_t small_order = 512;
  return order <= small_order || resolution < epsilon_of<float>;
}

/// Calls `attempt<U>(options)` in the precision that the statistics deserve, and again by the eigen route if the
/// Cholesky route is not up to them.
template <class Attempt>
auto with_precision(const SolveOptions& options, std::int64_t order, double resolution, Attempt&& attempt) {
  if (options.route == Route::cholesky) {
    auto result = deserves_double(order, resolution) ? attempt(double{}, options) : attempt(float{}, options);
    if (result) return std::move(*result);
  }
  SolveOptions by_eigen = options;
  by_eigen.route = Route::eigen;
  auto result = std::move(*attempt(double{}, by_eigen));
  if (options.route != Route::eigen) result.note = joined(result.note, fell_back);
  return result;
}

/// S (p, p), whitened by the route and in the precision that it deserves, for the units of any number of cross moments.
template <Real T>
class WhitenedInputs {
 public:
  /// `variances` (p) are those to scale by; for the rest see `new_units`. S is finite.
  WhitenedInputs(Context& ctx, View<const T> s, const SolveOptions& options, double resolution,
                 std::vector<double> variances);

  /// With a whitening that is there already.
  WhitenedInputs(std::variant<Whitening<float>, Whitening<double>> whitening, const SolveOptions& options,
                 double resolution, std::vector<double> variances);

  /// As `new_units`, for N finite, with W of the outputs (rank, q) or none. With a `noise` (p, m), the threshold is at
  /// least `times_noise` times its largest singular value.
  [[nodiscard]] Units<T> units(Context& ctx, View<const T> n, View<const double> outputs, std::int64_t max_units,
                               double threshold, double parts, View<const std::type_identity_t<T>> noise = {},
                               double times_noise = 0.0) const;

 private:
  struct Made {
    std::variant<Whitening<float>, Whitening<double>> whitening;
    std::string note;
  };

  SolveOptions options_;
  double resolution_;
  std::vector<double> variances_;
  Made made_;
};

/// As `best_move`; `variances` (d) are the diagonal of S1.
template <Real T>
[[nodiscard]] BestMove<T> best_move_of(Context& ctx, View<const std::type_identity_t<T>> s1, View<const T> m1,
                                       const SolveOptions& options, double resolution,
                                       const std::vector<double>& variances);

}  // namespace detail

/// The move of today's weights that follows the desired update best, δW* = (S1⁺ M1)ᵀ (q, d), for S1 (d, d), M1 (d, q).
///
/// The eigen route gives the solution of minimum norm; the Cholesky route gives, where S1 is singular, one whose norm
/// is small relative to the scale of each input. Of `options` route, ridge and rank_tolerance count. `resolution` as in
/// Moments. Throws ShapeError, NumericError, ArgumentError.
template <Real T>
[[nodiscard]] BestMove<T> best_move(Context& ctx, View<const std::type_identity_t<T>> s1, View<const T> m1,
                                    const SolveOptions& options = {}, double resolution = 0.0);

/// N = M - P δWᵀ (p, q), the cross moment with what δW (q, d) leaves of the desired update; M (p, q), P (p, d).
/// Throws ShapeError.
template <Real T>
[[nodiscard]] Tensor<T> residual_cross(Context& ctx, View<const std::type_identity_t<T>> m,
                                       View<const std::type_identity_t<T>> cross, View<const T> move);

/// The units that express most of N (p, q) on inputs with second moment S (p, p): with the singular triplets (λ, u, v)
/// of S^{-1/2} N, α = √λ S^{-1/2} u and ω = √λ v, for λ > `threshold`, at most options.max_units of them.
///
/// With E (q, q), which may be left empty, the triplets are those of S^{-1/2} N E^{-1/2} and ω = √λ E^{-1/2} v. Of
/// `options` route, max_units, ridge and rank_tolerance count. `resolution` as in Moments. S is scaled to unit
/// diagonal; where its diagonal is what is left of a difference, `variances` (p) are those to scale by. Where N is a
/// difference of cross moments with a desired update of the norm `parts`, λ that their rounding can make do not count.
/// Throws ShapeError, NumericError, ArgumentError.
template <Real T>
[[nodiscard]] Units<T> new_units(Context& ctx, View<const std::type_identity_t<T>> s, View<const T> n,
                                 const SolveOptions& options = {}, double threshold = 0.0,
                                 View<const std::type_identity_t<T>> fisher = {}, double resolution = 0.0,
                                 std::vector<double> variances = {}, double parts = 0.0);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/solve/units_impl.hpp>
#endif
