// Definitions of north.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/lapack.hpp>
#include <meristem/grow/methods/north.hpp>
#include <meristem/grow/solve/triplets.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow {

MERISTEM_INLINE double effective_dimension(Context& ctx, const SiteMoments& site, double epsilon) {
  const std::int64_t d = site.consumer_inputs - (site.consumer_bias ? 1 : 0), width = site.width;
  if (width == 0) return 0.0;
  const std::vector<double> s1 = to_host(ctx, site.moments.s1);
  const std::int64_t features = site.before + width + site.after, taps = d / features;
  std::vector<double> sum(static_cast<std::size_t>(width * width), 0.0);
  const double share = 1.0 / static_cast<double>(taps * site.positions);
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    for (std::int64_t i = 0; i < width; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        const std::int64_t first = tap * features + site.before, at = (first + i) * site.consumer_inputs + first + j;
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

MERISTEM_INLINE std::int64_t north_trigger(std::int64_t width, double now, double at_start, double gamma) {
  const double excess = static_cast<double>(width) * (now - gamma * at_start);
  // A product that is a whole number may come out below it.
  return std::max<std::int64_t>(static_cast<std::int64_t>(std::floor(excess + 1e-9)), 0);
}

}  // namespace meristem::grow

namespace meristem::grow::detail {

class North final : public GrowthMethod {
 public:
  North(double least_dimension, UnitScale scale, double epsilon)
      : least_dimension_(least_dimension), scale_(scale), epsilon_(epsilon) {}

  [[nodiscard]] std::string name() const override { return "north"; }
  [[nodiscard]] Needs needs() const override { return {.inputs = true, .consumer = least_dimension_ > 0.0}; }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override {
    if (site.max_units == 0) return no_units("no unit added: max_units is 0");
    if (least_dimension_ > 0.0 && site.width > 0) {
      const double dimension = effective_dimension(ctx, site, epsilon_);
      if (dimension < least_dimension_) {
        return no_units(concat("no unit added: the effective dimension of the layer is ", dimension, ", less than ",
                               least_dimension_));
      }
    }
    const std::int64_t p = site.inputs;
    Tensor<double> basis(ctx, {0, p});
    if (site.width > 0) {
      basis = orthonormal(ctx, basis.view(), times_s(ctx, site, site.today->fan_in.view()));
    }
    const Philox random = random_of(ctx, site, Draw::fan_in);
    const double norm = fan_in_norm(ctx, site, scale_);
    Tensor<double> fan_in(ctx, {0, p});
    std::int64_t units = 0;
    for (; units < site.max_units && basis.extent(0) < p; ++units) {
      std::vector<double> draw;
      for (std::int64_t i = 0; i < p; ++i) draw.push_back(random.normal(static_cast<std::uint64_t>(units * p + i)));
      Tensor<double> unit = orthonormal(ctx, basis.view(), from_host<double>(ctx, {1, p}, draw));
      if (unit.extent(0) == 0) break;
      const View<const double> weights = std::as_const(unit).view().slice(1, 0, features_of(site));
      const double length = to_host(ctx, row_lengths<double>(ctx, weights))[0];
      if (!(length > 0.0)) break;
      const Tensor<double> seen = orthonormal(ctx, basis.view(), times_s(ctx, site, unit.view()));
      kernels::scale<double>(ctx, norm, unit.view());
      divide(ctx, length, unit.view());
      fan_in = stacked(ctx, std::move(fan_in), unit);
      // An input that is always zero answers every pre-activation alike: nothing more to be orthogonal to.
      if (seen.extent(0) == 0) continue;
      basis = stacked(ctx, std::move(basis), seen);
    }
    if (units == 0) {
      return no_units(concat("no unit added: today's ", site.width, " units leave no direction of the ", p,
                             " inputs orthogonal to all of them"));
    }
    Choice choice = without_fan_out(ctx, site, std::move(fan_in));
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

  double least_dimension_;
  UnitScale scale_;
  double epsilon_;
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE Method north(double least_dimension, UnitScale scale, double epsilon) {
  return std::make_shared<const detail::North>(least_dimension, scale, epsilon);
}

}  // namespace meristem::grow
