// Definitions of linear.hpp.
#pragma once

#include <meristem/core/blas.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/linear.hpp>

namespace meristem::nn {

template <Real T>
Linear<T>::Linear(Context& ctx, std::int64_t in_features, std::int64_t out_features, const Options& options)
    : WeightedLayer<T>(ctx, checked_shape(in_features, out_features), true, options.bias) {
  initialize<T>(ctx, options.init, in_features, out_features, weight_.value);
}

template <Real T>
Shape Linear<T>::output_shape(const Shape& input) const {
  const int last = input.rank() - 1;
  if (last < 1 || input[last] != in_features()) {
    throw ShapeError(concat(this->label(), ": weight of shape ", weight_.value.shape(), " expects ", in_features(),
                            " input features; got input of shape ", input,
                            last < 1 ? "; give it a batch axis"
                                     : (input.rank() > 2 ? "; put a Flatten before it if the last axes belong "
                                                           "together"
                                                         : "; make the two widths equal")));
  }
  return input.with(last, out_features());
}

template <Real T>
void Linear<T>::describe(Description<T>& description) {
  description.affine(weight_, this->bias_or_null());
  description.field("in_features", in_features());
  description.field("out_features", out_features());
  description.field("bias", this->has_bias());
}

template <Real T>
Trace<T> Linear<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>&) {
  Trace<T> trace;
  trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
  const View<T> output = trace.storage.view();
  gemm(ctx, Transpose::no, Transpose::yes, T(1), input.as_matrix(), weight_.value.view(), T(0), output.as_matrix(),
       ctx.options().numerics.matmul);
  if (this->has_bias()) kernels::add_bias<T>(ctx, bias_.value, output.as_matrix());
  trace.output = output;
  return trace;
}

template <Real T>
Tensor<T> Linear<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                 const Pass<T>& pass) {
  const View<const T> x = input.as_matrix();
  const View<const T> dy = View<const T>(output_gradient).as_matrix();
  if (pass.gradients != GradientMode::ignore) {
    const T keep = pass.gradients == GradientMode::accumulate ? T(1) : T(0);
    gemm(ctx, Transpose::yes, Transpose::no, T(1), dy, x, keep, weight_.gradient.view(), ctx.options().numerics.matmul);
    if (this->has_bias()) {
      kernels::column_sums<T>(ctx, dy, bias_.gradient, this->accumulation(pass));
    }
  }
  if (!pass.input_gradient) return {};
  Tensor<T> dx(ctx, input.shape());
  gemm(ctx, Transpose::no, Transpose::no, T(1), dy, weight_.value.view(), T(0), dx.view().as_matrix(),
       ctx.options().numerics.matmul);
  return dx;
}

template <Real T>
Shape Linear<T>::checked_shape(std::int64_t in_features, std::int64_t out_features) {
  if (in_features < 0 || out_features < 0) {
    throw ArgumentError(concat("Linear: widths ", in_features, " -> ", out_features, " are not both 0 or more"));
  }
  return {out_features, in_features};
}

}  // namespace meristem::nn
