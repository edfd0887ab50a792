// Definitions of nest.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/nest.hpp>

namespace meristem::grow::detail {

class Nest final : public GrowthMethod {
 public:
  Nest(double strength, std::int64_t pairs) : strength_(strength), pairs_(pairs) {
    if (pairs >= 1 && strength > 0.0) return;
    throw ArgumentError(concat("nest: a unit connects at least one pair, with a positive strength; got ", pairs,
                               " pairs, strength ", strength));
  }

  [[nodiscard]] std::string name() const override { return "nest"; }
  [[nodiscard]] Needs needs() const override { return {.goal = true}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    const std::vector<double> g = to_host(ctx, site.moments.m);
    const std::int64_t columns = site.taps * site.outputs, features = features_of(site);
    // The bias is no neuron to connect.
    std::vector<std::int64_t> order(static_cast<std::size_t>(features * columns));
    std::iota(order.begin(), order.end(), 0);
    const auto size = [&](std::int64_t at) { return std::abs(g[static_cast<std::size_t>(at)]); };
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return size(a) > size(b); });
    const auto dead = std::find_if(order.begin(), order.end(), [&](std::int64_t at) { return size(at) == 0.0; });
    const std::int64_t live = static_cast<std::int64_t>(dead - order.begin());
    const std::int64_t units = std::min(site.max_units, live / pairs_);
    if (units == 0) return no_units("no unit added: M is zero, or has fewer entries than a unit has pairs");

    Choice choice;
    choice.search_amplitude = false;
    Insertion& insertion = choice.insertion;
    insertion.units = units;
    std::vector<double> fan_in(static_cast<std::size_t>(units * site.inputs), 0.0);
    std::vector<double> fan_out(static_cast<std::size_t>(units * columns), 0.0);
    for (std::int64_t k = 0; k < units; ++k) {
      for (std::int64_t pair = 0; pair < pairs_; ++pair) {
        const std::int64_t at = order[static_cast<std::size_t>(k * pairs_ + pair)];
        const double value = g[static_cast<std::size_t>(at)], root = std::sqrt(std::abs(value));
        fan_in[static_cast<std::size_t>(k * site.inputs + at / columns)] += value > 0.0 ? root : -root;
        fan_out[static_cast<std::size_t>(k * columns + at % columns)] += root;
        choice.gain += value * value;
      }
    }
    for (std::int64_t i = 0; i < std::min<std::int64_t>(live, 1000); ++i) {
      choice.lambda.push_back(size(order[static_cast<std::size_t>(i)]));
    }
    scale_to(fan_in, mean_size(fan_ins(ctx, site), std::sqrt(2.0 / static_cast<double>(features))));
    const double kaiming = std::sqrt(2.0 / static_cast<double>(site.taps * (site.width + units)));
    scale_to(fan_out, mean_size(to_host(ctx, site.today->fan_out), kaiming));
    insertion.fan_in = from_host<double>(ctx, {units, site.inputs}, fan_in);
    insertion.fan_out = from_host<double>(ctx, {units, columns}, fan_out);
    if (units < site.max_units) {
      choice.note = concat("asked for ", site.max_units, " units; M has no more than ", live, " entries to connect");
    }
    return choice;
  }

 private:
  /// Of today's units, without biases.
  [[nodiscard]] static std::vector<double> fan_ins(Context& ctx, const SiteMoments& site) {
    std::vector<std::int64_t> features(static_cast<std::size_t>(features_of(site)));
    std::iota(features.begin(), features.end(), 0);
    return to_host(ctx, slices(ctx, site.today->fan_in, 1, features));
  }

  /// Of the entries that are not zero; `otherwise` if there are none.
  [[nodiscard]] static double mean_size(const std::vector<double>& values, double otherwise) {
    double sum = 0.0, count = 0.0;
    for (const double value : values) {
      sum += std::abs(value);
      count += value != 0.0 ? 1.0 : 0.0;
    }
    return count > 0.0 ? sum / count : otherwise;
  }

  void scale_to(std::vector<double>& values, double size) const {
    const double factor = strength_ * size / mean_size(values, 1.0);
    for (double& value : values) value *= factor;
  }

  double strength_;
  std::int64_t pairs_;  // of an input and an output that one unit connects
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE Method nest(double strength, std::int64_t pairs) {
  return std::make_shared<const detail::Nest>(strength, pairs);
}

}  // namespace meristem::grow
