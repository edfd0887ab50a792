// Losses that are computed sample by sample: any function of a sample's outputs and targets, and the cross-entropy
// against probabilities.
//
//   loss     = (1/n) sum_s f(output_s, target_s)
//   gradient = (d f / d output_s) / n                          (= : overwritten)
//
// output, gradient: (n, ...); target: (n, ...) of any size per sample. Contiguous. One thread a sample.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/for_each.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/loss_sums.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

template <class T, class F>
struct SampleLoss {
  F function;
  const T* output;
  const T* target;
  std::int64_t outputs, targets;
  T* gradient;
  double* losses;
  MERISTEM_HD void operator()(std::int64_t s) const {
    losses[s] = static_cast<double>(function(output + s * outputs, target == nullptr ? target : target + s * targets,
                                             outputs, gradient == nullptr ? gradient : gradient + s * outputs));
  }
};

template <class T>
struct SoftCrossEntropyRow {
  const T* logits;
  const T* targets;
  std::int64_t classes;
  double smoothing;
  T share;
  T* gradient;
  double* losses;
  double* right;

  MERISTEM_HD void operator()(std::int64_t row) const {
    const T* x = logits + row * classes;
    const T* t = targets + row * classes;
    T largest = x[0];
    std::int64_t best = 0, wanted = 0;
    for (std::int64_t k = 1; k < classes; ++k) {
      if (x[k] > largest) best = k;
      largest = x[k] > largest ? x[k] : largest;
      wanted = t[k] > t[wanted] ? k : wanted;
    }
    double exponentials = 0.0, mass = 0.0, agreement = 0.0;
    for (std::int64_t k = 0; k < classes; ++k) {
      const double shifted = static_cast<double>(x[k] - largest), q = smooth(t[k]);
      exponentials += std::exp(shifted);
      mass += q;
      agreement += q * shifted;
    }
    losses[row] = mass * std::log(exponentials) - agreement;
    right[row] = best == wanted ? 1.0 : 0.0;
    if (gradient == nullptr) return;
    for (std::int64_t k = 0; k < classes; ++k) {
      const double p = std::exp(static_cast<double>(x[k] - largest)) / exponentials;
      gradient[row * classes + k] = share * static_cast<T>(mass * p - smooth(t[k]));
    }
  }
  MERISTEM_HD double smooth(T target) const {
    return (1.0 - smoothing) * static_cast<double>(target) + smoothing / static_cast<double>(classes);
  }
};

}  // namespace detail

/// The sum (1) over samples, in device memory, of `function(output, target, outputs, gradient)`: pointers to a sample's
/// numbers (target is null without targets), how many outputs it has, and where its gradient goes, null if it is not
/// wanted. The function is a functor with a const MERISTEM_HD operator(). Throws ShapeError unless all are contiguous
/// and agree in the number of samples, ArgumentError for a batch of 0.
template <class F, Real T>
[[nodiscard]] Tensor<LossSums> sample_loss_sums(Context& ctx, const F& function, View<const T> output,
                                                View<const std::type_identity_t<T>> target,
                                                View<std::type_identity_t<T>> gradient = {}) {
  const char* const name = "sample_loss";
  detail::require_contiguous(name, "output", output);
  const std::int64_t n = output.rank() > 0 ? output.extent(0) : 0;
  if (n == 0) throw ArgumentError("sample_loss: got a batch of 0 samples; a mean needs at least one");
  const bool has_target = target.data_handle() != nullptr;
  if (has_target) {
    detail::require_contiguous(name, "target", target);
    if (target.rank() == 0 || target.extent(0) != n) {
      throw ShapeError(concat(name, ": output has shape ", output.shape(), ", target has shape ", target.shape(),
                              "; both need as many samples"));
    }
  }
  if (gradient.data_handle() != nullptr) detail::require_same_shape(name, "output", output, "gradient", gradient);
  Tensor<double> losses(ctx, {n});
  for_each(ctx, n,
           detail::SampleLoss<T, F>{function, output.data_handle(), target.data_handle(), output.size() / n,
                                    has_target ? target.size() / n : 0, gradient.data_handle(), losses.data()});
  if (gradient.data_handle() != nullptr) scale<T>(ctx, T(1) / static_cast<T>(n), gradient);
  return detail::loss_sums(ctx, detail::reduce_on_device(ctx, detail::Sum<double>(losses.data()), n));
}

/// The mean over samples of the same. Waits for the device.
template <class F, Real T>
[[nodiscard]] double sample_loss(Context& ctx, const F& function, View<const T> output,
                                 View<const std::type_identity_t<T>> target,
                                 View<std::type_identity_t<T>> gradient = {}) {
  const Tensor<LossSums> sums = sample_loss_sums<F, T>(ctx, function, output, target, gradient);
  return to_host(ctx, sums)[0].loss / static_cast<double>(output.extent(0));
}

/// The sums (1) over rows, in device memory, of the cross-entropy -Σ q log softmax(logits) of logits (..., classes)
/// against targets q of the same shape, which count as they are: probabilities, or weights of any sum. Right are rows
/// whose largest logit is at the largest target. With label smoothing s each target becomes (1 - s) q + s / classes.
/// The gradient is that of the mean over rows. Throws ShapeError unless all are contiguous and of equal shape,
/// ArgumentError for no rows, no classes and a smoothing outside [0, 1).
template <Real T>
[[nodiscard]] Tensor<LossSums> soft_cross_entropy_sums(Context& ctx, View<const T> logits,
                                                       View<const std::type_identity_t<T>> targets,
                                                       double label_smoothing,
                                                       View<std::type_identity_t<T>> gradient = {}) {
  const char* const name = "soft_cross_entropy";
  detail::require_same_shape(name, "logits", logits, "targets", targets);
  if (gradient.data_handle() != nullptr) detail::require_same_shape(name, "logits", logits, "gradient", gradient);
  if (!(label_smoothing >= 0.0 && label_smoothing < 1.0)) {
    throw ArgumentError(concat(name, ": label_smoothing is ", label_smoothing, "; it must be at least 0 and below 1"));
  }
  if (logits.rank() == 0 || logits.size() == 0) {
    throw ArgumentError(concat(name, ": logits have shape ", logits.shape(), "; at least one row and class is needed"));
  }
  const std::int64_t classes = logits.extent(logits.rank() - 1), rows = logits.size() / classes;
  Tensor<double> losses(ctx, {rows}), rights(ctx, {rows});
  for_each(ctx, rows,
           detail::SoftCrossEntropyRow<T>{logits.data_handle(), targets.data_handle(), classes, label_smoothing,
                                          T(1) / static_cast<T>(rows), gradient.data_handle(), losses.data(),
                                          rights.data()});
  return detail::loss_sums(ctx, detail::reduce_on_device(ctx, detail::Sum<double>(losses.data()), rows),
                           detail::reduce_on_device(ctx, detail::Sum<double>(rights.data()), rows));
}

/// The mean over rows of the same, and the rows that are right. Waits for the device.
template <Real T>
[[nodiscard]] double soft_cross_entropy(Context& ctx, View<const T> logits, View<const std::type_identity_t<T>> targets,
                                        double label_smoothing, std::int64_t& right,
                                        View<std::type_identity_t<T>> gradient = {}) {
  const Tensor<LossSums> sums = soft_cross_entropy_sums<T>(ctx, logits, targets, label_smoothing, gradient);
  const LossSums read = to_host(ctx, sums)[0];
  right = read.correct;
  return read.loss / static_cast<double>(logits.size() / logits.extent(logits.rank() - 1));
}

}  // namespace meristem::kernels
