// Batch normalisation, with the activation and the addition of a residual fused into it.
#pragma once

#include <meristem/kernels/batch_norm.cuh>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

struct BatchNormOptions {
  double momentum = 0.1;                         ///< share of a batch in the running statistics, in [0, 1]
  double epsilon = 1e-5;                         ///< added to the variance; positive
  Activation activation = Activation::identity;  ///< identity or relu
};

/// The statistics of a batch, taken by the layer that wrote it.
template <Real T>
struct BatchMoments {
  Tensor<T> mean;               ///< (channels); empty: not taken
  Tensor<T> inverse_deviation;  ///< (channels)
};

/// y = act((x - mean) / √(variance + epsilon) · weight + bias [+ residual]), channel by channel on the last axis of any
/// rank from 2 up; the channels may be 0.
///
/// In training mode mean and variance are those of the batch over all other axes (the biased variance), and the running
/// ones move towards them (the unbiased variance), as in PyTorch, unless `pass.measuring`. A batch with one row has
/// variance 0, so its output is act(bias [+ residual]), and leaves the running variance alone. In evaluation mode the
/// running statistics take their place, constants for backward too: run backward with the mode that forward had.
template <Real T>
class BatchNorm final : public NormLayer<T> {
 public:
  using Options = BatchNormOptions;

  /// weight 1, bias 0, running mean 0, running variance 1. Throws ArgumentError for a negative number of channels and
  /// for options outside their range.
  BatchNorm(Context& ctx, std::int64_t channels, const Options& options = {});

  [[nodiscard]] std::string_view kind() const override { return "BatchNorm"; }
  [[nodiscard]] double momentum() const noexcept { return options_.momentum; }
  [[nodiscard]] double epsilon() const noexcept { return options_.epsilon; }
  [[nodiscard]] Activation activation() const noexcept { return options_.activation; }
  [[nodiscard]] Buffer<T>& running_mean() noexcept { return running_mean_; }
  [[nodiscard]] const Buffer<T>& running_mean() const noexcept { return running_mean_; }
  [[nodiscard]] Buffer<T>& running_variance() noexcept { return running_variance_; }
  [[nodiscard]] const Buffer<T>& running_variance() const noexcept { return running_variance_; }

  /// y = act(bn(input) + residual) in one pass; residual has the input's shape, or is an empty view for none. `moments`
  /// are the input's, if they were taken. Throws ShapeError otherwise.
  [[nodiscard]] Trace<T> forward_added(Context& ctx, View<const T> input, View<const T> residual, const Pass<T>& pass,
                                       BatchMoments<T> moments = {});

  /// What a kernel needs to take the statistics of the next input in training mode, into `moments`, which it makes: the
  /// running ones move as they would in forward.
  [[nodiscard]] kernels::BatchStatistics<T> take_moments(Context& ctx, const Pass<T>& pass, BatchMoments<T>& moments);

  /// The gradients of `forward_added`; residual_gradient is overwritten with the gradient at the residual, whether or
  /// not the one at the input is asked for.
  [[nodiscard]] Tensor<T> backward_added(Context& ctx, View<const T> input, const Trace<T>& trace,
                                         Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T>& residual_gradient);

 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override {
    return normalise(ctx, input, {}, pass, {});
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override;

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static Shape checked_shape(std::int64_t channels, const Options& options);

  [[nodiscard]] Trace<T> normalise(Context& ctx, View<const T> input, View<const T> residual, const Pass<T>& pass,
                                   BatchMoments<T> moments);

  void differentiate(Context& ctx, View<const T> input, const Trace<T>& trace, View<const T> dy, const Pass<T>& pass,
                     View<T> dx, View<T> dresidual);

  Buffer<T> running_mean_;
  Buffer<T> running_variance_;
  Options options_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/batch_norm_impl.hpp>
#endif
