// What the losses of a batch, and its errors, add up to.
#pragma once

#include <cstdint>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/for_each.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/reduce.cuh>

namespace meristem::kernels {

/// What a loss adds up to over some rows.
struct LossSums {
  /// Of `bad_row` where there is none.
  static constexpr std::int64_t no_row = detail::no_index;

  double loss;           ///< Σ of the rows' losses
  std::int64_t correct;  ///< rows whose answer is right
  /// The first label that is out of range, counted through the batch; the sums leave its row out, or mean nothing.
  std::int64_t bad_row;
};

/// What the errors e = output - target of some samples add up to, over all outputs.
struct ErrorSums {
  double absolute;        ///< Σ |e|
  double squares;         ///< Σ e²
  double targets;         ///< Σ target
  double target_squares;  ///< Σ target²
};

namespace detail {

struct StoreLossSums {
  const double* loss;
  const double* correct;        // or null
  const std::int64_t* bad_row;  // or null
  LossSums* sums;
  MERISTEM_HD void operator()(std::int64_t) const {
    *sums = {*loss, correct != nullptr ? static_cast<std::int64_t>(*correct) : 0,
             bad_row != nullptr ? *bad_row : LossSums::no_row};
  }
};

/// The sums (1) of a loss that were found one by one, each (1); empty tensors for those that are not there.
template <class Sum>
[[nodiscard]] Tensor<LossSums> loss_sums(Context& ctx, const Tensor<Sum>& loss, const Tensor<Sum>& correct = {},
                                         const Tensor<std::int64_t>& bad_row = {}) {
  Tensor<LossSums> sums(ctx, {1});
  for_each(ctx, 1, StoreLossSums{loss.data(), correct.data(), bad_row.data(), sums.data()});
  return sums;
}

}  // namespace detail

}  // namespace meristem::kernels
