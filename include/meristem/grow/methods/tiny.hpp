// TINY: the units that express most of what today's weights cannot, from the statistics of one site.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/grow/methods/features.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/shrinkage.hpp>
#include <meristem/grow/solve/units.hpp>
#include <meristem/grow/solve/whitening.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow {

namespace detail {

/// E with the site's damping.
[[nodiscard]] inline Tensor<double> damped_fisher(Context& ctx, const SiteMoments& site) {
  Tensor<double> fisher = clone(ctx, site.moments.fisher);
  damp(ctx, site.consumer_damping, fisher);
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
/// best move of today's weights. These units are linear functions of the layer's inputs, to first order. Between
/// vectors with a ReLU, where fewer of them are significant than were asked for, random features fill up
/// (methods/features.hpp).
class Tiny final : public GrowthMethod {
 public:
  struct Options {
    Route route = Route::cholesky;
    bool joint = false;    ///< units and the move of today's weights optimised together
    bool fisher = false;   ///< in the metric of the outputs' empirical Fisher matrix
    bool features = true;  ///< random features fill up where fewer units than asked for are significant
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
    const Problem problem(ctx, options_, site);
    Choice choice;
    choice.damping = site.damping.value_or(usual_damping);
    // Where no unit is wanted there is nothing to validate.
    if (!site.damping && site.max_units > 0) {
      choice.damping = cross_validated_damping(
          ctx, site.n, site.noise, [&](double share, const Tensor<double>& fitted, const Tensor<double>& held_out) {
            return problem.gain(share, fitted, held_out);
          });
    }
    if (site.significance > 0.0) {
      // One draw of the noise scatters about its edge by some per cent: a tenth is added, so that c = 1 seldom lets
      // noise pass.
      const Units<double> edge = problem.units(choice.damping, site.noise, 1, 0.0);
      choice.threshold = edge.lambda.empty() ? 0.0 : site.significance * 1.1 * edge.lambda.front();
    }
    const Units<double> units = problem.units(choice.damping, site.n, site.max_units, choice.threshold);
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
          units.lambda.front(), " does not exceed the threshold ", choice.threshold, " (significance ",
          site.significance, ", ", site.moments.samples, " samples)");
    }
    choice.rescale = true;
    if (options_.fisher) choice.output_metric = to_host(ctx, detail::damped_fisher(ctx, site));
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
      const Tensor<double> m1t = detail::converted_transposed<double, double>(ctx, site.moments.m1.view());
      choice.move_decrease = detail::inner_product<double, double>(ctx, move.view(), m1t.view());
    }
    choice.insertion.units = units.units;
    if (units.units == 0) return choice;
    note_rank(site, choice);
    choice.insertion.fan_in = to_host(ctx, units.fan_in);
    choice.insertion.fan_out = to_host(ctx, units.fan_out);
    if (site.move_weights) choice.insertion.move = to_host(ctx, move);
    if (!site.spatial && !site.moments.m.empty()) {
      Tensor<double> seen(ctx, {units.units, site.outputs});
      gemm(ctx, Transpose::no, Transpose::no, 1, units.fan_in.view(), site.moments.m.view(), 0, seen.view());
      choice.first_order_gain = detail::inner_product<double, double>(ctx, seen.view(), units.fan_out.view());
    }
    return choice;
  }

  [[nodiscard]] std::vector<double> features(Context& ctx, const SiteMoments& site,
                                             const Choice& choice) const override {
    if (!options_.features || options_.fisher || choice.insertion.units >= site.max_units ||
        site.max_units == unlimited)
      return {};
    return detail::feature_fan_ins(ctx, site, choice.insertion);
  }
  void add_features(Context& ctx, const SiteMoments& site, const std::vector<double>& fan_ins,
                    const FeatureMoments& moments, Choice& choice) const override {
    detail::add_features(ctx, site, fan_ins, moments, choice);
  }

 private:
  /// What is solved at one site, for whatever share of damping and whichever samples N is of.
  class Problem {
   public:
    Problem(Context& ctx, const Options& options, const SiteMoments& site)
        : ctx_(ctx), site_(site), options_(options), joint_(options.joint && !site.explained.empty()) {
      if (options.fisher) metric_ = detail::output_metric(ctx, site);
    }

    [[nodiscard]] bool joint() const { return joint_; }

    /// Units for the cross moment n (p, taps q).
    [[nodiscard]] Units<double> units(double damping, const Tensor<double>& n, std::int64_t most,
                                      double threshold) const {
      double resolution = site_.moments.resolution;
      SolveOptions solve{.route = options_.route, .max_units = most};
      Tensor<double> s = clone(ctx_, site_.moments.s);
      damp(ctx_, damping, s);
      std::vector<double> variances = detail::diagonal<double>(ctx_, s.view());
      if (joint_) {
        // Each tap is a sample of its own, as in S.
        gemm(ctx_, Transpose::no, Transpose::yes, -1, site_.explained.view(), site_.explained.view(), 1, s.view());
        resolution *= 16.0;
      }
      const double parts = std::sqrt(site_.moments.goal_norm2);
      if (!options_.fisher) {
        return new_units<double>(ctx_, s, n.view(), solve, threshold, {}, resolution, variances, parts);
      }
      const std::int64_t p = n.extent(0);
      const Tensor<double> scaled = times(ctx_, Transpose::yes, n, site_.outputs, metric_);
      Units<double> units = new_units<double>(ctx_, s, scaled.view().reshape({p, scaled.size() / p}), solve, threshold,
                                              {}, resolution, variances);
      units.fan_out = times(ctx_, Transpose::no, units.fan_out, metric_.extent(0), metric_);
      return units;
    }

    /// What units found from `fitted` are worth for `held_out`.
    [[nodiscard]] double gain(double damping, const Tensor<double>& fitted, const Tensor<double>& held_out) const {
      const Units<double> found = units(damping, fitted, site_.max_units, 0.0);
      if (found.units == 0) return 0.0;
      return detail::gain_of_units(ctx_, found.fan_in.view(),
                                   found.fan_out.view().reshape({found.units, held_out.extent(1)}), held_out.view(),
                                   site_.moments.s.view());
    }

    /// δW*, or E⁺ δW*.
    [[nodiscard]] Tensor<double> move() const {
      Tensor<double> move = clone(ctx_, site_.move.weights);
      if (!options_.fisher || move.empty()) return move;
      Tensor<double> whitened(ctx_, {metric_.extent(0), move.extent(1)});
      gemm(ctx_, Transpose::no, Transpose::no, 1, metric_.view(), site_.move.weights.view(), 0, whitened.view());
      gemm(ctx_, Transpose::yes, Transpose::no, 1, metric_.view(), whitened.view(), 0, move.view());
      return move;
    }

    /// move (q, d) -= Aᵀ P S1⁺ with A = Σ α_k ω_kᵀ, between vectors.
    void subtract_explained(const Units<double>& units, Tensor<double>& move) const {
      if (units.units == 0 || move.empty()) return;
      const Tensor<double>& p = site_.moments.cross;
      Tensor<double> seen(ctx_, {units.units, p.extent(1)}), cross(ctx_, {p.extent(1), site_.outputs});
      gemm(ctx_, Transpose::no, Transpose::no, 1, units.fan_in.view(), p.view(), 0, seen.view());
      gemm(ctx_, Transpose::yes, Transpose::no, 1, seen.view(), units.fan_out.view(), 0, cross.view());
      Tensor<double> s1 = clone(ctx_, site_.moments.s1);
      damp(ctx_, site_.consumer_damping, s1);
      const BestMove<double> explained =
          best_move<double>(ctx_, s1.view(), std::as_const(cross).view(), SolveOptions{.route = options_.route},
                            site_.moments.resolution);
      kernels::axpy<double>(ctx_, -1.0, explained.weights, move.view());
    }

   private:
    Context& ctx_;
    const SiteMoments& site_;
    Options options_;
    bool joint_;
    Tensor<double> metric_;
  };

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

}  // namespace meristem::grow
