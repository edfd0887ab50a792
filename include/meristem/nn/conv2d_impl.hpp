// Definitions of conv2d.hpp.
#pragma once

#include <utility>

#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/conv2d.hpp>

namespace meristem::nn {

template <Real T>
Conv2d<T>::Conv2d(Context& ctx, std::int64_t in_channels, std::int64_t out_channels, const Options& options)
    : WeightedLayer<T>(ctx, checked_shape(in_channels, out_channels, window_of(options)), true, options.bias),
      window_(window_of(options)) {
  initialize<T>(ctx, options.init, in_channels * window_.kernel.size(), out_channels * window_.kernel.size(),
                weight_.value);
}

template <Real T>
Shape Conv2d<T>::output_shape(const Shape& input) const {
  if (input.rank() != 4) {
    throw ShapeError(concat(this->label(), ": weight of shape ", weight_.value.shape(),
                            " expects maps of shape (n, H, W, ", in_channels(), "); got input of shape ", input));
  }
  if (input[3] != in_channels()) {
    throw ShapeError(concat(this->label(), ": input has ", input[3], " channels, weight expects ", in_channels(),
                            "; got ", input, " and weight ", weight_.value.shape()));
  }
  const Extent2 map(input[1], input[2]);
  window_.check(this->label(), map);
  const Extent2 output = window_.output(map);
  return {input[0], output.y, output.x, out_channels()};
}

template <Real T>
std::int64_t Conv2d<T>::multiply_adds(const Shape& input) const {
  const Shape output = output_shape(input);
  return Shape({output[1], output[2], weight_.value.size()}).size();
}

template <Real T>
void Conv2d<T>::describe(Description<T>& description) {
  description.affine(weight_, this->bias_or_null(), window_);
  description.field("in_channels", in_channels());
  description.field("out_channels", out_channels());
  description.field("bias", this->has_bias());
  description.window_fields(window_);
}

template <Real T>
Trace<T> Conv2d<T>::forward_statistics(Context& ctx, View<const T> input, const Pass<T>& pass,
                                       const kernels::BatchStatistics<T>& statistics) {
  return this->run_forward(ctx, input, pass, [&] { return compute(ctx, input, &statistics); });
}

template <Real T>
Trace<T> Conv2d<T>::compute(Context& ctx, View<const T> input, const kernels::BatchStatistics<T>* statistics) {
  Trace<T> trace;
  trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
  const View<const T> bias = this->has_bias() ? View<const T>(bias_.value.view()) : View<const T>();
  const View<T> output = trace.storage.view();
  if (statistics != nullptr) {
    kernels::conv2d_forward_statistics<T>(ctx, input, weight_.value, bias, window_, output, *statistics);
  } else {
    kernels::conv2d_forward<T>(ctx, input, weight_.value, bias, window_, output);
  }
  trace.output = output;
  return trace;
}

template <Real T>
Tensor<T> Conv2d<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>& trace, Tensor<T> output_gradient,
                                 const Pass<T>& pass) {
  return do_backward_onto(ctx, input, trace, std::move(output_gradient), pass, {});
}

template <Real T>
Tensor<T> Conv2d<T>::do_backward_onto(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T> sum) {
  if (!MERISTEM_GPU && !sum.empty()) {
    return Layer<T>::do_backward_onto(ctx, input, trace, std::move(output_gradient), pass, std::move(sum));
  }
  const View<const T> dy = output_gradient.view();
  kernels::ConvGradients<T> wanted;
  wanted.mode = this->accumulation(pass);
  Tensor<T> dx;
  if (pass.input_gradient) {
    wanted.dx_mode = sum.empty() ? kernels::Accumulate::overwrite : kernels::Accumulate::accumulate;
    dx = sum.empty() ? Tensor<T>(ctx, input.shape()) : std::move(sum);
    wanted.dx = dx;
  }
  if (pass.gradients != GradientMode::ignore) {
    wanted.dweight = weight_.gradient;
    if (this->has_bias()) wanted.dbias = bias_.gradient;
  }
  kernels::conv2d_backward<T>(ctx, input, dy, weight_.value, window_, wanted);
  return dx;
}

template <Real T>
Shape Conv2d<T>::checked_shape(std::int64_t in_channels, std::int64_t out_channels, const Window& window) {
  if (in_channels < 0 || out_channels < 0) {
    throw ArgumentError(concat("Conv2d: widths ", in_channels, " -> ", out_channels, " are not both 0 or more"));
  }
  window.check("Conv2d");
  return {out_channels, window.kernel.y, window.kernel.x, in_channels};
}

}  // namespace meristem::nn
