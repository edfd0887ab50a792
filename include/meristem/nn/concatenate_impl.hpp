// Definitions of concatenate.hpp.
#pragma once

#include <meristem/kernels/columns.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/concatenate.hpp>

namespace meristem::nn {

template <Real T>
Layer<T>& Concatenate<T>::append(std::string name, LayerPtr<T> branch) {
  owner_.set_name(this->name());
  branches_.push_back(&owner_.append(std::move(name), std::move(branch)));
  return *branches_.back();
}

template <Real T>
Shape Concatenate<T>::output_shape(const Shape& input) const {
  if (branches_.empty()) {
    throw ArgumentError(concat(this->label(), ": has no branch; add one, such as a Sequential"));
  }
  Shape shape;
  for (std::size_t i = 0; i < branches_.size(); ++i) {
    const Shape branch = branches_[i]->output_shape(input);
    const int last = branch.rank() - 1;
    if (i == 0) {
      shape = branch;
    } else if (branch.rank() != shape.rank() || branch.with(last, shape[last]) != shape) {
      throw ShapeError(concat(this->label(), ": ", branches_[0]->label(), " gives ", branches_[0]->output_shape(input),
                              ", ", branches_[i]->label(), " ", branch,
                              "; make the shapes equal in all but the last axis"));
    } else {
      shape = shape.with(last, shape[last] + branch[last]);
    }
  }
  return shape;
}

template <Real T>
std::int64_t Concatenate<T>::multiply_adds(const Shape& input) const {
  std::int64_t total = 0;
  for (const Layer<T>* branch : branches_) total += branch->multiply_adds(input);
  return total;
}

template <Real T>
void Concatenate<T>::describe(Description<T>& description) {
  description.concatenate();
  for (const auto& branch : owner_.description().children) description.child(branch.name, *branch.layer);
  description.layers_field("branches", *this);
}

template <Real T>
Trace<T> Concatenate<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) {
  Trace<T> trace;
  trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
  trace.output = trace.storage.view();
  const View<T> rows = trace.storage.view().as_matrix();
  std::int64_t first = 0;
  for (std::size_t i = 0; i < branches_.size(); ++i) {
    Trace<T> branch = branches_[i]->forward(ctx, input, pass);
    const View<const T> part = branch.output.as_matrix();
    kernels::copy_columns<T>(ctx, part, 0, rows, first, part.extent(1));
    first += part.extent(1);
    if (!pass.forward_only) trace.children.push_back(std::move(branch));
  }
  return trace;
}

template <Real T>
Tensor<T> Concatenate<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) {
  this->require_trace(trace.children.size() == branches_.size());
  const View<const T> rows = std::as_const(output_gradient).view().as_matrix();
  Tensor<T> input_gradient;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < branches_.size(); ++i) {
    Tensor<T> part(ctx, trace.children[i].output.shape());
    const View<T> to = part.view().as_matrix();
    kernels::copy_columns<T>(ctx, rows, first, to, 0, to.extent(1));
    first += to.extent(1);
    input_gradient =
        branches_[i]->backward(ctx, input, trace.children[i], std::move(part), pass, std::move(input_gradient));
  }
  return input_gradient;
}

}  // namespace meristem::nn
