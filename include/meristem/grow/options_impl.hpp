// Definitions of options.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include <meristem/core/text.hpp>
#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/grow/options.hpp>
#include <meristem/grow/units/depth.hpp>
#include <meristem/grow/units/find_sites.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE void require_options(const GrowerOptions& options) {
  const auto at_least = [](const char* option, double value, double least) {
    if (!(value >= least && std::isfinite(value))) {
      throw ArgumentError(concat("Grower: ", option, " is ", value, "; it must be at least ", least, ", and finite"));
    }
  };
  if (!options.method) throw ArgumentError("Grower: there is no method; give one, such as tiny()");
  if (options.damping) at_least("damping", *options.damping, 0);
  at_least("statistics_samples", static_cast<double>(options.statistics_samples), 1);
  at_least("search_samples", static_cast<double>(options.search_samples), 1);
  at_least("search_memory", static_cast<double>(options.search_memory), 0);
  at_least("batch_size", static_cast<double>(options.batch_size), 1);
  at_least("first_samples", static_cast<double>(options.first_samples), 0);
  options.budget.require_valid();
  options.amplitude.require_valid();
  options.how_many.require_valid();
  if (options.first_samples > 0 && options.how_many.least_significance() == 0.0) {
    throw ArgumentError(
        "Grower: from first_samples on, how many there have to be follows from the threshold on the singular values, "
        "and a significance of 0 sets none; give how_many a significance, or no first_samples");
  }
  for (const auto& [name, width] : options.how_many.targets) {
    if (!options.sites.empty() && std::find(options.sites.begin(), options.sites.end(), name) == options.sites.end()) {
      throw ArgumentError(concat("Grower: how_many has a target width of ", width, " for ", name,
                                 ", which is not among the sites that may grow: ", listed(options.sites)));
    }
  }
}

template <Real T>
std::vector<Site<T>> sites_of(nn::Layer<T>& network, const GrowerOptions& options) {
  for (const std::string& name : options.sites) (void)find_site(network, name, options.widths);
  for (const auto& [name, width] : options.how_many.targets) {
    const Site<T> site = find_site(network, name, options.widths);
    if (site.tied() && site.stream != name) {
      throw ArgumentError(concat("Grower: how_many has a target width of ", width, " for ", name,
                                 ", whose outputs are those of a stream; give it to the stream's first source, ",
                                 site.stream));
    }
  }
  std::vector<Site<T>> sites;
  for (const Site<T>& site : find_sites(network, options.widths)) {
    const auto& names = options.sites;
    if (names.empty() || std::find(names.begin(), names.end(), site.name) != names.end()) sites.push_back(site);
  }
  if (options.depth && find_places(network, options.widths).empty()) {
    throw ArgumentError(
        concat("Grower: depth grows, but the network has no place for a block; it needs a residual block of two affine "
               "layers with an identity shortcut",
               options.widths == Widths::hidden
                   ? ", or, with widths all or none, an activation behind a Linear or Conv2d"
                   : ", or an activation behind a Linear or Conv2d with at most one BatchNorm between"));
  }
  if (sites.empty() && !options.depth) {
    throw ArgumentError(
        "Grower: the network has no layer that can grow; it needs a Linear or Conv2d, at most one BatchNorm, "
        "activation, pooling and Flatten, and another Linear or Conv2d in a row");
  }
  for (const Site<T>& site : sites) {
    require_served(site, options.method);
    if (site.tied() && options.amplitude.matched) {
      throw ArgumentError(
          concat("Grower: amplitude.matched compares units with the outputs of "
                 "one consumer, and the stream of ",
                 site.name, " has several; leave it out, or let hidden widths alone grow"));
    }
  }
  return sites;
}

}  // namespace meristem::grow::detail
