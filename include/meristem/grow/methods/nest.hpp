// NeST: units between the pairs of inputs and outputs that the gradient would connect first.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// X. Dai, H. Yin, N. Jha, "NeST: a neural network synthesis tool based on a grow-and-prune paradigm" (IEEE
/// Transactions on Computers, 2019), gradient-based neuron growth: with G = M, a unit for each of the largest |G_ij|
/// has the fan-in α_i = ε sgn(G_ij) √|G_ij| and the fan-out ω_j = ε √|G_ij|, both scaled so that their mean magnitude
/// is `strength` times that of today's weights on their side. The paper draws the units' signs; here the better one is
/// taken where they matter. The amplitude is fixed, and the outputs change.
class Nest final : public GrowthMethod {
 public:
  struct Options {
    double strength = 0.3;
    std::int64_t pairs = 1;  ///< of an input and an output that one unit connects
  };

  explicit Nest(const Options& options) : options_(options) {
    if (options.pairs < 1 || !(options.strength > 0.0)) {
      throw ArgumentError(concat("nest: a unit connects at least one pair, with a positive strength; got ",
                                 options.pairs, " pairs, strength ", options.strength));
    }
  }

  [[nodiscard]] std::string name() const override { return "nest"; }
  [[nodiscard]] Needs needs() const override { return {.goal = true}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    const std::vector<double> g = to_host(ctx, site.moments.m);
    const std::int64_t columns = site.taps * site.outputs, features = detail::features_of(site);
    // The bias is no neuron to connect.
    std::vector<std::int64_t> order(static_cast<std::size_t>(features * columns));
    std::iota(order.begin(), order.end(), 0);
    const auto size = [&](std::int64_t at) { return std::abs(g[static_cast<std::size_t>(at)]); };
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return size(a) > size(b); });
    const auto dead = std::find_if(order.begin(), order.end(), [&](std::int64_t at) { return size(at) == 0.0; });
    const std::int64_t live = static_cast<std::int64_t>(dead - order.begin());
    const std::int64_t units = std::min(site.max_units, live / options_.pairs);
    if (units == 0) return detail::no_units("no unit added: M is zero, or has fewer entries than a unit has pairs");

    Choice choice;
    choice.search_amplitude = false;
    Insertion& insertion = choice.insertion;
    insertion.units = units;
    insertion.fan_in.assign(static_cast<std::size_t>(units * site.inputs), 0.0);
    insertion.fan_out.assign(static_cast<std::size_t>(units * columns), 0.0);
    for (std::int64_t k = 0; k < units; ++k) {
      for (std::int64_t pair = 0; pair < options_.pairs; ++pair) {
        const std::int64_t at = order[static_cast<std::size_t>(k * options_.pairs + pair)];
        const double value = g[static_cast<std::size_t>(at)], root = std::sqrt(std::abs(value));
        insertion.fan_in[static_cast<std::size_t>(k * site.inputs + at / columns)] += value > 0.0 ? root : -root;
        insertion.fan_out[static_cast<std::size_t>(k * columns + at % columns)] += root;
        choice.gain += value * value;
      }
    }
    for (std::int64_t i = 0; i < std::min<std::int64_t>(live, 1000); ++i) {
      choice.lambda.push_back(size(order[static_cast<std::size_t>(i)]));
    }
    scale_to(insertion.fan_in, mean_size(today(site, true), std::sqrt(2.0 / static_cast<double>(features))));
    const double kaiming = std::sqrt(2.0 / static_cast<double>(site.taps * (site.width + units)));
    scale_to(insertion.fan_out, mean_size(site.fan_out, kaiming));
    if (units < site.max_units) {
      choice.note = concat("asked for ", site.max_units, " units; M has no more than ", live, " entries to connect");
    }
    return choice;
  }

 private:
  [[nodiscard]] static std::vector<double> today(const SiteMoments& site, bool without_bias) {
    std::vector<double> result;
    for (std::int64_t i = 0; i < site.width * site.inputs; ++i) {
      if (without_bias && site.unit_bias && i % site.inputs == site.inputs - 1) continue;
      result.push_back(site.fan_in[static_cast<std::size_t>(i)]);
    }
    return result;
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
    const double factor = options_.strength * size / mean_size(values, 1.0);
    for (double& value : values) value *= factor;
  }

  Options options_;
};

/// NeST with this birth strength.
[[nodiscard]] inline Method nest(double strength = 0.3) {
  return make_method<Nest>(Nest::Options{.strength = strength});
}

}  // namespace meristem::grow
