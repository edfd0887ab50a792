// Patches of a map as rows of a matrix, and back (im2col and col2im).
//
//   im2col   patches[(i, oy, ox)][(ky, kx, c)]  = x[i][oy·stride - padding + ky·dilation][ox·...][c], 0 outside the map
//   col2im   x[i][y][x][c]                      = Σ patches over every (position, tap) that reads that element
//
//   x: (n, H, W, C),  patches: (n·OH·OW, ky·kx·C) with (OH, OW) = window.output((H, W))
//
// col2im is the transpose of im2col: <im2col(x), p> = <x, col2im(p)>. Its sums run over ky, then kx, ascending, in T;
// every element of x is computed by one thread, so there are no atomics and the bits do not depend on the threads.
#pragma once

#include <cstdint>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace patches_detail {

/// Index (position, tap, channel) of im2col.
template <class T>
struct Im2col {
  const T* x;
  T* patches;
  Window window;
  Extent2 map;
  Extent2 output;
  std::int64_t channels;

  MERISTEM_HD void operator()(std::int64_t row, std::int64_t tap, std::int64_t channel) const {
    const std::int64_t line = row / output.x;
    const std::int64_t image = line / output.y;
    const std::int64_t y =
        (line - image * output.y) * window.stride.y - window.padding.y + tap / window.kernel.x * window.dilation.y;
    const std::int64_t at_x =
        (row - line * output.x) * window.stride.x - window.padding.x + tap % window.kernel.x * window.dilation.x;
    const bool inside = y >= 0 && y < map.y && at_x >= 0 && at_x < map.x;
    const std::int64_t from = inside ? ((image * map.y + y) * map.x + at_x) * channels + channel : 0;
    const T value = x[from];
    patches[(row * window.kernel.size() + tap) * channels + channel] = inside ? value : T(0);
  }
};

/// Index (image · H + y, x, channel) of col2im.
template <class T>
struct Col2im {
  const T* patches;
  T* x;
  Window window;
  Extent2 map;
  Extent2 output;
  std::int64_t channels;

  MERISTEM_HD void operator()(std::int64_t line, std::int64_t at_x, std::int64_t channel) const {
    const std::int64_t image = line / map.y;
    const std::int64_t y = line - image * map.y;
    T total = T(0);
    for (std::int64_t ky = 0; ky < window.kernel.y; ++ky) {
      const std::int64_t oy = y + window.padding.y - ky * window.dilation.y;
      if (oy < 0 || oy % window.stride.y != 0 || oy / window.stride.y >= output.y) continue;
      for (std::int64_t kx = 0; kx < window.kernel.x; ++kx) {
        const std::int64_t ox = at_x + window.padding.x - kx * window.dilation.x;
        if (ox < 0 || ox % window.stride.x != 0 || ox / window.stride.x >= output.x) continue;
        const std::int64_t row = (image * output.y + oy / window.stride.y) * output.x + ox / window.stride.x;
        total += patches[(row * window.kernel.size() + ky * window.kernel.x + kx) * channels + channel];
      }
    }
    x[(line * map.x + at_x) * channels + channel] = total;
  }
};

/// Throws ShapeError unless x is (n, H, W, C) and patches has the shape that belongs to it; returns (OH, OW).
template <class A, class B>
Extent2 check(const char* function, const View<A>& x, const Window& window, const View<B>& patches) {
  detail::require_contiguous(function, "x", x);
  detail::require_contiguous(function, "patches", patches);
  if (x.rank() != 4) {
    throw ShapeError(concat(function, ": x has shape ", x.shape(), "; it must have rank 4 (n, H, W, channels)"));
  }
  const Extent2 map(x.extent(1), x.extent(2));
  window.check(function, map);
  const Extent2 output = window.output(map);
  const Shape expected{x.extent(0) * output.size(), window.kernel.size() * x.extent(3)};
  if (patches.shape() != expected) {
    throw ShapeError(concat(function, ": x of shape ", x.shape(), " under a kernel of ", window.kernel,
                            " has patches of shape ", expected, "; got ", patches.shape()));
  }
  return output;
}

}  // namespace patches_detail

/// patches = the patches of x, one row for each position of the window. x (n, H, W, C), patches (n·OH·OW, ky·kx·C),
/// both contiguous. Throws ShapeError for shapes that do not fit, ArgumentError for an impossible window.
template <Real T>
void im2col(Context& ctx, View<const std::type_identity_t<T>> x, const Window& window, View<T> patches) {
  const Extent2 output = patches_detail::check("im2col", x, window, patches);
  // The functor reads the first element wherever a tap lies outside the map.
  if (x.empty()) return fill(ctx, T(0), patches);
  for_each(ctx, patches.extent(0), window.kernel.size(), x.extent(3),
           patches_detail::Im2col<T>{x.data_handle(), patches.data_handle(), window, Extent2(x.extent(1), x.extent(2)),
                                     output, x.extent(3)});
}

/// x = the sum of all patches, each element where im2col reads it; what no window reads becomes 0. Shapes and errors as
/// for im2col.
template <Real T>
void col2im(Context& ctx, View<const std::type_identity_t<T>> patches, const Window& window, View<T> x) {
  const Extent2 output = patches_detail::check("col2im", x, window, patches);
  for_each(ctx, x.extent(0) * x.extent(1), x.extent(2), x.extent(3),
           patches_detail::Col2im<T>{patches.data_handle(), x.data_handle(), window, Extent2(x.extent(1), x.extent(2)),
                                     output, x.extent(3)});
}

}  // namespace meristem::kernels
