#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <meristem/models/vgg.hpp>
#include <support/check.hpp>
#include <support/directional_check.hpp>

namespace models_vgg_test {

namespace ms = meristem;
using ms::models::VggHead;
using support::contains;
using support::message_of;

namespace {

std::vector<std::string> layer_names(ms::nn::Layer<float>& net) {
  std::vector<std::string> names;
  for (auto* child : net.children()) names.push_back(child->name());
  return names;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("vgg: parameter counts of the usual networks with batch normalisation and ten classes" *
          doctest::test_suite("slow")) {
  ms::Context ctx;
  const auto count = [&](int depth) {
    auto net = ms::models::vgg<float>(ctx, {.stages = ms::models::vgg_stages(depth)});
    return ms::nn::parameter_count(net);
  };
  CHECK(count(11) == 9'231'114);
  CHECK(count(13) == 9'416'010);
  CHECK(count(16) == 14'728'266);
  CHECK(ms::models::VggOptions{}.stages == ms::models::vgg_stages(11));
  CHECK(ms::models::vgg_stages(19).back().size() == 4);
}

TEST_CASE("vgg: layers, names and widths") {
  ms::Context ctx;
  auto net = ms::models::vgg<float>(ctx, {.classes = 4, .stages = {{4, 6}, {9}}, .width = 0.5, .in_channels = 1});
  CHECK(layer_names(net) ==
        std::vector<std::string>{"conv1", "norm1", "conv2", "norm2", "pool1", "conv3", "norm3", "pool", "linear"});
  CHECK(net.output_shape({2, 6, 4, 1}) == ms::Shape{2, 4});
  // round(4.5) = 5 channels.
  CHECK(ms::nn::parameters(net)[8]->name == "conv3.weight");
  CHECK(ms::nn::parameters(net)[8]->value.shape() == ms::Shape{5, 3, 3, 3});

  auto original = ms::models::vgg<float>(ctx, {.classes = 4,
                                               .stages = {{3}, {5}},
                                               .bias = false,
                                               .batch_norm = false,
                                               .pool_last = true,
                                               .head = VggHead::flatten,
                                               .image = {8, 12},
                                               .hidden = {7},
                                               .dropout = 0.5});
  CHECK(layer_names(original) == std::vector<std::string>{"conv1", "relu1", "pool1", "conv2", "relu2", "pool2",
                                                          "flatten", "dropout1", "linear1", "linear_relu1", "dropout2",
                                                          "linear"});
  CHECK(original.output_shape({2, 8, 12, 3}) == ms::Shape{2, 4});
  std::vector<std::string> names;
  for (auto* parameter : ms::nn::parameters(original)) names.push_back(parameter->name);
  CHECK(names ==
        std::vector<std::string>{"conv1.weight", "conv2.weight", "linear1.weight", "linear.weight", "linear.bias"});
  CHECK(ms::nn::parameters(original)[2]->value.shape() == ms::Shape{7, 2 * 3 * 5});
}

TEST_CASE("vgg: gradients of whole networks along random directions agree with finite differences") {
  ms::Context ctx({.seed = 4});
  auto net = ms::models::vgg<double>(ctx, {.classes = 3, .stages = {{2, 3}, {4}, {5}}});
  support::check_directions(ctx, net, {3, 8, 8, 3}, 5);
  auto flat = ms::models::vgg<double>(ctx, {.classes = 3,
                                            .stages = {{2}, {3}},
                                            .in_channels = 2,
                                            .batch_norm = false,
                                            .pool_last = true,
                                            .head = VggHead::flatten,
                                            .image = 8,
                                            .hidden = {6}});
  support::check_directions(ctx, flat, {3, 8, 8, 2}, 6);
}

TEST_CASE("vgg: impossible options are told") {
  ms::Context ctx;
  const auto message = [&](const ms::models::VggOptions& options) {
    return message_of<ms::ArgumentError>([&] { (void)ms::models::vgg<float>(ctx, options); });
  };
  CHECK(message({.classes = 0}) == "vgg: classes is 0; it must be 1 or more");
  CHECK(message({.in_channels = -1}) == "vgg: in_channels is -1; it must be 1 or more");
  CHECK(message({.stages = {}}) == "vgg: there are no stages; give one list of widths for each stage");
  CHECK(message({.stages = {{4}, {}}}) == "vgg: stage 2 has no widths; give one for each convolution");
  CHECK(message({.stages = {{4}, {4, 0}}}) == "vgg: a width of stage 2 is 0; it must be 1 or more");
  CHECK(message({.stages = {{4}}, .hidden = {0}}) == "vgg: hidden width 1 is 0; it must be 1 or more");
  CHECK(contains(message({.width = 0.0}), "vgg: width is 0; it is the share of the full widths, such as 64"));
  CHECK(contains(message({.stages = {{4}}, .dropout = 1.0}), "Dropout: the probability"));
  CHECK(message_of<ms::ArgumentError>([] { (void)ms::models::vgg_stages(12); }) ==
        "vgg_stages: there is no VGG-12; choose 11, 13, 16 or 19");
  CHECK(contains(
      message_of<ms::ShapeError>([&] {
        (void)ms::models::vgg<float>(ctx, {.stages = {{1}, {1}, {1}, {1}, {1}}, .head = VggHead::flatten, .image = 8});
      }),
      "pool4 (MaxPool2d): the kernel 2x2"));
}

TEST_SUITE_END();

}  // namespace models_vgg_test
