// Group normalisation: Y. Wu, K. He, "Group normalization" (2018).
//
//   For every sample i and group k of C / groups neighbouring channels, with m numbers x[i][p][c] at positions p:
//   mean[i][k] = (1/m) Σ x,   s[i][k] = 1 / √((1/m) Σ (x - mean)² + epsilon)          s: inverse_deviation
//   y       = (x - mean) s weight[c] + bias[c]                                        (=)
//
//   dbias   = Σ_{i,p} dy                                                              (= or +=)
//   dweight = Σ_{i,p} dy (x - mean) s                                                 (= or +=)
//   dx      = s (dy weight - (1/m) Σ dy weight - (x - mean) s² (1/m) Σ dy weight (x - mean))         (=)
//
// x, y, dy, dx: (samples, ..., channels), the axes between being positions; mean, inverse_deviation: (samples, groups);
// weight, bias, dweight, dbias: (channels). Contiguous. Sums over the positions of each channel come first
// (channel_sums.cuh), sums over the channels of a group second, in double.
#pragma once

#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/channel_sums.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

/// Keeps the two sums of every sample and channel.
struct StoreSampleSums {
  std::int64_t cols;
  double* a;
  double* b;
  MERISTEM_HD void operator()(std::int64_t sample, std::int64_t c, double, double sum_a, double sum_b) const {
    a[sample * cols + c] = sum_a;
    b[sample * cols + c] = sum_b;
  }
};

/// Statistics of a group, from those of its channels over `positions` each.
template <class T>
struct GroupStatistics {
  const double* channel_mean;
  const double* channel_squares;
  std::int64_t groups;
  std::int64_t group_cols;
  double positions;
  double epsilon;
  T* mean;
  T* inverse_deviation;
  MERISTEM_HD void operator()(std::int64_t sample, std::int64_t group) const {
    const std::int64_t first = (sample * groups + group) * group_cols;
    double center = 0.0, squares = 0.0, spread = 0.0;
    for (std::int64_t c = 0; c < group_cols; ++c) {
      center += channel_mean[first + c];
      squares += channel_squares[first + c];
    }
    const double count = positions * static_cast<double>(group_cols);
    if (count > 0.0) center /= static_cast<double>(group_cols);
    for (std::int64_t c = 0; c < group_cols; ++c) {
      const double d = channel_mean[first + c] - center;
      spread += d * d;
    }
    const double variance = count > 0.0 ? (squares + positions * spread) / count : 0.0;
    mean[sample * groups + group] = static_cast<T>(center);
    inverse_deviation[sample * groups + group] = static_cast<T>(1.0 / square_root(variance + epsilon));
  }
};

/// For each sample and lane: mean, and s weight.
template <class T>
struct GroupNormLanes {
  const T* mean;
  const T* inverse_deviation;
  const T* weight;
  const T* bias;
  std::int64_t cols;
  std::int64_t groups;
  std::int64_t lanes;
  T* lane_mean;
  T* scale;
  T* shift;
  MERISTEM_HD void operator()(std::int64_t sample, std::int64_t lane) const {
    const std::int64_t c = lane % cols, group = sample * groups + c / (cols / groups);
    lane_mean[sample * lanes + lane] = mean[group];
    scale[sample * lanes + lane] = inverse_deviation[group] * weight[c];
    if (sample == 0) shift[lane] = bias[c];
  }
};

/// y = (x - mean) scale + shift.
template <class T>
struct GroupNormalize {
  const T* x;
  const T* mean;
  const T* scale;
  const T* shift;
  T* y;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t first, std::int64_t lane) const {
    y[i] = (x[i] - mean[first + lane]) * scale[first + lane] + shift[lane];
  }
};

/// dbias and dweight = or += the sums over samples of Σ dy and s Σ dy (x - mean).
template <class T>
struct GroupNormWeightGradients {
  const double* sum;
  const double* product;
  const T* inverse_deviation;
  std::int64_t samples;
  std::int64_t cols;
  std::int64_t groups;
  Accumulate mode;
  T* dweight;
  T* dbias;
  MERISTEM_HD void operator()(std::int64_t c) const {
    const bool add = mode == Accumulate::accumulate;
    const std::int64_t group = c / (cols / groups);
    double to_weight = add ? static_cast<double>(dweight[c]) : 0.0;
    double to_bias = add ? static_cast<double>(dbias[c]) : 0.0;
    for (std::int64_t sample = 0; sample < samples; ++sample) {
      to_weight += static_cast<double>(inverse_deviation[sample * groups + group]) * product[sample * cols + c];
      to_bias += sum[sample * cols + c];
    }
    dweight[c] = static_cast<T>(to_weight);
    dbias[c] = static_cast<T>(to_bias);
  }
};

/// For each sample and group, b and shift of dx = s weight dy + b (x - mean) + shift.
template <class T>
struct GroupNormDataSums {
  const double* sum;
  const double* product;
  const T* inverse_deviation;
  const T* weight;
  std::int64_t groups;
  std::int64_t group_cols;
  double positions;
  T* b;
  T* shift;
  MERISTEM_HD void operator()(std::int64_t sample, std::int64_t group) const {
    const std::int64_t at = sample * groups + group;
    double gradient = 0.0, moment = 0.0;
    for (std::int64_t c = 0; c < group_cols; ++c) {
      const double w = static_cast<double>(weight[group * group_cols + c]);
      gradient += w * sum[at * group_cols + c];
      moment += w * product[at * group_cols + c];
    }
    const double s = static_cast<double>(inverse_deviation[at]);
    const double share = 1.0 / (positions * static_cast<double>(group_cols));
    b[at] = static_cast<T>(-s * s * s * moment * share);
    shift[at] = static_cast<T>(-s * gradient * share);
  }
};

/// The coefficients of dx for each sample and lane.
template <class T>
struct GroupNormBackwardLanes {
  const T* mean;
  const T* inverse_deviation;
  const T* weight;
  const T* group_b;
  const T* group_shift;
  std::int64_t cols;
  std::int64_t groups;
  std::int64_t lanes;
  T* lane_mean;
  T* a;
  T* b;
  T* shift;
  MERISTEM_HD void operator()(std::int64_t sample, std::int64_t lane) const {
    const std::int64_t c = lane % cols, group = sample * groups + c / (cols / groups), at = sample * lanes + lane;
    lane_mean[at] = mean[group];
    a[at] = inverse_deviation[group] * weight[c];
    b[at] = group_b[group];
    shift[at] = group_shift[group];
  }
};

/// dx = a dy + b (x - mean) + shift.
template <class T>
struct GroupNormBackwardData {
  const T* x;
  const T* dy;
  const T* mean;
  const T* a;
  const T* b;
  const T* shift;
  T* dx;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t first, std::int64_t lane) const {
    const std::int64_t at = first + lane;
    const T g = dy[i];
    dx[i] = a[at] * g + (b[at] * (x[i] - mean[at]) + shift[at]);
  }
};

/// Extents of x as group normalisation sees them.
struct GroupShape {
  std::int64_t samples, positions, cols;
};

/// Throws unless `groups` divides the channels of x and the vectors fit.
template <class T>
GroupShape check_group_norm(const char* name, const View<const T>& x, std::int64_t groups, const View<const T>& weight,
                            const View<const T>& mean, const View<const T>& inverse_deviation) {
  require_columns(name, "weight", weight, "x", x);
  if (x.rank() < 2) throw ShapeError(concat(name, ": x has shape ", x.shape(), "; it needs a batch axis and channels"));
  const std::int64_t cols = weight.extent(0), samples = x.extent(0);
  if (groups < 1 || cols % groups != 0) {
    throw ArgumentError(concat(name, ": ", cols, " channels do not fall into ", groups,
                               " groups of equal size; choose a number of groups that divides the channels"));
  }
  require_same_shape(name, "mean", mean, "inverse_deviation", inverse_deviation);
  if (mean.shape() != Shape{samples, groups}) {
    throw ShapeError(concat(name, ": mean has shape ", mean.shape(), ", but x of shape ", x.shape(), " in ", groups,
                            " groups needs ", Shape{samples, groups}));
  }
  return {samples, samples == 0 || cols == 0 ? 0 : x.size() / samples / cols, cols};
}

}  // namespace detail

/// mean, inverse_deviation (samples, groups) and y = (x - mean) inverse_deviation weight + bias, with the biased
/// variance over the positions and channels of a group; y may be x. Throws ArgumentError unless `groups` divides the
/// channels, ShapeError unless all are contiguous and fit together.
template <Real T>
void group_norm_forward(Context& ctx, View<const std::type_identity_t<T>> x, std::int64_t groups,
                        View<const std::type_identity_t<T>> weight, View<const std::type_identity_t<T>> bias,
                        double epsilon, View<std::type_identity_t<T>> mean,
                        View<std::type_identity_t<T>> inverse_deviation, View<T> y) {
  const char* const name = "group_norm_forward";
  detail::require_same_shape(name, "x", x, "y", y);
  const auto [samples, positions, cols] = detail::check_group_norm<T>(name, x, groups, weight, mean, inverse_deviation);
  detail::require_columns(name, "bias", bias, "x", x);
  Tensor<double> sums(ctx, {2, samples, cols});
  double* const means = sums.data();
  double* const squares = means + samples * cols;
  detail::channel_sums(ctx, detail::ChannelMoments<T>{x.data_handle()}, detail::ChannelCut(samples, positions, cols),
                       detail::StoreSampleSums{cols, means, squares});
  for_each(ctx, samples, groups,
           detail::GroupStatistics<T>{means, squares, groups, cols / groups, static_cast<double>(positions), epsilon,
                                      mean.data_handle(), inverse_deviation.data_handle()});
  if (x.empty()) return;
  const std::int64_t lanes = detail::lanes_for(positions, cols), size = samples * lanes;
  Tensor<T> lane_values(ctx, {2 * size + lanes});
  T* const values = lane_values.data();
  for_each(
      ctx, samples, lanes,
      detail::GroupNormLanes<T>{mean.data_handle(), inverse_deviation.data_handle(), weight.data_handle(),
                                bias.data_handle(), cols, groups, lanes, values, values + size, values + 2 * size});
  detail::for_each_on_lanes(
      ctx, samples, positions * cols, lanes,
      detail::GroupNormalize<T>{x.data_handle(), values, values + size, values + 2 * size, y.data_handle()});
}

/// Gradients at the inputs of group_norm_forward, given dy and what forward stored. dweight and dbias (channels) are
/// overwritten or accumulated as `mode` says; dx (as x) is overwritten and may be dy. Each of dx and the pair (dweight,
/// dbias) is left out by passing `{}`. Throws ArgumentError unless `groups` divides the channels, ShapeError unless all
/// are contiguous and fit together.
template <Real T>
void group_norm_backward(Context& ctx, View<const T> x, std::int64_t groups, View<const std::type_identity_t<T>> mean,
                         View<const std::type_identity_t<T>> inverse_deviation,
                         View<const std::type_identity_t<T>> weight, View<const std::type_identity_t<T>> dy,
                         Accumulate mode, View<std::type_identity_t<T>> dweight, View<std::type_identity_t<T>> dbias,
                         View<std::type_identity_t<T>> dx) {
  const char* const name = "group_norm_backward";
  detail::require_same_shape(name, "dy", dy, "x", x);
  const auto [samples, positions, cols] = detail::check_group_norm<T>(name, x, groups, weight, mean, inverse_deviation);
  const bool parameters = dweight.rank() != 0, data = dx.rank() != 0;
  if (parameters) {
    detail::require_columns(name, "dweight", dweight, "x", x);
    detail::require_columns(name, "dbias", dbias, "x", x);
  }
  if (data) detail::require_same_shape(name, "dx", dx, "x", x);
  if (cols == 0 || !(parameters || data)) return;
  Tensor<double> sums(ctx, {2, samples, cols});
  double* const sum = sums.data();
  double* const product = sum + samples * cols;
  detail::channel_sums(ctx,
                       detail::ChannelGradients<T, false>{x.data_handle(), nullptr, dy.data_handle(),
                                                          mean.data_handle(), groups, cols / groups},
                       detail::ChannelCut(samples, positions, cols), detail::StoreSampleSums{cols, sum, product});
  if (parameters) {
    for_each(ctx, cols,
             detail::GroupNormWeightGradients<T>{sum, product, inverse_deviation.data_handle(), samples, cols, groups,
                                                 mode, dweight.data_handle(), dbias.data_handle()});
  }
  if (!data || x.empty()) return;
  Tensor<T> group_values(ctx, {2, samples, groups});
  T* const group_b = group_values.data();
  T* const group_shift = group_b + samples * groups;
  for_each(ctx, samples, groups,
           detail::GroupNormDataSums<T>{sum, product, inverse_deviation.data_handle(), weight.data_handle(), groups,
                                        cols / groups, static_cast<double>(positions), group_b, group_shift});
  const std::int64_t lanes = detail::lanes_for(positions, cols), size = samples * lanes;
  Tensor<T> lane_values(ctx, {4, size});
  T* const values = lane_values.data();
  for_each(ctx, samples, lanes,
           detail::GroupNormBackwardLanes<T>{mean.data_handle(), inverse_deviation.data_handle(), weight.data_handle(),
                                             group_b, group_shift, cols, groups, lanes, values, values + size,
                                             values + 2 * size, values + 3 * size});
  detail::for_each_on_lanes(ctx, samples, positions * cols, lanes,
                            detail::GroupNormBackwardData<T>{x.data_handle(), dy.data_handle(), values, values + size,
                                                             values + 2 * size, values + 3 * size, dx.data_handle()});
}

}  // namespace meristem::kernels
