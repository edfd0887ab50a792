// What a Grower is told.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <meristem/grow/history.hpp>
#include <meristem/grow/measure/map_statistics.hpp>
#include <meristem/grow/methods/methods.hpp>
#include <meristem/grow/policy/amplitude.hpp>
#include <meristem/grow/policy/budget.hpp>
#include <meristem/grow/policy/how_many.hpp>
#include <meristem/grow/policy/samples.hpp>
#include <meristem/grow/policy/when.hpp>
#include <meristem/grow/policy/where.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/loss.hpp>

namespace meristem::grow {

struct GrowerOptions {
  Method method = tiny();
  When when = {};  ///< read by Grower::grow_when_due alone
  Where where = Where::all;
  std::vector<std::string> sites = {};  ///< names of the layers that may grow, in any order; none means all that can
  FanOut fan_out = FanOut::full;        ///< of units that a convolution consumes
  std::int64_t max_units = 8;           ///< per site and growth step
  /// If positive, a site gets at most this share of its consumer's outputs, rounded up, in place of max_units.
  double max_unit_share = 0.0;
  double significance = 1.0;  ///< c of the threshold on λ; see SolveOptions
  /// In place of the three above.
  std::optional<HowMany> how_many = std::nullopt;
  std::int64_t statistics_samples = 10'000;  ///< at most
  /// Start with fewer samples and stop as soon as it is clear whether a site has significant units.
  std::optional<AdaptiveSamples> adaptive_samples = std::nullopt;
  std::int64_t search_samples = 1'000;  ///< fixed samples of the line search, apart from those of the statistics
  /// In measuring and line search. Without BatchNorm it changes no result; a BatchNorm normalises each batch by its own
  /// statistics, as in training, and small batches make these noisy.
  std::int64_t batch_size = 512;
  bool move_weights = true;  ///< apply δW as well as the units
  /// The share by which S, S1 and E are damped (see `damp`) before units and moves are solved for: a few hundred
  /// samples say next to nothing about the directions of least variance, which S^{-1/2} weighs most. None chooses it
  /// site by site, by cross-validation.
  std::optional<double> damping = std::nullopt;
  LineSearchOptions line_search = {};  ///< `largest` counts per position of a map
  AmplitudeOptions amplitude = {};
  /// What the line search may keep of the activations in front of the site, which growth there does not change.
  std::int64_t search_memory = std::int64_t{256} << 20;
  Budget budget = {};
  nn::Objective loss = {};  ///< what the network is trained for
  /// Takes sites, numbers of units and amplitudes from a history instead of choosing them: growth step k from its event
  /// k. With the network, data, seed and other options of the run that wrote it, the network gets the same bits.
  std::shared_ptr<const History> replay = nullptr;
};

namespace detail {

/// The rule for the number of units that the options amount to. Throws ArgumentError for options that contradict each
/// other.
[[nodiscard]] inline HowMany rule_of(const GrowerOptions& options) {
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

/// Throws ArgumentError for options outside their range or in contradiction to each other.
inline void require_options(const GrowerOptions& options) {
  const auto at_least = [](const char* option, double value, double least) {
    if (!(value >= least)) {
      throw ArgumentError(concat("Grower: ", option, " is ", value, "; it must be at least ", least));
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
  const HowMany rule = rule_of(options);
  if (options.adaptive_samples) {
    at_least("adaptive_samples.first", static_cast<double>(options.adaptive_samples->first), 1);
    if (!(options.adaptive_samples->factor > 1.0)) {
      throw ArgumentError(concat("Grower: adaptive_samples.factor is ", options.adaptive_samples->factor,
                                 "; it must be above 1, or the number of samples does not grow"));
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

/// The sites that the options name. Throws ArgumentError for names that are none, also in target widths, and for a
/// network without a site.
template <Real T>
[[nodiscard]] std::vector<Site<T>> sites_of(nn::Layer<T>& network, const GrowerOptions& options) {
  for (const std::string& name : options.sites) (void)find_site(network, name);
  for (const auto& [name, width] : rule_of(options).targets) (void)find_site(network, name);
  std::vector<Site<T>> sites;
  for (const Site<T>& site : find_sites(network)) {
    const auto& names = options.sites;
    if (names.empty() || std::find(names.begin(), names.end(), site.name) != names.end()) sites.push_back(site);
  }
  if (sites.empty()) {
    throw ArgumentError(
        "Grower: the network has no layer that can grow; it needs a Linear or Conv2d, at most one BatchNorm, "
        "activation, pooling and Flatten, and another Linear or Conv2d in a row");
  }
  return sites;
}

}  // namespace detail

}  // namespace meristem::grow
