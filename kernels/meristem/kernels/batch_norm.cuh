// Batch normalisation over all axes but the last: S. Ioffe, C. Szegedy, "Batch normalization" (2015).
//
//   mean[c] = (1/n) Σ_r x[r][c]                 r: a row, one of n; c: a channel
//   var[c]  = (1/n) Σ_r (x[r][c] - mean[c])²    biased
//   s[c]    = 1 / √(var[c] + epsilon)           inverse_deviation
//   y       = act(((x - mean) s) weight + bias + residual)                     (=)   act: identity or ReLU
//
//   g       = dy [y > 0]                        for ReLU, else dy; the gradient at the residual   (=)
//   dbias   = Σ_r g                                                                               (= or +=)
//   dweight = Σ_r g (x - mean) s                                                                  (= or +=)
//   dx      = weight s (g - dbias/n - (x - mean) s dweight/n)                                     (=)
//   dx      = weight s g                        if the statistics are constants, as in evaluation (=)
//
// x, y, dy, dx, residual: (..., channels), all leading axes merged to rows; vectors: (channels). Contiguous. Forward
// reads x twice and writes y, backward reads (x, y, dy) twice and writes dx. Sums: see channel_sums.cuh.
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
#include <meristem/kernels/activation.cuh>
#include <meristem/kernels/channel_sums.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/packs.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

/// Exponential moving averages of a batch's statistics: running += momentum (batch - running).
template <Real T>
struct RunningStatistics {
  View<T> mean;      ///< (channels), or an empty view for none
  View<T> variance;  ///< (channels)
  double momentum = 0.1;
};

/// Where the statistics of a batch go: see `batch_norm_statistics`.
template <Real T>
struct BatchStatistics {
  View<T> mean;               ///< (channels)
  View<T> inverse_deviation;  ///< (channels)
  double epsilon = 1e-5;      ///< added to the variance
  RunningStatistics<T> running = {};
};

/// What backward needs to know of forward.
template <Real T>
struct BatchNormForward {
  View<const T> x;
  View<const T> mean;
  View<const T> inverse_deviation;
  View<const T> weight;
  View<const T> y;  ///< needed for ReLU only
  Activation activation = Activation::identity;
  bool constant_statistics = false;  ///< mean and deviation were given, not computed from x
};

namespace detail {

template <class T>
struct ConstantStatistics {
  const T* running_mean;
  const T* running_variance;
  double epsilon;
  T* mean;
  T* inverse_deviation;
  MERISTEM_HD void operator()(std::int64_t c) const {
    mean[c] = running_mean[c];
    inverse_deviation[c] = static_cast<T>(1.0 / square_root(static_cast<double>(running_variance[c]) + epsilon));
  }
};

/// Rows of coefficients, one for each lane: mean, weight · s, bias.
template <class T>
struct BatchNormLanes {
  const T* mean;
  const T* inverse_deviation;
  const T* weight;
  const T* bias;
  std::int64_t cols;
  std::int64_t lanes;
  T* out;
  MERISTEM_HD void operator()(std::int64_t lane) const {
    const std::int64_t c = lane % cols;
    out[lane] = mean[c];
    out[lanes + lane] = inverse_deviation[c] * weight[c];
    out[2 * lanes + lane] = bias[c];
  }
};

/// y = act((x - mean) scale + shift + residual).
template <class T, class Function, bool Added>
struct NormalizeLanes {
  const T* x;
  const T* residual;
  const T* mean;
  const T* scale;
  const T* shift;
  T* y;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t, std::int64_t lane) const {
    T value = (x[i] - mean[lane]) * scale[lane] + shift[lane];
    if constexpr (Added) value += residual[i];
    y[i] = Function::value(value);
  }
};

#if MERISTEM_GPU
/// The same from the channel's own numbers, for packs of W channels.
template <class T, class Function, bool Added, int W>
struct NormalizeChannels {
  struct Column {
    Pack<T, W> mean, scale, shift;
  };
  const T* x;
  const T* residual;
  const T* mean;
  const T* inverse_deviation;
  const T* weight;
  const T* bias;
  T* y;
  __device__ Column column(std::int64_t number) const {
    const std::int64_t c = number * W;
    Column own{load_pack<W>(mean + c), load_pack<W>(inverse_deviation + c), load_pack<W>(bias + c)};
    const Pack<T, W> factor = load_pack<W>(weight + c);
    for (int k = 0; k < W; ++k) own.scale.at[k] *= factor.at[k];
    return own;
  }
  __device__ void operator()(std::int64_t number, const Column& own) const {
    const std::int64_t i = number * W;
    const Pack<T, W> from = load_pack<W>(x + i);
    [[maybe_unused]] Pack<T, W> more;
    if constexpr (Added) more = load_pack<W>(residual + i);
    Pack<T, W> out;
    for (int k = 0; k < W; ++k) {
      T value = (from.at[k] - own.mean.at[k]) * own.scale.at[k] + own.shift.at[k];
      if constexpr (Added) value += more.at[k];
      out.at[k] = Function::value(value);
    }
    store_pack(out, y + i);
  }
};
#endif

/// Finishes dweight and dbias, and writes for each lane the coefficients of dx = scale ((g - center) + slope (x -
/// mean)).
template <class T>
struct StoreBatchNormGradients {
  const T* mean;
  const T* inverse_deviation;
  const T* weight;
  bool constant_statistics;
  Accumulate mode;
  T* dweight;  // or null
  T* dbias;
  std::int64_t cols;
  std::int64_t lanes;
  T* out;  // or null

  MERISTEM_HD void operator()(std::int64_t, std::int64_t c, double rows, double sum, double product) const {
    const double s = static_cast<double>(inverse_deviation[c]);
    if (dweight != nullptr) {
      const bool add = mode == Accumulate::accumulate;
      dweight[c] = static_cast<T>(add ? static_cast<double>(dweight[c]) + product * s : product * s);
      dbias[c] = static_cast<T>(add ? static_cast<double>(dbias[c]) + sum : sum);
    }
    if (out == nullptr) return;
    const double share = constant_statistics ? 0.0 : 1.0 / rows;
    const T scale = inverse_deviation[c] * weight[c];
    const T center = static_cast<T>(sum * share), slope = static_cast<T>(-s * s * product * share);
    for (std::int64_t lane = c; lane < lanes; lane += cols) {
      out[lane] = mean[c];
      out[lanes + lane] = scale;
      out[2 * lanes + lane] = center;
      out[3 * lanes + lane] = slope;
    }
  }
};

/// dx = scale ((g - center) + slope (x - mean)), and dresidual = g if asked.
template <class T, bool Masked, bool Added>
struct BatchNormBackwardLanes {
  ChannelGradients<T, Masked> from;
  const T* mean;
  const T* scale;
  const T* center;
  const T* slope;
  T* dx;
  T* dresidual;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t, std::int64_t lane) const {
    const T g = from.gradient(i);
    const T deviation = from.x[i] - mean[lane];
    dx[i] = scale[lane] * ((g - center[lane]) + slope[lane] * deviation);
    if constexpr (Added) dresidual[i] = g;
  }
};

#if MERISTEM_GPU
/// The same for packs of W channels.
template <class T, bool Masked, bool Added, int W>
struct BatchNormBackwardChannels {
  struct Column {
    Pack<T, W> mean, scale, center, slope;
  };
  const T* x;
  const T* y;
  const T* dy;
  const T* mean;
  const T* scale;
  const T* center;
  const T* slope;
  T* dx;
  T* dresidual;
  __device__ Column column(std::int64_t number) const {
    const std::int64_t c = number * W;
    return {load_pack<W>(mean + c), load_pack<W>(scale + c), load_pack<W>(center + c), load_pack<W>(slope + c)};
  }
  __device__ void operator()(std::int64_t number, const Column& own) const {
    const std::int64_t i = number * W;
    const Pack<T, W> from = load_pack<W>(x + i);
    Pack<T, W> g = load_pack<W>(dy + i);
    if constexpr (Masked) {
      const Pack<T, W> output = load_pack<W>(y + i);
      for (int k = 0; k < W; ++k) g.at[k] = output.at[k] > T(0) ? g.at[k] : T(0);
    }
    Pack<T, W> out;
    for (int k = 0; k < W; ++k) {
      const T deviation = from.at[k] - own.mean.at[k];
      out.at[k] = own.scale.at[k] * ((g.at[k] - own.center.at[k]) + own.slope.at[k] * deviation);
    }
    store_pack(out, dx + i);
    if constexpr (Added) store_pack(g, dresidual + i);
  }
};
#endif

/// Throws ArgumentError for an activation that batch normalisation cannot fuse.
inline void require_fusible(const char* function, Activation activation) {
  if (activation == Activation::identity || activation == Activation::relu) return;
  throw ArgumentError(concat(function, ": activation ", activation,
                             " cannot be fused; take identity or relu, or put an activation of its own behind it"));
}

/// Calls `run` with std::true_type or std::false_type.
template <class Run>
void with_flag(bool flag, Run&& run) {
  if (flag) {
    run(std::true_type{});
  } else {
    run(std::false_type{});
  }
}

}  // namespace detail

namespace detail {

/// Throws ShapeError unless the statistics are of the columns of x.
template <class T>
[[nodiscard]] StoreBatchStatistics<T> store_statistics(const char* function, const BatchStatistics<T>& to,
                                                       const View<const T>& x) {
  require_columns(function, "mean", to.mean, "x", x);
  require_columns(function, "inverse_deviation", to.inverse_deviation, "x", x);
  const bool moves = to.running.mean.rank() != 0;
  if (moves) {
    require_columns(function, "running mean", to.running.mean, "x", x);
    require_columns(function, "running variance", to.running.variance, "x", x);
  }
  return {to.mean.data_handle(),
          to.inverse_deviation.data_handle(),
          moves ? to.running.mean.data_handle() : nullptr,
          moves ? to.running.variance.data_handle() : nullptr,
          to.running.momentum,
          to.epsilon};
}

}  // namespace detail

/// mean and inverse_deviation (channels) = those of x over its rows, with the biased variance; `running`, if given,
/// moves towards the batch's mean and its unbiased variance, as in PyTorch. With one row the variance is 0 and the
/// running one stays as it is; with no row both stay, and mean and variance are 0. Throws ShapeError unless all are
/// contiguous and fit together.
template <Real T>
void batch_norm_statistics(Context& ctx, View<const std::type_identity_t<T>> x, double epsilon, View<T> mean,
                           View<std::type_identity_t<T>> inverse_deviation,
                           const RunningStatistics<std::type_identity_t<T>>& running = {}) {
  const auto store =
      detail::store_statistics<T>("batch_norm_statistics", {mean, inverse_deviation, epsilon, running}, x);
  const View<const T> matrix = x.as_matrix();
  detail::channel_sums(ctx, detail::ChannelMoments<T>{x.data_handle()},
                       detail::ChannelCut(1, matrix.extent(0), matrix.extent(1)), store);
}

/// mean = running_mean and inverse_deviation = 1 / √(running_variance + epsilon), all (channels): the statistics of
/// evaluation. Throws ShapeError unless all are contiguous and of equal shape.
template <Real T>
void batch_norm_constants(Context& ctx, View<const std::type_identity_t<T>> running_mean,
                          View<const std::type_identity_t<T>> running_variance, double epsilon, View<T> mean,
                          View<std::type_identity_t<T>> inverse_deviation) {
  const char* const name = "batch_norm_constants";
  detail::require_same_shape(name, "running_mean", running_mean, "mean", mean);
  detail::require_same_shape(name, "running_variance", running_variance, "mean", mean);
  detail::require_same_shape(name, "inverse_deviation", inverse_deviation, "mean", mean);
  for_each(ctx, mean.size(),
           detail::ConstantStatistics<T>{running_mean.data_handle(), running_variance.data_handle(), epsilon,
                                         mean.data_handle(), inverse_deviation.data_handle()});
}

/// y = act((x - mean) inverse_deviation weight + bias + residual); residual has the shape of x or is an empty view
/// `{}`; y may be x or residual. Throws ArgumentError for an activation other than identity and relu, ShapeError unless
/// all are contiguous and fit together.
template <Real T>
void batch_norm_forward(Context& ctx, Activation activation, View<const std::type_identity_t<T>> x,
                        View<const std::type_identity_t<T>> mean, View<const std::type_identity_t<T>> inverse_deviation,
                        View<const std::type_identity_t<T>> weight, View<const std::type_identity_t<T>> bias,
                        View<const std::type_identity_t<T>> residual, View<T> y) {
  const char* const name = "batch_norm_forward";
  detail::require_fusible(name, activation);
  detail::require_same_shape(name, "x", x, "y", y);
  detail::require_columns(name, "mean", mean, "x", x);
  detail::require_columns(name, "inverse_deviation", inverse_deviation, "x", x);
  detail::require_columns(name, "weight", weight, "x", x);
  detail::require_columns(name, "bias", bias, "x", x);
  const bool added = residual.rank() != 0;
  if (added) detail::require_same_shape(name, "residual", residual, "x", x);
  if (x.empty()) return;
  const std::int64_t cols = mean.extent(0), rows = x.size() / cols;
#if MERISTEM_GPU
  const auto run = [&](auto function, auto with_residual) {
    const auto run_packs = [&](auto size) {
      constexpr int W = decltype(size)::value;
      detail::for_each_in_columns(
          ctx, rows, cols / W,
          detail::NormalizeChannels<T, decltype(function), decltype(with_residual)::value, W>{
              x.data_handle(), residual.data_handle(), mean.data_handle(), inverse_deviation.data_handle(),
              weight.data_handle(), bias.data_handle(), y.data_handle()});
    };
    detail::with_packs<T>(cols, run_packs, x.data_handle(), residual.data_handle(), mean.data_handle(),
                          inverse_deviation.data_handle(), weight.data_handle(), bias.data_handle(), y.data_handle());
  };
#else
  const std::int64_t lanes = detail::lanes_for(rows, cols);
  Tensor<T> lane_values(ctx, {3, lanes});
  T* const values = lane_values.data();
  for_each(ctx, lanes,
           detail::BatchNormLanes<T>{mean.data_handle(), inverse_deviation.data_handle(), weight.data_handle(),
                                     bias.data_handle(), cols, lanes, values});
  const auto run = [&](auto function, auto with_residual) {
    detail::for_each_on_lanes(
        ctx, x.size(), lanes,
        detail::NormalizeLanes<T, decltype(function), decltype(with_residual)::value>{
            x.data_handle(), residual.data_handle(), values, values + lanes, values + 2 * lanes, y.data_handle()});
  };
#endif
  detail::with_flag(added, [&](auto with_residual) {
    if (activation == Activation::relu) {
      run(detail::Relu{}, with_residual);
    } else {
      run(detail::Identity{}, with_residual);
    }
  });
}

/// Gradients at the inputs of batch_norm_forward, given dy. dweight and dbias (channels) are overwritten or accumulated
/// as `mode` says; dx (as x) and dresidual (as x) are overwritten. Each of dx, dresidual and the pair (dweight, dbias)
/// is left out by passing `{}`. Either of dx and dresidual may be dy. Throws ArgumentError for an activation other than
/// identity and relu, ShapeError unless all are contiguous and fit together.
template <Real T>
void batch_norm_backward(Context& ctx, const BatchNormForward<T>& forward, View<const std::type_identity_t<T>> dy,
                         Accumulate mode, View<std::type_identity_t<T>> dweight, View<std::type_identity_t<T>> dbias,
                         View<std::type_identity_t<T>> dx, View<std::type_identity_t<T>> dresidual = {}) {
  const char* const name = "batch_norm_backward";
  const View<const T>& x = forward.x;
  detail::require_fusible(name, forward.activation);
  detail::require_same_shape(name, "dy", dy, "x", x);
  detail::require_columns(name, "mean", forward.mean, "x", x);
  detail::require_columns(name, "inverse_deviation", forward.inverse_deviation, "x", x);
  detail::require_columns(name, "weight", forward.weight, "x", x);
  const bool masked = forward.activation == Activation::relu;
  if (masked) detail::require_same_shape(name, "y", forward.y, "x", x);
  const bool parameters = dweight.rank() != 0, data = dx.rank() != 0, added = dresidual.rank() != 0;
  if (parameters) {
    detail::require_columns(name, "dweight", dweight, "x", x);
    detail::require_columns(name, "dbias", dbias, "x", x);
  }
  if (data) detail::require_same_shape(name, "dx", dx, "x", x);
  if (added) detail::require_same_shape(name, "dresidual", dresidual, "x", x);

  const View<const T> matrix = x.as_matrix();
  const std::int64_t rows = matrix.extent(0), cols = matrix.extent(1), lanes = detail::lanes_for(rows, cols);
  Tensor<T> lane_values = data ? empty<T>(ctx, {4, lanes}) : Tensor<T>();
  T* const values = lane_values.data();
  detail::with_flag(masked, [&](auto with_mask) {
    const detail::ChannelGradients<T, decltype(with_mask)::value> gradients{
        x.data_handle(), forward.y.data_handle(), dy.data_handle(), forward.mean.data_handle(), cols, 1};
    if (parameters || data) {
      detail::channel_sums(
          ctx, gradients, detail::ChannelCut(1, rows, cols),
          detail::StoreBatchNormGradients<T>{forward.mean.data_handle(), forward.inverse_deviation.data_handle(),
                                             forward.weight.data_handle(), forward.constant_statistics, mode,
                                             dweight.data_handle(), dbias.data_handle(), cols, lanes, values});
    }
    if (!data) return;
    detail::with_flag(added, [&](auto with_residual) {
      constexpr bool mask = decltype(with_mask)::value, add = decltype(with_residual)::value;
#if MERISTEM_GPU
      const auto run_packs = [&](auto size) {
        constexpr int W = decltype(size)::value;
        detail::for_each_in_columns(
            ctx, rows, cols / W,
            detail::BatchNormBackwardChannels<T, mask, add, W>{
                x.data_handle(), forward.y.data_handle(), dy.data_handle(), values, values + lanes, values + 2 * lanes,
                values + 3 * lanes, dx.data_handle(), dresidual.data_handle()});
      };
      detail::with_packs<T>(cols, run_packs, x.data_handle(), forward.y.data_handle(), dy.data_handle(),
                            dx.data_handle(), dresidual.data_handle());
#else
      detail::for_each_on_lanes(
          ctx, x.size(), lanes,
          detail::BatchNormBackwardLanes<T, mask, add>{gradients, values, values + lanes, values + 2 * lanes,
                                                       values + 3 * lanes, dx.data_handle(), dresidual.data_handle()});
#endif
    });
  });
  // ReLU's slope is the same at y as at what y was computed from.
  if (added && !data) activation_backward<T>(ctx, forward.activation, masked ? forward.y : x, dy, dresidual);
}

// The compiled library holds this.
#define MERISTEM_BATCH_NORM_STATISTICS(EXTERN, T)                                                             \
  EXTERN template void batch_norm_statistics<T>(Context & ctx, View<const T> x, double epsilon, View<T> mean, \
                                                View<T> inverse_deviation, const RunningStatistics<T>& running);

#if defined(MERISTEM_COMPILED)
MERISTEM_BATCH_NORM_STATISTICS(extern, float)
MERISTEM_BATCH_NORM_STATISTICS(extern, double)
#endif

}  // namespace meristem::kernels
