// Definitions of patch_geometry.hpp.
#pragma once

#include <cmath>

#include <meristem/core/launch.hpp>
#include <meristem/grow/statistics/patch_geometry.hpp>

namespace meristem::grow::detail {

[[nodiscard]] MERISTEM_INLINE std::vector<double> counts_of(const WindowAxis& consumer, FanOut fan_out) {
  std::vector<double> counts(static_cast<std::size_t>(consumer.map), 0.0);
  const auto [first, last] = taps_of(consumer.kernel, fan_out);
  for (std::int64_t j = 0; j < consumer.outputs; ++j) {
    for (std::int64_t tap = first; tap < last; ++tap) {
      const std::int64_t position = consumer.source(j, tap);
      if (position >= 0 && position < consumer.map) counts[static_cast<std::size_t>(position)] += 1.0;
    }
  }
  return counts;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE std::pair<std::vector<double>, std::vector<double>> position_counts(const Window& consumer,
                                                                                    Extent2 hidden, FanOut fan_out) {
  consumer.check("position_counts", hidden);
  return {detail::counts_of(detail::axis_y(consumer, hidden), fan_out),
          detail::counts_of(detail::axis_x(consumer, hidden), fan_out)};
}

}  // namespace meristem::grow

namespace meristem::grow::detail {

MERISTEM_INLINE std::vector<std::int64_t> indices_of_nonzeros(const std::vector<double>& values) {
  std::vector<std::int64_t> result;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] != 0.0) result.push_back(static_cast<std::int64_t>(i));
  }
  return result;
}

template <Real T>
PatchPositions<T> positions_with(Context& ctx, const std::vector<double>& weight_y,
                                 const std::vector<double>& weight_x) {
  PatchPositions<T> result;
  const auto one = [](double w) { return w == 0.0 || w == 1.0; };
  const bool ones =
      std::all_of(weight_y.begin(), weight_y.end(), one) && std::all_of(weight_x.begin(), weight_x.end(), one);
  const auto fill = [&](const std::vector<double>& weights, Tensor<std::int64_t>& positions, Tensor<T>& factors) {
    const std::vector<std::int64_t> indices = indices_of_nonzeros(weights);
    const auto count = static_cast<std::int64_t>(indices.size());
    positions = from_host<std::int64_t>(ctx, {count}, indices);
    if (ones) return;
    std::vector<T> roots;
    for (const std::int64_t i : indices) {
      roots.push_back(static_cast<T>(std::sqrt(weights[static_cast<std::size_t>(i)])));
    }
    factors = from_host<T>(ctx, {count}, roots);
  };
  fill(weight_y, result.ys, result.factor_y);
  fill(weight_x, result.xs, result.factor_x);
  return result;
}

template <Real T>
void gather_patches(Context& ctx, View<const T> x, const Window& window, const PatchPositions<T>& positions,
                    std::int64_t first, View<T> out) {
  kernels::gather(
      ctx,
      kernels::GatherPatches<T>{x.data_handle(), out.data_handle(), positions.rows(), positions.factor_y.data(),
                                positions.factor_x.data(), x.extent(1), x.extent(2), x.extent(3), window, first},
      out.extent(0));
}

template <Real T>
void MapSum<T>::add(Context& ctx, View<const T> maps) {
  const std::int64_t n = maps.extent(0), size = n == 0 ? 0 : maps.size() / n;
  if (size == 0) return;
  const View<const T> rows = maps.reshape({n, size});
  // As many as column_sums adds without scratch memory.
  for (std::int64_t begin = 0; begin < n; begin += 64) {
    const std::int64_t end = std::min<std::int64_t>(begin + 64, n);
    kernels::column_sums<T>(ctx, rows.slice(0, begin, end), sum_.target(ctx, end - begin),
                            kernels::Accumulate::accumulate);
  }
}

MERISTEM_INLINE void PatchGeometry::check(const char* what) const {
  if (channels < 0) throw ArgumentError(concat(what, ": the number of channels is ", channels, "; it is 0 or more"));
  window.check(what, map);
}

MERISTEM_INLINE std::string PatchGeometry::to_string() const {
  return concat(channels, " channels on maps of ", map, ", kernel ", window.kernel, ", stride ", window.stride,
                ", padding ", window.padding, ", dilation ", window.dilation, bias ? ", a bias" : ", no bias");
}

MERISTEM_INLINE void check_path(const char* what, PatchPath path, bool offsets_possible) {
  if (path != PatchPath::offsets || offsets_possible) return;
  throw ArgumentError(
      concat(what, ": the offsets path needs windows of stride 1 and dilation 1; use automatic or ", "patches"));
}

}  // namespace meristem::grow::detail
