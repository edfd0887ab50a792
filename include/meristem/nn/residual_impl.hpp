// Definitions of residual.hpp.
#pragma once

#include <meristem/kernels/activation.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/residual.hpp>

namespace meristem::nn {

template <Real T>
Residual<T>::Residual(const Options& options) : activation_(options.activation) {
  if (activation_ != Activation::relu && activation_ != Activation::identity) {
    throw ArgumentError(concat("Residual: the activation of the sum is ", activation_, "; choose relu or identity"));
  }
  shortcut_.set_name("shortcut");
  body_.reserve_name("shortcut", "the name of the other branch");
}

template <Real T>
Shape Residual<T>::output_shape(const Shape& input) const {
  const Shape body = body_.output_shape(input), shortcut = shortcut_.output_shape(input);
  if (body != shortcut) {
    throw ShapeError(
        concat(this->label(), ": the body gives ", body, ", the shortcut ", shortcut, "; ", remedy(input, body)));
  }
  return body;
}

template <Real T>
void Residual<T>::describe(Description<T>& description) {
  description.sum(activation_);
  description.adding = adding_norm();
  description.child("", body_);
  description.child("shortcut", shortcut_);
  description.field("activation", kernels::activation_name(activation_));
  description.layers_field("body", body_);
  description.layers_field("shortcut", shortcut_);
}

template <Real T>
Trace<T> Residual<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) {
  const std::size_t count = body_.size();
  BatchNorm<T>* const norm = adding_norm();
  BatchMoments<T> moments;
  Trace<T> body =
      body_.forward_range(0, count > 0 ? count - 1 : 0, ctx, input, pass, norm != nullptr ? &moments : nullptr);
  Trace<T> shortcut = shortcut_.forward_range(0, shortcut_.size(), ctx, input, pass);
  Trace<T> trace;
  if (norm != nullptr) {
    body.children.push_back(norm->forward_added(ctx, body.output, shortcut.output, pass, std::move(moments)));
    body.output = body.children.back().output;
    trace.output = body.output;
    if (norm->activation() != activation_) {
      const View<T> sum = body.children.back().storage.view();
      kernels::activation_forward<T>(ctx, activation_, sum, sum);
    }
  } else {
    if (count > 0) {
      body.children.push_back(body_[count - 1].forward(ctx, body.output, pass));
      body.output = body.children.back().output;
    }
    trace.storage = Tensor<T>(ctx, body.output.shape());
    const View<T> sum = trace.storage.view();
    kernels::combine<T>(ctx, T(1), body.output, T(1), shortcut.output, sum);
    if (activation_ != Activation::identity) kernels::activation_forward<T>(ctx, activation_, sum, sum);
    trace.output = sum;
  }
  trace.children.push_back(std::move(body));
  trace.children.push_back(std::move(shortcut));
  return trace;
}

template <Real T>
Tensor<T> Residual<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>& trace, Tensor<T> output_gradient,
                                   const Pass<T>& pass) {
  const Trace<T>& body = trace.children[0];
  const std::size_t count = body_.size();
  this->require_trace(body.children.size() == count);
  BatchNorm<T>* const norm = adding_norm();
  Tensor<T> sum_gradient = std::move(output_gradient);
  if (activation_ != Activation::identity && (norm == nullptr || norm->activation() != activation_)) {
    // relu's slope can be told from its output.
    kernels::activation_backward<T>(ctx, activation_, trace.output, sum_gradient, sum_gradient);
  }
  // Gradients at the output of the last layer of each branch that is still to run.
  Tensor<T> body_gradient, shortcut_gradient;
  std::size_t left = count;
  if (norm != nullptr) {
    left = count - 1;
    const View<const T> norm_input = left == 0 ? input : body.children[left - 1].output;
    Pass<T> inner = pass;
    inner.input_gradient = pass.input_gradient || body_.first_with_work() < left;
    body_gradient =
        norm->backward_added(ctx, norm_input, body.children[left], std::move(sum_gradient), inner, shortcut_gradient);
  } else {
    body_gradient = clone(ctx, sum_gradient);
    shortcut_gradient = std::move(sum_gradient);
  }
  shortcut_gradient =
      shortcut_.backward_first(shortcut_.size(), ctx, input, trace.children[1], std::move(shortcut_gradient), pass);
  return body_.backward_first(left, ctx, input, body, std::move(body_gradient), pass, std::move(shortcut_gradient));
}

template <Real T>
BatchNorm<T>* Residual<T>::adding_norm() {
  if (body_.size() == 0) return nullptr;
  BatchNorm<T>* const norm = body_[body_.size() - 1].description().batch_norm;
  const bool adds = norm && (norm->activation() == Activation::identity || norm->activation() == activation_);
  return adds ? norm : nullptr;
}

template <Real T>
void Residual<T>::refuse_shortcut(std::string_view name) const {
  if (name != "shortcut") return;
  throw ArgumentError(concat(this->label(), ": 'shortcut' is the name of the other branch; choose another"));
}

template <Real T>
std::string Residual<T>::remedy(const Shape& input, const Shape& body) {
  if (input.rank() == 4 && body.rank() == 4 && body[1] > 0 && body[2] > 0) {
    const Extent2 stride((input[1] + body[1] - 1) / body[1], (input[2] + body[2] - 1) / body[2]);
    return concat("give the shortcut a 1x1 convolution with ", body[3], " output channels and stride ", stride,
                  ", or make the shapes equal");
  }
  return "make the shapes equal, or give the shortcut a layer that changes its shape";
}

}  // namespace meristem::nn
