// Definitions of batch_norm.hpp.
#pragma once

#include <cmath>
#include <utility>

#include <meristem/kernels/batch_norm.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/batch_norm.hpp>

namespace meristem::nn {

template <Real T>
BatchNorm<T>::BatchNorm(Context& ctx, std::int64_t channels, const Options& options)
    : NormLayer<T>(ctx, checked_shape(channels, options)),
      running_mean_(ctx, "running_mean", {channels}),
      running_variance_(ctx, "running_variance", {channels}),
      options_(options) {
  kernels::fill(ctx, T(0), running_mean_.value.view());
  kernels::fill(ctx, T(1), running_variance_.value.view());
}

template <Real T>
Trace<T> BatchNorm<T>::forward_added(Context& ctx, View<const T> input, View<const T> residual, const Pass<T>& pass,
                                     BatchMoments<T> moments) {
  return this->run_forward(ctx, input, pass, [&] {
    if (residual.rank() != 0 && residual.shape() != input.shape()) {
      throw ShapeError(concat(this->label(), ": residual of shape ", residual.shape(),
                              " cannot be added to the output of shape ", input.shape(), "; make the shapes equal"));
    }
    return normalise(ctx, input, residual, pass, std::move(moments));
  });
}

template <Real T>
kernels::BatchStatistics<T> BatchNorm<T>::take_moments(Context& ctx, const Pass<T>& pass, BatchMoments<T>& moments) {
  moments = {Tensor<T>(ctx, {this->channels()}), Tensor<T>(ctx, {this->channels()})};
  kernels::BatchStatistics<T> result{moments.mean, moments.inverse_deviation, options_.epsilon};
  if (!pass.measuring) result.running = {running_mean_.value, running_variance_.value, options_.momentum};
  return result;
}

template <Real T>
Tensor<T> BatchNorm<T>::backward_added(Context& ctx, View<const T> input, const Trace<T>& trace,
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

template <Real T>
void BatchNorm<T>::describe(Description<T>& description) {
  description.normalise(NormOver::batch, weight_, bias_, options_.epsilon, 1, options_.activation);
  description.buffer(running_mean_, {Axis::channel});
  description.buffer(running_variance_, {Axis::channel});
  description.batch_norm = this;
  description.field("channels", this->channels());
  description.field("momentum", options_.momentum);
  description.field("epsilon", options_.epsilon);
  description.field("activation", kernels::activation_name(options_.activation));
}

template <Real T>
Tensor<T> BatchNorm<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>& trace, Tensor<T> output_gradient,
                                    const Pass<T>& pass) {
  differentiate(ctx, input, trace, output_gradient, pass, pass.input_gradient ? output_gradient.view() : View<T>(), {});
  if (!pass.input_gradient) return {};
  return output_gradient;
}

template <Real T>
Shape BatchNorm<T>::checked_shape(std::int64_t channels, const Options& options) {
  if (channels < 0) throw ArgumentError(concat("BatchNorm: ", channels, " channels; they must be 0 or more"));
  if (!(options.momentum >= 0.0 && options.momentum <= 1.0)) {
    throw ArgumentError(concat("BatchNorm: momentum is ", options.momentum, "; it must be between 0 and 1"));
  }
  if (!(options.epsilon > 0.0 && std::isfinite(options.epsilon))) {
    throw ArgumentError(concat("BatchNorm: epsilon is ", options.epsilon, "; it must be positive, and finite"));
  }
  kernels::detail::require_fusible("BatchNorm", options.activation);
  return {channels};
}

template <Real T>
Trace<T> BatchNorm<T>::normalise(Context& ctx, View<const T> input, View<const T> residual, const Pass<T>& pass,
                                 BatchMoments<T> moments) {
  Trace<T> trace;
  auto& [mean, inverse_deviation] = moments;
  if (pass.mode == Mode::evaluation) {
    mean = Tensor<T>(ctx, {this->channels()});
    inverse_deviation = Tensor<T>(ctx, {this->channels()});
    kernels::batch_norm_constants<T>(ctx, running_mean_.value, running_variance_.value, options_.epsilon, mean,
                                     inverse_deviation);
  } else if (mean.empty()) {
    const kernels::BatchStatistics<T> to = take_moments(ctx, pass, moments);
    kernels::batch_norm_statistics<T>(ctx, input, to.epsilon, to.mean, to.inverse_deviation, to.running);
  }
  trace.storage = Tensor<T>(ctx, input.shape());
  trace.output = trace.storage.view();
  kernels::batch_norm_forward<T>(ctx, options_.activation, input, mean, inverse_deviation, weight_.value, bias_.value,
                                 residual, trace.storage);
  trace.saved.push_back(std::move(mean));
  trace.saved.push_back(std::move(inverse_deviation));
  return trace;
}

template <Real T>
void BatchNorm<T>::differentiate(Context& ctx, View<const T> input, const Trace<T>& trace, View<const T> dy,
                                 const Pass<T>& pass, View<T> dx, View<T> dresidual) {
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

}  // namespace meristem::nn
