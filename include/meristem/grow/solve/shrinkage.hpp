// How much to shrink: the ridge on second moments (`damp`) that serves samples best which were not fitted.
#pragma once

#include <array>
#include <optional>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/moments.hpp>
#include <meristem/grow/solve/units.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow {

/// Shares of `damp` that are tried, and the one that is taken where none of them predicts anything.
inline constexpr std::array damping_shares{0.01, 0.1, 1.0, 10.0};
inline constexpr double usual_damping = 1.0;

/// The largest of (fit on one half, gain on the other) over the shares, both ways. `mean` is a cross moment of all
/// samples and `noise` the same with a random sign for each (grow/random_signs.hpp): their sum and their difference are
/// the moments of two random halves of the samples. `gain(share, fitted, held_out)` is what a solution with that share,
/// found from one half, is worth on the other.
template <class Gain>
[[nodiscard]] double cross_validated_damping(Context& ctx, const Tensor<double>& mean, const Tensor<double>& noise,
                                             Gain&& gain) {
  if (mean.empty() || noise.empty()) return usual_damping;
  const auto half = [&](double sign) {
    Tensor<double> result = clone(ctx, noise);
    kernels::scale<double>(ctx, sign, result.view());
    detail::add<double>(ctx, mean.view(), result.view());
    return result;
  };
  const Tensor<double> one = half(1.0), other = half(-1.0);
  double best = usual_damping, most = 0.0;
  for (const double share : damping_shares) {
    const double value = gain(share, one, other) + gain(share, other, one);
    if (value > most) {
      most = value;
      best = share;
    }
  }
  return best;
}

namespace detail {

/// ⟨A, N⟩² / ‖A‖²_S for A = Σ α_k ω_kᵀ, fan-ins α (K, p) and fan-outs ω (K, m): what the best multiple of the units
/// leaves out of a residual whose cross moment with inputs of second moment S (p, p) is N (p, m).
[[nodiscard]] double gain_of_units(Context& ctx, View<const double> fan_in, View<const double> fan_out,
                                   View<const double> n, View<const double> s);

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
