// NORTH*: units that do what no unit does yet, added where those there are do not repeat each other.
#pragma once

#include <cstdint>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// Effective dimension of the activations of a site, the share of their singular values, those of H / √n with H (n,
/// width), that exceed `epsilon`; the metric φ^ED of K. Maile, E. Rachelson, H. Luga, D. Wilson, "When, where, and how
/// to add new neurons to ANNs" (AutoML 2022). Read from S1, which has to be gathered: of maps H has a row for each
/// position that an output reads. 0 for a site without units.
[[nodiscard]] double effective_dimension(Context& ctx, const SiteMoments& site, double epsilon = 0.01);

/// NORTH*'s trigger: how many units a layer should get now, ⌊width (φ - γ φ_0)⌋ or 0, for its effective dimension φ now
/// and φ_0 when training began.
[[nodiscard]] std::int64_t north_trigger(std::int64_t width, double now, double at_start, double gamma = 0.97);

/// NORTH* of K. Maile et al. (2022), initialisation: fan-ins whose pre-activations are orthogonal to those of today's
/// units and to each other on the samples, αᵀ S w = 0, at the scale of today's weights; fan-outs of zero. With
/// `least_dimension` a site gets no unit while its effective dimension is below that.
/// `epsilon`: see `effective_dimension`.
[[nodiscard]] Method north(double least_dimension = 0.0, UnitScale scale = UnitScale::copied, double epsilon = 0.01);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/north_impl.hpp>
#endif
