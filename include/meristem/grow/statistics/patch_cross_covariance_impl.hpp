// Definitions of patch_cross_covariance.hpp.
#pragma once

#include <algorithm>

#include <meristem/core/blas.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/grow/statistics/patch_cross_covariance.hpp>

namespace meristem::grow::detail {

/// The last row of N: sums of the mean of v over the outputs whose tap reads the hidden map; e counts (tap, output).
struct BiasOfOutputs {
  const double* v_mean;  ///< (rows, columns, outputs)
  GroupedColumns to;
  std::int64_t p, outputs;
  WindowAxis y, x;
  std::int64_t first_y, first_x, taps_x;

  MERISTEM_HD void operator()(std::int64_t e) const;
};

/// The columns of one set of taps to their places in N.
struct PlaceTaps {
  const double* from;
  GroupedColumns to;
  const std::int64_t* taps_y;
  const std::int64_t* taps_x;
  std::int64_t taps_x_count, taps, outputs, first_y, first_x, all_taps_x;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t t, std::int64_t m) const;
};

MERISTEM_INLINE void BiasOfOutputs::operator()(std::int64_t e) const {
  const std::int64_t m = e % outputs, tap = e / outputs;
  double sum = 0.0;
  for (std::int64_t jy = 0; jy < y.outputs; ++jy) {
    const std::int64_t hy = jy * y.stride - y.padding + (first_y + tap / taps_x) * y.dilation;
    if (hy < 0 || hy >= y.map) continue;
    for (std::int64_t jx = 0; jx < x.outputs; ++jx) {
      const std::int64_t hx = jx * x.stride - x.padding + (first_x + tap % taps_x) * x.dilation;
      if (hx >= 0 && hx < x.map) sum += v_mean[(jy * x.outputs + jx) * outputs + m];
    }
  }
  to.at(p, tap, m) = sum;
}

MERISTEM_INLINE void PlaceTaps::operator()(std::int64_t i, std::int64_t t, std::int64_t m) const {
  const std::int64_t tap = (taps_y[t / taps_x_count] - first_y) * all_taps_x + taps_x[t % taps_x_count] - first_x;
  to.at(i, tap, m) = from[(i * taps + t) * outputs + m];
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
PatchCrossCovariance<T>::PatchCrossCovariance(Context& ctx, std::int64_t channels, const Window& window, Extent2 map,
                                              bool bias, std::int64_t outputs, const Window& consumer, FanOut fan_out,
                                              detail::PatchPath path)
    : geometry_(checked({channels, window, map, bias})),
      consumer_(checked(consumer, window.output(map))),
      outputs_(checked(outputs)),
      fan_out_(fan_out),
      path_(path),
      hidden_(window.output(map)),
      v_map_(consumer.output(hidden_)),
      v_sum_(ctx, bias ? v_map_.size() * outputs : 0) {
  const bool possible = detail::slides_by_one(window) && detail::slides_by_one(consumer);
  detail::check_path(name, path_, possible);
  if (path_ != detail::PatchPath::patches && possible) {
    detail::OffsetPlan plan = detail::plan_offsets(
        detail::cross_pairs(detail::axis_y(window, map), detail::axis_y(consumer, hidden_), fan_out),
        detail::cross_pairs(detail::axis_x(window, map), detail::axis_x(consumer, hidden_), fan_out), outputs, channels,
        false,
        path_ == detail::PatchPath::automatic ? detail::most_sums * geometry_.coordinates() * columns()
                                              : unlimited_sums);
    if (path_ == detail::PatchPath::automatic) path_ = choose(plan);
    if (path_ == detail::PatchPath::offsets) {
      offsets_ = detail::OffsetSums<T>(ctx, std::move(plan), {taps().x, window.kernel.x}, false);
      return;
    }
  }
  path_ = detail::PatchPath::patches;
  sum_.emplace(ctx, Shape{geometry_.coordinates() * columns()});
  plan_patches(ctx);
}

template <Real T>
void PatchCrossCovariance<T>::update(Context& ctx, View<const T> x, View<const T> v) {
  geometry_.check_maps(name, "x", x, geometry_.map, geometry_.channels);
  geometry_.check_maps(name, "v", v, v_map_, outputs_);
  if (x.extent(0) != v.extent(0)) {
    throw ShapeError(
        concat(name, ": x and v must have the same number of samples; got shapes ", x.shape(), " and ", v.shape()));
  }
  if (geometry_.bias) v_sum_.add(ctx, v);
  if (path_ == detail::PatchPath::offsets) {
    offsets_.add(ctx, v, x);
  } else if (geometry_.channels > 0 && outputs_ > 0) {
    add_patches(ctx, x, v);
  }
  samples_ += x.extent(0);
}

template <Real T>
void PatchCrossCovariance<T>::merge(Context& ctx, const PatchCrossCovariance& other) {
  if (!(geometry_ == other.geometry_) || !(consumer_ == other.consumer_) || outputs_ != other.outputs_ ||
      fan_out_ != other.fan_out_) {
    throw ArgumentError(concat(name, ": cannot merge statistics of other layers: this has ", geometry_.to_string(),
                               " and ", outputs_, " outputs, the other ", other.geometry_.to_string(), " and ",
                               other.outputs_, " outputs"));
  }
  detail::check_same_path(name, other.path_, path_);
  v_sum_.merge(ctx, other.v_sum_);
  if (path_ == detail::PatchPath::offsets) {
    offsets_.merge(ctx, other.offsets_);
  } else {
    sum_->merge(ctx, *other.sum_);
  }
  samples_ += other.samples_;
}

template <Real T>
std::vector<Tensor<double>> PatchCrossCovariance<T>::means(Context& ctx, std::int64_t groups) {
  if (samples_ == 0) throw ArgumentError(concat(name, ": the mean of no samples was asked for; call update first"));
  const double factor = 1.0 / static_cast<double>(samples_);
  const std::int64_t p = geometry_.coordinates(), each = outputs_ / groups, width = columns() / groups;
  std::vector<Tensor<double>> result;
  for (std::int64_t i = 0; i < groups; ++i) result.emplace_back(ctx, Shape{p + (geometry_.bias ? 1 : 0), width});
  const detail::GroupedColumns to{result.front().data(), result.back().data(), each, width};
  Tensor<double> v_mean(ctx, {v_sum_.size()});
  const auto bias =
      part(geometry_.bias ? columns() : 0,
           detail::BiasOfOutputs{v_mean.data(), to, p, outputs_, detail::axis_y(consumer_, hidden_),
                                 detail::axis_x(consumer_, hidden_), first_tap().y, first_tap().x, taps().x});
  const bool by_offsets = path_ == detail::PatchPath::offsets;
  Tensor<double> sums(ctx, {by_offsets ? offsets_.size() : sum_->size()});
  for_each_of(ctx, by_offsets ? offsets_.settled(factor, sums.data()) : sum_->settled(factor, sums.data()),
              v_sum_.settled(factor, v_mean.data()));
  if (by_offsets) {
    for_each_of(ctx, offsets_.template placed<detail::PlaceCross>(sums, to), bias);
  } else {
    place_patches(ctx, sums, to);
    for_each_of(ctx, bias);
  }
  return result;
}

template <Real T>
detail::PatchGeometry PatchCrossCovariance<T>::checked(const detail::PatchGeometry& geometry) {
  geometry.check(name);
  return geometry;
}

template <Real T>
Window PatchCrossCovariance<T>::checked(const Window& consumer, Extent2 hidden) {
  consumer.check(concat(name, ": the consumer"), hidden);
  return consumer;
}

template <Real T>
std::int64_t PatchCrossCovariance<T>::checked(std::int64_t outputs) {
  if (outputs < 0) throw ArgumentError(concat(name, ": the number of outputs is ", outputs, "; it is 0 or more"));
  return outputs;
}

template <Real T>
Extent2 PatchCrossCovariance<T>::first_tap() const {
  return {detail::taps_of(consumer_.kernel.y, fan_out_).first, detail::taps_of(consumer_.kernel.x, fan_out_).first};
}

template <Real T>
std::vector<std::pair<std::vector<std::int64_t>, std::vector<double>>> PatchCrossCovariance<T>::sets_of_axis(
    const detail::WindowAxis& axis) const {
  const auto [first, last] = detail::taps_of(axis.kernel, fan_out_);
  // A single output is visited by each tap at a place of its own.
  const std::int64_t step = axis.outputs == 1 ? axis.kernel * axis.dilation : axis.stride;
  std::vector<std::pair<std::vector<std::int64_t>, std::vector<double>>> sets;
  std::vector<std::int64_t> residues;
  for (std::int64_t tap = first; tap < last; ++tap) {
    const std::int64_t residue = tap * axis.dilation % step;
    std::size_t at = 0;
    while (at < residues.size() && residues[at] != residue) ++at;
    if (at == residues.size()) {
      residues.push_back(residue);
      sets.push_back({{}, std::vector<double>(static_cast<std::size_t>(axis.map), 0.0)});
    }
    sets[at].first.push_back(tap);
    for (std::int64_t j = 0; j < axis.outputs; ++j) {
      const std::int64_t position = axis.source(j, tap);
      if (position >= 0 && position < axis.map) sets[at].second[static_cast<std::size_t>(position)] = 1.0;
    }
  }
  return sets;
}

template <Real T>
detail::PatchPath PatchCrossCovariance<T>::choose(const detail::OffsetPlan& plan) const {
  const double p = static_cast<double>(geometry_.coordinates());
  double multiply_adds = 0.0, gathered = 0.0, widest = 0.0;
  for (const auto& [taps_y, weight_y] : sets_of_axis(detail::axis_y(consumer_, hidden_))) {
    for (const auto& [taps_x, weight_x] : sets_of_axis(detail::axis_x(consumer_, hidden_))) {
      const auto positions = static_cast<double>(detail::indices_of_nonzeros(weight_y).size() *
                                                 detail::indices_of_nonzeros(weight_x).size());
      const double q = static_cast<double>(taps_y.size() * taps_x.size()) * static_cast<double>(outputs_);
      widest = std::max(widest, q);
      multiply_adds += positions * p * q;
      gathered += positions * (p + q);
    }
  }
  return detail::cheaper_path<T>(plan, geometry_.map.size() * geometry_.channels + v_map_.size() * outputs_,
                                 {p, widest, multiply_adds, gathered, p * static_cast<double>(columns())});
}

template <Real T>
void PatchCrossCovariance<T>::plan_patches(Context& ctx) {
  std::int64_t offset = 0;
  for (const auto& [taps_y, weight_y] : sets_of_axis(detail::axis_y(consumer_, hidden_))) {
    for (const auto& [taps_x, weight_x] : sets_of_axis(detail::axis_x(consumer_, hidden_))) {
      TapSet set;
      set.taps_y = from_host<std::int64_t>(ctx, {static_cast<std::int64_t>(taps_y.size())}, taps_y);
      set.taps_x = from_host<std::int64_t>(ctx, {static_cast<std::int64_t>(taps_x.size())}, taps_x);
      set.positions = detail::positions_with<T>(ctx, weight_y, weight_x);
      set.offset = offset;
      offset += geometry_.coordinates() * set.taps() * outputs_;
      sets_.push_back(std::move(set));
    }
  }
}

template <Real T>
void PatchCrossCovariance<T>::place_patches(Context& ctx, const Tensor<double>& sums,
                                            const detail::GroupedColumns& to) const {
  const std::int64_t p = geometry_.coordinates();
  for (const TapSet& set : sets_) {
    if (set.taps() == 0 || p == 0 || outputs_ == 0) continue;
    for_each(ctx, p, set.taps(), outputs_,
             detail::PlaceTaps{sums.data() + set.offset, to, set.taps_y.data(), set.taps_x.data(), set.taps_x.size(),
                               set.taps(), outputs_, first_tap().y, first_tap().x, taps().x});
  }
}

template <Real T>
void PatchCrossCovariance<T>::add_patches(Context& ctx, View<const T> x, View<const T> v) {
  const std::int64_t p = geometry_.coordinates(), n = x.extent(0);
  std::int64_t most_numbers = 0;
  const auto block_of = [&](const TapSet& set) {
    return std::min(detail::rows_of_block<T>(p + set.taps() * outputs_), n * set.positions.size());
  };
  for (const TapSet& set : sets_) most_numbers = std::max(most_numbers, block_of(set) * (p + set.taps() * outputs_));
  if (most_numbers == 0) return;
  Tensor<T> scratch(ctx, {most_numbers});
  for (const TapSet& set : sets_) {
    const std::int64_t rows = n * set.positions.size(), block = block_of(set), q = set.taps() * outputs_;
    for (std::int64_t begin = 0; begin < rows; begin += block) {
      const std::int64_t count = std::min(block, rows - begin);
      const View<T> patches(scratch.data(), {count, p}), goals(scratch.data() + count * p, {count, q});
      detail::gather_patches<T>(ctx, x, geometry_.window, set.positions, begin, patches);
      kernels::gather(ctx,
                      kernels::GatherOutputs<T>{v.data_handle(), goals.data_handle(), set.positions.rows(),
                                                set.taps_y.data(), set.taps_x.data(), set.taps_y.size(),
                                                set.taps_x.size(), v_map_.y, v_map_.x, outputs_, consumer_, begin},
                      count);
      gemm(ctx, Transpose::yes, Transpose::no, 1, patches, goals, 1,
           View<T>(sum_->target(ctx, count).data_handle() + set.offset, {p, q}));
    }
  }
}

}  // namespace meristem::grow
