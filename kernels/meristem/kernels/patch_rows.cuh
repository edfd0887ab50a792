// Chosen patches of maps as rows of a matrix, and what a second window's outputs take from the same positions.
//
//   patches[r, (ky, kx, c)] = factor_y[a] · factor_x[b] · x[i, ys[a]·stride - padding + ky·dilation, ..., c]
//   outputs[r, (t, m)]      = v[i, j, m] where tap t of output j reads position (ys[a], xs[b]), 0 where none does
//
//   row r stands for sample i and position (ys[a], xs[b]), ordered by i, a, b; both results are overwritten (=)
//
// `gather_rows`: one block writes some rows. A thread alone copies them stretch by stretch, the threads of a larger
// block take one number after the other.
#pragma once

#include <cstdint>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/window.hpp>

namespace meristem::kernels {

/// Positions (ys[a], xs[b]) of every sample.
struct RowPositions {
  const std::int64_t* ys;
  const std::int64_t* xs;
  std::int64_t y_count, x_count;
};

namespace patch_rows {

struct Place {
  std::int64_t sample, a, b;
};

MERISTEM_HD inline Place place_of(const RowPositions& positions, std::int64_t row) {
  const std::int64_t line = row / positions.x_count;
  return {line / positions.y_count, line % positions.y_count, row - line * positions.x_count};
}

}  // namespace patch_rows

/// Patches as rows; see the head of the file. A run is what lies together in memory: a whole row of taps, or a tap's
/// channels where the dilation separates them.
template <class T>
struct GatherPatches {
  const T* x;
  T* out;
  RowPositions positions;
  const T* factor_y;  ///< by a; null: ones
  const T* factor_x;
  std::int64_t height, width, channels;
  Window window;
  std::int64_t first_row;  ///< position of out's row 0

  [[nodiscard]] MERISTEM_HD std::int64_t run_taps() const { return window.dilation.x == 1 ? window.kernel.x : 1; }
  [[nodiscard]] MERISTEM_HD std::int64_t row_size() const { return window.kernel.size() * channels; }

  MERISTEM_HD void element(std::int64_t r, std::int64_t k) const {
    const patch_rows::Place at = patch_rows::place_of(positions, first_row + r);
    const std::int64_t tap = k / channels, c = k - tap * channels, ky = tap / window.kernel.x;
    const std::int64_t y = positions.ys[at.a] * window.stride.y - window.padding.y + ky * window.dilation.y;
    const std::int64_t column =
        positions.xs[at.b] * window.stride.x - window.padding.x + (tap - ky * window.kernel.x) * window.dilation.x;
    const bool inside = y >= 0 && y < height && column >= 0 && column < width;
    const T value = inside ? x[((at.sample * height + y) * width + column) * channels + c] : T(0);
    out[r * row_size() + k] = factor_y == nullptr ? value : factor_y[at.a] * factor_x[at.b] * value;
  }

  void row(std::int64_t r) const {
    const patch_rows::Place at = patch_rows::place_of(positions, first_row + r);
    const T factor = factor_y == nullptr ? T(1) : factor_y[at.a] * factor_x[at.b];
    const std::int64_t taps = run_taps(), length = taps * channels;
    T* to = out + r * row_size();
    for (std::int64_t ky = 0; ky < window.kernel.y; ++ky) {
      const std::int64_t y = positions.ys[at.a] * window.stride.y - window.padding.y + ky * window.dilation.y;
      for (std::int64_t kx = 0; kx < window.kernel.x; kx += taps, to += length) {
        const std::int64_t left = positions.xs[at.b] * window.stride.x - window.padding.x + kx * window.dilation.x;
        // The numbers of the run that lie on the map.
        const std::int64_t begin = left < 0 ? -left * channels : 0;
        const std::int64_t end = (width - left < taps ? width - left : taps) * channels;
        if (y < 0 || y >= height || begin >= end) {
          for (std::int64_t k = 0; k < length; ++k) to[k] = T(0);
          continue;
        }
        const T* const from = x + ((at.sample * height + y) * width + left) * channels;
        for (std::int64_t k = 0; k < begin; ++k) to[k] = T(0);
        MERISTEM_INDEPENDENT
        for (std::int64_t k = begin; k < end; ++k) to[k] = factor * from[k];
        for (std::int64_t k = end; k < length; ++k) to[k] = T(0);
      }
    }
  }
};

/// What taps (taps_y[s], taps_x[t]) of a window's outputs take from each position; see the head of the file.
template <class T>
struct GatherOutputs {
  const T* v;
  T* out;
  RowPositions positions;
  const std::int64_t* taps_y;
  const std::int64_t* taps_x;
  std::int64_t taps_y_count, taps_x_count;
  std::int64_t height, width, outputs;  ///< of v
  Window consumer;
  std::int64_t first_row;

  [[nodiscard]] MERISTEM_HD std::int64_t row_size() const { return taps_y_count * taps_x_count * outputs; }

  /// Where v holds what tap (s, t) takes at a place; null where no output's tap reads it.
  [[nodiscard]] MERISTEM_HD const T* source(const patch_rows::Place& at, std::int64_t s, std::int64_t t) const {
    const std::int64_t y = positions.ys[at.a] + consumer.padding.y - taps_y[s] * consumer.dilation.y;
    const std::int64_t x = positions.xs[at.b] + consumer.padding.x - taps_x[t] * consumer.dilation.x;
    const std::int64_t jy = y / consumer.stride.y, jx = x / consumer.stride.x;
    const bool read =
        y >= 0 && x >= 0 && jy * consumer.stride.y == y && jx * consumer.stride.x == x && jy < height && jx < width;
    return read ? v + ((at.sample * height + jy) * width + jx) * outputs : nullptr;
  }

  MERISTEM_HD void element(std::int64_t r, std::int64_t k) const {
    const patch_rows::Place at = patch_rows::place_of(positions, first_row + r);
    const std::int64_t tap = k / outputs, s = tap / taps_x_count;
    const T* const from = source(at, s, tap - s * taps_x_count);
    out[r * row_size() + k] = from == nullptr ? T(0) : from[k - tap * outputs];
  }

  void row(std::int64_t r) const {
    const patch_rows::Place at = patch_rows::place_of(positions, first_row + r);
    T* to = out + r * row_size();
    for (std::int64_t s = 0; s < taps_y_count; ++s) {
      for (std::int64_t t = 0; t < taps_x_count; ++t, to += outputs) {
        const T* const from = source(at, s, t);
        if (from == nullptr) {
          for (std::int64_t k = 0; k < outputs; ++k) to[k] = T(0);
        } else {
          MERISTEM_INDEPENDENT
          for (std::int64_t k = 0; k < outputs; ++k) to[k] = from[k];
        }
      }
    }
  }
};

namespace patch_rows {

template <class Gather>
__global__ void gather_rows(Gather gather, std::int64_t rows, std::int64_t rows_each) {
  const std::int64_t first = blockIdx.x * rows_each;
  const std::int64_t last = first + rows_each < rows ? first + rows_each : rows;
#if !MERISTEM_GPU
  if (blockDim.x == 1) {
    for (std::int64_t r = first; r < last; ++r) gather.row(r);
    return;
  }
#endif
  const std::int64_t size = gather.row_size(), count = (last - first) * size;
  for (std::int64_t e = threadIdx.x; e < count; e += blockDim.x) gather.element(first + e / size, e % size);
}

}  // namespace patch_rows

/// Writes `rows` rows of a gather.
template <class Gather>
void gather(Context& ctx, const Gather& what, std::int64_t rows) {
  constexpr std::int64_t rows_each = 16;
  if (rows == 0 || what.row_size() == 0) return;
  launch<patch_rows::gather_rows<Gather>>(ctx, blocks_for(rows, rows_each), block_threads(ctx, 256), 0, what, rows,
                                          rows_each);
}

}  // namespace meristem::kernels
