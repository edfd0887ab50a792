// SENN: units that raise the natural expansion score of the network.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/methods/tiny.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>

namespace meristem::grow {

/// The natural expansion score η = gᵀ F⁻¹ g at one site, with the Fisher matrix F as a Kronecker product of second
/// moments of inputs and of output gradients.
struct NaturalScore {
  double current = 0.0;        ///< of today's weights: tr(M1ᵀ S1⁺ M1 E⁺)
  double added = 0.0;          ///< what `units` more units raise it by: Σ λ²
  std::vector<double> lambda;  ///< singular values of S⊥^{-1/2} N E^{-1/2}, descending
  std::int64_t units = 0;

  /// By which share the units raise the score.
  [[nodiscard]] double ratio() const { return added > 0.0 ? added / current : 0.0; }
};

/// R. Mitchell, R. Menzenbach, K. Kersting, M. Mundt, "Self-expanding neural networks" (2023): units with the fan-ins
/// that raise the natural expansion score most, S⊥^{-1/2} u_k with the triplets of S⊥^{-1/2} N E^{-1/2}, at the scale
/// of today's weights, and fan-outs of zero; only where the score grows by more than `least_ratio` of itself.
///
/// The paper sets the thresholds of the score for each experiment; 0.01, the default of `least_ratio`, is this
/// library's own choice. Fan-ins are the best ones of the activation linearised at 0. Only width grows, not depth.
class Senn final : public GrowthMethod {
 public:
  struct Options {
    double least_ratio = 0.01;
    UnitScale scale = UnitScale::copied;
    Route route = Route::cholesky;
  };

  explicit Senn(const Options& options)
      : options_(options), tiny_(Tiny::Options{.route = options.route, .joint = true, .fisher = true}) {}

  [[nodiscard]] std::string name() const override { return "senn"; }
  [[nodiscard]] Needs needs() const override { return tiny_.needs(); }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    Choice found = tiny_.choose(ctx, site);
    if (found.insertion.units == 0) return found;
    const NaturalScore score = score_of(ctx, site, found);
    if (!(score.ratio() > options_.least_ratio)) {
      Choice none = detail::no_units(concat("no unit added: ", score.units,
                                            " units would raise the natural expansion "
                                            "score by ",
                                            score.ratio(), " of itself, not more than ", options_.least_ratio));
      none.lambda = std::move(found.lambda);
      none.threshold = found.threshold;
      return none;
    }
    std::vector<double> fan_in = std::move(found.insertion.fan_in);
    const double norm = detail::fan_in_norm(site, options_.scale);
    for (std::int64_t k = 0; k < score.units; ++k) {
      double* row = fan_in.data() + k * site.inputs;
      const double length = detail::norm_of(row, detail::features_of(site));
      for (std::int64_t i = 0; i < site.inputs; ++i) row[i] *= length > 0.0 ? norm / length : 1.0;
    }
    Choice choice = detail::without_fan_out(site, score.units, std::move(fan_in));
    choice.lambda = std::move(found.lambda);
    choice.threshold = found.threshold;
    choice.gain = found.gain;
    choice.note = std::move(found.note);
    return choice;
  }

  /// The score of a site whose statistics were gathered as `needs` says, for at most site.max_units more units.
  [[nodiscard]] NaturalScore score(Context& ctx, const SiteMoments& site) const {
    return score_of(ctx, site, tiny_.choose(ctx, site));
  }

 private:
  [[nodiscard]] static NaturalScore score_of(Context& ctx, const SiteMoments& site, const Choice& found) {
    NaturalScore result;
    result.lambda = found.lambda;
    result.units = found.insertion.units;
    result.added = found.gain;
    if (site.move.weights.empty()) return result;
    const Tensor<double> metric = detail::output_metric(ctx, site);
    const Tensor<double> m1t = detail::converted_transposed<double, double>(ctx, site.moments.m1.view());
    const auto in_metric = [&](View<const double> a) {
      Tensor<double> product(ctx, {metric.extent(0), a.extent(1)});
      gemm(ctx, Transpose::no, Transpose::no, 1, metric.view(), a, 0, product.view());
      return product;
    };
    const Tensor<double> move = in_metric(site.move.weights.view()), goal = in_metric(m1t.view());
    result.current = detail::inner_product<double, double>(ctx, move.view(), goal.view());
    return result;
  }

  Options options_;
  Tiny tiny_;
};

/// SENN.
[[nodiscard]] inline Method senn(double least_ratio = 0.01) {
  return make_method<Senn>(Senn::Options{.least_ratio = least_ratio});
}

}  // namespace meristem::grow
