// Definitions of gradmax.hpp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <meristem/grow/methods/gradmax.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE Choice GradMax::choose(Context& ctx, const SiteMoments& site) const {
  const WhitenedCross<double> m(site.norm ? site.centred_goal.view() : site.moments.m.view());
  const Triplets found = leading_triplets(ctx, m, 0.0, site.max_units);
  if (found.units == 0) {
    return no_units(site.max_units == 0 ? "no unit added: max_units is 0"
                                        : "no unit added: M is zero, no gradient reaches a new unit");
  }
  const double c = options_.norm > 0.0 ? options_.norm : fan_out_norm(site, UnitScale::copied, found.units);
  std::vector<double> fan_out = unit_rows(to_host(ctx, found.right), found, c);
  Choice choice;
  if (site.relu) {
    const double length = almost_zero * fan_in_norm(site, UnitScale::copied);
    choice = almost_without_fan_in(found.units, unit_rows(to_host(ctx, found.left), found, length), std::move(fan_out));
  } else {
    choice = without_fan_in(site, found.units, std::move(fan_out));
  }
  choice.lambda = found.lambda;
  for (std::int64_t k = 0; k < found.units; ++k) {
    choice.gain += found.lambda[static_cast<std::size_t>(k)] * found.lambda[static_cast<std::size_t>(k)];
  }
  if (found.gave_way) choice.note += concat(choice.note.empty() ? "" : "; ", krylov_gave_way);
  note_rank(site, choice);
  return choice;
}

MERISTEM_INLINE std::vector<double> GradMax::unit_rows(std::vector<double> rows, const Triplets& found, double norm) {
  const std::size_t units = static_cast<std::size_t>(found.units), columns = rows.size() / units;
  for (std::size_t k = 0; k < units; ++k) {
    for (std::size_t i = 0; i < columns; ++i) rows[k * columns + i] *= norm / std::sqrt(found.lambda[k]);
  }
  return rows;
}

}  // namespace meristem::grow::detail
