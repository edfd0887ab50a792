// Definitions of amplitude.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include <meristem/grow/policy/amplitude.hpp>

namespace meristem::grow {

MERISTEM_INLINE void Amplitude::require_valid() const {
  const auto check = [](const char* option, double value, bool fits, const char* range) {
    if (!fits) throw ArgumentError(concat("amplitude.", option, " is ", value, "; it must ", range));
  };
  check("first_decrease", first_decrease, first_decrease > 0.0 && first_decrease < 1.0, "lie between 0 and 1");
  check("largest", largest, largest > 0.0 && std::isfinite(largest), "be positive, and finite");
  check("least_relative_decrease", least_relative_decrease,
        least_relative_decrease >= 0.0 && least_relative_decrease < 1.0, "lie in [0, 1)");
  check("most_evaluations", most_evaluations, most_evaluations >= 2, "be 2 or more: the losses at 0 and at one γ");
  if (faint_norm) {
    check("faint_norm", *faint_norm, *faint_norm > 0.0 && std::isfinite(*faint_norm), "be positive, and finite");
    if (matched) throw ArgumentError("amplitude.matched and amplitude.faint_norm are both given; give one of them");
  }
  if (!fixed) return;
  check("fixed", *fixed, *fixed >= 0.0 && std::isfinite(*fixed), "be 0 or more, and finite");
  const Amplitude usual;
  if (first_decrease != usual.first_decrease || largest != usual.largest ||
      least_relative_decrease != usual.least_relative_decrease || most_evaluations != usual.most_evaluations) {
    throw ArgumentError(
        "amplitude.fixed leaves nothing to search for, and numbers of the line search are given too; give one of "
        "them");
  }
}

}  // namespace meristem::grow

namespace meristem::grow::detail {

MERISTEM_INLINE double first_amplitude(const Amplitude& options, double loss, double slope) {
  const double wanted = slope > 0.0 ? options.first_decrease * std::abs(loss) / slope : 1.0;
  const double rounded = wanted > 0.0 && std::isfinite(wanted) ? std::exp2(std::round(std::log2(wanted))) : 1.0;
  return std::clamp(rounded, 0x1p-60, options.largest);
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE detail::LineSearchResult line_search(const std::function<double(double)>& loss_at, double slope,
                                                     const Amplitude& options) {
  options.require_valid();
  detail::LineSearchResult result;
  result.loss_before = loss_at(0.0);
  result.evaluations = 1;
  if (!std::isfinite(result.loss_before)) {
    throw NumericError(concat("line search: the loss before growth is ", result.loss_before,
                              "; lower the learning rate or look at the data"));
  }
  double best = result.loss_before, best_gamma = 0.0;
  const auto lowers = [&](double gamma) {
    const double loss = loss_at(gamma);
    ++result.evaluations;
    if (!(std::isfinite(loss) && loss < best)) return false;
    best = loss;
    best_gamma = gamma;
    return true;
  };
  double gamma = detail::first_amplitude(options, result.loss_before, slope);
  const double factor = lowers(gamma) ? 2.0 : 0.5;
  while (result.evaluations < options.most_evaluations && factor * gamma <= options.largest) {
    gamma *= factor;
    if (!lowers(gamma) && best_gamma > 0.0) break;
  }
  result.accepted =
      best_gamma > 0.0 && result.loss_before - best >= options.least_relative_decrease * std::abs(result.loss_before);
  result.gamma = result.accepted ? best_gamma : 0.0;
  result.loss_after = result.accepted ? best : result.loss_before;
  return result;
}

}  // namespace meristem::grow
