// Definitions of dropout.hpp.
#pragma once

#include <meristem/kernels/dropout.cuh>
#include <meristem/nn/dropout.hpp>

namespace meristem::nn {

template <Real T>
Dropout<T>::Dropout(double probability) : probability_(probability) {
  if (!(probability >= 0.0 && probability < 1.0)) {
    throw ArgumentError(
        concat("Dropout: the probability to drop an element is ", probability, "; it must be at least 0 and below 1"));
  }
}

template <Real T>
void Dropout<T>::describe(Description<T>& description) {
  description.identity();
  description.field("probability", probability_);
}

template <Real T>
Trace<T> Dropout<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) {
  Trace<T> trace;
  trace.output = input;
  if (pass.mode != Mode::training || pass.measuring || probability_ == 0.0) return trace;
  trace.random_stream = ctx.next_shifted_random_stream();
  trace.storage = Tensor<T>(ctx, input.shape());
  kernels::dropout<T>(ctx, trace.random_stream, probability_, input, trace.storage);
  trace.output = trace.storage.view();
  return trace;
}

template <Real T>
Tensor<T> Dropout<T>::do_backward(Context& ctx, View<const T>, const Trace<T>& trace, Tensor<T> output_gradient,
                                  const Pass<T>& pass) {
  if (!pass.input_gradient) return {};
  if (!trace.storage.empty()) {
    kernels::dropout<T>(ctx, trace.random_stream, probability_, output_gradient, output_gradient);
  }
  return output_gradient;
}

}  // namespace meristem::nn
