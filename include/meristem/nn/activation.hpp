// Elementwise activation functions as layers.
#pragma once

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
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override;

 private:
  Activation function_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/activation_impl.hpp>
#endif
