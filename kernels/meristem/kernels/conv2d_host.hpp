// Convolutions on the CPU with BLAS. What is computed how:
//
//   forward              y = patches(x) · Wᵀ + bias (conv2d_patches.hpp)
//   gradient of data     dx = the same on dy for every residue class of input positions modulo the stride (one class
//                        at stride 1), with those taps, mirrored, that reach the class
//   gradient of weights  dW = Σ dyᵀ · patches(x): the rows are cut into slabs, each with a sum of its own, the columns
//                        into parts; the slabs are added in their order, in double
//
// At stride 1, with more than one tap, what has 4 times fewer channels than its counterpart decides: forward with few
// outputs and the gradient of data with few inputs shift products instead of making patches (conv2d_thin.hpp), and the
// gradient of weights with few outputs makes patches of dy instead of x.
//
// Blocks, slabs and parts follow from the shapes alone and every BLAS call runs on one thread: the bits do not depend
// on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/host_tasks.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/conv2d_patches.hpp>
#include <meristem/kernels/conv2d_thin.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

#if MERISTEM_GPU
#error "this is part of the CPU's path of conv2d.cuh; include that"
#endif

namespace meristem::kernels::conv2d_host {

/// Elements of all slabs of a weight gradient together, and the number of tasks it is cut into.
inline constexpr std::int64_t slab_elements = 1 << 21;
inline constexpr std::int64_t weight_tasks = 16;
/// Narrowest part of the columns in a weight gradient that is split.
inline constexpr std::int64_t least_part = 384;

/// transposed(i, k) = weights(k, i).
template <class T>
struct TransposeWeights {
  const T* weights;
  T* transposed;
  std::int64_t rows;
  std::int64_t columns;
  void operator()(std::int64_t i, std::int64_t k) const { transposed[i * rows + k] = weights[k * columns + i]; }
};

/// by_tap((tap, k), c) = weights(k, tap, c).
template <class T>
struct TapsFirst {
  const T* weights;
  T* by_tap;
  std::int64_t taps;
  std::int64_t outputs;
  std::int64_t channels;
  void operator()(std::int64_t tap, std::int64_t k, std::int64_t c) const {
    by_tap[(tap * outputs + k) * channels + c] = weights[(k * taps + tap) * channels + c];
  }
};

/// by_tap((tap, c), k) = weights(k, last - tap, c).
template <class T>
struct MirroredTapsFirst {
  const T* weights;
  T* by_tap;
  std::int64_t taps;
  std::int64_t outputs;
  std::int64_t channels;
  void operator()(std::int64_t tap, std::int64_t c, std::int64_t k) const {
    by_tap[(tap * channels + c) * outputs + k] = weights[(k * taps + taps - 1 - tap) * channels + c];
  }
};

[[nodiscard]] inline Axis forward_axis(std::int64_t map, std::int64_t positions, std::int64_t kernel,
                                       std::int64_t stride, std::int64_t padding, std::int64_t dilation) {
  return {map, positions, stride, kernel, -padding, dilation};
}

/// The patches of a map (n, H, W, C) under a window.
template <class T>
[[nodiscard]] Sampling<T> sampling(View<const T> x, const Window& w) {
  const Extent2 map(x.extent(1), x.extent(2));
  const Extent2 output = w.output(map);
  return {x.data_handle(), x.extent(0), x.extent(3),
          forward_axis(map.y, output.y, w.kernel.y, w.stride.y, w.padding.y, w.dilation.y),
          forward_axis(map.x, output.x, w.kernel.x, w.stride.x, w.padding.x, w.dilation.x)};
}

/// From this many outputs on BLAS reads transposed weights about as well as plain ones.
inline constexpr std::int64_t transpose_in_blas = 128;

template <Real T>
void forward(Context& ctx, View<const T> x, View<const T> weight, View<const T> bias, const Window& window, View<T> y) {
  const Sampling<T> in = sampling<T>(x, window);
  const std::int64_t outputs = weight.extent(0);
  const std::int64_t columns = in.columns();
  const T* const b = bias.rank() == 0 ? nullptr : bias.data_handle();
  if (is_thin(in.channels, outputs, window.kernel, window.stride)) {
    auto by_tap = empty<T>(ctx, {window.kernel.size() * outputs, in.channels});
    for_each(ctx, window.kernel.size(), outputs, in.channels,
             TapsFirst<T>{weight.data_handle(), by_tap.data(), window.kernel.size(), outputs, in.channels});
    multiply_thin<T>(ctx, in, by_tap.view(), b, outputs, y.data_handle());
    return;
  }
  const Target<T> out{y.data_handle(), 0, 0, 0};
  if (outputs >= transpose_in_blas || outputs * columns == 0) {
    multiply<T>(ctx, in, Transpose::yes, View<const T>(weight.data_handle(), {outputs, columns}), b, outputs, out,
                false);
    return;
  }
  auto transposed = empty<T>(ctx, {columns, outputs});
  for_each(ctx, columns, outputs, TransposeWeights<T>{weight.data_handle(), transposed.data(), outputs, columns});
  multiply<T>(ctx, in, Transpose::no, transposed.view(), b, outputs, out, false);
}

/// The taps of one axis that reach the input positions r, r + stride, ..., in descending order: their outputs ascend.
struct PhaseTaps {
  std::vector<std::int64_t> taps;
  Axis axis;  ///< of dy, for these taps
};

[[nodiscard]] inline PhaseTaps phase_taps(std::int64_t map, std::int64_t positions, std::int64_t r, std::int64_t kernel,
                                          std::int64_t stride, std::int64_t padding, std::int64_t dilation) {
  PhaseTaps result;
  for (std::int64_t tap = kernel - 1; tap >= 0; --tap) {
    if ((r + padding - tap * dilation) % stride == 0) result.taps.push_back(tap);
  }
  const std::int64_t count = static_cast<std::int64_t>(result.taps.size());
  result.axis = {positions, divide_up(map - r, stride), 1, count, 0, 1};
  if (count > 0) result.axis.first = (r + padding - result.taps[0] * dilation) / stride;
  if (count > 1) result.axis.tap_step = (result.taps[0] - result.taps[1]) * dilation / stride;
  return result;
}

/// selected(((ty, tx), k), c) = weight(k, ky[ty], kx[tx], c)
template <class T>
void select_taps(View<const T> weight, const PhaseTaps& y, const PhaseTaps& x, T* selected) {
  const std::int64_t outputs = weight.extent(0);
  const std::int64_t channels = weight.extent(3);
  for (const std::int64_t ky : y.taps) {
    for (const std::int64_t kx : x.taps) {
      copy_rows(weight.data_handle() + (ky * weight.extent(2) + kx) * channels, weight.stride(0), selected, channels,
                channels, outputs);
      selected += outputs * channels;
    }
  }
}

template <Real T>
void backward_data(Context& ctx, View<const T> dy, View<const T> weight, const Window& window, View<T> dx) {
  const std::int64_t outputs = weight.extent(0);
  const std::int64_t channels = weight.extent(3);
  const Extent2 map(dx.extent(1), dx.extent(2));
  if (dx.empty()) return;
  std::vector<PhaseTaps> ys, xs;
  for (std::int64_t r = 0; r < std::min(window.stride.y, map.y); ++r) {
    ys.push_back(
        phase_taps(map.y, dy.extent(1), r, window.kernel.y, window.stride.y, window.padding.y, window.dilation.y));
  }
  for (std::int64_t r = 0; r < std::min(window.stride.x, map.x); ++r) {
    xs.push_back(
        phase_taps(map.x, dy.extent(2), r, window.kernel.x, window.stride.x, window.padding.x, window.dilation.x));
  }
  const auto unreached = [](const PhaseTaps& phase) { return phase.taps.empty(); };
  if (outputs == 0 || std::any_of(ys.begin(), ys.end(), unreached) || std::any_of(xs.begin(), xs.end(), unreached)) {
    fill(ctx, T(0), dx);
  }
  if (outputs == 0) return;
  if (is_thin(outputs, channels, window.kernel, window.stride)) {
    const Sampling<T> in{dy.data_handle(), dy.extent(0), outputs, ys[0].axis, xs[0].axis};
    auto by_tap = empty<T>(ctx, {window.kernel.size() * channels, outputs});
    for_each(ctx, window.kernel.size(), channels, outputs,
             MirroredTapsFirst<T>{weight.data_handle(), by_tap.data(), window.kernel.size(), outputs, channels});
    multiply_thin<T>(ctx, in, by_tap.view(), nullptr, channels, dx.data_handle());
    return;
  }
  const bool spread = ys.size() > 1 || xs.size() > 1;
  auto selected = empty<T>(ctx, {weight.size()});
  for (std::size_t ry = 0; ry < ys.size(); ++ry) {
    for (std::size_t rx = 0; rx < xs.size(); ++rx) {
      const PhaseTaps& y = ys[ry];
      const PhaseTaps& x = xs[rx];
      const Sampling<T> in{dy.data_handle(), dy.extent(0), outputs, y.axis, x.axis};
      if (in.columns() == 0) continue;
      select_taps(weight, y, x, selected.data());
      const Target<T> out{dx.data_handle() + static_cast<std::int64_t>(ry) * dx.stride(1) +
                              static_cast<std::int64_t>(rx) * dx.stride(2),
                          dx.stride(0), window.stride.y * dx.stride(1), window.stride.x * dx.stride(2)};
      multiply<T>(ctx, in, Transpose::no, View<const T>(selected.data(), {in.columns(), channels}), nullptr, channels,
                  out, spread);
    }
  }
}

/// out = or += the sum of the slabs, in their order; one index is a run of elements.
template <class T>
struct AddSlabs {
  static constexpr std::int64_t run = 256;
  const T* slabs;
  std::int64_t count;
  std::int64_t size;
  T* out;
  bool add;
  void operator()(std::int64_t index) const {
    double total[run];
    const std::int64_t first = index * run;
    const std::int64_t length = std::min(run, size - first);
    for (std::int64_t i = 0; i < length; ++i) total[i] = add ? static_cast<double>(out[first + i]) : 0.0;
    for (std::int64_t s = 0; s < count; ++s) {
      const T* const slab = slabs + s * size + first;
      MERISTEM_INDEPENDENT
      for (std::int64_t i = 0; i < length; ++i) total[i] += static_cast<double>(slab[i]);
    }
    for (std::int64_t i = 0; i < length; ++i) out[first + i] = static_cast<T>(total[i]);
  }
};

/// out (outputs × columns) = or += dyᵀ · patches of `in`; dy (rows × outputs). None of the extents is 0.
template <Real T>
void multiply_rows(Context& ctx, const Sampling<T>& in, const T* dy, std::int64_t outputs, Accumulate mode, T* out) {
  const std::int64_t rows = in.rows();
  const std::int64_t columns = in.columns();
  const bool direct = in.is_map();
  const std::int64_t size = outputs * columns;
  const std::int64_t wanted =
      std::clamp<std::int64_t>(std::min(slab_elements / size, divide_up(rows, 2 * most_block_rows)), 1, weight_tasks);
  const std::int64_t slab_rows = divide_up(divide_up(rows, wanted), most_block_rows) * most_block_rows;
  const std::int64_t slabs = divide_up(rows, slab_rows);
  const std::int64_t pieces =
      std::max(divide_up(columns, most_columns),
               std::min(divide_up(weight_tasks, slabs), std::max<std::int64_t>(1, columns / least_part)));
  const std::int64_t step = piece(columns, pieces);
  const std::int64_t parts = divide_up(columns, step);
  const std::int64_t block = block_rows(rows, step, outputs);
  std::vector<std::vector<Stretch>> stretches_of;
  for (std::int64_t from = 0; from < columns; from += step) {
    stretches_of.push_back(stretches(in, from, std::min(from + step, columns)));
  }
  auto sums = slabs > 1 ? empty<T>(ctx, {slabs, size}) : Tensor<T>();
  const std::int64_t tasks = slabs * parts;
  const std::int64_t patches_size = direct ? 0 : block * step;
  auto scratch = empty<T>(ctx, {host::workers_for(ctx, tasks), patches_size});
  const bool add = mode == Accumulate::accumulate;
  const auto one_task = [&](std::int64_t index, int worker) {
    T* const patches = scratch.data() + worker * patches_size;
    const std::int64_t slab = index / parts;
    const std::int64_t part = index % parts;
    const std::int64_t from = part * step;
    const std::int64_t width = std::min(step, columns - from);
    const View<T> sum =
        View<T>(slabs > 1 ? sums.data() + slab * size : out, {outputs, columns}).slice(1, from, from + width);
    const std::int64_t end = std::min(rows, (slab + 1) * slab_rows);
    T keep = slabs == 1 && add ? T(1) : T(0);
    for (std::int64_t first = slab * slab_rows; first < end; first += block) {
      const std::int64_t count = std::min(block, end - first);
      View<const T> matrix;
      if (direct) {
        matrix = View<const T>(in.map + first * columns, {count, columns}).slice(1, from, from + width);
      } else {
        gather(in, stretches_of[static_cast<std::size_t>(part)], first, first + count, patches, width);
        matrix = View<const T>(patches, {count, width});
      }
      gemm(ctx, Transpose::yes, Transpose::no, T(1), View<const T>(dy + first * outputs, {count, outputs}), matrix,
           keep, sum);
      keep = T(1);
    }
  };
  host::for_tasks(ctx, tasks, one_task);
  if (slabs == 1) return;
  const AddSlabs<T> add_slabs{sums.data(), slabs, size, out, add};
  host::for_tasks(ctx, divide_up(size, AddSlabs<T>::run * 16), [&](std::int64_t index, int) {
    const std::int64_t runs = divide_up(size, AddSlabs<T>::run);
    for (std::int64_t i = index * 16; i < std::min(runs, (index + 1) * 16); ++i) add_slabs(i);
  });
}

/// dweight(k, last - tap, c) = or += sums(c, (tap, k)).
template <class T>
struct ScatterWeights {
  const T* sums;
  T* dweight;
  std::int64_t taps;
  std::int64_t outputs;
  std::int64_t channels;
  bool add;
  void operator()(std::int64_t k, std::int64_t tap, std::int64_t c) const {
    const T sum = sums[(c * taps + taps - 1 - tap) * outputs + k];
    T& to = dweight[(k * taps + tap) * channels + c];
    to = add ? to + sum : sum;
  }
};

template <Real T>
void backward_weights(Context& ctx, View<const T> x, View<const T> dy, const Window& window, Accumulate mode,
                      View<T> dweight) {
  const std::int64_t outputs = dweight.extent(0);
  const std::int64_t channels = dweight.extent(3);
  if (dweight.empty()) return;
  if (x.empty() || dy.empty()) {
    if (mode == Accumulate::overwrite) fill(ctx, T(0), dweight);
    return;
  }
  if (!is_thin(channels, outputs, window.kernel, window.stride)) {
    multiply_rows<T>(ctx, sampling<T>(x, window), dy.data_handle(), outputs, mode, dweight.data_handle());
    return;
  }
  const Sampling<T> in{
      dy.data_handle(), dy.extent(0), outputs,
      phase_taps(x.extent(1), dy.extent(1), 0, window.kernel.y, 1, window.padding.y, window.dilation.y).axis,
      phase_taps(x.extent(2), dy.extent(2), 0, window.kernel.x, 1, window.padding.x, window.dilation.x).axis};
  auto sums = empty<T>(ctx, {channels, in.columns()});
  multiply_rows<T>(ctx, in, x.data_handle(), channels, Accumulate::overwrite, sums.data());
  for_each(ctx, outputs, window.kernel.size(), channels,
           ScatterWeights<T>{sums.data(), dweight.data_handle(), window.kernel.size(), outputs, channels,
                             mode == Accumulate::accumulate});
}

}  // namespace meristem::kernels::conv2d_host
