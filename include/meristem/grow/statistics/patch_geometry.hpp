// The patches that a window cuts from maps: which of them count how often, what they must fit, and their bias.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/window.hpp>
#include <meristem/grow/statistics/accumulator.hpp>
#include <meristem/kernels/patch_rows.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::grow {

/// Which taps of the consumer's kernel a new unit feeds.
enum class FanOut {
  full,    ///< all of them
  centre,  ///< tap (ky / 2, kx / 2) alone
};

namespace detail {

/// How patch statistics are computed; both ways give the same numbers up to rounding.
enum class PatchPath {
  automatic,  ///< whichever the cost rule expects to take less time
  offsets,    ///< products of maps shifted against each other; needs stride 1 and dilation 1
  patches,    ///< blocks of patch rows and one product of matrices for each
};

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

}  // namespace detail

/// How many pairs (output, tap) of `consumer` read each row and each column of a map `hidden`; how many read position
/// (y, x) is the product of the two. With FanOut::centre, taps other than the centre do not count. Throws ArgumentError
/// or ShapeError as Window::check does.
[[nodiscard]] std::pair<std::vector<double>, std::vector<double>> position_counts(const Window& consumer,
                                                                                  Extent2 hidden, FanOut fan_out);

namespace detail {

/// Positions of a window that count, on the device, with the square roots of their weights.
template <Real T>
struct PatchPositions {
  Tensor<std::int64_t> ys, xs;
  Tensor<T> factor_y, factor_x;  ///< empty: ones

  [[nodiscard]] std::int64_t size() const { return ys.size() * xs.size(); }
  [[nodiscard]] kernels::RowPositions rows() const { return {ys.data(), xs.data(), ys.size(), xs.size()}; }
};

/// Indices of the numbers that are not 0.
[[nodiscard]] std::vector<std::int64_t> indices_of_nonzeros(const std::vector<double>& values);

template <Real T>
[[nodiscard]] PatchPositions<T> positions_with(Context& ctx, const std::vector<double>& weight_y,
                                               const std::vector<double>& weight_x);

/// out (rows, ky·kx·channels) = the patches of rows [first, first + rows) of `positions`.
template <Real T>
void gather_patches(Context& ctx, View<const T> x, const Window& window, const PatchPositions<T>& positions,
                    std::int64_t first, View<T> out);

/// Rows of a block of `columns` numbers: about a megabyte, long enough for matrix products.
template <Real T>
[[nodiscard]] constexpr std::int64_t rows_of_block(std::int64_t columns) {
  constexpr std::int64_t bytes = std::int64_t{1} << 20, least = 256, most = 4096;
  const std::int64_t rows = bytes / (std::max<std::int64_t>(columns, 1) * static_cast<std::int64_t>(sizeof(T)));
  return std::clamp(rows, least, most);
}

/// The sum over samples of whole maps: all that a bias coordinate, a constant 1, has to do with.
template <Real T>
class MapSum {
 public:
  MapSum(Context& ctx, std::int64_t size) : sum_(ctx, {size}) {}

  /// Adds the maps (n, ...), each of `size` numbers.
  void add(Context& ctx, View<const T> maps);
  void merge(Context& ctx, const MapSum& other) { sum_.merge(ctx, other.sum_); }
  /// As those of TwoPartSum.
  [[nodiscard]] Part<SettleSlabs<T>, 1> settled(double factor, double* to) { return sum_.settled(factor, to); }
  [[nodiscard]] std::int64_t size() const { return sum_.size(); }

 private:
  TwoPartSum<T> sum_;
};

/// Maps (n, H, W, channels) seen through a window: what the two classes below check alike.
struct PatchGeometry {
  std::int64_t channels = 0;
  Window window;
  Extent2 map;
  bool bias = false;

  /// Throws ArgumentError or ShapeError for a window that does not fit or a negative number of channels.
  void check(const char* what) const;
  [[nodiscard]] std::int64_t coordinates() const { return window.kernel.size() * channels; }
  /// Throws ShapeError unless x is a batch of these maps.
  template <class T>
  void check_maps(const char* what, const char* argument, const View<T>& x, Extent2 extent, std::int64_t last) const {
    if (x.rank() == 4 && x.extent(1) == extent.y && x.extent(2) == extent.x && x.extent(3) == last) {
      kernels::detail::require_contiguous(what, argument, x);
      return;
    }
    throw ShapeError(concat(what, ": was made for ", argument, " of shape (n, ", extent.y, ", ", extent.x, ", ", last,
                            "), got ", x.shape()));
  }
  [[nodiscard]] std::string to_string() const;
  friend bool operator==(const PatchGeometry&, const PatchGeometry&) = default;
};

/// Whether a window reads neighbouring positions of the map at neighbouring positions of its own.
[[nodiscard]] constexpr bool slides_by_one(const Window& w) {
  return w.stride == Extent2(1) && (w.kernel.y == 1 || w.dilation.y == 1) && (w.kernel.x == 1 || w.dilation.x == 1);
}

void check_path(const char* what, PatchPath path, bool offsets_possible);

inline void check_same_path(const char* what, PatchPath theirs, PatchPath mine) {
  if (theirs == mine) return;
  throw ArgumentError(concat(what, ": sums gathered on different paths cannot be merged; let both choose by the cost"));
}

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/statistics/patch_geometry_impl.hpp>
#endif
