// Definitions of random.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <meristem/grow/methods/random.hpp>

namespace meristem::grow::detail {

/// Which side of a new unit is zero, so that the network's outputs stay what they are.
enum class ZeroSide { fan_out, fan_in };

class Random final : public GrowthMethod {
 public:
  Random(ZeroSide zero, UnitScale scale) : zero_(zero), scale_(scale) {}

  [[nodiscard]] std::string name() const override {
    return std::string("random") + (zero_ == ZeroSide::fan_in ? "-fan-out" : "") +
           (scale_ == UnitScale::kaiming ? "-kaiming" : "");
  }
  [[nodiscard]] Needs needs() const override { return {}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    const std::int64_t units = site.max_units;
    if (units == 0) return no_units("no unit added: max_units is 0");
    const double in = fan_in_norm(ctx, site, scale_);
    if (zero_ == ZeroSide::fan_out) {
      return without_fan_out(
          ctx, site,
          random_rows(ctx, random_of(ctx, site, Draw::fan_in), units, features_of(site), in, site.unit_bias));
    }
    const double out = fan_out_norm(ctx, site, scale_, units);
    Tensor<double> fan_out =
        random_rows(ctx, random_of(ctx, site, Draw::fan_out), units, site.taps * site.outputs, out, false);
    if (!site.relu) return without_fan_in(ctx, site, std::move(fan_out));
    Tensor<double> fan_in = random_rows(ctx, random_of(ctx, site, Draw::fan_in), units, features_of(site),
                                        almost_zero * in, site.unit_bias);
    return almost_without_fan_in(std::move(fan_in), std::move(fan_out));
  }

 private:
  ZeroSide zero_;
  UnitScale scale_;
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE Method random_units(UnitScale scale) {
  return std::make_shared<const detail::Random>(detail::ZeroSide::fan_out, scale);
}

MERISTEM_INLINE Method random_fan_outs(UnitScale scale) {
  return std::make_shared<const detail::Random>(detail::ZeroSide::fan_in, scale);
}

}  // namespace meristem::grow
