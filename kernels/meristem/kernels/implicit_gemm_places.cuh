// Where the elements of a convolution's patches lie: the index arithmetic of implicit_gemm_tile.cuh.
//
// An element of a patch sits at position + tap, two places that add up in row, column and memory: one of the two is a
// row of the tile and is tabulated in shared memory, the other one advances with the depth of the product and is
// counted without division.
//
// The data gradient treats each residue class of positions modulo the stride as a convolution of its own, with stride 1
// and the taps that reach this class. A test for divisibility in the loader would spend stride² times the work.
#pragma once

#include <cstdint>

#include <meristem/core/config.hpp>

namespace meristem::kernels::implicit_gemm {

/// Which of the three products.
enum class Direction { forward, data, weights };

/// Depth of a stage: 64 bytes.
template <class T>
inline constexpr int stage_depth = 64 / static_cast<int>(sizeof(T));

/// Which tile computes a product.
enum class TileSize {
  automatic,  ///< narrow up to 8 columns, medium for few rows, columns or tiles, else large
  large,
  medium,
  narrow,
};

/// A place in a map, or the way from one place to another.
struct alignas(16) Site {
  int offset;
  int y;
  int x;
  int target;  ///< of a position: its number in the output
};
/// No tap leads from here into a map.
inline constexpr int outside = -(1 << 30);

/// A number of three digits.
struct Counter {
  int low;
  int middle;
  int high;
};

/// Counts up in steps of one stage.
struct Counting {
  int low_radix;
  int middle_radix;
  Counter step;

  /// Replaces a middle radix of 1.
  MERISTEM_HD void set_middle_radix(int radix) {
    middle_radix = radix;
    step.middle = step.high % radix;
    step.high /= radix;
  }
  /// The number k. Radices are positive.
  [[nodiscard]] MERISTEM_HD Counter at(int k) const {
    const int rest = k / low_radix;
    return {k % low_radix, rest % middle_radix, rest / middle_radix};
  }
  MERISTEM_HD void advance(Counter& counter) const {
    counter.low += step.low;
    int carry = counter.low >= low_radix ? 1 : 0;
    counter.low -= carry * low_radix;
    counter.middle += step.middle + carry;
    carry = counter.middle >= middle_radix ? 1 : 0;
    counter.middle -= carry * middle_radix;
    counter.high += step.high + carry;
  }
};

template <class T>
[[nodiscard]] inline Counting counting(int low_radix, int middle_radix) {
  Counting result{low_radix, 1, {stage_depth<T> % low_radix, 0, stage_depth<T> / low_radix}};
  result.set_middle_radix(middle_radix);
  return result;
}

/// The patches of a map: position j reads y = start_y + j·step_y + tap·tap_y, and likewise along x.
struct Gather {
  int height;
  int width;
  int channels;
  int row_pitch;    ///< elements from one row of the map to the next
  int image_pitch;  ///< elements from one image to the next
  int positions_y;  ///< of an image
  int positions_x;
  int start_y;
  int start_x;
  int step_y;
  int step_x;
  int taps_y;
  int taps_x;
  int tap_y;
  int tap_x;

  [[nodiscard]] MERISTEM_HD Site position(int image, int j_y, int j_x) const {
    const int y = start_y + j_y * step_y;
    const int x = start_x + j_x * step_x;
    return {image * image_pitch + y * row_pitch + x * channels, y, x, 0};
  }
  [[nodiscard]] MERISTEM_HD Site tap(int t_y, int t_x, int channel) const {
    const int y = t_y * tap_y;
    const int x = t_x * tap_x;
    return {y * row_pitch + x * channels + channel, y, x, 0};
  }
  /// Whether position + tap lies in the map.
  [[nodiscard]] MERISTEM_HD bool contains(const Site& position, const Site& tap) const {
    return static_cast<unsigned>(position.y + tap.y) < static_cast<unsigned>(height) &&
           static_cast<unsigned>(position.x + tap.x) < static_cast<unsigned>(width);
  }
};

/// One axis of the map whose gradient is computed.
struct DataAxis {
  int map;
  int kernel;
  int stride;
  int padding;
  int dilation;
  int period;   ///< every period-th tap reaches a class: stride / gcd(stride, dilation)
  int classes;  ///< residue classes that hold a position
};

/// The positions first, first + stride, ... of an axis and the taps that reach them.
struct DataClass {
  int positions;
  int first_tap;
  int taps;
  int start;  ///< output position that first_tap connects to the first position
};

/// Position i hears from output j through tap t if j·stride - padding + t·dilation = i. From one tap that reaches a
/// class to the next, j falls by period · dilation / stride.
[[nodiscard]] MERISTEM_HD inline DataClass data_class(const DataAxis& axis, int first) {
  const int last = axis.kernel < axis.period ? axis.kernel : axis.period;
  int tap = 0;
  while (tap < last && (first + axis.padding - tap * axis.dilation) % axis.stride != 0) ++tap;
  const int positions = (axis.map - first - 1) / axis.stride + 1;
  if (tap == last) return {positions, 0, 0, 0};
  return {positions, tap, (axis.kernel - 1 - tap) / axis.period + 1,
          (first + axis.padding - tap * axis.dilation) / axis.stride};
}

/// One product, as the kernel sees it. Every tensor has at most 2^30 elements here.
template <class T>
struct Problem {
  Gather gather;  ///< for `data`: of the map dy; positions and taps are those of the class
  const T* source;
  bool source_quads;  ///< four channels may be loaded at once
  const T* matrix;    ///< the weights; for `weights` dy
  bool matrix_quads;
  const T* bias;  ///< null: none
  T* out;         ///< for `weights` with more than one slab these, each `slab_size` long
  bool out_quads;
  bool add;       ///< to `out`: += instead of =
  TileSize tile;  ///< of a launch that has a choice
  int images;
  int columns;
  int patch;  ///< numbers of a patch, taps · channels of the layer's input
  int row_tiles;
  int column_tiles;
  DataAxis axis_y;  ///< for `data`
  DataAxis axis_x;
  int matrix_tap_y;  ///< for `data`: from the weights of one tap of a class to the next
  int matrix_tap_x;
  Counting counting;  ///< of the depth: channel, tap x, tap y; for `weights` position x, position y, image
  int slab_depth;     ///< for `weights`: positions of a slab
  int slabs;
  int slab_size;       ///< the products of a slab, then its sums of dy, up to a multiple of four
  T* dweight;          ///< for `weights` with more than one slab: what they add up to
  bool accumulate;     ///< to `dweight`, and to `dbias`: += instead of =
  T* dbias;            ///< for `weights`: the sums of dy; null: not wanted
  unsigned* arrivals;  ///< for `weights` with more than one slab: `counters(slabs)` for each tile
};

/// Slabs that one block adds up.
inline constexpr int slab_group = 16;

/// Counters of a tile: one for each group of slabs and one for the groups.
[[nodiscard]] MERISTEM_HD inline int counters(int slabs) { return (slabs - 1) / slab_group + 2; }

/// What one block computes.
template <class T>
struct Job {
  Gather gather;
  Counting counting;
  int first_row;
  int first_column;
  int rows;
  int begin;  ///< of the depth
  int end;
  int matrix_start;  ///< for `data`: where the weights of the class begin
  int map_y;         ///< for `data`: the first position of the class
  int map_x;
};

template <class T, class Tile, Direction direction>
[[nodiscard]] MERISTEM_HD inline Job<T> open_job(const Problem<T>& problem, int block, int slab) {
  Job<T> job{};
  job.gather = problem.gather;
  job.counting = problem.counting;
  Gather& g = job.gather;
  job.first_column = block % problem.column_tiles * Tile::columns;
  block /= problem.column_tiles;
  job.first_row = block % problem.row_tiles * Tile::rows;
  if constexpr (direction == Direction::data) {
    const int residue = block / problem.row_tiles;
    job.map_y = residue / problem.axis_x.classes;
    job.map_x = residue % problem.axis_x.classes;
    const DataClass y = data_class(problem.axis_y, job.map_y);
    const DataClass x = data_class(problem.axis_x, job.map_x);
    g.positions_y = y.positions;
    g.positions_x = x.positions;
    g.start_y = y.start;
    g.start_x = x.start;
    g.taps_y = y.taps;
    g.taps_x = x.taps;
    job.matrix_start = (y.first_tap * problem.axis_x.kernel + x.first_tap) * problem.columns;
    job.counting.set_middle_radix(x.taps > 0 ? x.taps : 1);
  }
  if constexpr (direction == Direction::weights) {
    job.rows = problem.patch;
    job.begin = slab * problem.slab_depth;
    const int positions = problem.images * g.positions_y * g.positions_x;
    job.end = positions - job.begin < problem.slab_depth ? positions : job.begin + problem.slab_depth;
  } else {
    job.rows = problem.images * g.positions_y * g.positions_x;
    job.end = g.taps_y * g.taps_x * g.channels;
  }
  return job;
}

/// The place that a row of the product stands for: a position, for `weights` a tap and channel.
template <class T, Direction direction>
[[nodiscard]] MERISTEM_HD inline Site site_of_row(const Problem<T>& problem, const Job<T>& job, int row) {
  const Gather& g = job.gather;
  if (row >= job.rows) return {0, outside, outside, -1};
  if constexpr (direction == Direction::weights) {
    const int tap = row / g.channels;
    return g.tap(tap / g.taps_x, tap % g.taps_x, row % g.channels);
  } else {
    const int line = row / g.positions_x;
    const int image = line / g.positions_y;
    const int j_y = line % g.positions_y;
    const int j_x = row % g.positions_x;
    Site site = g.position(image, j_y, j_x);
    site.target = row;
    if constexpr (direction == Direction::data) {
      const int y = job.map_y + j_y * problem.axis_y.stride;
      const int x = job.map_x + j_x * problem.axis_x.stride;
      site.target = (image * problem.axis_y.map + y) * problem.axis_x.map + x;
    }
    return site;
  }
}

}  // namespace meristem::kernels::implicit_gemm
