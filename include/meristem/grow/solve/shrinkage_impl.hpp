// Definitions of shrinkage.hpp.
#pragma once

#include <cstdint>

#include <meristem/core/blas.hpp>
#include <meristem/grow/solve/shrinkage.hpp>

namespace meristem::grow::detail {

/// What the best multiple of a linear map explains of a residual: the map has the inner product `inner` with it, and
/// the squared norm `norm2`. A map that points the wrong way explains nothing.
[[nodiscard]] MERISTEM_INLINE double explained_by_multiple(double inner, double norm2) {
  return inner > 0.0 && norm2 > 0.0 ? inner * inner / norm2 : 0.0;
}

MERISTEM_INLINE double gain_of_units(Context& ctx, View<const double> fan_in, View<const double> fan_out,
                                     View<const double> n, View<const double> s) {
  if (fan_in.empty() || fan_out.empty()) return 0.0;
  const std::int64_t units = fan_in.extent(0);
  Tensor<double> seen(ctx, {units, n.extent(1)}), moved(ctx, {units, s.extent(0)}), of_inputs(ctx, {units, units}),
      of_outputs(ctx, {units, units});
  gemm(ctx, Transpose::no, Transpose::no, 1, fan_in, n, 0, seen.view());
  gemm(ctx, Transpose::no, Transpose::no, 1, fan_in, s, 0, moved.view());
  gemm(ctx, Transpose::no, Transpose::yes, 1, moved.view(), fan_in, 0, of_inputs.view());
  gemm(ctx, Transpose::no, Transpose::yes, 1, fan_out, fan_out, 0, of_outputs.view());
  const auto [inner, norm2] = inner_products<double>(ctx, seen.view(), fan_out, of_inputs.view(), of_outputs.view());
  return explained_by_multiple(inner, norm2);
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE detail::DampedMove damped_move(Context& ctx, const Tensor<double>& s1, const Tensor<double>& m1,
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
    const auto [inner, norm2] =
        detail::inner_products<double>(ctx, move.weights.view(), target.view(), moved.view(), move.weights.view());
    return detail::explained_by_multiple(inner, norm2);
  };
  if (!damping) damping = noise.empty() ? usual_damping : cross_validated_damping(ctx, m1, noise, gain);
  return {fit(*damping, m1), *damping};
}

}  // namespace meristem::grow
