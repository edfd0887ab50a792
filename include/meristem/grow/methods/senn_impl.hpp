// Definitions of senn.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/methods/senn.hpp>
#include <meristem/grow/methods/tiny.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>

namespace meristem::grow::detail {

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

class Senn final : public GrowthMethod {
 public:
  Senn(double least_ratio, UnitScale scale, Route route)
      : least_ratio_(least_ratio), scale_(scale), tiny_(Tiny::Options{.route = route, .joint = true, .fisher = true}) {}

  [[nodiscard]] std::string name() const override { return "senn"; }
  [[nodiscard]] Needs needs() const override { return tiny_.needs(); }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    Choice found = tiny_.choose(ctx, site);
    if (found.insertion.units == 0) return found;
    const NaturalScore score = score_of(ctx, site, found);
    if (!(score.ratio() > least_ratio_)) {
      Choice none = no_units(concat("no unit added: ", score.units,
                                    " units would raise the natural expansion "
                                    "score by ",
                                    score.ratio(), " of itself, not more than ", least_ratio_));
      none.lambda = std::move(found.lambda);
      none.threshold = found.threshold;
      return none;
    }
    Tensor<double> fan_in = std::move(found.insertion.fan_in);
    scale_rows_to(ctx, fan_in_norm(ctx, site, scale_), features_of(site), 1.0, fan_in);
    Choice choice = without_fan_out(ctx, site, std::move(fan_in));
    choice.lambda = std::move(found.lambda);
    choice.threshold = found.threshold;
    choice.gain = found.gain;
    choice.note = std::move(found.note);
    return choice;
  }

 private:
  [[nodiscard]] static NaturalScore score_of(Context& ctx, const SiteMoments& site, const Choice& found) {
    NaturalScore result;
    result.lambda = found.lambda;
    result.units = found.insertion.units;
    result.added = found.gain;
    if (site.move.weights.empty()) return result;
    const Tensor<double> metric = output_metric(ctx, site);
    const Tensor<double> m1t = converted_transposed<double, double>(ctx, site.moments.m1.view());
    const auto in_metric = [&](View<const double> a) {
      Tensor<double> product(ctx, {metric.extent(0), a.extent(1)});
      gemm(ctx, Transpose::no, Transpose::no, 1, metric.view(), a, 0, product.view());
      return product;
    };
    const Tensor<double> move = in_metric(site.move.weights.view()), goal = in_metric(m1t.view());
    result.current = inner_product<double, double>(ctx, move.view(), goal.view());
    return result;
  }

  double least_ratio_;
  UnitScale scale_;
  Tiny tiny_;
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE Method senn(double least_ratio, UnitScale scale, Route route) {
  return std::make_shared<const detail::Senn>(least_ratio, scale, route);
}

}  // namespace meristem::grow
