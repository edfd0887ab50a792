// Definitions of how_many.hpp.
#pragma once

#include <cmath>
#include <cstddef>

#include <meristem/grow/policy/how_many.hpp>

namespace meristem::grow {

MERISTEM_INLINE void HowMany::require_valid() const {
  const auto refuse = [](const char* what, double value, const char* range) {
    throw ArgumentError(concat("HowMany: ", what, " is ", value, "; it must ", range));
  };
  if (at_most < 1) refuse("at_most", static_cast<double>(at_most), "be at least 1");
  const auto refuse_below_zero = [&](const char* what, double value) {
    if (!(value >= 0.0 && std::isfinite(value))) refuse(what, value, "be 0 or more, and finite");
  };
  refuse_below_zero("share_of_width", share_of_width);
  refuse_below_zero("share_of_outputs", share_of_outputs);
  if (!(explained > 0.0 && explained <= 1.0)) refuse("explained", explained, "lie in (0, 1]");
  refuse_below_zero("significance", significance);
  for (const auto& [name, width] : targets) {
    if (width < 1) refuse(("the target width of " + name).c_str(), static_cast<double>(width), "be at least 1");
  }
}

MERISTEM_INLINE std::int64_t HowMany::target_width(const SiteSize& site) const {
  std::int64_t width = unlimited;
  if (const auto found = targets.find(site.name); found != targets.end()) width = found->second;
  if (target) width = std::min(width, target(site));
  return width;
}

MERISTEM_INLINE std::int64_t HowMany::limit(const SiteSize& site) const {
  std::int64_t result = at_most;
  const auto share_of = [](double share, std::int64_t of) {
    return static_cast<std::int64_t>(std::ceil(share * static_cast<double>(of)));
  };
  if (share_of_width > 0.0) {
    result = std::min(result, std::max<std::int64_t>(share_of(share_of_width, site.width), 1));
  }
  if (share_of_outputs > 0.0) result = std::min(result, share_of(share_of_outputs, site.fan_out));
  const std::int64_t width = target_width(site);
  if (width != unlimited) result = std::min(result, std::max<std::int64_t>(width - site.width, 0));
  return result;
}

MERISTEM_INLINE std::int64_t HowMany::explaining_units(const std::vector<double>& lambda, std::int64_t units,
                                                       double threshold) const {
  if (explained >= 1.0) return units;
  double total = 0.0;
  for (const double value : lambda) total += value > threshold ? value * value : 0.0;
  double sum = 0.0;
  std::int64_t count = 0;
  while (count < units && static_cast<std::size_t>(count) < lambda.size() && sum < explained * total) {
    const double value = lambda[static_cast<std::size_t>(count++)];
    sum += value * value;
  }
  return count;
}

}  // namespace meristem::grow
