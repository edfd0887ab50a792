#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <meristem/grow/site.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/flatten.hpp>
#include <support/check.hpp>

namespace ms = meristem;
using ms::grow::find_sites;
using ms::nn::Activation;
using ms::nn::ActivationLayer;
using ms::nn::Flatten;
using ms::nn::Linear;
using ms::nn::Sequential;

TEST_SUITE_BEGIN("unit");

TEST_CASE("sites: every hidden layer of an MLP, in order, with names and sizes") {
  ms::Context ctx;
  auto net = ms::models::mlp<float>(ctx, {.inputs = 12, .hidden = {7, 5, 4}, .classes = 3});
  const auto sites = find_sites(net);
  REQUIRE(sites.size() == 3);
  const std::vector<std::int64_t> widths{12, 7, 5, 4, 3};
  for (std::size_t i = 0; i < 3; ++i) {
    CAPTURE(i);
    const auto& site = sites[i];
    CHECK(site.name == "layer" + std::to_string(i + 1));
    CHECK(site.producer.layer() == &dynamic_cast<Linear<float>&>(net[2 * i + 1]));
    CHECK(site.consumer.layer() == &dynamic_cast<Linear<float>&>(net[2 * i + 3]));
    CHECK(site.activation == Activation::relu);
    CHECK(site.width() == widths[i + 1]);
    CHECK(site.fan_in() == widths[i] + 1);
    CHECK(site.consumer_inputs() == widths[i + 1] + 1);
    CHECK(site.fan_out() == widths[i + 2]);
    CHECK(site.parameters_per_unit() == widths[i] + 1 + widths[i + 2]);
  }
}

TEST_CASE("sites: biases count where they are") {
  ms::Context ctx;
  Sequential<double> net;
  net.add<Linear<double>>("a", ctx, 6, 4, ms::nn::LinearOptions{.bias = false});
  net.add<Linear<double>>("b", ctx, 4, 3);
  net.add<Linear<double>>("c", ctx, 3, 2, ms::nn::LinearOptions{.bias = false});
  const auto sites = find_sites(net);
  REQUIRE(sites.size() == 2);
  CHECK(sites[0].fan_in() == 6);
  CHECK(sites[0].consumer_inputs() == 5);
  CHECK(sites[1].fan_in() == 5);
  CHECK(sites[1].consumer_inputs() == 3);
  CHECK(sites[1].fan_out() == 2);
  CHECK(sites[1].parameters_per_unit() == 7);
}

TEST_CASE("sites: an empty hidden layer is a site of width 0") {
  ms::Context ctx;
  Sequential<float> net;
  net.add<Linear<float>>("a", ctx, 6, 0);
  net.add<ActivationLayer<float>>("f", Activation::tanh);
  net.add<Linear<float>>("b", ctx, 0, 2);
  const auto sites = find_sites(net);
  REQUIRE(sites.size() == 1);
  CHECK(sites[0].width() == 0);
  CHECK(sites[0].fan_in() == 7);
  CHECK(sites[0].consumer_inputs() == 1);
  CHECK(sites[0].activation == Activation::tanh);
}

TEST_CASE("sites: a site shows today's sizes after its layers have changed") {
  ms::Context ctx;
  auto net = ms::models::mlp<float>(ctx, {.inputs = 3, .hidden = {2}, .classes = 2});
  const auto sites = find_sites(net);
  sites[0].producer.weight().value = ms::zeros<float>(ctx, {5, 3});
  sites[0].consumer.weight().value = ms::zeros<float>(ctx, {2, 5});
  CHECK(sites[0].width() == 5);
  CHECK(sites[0].consumer_inputs() == 6);
}

TEST_CASE("sites: without an activation, and with each one") {
  ms::Context ctx;
  for (const auto function : ms::kernels::all_activations) {
    CAPTURE(ms::kernels::activation_name(function));
    Sequential<float> net;
    net.add<ActivationLayer<float>>("before", Activation::relu);
    net.add<Linear<float>>("a", ctx, 6, 4);
    net.add<ActivationLayer<float>>("f", function);
    net.add<Linear<float>>("b", ctx, 4, 3);
    net.add<Linear<float>>("c", ctx, 3, 3);
    net.add<ActivationLayer<float>>("after", Activation::relu);
    const auto sites = find_sites(net);
    REQUIRE(sites.size() == 2);
    CHECK(sites[0].name == "a");
    CHECK(sites[0].activation == function);
    CHECK(sites[1].name == "b");
    CHECK(sites[1].activation == Activation::identity);
  }
}

TEST_CASE("sites: two activations in a row are none, and the next layer starts afresh") {
  ms::Context ctx;
  Sequential<float> net;
  net.add<Linear<float>>("a", ctx, 6, 4);
  net.add<ActivationLayer<float>>("f", Activation::relu);
  net.add<ActivationLayer<float>>("g", Activation::tanh);
  net.add<Linear<float>>("b", ctx, 4, 3);
  net.add<ActivationLayer<float>>("h", Activation::silu);
  net.add<Linear<float>>("c", ctx, 3, 2);
  const auto sites = find_sites(net);
  REQUIRE(sites.size() == 1);
  CHECK(sites[0].name == "b");
  CHECK(sites[0].activation == Activation::silu);
}

TEST_CASE("sites: the same activation twice is none either") {
  ms::Context ctx;
  Sequential<float> net;
  net.add<Linear<float>>("a", ctx, 6, 4);
  net.add<ActivationLayer<float>>("f", Activation::tanh);
  net.add<ActivationLayer<float>>("g", Activation::tanh);
  net.add<Linear<float>>("b", ctx, 4, 3);
  CHECK(find_sites(net).empty());
}

TEST_CASE("sites: other layers between two Linears break the pair") {
  ms::Context ctx;
  Sequential<float> net;
  net.add<Linear<float>>("a", ctx, 6, 4);
  net.add<Flatten<float>>("flatten");
  net.add<Linear<float>>("b", ctx, 4, 3);
  net.add<ActivationLayer<float>>("f", Activation::relu);
  net.add<Flatten<float>>("again");
  net.add<Linear<float>>("c", ctx, 3, 2);
  CHECK(find_sites(net).empty());
}

TEST_CASE("sites: nested networks have sites of their own, under their path names, and none across the border") {
  ms::Context ctx;
  Sequential<float> net;
  net.add<Linear<float>>("a", ctx, 6, 4);
  auto& block = net.add<Sequential<float>>("block");
  block.add<Linear<float>>("b", ctx, 4, 5);
  block.add<ActivationLayer<float>>("f", Activation::gelu);
  block.add<Linear<float>>("c", ctx, 5, 4);
  auto& inner = block.add<Sequential<float>>("inner");
  inner.add<Linear<float>>("d", ctx, 4, 2);
  inner.add<Linear<float>>("e", ctx, 2, 4);
  net.add<Linear<float>>("g", ctx, 4, 3);
  net.add<Linear<float>>("h", ctx, 3, 3);
  std::vector<std::string> names;
  for (const auto& site : find_sites(net)) names.push_back(site.name);
  CHECK(names == std::vector<std::string>{"block.b", "block.inner.d", "g"});
  CHECK(find_sites(net)[0].activation == Activation::gelu);
}

TEST_CASE("sites: a network without two Linears in a row has none") {
  ms::Context ctx;
  Sequential<float> empty, single;
  CHECK(find_sites(empty).empty());
  single.add<Linear<float>>("a", ctx, 6, 4);
  single.add<ActivationLayer<float>>("f", Activation::relu);
  CHECK(find_sites(single).empty());
  Linear<float> alone(ctx, 2, 2);
  CHECK(find_sites<float>(alone).empty());
  auto classifier = ms::models::mlp<float>(ctx, {.inputs = 4, .hidden = {}, .classes = 2});
  CHECK(find_sites(classifier).empty());
}

TEST_SUITE_END();
