// Definitions of growth_step.hpp: candidates, what they cost, and which of them stay.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include <meristem/grow/growth_step.hpp>

namespace meristem::grow::detail {

template <Real T>
void GrowthStep<T>::see_shapes() {
  if (!work_counts() && grower_.input_shape.has_value()) return;
  const nn::Batch<T> one = set_.batch(ctx_, std::span(samples_.search).first(1));
  grower_.input_shape = one.inputs.shape();
  if (!work_counts()) return;
  (void)network().forward(ctx_, one.inputs, {.measuring = true, .taps = &grower_.shapes});
  const Budget& budget = options_.budget;
  const bool asks = budget.limits_multiply_adds() && budget.must_leave_room && !options_.replay;
  if (!asks || grower_.steps > 0 || grower_.sites.empty()) return;
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const Site<T>& site : grower_.sites) least = std::min(least, unit_cost(site, grower_.shapes).multiply_adds);
  require_room("multiply_adds", budget.multiply_adds, multiply_adds(), least);
}

template <Real T>
Candidate GrowthStep<T>::candidate(const Site<T>& site) const {
  Candidate result;
  result.growth_step = static_cast<std::int64_t>(grower_.steps);
  result.report.name = site.name;
  result.report.width = site.width();
  result.report.stream = site.stream;
  result.report.parameters = parameters();
  result.report.multiply_adds = multiply_adds();
  const std::size_t block = blocks_ ? block_of(site) : 0;
  if (blocks_ && block < blocks_->size()) result.report.block = blocks_->place(block).name;
  result.fan_in = site.fan_in();
  for (std::size_t i = 0; i < site.readers(); ++i) {
    result.fan_out = std::max(result.fan_out, site.reader(i).consumer.out_features());
  }
  decider_.consider(result);
  return result;
}

template <Real T>
void GrowthStep<T>::set_costs(const Site<T>& site, std::int64_t taps, Candidate& candidate) const {
  candidate.unit.parameters = site.parameters_per_unit(taps);
  if (work_counts()) candidate.unit.multiply_adds = unit_cost(site, grower_.shapes).multiply_adds;
  const std::size_t block = blocks_ ? block_of(site) : 0;
  if (!blocks_ || block == blocks_->size()) return;
  candidate.fixed.parameters = blocks_->fixed_parameters(block);
  if (!work_counts()) return;
  // What comes into the block has the shape of what goes out.
  const Shape& input = grower_.shapes.of(*site.producer.layer());
  candidate.fixed.multiply_adds =
      blocks_->fixed_multiply_adds(block) * (input.size() / (input[0] * input[input.rank() - 1]));
}

template <Real T>
std::vector<Site<T>> GrowthStep<T>::considered(const std::vector<Site<T>>& sites) const {
  std::vector<Site<T>> result;
  for (const Site<T>& site : sites) {
    if (candidate(site).considered) result.push_back(site);
  }
  return result;
}

template <Real T>
std::size_t GrowthStep<T>::block_of(const Site<T>& site) const {
  std::size_t index = 0;
  while (index < blocks_->size() && blocks_->site(index).producer.layer() != site.producer.layer()) ++index;
  return index;
}

template <Real T>
void GrowthStep<T>::decide(Turn<T>& turn, const GrowthReport& report) {
  decider_.choose(turn.candidates);
  for (std::size_t i = 0; i < turn.sites.size(); ++i) {
    if (turn.candidates[i].report.name == turn.sites[i].name) continue;
    throw ArgumentError(concat("growth: a rule put the candidate ", turn.candidates[i].report.name, " in the place of ",
                               turn.sites[i].name, "; leave the candidates in their order, and sort pointers to them"));
  }
  if (turn.places && !replay_ && !picks_best(options_.where)) {
    Deepens rule;
    for (const SiteReport& site : report.sites) {
      if (site.added == 0) continue;
      rule.slope += site.slope;
      rule.paid += site.new_parameters;
    }
    rule.choose(turn.candidates);
  }
  for (std::size_t i = 0; i < turn.candidates.size(); ++i) {
    Candidate& one = turn.candidates[i];
    Proposal& proposal = turn.proposals[i];
    one.units = std::clamp<std::int64_t>(one.units, 0, proposal.insertion.units);
    const bool fewer = one.units < proposal.insertion.units;
    if (fewer && one.units > 0) {
      if (proposal.together) {
        choose_again(turn.sites[i], one.units, proposal);
        one.units = proposal.insertion.units;
      } else {
        keep_best(ctx_, proposal, one.units);
      }
    }
    if (fewer || one.units == 0) proposal.report.note = joined(one.why, proposal.report.note);
  }
}

template <Real T>
void GrowthStep<T>::choose_again(const Site<T>& site, std::int64_t most, Proposal& proposal) {
  const std::size_t block = blocks_ ? block_of(site) : 0;
  const bool opens = blocks_ && block < blocks_->size();
  if (opens) blocks_->open(block);
  SiteReport report = std::move(proposal.report);
  const auto limit = [most](const Site<T>&, std::int64_t, const Choice*) { return most; };
  proposal = std::move(run({site}, measurement_options(), report.samples, limit).front());
  if (opens) blocks_->close(block);
  if (site.tied()) leave_weights(proposal);
  report.gain = proposal.report.gain;
  report.slope = proposal.report.slope;
  report.note = std::move(proposal.report.note);
  report.seconds += proposal.report.seconds;
  proposal.report = std::move(report);
}

template <Real T>
void GrowthStep<T>::report_size(GrowthReport& report) const {
  for (SiteReport& site : report.sites) {
    site.parameters = parameters();
    site.multiply_adds = multiply_adds();
  }
}

template <Real T>
void GrowthStep<T>::finish(GrowthReport& report) {
  ++grower_.steps;
  if (turn_) grower_.turns[*turn_] = grower_.steps;
  report.operations = operations_;
  report.parameters = parameters();
}

}  // namespace meristem::grow::detail
