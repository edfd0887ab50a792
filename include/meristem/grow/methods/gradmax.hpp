// GradMax: units that will receive the largest gradients.
#pragma once

#include <string>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/triplets.hpp>

namespace meristem::grow {

namespace detail {

class GradMax final : public GrowthMethod {
 public:
  struct Options {
    /// c. The paper's experiments take the mean norm of today's fan-outs, for which this is 0; those of TINY take 1e-3.
    double norm = 1e-3;
  };

  explicit GradMax(const Options& options) : options_(options) {}

  [[nodiscard]] std::string name() const override { return "gradmax"; }
  [[nodiscard]] Needs needs() const override { return {.goal = true}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override;

 private:
  /// Rows of norm √σ_k to rows of norm `norm`.
  [[nodiscard]] static Tensor<double> unit_rows(Context& ctx, const Tensor<double>& rows, const Triplets& found,
                                                double norm);

  Options options_;
};

}  // namespace detail

/// U. Evci, B. van Merriënboer, T. Unterthiner, M. Vladymyrov, F. Pedregosa, "GradMax: growing neural networks using
/// gradient information" (ICLR 2022): fan-ins of zero, fan-outs c v_k with the leading right singular vectors v_k of M,
/// which maximise the norm of the gradient at the fan-ins, c² σ'(0)² Σ σ_k². Scores are the σ_k, the gain is Σ σ_k².
///
/// In front of a ReLU, which lets no gradient pass at 0, fan-ins are small instead: along the left singular vectors,
/// where the gradient would move them, with the better sign. Behind a BatchNorm, which takes the mean out of a
/// gradient, M is that of inputs less their mean.
/// `norm` is c. The paper's experiments take the mean norm of today's fan-outs, for which this is 0; those of TINY take
/// 1e-3.
[[nodiscard]] inline Method gradmax(double norm = 1e-3) {
  return std::make_shared<const detail::GradMax>(detail::GradMax::Options{.norm = norm});
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/gradmax_impl.hpp>
#endif
