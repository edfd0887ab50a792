// Losses whose outputs are judged one by one, and what regression is measured by.
//
//   loss     = (1/n) sum over samples and their outputs of l(output, target)
//   gradient = l'(output, target) / n                                              (= : overwritten)
//
//   Huber                 l = e² / 2 where |e| <= delta, else delta (|e| - delta / 2);  e = output - target
//   binary cross-entropy  l = -t log p - (1 - t) log(1 - p);                            p = 1 / (1 + exp(-output))
//
// output, target and gradient: (n, ...), contiguous. The mean is over samples only; the rest of a sample is summed.
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
#include <meristem/kernels/loss_sums.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

/// P. Huber, "Robust estimation of a location parameter" (1964).
struct HuberElement {
  double delta;
  template <class T>
  MERISTEM_HD double value(T output, T target) const {
    const double e = std::fabs(static_cast<double>(output) - static_cast<double>(target));
    return e <= delta ? e * e / 2 : delta * (e - delta / 2);
  }
  template <class T>
  MERISTEM_HD T slope(T output, T target) const {
    const T e = output - target, bound = static_cast<T>(delta);
    // A NaN stays one.
    return e > bound ? bound : (e < -bound ? -bound : e);
  }
};

/// Of logits; no exponent is taken of a positive number.
struct BinaryCrossEntropyElement {
  template <class T>
  MERISTEM_HD double value(T output, T target) const {
    const double x = static_cast<double>(output);
    return (x > 0 ? x : 0.0) - x * static_cast<double>(target) + std::log1p(std::exp(-std::fabs(x)));
  }
  template <class T>
  MERISTEM_HD T slope(T output, T target) const {
    const T e = std::exp(-std::fabs(output));
    return (output >= T(0) ? T(1) : e) / (T(1) + e) - target;
  }
};

/// Sums l, writing the gradient on the way unless it is null: every term is asked for once.
template <class T, class Element>
struct ElementLoss : SumOp {
  Element element;
  const T* output;
  const T* target;
  T share;
  T* gradient;
  ElementLoss(const Element& e, const T* o, const T* t, T s, T* g)
      : element(e), output(o), target(t), share(s), gradient(g) {}
  MERISTEM_HD double term(std::int64_t i) const {
    const T o = output[i], t = target[i];
    if (gradient != nullptr) gradient[i] = share * element.slope(o, t);
    return element.value(o, t);
  }
};

/// Counts rows whose outputs all lie on the side of 0 on which their targets lie of 1/2.
template <class T>
struct RightSides : SumOp {
  const T* output;
  const T* target;
  std::int64_t columns;
  RightSides(const T* o, const T* t, std::int64_t c) : output(o), target(t), columns(c) {}
  MERISTEM_HD double term(std::int64_t row) const {
    bool right = true;
    for (std::int64_t i = row * columns; i < (row + 1) * columns; ++i) {
      right = right && (target[i] > T(0.5) ? output[i] > T(0) : output[i] <= T(0));
    }
    return right ? 1.0 : 0.0;
  }
};

struct NoBinaryLabel : MinIndexOp {
  const std::int32_t* labels;
  MERISTEM_HD std::int64_t term(std::int64_t i) const { return labels[i] == 0 || labels[i] == 1 ? no_index : i; }
};

template <class T>
struct ToTarget {
  const std::int32_t* labels;
  T* targets;
  MERISTEM_HD void operator()(std::int64_t i) const { targets[i] = static_cast<T>(labels[i]); }
};

/// Throws as the losses below say; returns the number of samples.
template <class T>
std::int64_t require_element_loss(const char* name, const View<const T>& output, const View<const T>& target,
                                  const View<T>& gradient) {
  require_same_shape(name, "output", output, "target", target);
  if (output.rank() == 0) throw ShapeError(concat(name, ": output has rank 0; its first axis must be the batch"));
  if (output.extent(0) == 0) {
    throw ArgumentError(concat(name, ": got a batch of 0 samples; a mean needs at least one"));
  }
  if (gradient.data_handle() != nullptr) require_same_shape(name, "output", output, "gradient", gradient);
  return output.extent(0);
}

/// The sum (1) over samples, in device memory.
template <class T, class Element>
Tensor<double> element_loss(Context& ctx, const char* name, const Element& element, View<const T> output,
                            View<const T> target, View<T> gradient) {
  const std::int64_t n = require_element_loss(name, output, target, gradient);
  return reduce_on_device(ctx,
                          ElementLoss<T, Element>(element, output.data_handle(), target.data_handle(),
                                                  T(1) / static_cast<T>(n), gradient.data_handle()),
                          output.size());
}

}  // namespace detail

/// The sum (1) over samples of the Huber loss above, in device memory; the gradient is left out by passing `{}`. Throws
/// ShapeError unless all are contiguous and of equal shape, ArgumentError for a batch of 0 and a delta that is not
/// positive and finite.
template <Real T>
[[nodiscard]] Tensor<LossSums> huber_sums(Context& ctx, View<const T> output,
                                          View<const std::type_identity_t<T>> target, double delta,
                                          View<std::type_identity_t<T>> gradient = {}) {
  if (!(delta > 0.0) || !std::isfinite(delta)) {
    throw ArgumentError(concat("huber: delta is ", delta, "; it must be positive and finite"));
  }
  return detail::loss_sums(
      ctx, detail::element_loss<T>(ctx, "huber", detail::HuberElement{delta}, output, target, gradient));
}

/// The Huber loss above. Waits for the device. Otherwise as `huber_sums`.
template <Real T>
[[nodiscard]] double huber(Context& ctx, View<const T> output, View<const std::type_identity_t<T>> target, double delta,
                           View<std::type_identity_t<T>> gradient = {}) {
  const Tensor<LossSums> sums = huber_sums<T>(ctx, output, target, delta, gradient);
  return to_host(ctx, sums)[0].loss / static_cast<double>(output.extent(0));
}

/// The sum (1) over samples of the binary cross-entropy above, of logits against targets in [0, 1], and the samples all
/// of whose outputs lie on the right side of 0, in device memory; with them `bad_label` (1), if there is one. Throws as
/// `huber_sums`.
template <Real T>
[[nodiscard]] Tensor<LossSums> binary_cross_entropy_sums(Context& ctx, View<const T> output,
                                                         View<const std::type_identity_t<T>> target,
                                                         View<std::type_identity_t<T>> gradient = {},
                                                         const Tensor<std::int64_t>& bad_label = {}) {
  const Tensor<double> loss = detail::element_loss<T>(ctx, "binary_cross_entropy", detail::BinaryCrossEntropyElement{},
                                                      output, target, gradient);
  const std::int64_t n = output.extent(0);
  const detail::RightSides<T> right_sides(output.data_handle(), target.data_handle(), output.size() / n);
  return detail::loss_sums(ctx, loss, detail::reduce_on_device(ctx, right_sides, n), bad_label);
}

/// The binary cross-entropy above, and the samples that are right. Waits for the device. Otherwise as
/// `binary_cross_entropy_sums`.
template <Real T>
[[nodiscard]] double binary_cross_entropy(Context& ctx, View<const T> output,
                                          View<const std::type_identity_t<T>> target, std::int64_t& right,
                                          View<std::type_identity_t<T>> gradient = {}) {
  const Tensor<LossSums> sums = binary_cross_entropy_sums<T>(ctx, output, target, gradient);
  const LossSums read = to_host(ctx, sums)[0];
  right = read.correct;
  return read.loss / static_cast<double>(output.extent(0));
}

namespace detail {

template <class T>
struct ErrorSumsOp {
  using Value = ErrorSums;
  const T* output;
  const T* target;
  MERISTEM_HD static ErrorSums identity() { return {0.0, 0.0, 0.0, 0.0}; }
  MERISTEM_HD static ErrorSums combine(ErrorSums a, ErrorSums b) {
    return {a.absolute + b.absolute, a.squares + b.squares, a.targets + b.targets, a.target_squares + b.target_squares};
  }
  MERISTEM_HD ErrorSums term(std::int64_t i) const {
    const double t = static_cast<double>(target[i]), e = static_cast<double>(output[i]) - t;
    return {std::fabs(e), e * e, t, t * t};
  }
  __device__ static ErrorSums shuffle_down(unsigned mask, ErrorSums value, int offset) {
    const unsigned delta = static_cast<unsigned>(offset);
    return {__shfl_down_sync(mask, value.absolute, delta), __shfl_down_sync(mask, value.squares, delta),
            __shfl_down_sync(mask, value.targets, delta), __shfl_down_sync(mask, value.target_squares, delta)};
  }
};

}  // namespace detail

/// The sums of output against target; waits for the device. Throws ShapeError unless both are contiguous and of equal
/// shape.
template <Real T>
[[nodiscard]] ErrorSums error_sums(Context& ctx, View<const T> output, View<const std::type_identity_t<T>> target) {
  detail::require_same_shape("error_sums", "output", output, "target", target);
  return detail::reduce(ctx, detail::ErrorSumsOp<T>{output.data_handle(), target.data_handle()}, output.size());
}

/// targets[i] = labels[i]. Returns the index (1) of the first label other than 0 and 1, in device memory, or
/// LossSums::no_row. Throws ShapeError unless both are contiguous and of one size.
template <Real T>
[[nodiscard]] Tensor<std::int64_t> binary_targets(Context& ctx, View<const std::int32_t> labels, View<T> targets) {
  detail::require_contiguous("binary_targets", "labels", labels);
  detail::require_contiguous("binary_targets", "targets", targets);
  if (labels.size() != targets.size()) {
    throw ShapeError(concat("binary_targets: labels have shape ", labels.shape(), ", targets ", targets.shape(),
                            "; one label is needed for each target"));
  }
  for_each(ctx, labels.size(), detail::ToTarget<T>{labels.data_handle(), targets.data_handle()});
  return detail::reduce_on_device(ctx, detail::NoBinaryLabel{{}, labels.data_handle()}, labels.size());
}

}  // namespace meristem::kernels
