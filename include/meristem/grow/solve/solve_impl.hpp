// Definitions of solve.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <meristem/core/blas.hpp>
#include <meristem/grow/solve/solve.hpp>

namespace meristem::grow::detail {

/// `solve` with large factors in precision U; nothing if the Cholesky route fails.
template <Real U, Real T>
std::optional<Solution<T>> solve_in(Context& ctx, const Moments<T>& moments, const Extents& e,
                                    const SolveOptions& options, double resolution) {
  const auto name = [&](const char* symbol) { return qualified(moments.layer, symbol); };
  const bool moves = options.best_move && e.d > 0;
  Solution<T> result;
  result.goal_norm2 = moments.goal_norm2;

  std::optional<detail::Whitening<double>> outputs;
  if (options.fisher) {
    const std::vector<double> inverse_scale = inverse_deviations(diagonal<T>(ctx, moments.fisher.view()));
    outputs = detail::Whitening<double>::template eigen<T>(ctx, name("E"), moments.fisher.view(), inverse_scale,
                                                           options.rank_tolerance, resolution);
    result.goal_norm2 = static_cast<double>(outputs->rank());
  }
  // left-multiplies by W of the outputs, or by Wᵀ
  const auto in_metric = [&](Transpose transpose, View<const U> a) {
    const View<const double> w = outputs->rows();
    const Tensor<double> from = converted<double, U>(ctx, a);
    Tensor<double> to(ctx, {transpose == Transpose::no ? w.extent(0) : w.extent(1), a.extent(1)});
    gemm(ctx, transpose, Transpose::no, 1, w, from.view(), 0, to.view());
    return converted<U, double>(ctx, to.view());
  };

  Tensor<U> n = converted<U, T>(ctx, moments.m.view());
  Tensor<U> move = zeros<U>(ctx, {e.q, e.d});
  Tensor<U> m1t, cross;
  std::optional<detail::Whitening<U>> consumer;
  std::vector<double> consumer_variances;
  double scale = std::sqrt(moments.goal_norm2);
  if (moves) {
    consumer_variances = diagonal<T>(ctx, moments.s1.view());
    consumer =
        whiten<U, T>(ctx, name("S1"), moments.s1.view(), inverse_deviations(consumer_variances), options, resolution);
    if (!consumer) return std::nullopt;
    m1t = converted_transposed<U, T>(ctx, moments.m1.view());
    cross = converted<U, T>(ctx, moments.cross.view());
    move = consumer->template solve<T>(ctx, moments.s1.view(), m1t.view());
    gemm(ctx, Transpose::no, Transpose::yes, -1, cross.view(), move.view(), 1, n.view());
    Tensor<U> scaled_move = converted<U, U>(ctx, move.view());
    std::vector<double> deviations;
    for (const double variance : consumer_variances) deviations.push_back(std::sqrt(std::max(variance, 0.0)));
    scale_columns(ctx, scaled_move.view(), from_host<double>(ctx, {e.d}, deviations));
    // Errors of S1 reach N by way of P S1⁺, whose rows are no longer than 1/√μ in units of the deviations.
    scale += std::sqrt(inner_product<U, U>(ctx, scaled_move.view(), scaled_move.view()) / consumer->smallest());
    if (outputs) move = in_metric(Transpose::yes, in_metric(Transpose::no, move.view()).view());
    result.best_move_decrease = inner_product<U, U>(ctx, move.view(), m1t.view());
  }
  if (result.best_move_decrease > 1.1 * result.goal_norm2) {
    throw ArgumentError(concat(name("the mean squared norm of the desired update"), " is ", result.goal_norm2,
                               ", less than the ", result.best_move_decrease,
                               " that the best move alone explains; divide every moment by the number of samples, "
                               "and accumulate them over the same samples"));
  }
  result.bottleneck = std::max(0.0, result.goal_norm2 - result.best_move_decrease);
  const bool n_is_zero = inner_product<U, U>(ctx, n.view(), n.view()) == 0.0;
  if (outputs) {
    // In the metric the desired update has about one unit of norm for each output.
    n = in_output_metric<U, U>(ctx, n.view(), outputs->rows());
    scale *= std::sqrt(std::max(result.goal_norm2, 1.0) / std::max(moments.goal_norm2, 1e-300));
  }

  const std::vector<double> variances = diagonal<T>(ctx, moments.s.view());
  const std::vector<double> inverse_scale = inverse_deviations(variances);
  const bool s_is_zero = std::all_of(variances.begin(), variances.end(), [](double v) { return v == 0.0; });
  std::optional<detail::Whitening<U>> inputs;
  Tensor<U> regression;
  if (options.joint && moves) {
    // The part of B2 that B1 explains is Z B1, Z = P S1⁺.
    regression = consumer->template solve<T>(ctx, moments.s1.view(), cross.view());
    Tensor<U> schur = converted<U, T>(ctx, moments.s.view());
    gemm(ctx, Transpose::no, Transpose::yes, -1, regression.view(), cross.view(), 1, schur.view());
    // Errors of `resolution` in P and S1 come back multiplied by the coefficients of the regression.
    Tensor<U> coefficients = converted<U, U>(ctx, regression.view());
    std::vector<double> deviations;
    for (const double variance : consumer_variances) deviations.push_back(std::sqrt(std::max(variance, 0.0)));
    scale_columns(ctx, coefficients.view(), from_host<double>(ctx, {e.d}, deviations));
    const std::vector<double> squares = row_dots<U, U>(ctx, coefficients.view(), coefficients.view());
    double growth = 0.0;
    for (std::size_t i = 0; i < squares.size(); ++i) {
      const double length = 1.0 + std::sqrt(squares[i]) * inverse_scale[i];
      growth += length * length / static_cast<double>(squares.size());
    }
    const double uncertainty = std::max(resolution, epsilon_of<U>) * growth;
    SolveOptions schur_options = options;
    schur_options.ridge = std::min(std::max(options.ridge, uncertainty), 1e-2);
    // Scaled by the diagonal of S: that of S⊥ is rounding error where S1 explains everything, as for the bias.
    inputs =
        whiten<U, U>(ctx, name("the Schur complement of S1"), schur.view(), inverse_scale, schur_options, uncertainty);
  } else {
    inputs = whiten<U, T>(ctx, name("S"), moments.s.view(), inverse_scale, options, resolution);
  }
  if (!inputs) return std::nullopt;

  result.threshold = significance_threshold(options.significance, result.bottleneck, e.p, n.extent(1), moments.samples);
  // A ridge on S1 leaves about as large a share of the best move behind.
  const double floor = std::max(rounding_floor(*inputs, scale, e.p, n.extent(1), resolution),
                                consumer ? consumer->ridge() * std::sqrt(result.goal_norm2) : 0.0);
  Units<T> units = units_from<T, U>(ctx, *inputs, n.view(), outputs ? outputs->rows() : View<const double>(),
                                    std::max(result.threshold, floor), options);
  result.fan_in = std::move(units.fan_in);
  result.fan_out = std::move(units.fan_out);
  result.lambda = std::move(units.lambda);
  result.units = units.units;
  result.ridge_used = units.ridge_used;
  result.rank = units.rank;
  for (std::int64_t k = 0; k < result.units; ++k) {
    const double lambda = result.lambda[static_cast<std::size_t>(k)];
    result.gain += lambda * lambda;
  }
  result.bottleneck_after = std::max(0.0, result.bottleneck - result.gain);
  if (result.units > 0) {
    const Tensor<double> alpha = converted<double, T>(ctx, result.fan_in.view());
    const Tensor<double> omega = converted<double, T>(ctx, result.fan_out.view());
    const Tensor<double> m = converted<double, T>(ctx, moments.m.view());
    Tensor<double> projected(ctx, {result.units, e.q});
    gemm(ctx, Transpose::no, Transpose::no, 1, alpha.view(), m.view(), 0, projected.view());
    result.first_order_gain = inner_product<double, double>(ctx, projected.view(), omega.view());
    if (options.joint && moves) {
      const Tensor<U> alpha_u = converted<U, T>(ctx, result.fan_in.view());
      const Tensor<U> omega_u = converted<U, T>(ctx, result.fan_out.view());
      Tensor<U> explained(ctx, {result.units, e.d});
      gemm(ctx, Transpose::no, Transpose::no, 1, alpha_u.view(), regression.view(), 0, explained.view());
      gemm(ctx, Transpose::yes, Transpose::no, -1, omega_u.view(), explained.view(), 1, move.view());
    }
  }
  result.returned_move_decrease = moves ? inner_product<U, U>(ctx, move.view(), m1t.view()) : 0.0;
  result.best_move = converted<T, U>(ctx, move.view());
  result.note = joined(why_no_units(result.units, result.lambda, s_is_zero, n_is_zero, result.threshold, floor,
                                    options.max_units, options.significance, moments.samples),
                       units.note);
  return result;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
Solution<T> solve(Context& ctx, const Moments<T>& moments, const SolveOptions& options) {
  detail::require_options(options);
  const detail::Extents e = detail::require_moments(ctx, moments, options.fisher);
  const double resolution = moments.resolution > 0.0 ? moments.resolution : detail::epsilon_of<T>;
  return detail::with_precision(options, std::max(e.p, e.d), resolution,
                                [&](auto precision, const SolveOptions& chosen) {
                                  return detail::solve_in<decltype(precision), T>(ctx, moments, e, chosen, resolution);
                                });
}

}  // namespace meristem::grow
