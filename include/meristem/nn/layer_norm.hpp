// Layer normalisation.
#pragma once

#include <utility>
#include <vector>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/layer_norm.cuh>
#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

struct LayerNormOptions {
  double epsilon = 1e-5;  ///< added to the variance; positive
};

/// y = (x - mean) / √(variance + epsilon) · weight + bias, with mean and biased variance of each row: the last axis of
/// any rank from 2 up, whose channels may be 0. The same in training and evaluation.
template <Real T>
class LayerNorm final : public NormLayer<T> {
 public:
  using Options = LayerNormOptions;

  /// weight 1, bias 0. Throws ArgumentError for a negative number of channels and an epsilon that is not positive.
  LayerNorm(Context& ctx, std::int64_t channels, const Options& options = {})
      : NormLayer<T>(ctx, checked_shape(channels, options)), epsilon_(options.epsilon) {}

  [[nodiscard]] std::string_view kind() const override { return "LayerNorm"; }
  [[nodiscard]] double epsilon() const noexcept { return epsilon_; }

 protected:
  void describe(Description<T>& description) override {
    description.normalise(NormOver::row, weight_, bias_, epsilon_);
    description.field("channels", this->channels());
    description.field("epsilon", epsilon_);
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override {
    Trace<T> trace;
    trace.storage = Tensor<T>(ctx, this->output_shape(input.shape()));
    trace.output = trace.storage.view();
    const std::int64_t rows = input.as_matrix().extent(0);
    Tensor<T> mean(ctx, {rows}), inverse_deviation(ctx, {rows});
    kernels::layer_norm_forward<T>(ctx, input, weight_.value, bias_.value, epsilon_, mean, inverse_deviation,
                                   trace.storage);
    trace.saved.push_back(std::move(mean));
    trace.saved.push_back(std::move(inverse_deviation));
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override {
    const bool wanted = pass.gradients != GradientMode::ignore;
    kernels::layer_norm_backward<T>(ctx, input, trace.saved[0], trace.saved[1], weight_.value, output_gradient,
                                    this->accumulation(pass), wanted ? weight_.gradient.view() : View<T>(),
                                    wanted ? bias_.gradient.view() : View<T>(),
                                    pass.input_gradient ? output_gradient.view() : View<T>());
    if (!pass.input_gradient) return {};
    return output_gradient;
  }

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static Shape checked_shape(std::int64_t channels, const Options& options) {
    if (channels < 0) throw ArgumentError(concat("LayerNorm: ", channels, " channels; they must be 0 or more"));
    if (!(options.epsilon > 0.0)) {
      throw ArgumentError(concat("LayerNorm: epsilon is ", options.epsilon, "; it must be positive"));
    }
    return {channels};
  }

  double epsilon_;
};

}  // namespace meristem::nn
