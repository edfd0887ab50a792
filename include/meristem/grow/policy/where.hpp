// Which sites a growth step considers.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::grow {

/// Which sites a growth step considers. Gains are true first-order decreases of the loss, of everything applied.
enum class Where {
  all,                      ///< every site in the order data flows, each measured after the ones before it have grown
  together,                 ///< every site, all measured in the same passes, then grown in the order data flows
  best_gain,                ///< the one with the largest gain
  round_robin,              ///< one site or stream a step, the one whose turn came longest ago
  best_gain_per_parameter,  ///< the one with the largest gain per parameter that its units add
  best_gain_per_flop,       ///< the one with the largest gain per multiply-add that its units add to a forward pass
};

inline constexpr std::array<std::string_view, 6> where_names = {
    "all", "together", "best_gain", "round_robin", "best_gain_per_parameter", "best_gain_per_flop"};

[[nodiscard]] constexpr std::string_view name_of(Where where) { return where_names[static_cast<std::size_t>(where)]; }

/// Throws ArgumentError for a name that is none of `where_names`.
[[nodiscard]] inline Where parse_where(std::string_view name) {
  std::string names;
  for (std::size_t i = 0; i < where_names.size(); ++i) {
    if (where_names[i] == name) return static_cast<Where>(i);
    names += concat(i == 0 ? "" : ", ", where_names[i]);
  }
  throw ArgumentError(concat("growth: '", name, "' is no rule for where to grow; the rules are ", names));
}

/// True if the rule compares all sites and grows the best one alone.
[[nodiscard]] constexpr bool picks_best(Where where) {
  return where == Where::best_gain || where == Where::best_gain_per_parameter || where == Where::best_gain_per_flop;
}

}  // namespace meristem::grow
