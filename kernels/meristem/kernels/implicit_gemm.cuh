// Two-dimensional convolution as a matrix product whose patch matrix is never formed, by hand-written tile kernels.
//
//   forward            y[n, j, k]   = bias[k] + Σ_(t, c) x[n, j·stride - padding + t·dilation, c] · w[k, t, c]
//   backward_data      dx[n, i, c]  = or += Σ_(j, t: j·stride - padding + t·dilation = i) Σ_k dy[n, j, k] · w[k, t, c]
//   backward_weights   dw[k, t, c]  = or += Σ_(n, j) dy[n, j, k] · x[n, j·stride - padding + t·dilation, c]
//
// with positions i, j and taps t along both axes. Maps are (images, height, width, channels), weights are (out, kernel
// y, kernel x, in), everything contiguous. What lies outside the map takes part as a zero, hence 0 · inf = NaN there.
//
// Order of a sum, in T: forward runs through the taps and the channels of x, backward_data through the taps that reach
// the position and the channels of dy, both from first to last; so with m terms and unit roundoff u
//   |error| <= (m + 2)·u·(Σ |terms| + |bias|).
// backward_weights cuts the positions into slabs, adds one position after the other inside a slab of R positions in T,
// then sixteen slabs and then those sums in their order in double: |error| <= (R + 4)·u·Σ |terms| + u·|dw|. The number
// of slabs follows from the shapes alone and no number is added atomically: equal inputs give equal bits, for any block
// size.
//
// The kernels compute with 32-bit indices. Batches of more than 2^30 elements are cut between images; one image, or
// weights, of more than that are refused.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/implicit_gemm_kernel.cuh>
#include <meristem/kernels/implicit_gemm_places.cuh>
#include <meristem/kernels/implicit_gemm_tile.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

/// The gradients of a convolution that are wanted; empty views for those that are not.
template <Real T>
struct ConvGradients {
  View<T> dweight = {};                     ///< (K, kernel y, kernel x, C)
  View<T> dbias = {};                       ///< (K), the sum of dy; only with dweight
  Accumulate mode = Accumulate::overwrite;  ///< of these two
  View<T> dx = {};                          ///< (n, H, W, C)
  Accumulate dx_mode = Accumulate::overwrite;
};

namespace implicit_gemm {

/// Most elements of a tensor that the kernel sees: sums of two indices and a tile still fit 31 bits.
inline constexpr std::int64_t most_elements = std::int64_t{1} << 30;

/// What tests and benchmarks choose. No choice changes the order of a sum in forward and backward_data.
struct Options {
  TileSize tile = TileSize::automatic;
  std::int64_t limit = most_elements;  ///< elements of a tensor that the kernel is given at once
};

/// Farthest that a window may reach beyond a map, in elements.
inline constexpr std::int64_t most_overhang = std::int64_t{1} << 28;

/// The shapes of one convolution.
struct Sizes {
  std::int64_t images;
  Extent2 map;
  std::int64_t in;
  Extent2 output;
  std::int64_t out;
  Window window;

  [[nodiscard]] std::int64_t patch() const { return window.kernel.size() * in; }
};

/// Checks three views against each other. `map` is the layer's input or its gradient, `output` the layer's output or
/// its gradient.
template <class A, class B, class C>
[[nodiscard]] Sizes check(const char* function, const char* map_name, const View<A>& map, const char* weight_name,
                          const View<B>& weight, const char* output_name, const View<C>& output, const Window& window) {
  detail::require_contiguous(function, map_name, map);
  detail::require_contiguous(function, weight_name, weight);
  detail::require_contiguous(function, output_name, output);
  const auto require_rank = [&](const char* name, const Shape& shape, const char* axes) {
    if (shape.rank() != 4) {
      throw ShapeError(concat(function, ": ", name, " has shape ", shape, "; it must have rank 4 (", axes, ")"));
    }
  };
  require_rank(map_name, map.shape(), "images, height, width, channels");
  require_rank(weight_name, weight.shape(), "out channels, kernel height, kernel width, in channels");
  require_rank(output_name, output.shape(), "images, height, width, channels");
  Sizes s{map.extent(0), {map.extent(1), map.extent(2)}, map.extent(3), 1, weight.extent(0), window};
  window.check(function, s.map);
  s.output = window.output(s.map);
  if (weight.extent(1) != window.kernel.y || weight.extent(2) != window.kernel.x) {
    throw ShapeError(concat(function, ": ", weight_name, " has shape ", weight.shape(), ", but the window's kernel is ",
                            window.kernel, "; the two axes in the middle must agree with it"));
  }
  if (weight.extent(3) != s.in) {
    throw ShapeError(concat(function, ": ", map_name, " has ", s.in, " channels, ", weight_name, " expects ",
                            weight.extent(3), "; got ", map.shape(), " and ", weight.shape()));
  }
  const Shape expected{s.images, s.output.y, s.output.x, s.out};
  if (output.shape() != expected) {
    throw ShapeError(concat(function, ": ", output_name, " has shape ", output.shape(), "; with ", map_name, " ",
                            map.shape(), " and ", weight_name, " ", weight.shape(), " it must be ", expected));
  }
  if (weight.size() > most_elements) {
    throw ShapeError(concat(function, ": ", weight_name, " of shape ", weight.shape(), " has ", weight.size(),
                            " elements; at most ", most_elements, " are supported: split the channels"));
  }
  return s;
}

/// How many images the kernel may be given at once so that no tensor has more than `limit` elements. Throws ShapeError
/// if not even one, ArgumentError if the window reaches too far for 32-bit indices.
[[nodiscard]] inline std::int64_t images_at_once(const char* function, const Sizes& s, std::int64_t limit) {
  const std::int64_t image = std::max({s.map.size() * std::max<std::int64_t>(1, s.in),
                                       s.output.size() * std::max<std::int64_t>(1, s.out), std::int64_t{1}});
  if (image > limit) {
    throw ShapeError(concat(function, ": one image of ", s.map, " positions and ", s.in, " channels, or its output of ",
                            s.output, " positions and ", s.out, " channels, has ", image, " elements; at most ", limit,
                            " are supported: cut the image into pieces"));
  }
  const auto overhang = [](std::int64_t padding, std::int64_t kernel, std::int64_t dilation, std::int64_t stride) {
    const std::int64_t largest = std::max({padding, kernel, dilation, stride});
    return largest > 1 << 14 && (largest > most_overhang || kernel * dilation > most_overhang)
               ? most_overhang + 1
               : padding + kernel * dilation + stride;
  };
  const Window& w = s.window;
  const std::int64_t y = overhang(w.padding.y, w.kernel.y, w.dilation.y, w.stride.y);
  const std::int64_t x = overhang(w.padding.x, w.kernel.x, w.dilation.x, w.stride.x);
  const std::int64_t width = std::max({s.map.x, s.output.x, std::int64_t{1}});
  const std::int64_t channels = std::max({s.in, s.out, std::int64_t{1}});
  if (y > most_overhang || x > most_overhang || (y * width + x) > most_overhang / channels) {
    throw ArgumentError(concat(function, ": a window with kernel ", w.kernel, ", stride ", w.stride, ", padding ",
                               w.padding, " and dilation ", w.dilation, " on a map of ", s.map, " with ", channels,
                               " channels reaches too far for 32-bit indices; use a smaller window"));
  }
  return limit / image;
}

/// Calls run(first, count) for all images, as many at a time as fit.
template <class Run>
void for_batches(const char* function, const Sizes& s, std::int64_t limit, const Run& run) {
  const std::int64_t at_once = images_at_once(function, s, limit);
  for (std::int64_t first = 0; first < s.images; first += at_once) run(first, std::min(at_once, s.images - first));
}

/// Whether quads of a matrix with rows of `row` elements may be moved at once.
template <class T>
[[nodiscard]] bool quads_fit(const T* data, std::int64_t row) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && row % 4 == 0;
}

/// The patches of the layer's input.
[[nodiscard]] inline Gather gather_input(const Sizes& s) {
  const Window& w = s.window;
  Gather g{};
  g.height = static_cast<int>(s.map.y);
  g.width = static_cast<int>(s.map.x);
  g.channels = static_cast<int>(s.in);
  g.row_pitch = static_cast<int>(s.map.x * s.in);
  g.image_pitch = static_cast<int>(s.map.size() * s.in);
  g.positions_y = static_cast<int>(s.output.y);
  g.positions_x = static_cast<int>(s.output.x);
  g.start_y = static_cast<int>(-w.padding.y);
  g.start_x = static_cast<int>(-w.padding.x);
  g.step_y = static_cast<int>(w.stride.y);
  g.step_x = static_cast<int>(w.stride.x);
  g.taps_y = static_cast<int>(w.kernel.y);
  g.taps_x = static_cast<int>(w.kernel.x);
  g.tap_y = static_cast<int>(w.dilation.y);
  g.tap_x = static_cast<int>(w.dilation.x);
  return g;
}

/// How far apart the outputs are that two neighbouring taps of a residue class connect to a position.
[[nodiscard]] inline std::int64_t jump(std::int64_t stride, std::int64_t dilation) {
  return dilation / std::gcd(stride, dilation);
}

/// The map of the layer's output; the kernel adds what depends on the residue class.
[[nodiscard]] inline Gather gather_output(const Sizes& s) {
  Gather g{};
  g.height = static_cast<int>(s.output.y);
  g.width = static_cast<int>(s.output.x);
  g.channels = static_cast<int>(s.out);
  g.row_pitch = static_cast<int>(s.output.x * s.out);
  g.image_pitch = static_cast<int>(s.output.size() * s.out);
  g.step_y = 1;
  g.step_x = 1;
  g.tap_y = static_cast<int>(-jump(s.window.stride.y, s.window.dilation.y));
  g.tap_x = static_cast<int>(-jump(s.window.stride.x, s.window.dilation.x));
  return g;
}

[[nodiscard]] inline DataAxis data_axis(std::int64_t map, std::int64_t kernel, std::int64_t stride,
                                        std::int64_t padding, std::int64_t dilation) {
  return {static_cast<int>(map),
          static_cast<int>(kernel),
          static_cast<int>(stride),
          static_cast<int>(padding),
          static_cast<int>(dilation),
          static_cast<int>(stride / std::gcd(stride, dilation)),
          static_cast<int>(std::min(stride, map))};
}

/// Blocks that keep a large GPU busy; with fewer large tiles than this, smaller ones are used.
inline constexpr std::int64_t busy_blocks = 128;

/// The tile for a product of rows × columns in each of `classes` residue classes. Slabs make up for few tiles.
[[nodiscard]] inline TileSize choose_tile(std::int64_t rows, std::int64_t columns, std::int64_t classes, bool slabs) {
  if (columns <= NarrowTile::columns) return TileSize::narrow;
  if (columns <= MediumTile::columns || rows <= MediumTile::rows) return TileSize::medium;
  const std::int64_t tiles = ((rows - 1) / LargeTile::rows + 1) * ((columns - 1) / LargeTile::columns + 1) * classes;
  return slabs || tiles >= busy_blocks ? TileSize::large : TileSize::medium;
}

/// Calls run(Tile) with the tile of that size.
template <class Run>
void with_tile(TileSize size, const Run& run) {
  if (size == TileSize::narrow) {
    run(NarrowTile{});
  } else if (size == TileSize::medium) {
    run(MediumTile{});
  } else {
    run(LargeTile{});
  }
}

/// Chooses the tile of a product with `rows` rows in the largest of `classes` residue classes, unless `size` says
/// which. Returns how many tiles there are.
template <class T>
[[nodiscard]] std::int64_t cut_into_tiles(Problem<T>& problem, std::int64_t rows, std::int64_t classes, bool slabs,
                                          TileSize size) {
  problem.tile = size == TileSize::automatic ? choose_tile(rows, problem.columns, classes, slabs) : size;
  with_tile(problem.tile, [&]<class Tile>(Tile) {
    problem.row_tiles = static_cast<int>((rows + Tile::rows - 1) / Tile::rows);
    problem.column_tiles = (problem.columns + Tile::columns - 1) / Tile::columns;
  });
  return classes * problem.row_tiles * problem.column_tiles;
}

/// implicit_gemm_forward with a choice of options. Returns whether the statistics of y, if asked for, were stored: they
/// are not if the batch had to be cut, or is empty.
template <Real T>
bool forward(Context& ctx, View<const T> x, View<const T> weight, View<const T> bias, const Window& window, View<T> y,
             const Options& options = {}, const detail::StoreBatchStatistics<T>* statistics = nullptr) {
  constexpr const char* name = "implicit_gemm_forward";
  const Sizes s = check(name, "x", x, "weight", weight, "y", y, window);
  const bool biased = bias.rank() != 0 && bias.size() != 0;
  if (biased) detail::require_columns(name, "bias", bias, "y", y);
  if (y.empty()) return false;
  const bool with_statistics = statistics != nullptr && images_at_once(name, s, options.limit) >= s.images;
  Problem<T> problem{};
  problem.gather = gather_input(s);
  if (s.in > 0) problem.counting = counting<T>(problem.gather.channels, problem.gather.taps_x);
  problem.columns = static_cast<int>(s.out);
  problem.patch = static_cast<int>(s.patch());
  problem.matrix = weight.data_handle();
  problem.matrix_quads = quads_fit(weight.data_handle(), s.patch());
  problem.bias = biased ? bias.data_handle() : nullptr;
  for_batches(name, s, options.limit, [&](std::int64_t first, std::int64_t count) {
    problem.source = x.slice(0, first, first + count).data_handle();
    problem.source_quads = quads_fit(problem.source, s.in);
    problem.out = y.slice(0, first, first + count).data_handle();
    problem.out_quads = quads_fit(problem.out, s.out);
    problem.images = static_cast<int>(count);
    const std::int64_t tiles = cut_into_tiles(problem, count * s.output.size(), 1, false, options.tile);
    Moments<T> moments{};
    Tensor<double> partials;
    if (with_statistics) {
      partials = empty<double>(ctx, {2, problem.row_tiles, s.out});
      const std::int64_t counters = std::int64_t{problem.column_tiles} * merge_counters(problem.row_tiles);
      moments = {partials.data(), ctx.arrivals(counters), *statistics};
    }
    with_tile(problem.tile, [&]<class Tile>(Tile) {
      launch<implicit_gemm_forward_kernel<T, Tile>>(ctx, dim3(blocks_for(tiles, 1)), block_threads(ctx, Tile::threads),
                                                    shared_bytes<T, Tile, Direction::forward>, problem, moments);
    });
  });
  return with_statistics;
}

/// The product of the data's gradient, but for what depends on the images.
template <class T>
[[nodiscard]] Problem<T> data_problem(const Sizes& s, const T* weight) {
  Problem<T> problem{};
  const Window& window = s.window;
  problem.gather = gather_output(s);
  problem.columns = static_cast<int>(s.in);
  problem.patch = static_cast<int>(s.patch());
  problem.matrix = weight;
  problem.matrix_quads = quads_fit(weight, s.in);
  problem.axis_y = data_axis(s.map.y, window.kernel.y, window.stride.y, window.padding.y, window.dilation.y);
  problem.axis_x = data_axis(s.map.x, window.kernel.x, window.stride.x, window.padding.x, window.dilation.x);
  problem.matrix_tap_y = static_cast<int>(problem.axis_y.period * window.kernel.x * s.in);
  problem.matrix_tap_x = static_cast<int>(problem.axis_x.period * s.in);
  if (s.out > 0) problem.counting = counting<T>(problem.gather.channels, 1);
  return problem;
}

/// The product of the weights' gradient, but for what depends on the images.
template <class T>
[[nodiscard]] Problem<T> weights_problem(const Sizes& s) {
  Problem<T> problem{};
  problem.gather = gather_input(s);
  problem.counting = counting<T>(problem.gather.positions_x, problem.gather.positions_y);
  problem.columns = static_cast<int>(s.out);
  problem.patch = static_cast<int>(s.patch());
  return problem;
}

/// Cuts the sum over `positions` into slabs. Their products go to the tensor that is returned, or right to `dweight` if
/// there is one slab; it is empty then.
template <Real T>
[[nodiscard]] Tensor<T> cut_into_slabs(Context& ctx, Problem<T>& problem, std::int64_t tiles, std::int64_t positions,
                                       T* dweight, T* dbias, bool accumulate) {
  // Several blocks for each multiprocessor of a large GPU.
  constexpr std::int64_t target_blocks = 512;
  constexpr std::int64_t most_slabs = 256;
  constexpr std::int64_t least_slab = 64;
  constexpr std::int64_t multiple = 16;
  const std::int64_t wanted = std::min(
      {std::max<std::int64_t>(1, target_blocks / tiles), most_slabs, (positions + least_slab - 1) / least_slab});
  const std::int64_t slab = ((positions + wanted - 1) / wanted + multiple - 1) / multiple * multiple;
  const std::int64_t slabs = (positions + slab - 1) / slab;
  const std::int64_t weights = std::int64_t{problem.columns} * problem.patch;
  const std::int64_t size = (weights + (dbias != nullptr ? problem.columns : 0) + 3) / 4 * 4;
  problem.slab_depth = static_cast<int>(slab);
  problem.slabs = static_cast<int>(slabs);
  problem.slab_size = static_cast<int>(size);
  problem.dweight = dweight;
  problem.dbias = dbias;
  problem.accumulate = accumulate;
  problem.add = slabs == 1 && accumulate;
  Tensor<T> products;
  if (slabs > 1) {
    products = empty<T>(ctx, {slabs, size});
    problem.arrivals = ctx.arrivals(tiles * counters(problem.slabs));
  }
  problem.out = slabs > 1 ? products.data() : dweight;
  problem.out_quads = quads_fit(problem.out, problem.patch) && quads_fit(dweight, problem.patch);
  return products;
}

/// Launches the kernel; a problem without blocks is left out.
template <Real T>
void run_backward(Context& ctx, const Problem<T>& weights, std::int64_t weight_blocks, const Problem<T>& data,
                  std::int64_t data_blocks) {
  unsigned threads = 0;
  std::size_t shared = 0;
  const auto make_room = [&]<class Tile, Direction direction>(Tile, std::integral_constant<Direction, direction>) {
    threads = std::max<unsigned>(threads, Tile::threads);
    shared = std::max(shared, shared_bytes<T, Tile, direction>);
  };
  if (weight_blocks > 0) {
    with_tile(weights.tile,
              [&]<class Tile>(Tile tile) { make_room(tile, std::integral_constant<Direction, Direction::weights>()); });
  }
  if (data_blocks > 0) {
    with_tile(data.tile,
              [&]<class Tile>(Tile tile) { make_room(tile, std::integral_constant<Direction, Direction::data>()); });
  }
  launch<implicit_gemm_backward_kernel<T>>(ctx, dim3(blocks_for(weight_blocks + data_blocks, 1)),
                                           block_threads(ctx, threads), shared, weights,
                                           static_cast<int>(weight_blocks), data);
}

/// implicit_gemm_backward with a choice of options, for shapes that were checked.
template <Real T>
void backward(Context& ctx, const char* name, const Sizes& s, View<const T> x, View<const T> dy, View<const T> weight,
              const ConvGradients<T>& gradients, const Options& options) {
  const auto wanted = [](const View<T>& gradient) { return gradient.rank() != 0 && !gradient.empty(); };
  const bool with_weights = wanted(gradients.dweight) && s.images > 0;
  const bool with_data = wanted(gradients.dx), biased = wanted(gradients.dbias);
  if (biased) detail::require_columns(name, "dbias", gradients.dbias, "dy", dy);
  if (!with_weights) {
    if (wanted(gradients.dweight) && gradients.mode == Accumulate::overwrite) fill(ctx, T(0), gradients.dweight);
    if (biased) column_sums<T>(ctx, dy, gradients.dbias, gradients.mode);
  }
  if (!with_weights && !with_data) return;
  Problem<T> weights = weights_problem<T>(s), data = data_problem<T>(s, weight.data_handle());
  data.add = gradients.dx_mode == Accumulate::accumulate;
  const std::int64_t largest_class = ((s.map.y - 1) / s.window.stride.y + 1) * ((s.map.x - 1) / s.window.stride.x + 1);
  const std::int64_t classes = std::int64_t{data.axis_y.classes} * data.axis_x.classes;
  for_batches(name, s, options.limit, [&](std::int64_t first, std::int64_t count) {
    const T* const dy_data = dy.slice(0, first, first + count).data_handle();
    std::int64_t weight_blocks = 0, data_blocks = 0;
    Tensor<T> products;
    if (with_weights) {
      weights.source = x.slice(0, first, first + count).data_handle();
      weights.source_quads = quads_fit(weights.source, s.in);
      weights.matrix = dy_data;
      weights.matrix_quads = quads_fit(dy_data, s.out);
      weights.images = static_cast<int>(count);
      const std::int64_t tiles = cut_into_tiles(weights, s.patch(), 1, true, options.tile);
      products = cut_into_slabs<T>(ctx, weights, tiles, count * s.output.size(), gradients.dweight.data_handle(),
                                   biased ? gradients.dbias.data_handle() : nullptr,
                                   first > 0 || gradients.mode == Accumulate::accumulate);
      weight_blocks = tiles * weights.slabs;
    }
    if (with_data) {
      data.source = dy_data;
      data.source_quads = quads_fit(dy_data, s.out);
      data.out = gradients.dx.slice(0, first, first + count).data_handle();
      data.out_quads = quads_fit(data.out, s.in);
      data.images = static_cast<int>(count);
      data_blocks = cut_into_tiles(data, count * largest_class, classes, false, options.tile);
    }
    run_backward(ctx, weights, weight_blocks, data, data_blocks);
  });
}

/// implicit_gemm_backward_data with a choice of options.
template <Real T>
void backward_data(Context& ctx, View<const T> dy, View<const T> weight, const Window& window, View<T> dx,
                   const Options& options = {}) {
  constexpr const char* name = "implicit_gemm_backward_data";
  const Sizes s = check(name, "dx", dx, "weight", weight, "dy", dy, window);
  backward<T>(ctx, name, s, {}, dy, weight, {.dx = dx}, options);
}

/// implicit_gemm_backward_weights with a choice of options.
template <Real T>
void backward_weights(Context& ctx, View<const T> x, View<const T> dy, const Window& window, Accumulate mode,
                      View<T> dweight, const Options& options = {}) {
  constexpr const char* name = "implicit_gemm_backward_weights";
  const Sizes s = check(name, "x", x, "dweight", dweight, "dy", dy, window);
  backward<T>(ctx, name, s, x, dy, {}, {.dweight = dweight, .mode = mode}, options);
}

/// implicit_gemm_backward with a choice of options.
template <Real T>
void backward(Context& ctx, View<const T> x, View<const T> dy, View<const T> weight, const Window& window,
              const ConvGradients<T>& gradients, const Options& options = {}) {
  constexpr const char* name = "implicit_gemm_backward";
  const Sizes s = check(name, "x", x, "weight", weight, "dy", dy, window);
  if (gradients.dweight.rank() != 0) detail::require_same_shape(name, "dweight", gradients.dweight, "weight", weight);
  if (gradients.dx.rank() != 0) detail::require_same_shape(name, "dx", gradients.dx, "x", x);
  backward<T>(ctx, name, s, x, dy, weight, gradients, options);
}

}  // namespace implicit_gemm

/// y = the convolution of x with weight, plus bias.
///
/// @param x       (n, H, W, C)
/// @param weight  (K, kernel y, kernel x, C)
/// @param bias    (K), or an empty view for none
/// @param y       (n, Ho, Wo, K) with (Ho, Wo) = window.output({H, W}), overwritten
/// Everything is contiguous; any extent of x and weight may be 0. Throws ShapeError for shapes that do not fit,
/// ArgumentError for an invalid window.
template <Real T>
void implicit_gemm_forward(Context& ctx, View<const std::type_identity_t<T>> x,
                           View<const std::type_identity_t<T>> weight, View<const std::type_identity_t<T>> bias,
                           const Window& window, View<T> y) {
  implicit_gemm::forward<T>(ctx, x, weight, bias, window, y);
}

/// dx = the gradient at the input of the convolution, from the gradient dy at its output.
///
/// @param dy      (n, Ho, Wo, K)
/// @param weight  (K, kernel y, kernel x, C)
/// @param dx      (n, H, W, C), overwritten; 0 where no window looked
/// Everything is contiguous. Throws ShapeError for shapes that do not fit, ArgumentError for an invalid window.
template <Real T>
void implicit_gemm_backward_data(Context& ctx, View<const std::type_identity_t<T>> dy,
                                 View<const std::type_identity_t<T>> weight, const Window& window, View<T> dx) {
  implicit_gemm::backward_data<T>(ctx, dy, weight, window, dx);
}

/// dweight = (overwrite) or += (accumulate) the gradient at the weights.
///
/// @param x        (n, H, W, C), the input of the convolution
/// @param dy       (n, Ho, Wo, K), the gradient at its output
/// @param dweight  (K, kernel y, kernel x, C)
/// Everything is contiguous. Scratch memory: as many numbers as 512 tiles of 128 × 64 have, and none if there is one
/// slab. Throws ShapeError for shapes that do not fit, ArgumentError for an invalid window.
template <Real T>
void implicit_gemm_backward_weights(Context& ctx, View<const std::type_identity_t<T>> x,
                                    View<const std::type_identity_t<T>> dy, const Window& window, Accumulate mode,
                                    View<T> dweight) {
  implicit_gemm::backward_weights<T>(ctx, x, dy, window, mode, dweight);
}

/// All gradients at once: `gradients` says which, and whether they are overwritten or accumulated. dbias is the sum of
/// dy over images and positions; its sums are cut into slabs as dweight's are.
///
/// @param x       (n, H, W, C), the input of the convolution
/// @param dy      (n, Ho, Wo, K), the gradient at its output
/// @param weight  (K, kernel y, kernel x, C)
/// Everything is contiguous. Scratch memory as implicit_gemm_backward_weights. Throws ShapeError for shapes that do not
/// fit, ArgumentError for an invalid window.
template <Real T>
void implicit_gemm_backward(Context& ctx, View<const std::type_identity_t<T>> x, View<const std::type_identity_t<T>> dy,
                            View<const std::type_identity_t<T>> weight, const Window& window,
                            const ConvGradients<T>& gradients) {
  implicit_gemm::backward<T>(ctx, x, dy, weight, window, gradients);
}

}  // namespace meristem::kernels
