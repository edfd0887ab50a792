// Definitions of copies.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <meristem/grow/methods/copies.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE Net2Wider::Net2Wider(const Options& options) : options_(options) {
  if (!(options.noise >= 0.0))
    throw ArgumentError(concat("net2wider: the noise is ", options.noise, "; it is 0 or more"));
}

MERISTEM_INLINE Choice Net2Wider::choose(Context& ctx, const SiteMoments& site) const {
  if (site.width == 0) return no_units("no unit added: there is no unit to copy");
  if (site.max_units == 0) return no_units("no unit added: max_units is 0");
  const Philox random = random_of(ctx, site, Draw::sources);
  const std::int64_t units = site.max_units, p = site.inputs, m = site.all_taps * site.outputs;
  std::vector<std::size_t> source;
  std::vector<double> copies(static_cast<std::size_t>(site.width), 1.0);
  for (std::int64_t k = 0; k < units; ++k) {
    source.push_back(
        static_cast<std::size_t>(random.below(static_cast<std::uint64_t>(k), static_cast<std::uint64_t>(site.width))));
    copies[source.back()] += 1.0;
  }
  Choice choice;
  choice.all_taps = true;
  choice.search_amplitude = false;
  choice.choose_signs = false;
  choice.preserves_function = options_.noise == 0.0;
  choice.together = true;
  Insertion& insertion = choice.insertion;
  insertion.units = units;
  insertion.copies.assign(source.begin(), source.end());
  for (const double count : copies) insertion.fan_out_factor.push_back(1.0 / count);
  // Far from the numbers that drew the sources.
  std::uint64_t next = std::uint64_t{1} << 32;
  for (const std::size_t j : source) {
    const double* row = site.fan_in.data() + static_cast<std::int64_t>(j) * p;
    const std::int64_t features = features_of(site);
    const double deviation =
        options_.noise * norm_of(row, features) / std::sqrt(static_cast<double>(std::max<std::int64_t>(features, 1)));
    for (std::int64_t i = 0; i < p; ++i) {
      insertion.fan_in.push_back(row[i] + (deviation > 0.0 && i < features ? deviation * random.normal(next++) : 0.0));
    }
    for (std::int64_t i = 0; i < m; ++i) {
      insertion.fan_out.push_back(site.fan_out[j * static_cast<std::size_t>(m) + static_cast<std::size_t>(i)] /
                                  copies[j]);
    }
    if (site.norm_channels.weight.empty()) continue;
    insertion.mean.push_back(site.norm_channels.mean[j]);
    insertion.variance.push_back(site.norm_channels.variance[j]);
    insertion.norm_weight.push_back(site.norm_channels.weight[j]);
    insertion.norm_shift.push_back(site.norm_channels.shift[j]);
  }
  return choice;
}

MERISTEM_INLINE Choice Paired::choose(Context& ctx, const SiteMoments& site) const {
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
  if (!options_.transfer || site.width == 0) {
    s = 1.0;
  } else if (site.consumer_norm) {
    insertion.consumer_factor = s;
  } else if (site.homogeneous && !site.tied) {
    insertion.fan_out_factor.assign(static_cast<std::size_t>(site.width), s);
    insertion.fan_in_factor.assign(static_cast<std::size_t>(site.width), 1.0 / s);
  } else {
    s = 1.0;
    choice.note =
        "today's weights are not rescaled: no BatchNorm behind the consumer and no homogeneous activation "
        "of a single source would make up for it";
  }
  insertion.units = units;
  const std::vector<double> v = random_rows(random_of(ctx, site, Draw::fan_in), pairs, features_of(site),
                                            fan_in_norm(site, options_.scale), site.unit_bias);
  const std::vector<double> z = random_rows(random_of(ctx, site, Draw::fan_out), pairs, site.all_taps * site.outputs,
                                            s * fan_out_norm(site, options_.scale, units), false);
  insertion.fan_in = v;
  insertion.fan_in.insert(insertion.fan_in.end(), v.begin(), v.end());
  insertion.fan_out = z;
  for (const double value : z) insertion.fan_out.push_back(-value);
  if (site.norm) {
    insertion.norm_weight.assign(static_cast<std::size_t>(units), 1.0);
    insertion.norm_shift.assign(static_cast<std::size_t>(units), 0.0);
  }
  if (units < site.max_units) {
    choice.note += concat(choice.note.empty() ? "" : "; ", "asked for ", site.max_units, " units; pairs make ", units);
  }
  return choice;
}

}  // namespace meristem::grow::detail
