// Convolution (cross-correlation, as networks use the word) of maps, and its gradients.
//
//   y[i][oy][ox][k]       =          bias[k] + Σ x[i][oy·s - p + ky·d][ox·s - p + kx·d][c] · weight[k][ky][kx][c]
//   dx[i][y][x][c]        =          Σ dy[i][oy][ox][k] · weight[k][ky][kx][c]   over all (oy, ox, ky, kx) reading (y,
//   x) dweight[k][ky][kx][c] = or +=    Σ dy[i][oy][ox][k] · x[i][oy·s - p + ky·d][ox·s - p + kx·d][c]   over i, oy, ox
//
//   x, dx: (n, H, W, C),  y, dy: (n, OH, OW, K) with (OH, OW) = window.output((H, W)),  weight: (K, ky, kx, C),
//   bias: (K); x reads as 0 outside the map. The gradient of the bias is the sum of dy over images and positions.
//
// Any extent may be 0 except the kernel's. Two paths compute each of them (`ConvPath`): implicit GEMM in CUDA, and
// patches with BLAS. Equal inputs give equal bits, whatever the number of CPU threads.
//
// Float32 sums of the BLAS path: dweight sums at most 256 rows at a time, those sums one after the other within a slab
// of rows, the slabs in double. With R rows (positions of the output, or of the input where K is 4 times less than C),
// S slabs and m = Σ|dy x|: |error| <= (256 + R / (128 S) + 3)·2^-24·m.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/batch_norm.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/implicit_gemm.cuh>
#include <meristem/kernels/patches.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>
#if !MERISTEM_GPU
#include <meristem/kernels/conv2d_host.hpp>
#endif

namespace meristem::kernels {

/// How a convolution is computed.
enum class ConvPath {
  automatic,  ///< the CPU takes `blas`, the GPU `kernel`
  kernel,     ///< the implicit GEMM of implicit_gemm.cuh, in full precision; needs no scratch memory for patches
  blas,       ///< patches and BLAS, in full precision too
};

namespace conv2d_detail {

/// Whether the CUDA kernels compute the convolution.
[[nodiscard]] inline bool use_kernel(ConvPath path) {
  if (path != ConvPath::automatic) return path == ConvPath::kernel;
  return MERISTEM_GPU != 0;
}

template <class T>
void require_rank4(const char* function, const char* name, const View<T>& view, const char* axes) {
  detail::require_contiguous(function, name, view);
  if (view.rank() != 4) {
    throw ShapeError(concat(function, ": ", name, " has shape ", view.shape(), "; it must have rank 4, ", axes));
  }
}

/// Throws unless maps, weights and window belong together. `map` names the argument of shape (n, H, W, C), `result`
/// that of shape (n, OH, OW, K).
template <class A, class B, class C>
void check(const char* function, const char* map_name, const View<A>& map, const char* weight_name,
           const View<B>& weight, const Window& window, const char* result_name, const View<C>& result) {
  require_rank4(function, map_name, map, "(n, H, W, channels)");
  require_rank4(function, weight_name, weight, "(out, ky, kx, in)");
  require_rank4(function, result_name, result, "(n, H, W, channels)");
  if (weight.extent(1) != window.kernel.y || weight.extent(2) != window.kernel.x) {
    throw ShapeError(concat(function, ": ", weight_name, " has shape ", weight.shape(), ", the window a kernel of ",
                            window.kernel, "; axes 1 and 2 must be the kernel's"));
  }
  if (map.extent(3) != weight.extent(3)) {
    throw ShapeError(concat(function, ": ", map_name, " has ", map.extent(3), " channels, ", weight_name, " expects ",
                            weight.extent(3), "; got ", map.shape(), " and ", weight.shape()));
  }
  const Extent2 extent(map.extent(1), map.extent(2));
  window.check(function, extent);
  const Extent2 output = window.output(extent);
  const Shape expected{map.extent(0), output.y, output.x, weight.extent(0)};
  if (result.shape() != expected) {
    throw ShapeError(concat(function, ": ", map_name, " of shape ", map.shape(), " and ", weight_name, " of shape ",
                            weight.shape(), " belong to ", result_name, " of shape ", expected, "; got ",
                            result.shape()));
  }
}

/// Images whose patches fill at most this many elements are handled together.
inline constexpr std::int64_t patch_elements = 1 << 24;

/// Calls run(first, last, patches) for groups of images; patches (rows, columns) is scratch memory.
template <Real T, class Run>
void for_image_groups(Context& ctx, std::int64_t images, std::int64_t rows_each, std::int64_t columns, const Run& run) {
  if (images == 0) return;
  const std::int64_t each = std::max<std::int64_t>(1, rows_each * columns);
  const std::int64_t group = std::clamp<std::int64_t>(patch_elements / each, 1, images);
  auto scratch = empty<T>(ctx, {group * rows_each, columns});
  for (std::int64_t first = 0; first < images; first += group) {
    const std::int64_t last = std::min(first + group, images);
    run(first, last, scratch.view().slice(0, 0, (last - first) * rows_each));
  }
}

/// im2col and one product for each group of images.
template <Real T>
void patches_forward(Context& ctx, View<const T> x, View<const T> weight, View<const T> bias, const Window& window,
                     View<T> y) {
  const std::int64_t outputs = weight.extent(0);
  const std::int64_t columns = window.kernel.size() * weight.extent(3);
  const View<const T> w(weight.data_handle(), {outputs, columns});
  for_image_groups<T>(ctx, x.extent(0), y.extent(1) * y.extent(2), columns,
                      [&](std::int64_t first, std::int64_t last, View<T> patches) {
                        im2col<T>(ctx, x.slice(0, first, last), window, patches);
                        gemm(ctx, Transpose::no, Transpose::yes, T(1), patches, w, T(0),
                             y.slice(0, first, last).as_matrix());
                      });
  if (bias.rank() != 0) add_bias<T>(ctx, bias, y);
}

template <Real T>
void patches_backward_data(Context& ctx, View<const T> dy, View<const T> weight, const Window& window, View<T> dx) {
  const std::int64_t outputs = weight.extent(0);
  const std::int64_t columns = window.kernel.size() * weight.extent(3);
  const View<const T> w(weight.data_handle(), {outputs, columns});
  for_image_groups<T>(ctx, dx.extent(0), dy.extent(1) * dy.extent(2), columns,
                      [&](std::int64_t first, std::int64_t last, View<T> patches) {
                        gemm(ctx, Transpose::no, Transpose::no, T(1), dy.slice(0, first, last).as_matrix(), w, T(0),
                             patches);
                        col2im<T>(ctx, patches, window, dx.slice(0, first, last));
                      });
}

template <Real T>
void patches_backward_weights(Context& ctx, View<const T> x, View<const T> dy, const Window& window, Accumulate mode,
                              View<T> dweight) {
  const std::int64_t outputs = dweight.extent(0);
  const std::int64_t columns = window.kernel.size() * dweight.extent(3);
  const View<T> sum(dweight.data_handle(), {outputs, columns});
  if (x.extent(0) == 0 && mode == Accumulate::overwrite) fill(ctx, T(0), dweight);
  for_image_groups<T>(ctx, x.extent(0), dy.extent(1) * dy.extent(2), columns,
                      [&](std::int64_t first, std::int64_t last, View<T> patches) {
                        im2col<T>(ctx, x.slice(0, first, last), window, patches);
                        const bool add = first > 0 || mode == Accumulate::accumulate;
                        gemm(ctx, Transpose::yes, Transpose::no, T(1), dy.slice(0, first, last).as_matrix(), patches,
                             add ? T(1) : T(0), sum);
                      });
}

}  // namespace conv2d_detail

/// y = the convolution of x with weight, plus bias.
///
/// @param x       (n, H, W, C)
/// @param weight  (K, ky, kx, C) with the window's kernel
/// @param bias    (K), or a default-constructed view for none
/// @param y       (n, OH, OW, K), overwritten; it must not overlap the inputs
/// @param path    `automatic` suits everyone but tests and benchmarks; both give the same numbers up to rounding
///
/// All contiguous. Scratch memory from the Context. On the CPU, for each thread, the patches of at most 256 positions,
/// at most 1536 columns of them at a time, or products of one strip of the map (conv2d_thin.hpp: about 2^16 elements);
/// and a copy of the weights, unless there are 128 outputs or more. With `blas` on the GPU 2^24 elements, or the
/// patches of one image if these are more. Throws ShapeError for shapes that do not fit, ArgumentError for an
/// impossible window.
template <Real T>
void conv2d_forward(Context& ctx, View<const std::type_identity_t<T>> x, View<const std::type_identity_t<T>> weight,
                    View<const std::type_identity_t<T>> bias, const Window& window, View<T> y,
                    ConvPath path = ConvPath::automatic) {
  conv2d_detail::check("conv2d_forward", "x", x, "weight", weight, window, "y", y);
  if (bias.rank() != 0) detail::require_columns("conv2d_forward", "bias", bias, "y", y);
  if (y.empty()) return;
  if (conv2d_detail::use_kernel(path)) {
    implicit_gemm_forward<T>(ctx, x, weight, bias, window, y);
    return;
  }
#if MERISTEM_GPU
  conv2d_detail::patches_forward<T>(ctx, x, weight, bias, window, y);
#else
  const meristem::detail::DeviceAccess access;
  conv2d_host::forward<T>(ctx, x, weight, bias, window, y);
#endif
}

/// The same, and the statistics of y over its images and positions, as `batch_norm_statistics` of y: by the kernel they
/// are taken of what it has in registers.
template <Real T>
void conv2d_forward_statistics(Context& ctx, View<const std::type_identity_t<T>> x,
                               View<const std::type_identity_t<T>> weight, View<const std::type_identity_t<T>> bias,
                               const Window& window, View<T> y,
                               const BatchStatistics<std::type_identity_t<T>>& statistics,
                               ConvPath path = ConvPath::automatic) {
  const auto store = detail::store_statistics<T>("conv2d_forward_statistics", statistics, y);
  if (conv2d_detail::use_kernel(path)) {
    if (implicit_gemm::forward<T>(ctx, x, weight, bias, window, y, {}, &store)) return;
  } else {
    conv2d_forward<T>(ctx, x, weight, bias, window, y, path);
  }
  batch_norm_statistics<T>(ctx, y, statistics.epsilon, statistics.mean, statistics.inverse_deviation,
                           statistics.running);
}

/// dx = the gradient at the input for a gradient dy at the output.
///
/// @param dy      (n, OH, OW, K)
/// @param weight  (K, ky, kx, C) with the window's kernel
/// @param dx      (n, H, W, C), overwritten; elements that no window reads become 0
///
/// All contiguous. Scratch memory as in `conv2d_forward`, with a copy of the weights in any case. Throws as
/// `conv2d_forward` does.
template <Real T>
void conv2d_backward_data(Context& ctx, View<const std::type_identity_t<T>> dy,
                          View<const std::type_identity_t<T>> weight, const Window& window, View<T> dx,
                          ConvPath path = ConvPath::automatic) {
  conv2d_detail::check("conv2d_backward_data", "dx", dx, "weight", weight, window, "dy", dy);
  if (dx.empty()) return;
  if (conv2d_detail::use_kernel(path)) {
    implicit_gemm_backward_data<T>(ctx, dy, weight, window, dx);
    return;
  }
#if MERISTEM_GPU
  conv2d_detail::patches_backward_data<T>(ctx, dy, weight, window, dx);
#else
  const meristem::detail::DeviceAccess access;
  conv2d_host::backward_data<T>(ctx, dy, weight, window, dx);
#endif
}

/// dweight = or += (as `mode` says) the gradient at the weights for a gradient dy at the output.
///
/// @param x        (n, H, W, C)
/// @param dy       (n, OH, OW, K)
/// @param dweight  (K, ky, kx, C) with the window's kernel
///
/// All contiguous. Scratch memory from the Context: as in `conv2d_forward`, and on the CPU the sums of several slabs,
/// at most 2^21 elements together. Throws as `conv2d_forward` does.
template <Real T>
void conv2d_backward_weights(Context& ctx, View<const std::type_identity_t<T>> x,
                             View<const std::type_identity_t<T>> dy, const Window& window, Accumulate mode,
                             View<T> dweight, ConvPath path = ConvPath::automatic) {
  conv2d_detail::check("conv2d_backward_weights", "x", x, "dweight", dweight, window, "dy", dy);
  if (dweight.empty()) return;
  if (conv2d_detail::use_kernel(path)) {
    implicit_gemm_backward_weights<T>(ctx, x, dy, window, mode, dweight);
    return;
  }
#if MERISTEM_GPU
  conv2d_detail::patches_backward_weights<T>(ctx, x, dy, window, mode, dweight);
#else
  const meristem::detail::DeviceAccess access;
  conv2d_host::backward_weights<T>(ctx, x, dy, window, mode, dweight);
#endif
}

/// All gradients at once, those that `gradients` has views for: on a GPU in one launch, and the one at the input is
/// added to what is there without another.
///
/// @param x       (n, H, W, C)
/// @param dy      (n, OH, OW, K)
/// @param weight  (K, ky, kx, C) with the window's kernel
///
/// All contiguous. Scratch memory as in the two functions above; on the CPU as much as dx where it is accumulated.
/// Throws as `conv2d_forward` does.
template <Real T>
void conv2d_backward(Context& ctx, View<const std::type_identity_t<T>> x, View<const std::type_identity_t<T>> dy,
                     View<const std::type_identity_t<T>> weight, const Window& window,
                     const ConvGradients<T>& gradients, ConvPath path = ConvPath::automatic) {
  if (conv2d_detail::use_kernel(path)) {
    implicit_gemm_backward<T>(ctx, x, dy, weight, window, gradients);
    return;
  }
  if (gradients.dweight.rank() != 0) {
    conv2d_backward_weights<T>(ctx, x, dy, window, gradients.mode, gradients.dweight, path);
  }
  if (gradients.dbias.rank() != 0) column_sums<T>(ctx, dy, gradients.dbias, gradients.mode);
  if (gradients.dx.rank() == 0) return;
  if (gradients.dx_mode == Accumulate::overwrite) {
    conv2d_backward_data<T>(ctx, dy, weight, window, gradients.dx, path);
    return;
  }
  Tensor<T> dx(ctx, gradients.dx.shape());
  conv2d_backward_data<T>(ctx, dy, weight, window, dx, path);
  axpy<T>(ctx, T(1), dx, gradients.dx);
}

}  // namespace meristem::kernels
