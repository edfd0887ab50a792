// A layer with weights that is not the library's: y = x Wᵀ + b. Its description is all that growth, files and exports
// need to know.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include <meristem/io.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/meristem.hpp>

namespace own_layer {

namespace ms = meristem;

template <ms::Real T>
class Dense final : public ms::nn::Layer<T> {
 public:
  Dense(ms::Context& ctx, std::int64_t in, std::int64_t out)
      : weight_(ctx, "weight", {out, in}, true), bias_(ctx, "bias", {out}, false) {
    ms::nn::initialize<T>(ctx, ms::nn::Init::kaiming_uniform, in, out, weight_.value);
    ms::kernels::fill(ctx, T(0), bias_.value.view());
  }
  std::string_view kind() const override { return "Dense"; }
  ms::Shape output_shape(const ms::Shape& input) const override { return {input[0], weight_.value.extent(0)}; }

 private:
  void describe(ms::nn::Description<T>& description) override {
    description.affine(weight_, &bias_);  // so it gains and loses units, and ONNX has a word for it
    description.field("in", weight_.value.extent(1));
    description.field("out", weight_.value.extent(0));
  }
  ms::nn::Trace<T> do_forward(ms::Context& ctx, ms::View<const T> x, const ms::nn::Pass<T>&) override {
    ms::nn::Trace<T> trace;
    trace.storage = ms::Tensor<T>(ctx, output_shape(x.shape()));
    ms::gemm(ctx, ms::Transpose::no, ms::Transpose::yes, T(1), x, weight_.value.view(), T(0), trace.storage.view());
    ms::kernels::add_bias<T>(ctx, bias_.value, trace.storage);
    trace.output = trace.storage.view();
    return trace;
  }
  ms::Tensor<T> do_backward(ms::Context& ctx, ms::View<const T> x, const ms::nn::Trace<T>&, ms::Tensor<T> dy,
                            const ms::nn::Pass<T>& pass) override {
    if (pass.gradients != ms::nn::GradientMode::ignore) {
      const bool add = pass.gradients == ms::nn::GradientMode::accumulate;
      ms::gemm(ctx, ms::Transpose::yes, ms::Transpose::no, T(1), dy.view(), x, T(add), weight_.gradient.view());
      ms::kernels::column_sums<T>(ctx, dy, bias_.gradient,
                                  add ? ms::kernels::Accumulate::accumulate : ms::kernels::Accumulate::overwrite);
    }
    ms::Tensor<T> dx;
    if (!pass.input_gradient) return dx;
    dx = ms::Tensor<T>(ctx, x.shape());
    ms::gemm(ctx, ms::Transpose::no, ms::Transpose::no, T(1), dy.view(), weight_.value.view(), T(0), dx.view());
    return dx;
  }

  ms::nn::Parameter<T> weight_, bias_;
};

/// What files are read with: the library's kinds of layers and this one.
template <ms::Real T>
ms::io::LayerKinds<T> kinds() {
  ms::io::LayerKinds<T> result;
  result.add("Dense", [](ms::Context& ctx, ms::io::LayerFields& fields) {
    const std::int64_t in = fields.size("in"), out = fields.size("out");
    fields.claim({{out, in}, {out}});  // how many numbers it will hold, checked before it is made
    return std::make_unique<Dense<T>>(ctx, in, out);
  });
  return result;
}

}  // namespace own_layer
