// Definitions of how_many.hpp.
#pragma once

#include <algorithm>
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
  refuse_below_zero("significance", least_significance());
  for (const auto& [name, width] : targets) {
    if (width < 1) refuse(("the target width of " + name).c_str(), static_cast<double>(width), "be at least 1");
  }
}

MERISTEM_INLINE void HowMany::limit(Candidate& candidate) const {
  candidate.at_most(at_most);
  const auto share_of = [](double share, std::int64_t of) {
    return static_cast<std::int64_t>(std::ceil(share * static_cast<double>(of)));
  };
  const std::int64_t width = candidate.report.width;
  if (share_of_width > 0.0) candidate.at_most(std::max<std::int64_t>(share_of(share_of_width, width), 1));
  if (share_of_outputs > 0.0) candidate.at_most(share_of(share_of_outputs, candidate.fan_out));
  std::int64_t most = unlimited;
  if (const auto found = targets.find(candidate.width_name()); found != targets.end()) most = found->second;
  if (target) most = std::min(most, target(candidate));
  if (most != unlimited) candidate.at_most(most - width, concat("its target width of ", most, " is reached"));
  if (!candidate.solved || explained >= 1.0) return;
  const std::vector<double>& lambda = candidate.report.lambda;
  double total = 0.0, sum = 0.0;
  for (const double value : lambda) total += value > candidate.report.threshold ? value * value : 0.0;
  const std::int64_t found = std::min(candidate.report.found, candidate.units);
  std::int64_t count = 0;
  while (count < found && count < std::ssize(lambda) && sum < explained * total) {
    const double value = lambda[static_cast<std::size_t>(count++)];
    sum += value * value;
  }
  if (count < found) candidate.at_most(count);
}

}  // namespace meristem::grow
