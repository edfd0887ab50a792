// Definitions of random.hpp.
#pragma once

#include <utility>

#include <meristem/grow/methods/random.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE std::string Random::name() const {
  return std::string("random") + (options_.zero == ZeroSide::fan_in ? "-fan-out" : "") +
         (options_.scale == UnitScale::kaiming ? "-kaiming" : "");
}

MERISTEM_INLINE Choice Random::choose(Context& ctx, const SiteMoments& site) const {
  const std::int64_t units = site.max_units;
  if (units == 0) return no_units("no unit added: max_units is 0");
  const double in = fan_in_norm(ctx, site, options_.scale);
  if (options_.zero == ZeroSide::fan_out) {
    return without_fan_out(
        ctx, site, random_rows(ctx, random_of(ctx, site, Draw::fan_in), units, features_of(site), in, site.unit_bias));
  }
  const double out = fan_out_norm(ctx, site, options_.scale, units);
  Tensor<double> fan_out =
      random_rows(ctx, random_of(ctx, site, Draw::fan_out), units, site.taps * site.outputs, out, false);
  if (!site.relu) return without_fan_in(ctx, site, std::move(fan_out));
  Tensor<double> fan_in =
      random_rows(ctx, random_of(ctx, site, Draw::fan_in), units, features_of(site), almost_zero * in, site.unit_bias);
  return almost_without_fan_in(std::move(fan_in), std::move(fan_out));
}

}  // namespace meristem::grow::detail
