// Elementwise activation functions as layers.
#pragma once

#include <utility>

#include <meristem/kernels/activation.cuh>
#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// y = σ(x), elementwise.
template <Real T>
class ActivationLayer final : public Layer<T> {
 public:
  explicit ActivationLayer(Activation function) : function_(function) {}

  [[nodiscard]] std::string_view kind() const override { return kernels::activation_name(function_); }
  [[nodiscard]] Activation function() const noexcept { return function_; }
  [[nodiscard]] Shape output_shape(const Shape& input) const override { return input; }

 protected:
  void describe(Description<T>& description) override {
    description.elementwise(function_);
    description.kind = "Activation";
    description.field("function", kernels::activation_name(function_));
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override {
    Trace<T> trace;
    trace.storage = Tensor<T>(ctx, input.shape());
    kernels::activation_forward<T>(ctx, function_, input, trace.storage);
    trace.output = trace.storage.view();
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override {
    if (!pass.input_gradient) return {};
    kernels::activation_backward<T>(ctx, function_, input, output_gradient, output_gradient);
    return output_gradient;
  }

 private:
  Activation function_;
};

}  // namespace meristem::nn
