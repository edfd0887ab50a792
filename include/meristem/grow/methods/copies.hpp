// Methods that leave the network's function alone and read no statistics: Net2Wider, and pairs with variance transfer.
#pragma once

#include <string>

#include <meristem/core/philox.hpp>
#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>

namespace meristem::grow {

namespace detail {

class Net2Wider final : public GrowthMethod {
 public:
  struct Options {
    double noise = 1e-3;  ///< deviation, in units of the fan-in's root mean square
  };

  explicit Net2Wider(const Options& options);

  [[nodiscard]] std::string name() const override { return "net2wider"; }
  [[nodiscard]] Needs needs() const override { return {}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override;

 private:
  Options options_;
};

}  // namespace detail

/// T. Chen, I. Goodfellow, J. Shlens, "Net2Net: accelerating learning via knowledge transfer" (ICLR 2016),
/// Net2WiderNet: every new unit is a copy of one of today's, drawn at random, and the r_j copies of unit j share its
/// fan-out equally. A BatchNorm's channels are copied with their units. Some noise on the copies' fan-ins lets them
/// part; without noise the outputs stay what they are up to rounding.
/// `noise` is its deviation, in units of the fan-in's root mean square.
[[nodiscard]] inline Method net2wider(double noise = 1e-3) {
  return std::make_shared<const detail::Net2Wider>(detail::Net2Wider::Options{.noise = noise});
}

namespace detail {

class Paired final : public GrowthMethod {
 public:
  struct Options {
    UnitScale scale = UnitScale::copied;
    bool transfer = true;  ///< rescale today's weights
  };

  explicit Paired(const Options& options) : options_(options) {}

  [[nodiscard]] std::string name() const override { return "paired"; }
  [[nodiscard]] Needs needs() const override { return {}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override;

 private:
  Options options_;
};

}  // namespace detail

/// X. Yuan, P. Savarese, M. Maire, "Accelerated training via incrementally growing neural networks using variance
/// transfer and learning rate adaptation" (NeurIPS 2023): pairs of units with equal random fan-ins v and opposite
/// random fan-outs z, -z, which cancel until training parts them. So that variances carry over to the wider layer, the
/// weights by which the consumer reads today's units get the factor s = √(width / new width).
///
/// The outputs stay what they are: where a BatchNorm stands behind the consumer it takes s out again (its running
/// statistics follow; in training mode up to its epsilon), else today's fan-ins get the factor 1 / s if the activation
/// is homogeneous, and else nothing is rescaled and the note says so.
/// Without `transfer` today's weights stay as they are.
[[nodiscard]] inline Method paired(UnitScale scale = UnitScale::copied, bool transfer = true) {
  return std::make_shared<const detail::Paired>(detail::Paired::Options{.scale = scale, .transfer = transfer});
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/copies_impl.hpp>
#endif
