// TINY: the units that express most of what today's weights cannot, from the statistics of one site.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/grow/matrix_ops.hpp>
#include <meristem/grow/method.hpp>
#include <meristem/grow/solver.hpp>
#include <meristem/grow/whitening.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

namespace detail {

/// E with the site's damping.
[[nodiscard]] inline Tensor<double> damped_fisher(Context& ctx, const SiteMoments& site) {
  Tensor<double> fisher = clone(ctx, site.moments.fisher);
  damp(ctx, site.damping, fisher);
  return fisher;
}

/// W (r, q) with Wᵀ W = E⁺.
[[nodiscard]] inline Tensor<double> output_metric(Context& ctx, const SiteMoments& site) {
  const Tensor<double> fisher = damped_fisher(ctx, site);
  const std::vector<double> inverse_scale = inverse_deviations(detail::diagonal<double>(ctx, fisher.view()));
  const auto whitening = Whitening<double>::eigen<double>(ctx, concat("site ", site.name, ": E"), fisher.view(),
                                                          inverse_scale, 0.0, site.moments.resolution);
  return detail::converted<double, double>(ctx, whitening.rows());
}

}  // namespace detail

/// M. Verbockhaven, T. Rudkiewicz, S. Chevallier, G. Charpiat, "Growing tiny networks: spotting expressivity
/// bottlenecks and fixing them optimally" (TMLR 2024): units from the leading singular triplets of S^{-1/2} N, with the
/// best move of today's weights.
class Tiny final : public GrowthMethod {
 public:
  struct Options {
    Route route = Route::cholesky;
    bool joint = false;   ///< units and the move of today's weights optimised together
    bool fisher = false;  ///< in the metric of the outputs' empirical Fisher matrix
  };

  explicit Tiny(const Options& options) : options_(options) {}

  [[nodiscard]] std::string name() const override {
    std::string result = "tiny";
    if (options_.joint) result += "-joint";
    if (options_.fisher) result += "-fisher";
    if (options_.route == Route::eigen) result += "-eigen";
    return result;
  }

  [[nodiscard]] Needs needs() const override {
    return {.inputs = true,
            .residual = true,
            .noise = true,
            .joint = options_.joint,
            .fisher = options_.fisher,
            .route = options_.route};
  }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    return site.spatial ? choose_maps(ctx, site) : choose_rows(ctx, site);
  }

 private:
  [[nodiscard]] Choice choose_rows(Context& ctx, const SiteMoments& site) const {
    Moments<double> moments = copy_of(ctx, site.moments);
    damp(ctx, site.damping, moments.s);
    damp(ctx, site.damping, moments.s1);
    if (options_.fisher) damp(ctx, site.damping, moments.fisher);
    const Solution<double> solution = grow::solve(ctx, moments,
                                                  SolveOptions{.route = options_.route,
                                                               .joint = options_.joint,
                                                               .fisher = options_.fisher,
                                                               .max_units = site.max_units,
                                                               .significance = site.significance});
    Choice choice;
    choice.lambda = solution.lambda;
    choice.threshold = solution.threshold;
    choice.gain = solution.gain;
    choice.note = solution.note;
    take(ctx, site, solution.units, solution.fan_in, solution.fan_out, solution.best_move, choice);
    choice.first_order_gain = solution.first_order_gain;
    choice.move_decrease = solution.returned_move_decrease;
    return choice;
  }

  [[nodiscard]] Choice choose_maps(Context& ctx, const SiteMoments& site) const {
    Tensor<double> s = clone(ctx, site.moments.s);
    damp(ctx, site.damping, s);
    const std::vector<double> variances = detail::diagonal<double>(ctx, s.view());
    double resolution = site.moments.resolution;
    SolveOptions options{.route = options_.route, .max_units = site.max_units};
    const bool joint = options_.joint && !site.explained.empty();
    if (joint) {
      // Each tap is a sample of its own, as in S.
      gemm(ctx, Transpose::no, Transpose::yes, -1, site.explained.view(), site.explained.view(), 1, s.view());
      resolution *= 16.0;
      options.ridge = std::max(options.ridge, resolution);
    }
    const Tensor<double> metric = options_.fisher ? detail::output_metric(ctx, site) : Tensor<double>();
    const auto units_of = [&](const Tensor<double>& n, const SolveOptions& chosen, double threshold) {
      const std::int64_t p = n.extent(0);
      if (!options_.fisher) {
        return new_units<double>(ctx, s, n.view(), chosen, threshold, {}, resolution, variances);
      }
      const Tensor<double> scaled = times(ctx, Transpose::yes, n, site.outputs, metric);
      Units<double> units = new_units<double>(ctx, s, scaled.view().reshape({p, scaled.size() / p}), chosen, threshold,
                                              {}, resolution, variances);
      units.fan_out = times(ctx, Transpose::no, units.fan_out, metric.extent(0), metric);
      return units;
    };

    Choice choice;
    if (site.significance > 0.0) {
      // One draw of the noise scatters about its edge by some per cent: a tenth is added, so that c = 1 seldom lets
      // noise pass.
      SolveOptions one = options;
      one.max_units = 1;
      const Units<double> edge = units_of(site.noise, one, 0.0);
      choice.threshold = edge.lambda.empty() ? 0.0 : site.significance * 1.1 * edge.lambda.front();
    }
    const Units<double> units = units_of(site.n, options, choice.threshold);
    choice.lambda = units.lambda;
    for (std::int64_t k = 0; k < units.units; ++k) {
      choice.gain += units.lambda[static_cast<std::size_t>(k)] * units.lambda[static_cast<std::size_t>(k)];
    }
    choice.note = units.note;
    choice.rescale = true;
    if (options_.fisher) choice.output_metric = to_host(ctx, detail::damped_fisher(ctx, site));
    choice.companion = joint && site.move_weights;
    Tensor<double> move = clone(ctx, site.move.weights);
    choice.move_decrease = site.move.decrease;
    if (options_.fisher && !move.empty()) {
      Tensor<double> whitened(ctx, {metric.extent(0), move.extent(1)});
      gemm(ctx, Transpose::no, Transpose::no, 1, metric.view(), site.move.weights.view(), 0, whitened.view());
      gemm(ctx, Transpose::yes, Transpose::no, 1, metric.view(), whitened.view(), 0, move.view());
      const Tensor<double> m1t = detail::converted_transposed<double, double>(ctx, site.moments.m1.view());
      choice.move_decrease = detail::inner_product<double, double>(ctx, move.view(), m1t.view());
    }
    take(ctx, site, units.units, units.fan_in, units.fan_out, move, choice);
    return choice;
  }

  /// a op(w), for `a` as rows of `columns` numbers.
  [[nodiscard]] static Tensor<double> times(Context& ctx, Transpose transpose, const Tensor<double>& a,
                                            std::int64_t columns, const Tensor<double>& w) {
    const std::int64_t rows = columns > 0 ? a.size() / columns : 0;
    Tensor<double> result(ctx, {rows, transpose == Transpose::no ? w.extent(1) : w.extent(0)});
    if (!result.empty()) {
      gemm(ctx, Transpose::no, transpose, 1, a.view().reshape({rows, columns}), w.view(), 0, result.view());
    }
    return result;
  }

  static void take(Context& ctx, const SiteMoments& site, std::int64_t units, View<const double> fan_in,
                   View<const double> fan_out, View<const double> move, Choice& choice) {
    choice.insertion.units = units;
    if (units == 0) return;
    note_rank(site, choice);
    choice.insertion.fan_in = to_host(ctx, fan_in);
    choice.insertion.fan_out = to_host(ctx, fan_out);
    if (site.move_weights) choice.insertion.move = to_host(ctx, move);
  }

  [[nodiscard]] static Moments<double> copy_of(Context& ctx, const Moments<double>& from) {
    Moments<double> to;
    to.s1 = clone(ctx, from.s1);
    to.m1 = clone(ctx, from.m1);
    to.s = clone(ctx, from.s);
    to.m = clone(ctx, from.m);
    to.cross = clone(ctx, from.cross);
    to.fisher = clone(ctx, from.fisher);
    to.goal_norm2 = from.goal_norm2;
    to.samples = from.samples;
    to.resolution = from.resolution;
    to.layer = from.layer;
    return to;
  }

  Options options_;
};

/// TINY with the best move of today's weights.
[[nodiscard]] inline Method tiny(Route route = Route::cholesky) {
  return make_method<Tiny>(Tiny::Options{.route = route});
}
/// Units and the move of today's weights optimised together, which the paper of TINY does one after the other:
/// S⊥ = S - P S1⁺ Pᵀ in the place of S, and the companion move δW* - Aᵀ P S1⁺. In maps every tap of a fan-out counts as
/// a sample of its own, as it does in S.
[[nodiscard]] inline Method tiny_joint(Route route = Route::cholesky) {
  return make_method<Tiny>(Tiny::Options{.route = route, .joint = true});
}
/// TINY preconditioned by the empirical Fisher matrix E of the outputs, after the paper and gromo, its authors'
/// library; in maps E adds up all positions: units from S^{-1/2} N E^{-1/2}, ω ← E^{-1/2} ω, δW = E⁺ δW*. Where taps of
/// a fan-out overlap, the units get the factor ⟨N, A⟩ / Q(A) as they do without the metric, with Q(A) in it.
[[nodiscard]] inline Method tiny_fisher() { return make_method<Tiny>(Tiny::Options{.fisher = true}); }

}  // namespace meristem::inline MERISTEM_BACKEND::grow
