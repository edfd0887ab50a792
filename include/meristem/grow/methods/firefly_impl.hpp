// Definitions of firefly.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/methods/firefly.hpp>

namespace meristem::grow::detail {

/// rows(k, i) += rate |row| / |gradient| gradient(k, i), where both have a length.
struct StepAlong {
  View<double> rows;
  const double *gradients, *lengths, *slopes;
  double rate;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const {
    if (!(lengths[k] > 0.0 && slopes[k] > 0.0)) return;
    rows(k, i) += rate * lengths[k] / slopes[k] * gradients[k * rows.extent(1) + i];
  }
};

/// Brings rows that took the step back to the length they had.
struct KeepLength {
  View<double> rows;
  const double *lengths, *slopes, *now;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const {
    if (lengths[k] > 0.0 && slopes[k] > 0.0) rows(k, i) *= now[k] > 0.0 ? lengths[k] / now[k] : 1.0;
  }
};

class Firefly final : public GrowthMethod {
 public:
  Firefly(int steps, std::int64_t candidates, double rate, UnitScale scale)
      : steps_(steps), candidates_(candidates), rate_(rate), scale_(scale) {
    if (steps >= 0 && candidates >= 1 && rate > 0.0) return;
    throw ArgumentError(
        concat("firefly: needs 0 or more steps, 1 or more candidates for each unit and a positive rate; got ", steps,
               ", ", candidates, " and ", rate));
  }

  [[nodiscard]] std::string name() const override { return "firefly"; }
  [[nodiscard]] Needs needs() const override { return {}; }
  [[nodiscard]] int candidate_passes() const override { return steps_ + 1; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    if (site.max_units == 0) return no_units("no unit added: max_units is 0");
    const std::int64_t count = candidates_ * site.max_units;
    Choice choice;
    choice.insertion.units = count;
    choice.insertion.fan_in = random_rows(ctx, random_of(ctx, site, Draw::fan_in), count, features_of(site),
                                          fan_in_norm(ctx, site, scale_), site.unit_bias);
    choice.insertion.fan_out = random_rows(ctx, random_of(ctx, site, Draw::fan_out), count, site.taps * site.outputs,
                                           fan_out_norm(ctx, site, scale_, site.max_units), false);
    return choice;
  }

  void refine(Context& ctx, const SiteMoments& site, const Gradients& gradients, int pass,
              Choice& choice) const override {
    Insertion& insertion = choice.insertion;
    if (pass < steps_) {
      turn(ctx, insertion.fan_in, gradients.fan_in);
      turn(ctx, insertion.fan_out, gradients.fan_out);
      return;
    }
    std::vector<std::int64_t> order(gradients.gain.size()), kept;
    std::iota(order.begin(), order.end(), std::int64_t{0});
    const auto gain = [&](std::int64_t k) { return gradients.gain[static_cast<std::size_t>(k)]; };
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return gain(a) > gain(b); });
    choice.lambda.clear();
    for (const std::int64_t k : order) {
      choice.lambda.push_back(gain(k));
      if (std::ssize(kept) == site.max_units || !(gain(k) > 0.0)) continue;
      kept.push_back(k);
      choice.gain += gain(k);
    }
    keep(ctx, insertion, kept);
    if (insertion.units == 0) choice.note = "no unit added: no candidate lowers the loss";
  }

 private:
  /// Each row one step along its gradient, then back to its norm.
  void turn(Context& ctx, Tensor<double>& rows, const Tensor<double>& gradients) const {
    const View<const double> before = std::as_const(rows).view();
    const Tensor<double> lengths = row_lengths<double>(ctx, before),
                         slopes = row_lengths<double>(ctx, gradients.view());
    for_each(ctx, rows.extent(0), rows.extent(1),
             StepAlong{rows.view(), gradients.data(), lengths.data(), slopes.data(), rate_});
    const Tensor<double> now = row_lengths<double>(ctx, before);
    for_each(ctx, rows.extent(0), rows.extent(1), KeepLength{rows.view(), lengths.data(), slopes.data(), now.data()});
  }

  int steps_;
  std::int64_t candidates_;  // for each unit wanted
  double rate_;
  UnitScale scale_;
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE Method firefly(int steps, std::int64_t candidates, double rate, UnitScale scale) {
  return std::make_shared<const detail::Firefly>(steps, candidates, rate, scale);
}

}  // namespace meristem::grow
