// Definitions of growth_step.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <span>

#include <meristem/grow/growth_step.hpp>

namespace meristem::grow::detail {

template <Real T>
GrowthStep<T>::GrowthStep(Context& ctx, Growing<T>& grower, const Source& set)
    : ctx_(ctx), grower_(grower), options_(grower.options), set_(set) {
  (void)network();  // Before the sites' layers are looked at, which are gone with it.
  if (set.size() < 1) throw DataError("Grower: the training set is empty; growth needs samples to measure on");
  samples_ = draw_samples(ctx.seed(), set.size(), options_.search_samples, options_.statistics_samples);
}

template <Real T>
GrowthStep<T>::~GrowthStep() {
  for (std::size_t i = 0; blocks_ && i < blocks_->size(); ++i) blocks_->close(i, grower_.optimizer);
}

template <Real T>
std::vector<Turn<T>> GrowthStep<T>::plan(GrowthReport& report) {
  see_shapes();
  Where where = options_.where;
  if (options_.replay) {
    replay_ = std::make_shared<const Replay>(options_.replay, grower_.steps, report.method);
    replay_->require_sites(grower_.sites);
    where = parse_where(replay_->step().where);
    decider_ = Decider(*replay_);
  } else {
    decider_ = Decider(options_.budget) & options_.how_many;
    decider_ = picks_best(where) ? decider_ & options_.rule & Best{where} : decider_ & Shares{} & options_.rule;
  }
  report.where = name_of(where);
  std::vector<Site<T>> sites = considered(grower_.sites);
  if (replay_) {
    // Sources of a stream grew together, whether or not the first of them did.
    std::stable_sort(sites.begin(), sites.end(), [&](const Site<T>& a, const Site<T>& b) {
      return replay_->position(a.name) < replay_->position(b.name);
    });
  }
  std::vector<Turn<T>> turns;
  if (where == Where::together || picks_best(where)) {
    turns.emplace_back().sites = sites;
  } else {
    for (const std::vector<std::size_t>& which : turns_of(sites)) {
      Turn<T>& turn = turns.emplace_back();
      for (const std::size_t i : which) turn.sites.push_back(sites[i]);
    }
  }
  const bool deepens = replay_ ? replay_->block() != nullptr : options_.depth;
  if (deepens && picks_best(where)) turns.front().places = true;
  if (deepens && !picks_best(where)) turns.emplace_back().places = true;
  std::erase_if(turns, [](const Turn<T>& turn) { return turn.sites.empty() && !turn.places; });
  if (turns.empty() && replay_) report.sites = replay_->step().sites;
  if (where == Where::round_robin && !replay_ && !turns.empty()) {
    // The one that came longest ago, as a rule may leave out others at every growth step.
    const auto last = [&](const Turn<T>& turn) {
      const auto found = grower_.turns.find(name_of_turn(turn));
      return found == grower_.turns.end() ? 0 : found->second;
    };
    const auto earlier = [&](const Turn<T>& a, const Turn<T>& b) { return last(a) < last(b); };
    std::swap(turns.front(), *std::min_element(turns.begin(), turns.end(), earlier));
    turns.resize(1);
    turn_ = name_of_turn(turns.front());
  }
  return turns;
}

template <Real T>
void GrowthStep<T>::measure(Turn<T>& turn) {
  for (const Site<T>& site : turn.sites) turn.candidates.push_back(candidate(site));
  measure_sites(turn.sites, turn.candidates, turn.proposals);
  if (turn.places) measure_places(turn);
}

template <Real T>
void GrowthStep<T>::measure_places(Turn<T>& turn) {
  blocks_ = std::make_unique<EmptyBlocks<T>>(ctx_, find_places(network(), options_.widths));
  std::vector<Site<T>> sites;
  std::vector<Candidate> candidates;
  for (const Site<T>& site : blocks_->sites()) {
    Candidate block = candidate(site);
    if (!block.considered) continue;
    require_served(site, options_.method);
    sites.push_back(site);
    candidates.push_back(std::move(block));
  }
  if (replay_ && sites.empty()) {
    throw ArgumentError(concat("replay: growth step ", grower_.steps, " has a block ", replay_->block()->block,
                               ", for which there is no place here; start from the same network with the same widths"));
  }
  if (sites.empty()) return;
  for (const Site<T>& site : sites) blocks_->open(block_of(site));
  if (work_counts()) {
    const nn::Batch<T> one = set_.batch(ctx_, std::span(samples_.search).first(1));
    (void)network().forward(ctx_, one.inputs, {.measuring = true, .taps = &grower_.shapes});
  }
  std::vector<Proposal> proposals;
  measure_sites(sites, candidates, proposals);
  blocks_->close();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    turn.sites.push_back(sites[i]);
    turn.candidates.push_back(std::move(candidates[i]));
    turn.proposals.push_back(std::move(proposals[i]));
  }
}

template <Real T>
SiteReport GrowthStep<T>::edit(Turn<T>& turn, std::size_t index) {
  const Site<T> site = turn.sites[index];
  Candidate& candidate = turn.candidates[index];
  Proposal& proposal = turn.proposals[index];
  if (candidate.units == 0) return std::move(proposal.report);
  const Insertion& units = proposal.insertion;
  Inputs inputs;  // of the readers, before they change
  site.for_each_reader([&](const Reader<T>& reader) {
    const std::int64_t places = site.tied() ? reader.places(site.width()) : units.taps;
    inputs[reader.consumer.layer()] = reader_map(reader, site.width(), places, units.units);
  });
  const bool block = blocks_ && block_of(site) < blocks_->size();
  SiteReport done = block ? insert_block(site, candidate, proposal) : insert(site, candidate, proposal);
  if (done.added > 0) follow(turn, index, inputs, done.added);
  return done;
}

template <Real T>
void GrowthStep<T>::follow(Turn<T>& turn, std::size_t index, const Inputs& inputs, std::int64_t added) {
  const Site<T>& site = turn.sites[index];
  for (std::size_t next = index + 1; next < turn.sites.size(); ++next) {
    const Site<T>& later = turn.sites[next];
    Proposal& proposal = turn.proposals[next];
    if (turn.candidates[next].units == 0) continue;
    const auto found = inputs.find(later.producer.layer());
    if (found != inputs.end()) follow_inputs(ctx_, later, found->second, proposal.insertion);
    // Layers whose outputs stand side by side have a reader in common, whose weights move once.
    if (!later.tied() && inputs.contains(later.consumer.layer())) leave_weights(proposal);
    for (std::size_t reader = 0; reader < later.readers(); ++reader) {
      const nn::Layer<T>* const consumer = later.reader(reader).consumer.layer();
      if (site.is_source(consumer)) follow_outputs(ctx_, later, consumer, added, proposal.insertion);
    }
  }
}

template <Real T>
SiteReport GrowthStep<T>::insert(const Site<T>& site, Candidate& candidate, Proposal& proposal) {
  const auto start = std::chrono::steady_clock::now();
  SiteReport report = std::move(proposal.report);
  const std::int64_t parameters_before = parameters(), work_before = multiply_adds();
  // Others may have grown since the site was measured.
  candidate.report.parameters = parameters_before;
  candidate.report.multiply_adds = work_before;
  set_costs(site, proposal.taps, candidate);
  const auto [fits, budget] = options_.budget.room(candidate);
  if (!replay_ && fits < candidate.units) {
    report.note =
        joined(concat("the budget of ", budget, " has no room for its ", candidate.units, " units"), report.note);
    report.parameters = parameters_before;
    report.multiply_adds = work_before;
    return report;
  }
  // An empty block that lowers the loss by nothing is of no use.
  const bool insist = options_.how_many.insist && (!blocks_ || block_of(site) == blocks_->size());
  const auto show_batches = [&](auto&& use) { set_.for_each_batch(ctx_, samples_.search, options_.batch_size, use); };
  const bool copies = !proposal.insertion.copies.empty();
  if (!copies) proposal.insertion.rider_rows = draw_rider_rows(ctx_, site, proposal.insertion.units);
  operations_ += carry_out<T>(ctx_, network(), *grower_.optimizer, site, options_, proposal, candidate.gamma, insist,
                              show_batches, report);
  const auto normed = [](const Affine<T>& rider) { return rider.norm() != nullptr; };
  if (report.added > 0 && !copies && std::any_of(site.riders.begin(), site.riders.end(), normed)) {
    NormInputs<T> seen;
    see_norms(report.samples, seen);
    take_statistics(ctx_, site.riders, report.added, seen);
  }
  report.parameters = parameters();
  report.multiply_adds = multiply_adds();
  report.new_parameters = report.parameters - parameters_before;
  report.new_multiply_adds = report.multiply_adds - work_before;
  report.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

template <Real T>
SiteReport GrowthStep<T>::insert_block(const Site<T>& site, Candidate& candidate, Proposal& proposal) {
  const std::size_t block = block_of(site);
  const std::int64_t parameters_before = parameters(), work_before = multiply_adds();
  const std::int64_t samples = proposal.report.samples;
  blocks_->open(block);
  SiteReport report = insert(site, candidate, proposal);
  if (report.added == 0) {
    blocks_->close(block, grower_.optimizer);
  } else {
    const auto start = std::chrono::steady_clock::now();
    if (blocks_->add_norm(ctx_, block)) {
      NormInputs<T> seen;
      see_norms(samples, seen);
      blocks_->settle_norm(ctx_, block, seen);
    }
    blocks_->keep(block, *grower_.optimizer);
    grower_.sites = sites_of(network(), options_);
    report.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  report.parameters = parameters();
  report.multiply_adds = multiply_adds();
  report.new_parameters = report.parameters - parameters_before;
  report.new_multiply_adds = report.multiply_adds - work_before;
  return report;
}

template <Real T>
void GrowthStep<T>::see_norms(std::int64_t samples, NormInputs<T>& seen) {
  const std::span<const std::int64_t> indices = std::span(samples_.statistics).first(static_cast<std::size_t>(samples));
  set_.for_each_batch(ctx_, indices, options_.batch_size, [&](const nn::BatchView<T>& batch) {
    (void)network().forward(ctx_, batch.inputs, {.measuring = true, .taps = &seen, .forward_only = true});
    operations_ += 2.0 * static_cast<double>(multiply_adds()) * static_cast<double>(batch.size());
  });
}

template <Real T>
void GrowthStep<T>::measure_sites(const std::vector<Site<T>>& sites, std::vector<Candidate>& candidates,
                                  std::vector<Proposal>& proposals) {
  const std::int64_t most = std::ssize(samples_.statistics);
  proposals.resize(sites.size());
  std::vector<std::int64_t> counts;
  std::vector<std::size_t> open(sites.size());
  std::iota(open.begin(), open.end(), std::size_t{0});
  for (const Candidate& one : candidates) {
    const bool few = one.samples == unlimited && options_.first_samples > 0;
    counts.push_back(std::clamp<std::int64_t>(few ? options_.first_samples : one.samples, 1, most));
  }
  while (!open.empty()) {
    const std::int64_t count = counts[open.front()];
    std::vector<std::size_t> now, later;
    for (const std::size_t i : open) (counts[i] == count ? now : later).push_back(i);
    measure_on(count, now, sites, candidates, proposals);
    for (const std::size_t i : now) {
      const SiteReport& report = proposals[i].report;
      const double lambda = report.lambda.empty() ? 0.0 : report.lambda.front();
      if (candidates[i].samples == unlimited && count < most && report.threshold > 0.0 && report.asked > 0 &&
          judge(lambda, report.lambda_error, options_.how_many.least_significance(), count, most) == Evidence::open) {
        counts[i] = count > most / 2 ? most : 2 * count;
        candidates[i] = candidate(sites[i]);
        later.push_back(i);
      }
    }
    open = std::move(later);
  }
}

template <Real T>
void GrowthStep<T>::measure_on(std::int64_t count, const std::vector<std::size_t>& now,
                               const std::vector<Site<T>>& sites, std::vector<Candidate>& candidates,
                               std::vector<Proposal>& proposals) {
  std::vector<Site<T>> shown;
  for (const std::size_t i : now) shown.push_back(sites[i]);
  std::vector<std::int64_t> asked(sites.size(), 0);
  const auto limit = [&](const Site<T>& site, std::int64_t taps, const Choice* choice) {
    std::size_t at = 0;
    while (at + 1 < now.size() && sites[now[at]].name != site.name) ++at;
    Candidate& one = candidates[now[at]];
    if (choice) {
      one.solved = true;
      one.report.found = choice->insertion.units;
      one.report.lambda = choice->lambda;
      one.report.threshold = choice->threshold;
      one.report.gain = choice->gain;
    } else {
      set_costs(site, taps, one);
    }
    decider_.limit(one);
    if (!choice) asked[now[at]] = one.units;
    return one.units;
  };
  std::vector<Proposal> found = run(shown, measurement_options(), count, limit);
  for (std::size_t j = 0; j < now.size(); ++j) {
    Candidate& one = candidates[now[j]];
    if (shown[j].tied()) leave_weights(found[j]);
    SiteReport& report = found[j].report;
    report.parameters = parameters();
    report.multiply_adds = multiply_adds();
    report.stream = one.report.stream;
    report.block = one.report.block;
    report.asked = asked[now[j]];
    report.found = found[j].insertion.units;
    report.samples = count;
    const double c = options_.how_many.least_significance();
    if (c > 0.0) report.lambda_error = report.threshold / c;
    if (!one.why.empty()) report.note = std::exchange(one.why, {});
    one.report = report;
    one.units = report.found;
    one.move_slope = found[j].move_slope;
    one.unit_slopes = found[j].unit_slopes;
    proposals[now[j]] = std::move(found[j]);
  }
}

template <Real T>
MeasurementOptions GrowthStep<T>::measurement_options() const {
  return {.method = options_.method,
          .fan_out = options_.fan_out,
          .damping = options_.damping,
          .significance = options_.how_many.least_significance(),
          .move_weights = options_.move_weights};
}

template <Real T>
std::vector<Proposal> GrowthStep<T>::run(const std::vector<Site<T>>& sites, const MeasurementOptions& options,
                                         std::int64_t count, const typename SharedPasses<T>::Limit& limit) {
  const auto indices = std::span<const std::int64_t>(samples_.statistics).first(static_cast<std::size_t>(count));
  std::optional<std::uint64_t> shown;
  if (grower_.passes.remembers()) {
    shown = fingerprint(ctx_, set_, indices);
    if (*shown != grower_.remembered) grower_.passes.forget_samples();
  }
  const auto measured = [&](const std::vector<Site<T>>& some) {
    return grower_.passes.measure(
        ctx_, some, options, [&](const auto& use) { set_.for_each_batch(ctx_, indices, options_.batch_size, use); },
        limit);
  };
  try {
    std::vector<Proposal> proposals = measured(sites);
    operations_ += grower_.passes.take_operations();
    if (grower_.passes.remembers()) grower_.remembered = shown ? *shown : fingerprint(ctx_, set_, indices);
    return proposals;
  } catch (const NumericError&) {
    // Which of the sites it is takes a pass for each.
    for (const Site<T>& site : sites) {
      try {
        grower_.passes.forget_samples();
        (void)measured({site});
      } catch (const NumericError& error) {
        throw NumericError(concat("growth: the statistics of ", site.name, " are of no use: ", error.message(),
                                  "; look at the weights and the data, or lower the learning rate"));
      }
    }
    throw;
  }
}

template <Real T>
std::vector<SiteReport> GrowthStep<T>::probe() {
  const MeasurementOptions options{.method = tiny(), .fan_out = options_.fan_out, .significance = 0.0};
  std::vector<SiteReport> reports;
  for (Proposal& proposal : run(grower_.sites, options, std::ssize(samples_.statistics),
                                [](const Site<T>&, std::int64_t, const Choice*) { return std::int64_t{0}; })) {
    reports.push_back(std::move(proposal.report));
  }
  return reports;
}

template <Real T>
double GrowthStep<T>::latency() {
  const nn::Batch<T> one = set_.batch(ctx_, std::span(samples_.search).first(1));
  return measure_latency<T>(ctx_, network(), one.inputs);
}

}  // namespace meristem::grow::detail

#include <meristem/grow/growth_step_costs_impl.hpp>
