// Which sites a recorded growth step grew, found again in a network.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/grow/history.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

/// What a Grower has to do again.
struct ReplayPlan {
  const GrowthEvent* event = nullptr;
  std::vector<std::size_t> which = {};           ///< sites that grew, by index
  std::vector<const SiteReport*> recorded = {};  ///< and what was recorded of each
};

/// The plan for growth step `index` of a history, which must outlive it. Throws ArgumentError if there is none, if
/// another method took it, or for a site that is none of `sites`; DataError for a site of another width.
template <Real T>
[[nodiscard]] ReplayPlan plan_replay(const History& history, std::size_t index, const std::string& method,
                                     const std::vector<Site<T>>& sites) {
  if (index >= history.events.size()) {
    throw ArgumentError(concat("replay: all ", history.events.size(), " growth steps of the history are replayed"));
  }
  ReplayPlan plan{.event = &history.events[index]};
  const GrowthReport& past = plan.event->report;
  if (past.method != method) {
    throw ArgumentError(concat("replay: growth step ", index, " was taken by the method ", past.method, ", not by ",
                               method, "; replay it with that method"));
  }
  for (const SiteReport& site : past.sites) {
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
