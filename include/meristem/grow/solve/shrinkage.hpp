// How much to shrink: the ridge on second moments (`damp`) that serves samples best which were not fitted.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/moments.hpp>
#include <meristem/grow/solve/units.hpp>

namespace meristem::grow {

/// Shares of `damp` that are tried, and the one that is taken where none of them predicts anything.
inline constexpr std::array damping_shares{0.01, 0.1, 1.0, 10.0};
inline constexpr double usual_damping = 1.0;

namespace detail {

/// A share of damping, and where they were come by on the way, the diagonal of the second moment that it is for and the
/// whitening of the damped one.
struct ValidatedDamping {
  double share = usual_damping;
  std::vector<double> variances = {};
  std::variant<std::monostate, Whitening<float>, Whitening<double>> whitening = {};
};

/// The share for `new_units` of N = `mean` (p, m), at most `max_units`, by cross-validation: `noise` is the same with a
/// random sign for each sample (grow/random_signs.hpp), so that their sum and their difference are the moments of two
/// random halves of the samples; what the best multiple of the units found from one half explains of the other counts,
/// and the other way round. `usual_damping` where none explains anything.
///
/// S (p, p) is the inputs' second moment; `unexplained` is S or, for joint solutions, what today's weights leave of it.
/// With a `metric` (r, q) the columns of N are in that metric of the outputs already, taps × r.
[[nodiscard]] ValidatedDamping damping_of_units(Context& ctx, View<const double> s, View<const double> unexplained,
                                                View<const double> mean, View<const double> noise,
                                                View<const double> metric, std::int64_t max_units, double resolution);

/// δW* of a damped S1, and the share it was damped by.
struct DampedMove {
  BestMove<double> move;
  double damping = 0.0;
};

}  // namespace detail

/// The best move of today's weights for S1 (d, d), M1 (d, q), with the damping given or, without one, with that which
/// `noise`, M1 with random signs, chooses by cross-validation; without either, `usual_damping`. Throws as `best_move`.
[[nodiscard]] detail::DampedMove damped_move(Context& ctx, const Tensor<double>& s1, const Tensor<double>& m1,
                                             const Tensor<double>& noise, std::optional<double> damping, Route route,
                                             double resolution);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/solve/shrinkage_impl.hpp>
#endif
