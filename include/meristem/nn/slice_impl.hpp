// Definitions of slice.hpp.
#pragma once

#include <utility>

#include <meristem/kernels/columns.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/slice.hpp>

namespace meristem::nn {

template <Real T>
Slice<T>::Slice(std::int64_t first, const Shape& shape) : first_(first), shape_(shape) {
  if (first < 0 || shape.rank() == 0 || shape.rank() == Shape::max_rank || shape.size() == 0) {
    throw ArgumentError(concat("Slice: numbers from ", first, " on, in the shape ", shape,
                               "; it begins at 0 or later, and has one to ", Shape::max_rank - 1,
                               " extents, none of them 0"));
  }
}

template <Real T>
Shape Slice<T>::output_shape(const Shape& input) const {
  if (input.rank() != 2 || input[1] < first_ || input[1] - first_ < shape_.size()) {
    throw ShapeError(concat(this->label(), ": reads ", shape_.size(), " numbers of each row (n, features) from number ",
                            first_, " on; the input has shape ", input));
  }
  Shape result{input[0]};
  for (int axis = 0; axis < shape_.rank(); ++axis) result.append(shape_[axis]);
  return result;
}

template <Real T>
Trace<T> Slice<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>&) {
  Trace<T> trace;
  trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
  trace.output = trace.storage.view();
  const std::int64_t size = shape_.size();
  kernels::copy_columns<T>(ctx, input, first_, trace.storage.view().reshape({input.extent(0), size}), 0, size);
  return trace;
}

template <Real T>
Tensor<T> Slice<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                const Pass<T>& pass) {
  if (!pass.input_gradient) return {};
  Tensor<T> result(ctx, input.shape());
  kernels::fill(ctx, T(0), result.view());
  const std::int64_t size = shape_.size();
  const View<const T> gradient = std::as_const(output_gradient).view().reshape({input.extent(0), size});
  kernels::copy_columns<T>(ctx, gradient, 0, result.view(), first_, size);
  return result;
}

template <Real T>
Tensor<T> side_by_side(Context& ctx, std::span<const View<const T>> inputs) {
  if (inputs.empty()) throw ArgumentError("side_by_side: there are no inputs");
  const std::int64_t n = inputs.front().rank() > 0 ? inputs.front().extent(0) : 0;
  const auto columns_of = [](View<const T> input) { return input.shape().with(0, 1).size(); };
  std::int64_t features = 0;
  for (const View<const T>& input : inputs) {
    if (input.rank() == 0 || input.extent(0) != n) {
      throw ShapeError(concat("side_by_side: inputs of shapes ", inputs.front().shape(), " and ", input.shape(),
                              "; their first axes are the samples and must agree"));
    }
    features += columns_of(input);
  }
  Tensor<T> result(ctx, {n, features});
  std::int64_t first = 0;
  for (const View<const T>& input : inputs) {
    const std::int64_t columns = columns_of(input);
    kernels::copy_columns<T>(ctx, input.reshape({n, columns}), 0, result.view(), first, columns);
    first += columns;
  }
  return result;
}

}  // namespace meristem::nn
