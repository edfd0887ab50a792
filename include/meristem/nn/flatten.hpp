// Merges all axes behind the batch.
#pragma once

#include <utility>

#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// (n, a, b, ...) to (n, a·b·...). Moves no data: the output aliases the input.
template <Real T>
class Flatten final : public Layer<T> {
 public:
  [[nodiscard]] std::string_view kind() const override { return "Flatten"; }

  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    if (input.rank() == 0) throw ShapeError(concat(this->label(), ": the input has no batch axis"));
    Shape features;
    for (int axis = 1; axis < input.rank(); ++axis) features.append(input[axis]);
    return {input[0], features.size()};
  }

 protected:
  void describe(Description<T>& description) override { description.flatten(); }

  [[nodiscard]] Trace<T> do_forward(Context&, View<const T> input, const Pass<T>&) override {
    Trace<T> trace;
    trace.output = input.reshape(output_shape(input.shape()));
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context&, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override {
    if (!pass.input_gradient) return {};
    return std::move(output_gradient).reshape(input.shape());
  }
};

}  // namespace meristem::nn
