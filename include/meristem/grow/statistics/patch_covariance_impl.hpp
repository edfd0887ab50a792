// Definitions of patch_covariance.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include <meristem/core/blas.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/grow/statistics/patch_covariance.hpp>
#include <meristem/kernels/columns.cuh>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

/// The last row and column of a covariance of patches: weighted sums of the mean map, at patch coordinate i, and
/// `constant` at the end.
struct BiasOfPatches {
  const double* map_mean;  ///< (H, W, channels)
  const double* weight_y;
  const double* weight_x;
  double* result;  ///< (p + 1, p + 1)
  std::int64_t p, channels;
  WindowAxis y, x;
  double constant;

  MERISTEM_HD void operator()(std::int64_t i) const;
};

MERISTEM_INLINE void BiasOfPatches::operator()(std::int64_t i) const {
  if (i == p) {
    result[p * (p + 1) + p] = constant;
    return;
  }
  const std::int64_t c = i % channels, tap = i / channels;
  double sum = 0.0;
  for (std::int64_t jy = 0; jy < y.outputs; ++jy) {
    const std::int64_t row = jy * y.stride - y.padding + tap / x.kernel * y.dilation;
    if (row < 0 || row >= y.map || weight_y[jy] == 0.0) continue;
    double line = 0.0;
    for (std::int64_t jx = 0; jx < x.outputs; ++jx) {
      const std::int64_t column = jx * x.stride - x.padding + tap % x.kernel * x.dilation;
      if (column >= 0 && column < x.map) line += weight_x[jx] * map_mean[(row * x.map + column) * channels + c];
    }
    sum += weight_y[jy] * line;
  }
  result[p * (p + 1) + i] = sum;
  result[i * (p + 1) + p] = sum;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
PatchCovariance<T>::PatchCovariance(Context& ctx, std::int64_t channels, const Window& window, Extent2 map, bool bias,
                                    std::vector<double> weight_y, std::vector<double> weight_x, detail::PatchPath path)
    : geometry_(checked({channels, window, map, bias})),
      weight_y_(checked(std::move(weight_y), window.output(map).y, "weight_y", "row")),
      weight_x_(checked(std::move(weight_x), window.output(map).x, "weight_x", "column")),
      path_(path),
      map_sum_(ctx, bias ? map.size() * channels : 0) {
  const std::int64_t p = geometry_.coordinates();
  detail::check_path(name, path_, detail::slides_by_one(window));
  if (path_ != detail::PatchPath::patches && detail::slides_by_one(window)) {
    detail::OffsetPlan plan =
        detail::plan_offsets(detail::covariance_pairs(detail::axis_y(window, map), weight_y_),
                             detail::covariance_pairs(detail::axis_x(window, map), weight_x_), channels, channels, true,
                             path_ == detail::PatchPath::automatic ? detail::most_sums * p * p : unlimited_sums);
    if (path_ == detail::PatchPath::automatic) path_ = choose(plan);
    if (path_ == detail::PatchPath::offsets) {
      offsets_ = detail::OffsetSums<T>(ctx, std::move(plan), {window.kernel.x, window.kernel.x}, true);
      return;
    }
  }
  path_ = detail::PatchPath::patches;
  sum_.emplace(ctx, Shape{p, p});
  positions_ = detail::positions_with<T>(ctx, weight_y_, weight_x_);
}

template <Real T>
void PatchCovariance<T>::update(Context& ctx, View<const T> x) {
  geometry_.check_maps(name, "x", x, geometry_.map, geometry_.channels);
  if (geometry_.bias) map_sum_.add(ctx, x);
  if (path_ == detail::PatchPath::offsets) {
    offsets_.add(ctx, x, x);
  } else if (geometry_.channels > 0) {
    add_patches(ctx, x);
  }
  samples_ += x.extent(0);
}

template <Real T>
void PatchCovariance<T>::merge(Context& ctx, const PatchCovariance& other) {
  if (!(geometry_ == other.geometry_) || weight_y_ != other.weight_y_ || weight_x_ != other.weight_x_) {
    throw ArgumentError(concat(name, ": cannot merge statistics of other patches: this has ", geometry_.to_string(),
                               ", the other ", other.geometry_.to_string(),
                               geometry_ == other.geometry_ ? " with other position weights" : ""));
  }
  detail::check_same_path(name, other.path_, path_);
  map_sum_.merge(ctx, other.map_sum_);
  if (path_ == detail::PatchPath::offsets) {
    offsets_.merge(ctx, other.offsets_);
  } else {
    sum_->merge(ctx, *other.sum_);
  }
  samples_ += other.samples_;
}

template <Real T>
Tensor<double> PatchCovariance<T>::mean(Context& ctx) {
  if (samples_ == 0) throw ArgumentError(concat(name, ": the mean of no samples was asked for; call update first"));
  const double factor = 1.0 / static_cast<double>(samples_);
  const std::int64_t p = geometry_.coordinates();
  const std::int64_t order = p + (geometry_.bias ? 1 : 0);
  Tensor<double> map_mean(ctx, {map_sum_.size()}), wy, wx;
  if (geometry_.bias) {
    wy = device_weights(ctx, weight_y_);
    wx = device_weights(ctx, weight_x_);
  }
  const auto bias_of = [&](Tensor<double>& result) {
    // The constant with itself is the same for every sample.
    double total_y = 0.0, total_x = 0.0;
    for (const double w : weight_y_) total_y += w;
    for (const double w : weight_x_) total_x += w;
    return part(geometry_.bias ? order : 0,
                detail::BiasOfPatches{map_mean.data(), wy.data(), wx.data(), result.data(), p, geometry_.channels,
                                      detail::axis_y(geometry_.window, geometry_.map),
                                      detail::axis_x(geometry_.window, geometry_.map), total_y * total_x});
  };
  if (path_ == detail::PatchPath::offsets) {
    Tensor<double> sums(ctx, {offsets_.size()}), result(ctx, {order, order});
    for_each_of(ctx, offsets_.settled(factor, sums.data()), map_sum_.settled(factor, map_mean.data()));
    for_each_of(ctx, offsets_.template placed<detail::PlaceCovariance>(sums, {result.data(), order}), bias_of(result));
    return result;
  }
  Tensor<double> features(ctx, {p, p});
  for_each_of(ctx, sum_->settled(factor, features.data()), map_sum_.settled(factor, map_mean.data()));
  symmetrize(ctx, Triangle::lower, features.view());
  if (!geometry_.bias) return features;
  Tensor<double> result(ctx, {order, order});
  kernels::copy_columns<double>(ctx, features, 0, result.view().slice(0, 0, p), 0, p);
  for_each_of(ctx, bias_of(result));
  return result;
}

template <Real T>
detail::PatchGeometry PatchCovariance<T>::checked(const detail::PatchGeometry& geometry) {
  geometry.check(name);
  return geometry;
}

template <Real T>
std::vector<double> PatchCovariance<T>::checked(std::vector<double> weights, std::int64_t positions,
                                                const char* argument, const char* what) {
  if (weights.empty()) weights.assign(static_cast<std::size_t>(positions), 1.0);
  if (static_cast<std::int64_t>(weights.size()) != positions) {
    throw ShapeError(concat(name, ": ", argument, " holds ", weights.size(), " numbers, but the window has ", positions,
                            " positions; give one for each ", what, " of them, or none"));
  }
  for (const double weight : weights) {
    if (weight >= 0.0 && std::isfinite(weight)) continue;
    throw ArgumentError(concat(name, ": ", argument, " holds ", weight, "; weights are finite and not negative"));
  }
  return weights;
}

template <Real T>
detail::PatchPath PatchCovariance<T>::choose(const detail::OffsetPlan& plan) const {
  const double p = static_cast<double>(geometry_.coordinates());
  const auto positions = static_cast<double>(detail::indices_of_nonzeros(weight_y_).size() *
                                             detail::indices_of_nonzeros(weight_x_).size());
  return detail::cheaper_path<T>(plan, geometry_.map.size() * geometry_.channels,
                                 {p, p, positions * p * (p + 1.0) / 2.0, positions * p, p * p});
}

template <Real T>
void PatchCovariance<T>::add_patches(Context& ctx, View<const T> x) {
  const std::int64_t p = geometry_.coordinates(), rows = x.extent(0) * positions_.size();
  if (rows == 0) return;
  const std::int64_t block = std::min(detail::rows_of_block<T>(p), rows);
  Tensor<T> patches(ctx, {block, p});
  for (std::int64_t begin = 0; begin < rows; begin += block) {
    const View<T> part = patches.view().slice(0, 0, std::min(block, rows - begin));
    detail::gather_patches<T>(ctx, x, geometry_.window, positions_, begin, part);
    syrk(ctx, Triangle::lower, Transpose::yes, 1, part, 1, sum_->target(ctx, part.extent(0)));
  }
}

}  // namespace meristem::grow
