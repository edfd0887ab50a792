// Definitions of replay.hpp.
#pragma once

#include <algorithm>

#include <meristem/grow/policy/replay.hpp>

namespace meristem::grow {

template <Real T>
detail::ReplayPlan plan_replay(const History& history, std::size_t index, const std::string& method,
                               const std::vector<Site<T>>& sites) {
  if (index >= history.events.size()) {
    throw ArgumentError(concat("replay: all ", history.events.size(), " growth steps of the history are replayed"));
  }
  detail::ReplayPlan plan{.event = &history.events[index]};
  const GrowthReport& past = plan.event->report;
  if (past.method != method) {
    throw ArgumentError(concat("replay: growth step ", index, " was taken by the method ", past.method, ", not by ",
                               method, "; replay it with that method"));
  }
  for (const SiteReport& site : past.sites) {
    if (!site.block.empty()) {
      if (site.added > 0) plan.block = &site;
      continue;
    }
    const auto found =
        std::find_if(sites.begin(), sites.end(), [&](const Site<T>& known) { return known.name == site.name; });
    if (found == sites.end()) {
      throw ArgumentError(concat("replay: growth step ", index, " has a site ", site.name,
                                 ", which is not among those that may grow here"));
    }
    if (site.added == 0) continue;
    // Earlier sites of the same step do not change the width of later ones.
    if (found->width() != site.width) {
      throw DataError(concat("replay: growth step ", index, ": ", site.name, " has ", found->width(),
                             " units, and had ", site.width, " in the history; start from the same network"));
    }
    plan.which.push_back(static_cast<std::size_t>(found - sites.begin()));
    plan.recorded.push_back(&site);
  }
  return plan;
}

}  // namespace meristem::grow
