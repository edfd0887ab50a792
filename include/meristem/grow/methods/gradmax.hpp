// GradMax: units that will receive the largest gradients.
#pragma once

#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// U. Evci, B. van Merriënboer, T. Unterthiner, M. Vladymyrov, F. Pedregosa, "GradMax: growing neural networks using
/// gradient information" (ICLR 2022): fan-ins of zero, fan-outs c v_k with the leading right singular vectors v_k of M,
/// which maximise the norm of the gradient at the fan-ins, c² σ'(0)² Σ σ_k². Scores are the σ_k, the gain is Σ σ_k².
///
/// In front of a ReLU, which lets no gradient pass at 0, fan-ins are small instead: along the left singular vectors,
/// where the gradient would move them, with the better sign. Behind a BatchNorm, which takes the mean out of a
/// gradient, M is that of inputs less their mean.
/// `norm` is c. The paper's experiments take the mean norm of today's fan-outs, for which this is 0; those of TINY take
/// 1e-3.
[[nodiscard]] Method gradmax(double norm = 1e-3);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/gradmax_impl.hpp>
#endif
