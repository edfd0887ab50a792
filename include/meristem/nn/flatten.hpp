// Merges all axes behind the batch.
#pragma once

#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// (n, a, b, ...) to (n, a·b·...). Moves no data: the output aliases the input.
template <Real T>
class Flatten final : public Layer<T> {
 public:
  [[nodiscard]] std::string_view kind() const override { return "Flatten"; }

  [[nodiscard]] Shape output_shape(const Shape& input) const override;

 protected:
  void describe(Description<T>& description) override { description.flatten(); }

  [[nodiscard]] Trace<T> do_forward(Context&, View<const T> input, const Pass<T>&) override;

  [[nodiscard]] Tensor<T> do_backward(Context&, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/flatten_impl.hpp>
#endif
