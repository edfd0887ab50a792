#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/models/mlp.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <support/check.hpp>

namespace optim_groups_test {

namespace ms = meristem;
using ms::optim::AdamW;
using ms::optim::matches;
using ms::optim::Sgd;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("groups: patterns stand for names") {
  for (const char* pattern :
       {"layer1.weight", "*", "layer*", "*weight", "*.*", "layer?.weight", "l*1*t", "**.weight**", "*ayer1.weigh?"}) {
    CAPTURE(pattern);
    CHECK(matches(pattern, "layer1.weight"));
  }
  for (const char* pattern :
       {"", "layer1.weigh", "layer1.weight?", "ayer1.weight", "*.bias", "layer??.weight", "*x*", "Layer1.weight"}) {
    CAPTURE(pattern);
    CHECK_FALSE(matches(pattern, "layer1.weight"));
  }
  CHECK(matches("", ""));
  CHECK(matches("*", ""));
  CHECK_FALSE(matches("?", ""));
  CHECK(matches("*ab", "aab"));
  CHECK(matches("a*b*c", "abbbcbc"));
  CHECK_FALSE(matches("a*b*c", "abbbcb"));
}

namespace {

/// Three layers, all gradients 1.
ms::nn::Sequential<double> net_of_ones(ms::Context& ctx) {
  auto net = ms::models::mlp<double>(ctx, {.inputs = 2, .hidden = {2, 2}, .classes = 2});
  net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
    const std::vector<double> ones(static_cast<std::size_t>(parameter.value.size()), 1.0);
    parameter.value = ms::from_host<double>(ctx, parameter.value.shape(), ones);
    parameter.gradient = ms::from_host<double>(ctx, parameter.value.shape(), ones);
  });
  return net;
}

/// The first element of a parameter after one step from 1.
double after_step(ms::Context& ctx, ms::nn::Layer<double>& net, ms::optim::Optimizer<double>& optimizer,
                  const std::string& name) {
  double result = std::nan("");
  optimizer.step(ctx);
  net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
    if (parameter.name == name) result = ms::to_host(ctx, parameter.value)[0];
  });
  return result;
}

}  // namespace

TEST_CASE("groups: learning rate and weight decay of their own") {
  // All numbers are sums of few powers of two: no rounding. From 1 with gradient 1: w = 1 - rate (1 + decay).
  const auto value = [](const std::string& name, auto&& configure) {
    ms::Context ctx;
    auto net = net_of_ones(ctx);
    Sgd sgd(net, {.learning_rate = 0.25, .weight_decay = 0.5});
    configure(sgd);
    return after_step(ctx, net, sgd, name);
  };
  const auto none = [](auto&) {};
  CHECK(value("layer1.weight", none) == 1 - 0.25 * 1.5);
  CHECK(value("layer1.bias", none) == 1 - 0.25);
  const auto slow = [](auto& sgd) { CHECK(sgd.set_group("layer1.*", {.learning_rate_factor = 0.5}) == 2); };
  CHECK(value("layer1.weight", slow) == 1 - 0.125 * 1.5);
  CHECK(value("layer1.bias", slow) == 1 - 0.125);
  CHECK(value("layer2.weight", slow) == 1 - 0.25 * 1.5);
  const auto frozen = [](auto& sgd) { CHECK(sgd.set_group("layer1.*", {.learning_rate_factor = 0}) == 2); };
  CHECK(value("layer1.weight", frozen) == 1);
  CHECK(value("layer2.bias", frozen) == 0.75);
  // PyTorch's way: biases decay too.
  const auto all = [](auto& sgd) { CHECK(sgd.set_group("*", {.weight_decay = 0.25}) == 6); };
  CHECK(value("layer1.weight", all) == 1 - 0.25 * 1.25);
  CHECK(value("layer1.bias", all) == 1 - 0.25 * 1.25);
  const auto by_predicate = [](auto& sgd) {
    CHECK(sgd.set_group([](const auto& parameter) { return parameter.value.rank() == 2; }, {.weight_decay = 0.0}) == 3);
  };
  CHECK(value("layer1.weight", by_predicate) == 0.75);
  // The last group a parameter was put into is its only one.
  const auto twice = [](auto& sgd) {
    sgd.set_group("layer1.*", {.learning_rate_factor = 4});
    sgd.set_group("*.weight", {.weight_decay = 0.0});
  };
  CHECK(value("layer1.weight", twice) == 0.75);
  CHECK(value("layer1.bias", twice) == 0.0);
}

TEST_CASE("groups: AdamW's decay is of the group's rate") {
  ms::Context ctx;
  auto net = net_of_ones(ctx);
  AdamW adamw(net, {.learning_rate = 0.25, .beta1 = 0, .beta2 = 0, .epsilon = 1, .weight_decay = 0.5});
  adamw.set_group("layer1.*", {.learning_rate_factor = 2, .weight_decay = 0.25});
  adamw.step(ctx);
  // w (1 - rate decay) - rate g / (|g| + 1)
  const auto parameters = ms::nn::parameters(net);
  CHECK(ms::to_host(ctx, parameters[0]->value)[0] == 1 - 0.5 * 0.25 - 0.5 / 2);
  CHECK(ms::to_host(ctx, parameters[1]->value)[0] == 1 - 0.5 * 0.25 - 0.5 / 2);
  CHECK(ms::to_host(ctx, parameters[2]->value)[0] == 1 - 0.25 * 0.5 - 0.25 / 2);
  CHECK(ms::to_host(ctx, parameters[3]->value)[0] == 1 - 0.25 / 2);
}

TEST_CASE("groups: names without a parameter and bad numbers are told, and nothing changes") {
  ms::Context ctx;
  auto net = net_of_ones(ctx);
  Sgd sgd(net, {});
  CHECK(message_of<ms::ArgumentError>([&] { sgd.set_group("layer9.*", {}); }) ==
        "parameter group: no parameter's name matches 'layer9.*'; names are paths such as layer2.weight, * stands for "
        "any text");
  CHECK(message_of<ms::ArgumentError>([&] { sgd.set_group("*", {.learning_rate_factor = -1}); }) ==
        "parameter group: learning_rate_factor is -1; it must be 0 or more, and finite");
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(contains(message_of<ms::ArgumentError>([&] { sgd.set_group("*", {.weight_decay = nan}); }),
                 "weight_decay is nan"));
  for (auto* parameter : ms::nn::parameters(net)) CHECK(sgd.group(parameter->id) == ms::optim::ParameterGroup{});
}

TEST_SUITE_END();

}  // namespace optim_groups_test
