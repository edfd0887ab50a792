#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <meristem/grow/units/find_sites.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/concatenate.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_concatenate_test {

namespace ms = meristem;
namespace nn = meristem::nn;
using Block = nn::Concatenate<double>;
using support::contains;
using support::message_of;

namespace {

/// A convolution and a norm, the input as it is, and a 1x1 convolution.
void fill(ms::Context& ctx, Block& block) {
  auto& deep = block.add<nn::Sequential>("deep");
  deep.add<nn::Conv2d>("conv1", ctx, 2, 4, nn::Conv2dOptions{.padding = 1});
  deep.add<nn::ActivationLayer>("tanh", nn::Activation::tanh);
  deep.add<nn::Conv2d>("conv2", ctx, 4, 3, nn::Conv2dOptions{.padding = 1});
  deep.add<nn::BatchNorm>("norm", ctx, 3);
  block.add<nn::Sequential>("same");
  block.add<nn::Conv2d>("narrow", ctx, 2, 1, nn::Conv2dOptions{.kernel = 1});
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("concatenate: the outputs of the branches stand side by side") {
  for (const bool forward_only : {false, true}) {
    ms::Context ctx({.seed = 1});
    Block block;
    fill(ctx, block);
    const ms::Shape shape{2, 3, 4, 2};
    const auto x = ms::from_host<double>(ctx, shape, support::normal_values<double>(shape.size(), 1));
    const nn::Pass<double> pass{.measuring = true, .forward_only = forward_only};
    const auto trace = block.forward(ctx, x, pass);
    CHECK(trace.output.shape() == ms::Shape{2, 3, 4, 6});
    CHECK(block.output_shape(shape) == ms::Shape{2, 3, 4, 6});
    const std::vector<double> output = ms::to_host(ctx, trace.output);
    std::int64_t first = 0;
    for (std::size_t i = 0; i < block.size(); ++i) {
      const auto alone = block[i].forward(ctx, x, pass);
      const std::vector<double> part = ms::to_host(ctx, alone.output);
      const std::int64_t width = alone.output.extent(3);
      for (std::int64_t row = 0; row < 24; ++row) {
        for (std::int64_t c = 0; c < width; ++c) {
          CHECK(output[static_cast<std::size_t>(row * 6 + first + c)] ==
                part[static_cast<std::size_t>(row * width + c)]);
        }
      }
      first += width;
    }
    CHECK(first == 6);
  }
}

TEST_CASE("concatenate: gradients agree with finite differences") {
  ms::Context ctx({.seed = 3});
  Block maps, rows, one;
  fill(ctx, maps);
  support::check_gradients(ctx, maps, {2, 3, 4, 2}, 40);
  rows.add<nn::Linear>("left", ctx, 4, 2);
  rows.add<nn::Sequential>("same");
  auto& right = rows.add<nn::Sequential>("right");
  right.add<nn::Linear>("linear", ctx, 4, 3);
  right.add<nn::ActivationLayer>("gelu", nn::Activation::gelu);
  support::check_gradients(ctx, rows, {3, 4}, 41);
  one.add<nn::Linear>("only", ctx, 4, 2);
  support::check_gradients(ctx, one, {3, 4}, 42);
}

TEST_CASE("concatenate: the same gradients with and without the input gradient") {
  ms::Context ctx({.seed = 3});
  Block block;
  fill(ctx, block);
  const ms::Shape shape{2, 3, 4, 2};
  const auto x = ms::from_host<double>(ctx, shape, support::normal_values<double>(shape.size(), 1));
  const auto gradients = [&](bool input_gradient) {
    const nn::Pass<double> pass{.input_gradient = input_gradient};
    const auto trace = block.forward(ctx, x, pass);
    const auto dy = support::normal_values<double>(trace.output.size(), 2);
    const auto dx = block.backward(ctx, x, trace, ms::from_host<double>(ctx, trace.output.shape(), dy), pass);
    CHECK(dx.empty() != input_gradient);
    std::vector<std::vector<double>> result;
    for (auto* parameter : nn::parameters(block)) result.push_back(ms::to_host(ctx, parameter->gradient));
    return result;
  };
  const auto with = gradients(true), without = gradients(false);
  for (std::size_t i = 0; i < with.size(); ++i) support::check_same_bits(with[i], without[i]);
}

TEST_CASE("concatenate: names, parameters, work and what is refused") {
  ms::Context ctx;
  nn::Sequential<double> net;
  auto& block = net.add<nn::Sequential<double>>("stage").add<Block>("block");
  fill(ctx, block);
  std::vector<std::string> names;
  for (auto* parameter : nn::parameters(net)) names.push_back(parameter->name);
  CHECK(names == std::vector<std::string>{"stage.block.deep.conv1.weight", "stage.block.deep.conv1.bias",
                                          "stage.block.deep.conv2.weight", "stage.block.deep.conv2.bias",
                                          "stage.block.deep.norm.weight", "stage.block.deep.norm.bias",
                                          "stage.block.narrow.weight", "stage.block.narrow.bias"});
  CHECK(block.children() == std::vector<nn::Layer<double>*>{&block[0], &block[1], &block[2]});
  CHECK(block.multiply_adds({1, 3, 4, 2}) == 12 * (9 * 2 * 4 + 9 * 4 * 3 + 3 + 2));
  CHECK(contains(message_of<ms::ArgumentError>([&] { block.add<nn::Sequential>("same"); }), "named 'same' already"));
  CHECK(block.size() == 3);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)Block().output_shape({1, 2}); }), "has no branch"));
  Block uneven;
  uneven.add<nn::Sequential>("same");
  uneven.add<nn::Conv2d>("conv", ctx, 2, 3, nn::Conv2dOptions{.kernel = 3});
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   (void)uneven.output_shape({1, 4, 4, 2});
                 }),
                 "make the shapes equal in all but the last axis"));
  CHECK(contains(
      message_of<ms::ArgumentError>([&] {
        (void)block.backward(ctx, ms::zeros<double>(ctx, {1, 3, 4, 2}), {}, ms::zeros<double>(ctx, {1, 3, 4, 6}), {});
      }),
      "trace"));
}

TEST_CASE("concatenate: widths inside its branches grow, and those side by side") {
  ms::Context ctx;
  nn::Sequential<double> net;
  net.add<nn::Conv2d>("stem", ctx, 3, 2, nn::Conv2dOptions{.padding = 1});
  fill(ctx, net.add<Block>("block"));
  net.add<nn::Conv2d>("last", ctx, 6, 2, nn::Conv2dOptions{.kernel = 1});
  const auto sites = ms::grow::find_sites<double>(net, ms::grow::Widths::all);
  std::vector<std::string> names;
  for (const auto& site : sites) names.push_back(site.name);
  CHECK(names == std::vector<std::string>{"stem", "block.deep.conv1", "block.deep.conv2", "block.narrow"});
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::grow::find_site<double>(net, "stem"); }),
                 "3 layers read its outputs"));
}

TEST_SUITE_END();

}  // namespace nn_concatenate_test
