// Definitions of layer_norm.hpp.
#pragma once

#include <cmath>
#include <utility>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/layer_norm.cuh>
#include <meristem/nn/layer_norm.hpp>

namespace meristem::nn {

template <Real T>
LayerNorm<T>::LayerNorm(Context& ctx, std::int64_t channels, const Options& options)
    : NormLayer<T>(ctx, checked_shape(channels, options)), epsilon_(options.epsilon) {}

template <Real T>
void LayerNorm<T>::describe(Description<T>& description) {
  description.normalise(NormOver::row, weight_, bias_, epsilon_);
  description.field("channels", this->channels());
  description.field("epsilon", epsilon_);
}

template <Real T>
Trace<T> LayerNorm<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>&) {
  Trace<T> trace;
  trace.storage = Tensor<T>(ctx, this->output_shape(input.shape()));
  trace.output = trace.storage.view();
  const std::int64_t rows = input.as_matrix().extent(0);
  Tensor<T> mean(ctx, {rows}), inverse_deviation(ctx, {rows});
  kernels::layer_norm_forward<T>(ctx, input, weight_.value, bias_.value, epsilon_, mean, inverse_deviation,
                                 trace.storage);
  trace.saved.push_back(std::move(mean));
  trace.saved.push_back(std::move(inverse_deviation));
  return trace;
}

template <Real T>
Tensor<T> LayerNorm<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>& trace, Tensor<T> output_gradient,
                                    const Pass<T>& pass) {
  const bool wanted = pass.gradients != GradientMode::ignore;
  kernels::layer_norm_backward<T>(ctx, input, trace.saved[0], trace.saved[1], weight_.value, output_gradient,
                                  this->accumulation(pass), wanted ? weight_.gradient.view() : View<T>(),
                                  wanted ? bias_.gradient.view() : View<T>(),
                                  pass.input_gradient ? output_gradient.view() : View<T>());
  if (!pass.input_gradient) return {};
  return output_gradient;
}

template <Real T>
Shape LayerNorm<T>::checked_shape(std::int64_t channels, const Options& options) {
  if (channels < 0) throw ArgumentError(concat("LayerNorm: ", channels, " channels; they must be 0 or more"));
  if (!(options.epsilon > 0.0 && std::isfinite(options.epsilon))) {
    throw ArgumentError(concat("LayerNorm: epsilon is ", options.epsilon, "; it must be positive, and finite"));
  }
  return {channels};
}

}  // namespace meristem::nn
