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
    const double resolution = site.moments.resolution;
    Choice choice;
    if (site.significance > 0.0) {
      // One draw of the noise scatters about its edge by some per cent: a tenth is added, so that c = 1 seldom lets
      // noise pass.
      const Units<double> edge = new_units<double>(
          ctx, s, site.noise.view(), SolveOptions{.route = options_.route, .max_units = 1}, 0.0, {}, resolution);
      choice.threshold = edge.lambda.empty() ? 0.0 : site.significance * 1.1 * edge.lambda.front();
    }
    const Units<double> units =
        new_units<double>(ctx, s, site.n.view(), SolveOptions{.route = options_.route, .max_units = site.max_units},
                          choice.threshold, {}, resolution);
    choice.lambda = units.lambda;
    for (std::int64_t k = 0; k < units.units; ++k) {
      choice.gain += units.lambda[static_cast<std::size_t>(k)] * units.lambda[static_cast<std::size_t>(k)];
    }
    choice.note = units.note;
    choice.rescale = true;
    take(ctx, site, units.units, units.fan_in, units.fan_out, site.move.weights, choice);
    choice.move_decrease = site.move.decrease;
    return choice;
  }

  static void take(Context& ctx, const SiteMoments& site, std::int64_t units, const Tensor<double>& fan_in,
                   const Tensor<double>& fan_out, const Tensor<double>& move, Choice& choice) {
    choice.insertion.units = units;
    if (units == 0) return;
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
/// Units and the move of today's weights optimised together. Not for sites with convolutions.
[[nodiscard]] inline Method tiny_joint(Route route = Route::cholesky) {
  return make_method<Tiny>(Tiny::Options{.route = route, .joint = true});
}
/// TINY preconditioned by the empirical Fisher matrix of the outputs. Not for sites with convolutions.
[[nodiscard]] inline Method tiny_fisher() { return make_method<Tiny>(Tiny::Options{.fisher = true}); }

}  // namespace meristem::inline MERISTEM_BACKEND::grow
