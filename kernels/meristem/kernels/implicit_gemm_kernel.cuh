// The kernels behind implicit_gemm.cuh: forward, and both gradients in one launch, as neither fills a GPU when it is
// small.
//
// The weights' gradient is cut into slabs of positions, whose products the last block of a tile adds up: sixteen slabs
// are one group, added in double by the group's last block and rounded to T, then the groups likewise. The gradient of
// the bias, the sum of dy, is taken along from what the blocks of the first row of tiles load, and is a part of a slab.
#pragma once

#include <cstddef>
#include <cstdint>

#include <meristem/core/arrival.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/kernels/channel_sums.cuh>
#include <meristem/kernels/implicit_gemm_moments.cuh>
#include <meristem/kernels/implicit_gemm_places.cuh>
#include <meristem/kernels/implicit_gemm_tile.cuh>

namespace meristem::kernels::implicit_gemm {

/// Dynamic shared memory that a kernel wants: on the CPU it holds the registers.
template <class T, class Tile, Direction direction>
inline constexpr std::size_t shared_bytes = MERISTEM_GPU ? 0
                                                         : sizeof(Registers<T, Tile, direction>) *
                                                               static_cast<std::size_t>(Tile::threads);

/// Quads of two stages of an operand that is `Width` wide.
template <class T, int Width>
inline constexpr int two_stages = 2 * Share<T, Width, 256>::stage;

/// Computes tile `block` of a product, of slab `slab`. On the GPU a block has at least Tile::threads threads. On the
/// CPU it may have any number: they share what that many threads would do, and the bits do not change. `left` and
/// `right` are shared and hold two stages, `sites` Tile::rows. `also(job, registers, parts)` may use the registers once
/// the sums are written.
template <class T, class Tile, Direction direction, class Also>
__device__ inline void compute_tile(const Problem<T>& problem, int block, int slab, Quad<T>* left, Quad<T>* right,
                                    Site* sites, const Also& also) {
  using Own = Registers<T, Tile, direction>;
  using Columns = typename Own::ColumnShare;
  constexpr int left_stage = Own::RowShare::stage;
  constexpr int right_stage = Columns::stage;
  constexpr int depth = stage_depth<T>;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
#if MERISTEM_GPU
  const int parts = thread < Tile::threads ? 1 : 0;
  Own own[1];
#else
  const int parts = thread < Tile::threads ? (Tile::threads - thread - 1) / threads + 1 : 0;
  // A thread of the executor may stand for many, and its stack is small.
  MERISTEM_DYNAMIC_SHARED(Own, own);
#endif
  const Job<T> job = open_job<T, Tile, direction>(problem, block, slab);
  if (job.first_row >= job.rows) return;
  for (int row = thread; row < Tile::rows; row += threads) {
    sites[row] = site_of_row<T, direction>(problem, job, job.first_row + row);
  }
  __syncthreads();
  for (int part = 0; part < parts; ++part) {
    const int t = thread + part * threads;
    Own& mine = own[MERISTEM_GPU ? 0 : t];
    start<T, Tile, direction>(problem, job, t, mine);
    if (job.begin >= job.end) continue;
    fetch<T, Tile, direction>(problem, job, sites, job.begin, t, mine);
    put<T, Tile, direction>(problem, t, mine, left, right);
  }
  int stage = 0;
  for (int k = job.begin; k < job.end; k += depth) {
    __syncthreads();
    const bool more = job.end - k > depth;
    for (int part = 0; part < parts; ++part) {
      const int t = thread + part * threads;
      Own& mine = own[MERISTEM_GPU ? 0 : t];
      if (more) fetch<T, Tile, direction>(problem, job, sites, k + depth, t, mine);
      multiply<T, Tile, direction>(left + stage * left_stage, right + stage * right_stage, t, mine);
      if (more)
        put<T, Tile, direction>(problem, t, mine, left + (1 - stage) * left_stage, right + (1 - stage) * right_stage);
    }
    stage = 1 - stage;
  }
  for (int part = 0; part < parts; ++part) {
    const int t = thread + part * threads;
    finish<T, Tile, direction>(problem, job, sites, slab, t, own[MERISTEM_GPU ? 0 : t]);
  }
  also(job, own, parts);
}

/// Nothing else.
struct NothingElse {
  template <class J, class R>
  __device__ void operator()(const J&, const R*, int) const {}
};

/// The gradient of the bias, from what the blocks of the first row of tiles have loaded of dy.
template <class T, class Tile>
struct SumColumns {
  const Problem<T>& problem;
  int slab;
  Quad<T>* stage;  // shared

  __device__ void operator()(const Job<T>& job, const Registers<T, Tile, Direction::weights>* own, int parts) const {
    using Columns = Share<T, Tile::columns, Tile::threads>;
    if (problem.dbias == nullptr || job.first_row != 0) return;
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    __syncthreads();
    for (int part = 0; part < parts; ++part) {
      const int t = thread + part * threads;
      Columns::put_across(stage, own[MERISTEM_GPU ? 0 : t].column_sum, t);
    }
    __syncthreads();
    T* const to =
        problem.slabs == 1
            ? problem.dbias
            : problem.out + (static_cast<std::int64_t>(slab) * problem.slab_size + problem.columns * problem.patch);
    for (int c = thread; c < Tile::columns && job.first_column + c < problem.columns; c += threads) {
      T sum = T(0);
      for (int k = 0; k < Columns::depth; ++k) sum += stage[Columns::place(k, c / 4)].at[c % 4];
      store<1>(&sum, to + (job.first_column + c), 1, false, problem.add);
    }
  }
};

/// The statistics of the output, if they are wanted.
template <class T, class Tile>
struct TakeMoments {
  const Problem<T>& problem;
  const Moments<T>& moments;
  const Site* sites;
  T* sums;         // shared, two for each thread's columns
  T* shift;        // shared, Tile::columns
  double* merged;  // shared, 3 · ChannelCut::most_lanes

  __device__ void operator()(const Job<T>& job, const Registers<T, Tile, Direction::forward>* own, int parts) const {
    if (moments.partials == nullptr) return;
    constexpr int down = Tile::threads / Tile::threads_across, lanes = detail::ChannelCut::most_lanes;
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    __syncthreads();
    for (int part = 0; part < parts; ++part) {
      const int t = thread + part * threads;
      const Micro<Tile> micro(t);
      if (micro.down != 0) continue;
      for (int j = 0; j < Tile::each_columns; ++j) {
        const int column = micro.column() + j;
        shift[column] = biased(problem, job, column, own[MERISTEM_GPU ? 0 : t].total[0][j]);
      }
    }
    __syncthreads();
    for (int part = 0; part < parts; ++part) {
      const int t = thread + part * threads;
      sum_rows<T, Tile>(problem, job, sites, t, own[MERISTEM_GPU ? 0 : t].total, shift, sums);
    }
    __syncthreads();
    const int rest = job.rows - job.first_row;
    const double rows = rest < Tile::rows ? rest : Tile::rows;
    const std::int64_t at = std::int64_t{job.first_row / Tile::rows} * problem.columns + job.first_column;
    const std::int64_t squares = std::int64_t{problem.row_tiles} * problem.columns;
    for (int c = thread; c < Tile::columns && job.first_column + c < problem.columns; c += threads) {
      double a = 0.0, b = 0.0;
      for (int k = 0; k < down; ++k) {
        a += static_cast<double>(sums[k * Tile::columns + c]);
        b += static_cast<double>(sums[(down + k) * Tile::columns + c]);
      }
      detail::ChannelMoments<T>::close(rows, static_cast<double>(shift[c]), a, b);
      moments.partials[at + c] = a;
      moments.partials[squares + at + c] = b;
    }
    merge_tiles<T, Tile>(problem, job, moments, merged, merged + lanes, merged + 2 * lanes);
  }
};

/// to[j] = or += the sum, in double, of `count` numbers that lie `step` apart, for Width neighbours j.
template <int Width, class T>
MERISTEM_HD inline void sum_slabs(const T* from, std::int64_t step, int count, T* to, bool add) {
  // Eight loads at a time are under way together; they are added one after the other.
  constexpr int together = 8;
  double total[Width];
  for (int j = 0; j < Width; ++j) total[j] = 0.0;
  for (int first = 0; first < count; first += together) {
    T part[together][Width];
    for (int i = 0; i < together; ++i) {
      const T* const at = from + (first + i < count ? first + i : first) * step;
      if constexpr (Width == 4) {
        load_quad(at, part[i]);
      } else {
        part[i][0] = at[0];
      }
    }
    for (int i = 0; i < together; ++i) {
      if (first + i >= count) break;
      for (int j = 0; j < Width; ++j) total[j] += static_cast<double>(part[i][j]);
    }
  }
  for (int j = 0; j < Width; ++j) to[j] = static_cast<T>(add ? static_cast<double>(to[j]) + total[j] : total[j]);
}

/// Adds up `count` slabs, `step` numbers apart, over this block's tile: to `dweight` and `dbias`, = or +=.
template <class T, class Tile>
__device__ inline void add_tile(const Problem<T>& problem, const Job<T>& job, const T* slabs, std::int64_t step,
                                int count, T* dweight, T* dbias, bool add) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int rows = job.rows - job.first_row < Tile::rows ? job.rows - job.first_row : Tile::rows;
  const int columns =
      problem.columns - job.first_column < Tile::columns ? problem.columns - job.first_column : Tile::columns;
  const int start = job.first_column * problem.patch + job.first_row;
  if (problem.out_quads) {
    const int quads = rows / 4;
    for (int item = thread; item < quads * columns; item += threads) {
      const int at = start + item / quads * problem.patch + item % quads * 4;
      sum_slabs<4>(slabs + at, step, count, dweight + at, add);
    }
  } else {
    for (int item = thread; item < rows * columns; item += threads) {
      const int at = start + item / rows * problem.patch + item % rows;
      sum_slabs<1>(slabs + at, step, count, dweight + at, add);
    }
  }
  if (dbias == nullptr || job.first_row != 0) return;
  const int sums = problem.columns * problem.patch;
  for (int at = job.first_column + thread; at < job.first_column + columns; at += threads) {
    sum_slabs<1>(slabs + (sums + at), step, count, dbias + at, add);
  }
}

/// What the block of slab `slab` has to do for the sum of all slabs of its tile.
template <class T, class Tile>
__device__ inline void join_slabs(const Problem<T>& problem, int block, int slab) {
  const Job<T> job = open_job<T, Tile, Direction::weights>(problem, block, slab);
  const int group = slab / slab_group, groups = counters(problem.slabs) - 1;
  const int first = group * slab_group;
  const int members = problem.slabs - first < slab_group ? problem.slabs - first : slab_group;
  unsigned* const arrivals = problem.arrivals + block * (groups + 1);
  if (!last_to_arrive(arrivals + 1 + group, static_cast<unsigned>(members))) return;
  const std::int64_t size = problem.slab_size;
  if (groups > 1) {
    T* const sum = problem.out + first * size;
    T* const bias_sum = problem.dbias != nullptr ? sum + problem.columns * problem.patch : nullptr;
    add_tile<T, Tile>(problem, job, sum, size, members, sum, bias_sum, false);
    if (!last_to_arrive(arrivals, static_cast<unsigned>(groups))) return;
  }
  add_tile<T, Tile>(problem, job, problem.out, groups > 1 ? slab_group * size : size, groups > 1 ? groups : members,
                    problem.dweight, problem.dbias, problem.accumulate);
}

/// Grid: tiles.
template <class T, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::resident(sizeof(T)))
    implicit_gemm_forward_kernel(Problem<T> problem, Moments<T> moments) {
  MERISTEM_SHARED(Quad<T>, left, [two_stages<T, Tile::rows>]);
  MERISTEM_SHARED(Quad<T>, right, [two_stages<T, Tile::columns>]);
  MERISTEM_SHARED(Site, sites, [Tile::rows]);
  MERISTEM_SHARED(double, merged, [3 * detail::ChannelCut::most_lanes]);
  static_assert(two_stages<T, Tile::rows> * 4 >= 2 * Tile::threads * Tile::each_columns);
  const TakeMoments<T, Tile> also{problem, moments, &sites[0], left[0].at, right[0].at, &merged[0]};
  compute_tile<T, Tile, Direction::forward>(problem, static_cast<int>(blockIdx.x), 0, &left[0], &right[0], &sites[0],
                                            also);
}

/// One block's share of the weights' gradient.
template <class T, class Tile>
__device__ inline void weights_tile(const Problem<T>& problem, int block, Quad<T>* left, Quad<T>* right, Site* sites) {
  const int tiles = problem.row_tiles * problem.column_tiles;
  compute_tile<T, Tile, Direction::weights>(problem, block % tiles, block / tiles, left, right, sites,
                                            SumColumns<T, Tile>{problem, block / tiles, right});
  if (problem.slabs > 1) join_slabs<T, Tile>(problem, block % tiles, block / tiles);
}

/// Grid: `weight_blocks` blocks for the weights' gradient, tiles of all slabs, then those for the data's gradient,
/// tiles of all residue classes. Blocks have the threads of the larger of the two tiles.
template <class T>
__global__ void __launch_bounds__(LargeTile::threads, LargeTile::resident(sizeof(T)))
    implicit_gemm_backward_kernel(Problem<T> weights, int weight_blocks, Problem<T> data) {
  MERISTEM_SHARED(Quad<T>, left, [two_stages<T, LargeTile::rows>]);
  MERISTEM_SHARED(Quad<T>, right, [two_stages<T, LargeTile::columns>]);
  MERISTEM_SHARED(Site, sites, [LargeTile::rows]);
  int block = static_cast<int>(blockIdx.x);
  if (block < weight_blocks) {
    if (weights.tile == TileSize::narrow) {
      weights_tile<T, NarrowTile>(weights, block, &left[0], &right[0], &sites[0]);
    } else if (weights.tile == TileSize::medium) {
      weights_tile<T, MediumTile>(weights, block, &left[0], &right[0], &sites[0]);
    } else {
      weights_tile<T, LargeTile>(weights, block, &left[0], &right[0], &sites[0]);
    }
    return;
  }
  block -= weight_blocks;
  if (data.tile == TileSize::narrow) {
    compute_tile<T, NarrowTile, Direction::data>(data, block, 0, &left[0], &right[0], &sites[0], NothingElse{});
  } else if (data.tile == TileSize::medium) {
    compute_tile<T, MediumTile, Direction::data>(data, block, 0, &left[0], &right[0], &sites[0], NothingElse{});
  } else {
    compute_tile<T, LargeTile, Direction::data>(data, block, 0, &left[0], &right[0], &sites[0], NothingElse{});
  }
}

}  // namespace meristem::kernels::implicit_gemm
