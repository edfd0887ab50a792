// Inverted dropout.
#pragma once

#include <utility>

#include <meristem/kernels/dropout.cuh>
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
  explicit Dropout(double probability = 0.5) : probability_(probability) {
    if (!(probability >= 0.0 && probability < 1.0)) {
      throw ArgumentError(concat("Dropout: the probability to drop an element is ", probability,
                                 "; it must be at least 0 and below 1"));
    }
  }

  [[nodiscard]] std::string_view kind() const override { return "Dropout"; }
  [[nodiscard]] double probability() const noexcept { return probability_; }
  [[nodiscard]] Shape output_shape(const Shape& input) const override { return input; }

 protected:
  void describe(Description<T>& description) override {
    description.identity();
    description.field("probability", probability_);
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override {
    Trace<T> trace;
    trace.output = input;
    if (pass.mode != Mode::training || pass.measuring || probability_ == 0.0) return trace;
    trace.random_stream = ctx.next_random_stream();
    trace.storage = Tensor<T>(ctx, input.shape());
    kernels::dropout<T>(ctx, trace.random_stream, probability_, input, trace.storage);
    trace.output = trace.storage.view();
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T>, const Trace<T>& trace, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override {
    if (!pass.input_gradient) return {};
    if (!trace.storage.empty()) {
      kernels::dropout<T>(ctx, trace.random_stream, probability_, output_gradient, output_gradient);
    }
    return output_gradient;
  }

 private:
  double probability_;
};

}  // namespace meristem::nn
