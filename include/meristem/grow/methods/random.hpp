// Units with random weights on one side and none on the other: the baseline.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

/// Which side of a new unit is zero, so that the network's outputs stay what they are.
enum class ZeroSide { fan_out, fan_in };

/// Random units, the baseline of U. Evci et al., "GradMax: growing neural networks using gradient information" (ICLR
/// 2022), "Random": one side normally distributed at the scale of today's weights, the other zero. Reads no statistics.
class Random final : public GrowthMethod {
 public:
  struct Options {
    ZeroSide zero = ZeroSide::fan_out;
    UnitScale scale = UnitScale::copied;
  };

  explicit Random(const Options& options) : options_(options) {}

  [[nodiscard]] std::string name() const override {
    return std::string("random") + (options_.zero == ZeroSide::fan_in ? "-fan-out" : "") +
           (options_.scale == UnitScale::kaiming ? "-kaiming" : "");
  }
  [[nodiscard]] Needs needs() const override { return {}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    const std::int64_t units = site.max_units;
    if (units == 0) return detail::no_units("no unit added: max_units is 0");
    const double in = detail::fan_in_norm(site, options_.scale);
    if (options_.zero == ZeroSide::fan_out) {
      return detail::without_fan_out(site, units,
                                     detail::random_rows(detail::random_of(ctx, site, detail::Draw::fan_in), units,
                                                         detail::features_of(site), in, site.unit_bias));
    }
    const double out = detail::fan_out_norm(site, options_.scale, units);
    std::vector<double> fan_out = detail::random_rows(detail::random_of(ctx, site, detail::Draw::fan_out), units,
                                                      site.taps * site.outputs, out, false);
    if (!site.relu) return detail::without_fan_in(site, units, std::move(fan_out));
    std::vector<double> fan_in =
        detail::random_rows(detail::random_of(ctx, site, detail::Draw::fan_in), units, detail::features_of(site),
                            detail::almost_zero * in, site.unit_bias);
    return detail::almost_without_fan_in(units, std::move(fan_in), std::move(fan_out));
  }

 private:
  Options options_;
};

/// Random fan-ins, fan-outs of zero; or the other way round.
[[nodiscard]] inline Method random_units(ZeroSide zero = ZeroSide::fan_out, UnitScale scale = UnitScale::copied) {
  return make_method<Random>(Random::Options{.zero = zero, .scale = scale});
}

}  // namespace meristem::grow
