// How much to shrink: the ridge on second moments (`damp`) that serves samples best which were not fitted.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include <meristem/core/blas.hpp>
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

/// What the best multiple of a linear map explains of a residual: the map has the inner product `inner` with it, and
/// the squared norm `norm2`. A map that points the wrong way explains nothing.
[[nodiscard]] inline double explained_by_multiple(double inner, double norm2) {
  return inner > 0.0 && norm2 > 0.0 ? inner * inner / norm2 : 0.0;
}

/// ⟨A, N⟩² / ‖A‖²_S for A = Σ α_k ω_kᵀ, fan-ins α (K, p) and fan-outs ω (K, m): what the best multiple of the units
/// leaves out of a residual whose cross moment with inputs of second moment S (p, p) is N (p, m).
[[nodiscard]] inline double gain_of_units(Context& ctx, View<const double> fan_in, View<const double> fan_out,
                                          View<const double> n, View<const double> s) {
  if (fan_in.empty() || fan_out.empty()) return 0.0;
  const std::int64_t units = fan_in.extent(0);
  Tensor<double> seen(ctx, {units, n.extent(1)}), moved(ctx, {units, s.extent(0)}), of_inputs(ctx, {units, units}),
      of_outputs(ctx, {units, units});
  gemm(ctx, Transpose::no, Transpose::no, 1, fan_in, n, 0, seen.view());
  gemm(ctx, Transpose::no, Transpose::no, 1, fan_in, s, 0, moved.view());
  gemm(ctx, Transpose::no, Transpose::yes, 1, moved.view(), fan_in, 0, of_inputs.view());
  gemm(ctx, Transpose::no, Transpose::yes, 1, fan_out, fan_out, 0, of_outputs.view());
  return explained_by_multiple(inner_product<double, double>(ctx, seen.view(), fan_out),
                               inner_product<double, double>(ctx, of_inputs.view(), of_outputs.view()));
}

}  // namespace detail

/// δW* of a damped S1, and the share it was damped by.
struct DampedMove {
  BestMove<double> move;
  double damping = 0.0;
};

/// The best move of today's weights for S1 (d, d), M1 (d, q), with the damping given or, without one, with that which
/// `noise`, M1 with random signs, chooses by cross-validation; without either, `usual_damping`. Throws as `best_move`.
[[nodiscard]] inline DampedMove damped_move(Context& ctx, const Tensor<double>& s1, const Tensor<double>& m1,
                                            const Tensor<double>& noise, std::optional<double> damping, Route route,
                                            double resolution) {
  const auto fit = [&](double share, const Tensor<double>& moment) {
    Tensor<double> damped = clone(ctx, s1);
    damp(ctx, share, damped);
    return best_move<double>(ctx, damped.view(), moment.view(), SolveOptions{.route = route}, resolution);
  };
  const auto gain = [&](double share, const Tensor<double>& fitted, const Tensor<double>& held_out) {
    const BestMove<double> move = fit(share, fitted);
    const Tensor<double> target = detail::converted_transposed<double, double>(ctx, held_out.view());
    Tensor<double> moved(ctx, move.weights.shape());
    gemm(ctx, Transpose::no, Transpose::no, 1, move.weights.view(), s1.view(), 0, moved.view());
    return detail::explained_by_multiple(detail::inner_product<double, double>(ctx, move.weights.view(), target.view()),
                                         detail::inner_product<double, double>(ctx, moved.view(), move.weights.view()));
  };
  if (!damping) damping = noise.empty() ? usual_damping : cross_validated_damping(ctx, m1, noise, gain);
  return {fit(*damping, m1), *damping};
}

}  // namespace meristem::grow
