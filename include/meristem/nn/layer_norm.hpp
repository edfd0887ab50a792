// Layer normalisation.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/layer_norm.cuh>
#include <meristem/nn/layer.hpp>

namespace meristem::inline MERISTEM_BACKEND::nn {

struct LayerNormOptions {
  double epsilon = 1e-5;  ///< added to the variance; positive
};

/// y = (x - mean) / √(variance + epsilon) · weight + bias, with mean and biased variance of each row: the last axis of
/// any rank from 2 up, whose channels may be 0. The same in training and evaluation.
template <Real T>
class LayerNorm final : public Layer<T> {
 public:
  using Options = LayerNormOptions;

  /// weight 1, bias 0. Throws ArgumentError for a negative number of channels and an epsilon that is not positive.
  LayerNorm(Context& ctx, std::int64_t channels, const Options& options = {})
      : weight_(ctx, "weight", checked_shape(channels, options), false),
        bias_(ctx, "bias", {channels}, false),
        epsilon_(options.epsilon) {
    kernels::fill(ctx, T(1), weight_.value.view());
    kernels::fill(ctx, T(0), bias_.value.view());
  }

  [[nodiscard]] std::string_view kind() const override { return "LayerNorm"; }
  [[nodiscard]] std::int64_t channels() const { return weight_.value.extent(0); }
  [[nodiscard]] double epsilon() const noexcept { return epsilon_; }
  [[nodiscard]] Parameter<T>& weight() noexcept { return weight_; }
  [[nodiscard]] const Parameter<T>& weight() const noexcept { return weight_; }
  [[nodiscard]] Parameter<T>& bias() noexcept { return bias_; }
  [[nodiscard]] const Parameter<T>& bias() const noexcept { return bias_; }

  void set_name(const std::string& name) override {
    Layer<T>::set_name(name);
    weight_.name = name.empty() ? "weight" : name + ".weight";
    bias_.name = name.empty() ? "bias" : name + ".bias";
  }

  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    const int last = input.rank() - 1;
    if (last < 1)
      throw ShapeError(concat(this->label(), ": input of shape ", input, " lacks a batch axis; give it one"));
    if (input[last] != channels()) {
      throw ShapeError(concat(this->label(), ": input has ", input[last], " channels, weight expects ", channels(),
                              "; got ", input));
    }
    return input;
  }

  /// One for each element.
  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override {
    return input.rank() == 0 || input[0] == 0 ? 0 : input.size() / input[0];
  }

  [[nodiscard]] Trace<T> forward(Context& ctx, View<const T> input, const Pass<T>&) override {
    Trace<T> trace;
    trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
    trace.output = trace.storage.view();
    const std::int64_t rows = input.as_matrix().extent(0);
    Tensor<T> mean(ctx, {rows}), inverse_deviation(ctx, {rows});
    kernels::layer_norm_forward<T>(ctx, input, weight_.value, bias_.value, epsilon_, mean, inverse_deviation,
                                   trace.storage);
    trace.saved.push_back(std::move(mean));
    trace.saved.push_back(std::move(inverse_deviation));
    return trace;
  }

  [[nodiscard]] Tensor<T> backward(Context& ctx, View<const T> input, const Trace<T>& trace, Tensor<T> output_gradient,
                                   const Pass<T>& pass) override {
    const bool wanted = pass.gradients != GradientMode::ignore;
    kernels::layer_norm_backward<T>(
        ctx, input, trace.saved[0], trace.saved[1], weight_.value, output_gradient,
        pass.gradients == GradientMode::accumulate ? kernels::Accumulate::accumulate : kernels::Accumulate::overwrite,
        wanted ? weight_.gradient.view() : View<T>(), wanted ? bias_.gradient.view() : View<T>(),
        pass.input_gradient ? output_gradient.view() : View<T>());
    if (!pass.input_gradient) return {};
    return output_gradient;
  }

  void visit_parameters(const std::function<void(Parameter<T>&)>& visit) override {
    visit(weight_);
    visit(bias_);
  }

  [[nodiscard]] std::vector<ParameterAxis<T>> output_axes() override { return {{&weight_, 0}, {&bias_, 0}}; }

 private:
  static Shape checked_shape(std::int64_t channels, const Options& options) {
    if (channels < 0) throw ArgumentError(concat("LayerNorm: ", channels, " channels; they must be 0 or more"));
    if (!(options.epsilon > 0.0)) {
      throw ArgumentError(concat("LayerNorm: epsilon is ", options.epsilon, "; it must be positive"));
    }
    return {channels};
  }

  Parameter<T> weight_;
  Parameter<T> bias_;
  double epsilon_;
};

}  // namespace meristem::inline MERISTEM_BACKEND::nn
