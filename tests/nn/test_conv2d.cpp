#include <doctest/doctest.h>

#include <vector>

#include <meristem/nn/conv2d.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_conv2d_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("conv2d layer: gradients agree with finite differences") {
  ms::Context ctx({.seed = 2});
  const auto check = [&](std::int64_t in, std::int64_t out, const ms::nn::Conv2dOptions& options,
                         const ms::Shape& input) {
    ms::nn::Conv2d<double> layer(ctx, in, out, options);
    support::check_gradients(ctx, layer, input, 30);
  };
  check(2, 3, {.padding = 1}, {2, 4, 5, 2});
  check(3, 2, {.stride = 2, .padding = 1, .bias = false}, {2, 5, 4, 3});
  check(2, 2, {.kernel = 1, .stride = 2}, {2, 3, 4, 2});
  check(1, 4, {.kernel = {2, 3}, .stride = {1, 3}, .padding = {1, 2}, .dilation = {2, 1}}, {1, 5, 6, 1});
}

TEST_CASE("conv2d layer: shapes, work and names") {
  ms::Context ctx({.seed = 2});
  ms::nn::Conv2d<float> layer(ctx, 3, 16, {.kernel = {3, 5}, .stride = {1, 2}, .padding = {1, 2}});
  layer.set_name("stage1.conv1");
  CHECK(layer.label() == "stage1.conv1 (Conv2d)");
  CHECK(layer.weight().name == "stage1.conv1.weight");
  CHECK(layer.bias().name == "stage1.conv1.bias");
  CHECK(layer.weight().value.shape() == ms::Shape{16, 3, 5, 3});
  CHECK(layer.weight().decays);
  CHECK_FALSE(layer.bias().decays);
  CHECK(layer.in_channels() == 3);
  CHECK(layer.out_channels() == 16);
  CHECK(layer.window() == ms::Window{{3, 5}, {1, 2}, {1, 2}, 1});
  CHECK(layer.output_shape({8, 32, 30, 3}) == ms::Shape{8, 32, 15, 16});
  CHECK(layer.multiply_adds({8, 32, 30, 3}) == std::int64_t{32} * 15 * 16 * 3 * 5 * 3);
  const auto told = layer.description();
  CHECK(told.op == ms::nn::Operator::affine);
  CHECK(told.window == layer.window());
  REQUIRE(told.parameters.size() == 2);
  CHECK(told.parameters[0].tensor == &layer.weight());
  CHECK(told.parameters[0].axis_of(ms::nn::Axis::out) == 0);
  CHECK(told.parameters[0].axis_of(ms::nn::Axis::in) == 3);
  CHECK(told.parameters[1].tensor == &layer.bias());
  CHECK(told.parameters[1].axis_of(ms::nn::Axis::out) == 0);
  CHECK(told.parameters[1].axis_of(ms::nn::Axis::in) == -1);
  CHECK(ms::nn::parameter_count(layer) == 16 * 3 * 5 * 3 + 16);
  ms::nn::Conv2d<float> plain(ctx, 3, 16, {.bias = false});
  CHECK_FALSE(plain.has_bias());
  CHECK(plain.description().parameters.size() == 1);
  CHECK(ms::nn::parameter_count(plain) == 16 * 9 * 3);
}

TEST_CASE("conv2d layer: initial weights have the variance of their fan-in, the bias is 0") {
  ms::Context ctx({.seed = 2});
  ms::nn::Conv2d<double> layer(ctx, 32, 64);
  double sum = 0.0;
  const auto values = ms::to_host(ctx, layer.weight().value);
  for (const double value : values) sum += value * value;
  // He et al.: 2 / (9 · 32). The mean of n squares of normal numbers has relative deviation √(2/n) = 0.0104; 5 of them.
  CHECK(sum / double(values.size()) == doctest::Approx(2.0 / (9 * 32)).epsilon(0.052));
  support::check_close(ms::to_host(ctx, layer.bias().value), std::vector<double>(64, 0.0), 0.0);
}

TEST_CASE("conv2d layer: gradients are overwritten, accumulated or ignored as asked") {
  ms::Context ctx({.seed = 5});
  ms::nn::Conv2d<double> layer(ctx, 3, 2, {.padding = 1});
  const auto x = ms::from_host<double>(ctx, {2, 4, 4, 3}, support::normal_values<double>(96, 1));
  const auto dy = support::normal_values<double>(64, 2);
  const auto run = [&](ms::nn::GradientMode mode) {
    const ms::nn::Pass<double> pass{.gradients = mode};
    const auto trace = layer.forward(ctx, x, pass);
    const auto dx = layer.backward(ctx, x, trace, ms::from_host<double>(ctx, {2, 4, 4, 2}, dy), pass);
    CHECK(dx.empty());
    auto all = ms::to_host(ctx, layer.weight().gradient);
    for (const double value : ms::to_host(ctx, layer.bias().gradient)) all.push_back(value);
    return all;
  };
  const auto once = run(ms::nn::GradientMode::overwrite);
  support::check_same_bits(run(ms::nn::GradientMode::overwrite), once);
  auto twice = support::to_double(once);
  for (double& value : twice) value *= 2;
  // Adding a gradient to itself rounds the partial sums of 32 rows once more.
  const double tolerance = 32 * support::eps<double> * support::scale_of(twice);
  support::check_close(run(ms::nn::GradientMode::accumulate), twice, tolerance);
  support::check_close(run(ms::nn::GradientMode::ignore), twice, tolerance);
}

TEST_CASE("conv2d layer: no channels on either side compute") {
  ms::Context ctx({.seed = 6});
  ms::nn::Conv2d<float> to_none(ctx, 2, 0, {.padding = 1}), from_none(ctx, 0, 2, {.padding = 1});
  from_none.bias().value = ms::from_host<float>(ctx, {2}, std::vector<float>{1.5f, -2.5f});
  const auto x = ms::from_host<float>(ctx, {1, 2, 2, 2}, support::normal_values<float>(8, 1));
  const ms::nn::Pass<float> pass{.input_gradient = true};
  const auto hidden = to_none.forward(ctx, x, pass);
  CHECK(hidden.output.shape() == ms::Shape{1, 2, 2, 0});
  const auto trace = from_none.forward(ctx, hidden.output, pass);
  support::check_close(ms::to_host(ctx, trace.output), {1.5, -2.5, 1.5, -2.5, 1.5, -2.5, 1.5, -2.5}, 0.0);
  auto dhidden = from_none.backward(ctx, hidden.output, trace,
                                    ms::from_host<float>(ctx, {1, 2, 2, 2}, std::vector<float>(8, 1.0f)), pass);
  CHECK(dhidden.shape() == ms::Shape{1, 2, 2, 0});
  support::check_close(ms::to_host(ctx, from_none.bias().gradient), {4.0, 4.0}, 0.0);
  const auto dx = to_none.backward(ctx, x, hidden, std::move(dhidden), pass);
  support::check_close(ms::to_host(ctx, dx), std::vector<double>(8, 0.0), 0.0);
}

TEST_CASE("conv2d layer: an empty batch gives empty maps and zero gradients") {
  ms::Context ctx({.seed = 6});
  ms::nn::Conv2d<float> layer(ctx, 2, 3);
  const auto x = ms::empty<float>(ctx, {0, 5, 5, 2});
  const ms::nn::Pass<float> pass{.input_gradient = true};
  const auto trace = layer.forward(ctx, x, pass);
  CHECK(trace.output.shape() == ms::Shape{0, 3, 3, 3});
  const auto dx = layer.backward(ctx, x, trace, ms::empty<float>(ctx, {0, 3, 3, 3}), pass);
  CHECK(dx.shape() == x.shape());
  support::check_close(ms::to_host(ctx, layer.weight().gradient), std::vector<double>(54, 0.0), 0.0);
  support::check_close(ms::to_host(ctx, layer.bias().gradient), std::vector<double>(3, 0.0), 0.0);
}

TEST_CASE("conv2d layer: misfits are told with name and both shapes") {
  ms::Context ctx;
  ms::nn::Conv2d<float> layer(ctx, 16, 8, {.kernel = 5});
  layer.set_name("conv2");
  const auto text = [&](const ms::Shape& input) {
    return message_of<ms::ShapeError>([&] { (void)layer.output_shape(input); });
  };
  CHECK(contains(text({128, 32, 32, 3}),
                 "conv2 (Conv2d): input has 3 channels, weight expects 16; got (128, 32, 32, 3)"));
  CHECK(contains(text({128, 32, 32, 3}), "(8, 5, 5, 16)"));
  CHECK(
      contains(text({128, 768}), "conv2 (Conv2d): weight of shape (8, 5, 5, 16) expects maps of shape (n, H, W, 16)"));
  CHECK(contains(text({128, 768}), "(128, 768)"));
  CHECK(contains(text({1, 4, 32, 16}), "conv2 (Conv2d): the kernel 5x5 spans 5x5, more than the map of 4x32"));
  const auto x = ms::zeros<float>(ctx, {1, 8, 8, 3});
  CHECK(contains(message_of<ms::ShapeError>([&] { (void)layer.forward(ctx, x, {}); }), "weight expects 16"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::nn::Conv2d<float>(ctx, -1, 4); }), "-1 -> 4"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::nn::Conv2d<float>(ctx, 1, 4, {.stride = 0}); }),
                 "Conv2d: the stride is 0x0; it must be at least 1x1"));
}

TEST_SUITE_END();

}  // namespace nn_conv2d_test
