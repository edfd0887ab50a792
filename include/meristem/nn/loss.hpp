// Losses: the mean over the batch and its gradient at the network's output.
#pragma once

#include <cstdint>

#include <meristem/kernels/mse.cuh>
#include <meristem/kernels/softmax_cross_entropy.cuh>
#include <meristem/nn/layer.hpp>

namespace meristem::inline MERISTEM_BACKEND::nn {

/// A loss, and its gradient at the network's output.
template <Real T>
struct LossValue {
  double mean = 0.0;         ///< over the samples of the batch
  std::int64_t correct = 0;  ///< samples whose largest logit is at the label (classification only)
  Tensor<T> gradient;        ///< of `mean`, in the shape of the output; empty if not asked for
};

/// Softmax and cross-entropy of logits (n, classes) against labels (n) in [0, classes). With label smoothing ε the
/// target is 1 - ε + ε/classes at the label and ε/classes elsewhere (C. Szegedy et al., 2016).
struct CrossEntropy {
  double label_smoothing = 0.0;

  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> logits, View<const std::int32_t> labels,
                                        bool with_gradient = true) const {
    LossValue<T> value;
    if (with_gradient) value.gradient = Tensor<T>(ctx, logits.shape());
    const auto result = kernels::softmax_cross_entropy(ctx, logits, labels, label_smoothing,
                                                       with_gradient ? value.gradient.view() : View<T>());
    value.mean = result.loss_mean;
    value.correct = result.correct;
    return value;
  }
};

/// Mean over samples of the squared distance Σ (output - target)².
struct SquaredError {
  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> output, View<const T> target,
                                        bool with_gradient = true) const {
    LossValue<T> value;
    if (with_gradient) value.gradient = Tensor<T>(ctx, output.shape());
    value.mean = kernels::mse(ctx, output, target, with_gradient ? value.gradient.view() : View<T>());
    return value;
  }
};

}  // namespace meristem::inline MERISTEM_BACKEND::nn
