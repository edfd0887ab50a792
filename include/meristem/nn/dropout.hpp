// Inverted dropout.
#pragma once

#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// In training, sets each element to 0 with `probability` and divides the others by 1 - probability (N. Srivastava et
/// al., "Dropout" (2014), in the form that leaves evaluation alone). Every forward pass draws a random stream of its
/// own. In evaluation and in measuring passes, and for probability 0, everything passes: the output aliases the input
/// and no random stream is taken.
template <Real T>
class Dropout final : public Layer<T> {
 public:
  /// Throws ArgumentError unless the probability is in [0, 1).
  explicit Dropout(double probability = 0.5);

  [[nodiscard]] std::string_view kind() const override { return "Dropout"; }
  [[nodiscard]] double probability() const noexcept { return probability_; }
  [[nodiscard]] Shape output_shape(const Shape& input) const override { return input; }

 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T>, const Trace<T>& trace, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override;

 private:
  double probability_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/dropout_impl.hpp>
#endif
