// Definitions of grower.hpp: blocks that are not there yet.
#pragma once

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <span>
#include <utility>

#include <meristem/grow/grower.hpp>

namespace meristem::grow {

template <Real T>
std::size_t Grower<T>::block_of(const Site<T>& site) const {
  std::size_t index = 0;
  while (index < blocks_->size() && blocks_->site(index).producer.layer() != site.producer.layer()) ++index;
  return index;
}

template <Real T>
detail::UnitCost Grower<T>::fixed_cost(const Site<T>& site, bool with_work) const {
  detail::UnitCost cost;
  const std::size_t index = blocks_ ? block_of(site) : 0;
  if (!blocks_ || index == blocks_->size()) return cost;
  cost.parameters = blocks_->fixed_parameters(index);
  if (!with_work) return cost;
  // What comes into the block has the shape of what goes out.
  const Shape& input = shapes_.of(*site.producer.layer());
  cost.multiply_adds = blocks_->fixed_multiply_adds(index) * (input.size() / (input[0] * input[input.rank() - 1]));
  return cost;
}

template <Real T>
std::vector<Site<T>> Grower<T>::sites_at(const std::vector<std::size_t>& which) const {
  std::vector<Site<T>> result;
  for (const std::size_t i : which) result.push_back(sites_[i]);
  return result;
}

template <Real T>
auto Grower<T>::measure_places(Context& ctx, const Source& set, const SiteReport* recorded) -> Places {
  std::vector<Place<T>> found;
  for (Place<T>& place : find_places(*network_, options_.widths)) {
    if (!recorded || place.name == recorded->block) found.push_back(std::move(place));
  }
  if (recorded && found.empty()) {
    throw ArgumentError(concat("replay: growth step ", replayed_, " has a block ", recorded->block,
                               ", for which there is no place here; start from the same network with the same widths"));
  }
  blocks_ = std::make_unique<EmptyBlocks<T>>(ctx, std::move(found));
  const std::vector<Site<T>> sites = blocks_->sites();
  for (const Site<T>& site : sites) detail::require_served(site, options_.method);
  blocks_->open();
  if (options_.budget.limits_multiply_adds() || options_.where == Where::best_gain_per_flop) {
    const nn::Batch<T> one = set.batch(ctx, std::span(search_indices_).first(1));
    (void)network_->forward(ctx, one.inputs, {.measuring = true, .taps = &shapes_});
  }
  Places places;
  places.proposals =
      measure(ctx, set, sites, recorded ? std::vector<const SiteReport*>{recorded} : std::vector<const SiteReport*>{});
  blocks_->close();
  places.worth = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    Proposal& proposal = places.proposals[i];
    proposal.report.block = blocks_->place(i).name;
    const double value =
        picks_best(options_.where) ? worth(sites[i], proposal) : per_cost(sites[i], proposal, short_of_work());
    if (value > places.worth) {
      places.worth = value;
      places.best = i;
    }
  }
  return places;
}

template <Real T>
void Grower<T>::grow_block(Context& ctx, const Source& set, Places places, bool take, const std::string& why_not,
                           GrowthReport& report, const AfterSite& after_site, const SiteReport* recorded) {
  constexpr double nothing = -std::numeric_limits<double>::infinity();  // no place has a unit
  for (std::size_t i = 0; i < places.proposals.size(); ++i) {
    Proposal& proposal = places.proposals[i];
    if (!take || i != places.best || !(places.worth > nothing)) {
      const bool beaten = take && places.worth > nothing;
      const std::string why = beaten ? "a block elsewhere promises more" : take ? "" : why_not;
      proposal.report.note = detail::joined(why, proposal.report.note);
      report.sites.push_back(std::move(proposal.report));
      continue;
    }
    const std::int64_t parameters_before = parameters(), work_before = multiply_adds();
    const std::int64_t samples = proposal.report.samples;
    blocks_->open(i);
    SiteReport done = insert(ctx, set, blocks_->site(i), std::move(proposal),
                             recorded ? std::vector<const SiteReport*>{recorded} : std::vector<const SiteReport*>{});
    if (done.added == 0) {
      blocks_->close(i, optimizer_);
    } else {
      const auto start = std::chrono::steady_clock::now();
      if (blocks_->add_norm(ctx, i)) {
        detail::NormInputs<T> seen;
        const std::vector<std::int64_t> indices(statistics_indices_.begin(), statistics_indices_.begin() + samples);
        set.for_each_batch(ctx, indices, options_.batch_size, [&](const nn::BatchView<T>& batch) {
          (void)network_->forward(ctx, batch.inputs, {.measuring = true, .taps = &seen, .forward_only = true});
          operations_ += 2.0 * static_cast<double>(multiply_adds()) * static_cast<double>(batch.size());
        });
        blocks_->settle_norm(ctx, i, seen);
      }
      blocks_->keep(i, *optimizer_);
      sites_ = detail::sites_of(*network_, options_);
      done.seconds += seconds_since(start);
    }
    done.parameters = parameters();
    done.multiply_adds = multiply_adds();
    done.new_parameters = done.parameters - parameters_before;
    done.new_multiply_adds = done.multiply_adds - work_before;
    report.sites.push_back(std::move(done));
    if (after_site) after_site(report.sites.back());
  }
}

template <Real T>
void Grower<T>::deepen(Context& ctx, const Source& set, GrowthReport& report, const AfterSite& after_site) {
  const bool by_work = short_of_work();
  double slope = 0.0, paid = 0.0;
  for (const SiteReport& site : report.sites) {
    if (site.added == 0) continue;
    slope += site.slope;
    paid += static_cast<double>(by_work ? site.new_multiply_adds : site.new_parameters);
  }
  Places places = measure_places(ctx, set);
  const bool take = paid == 0.0 || places.worth > slope / paid;
  const char* const why_not = slope == 0.0 && places.worth == 0.0
                                  ? "what units gain is not measured by this method, so no block can be compared"
                              : by_work ? "widths gain more per multiply-add"
                                        : "widths gain more per parameter";
  grow_block(ctx, set, std::move(places), take, why_not, report, after_site);
}

}  // namespace meristem::grow
