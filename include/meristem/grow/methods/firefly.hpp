// Firefly: candidates are trained for a moment, and the best are kept.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

namespace detail {

class Firefly final : public GrowthMethod {
 public:
  struct Options {
    int steps = 3;                ///< passes over the samples in which candidates are trained
    std::int64_t candidates = 2;  ///< for each unit wanted
    double rate = 1.0;
    UnitScale scale = UnitScale::copied;
  };

  explicit Firefly(const Options& options);

  [[nodiscard]] std::string name() const override { return "firefly"; }
  [[nodiscard]] Needs needs() const override { return {}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override;

  [[nodiscard]] int candidate_passes() const override { return options_.steps; }

  void refine(Context& ctx, const SiteMoments& site, const Gradients& gradients, int pass, Choice& choice) const override;

 private:
  /// Each row one step along its gradient, then back to its norm.
  void turn(Context& ctx, Tensor<double>& rows, const Tensor<double>& gradients) const;

  Options options_;
};

}  // namespace detail

/// L. Wu, B. Liu, P. Stone, Q. Liu, "Firefly neural architecture descent: a general approach for growing neural
/// networks" (NeurIPS 2020), growing wider by new neurons: more random candidates than units wanted are trained for a
/// few steps with their norms held, by the gradient of the loss as it is at vanishing amplitude, and those that lower
/// the loss most to first order are kept.
///
/// A step turns fan-in and fan-out by `rate` times their length along their gradient over all samples of a pass; the
/// paper takes minibatches. The score of a candidate is its first-order decrease D_k. Without the paper's other
/// candidates, splits of today's neurons into two that part by ±δ: these change nothing to first order in δ, and the
/// curvature that they are chosen by is not among the statistics of a site.
/// `steps` are passes over the samples in which candidates are trained, of which there are `candidates` for each unit
/// wanted.
[[nodiscard]] inline Method firefly(int steps = 3, std::int64_t candidates = 2, double rate = 1.0,
                                    UnitScale scale = UnitScale::copied) {
  return std::make_shared<const detail::Firefly>(
      detail::Firefly::Options{.steps = steps, .candidates = candidates, .rate = rate, .scale = scale});
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/firefly_impl.hpp>
#endif
