// Batch normalisation, with the activation and the addition of a residual fused into it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <meristem/kernels/batch_norm.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

struct BatchNormOptions {
  double momentum = 0.1;                         ///< share of a batch in the running statistics, in [0, 1]
  double epsilon = 1e-5;                         ///< added to the variance; positive
  Activation activation = Activation::identity;  ///< identity or relu
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
  BatchNorm(Context& ctx, std::int64_t channels, const Options& options = {})
      : NormLayer<T>(ctx, checked_shape(channels, options)),
        running_mean_(ctx, "running_mean", {channels}),
        running_variance_(ctx, "running_variance", {channels}),
        options_(options) {
    kernels::fill(ctx, T(0), running_mean_.value.view());
    kernels::fill(ctx, T(1), running_variance_.value.view());
  }

  [[nodiscard]] std::string_view kind() const override { return "BatchNorm"; }
  [[nodiscard]] double momentum() const noexcept { return options_.momentum; }
  [[nodiscard]] double epsilon() const noexcept { return options_.epsilon; }
  [[nodiscard]] Activation activation() const noexcept { return options_.activation; }
  [[nodiscard]] Buffer<T>& running_mean() noexcept { return running_mean_; }
  [[nodiscard]] const Buffer<T>& running_mean() const noexcept { return running_mean_; }
  [[nodiscard]] Buffer<T>& running_variance() noexcept { return running_variance_; }
  [[nodiscard]] const Buffer<T>& running_variance() const noexcept { return running_variance_; }

  /// y = act(bn(input) + residual) in one pass; residual has the input's shape, or is an empty view for none. Throws
  /// ShapeError otherwise.
  [[nodiscard]] Trace<T> forward_added(Context& ctx, View<const T> input, View<const T> residual, const Pass<T>& pass) {
    return this->run_forward(ctx, input, pass, [&] {
      if (residual.rank() != 0 && residual.shape() != input.shape()) {
        throw ShapeError(concat(this->label(), ": residual of shape ", residual.shape(),
                                " cannot be added to the output of shape ", input.shape(), "; make the shapes equal"));
      }
      return normalise(ctx, input, residual, pass);
    });
  }

  /// The gradients of `forward_added`; residual_gradient is overwritten with the gradient at the residual, whether or
  /// not the one at the input is asked for.
  [[nodiscard]] Tensor<T> backward_added(Context& ctx, View<const T> input, const Trace<T>& trace,
                                         Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T>& residual_gradient) {
    return this->run_backward(ctx, input, trace, output_gradient, pass, [&] {
      Tensor<T> dx = pass.input_gradient ? empty<T>(ctx, input.shape()) : Tensor<T>();
      // Without an activation the gradient at the residual is the one at the output.
      const bool masked = options_.activation != Activation::identity;
      differentiate(ctx, input, trace, output_gradient, pass, pass.input_gradient ? dx.view() : View<T>(),
                    masked ? output_gradient.view() : View<T>());
      residual_gradient = std::move(output_gradient);
      return dx;
    });
  }

 protected:
  void describe(Description<T>& description) override {
    description.normalise(NormOver::batch, weight_, bias_, options_.epsilon, 1, options_.activation);
    description.buffer(running_mean_, {Axis::channel});
    description.buffer(running_variance_, {Axis::channel});
    description.batch_norm = this;
    description.field("channels", this->channels());
    description.field("momentum", options_.momentum);
    description.field("epsilon", options_.epsilon);
    description.field("activation", kernels::activation_name(options_.activation));
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override {
    return normalise(ctx, input, {}, pass);
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override {
    differentiate(ctx, input, trace, output_gradient, pass, pass.input_gradient ? output_gradient.view() : View<T>(),
                  {});
    if (!pass.input_gradient) return {};
    return output_gradient;
  }

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static Shape checked_shape(std::int64_t channels, const Options& options) {
    if (channels < 0) throw ArgumentError(concat("BatchNorm: ", channels, " channels; they must be 0 or more"));
    if (!(options.momentum >= 0.0 && options.momentum <= 1.0)) {
      throw ArgumentError(concat("BatchNorm: momentum is ", options.momentum, "; it must be between 0 and 1"));
    }
    if (!(options.epsilon > 0.0)) {
      throw ArgumentError(concat("BatchNorm: epsilon is ", options.epsilon, "; it must be positive"));
    }
    kernels::detail::require_fusible("BatchNorm", options.activation);
    return {channels};
  }

  [[nodiscard]] Trace<T> normalise(Context& ctx, View<const T> input, View<const T> residual, const Pass<T>& pass) {
    Trace<T> trace;
    Tensor<T> mean(ctx, {this->channels()}), inverse_deviation(ctx, {this->channels()});
    if (pass.mode == Mode::training) {
      kernels::RunningStatistics<T> running;
      if (!pass.measuring) running = {running_mean_.value, running_variance_.value, options_.momentum};
      kernels::batch_norm_statistics<T>(ctx, input, options_.epsilon, mean, inverse_deviation, running);
    } else {
      kernels::batch_norm_constants<T>(ctx, running_mean_.value, running_variance_.value, options_.epsilon, mean,
                                       inverse_deviation);
    }
    trace.storage = Tensor<T>(ctx, input.shape());
    trace.output = trace.storage.view();
    kernels::batch_norm_forward<T>(ctx, options_.activation, input, mean, inverse_deviation, weight_.value, bias_.value,
                                   residual, trace.storage);
    trace.saved.push_back(std::move(mean));
    trace.saved.push_back(std::move(inverse_deviation));
    return trace;
  }

  void differentiate(Context& ctx, View<const T> input, const Trace<T>& trace, View<const T> dy, const Pass<T>& pass,
                     View<T> dx, View<T> dresidual) {
    const bool wanted = pass.gradients != GradientMode::ignore;
    kernels::BatchNormForward<T> forward{input,
                                         trace.saved[0],
                                         trace.saved[1],
                                         weight_.value,
                                         trace.output,
                                         options_.activation,
                                         pass.mode == Mode::evaluation};
    kernels::batch_norm_backward<T>(ctx, forward, dy, this->accumulation(pass),
                                    wanted ? weight_.gradient.view() : View<T>(),
                                    wanted ? bias_.gradient.view() : View<T>(), dx, dresidual);
  }

  Buffer<T> running_mean_;
  Buffer<T> running_variance_;
  Options options_;
};

}  // namespace meristem::nn
