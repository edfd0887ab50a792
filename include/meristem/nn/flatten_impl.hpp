// Definitions of flatten.hpp.
#pragma once

#include <utility>

#include <meristem/nn/flatten.hpp>

namespace meristem::nn {

template <Real T>
Shape Flatten<T>::output_shape(const Shape& input) const {
  if (input.rank() == 0) throw ShapeError(concat(this->label(), ": the input has no batch axis"));
  Shape features;
  for (int axis = 1; axis < input.rank(); ++axis) features.append(input[axis]);
  return {input[0], features.size()};
}

template <Real T>
Trace<T> Flatten<T>::do_forward(Context&, View<const T> input, const Pass<T>&) {
  Trace<T> trace;
  trace.output = input.reshape(output_shape(input.shape()));
  return trace;
}

template <Real T>
Tensor<T> Flatten<T>::do_backward(Context&, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                  const Pass<T>& pass) {
  if (!pass.input_gradient) return {};
  return std::move(output_gradient).reshape(input.shape());
}

}  // namespace meristem::nn
