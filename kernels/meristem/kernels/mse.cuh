// Mean squared error over samples.
//
//   loss     = (1/n) sum over samples s of ||prediction_s - target_s||^2
//   gradient = 2 (prediction - target) / n                                   (= : overwritten)
//
// prediction, target and gradient: (n, ...), contiguous. The mean is over samples only; the rest of a sample is summed.
#pragma once

#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/loss_sums.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

template <class T>
struct SquaredError : SumOp {
  const T* prediction;
  const T* target;
  SquaredError(const T* p, const T* t) : prediction(p), target(t) {}
  MERISTEM_HD double term(std::int64_t i) const {
    const double error = static_cast<double>(prediction[i] - target[i]);
    return error * error;
  }
};

/// The same sum, writing the gradient on the way: every term is asked for once.
template <class T>
struct SquaredErrorGradient : SumOp {
  const T* prediction;
  const T* target;
  T factor;
  T* gradient;
  SquaredErrorGradient(const T* p, const T* t, T f, T* g) : prediction(p), target(t), factor(f), gradient(g) {}
  MERISTEM_HD double term(std::int64_t i) const {
    const T difference = prediction[i] - target[i];
    gradient[i] = factor * difference;
    const double error = static_cast<double>(difference);
    return error * error;
  }
};

}  // namespace detail

/// The sum (1) over samples of the loss above, in device memory; gradient (as prediction, which it may be) is
/// overwritten, or left out by passing `{}`. Squares are summed in double. Throws ShapeError unless all are contiguous
/// and of equal shape, ArgumentError for a batch of 0.
template <class T>
[[nodiscard]] Tensor<LossSums> mse_sums(Context& ctx, View<T> prediction,
                                        View<const std::type_identity_t<std::remove_const_t<T>>> target,
                                        View<std::type_identity_t<std::remove_const_t<T>>> gradient = {}) {
  using Element = std::remove_const_t<T>;
  detail::require_same_shape("mse", "prediction", prediction, "target", target);
  if (prediction.rank() == 0) throw ShapeError("mse: prediction has rank 0; its first axis must be the batch");
  const std::int64_t n = prediction.extent(0);
  if (n == 0) throw ArgumentError("mse: got a batch of 0 samples; a mean needs at least one");
  if (gradient.data_handle() != nullptr) {
    detail::require_same_shape("mse", "prediction", prediction, "gradient", gradient);
  }
  if (gradient.data_handle() == nullptr) {
    const detail::SquaredError<Element> terms(prediction.data_handle(), target.data_handle());
    return detail::loss_sums(ctx, detail::reduce_on_device(ctx, terms, prediction.size()));
  }
  const detail::SquaredErrorGradient<Element> terms(prediction.data_handle(), target.data_handle(),
                                                    Element(2) / static_cast<Element>(n), gradient.data_handle());
  return detail::loss_sums(ctx, detail::reduce_on_device(ctx, terms, prediction.size()));
}

/// The loss above. Waits for the device. Otherwise as `mse_sums`.
template <class T>
[[nodiscard]] double mse(Context& ctx, View<T> prediction,
                         View<const std::type_identity_t<std::remove_const_t<T>>> target,
                         View<std::type_identity_t<std::remove_const_t<T>>> gradient = {}) {
  const Tensor<LossSums> sums = mse_sums(ctx, prediction, target, gradient);
  return to_host(ctx, sums)[0].loss / static_cast<double>(prediction.extent(0));
}

}  // namespace meristem::kernels
