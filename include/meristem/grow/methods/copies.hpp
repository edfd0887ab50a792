// Methods that leave the network's function alone and read no statistics: Net2Wider, and pairs with variance transfer.
#pragma once

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// T. Chen, I. Goodfellow, J. Shlens, "Net2Net: accelerating learning via knowledge transfer" (ICLR 2016),
/// Net2WiderNet: every new unit is a copy of one of today's, drawn at random, and the r_j copies of unit j share its
/// fan-out equally. A BatchNorm's channels are copied with their units. Some noise on the copies' fan-ins lets them
/// part; without noise the outputs stay what they are up to rounding.
/// `noise` is its deviation, in units of the fan-in's root mean square.
[[nodiscard]] Method net2wider(double noise = 1e-3);

/// X. Yuan, P. Savarese, M. Maire, "Accelerated training via incrementally growing neural networks using variance
/// transfer and learning rate adaptation" (NeurIPS 2023): pairs of units with equal random fan-ins v and opposite
/// random fan-outs z, -z, which cancel until training parts them. So that variances carry over to the wider layer, the
/// weights by which the consumer reads today's units get the factor s = √(width / new width).
///
/// The outputs stay what they are: where a BatchNorm stands behind the consumer it takes s out again (its running
/// statistics follow; in training mode up to its epsilon), else today's fan-ins get the factor 1 / s if the activation
/// is homogeneous, and else nothing is rescaled and the note says so.
/// Without `transfer` today's weights stay as they are.
[[nodiscard]] Method paired(UnitScale scale = UnitScale::copied, bool transfer = true);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/copies_impl.hpp>
#endif
