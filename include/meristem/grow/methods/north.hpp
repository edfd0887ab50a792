// NORTH*: units that do what no unit does yet, added where those there are do not repeat each other.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/solver.hpp>
#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/solve/triplets.hpp>

namespace meristem::grow {

/// Effective dimension of the activations of a site, the share of their singular values, those of H / √n with H (n,
/// width), that exceed `epsilon`; the metric φ^ED of K. Maile, E. Rachelson, H. Luga, D. Wilson, "When, where, and how
/// to add new neurons to ANNs" (AutoML 2022). Read from S1, which has to be gathered: of maps H has a row for each
/// position that an output reads. 0 for a site without units.
[[nodiscard]] inline double effective_dimension(Context& ctx, const SiteMoments& site, double epsilon = 0.01) {
  const std::int64_t d = site.consumer_inputs - (site.consumer_bias ? 1 : 0), width = site.width;
  if (width == 0) return 0.0;
  const std::vector<double> s1 = to_host(ctx, site.moments.s1);
  const std::int64_t taps = d / width;
  std::vector<double> sum(static_cast<std::size_t>(width * width), 0.0);
  const double share = 1.0 / static_cast<double>(taps * site.positions);
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    for (std::int64_t i = 0; i < width; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        const std::int64_t at = (tap * width + i) * site.consumer_inputs + tap * width + j;
        sum[static_cast<std::size_t>(i * width + j)] += share * s1[static_cast<std::size_t>(at)];
      }
    }
  }
  Tensor<double> vectors = from_host<double>(ctx, {width, width}, sum), values(ctx, {width});
  syevd(ctx, vectors.view(), values.view());
  double count = 0.0;
  for (const double value : to_host(ctx, values)) count += std::sqrt(std::max(value, 0.0)) > epsilon ? 1.0 : 0.0;
  return count / static_cast<double>(width);
}

/// NORTH*'s trigger: how many units a layer should get now, ⌊width (φ - γ φ_0)⌋ or 0, for its effective dimension φ now
/// and φ_0 when training began.
[[nodiscard]] inline std::int64_t north_trigger(std::int64_t width, double now, double at_start, double gamma = 0.97) {
  const double excess = static_cast<double>(width) * (now - gamma * at_start);
  // A product that is a whole number may come out below it.
  return std::max<std::int64_t>(static_cast<std::int64_t>(std::floor(excess + 1e-9)), 0);
}

/// NORTH* of K. Maile et al. (2022), initialisation: fan-ins whose pre-activations are orthogonal to those of today's
/// units and to each other on the samples, αᵀ S w = 0, at the scale of today's weights; fan-outs of zero. With
/// `least_dimension` a site gets no unit while its effective dimension is below that.
class North final : public GrowthMethod {
 public:
  struct Options {
    UnitScale scale = UnitScale::copied;
    double least_dimension = 0.0;  ///< effective dimension below which nothing is added; 0 adds always
    double epsilon = 0.01;         ///< see `effective_dimension`
  };

  explicit North(const Options& options) : options_(options) {}

  [[nodiscard]] std::string name() const override { return "north"; }
  [[nodiscard]] Needs needs() const override { return {.inputs = true, .consumer = options_.least_dimension > 0.0}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    if (site.max_units == 0) return detail::no_units("no unit added: max_units is 0");
    if (options_.least_dimension > 0.0 && site.width > 0) {
      const double dimension = effective_dimension(ctx, site, options_.epsilon);
      if (dimension < options_.least_dimension) {
        return detail::no_units(concat("no unit added: the effective dimension of the layer is ", dimension,
                                       ", less than ", options_.least_dimension));
      }
    }
    const std::int64_t p = site.inputs;
    Tensor<double> basis(ctx, {0, p});
    if (site.width > 0) {
      const Tensor<double> today = from_host<double>(ctx, {site.width, p}, site.fan_in);
      basis = detail::orthonormal(ctx, basis.view(), times_s(ctx, site, today.view()));
    }
    const Philox random = detail::random_of(ctx, site, detail::Draw::fan_in);
    const double norm = detail::fan_in_norm(site, options_.scale);
    std::vector<double> fan_in;
    std::int64_t units = 0;
    for (; units < site.max_units && basis.extent(0) < p; ++units) {
      std::vector<double> draw;
      for (std::int64_t i = 0; i < p; ++i) draw.push_back(random.normal(static_cast<std::uint64_t>(units * p + i)));
      const Tensor<double> unit = detail::orthonormal(ctx, basis.view(), from_host<double>(ctx, {1, p}, draw));
      if (unit.extent(0) == 0) break;
      std::vector<double> row = to_host(ctx, unit);
      const double length = detail::norm_of(row.data(), detail::features_of(site));
      if (!(length > 0.0)) break;
      for (const double value : row) fan_in.push_back(value * norm / length);
      const Tensor<double> seen = detail::orthonormal(ctx, basis.view(), times_s(ctx, site, unit.view()));
      // An input that is always zero answers every pre-activation alike: nothing more to be orthogonal to.
      if (seen.extent(0) == 0) continue;
      Tensor<double> wider(ctx, {basis.extent(0) + 1, p});
      if (!basis.empty()) copy<double>(ctx, basis.view(), wider.view().slice(0, 0, basis.extent(0)));
      copy<double>(ctx, seen.view(), wider.view().slice(0, basis.extent(0), basis.extent(0) + 1));
      basis = std::move(wider);
    }
    if (units == 0) {
      return detail::no_units(concat("no unit added: today's ", site.width, " units leave no direction of the ", p,
                                     " inputs orthogonal to all of them"));
    }
    Choice choice = detail::without_fan_out(site, units, std::move(fan_in));
    if (units < site.max_units) {
      choice.note = concat("asked for ", site.max_units, " units; only ", units, " can be orthogonal to the others");
    }
    return choice;
  }

 private:
  [[nodiscard]] static Tensor<double> times_s(Context& ctx, const SiteMoments& site, View<const double> rows) {
    Tensor<double> result(ctx, rows.shape());
    gemm(ctx, Transpose::no, Transpose::no, 1, rows, site.moments.s.view(), 0, result.view());
    return result;
  }

  Options options_;
};

/// NORTH*; `least_dimension` is the effective dimension below which a site gets no unit.
[[nodiscard]] inline Method north(double least_dimension = 0.0) {
  return make_method<North>(North::Options{.least_dimension = least_dimension});
}

}  // namespace meristem::grow
