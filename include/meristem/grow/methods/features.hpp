// Units beyond what is linear in a layer's inputs: random features, of which those are taken that explain most of what
// is left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/moments.hpp>
#include <meristem/grow/solve/shrinkage.hpp>
#include <meristem/grow/solve/units.hpp>

namespace meristem::grow {

namespace detail {

/// Fan-ins (K, p): those of `found` with either sign, then random ones. Random weights are normal in units of each
/// input's own deviation, scaled so that a feature's mean square before the activation is 1, and biases are normal.
[[nodiscard]] Tensor<double> feature_fan_ins(Context& ctx, const SiteMoments& site, const Insertion& found);

/// Features picked one after the other, each the one that explains most of what those before it leave: orthogonal least
/// squares (S. Chen, S. Billings, W. Luo, "Orthogonal least squares methods and their application to non-linear system
/// identification", 1989).
struct PickedFeatures {
  std::vector<std::int64_t> which;
  std::vector<double> fan_out;  ///< of those (units, q)
  double gain = 0.0;            ///< what they explain together
  double next = 0.0;            ///< root of what the best of the others would explain
};

/// `c` (K, K) and `g` (K, q): covariance of the features and their cross moment with the residual, both less what
/// today's weights make of them. The first `taken` features explain what they can before any is picked; a picked one
/// explains more than threshold². `ridge` counts in units of each feature's own variance.
[[nodiscard]] PickedFeatures pick_features(std::vector<double> c, std::vector<double> g, std::size_t count,
                                           std::size_t outputs, std::size_t taken, std::int64_t most, double threshold,
                                           double ridge);

/// Root of what the best of the features behind the first `taken` explains of noise: the most in nine draws of cross
/// moments that a residual independent of the inputs would give, normal with the covariance C / n between features and
/// `residual` between outputs. A tenth of all cases of such noise reaches past it. `c` (K, K) is as in `pick_features`,
/// `residual` (q, q) the second moment of what is left of the desired update, over n samples.
///
/// Independence is the point. Random signs, which grant every sample noise of its own size, let the few samples with
/// large residuals and large features speak: where the loss is all in the tails of the inputs, as it is late in a
/// regression, they ask of a feature ten times as much, and nothing is significant while most of the loss can be
/// explained.
[[nodiscard]] double feature_noise(Context& ctx, const SiteMoments& site, const std::vector<double>& c,
                                   const Tensor<double>& residual, std::int64_t samples, std::size_t taken);

/// Adds to a choice the features that are significant, until it has as many units as were asked for. `fan_ins` are
/// those of `features`, the found units' with either sign first. A feature is significant if it explains more than
/// `feature_noise`.
void add_features(Context& ctx, const SiteMoments& site, const Tensor<double>& fan_ins, const Moments<double>& features,
                  Choice& choice);

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/features_impl.hpp>
#endif
