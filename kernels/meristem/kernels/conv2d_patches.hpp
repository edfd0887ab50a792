// Products of patches with weights on the CPU, block by block.
//
//   out[row] = Σ patches[row][column] · weights[column] + bias
//
// Rows (positions of a window) are cut into blocks. A worker writes the patches of one block to a buffer that stays in
// its cache (NHWC: the taps of one kernel row are one contiguous stretch) and multiplies them with BLAS on one thread.
// Where a patch is a pixel (1x1, stride 1, no padding) the map itself is the matrix.
//
// Blocks follow from the shapes alone and every BLAS call runs on one thread: the bits do not depend on the number of
// threads.
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

#if MERISTEM_GPU
#error "this is part of the CPU's path of conv2d.cuh; include that"
#endif

namespace meristem::kernels::conv2d_host {

/// Columns of patches that are made at a time: beyond, the product is split along its depth.
inline constexpr std::int64_t most_columns = 1536;
/// Patches of a block, in elements; the number of rows follows, within the next two.
inline constexpr std::int64_t block_elements = 64 << 10;
inline constexpr std::int64_t least_block_rows = 128;
inline constexpr std::int64_t most_block_rows = 256;
[[nodiscard]] inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// One axis of what is read: position j with tap t reads index first + j·step + t·tap_step of the map.
struct Axis {
  std::int64_t map = 1;
  std::int64_t positions = 1;
  std::int64_t step = 1;
  std::int64_t taps = 1;
  std::int64_t first = 0;
  std::int64_t tap_step = 1;
};

/// A matrix of patches that is never stored: (images · y.positions · x.positions) × (y.taps · x.taps · channels).
template <class T>
struct Sampling {
  const T* map;
  std::int64_t images;
  std::int64_t channels;
  Axis y;
  Axis x;

  [[nodiscard]] std::int64_t rows() const { return images * y.positions * x.positions; }
  [[nodiscard]] std::int64_t columns() const { return y.taps * x.taps * channels; }
  /// Whether the map itself is the matrix.
  [[nodiscard]] bool is_map() const {
    const auto plain = [](const Axis& a) { return a.taps == 1 && a.first == 0 && a.step == 1 && a.positions == a.map; };
    return plain(y) && plain(x);
  }
};

/// Neighbouring columns of patches that are one contiguous stretch of a row of the map.
struct Stretch {
  std::int64_t column;  ///< of the first, counted from the first one that is made
  std::int64_t length;
  std::int64_t line;         ///< of the map, relative to that of the position's tap 0
  std::int64_t offset;       ///< from the row's start, in elements, for position 0
  std::int64_t inner_begin;  ///< positions whose stretch lies within the row
  std::int64_t inner_end;
};

/// The stretches that columns [from, to) consist of.
template <class T>
std::vector<Stretch> stretches(const Sampling<T>& in, std::int64_t from, std::int64_t to) {
  std::vector<Stretch> result;
  const std::int64_t joined = in.x.tap_step == 1 ? in.x.taps : 1;
  const std::int64_t length = joined * in.channels;
  const std::int64_t row = in.x.map * in.channels;
  const std::int64_t step = in.x.step * in.channels;
  for (std::int64_t start = from / length * length; start < to; start += length) {
    const std::int64_t tap = start / in.channels;
    const std::int64_t skipped = std::max<std::int64_t>(from - start, 0);
    Stretch s{};
    s.column = start + skipped - from;
    s.length = std::min(to - start, length) - skipped;
    s.line = tap / in.x.taps * in.y.tap_step;
    s.offset = (in.x.first + tap % in.x.taps * in.x.tap_step) * in.channels + skipped;
    s.inner_begin = s.offset >= 0 ? 0 : divide_up(-s.offset, step);
    s.inner_end = row - s.length < s.offset ? 0 : (row - s.length - s.offset) / step + 1;
    s.inner_begin = std::min(s.inner_begin, in.x.positions);
    s.inner_end = std::clamp(s.inner_end, s.inner_begin, in.x.positions);
    result.push_back(s);
  }
  return result;
}

/// `count` rows of `length` elements from one matrix to another.
template <class T>
void copy_rows(const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride, std::int64_t length,
               std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i, from += from_stride, to += to_stride) {
    MERISTEM_INDEPENDENT
    for (std::int64_t k = 0; k < length; ++k) to[k] = from[k];
  }
}

/// Writes the columns that `parts` describe of rows [first, last); rows of `to` lie `stride` apart.
template <class T>
void gather(const Sampling<T>& in, const std::vector<Stretch>& parts, std::int64_t first, std::int64_t last, T* to,
            std::int64_t stride) {
  const std::int64_t row_length = in.x.map * in.channels;
  const std::int64_t step = in.x.step * in.channels;
  for (std::int64_t row = first; row < last;) {
    const std::int64_t line = row / in.x.positions;
    const std::int64_t begin = row - line * in.x.positions;
    const std::int64_t end = std::min(in.x.positions, begin + last - row);
    const std::int64_t image = line / in.y.positions;
    const std::int64_t top = (line - image * in.y.positions) * in.y.step + in.y.first;
    for (const Stretch& s : parts) {
      T* out = to + s.column;
      const std::int64_t y = top + s.line;
      if (y < 0 || y >= in.y.map) {
        for (std::int64_t j = begin; j < end; ++j, out += stride) std::fill_n(out, s.length, T(0));
        continue;
      }
      const T* const source = in.map + (image * in.y.map + y) * row_length;
      const auto clipped = [&](std::int64_t j) {
        const std::int64_t start = j * step + s.offset;
        const std::int64_t low = std::clamp<std::int64_t>(-start, 0, s.length);
        const std::int64_t high = std::clamp<std::int64_t>(row_length - start, low, s.length);
        std::fill_n(out, low, T(0));
        if (high > low) std::copy(source + start + low, source + start + high, out + low);
        std::fill_n(out + high, s.length - high, T(0));
        out += stride;
      };
      const std::int64_t inner_begin = std::clamp(s.inner_begin, begin, end);
      const std::int64_t inner_end = std::clamp(s.inner_end, inner_begin, end);
      for (std::int64_t j = begin; j < inner_begin; ++j) clipped(j);
      if (inner_end > inner_begin) {
        const std::int64_t count = inner_end - inner_begin;
        copy_rows(source + inner_begin * step + s.offset, step, out, stride, s.length, count);
        out += count * stride;
      }
      for (std::int64_t j = inner_end; j < end; ++j) clipped(j);
    }
    to += (end - begin) * stride;
    row += end - begin;
  }
}

/// Columns of each of about `pieces` equal pieces; the last one may be shorter.
[[nodiscard]] inline std::int64_t piece(std::int64_t columns, std::int64_t pieces) {
  constexpr std::int64_t unit = 16;
  return std::max<std::int64_t>(1, divide_up(divide_up(columns, std::max<std::int64_t>(1, pieces)), unit) * unit);
}

[[nodiscard]] inline std::int64_t block_rows(std::int64_t rows, std::int64_t columns, std::int64_t outputs) {
  const std::int64_t by_size = outputs >= most_block_rows ? most_block_rows : block_elements / columns / 16 * 16;
  return std::clamp<std::int64_t>(by_size, least_block_rows,
                                  std::min(most_block_rows, std::max(rows, least_block_rows)));
}

/// Where the rows of a product go: row (i, y, x) starts at data + i·image + y·line + x·pixel.
template <class T>
struct Target {
  T* data;
  std::int64_t image;
  std::int64_t line;
  std::int64_t pixel;
};

/// out = in · weights + bias. weights (columns × outputs), or its transpose if `transpose` says so; bias may be null;
/// rows of out lie one after the other unless `spread`.
template <Real T>
void multiply(Context& ctx, const Sampling<T>& in, Transpose transpose, View<const T> weights, const T* bias,
              std::int64_t outputs, const Target<T>& out, bool spread) {
  const std::int64_t rows = in.rows();
  const std::int64_t columns = in.columns();
  if (rows == 0 || outputs == 0) return;
  const bool direct = in.is_map();
  const std::int64_t step = direct ? columns : piece(columns, divide_up(columns, most_columns));
  const std::int64_t block = block_rows(rows, std::max<std::int64_t>(step, 1), outputs);
  std::vector<std::vector<Stretch>> parts;
  if (columns > 0 && !direct) {
    for (std::int64_t from = 0; from < columns; from += step) {
      parts.push_back(stretches(in, from, std::min(from + step, columns)));
    }
  }
  const std::int64_t blocks = divide_up(rows, block);
  const std::int64_t patches_size = direct ? 0 : block * step;
  const std::int64_t result_size = spread ? block * outputs : 0;
  auto scratch = empty<T>(ctx, {host::workers_for(ctx, blocks), patches_size + result_size});
  const auto one_block = [&](std::int64_t index, int worker) {
    T* const patches = scratch.data() + worker * (patches_size + result_size);
    const std::int64_t first = index * block;
    const std::int64_t count = std::min(block, rows - first);
    const View<T> result(spread ? patches + patches_size : out.data + first * outputs, {count, outputs});
    if (direct || columns == 0) {
      const View<const T> x(in.map + first * columns, {count, columns});
      gemm(ctx, Transpose::no, transpose, T(1), x, weights, T(0), result);
    }
    for (std::size_t part = 0; part < parts.size(); ++part) {
      const std::int64_t from = static_cast<std::int64_t>(part) * step;
      const std::int64_t width = std::min(step, columns - from);
      gather(in, parts[part], first, first + count, patches, width);
      gemm(ctx, Transpose::no, transpose, T(1), View<const T>(patches, {count, width}),
           weights.slice(transpose == Transpose::no ? 0 : 1, from, from + width), part == 0 ? T(0) : T(1), result);
    }
    if (bias != nullptr) {
      for (std::int64_t r = 0; r < count; ++r) {
        T* const row = result.data_handle() + r * outputs;
        MERISTEM_INDEPENDENT
        for (std::int64_t k = 0; k < outputs; ++k) row[k] += bias[k];
      }
    }
    if (!spread) return;
    for (std::int64_t r = first; r < first + count;) {
      const std::int64_t line = r / in.x.positions;
      const std::int64_t begin = r - line * in.x.positions;
      const std::int64_t run = std::min(in.x.positions - begin, first + count - r);
      const std::int64_t image = line / in.y.positions;
      copy_rows(result.data_handle() + (r - first) * outputs, outputs,
                out.data + image * out.image + (line - image * in.y.positions) * out.line + begin * out.pixel,
                out.pixel, outputs, run);
      r += run;
    }
  };
  host::for_tasks(ctx, blocks, one_block);
}

}  // namespace meristem::kernels::conv2d_host
