// Layer normalisation over the last axis: J. Ba, J. Kiros, G. Hinton, "Layer normalization" (2016).
//
//   mean[r] = (1/m) Σ_c x[r][c]                  r: a row, c: one of m columns
//   s[r]    = 1 / √((1/m) Σ_c (x[r][c] - mean[r])² + epsilon)                 inverse_deviation
//   y       = (x - mean) s weight + bias                                      (=)
//
//   dbias   = Σ_r dy                                                          (= or +=)
//   dweight = Σ_r dy (x - mean) s                                             (= or +=)
//   dx      = s (dy weight - (1/m) Σ_c dy weight - (x - mean) s² (1/m) Σ_c dy weight (x - mean))        (=)
//
// x, y, dy, dx: (..., cols), all leading axes merged to rows; mean, inverse_deviation: (rows); weight, bias, dweight,
// dbias: (cols). Contiguous. A warp shares a row, lanes in strides over the columns; a thread alone runs along the row.
// Sums over a row in T, lanes combined in double, deviations from the mean of a first pass.
#pragma once

#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/channel_sums.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

/// Two sums over the columns of a row.
struct RowSums {
  double a;
  double b;
};

/// The terms d and d², with d the deviation from `offset`.
template <class T>
struct DeviationTerms {
  const T* x;
  T offset;
  MERISTEM_HD void add(std::int64_t c, T& a, T& b) const {
    const T d = x[c] - offset;
    a += d;
    b += d * d;
  }
};

/// The terms g and g (x - mean), with g = dy weight.
template <class T>
struct WeightedGradientTerms {
  const T* x;
  const T* dy;
  const T* weight;
  T mean;
  MERISTEM_HD void add(std::int64_t c, T& a, T& b) const {
    const T g = dy[c] * weight[c];
    a += g;
    b += g * (x[c] - mean);
  }
};

#if !MERISTEM_GPU
/// The sums over a row, in vectors.
template <class T, class Terms>
[[gnu::noinline]] RowSums sum_row_alone(Terms terms, std::int64_t cols) {
  T a = T(0), b = T(0);
#if defined(_OPENMP)
#pragma omp simd reduction(+ : a, b)
#endif
  for (std::int64_t c = 0; c < cols; ++c) terms.add(c, a, b);
  return {static_cast<double>(a), static_cast<double>(b)};
}
#endif

/// The sums over a row that `lanes` lanes of a warp share, given to all of them.
template <class T, class Terms>
__device__ RowSums sum_row(const Terms& terms, std::int64_t cols, int lane, int lanes) {
#if !MERISTEM_GPU
  if (lanes == 1) return sum_row_alone<T>(terms, cols);
#endif
  T a = T(0), b = T(0);
  for (std::int64_t c = lane; c < cols; c += lanes) terms.add(c, a, b);
  const unsigned mask = mask_of_lanes(lanes);
  const double sum_a = reduce_warp<SumOp>(static_cast<double>(a), lanes);
  const double sum_b = reduce_warp<SumOp>(static_cast<double>(b), lanes);
  return {__shfl_sync(mask, sum_a, 0), __shfl_sync(mask, sum_b, 0)};
}

/// y = (x - mean) s weight + bias.
template <class T>
struct WriteLayerNorm {
  const T* x;
  const T* weight;
  const T* bias;
  T mean;
  T s;
  T* y;
  MERISTEM_HD void operator()(std::int64_t c) const { y[c] = (x[c] - mean) * s * weight[c] + bias[c]; }
};

/// dx = s ((dy weight - center) + slope (x - mean)).
template <class T>
struct WriteLayerNormGradient {
  const T* x;
  const T* dy;
  const T* weight;
  T mean;
  T s;
  T center;
  T slope;
  T* dx;
  MERISTEM_HD void operator()(std::int64_t c) const {
    const T g = dy[c] * weight[c];
    dx[c] = s * ((g - center) + slope * (x[c] - mean));
  }
};

#if !MERISTEM_GPU
/// Calls write(c) for all columns of a row, in vectors.
template <class Write>
[[gnu::noinline]] void write_row_alone(Write write, std::int64_t cols) {
  MERISTEM_INDEPENDENT
  for (std::int64_t c = 0; c < cols; ++c) write(c);
}
#endif

/// Calls write(c) for the columns of a row that `lanes` lanes share.
template <class Write>
__device__ void write_row(const Write& write, std::int64_t cols, int lane, int lanes) {
#if !MERISTEM_GPU
  if (lanes == 1) return write_row_alone(write, cols);
#endif
  for (std::int64_t c = lane; c < cols; c += lanes) write(c);
}

/// mean, inverse_deviation and y of the block's rows.
template <class T>
__global__ void layer_norm_rows(const T* x, const T* weight, const T* bias, double epsilon, std::int64_t rows,
                                std::int64_t cols, std::int64_t rows_per_block, T* mean, T* inverse_deviation, T* y) {
  const int lane = static_cast<int>(threadIdx.x % warp_lanes), lanes = lanes_of_warp();
  const std::int64_t end = (blockIdx.x + std::int64_t{1}) * rows_per_block;
  const std::int64_t step = (blockDim.x + warp_lanes - 1) / warp_lanes;
  const double share = 1.0 / static_cast<double>(cols);
  for (std::int64_t row = blockIdx.x * rows_per_block + threadIdx.x / warp_lanes; row < rows && row < end;
       row += step) {
    const T* const from = x + row * cols;
    const T first = from[0];
    const RowSums about_first = sum_row<T>(DeviationTerms<T>{from, first}, cols, lane, lanes);
    const T center = static_cast<T>(static_cast<double>(first) + about_first.a * share);
    const RowSums sums = sum_row<T>(DeviationTerms<T>{from, center}, cols, lane, lanes);
    const double variance = (sums.b - sums.a * sums.a * share) * share;
    const T row_mean = static_cast<T>(static_cast<double>(center) + sums.a * share);
    const T s = static_cast<T>(1.0 / square_root((variance > 0.0 || variance != variance ? variance : 0.0) + epsilon));
    if (lane == 0) {
      mean[row] = row_mean;
      inverse_deviation[row] = s;
    }
    write_row(WriteLayerNorm<T>{from, weight, bias, row_mean, s, y + row * cols}, cols, lane, lanes);
  }
}

/// dx of the block's rows.
template <class T>
__global__ void layer_norm_backward_rows(const T* x, const T* mean, const T* inverse_deviation, const T* weight,
                                         const T* dy, std::int64_t rows, std::int64_t cols, std::int64_t rows_per_block,
                                         T* dx) {
  const int lane = static_cast<int>(threadIdx.x % warp_lanes), lanes = lanes_of_warp();
  const std::int64_t end = (blockIdx.x + std::int64_t{1}) * rows_per_block;
  const std::int64_t step = (blockDim.x + warp_lanes - 1) / warp_lanes;
  const double share = 1.0 / static_cast<double>(cols);
  for (std::int64_t row = blockIdx.x * rows_per_block + threadIdx.x / warp_lanes; row < rows && row < end;
       row += step) {
    const T* const from = x + row * cols;
    const T* const gradient = dy + row * cols;
    const T row_mean = mean[row], s = inverse_deviation[row];
    const RowSums sums = sum_row<T>(WeightedGradientTerms<T>{from, gradient, weight, row_mean}, cols, lane, lanes);
    const double scale = static_cast<double>(s);
    const T center = static_cast<T>(sums.a * share), slope = static_cast<T>(-scale * scale * sums.b * share);
    write_row(WriteLayerNormGradient<T>{from, gradient, weight, row_mean, s, center, slope, dx + row * cols}, cols,
              lane, lanes);
  }
}

/// For channel_sums with unfolded rows: Σ dy and Σ dy (x - mean) s, with mean and s of each row.
template <class T>
struct LayerNormGradients {
  using Element = T;
  const T* x;
  const T* dy;
  const T* mean;
  const T* inverse_deviation;

  MERISTEM_HD T shift(std::int64_t, std::int64_t, std::int64_t) const { return T(0); }
  MERISTEM_HD void add(std::int64_t i, std::int64_t row, T, T& a, T& b) const {
    const T g = dy[i];
    a += g;
    b += g * ((x[i] - mean[row]) * inverse_deviation[row]);
  }
  MERISTEM_HD static void close(double, double, double&, double&) {}
  MERISTEM_HD static void merge(double, double& a, double& b, double, double other_a, double other_b) {
    a += other_a;
    b += other_b;
  }
};

/// dbias and dweight = or += the two sums of a column.
template <class T>
struct StoreWeightGradients {
  Accumulate mode;
  T* dweight;
  T* dbias;
  MERISTEM_HD void operator()(std::int64_t, std::int64_t c, double, double sum, double product) const {
    const bool add = mode == Accumulate::accumulate;
    dweight[c] = static_cast<T>(add ? static_cast<double>(dweight[c]) + product : product);
    dbias[c] = static_cast<T>(add ? static_cast<double>(dbias[c]) + sum : sum);
  }
};

/// Throws ShapeError unless `vector` has one element for each row of `matrix`.
template <class A, class B>
void require_rows(const char* function, const char* vector_name, const View<A>& vector, const char* matrix_name,
                  const View<B>& matrix) {
  require_contiguous(function, vector_name, vector);
  const std::int64_t rows = matrix.as_matrix().extent(0);
  if (vector.rank() != 1 || vector.extent(0) != rows) {
    throw ShapeError(concat(function, ": ", vector_name, " has shape ", vector.shape(), ", ", matrix_name,
                            " has shape ", matrix.shape(), "; ", vector_name, " needs one element for each of the ",
                            rows, " rows of ", matrix_name));
  }
}

/// Rows of one block of eight warps.
inline std::int64_t layer_norm_block_rows(std::int64_t cols) { return cols < 512 ? 4096 / cols : 8; }

}  // namespace detail

/// mean, inverse_deviation (rows) and y = (x - mean) inverse_deviation weight + bias, normalised over the last axis of
/// x with the biased variance; y may be x. Throws ShapeError unless all are contiguous and fit together.
template <Real T>
void layer_norm_forward(Context& ctx, View<const std::type_identity_t<T>> x, View<const std::type_identity_t<T>> weight,
                        View<const std::type_identity_t<T>> bias, double epsilon, View<std::type_identity_t<T>> mean,
                        View<std::type_identity_t<T>> inverse_deviation, View<T> y) {
  const char* const name = "layer_norm_forward";
  detail::require_same_shape(name, "x", x, "y", y);
  detail::require_columns(name, "weight", weight, "x", x);
  detail::require_columns(name, "bias", bias, "x", x);
  detail::require_rows(name, "mean", mean, "x", x);
  detail::require_rows(name, "inverse_deviation", inverse_deviation, "x", x);
  if (x.empty()) return;
  const std::int64_t rows = mean.extent(0), cols = weight.extent(0), share = detail::layer_norm_block_rows(cols);
  launch<detail::layer_norm_rows<T>>(ctx, dim3(blocks_for(rows, share)), block_threads(ctx, 256), 0, x.data_handle(),
                                     weight.data_handle(), bias.data_handle(), epsilon, rows, cols, share,
                                     mean.data_handle(), inverse_deviation.data_handle(), y.data_handle());
}

/// Gradients at the inputs of layer_norm_forward, given dy and what forward stored. dweight and dbias (cols) are
/// overwritten or accumulated as `mode` says; dx (as x) is overwritten and may be dy. Each of dx and the pair (dweight,
/// dbias) is left out by passing `{}`. Throws ShapeError unless all are contiguous and fit together.
template <Real T>
void layer_norm_backward(Context& ctx, View<const T> x, View<const std::type_identity_t<T>> mean,
                         View<const std::type_identity_t<T>> inverse_deviation,
                         View<const std::type_identity_t<T>> weight, View<const std::type_identity_t<T>> dy,
                         Accumulate mode, View<std::type_identity_t<T>> dweight, View<std::type_identity_t<T>> dbias,
                         View<std::type_identity_t<T>> dx) {
  const char* const name = "layer_norm_backward";
  detail::require_same_shape(name, "dy", dy, "x", x);
  detail::require_columns(name, "weight", weight, "x", x);
  detail::require_rows(name, "mean", mean, "x", x);
  detail::require_rows(name, "inverse_deviation", inverse_deviation, "x", x);
  const std::int64_t rows = mean.extent(0), cols = weight.extent(0);
  if (dweight.rank() != 0) {
    detail::require_columns(name, "dweight", dweight, "x", x);
    detail::require_columns(name, "dbias", dbias, "x", x);
    detail::channel_sums(ctx,
                         detail::LayerNormGradients<T>{x.data_handle(), dy.data_handle(), mean.data_handle(),
                                                       inverse_deviation.data_handle()},
                         detail::ChannelCut(1, rows, cols, false),
                         detail::StoreWeightGradients<T>{mode, dweight.data_handle(), dbias.data_handle()});
  }
  if (dx.rank() == 0) return;
  detail::require_same_shape(name, "dx", dx, "x", x);
  if (x.empty()) return;
  const std::int64_t share = detail::layer_norm_block_rows(cols);
  launch<detail::layer_norm_backward_rows<T>>(
      ctx, dim3(blocks_for(rows, share)), block_threads(ctx, 256), 0, x.data_handle(), mean.data_handle(),
      inverse_deviation.data_handle(), weight.data_handle(), dy.data_handle(), rows, cols, share, dx.data_handle());
}

}  // namespace meristem::kernels
