// Pooling of maps (n, H, W, C) by a window, channel by channel, to (n, OH, OW, C).
//
//   max_pool_forward          y[o] = max of x over the window's elements inside the map; NaN if one of them is NaN
//   max_pool_backward         dx[i] = sum of dy[o] over the windows o whose first maximum, in row-major order, is i
//   average_pool_forward      y[o] = mean of x over the window's elements inside the map
//   average_pool_backward     dx[i] = sum of dy[o] / count[o] over the windows o that contain i
//
// All outputs are overwritten. Padding is no element: it is never a maximum and counts in no mean. Every output element
// is gathered by one thread in row-major order of windows and taps: no atomics, the same bits in every order of
// threads.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/packs.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

// Channels that one thread works on at a time: on the CPU as many as fill vector registers and stay in the first cache.
#if MERISTEM_GPU
inline constexpr int pool_tile = 1;
#else
inline constexpr int pool_tile = 512;
#endif

/// a / b for a >= 0, b > 0; in 32 bits where they suffice, since 64-bit division is many instructions on a GPU.
MERISTEM_HD inline std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
  return a / b;
}

/// Indices [begin, end).
struct PoolRange {
  std::int64_t begin;
  std::int64_t end;
  [[nodiscard]] MERISTEM_HD std::int64_t size() const { return end - begin; }
};

/// One axis of a map and of the window on it.
struct PoolAxis {
  std::int64_t map;
  std::int64_t output;
  std::int64_t kernel;
  std::int64_t stride;
  std::int64_t padding;
  std::int64_t dilation;

  [[nodiscard]] MERISTEM_HD std::int64_t element(std::int64_t o, std::int64_t tap) const {
    return o * stride - padding + tap * dilation;
  }
  /// Taps of window `o` inside the map.
  [[nodiscard]] MERISTEM_HD PoolRange taps(std::int64_t o) const {
    const std::int64_t start = element(o, 0);
    PoolRange range{0, kernel};
    if (start < 0) range.begin = quotient(dilation - 1 - start, dilation);
    if (element(o, kernel - 1) >= map) range.end = start < map ? quotient(map - 1 - start, dilation) + 1 : 0;
    return range;
  }
  /// Windows whose reach contains element `i`; with a dilation not all of them have a tap there.
  [[nodiscard]] MERISTEM_HD PoolRange windows(std::int64_t i) const {
    const std::int64_t beyond = i + padding - (kernel - 1) * dilation;
    PoolRange range{0, quotient(i + padding, stride) + 1};
    if (beyond > 0) range.begin = quotient(beyond + stride - 1, stride);
    if (range.end > output) range.end = output;
    return range;
  }
  /// The tap of window `o` at element `i` within its reach, or -1.
  [[nodiscard]] MERISTEM_HD std::int64_t tap_at(std::int64_t o, std::int64_t i) const {
    const std::int64_t distance = i - element(o, 0);
    if (dilation == 1) return distance;
    const std::int64_t tap = quotient(distance, dilation);
    return tap * dilation == distance ? tap : -1;
  }
};

/// Extents of a pooling.
struct PoolGeometry {
  std::int64_t images;
  PoolAxis y;
  PoolAxis x;
  std::int64_t channels;

  struct Position {
    std::int64_t image, y, x;
  };
  /// The place of number `index` among (images, rows, columns).
  MERISTEM_HD static Position place(std::int64_t index, std::int64_t rows, std::int64_t columns) {
    const std::int64_t row = quotient(index, columns);
    const std::int64_t image = quotient(row, rows);
    return {image, row - image * rows, index - row * columns};
  }
  [[nodiscard]] MERISTEM_HD std::int64_t map_offset(std::int64_t image, std::int64_t row, std::int64_t column) const {
    return ((image * y.map + row) * x.map + column) * channels;
  }
  /// Where the first tap inside the map is of the window at an output position; every window has one.
  [[nodiscard]] MERISTEM_HD std::int64_t first_tap(const Position& at, PoolRange rows, PoolRange columns) const {
    return map_offset(at.image, y.element(at.y, rows.begin), x.element(at.x, columns.begin));
  }
  [[nodiscard]] MERISTEM_HD std::int64_t output_offset(std::int64_t image, std::int64_t row,
                                                       std::int64_t column) const {
    return ((image * y.output + row) * x.output + column) * channels;
  }
};

/// `condition ? a : b` without a branch, which would be mispredicted half of the time: compilers make vector selections
/// of the operator, but branches of it for the rest of a row.
template <class T>
MERISTEM_HD T select(bool condition, T a, T b) {
#if MERISTEM_GPU
  return condition ? a : b;
#else
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const Bits mask = Bits(0) - static_cast<Bits>(condition);
  return std::bit_cast<T>((std::bit_cast<Bits>(a) & mask) | (std::bit_cast<Bits>(b) & ~mask));
#endif
}

/// The larger of two numbers, the first if they are equal; a NaN if there is one.
template <class T>
MERISTEM_HD T larger(T old, T value) {
  const T most = value > old ? value : old;  // one instruction
  return value != value ? value : most;
}

// What to do for `width` channels from `channel` on at one position of what is written. `width` is 1 on the GPU.

template <class T>
struct MaxPoolForward {
  PoolGeometry g;
  const T* x;
  T* y;
  MERISTEM_HD void operator()(std::int64_t position, std::int64_t channel, int width) const {
    const auto at = PoolGeometry::place(position, g.y.output, g.x.output);
    const PoolRange rows = g.y.taps(at.y), columns = g.x.taps(at.x);
    const T* first = x + g.first_tap(at, rows, columns) + channel;
    T best[pool_tile];
    for (int k = 0; k < width; ++k) best[k] = first[k];
    for (std::int64_t ty = rows.begin; ty < rows.end; ++ty) {
      for (std::int64_t tx = columns.begin; tx < columns.end; ++tx) {
        const T* tap = x + g.map_offset(at.image, g.y.element(at.y, ty), g.x.element(at.x, tx)) + channel;
        MERISTEM_INDEPENDENT
        for (int k = 0; k < width; ++k) best[k] = larger(best[k], tap[k]);
      }
    }
    T* out = y + position * g.channels + channel;
    for (int k = 0; k < width; ++k) out[k] = best[k];
  }
};

/// The number of the tap, in row-major order, that is a window's first maximum or first NaN. It is kept as a T: lanes
/// of one width for values and numbers vectorise.
template <class T>
struct MaxPoolWinner {
  PoolGeometry g;
  const T* x;
  T* winner;
  MERISTEM_HD void operator()(std::int64_t position, std::int64_t channel, int width) const {
    const auto at = PoolGeometry::place(position, g.y.output, g.x.output);
    const PoolRange rows = g.y.taps(at.y), columns = g.x.taps(at.x);
    const T* first = x + g.first_tap(at, rows, columns) + channel;
    T best[pool_tile], number[pool_tile];
    for (int k = 0; k < width; ++k) {
      best[k] = first[k];
      number[k] = static_cast<T>(rows.begin * g.x.kernel + columns.begin);
    }
    for (std::int64_t ty = rows.begin; ty < rows.end; ++ty) {
      for (std::int64_t tx = columns.begin; tx < columns.end; ++tx) {
        const T* tap = x + g.map_offset(at.image, g.y.element(at.y, ty), g.x.element(at.x, tx)) + channel;
        const T own = static_cast<T>(ty * g.x.kernel + tx);
        MERISTEM_INDEPENDENT
        for (int k = 0; k < width; ++k) {
          const T value = tap[k], old = best[k], old_number = number[k];
          // The first NaN wins and stays: nothing is larger than it.
          const bool wins = (value > old) | ((value != value) & (old == old));
          best[k] = select(wins, value, old);
          number[k] = select(wins, own, old_number);
        }
      }
    }
    T* out = winner + position * g.channels + channel;
    for (int k = 0; k < width; ++k) out[k] = number[k];
  }
};

template <class T>
struct MaxPoolBackward {
  PoolGeometry g;
  const T* winner;
  const T* dy;
  T* dx;
  MERISTEM_HD void operator()(std::int64_t position, std::int64_t channel, int width) const {
    const auto at = PoolGeometry::place(position, g.y.map, g.x.map);
    const PoolRange rows = g.y.windows(at.y), columns = g.x.windows(at.x);
    T total[pool_tile];
    for (int k = 0; k < width; ++k) total[k] = T(0);
    for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
      const std::int64_t ty = g.y.tap_at(oy, at.y);
      for (std::int64_t ox = columns.begin; ox < columns.end; ++ox) {
        const std::int64_t tx = g.x.tap_at(ox, at.x);
        if (ty < 0 || tx < 0) continue;
        const T own = static_cast<T>(ty * g.x.kernel + tx);
        const std::int64_t window = g.output_offset(at.image, oy, ox) + channel;
        const T* number = winner + window;
        const T* upstream = dy + window;
        MERISTEM_INDEPENDENT
        for (int k = 0; k < width; ++k) {
          const T gradient = upstream[k];
          total[k] += select(number[k] == own, gradient, T(0));
        }
      }
    }
    T* out = dx + position * g.channels + channel;
    for (int k = 0; k < width; ++k) out[k] = total[k];
  }
};

template <class T>
struct AveragePoolForward {
  PoolGeometry g;
  const T* x;
  T* y;
  MERISTEM_HD void operator()(std::int64_t position, std::int64_t channel, int width) const {
    const auto at = PoolGeometry::place(position, g.y.output, g.x.output);
    const PoolRange rows = g.y.taps(at.y), columns = g.x.taps(at.x);
    T total[pool_tile];
    for (int k = 0; k < width; ++k) total[k] = T(0);
    for (std::int64_t ty = rows.begin; ty < rows.end; ++ty) {
      for (std::int64_t tx = columns.begin; tx < columns.end; ++tx) {
        const T* tap = x + g.map_offset(at.image, g.y.element(at.y, ty), g.x.element(at.x, tx)) + channel;
        MERISTEM_INDEPENDENT
        for (int k = 0; k < width; ++k) total[k] += tap[k];
      }
    }
    const T share = T(1) / static_cast<T>(rows.size() * columns.size());
    T* out = y + position * g.channels + channel;
    MERISTEM_INDEPENDENT
    for (int k = 0; k < width; ++k) out[k] = total[k] * share;
  }
};

template <class T>
struct AveragePoolBackward {
  PoolGeometry g;
  const T* dy;
  T* dx;
  MERISTEM_HD void operator()(std::int64_t position, std::int64_t channel, int width) const {
    const auto at = PoolGeometry::place(position, g.y.map, g.x.map);
    const PoolRange rows = g.y.windows(at.y), columns = g.x.windows(at.x);
    T total[pool_tile];
    for (int k = 0; k < width; ++k) total[k] = T(0);
    for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
      if (g.y.tap_at(oy, at.y) < 0) continue;
      const std::int64_t height = g.y.taps(oy).size();
      for (std::int64_t ox = columns.begin; ox < columns.end; ++ox) {
        if (g.x.tap_at(ox, at.x) < 0) continue;
        const T share = T(1) / static_cast<T>(height * g.x.taps(ox).size());
        const T* upstream = dy + g.output_offset(at.image, oy, ox) + channel;
        MERISTEM_INDEPENDENT
        for (int k = 0; k < width; ++k) total[k] += upstream[k] * share;
      }
    }
    T* out = dx + position * g.channels + channel;
    for (int k = 0; k < width; ++k) out[k] = total[k];
  }
};

/// Calls `pool` for all (position, channel). A block takes `block_items` neighbouring pairs, a thread an equal share of
/// them: with one pair a thread, neighbouring threads read neighbouring channels; a thread alone runs along them.
template <class Pool>
__global__ void pool_positions(Pool pool, std::int64_t channels, std::int64_t items, std::int64_t block_items) {
  const std::int64_t first = blockIdx.x * block_items;
  const std::int64_t count = first + block_items < items ? block_items : items - first;
  std::int64_t item = first + quotient(count * threadIdx.x, blockDim.x);
  const std::int64_t end = first + quotient(count * (threadIdx.x + 1), blockDim.x);
  while (item < end) {
    const std::int64_t position = quotient(item, channels);
    const std::int64_t channel = item - position * channels;
    std::int64_t width = channels - channel;
    if (width > end - item) width = end - item;
    if (width > pool_tile) width = pool_tile;
    pool(position, channel, static_cast<int>(width));
    item += width;
  }
}

template <class Pool>
void launch_pool(Context& ctx, const Pool& pool, std::int64_t positions) {
  const std::int64_t channels = pool.g.channels, items = positions * channels;
  if (items == 0) return;
  const unsigned threads = block_threads(ctx, 256);
  constexpr std::int64_t worker_items = 16384;
  // Whole positions for a thread alone, so that its runs of channels are not cut.
  const std::int64_t block_items =
      threads > 1 ? threads : (channels < worker_items ? worker_items / channels : 1) * channels;
  launch<pool_positions<Pool>>(ctx, dim3(blocks_for(items, block_items)), threads, 0, pool, channels, items,
                               block_items);
}

// Windows of 2x2 side by side that cover the map, by far the most usual: row `row` of all images' output rows reads
// rows 2 row and 2 row + 1 of all images' rows.

template <class T>
struct QuadOffsets {
  std::int64_t channels;
  std::int64_t row_size;  // elements of one row of the map
  [[nodiscard]] MERISTEM_HD std::int64_t map(std::int64_t row, std::int64_t column, std::int64_t channel) const {
    return 2 * row * row_size + 2 * column * channels + channel;
  }
  [[nodiscard]] MERISTEM_HD std::int64_t output(std::int64_t row, std::int64_t column, std::int64_t channel) const {
    return row * (row_size / 2) + column * channels + channel;
  }
};

/// The maximum of a window's elements a, b, c, d, in row-major order.
template <class T>
struct MaxOfQuad {
  static constexpr bool gradients_read_map = true;
  MERISTEM_HD static T value(T a, T b, T c, T d) { return larger(larger(larger(a, b), c), d); }
  /// Whether an element is the maximum of those it was compared with: NaN always is.
  MERISTEM_HD static T if_largest(T value, T largest, T gradient) {
    return select((value == largest) | (value != value), gradient, T(0));
  }
  MERISTEM_HD static void gradients(T a, T b, T c, T d, T left, T (&out)[4]) {
    const T largest = value(a, b, c, d);
    // What one element takes the later ones do not get.
    out[0] = if_largest(a, largest, left);
    left -= out[0];
    out[1] = if_largest(b, largest, left);
    left -= out[1];
    out[2] = if_largest(c, largest, left);
    left -= out[2];
    out[3] = left;
  }
};

/// Their mean.
template <class T>
struct MeanOfQuad {
  static constexpr bool gradients_read_map = false;
  MERISTEM_HD static T value(T a, T b, T c, T d) { return (a + b + c + d) * T(0.25); }
  MERISTEM_HD static void gradients(T, T, T, T, T upstream, T (&out)[4]) {
    out[0] = out[1] = out[2] = out[3] = upstream * T(0.25);
  }
};

/// Packs of W channels.
template <class Of, class T, int W>
struct QuadForward {
  QuadOffsets<T> at;
  const T* x;
  T* y;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column, std::int64_t number) const {
    const T* top = x + at.map(row, column, number * W);
    const T* bottom = top + at.row_size;
    if constexpr (W == 1) {  // as the CPU's compiler vectorises it
      const T a = top[0], b = top[at.channels], c = bottom[0], d = bottom[at.channels];
      y[at.output(row, column, number)] = Of::value(a, b, c, d);
    } else {
      const Pack<T, W> a = load_pack<W>(top), b = load_pack<W>(top + at.channels);
      const Pack<T, W> c = load_pack<W>(bottom), d = load_pack<W>(bottom + at.channels);
      Pack<T, W> out;
      for (int k = 0; k < W; ++k) out.at[k] = Of::value(a.at[k], b.at[k], c.at[k], d.at[k]);
      store_pack(out, y + at.output(row, column, number * W));
    }
  }
};

template <class Of, class T, int W>
struct QuadBackward {
  QuadOffsets<T> at;
  const T* x;
  const T* dy;
  T* dx;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column, std::int64_t number) const {
    const std::int64_t from = at.map(row, column, number * W);
    Pack<T, W> a{}, b{}, c{}, d{};
    if constexpr (Of::gradients_read_map) {
      a = load_pack<W>(x + from);
      b = load_pack<W>(x + from + at.channels);
      c = load_pack<W>(x + from + at.row_size);
      d = load_pack<W>(x + from + at.row_size + at.channels);
    }
    const Pack<T, W> upstream = load_pack<W>(dy + at.output(row, column, number * W));
    for (int k = 0; k < W; ++k) {
      T out[4];
      Of::gradients(a.at[k], b.at[k], c.at[k], d.at[k], upstream.at[k], out);
      a.at[k] = out[0];
      b.at[k] = out[1];
      c.at[k] = out[2];
      d.at[k] = out[3];
    }
    store_pack(a, dx + from);
    store_pack(b, dx + from + at.channels);
    store_pack(c, dx + from + at.row_size);
    store_pack(d, dx + from + at.row_size + at.channels);
  }
};

inline bool is_quad(const PoolGeometry& g) {
  const auto covered = [](const PoolAxis& axis) {
    return axis.kernel == 2 && axis.stride == 2 && axis.padding == 0 && axis.dilation == 1 && axis.map % 2 == 0;
  };
  return covered(g.y) && covered(g.x);
}

template <class T>
QuadOffsets<T> quad_offsets(const PoolGeometry& g) {
  return {g.channels, g.x.map * g.channels};
}

/// y = Of::value of every window.
template <class Of, class T>
void quad_forward(Context& ctx, const PoolGeometry& g, const T* x, T* y) {
  const auto run = [&](auto size) {
    constexpr int W = decltype(size)::value;
    for_each(ctx, g.images * g.y.output, g.x.output, g.channels / W, QuadForward<Of, T, W>{quad_offsets<T>(g), x, y});
  };
  with_packs<T>(g.channels, run, x, y);
}

template <class Of, class T>
void quad_backward(Context& ctx, const PoolGeometry& g, const T* x, const T* dy, T* dx) {
  const auto run = [&](auto size) {
    constexpr int W = decltype(size)::value;
    for_each(ctx, g.images * g.y.output, g.x.output, g.channels / W,
             QuadBackward<Of, T, W>{quad_offsets<T>(g), x, dy, dx});
  };
  with_packs<T>(g.channels, run, x, dy, dx);
}

}  // namespace detail

/// Throws ArgumentError for a window that cannot be, and ShapeError unless it fits the padded map (rows, columns) and
/// has an element of the map at each of its positions. `label` is what messages call the layer or function.
inline void check_pool_window(const std::string& label, const Window& window, Extent2 map) {
  window.check(label, map);
  if (window.padding == Extent2(0)) return;
  const Extent2 output = window.output(map);
  const auto covers = [](const detail::PoolAxis& axis) {
    for (std::int64_t o = 0; o < axis.output; ++o) {
      if (axis.taps(o).size() < 1) return false;
    }
    return true;
  };
  if (covers({map.y, output.y, window.kernel.y, window.stride.y, window.padding.y, window.dilation.y}) &&
      covers({map.x, output.x, window.kernel.x, window.stride.x, window.padding.x, window.dilation.x})) {
    return;
  }
  throw ShapeError(concat(label, ": a window of ", window.kernel, " with padding ", window.padding, " and dilation ",
                          window.dilation, " has no element of the map of ", map,
                          " at some positions; use less padding"));
}

namespace detail {

/// The geometry of pooling `map` to `output`, after all checks; the names are what messages call the two.
template <class A, class B>
PoolGeometry pool_geometry(const char* function, const char* map_name, const View<A>& map, const char* output_name,
                           const View<B>& output, const Window& window) {
  require_contiguous(function, map_name, map);
  require_contiguous(function, output_name, output);
  if (map.rank() != 4) {
    throw ShapeError(concat(function, ": ", map_name, " has shape ", map.shape(),
                            "; maps have four axes: (images, rows, columns, channels)"));
  }
  const Extent2 extent(map.extent(1), map.extent(2));
  check_pool_window(function, window, extent);
  const Extent2 out = window.output(extent);
  const Shape expected{map.extent(0), out.y, out.x, map.extent(3)};
  if (output.shape() != expected) {
    throw ShapeError(concat(function, ": the window pools ", map_name, " of shape ", map.shape(), " to ", expected,
                            "; ", output_name, " has shape ", output.shape()));
  }
  return {map.extent(0),
          {extent.y, out.y, window.kernel.y, window.stride.y, window.padding.y, window.dilation.y},
          {extent.x, out.x, window.kernel.x, window.stride.x, window.padding.x, window.dilation.x},
          map.extent(3)};
}

}  // namespace detail

/// y = the maxima: x (n, H, W, C), y (n, OH, OW, C) with the extents of `window.output`. Throws ArgumentError and
/// ShapeError as check_pool_window does, and ShapeError unless both are contiguous and of these shapes.
template <class T>
void max_pool_forward(Context& ctx, View<const std::type_identity_t<T>> x, const Window& window, View<T> y) {
  const auto g = detail::pool_geometry("max_pool_forward", "x", x, "y", y, window);
  if (detail::is_quad(g)) {
    return detail::quad_forward<detail::MaxOfQuad<T>, T>(ctx, g, x.data_handle(), y.data_handle());
  }
  detail::launch_pool(ctx, detail::MaxPoolForward<T>{g, x.data_handle(), y.data_handle()},
                      g.images * g.y.output * g.x.output);
}

/// dx = the gradient at x: dy goes to the first maximum of each window, in row-major order; a NaN counts as the
/// maximum. x is that of max_pool_forward; dy (n, OH, OW, C), dx like x; dx is none of the others. Throws as
/// max_pool_forward does.
template <class T>
void max_pool_backward(Context& ctx, View<const std::type_identity_t<T>> x, View<const std::type_identity_t<T>> dy,
                       const Window& window, View<T> dx) {
  const auto g = detail::pool_geometry("max_pool_backward", "x", x, "dy", dy, window);
  detail::require_same_shape("max_pool_backward", "dx", dx, "x", x);
  if (detail::is_quad(g)) {
    return detail::quad_backward<detail::MaxOfQuad<T>, T>(ctx, g, x.data_handle(), dy.data_handle(), dx.data_handle());
  }
  Tensor<T> winner(ctx, dy.shape());
  detail::launch_pool(ctx, detail::MaxPoolWinner<T>{g, x.data_handle(), winner.data()},
                      g.images * g.y.output * g.x.output);
  detail::launch_pool(ctx, detail::MaxPoolBackward<T>{g, winner.data(), dy.data_handle(), dx.data_handle()},
                      g.images * g.y.map * g.x.map);
}

/// y = the means: x (n, H, W, C), y (n, OH, OW, C) with the extents of `window.output`. Sums run in T. Throws as
/// max_pool_forward does.
template <class T>
void average_pool_forward(Context& ctx, View<const std::type_identity_t<T>> x, const Window& window, View<T> y) {
  const auto g = detail::pool_geometry("average_pool_forward", "x", x, "y", y, window);
  if (detail::is_quad(g)) {
    return detail::quad_forward<detail::MeanOfQuad<T>, T>(ctx, g, x.data_handle(), y.data_handle());
  }
  detail::launch_pool(ctx, detail::AveragePoolForward<T>{g, x.data_handle(), y.data_handle()},
                      g.images * g.y.output * g.x.output);
}

/// dx = the gradient at the map (n, H, W, C) of which dy (n, OH, OW, C) is the gradient at the means. dx is not dy.
/// Throws as max_pool_forward does.
template <class T>
void average_pool_backward(Context& ctx, View<const std::type_identity_t<T>> dy, const Window& window, View<T> dx) {
  const auto g = detail::pool_geometry("average_pool_backward", "dx", dx, "dy", dy, window);
  if (detail::is_quad(g)) {
    const T* const none = nullptr;
    return detail::quad_backward<detail::MeanOfQuad<T>, T>(ctx, g, none, dy.data_handle(), dx.data_handle());
  }
  detail::launch_pool(ctx, detail::AveragePoolBackward<T>{g, dy.data_handle(), dx.data_handle()},
                      g.images * g.y.map * g.x.map);
}

}  // namespace meristem::kernels
