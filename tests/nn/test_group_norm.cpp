#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include <meristem/nn/group_norm.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_group_norm_test {

namespace ms = meristem;
namespace nn = meristem::nn;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("group norm layer: gradients agree with finite differences") {
  ms::Context ctx({.seed = 2});
  for (const std::int64_t groups : {1, 2, 3, 6}) {
    CAPTURE(groups);
    nn::GroupNorm<double> layer(ctx, groups, 6);
    layer.weight().value = ms::from_host<double>(ctx, {6}, {1.5, -0.7, 0.3, 1.0, 0.4, -1.1});
    layer.bias().value = ms::from_host<double>(ctx, {6}, {0.2, -0.1, 0.4, 0.0, 1.0, 0.3});
    support::check_gradients(ctx, layer, {2, 2, 3, 6}, 10);
    support::check_gradients(ctx, layer, {1, 4, 6}, 11);
  }
  nn::GroupNorm<double> whole(ctx, 1, 6);
  support::check_gradients(ctx, whole, {3, 6}, 12);
}

TEST_CASE("group norm layer: gradients are overwritten, accumulated or ignored as asked") {
  ms::Context ctx({.seed = 3});
  nn::GroupNorm<double> layer(ctx, 2, 4);
  const auto x = ms::from_host<double>(ctx, {3, 2, 4}, support::normal_values<double>(24, 1));
  const auto dy = support::normal_values<double>(24, 2);
  const auto run = [&](nn::GradientMode mode) {
    const nn::Pass<double> pass{.gradients = mode, .input_gradient = mode == nn::GradientMode::ignore};
    const auto trace = layer.forward(ctx, x, pass);
    const auto dx = layer.backward(ctx, x, trace, ms::from_host<double>(ctx, {3, 2, 4}, dy), pass);
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

TEST_CASE("group norm layer: no channels, no samples, no positions") {
  ms::Context ctx({.seed = 4});
  nn::GroupNorm<float> none(ctx, 2, 0);
  nn::GroupNorm<float> four(ctx, 2, 4);
  const nn::Pass<float> pass{.input_gradient = true};
  for (const auto& [layer, shape] :
       {std::pair<nn::GroupNorm<float>*, ms::Shape>{&none, {4, 2, 0}}, {&four, {0, 3, 4}}, {&four, {2, 0, 4}}}) {
    const auto x = ms::zeros<float>(ctx, shape);
    const auto trace = layer->forward(ctx, x, pass);
    CHECK(trace.output.shape() == shape);
    CHECK(layer->backward(ctx, x, trace, ms::zeros<float>(ctx, shape), pass).shape() == shape);
    support::check_close(ms::to_host(ctx, four.weight().gradient), {0, 0, 0, 0}, 0.0);
  }
}

TEST_CASE("group norm layer: names, axes and messages") {
  ms::Context ctx;
  nn::GroupNorm<float> layer(ctx, 4, 16);
  layer.set_name("norm1");
  CHECK(layer.groups() == 4);
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
        "norm1 (GroupNorm): input has 3 channels, weight expects 16; got (128, 32, 32, 3)");
  CHECK(message_of<ms::ShapeError>([&] { (void)layer.output_shape({16}); }) ==
        "norm1 (GroupNorm): input of shape (16) lacks a batch axis; give it one");
  const std::string misfit =
      ": 6 channels do not fall into 4 groups of equal size; choose a number of groups that divides the channels";
  CHECK(message_of<ms::ArgumentError>([&] { nn::GroupNorm<float>(ctx, 4, 6); }) == "GroupNorm" + misfit);
  CHECK_THROWS_AS(nn::GroupNorm<float>(ctx, 0, 6), ms::ArgumentError);
  layer.weight().value = ms::zeros<float>(ctx, {6});
  CHECK(message_of<ms::ArgumentError>([&] {
          (void)layer.forward(ctx, ms::zeros<float>(ctx, {2, 6}), {});
        }) == "norm1 (GroupNorm)" + misfit);
  CHECK(message_of<ms::ArgumentError>([&] { nn::GroupNorm<float>(ctx, 1, -1); }) ==
        "GroupNorm: -1 channels; they must be 0 or more");
  CHECK(message_of<ms::ArgumentError>([&] { nn::GroupNorm<float>(ctx, 1, 1, {.epsilon = -1.0}); }) ==
        "GroupNorm: epsilon is -1; it must be positive, and finite");
}

TEST_SUITE_END();

}  // namespace nn_group_norm_test
