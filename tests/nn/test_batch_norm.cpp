#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <meristem/nn/batch_norm.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace ms = meristem;
namespace nn = meristem::nn;
using support::message_of;

namespace {

template <class T>
void set(ms::Context& ctx, ms::Tensor<T>& tensor, const std::vector<double>& values) {
  tensor = ms::from_host<T>(ctx, tensor.shape(), std::vector<T>(values.begin(), values.end()));
}

/// bn(x) + residual as a layer, to check its gradients at x; records the gradient at the residual.
class Added final : public nn::Layer<double> {
 public:
  Added(nn::BatchNorm<double>& inner, ms::View<const double> residual) : inner_(inner), residual_(residual) {}
  [[nodiscard]] std::string_view kind() const override { return "Added"; }
  [[nodiscard]] ms::Shape output_shape(const ms::Shape& input) const override { return inner_.output_shape(input); }
  [[nodiscard]] nn::Trace<double> forward(ms::Context& ctx, ms::View<const double> input,
                                          const nn::Pass<double>& pass) override {
    return inner_.forward_added(ctx, input, residual_, pass);
  }
  [[nodiscard]] ms::Tensor<double> backward(ms::Context& ctx, ms::View<const double> input,
                                            const nn::Trace<double>& trace, ms::Tensor<double> output_gradient,
                                            const nn::Pass<double>& pass) override {
    return inner_.backward_added(ctx, input, trace, std::move(output_gradient), pass, residual_gradient);
  }
  void visit_parameters(const std::function<void(nn::Parameter<double>&)>& visit) override {
    inner_.visit_parameters(visit);
  }

  ms::Tensor<double> residual_gradient;

 private:
  nn::BatchNorm<double>& inner_;
  ms::View<const double> residual_;
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("batch norm layer: gradients agree with finite differences") {
  ms::Context ctx({.seed = 2});
  for (const auto activation : {nn::Activation::identity, nn::Activation::relu}) {
    CAPTURE(activation);
    nn::BatchNorm<double> layer(ctx, 3, {.activation = activation});
    set(ctx, layer.weight().value, {1.5, -0.7, 0.3});
    set(ctx, layer.bias().value, {0.2, -0.1, 0.4});
    support::check_gradients(ctx, layer, {4, 2, 3, 3}, 10);
    support::check_gradients(ctx, layer, {5, 3}, 11);
    support::check_gradients(ctx, layer, {1, 2, 3}, 12);
  }
}

TEST_CASE("batch norm layer: gradients with an added residual agree with finite differences") {
  ms::Context ctx({.seed = 3});
  for (const auto activation : {nn::Activation::identity, nn::Activation::relu}) {
    CAPTURE(activation);
    nn::BatchNorm<double> norm(ctx, 3, {.activation = activation});
    set(ctx, norm.weight().value, {1.5, -0.7, 0.3});
    set(ctx, norm.bias().value, {0.2, -0.1, 0.4});
    const ms::Shape shape{2, 2, 3, 3};
    std::vector<double> numbers = support::normal_values<double>(shape.size(), 20);
    const auto residual = ms::from_host<double>(ctx, shape, numbers);
    Added layer(norm, residual);
    support::check_gradients(ctx, layer, shape, 21);

    // The residual's own gradient, whether the input's is asked for or not.
    const auto x = ms::from_host<double>(ctx, shape, support::normal_values<double>(shape.size(), 22));
    const auto weights = support::normal_values<double>(shape.size(), 23);
    const auto value = [&](const std::vector<double>& added) {
      const auto trace = norm.forward_added(ctx, x, ms::from_host<double>(ctx, shape, added), {});
      const auto y = ms::to_host(ctx, trace.output);
      double total = 0.0;
      for (std::size_t i = 0; i < y.size(); ++i) total += weights[i] * y[i];
      return total;
    };
    constexpr double h = 1e-5;
    std::vector<double> numeric;
    for (double& number : numbers) {
      number += h;
      const double above = value(numbers);
      number -= 2 * h;
      numeric.push_back((above - value(numbers)) / (2 * h));
      number += h;
    }
    for (const bool input_gradient : {false, true}) {
      const nn::Pass<double> pass{.input_gradient = input_gradient};
      const auto trace = layer.forward(ctx, x, pass);
      const auto dx = layer.backward(ctx, x, trace, ms::from_host<double>(ctx, shape, weights), pass);
      CHECK(dx.empty() == !input_gradient);
      // As in check_gradients: central differences of a function of order 1.
      support::check_close(ms::to_host(ctx, layer.residual_gradient), numeric, 1e-7 * support::scale_of(weights));
    }
  }
}

TEST_SUITE_END();
