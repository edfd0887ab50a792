// Definitions of grower.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <span>

#include <meristem/grow/grower.hpp>

namespace meristem::grow {

template <Real T>
Grower<T>::Grower(nn::Layer<T>& network, optim::Optimizer<T>& optimizer, const GrowerOptions& options)
    : network_(network), optimizer_(&optimizer), options_(options), measurer_(network, options.loss) {
  if (&optimizer.network() != &network) {
    throw ArgumentError("Grower: the optimiser is of another network; give the one that was made for this network");
  }
  detail::require_options(options);
  how_many_ = detail::rule_of(options);
  sites_ = detail::sites_of(network, options);
  if (sites_.empty() && options.when.measures()) {
    throw ArgumentError(concat("Grower: growth is due by ", options.when.describe(),
                               ", but no layer that is there can grow, and the bottleneck is one of layers; give "
                               "another When, or widths"));
  }
  if (!options.budget.must_leave_room || options.replay || sites_.empty()) return;
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const Site<T>& site : sites_) least = std::min(least, least_unit_parameters(site));
  require_room("parameters", options.budget.parameters, nn::parameter_count(network), least);
}

template <Real T>
GrowthReport Grower<T>::grow(Context& ctx, const std::type_identity_t<nn::BatchSource<T>>& training_set,
                             const std::function<void(SiteReport&)>& after_site) {
  const auto start = std::chrono::steady_clock::now();
  choose_samples(ctx, training_set);
  see_shapes(ctx, training_set);
  operations_ = 0.0;
  struct LetGo {
    Grower& grower;
    ~LetGo() {
      for (std::size_t i = 0; grower.blocks_ && i < grower.blocks_->size(); ++i) {
        grower.blocks_->close(i, grower.optimizer_);
      }
      grower.blocks_.reset();
    }
  } const let_go{*this};
  const bool deepens = options_.depth == Depth::grows;
  GrowthReport report;
  report.method = options_.method.name();
  if (options_.replay) {
    replay_event(ctx, training_set, report, after_site);
  } else {
    report.where = std::string(name_of(options_.where));
    std::vector<std::size_t> every(sites_.size());
    for (std::size_t i = 0; i < every.size(); ++i) every[i] = i;
    if (options_.where == Where::all) {
      one_after_another(ctx, training_set, every, report, after_site);
    } else if (options_.where == Where::round_robin) {
      // The places for blocks take one turn together, the last.
      const std::vector<std::vector<std::size_t>> all = turns_of(sites_);
      const std::size_t turns = all.size() + (deepens ? 1 : 0), turn = next_site_ % turns;
      if (turn < all.size()) one_after_another(ctx, training_set, all[turn], report, after_site);
      if (turn == all.size()) deepen(ctx, training_set, report, after_site);
      next_site_ = (turn + 1) % turns;
    } else if (options_.where == Where::together) {
      all_at_once(ctx, training_set, every, report, after_site);
    } else {
      best_alone(ctx, training_set, report, after_site);
    }
    const bool every_site = options_.where == Where::all || options_.where == Where::together;
    if (deepens && every_site) deepen(ctx, training_set, report, after_site);
  }
  std::optional<double> latency;
  if (std::isfinite(options_.until.latency)) {
    const nn::Batch<T> one = training_set.batch(ctx, std::span(search_indices_).first(1));
    latency = measure_latency<T>(ctx, *network_, one.inputs);
  }
  until_.after_step(report.added(), latency);
  report.parameters = nn::parameter_count(*network_);
  report.operations = operations_;
  report.seconds = seconds_since(start);
  return report;
}

template <Real T>
std::optional<GrowthReport> Grower<T>::grow_when_due(Context& ctx,
                                                     const std::type_identity_t<nn::BatchSource<T>>& training_set,
                                                     Progress now, const std::function<void(SiteReport&)>& after_site) {
  now.unexpressed = [&] { return unexpressed(ctx, training_set); };
  if (over()) return std::nullopt;
  options_.until.require_validation(now.validation);
  const When when = options_.when;
  const detail::UntilCount before = until_;
  if (!options_.when(now)) return std::nullopt;
  until_.before_step(options_.until, now.validation);
  if (over()) return std::nullopt;
  try {
    return grow(ctx, training_set, after_site);
  } catch (...) {
    // The step was not taken, and is still due.
    options_.when = when;
    until_ = before;
    throw;
  }
}

template <Real T>
std::vector<SiteReport> Grower<T>::probe(Context& ctx, const std::type_identity_t<nn::BatchSource<T>>& training_set) {
  choose_samples(ctx, training_set);
  use_samples(static_cast<std::int64_t>(statistics_indices_.size()));
  const MeasurementOptions options{.method = tiny(), .fan_out = options_.fan_out, .significance = 0.0};
  std::vector<SiteReport> reports;
  for (Proposal& proposal : measured(ctx, training_set, sites_, options, statistics_indices_,
                                     [](const Site<T>&, std::int64_t) { return std::int64_t{0}; })) {
    reports.push_back(std::move(proposal.report));
  }
  return reports;
}

template <Real T>
double Grower<T>::unexpressed(Context& ctx, const std::type_identity_t<nn::BatchSource<T>>& training_set) {
  double share = 0.0;
  for (const SiteReport& site : probe(ctx, training_set)) share = std::max(share, site.unexpressed());
  return share;
}

template <Real T>
void Grower<T>::set_budget(const Budget& budget) {
  GrowerOptions options = options_;
  options.budget = budget;
  detail::require_options(options);
  const Budget& before = options_.budget;
  if (budget.parameters > before.parameters || budget.multiply_adds > before.multiply_adds) until_.more_room();
  options_.budget = budget;
}

template <Real T>
std::vector<double> Grower<T>::state() const {
  std::vector<double> numbers{static_cast<double>(sites_.size()), static_cast<double>(next_site_),
                              static_cast<double>(replayed_), first_step_done_ ? 1.0 : 0.0};
  const std::vector<double> when = options_.when.state();
  const std::vector<double> until = until_.state();
  numbers.insert(numbers.end(), when.begin(), when.end());
  numbers.insert(numbers.end(), until.begin(), until.end());
  return numbers;
}

template <Real T>
void Grower<T>::restore(const std::vector<double>& numbers) {
  if (numbers.size() < 4 || numbers[0] != static_cast<double>(sites_.size())) {
    throw ArgumentError(concat("Grower: the ", numbers.size(), " saved numbers are not those of a Grower with ",
                               sites_.size(), " sites; restore it with the same network and sites"));
  }
  // Those of earlier versions end here, or behind what the When remembers.
  const auto rest = numbers.begin() + 4;
  const std::ptrdiff_t left = numbers.end() - rest, when = std::ssize(options_.when.state());
  detail::UntilCount until;
  if (left > when) until.restore({rest + when, numbers.end()});
  if (left > 0) options_.when.restore({rest, rest + std::min(left, when)});
  until_ = until;
  next_site_ = static_cast<std::size_t>(numbers[1]);
  replayed_ = static_cast<std::size_t>(numbers[2]);
  first_step_done_ = numbers[3] != 0.0;
}

template <Real T>
void Grower<T>::choose_samples(Context& ctx, const Source& set) {
  (void)*network_;  // Before the sites' layers are looked at, which are gone with it.
  if (set.size() == chosen_from_) return;
  if (set.size() < 1) throw DataError("Grower: the training set is empty; growth needs samples to measure on");
  const detail::ChosenSamples chosen =
      draw_samples(ctx.seed(), set.size(), options_.search_samples, options_.statistics_samples);
  search_indices_ = chosen.search;
  statistics_indices_ = chosen.statistics;
  chosen_from_ = set.size();
  samples_in_use_ = -1;
}

template <Real T>
void Grower<T>::use_samples(std::int64_t count) {
  if (count != samples_in_use_) measurer_.forget_samples();
  samples_in_use_ = count;
}

template <Real T>
void Grower<T>::see_shapes(Context& ctx, const Source& set) {
  const bool wanted = options_.budget.limits_multiply_adds() || options_.where == Where::best_gain_per_flop;
  if (!wanted && input_shape_.has_value()) return;
  const bool first = !std::exchange(first_step_done_, true);
  const nn::Batch<T> one = set.batch(ctx, std::span(search_indices_).first(1));
  input_shape_ = one.inputs.shape();
  if (wanted) (void)network_->forward(ctx, one.inputs, {.measuring = true, .taps = &shapes_});
  if (!first || !options_.budget.limits_multiply_adds() || !options_.budget.must_leave_room || options_.replay) return;
  if (sites_.empty()) return;
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const Site<T>& site : sites_) least = std::min(least, unit_cost(site, shapes_).multiply_adds);
  require_room("multiply_adds", options_.budget.multiply_adds, multiply_adds(), least);
}

template <Real T>
std::pair<std::int64_t, std::string> Grower<T>::affordable(const Site<T>& site, std::int64_t taps) const {
  const Budget& budget = options_.budget;
  const detail::UnitCost fixed = fixed_cost(site, budget.limits_multiply_adds());
  const std::int64_t by_parameters =
      std::max<std::int64_t>(budget.parameters - fixed.parameters - parameters(), 0) / site.parameters_per_unit(taps);
  std::pair<std::int64_t, std::string> result{by_parameters, concat(budget.parameters, " parameters")};
  if (!budget.limits_multiply_adds()) return result;
  const std::int64_t by_work = std::max<std::int64_t>(budget.multiply_adds - fixed.multiply_adds - multiply_adds(), 0) /
                               std::max<std::int64_t>(unit_cost(site, shapes_).multiply_adds, 1);
  if (by_work < by_parameters) result = {by_work, concat(budget.multiply_adds, " multiply-adds")};
  return result;
}

template <Real T>
std::vector<Proposal> Grower<T>::measured(Context& ctx, const Source& set, const std::vector<Site<T>>& sites,
                                          const MeasurementOptions& options, const std::vector<std::int64_t>& indices,
                                          const MaxUnits& max_units) {
  const auto run = [&](const std::vector<Site<T>>& some) {
    return measurer_.measure(
        ctx, some, options, [&](const auto& use) { set.for_each_batch(ctx, indices, options_.batch_size, use); },
        max_units);
  };
  try {
    std::vector<Proposal> proposals = run(sites);
    operations_ += measurer_.take_operations();
    return proposals;
  } catch (const NumericError&) {
    // Which of the sites it is takes a pass for each.
    for (const Site<T>& site : sites) {
      try {
        measurer_.forget_samples();
        (void)run({site});
      } catch (const NumericError& error) {
        throw NumericError(concat("growth: the statistics of ", site.name, " are of no use: ", error.message(),
                                  "; look at the weights and the data, or lower the learning rate"));
      }
    }
    throw;
  }
}

template <Real T>
std::vector<Proposal> Grower<T>::measure(Context& ctx, const Source& set, const std::vector<Site<T>>& sites,
                                         const std::vector<const SiteReport*>& recorded) {
  const std::int64_t most = static_cast<std::int64_t>(statistics_indices_.size());
  std::vector<Proposal> proposals(sites.size());
  std::vector<std::size_t> open(sites.size());
  for (std::size_t i = 0; i < open.size(); ++i) open[i] = i;
  std::int64_t count = most;
  const bool adaptive = options_.adaptive_samples && recorded.empty();
  if (adaptive) count = std::min(options_.adaptive_samples->first, most);
  while (!open.empty()) {
    if (!recorded.empty()) count = std::min(std::max<std::int64_t>(recorded[open.front()]->samples, 1), most);
    // In a history each site may have its own number of samples.
    std::vector<std::size_t> now, later;
    for (const std::size_t i : open) (recorded.empty() || recorded[i]->samples == count ? now : later).push_back(i);
    if (now.empty()) std::swap(now, later);
    std::vector<Proposal> found = measure_on(ctx, set, sites, now, recorded, count);
    for (std::size_t i = 0; i < now.size(); ++i) {
      const SiteReport& report = found[i].report;
      const double lambda = report.lambda.empty() ? 0.0 : report.lambda.front();
      if (adaptive && count < most && report.threshold > 0.0 && report.asked > 0 &&
          judge(lambda, report.lambda_error, how_many_.significance, count, most) == Evidence::open) {
        later.push_back(now[i]);
      }
      proposals[now[i]] = std::move(found[i]);
    }
    open = std::move(later);
    if (adaptive) {
      const double next = std::ceil(static_cast<double>(count) * options_.adaptive_samples->factor);
      count = next < static_cast<double>(most) ? static_cast<std::int64_t>(next) : most;
    }
  }
  return proposals;
}

template <Real T>
std::vector<Proposal> Grower<T>::measure_on(Context& ctx, const Source& set, const std::vector<Site<T>>& among,
                                            const std::vector<std::size_t>& now,
                                            const std::vector<const SiteReport*>& recorded, std::int64_t count) {
  use_samples(count);
  std::vector<Site<T>> sites;
  for (const std::size_t i : now) sites.push_back(among[i]);
  const std::vector<std::int64_t> indices(statistics_indices_.begin(), statistics_indices_.begin() + count);
  std::vector<std::int64_t> asked(now.size(), 0);
  std::size_t at = 0;  // the site that is being solved
  MeasurementOptions options{.method = options_.method,
                             .fan_out = options_.fan_out,
                             .damping = options_.damping,
                             .significance = how_many_.significance,
                             .move_weights = options_.move_weights};
  if (!recorded.empty()) {
    options.wanted = [&](const Choice&) { return std::max(recorded[now[at]]->found, recorded[now[at]]->added); };
  } else if (how_many_.explained < 1.0) {
    options.wanted = [&](const Choice& choice) {
      return how_many_.explaining_units(choice.lambda, choice.insertion.units, choice.threshold);
    };
  }
  const MaxUnits max_units = [&](const Site<T>& site, std::int64_t taps) {
    at = 0;
    while (at + 1 < sites.size() && sites[at].name != site.name) ++at;
    asked[at] = recorded.empty() ? std::min(how_many_.limit(size_of(site)), affordable(site, taps).first)
                                 : recorded[now[at]]->asked;
    return asked[at];
  };
  std::vector<Proposal> proposals = measured(ctx, set, sites, options, indices, max_units);
  for (std::size_t i = 0; i < proposals.size(); ++i) {
    if (sites[i].tied()) leave_weights(proposals[i]);
    SiteReport& report = proposals[i].report;
    report.parameters = parameters();
    report.multiply_adds = multiply_adds();
    report.stream = sites[i].stream;
    report.asked = asked[i];
    report.found = proposals[i].insertion.units;
    report.samples = count;
    if (how_many_.significance > 0.0) report.lambda_error = report.threshold / how_many_.significance;
    if (!recorded.empty()) continue;
    const std::int64_t target = how_many_.target_width(size_of(sites[i]));
    if (const auto [units, budget] = affordable(sites[i], proposals[i].taps); units == 0) {
      report.note = concat("the budget of ", budget, " leaves no room");
    } else if (target != unlimited && sites[i].width() >= target) {
      report.note = concat("its target width of ", target, " is reached");
    }
  }
  return proposals;
}

template <Real T>
void Grower<T>::one_after_another(Context& ctx, const Source& set, const std::vector<std::size_t>& which,
                                  GrowthReport& report, const AfterSite& after_site,
                                  const std::vector<const SiteReport*>& recorded) {
  std::vector<bool> done(which.size(), false);
  for (std::size_t i = 0; i < which.size(); ++i) {
    if (done[i]) continue;
    std::vector<std::size_t> now;
    std::vector<const SiteReport*> known;
    for (std::size_t j = i; j < which.size(); ++j) {
      const Site<T>&here = sites_[which[i]], &there = sites_[which[j]];
      if (j != i && !(here.tied() && there.stream == here.stream)) continue;
      done[j] = true;
      now.push_back(which[j]);
      if (!recorded.empty()) known.push_back(recorded[j]);
    }
    std::vector<Proposal> proposals = measure(ctx, set, sites_at(now), known);
    choose(now, proposals, known);
    for (std::size_t j = 0; j < now.size(); ++j) {
      const std::vector<const SiteReport*> one = known.empty() ? known : std::vector<const SiteReport*>{known[j]};
      report.sites.push_back(insert(ctx, set, sites_[now[j]], std::move(proposals[j]), one));
      if (after_site) after_site(report.sites.back());
    }
  }
}

template <Real T>
void Grower<T>::choose(const std::vector<std::size_t>& which, std::vector<Proposal>& proposals,
                       const std::vector<const SiteReport*>& recorded) const {
  for (std::size_t i = 0; i < recorded.size(); ++i) keep_best(proposals[i], recorded[i]->added);
  if (!recorded.empty()) return;
  share_out<T>(
      sites_, which, [&](const Site<T>& site, const Proposal& proposal) { return worth(site, proposal); }, proposals);
}

template <Real T>
void Grower<T>::all_at_once(Context& ctx, const Source& set, const std::vector<std::size_t>& which,
                            GrowthReport& report, const AfterSite& after_site,
                            const std::vector<const SiteReport*>& recorded) {
  std::vector<Proposal> proposals = measure(ctx, set, sites_at(which), recorded);
  choose(which, proposals, recorded);
  for (std::size_t i = 0; i < which.size(); ++i) {
    const Site<T>& site = sites_[which[i]];
    const std::int64_t width = site.width(), units = proposals[i].insertion.units, taps = proposals[i].insertion.taps;
    std::map<const nn::Layer<T>*, std::vector<std::int64_t>> inputs;
    site.for_each_reader([&](const Reader<T>& reader) {
      inputs[reader.consumer.layer()] =
          detail::reader_map(reader, width, site.tied() ? reader.places(width) : taps, units);
    });
    const std::vector<const SiteReport*> known =
        recorded.empty() ? recorded : std::vector<const SiteReport*>{recorded[i]};
    report.sites.push_back(insert(ctx, set, site, std::move(proposals[i]), known));
    // Units of later sites may read what has grown now, or be read by it.
    for (std::size_t next = i + 1; next < which.size() && report.sites.back().added > 0; ++next) {
      const Site<T>& later = sites_[which[next]];
      const auto found = inputs.find(later.producer.layer());
      if (found != inputs.end()) follow_inputs(later, found->second, proposals[next].insertion);
      for (std::size_t reader = 0; reader < later.readers(); ++reader) {
        const nn::Layer<T>* const consumer = later.reader(reader).consumer.layer();
        if (site.is_source(consumer)) {
          follow_outputs(ctx, later, consumer, report.sites.back().added, proposals[next].insertion);
        }
      }
    }
    if (after_site) after_site(report.sites.back());
  }
}

template <Real T>
void Grower<T>::best_alone(Context& ctx, const Source& set, GrowthReport& report, const AfterSite& after_site) {
  std::vector<Proposal> proposals = measure(ctx, set, sites_);
  std::size_t best = 0;
  double most = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < proposals.size(); ++i) {
    const double value = worth(sites_[i], proposals[i]);
    if (value > most) {
      most = value;
      best = i;
    }
  }
  Places places;
  if (options_.depth == Depth::grows) places = measure_places(ctx, set);
  const bool block_is_best = !places.proposals.empty() && places.worth > most;
  for (std::size_t i = 0; i < proposals.size(); ++i) {
    if (i == best && !block_is_best) {
      report.sites.push_back(insert(ctx, set, sites_[i], std::move(proposals[i]), {}));
      if (after_site) after_site(report.sites.back());
    } else {
      proposals[i].report.note = detail::joined("another site promises more", proposals[i].report.note);
      report.sites.push_back(std::move(proposals[i].report));
    }
  }
  if (!places.proposals.empty()) {
    grow_block(ctx, set, std::move(places), block_is_best, std::isfinite(most) ? "another site promises more" : "",
               report, after_site);
  }
  for (SiteReport& site : report.sites) {
    site.parameters = nn::parameter_count(*network_);
    site.multiply_adds = multiply_adds();
  }
}

template <Real T>
double Grower<T>::worth(const Site<T>& site, const Proposal& proposal) const {
  const double units = static_cast<double>(proposal.insertion.units), slope = proposal.report.slope;
  if (units == 0.0) return -std::numeric_limits<double>::infinity();
  if (options_.where == Where::best_gain_per_parameter) return per_cost(site, proposal, false);
  if (options_.where == Where::best_gain_per_flop) return per_cost(site, proposal, true);
  return slope;
}

template <Real T>
double Grower<T>::per_cost(const Site<T>& site, const Proposal& proposal, bool by_work) const {
  const double units = static_cast<double>(proposal.insertion.units);
  if (units == 0.0) return -std::numeric_limits<double>::infinity();
  const detail::UnitCost fixed = fixed_cost(site, by_work);
  const std::int64_t unit = by_work ? unit_cost(site, shapes_).multiply_adds : site.parameters_per_unit(proposal.taps);
  return proposal.report.slope /
         (units * static_cast<double>(unit) + static_cast<double>(by_work ? fixed.multiply_adds : fixed.parameters));
}

template <Real T>
void Grower<T>::replay_event(Context& ctx, const Source& set, GrowthReport& report, const AfterSite& after_site) {
  const detail::ReplayPlan plan = plan_replay(*options_.replay, replayed_, report.method, sites_);
  report.where = plan.event->report.where;
  if (plan.which.empty()) {
    if (!plan.block) report.sites = plan.event->report.sites;
  } else if (parse_where(report.where) == Where::together) {
    all_at_once(ctx, set, plan.which, report, after_site, plan.recorded);
  } else {
    one_after_another(ctx, set, plan.which, report, after_site, plan.recorded);
  }
  if (plan.block) {
    Places places = measure_places(ctx, set, plan.block);
    grow_block(ctx, set, std::move(places), true, "", report, after_site, plan.block);
  }
  ++replayed_;
}

template <Real T>
void Grower<T>::measure_riders(Context& ctx, const Source& set, const Site<T>& site, const SiteReport& report) {
  const auto normed = [](const grow::Source<T>& rider) { return rider.norm != nullptr; };
  if (std::none_of(site.riders.begin(), site.riders.end(), normed)) return;
  detail::NormInputs<T> seen;
  const std::vector<std::int64_t> indices(statistics_indices_.begin(), statistics_indices_.begin() + report.samples);
  set.for_each_batch(ctx, indices, options_.batch_size, [&](const nn::BatchView<T>& batch) {
    (void)network_->forward(ctx, batch.inputs, {.measuring = true, .taps = &seen, .forward_only = true});
    operations_ += 2.0 * static_cast<double>(multiply_adds()) * static_cast<double>(batch.size());
  });
  take_statistics(ctx, site.riders, report.added, seen);
}

template <Real T>
SiteReport Grower<T>::insert(Context& ctx, const Source& set, const Site<T>& site, Proposal proposal,
                             const std::vector<const SiteReport*>& recorded) {
  SiteReport report = std::move(proposal.report);
  const SiteReport* const past = recorded.empty() ? nullptr : recorded.front();
  if (past && proposal.insertion.units != past->added) {
    throw DataError(concat("replay: ", site.name, " finds ", proposal.insertion.units, " units where the history has ",
                           past->added, "; replay it with the same data, seed and options"));
  }
  if (proposal.insertion.units == 0) return report;
  // Others may have grown since the site was measured.
  if (const auto [units, budget] = affordable(site, proposal.taps); !past && proposal.insertion.units > units) {
    report.note = detail::joined(
        concat("the budget of ", budget, " has no room for its ", proposal.insertion.units, " units"), report.note);
    report.parameters = parameters();
    report.multiply_adds = multiply_adds();
    return report;
  }
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t parameters_before = parameters(), work_before = multiply_adds();
  // An empty block that lowers the loss by nothing is of no use.
  const bool insist = how_many_.insist && (!blocks_ || block_of(site) == blocks_->size());
  const auto show_batches = [&](auto&& use) { set.for_each_batch(ctx, search_indices_, options_.batch_size, use); };
  if (proposal.insertion.copies.empty()) {
    proposal.insertion.rider_rows = draw_rider_rows(ctx, site, proposal.insertion.units);
  }
  operations_ += carry_out<T>(ctx, *network_, *optimizer_, site, options_, proposal,
                              past ? std::optional<double>(past->gamma) : std::nullopt, insist, show_batches, report);
  if (report.added > 0 && proposal.insertion.copies.empty()) measure_riders(ctx, set, site, report);
  report.parameters = parameters();
  report.multiply_adds = multiply_adds();
  report.new_parameters = report.parameters - parameters_before;
  report.new_multiply_adds = report.multiply_adds - work_before;
  report.seconds += seconds_since(start);
  return report;
}

}  // namespace meristem::grow

#include <meristem/grow/grower_depth_impl.hpp>
