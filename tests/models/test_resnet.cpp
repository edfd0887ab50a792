#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <meristem/models/resnet.hpp>
#include <support/check.hpp>
#include <support/directional_check.hpp>

namespace models_resnet_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

namespace {

std::vector<std::string> parameter_names(ms::nn::Layer<float>& net) {
  std::vector<std::string> names;
  for (auto* parameter : ms::nn::parameters(net)) names.push_back(parameter->name);
  return names;
}

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("resnet: parameter counts of the published growth experiments" * doctest::test_suite("slow")) {
  ms::Context ctx;
  const auto count = [&](double width) {
    auto net = ms::models::resnet18<float>(ctx, {.classes = 100, .width = width});
    return ms::nn::parameter_count(net);
  };
  CHECK(count(1.0 / 4) == 3'368'516);
  CHECK(count(1.0 / 64) == 429'566);
  CHECK(count(1.0) == 12'773'156);
}

TEST_CASE("resnet: parameter counts of the usual ResNet-18 for small images" * doctest::test_suite("slow")) {
  ms::Context ctx;
  auto net = ms::models::resnet18_strided<float>(ctx, {});
  CHECK(ms::nn::parameter_count(net) == 11'173'962);
  auto hundred = ms::models::resnet18_strided<float>(ctx, {.classes = 100});
  CHECK(ms::nn::parameter_count(hundred) == 11'220'132);
}

TEST_CASE("resnet: the growable network's layers, shapes and names") {
  ms::Context ctx;
  auto net = ms::models::resnet18<float>(ctx, {.classes = 7, .width = 0.5, .channels = 4, .in_channels = 2});
  CHECK(net.output_shape({3, 16, 16, 2}) == ms::Shape{3, 7});
  const auto names = parameter_names(net);
  for (const char* name : {"stem.conv.weight", "stem.norm.bias", "stage1.block1.conv1.weight",
                           "stage1.block2.norm2.weight", "stage2.down.conv.weight", "stage2.down.conv.bias",
                           "stage2.down.norm.weight", "stage4.block2.conv2.bias", "linear.weight", "linear.bias"}) {
    CAPTURE(name);
    CHECK(has(names, name));
  }
  CHECK(!has(names, "stem.conv.bias"));
  CHECK(!has(names, "stage1.down.conv.weight"));
  CHECK(std::none_of(names.begin(), names.end(), [](const auto& name) { return contains(name, "shortcut"); }));
  for (auto* parameter : ms::nn::parameters(net)) {
    if (parameter->name == "stem.conv.weight") CHECK(parameter->value.shape() == ms::Shape{4, 3, 3, 2});
    if (parameter->name == "stage1.block1.conv1.weight") CHECK(parameter->value.shape() == ms::Shape{2, 3, 3, 4});
    if (parameter->name == "stage3.block2.conv2.weight") CHECK(parameter->value.shape() == ms::Shape{16, 3, 3, 8});
    if (parameter->name == "stage4.down.conv.weight") CHECK(parameter->value.shape() == ms::Shape{32, 1, 1, 16});
  }
  std::vector<std::string> top;
  for (auto* child : net.children()) top.push_back(child->name());
  CHECK(top == std::vector<std::string>{"stem", "stage1", "stage2", "stage3", "stage4", "pool", "linear"});

  auto plain = ms::models::resnet18<float>(ctx, {.channels = 4, .bias = false});
  for (const auto& name : parameter_names(plain)) {
    CAPTURE(name);
    CHECK((!name.ends_with("bias") || contains(name, "norm") || name == "linear.bias"));
  }
  // round(1.5) = 2 hidden channels of 3, and never fewer than one.
  auto rounded = ms::models::resnet18<float>(ctx, {.width = 0.5, .channels = 3});
  CHECK(ms::nn::parameters(rounded)[3]->value.shape() == ms::Shape{2, 3, 3, 3});
  auto least = ms::models::resnet18<float>(ctx, {.width = 1e-9, .channels = 3});
  CHECK(ms::nn::parameters(least)[3]->value.shape() == ms::Shape{1, 3, 3, 3});
}

TEST_CASE("resnet: relu after every block but the growable network's last") {
  ms::Context ctx({.seed = 2});
  struct LastMap final : ms::nn::Taps<float> {
    double least = 0.0;
    void on_forward(ms::Context& context, const ms::nn::Layer<float>& layer, ms::View<const float> input) override {
      if (layer.name() != "pool" && layer.name() != "stage4") return;
      const auto values = ms::to_host(context, input);
      const double smallest = *std::min_element(values.begin(), values.end());
      if (layer.name() == "stage4") CHECK(smallest == 0.0);
      least = smallest;
    }
    void on_backward(ms::Context&, const ms::nn::Layer<float>&, ms::View<const float>, ms::View<const float>) override {
    }
  };
  const auto x = ms::from_host<float>(ctx, {2, 16, 16, 3}, support::normal_values<float>(1536, 1));
  for (const bool strided : {false, true}) {
    auto net = strided ? ms::models::resnet18_strided<float>(ctx, {.channels = 2})
                       : ms::models::resnet18<float>(ctx, {.channels = 2});
    LastMap taps;
    (void)net.forward(ctx, x, {.taps = &taps});
    if (strided) CHECK(taps.least == 0.0);
    if (!strided) CHECK(taps.least < 0.0);
  }
}

TEST_CASE("resnet: the strided network's layers, shapes and names") {
  ms::Context ctx;
  auto net = ms::models::resnet18_strided<float>(ctx, {.classes = 5, .width = 0.5, .channels = 4});
  CHECK(net.output_shape({3, 9, 16, 3}) == ms::Shape{3, 5});
  const auto names = parameter_names(net);
  CHECK(has(names, "stage2.block1.shortcut.conv.weight"));
  CHECK(has(names, "stage4.block1.shortcut.norm.bias"));
  CHECK(!has(names, "stage1.block1.shortcut.conv.weight"));
  CHECK(!has(names, "stage2.block2.shortcut.conv.weight"));
  CHECK(std::none_of(names.begin(), names.end(),
                     [](const auto& name) { return contains(name, "conv") && name.ends_with("bias"); }));
  for (auto* parameter : ms::nn::parameters(net)) {
    if (parameter->name == "stage2.block1.conv1.weight") CHECK(parameter->value.shape() == ms::Shape{4, 3, 3, 4});
    if (parameter->name == "stage2.block1.conv2.weight") CHECK(parameter->value.shape() == ms::Shape{8, 3, 3, 4});
    if (parameter->name == "stage2.block1.shortcut.conv.weight") {
      CHECK(parameter->value.shape() == ms::Shape{8, 1, 1, 4});
    }
  }
}

TEST_CASE("resnet: gradients of whole networks along random directions agree with finite differences") {
  ms::Context ctx({.seed = 3});
  auto net = ms::models::resnet18<double>(ctx, {.classes = 3, .width = 0.5, .channels = 2, .in_channels = 2});
  support::check_directions(ctx, net, {3, 16, 16, 2}, 7);
  support::check_directions(ctx, net, {3, 16, 16, 2}, 8, {.mode = ms::nn::Mode::evaluation});
  auto strided = ms::models::resnet18_strided<double>(ctx, {.classes = 3, .channels = 2});
  support::check_directions(ctx, strided, {3, 16, 16, 3}, 9);
}

TEST_CASE("resnet: the same seed gives the same bits") {
  const auto outputs = [](std::uint64_t seed) {
    ms::Context ctx({.seed = seed});
    auto net = ms::models::resnet18<float>(ctx, {.channels = 3});
    const auto x = ms::from_host<float>(ctx, {2, 8, 8, 3}, support::normal_values<float>(384, 1));
    const auto trace = net.forward(ctx, x, {});
    return ms::to_host(ctx, trace.output);
  };
  support::check_same_bits(outputs(1), outputs(1));
  CHECK(outputs(1) != outputs(2));
}

TEST_CASE("resnet: hidden widths block by block") {
  ms::Context ctx;
  auto net = ms::models::resnet18<float>(ctx, {.channels = 4, .hidden = {1, 2, 3, 4, 5, 6, 7, 8}});
  std::vector<std::int64_t> widths;
  for (auto* parameter : ms::nn::parameters<float>(net)) {
    if (parameter->name.ends_with(".conv1.bias")) widths.push_back(parameter->value.size());
  }
  CHECK(widths == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(message_of<ms::ArgumentError>([&] {
          (void)ms::models::resnet18<float>(ctx, {.hidden = {1, 2}});
        }) == "resnet18: 2 hidden widths were given; it has 8 blocks: give one width for each, or none");
  CHECK(message_of<ms::ArgumentError>([&] {
          (void)ms::models::resnet18_strided<float>(ctx, {.hidden = {1, 2, 3, 0, 5, 6, 7, 8}});
        }) == "resnet18_strided: a hidden width is 0; it must be 1 or more");
}

TEST_CASE("resnet: stages of other numbers of blocks") {
  ms::Context ctx;
  const auto blocks_of = [](auto&& net) {
    std::vector<std::string> result;
    for (auto* parameter : ms::nn::parameters<float>(net)) {
      const std::string& name = parameter->name;
      if (!name.ends_with(".conv1.weight")) continue;
      result.push_back(name.substr(0, name.size() - 13) + " " + std::to_string(parameter->value.extent(0)));
    }
    return result;
  };
  using Names = std::vector<std::string>;
  CHECK(
      blocks_of(ms::models::resnet18<float>(ctx, {.channels = 4, .hidden = {5, 6, 7, 8, 9}, .blocks = {1, 2, 1, 1}})) ==
      Names{"stage1.block1 5", "stage2.block1 6", "stage2.block2 7", "stage3.block1 8", "stage4.block1 9"});
  CHECK(blocks_of(ms::models::resnet18_strided<float>(
            ctx, {.channels = 4, .hidden = {5, 6, 7, 8}, .blocks = {1, 1, 1, 1}})) ==
        Names{"stage1.block1 5", "stage2.block1 6", "stage3.block1 7", "stage4.block1 8"});
  CHECK(message_of<ms::ArgumentError>([&] {
          (void)ms::models::resnet18<float>(ctx, {.blocks = {1, 2}});
        }) == "resnet18: 2 numbers of blocks were given; it has four stages: give one for each, or none");
  CHECK(message_of<ms::ArgumentError>([&] {
          (void)ms::models::resnet18<float>(ctx, {.blocks = {1, 2, 0, 1}});
        }) == "resnet18: a number of blocks is 0; it must be 1 or more");
}

TEST_CASE("resnet: impossible options are told") {
  ms::Context ctx;
  const auto message = [&](const ms::models::ResNetOptions& options) {
    return message_of<ms::ArgumentError>([&] { (void)ms::models::resnet18<float>(ctx, options); });
  };
  CHECK(message({.classes = 0}) == "resnet18: classes is 0; it must be 1 or more");
  CHECK(message({.channels = -4}) == "resnet18: channels is -4; it must be 1 or more");
  CHECK(message({.in_channels = 0}) == "resnet18: in_channels is 0; it must be 1 or more");
  for (const double width : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity(), 1e300}) {
    CHECK(contains(message({.width = width}), "resnet18: width is "));
  }
  CHECK(
      contains(message_of<ms::ArgumentError>([&] { (void)ms::models::resnet18_strided<float>(ctx, {.width = -0.5}); }),
               "resnet18_strided: width is -0.5"));
  // Three poolings of a map of 4 are one too many.
  auto net = ms::models::resnet18<float>(ctx, {.channels = 2});
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   (void)net.output_shape({1, 4, 4, 3});
                 }),
                 "stage4.down.pool (AveragePool2d): the kernel 2x2"));
}

TEST_SUITE_END();

}  // namespace models_resnet_test
