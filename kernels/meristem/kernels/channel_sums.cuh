// Two sums over the rows of every channel, in one pass over channels-last data, for normalisation.
//
//   x (samples, rows, cols), contiguous; for every sample and column, over the rows:
//   ChannelMoments       mean of x,  Σ (x - mean)²
//   ChannelGradients     Σ g,        Σ g (x - mean)       g: the gradient dy, with ReLU's mask (y > 0) if asked
//
// A block takes a chunk of rows of all columns (or of a tile of them). Its lanes are neighbouring elements: `fold` rows
// of `width` columns, so that few channels fill vectors and warps as well as many do. A lane adds at most 64 terms in
// T; lanes are added in double in a tree, chunks are merged in double by the last block of a tile, on a GPU 32 chunks
// first by the last block of these. How rows are cut follows from the shape alone, so every run and every number of CPU
// threads gives the same bits.
//
// Moments are taken of x - x[first row of the chunk], and merged by T. Chan, G. Golub, R. LeVeque, "Updating formulae
// and a pairwise algorithm for computing sample variances" (1979): a large common offset costs no accuracy.
#pragma once

#include <cstdint>

#include <meristem/core/arrival.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::kernels::detail {

/// How (samples, rows, cols) is cut into blocks: a function of the shape alone.
struct ChannelCut {
  static constexpr std::int64_t most_lanes = 256;
  static constexpr std::int64_t rows_per_lane = 64;

  std::int64_t samples, rows, cols;
  std::int64_t tiles;       // of columns
  std::int64_t width;       // columns of a tile
  std::int64_t fold;        // rows side by side in the lanes of a block
  std::int64_t chunk_rows;  // rows of a block
  std::int64_t chunks;      // of the rows of one sample

  /// With `fold_rows` false a block's lanes lie in one row.
  ChannelCut(std::int64_t samples_, std::int64_t rows_, std::int64_t cols_, bool fold_rows = true)
      : samples(samples_), rows(rows_), cols(cols_), tiles(1), width(cols_), fold(1) {
    if (cols > most_lanes) {
      const std::int64_t share = (cols - 1) / ((cols - 1) / most_lanes + 1) + 1;
      width = (share + 31) / 32 * 32;
      tiles = (cols - 1) / width + 1;
    } else if (cols > 0 && fold_rows) {
      // Lanes with few rows would cost more to combine than to fill.
      const std::int64_t most = rows / 16 < most_lanes / cols ? rows / 16 : most_lanes / cols;
      fold = most < 1 ? 1 : (most < 8 ? most : most / 8 * 8);
    }
    chunk_rows = fold * rows_per_lane;
    chunks = rows == 0 ? 0 : (rows - 1) / chunk_rows + 1;
  }

  MERISTEM_HD std::int64_t rows_of(std::int64_t chunk) const {
    const std::int64_t rest = rows - chunk * chunk_rows;
    return rest < chunk_rows ? rest : chunk_rows;
  }
};

/// Mean and sum of squared deviations of x.
template <class T>
struct ChannelMoments {
  using Element = T;
  const T* x;

  /// What is subtracted from x in this chunk, given the index of the chunk's first element of the column.
  MERISTEM_HD T shift(std::int64_t, std::int64_t first, std::int64_t) const { return x[first]; }

  /// Adds the terms of element i, which lies in row `row` of all rows of all samples if rows are not folded.
  MERISTEM_HD void add(std::int64_t i, std::int64_t, T offset, T& a, T& b) const {
    const T d = x[i] - offset;
    a += d;
    b += d * d;
  }

  /// Turns the sums of a chunk of n rows into its partial result.
  MERISTEM_HD static void close(double n, double offset, double& a, double& b) {
    const double mean = a / n;
    b -= a * mean;
    // Rounding may leave a negative number where all elements are equal.
    b = b > 0.0 || b != b ? b : 0.0;
    a = offset + mean;
  }

  /// (a, b) of na rows becomes that of these and nb others.
  MERISTEM_HD static void merge(double na, double& a, double& b, double nb, double other_a, double other_b) {
    const double share = nb > 0.0 ? nb / (na + nb) : 0.0;
    const double delta = other_a - a;
    a += delta * share;
    b += other_b + delta * delta * (na * share);
  }
};

/// What is left of a batch's moments: the statistics of its normalisation.
template <class T>
struct StoreBatchStatistics {
  T* mean;
  T* inverse_deviation;
  T* running_mean;  // or null
  T* running_variance;
  double momentum;
  double epsilon;

  MERISTEM_HD void operator()(std::int64_t, std::int64_t c, double rows, double batch_mean, double squares) const {
    const double variance = rows > 0.0 ? squares / rows : 0.0;
    mean[c] = static_cast<T>(batch_mean);
    inverse_deviation[c] = static_cast<T>(1.0 / square_root(variance + epsilon));
    if (running_mean == nullptr || !(rows > 0.0)) return;
    running_mean[c] = move(running_mean[c], batch_mean);
    // One row says nothing of the spread.
    if (rows > 1.0) running_variance[c] = move(running_variance[c], squares / (rows - 1.0));
  }
  MERISTEM_HD T move(T from, double to) const {
    const double old = static_cast<double>(from);
    return static_cast<T>(old + momentum * (to - old));
  }
};

/// Sums of g and g (x - mean), with mean (samples, cols / group_cols).
template <class T, bool Masked>
struct ChannelGradients {
  using Element = T;
  const T* x;
  const T* y;
  const T* dy;
  const T* mean;
  std::int64_t groups;
  std::int64_t group_cols;

  MERISTEM_HD T shift(std::int64_t sample, std::int64_t, std::int64_t col) const {
    return mean[sample * groups + (group_cols == 1 ? col : col / group_cols)];
  }
  MERISTEM_HD T gradient(std::int64_t i) const {
    const T upstream = dy[i];
    if constexpr (Masked) {
      return y[i] > T(0) ? upstream : T(0);
    } else {
      return upstream;
    }
  }
  MERISTEM_HD void add(std::int64_t i, std::int64_t, T offset, T& a, T& b) const {
    const T g = gradient(i);
    a += g;
    b += g * (x[i] - offset);
  }
  MERISTEM_HD static void close(double, double, double&, double&) {}
  MERISTEM_HD static void merge(double, double& a, double& b, double, double other_a, double other_b) {
    a += other_a;
    b += other_b;
  }
};

#if !MERISTEM_GPU
/// a, b += the terms of `count` rows of lanes, in row order. Out of line and by value, to vectorise.
template <class Op, class T = typename Op::Element>
[[gnu::noinline]] void add_lanes(Op op, std::int64_t first, std::int64_t stride, std::int64_t row, std::int64_t count,
                                 std::int64_t lanes, const T* shift, T* a, T* b) {
  std::int64_t k = 0;
  // Short rows four at a time: the running sums leave and enter memory a quarter as often. Of long rows the processor
  // fetches one after the other at twice the rate of four side by side.
  for (; lanes <= 64 && k + 4 <= count; k += 4) {
    const std::int64_t i = first + k * stride;
    MERISTEM_INDEPENDENT
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      T sum_a = a[lane], sum_b = b[lane];
      const T offset = shift[lane];
      op.add(i + lane, row + k, offset, sum_a, sum_b);
      op.add(i + stride + lane, row + k + 1, offset, sum_a, sum_b);
      op.add(i + 2 * stride + lane, row + k + 2, offset, sum_a, sum_b);
      op.add(i + 3 * stride + lane, row + k + 3, offset, sum_a, sum_b);
      a[lane] = sum_a;
      b[lane] = sum_b;
    }
  }
  for (; k < count; ++k) {
    const std::int64_t i = first + k * stride;
    MERISTEM_INDEPENDENT
    for (std::int64_t lane = 0; lane < lanes; ++lane) op.add(i + lane, row + k, shift[lane], a[lane], b[lane]);
  }
}

/// The sums of all lanes of a block whose single thread this is.
template <class Op, class T = typename Op::Element>
void fill_lanes(const Op& op, const ChannelCut& cut, std::int64_t sample, std::int64_t first, std::int64_t col,
                std::int64_t row, std::int64_t rows, std::int64_t width, double* sum_a, double* sum_b) {
  T shift[ChannelCut::most_lanes], a[ChannelCut::most_lanes], b[ChannelCut::most_lanes];
  const std::int64_t lanes = cut.fold * width, stride = cut.fold * cut.cols;
  const std::int64_t full = rows / cut.fold, rest = rows % cut.fold * width;
  for (std::int64_t c = 0; c < width; ++c) shift[c] = op.shift(sample, first + c, col + c);
  for (std::int64_t start = width; start < lanes; start += width) {
    for (std::int64_t c = 0; c < width; ++c) shift[start + c] = shift[c];
  }
  for (std::int64_t lane = 0; lane < lanes; ++lane) a[lane] = b[lane] = T(0);
  add_lanes(op, first, stride, row, full, lanes, shift, a, b);
  if (rest > 0) add_lanes(op, first + full * stride, stride, row + full, 1, rest, shift, a, b);
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    sum_a[lane] = static_cast<double>(a[lane]);
    sum_b[lane] = static_cast<double>(b[lane]);
  }
}

/// sum[k] += sum[offset + k] for k < count.
inline void add_upper_lanes(double* sum, std::int64_t offset, std::int64_t count) {
  MERISTEM_INDEPENDENT
  for (std::int64_t k = 0; k < count; ++k) sum[k] += sum[offset + k];
}
#endif

/// The largest power of two below `fold`, 0 for 1: the first step of a tree over `fold` values.
MERISTEM_HD inline std::int64_t tree_start(std::int64_t fold) {
  std::int64_t half = 0;
  for (std::int64_t next = 1; next < fold; next *= 2) half = next;
  return half;
}

/// partial[sample][chunk][col] = what Op makes of the chunk's rows, for `width` columns from `col`. The shared arrays
/// hold most_lanes numbers.
template <class Op>
__device__ void sum_channel_chunk(const Op& op, const ChannelCut& cut, std::int64_t sample, std::int64_t chunk,
                                  std::int64_t col, std::int64_t width, double* partial_a, double* partial_b,
                                  double* sum_a, double* sum_b) {
  using T = typename Op::Element;
  const std::int64_t rows = cut.rows_of(chunk), row = sample * cut.rows + chunk * cut.chunk_rows;
  const std::int64_t first = row * cut.cols + col, stride = cut.fold * cut.cols;
  const std::int64_t lanes = cut.fold * width;
#if !MERISTEM_GPU
  if (blockDim.x == 1) {
    fill_lanes(op, cut, sample, first, col, row, rows, width, sum_a, sum_b);
    for (std::int64_t half = tree_start(cut.fold); half > 0; half /= 2) {
      const std::int64_t offset = half * width;
      const std::int64_t count = lanes - offset < offset ? lanes - offset : offset;
      add_upper_lanes(sum_a, offset, count);
      add_upper_lanes(sum_b, offset, count);
    }
  } else
#endif
  {
    for (std::int64_t lane = threadIdx.x; lane < lanes; lane += blockDim.x) {
      const int fold_row = static_cast<int>(lane) / static_cast<int>(width);
      const std::int64_t count = (rows - fold_row + cut.fold - 1) / cut.fold;
      const std::int64_t c = lane - fold_row * width;
      const T offset = op.shift(sample, first + c, col + c);
      T a = T(0), b = T(0);
#if defined(__CUDACC__)
#pragma unroll 4
#endif
      for (std::int64_t k = 0; k < count; ++k) op.add(first + k * stride + lane, row + k, offset, a, b);
      sum_a[lane] = static_cast<double>(a);
      sum_b[lane] = static_cast<double>(b);
    }
    __syncthreads();
    for (std::int64_t half = tree_start(cut.fold); half > 0; half /= 2) {
      const std::int64_t offset = half * width;
      for (std::int64_t lane = threadIdx.x; lane < offset && lane + offset < lanes; lane += blockDim.x) {
        sum_a[lane] += sum_a[lane + offset];
        sum_b[lane] += sum_b[lane + offset];
      }
      __syncthreads();
    }
  }
  const std::int64_t out = (sample * cut.chunks + chunk) * cut.cols + col;
  for (std::int64_t c = threadIdx.x; c < width; c += blockDim.x) {
    double a = sum_a[c], b = sum_b[c];
    Op::close(static_cast<double>(rows), static_cast<double>(op.shift(sample, first + c, col + c)), a, b);
    partial_a[out + c] = a;
    partial_b[out + c] = b;
  }
}

/// Calls done(sample, col, rows, a, b) for `width` columns from `col`, with the results of all chunks merged; the
/// partial results of a chunk and the next are cut.cols apart. The three shared arrays hold most_lanes numbers;
/// neighbouring threads share a column.
template <class Op, class Done, class Cut>
__device__ void merge_channel_chunks(const Done& done, const Cut& cut, std::int64_t sample, std::int64_t col,
                                     std::int64_t width, const double* partial_a, const double* partial_b,
                                     double* sum_n, double* sum_a, double* sum_b) {
  const double* const from_a = partial_a + sample * cut.chunks * cut.cols + col;
  const double* const from_b = partial_b + sample * cut.chunks * cut.cols + col;
#if !MERISTEM_GPU
  if (blockDim.x == 1) {
    double n = 0.0;
    for (std::int64_t c = 0; c < width; ++c) sum_a[c] = sum_b[c] = 0.0;
    for (std::int64_t chunk = 0; chunk < cut.chunks; ++chunk) {
      const double more = static_cast<double>(cut.rows_of(chunk));
      const double* const other_a = from_a + chunk * cut.cols;
      const double* const other_b = from_b + chunk * cut.cols;
      MERISTEM_INDEPENDENT
      for (std::int64_t c = 0; c < width; ++c) Op::merge(n, sum_a[c], sum_b[c], more, other_a[c], other_b[c]);
      n += more;
    }
    for (std::int64_t c = 0; c < width; ++c) done(sample, col + c, n, sum_a[c], sum_b[c]);
    return;
  }
#endif
  std::int64_t fold = 1;
  while (fold * 2 * width <= ChannelCut::most_lanes && fold * 2 <= cut.chunks) fold *= 2;
  const std::int64_t lanes = fold * width;
  for (std::int64_t lane = threadIdx.x; lane < lanes; lane += blockDim.x) {
    const int fold_row = static_cast<int>(lane) / static_cast<int>(width);
    const std::int64_t c = lane - fold_row * width;
    double n = 0.0, a = 0.0, b = 0.0;
#if defined(__CUDACC__)
#pragma unroll 1  // more would cost each multiprocessor a block, for want of registers
#endif
    for (std::int64_t chunk = fold_row; chunk < cut.chunks; chunk += fold) {
      const double more = static_cast<double>(cut.rows_of(chunk));
      Op::merge(n, a, b, more, from_a[chunk * cut.cols + c], from_b[chunk * cut.cols + c]);
      n += more;
    }
    sum_n[lane] = n;
    sum_a[lane] = a;
    sum_b[lane] = b;
  }
  __syncthreads();
  for (std::int64_t half = tree_start(fold); half > 0; half /= 2) {
    const std::int64_t offset = half * width;
    for (std::int64_t lane = threadIdx.x; lane < offset && lane + offset < lanes; lane += blockDim.x) {
      Op::merge(sum_n[lane], sum_a[lane], sum_b[lane], sum_n[lane + offset], sum_a[lane + offset],
                sum_b[lane + offset]);
      sum_n[lane] += sum_n[lane + offset];
    }
    __syncthreads();
  }
  for (std::int64_t c = threadIdx.x; c < width; c += blockDim.x) {
    done(sample, col + c, sum_n[c], sum_a[c], sum_b[c]);
  }
}

/// Chunks that one block merges where groups of them are merged first.
inline constexpr int merge_group = 32;

/// Counters that merge_in_groups needs: one for each group of chunks and one for the groups.
[[nodiscard]] MERISTEM_HD inline std::int64_t merge_counters(std::int64_t chunks) {
  return (chunks - 1) / merge_group + 2;
}

/// Chunks of rows, or groups of chunks, as merge_channel_chunks takes them.
struct MergedRows {
  std::int64_t rows;  ///< of all chunks
  std::int64_t chunk_rows;
  std::int64_t chunks;
  std::int64_t cols;  ///< from one chunk's results to the next
  MERISTEM_HD std::int64_t rows_of(std::int64_t chunk) const {
    const std::int64_t rest = rows - chunk * chunk_rows;
    return rest < chunk_rows ? rest : chunk_rows;
  }
};

/// Writes a group's results where those of its first chunk were; those of all chunks go to `done`.
template <class Done>
struct StoreMerged {
  const Done& done;
  bool all;
  double* a;
  double* b;
  MERISTEM_HD void operator()(std::int64_t sample, std::int64_t col, double rows, double sum_a, double sum_b) const {
    if (all) {
      done(sample, col, rows, sum_a, sum_b);
    } else {
      a[col] = sum_a;
      b[col] = sum_b;
    }
  }
};

/// merge_channel_chunks, called by the block of every chunk when it has written its results: the last block of
/// `group_size` chunks merges these, and the last of such groups, if there are several, all of them. Several are of
/// sample 0.
template <class Op, class Done>
__device__ void merge_in_groups(const Done& done, const MergedRows& all, std::int64_t group_size, std::int64_t sample,
                                std::int64_t chunk, std::int64_t col, std::int64_t width, double* partial_a,
                                double* partial_b, unsigned* arrivals, double* sum_n, double* sum_a, double* sum_b) {
  const std::int64_t groups = all.chunks > group_size ? (all.chunks - 1) / group_size + 1 : 1;
  const std::int64_t group = chunk / group_size, first = group * group_size, group_rows = group_size * all.chunk_rows;
  std::int64_t at = first * all.cols;
  MergedRows part = all;
  if (groups > 1) {
    part.rows = all.rows - group * group_rows < group_rows ? all.rows - group * group_rows : group_rows;
    part.chunks = all.chunks - first < group_size ? all.chunks - first : group_size;
  }
  if (all.chunks > 0 && !last_to_arrive(arrivals + group, static_cast<unsigned>(part.chunks))) return;
  for (bool last = groups == 1;; last = true) {
    merge_channel_chunks<Op>(StoreMerged<Done>{done, last, partial_a + at, partial_b + at}, part, sample, col, width,
                             partial_a + at, partial_b + at, sum_n, sum_a, sum_b);
    if (last || !last_to_arrive(arrivals + groups, static_cast<unsigned>(groups))) return;
    at = 0;
    part = {all.rows, group_rows, groups, group_size * all.cols};
  }
}

/// partial[sample][chunk][col] = what Op makes of the chunk's rows, merged as merge_in_groups does, which calls
/// done(sample, col, rows, a, b). Grid: (samples · chunks, or samples if there is no row; tiles).
template <class Op, class Done>
__global__ void __launch_bounds__(ChannelCut::most_lanes)
    sum_channel_chunks(Op op, Done done, ChannelCut cut, std::int64_t group_size, int counters, double* partial_a,
                       double* partial_b, unsigned* arrivals) {
  MERISTEM_SHARED(double, sum_n, [ChannelCut::most_lanes]);
  MERISTEM_SHARED(double, sum_a, [ChannelCut::most_lanes]);
  MERISTEM_SHARED(double, sum_b, [ChannelCut::most_lanes]);
  const std::int64_t blocks = cut.chunks > 0 ? cut.chunks : 1;
  const std::int64_t sample = blockIdx.x / blocks, chunk = blockIdx.x % blocks;
  const std::int64_t col = blockIdx.y * cut.width;
  const std::int64_t width = cut.cols - col < cut.width ? cut.cols - col : cut.width;
  if (cut.chunks > 0) {
    sum_channel_chunk(op, cut, sample, chunk, col, width, partial_a, partial_b, &sum_a[0], &sum_b[0]);
  }
  merge_in_groups<Op>(done, MergedRows{cut.rows, cut.chunk_rows, cut.chunks, cut.cols}, group_size, sample, chunk, col,
                      width, partial_a, partial_b, arrivals + (sample * gridDim.y + blockIdx.y) * counters, &sum_n[0],
                      &sum_a[0], &sum_b[0]);
}

/// Calls done(sample, col, rows, a, b) for every sample and column, with what Op says of the column's rows; for 0 rows
/// a = b = 0. Different columns are done concurrently.
template <class Op, class Done>
void channel_sums(Context& ctx, const Op& op, const ChannelCut& cut, const Done& done) {
  if (cut.samples == 0 || cut.cols == 0) return;
  const std::int64_t blocks = cut.samples * cut.chunks;
  Tensor<double> partials(ctx, {2, blocks * cut.cols});
  double* const partial_a = partials.data();
  double* const partial_b = partial_a + blocks * cut.cols;
  const std::int64_t warps = (cut.fold * cut.width + 31) / 32;
  const unsigned threads = block_threads(ctx, static_cast<unsigned>(warps * 32));
  const bool in_groups = threads > 1 && cut.samples == 1 && cut.chunks > merge_group;
  const std::int64_t group_size = in_groups || cut.chunks == 0 ? merge_group : cut.chunks;
  const std::int64_t counters = in_groups ? merge_counters(cut.chunks) : 1;
  launch<sum_channel_chunks<Op, Done>>(
      ctx, dim3(blocks_for(blocks > 0 ? blocks : cut.samples, 1), static_cast<unsigned>(cut.tiles)), threads, 0, op,
      done, cut, group_size, static_cast<int>(counters), partial_a, partial_b,
      ctx.arrivals(cut.samples * cut.tiles * counters));
}

/// For which multiple of `cols` lanes a loop over lanes is long enough to vectorise well; on a GPU there are no
/// vectors.
[[nodiscard]] inline std::int64_t lanes_for([[maybe_unused]] std::int64_t rows, std::int64_t cols) {
  if (MERISTEM_GPU || cols == 0) return cols;
  std::int64_t copies = ChannelCut::most_lanes / cols;
  // Coefficients for each lane must stay few beside the data.
  if (copies > rows / 8) copies = rows / 8;
  if (copies >= 8) copies = copies / 8 * 8;
  return cols * (copies < 1 ? 1 : copies);
}

/// A functor of an element's index and its sample's lane, as one of a sample, a row of lanes and a lane.
template <class F>
struct OnLanes {
  F f;
  std::int64_t sample_size;
  std::int64_t lanes;
  std::int64_t base;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t lane) const { f(base + row * lanes + lane, 0, lane); }
  MERISTEM_HD void operator()(std::int64_t sample, std::int64_t row, std::int64_t lane) const {
    f(sample * sample_size + base + row * lanes + lane, sample * lanes, lane);
  }
};

/// Calls f(i, 0, lane) for every element i of one sample of `size`, with lane = i modulo `lanes`.
template <class F>
void for_each_on_lanes(Context& ctx, std::int64_t size, std::int64_t lanes, const F& f) {
  if (size == 0) return;
  const std::int64_t full = size / lanes;
  for_each(ctx, full, lanes, OnLanes<F>{f, size, lanes, 0});
  for_each(ctx, 1, size - full * lanes, OnLanes<F>{f, size, lanes, full * lanes});
}

/// Calls f(i, first, lane) for every element i of `samples` times `sample_size`, with lane = the index within the
/// sample modulo `lanes`, and first = sample · lanes.
template <class F>
void for_each_on_lanes(Context& ctx, std::int64_t samples, std::int64_t sample_size, std::int64_t lanes, const F& f) {
  // On a GPU an index of two dimensions costs one division less than one of three.
  if (samples == 1) return for_each_on_lanes(ctx, sample_size, lanes, f);
  if (samples == 0 || sample_size == 0) return;
  const std::int64_t full = sample_size / lanes;
  for_each(ctx, samples, full, lanes, OnLanes<F>{f, sample_size, lanes, 0});
  for_each(ctx, samples, 1, sample_size - full * lanes, OnLanes<F>{f, sample_size, lanes, full * lanes});
}

}  // namespace meristem::kernels::detail
