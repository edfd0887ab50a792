// Definitions of senn.hpp.
#pragma once

#include <utility>

#include <meristem/grow/methods/senn.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE Senn::Senn(const Options& options)
    : options_(options), tiny_(Tiny::Options{.route = options.route, .joint = true, .fisher = true}) {}

MERISTEM_INLINE Choice Senn::choose(Context& ctx, const SiteMoments& site) const {
  Choice found = tiny_.choose(ctx, site);
  if (found.insertion.units == 0) return found;
  const NaturalScore score = score_of(ctx, site, found);
  if (!(score.ratio() > options_.least_ratio)) {
    Choice none = no_units(concat("no unit added: ", score.units,
                                  " units would raise the natural expansion "
                                  "score by ",
                                  score.ratio(), " of itself, not more than ", options_.least_ratio));
    none.lambda = std::move(found.lambda);
    none.threshold = found.threshold;
    return none;
  }
  Tensor<double> fan_in = std::move(found.insertion.fan_in);
  scale_rows_to(ctx, fan_in_norm(ctx, site, options_.scale), features_of(site), 1.0, fan_in);
  Choice choice = without_fan_out(ctx, site, std::move(fan_in));
  choice.lambda = std::move(found.lambda);
  choice.threshold = found.threshold;
  choice.gain = found.gain;
  choice.note = std::move(found.note);
  return choice;
}

MERISTEM_INLINE NaturalScore Senn::score_of(Context& ctx, const SiteMoments& site, const Choice& found) {
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

}  // namespace meristem::grow::detail
