// Definitions of grower.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>

#include <meristem/grow/grower.hpp>

namespace meristem::grow {

template <Real T>
Grower<T>::Grower(nn::Layer<T>& network, optim::Optimizer<T>& optimizer, const GrowerOptions& options)
    : growing_{.network = nn::LayerHandle<T>(network),
               .optimizer = &optimizer,
               .options = options,
               .passes = detail::SharedPasses<T>(network, options.loss)} {
  if (&optimizer.network() != &network) {
    throw ArgumentError("Grower: the optimiser is of another network; give the one that was made for this network");
  }
  detail::require_options(options);
  growing_.sites = detail::sites_of(network, options);
  if (sites().empty() && options.when.measures()) {
    throw ArgumentError(concat("Grower: growth is due by ", options.when.describe(),
                               ", but no layer that is there can grow, and the bottleneck is one of layers; give "
                               "another When, or widths"));
  }
  if (!options.budget.must_leave_room || options.replay || sites().empty()) return;
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const Site<T>& site : sites()) least = std::min(least, least_unit_parameters(site));
  require_room("parameters", options.budget.parameters, nn::parameter_count(network), least);
}

template <Real T>
GrowthReport Grower<T>::grow(Context& ctx, const std::type_identity_t<Source>& training_set,
                             const AfterSite& after_site) {
  const auto start = std::chrono::steady_clock::now();
  When& when = growing_.options.when;
  GrowthReport report{.method = options().method->name()};
  const bool compares = picks_best(options().where);
  detail::GrowthStep<T> step(ctx, growing_, training_set);
  for (detail::Turn<T>& turn : step.plan(report)) {
    step.measure(turn);
    step.decide(turn, report);
    for (std::size_t i = 0; i < turn.sites.size(); ++i) {
      report.sites.push_back(step.edit(turn, i));
      if (after_site && !compares) after_site(report.sites.back());
    }
  }
  if (compares) {
    step.report_size(report);
    for (SiteReport& site : report.sites) {
      if (after_site) after_site(site);
    }
  }
  step.finish(report);
  when.grown(report.added(), when.times() ? step.latency() : 0.0);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

template <Real T>
std::optional<GrowthReport> Grower<T>::grow_when_due(Context& ctx, const std::type_identity_t<Source>& training_set,
                                                     When::Progress now, const AfterSite& after_site) {
  now.unexpressed = [&] { return unexpressed(ctx, training_set); };
  const When before = options().when;
  try {
    if (!growing_.options.when(now)) return std::nullopt;
    return grow(ctx, training_set, after_site);
  } catch (...) {
    // The step was not taken, and is still due.
    growing_.options.when = before;
    throw;
  }
}

template <Real T>
std::vector<SiteReport> Grower<T>::probe(Context& ctx, const std::type_identity_t<Source>& training_set) {
  return detail::GrowthStep<T>(ctx, growing_, training_set).probe();
}

template <Real T>
double Grower<T>::unexpressed(Context& ctx, const std::type_identity_t<Source>& training_set) {
  double share = 0.0;
  for (const SiteReport& site : probe(ctx, training_set)) share = std::max(share, site.unexpressed());
  return share;
}

template <Real T>
void Grower<T>::set_budget(const Budget& budget) {
  budget.require_valid();
  Budget& before = growing_.options.budget;
  if (budget.parameters > before.parameters || budget.multiply_adds > before.multiply_adds) {
    growing_.options.when.more_room();
  }
  before = budget;
}

template <Real T>
std::vector<double> Grower<T>::state() const {
  std::vector<double> numbers{static_cast<double>(sites().size()), static_cast<double>(growing_.steps)};
  const auto last = [&](const std::string& turn) {
    const auto found = growing_.turns.find(turn);
    numbers.push_back(found == growing_.turns.end() ? 0.0 : static_cast<double>(found->second));
  };
  for (const Site<T>& site : sites()) last(detail::name_of_turn(site));
  last("");
  const std::vector<double> when = options().when.state();
  numbers.insert(numbers.end(), when.begin(), when.end());
  return numbers;
}

template <Real T>
void Grower<T>::restore(const std::vector<double>& numbers) {
  const std::size_t own = sites().size() + 3;
  if (numbers.size() < own || numbers[0] != static_cast<double>(sites().size())) {
    throw ArgumentError(concat("Grower: the ", numbers.size(), " saved numbers are not those of a Grower with ",
                               sites().size(), " sites; restore it with the same network and sites"));
  }
  growing_.options.when.restore({numbers.begin() + static_cast<std::ptrdiff_t>(own), numbers.end()});
  growing_.steps = static_cast<std::size_t>(numbers[1]);
  for (std::size_t i = 0; i + 2 < own; ++i) {
    const std::string turn = i < sites().size() ? detail::name_of_turn(sites()[i]) : std::string();
    growing_.turns[turn] = static_cast<std::size_t>(numbers[i + 2]);
  }
}

}  // namespace meristem::grow
