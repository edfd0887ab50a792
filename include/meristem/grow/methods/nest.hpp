// NeST: units between the pairs of inputs and outputs that the gradient would connect first.
#pragma once

#include <cstdint>

#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// X. Dai, H. Yin, N. Jha, "NeST: a neural network synthesis tool based on a grow-and-prune paradigm" (IEEE
/// Transactions on Computers, 2019), gradient-based neuron growth: with G = M, a unit for each of the largest |G_ij|
/// has the fan-in α_i = ε sgn(G_ij) √|G_ij| and the fan-out ω_j = ε √|G_ij|, both scaled so that their mean magnitude
/// is `strength` times that of today's weights on their side. The paper draws the units' signs; here the better one is
/// taken where they matter. The amplitude is fixed, and the outputs change.
/// `pairs` of an input and an output are connected by one unit.
[[nodiscard]] Method nest(double strength = 0.3, std::int64_t pairs = 1);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/nest_impl.hpp>
#endif
