// Softmax, its cross-entropy loss with label smoothing, and argmax, row by row.
//
//   p[r][k]  = exp(x[r][k]) / sum_j exp(x[r][j])
//   q[r][k]  = (1 - s) [k = label r] + s / classes                      s: label_smoothing
//   loss     = (1/n) sum_r ( -sum_k q[r][k] log p[r][k] )
//   dlogits  = (p - q) / n                                              (= : overwritten)
//
// logits, probabilities, dlogits: (..., classes), all leading axes merged to n rows; labels: n of int32. Contiguous.
// Exponents are taken of x - max x, so logits of any finite size give finite results. A warp shares a row, lanes in
// strides over the classes; a thread alone runs along the row.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/loss_sums.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

/// What softmax_cross_entropy found on a batch.
struct ClassificationLoss {
  double loss_mean = 0.0;    ///< mean over rows of the cross-entropy, in nats
  std::int64_t correct = 0;  ///< rows whose label is the first largest logit
};

namespace detail {

struct LossSumsOp {
  using Value = LossSums;
  MERISTEM_HD static LossSums identity() { return {0.0, 0, no_index}; }
  MERISTEM_HD static LossSums combine(LossSums a, LossSums b) {
    return {a.loss + b.loss, a.correct + b.correct, MinIndexOp::combine(a.bad_row, b.bad_row)};
  }
  __device__ static LossSums shuffle_down(unsigned mask, LossSums value, int offset) {
    const unsigned delta = static_cast<unsigned>(offset);
    return {__shfl_down_sync(mask, value.loss, delta), __shfl_down_sync(mask, value.correct, delta),
            __shfl_down_sync(mask, value.bad_row, delta)};
  }
};

/// The lanes that share a row, and which of them this thread is.
struct RowLanes {
  int lane;
  int lanes;
  unsigned mask;
  std::int64_t first_row;
  std::int64_t last_row;
  int row_step;

  __device__ RowLanes(std::int64_t rows, std::int64_t rows_per_block)
      : lane(static_cast<int>(threadIdx.x % warp_lanes)),
        lanes(lanes_of_warp()),
        mask(mask_of_lanes(lanes)),
        first_row(blockIdx.x * rows_per_block + threadIdx.x / warp_lanes),
        last_row((blockIdx.x + 1) * rows_per_block),
        row_step(static_cast<int>((blockDim.x + warp_lanes - 1) / warp_lanes)) {
    if (rows < last_row) last_row = rows;
  }

  /// Whether the predicate holds on any of the row's lanes.
  __device__ bool any(bool predicate) const {
    return lanes == 1 ? predicate : __any_sync(mask, predicate ? 1 : 0) != 0;
  }

  /// The combination over the row's lanes, given to all of them.
  template <class Op>
  __device__ typename Op::Value all_reduce(typename Op::Value value) const {
    if (lanes == 1) return value;
    return Op::broadcast(mask, reduce_warp<Op>(value, lanes));
  }
};

template <class T>
struct RowSumOp {
  using Value = T;
  MERISTEM_HD static T combine(T a, T b) { return a + b; }
  __device__ static T shuffle_down(unsigned mask, T value, int offset) {
    return __shfl_down_sync(mask, value, static_cast<unsigned>(offset));
  }
  __device__ static T broadcast(unsigned mask, T value) { return __shfl_sync(mask, value, 0); }
};

template <class T>
struct RowMaxOp : RowSumOp<T> {
  MERISTEM_HD static T combine(T a, T b) { return b > a ? b : a; }
};

inline constexpr std::int32_t no_class = std::numeric_limits<std::int32_t>::max();

template <class T>
inline constexpr T minus_infinity = -std::numeric_limits<T>::infinity();

/// A class and its logit.
template <class T>
struct Candidate {
  T value;
  std::int32_t index;
};

template <class T>
struct RowArgmaxOp {
  using Value = Candidate<T>;
  MERISTEM_HD static Value combine(Value a, Value b) {
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    const bool b_larger = b_nan ? !a_nan : b.value > a.value;
    const bool equal = a_nan ? b_nan : b.value == a.value;
    return b_larger || (equal && b.index < a.index) ? b : a;
  }
  __device__ static Value shuffle_down(unsigned mask, Value value, int offset) {
    const unsigned delta = static_cast<unsigned>(offset);
    return {__shfl_down_sync(mask, value.value, delta), __shfl_down_sync(mask, value.index, delta)};
  }
  __device__ static Value broadcast(unsigned mask, Value value) {
    return {__shfl_sync(mask, value.value, 0), __shfl_sync(mask, value.index, 0)};
  }
};

/// partials[block] = loss of the block's rows; dlogits = their gradient unless null.
template <class T>
__global__ void softmax_cross_entropy_rows(const T* logits, const std::int32_t* labels, std::int64_t rows,
                                           std::int64_t classes, double smoothing, std::int64_t rows_per_block,
                                           T* dlogits, LossSums* partials) {
  MERISTEM_SHARED(LossSums, shared, [warp_lanes]);
  const RowLanes my(rows, rows_per_block);
  const T other_target = static_cast<T>(smoothing / static_cast<double>(classes));
  const T label_target = static_cast<T>(1.0 - smoothing + smoothing / static_cast<double>(classes));
  const T row_weight = T(1) / static_cast<T>(rows);
  LossSums total = LossSumsOp::identity();
  for (std::int64_t row = my.first_row; row < my.last_row; row += my.row_step) {
    const std::int64_t label = labels[row];
    if (label < 0 || label >= classes) {
      total.bad_row = MinIndexOp::combine(total.bad_row, row);
      continue;
    }
    const T* x = logits + row * classes;
    const T label_logit = x[label];
    T largest = minus_infinity<T>;
    bool miss = false;
    for (std::int64_t k = my.lane; k < classes; k += my.lanes) {
      const T value = x[k];
      largest = RowMaxOp<T>::combine(largest, value);
      // Written so that a NaN is a miss.
      const bool below = k < label ? value < label_logit : value <= label_logit;
      miss = miss || !below;
    }
    largest = my.template all_reduce<RowMaxOp<T>>(largest);
    miss = my.any(miss);

    T* gradient = dlogits == nullptr ? nullptr : dlogits + row * classes;
    double exponentials = 0.0, shifted_sum = 0.0;
    for (std::int64_t k = my.lane; k < classes; k += my.lanes) {
      const T shifted = x[k] - largest;
      const T exponential = std::exp(shifted);
      exponentials += static_cast<double>(exponential);
      shifted_sum += static_cast<double>(shifted);
      if (gradient != nullptr) gradient[k] = exponential;
    }
    exponentials = my.template all_reduce<RowSumOp<double>>(exponentials);
    if (smoothing > 0.0) shifted_sum = my.template all_reduce<RowSumOp<double>>(shifted_sum);
    if (gradient != nullptr) {
      const T inverse = static_cast<T>(1.0 / exponentials);
      for (std::int64_t k = my.lane; k < classes; k += my.lanes) {
        gradient[k] = (gradient[k] * inverse - (k == label ? label_target : other_target)) * row_weight;
      }
    }
    if (my.lane == 0) {
      double loss = std::log(exponentials) -
                    (1.0 - smoothing) * (static_cast<double>(label_logit) - static_cast<double>(largest));
      if (smoothing > 0.0) loss -= smoothing / static_cast<double>(classes) * shifted_sum;
      total.loss += loss;
      total.correct += miss ? 0 : 1;
    }
  }
  total = reduce_block<LossSumsOp>(total, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

/// probabilities = softmax of the block's rows.
template <class T>
__global__ void softmax_rows(const T* logits, std::int64_t rows, std::int64_t classes, std::int64_t rows_per_block,
                             T* probabilities) {
  const RowLanes my(rows, rows_per_block);
  for (std::int64_t row = my.first_row; row < my.last_row; row += my.row_step) {
    const T* x = logits + row * classes;
    T* p = probabilities + row * classes;
    T largest = minus_infinity<T>;
    for (std::int64_t k = my.lane; k < classes; k += my.lanes) largest = RowMaxOp<T>::combine(largest, x[k]);
    largest = my.template all_reduce<RowMaxOp<T>>(largest);
    double exponentials = 0.0;
    for (std::int64_t k = my.lane; k < classes; k += my.lanes) {
      const T exponential = std::exp(x[k] - largest);
      exponentials += static_cast<double>(exponential);
      p[k] = exponential;
    }
    const T inverse = static_cast<T>(1.0 / my.template all_reduce<RowSumOp<double>>(exponentials));
    for (std::int64_t k = my.lane; k < classes; k += my.lanes) p[k] *= inverse;
  }
}

/// indices[row] = the first largest class of the block's rows.
template <class T>
__global__ void argmax_rows(const T* logits, std::int64_t rows, std::int64_t classes, std::int64_t rows_per_block,
                            std::int32_t* indices) {
  const RowLanes my(rows, rows_per_block);
  for (std::int64_t row = my.first_row; row < my.last_row; row += my.row_step) {
    const T* x = logits + row * classes;
    Candidate<T> best{minus_infinity<T>, no_class};
    for (std::int64_t k = my.lane; k < classes; k += my.lanes) {
      best = RowArgmaxOp<T>::combine(best, {x[k], static_cast<std::int32_t>(k)});
    }
    best = my.template all_reduce<RowArgmaxOp<T>>(best);
    if (my.lane == 0) indices[row] = best.index;
  }
}

/// Blocks of eight warps, and how many rows each block takes: a function of the row count alone.
struct RowGrid {
  static constexpr int threads = 256;
  std::int64_t rows_per_block;
  std::int64_t blocks;
  explicit RowGrid(std::int64_t rows)
      : rows_per_block(8 * ((rows - 1) / 8192 + 1)), blocks((rows - 1) / rows_per_block + 1) {}
};

/// (rows, classes) of a contiguous view; throws unless it has at least one class.
template <class T>
View<T> as_rows(const char* function, const View<T>& logits) {
  require_contiguous(function, "logits", logits);
  if (logits.rank() == 0) throw ShapeError(concat(function, ": logits have rank 0; the last axis must be the classes"));
  if (logits.extent(logits.rank() - 1) == 0) {
    throw ArgumentError(
        concat(function, ": logits of shape ", logits.shape(), " have 0 classes; at least one is needed"));
  }
  return logits.as_matrix();
}

}  // namespace detail

/// The sums (1) over the rows of the cross-entropy of logits (..., classes) against labels, one for each row, each in
/// [0, classes), in device memory. dlogits (as logits, which it may be) is overwritten with the gradient of the mean
/// loss, or left out by passing `{}`; it holds no meaningful values if a label is out of range. The loss is accumulated
/// in double; a NaN in the logits makes it NaN and its row count as wrong.
///
/// Throws ArgumentError for a batch of 0, for 0 classes, and for label_smoothing outside [0, 1); ShapeError unless all
/// are contiguous and fit together.
template <class T>
requires Real<std::remove_const_t<T>>
[[nodiscard]] Tensor<LossSums> softmax_cross_entropy_sums(
    Context& ctx, View<T> logits, View<const std::int32_t> labels, double label_smoothing,
    View<std::type_identity_t<std::remove_const_t<T>>> dlogits = {}) {
  using Element = std::remove_const_t<T>;
  const char* const name = "softmax_cross_entropy";
  if (!(label_smoothing >= 0.0 && label_smoothing < 1.0)) {
    throw ArgumentError(concat(name, ": label_smoothing is ", label_smoothing, "; it must be at least 0 and below 1"));
  }
  const View<T> matrix = detail::as_rows(name, logits);
  const std::int64_t rows = matrix.extent(0), classes = matrix.extent(1);
  if (rows == 0) throw ArgumentError(concat(name, ": got a batch of 0 rows; a mean needs at least one"));
  detail::require_contiguous(name, "labels", labels);
  if (labels.size() != rows) {
    throw ShapeError(concat(name, ": logits have shape ", logits.shape(), ", labels have shape ", labels.shape(),
                            "; one label is needed for each of the ", rows, " rows"));
  }
  if (dlogits.data_handle() != nullptr) detail::require_same_shape(name, "logits", logits, "dlogits", dlogits);

  const detail::RowGrid grid(rows);
  Tensor<LossSums> partials(ctx, {grid.blocks});
  launch<detail::softmax_cross_entropy_rows<Element>>(
      ctx, dim3(static_cast<unsigned>(grid.blocks)), block_threads(ctx, detail::RowGrid::threads), 0,
      matrix.data_handle(), labels.data_handle(), rows, classes, label_smoothing, grid.rows_per_block,
      dlogits.data_handle(), partials.data());
  return detail::combined<detail::LossSumsOp>(ctx, std::move(partials));
}

/// The mean of the above, and how many rows are right. Waits for the device. Throws as `softmax_cross_entropy_sums`,
/// and DataError for a label out of range.
template <class T>
requires Real<std::remove_const_t<T>> ClassificationLoss
softmax_cross_entropy(Context& ctx, View<T> logits, View<const std::int32_t> labels, double label_smoothing,
                      View<std::type_identity_t<std::remove_const_t<T>>> dlogits = {}) {
  const LossSums total = to_host(ctx, softmax_cross_entropy_sums(ctx, logits, labels, label_smoothing, dlogits))[0];
  if (total.bad_row != LossSums::no_row) {
    const std::int32_t label = to_host(ctx, View<const std::int32_t>(labels.data_handle() + total.bad_row, {1}))[0];
    throw DataError(concat("softmax_cross_entropy: the label of row ", total.bad_row, " is ", label,
                           ", but the logits have ", logits.extent(logits.rank() - 1),
                           " classes, numbered from 0; check the labels, or give the last layer more outputs"));
  }
  return {total.loss / static_cast<double>(labels.size()), total.correct};
}

/// probabilities = softmax over the last axis of logits (..., classes); probabilities may be logits. A batch of 0 does
/// nothing. Throws ArgumentError for 0 classes, ShapeError unless both are contiguous and of equal shape.
template <Real T>
void softmax(Context& ctx, View<const std::type_identity_t<T>> logits, View<T> probabilities) {
  const View<const T> matrix = detail::as_rows("softmax", logits);
  detail::require_same_shape("softmax", "logits", logits, "probabilities", probabilities);
  if (matrix.extent(0) == 0) return;
  const detail::RowGrid grid(matrix.extent(0));
  launch<detail::softmax_rows<T>>(ctx, dim3(static_cast<unsigned>(grid.blocks)),
                                  block_threads(ctx, detail::RowGrid::threads), 0, matrix.data_handle(),
                                  matrix.extent(0), matrix.extent(1), grid.rows_per_block, probabilities.data_handle());
}

/// indices[row] = the class of the first largest logit of logits (..., classes); a NaN counts as larger than every
/// number, as in NumPy. A batch of 0 does nothing. Throws ArgumentError for 0 classes, ShapeError unless both are
/// contiguous and there is one index for each row.
template <class T>
requires Real<std::remove_const_t<T>>
void argmax(Context& ctx, View<T> logits, View<std::int32_t> indices) {
  const View<T> matrix = detail::as_rows("argmax", logits);
  detail::require_contiguous("argmax", "indices", indices);
  const std::int64_t rows = matrix.extent(0);
  if (indices.size() != rows) {
    throw ShapeError(concat("argmax: logits have shape ", logits.shape(), ", indices have shape ", indices.shape(),
                            "; one index is needed for each of the ", rows, " rows"));
  }
  if (rows == 0) return;
  const detail::RowGrid grid(rows);
  launch<detail::argmax_rows<std::remove_const_t<T>>>(
      ctx, dim3(static_cast<unsigned>(grid.blocks)), block_threads(ctx, detail::RowGrid::threads), 0,
      matrix.data_handle(), rows, matrix.extent(1), grid.rows_per_block, indices.data_handle());
}

}  // namespace meristem::kernels
