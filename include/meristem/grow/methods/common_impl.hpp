// Definitions of common.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <utility>

#include <meristem/grow/methods/common.hpp>

namespace meristem::grow::detail {

inline constexpr const char* not_quite_zero =
    "fan-ins are a thousandth of today's, not zero, in front of a ReLU, which lets no gradient pass at 0";

MERISTEM_INLINE double norm_of(const double* values, std::int64_t count) {
  double squares = 0.0;
  for (std::int64_t i = 0; i < count; ++i) squares += values[i] * values[i];
  return std::sqrt(squares);
}

MERISTEM_INLINE double mean_fan_in_norm(const SiteMoments& site) {
  double sum = 0.0;
  for (std::int64_t k = 0; k < site.width; ++k) {
    sum += norm_of(site.fan_in.data() + k * site.inputs, features_of(site));
  }
  return site.width > 0 ? sum / static_cast<double>(site.width) : 0.0;
}

/// Mean norm of today's fan-outs, all taps; 0 if there are none.
[[nodiscard]] MERISTEM_INLINE double mean_fan_out_norm(const SiteMoments& site) {
  if (site.width == 0) return 0.0;
  const std::int64_t each = static_cast<std::int64_t>(site.fan_out.size()) / site.width;
  double sum = 0.0;
  for (std::int64_t k = 0; k < site.width; ++k) sum += norm_of(site.fan_out.data() + k * each, each);
  return sum / static_cast<double>(site.width);
}

MERISTEM_INLINE double fan_out_norm(const SiteMoments& site, UnitScale scale, std::int64_t units) {
  const double today = scale == UnitScale::copied ? mean_fan_out_norm(site) : 0.0;
  if (today > 0.0) return today;
  return std::sqrt(2.0 * static_cast<double>(site.outputs) /
                   static_cast<double>(std::max<std::int64_t>(site.width + units, 1)));
}

MERISTEM_INLINE Philox random_of(const Context& ctx, const SiteMoments& site, Draw draw) {
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

MERISTEM_INLINE std::vector<double> random_rows(const Philox& random, std::int64_t rows, std::int64_t columns,
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

MERISTEM_INLINE Choice without_fan_out(const SiteMoments& site, std::int64_t units, std::vector<double> fan_in) {
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

MERISTEM_INLINE Choice without_fan_in(const SiteMoments& site, std::int64_t units, std::vector<double> fan_out) {
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

MERISTEM_INLINE Choice almost_without_fan_in(std::int64_t units, std::vector<double> fan_in,
                                             std::vector<double> fan_out) {
  Choice choice;
  choice.insertion.units = units;
  choice.insertion.fan_in = std::move(fan_in);
  choice.insertion.fan_out = std::move(fan_out);
  choice.search_amplitude = false;
  choice.note = not_quite_zero;
  return choice;
}

MERISTEM_INLINE Choice no_units(std::string why) {
  Choice choice;
  choice.note = std::move(why);
  return choice;
}

}  // namespace meristem::grow::detail
