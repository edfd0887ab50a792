// Which patches of a convolution count how often, and blocks of them as rows of a matrix.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/window.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// How patch statistics are computed; both ways give the same numbers up to rounding.
enum class PatchPath {
  automatic,  ///< whichever the cost rule expects to take less time
  offsets,    ///< products of maps shifted against each other; needs stride 1 and dilation 1
  patches,    ///< blocks of patch rows and one product of matrices for each
};

/// Which taps of the consumer's kernel a new unit feeds.
enum class FanOut {
  full,    ///< all of them
  centre,  ///< tap (ky / 2, kx / 2) alone
};

namespace detail {

/// A window along one axis.
struct WindowAxis {
  std::int64_t kernel = 1, stride = 1, padding = 0, dilation = 1;
  std::int64_t map = 1;
  std::int64_t outputs = 1;

  /// The map position that tap `tap` of output `j` reads; may lie outside the map.
  [[nodiscard]] constexpr std::int64_t source(std::int64_t j, std::int64_t tap) const {
    return j * stride - padding + tap * dilation;
  }
};

[[nodiscard]] constexpr WindowAxis axis_y(const Window& w, Extent2 map) {
  return {w.kernel.y, w.stride.y, w.padding.y, w.dilation.y, map.y, w.output(map).y};
}
[[nodiscard]] constexpr WindowAxis axis_x(const Window& w, Extent2 map) {
  return {w.kernel.x, w.stride.x, w.padding.x, w.dilation.x, map.x, w.output(map).x};
}

/// The taps that fan out.
[[nodiscard]] constexpr std::pair<std::int64_t, std::int64_t> taps_of(std::int64_t kernel, FanOut fan_out) {
  return fan_out == FanOut::full ? std::pair{std::int64_t{0}, kernel} : std::pair{kernel / 2, kernel / 2 + 1};
}

[[nodiscard]] inline std::vector<double> counts_of(const WindowAxis& consumer, FanOut fan_out) {
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

}  // namespace detail

/// How many pairs (output, tap) of `consumer` read each row and each column of a map `hidden`; how many read position
/// (y, x) is the product of the two. With FanOut::centre, taps other than the centre do not count. Throws ArgumentError
/// or ShapeError as Window::check does.
[[nodiscard]] inline std::pair<std::vector<double>, std::vector<double>> position_counts(const Window& consumer,
                                                                                         Extent2 hidden,
                                                                                         FanOut fan_out) {
  consumer.check("position_counts", hidden);
  return {detail::counts_of(detail::axis_y(consumer, hidden), fan_out),
          detail::counts_of(detail::axis_x(consumer, hidden), fan_out)};
}

namespace detail {

/// The patches at positions (ys[a], xs[b]) of a window, as rows ordered by sample, a, b: out(r, run, k) = factor ·
/// x(...). A run is what lies together in memory: a tap's channels, or a whole row of taps without dilation.
template <class T>
struct GatherPatches {
  const T* x;
  T* out;
  const std::int64_t* ys;
  const std::int64_t* xs;
  const T* factor_y;  ///< by a; null: ones
  const T* factor_x;
  std::int64_t y_count, x_count;
  std::int64_t height, width, channels;
  Window window;
  std::int64_t runs_x;     ///< runs of a row of taps
  std::int64_t run_taps;   ///< taps of a run
  std::int64_t first_row;  ///< of the block

  MERISTEM_HD void operator()(std::int64_t r, std::int64_t run, std::int64_t k) const {
    const std::int64_t row = first_row + r;
    const std::int64_t b = row % x_count, a = row / x_count % y_count, sample = row / x_count / y_count;
    const std::int64_t y = ys[a] * window.stride.y - window.padding.y + run / runs_x * window.dilation.y;
    const std::int64_t left = xs[b] * window.stride.x - window.padding.x + run % runs_x * window.dilation.x;
    // The numbers of the run that lie on the map.
    const std::int64_t low = left < 0 ? -left * channels : 0;
    const std::int64_t high = (width - left < run_taps ? width - left : run_taps) * channels;
    const bool inside = y >= 0 && y < height && k >= low && k < high;
    const T value = inside ? x[((sample * height + y) * width + left) * channels + k] : T(0);
    const std::int64_t length = run_taps * channels;
    const T factor = factor_y == nullptr ? T(1) : factor_y[a] * factor_x[b];
    out[(r * window.kernel.y * runs_x + run) * length + k] = factor * value;
  }
};

/// What the taps of a consumer's outputs take from each hidden position: out(r, t, m) = v(sample, j(t), m) where tap t
/// of output j reads the position of row r, 0 where there is no such output.
template <class T>
struct GatherOutputs {
  const T* v;
  T* out;
  const std::int64_t* ys;
  const std::int64_t* xs;
  const std::int64_t* taps_y;
  const std::int64_t* taps_x;
  std::int64_t y_count, x_count, taps_y_count, taps_x_count;
  std::int64_t height, width, outputs;  ///< of v
  Window consumer;
  std::int64_t first_row;

  MERISTEM_HD void operator()(std::int64_t r, std::int64_t t, std::int64_t m) const {
    const std::int64_t row = first_row + r;
    const std::int64_t b = row % x_count, a = row / x_count % y_count, sample = row / x_count / y_count;
    const std::int64_t y = ys[a] + consumer.padding.y - taps_y[t / taps_x_count] * consumer.dilation.y;
    const std::int64_t x = xs[b] + consumer.padding.x - taps_x[t % taps_x_count] * consumer.dilation.x;
    const std::int64_t jy = y / consumer.stride.y, jx = x / consumer.stride.x;
    const bool read =
        y >= 0 && x >= 0 && jy * consumer.stride.y == y && jx * consumer.stride.x == x && jy < height && jx < width;
    const T value = read ? v[((sample * height + jy) * width + jx) * outputs + m] : T(0);
    out[(r * taps_y_count * taps_x_count + t) * outputs + m] = value;
  }
};

/// Positions of a window that count, on the device, with the square roots of their weights.
template <Real T>
struct PatchPositions {
  Tensor<std::int64_t> ys, xs;
  Tensor<T> factor_y, factor_x;  ///< empty: ones

  [[nodiscard]] std::int64_t size() const { return ys.size() * xs.size(); }
};

/// Indices of the numbers that are not 0.
[[nodiscard]] inline std::vector<std::int64_t> indices_of_nonzeros(const std::vector<double>& values) {
  std::vector<std::int64_t> result;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] != 0.0) result.push_back(static_cast<std::int64_t>(i));
  }
  return result;
}

template <Real T>
[[nodiscard]] PatchPositions<T> positions_with(Context& ctx, const std::vector<double>& weight_y,
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

/// out (rows, ky·kx·channels) = the patches of rows [first, first + rows) of `positions`.
template <Real T>
void gather_patches(Context& ctx, View<const T> x, const Window& window, const PatchPositions<T>& positions,
                    std::int64_t first, View<T> out) {
  const bool joined = window.dilation.x == 1;
  const std::int64_t channels = x.extent(3);
  GatherPatches<T> gather{x.data_handle(),
                          out.data_handle(),
                          positions.ys.data(),
                          positions.xs.data(),
                          positions.factor_y.data(),
                          positions.factor_x.data(),
                          positions.ys.size(),
                          positions.xs.size(),
                          x.extent(1),
                          x.extent(2),
                          channels,
                          window,
                          joined ? 1 : window.kernel.x,
                          joined ? window.kernel.x : 1,
                          first};
  for_each(ctx, out.extent(0), window.kernel.y * gather.runs_x, gather.run_taps * channels, gather);
}

/// Rows of a block of `columns` numbers: about a megabyte, long enough for matrix products.
template <Real T>
[[nodiscard]] constexpr std::int64_t rows_of_block(std::int64_t columns) {
  constexpr std::int64_t bytes = std::int64_t{1} << 20, least = 256, most = 4096;
  const std::int64_t rows = bytes / (std::max<std::int64_t>(columns, 1) * static_cast<std::int64_t>(sizeof(T)));
  return std::clamp(rows, least, most);
}

}  // namespace detail

}  // namespace meristem::inline MERISTEM_BACKEND::grow
