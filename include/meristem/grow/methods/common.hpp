// Scales and random numbers that methods share.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

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

[[nodiscard]] inline double norm_of(const double* values, std::int64_t count) {
  double squares = 0.0;
  for (std::int64_t i = 0; i < count; ++i) squares += values[i] * values[i];
  return std::sqrt(squares);
}

/// Mean norm of today's fan-ins, biases left out; 0 if there are none.
[[nodiscard]] inline double mean_fan_in_norm(const SiteMoments& site) {
  double sum = 0.0;
  for (std::int64_t k = 0; k < site.width; ++k) {
    sum += norm_of(site.fan_in.data() + k * site.inputs, features_of(site));
  }
  return site.width > 0 ? sum / static_cast<double>(site.width) : 0.0;
}

/// Mean norm of today's fan-outs, all taps; 0 if there are none.
[[nodiscard]] inline double mean_fan_out_norm(const SiteMoments& site) {
  if (site.width == 0) return 0.0;
  const std::int64_t each = static_cast<std::int64_t>(site.fan_out.size()) / site.width;
  double sum = 0.0;
  for (std::int64_t k = 0; k < site.width; ++k) sum += norm_of(site.fan_out.data() + k * each, each);
  return sum / static_cast<double>(site.width);
}

/// Norm of a unit's fan-in, biases left out.
[[nodiscard]] inline double fan_in_norm(const SiteMoments& site, UnitScale scale) {
  const double today = scale == UnitScale::copied ? mean_fan_in_norm(site) : 0.0;
  return today > 0.0 ? today : std::sqrt(2.0);
}

/// Norm of a unit's fan-out. Kaiming's variance is 2 over the numbers that an output of the consumer reads once `units`
/// have been added.
[[nodiscard]] inline double fan_out_norm(const SiteMoments& site, UnitScale scale, std::int64_t units) {
  const double today = scale == UnitScale::copied ? mean_fan_out_norm(site) : 0.0;
  if (today > 0.0) return today;
  return std::sqrt(2.0 * static_cast<double>(site.outputs) /
                   static_cast<double>(std::max<std::int64_t>(site.width + units, 1)));
}

/// What random numbers are for; each purpose has its own.
enum class Draw : std::uint64_t { fan_in, fan_out, sources, features };

/// Random numbers that follow from the context's seed, the site's name and today's weights there. None of the context's
/// streams is taken, so that training draws what it would have drawn without growth; training in between changes the
/// weights, and so the numbers of the next growth step.
[[nodiscard]] inline Philox random_of(const Context& ctx, const SiteMoments& site, Draw draw) {
  // FNV-1a (G. Fowler, L. Noll, K. Vo), eight bytes at a time.
  std::uint64_t hash = 0xCBF29CE484222325;
  const auto mix = [&](std::uint64_t word) {
    for (int byte = 0; byte < 8; ++byte) hash = (hash ^ (word >> 8 * byte & 0xFF)) * 0x100000001B3;
  };
  for (const char c : site.name) mix(static_cast<unsigned char>(c));
  for (const std::vector<double>* values : {&site.fan_in, &site.fan_out}) {
    for (const double value : *values) mix(std::bit_cast<std::uint64_t>(value));
  }
  mix(static_cast<std::uint64_t>(draw));
  // Streams that are counted up from 0 never get there.
  return Philox(ctx.seed(), hash | std::uint64_t{1} << 63);
}

/// Rows of normal numbers, each scaled to `norm`; with `bias` one 0 more in each row.
[[nodiscard]] inline std::vector<double> random_rows(const Philox& random, std::int64_t rows, std::int64_t columns,
                                                     double norm, bool bias) {
  std::vector<double> result;
  for (std::int64_t k = 0; k < rows; ++k) {
    const std::size_t begin = result.size();
    for (std::int64_t i = 0; i < columns; ++i) {
      result.push_back(random.normal(static_cast<std::uint64_t>(k * columns + i)));
    }
    const double length = columns > 0 ? norm_of(result.data() + begin, columns) : 0.0;
    for (std::size_t i = begin; i < result.size(); ++i) result[i] *= length > 0.0 ? norm / length : 0.0;
    if (bias) result.push_back(0.0);
  }
  return result;
}

/// A choice of `units` units with fan-outs of zero: nothing changes until training moves these. Behind a BatchNorm the
/// channels have weight 1 and shift 0, and the statistics that are measured.
[[nodiscard]] inline Choice without_fan_out(const SiteMoments& site, std::int64_t units, std::vector<double> fan_in) {
  Choice choice;
  Insertion& insertion = choice.insertion;
  insertion.units = units;
  insertion.fan_in = std::move(fan_in);
  insertion.fan_out.assign(static_cast<std::size_t>(units * site.taps * site.outputs), 0.0);
  if (site.norm) {
    insertion.norm_weight.assign(static_cast<std::size_t>(units), 1.0);
    insertion.norm_shift.assign(static_cast<std::size_t>(units), 0.0);
  }
  choice.search_amplitude = false;
  choice.preserves_function = true;
  return choice;
}

/// How much smaller than today's a fan-in is that stands for zero in front of a ReLU.
inline constexpr double almost_zero = 1e-3;

inline constexpr const char* not_quite_zero =
    "fan-ins are a thousandth of today's, not zero, in front of a ReLU, which lets no gradient pass at 0";

/// A choice of units with fan-ins of zero, whose activations are zero where σ(0) = 0. A BatchNorm sees a channel
/// without variance: its weight is √ε, so that the unit's slope at 0 is that without BatchNorm, however small ε is.
[[nodiscard]] inline Choice without_fan_in(const SiteMoments& site, std::int64_t units, std::vector<double> fan_out) {
  Choice choice;
  Insertion& insertion = choice.insertion;
  insertion.units = units;
  insertion.fan_in.assign(static_cast<std::size_t>(units * site.inputs), 0.0);
  insertion.fan_out = std::move(fan_out);
  if (site.norm) {
    insertion.mean.assign(static_cast<std::size_t>(units), 0.0);
    insertion.variance.assign(static_cast<std::size_t>(units), 0.0);
  }
  choice.search_amplitude = false;
  choice.preserves_function = true;
  return choice;
}

/// A choice of units in front of a ReLU, whose gradient at 0 is 0: units with fan-ins of zero would stay what they are
/// for ever. They get small ones instead, `almost_zero` times the norm of today's.
[[nodiscard]] inline Choice almost_without_fan_in(std::int64_t units, std::vector<double> fan_in,
                                                  std::vector<double> fan_out) {
  Choice choice;
  choice.insertion.units = units;
  choice.insertion.fan_in = std::move(fan_in);
  choice.insertion.fan_out = std::move(fan_out);
  choice.search_amplitude = false;
  choice.note = not_quite_zero;
  return choice;
}

/// A choice without units, and why.
[[nodiscard]] inline Choice no_units(std::string why) {
  Choice choice;
  choice.note = std::move(why);
  return choice;
}

}  // namespace detail

}  // namespace meristem::grow
