// Definitions of description.hpp.
#pragma once

#include <meristem/nn/description.hpp>

namespace meristem::nn {

template <Real T>
void Description<T>::affine(Parameter<T>& weight_, Parameter<T>* bias_, const Window& window_) {
  const Shape& shape = weight_.value.shape();
  const Extent2 kernel = shape.rank() == 4 ? Extent2(shape[1], shape[2]) : Extent2(1);
  if ((shape.rank() != 2 && shape.rank() != 4) || window_.kernel != kernel) {
    throw ArgumentError(concat(weight_.name, ": the weight ", shape, " of an affine layer with the window ",
                               window_.kernel,
                               "; it is (out, in), or (out, rows, columns, in) with a window of that size"));
  }
  op = Operator::affine;
  weight = &weight_;
  bias = bias_;
  window = window_;
  if (shape.rank() == 2) {
    parameter(weight_, {Axis::out, Axis::in});
  } else {
    parameter(weight_, {Axis::out, Axis::none, Axis::none, Axis::in});
  }
  if (bias_) parameter(*bias_, {Axis::out});
}

template <Real T>
void Description<T>::elementwise(Activation function) {
  op = Operator::elementwise;
  activation = function;
  slope_at_zero = kernels::slope_at_zero(function);
}

template <Real T>
void Description<T>::elementwise(std::optional<double> slope) {
  op = Operator::elementwise;
  slope_at_zero = slope;
}

template <Real T>
void Description<T>::normalise(NormOver over_, Parameter<T>& weight_, Parameter<T>& bias_, double epsilon_,
                               std::int64_t groups_, Activation function) {
  op = Operator::normalise;
  over = over_;
  weight = &weight_;
  bias = &bias_;
  epsilon = epsilon_;
  groups = groups_;
  activation = function;
  parameter(weight_, {Axis::channel});
  parameter(bias_, {Axis::channel});
}

template <Real T>
void Description<T>::pool(Pooling pooling_, const std::optional<Window>& window_) {
  op = Operator::pool;
  pooling = pooling_;
  window = window_.value_or(Window{});
  global = !window_;
}

template <Real T>
void Description<T>::slice(std::int64_t first_, const Shape& shape_) {
  op = Operator::slice;
  first = first_;
  shape = shape_;
  FieldValue::List extents;
  for (int axis = 0; axis < shape.rank(); ++axis) extents.emplace_back(shape[axis]);
  field("first", first);
  field("shape", extents);
}

template <Real T>
void Description<T>::sum(Activation function) {
  op = Operator::sum;
  activation = function;
}

template <Real T>
void Description<T>::window_fields(const Window& w) {
  field("kernel", w.kernel);
  field("stride", w.stride);
  field("padding", w.padding);
  field("dilation", w.dilation);
}

template <Real T>
bool Description<T>::plain() const noexcept {
  const std::size_t learned = op == Operator::affine ? (bias ? 2 : 1) : (op == Operator::normalise ? 2 : 0);
  const std::size_t kept = op == Operator::normalise && over == NormOver::batch ? 2 : 0;
  return parameters.size() == learned && buffers.size() == kept;
}

template <Real T>
bool Description<T>::keeps_order() const noexcept {
  return op == Operator::identity || op == Operator::elementwise ||
         (op == Operator::normalise && (over != NormOver::groups || groups == 1));
}

}  // namespace meristem::nn
