// Units with random weights on one side and none on the other: the baseline.
#pragma once

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// Random units, the baseline of U. Evci et al., "GradMax: growing neural networks using gradient information" (ICLR
/// 2022), "Random": one side normally distributed at the scale of today's weights, the other zero. Reads no statistics.
[[nodiscard]] Method random_units(UnitScale scale = UnitScale::copied);
/// The other way round: random fan-outs, fan-ins of zero.
[[nodiscard]] Method random_fan_outs(UnitScale scale = UnitScale::copied);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/random_impl.hpp>
#endif
