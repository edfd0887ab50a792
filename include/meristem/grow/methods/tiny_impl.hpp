// Definitions of tiny.hpp.
#pragma once

#include <cmath>
#include <utility>

#include <meristem/grow/methods/tiny.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

/// E with the site's damping.
[[nodiscard]] MERISTEM_INLINE Tensor<double> damped_fisher(Context& ctx, const SiteMoments& site) {
  Tensor<double> fisher = clone(ctx, site.moments.fisher);
  damp(ctx, site.consumer_damping, fisher);
  return fisher;
}

MERISTEM_INLINE Tensor<double> output_metric(Context& ctx, const SiteMoments& site) {
  const Tensor<double> fisher = damped_fisher(ctx, site);
  const std::vector<double> inverse_scale = inverse_deviations(diagonal<double>(ctx, fisher.view()));
  const auto whitening = Whitening<double>::eigen<double>(ctx, concat("site ", site.name, ": E"), fisher.view(),
                                                          inverse_scale, 0.0, site.moments.resolution);
  return converted<double, double>(ctx, whitening.rows());
}

MERISTEM_INLINE std::string Tiny::name() const {
  std::string result = "tiny";
  if (options_.joint) result += "-joint";
  if (options_.fisher) result += "-fisher";
  if (options_.route == Route::eigen) result += "-eigen";
  return result;
}

MERISTEM_INLINE Needs Tiny::needs() const {
  return {.inputs = true,
          .residual = true,
          .noise = true,
          .joint = options_.joint,
          .fisher = options_.fisher,
          .route = options_.route};
}

MERISTEM_INLINE Choice Tiny::choose(Context& ctx, const SiteMoments& site) const {
  const Problem problem(ctx, options_, site);
  Choice choice;
  ValidatedDamping damping{site.damping.value_or(usual_damping)};
  // Where no unit is wanted there is nothing to validate.
  if (!site.damping && site.max_units > 0) damping = problem.validated_damping();
  choice.damping = damping.share;
  const detail::WhitenedInputs<double> inputs = problem.inputs(std::move(damping));
  // One draw of the noise scatters about its edge by some per cent: a tenth is added, so that c = 1 seldom lets noise
  // pass.
  Units<double> units = problem.units(inputs, site.max_units, 1.1 * site.significance);
  choice.threshold = units.threshold;
  choice.lambda = units.lambda;
  choice.ridge_used = units.ridge_used;
  for (std::int64_t k = 0; k < units.units; ++k) {
    choice.gain += units.lambda[static_cast<std::size_t>(k)] * units.lambda[static_cast<std::size_t>(k)];
  }
  choice.note = units.note;
  if (units.units == 0 && site.significance > 0.0 && choice.threshold > 0.0 && !units.lambda.empty() &&
      units.lambda.front() <= choice.threshold) {
    choice.note = concat(
        "no unit added: nothing significant is left that is linear in the layer's inputs, the "
        "largest singular value ",
        units.lambda.front(), " does not exceed the threshold ", choice.threshold, " (significance ", site.significance,
        ", ", site.moments.samples, " samples)");
  }
  choice.rescale = true;
  if (options_.fisher) choice.output_metric = damped_fisher(ctx, site);
  Tensor<double> move = problem.move();
  if (problem.joint() && site.move_weights) {
    // Between vectors P is at hand, and what the units do within the span of today's weights with it.
    if (site.spatial)
      choice.companion = true;
    else
      problem.subtract_explained(units, move);
  }
  choice.move_decrease = site.move.decrease;
  if ((options_.fisher || problem.joint()) && !move.empty()) {
    const Tensor<double> m1t = converted_transposed<double, double>(ctx, site.moments.m1.view());
    choice.move_decrease = inner_product<double, double>(ctx, move.view(), m1t.view());
  }
  choice.insertion.units = units.units;
  if (units.units == 0) return choice;
  note_rank(site, choice);
  if (!site.spatial && !site.moments.m.empty()) {
    Tensor<double> seen(ctx, {units.units, site.outputs});
    gemm(ctx, Transpose::no, Transpose::no, 1, units.fan_in.view(), site.moments.m.view(), 0, seen.view());
    choice.first_order_gain = inner_product<double, double>(ctx, seen.view(), units.fan_out.view());
  }
  choice.insertion.fan_in = std::move(units.fan_in);
  choice.insertion.fan_out = std::move(units.fan_out);
  if (site.move_weights) choice.insertion.move = std::move(move);
  return choice;
}

MERISTEM_INLINE Tensor<double> Tiny::features(Context& ctx, const SiteMoments& site, const Choice& choice) const {
  if (!options_.features || options_.fisher || choice.insertion.units >= site.max_units || site.max_units == unlimited)
    return {};
  return feature_fan_ins(ctx, site, choice.insertion);
}

MERISTEM_INLINE Tiny::Problem::Problem(Context& ctx, const Options& options, const SiteMoments& site)
    : ctx_(ctx), site_(site), options_(options), joint_(options.joint && !site.explained.empty()) {
  if (options.fisher) metric_ = output_metric(ctx, site);
}

MERISTEM_INLINE void Tiny::Problem::leave_unexplained(Tensor<double>& s) const {
  // Each tap is a sample of its own, as in S.
  gemm(ctx_, Transpose::no, Transpose::yes, -1, site_.explained.view(), site_.explained.view(), 1, s.view());
}

MERISTEM_INLINE Tensor<double> Tiny::Problem::in_metric(const Tensor<double>& n) const {
  const std::int64_t p = n.extent(0);
  Tensor<double> scaled = times(ctx_, Transpose::yes, n, site_.outputs, metric_);
  Tensor<double> result(ctx_, {p, p > 0 ? scaled.size() / p : 0});
  if (!result.empty()) copy<double>(ctx_, scaled.view().reshape(result.shape()), result.view());
  return result;
}

MERISTEM_INLINE ValidatedDamping Tiny::Problem::validated_damping() const {
  if (site_.n.empty() || site_.noise.empty()) return {};
  const Tensor<double>& s = site_.moments.s;
  Tensor<double> rest;
  if (joint_) leave_unexplained(rest = clone(ctx_, s));
  const View<const double> unexplained = joint_ ? std::as_const(rest).view() : s.view();
  if (!options_.fisher) {
    return detail::damping_of_units(ctx_, s.view(), unexplained, site_.n.view(), site_.noise.view(), {},
                                    site_.max_units, site_.moments.resolution);
  }
  const Tensor<double> n = in_metric(site_.n), noise = in_metric(site_.noise);
  return detail::damping_of_units(ctx_, s.view(), unexplained, n.view(), noise.view(), metric_.view(), site_.max_units,
                                  site_.moments.resolution);
}

MERISTEM_INLINE detail::WhitenedInputs<double> Tiny::Problem::inputs(ValidatedDamping damping) const {
  const SolveOptions options{.route = options_.route};
  const double resolution = (joint_ ? 16.0 : 1.0) * site_.moments.resolution;
  const auto ready = [&]<class U>(Whitening<U>& whitening) {
    return detail::WhitenedInputs<double>(std::move(whitening), options, resolution, std::move(damping.variances));
  };
  if (options_.route == Route::cholesky) {
    if (auto* const whitening = std::get_if<Whitening<double>>(&damping.whitening)) return ready(*whitening);
    if (auto* const whitening = std::get_if<Whitening<float>>(&damping.whitening)) return ready(*whitening);
  }
  Tensor<double> s = clone(ctx_, site_.moments.s);
  if (damping.variances.empty()) damping.variances = detail::diagonal<double>(ctx_, s.view());
  detail::damp_known(ctx_, damping.share, s, damping.variances);
  if (joint_) leave_unexplained(s);
  return {ctx_, s.view(), options, resolution, std::move(damping.variances)};
}

MERISTEM_INLINE Units<double> Tiny::Problem::units(const detail::WhitenedInputs<double>& inputs, std::int64_t most,
                                                   double times_noise) const {
  const Tensor<double>&n = site_.n, &noise = site_.noise;
  if (noise.empty()) times_noise = 0.0;
  if (!options_.fisher) {
    return inputs.units(ctx_, n.view(), {}, most, 0.0, std::sqrt(site_.moments.goal_norm2), noise.view(), times_noise);
  }
  const Tensor<double> scaled = in_metric(n), scaled_noise = times_noise > 0.0 ? in_metric(noise) : Tensor<double>();
  Units<double> units = inputs.units(ctx_, scaled.view(), {}, most, 0.0, 0.0, scaled_noise.view(), times_noise);
  units.fan_out = times(ctx_, Transpose::no, units.fan_out, metric_.extent(0), metric_);
  if (metric_.extent(0) == 0 && n.extent(0) > 0 && site_.outputs > 0) {
    units.note = "no unit added: E is zero, no gradient reaches the consumer";
  }
  return units;
}

MERISTEM_INLINE Tensor<double> Tiny::Problem::move() const {
  Tensor<double> move = clone(ctx_, site_.move.weights);
  if (!options_.fisher || move.empty()) return move;
  Tensor<double> whitened(ctx_, {metric_.extent(0), move.extent(1)});
  gemm(ctx_, Transpose::no, Transpose::no, 1, metric_.view(), site_.move.weights.view(), 0, whitened.view());
  gemm(ctx_, Transpose::yes, Transpose::no, 1, metric_.view(), whitened.view(), 0, move.view());
  return move;
}

MERISTEM_INLINE void Tiny::Problem::subtract_explained(const Units<double>& units, Tensor<double>& move) const {
  if (units.units == 0 || move.empty()) return;
  const Tensor<double>& p = site_.moments.cross;
  Tensor<double> seen(ctx_, {units.units, p.extent(1)}), cross(ctx_, {p.extent(1), site_.outputs});
  gemm(ctx_, Transpose::no, Transpose::no, 1, units.fan_in.view(), p.view(), 0, seen.view());
  gemm(ctx_, Transpose::yes, Transpose::no, 1, seen.view(), units.fan_out.view(), 0, cross.view());
  Tensor<double> s1 = clone(ctx_, site_.moments.s1);
  damp(ctx_, site_.consumer_damping, s1);
  const BestMove<double> explained = best_move<double>(ctx_, s1.view(), std::as_const(cross).view(),
                                                       SolveOptions{.route = options_.route}, site_.moments.resolution);
  kernels::axpy<double>(ctx_, -1.0, explained.weights, move.view());
}

MERISTEM_INLINE Tensor<double> Tiny::times(Context& ctx, Transpose transpose, const Tensor<double>& a,
                                           std::int64_t columns, const Tensor<double>& w) {
  const std::int64_t rows = columns > 0 ? a.size() / columns : 0;
  Tensor<double> result(ctx, {rows, transpose == Transpose::no ? w.extent(1) : w.extent(0)});
  if (!result.empty()) {
    gemm(ctx, Transpose::no, transpose, 1, a.view().reshape({rows, columns}), w.view(), 0, result.view());
  }
  return result;
}

}  // namespace meristem::grow::detail
