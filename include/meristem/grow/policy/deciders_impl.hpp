// Definitions of deciders.hpp.
#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include <meristem/grow/policy/deciders.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE void Shares::choose(std::span<Candidate> candidates) const {
  std::map<std::string, std::vector<Candidate*>> streams;
  for (Candidate& one : candidates) {
    if (!one.report.stream.empty() && one.units > 0) streams[one.report.stream].push_back(&one);
  }
  for (auto& [stream, members] : streams) {
    std::int64_t most = 0;
    Candidate* best = members.front();
    bool measured = true;
    std::vector<std::pair<double, Candidate*>> units;
    for (Candidate* const one : members) {
      most = std::max(most, one->report.asked);
      if (one->slope() > best->slope()) best = one;
      measured = measured && std::ssize(one->unit_slopes) == one->units;
      for (const double slope : one->unit_slopes) units.emplace_back(slope, one);
    }
    std::stable_sort(units.begin(), units.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::map<Candidate*, std::int64_t> shares;
    if (measured) {
      units.resize(std::min(units.size(), static_cast<std::size_t>(most)));
      for (const auto& unit : units) ++shares[unit.second];
    } else {
      shares[best] = best->units;
    }
    for (Candidate* const one : members) {
      const std::int64_t found = one->units, share = shares[one];
      if (share == found) continue;
      one->units = share;
      one->why = measured ? concat(share, " of ", found, " units: other sources of the stream bring better ones")
                          : concat(best->report.name, ", which feeds the same stream, promises more");
    }
  }
}

MERISTEM_INLINE void Best::choose(std::span<Candidate> candidates) const {
  if (!picks_best(where)) return;
  const auto worth = [&](const Candidate& one) {
    if (where == Where::best_gain) return one.slope();
    return one.gain_per_cost(where == Where::best_gain_per_flop);
  };
  const Candidate* best = nullptr;
  for (const Candidate& one : candidates) {
    if (one.units > 0 && (!best || worth(one) > worth(*best))) best = &one;
  }
  for (Candidate& one : candidates) {
    if (!best || &one == best) continue;
    const bool places = !one.report.block.empty() && !best->report.block.empty();
    one.units = 0;
    one.why = places ? "a block elsewhere promises more" : "another site promises more";
  }
}

MERISTEM_INLINE void Deepens::choose(std::span<Candidate> candidates) const {
  const Candidate* best = nullptr;
  for (const Candidate& one : candidates) {
    if (one.units > 0 && (!best || one.gain_per_cost(false) > best->gain_per_cost(false))) best = &one;
  }
  if (!best) return;
  const double gain = best->gain_per_cost(false);
  const bool take = paid == 0 || gain > slope / static_cast<double>(paid);
  const char* const why_not = slope == 0.0 && gain == 0.0
                                  ? "what units gain is not measured by this method, so no block can be compared"
                                  : "widths gain more per parameter";
  for (Candidate& one : candidates) {
    if (take && &one == best) continue;
    one.units = 0;
    one.why = take ? "a block elsewhere promises more" : why_not;
  }
}

MERISTEM_INLINE Replay::Replay(std::shared_ptr<const History> history, std::size_t index, const std::string& method)
    : history_(std::move(history)), index_(index) {
  if (index >= history_->steps.size()) {
    throw ArgumentError(concat("replay: all ", history_->steps.size(), " growth steps of the history are replayed"));
  }
  if (step().method == method) return;
  throw ArgumentError(concat("replay: growth step ", index, " was taken by the method ", step().method, ", not by ",
                             method, "; replay it with that method"));
}

MERISTEM_INLINE const SiteReport* Replay::block() const {
  const auto joined = [](const SiteReport& site) { return !site.block.empty() && site.added > 0; };
  const auto found = std::find_if(step().sites.begin(), step().sites.end(), joined);
  return found == step().sites.end() ? nullptr : &*found;
}

MERISTEM_INLINE std::size_t Replay::position(const std::string& site) const {
  std::size_t index = 0;
  while (index < step().sites.size() && step().sites[index].name != site) ++index;
  return index;
}

template <Real T>
void Replay::require_sites(const std::vector<Site<T>>& sites) const {
  for (const SiteReport& past : step().sites) {
    if (!past.block.empty()) continue;
    const auto found =
        std::find_if(sites.begin(), sites.end(), [&](const Site<T>& known) { return known.name == past.name; });
    if (found == sites.end()) {
      throw ArgumentError(concat("replay: growth step ", index_, " has a site ", past.name,
                                 ", which is not among those that may grow here"));
    }
    // Earlier sites of the same step do not change the width of later ones.
    if (past.added > 0 && found->width() != past.width) {
      throw DataError(concat("replay: growth step ", index_, ": ", past.name, " has ", found->width(),
                             " units, and had ", past.width, " in the history; start from the same network"));
    }
  }
}

MERISTEM_INLINE const SiteReport* Replay::recorded(const Candidate& candidate) const {
  for (const SiteReport& past : step().sites) {
    if (past.added == 0 || past.block != candidate.report.block) continue;
    if (past.name == candidate.report.name || !past.block.empty()) return &past;
  }
  return nullptr;
}

MERISTEM_INLINE void Replay::consider(Candidate& candidate) const {
  const SiteReport* const past = recorded(candidate);
  candidate.considered = past != nullptr;
  if (past) candidate.samples = past->samples;
}

MERISTEM_INLINE void Replay::limit(Candidate& candidate) const {
  const SiteReport& past = *recorded(candidate);
  candidate.at_most(candidate.solved ? std::max(past.found, past.added) : past.asked);
  candidate.gamma = past.gamma;
}

MERISTEM_INLINE void Replay::choose(std::span<Candidate> candidates) const {
  for (Candidate& one : candidates) {
    const SiteReport& past = *recorded(one);
    if (one.units < past.added) {
      throw DataError(concat("replay: ", one.report.name, " finds ", one.units, " units where the history has ",
                             past.added, "; replay it with the same data, seed and options"));
    }
    one.units = past.added;
  }
}

}  // namespace meristem::grow::detail
