// The edit that inserts new units into a network.
#pragma once

#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

/// The edit that inserts the units at amplitude γ: fan-in c √γ α, fan-out √γ ω / c for the split c, and the consumer's
/// weights moved by γ δW.
///
/// Behind a BatchNorm the fan-in gets the norm of today's units instead, and the new channel's running statistics,
/// weight and bias are set from the measured mean and variance of α_kᵀ[b 1] so that the normalised unit is c √γ α_kᵀ[b
/// 1]: in evaluation mode always, in training mode on samples with these statistics. Where norms stand in front of a
/// stream's readers, those make the unit, each once with a split of its own, of what the source feeds them at any
/// amplitude; readers beside them without one have γ in their weights. The norms of a stream's other sources get
/// running mean 0 and variance 1 for them, until they are measured. Throws ShapeError for units that do not fit the
/// site, ArgumentError for an amplitude below 0 and numbers that are not finite.
template <Real T>
[[nodiscard]] Edit<T> make_edit(Context& ctx, const Site<T>& site, const Insertion& insertion, double gamma);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/make_edit_impl.hpp>
#endif
