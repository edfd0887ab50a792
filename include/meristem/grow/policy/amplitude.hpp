// How far to go along a growth step: the amplitude γ, and what scale the units have before it is chosen.
#pragma once

#include <functional>
#include <optional>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::grow {

/// How far growth goes along what the method proposes.
struct Amplitude {
  /// The amplitude γ to apply without a search, always accepted unless the loss becomes infinite or NaN. None searches,
  /// as the next four say.
  std::optional<double> fixed = std::nullopt;
  /// The first γ tried is the one whose decrease to first order is this share of the loss.
  double first_decrease = 0.02;
  double largest = 16.0;                  ///< γ stays at or below it; it counts per position of a map
  double least_relative_decrease = 1e-3;  ///< accept only if the loss falls by at least this share of itself
  int most_evaluations = 10;              ///< losses computed, the one at γ = 0 included

  /// Before, as M. Verbockhaven et al., "Growing tiny networks" (TMLR 2024): all fan-ins by one factor, so that the new
  /// pre-activations have the mean square of the existing ones; then all fan-outs by one, so that the units change the
  /// consumer's output by as much as its own mean square. What has no existing counterpart keeps its scale.
  bool matched = false;
  /// Before, as U. Evci et al., "GradMax" (ICLR 2022): fan-outs by one factor, to this root mean squared norm.
  std::optional<double> faint_norm = std::nullopt;
  /// How γ is shared out between fan-in and fan-out, whose product alone is given: behind a BatchNorm the weight of a
  /// new channel is the root mean square of today's, elsewhere the norm of a fan-in is, and the fan-out makes up for
  /// it; if false, in streams without norms and in empty layers both get √γ. The function stays what it is if the
  /// activation is homogeneous (ReLU, identity). For others the share is fixed for the γ at which the line search
  /// begins. A method that fixes the amplitude fixes both sides.
  bool balanced = true;

  /// Throws ArgumentError for a number outside its range, for a fixed amplitude beside numbers of the search, and for
  /// two scales.
  void require_valid() const;
};

namespace detail {

struct LineSearchResult {
  bool accepted = false;
  double gamma = 0.0;        ///< 0 if not accepted
  double loss_before = 0.0;  ///< at γ = 0
  double loss_after = 0.0;   ///< at `gamma`
  int evaluations = 0;
};

/// The γ at which a line search begins: the power of two next to where the loss falls by `first_decrease` of itself to
/// first order. Without a slope downhill there is no scale to go by, and it is 1.
[[nodiscard]] double first_amplitude(const Amplitude& options, double loss, double slope);

}  // namespace detail

/// Looks for the amplitude γ that lowers the loss most. `loss_at(γ)` is the loss on a fixed set of samples, `slope` its
/// decrease per γ at 0. From the first γ (Amplitude::first_decrease) it doubles γ as long as the loss falls; if that
/// one is no better than γ = 0, it halves γ until one is, and goes on as long as the loss falls. Of what was tried the
/// best is taken, if it is good enough: so far the rule of M. Verbockhaven et al., "Growing tiny networks" (TMLR 2024),
/// who begin at 2^-27 and go up.
///
/// Throws ArgumentError for options out of order and NumericError if the loss at γ = 0 is not finite; a loss that is
/// not finite elsewhere counts as a rise.
[[nodiscard]] detail::LineSearchResult line_search(const std::function<double(double)>& loss_at, double slope,
                                                   const Amplitude& options = {});

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/amplitude_impl.hpp>
#endif
