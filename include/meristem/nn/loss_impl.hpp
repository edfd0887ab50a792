// Definitions of loss.hpp.
#pragma once

#include <cstdint>
#include <type_traits>

#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/element_loss.cuh>
#include <meristem/kernels/mse.cuh>
#include <meristem/kernels/softmax_cross_entropy.cuh>
#include <meristem/nn/loss.hpp>

namespace meristem::nn {

namespace detail {

template <Real T>
[[nodiscard]] const View<const T>& required_targets(const char* loss, const BatchView<T>& batch) {
  if (batch.has_targets()) return batch.targets;
  throw DataError(concat(loss, ": the batch has no targets", batch.has_labels() ? ", only labels" : "",
                         "; give it targets, or take a loss for labels"));
}

}  // namespace detail

template <Real T>
LossValue<T> CrossEntropy::operator()(Context& ctx, View<const T> logits, View<const std::int32_t> labels,
                                      bool with_gradient) const {
  LossValue<T> value = detail::room_for_gradient(ctx, logits, with_gradient);
  const auto result =
      kernels::softmax_cross_entropy(ctx, logits, labels, label_smoothing, detail::gradient_of(value, with_gradient));
  value.mean = result.loss_mean;
  value.correct = result.correct;
  value.judged = labels.size();
  return value;
}

template <Real T>
LossValue<T> CrossEntropy::operator()(Context& ctx, View<const T> logits,
                                      const std::type_identity_t<BatchView<T>>& batch, bool with_gradient) const {
  if (batch.has_labels() || batch.size() == 0) return (*this)(ctx, logits, batch.labels, with_gradient);
  return detail::read(ctx, of_targets(ctx, logits, batch, with_gradient));
}

template <Real T>
LossValue<T> CrossEntropy::on_device(Context& ctx, View<const T> logits,
                                     const std::type_identity_t<BatchView<T>>& batch, bool with_gradient) const {
  if (!batch.has_labels() && batch.size() > 0) return of_targets(ctx, logits, batch, with_gradient);
  LossValue<T> value = detail::room_for_gradient(ctx, logits, with_gradient);
  value.sums = kernels::softmax_cross_entropy_sums(ctx, logits, batch.labels, label_smoothing,
                                                   detail::gradient_of(value, with_gradient));
  value.judged = value.rows = batch.labels.size();
  return value;
}

template <Real T>
LossValue<T> CrossEntropy::of_targets(Context& ctx, View<const T> logits, const BatchView<T>& batch,
                                      bool with_gradient) const {
  if (!batch.has_targets()) throw DataError("cross-entropy: the batch has neither labels nor targets");
  LossValue<T> value = detail::room_for_gradient(ctx, logits, with_gradient);
  value.sums = kernels::soft_cross_entropy_sums<T>(ctx, logits, batch.targets, label_smoothing,
                                                   detail::gradient_of(value, with_gradient));
  value.judged = value.rows = logits.size() / logits.extent(logits.rank() - 1);
  return value;
}

template <Real T>
LossValue<T> SquaredError::operator()(Context& ctx, View<const T> output, View<const std::type_identity_t<T>> target,
                                      bool with_gradient) const {
  return detail::read(ctx, sums_of(ctx, output, target, with_gradient));
}

template <Real T>
LossValue<T> SquaredError::operator()(Context& ctx, View<const T> output,
                                      const std::type_identity_t<BatchView<T>>& batch, bool with_gradient) const {
  return detail::read(ctx, on_device(ctx, output, batch, with_gradient));
}

template <Real T>
LossValue<T> SquaredError::on_device(Context& ctx, View<const T> output,
                                     const std::type_identity_t<BatchView<T>>& batch, bool with_gradient) const {
  return sums_of(ctx, output, detail::required_targets("squared error", batch), with_gradient);
}

template <Real T>
LossValue<T> SquaredError::sums_of(Context& ctx, View<const T> output, const View<const T>& target,
                                   bool with_gradient) const {
  LossValue<T> value = detail::room_for_gradient(ctx, output, with_gradient);
  value.sums = kernels::mse_sums(ctx, output, target, detail::gradient_of(value, with_gradient));
  value.rows = output.extent(0);
  return value;
}

template <Real T>
LossValue<T> Huber::operator()(Context& ctx, View<const T> output, const std::type_identity_t<BatchView<T>>& batch,
                               bool with_gradient) const {
  return detail::read(ctx, on_device(ctx, output, batch, with_gradient));
}

template <Real T>
LossValue<T> Huber::on_device(Context& ctx, View<const T> output, const std::type_identity_t<BatchView<T>>& batch,
                              bool with_gradient) const {
  LossValue<T> value = detail::room_for_gradient(ctx, output, with_gradient);
  value.sums = kernels::huber_sums<T>(ctx, output, detail::required_targets("Huber loss", batch), delta,
                                      detail::gradient_of(value, with_gradient));
  value.rows = output.extent(0);
  return value;
}

template <Real T>
LossValue<T> BinaryCrossEntropy::operator()(Context& ctx, View<const T> output,
                                            const std::type_identity_t<BatchView<T>>& batch, bool with_gradient) const {
  return detail::read(ctx, on_device(ctx, output, batch, with_gradient), [&](std::int64_t bad) {
    const std::int32_t label = to_host(ctx, View<const std::int32_t>(batch.labels.data_handle() + bad, {1}))[0];
    throw DataError(concat("binary cross-entropy: label ", bad, " is ", label,
                           "; it must be 0 or 1; give targets for probabilities, cross-entropy for more classes"));
  });
}

template <Real T>
LossValue<T> BinaryCrossEntropy::on_device(Context& ctx, View<const T> output,
                                           const std::type_identity_t<BatchView<T>>& batch, bool with_gradient) const {
  LossValue<T> value = detail::room_for_gradient(ctx, output, with_gradient);
  Tensor<T> from_labels;
  Tensor<std::int64_t> bad_label;
  View<const T> targets = batch.targets;
  if (batch.has_labels()) {
    from_labels = Tensor<T>(ctx, output.shape());
    bad_label = kernels::binary_targets<T>(ctx, batch.labels, from_labels);
    targets = from_labels;
  } else {
    targets = detail::required_targets("binary cross-entropy", batch);
  }
  value.sums =
      kernels::binary_cross_entropy_sums<T>(ctx, output, targets, detail::gradient_of(value, with_gradient), bad_label);
  value.judged = value.rows = output.extent(0);
  return value;
}

}  // namespace meristem::nn
