// Definitions of common.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

inline constexpr const char* not_quite_zero =
    "fan-ins are a thousandth of today's, not zero, in front of a ReLU, which lets no gradient pass at 0";

/// rows(k, i) = normal number k columns + i for the first `columns` of a row, 0 behind them.
struct NormalRows {
  Philox random;
  std::int64_t columns;
  View<double> rows;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const {
    rows(k, i) = i < columns ? random.normal(static_cast<std::uint64_t>(k * columns + i)) : 0.0;
  }
};

/// rows(k, i) *= wanted / lengths[k], or `otherwise` for a row of length 0.
struct ScaleRowsTo {
  View<double> rows;
  const double* lengths;
  double wanted, otherwise;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const {
    rows(k, i) *= lengths[k] > 0.0 ? wanted / lengths[k] : otherwise;
  }
};

/// Mean norm of the first `columns` numbers of rows; 0 if there are none.
[[nodiscard]] MERISTEM_INLINE double mean_length(Context& ctx, const Tensor<double>& rows, std::int64_t columns) {
  if (rows.empty()) return 0.0;
  double sum = 0.0;
  for (const double length : to_host(ctx, row_lengths<double>(ctx, rows.view().slice(1, 0, columns)))) sum += length;
  return sum / static_cast<double>(rows.extent(0));
}

MERISTEM_INLINE double fan_in_norm(Context& ctx, const SiteMoments& site, UnitScale scale) {
  const double today = scale == UnitScale::copied ? mean_length(ctx, site.today->fan_in, features_of(site)) : 0.0;
  return today > 0.0 ? today : std::sqrt(2.0);
}

MERISTEM_INLINE double fan_out_norm(Context& ctx, const SiteMoments& site, UnitScale scale, std::int64_t units) {
  const Tensor<double>& all = site.today->fan_out;
  const double today = scale == UnitScale::copied && !all.empty() ? mean_length(ctx, all, all.extent(1)) : 0.0;
  if (today > 0.0) return today;
  return std::sqrt(2.0 * static_cast<double>(site.outputs) /
                   static_cast<double>(std::max<std::int64_t>(site.width + units, 1)));
}

MERISTEM_INLINE Philox random_of(Context& ctx, const SiteMoments& site, Draw draw) {
  // FNV-1a (G. Fowler, L. Noll, K. Vo), eight bytes at a time.
  std::uint64_t hash = 0xCBF29CE484222325;
  const auto mix = [&](std::uint64_t word) {
    for (int byte = 0; byte < 8; ++byte) hash = (hash ^ (word >> 8 * byte & 0xFF)) * 0x100000001B3;
  };
  for (const char c : site.name) mix(static_cast<unsigned char>(c));
  for (const std::vector<double>& values :
       to_host(ctx, std::vector{site.today->fan_in.view(), site.today->fan_out.view()})) {
    for (const double value : values) mix(std::bit_cast<std::uint64_t>(value));
  }
  mix(static_cast<std::uint64_t>(draw));
  // Streams that are counted up from 0 never get there.
  return Philox(ctx.seed(), hash | std::uint64_t{1} << 63);
}

MERISTEM_INLINE Tensor<double> random_rows(Context& ctx, const Philox& random, std::int64_t rows, std::int64_t columns,
                                           double norm, bool bias) {
  Tensor<double> result(ctx, {rows, columns + (bias ? 1 : 0)});
  if (!result.empty()) for_each(ctx, rows, result.extent(1), NormalRows{random, columns, result.view()});
  scale_rows_to(ctx, norm, columns, 0.0, result);
  return result;
}

MERISTEM_INLINE void scale_rows_to(Context& ctx, double wanted, std::int64_t columns, double otherwise,
                                   Tensor<double>& rows) {
  if (rows.empty()) return;
  const Tensor<double> lengths = row_lengths<double>(ctx, std::as_const(rows).view().slice(1, 0, columns));
  for_each(ctx, rows.extent(0), rows.extent(1), ScaleRowsTo{rows.view(), lengths.data(), wanted, otherwise});
}

/// A choice of as many units as there are fan-ins, at γ = 1.
[[nodiscard]] MERISTEM_INLINE Choice fixed_choice(Tensor<double> fan_in, Tensor<double> fan_out) {
  Choice choice;
  choice.insertion.units = fan_in.extent(0);
  choice.insertion.fan_in = std::move(fan_in);
  choice.insertion.fan_out = std::move(fan_out);
  choice.search_amplitude = false;
  return choice;
}

MERISTEM_INLINE Choice without_fan_out(Context& ctx, const SiteMoments& site, Tensor<double> fan_in) {
  const std::int64_t units = fan_in.extent(0);
  Choice choice = fixed_choice(std::move(fan_in), zeros<double>(ctx, {units, site.taps * site.outputs}));
  if (site.norm) plain_channels(ctx, choice.insertion);
  choice.preserves_function = true;
  return choice;
}

MERISTEM_INLINE void plain_channels(Context& ctx, Insertion& insertion) {
  insertion.norm_weight = Tensor<double>(ctx, {insertion.units});
  kernels::fill<double>(ctx, 1.0, insertion.norm_weight.view());
  insertion.norm_shift = zeros<double>(ctx, {insertion.units});
}

MERISTEM_INLINE Choice without_fan_in(Context& ctx, const SiteMoments& site, Tensor<double> fan_out) {
  const std::int64_t units = fan_out.extent(0);
  Choice choice = fixed_choice(zeros<double>(ctx, {units, site.inputs}), std::move(fan_out));
  if (site.norm) {
    choice.insertion.mean = zeros<double>(ctx, {units});
    choice.insertion.variance = zeros<double>(ctx, {units});
  }
  choice.preserves_function = true;
  return choice;
}

MERISTEM_INLINE Choice almost_without_fan_in(Tensor<double> fan_in, Tensor<double> fan_out) {
  Choice choice = fixed_choice(std::move(fan_in), std::move(fan_out));
  choice.note = not_quite_zero;
  return choice;
}

MERISTEM_INLINE Choice no_units(std::string why) {
  Choice choice;
  choice.note = std::move(why);
  return choice;
}

}  // namespace meristem::grow::detail
