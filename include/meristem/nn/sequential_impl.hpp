// Definitions of sequential.hpp.
#pragma once

#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::nn {

template <Real T>
Layer<T>& Sequential<T>::append(std::string name, LayerPtr<T> layer) {
  return insert(layers_.size(), std::move(name), std::move(layer));
}

template <Real T>
Layer<T>& Sequential<T>::insert(std::size_t position, std::string name, LayerPtr<T> layer) {
  check_name(name);
  if (!layer) throw ArgumentError(concat(this->label(), ": the layer '", name, "' is a null pointer"));
  if (position > layers_.size()) {
    throw ArgumentError(concat(this->label(), ": there is no position ", position, " for '", name, "' among ",
                               layers_.size(), " layers"));
  }
  Layer<T>& result = *layer;
  result.set_name(this->path_of(name));
  layers_.insert(layers_.begin() + static_cast<std::ptrdiff_t>(position), Child{std::move(name), std::move(layer)});
  return result;
}

template <Real T>
LayerPtr<T> Sequential<T>::extract(std::string_view name) {
  const std::size_t at = position(name);
  LayerPtr<T> layer = std::move(layers_[at].layer);
  layers_.erase(layers_.begin() + static_cast<std::ptrdiff_t>(at));
  return layer;
}

template <Real T>
std::size_t Sequential<T>::position(std::string_view name) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].name == name) return i;
  }
  throw ArgumentError(concat(this->label(), ": there is no layer named '", name, "'"));
}

template <Real T>
void Sequential<T>::reserve_name(std::string name, std::string what) {
  reserved_ = std::move(name);
  reserved_for_ = std::move(what);
}

template <Real T>
Layer<T>& Sequential<T>::operator[](std::size_t index) {
  if (index >= layers_.size()) {
    throw ArgumentError(concat(this->label(), ": there is no layer ", index, " among ", layers_.size()));
  }
  return *layers_[index].layer;
}

template <Real T>
Shape Sequential<T>::output_shape(const Shape& input) const {
  Shape shape = input;
  for (const Child& child : layers_) shape = child.layer->output_shape(shape);
  return shape;
}

template <Real T>
std::int64_t Sequential<T>::multiply_adds(const Shape& input) const {
  std::int64_t total = 0;
  Shape shape = input;
  for (const Child& child : layers_) {
    total += child.layer->multiply_adds(shape);
    shape = child.layer->output_shape(shape);
  }
  return total;
}

template <Real T>
auto Sequential<T>::normalised(std::size_t index) -> Normalised {
  if (index + 1 >= layers_.size()) return {};
  auto* const conv = dynamic_cast<Conv2d<T>*>(&(*this)[index]);
  auto* const norm = conv ? dynamic_cast<BatchNorm<T>*>(&(*this)[index + 1]) : nullptr;
  return norm && norm->channels() == conv->out_channels() ? Normalised{conv, norm} : Normalised{};
}

template <Real T>
Trace<T> Sequential<T>::run(std::size_t index, std::size_t end, Context& ctx, View<const T> input, const Pass<T>& pass,
                            BatchMoments<T>& moments) {
  Layer<T>& layer = (*this)[index];
  if (!moments.mean.empty()) {
    // Moments are taken for nothing else.
    return static_cast<BatchNorm<T>&>(layer).forward_added(ctx, input, {}, pass, std::exchange(moments, {}));
  }
  if (pass.mode != Mode::training || index + 1 >= end) return layer.forward(ctx, input, pass);
  const auto [conv, norm] = normalised(index);
  if (conv == nullptr) return layer.forward(ctx, input, pass);
  const kernels::BatchStatistics<T> statistics = norm->take_moments(ctx, pass, moments);
  return conv->forward_statistics(ctx, input, pass, statistics);
}

template <Real T>
Trace<T> Sequential<T>::forward_range(std::size_t first, std::size_t last, Context& ctx, View<const T> input,
                                      const Pass<T>& pass, BatchMoments<T>* next) {
  Trace<T> trace;
  BatchMoments<T> moments;
  const std::size_t end = next != nullptr ? last + 1 : last;
  trace.output = input;
  if (!pass.forward_only) trace.children.reserve(last - first);
  for (std::size_t i = first; i < last; ++i) {
    Trace<T> child = run(i, end, ctx, trace.output, pass, moments);
    trace.output = child.output;
    if (!pass.forward_only) {
      trace.children.push_back(std::move(child));
    } else if (!child.storage.empty()) {
      trace.storage = std::move(child.storage);  // frees what this layer read
    }
  }
  if (next != nullptr) *next = std::move(moments);
  return trace;
}

template <Real T>
Tensor<T> Sequential<T>::backward_first(std::size_t count, Context& ctx, View<const T> input, const Trace<T>& trace,
                                        Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T> sum) {
  this->require_trace(trace.children.size() >= count);
  Tensor<T> gradient = std::move(output_gradient);
  const std::size_t first = pass.input_gradient ? 0 : first_with_work();
  for (std::size_t i = count; i-- > first;) {
    const View<const T> layer_input = i == 0 ? input : trace.children[i - 1].output;
    Pass<T> inner = pass;
    inner.input_gradient = pass.input_gradient || i > first;
    gradient = (*this)[i].backward(ctx, layer_input, trace.children[i], std::move(gradient), inner,
                                   i == 0 ? std::move(sum) : Tensor<T>());
  }
  if (!pass.input_gradient) return {};
  if (count == 0 && !sum.empty()) kernels::axpy<T>(ctx, T(1), sum, gradient.view());
  return gradient;
}

template <Real T>
std::size_t Sequential<T>::first_with_work() const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (has_parameters(*layers_[i].layer)) return i;
  }
  return layers_.size();
}

template <Real T>
void Sequential<T>::describe(Description<T>& description) {
  description.sequence();
  description.sequential = this;
  for (Child& child : layers_) description.child(child.name, *child.layer);
  description.layers_field("layers", *this);
}

template <Real T>
void Sequential<T>::check_name(const std::string& name) const {
  if (name.empty() || name.find('.') != std::string::npos) {
    throw ArgumentError(concat(this->label(), ": '", name, "' is no name for a layer; use letters, digits and _"));
  }
  if (name == reserved_) {
    throw ArgumentError(concat(this->label(), ": '", name, "' is ", reserved_for_, "; choose another"));
  }
  bool taken = false;
  for (const Child& child : layers_) taken = taken || child.name == name;
  if (taken) {
    throw ArgumentError(concat(this->label(), ": there is a layer named '", name, "' already; choose another name"));
  }
}

}  // namespace meristem::nn
