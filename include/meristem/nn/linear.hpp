// Fully connected layer: y = x Wᵀ + b.
#pragma once

#include <string_view>

#include <meristem/core/blas.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/init.hpp>
#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

struct LinearOptions {
  bool bias = true;
  Init init = Init::kaiming_uniform;
};

/// y[..., out] = Σ_in x[..., in] W[out][in] + b[out]: acts on the last axis, whatever stands before it. Widths of 0 are
/// allowed on either side: growth may start from an empty hidden layer.
template <Real T>
class Linear final : public WeightedLayer<T> {
 public:
  using Options = LinearOptions;

  /// Throws ArgumentError for a negative width.
  Linear(Context& ctx, std::int64_t in_features, std::int64_t out_features, const Options& options = {})
      : WeightedLayer<T>(ctx, checked_shape(in_features, out_features), true, options.bias) {
    initialize<T>(ctx, options.init, in_features, out_features, weight_.value);
  }

  [[nodiscard]] std::string_view kind() const override { return "Linear"; }
  [[nodiscard]] std::int64_t in_features() const { return weight_.value.extent(1); }
  [[nodiscard]] std::int64_t out_features() const { return weight_.value.extent(0); }

  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    const int last = input.rank() - 1;
    if (last < 1 || input[last] != in_features()) {
      throw ShapeError(concat(this->label(), ": weight of shape ", weight_.value.shape(), " expects ", in_features(),
                              " input features; got input of shape ", input,
                              last < 1 ? "; give it a batch axis"
                                       : (input.rank() > 2 ? "; put a Flatten before it if the last axes belong "
                                                             "together"
                                                           : "; make the two widths equal")));
    }
    return input.with(last, out_features());
  }

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override {
    return Shape({input.with(0, 1).size(), out_features()}).size();
  }

 protected:
  void describe(Description<T>& description) override {
    description.affine(weight_, this->bias_or_null());
    description.field("in_features", in_features());
    description.field("out_features", out_features());
    description.field("bias", this->has_bias());
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override {
    Trace<T> trace;
    trace.storage = Tensor<T>(ctx, output_shape(input.shape()));
    const View<T> output = trace.storage.view();
    gemm(ctx, Transpose::no, Transpose::yes, T(1), input.as_matrix(), weight_.value.view(), T(0), output.as_matrix());
    if (this->has_bias()) kernels::add_bias<T>(ctx, bias_.value, output.as_matrix());
    trace.output = output;
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override {
    const View<const T> x = input.as_matrix();
    const View<const T> dy = View<const T>(output_gradient).as_matrix();
    if (pass.gradients != GradientMode::ignore) {
      const T keep = pass.gradients == GradientMode::accumulate ? T(1) : T(0);
      gemm(ctx, Transpose::yes, Transpose::no, T(1), dy, x, keep, weight_.gradient.view());
      if (this->has_bias()) {
        kernels::column_sums<T>(ctx, dy, bias_.gradient, this->accumulation(pass));
      }
    }
    if (!pass.input_gradient) return {};
    Tensor<T> dx(ctx, input.shape());
    gemm(ctx, Transpose::no, Transpose::no, T(1), dy, weight_.value.view(), T(0), dx.view().as_matrix());
    return dx;
  }

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static Shape checked_shape(std::int64_t in_features, std::int64_t out_features) {
    if (in_features < 0 || out_features < 0) {
      throw ArgumentError(concat("Linear: widths ", in_features, " -> ", out_features, " are not both 0 or more"));
    }
    return {out_features, in_features};
  }
};

}  // namespace meristem::nn
