// Definitions of options.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include <meristem/core/text.hpp>
#include <meristem/grow/measure/measurement.hpp>
#include <meristem/grow/options.hpp>
#include <meristem/grow/units/depth.hpp>
#include <meristem/grow/units/find_sites.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE HowMany rule_of(const GrowerOptions& options) {
  const GrowerOptions usual;
  if (!options.how_many) {
    HowMany rule{.significance = options.significance};
    if (options.max_unit_share > 0.0) {
      rule.share_of_outputs = options.max_unit_share;
    } else {
      rule.at_most = options.max_units;
    }
    return rule;
  }
  const auto refuse = [](const char* option) {
    throw ArgumentError(concat("Grower: how_many and ", option, " are both given; say it in how_many alone"));
  };
  if (options.max_units != usual.max_units) refuse("max_units");
  if (options.max_unit_share != usual.max_unit_share) refuse("max_unit_share");
  if (options.significance != usual.significance) refuse("significance");
  options.how_many->require_valid();
  return *options.how_many;
}

MERISTEM_INLINE void require_options(const GrowerOptions& options) {
  const auto at_least = [](const char* option, double value, double least) {
    if (!(value >= least && std::isfinite(value))) {
      throw ArgumentError(concat("Grower: ", option, " is ", value, "; it must be at least ", least, ", and finite"));
    }
  };
  at_least("max_units", static_cast<double>(options.max_units), 1);
  at_least("max_unit_share", options.max_unit_share, 0);
  at_least("significance", options.significance, 0);
  if (options.damping) at_least("damping", *options.damping, 0);
  at_least("statistics_samples", static_cast<double>(options.statistics_samples), 1);
  at_least("search_samples", static_cast<double>(options.search_samples), 1);
  at_least("search_memory", static_cast<double>(options.search_memory), 0);
  at_least("batch_size", static_cast<double>(options.batch_size), 1);
  at_least("budget.parameters", static_cast<double>(options.budget.parameters), 1);
  at_least("budget.multiply_adds", static_cast<double>(options.budget.multiply_adds), 1);
  options.amplitude.require_valid();
  options.line_search.require_valid();
  options.until.require_valid();
  const HowMany rule = rule_of(options);
  if (options.adaptive_samples) {
    at_least("adaptive_samples.first", static_cast<double>(options.adaptive_samples->first), 1);
    const double factor = options.adaptive_samples->factor;
    if (!(factor > 1.0 && std::isfinite(factor))) {
      throw ArgumentError(concat("Grower: adaptive_samples.factor is ", factor,
                                 "; it must be above 1, or the number of samples does not grow, and finite"));
    }
    if (rule.significance == 0.0) {
      throw ArgumentError(
          "Grower: adaptive_samples follow from the threshold on the singular values, and a significance of 0 sets "
          "none; "
          "give a significance, or no adaptive_samples");
    }
  }
  if (options.amplitude.fixed && !(options.line_search == LineSearchOptions{})) {
    throw ArgumentError(
        "Grower: amplitude.fixed leaves nothing to search for, and line_search is given too; give one of them");
  }
  for (const auto& [name, width] : rule.targets) {
    if (!options.sites.empty() && std::find(options.sites.begin(), options.sites.end(), name) == options.sites.end()) {
      throw ArgumentError(concat("Grower: how_many has a target width of ", width, " for ", name,
                                 ", which is not among the sites that may grow: ", listed(options.sites)));
    }
  }
}

template <Real T>
std::vector<Site<T>> sites_of(nn::Layer<T>& network, const GrowerOptions& options) {
  for (const std::string& name : options.sites) (void)find_site(network, name, options.widths);
  for (const auto& [name, width] : rule_of(options).targets) {
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
  const bool deepens = options.depth == Depth::grows;
  if (deepens && find_places(network, options.widths).empty()) {
    throw ArgumentError(
        concat("Grower: depth grows, but the network has no place for a block; it needs a residual block of two affine "
               "layers with an identity shortcut",
               options.widths == Widths::hidden
                   ? ", or, with widths all or none, an activation behind a Linear or Conv2d"
                   : ", or an activation behind a Linear or Conv2d with at most one BatchNorm between"));
  }
  if (sites.empty() && !deepens) {
    throw ArgumentError(
        "Grower: the network has no layer that can grow; it needs a Linear or Conv2d, at most one BatchNorm, "
        "activation, pooling and Flatten, and another Linear or Conv2d in a row");
  }
  for (const Site<T>& site : sites) {
    require_served(site, options.method);
    if (site.tied() && options.amplitude.normalization == Normalization::matched) {
      throw ArgumentError(
          concat("Grower: amplitude.normalization is matched, which compares units with the outputs of "
                 "one consumer, and the stream of ",
                 site.name, " has several; choose another, or let hidden widths alone grow"));
    }
  }
  return sites;
}

}  // namespace meristem::grow::detail
