// Units with random weights on one side and none on the other: the baseline.
#pragma once

#include <string>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

namespace detail {

/// Which side of a new unit is zero, so that the network's outputs stay what they are.
enum class ZeroSide { fan_out, fan_in };

class Random final : public GrowthMethod {
 public:
  struct Options {
    ZeroSide zero = ZeroSide::fan_out;
    UnitScale scale = UnitScale::copied;
  };

  explicit Random(const Options& options) : options_(options) {}

  [[nodiscard]] std::string name() const override;
  [[nodiscard]] Needs needs() const override { return {}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override;

 private:
  Options options_;
};

}  // namespace detail

/// Random units, the baseline of U. Evci et al., "GradMax: growing neural networks using gradient information" (ICLR
/// 2022), "Random": one side normally distributed at the scale of today's weights, the other zero. Reads no statistics.
[[nodiscard]] inline Method random_units(UnitScale scale = UnitScale::copied) {
  return std::make_shared<const detail::Random>(detail::Random::Options{.scale = scale});
}
/// The other way round: random fan-outs, fan-ins of zero.
[[nodiscard]] inline Method random_fan_outs(UnitScale scale = UnitScale::copied) {
  return std::make_shared<const detail::Random>(
      detail::Random::Options{.zero = detail::ZeroSide::fan_in, .scale = scale});
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/random_impl.hpp>
#endif
