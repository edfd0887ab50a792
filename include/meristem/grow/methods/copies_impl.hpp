// Definitions of copies.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/methods/copies.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

/// Noise of a deviation of `noise` times the root mean square of each row, whose length is given.
struct AddNoise {
  Philox random;
  std::uint64_t begin;
  const double* lengths;
  double noise;
  View<double> rows;
  std::int64_t columns;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const {
    const double deviation = noise * lengths[k] / std::sqrt(static_cast<double>(columns));
    if (deviation > 0.0) rows(k, i) += deviation * random.normal(begin + static_cast<std::uint64_t>(k * columns + i));
  }
};

struct DivideRows {
  View<double> rows;
  const double* by;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const { rows(k, i) /= by[k]; }
};

class Net2Wider final : public GrowthMethod {
 public:
  explicit Net2Wider(double noise) : noise_(noise) {
    if (!(noise >= 0.0)) throw ArgumentError(concat("net2wider: the noise is ", noise, "; it is 0 or more"));
  }

  [[nodiscard]] std::string name() const override { return "net2wider"; }
  [[nodiscard]] Needs needs() const override { return {}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    if (site.width == 0) return no_units("no unit added: there is no unit to copy");
    if (site.max_units == 0) return no_units("no unit added: max_units is 0");
    const Philox random = random_of(ctx, site, Draw::sources);
    const std::int64_t units = site.max_units;
    std::vector<std::int64_t> source;
    std::vector<double> copies(static_cast<std::size_t>(site.width), 1.0);
    for (std::int64_t k = 0; k < units; ++k) {
      source.push_back(static_cast<std::int64_t>(
          random.below(static_cast<std::uint64_t>(k), static_cast<std::uint64_t>(site.width))));
      copies[static_cast<std::size_t>(source.back())] += 1.0;
    }
    Choice choice;
    choice.all_taps = true;
    choice.search_amplitude = false;
    choice.choose_signs = false;
    choice.preserves_function = noise_ == 0.0;
    choice.together = true;
    Insertion& insertion = choice.insertion;
    insertion.units = units;
    insertion.copies = source;
    const Tensor<double> counts = from_host<double>(ctx, {site.width}, copies);
    for (double& count : copies) count = 1.0 / count;
    insertion.fan_out_factor = from_host<double>(ctx, {site.width}, copies);
    const NumbersOfUnits& today = *site.today;
    insertion.fan_in = slices(ctx, today.fan_in, 0, source);
    if (noise_ > 0.0) {
      const std::int64_t features = features_of(site);
      const Tensor<double> lengths =
          row_lengths<double>(ctx, std::as_const(insertion.fan_in).view().slice(1, 0, features));
      // Far from the numbers that drew the sources.
      for_each(ctx, units, features,
               AddNoise{random, std::uint64_t{1} << 32, lengths.data(), noise_, insertion.fan_in.view(), features});
    }
    insertion.fan_out = slices(ctx, today.fan_out, 0, source);
    const Tensor<double> shares = slices(ctx, counts, 0, source);
    for_each(ctx, units, insertion.fan_out.extent(1), DivideRows{insertion.fan_out.view(), shares.data()});
    if (today.norm.weight.empty()) return choice;
    insertion.mean = slices(ctx, today.norm.mean, 0, source);
    insertion.variance = slices(ctx, today.norm.variance, 0, source);
    insertion.norm_weight = slices(ctx, today.norm.weight, 0, source);
    insertion.norm_shift = slices(ctx, today.norm.shift, 0, source);
    return choice;
  }

 private:
  double noise_;
};

class Paired final : public GrowthMethod {
 public:
  Paired(UnitScale scale, bool transfer) : scale_(scale), transfer_(transfer) {}

  [[nodiscard]] std::string name() const override { return "paired"; }
  [[nodiscard]] Needs needs() const override { return {}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    const std::int64_t pairs = site.max_units / 2, units = 2 * pairs;
    if (pairs == 0) return no_units(concat("no unit added: pairs need two, max_units is ", site.max_units));
    const double wider = static_cast<double>(site.width + units);
    double s = site.width > 0 ? std::sqrt(static_cast<double>(site.width) / wider) : 1.0;
    Choice choice;
    choice.all_taps = true;
    choice.search_amplitude = false;
    choice.preserves_function = true;
    choice.together = true;
    Insertion& insertion = choice.insertion;
    if (!transfer_ || site.width == 0) {
      s = 1.0;
    } else if (site.consumer_norm) {
      insertion.consumer_factor = s;
    } else if (site.homogeneous && !site.tied) {
      insertion.fan_out_factor = Tensor<double>(ctx, {site.width});
      insertion.fan_in_factor = Tensor<double>(ctx, {site.width});
      kernels::fill<double>(ctx, s, insertion.fan_out_factor.view());
      kernels::fill<double>(ctx, 1.0 / s, insertion.fan_in_factor.view());
    } else {
      s = 1.0;
      choice.note =
          "today's weights are not rescaled: no BatchNorm behind the consumer and no homogeneous activation "
          "of a single source would make up for it";
    }
    insertion.units = units;
    const Tensor<double> v = random_rows(ctx, random_of(ctx, site, Draw::fan_in), pairs, features_of(site),
                                         fan_in_norm(ctx, site, scale_), site.unit_bias);
    Tensor<double> z = random_rows(ctx, random_of(ctx, site, Draw::fan_out), pairs, site.all_taps * site.outputs,
                                   s * fan_out_norm(ctx, site, scale_, units), false);
    insertion.fan_in = stacked(ctx, clone(ctx, v), v);
    Tensor<double> opposite = clone(ctx, z);
    kernels::scale<double>(ctx, -1.0, opposite.view());
    insertion.fan_out = stacked(ctx, std::move(z), opposite);
    if (site.norm) plain_channels(ctx, insertion);
    if (units < site.max_units) {
      choice.note +=
          concat(choice.note.empty() ? "" : "; ", "asked for ", site.max_units, " units; pairs make ", units);
    }
    return choice;
  }

 private:
  UnitScale scale_;
  bool transfer_;  // rescale today's weights
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE Method net2wider(double noise) { return std::make_shared<const detail::Net2Wider>(noise); }

MERISTEM_INLINE Method paired(UnitScale scale, bool transfer) {
  return std::make_shared<const detail::Paired>(scale, transfer);
}

}  // namespace meristem::grow
