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

using detail::merge_counters;

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
  const std::int64_t column = job.first_column, cols = problem.columns;
  const std::int64_t width = cols - column < Tile::columns ? cols - column : Tile::columns;
  double* const mean = moments.partials;
  detail::merge_in_groups<detail::ChannelMoments<T>>(
      moments.store, detail::MergedRows{job.rows, Tile::rows, problem.row_tiles, cols}, detail::merge_group, 0,
      job.first_row / Tile::rows, column, width, mean, mean + problem.row_tiles * cols,
      moments.arrivals + column / Tile::columns * merge_counters(problem.row_tiles), sum_n, sum_a, sum_b);
}

}  // namespace meristem::kernels::implicit_gemm
