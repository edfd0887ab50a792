// Convolution layer on maps (n, H, W, channels).
#pragma once

#include <string_view>

#include <meristem/core/window.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/init.hpp>
#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

struct Conv2dOptions {
  Extent2 kernel = 3;
  Extent2 stride = 1;
  Extent2 padding = 0;
  Extent2 dilation = 1;
  bool bias = true;
  Init init = Init::kaiming_normal;
};

/// y[i, oy, ox, out] = Σ x[i, oy·stride - padding + ky·dilation, ..., in] W[out, ky, kx, in] + b[out]: maps
/// (n, H, W, in_channels) to (n, OH, OW, out_channels). Widths of 0 are allowed on either side: growth may start from
/// an empty layer.
template <Real T>
class Conv2d final : public WeightedLayer<T> {
 public:
  using Options = Conv2dOptions;

  /// Throws ArgumentError for a negative width or an impossible window.
  Conv2d(Context& ctx, std::int64_t in_channels, std::int64_t out_channels, const Options& options = {})
      : WeightedLayer<T>(ctx, checked_shape(in_channels, out_channels, window_of(options)), true, options.bias),
        window_(window_of(options)) {
    initialize<T>(ctx, options.init, in_channels * window_.kernel.size(), out_channels * window_.kernel.size(),
                  weight_.value);
  }

  [[nodiscard]] std::string_view kind() const override { return "Conv2d"; }
  [[nodiscard]] std::int64_t in_channels() const { return weight_.value.extent(3); }
  [[nodiscard]] std::int64_t out_channels() const { return weight_.value.extent(0); }
  [[nodiscard]] const Window& window() const noexcept { return window_; }

  [[nodiscard]] Shape output_shape(const Shape& input) const override {
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

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override {
    const Shape output = output_shape(input);
    return Shape({output[1], output[2], weight_.value.size()}).size();
  }

 protected:
  void describe(Description<T>& description) override {
    description.affine(weight_, this->bias_or_null(), window_);
    description.field("in_channels", in_channels());
    description.field("out_channels", out_channels());
    description.field("bias", this->has_bias());
    description.window_fields(window_);
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override {
    Trace<T> trace;
    trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
    const View<const T> bias = this->has_bias() ? View<const T>(bias_.value.view()) : View<const T>();
    kernels::conv2d_forward<T>(ctx, input, weight_.value, bias, window_, trace.storage);
    trace.output = trace.storage.view();
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override {
    const View<const T> dy = output_gradient.view();
    if (pass.gradients != GradientMode::ignore) {
      const auto mode = this->accumulation(pass);
      kernels::conv2d_backward_weights<T>(ctx, input, dy, window_, mode, weight_.gradient);
      if (this->has_bias()) kernels::column_sums<T>(ctx, dy, bias_.gradient, mode);
    }
    if (!pass.input_gradient) return {};
    Tensor<T> dx(ctx, input.shape());
    kernels::conv2d_backward_data<T>(ctx, dy, weight_.value, window_, dx);
    return dx;
  }

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static Window window_of(const Options& options) {
    return {options.kernel, options.stride, options.padding, options.dilation};
  }

  static Shape checked_shape(std::int64_t in_channels, std::int64_t out_channels, const Window& window) {
    if (in_channels < 0 || out_channels < 0) {
      throw ArgumentError(concat("Conv2d: widths ", in_channels, " -> ", out_channels, " are not both 0 or more"));
    }
    window.check("Conv2d");
    return {out_channels, window.kernel.y, window.kernel.x, in_channels};
  }

  Window window_;
};

}  // namespace meristem::nn
