// How many units a site gets in one growth step.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/grow/solve/units.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

/// What a rule for the number of units may ask of a site.
struct SiteSize {
  std::string name;          ///< of a stream: that of its first source
  std::int64_t width = 0;    ///< units today
  std::int64_t fan_in = 0;   ///< p, the bias included
  std::int64_t fan_out = 0;  ///< q, of a stream that of its widest reader
};

template <Real T>
[[nodiscard]] SiteSize size_of(const Site<T>& site) {
  SiteSize size{.name = site.tied() ? site.stream : site.name, .width = site.width(), .fan_in = site.fan_in()};
  for (std::size_t i = 0; i < site.readers(); ++i) {
    size.fan_out = std::max(size.fan_out, site.reader(i).consumer.out_features());
  }
  return size;
}

/// Limits on the number of units; the smallest counts. `a & b` joins two rules: the smaller limit, the larger
/// significance, and what either insists on.
struct HowMany {
  std::int64_t at_most = unlimited;  ///< per site and growth step
  double share_of_width = 0.0;       ///< if positive: at most this share of today's units, rounded up, at least 1
  double share_of_outputs = 0.0;     ///< if positive: at most this share of the consumer's outputs, rounded up
  /// The fewest leading units whose Σ λ² is at least this share of that of all significant ones; 1 keeps all.
  double explained = 1.0;
  /// c of the threshold on λ below which a unit is noise; 0 keeps every unit that is not rounding error.
  double significance = 0.0;
  /// Where no amplitude lowers the loss enough, the units go in at one that next to nothing depends on, for training to
  /// make use of; otherwise that site gets none.
  bool insist = false;
  /// Widths by site name, of a stream by that of its first source, never exceeded; others are not limited.
  std::map<std::string, std::int64_t> targets = {};
  /// Width that a site never exceeds, by a function of its size.
  std::function<std::int64_t(const SiteSize&)> target = {};

  /// n units, fewer only if the statistics show no more.
  [[nodiscard]] static HowMany fixed(std::int64_t n) { return {.at_most = n, .insist = true}; }
  /// All units that stand out of sampling noise.
  [[nodiscard]] static HowMany significant(double c = 1.0) { return {.significance = c}; }
  [[nodiscard]] static HowMany of_width(double share) { return {.share_of_width = share}; }
  [[nodiscard]] static HowMany of_outputs(double share) { return {.share_of_outputs = share}; }
  [[nodiscard]] static HowMany explaining(double share) { return {.explained = share}; }
  [[nodiscard]] static HowMany up_to(std::map<std::string, std::int64_t> widths) {
    return {.targets = std::move(widths)};
  }
  [[nodiscard]] static HowMany up_to(std::function<std::int64_t(const SiteSize&)> width) {
    return {.target = std::move(width)};
  }

  friend HowMany operator&(const HowMany& a, const HowMany& b) {
    const auto smaller_positive = [](double x, double y) { return x > 0.0 && y > 0.0 ? std::min(x, y) : x + y; };
    HowMany result = a;
    result.at_most = std::min(a.at_most, b.at_most);
    result.share_of_width = smaller_positive(a.share_of_width, b.share_of_width);
    result.share_of_outputs = smaller_positive(a.share_of_outputs, b.share_of_outputs);
    result.explained = std::min(a.explained, b.explained);
    result.significance = std::max(a.significance, b.significance);
    result.insist = a.insist || b.insist;
    for (const auto& [name, width] : b.targets) {
      const auto [at, added] = result.targets.emplace(name, width);
      if (!added) at->second = std::min(at->second, width);
    }
    if (a.target && b.target) {
      result.target = [first = a.target, second = b.target](const SiteSize& site) {
        return std::min(first(site), second(site));
      };
    } else if (b.target) {
      result.target = b.target;
    }
    return result;
  }

  /// Throws ArgumentError for a number outside its range.
  void require_valid() const;

  /// The width the site never exceeds, or `unlimited`.
  [[nodiscard]] std::int64_t target_width(const SiteSize& site) const;

  /// Units the site may get before its spectrum is known, 0 or more.
  [[nodiscard]] std::int64_t limit(const SiteSize& site) const;

  /// How many of the leading `units` explain the share asked for, of what all λ (descending) above `threshold` do.
  [[nodiscard]] std::int64_t explaining_units(const std::vector<double>& lambda, std::int64_t units,
                                              double threshold) const;
};

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/how_many_impl.hpp>
#endif
