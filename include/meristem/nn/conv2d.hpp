// Convolution layer on maps (n, H, W, channels).
#pragma once

#include <string_view>

#include <meristem/core/window.hpp>
#include <meristem/kernels/batch_norm.cuh>
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
  Conv2d(Context& ctx, std::int64_t in_channels, std::int64_t out_channels, const Options& options = {});

  [[nodiscard]] std::string_view kind() const override { return "Conv2d"; }
  [[nodiscard]] std::int64_t in_channels() const { return weight_.value.extent(3); }
  [[nodiscard]] std::int64_t out_channels() const { return weight_.value.extent(0); }
  [[nodiscard]] const Window& window() const noexcept { return window_; }

  [[nodiscard]] Shape output_shape(const Shape& input) const override;

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override;

  /// `forward`, and the statistics of the output over images and positions.
  [[nodiscard]] Trace<T> forward_statistics(Context& ctx, View<const T> input, const Pass<T>& pass,
                                            const kernels::BatchStatistics<T>& statistics);

 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override {
    return compute(ctx, input, nullptr);
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override;

  [[nodiscard]] Tensor<T> do_backward_onto(Context& ctx, View<const T> input, const Trace<T>&,
                                           Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T> sum) override;

 private:
  /// The output, and its statistics unless null.
  [[nodiscard]] Trace<T> compute(Context& ctx, View<const T> input, const kernels::BatchStatistics<T>* statistics);

  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static Window window_of(const Options& options) {
    return {options.kernel, options.stride, options.padding, options.dilation};
  }

  static Shape checked_shape(std::int64_t in_channels, std::int64_t out_channels, const Window& window);

  Window window_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/conv2d_impl.hpp>
#endif
