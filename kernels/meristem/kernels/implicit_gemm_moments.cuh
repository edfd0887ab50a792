// What batch normalisation asks of a convolution's output, its mean and variance channel by channel, from the tiles
// that the kernel of implicit_gemm.cuh has in registers: the output is not read again.
//
// A thread adds at most eight terms of y - y[first row of the tile] in T; the threads of a tile are added in double,
// tiles are merged in double by the last block of a column of tiles, 32 tiles first (channel_sums.cuh has the
// formulas). How rows are cut follows from the shapes alone, so equal inputs give equal bits.
#pragma once

#include <cstdint>

#include <meristem/core/arrival.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/kernels/channel_sums.cuh>
#include <meristem/kernels/implicit_gemm_places.cuh>
#include <meristem/kernels/implicit_gemm_tile.cuh>

namespace meristem::kernels::implicit_gemm {

/// Where the statistics of a forward product go.
template <class T>
struct Moments {
  double* partials;    ///< (2, tiles of rows, columns): means and sums of squared deviations; null: not wanted
  unsigned* arrivals;  ///< `merge_counters(tiles of rows)` for each column of tiles
  detail::StoreBatchStatistics<T> store;
};

/// Tiles that one block merges.
inline constexpr int merge_group = 32;

/// Counters of a column of tiles: one for each group of tiles and one for the groups.
[[nodiscard]] MERISTEM_HD inline int merge_counters(int row_tiles) { return (row_tiles - 1) / merge_group + 2; }

/// Tiles, or groups of them, as merge_channel_chunks takes them.
struct TileRows {
  std::int64_t rows;  ///< of all chunks
  std::int64_t chunk_rows;
  std::int64_t chunks;
  std::int64_t cols;  ///< from one chunk's results to the next
  MERISTEM_HD std::int64_t rows_of(std::int64_t chunk) const {
    const std::int64_t rest = rows - chunk * chunk_rows;
    return rest < chunk_rows ? rest : chunk_rows;
  }
};

/// Writes a group's results where those of its first tile were.
struct StoreGroup {
  double* mean;
  double* squares;
  MERISTEM_HD void operator()(std::int64_t, std::int64_t col, double, double a, double b) const {
    mean[col] = a;
    squares[col] = b;
  }
};

/// The sums of y - shift and its square over the rows of one thread, for its columns. `sums` is shared and holds two
/// numbers for each thread's columns; `shift` one for each column.
template <class T, class Tile>
MERISTEM_HD inline void sum_rows(const Problem<T>& problem, const Job<T>& job, const Site* sites, int thread,
                                 const T (&total)[Tile::each_rows][Tile::each_columns], const T* shift, T* sums) {
  constexpr int across = Tile::columns, down = Tile::threads / Tile::threads_across;
  const Micro<Tile> micro(thread);
  for (int j = 0; j < Tile::each_columns; ++j) {
    const int column = micro.column() + j;
    T a = T(0), b = T(0);
    for (int i = 0; i < Tile::each_rows; ++i) {
      if (sites[micro.row_quad(i / 4) * 4 + i % 4].target < 0) continue;
      const T d = biased(problem, job, column, total[i][j]) - shift[column];
      a += d;
      b += d * d;
    }
    sums[micro.down * across + column] = a;
    sums[(down + micro.down) * across + column] = b;
  }
}

/// The statistics of this block's columns of tiles, if it is the last of them. `sum_n`, `sum_a` and `sum_b` are shared
/// and hold ChannelCut::most_lanes numbers.
template <class T, class Tile>
__device__ inline void merge_tiles(const Problem<T>& problem, const Job<T>& job, const Moments<T>& moments,
                                   double* sum_n, double* sum_a, double* sum_b) {
  using Op = detail::ChannelMoments<T>;
  const int tile = job.first_row / Tile::rows, group = tile / merge_group;
  const int groups = merge_counters(problem.row_tiles) - 1, first = group * merge_group;
  const int members = problem.row_tiles - first < merge_group ? problem.row_tiles - first : merge_group;
  const int column = job.first_column;
  const int width = problem.columns - column < Tile::columns ? problem.columns - column : Tile::columns;
  unsigned* const arrivals = moments.arrivals + column / Tile::columns * (groups + 1);
  if (!last_to_arrive(arrivals + 1 + group, static_cast<unsigned>(members))) return;
  const std::int64_t cols = problem.columns;
  double* const mean = moments.partials;
  double* const squares = mean + problem.row_tiles * cols;
  if (groups == 1) {
    detail::merge_channel_chunks<Op>(moments.store, TileRows{job.rows, Tile::rows, members, cols}, 0, column, width,
                                     mean, squares, sum_n, sum_a, sum_b);
    return;
  }
  const std::int64_t at = first * cols, group_rows = merge_group * Tile::rows;
  const std::int64_t rest = job.rows - group * group_rows;
  detail::merge_channel_chunks<Op>(StoreGroup{mean + at, squares + at},
                                   TileRows{rest < group_rows ? rest : group_rows, Tile::rows, members, cols}, 0,
                                   column, width, mean + at, squares + at, sum_n, sum_a, sum_b);
  if (!last_to_arrive(arrivals, static_cast<unsigned>(groups))) return;
  detail::merge_channel_chunks<Op>(moments.store, TileRows{job.rows, group_rows, groups, merge_group * cols}, 0, column,
                                   width, mean, squares, sum_n, sum_a, sum_b);
}

}  // namespace meristem::kernels::implicit_gemm
