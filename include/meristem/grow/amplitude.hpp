// How far to go along a growth step: the line search over its amplitude γ.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

struct LineSearchOptions {
  double smallest = 0x1p-27;              ///< first γ tried; the following ones double it
  double largest = 16.0;                  ///< last γ tried
  double least_relative_decrease = 1e-3;  ///< accept only if the loss falls by at least this share of itself

  friend bool operator==(const LineSearchOptions&, const LineSearchOptions&) = default;
};

/// How new units are scaled before an amplitude is chosen.
enum class Normalization {
  none,  ///< as the method gives them
  /// M. Verbockhaven et al., "Growing tiny networks" (TMLR 2024): all fan-ins by one factor, so that the new
  /// pre-activations have the mean square of the existing ones; then all fan-outs by one, so that the units change the
  /// consumer's output by as much as its own mean square. What has no existing counterpart keeps its scale.
  matched,
  /// U. Evci et al., "GradMax" (ICLR 2022): fan-outs by one factor, to the mean squared norm faint_norm².
  faint,
};

/// How far growth goes along what the method proposes.
struct AmplitudeOptions {
  /// The amplitude γ to apply without a search, always accepted unless the loss becomes infinite or NaN. None searches.
  std::optional<double> fixed = std::nullopt;
  Normalization normalization = Normalization::none;
  double faint_norm = 1e-3;  ///< of a fan-out, on average, with Normalization::faint

  /// Throws ArgumentError for a number outside its range.
  void require_valid() const {
    if (fixed && !(*fixed >= 0.0 && std::isfinite(*fixed))) {
      throw ArgumentError(concat("amplitude.fixed is ", *fixed, "; it must be 0 or more, and finite"));
    }
    if (!(faint_norm > 0.0 && std::isfinite(faint_norm))) {
      throw ArgumentError(concat("amplitude.faint_norm is ", faint_norm, "; it must be positive and finite"));
    }
  }
};

struct LineSearchResult {
  bool accepted = false;
  double gamma = 0.0;        ///< 0 if not accepted
  double loss_before = 0.0;  ///< at γ = 0
  double loss_after = 0.0;   ///< at `gamma`
  int evaluations = 0;
};

/// Tries γ = 0 and then rising powers of two, stops at the first rise of the loss, and takes the best; the rule of M.
/// Verbockhaven et al., "Growing tiny networks" (TMLR 2024). `loss_at(γ)` is the loss on a fixed set of samples.
///
/// With the `slope` of the loss at 0, a decrease per γ, amplitudes whose decrease to first order is below a 64th of
/// what acceptance asks for are passed over. Throws ArgumentError for bounds out of order and NumericError if the loss
/// at γ = 0 is not finite; a loss that is not finite elsewhere counts as a rise.
[[nodiscard]] inline LineSearchResult line_search(const std::function<double(double)>& loss_at,
                                                  const LineSearchOptions& options = {}, double slope = 0.0) {
  if (!(options.smallest > 0.0) || !(options.largest >= options.smallest) || !std::isfinite(options.largest)) {
    throw ArgumentError(
        concat("line search: needs 0 < smallest <= largest; got ", options.smallest, " and ", options.largest));
  }
  if (!(options.least_relative_decrease >= 0.0 && options.least_relative_decrease < 1.0)) {
    throw ArgumentError(
        concat("line search: least_relative_decrease is ", options.least_relative_decrease, "; it must lie in [0, 1)"));
  }
  LineSearchResult result;
  result.loss_before = loss_at(0.0);
  result.evaluations = 1;
  if (!std::isfinite(result.loss_before)) {
    throw NumericError(concat("line search: the loss before growth is ", result.loss_before,
                              "; lower the learning rate or look at the data"));
  }
  double best = result.loss_before, best_gamma = 0.0, previous = result.loss_before;
  double gamma = options.smallest;
  if (slope > 0.0) {
    const double least = options.least_relative_decrease * std::abs(result.loss_before) / (8.0 * slope);
    while (2.0 * gamma <= std::min(least, options.largest)) gamma *= 2.0;
  }
  for (; gamma <= options.largest; gamma *= 2.0) {
    const double loss = loss_at(gamma);
    ++result.evaluations;
    // Below the resolution of the loss, equal values are no rise.
    if (!std::isfinite(loss) || loss > previous + 1e-7 * std::abs(previous)) break;
    if (loss < best) {
      best = loss;
      best_gamma = gamma;
    }
    previous = loss;
  }
  result.accepted =
      best_gamma > 0.0 && result.loss_before - best >= options.least_relative_decrease * std::abs(result.loss_before);
  result.gamma = result.accepted ? best_gamma : 0.0;
  result.loss_after = result.accepted ? best : result.loss_before;
  return result;
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow
