#include <doctest/doctest.h>

#include <vector>

#include <meristem/nn/layer_norm.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_layer_norm_test {

namespace ms = meristem;
namespace nn = meristem::nn;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("layer norm layer: gradients agree with finite differences") {
  ms::Context ctx({.seed = 2});
  nn::LayerNorm<double> layer(ctx, 5);
  layer.weight().value = ms::from_host<double>(ctx, {5}, {1.5, -0.7, 0.3, 1.0, 0.4});
  layer.bias().value = ms::from_host<double>(ctx, {5}, {0.2, -0.1, 0.4, 0.0, 1.0});
  support::check_gradients(ctx, layer, {4, 5}, 10);
  support::check_gradients(ctx, layer, {2, 3, 2, 5}, 11);
}

TEST_CASE("layer norm layer: gradients are overwritten, accumulated or ignored as asked") {
  ms::Context ctx({.seed = 3});
  nn::LayerNorm<double> layer(ctx, 3);
  const auto x = ms::from_host<double>(ctx, {4, 3}, support::normal_values<double>(12, 1));
  const auto dy = support::normal_values<double>(12, 2);
  const auto run = [&](nn::GradientMode mode) {
    const nn::Pass<double> pass{.gradients = mode, .input_gradient = mode == nn::GradientMode::ignore};
    const auto trace = layer.forward(ctx, x, pass);
    const auto dx = layer.backward(ctx, x, trace, ms::from_host<double>(ctx, {4, 3}, dy), pass);
    CHECK(dx.empty() == !pass.input_gradient);
    auto gradients = ms::to_host(ctx, layer.weight().gradient);
    for (const double value : ms::to_host(ctx, layer.bias().gradient)) gradients.push_back(value);
    return gradients;
  };
  const auto once = run(nn::GradientMode::overwrite);
  support::check_same_bits(run(nn::GradientMode::overwrite), once);
  auto twice = once;
  for (double& value : twice) value *= 2;
  support::check_close(run(nn::GradientMode::accumulate), twice, 1e-15 * support::scale_of(twice));
  support::check_close(run(nn::GradientMode::ignore), twice, 1e-15 * support::scale_of(twice));
}

TEST_CASE("layer norm layer: no channels, no rows") {
  ms::Context ctx({.seed = 4});
  nn::LayerNorm<float> none(ctx, 0);
  nn::LayerNorm<float> three(ctx, 3);
  const nn::Pass<float> pass{.input_gradient = true};
  for (const auto& [layer, shape] : {std::pair<nn::LayerNorm<float>*, ms::Shape>{&none, {4, 2, 0}}, {&three, {0, 3}}}) {
    const auto x = ms::zeros<float>(ctx, shape);
    const auto trace = layer->forward(ctx, x, pass);
    CHECK(trace.output.shape() == shape);
    CHECK(layer->backward(ctx, x, trace, ms::zeros<float>(ctx, shape), pass).shape() == shape);
  }
  support::check_close(ms::to_host(ctx, three.weight().gradient), {0, 0, 0}, 0.0);
}

TEST_CASE("layer norm layer: names, axes and messages") {
  ms::Context ctx;
  nn::LayerNorm<float> layer(ctx, 16);
  layer.set_name("norm1");
  CHECK(layer.weight().name == "norm1.weight");
  CHECK(layer.bias().name == "norm1.bias");
  CHECK(!layer.weight().decays);
  const auto told = layer.description();
  CHECK(told.op == nn::Operator::normalise);
  REQUIRE(told.parameters.size() == 2);
  CHECK(told.parameters[0].tensor == &layer.weight());
  CHECK(told.parameters[1].tensor == &layer.bias());
  CHECK(told.parameters[1].axis_of(nn::Axis::channel) == 0);
  CHECK(layer.multiply_adds({8, 4, 16}) == 64);
  const auto x = ms::zeros<float>(ctx, {128, 32, 32, 3});
  CHECK(message_of<ms::ShapeError>([&] { (void)layer.forward(ctx, x, {}); }) ==
        "norm1 (LayerNorm): input has 3 channels, weight expects 16; got (128, 32, 32, 3)");
  CHECK(message_of<ms::ShapeError>([&] { (void)layer.output_shape({16}); }) ==
        "norm1 (LayerNorm): input of shape (16) lacks a batch axis; give it one");
  CHECK(message_of<ms::ArgumentError>([&] { nn::LayerNorm<float>(ctx, -1); }) ==
        "LayerNorm: -1 channels; they must be 0 or more");
  CHECK(message_of<ms::ArgumentError>([&] { nn::LayerNorm<float>(ctx, 1, {.epsilon = 0.0}); }) ==
        "LayerNorm: epsilon is 0; it must be positive, and finite");
}

TEST_SUITE_END();

}  // namespace nn_layer_norm_test
