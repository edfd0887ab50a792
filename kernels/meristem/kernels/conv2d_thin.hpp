// Stride-1 convolutions with few outputs on the CPU: products first, shifts afterwards.
//
//   z[(ky, kx, k)][position] = Σ_c weights[(ky, kx, k)][c] · map[position][c]      one product, no patches
//   out[position][k]         = bias[k] + Σ_{ky, kx} z[(ky, kx, k)][position + tap]
//
// A patch has as many numbers as the kernel has taps times the channels, z as many as taps times the outputs. The map
// is cut into strips of lines, or groups of whole images where these are small; z of a strip stays in the cache.
#pragma once

#include <algorithm>
#include <cstdint>

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

#if MERISTEM_GPU
#error "this is part of the CPU's path of conv2d.cuh; include that"
#endif

namespace meristem::kernels::conv2d_host {

/// Products of one strip, in elements, unless the kernel's reach needs more.
inline constexpr std::int64_t strip_elements = 64 << 10;
/// Fewest positions of a strip, where the images have as many.
inline constexpr std::int64_t least_strip = 256;

/// Whether shifting products costs less than making patches: from 4 channels for each output on, at stride 1.
[[nodiscard]] inline bool is_thin(std::int64_t channels, std::int64_t outputs, Extent2 taps, Extent2 stride) {
  return outputs > 0 && outputs * 4 <= channels && taps.size() > 1 && stride == Extent2(1);
}

/// sum[j] += z[j + shift] for the positions j of a line for which j + shift lies on a line of `length`.
template <class T>
void add_shifted(const T* z, std::int64_t length, std::int64_t shift, T* sum, std::int64_t positions) {
  const std::int64_t begin = std::max<std::int64_t>(0, -shift);
  const std::int64_t end = std::min(positions, length - shift);
  MERISTEM_INDEPENDENT
  for (std::int64_t j = begin; j < end; ++j) sum[j] += z[j + shift];
}

/// out = the product of the patches of `in` with `weights`, plus bias. in has steps 1; weights ((ky, kx, k), c); bias
/// may be null; out (images, y.positions, x.positions, outputs), contiguous.
template <Real T>
void multiply_thin(Context& ctx, const Sampling<T>& in, View<const T> weights, const T* bias, std::int64_t outputs,
                   T* out) {
  const Axis& y = in.y;
  const Axis& x = in.x;
  const std::int64_t products = weights.extent(0);
  const std::int64_t halo = (y.taps - 1) * y.tap_step;
  const std::int64_t fitting = std::max(strip_elements / products, least_strip) / std::max<std::int64_t>(1, x.map);
  const std::int64_t lines = std::clamp<std::int64_t>(fitting - halo, std::min(y.positions, halo + 1), y.positions);
  const std::int64_t strips = divide_up(y.positions, lines);
  const std::int64_t group =
      strips > 1 ? 1 : std::clamp<std::int64_t>(fitting / std::max<std::int64_t>(1, y.map), 1, in.images);
  const std::int64_t map_lines = strips > 1 ? std::min(lines + halo, y.map) : y.map;
  const std::int64_t z_size = products * group * map_lines * x.map;
  const std::int64_t sum_size = outputs * group * lines * x.positions;
  const std::int64_t tasks = divide_up(in.images, group) * strips;
  auto scratch = empty<T>(ctx, {host::workers_for(ctx, tasks), z_size + sum_size});
  const auto one_strip = [&](std::int64_t index, int worker) {
    T* const z = scratch.data() + worker * (z_size + sum_size);
    T* const sums = z + z_size;
    const std::int64_t image = index / strips * group;
    const std::int64_t images = std::min(group, in.images - image);
    const std::int64_t begin = index % strips * lines;
    const std::int64_t end = std::min(begin + lines, y.positions);
    // The lines of the map that these positions read; all of them where the strip is a group of images.
    const std::int64_t top = strips > 1 ? std::clamp<std::int64_t>(begin + y.first, 0, y.map) : 0;
    const std::int64_t bottom = strips > 1 ? std::clamp<std::int64_t>(end + y.first + halo, top, y.map) : y.map;
    const std::int64_t each = (bottom - top) * x.map;
    const std::int64_t count = images * each;
    const View<const T> map(in.map + (image * y.map + top) * x.map * in.channels, {count, in.channels});
    gemm(ctx, Transpose::no, Transpose::yes, T(1), weights, map, T(0), View<T>(z, {products, count}));

    const std::int64_t sum_each = (end - begin) * x.positions;
    for (std::int64_t k = 0; k < outputs; ++k) {
      T* const sum = sums + k * images * sum_each;
      std::fill_n(sum, images * sum_each, bias == nullptr ? T(0) : bias[k]);
      for (std::int64_t tap = 0; tap < y.taps * x.taps; ++tap) {
        const T* const product = z + (tap * outputs + k) * count;
        const std::int64_t shift_y = y.first + tap / x.taps * y.tap_step;
        const std::int64_t shift_x = x.first + tap % x.taps * x.tap_step;
        for (std::int64_t i = 0; i < images; ++i) {
          for (std::int64_t j = std::max(begin, top - shift_y); j < std::min(end, bottom - shift_y); ++j) {
            add_shifted(product + i * each + (j + shift_y - top) * x.map, x.map, shift_x,
                        sum + i * sum_each + (j - begin) * x.positions, x.positions);
          }
        }
      }
    }
    T* const target = out + (image * y.positions + begin) * x.positions * outputs;
    for (std::int64_t k = 0; k < outputs; ++k) {
      const T* const sum = sums + k * images * sum_each;
      for (std::int64_t j = 0; j < images * sum_each; ++j) target[j * outputs + k] = sum[j];
    }
  };
  host::for_tasks(ctx, tasks, one_strip);
}

}  // namespace meristem::kernels::conv2d_host
