// GradMax: units that will receive the largest gradients.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/triplets.hpp>

namespace meristem::grow {

/// U. Evci, B. van Merriënboer, T. Unterthiner, M. Vladymyrov, F. Pedregosa, "GradMax: growing neural networks using
/// gradient information" (ICLR 2022): fan-ins of zero, fan-outs c v_k with the leading right singular vectors v_k of M,
/// which maximise the norm of the gradient at the fan-ins, c² σ'(0)² Σ σ_k². Scores are the σ_k, the gain is Σ σ_k².
///
/// In front of a ReLU, which lets no gradient pass at 0, fan-ins are small instead: along the left singular vectors,
/// where the gradient would move them, with the better sign. Behind a BatchNorm, which takes the mean out of a
/// gradient, M is that of inputs less their mean.
class GradMax final : public GrowthMethod {
 public:
  struct Options {
    /// c. The paper's experiments take the mean norm of today's fan-outs, for which this is 0; those of TINY take 1e-3.
    double norm = 1e-3;
  };

  explicit GradMax(const Options& options) : options_(options) {}

  [[nodiscard]] std::string name() const override { return "gradmax"; }
  [[nodiscard]] Needs needs() const override { return {.goal = true}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    const detail::WhitenedCross<double> m(site.norm ? site.centred_goal.view() : site.moments.m.view());
    const detail::Triplets found = detail::leading_triplets(ctx, m, 0.0, site.max_units);
    if (found.units == 0) {
      return detail::no_units(site.max_units == 0 ? "no unit added: max_units is 0"
                                                  : "no unit added: M is zero, no gradient reaches a new unit");
    }
    const double c = options_.norm > 0.0 ? options_.norm : detail::fan_out_norm(site, UnitScale::copied, found.units);
    std::vector<double> fan_out = unit_rows(to_host(ctx, found.right), found, c);
    Choice choice;
    if (site.relu) {
      const double length = detail::almost_zero * detail::fan_in_norm(site, UnitScale::copied);
      choice = detail::almost_without_fan_in(found.units, unit_rows(to_host(ctx, found.left), found, length),
                                             std::move(fan_out));
    } else {
      choice = detail::without_fan_in(site, found.units, std::move(fan_out));
    }
    choice.lambda = found.lambda;
    for (std::int64_t k = 0; k < found.units; ++k) {
      choice.gain += found.lambda[static_cast<std::size_t>(k)] * found.lambda[static_cast<std::size_t>(k)];
    }
    if (found.gave_way) choice.note += concat(choice.note.empty() ? "" : "; ", detail::krylov_gave_way);
    note_rank(site, choice);
    return choice;
  }

 private:
  /// Rows of norm √σ_k to rows of norm `norm`.
  [[nodiscard]] static std::vector<double> unit_rows(std::vector<double> rows, const detail::Triplets& found,
                                                     double norm) {
    const std::size_t units = static_cast<std::size_t>(found.units), columns = rows.size() / units;
    for (std::size_t k = 0; k < units; ++k) {
      for (std::size_t i = 0; i < columns; ++i) rows[k * columns + i] *= norm / std::sqrt(found.lambda[k]);
    }
    return rows;
  }

  Options options_;
};

/// GradMax with fan-outs of this norm; 0 for the mean norm of today's.
[[nodiscard]] inline Method gradmax(double norm = 1e-3) { return make_method<GradMax>(GradMax::Options{.norm = norm}); }

}  // namespace meristem::grow
