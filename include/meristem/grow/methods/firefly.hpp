// Firefly: candidates are trained for a moment, and the best are kept.
#pragma once

#include <cstdint>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

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
[[nodiscard]] Method firefly(int steps = 3, std::int64_t candidates = 2, double rate = 1.0,
                             UnitScale scale = UnitScale::copied);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/firefly_impl.hpp>
#endif
