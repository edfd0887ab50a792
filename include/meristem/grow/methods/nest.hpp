// NeST: units between the pairs of inputs and outputs that the gradient would connect first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

namespace detail {

class Nest final : public GrowthMethod {
 public:
  struct Options {
    double strength = 0.3;
    std::int64_t pairs = 1;  ///< of an input and an output that one unit connects
  };

  explicit Nest(const Options& options);

  [[nodiscard]] std::string name() const override { return "nest"; }
  [[nodiscard]] Needs needs() const override { return {.goal = true}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override;

 private:
  /// Of today's units, without biases.
  [[nodiscard]] static std::vector<double> fan_ins(Context& ctx, const SiteMoments& site);

  /// Of the entries that are not zero; `otherwise` if there are none.
  [[nodiscard]] static double mean_size(const std::vector<double>& values, double otherwise);

  void scale_to(std::vector<double>& values, double size) const;

  Options options_;
};

}  // namespace detail

/// X. Dai, H. Yin, N. Jha, "NeST: a neural network synthesis tool based on a grow-and-prune paradigm" (IEEE
/// Transactions on Computers, 2019), gradient-based neuron growth: with G = M, a unit for each of the largest |G_ij|
/// has the fan-in α_i = ε sgn(G_ij) √|G_ij| and the fan-out ω_j = ε √|G_ij|, both scaled so that their mean magnitude
/// is `strength` times that of today's weights on their side. The paper draws the units' signs; here the better one is
/// taken where they matter. The amplitude is fixed, and the outputs change.
/// `pairs` of an input and an output are connected by one unit.
[[nodiscard]] inline Method nest(double strength = 0.3, std::int64_t pairs = 1) {
  return std::make_shared<const detail::Nest>(detail::Nest::Options{.strength = strength, .pairs = pairs});
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/nest_impl.hpp>
#endif
