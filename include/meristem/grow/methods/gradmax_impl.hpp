// Definitions of gradmax.hpp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/gradmax.hpp>
#include <meristem/grow/solve/triplets.hpp>

namespace meristem::grow::detail {

class GradMax final : public GrowthMethod {
 public:
  explicit GradMax(double norm) : norm_(norm) {}

  [[nodiscard]] std::string name() const override { return "gradmax"; }
  [[nodiscard]] Needs needs() const override { return {.goal = true}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    const WhitenedCross<double> m(site.norm ? site.centred_goal.view() : site.moments.m.view());
    const Triplets found = leading_triplets(ctx, m, 0.0, site.max_units);
    if (found.units == 0) {
      return no_units(site.max_units == 0 ? "no unit added: max_units is 0"
                                          : "no unit added: M is zero, no gradient reaches a new unit");
    }
    const double c = norm_ > 0.0 ? norm_ : fan_out_norm(ctx, site, UnitScale::copied, found.units);
    Tensor<double> fan_out = unit_rows(ctx, found.right, found, c);
    Choice choice;
    if (site.relu) {
      const double length = almost_zero * fan_in_norm(ctx, site, UnitScale::copied);
      choice = almost_without_fan_in(unit_rows(ctx, found.left, found, length), std::move(fan_out));
    } else {
      choice = without_fan_in(ctx, site, std::move(fan_out));
    }
    choice.lambda = found.lambda;
    for (std::int64_t k = 0; k < found.units; ++k) {
      choice.gain += found.lambda[static_cast<std::size_t>(k)] * found.lambda[static_cast<std::size_t>(k)];
    }
    if (found.gave_way) choice.note += concat(choice.note.empty() ? "" : "; ", krylov_gave_way);
    note_rank(site, choice);
    return choice;
  }

 private:
  /// Rows of norm √σ_k to rows of norm `norm`.
  [[nodiscard]] static Tensor<double> unit_rows(Context& ctx, const Tensor<double>& rows, const Triplets& found,
                                                double norm) {
    std::vector<double> factors;
    for (std::int64_t k = 0; k < found.units; ++k) {
      factors.push_back(norm / std::sqrt(found.lambda[static_cast<std::size_t>(k)]));
    }
    Tensor<double> result(ctx, rows.shape());
    const Tensor<double> there = from_host<double>(ctx, {found.units}, factors);
    scaled_rows<double, double>(ctx, rows.view(), per_unit(there), result.view());
    return result;
  }

  double norm_;
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE Method gradmax(double norm) { return std::make_shared<const detail::GradMax>(norm); }

}  // namespace meristem::grow
