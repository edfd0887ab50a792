#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <meristem/nn/batch_norm.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_batch_norm_test {

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
  [[nodiscard]] nn::Trace<double> do_forward(ms::Context& ctx, ms::View<const double> input,
                                             const nn::Pass<double>& pass) override {
    nn::Trace<double> trace;
    trace.children.push_back(inner_.forward_added(ctx, input, residual_, pass));
    trace.output = trace.children[0].output;
    return trace;
  }
  [[nodiscard]] ms::Tensor<double> do_backward(ms::Context& ctx, ms::View<const double> input,
                                               const nn::Trace<double>& trace, ms::Tensor<double> output_gradient,
                                               const nn::Pass<double>& pass) override {
    return inner_.backward_added(ctx, input, trace.children[0], std::move(output_gradient), pass, residual_gradient);
  }
  void describe(nn::Description<double>& description) override { description.child("inner", inner_); }

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

TEST_CASE("batch norm layer: evaluation mode takes the running statistics as constants") {
  ms::Context ctx({.seed = 4});
  for (const auto activation : {nn::Activation::identity, nn::Activation::relu}) {
    nn::BatchNorm<double> layer(ctx, 2, {.epsilon = 1e-3, .activation = activation});
    set(ctx, layer.weight().value, {1.5, -0.7});
    set(ctx, layer.bias().value, {0.2, -0.1});
    set(ctx, layer.running_mean().value, {0.5, -1.0});
    set(ctx, layer.running_variance().value, {4.0, 0.25});
    const std::vector<double> x = support::normal_values<double>(6, 1), dy = support::normal_values<double>(6, 2);
    const nn::Pass<double> pass{.mode = nn::Mode::evaluation, .input_gradient = true};
    const auto input = ms::from_host<double>(ctx, {3, 2}, x);
    const auto trace = layer.forward(ctx, input, pass);
    const double s[] = {1 / std::sqrt(4.0 + 1e-3), 1 / std::sqrt(0.25 + 1e-3)}, mean[] = {0.5, -1.0};
    const double weight[] = {1.5, -0.7}, bias[] = {0.2, -0.1};
    std::vector<double> y, dx, dweight(2), dbias(2);
    for (std::size_t i = 0; i < 6; ++i) {
      const std::size_t c = i % 2;
      const double value = (x[i] - mean[c]) * s[c] * weight[c] + bias[c];
      const bool off = activation == nn::Activation::relu && value <= 0.0;
      y.push_back(off ? 0.0 : value);
      const double g = off ? 0.0 : dy[i];
      dx.push_back(g * s[c] * weight[c]);
      dweight[c] += g * (x[i] - mean[c]) * s[c];
      dbias[c] += g;
    }
    // A handful of operations on numbers of order 10.
    const double tolerance = 100 * support::eps<double>;
    support::check_close(ms::to_host(ctx, trace.output), y, tolerance, "y");
    const auto gradient = layer.backward(ctx, input, trace, ms::from_host<double>(ctx, {3, 2}, dy), pass);
    support::check_close(ms::to_host(ctx, gradient), dx, tolerance, "dx");
    support::check_close(ms::to_host(ctx, layer.weight().gradient), dweight, tolerance, "dweight");
    support::check_close(ms::to_host(ctx, layer.bias().gradient), dbias, tolerance, "dbias");
    // Nothing moved.
    support::check_close(ms::to_host(ctx, layer.running_mean().value), {0.5, -1.0}, 0.0);
    support::check_close(ms::to_host(ctx, layer.running_variance().value), {4.0, 0.25}, 0.0);
  }
}

TEST_CASE("batch norm layer: running statistics move by the momentum, the variance unbiased") {
  ms::Context ctx({.seed = 5});
  nn::BatchNorm<double> layer(ctx, 1, {.momentum = 0.25});
  // Mean 3, biased variance 2, unbiased 8/3.
  const auto x = ms::from_host<double>(ctx, {2, 2, 1}, {1.0, 3.0, 3.0, 5.0});
  const auto running = [&] {
    return std::vector<double>{ms::to_host(ctx, layer.running_mean().value)[0],
                               ms::to_host(ctx, layer.running_variance().value)[0]};
  };
  (void)layer.forward(ctx, x, {.measuring = true});
  support::check_close(running(), {0.0, 1.0}, 0.0, "measuring");
  auto trace = layer.forward(ctx, x, {});
  support::check_close(running(), {0.75, 0.75 + 0.25 * 8 / 3}, 1e-15, "once");
  const double s = 1 / std::sqrt(2.0 + 1e-5);
  support::check_close(ms::to_host(ctx, trace.output), {-2 * s, 0.0, 0.0, 2 * s}, 1e-15, "the biased variance");
  (void)layer.forward(ctx, x, {});
  support::check_close(running(), {0.75 * 0.75 + 0.75, 0.75 * (0.75 + 0.25 * 8 / 3) + 0.25 * 8 / 3}, 1e-15, "twice");
  // Measuring takes the batch's statistics nevertheless.
  trace = layer.forward(ctx, x, {.measuring = true});
  support::check_close(ms::to_host(ctx, trace.output), {-2 * s, 0.0, 0.0, 2 * s}, 1e-15, "measuring");
}

TEST_CASE("batch norm layer: one row and no row in training") {
  ms::Context ctx({.seed = 6});
  nn::BatchNorm<float> layer(ctx, 2, {.momentum = 0.5, .activation = nn::Activation::relu});
  set(ctx, layer.bias().value, {0.25, -0.5});
  const nn::Pass<float> pass{.input_gradient = true};
  const auto x = ms::from_host<float>(ctx, {1, 2}, {4.0f, -6.0f});
  const auto trace = layer.forward(ctx, x, pass);
  support::check_close(ms::to_host(ctx, trace.output), {0.25, 0.0}, 0.0, "act(bias)");
  support::check_close(ms::to_host(ctx, layer.running_mean().value), {2.0, -3.0}, 0.0, "the mean is known");
  support::check_close(ms::to_host(ctx, layer.running_variance().value), {1.0, 1.0}, 0.0, "the spread is not");
  const auto dx = layer.backward(ctx, x, trace, ms::from_host<float>(ctx, {1, 2}, {3.0f, 5.0f}), pass);
  support::check_close(ms::to_host(ctx, dx), {0.0, 0.0}, 0.0, "the output does not depend on the input");
  support::check_close(ms::to_host(ctx, layer.weight().gradient), {0.0, 0.0}, 0.0);
  support::check_close(ms::to_host(ctx, layer.bias().gradient), {3.0, 0.0}, 0.0);

  const auto none = ms::zeros<float>(ctx, {0, 4, 2});
  const auto empty_trace = layer.forward(ctx, none, pass);
  CHECK(empty_trace.output.shape() == ms::Shape{0, 4, 2});
  CHECK(layer.backward(ctx, none, empty_trace, ms::zeros<float>(ctx, {0, 4, 2}), pass).shape() == ms::Shape{0, 4, 2});
  support::check_close(ms::to_host(ctx, layer.bias().gradient), {0.0, 0.0}, 0.0, "overwritten");
  support::check_close(ms::to_host(ctx, layer.running_mean().value), {2.0, -3.0}, 0.0);
}

TEST_CASE("batch norm layer: no channels") {
  ms::Context ctx({.seed = 7});
  nn::BatchNorm<float> layer(ctx, 0, {.activation = nn::Activation::relu});
  CHECK(layer.channels() == 0);
  for (const auto mode : {nn::Mode::training, nn::Mode::evaluation}) {
    const nn::Pass<float> pass{.mode = mode, .input_gradient = true};
    const auto x = ms::zeros<float>(ctx, {4, 2, 2, 0});
    const auto trace = layer.forward_added(ctx, x, x, pass);
    CHECK(trace.output.shape() == x.shape());
    ms::Tensor<float> to_residual;
    const auto dx = layer.backward_added(ctx, x, trace, ms::zeros<float>(ctx, x.shape()), pass, to_residual);
    CHECK(dx.shape() == x.shape());
    CHECK(to_residual.shape() == x.shape());
  }
}

TEST_CASE("batch norm layer: gradients are overwritten, accumulated or ignored as asked") {
  ms::Context ctx({.seed = 8});
  nn::BatchNorm<double> layer(ctx, 3, {.activation = nn::Activation::relu});
  const auto x = ms::from_host<double>(ctx, {4, 3}, support::normal_values<double>(12, 1));
  const auto dy = support::normal_values<double>(12, 2);
  std::vector<double> first_dx;
  const auto run = [&](nn::GradientMode mode, bool input_gradient) {
    const nn::Pass<double> pass{.gradients = mode, .input_gradient = input_gradient};
    const auto trace = layer.forward(ctx, x, pass);
    const auto dx = layer.backward(ctx, x, trace, ms::from_host<double>(ctx, {4, 3}, dy), pass);
    CHECK(dx.empty() == !input_gradient);
    if (input_gradient && first_dx.empty()) first_dx = ms::to_host(ctx, dx);
    if (input_gradient) support::check_same_bits(ms::to_host(ctx, dx), first_dx);
    auto gradients = ms::to_host(ctx, layer.weight().gradient);
    for (const double value : ms::to_host(ctx, layer.bias().gradient)) gradients.push_back(value);
    return gradients;
  };
  const auto once = run(nn::GradientMode::overwrite, true);
  support::check_same_bits(run(nn::GradientMode::overwrite, false), once);
  auto twice = once;
  for (double& value : twice) value *= 2;
  support::check_close(run(nn::GradientMode::accumulate, true), twice, 1e-15 * support::scale_of(twice));
  support::check_close(run(nn::GradientMode::ignore, true), twice, 1e-15 * support::scale_of(twice));
  support::check_close(run(nn::GradientMode::ignore, false), twice, 1e-15 * support::scale_of(twice));
}

TEST_CASE("batch norm layer: names, axes, buffers and messages") {
  ms::Context ctx;
  nn::BatchNorm<float> layer(ctx, 16);
  layer.set_name("norm1");
  CHECK(layer.weight().name == "norm1.weight");
  CHECK(layer.bias().name == "norm1.bias");
  CHECK(!layer.weight().decays);
  CHECK(!layer.bias().decays);
  std::string names;
  layer.visit_buffers([&](nn::Buffer<float>& buffer) { names += buffer.name + " "; });
  CHECK(names == "norm1.running_mean norm1.running_variance ");
  const auto told = layer.description();
  CHECK(told.op == nn::Operator::normalise);
  REQUIRE(told.parameters.size() == 2);
  CHECK(told.parameters[0].tensor == &layer.weight());
  CHECK(told.parameters[1].tensor == &layer.bias());
  CHECK(told.parameters[1].axis_of(nn::Axis::channel) == 0);
  REQUIRE(told.buffers.size() == 2);
  CHECK(told.buffers[0].tensor == &layer.running_mean());
  CHECK(told.buffers[1].tensor == &layer.running_variance());
  CHECK(told.buffers[1].axis_of(nn::Axis::channel) == 0);
  CHECK(layer.multiply_adds({8, 4, 16}) == 64);
  CHECK(layer.epsilon() == 1e-5);
  CHECK(layer.momentum() == 0.1);

  const auto x = ms::zeros<float>(ctx, {128, 32, 32, 3});
  CHECK(message_of<ms::ShapeError>([&] { (void)layer.forward(ctx, x, {}); }) ==
        "norm1 (BatchNorm): input has 3 channels, weight expects 16; got (128, 32, 32, 3)");
  CHECK(message_of<ms::ShapeError>([&] { (void)layer.output_shape({16}); }) ==
        "norm1 (BatchNorm): input of shape (16) lacks a batch axis; give it one");
  const auto right = ms::zeros<float>(ctx, {2, 3, 16}), wrong = ms::zeros<float>(ctx, {2, 1, 16});
  CHECK(message_of<ms::ShapeError>([&] { (void)layer.forward_added(ctx, right, wrong, {}); }) ==
        "norm1 (BatchNorm): residual of shape (2, 1, 16) cannot be added to the output of shape (2, 3, 16); make the "
        "shapes equal");
  CHECK(message_of<ms::ArgumentError>([&] { nn::BatchNorm<float>(ctx, -1); }) ==
        "BatchNorm: -1 channels; they must be 0 or more");
  CHECK(message_of<ms::ArgumentError>([&] { nn::BatchNorm<float>(ctx, 1, {.momentum = 1.5}); }) ==
        "BatchNorm: momentum is 1.5; it must be between 0 and 1");
  CHECK(message_of<ms::ArgumentError>([&] { nn::BatchNorm<float>(ctx, 1, {.epsilon = 0.0}); }) ==
        "BatchNorm: epsilon is 0; it must be positive, and finite");
  CHECK(message_of<ms::ArgumentError>([&] { nn::BatchNorm<float>(ctx, 1, {.activation = nn::Activation::tanh}); }) ==
        "BatchNorm: activation tanh cannot be fused; take identity or relu, or put an activation of its own behind it");
}

TEST_SUITE_END();

}  // namespace nn_batch_norm_test
