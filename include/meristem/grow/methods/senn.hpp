// SENN: units that raise the natural expansion score of the network.
#pragma once

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// R. Mitchell, R. Menzenbach, K. Kersting, M. Mundt, "Self-expanding neural networks" (2023): units with the fan-ins
/// that raise the natural expansion score most, S⊥^{-1/2} u_k with the triplets of S⊥^{-1/2} N E^{-1/2}, at the scale
/// of today's weights, and fan-outs of zero; only where the score grows by more than `least_ratio` of itself.
///
/// The paper sets the thresholds of the score for each experiment; 0.01, the default of `least_ratio`, is this
/// library's own choice. Fan-ins are the best ones of the activation linearised at 0. Only width grows, not depth.
[[nodiscard]] Method senn(double least_ratio = 0.01, UnitScale scale = UnitScale::copied,
                          Route route = Route::cholesky);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/senn_impl.hpp>
#endif
