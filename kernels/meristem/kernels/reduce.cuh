// Reductions in a fixed order: the same bits for every run and every number of CPU threads, without atomics.
//
//   column_sums         out[col] = or += sum over rows of x[row][col]
//   sum, sum_squares, dot, max_abs              one number, sums accumulated in double
//   first_non_finite, check_finite              where the first NaN or infinity is
//
// A reduction to one number cuts the elements into segments, whose number and length follow from the element count
// alone. Each block reduces one segment (threads in strides, then a tree of shuffles), and the last one the segments'
// results.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <meristem/core/arrival.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

/// Whether a result replaces what its output holds or is added to it.
enum class Accumulate { overwrite, accumulate };

namespace detail {

inline constexpr int warp_lanes = 32;
inline constexpr int reduce_threads = 256;

/// Lanes that exist in this thread's warp: the last warp of a block may be incomplete.
__device__ inline int lanes_of_warp() {
  const int rest = static_cast<int>(blockDim.x - threadIdx.x / warp_lanes * warp_lanes);
  return rest < warp_lanes ? rest : warp_lanes;
}

__device__ inline unsigned mask_of_lanes(int lanes) { return lanes == warp_lanes ? 0xffffffffu : (1u << lanes) - 1u; }

/// Combines the values of the first `lanes` lanes; lane 0 gets the result. `Op` has `Value`, `combine(a, b)` and
/// `shuffle_down(mask, value, offset)`. The warp's lanes below `lanes` all call it.
template <class Op>
__device__ typename Op::Value reduce_warp(typename Op::Value value, int lanes) {
  const int lane = static_cast<int>(threadIdx.x % warp_lanes);
  const unsigned mask = mask_of_lanes(lanes);
  for (int offset = warp_lanes / 2; offset > 0; offset /= 2) {
    if (offset >= lanes) continue;
    const typename Op::Value other = Op::shuffle_down(mask, value, offset);
    if (lane + offset < lanes) value = Op::combine(value, other);
  }
  return value;
}

/// Combines the values of all threads of a block of any size; thread 0 gets the result. `shared` has room for 32
/// values. All threads of the block call it.
template <class Op>
__device__ typename Op::Value reduce_block(typename Op::Value value, typename Op::Value* shared) {
  value = reduce_warp<Op>(value, lanes_of_warp());
  if (blockDim.x <= warp_lanes) return value;
  const int warp = static_cast<int>(threadIdx.x / warp_lanes), lane = static_cast<int>(threadIdx.x % warp_lanes);
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  const int warps = static_cast<int>((blockDim.x + warp_lanes - 1) / warp_lanes);
  if (warp == 0) {
    value = lane < warps ? shared[lane] : Op::identity();
    value = reduce_warp<Op>(value, warp_lanes);
  }
  return value;
}

/// The combination of op.term(i) for i in [begin, end), by one block; thread 0 gets it. `shared` as for `reduce_block`.
template <class Op>
__device__ typename Op::Value reduce_range(const Op& op, std::int64_t begin, std::int64_t end,
                                           typename Op::Value* shared) {
  using Value = typename Op::Value;
  Value total = Op::identity();
#if !MERISTEM_GPU
  if (blockDim.x == 1) {
    // A thread alone stands for a block of 64 in vector registers.
    constexpr int width = 64;
    Value lane[width];
    for (int k = 0; k < width; ++k) lane[k] = Op::identity();
    std::int64_t i = begin;
    for (; i + width <= end; i += width) {
      MERISTEM_INDEPENDENT
      for (int k = 0; k < width; ++k) lane[k] = Op::combine(lane[k], op.term(i + k));
    }
    for (int k = 0; i < end; ++i, ++k) lane[k] = Op::combine(lane[k], op.term(i));
    for (int k = 0; k < width; ++k) total = Op::combine(total, lane[k]);
    return total;
  }
#endif
  for (std::int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) total = Op::combine(total, op.term(i));
  return reduce_block<Op>(total, shared);
}

/// The terms of the second stage: the results of the first.
template <class Op>
struct Partials {
  using Value = typename Op::Value;
  const Value* partials;
  MERISTEM_HD static Value identity() { return Op::identity(); }
  MERISTEM_HD static Value combine(Value a, Value b) { return Op::combine(a, b); }
  MERISTEM_HD Value term(std::int64_t i) const { return partials[i]; }
  __device__ static Value shuffle_down(unsigned mask, Value value, int offset) {
    return Op::shuffle_down(mask, value, offset);
  }
};

/// *to = or += value
template <class Value>
struct StoreReduced {
  Value* to;
  bool adds;
  MERISTEM_HD void operator()(Value value) const {
    if constexpr (std::is_arithmetic_v<Value>) {
      if (adds) value += *to;
    }
    *to = value;
  }
};

/// Stores the combination of op.term(i) over [0, count). A block combines a segment; the last of several their
/// `partials`.
template <class Op>
__global__ void reduce_segments(Op op, std::int64_t count, std::int64_t segment, typename Op::Value* partials,
                                unsigned* arrivals, StoreReduced<typename Op::Value> store) {
  using Value = typename Op::Value;
  MERISTEM_SHARED(Value, shared, [warp_lanes]);
  const std::int64_t begin = blockIdx.x * segment;
  Value total = reduce_range(op, begin, begin + segment < count ? begin + segment : count, shared);
  if (gridDim.x > 1) {
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
    if (!last_to_arrive(arrivals, gridDim.x)) return;
    total = reduce_range(Partials<Op>{partials}, 0, gridDim.x, shared);
  }
  if (threadIdx.x == 0) store(total);
}

/// Stores the combination of op.term(i) for i in [0, count), count > 0, to device memory, or adds it to what is there.
template <class Op>
void reduce_into(Context& ctx, const Op& op, std::int64_t count, typename Op::Value* to, bool adds) {
  using Value = typename Op::Value;
  constexpr std::int64_t least = 4096, most_blocks = 1024;
  const std::int64_t segment = least * ((count - 1) / (least * most_blocks) + 1);
  const std::int64_t blocks = (count - 1) / segment + 1;
  Tensor<Value> partials(ctx, {blocks > 1 ? blocks : 0});
  launch<reduce_segments<Op>>(ctx, dim3(static_cast<unsigned>(blocks)), block_threads(ctx, reduce_threads), 0, op,
                              count, segment, partials.data(), ctx.arrivals(1), StoreReduced<Value>{to, adds});
}

/// The combination (1) of some values, at least one, in device memory.
template <class Op>
[[nodiscard]] Tensor<typename Op::Value> combined(Context& ctx, Tensor<typename Op::Value> partials) {
  using Value = typename Op::Value;
  if (partials.size() == 1) return partials;
  Tensor<Value> total(ctx, {1});
  launch<reduce_segments<Partials<Op>>>(ctx, dim3(1), block_threads(ctx, reduce_threads), 0,
                                        Partials<Op>{partials.data()}, partials.size(), partials.size(),
                                        static_cast<Value*>(nullptr), static_cast<unsigned*>(nullptr),
                                        StoreReduced<Value>{total.data(), false});
  return total;
}

template <class Op>
struct StoreIdentity {
  typename Op::Value* value;
  MERISTEM_HD void operator()(std::int64_t) const { *value = Op::identity(); }
};

/// The combination (1) of op.term(i) for i in [0, count), in device memory.
template <class Op>
[[nodiscard]] Tensor<typename Op::Value> reduce_on_device(Context& ctx, const Op& op, std::int64_t count) {
  Tensor<typename Op::Value> result(ctx, {1});
  if (count == 0) {
    for_each(ctx, 1, StoreIdentity<Op>{result.data()});
  } else {
    reduce_into(ctx, op, count, result.data(), false);
  }
  return result;
}

/// The same on the host, for any count; waits for the device.
template <class Op>
typename Op::Value reduce(Context& ctx, const Op& op, std::int64_t count) {
  return count == 0 ? Op::identity() : to_host(ctx, reduce_on_device<Op>(ctx, op, count))[0];
}

struct SumOp {
  using Value = double;
  MERISTEM_HD static double identity() { return 0.0; }
  MERISTEM_HD static double combine(double a, double b) { return a + b; }
  __device__ static double shuffle_down(unsigned mask, double value, int offset) {
    return __shfl_down_sync(mask, value, static_cast<unsigned>(offset));
  }
};

template <class T>
struct Sum : SumOp {
  const T* x;
  explicit Sum(const T* values) : x(values) {}
  MERISTEM_HD double term(std::int64_t i) const { return static_cast<double>(x[i]); }
};

template <class T>
struct Dot : SumOp {
  const T* x;
  const T* y;
  Dot(const T* a, const T* b) : x(a), y(b) {}
  MERISTEM_HD double term(std::int64_t i) const { return static_cast<double>(x[i]) * static_cast<double>(y[i]); }
};

// 0 x is 0 for every number and NaN for NaN and infinities.
template <class T>
struct NonFiniteProbe : SumOp {
  const T* x;
  explicit NonFiniteProbe(const T* values) : x(values) {}
  MERISTEM_HD double term(std::int64_t i) const { return static_cast<double>(x[i] * T(0)); }
};

template <class T>
struct MaxAbs {
  using Value = T;
  const T* x;
  MERISTEM_HD static T identity() { return T(0); }
  // A NaN on either side wins.
  MERISTEM_HD static T combine(T a, T b) { return a >= b || a != a ? a : b; }
  MERISTEM_HD T term(std::int64_t i) const { return std::fabs(x[i]); }
  __device__ static T shuffle_down(unsigned mask, T value, int offset) {
    return __shfl_down_sync(mask, value, static_cast<unsigned>(offset));
  }
};

inline constexpr std::int64_t no_index = std::numeric_limits<std::int64_t>::max();

struct MinIndexOp {
  using Value = std::int64_t;
  MERISTEM_HD static std::int64_t identity() { return no_index; }
  MERISTEM_HD static std::int64_t combine(std::int64_t a, std::int64_t b) { return b < a ? b : a; }
  __device__ static std::int64_t shuffle_down(unsigned mask, std::int64_t value, int offset) {
    return __shfl_down_sync(mask, value, static_cast<unsigned>(offset));
  }
};

template <class T>
struct NonFiniteIndex : MinIndexOp {
  const T* x;
  explicit NonFiniteIndex(const T* values) : x(values) {}
  MERISTEM_HD std::int64_t term(std::int64_t i) const { return x[i] * T(0) == T(0) ? no_index : i; }
};

// Rows of one partial sum.
inline constexpr std::int64_t rows_per_chunk = 64;

/// out[chunk][col] = or += the sum, in row order, of up to 64 rows of x[row][col], for the pairs (chunk, col) from
/// `item` to `end`, one thread's.
template <class T>
__device__ void sum_chunks(const T* x, std::int64_t rows, std::int64_t cols, std::int64_t item, std::int64_t end,
                           Accumulate mode, T* out) {
  while (item < end) {
    const std::int64_t chunk = item / cols, col = item % cols;
    const std::int64_t width = end - item < cols - col ? end - item : cols - col;
    const std::int64_t from = chunk * rows_per_chunk;
    const std::int64_t to = from + rows_per_chunk < rows ? from + rows_per_chunk : rows;
    const T* column = x + col;
    T* result = out + item;
#if !MERISTEM_GPU
    if (width > 1) {
      constexpr std::int64_t tile = 512;
      T total[tile];
      for (std::int64_t start = 0; start < width; start += tile) {
        const std::int64_t n = width - start < tile ? width - start : tile;
        for (std::int64_t k = 0; k < n; ++k) total[k] = T(0);
        std::int64_t row = from;
        // Four rows at a time, in row order: the running sums leave and enter memory a quarter as often.
        for (; row + 4 <= to; row += 4) {
          const T* part = column + row * cols + start;
          MERISTEM_INDEPENDENT
          for (std::int64_t k = 0; k < n; ++k) {
            total[k] = total[k] + part[k] + part[cols + k] + part[2 * cols + k] + part[3 * cols + k];
          }
        }
        for (; row < to; ++row) {
          const T* part = column + row * cols + start;
          MERISTEM_INDEPENDENT
          for (std::int64_t k = 0; k < n; ++k) total[k] += part[k];
        }
        for (std::int64_t k = 0; k < n; ++k) {
          result[start + k] = mode == Accumulate::accumulate ? result[start + k] + total[k] : total[k];
        }
      }
      item += width;
      continue;
    }
#endif
    for (std::int64_t k = 0; k < width; ++k) {
      T total = T(0);
      for (std::int64_t row = from; row < to; ++row) total += column[row * cols + k];
      result[k] = mode == Accumulate::accumulate ? result[k] + total : total;
    }
    item += width;
  }
}

/// How many sums of 64 rows there are.
MERISTEM_HD inline std::int64_t chunks_of(std::int64_t rows) { return rows == 0 ? 1 : (rows - 1) / rows_per_chunk + 1; }

/// Where a thread's share of the items [first, last) begins; it ends where the next thread's begins.
__device__ inline std::int64_t share_of_thread(std::int64_t first, std::int64_t last, unsigned thread) {
  return first + (last - first) * thread / blockDim.x;
}

/// out[col] = or += the sum of x[row][col]. A block takes `block_items` neighbouring pairs (chunk, col), a thread an
/// equal share of them: with one pair a thread, neighbouring threads read neighbouring columns; a thread alone runs
/// along the rows. The last block adds up the chunks, 64 at a time. `partials` is not used for one chunk.
template <class T>
__global__ void sum_columns(const T* x, std::int64_t rows, std::int64_t cols, std::int64_t block_items, Accumulate mode,
                            T* partials, T* out, unsigned* arrivals) {
  std::int64_t chunks = chunks_of(rows);
  const std::int64_t first = blockIdx.x * block_items;
  const std::int64_t last = first + block_items < chunks * cols ? first + block_items : chunks * cols;
  sum_chunks(x, rows, cols, share_of_thread(first, last, threadIdx.x), share_of_thread(first, last, threadIdx.x + 1),
             chunks > 1 ? Accumulate::overwrite : mode, chunks > 1 ? partials : out);
  if (chunks == 1 || !last_to_arrive(arrivals, gridDim.x)) return;
  while (chunks > 1) {
    const T* const from = partials;
    partials += chunks * cols;
    const std::int64_t left = chunks_of(chunks);
    sum_chunks(from, chunks, cols, share_of_thread(0, left * cols, threadIdx.x),
               share_of_thread(0, left * cols, threadIdx.x + 1), left > 1 ? Accumulate::overwrite : mode,
               left > 1 ? partials : out);
    chunks = left;
    __syncthreads();
  }
}

}  // namespace detail

/// out[col] = (overwrite) or += (accumulate) the sum of x[row][col] over rows; x (..., cols) with all leading axes as
/// rows, out (cols). The gradient of a bias. Sums of 64 rows in row order, then sums of 64 of those sums, and so on,
/// in T. Throws ShapeError unless both are contiguous and out has one element for each column of x.
template <class T>
void column_sums(Context& ctx, View<const std::type_identity_t<T>> x, View<T> out,
                 Accumulate mode = Accumulate::overwrite) {
  detail::require_columns("column_sums", "out", out, "x", x);
  const View<const T> matrix = x.as_matrix();
  const std::int64_t cols = matrix.extent(1);
  if (cols == 0) return;
  const std::int64_t rows = matrix.extent(0), items = detail::chunks_of(rows) * cols;
  std::int64_t numbers = 0;
  for (std::int64_t chunks = detail::chunks_of(rows); chunks > 1; chunks = detail::chunks_of(chunks)) {
    numbers += chunks * cols;
  }
  Tensor<T> partials(ctx, {numbers});
  const unsigned threads = block_threads(ctx, 128);
  const std::int64_t block_items = threads == 1 ? 4096 : threads;
  launch<detail::sum_columns<T>>(ctx, dim3(blocks_for(items, block_items)), threads, 0, matrix.data_handle(), rows,
                                 cols, block_items, mode, partials.data(), out.data_handle(), ctx.arrivals(1));
}

/// Sum of all elements, accumulated in double; 0 if there are none. Waits for the device. Throws ShapeError if x is
/// strided.
template <class T>
[[nodiscard]] double sum(Context& ctx, View<T> x) {
  detail::require_contiguous("sum", "x", x);
  return detail::reduce(ctx, detail::Sum<std::remove_const_t<T>>(x.data_handle()), x.size());
}

/// Sum of x y over all elements, products and sums in double. Waits for the device. Throws ShapeError unless both are
/// contiguous and of equal shape.
template <class T, class U>
requires std::is_same_v<std::remove_const_t<T>, std::remove_const_t<U>>
[[nodiscard]] double dot(Context& ctx, View<T> x, View<U> y) {
  detail::require_same_shape("dot", "x", x, "y", y);
  return detail::reduce(ctx, detail::Dot<std::remove_const_t<T>>(x.data_handle(), y.data_handle()), x.size());
}

/// Sum of the squares of all elements, squared and summed in double. Waits for the device. Throws ShapeError if x is
/// strided.
template <class T>
[[nodiscard]] double sum_squares(Context& ctx, View<T> x) {
  detail::require_contiguous("sum_squares", "x", x);
  return detail::reduce(ctx, detail::Dot<std::remove_const_t<T>>(x.data_handle(), x.data_handle()), x.size());
}

/// total += `dot` of x and y; `total` is in the context's memory, and nothing is waited for. Throws as `dot`.
template <class T, class U>
requires std::is_same_v<std::remove_const_t<T>, std::remove_const_t<U>>
void add_dot(Context& ctx, View<T> x, View<U> y, double* total) {
  detail::require_same_shape("add_dot", "x", x, "y", y);
  if (x.empty()) return;
  detail::reduce_into(ctx, detail::Dot<std::remove_const_t<T>>(x.data_handle(), y.data_handle()), x.size(), total,
                      true);
}

/// Largest magnitude of all elements: 0 if there are none, NaN if one of them is NaN. Waits for the device. Throws
/// ShapeError if x is strided.
template <class T>
[[nodiscard]] double max_abs(Context& ctx, View<T> x) {
  detail::require_contiguous("max_abs", "x", x);
  return static_cast<double>(detail::reduce(ctx, detail::MaxAbs<std::remove_const_t<T>>{x.data_handle()}, x.size()));
}

/// Index, in memory order, of the first element that is NaN or infinite, or -1. Waits for the device. Throws ShapeError
/// if x is strided.
template <class T>
[[nodiscard]] std::int64_t first_non_finite(Context& ctx, View<T> x) {
  using Element = std::remove_const_t<T>;
  detail::require_contiguous("first_non_finite", "x", x);
  // The search by index is several times the work of the probe, and almost always there is nothing to find.
  if (detail::reduce(ctx, detail::NonFiniteProbe<Element>(x.data_handle()), x.size()) == 0.0) return -1;
  return detail::reduce(ctx, detail::NonFiniteIndex<Element>(x.data_handle()), x.size());
}

/// Throws NumericError, which starts with `what` (a name such as `gradient of fc1.weight`), if an element is NaN or
/// infinite. Waits for the device. Throws ShapeError if x is strided.
template <class T>
void check_finite(Context& ctx, View<T> x, const std::string& what) {
  const std::int64_t index = first_non_finite(ctx, x);
  if (index < 0) return;
  const auto value = to_host(ctx, View<const std::remove_const_t<T>>(x.data_handle() + index, {1}))[0];
  throw NumericError(concat(what, ": element ", index, " of ", x.shape(), " is ",
                            std::isnan(value) ? "nan" : (value > 0 ? "inf" : "-inf"),
                            "; lower the learning rate, or check the data for values that are not finite"));
}

// The compiled library holds these.
#define MERISTEM_REDUCTIONS(EXTERN, T)                                                    \
  EXTERN template double sum<T>(Context & ctx, View<T> x);                                \
  EXTERN template double dot<T, T>(Context & ctx, View<T> x, View<T> y);                  \
  EXTERN template double sum_squares<T>(Context & ctx, View<T> x);                        \
  EXTERN template void add_dot<T, T>(Context & ctx, View<T> x, View<T> y, double* total); \
  EXTERN template double max_abs<T>(Context & ctx, View<T> x);                            \
  EXTERN template std::int64_t first_non_finite<T>(Context & ctx, View<T> x);             \
  EXTERN template void check_finite<T>(Context & ctx, View<T> x, const std::string& what);

#if defined(MERISTEM_COMPILED)
MERISTEM_REDUCTIONS(extern, float)
MERISTEM_REDUCTIONS(extern, const float)
MERISTEM_REDUCTIONS(extern, double)
MERISTEM_REDUCTIONS(extern, const double)
#endif

}  // namespace meristem::kernels
