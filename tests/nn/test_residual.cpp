#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_residual_test {

namespace ms = meristem;
namespace nn = meristem::nn;
using nn::Activation;
using support::contains;
using support::message_of;

namespace {

using Block = nn::Residual<double>;

/// conv3x3, norm, relu, conv3x3, norm with `last`; another stride or width gives the shortcut a convolution and a norm.
void fill_block(ms::Context& ctx, Block& block, std::int64_t in, std::int64_t hidden, std::int64_t out,
                std::int64_t stride, Activation last) {
  block.add<nn::Conv2d<double>>("conv1", ctx, in, hidden, nn::Conv2dOptions{.stride = stride, .padding = 1});
  block.add<nn::BatchNorm<double>>("norm1", ctx, hidden, nn::BatchNormOptions{.activation = Activation::relu});
  block.add<nn::Conv2d<double>>("conv2", ctx, hidden, out, nn::Conv2dOptions{.padding = 1});
  block.add<nn::BatchNorm<double>>("norm2", ctx, out, nn::BatchNormOptions{.activation = last});
  if (stride == 1 && in == out) return;
  block.shortcut().add<nn::Conv2d<double>>("conv", ctx, in, out, nn::Conv2dOptions{.kernel = 1, .stride = stride});
  block.shortcut().add<nn::BatchNorm<double>>("norm", ctx, out);
}

/// Numbers other than 1 and 0 for the norms' weights and biases.
void stir(ms::Context& ctx, nn::Layer<double>& layer) {
  std::uint64_t seed = 500;
  for (auto* parameter : nn::parameters(layer)) {
    if (parameter->decays) continue;
    auto values = support::normal_values<double>(parameter->value.size(), ++seed, 0.3);
    for (double& value : values) value += parameter->name.ends_with("weight") ? 1.0 : 0.1;
    parameter->value = ms::from_host<double>(ctx, parameter->value.shape(), values);
  }
}

struct Result {
  std::vector<double> output, input_gradient;
  std::vector<std::vector<double>> gradients;
};

Result run(ms::Context& ctx, nn::Layer<double>& layer, const ms::Shape& shape, nn::Pass<double> pass = {}) {
  const auto x = ms::from_host<double>(ctx, shape, support::normal_values<double>(shape.size(), 1));
  const auto trace = layer.forward(ctx, x, pass);
  Result result;
  result.output = ms::to_host(ctx, trace.output);
  const auto dy = support::normal_values<double>(trace.output.size(), 2);
  result.input_gradient =
      ms::to_host(ctx, layer.backward(ctx, x, trace, ms::from_host<double>(ctx, trace.output.shape(), dy), pass));
  for (auto* parameter : nn::parameters(layer)) result.gradients.push_back(ms::to_host(ctx, parameter->gradient));
  return result;
}

struct Record final : nn::Taps<double> {
  std::vector<std::string> events;
  std::vector<std::vector<double>> gradients;
  void on_forward(ms::Context&, const nn::Layer<double>& layer, ms::View<const double> input) override {
    events.push_back("> " + layer.name() + " " + input.shape().to_string());
  }
  void on_backward(ms::Context& ctx, const nn::Layer<double>& layer, ms::View<const double> input,
                   ms::View<const double> output_gradient) override {
    events.push_back("< " + layer.name() + " " + input.shape().to_string() + output_gradient.shape().to_string());
    gradients.push_back(ms::to_host(ctx, output_gradient));
  }
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("residual: act(body + shortcut) of linear layers, by hand") {
  ms::Context ctx({.seed = 2});
  for (const Activation activation : {Activation::relu, Activation::identity}) {
    for (const bool projection : {false, true}) {
      CAPTURE(activation);
      CAPTURE(projection);
      Block block(nn::ResidualOptions{.activation = activation});
      auto& linear = block.add<nn::Linear<double>>("linear", ctx, 3, 3);
      nn::Linear<double>* other = nullptr;
      if (projection) other = &block.shortcut().add<nn::Linear<double>>("linear", ctx, 3, 3);
      const auto x = support::normal_values<double>(12, 1);
      const auto input = ms::from_host<double>(ctx, {4, 3}, x);
      const auto trace = block.forward(ctx, input, {});
      const auto times = [&](nn::Linear<double>& layer, std::size_t i, std::size_t o) {
        const auto w = ms::to_host(ctx, layer.weight().value);
        double sum = 0;
        for (std::size_t k = 0; k < 3; ++k) sum += w[o * 3 + k] * x[i * 3 + k];
        return sum;
      };
      std::vector<double> expected;
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t o = 0; o < 3; ++o) {
          const double sum = times(linear, i, o) + (other ? times(*other, i, o) : x[i * 3 + o]);
          expected.push_back(activation == Activation::relu && sum < 0 ? 0.0 : sum);
        }
      }
      // Eight products and sums of numbers up to ~4.
      support::check_close(ms::to_host(ctx, trace.output), expected, 32 * support::eps<double>);
      CHECK(trace.children.size() == 2);
    }
  }
}

TEST_CASE("residual: gradients agree with finite differences, identity and projection, fused or not") {
  ms::Context ctx({.seed = 3});
  // Seeds such that no relu's argument is within the step of its kink; wrong gradients fail for every seed.
  std::uint64_t seed = 40;
  for (const Activation last : {Activation::relu, Activation::identity}) {
    for (const Activation activation : {Activation::relu, Activation::identity}) {
      CAPTURE(last);
      CAPTURE(activation);
      const nn::ResidualOptions options{.activation = activation};
      Block identity(options), projection(options), empty(options), norm_only(options), linear(options);
      fill_block(ctx, identity, 3, 2, 3, 1, last);
      stir(ctx, identity);
      support::check_gradients(ctx, identity, {2, 3, 4, 3}, ++seed);
      fill_block(ctx, projection, 2, 1, 3, 2, last);
      stir(ctx, projection);
      support::check_gradients(ctx, projection, {2, 4, 5, 2}, ++seed);
      empty.shortcut().add<nn::Linear<double>>("linear", ctx, 4, 4);
      support::check_gradients(ctx, empty, {3, 4}, ++seed);
      norm_only.add<nn::BatchNorm<double>>("norm", ctx, 4, nn::BatchNormOptions{.activation = last});
      stir(ctx, norm_only);
      support::check_gradients(ctx, norm_only, {5, 4}, ++seed);
      linear.add<nn::Linear<double>>("first", ctx, 4, 2);
      linear.add<nn::ActivationLayer<double>>("tanh", Activation::tanh);
      linear.add<nn::Linear<double>>("second", ctx, 2, 4);
      support::check_gradients(ctx, linear, {3, 4}, ++seed);
    }
  }
}

TEST_CASE("residual: the last norm's addition equals a separate one") {
  // body, then identity, hides the norm from the block.
  const ms::Shape shape{3, 4, 4, 2};
  for (const auto mode : {nn::Mode::training, nn::Mode::evaluation}) {
    for (const Activation last : {Activation::relu, Activation::identity}) {
      CAPTURE(last);
      ms::Context one({.seed = 4}), two({.seed = 4});
      Block fused, plain;
      fill_block(one, fused, 2, 3, 2, 1, last);
      fill_block(two, plain, 2, 3, 2, 1, Activation::identity);
      plain.add<nn::ActivationLayer<double>>("identity", Activation::identity);
      stir(one, fused);
      stir(two, plain);
      const nn::Pass<double> pass{.mode = mode, .input_gradient = true};
      const Result a = run(one, fused, shape, pass), b = run(two, plain, shape, pass);
      // The same operations, added in another order at most.
      const double tolerance = 100 * support::eps<double>;
      support::check_close(a.output, b.output, tolerance * support::scale_of(b.output));
      support::check_close(a.input_gradient, b.input_gradient, tolerance * support::scale_of(b.input_gradient));
      REQUIRE(a.gradients.size() == b.gradients.size());
      for (std::size_t i = 0; i < a.gradients.size(); ++i) {
        support::check_close(a.gradients[i], b.gradients[i],
                             tolerance * std::max(1.0, support::scale_of(b.gradients[i])));
      }
    }
  }
}

TEST_CASE("residual: the same gradients with and without the input gradient") {
  for (const bool projection : {false, true}) {
    ms::Context ctx({.seed = 5});
    nn::Sequential<double> net;
    auto& block = net.add<Block>("block");
    fill_block(ctx, block, 2, 3, projection ? 4 : 2, projection ? 2 : 1, Activation::relu);
    stir(ctx, net);
    const Result with = run(ctx, net, {2, 4, 4, 2}, {.input_gradient = true});
    const Result without = run(ctx, net, {2, 4, 4, 2});
    CHECK(with.input_gradient.size() == 64);
    CHECK(without.input_gradient.empty());
    for (std::size_t i = 0; i < with.gradients.size(); ++i) {
      support::check_same_bits(with.gradients[i], without.gradients[i]);
    }
  }
}

TEST_CASE("residual: names, parameters, buffers and children") {
  ms::Context ctx;
  nn::Sequential<double> net;
  auto& stage = net.add<nn::Sequential<double>>("stage2");
  auto& block = stage.add<Block>("block1");
  fill_block(ctx, block, 2, 3, 4, 2, Activation::relu);
  std::vector<std::string> names, buffers;
  for (auto* parameter : nn::parameters(net)) names.push_back(parameter->name);
  net.visit_buffers([&](nn::Buffer<double>& buffer) { buffers.push_back(buffer.name); });
  CHECK(names == std::vector<std::string>{"stage2.block1.conv1.weight", "stage2.block1.conv1.bias",
                                          "stage2.block1.norm1.weight", "stage2.block1.norm1.bias",
                                          "stage2.block1.conv2.weight", "stage2.block1.conv2.bias",
                                          "stage2.block1.norm2.weight", "stage2.block1.norm2.bias",
                                          "stage2.block1.shortcut.conv.weight", "stage2.block1.shortcut.conv.bias",
                                          "stage2.block1.shortcut.norm.weight", "stage2.block1.shortcut.norm.bias"});
  CHECK(buffers == std::vector<std::string>{"stage2.block1.norm1.running_mean", "stage2.block1.norm1.running_variance",
                                            "stage2.block1.norm2.running_mean", "stage2.block1.norm2.running_variance",
                                            "stage2.block1.shortcut.norm.running_mean",
                                            "stage2.block1.shortcut.norm.running_variance"});
  CHECK(block.children() == std::vector<nn::Layer<double>*>{&block.body(), &block.shortcut()});
  CHECK(block.shortcut().name() == "stage2.block1.shortcut");
  CHECK(net.output_shape({5, 8, 6, 2}) == ms::Shape{5, 4, 3, 4});
  // Convolutions and one multiply-add for each element of a norm.
  CHECK(block.multiply_adds({1, 4, 4, 2}) == 4 * 9 * 2 * 3 + 4 * 3 + 4 * 9 * 3 * 4 + 4 * 4 + 4 * 2 * 4 + 4 * 4);
  Block alone;
  alone.shortcut().add<nn::Linear<double>>("linear", ctx, 1, 1);
  CHECK(nn::parameters(alone)[0]->name == "shortcut.linear.weight");
}

TEST_CASE("residual: taps see every layer inside, in the order they run") {
  ms::Context ctx({.seed = 6});
  nn::Sequential<double> net;
  auto& block = net.add<Block>("b");
  fill_block(ctx, block, 2, 3, 4, 2, Activation::relu);
  Record record;
  (void)run(ctx, net, {2, 4, 4, 2}, {.taps = &record});
  CHECK(record.events ==
        std::vector<std::string>{">  (2, 4, 4, 2)", "> b (2, 4, 4, 2)", "> b.conv1 (2, 4, 4, 2)",
                                 "> b.norm1 (2, 2, 2, 3)", "> b.conv2 (2, 2, 2, 3)", "> b.shortcut.conv (2, 4, 4, 2)",
                                 "> b.shortcut.norm (2, 2, 2, 4)", "> b.norm2 (2, 2, 2, 4)",
                                 "<  (2, 4, 4, 2)(2, 2, 2, 4)", "< b (2, 4, 4, 2)(2, 2, 2, 4)",
                                 "< b.norm2 (2, 2, 2, 4)(2, 2, 2, 4)", "< b.shortcut.norm (2, 2, 2, 4)(2, 2, 2, 4)",
                                 "< b.shortcut.conv (2, 4, 4, 2)(2, 2, 2, 4)", "< b.conv2 (2, 2, 2, 3)(2, 2, 2, 4)",
                                 "< b.norm1 (2, 2, 2, 3)(2, 2, 2, 3)", "< b.conv1 (2, 4, 4, 2)(2, 2, 2, 3)"});
  // The last norm adds and activates: it is shown the gradient at the block's output, which is the network's.
  support::check_same_bits(record.gradients[1], record.gradients[0]);
  support::check_same_bits(record.gradients[2], record.gradients[0]);
  // The shortcut's gradient is behind the relu.
  CHECK(record.gradients[3] != record.gradients[0]);

  // A last layer that does not add is shown the gradient behind the relu, as the shortcut is.
  nn::Sequential<double> plain;
  auto& linear = plain.add<Block>("b");
  linear.add<nn::Linear<double>>("linear", ctx, 3, 3);
  linear.shortcut().add<nn::Linear<double>>("linear", ctx, 3, 3);
  Record other;
  (void)run(ctx, plain, {4, 3}, {.taps = &other});
  CHECK(other.events == std::vector<std::string>{">  (4, 3)", "> b (4, 3)", "> b.shortcut.linear (4, 3)",
                                                 "> b.linear (4, 3)", "<  (4, 3)(4, 3)", "< b (4, 3)(4, 3)",
                                                 "< b.shortcut.linear (4, 3)(4, 3)", "< b.linear (4, 3)(4, 3)"});
  support::check_same_bits(other.gradients[2], other.gradients[3]);
  CHECK(other.gradients[1] != other.gradients[2]);
}

TEST_CASE("residual: misfits are told with name, both shapes and remedy") {
  ms::Context ctx;
  nn::Sequential<float> net;
  auto& stage = net.add<nn::Sequential<float>>("stage2");
  auto& block = stage.add<nn::Residual<float>>("block1");
  block.add<nn::Conv2d<float>>("conv1", ctx, 16, 32, nn::Conv2dOptions{.stride = 2, .padding = 1});
  const std::string expected =
      "stage2.block1 (Residual): the body gives (128, 16, 16, 32), the shortcut (128, 32, 32, 16); give the shortcut a "
      "1x1 convolution with 32 output channels and stride 2x2, or make the shapes equal";
  CHECK(message_of<ms::ShapeError>([&] { (void)net.output_shape({128, 32, 32, 16}); }) == expected);
  const auto x = ms::zeros<float>(ctx, {128, 32, 32, 16});
  CHECK(message_of<ms::ShapeError>([&] { (void)net.forward(ctx, x, {}); }) == expected);

  nn::Residual<float> linear;
  linear.add<nn::Linear<float>>("linear", ctx, 3, 4);
  CHECK(
      message_of<ms::ShapeError>([&] {
        (void)linear.output_shape({2, 3});
      }) ==
      "Residual: the body gives (2, 4), the shortcut (2, 3); make the shapes equal, or give the shortcut a layer that "
      "changes its shape");
  CHECK(message_of<ms::ArgumentError>([&] { linear.add<nn::Linear<float>>("shortcut", ctx, 4, 4); }) ==
        "Residual: 'shortcut' is the name of the other branch; choose another");
  CHECK(message_of<ms::ArgumentError>([] { nn::Residual<float> tanh({.activation = Activation::tanh}); }) ==
        "Residual: the activation of the sum is tanh; choose relu or identity");
}

TEST_SUITE_END();

}  // namespace nn_residual_test
