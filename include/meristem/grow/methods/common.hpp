// Scales and random numbers that methods share.
#pragma once

#include <cstdint>
#include <string>

#include <meristem/core/context.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// The scale of a unit's random weights.
enum class UnitScale {
  copied,   ///< that of today's units, their root mean square; Kaiming's if there are none or all are zero
  kaiming,  ///< K. He et al., "Delving deep into rectifiers" (2015): variance 2 / fan-in
};

namespace detail {

/// p without the bias.
[[nodiscard]] inline std::int64_t features_of(const SiteMoments& site) {
  return site.inputs - (site.unit_bias ? 1 : 0);
}

/// Norm of a unit's fan-in, biases left out: the mean of today's.
[[nodiscard]] double fan_in_norm(Context& ctx, const SiteMoments& site, UnitScale scale);

/// Norm of a unit's fan-out. Kaiming's variance is 2 over the numbers that an output of the consumer reads once `units`
/// have been added.
[[nodiscard]] double fan_out_norm(Context& ctx, const SiteMoments& site, UnitScale scale, std::int64_t units);

/// What random numbers are for; each purpose has its own.
enum class Draw : std::uint64_t { fan_in, fan_out, sources, features, feature_noise };

/// Random numbers that follow from the context's seed, the site's name and today's weights there. None of the context's
/// streams is taken, so that training draws what it would have drawn without growth; training in between changes the
/// weights, and so the numbers of the next growth step.
[[nodiscard]] Philox random_of(Context& ctx, const SiteMoments& site, Draw draw);

/// Rows of normal numbers, each scaled to `norm`; with `bias` one 0 more in each row.
[[nodiscard]] Tensor<double> random_rows(Context& ctx, const Philox& random, std::int64_t rows, std::int64_t columns,
                                         double norm, bool bias);

/// Scales rows to the norm `wanted` of their first `columns` numbers; rows of zeros there get the factor `otherwise`.
void scale_rows_to(Context& ctx, double wanted, std::int64_t columns, double otherwise, Tensor<double>& rows);

/// Weight 1 and shift 0 for the channels of new units.
void plain_channels(Context& ctx, Insertion& insertion);

/// A choice of units with fan-outs of zero: nothing changes until training moves these. Behind a BatchNorm the
/// channels have weight 1 and shift 0, and the statistics that are measured.
[[nodiscard]] Choice without_fan_out(Context& ctx, const SiteMoments& site, Tensor<double> fan_in);

/// How much smaller than today's a fan-in is that stands for zero in front of a ReLU.
inline constexpr double almost_zero = 1e-3;

/// A choice of units with fan-ins of zero, whose activations are zero where σ(0) = 0. A BatchNorm sees a channel
/// without variance: its weight is √ε, so that the unit's slope at 0 is that without BatchNorm, however small ε is.
[[nodiscard]] Choice without_fan_in(Context& ctx, const SiteMoments& site, Tensor<double> fan_out);

/// A choice of units in front of a ReLU, whose gradient at 0 is 0: units with fan-ins of zero would stay what they are
/// for ever. They get small ones instead, `almost_zero` times the norm of today's.
[[nodiscard]] Choice almost_without_fan_in(Tensor<double> fan_in, Tensor<double> fan_out);

/// A choice without units, and why.
[[nodiscard]] Choice no_units(std::string why);

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/common_impl.hpp>
#endif
