// Which sites a recorded growth step grew, found again in a network.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/grow/history.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

namespace detail {

/// What a Grower has to do again.
struct ReplayPlan {
  const GrowthEvent* event = nullptr;
  std::vector<std::size_t> which = {};           ///< sites that grew, by index
  std::vector<const SiteReport*> recorded = {};  ///< and what was recorded of each
  const SiteReport* block = nullptr;             ///< what was recorded of a residual block that joined, or null
};

}  // namespace detail

/// The plan for growth step `index` of a history, which must outlive it. Throws ArgumentError if there is none, if
/// another method took it, or for a site that is none of `sites`; DataError for a site of another width. Blocks that
/// were not there are left to the caller.
template <Real T>
[[nodiscard]] detail::ReplayPlan plan_replay(const History& history, std::size_t index, const std::string& method,
                                             const std::vector<Site<T>>& sites);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/replay_impl.hpp>
#endif
