// Products of two maps shifted against each other, all offsets from one tile in shared memory: the channel × channel
// matrices that convolution statistics are made of.
//
//   out[o, c, q] += Σ_i Σ_{(y, x) in region} wy[y] · wx[x] · a[i, y, x, c] · b[i, y + offset[o].y, x + offset[o].x, q]
//
//   a: n × Ha × Wa × A,  b: n × Hb × Wb × B, zero outside its map,  out: offsets × A × B,  wy: Ha, wx: Wa (or ones)
//
// One launch computes many such products of the same maps, each over regions and offsets of its own.
//
// `offset_products_kernel`: one block takes a tile of Width × Width channels, a job, which is up to three runs of
// neighbouring offsets over one region, and one slab of the job's work. Step by step it copies a tile of a and the same
// tile of b, larger by the offsets' spread, to one half of its shared memory while it computes from the other half. 128
// threads serve a run; each holds the sums of 4 × 4 channel pairs for every offset of the run in registers and walks
// along the rows: what one offset has read of b is what the next one needs, so a position costs two loads of four
// channels for 4 · 4 · 5 multiply-adds. The sums of a slab overwrite (=) their place in a scratch array;
// `AddShiftedSlabs` adds the slabs of all regions to `out` (+=) in their order, in double. The number of slabs follows
// from the shapes alone and nothing is atomic: equal inputs give equal bits, for every block size.
//
// Order of a sum: inside a slab of R positions in T, over slabs and regions in double. With u = 2^-24 for float32
// |error| <= (R + 12)·u·Σ|wy wx a b| + u·|out|.
//
// Arithmetic intensity. In float32 with Width = 32 and O offsets a position costs 2 · 32 · 32 · O operations. The 13
// offsets for the covariance of a 3 × 3 kernel spread over 2 × 4 positions; the tiles on 32 × 32 maps are 8 × 11 of a
// and 10 × 15 of b, so a position costs 128 bytes of a and 150 / 88 · 128 of b: 77 operations a byte, 0.013 bytes an
// operation, most of them from the L2 cache, since blocks that run side by side read the same positions. An H100 needs
// 20 a byte of device memory at its float32 peak: arithmetic is the bound. From shared memory a thread makes two loads
// of 16 bytes for 80 multiply-adds. im2col and one product would write and read 9 to 25 times the map.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/offset_plan.hpp>
#include <meristem/kernels/region.hpp>
#include <meristem/kernels/require.hpp>
#if defined(__CUDACC__)
#include <cuda_pipeline_primitives.h>
#define MERISTEM_UNROLL _Pragma("unroll")
#else
#define MERISTEM_UNROLL
#endif

namespace meristem::kernels {

namespace offset_tiles {

/// Threads of a block on the GPU for each of its runs.
inline constexpr int run_threads = 128;
/// Offsets of a run at most: as many as keep a thread's sums in registers.
template <class T>
inline constexpr int longest_run = sizeof(T) == 4 ? 5 : 3;
/// Runs whose products one block computes from the same tiles.
template <class T>
inline constexpr int most_runs = sizeof(T) == 4 ? 3 : 2;
/// Shared memory for the tiles of one step; there are two such halves, together what every GPU grants.
inline constexpr int half_bytes = 32 << 10;

/// Four neighbouring channels, moved by loads of 16 bytes.
template <class T>
struct alignas(16) Channels4 {
  T at[4];
};

/// Most channels of a map, and most positions of one sample's: coordinates are ints in the kernel.
inline constexpr std::int64_t most_positions = std::int64_t{1} << 30;

/// One map as the kernel sees it: samples × rows × columns × channels, contiguous.
template <class T>
struct Map {
  const T* data;
  int rows;
  int columns;
  int channels;
  bool aligned;  ///< every position starts at a multiple of 16 bytes
};

/// The part of each sample's map that lies in rows [top, bottom) and columns [left, right).
struct Box {
  int top;
  int bottom;
  int left;
  int right;
};

/// What the blocks of one group of runs do, over one region.
struct Job {
  Box region;
  int tile_samples;  ///< a's tile
  int tile_rows;
  int tile_columns;
  int wide_rows;  ///< b's tile
  int wide_columns;
  int y;  ///< least y and x of the offsets
  int x;
  int run_count;
  Run runs[most_runs<float>];
  int products;
  std::int64_t bands;     ///< tiles from the region's top to its bottom
  std::int64_t segments;  ///< tiles from its left to its right
  std::int64_t steps;
  std::int64_t slabs;
  std::int64_t place;  ///< of its sums (slabs, products, padded_a, padded_b), in matrices of padded_a × padded_b
};

/// One launch.
template <class T>
struct Problem {
  Map<T> a;
  Map<T> b;
  const T* weight_y;  ///< null: ones
  const T* weight_x;
  std::int64_t samples;
  const Job* jobs;
  int job_count;
  int b_tiles;  ///< tiles of channels
  std::int64_t padded_a;
  std::int64_t padded_b;
  T* sums;
};

/// Where a step's tile lies: its first sample, row and column.
struct Corner {
  std::int64_t sample;
  int y;
  int x;
};

__device__ __forceinline__ Corner corner_of_step(const Job& job, std::int64_t step) {
  const std::int64_t band = step / job.segments;
  return {band / job.bands * job.tile_samples, job.region.top + static_cast<int>(band % job.bands) * job.tile_rows,
          job.region.left + static_cast<int>(step % job.segments) * job.tile_columns};
}

__device__ __forceinline__ void move_on(const Job& job, Corner& corner) {
  corner.x += job.tile_columns;
  if (corner.x < job.region.right) return;
  corner.x = job.region.left;
  corner.y += job.tile_rows;
  if (corner.y < job.region.bottom) return;
  corner.y = job.region.top;
  corner.sample += job.tile_samples;
}

/// numerator / denominator for small numbers: both at most 512, where the rounded reciprocal is exact enough.
struct SmallDivision {
  unsigned reciprocal;

  __device__ explicit SmallDivision(int denominator)
      : reciprocal(((1u << 20) + static_cast<unsigned>(denominator) - 1) / static_cast<unsigned>(denominator)) {}
  __device__ int quotient(int numerator) const {
    return static_cast<int>(static_cast<unsigned>(numerator) * reciprocal >> 20);
  }
};

/// Copies to shared memory that may still be under way when this returns; `wait_for_copies` waits for the thread's own.
template <int Bytes, class T>
__device__ __forceinline__ void start_copy(T* to, const T* from) {
#if defined(__CUDACC__)
  __pipeline_memcpy_async(to, from, Bytes);
#else
  for (int i = 0; i < Bytes / static_cast<int>(sizeof(T)); ++i) to[i] = from[i];
#endif
}
__device__ __forceinline__ void wait_for_copies() {
#if defined(__CUDACC__)
  __pipeline_commit();
  __pipeline_wait_prior(0);
#endif
}

/// Four channels at `from`, of which `left` are the map's; zeros for those beyond.
template <class T>
__device__ __forceinline__ void start_copy4(Channels4<T>& to, const T* from, int left, bool aligned) {
  constexpr int each = 16 / static_cast<int>(sizeof(T));
  if (aligned && left >= 4) {
    MERISTEM_UNROLL
    for (int j = 0; j < 4; j += each) start_copy<16>(&to.at[j], from + j);
    return;
  }
  MERISTEM_UNROLL
  for (int j = 0; j < 4; ++j) {
    if (j < left) {
      start_copy<static_cast<int>(sizeof(T))>(&to.at[j], from + j);
    } else {
      to.at[j] = T(0);
    }
  }
}

/// How many of a tile's `most` samples there are, when `left` are left.
__device__ __forceinline__ int samples_in_tile(std::int64_t left, int most) {
  return left < most ? static_cast<int>(left) : most;
}

/// Starts this thread's share of the copies of one map's tile: `samples` × `rows` × `columns` positions from `corner`
/// on, those outside the box as zeros, and of each the Quads · 4 channels from `channel` on.
template <int Quads, class T>
__device__ __forceinline__ void start_tile(const Map<T>& map, std::int64_t all_samples, const Box& box,
                                           const Corner& corner, int samples, int rows, int columns, int channel,
                                           Channels4<T>* tile) {
  const SmallDivision by_columns(columns);
  const SmallDivision by_rows(rows);
  const int sample_end = samples_in_tile(all_samples - corner.sample, samples);
  const std::int64_t first = corner.sample * map.rows * map.columns;
  const int size = samples * rows * columns * Quads;
  for (int e = static_cast<int>(threadIdx.x); e < size; e += static_cast<int>(blockDim.x)) {
    const int position = static_cast<int>(static_cast<unsigned>(e) / Quads);
    const int line = by_columns.quotient(position);
    const int sample = by_rows.quotient(line);
    const int x = corner.x + position - line * columns;
    const int y = corner.y + line - sample * rows;
    if (sample < sample_end && y >= box.top && y < box.bottom && x >= box.left && x < box.right) {
      const int c = channel + static_cast<int>(static_cast<unsigned>(e) % Quads) * 4;
      const std::int64_t at = first + std::int64_t{sample} * (map.rows * map.columns) + (y * map.columns + x);
      start_copy4(tile[e], map.data + (at * map.channels + c), map.channels - c, map.aligned);
    } else {
      tile[e] = Channels4<T>{};
    }
  }
}

/// Multiplies this thread's share of a's tile, which it has copied itself, by the weights.
template <int Quads, class T>
__device__ __forceinline__ void weigh_tile(const Problem<T>& problem, const Job& job, const Corner& corner,
                                           Channels4<T>* tile) {
  const SmallDivision by_columns(job.tile_columns);
  const SmallDivision by_rows(job.tile_rows);
  const int size = job.tile_samples * job.tile_rows * job.tile_columns * Quads;
  for (int e = static_cast<int>(threadIdx.x); e < size; e += static_cast<int>(blockDim.x)) {
    const int position = e / Quads;
    const int line = by_columns.quotient(position);
    const int y = corner.y + line - by_rows.quotient(line) * job.tile_rows;
    const int x = corner.x + position - line * job.tile_columns;
    if (y >= job.region.bottom || x >= job.region.right) continue;
    const T weight = (problem.weight_y == nullptr ? T(1) : problem.weight_y[y]) *
                     (problem.weight_x == nullptr ? T(1) : problem.weight_x[x]);
    for (int j = 0; j < 4; ++j) tile[e].at[j] *= weight;
  }
}

/// total[j] += a(x) b(x + j)ᵀ for 0 <= x < columns and 0 <= j < Length; a and b step by Quads.
template <int Length, int Quads, class T, int Longest>
__device__ __forceinline__ void multiply_row(const Channels4<T>* a, const Channels4<T>* b, int columns,
                                             T (&total)[Longest][4][4]) {
  // The value of b at x + j lies at (x + j) % Length: with steps unrolled by Length that is known at compile time.
  Channels4<T> window[Length];
  const auto multiply_position = [&](int s) {
    window[(s + Length - 1) % Length] = b[s * Quads];
    const Channels4<T> left = a[s * Quads];
    MERISTEM_UNROLL
    for (int j = 0; j < Length; ++j) {
      const Channels4<T> right = window[(s + j) % Length];
      MERISTEM_UNROLL
      for (int c = 0; c < 4; ++c) {
        MERISTEM_UNROLL
        for (int q = 0; q < 4; ++q) total[j][c][q] += left.at[c] * right.at[q];
      }
    }
  };
  MERISTEM_UNROLL
  for (int j = 0; j + 1 < Length; ++j) window[j] = b[j * Quads];
  b += (Length - 1) * Quads;
  int x = 0;
  for (; x + Length <= columns; x += Length) {
    MERISTEM_UNROLL
    for (int s = 0; s < Length; ++s) multiply_position(s);
    a += Length * Quads;
    b += Length * Quads;
  }
  MERISTEM_UNROLL
  for (int s = 0; s + 1 < Length; ++s) {
    if (x + s < columns) multiply_position(s);
  }
}

/// Adds the rows of one step that belong to `phase` to the sums of one thread.
template <int Length, int Quads, class T, int Longest>
__device__ __forceinline__ void multiply_tile(std::int64_t all_samples, const Job& job, const Corner& corner, int phase,
                                              int phases, const Channels4<T>* a_tile, const Channels4<T>* b_tile,
                                              T (&total)[Longest][4][4]) {
  const int samples = samples_in_tile(all_samples - corner.sample, job.tile_samples);
  const int below = job.region.bottom - corner.y;
  const int rows = below < job.tile_rows ? below : job.tile_rows;
  const int beside = job.region.right - corner.x;
  const int columns = beside < job.tile_columns ? beside : job.tile_columns;
  int sample = 0;
  for (int y = phase;; y += phases) {
    while (y >= rows && sample < samples) {
      y -= rows;
      ++sample;
    }
    if (sample >= samples) break;
    multiply_row<Length, Quads>(a_tile + (sample * job.tile_rows + y) * job.tile_columns * Quads,
                                b_tile + (sample * job.wide_rows + y) * job.wide_columns * Quads, columns, total);
  }
}

/// Grid: (jobs · tiles of channels, slabs of the longest job). Any block size gives the same bits.
template <class T, int Width>
__global__ void __launch_bounds__(most_runs<T>* run_threads) offset_products_kernel(Problem<T> problem) {
  constexpr int quads = Width / 4;
  constexpr int team = quads * quads;
  constexpr int phases = run_threads / team;
  constexpr int longest = longest_run<T>;
  MERISTEM_DYNAMIC_SHARED(Channels4<T>, shared);

  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int tile = static_cast<int>(blockIdx.x) / problem.job_count;
  const Job& job = problem.jobs[static_cast<int>(blockIdx.x) % problem.job_count];
  if (blockIdx.y >= job.slabs) return;
  const int a_channel = tile / problem.b_tiles * Width;
  const int b_channel = tile % problem.b_tiles * Width;
  const std::int64_t slab = blockIdx.y;
  const std::int64_t first_step = slab * job.steps / job.slabs;
  const std::int64_t last_step = (slab + 1) * job.steps / job.slabs;
  const int a_size = job.tile_samples * job.tile_rows * job.tile_columns * quads;
  const int half = a_size + job.tile_samples * job.wide_rows * job.wide_columns * quads;
  const bool weighted = problem.weight_y != nullptr || problem.weight_x != nullptr;

  const auto start_step = [&](const Corner& corner, Channels4<T>* to) {
    start_tile<quads>(problem.a, problem.samples, job.region, corner, job.tile_samples, job.tile_rows, job.tile_columns,
                      a_channel, to);
    start_tile<quads>(problem.b, problem.samples, {0, problem.b.rows, 0, problem.b.columns},
                      {corner.sample, corner.y + job.y, corner.x + job.x}, job.tile_samples, job.wide_rows,
                      job.wide_columns, b_channel, to + a_size);
  };

  // With fewer threads than the runs need the slab is read several times; the GPU's block makes one pass.
  const int places = job.run_count * run_threads;
  for (int pass = 0; pass < places; pass += threads) {
    const int place = pass + thread;
    const bool idle = place >= places;
    const Run run = job.runs[idle ? 0 : place / run_threads];
    const int phase = place % run_threads / team;
    const int a_quad = place % team / quads;
    const int b_quad = place % quads;
    const int b_start = ((run.y - job.y) * job.wide_columns + run.x - job.x) * quads;
    T total[longest][4][4] = {};

    Corner next = corner_of_step(job, first_step);
    start_step(next, shared);
    for (std::int64_t step = first_step; step < last_step; ++step) {
      const Corner corner = next;
      Channels4<T>* const a_tile = shared + (step - first_step) % 2 * half;
      Channels4<T>* const other = shared + (step - first_step + 1) % 2 * half;
      wait_for_copies();
      if (weighted) weigh_tile<quads>(problem, job, corner, a_tile);
      __syncthreads();
      if (step + 1 < last_step) {
        move_on(job, next);
        start_step(next, other);
      }
      if (idle) continue;
      const Channels4<T>* const a = a_tile + a_quad;
      const Channels4<T>* const b = a_tile + a_size + b_start + b_quad;
      switch (run.length) {
        case 1:
          multiply_tile<1, quads>(problem.samples, job, corner, phase, phases, a, b, total);
          break;
        case 2:
          multiply_tile<2, quads>(problem.samples, job, corner, phase, phases, a, b, total);
          break;
        case 3:
          multiply_tile<3, quads>(problem.samples, job, corner, phase, phases, a, b, total);
          break;
        case 4:
          if constexpr (longest > 3) multiply_tile<4, quads>(problem.samples, job, corner, phase, phases, a, b, total);
          break;
        default:
          if constexpr (longest > 4) multiply_tile<5, quads>(problem.samples, job, corner, phase, phases, a, b, total);
          break;
      }
    }

    // One phase after the other, so that their sum has one order.
    T* const out =
        problem.sums +
        ((job.place + slab * job.products + run.first) * problem.padded_a + a_channel + a_quad * 4) * problem.padded_b +
        b_channel + b_quad * 4;
    for (int p = 0; p < phases; ++p) {
      if (p == phase && !idle) {
        MERISTEM_UNROLL
        for (int j = 0; j < longest; ++j) {
          if (j >= run.length) break;
          MERISTEM_UNROLL
          for (int c = 0; c < 4; ++c) {
            auto& cell = *reinterpret_cast<Channels4<T>*>(out + (j * problem.padded_a + c) * problem.padded_b);
            Channels4<T> sum = p == 0 ? Channels4<T>{} : cell;
            MERISTEM_UNROLL
            for (int q = 0; q < 4; ++q) sum.at[q] += total[j][c][q];
            cell = sum;
          }
        }
      }
      // Also keeps the next pass from overwriting tiles that others still read.
      __syncthreads();
    }
  }
}

/// Where sums go: data[o · offset_stride + (c - first) · channel_stride + q] for channels first <= c < first + channels
/// of a.
template <class T>
struct Output {
  T* data;
  std::int64_t offset_stride;
  std::int64_t channel_stride;
  std::int64_t first;
  std::int64_t channels;
};

/// The slabs of one product of one job, in matrices of the scratch array.
struct Source {
  std::int64_t place;
  std::int64_t stride;
  std::int64_t slabs;
};

/// Where the sums of one offset over all its regions go: sources [first, end).
template <class T>
struct Destination {
  Output<T> out;  ///< its offset_stride does not count
  std::int64_t first;
  std::int64_t end;
};

/// out(c, q) += the sum of all slabs, for each destination.
template <class T>
struct AddShiftedSlabs {
  const T* sums;
  const Source* sources;
  const Destination<T>* destinations;
  std::int64_t padded_a;
  std::int64_t padded_b;

  MERISTEM_HD void operator()(std::int64_t o, std::int64_t c, std::int64_t q) const {
    const Destination<T>& to = destinations[o];
    if (c >= to.out.channels) return;
    double total = 0.0;
    for (std::int64_t s = to.first; s < to.end; ++s) {
      const Source& from = sources[s];
      const T* const element = sums + (from.place * padded_a + to.out.first + c) * padded_b + q;
      for (std::int64_t slab = 0; slab < from.slabs; ++slab) {
        total += static_cast<double>(element[slab * from.stride * padded_a * padded_b]);
      }
    }
    T& element = to.out.data[c * to.out.channel_stride + q];
    element = static_cast<T>(static_cast<double>(element) + total);
  }
};

template <class T>
[[nodiscard]] Map<T> as_map(View<const T> view) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(view.data_handle()) % 16 == 0 &&
                       view.extent(3) * static_cast<std::int64_t>(sizeof(T)) % 16 == 0;
  return {view.data_handle(), static_cast<int>(view.extent(1)), static_cast<int>(view.extent(2)),
          static_cast<int>(view.extent(3)), aligned};
}

/// Products over some regions, all of which are added to the same place.
template <class T>
struct Request {
  std::vector<Region> regions;
  std::vector<Extent2> offsets;
  Output<T> out;
};

/// The table of a launch.
template <class T>
struct Work {
  std::vector<Job> jobs;
  std::vector<Source> sources;
  std::vector<Destination<T>> destinations;
  std::int64_t steps = 0;      ///< of all jobs
  std::int64_t positions = 0;  ///< of the largest pair of tiles
  int runs = 0;                ///< of the job with most of them
};

/// A job for each region and group of offsets, without slabs yet; a source's `stride` is the job it belongs to, its
/// `place` that in the job.
template <class T, int Width>
[[nodiscard]] Work<T> divide(View<const T> a, View<const T> b, std::span<const Request<T>> requests) {
  constexpr std::int64_t capacity = half_bytes / (Width * static_cast<int>(sizeof(T)));
  constexpr std::int64_t phases = run_threads / (Width / 4 * Width / 4);
  const auto ceil_div = [](std::int64_t n, std::int64_t d) { return (n + d - 1) / d; };
  const std::int64_t samples = a.extent(0);
  Work<T> work;
  for (const Request<T>& request : requests) {
    std::vector<std::vector<Source>> found(request.offsets.size());
    for (const Region& region : request.regions) {
      const OffsetPlan plan =
          plan_offsets(request.offsets, region, {b.extent(1), b.extent(2)}, longest_run<T>, most_runs<T>);
      const Tile tile = choose_tile(samples, region.extent(), plan.spread, capacity, phases);
      std::vector<Source> of_product;
      for (const Group& group : plan.groups) {
        Job job{};
        job.region = {static_cast<int>(region.begin.y), static_cast<int>(region.end.y),
                      static_cast<int>(region.begin.x), static_cast<int>(region.end.x)};
        job.tile_samples = static_cast<int>(tile.samples);
        job.tile_rows = static_cast<int>(tile.rows);
        job.tile_columns = static_cast<int>(tile.columns);
        job.wide_rows = static_cast<int>(tile.rows + plan.spread.y);
        job.wide_columns = static_cast<int>(tile.columns + plan.spread.x);
        job.y = group.y;
        job.x = group.x;
        job.run_count = group.count;
        for (int r = 0; r < group.count; ++r) {
          Run& run = job.runs[r] = plan.runs[static_cast<std::size_t>(group.first + r)];
          run.first = job.products;
          job.products += run.length;
        }
        job.bands = ceil_div(region.extent().y, tile.rows);
        job.segments = ceil_div(region.extent().x, tile.columns);
        job.steps = ceil_div(samples, tile.samples) * job.bands * job.segments;
        for (int product = 0; product < job.products; ++product)
          of_product.push_back({product, std::ssize(work.jobs), 0});
        work.steps += job.steps;
        work.positions = std::max(
            work.positions, tile.samples * (tile.rows * tile.columns + std::int64_t{job.wide_rows} * job.wide_columns));
        work.runs = std::max(work.runs, job.run_count);
        work.jobs.push_back(job);
      }
      for (std::size_t o = 0; o < found.size(); ++o) {
        if (plan.place[o] >= 0) found[o].push_back(of_product[static_cast<std::size_t>(plan.place[o])]);
      }
    }
    for (std::size_t o = 0; o < found.size(); ++o) {
      if (found[o].empty()) continue;
      Output<T> out = request.out;
      out.data += static_cast<std::int64_t>(o) * out.offset_stride;
      const std::int64_t first = std::ssize(work.sources);
      work.sources.insert(work.sources.end(), found[o].begin(), found[o].end());
      work.destinations.push_back({out, first, std::ssize(work.sources)});
    }
  }
  return work;
}

template <class T, int Width>
void accumulate(Context& ctx, View<const T> a, View<const T> b, std::span<const Request<T>> requests, const T* weight_y,
                const T* weight_x) {
  Work<T> work = divide<T, Width>(a, b, requests);
  if (work.jobs.empty()) return;
  const auto ceil_div = [](std::int64_t n, std::int64_t d) { return (n + d - 1) / d; };
  const std::int64_t a_tiles = ceil_div(a.extent(3), Width), b_tiles = ceil_div(b.extent(3), Width);

  // Four blocks for every multiprocessor of a large GPU; the last addition is serial over the slabs.
  constexpr std::int64_t target_blocks = 528;
  constexpr std::int64_t most_slabs = 132;
  constexpr std::int64_t least_slab_steps = 4;
  const std::int64_t slab_steps = std::max(least_slab_steps, ceil_div(work.steps * a_tiles * b_tiles, target_blocks));
  std::int64_t matrices = 0, slabs = 0;
  for (Job& job : work.jobs) {
    job.slabs = std::min(most_slabs, ceil_div(job.steps, slab_steps));
    job.place = matrices;
    matrices += job.slabs * job.products;
    slabs = std::max(slabs, job.slabs);
  }
  for (Source& source : work.sources) {
    const Job& job = work.jobs[static_cast<std::size_t>(source.stride)];
    source = {job.place + source.place, job.products, job.slabs};
  }
  const Tensor<Job> jobs = from_host<Job>(ctx, {std::ssize(work.jobs)}, work.jobs);
  const Tensor<Source> sources = from_host<Source>(ctx, {std::ssize(work.sources)}, work.sources);
  const auto destinations = from_host<Destination<T>>(ctx, {std::ssize(work.destinations)}, work.destinations);
  auto sums = empty<T>(ctx, {matrices, a_tiles * Width, b_tiles * Width});

  const Problem<T> problem{as_map(a),
                           as_map(b),
                           weight_y,
                           weight_x,
                           a.extent(0),
                           jobs.data(),
                           static_cast<int>(work.jobs.size()),
                           static_cast<int>(b_tiles),
                           sums.extent(1),
                           sums.extent(2),
                           sums.data()};
  const dim3 grid(blocks_for(a_tiles * b_tiles * std::ssize(work.jobs), 1), static_cast<unsigned>(slabs));
  launch<offset_products_kernel<T, Width>>(ctx, grid,
                                           block_threads(ctx, static_cast<unsigned>(work.runs * run_threads)),
                                           static_cast<std::size_t>(work.positions) * Width * sizeof(T) * 2, problem);
  std::int64_t channels = 0;
  for (const Request<T>& request : requests) channels = std::max(channels, request.out.channels);
  for_each(ctx, destinations.size(), channels, b.extent(3),
           AddShiftedSlabs<T>{sums.data(), sources.data(), destinations.data(), sums.extent(1), sums.extent(2)});
}

/// Throws ShapeError unless the kernel can take the map.
template <class T>
void require_map(const char* function, const char* argument, const View<const T>& map) {
  detail::require_contiguous(function, argument, map);
  if (map.rank() != 4) {
    throw ShapeError(concat(function, ": ", argument, " has shape ", map.shape(),
                            "; it must have rank 4 (samples, rows, columns, channels)"));
  }
  constexpr std::int64_t most = most_positions;
  if (map.extent(1) > most || map.extent(2) > most || map.extent(1) * map.extent(2) > most || map.extent(3) > most) {
    throw ShapeError(concat(function, ": ", argument, " has shape ", map.shape(),
                            "; a sample may have at most 2^30 positions and 2^30 channels"));
  }
}

/// offset_products_tiled without its checks, of several requests, no two of which add to the same place; two launches.
template <class T>
void add_products(Context& ctx, View<const T> a, View<const T> b, std::span<const Request<T>> requests,
                  const T* weight_y, const T* weight_x) {
  if constexpr (sizeof(T) == 4) {
    // Doubles in narrow tiles only: twice the registers for each sum.
    if (std::max(a.extent(3), b.extent(3)) > 16) return accumulate<T, 32>(ctx, a, b, requests, weight_y, weight_x);
  }
  accumulate<T, 16>(ctx, a, b, requests, weight_y, weight_x);
}

}  // namespace offset_tiles

/// out[o, c, q] += Σ_i Σ_{(y, x) in region} weight_y[y] · weight_x[x] · a[i, y, x, c] · b[i, y + o.y, x + o.x, q],
/// where o stands for offsets[o]; b is zero outside its map. Sums over samples and positions, not means.
///
/// @param a, b      (samples, rows, columns, channels), contiguous; sizes and channels may differ. b may be a.
/// @param region    positions of a's map; may be empty.
/// @param offsets   any, in any order, repeated or not. Neighbours in x share their loads.
/// @param weight_y  one number for each row of a's map, or an empty View for ones.
/// @param weight_x  one number for each column of a's map, or an empty View for ones.
/// @param out       (offsets, channels of a, channels of b), contiguous; apart from all others.
/// Throws ShapeError for shapes that do not fit, ArgumentError for a region outside a's map.
template <Real T>
void offset_products_tiled(Context& ctx, View<const std::type_identity_t<T>> a, View<const std::type_identity_t<T>> b,
                           const Region& region, std::span<const Extent2> offsets,
                           View<const std::type_identity_t<T>> weight_y, View<const std::type_identity_t<T>> weight_x,
                           View<T> out) {
  constexpr const char* name = "offset_products_tiled";
  offset_tiles::require_map<T>(name, "a", a);
  offset_tiles::require_map<T>(name, "b", b);
  detail::require_contiguous(name, "out", out);
  if (a.extent(0) != b.extent(0)) {
    throw ShapeError(
        concat(name, ": a and b must have the same number of samples; got shapes ", a.shape(), " and ", b.shape()));
  }
  const Shape expected{static_cast<std::int64_t>(offsets.size()), a.extent(3), b.extent(3)};
  if (out.shape() != expected) {
    throw ShapeError(concat(name, ": for ", offsets.size(), " offsets and maps of shapes ", a.shape(), " and ",
                            b.shape(), " out must have shape ", expected, "; got ", out.shape()));
  }
  const Extent2 map{a.extent(1), a.extent(2)};
  if (!region.fits(map)) {
    throw ArgumentError(concat(name, ": the region of ", region, " does not lie on the map of a, ", map));
  }
  const auto check_weight = [&](const char* argument, const View<const T>& weight, std::int64_t extent,
                                const char* what) {
    if (weight.rank() == 0) return;
    detail::require_contiguous(name, argument, weight);
    if (weight.rank() == 1 && weight.extent(0) == extent) return;
    throw ShapeError(concat(name, ": ", argument, " has shape ", weight.shape(), "; a's map of ", map,
                            " needs one number for each ", what, ", shape (", extent, "), or an empty View for ones"));
  };
  check_weight("weight_y", weight_y, map.y, "row");
  check_weight("weight_x", weight_x, map.x, "column");
  if (out.empty() || a.extent(0) == 0 || region.empty()) return;

  const std::int64_t width = b.extent(3);
  const offset_tiles::Request<T> request{
      {region}, {offsets.begin(), offsets.end()}, {out.data_handle(), a.extent(3) * width, width, 0, a.extent(3)}};
  offset_tiles::add_products<T>(ctx, a, b, std::span(&request, 1), weight_y.data_handle(), weight_x.data_handle());
}

}  // namespace meristem::kernels

#undef MERISTEM_UNROLL
