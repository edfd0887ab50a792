// Definitions of activation.hpp.
#pragma once

#include <meristem/nn/activation.hpp>

namespace meristem::nn {

template <Real T>
void ActivationLayer<T>::describe(Description<T>& description) {
  description.elementwise(function_);
  description.kind = "Activation";
  description.field("function", kernels::activation_name(function_));
}

template <Real T>
Trace<T> ActivationLayer<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>&) {
  Trace<T> trace;
  trace.storage = Tensor<T>(ctx, input.shape());
  kernels::activation_forward<T>(ctx, function_, input, trace.storage);
  trace.output = trace.storage.view();
  return trace;
}

template <Real T>
Tensor<T> ActivationLayer<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                          const Pass<T>& pass) {
  if (!pass.input_gradient) return {};
  kernels::activation_backward<T>(ctx, function_, input, output_gradient, output_gradient);
  return output_gradient;
}

}  // namespace meristem::nn
