// Definitions of pooling.hpp.
#pragma once

#include <string>

#include <meristem/nn/pooling.hpp>

namespace meristem::nn::detail {

MERISTEM_INLINE Window pool_window(std::string_view kind, const PoolOptions& options) {
  const Window window{options.kernel, options.stride.value_or(options.kernel), options.padding, options.dilation};
  window.check(std::string(kind));
  return window;
}

template <Real T>
void require_maps(const Layer<T>& layer, const Shape& input) {
  if (input.rank() == 4) return;
  throw ShapeError(concat(layer.label(), ": input of shape ", input,
                          " is no batch of maps; maps have four axes: (images, rows, columns, channels)"));
}

template <Real T>
Shape pooled_shape(const Layer<T>& layer, const Window& window, const Shape& input) {
  require_maps(layer, input);
  const Extent2 map(input[1], input[2]);
  kernels::check_pool_window(layer.label(), window, map);
  const Extent2 output = window.output(map);
  return {input[0], output.y, output.x, input[3]};
}

}  // namespace meristem::nn::detail

namespace meristem::nn {

template <Real T>
Trace<T> WindowPool<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>&) {
  Trace<T> trace;
  trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
  pool(ctx, input, trace.storage);
  trace.output = trace.storage.view();
  return trace;
}

template <Real T>
Tensor<T> WindowPool<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                     const Pass<T>& pass) {
  if (!pass.input_gradient) return {};
  Tensor<T> input_gradient(ctx, input.shape());
  pool_backward(ctx, input, output_gradient, input_gradient);
  return input_gradient;
}

template <Real T>
void MaxPool2d<T>::describe(Description<T>& description) {
  WindowPool<T>::describe(description);
  description.pool(Pooling::maximum, this->window());
}

template <Real T>
void MaxPool2d<T>::pool(Context& ctx, View<const T> input, View<T> output) const {
  kernels::max_pool_forward<T>(ctx, input, this->window(), output);
}

template <Real T>
void MaxPool2d<T>::pool_backward(Context& ctx, View<const T> input, View<const T> output_gradient,
                                 View<T> input_gradient) const {
  kernels::max_pool_backward<T>(ctx, input, output_gradient, this->window(), input_gradient);
}

template <Real T>
AveragePool2d<T>::AveragePool2d(const PoolOptions& options)
    : WindowPool<T>(detail::pool_window("AveragePool2d", options)) {}

template <Real T>
void AveragePool2d<T>::pool(Context& ctx, View<const T> input, View<T> output) const {
  kernels::average_pool_forward<T>(ctx, input, this->window(), output);
}

template <Real T>
void AveragePool2d<T>::pool_backward(Context& ctx, View<const T>, View<const T> output_gradient,
                                     View<T> input_gradient) const {
  kernels::average_pool_backward<T>(ctx, output_gradient, this->window(), input_gradient);
}

template <Real T>
void AveragePool2d<T>::describe(Description<T>& description) {
  WindowPool<T>::describe(description);
  description.pool(Pooling::mean, this->window());
}

template <Real T>
Shape GlobalAveragePool<T>::output_shape(const Shape& input) const {
  detail::require_maps(*this, input);
  if (input[1] == 0 || input[2] == 0) {
    throw ShapeError(concat(this->label(), ": maps of ", Extent2(input[1], input[2]), " have no mean; got ", input));
  }
  return {input[0], input[3]};
}

template <Real T>
Trace<T> GlobalAveragePool<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>&) {
  Trace<T> trace;
  trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
  const View<T> output = trace.storage.view();
  kernels::average_pool_forward<T>(ctx, input, whole(input),
                                   output.reshape({output.extent(0), 1, 1, output.extent(1)}));
  trace.output = output;
  return trace;
}

template <Real T>
Tensor<T> GlobalAveragePool<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>&,
                                            Tensor<T> output_gradient, const Pass<T>& pass) {
  if (!pass.input_gradient) return {};
  Tensor<T> input_gradient(ctx, input.shape());
  const View<const T> dy = output_gradient;
  kernels::average_pool_backward<T>(ctx, dy.reshape({dy.extent(0), 1, 1, dy.extent(1)}), whole(input),
                                    input_gradient.view());
  return input_gradient;
}

}  // namespace meristem::nn
