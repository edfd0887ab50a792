// How many units a site gets in one growth step.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/grow/policy/decider.hpp>

namespace meristem::grow {

/// A decider: limits on the number of units; the smallest counts. `a & b` joins two of them: the smaller limit, the
/// larger significance of those that are given, and what either insists on.
struct HowMany {
  std::int64_t at_most = unlimited;  ///< per site and growth step
  double share_of_width = 0.0;       ///< if positive: at most this share of today's units, rounded up, at least 1
  double share_of_outputs = 0.0;     ///< if positive: at most this share of the consumer's outputs, rounded up
  /// The fewest leading units whose Σ λ² is at least this share of that of all significant ones; 1 keeps all.
  double explained = 1.0;
  /// c of the threshold on λ below which a unit is noise; 0 keeps every unit that is not rounding error, none means 1.
  std::optional<double> significance = std::nullopt;
  /// Where no amplitude lowers the loss enough, the units go in at one that next to nothing depends on, for training to
  /// make use of; otherwise that site gets none.
  bool insist = false;
  /// Widths by site name, of a stream by that of its first source, never exceeded; others are not limited.
  std::map<std::string, std::int64_t> targets = {};
  /// Width that a site never exceeds, by a function of its name (of a stream that of its first source:
  /// `Candidate::width_name`) and sizes.
  std::function<std::int64_t(const Candidate&)> target = {};

  /// n units, significant or not, fewer only if the statistics show no more.
  [[nodiscard]] static HowMany fixed(std::int64_t n) { return {.at_most = n, .significance = 0.0, .insist = true}; }
  /// All units that stand out of sampling noise.
  [[nodiscard]] static HowMany significant(double c = 1.0) { return {.significance = c}; }
  [[nodiscard]] static HowMany of_width(double share) { return {.share_of_width = share}; }
  [[nodiscard]] static HowMany of_outputs(double share) { return {.share_of_outputs = share}; }
  [[nodiscard]] static HowMany explaining(double share) { return {.explained = share}; }
  [[nodiscard]] static HowMany up_to(std::map<std::string, std::int64_t> widths) {
    return {.targets = std::move(widths)};
  }
  [[nodiscard]] static HowMany up_to(std::function<std::int64_t(const Candidate&)> width) {
    return {.target = std::move(width)};
  }

  friend HowMany operator&(const HowMany& a, const HowMany& b) {
    const auto smaller_positive = [](double x, double y) { return x > 0.0 && y > 0.0 ? std::min(x, y) : x + y; };
    HowMany result = a;
    result.at_most = std::min(a.at_most, b.at_most);
    result.share_of_width = smaller_positive(a.share_of_width, b.share_of_width);
    result.share_of_outputs = smaller_positive(a.share_of_outputs, b.share_of_outputs);
    result.explained = std::min(a.explained, b.explained);
    result.significance = std::max(a.significance, b.significance);  // None is the least of all.
    result.insist = a.insist || b.insist;
    for (const auto& [name, width] : b.targets) {
      const auto [at, added] = result.targets.emplace(name, width);
      if (!added) at->second = std::min(at->second, width);
    }
    if (a.target && b.target) {
      result.target = [first = a.target, second = b.target](const Candidate& site) {
        return std::min(first(site), second(site));
      };
    } else if (b.target) {
      result.target = b.target;
    }
    return result;
  }

  [[nodiscard]] double least_significance() const noexcept { return significance.value_or(1.0); }

  /// Throws ArgumentError for a number outside its range.
  void require_valid() const;

  /// Lowers the candidate's units to the limits and, once its spectrum is known, to as many as explain the share
  /// asked for.
  void limit(Candidate& candidate) const;
};

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/how_many_impl.hpp>
#endif
