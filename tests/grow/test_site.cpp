#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <meristem/grow/units/find_sites.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/models/vgg.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/group_norm.hpp>
#include <meristem/nn/layer_norm.hpp>
#include <support/check.hpp>

namespace grow_site_test {

namespace ms = meristem;
using ms::grow::find_site;
using ms::grow::find_sites;
using ms::nn::Activation;
using ms::nn::ActivationLayer;
using ms::nn::AveragePool2d;
using ms::nn::BatchNorm;
using ms::nn::BatchNormOptions;
using ms::nn::Conv2d;
using ms::nn::Conv2dOptions;
using ms::nn::Dropout;
using ms::nn::Flatten;
using ms::nn::GlobalAveragePool;
using ms::nn::Linear;
using ms::nn::MaxPool2d;
using ms::nn::Sequential;
using support::contains;
using support::message_of;

namespace {

using Names = std::vector<std::string>;

Names names_of(ms::nn::Layer<float>& net) {
  Names names;
  for (const auto& site : find_sites(net)) names.push_back(site.name);
  return names;
}

const Conv2dOptions same{.kernel = 3, .padding = 1};

/// Whether `between` leaves a site between two convolutions of 4 channels.
template <class Between>
bool joins(Between&& between) {
  ms::Context ctx;
  Sequential<float> net;
  net.add<Conv2d<float>>("a", ctx, 3, 4, same);
  between(ctx, net);
  net.add<Conv2d<float>>("b", ctx, 4, 2, same);
  return !find_sites(net).empty();
}

}  // namespace

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

TEST_CASE("sites: the layers of nested networks are one chain, under their path names") {
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
  CHECK(names == std::vector<std::string>{"a", "block.b", "block.c", "block.inner.d", "block.inner.e", "g"});
  CHECK(find_sites(net)[0].consumer.name() == "block.b");
  CHECK(find_sites(net)[1].activation == Activation::gelu);
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

TEST_CASE("sites: ResNet-18 grows inside its eight blocks and nowhere else") {
  ms::Context ctx;
  const Names blocks{"stage1.block1.conv1", "stage1.block2.conv1", "stage2.block1.conv1", "stage2.block2.conv1",
                     "stage3.block1.conv1", "stage3.block2.conv1", "stage4.block1.conv1", "stage4.block2.conv1"};
  auto net = ms::models::resnet18<float>(ctx, {.width = 0.5, .channels = 4});
  auto strided = ms::models::resnet18_strided<float>(ctx, {.width = 0.5, .channels = 4});
  CHECK(names_of(net) == blocks);
  CHECK(names_of(strided) == blocks);
  for (const bool is_strided : {false, true}) {
    CAPTURE(is_strided);
    const auto sites = find_sites<float>(is_strided ? strided : net);
    for (std::size_t i = 0; i < sites.size(); ++i) {
      const auto& site = sites[i];
      CAPTURE(site.name);
      const std::int64_t width = std::int64_t{4} << (i / 2);
      // The first block of a strided stage reads the stage before it.
      const std::int64_t in = is_strided && i > 0 && i % 2 == 0 ? width / 2 : width;
      const std::string block = site.name.substr(0, site.name.size() - 6);
      CHECK(site.consumer.name() == block + ".conv2");
      REQUIRE(site.producer.norm() != nullptr);
      CHECK(site.producer.norm()->name() == block + ".norm1");
      CHECK(site.activation == Activation::relu);
      CHECK(site.pool == nullptr);
      CHECK_FALSE(site.flattened);
      CHECK(site.spatial());
      CHECK(site.width() == width / 2);
      CHECK(site.fan_in() == 9 * in + (is_strided ? 0 : 1));
      CHECK(site.consumer_inputs() == 9 * width / 2 + (is_strided ? 0 : 1));
      CHECK(site.fan_out() == width);
      // Fan-in, a 3x3 kernel in every output, and the norm's weight and bias.
      CHECK(site.parameters_per_unit(9) == site.fan_in() + 9 * width + 2);
    }
  }
}

TEST_CASE("sites: every layer of a VGG chain but the last, through pooling, flattening and dropout") {
  ms::Context ctx;
  const std::vector<std::vector<std::int64_t>> stages{{2, 3}, {4}};
  for (const bool norm : {false, true}) {
    for (const bool flatten : {false, true}) {
      CAPTURE(norm);
      CAPTURE(flatten);
      auto net = ms::models::vgg<float>(
          ctx, {.stages = stages,
                .batch_norm = norm,
                .pool_last = true,
                .head = flatten ? ms::models::VggHead::flatten : ms::models::VggHead::global_average,
                .image = 8,
                .hidden = {5},
                .dropout = 0.25});
      const auto sites = find_sites(net);
      REQUIRE(names_of(net) == Names{"conv1", "conv2", "conv3", "linear1"});
      const char* consumers[] = {"conv2", "conv3", "linear1", "linear"};
      for (std::size_t i = 0; i < 4; ++i) {
        const auto& site = sites[i];
        CAPTURE(site.name);
        CHECK(site.consumer.name() == consumers[i]);
        CHECK((site.producer.norm() != nullptr) == (norm && i < 3));
        CHECK(site.activation == Activation::relu);
        CHECK((site.pool != nullptr) == (i == 1 || i == 2));
        CHECK(site.pools_maximum() == (i == 1 || i == 2));
        CHECK_FALSE(site.pool_first);
        CHECK((site.last_pool != nullptr) == (i == 2 && !flatten));
        CHECK(site.flattened == (i == 2 && flatten));
        CHECK(site.spatial() == (i < 3));
      }
      // 4 channels at 2x2 positions, or their means.
      CHECK(sites[2].consumer_inputs() == (flatten ? 17 : 5));
      if (flatten) CHECK(sites[2].parameters_per_unit(4) == 9 * 3 + 1 + 4 * 5 + (norm ? 2 : 0));
    }
  }
  auto single_pool = ms::models::vgg<float>(ctx, {.stages = stages, .hidden = {5}});
  CHECK(names_of(single_pool) == Names{"conv1", "conv2", "conv3", "linear1"});
  CHECK(dynamic_cast<GlobalAveragePool<float>*>(find_sites(single_pool)[2].pool) != nullptr);
}

TEST_CASE("sites: sizes of the maps between the layers") {
  ms::Context ctx;
  Sequential<float> net;
  net.add<Conv2d<float>>("a", ctx, 3, 4, Conv2dOptions{.kernel = {3, 5}, .stride = 2, .padding = {1, 0}});
  net.add<MaxPool2d<float>>("pool");
  net.add<ActivationLayer<float>>("f", Activation::relu);
  net.add<Conv2d<float>>("b", ctx, 4, 2, Conv2dOptions{.kernel = {1, 3}, .padding = {0, 1}});
  net.add<ActivationLayer<float>>("g", Activation::relu);
  net.add<Flatten<float>>("flatten");
  net.add<Linear<float>>("c", ctx, 4 * 5 * 2, 6);
  const auto sites = find_sites(net);
  REQUIRE(sites.size() == 2);
  CHECK(sites[0].pool_first);
  // Rows: (15 + 2 - 3) / 2 + 1 = 8; columns: (23 - 5) / 2 + 1 = 10.
  auto shape = sites[0].shape({7, 15, 23, 3});
  CHECK(shape.map == ms::Extent2(15, 23));
  CHECK(shape.hidden() == ms::Extent2(8, 10));
  CHECK(shape.pooled() == ms::Extent2(4, 5));
  CHECK(shape.consumer_window() == ms::Window{.kernel = {1, 3}, .padding = {0, 1}});
  shape = sites[1].shape({7, 4, 5, 4});
  CHECK(shape.hidden() == ms::Extent2(4, 5));
  CHECK(shape.pooled() == ms::Extent2(4, 5));
  CHECK(shape.consumer_window() == ms::Window{.kernel = {4, 5}});
  CHECK(
      message_of<ms::ShapeError>([&] {
        (void)sites[0].shape({7, 15, 23});
      }) ==
      "site a: a (Conv2d) reads shape (7, 15, 23); a site with a convolution reads maps (n, height, width, channels)");

  Sequential<float> mean;
  mean.add<Conv2d<float>>("a", ctx, 3, 4, same);
  mean.add<GlobalAveragePool<float>>("pool");
  mean.add<Flatten<float>>("flatten");
  mean.add<Linear<float>>("b", ctx, 4, 6);
  shape = find_sites(mean).front().shape({2, 5, 6, 3});
  CHECK(shape.hidden() == ms::Extent2(5, 6));
  CHECK(shape.pooled() == ms::Extent2(1));
  CHECK(shape.consumer_window() == ms::Window{});
}

TEST_CASE("sites: what may and may not stand between two convolutions") {
  const auto relu = [](Sequential<float>& net) { net.add<ActivationLayer<float>>("f", Activation::relu); };
  const auto norm = [](ms::Context& ctx, Sequential<float>& net, Activation f = Activation::identity) {
    net.add<BatchNorm<float>>("norm", ctx, 4, BatchNormOptions{.activation = f});
  };
  CHECK(joins([](auto&, auto&) {}));
  CHECK(joins([&](auto&, auto& net) { relu(net); }));
  CHECK(joins([&](auto& ctx, auto& net) { norm(ctx, net); }));
  CHECK(joins([&](auto& ctx, auto& net) { norm(ctx, net, Activation::relu); }));
  CHECK(joins([&](auto& ctx, auto& net) {
    norm(ctx, net);
    relu(net);
    net.template add<Dropout<float>>("dropout");
    net.template add<AveragePool2d<float>>("pool");
  }));
  // A ReLU twice is a ReLU; other activations twice are another function.
  CHECK(joins([&](auto& ctx, auto& net) {
    norm(ctx, net, Activation::relu);
    relu(net);
  }));
  CHECK_FALSE(joins([&](auto& ctx, auto& net) {
    norm(ctx, net, Activation::relu);
    net.template add<ActivationLayer<float>>("f", Activation::gelu);
  }));
  CHECK_FALSE(joins([&](auto& ctx, auto& net) {
    norm(ctx, net);
    net.template add<BatchNorm<float>>("again", ctx, 4);
  }));
  // Norms that are not directly behind the producer, or mix channels.
  CHECK_FALSE(joins([&](auto& ctx, auto& net) {
    relu(net);
    norm(ctx, net);
  }));
  CHECK_FALSE(joins([&](auto& ctx, auto& net) {
    net.template add<MaxPool2d<float>>("pool");
    norm(ctx, net);
  }));
  CHECK_FALSE(joins([&](auto& ctx, auto& net) {
    net.template add<Dropout<float>>("dropout");
    norm(ctx, net);
  }));
  CHECK_FALSE(joins([](auto& ctx, auto& net) { net.template add<ms::nn::LayerNorm<float>>("norm", ctx, 4); }));
  CHECK_FALSE(joins([](auto& ctx, auto& net) { net.template add<ms::nn::GroupNorm<float>>("norm", ctx, 2, 4); }));
  // Two poolings are one if the windows of the first do not overlap.
  CHECK(joins([](auto&, auto& net) {
    net.template add<MaxPool2d<float>>("pool");
    net.template add<MaxPool2d<float>>("again", ms::nn::PoolOptions{.kernel = 1});
  }));
  CHECK_FALSE(joins([](auto&, auto& net) {
    net.template add<MaxPool2d<float>>("pool", ms::nn::PoolOptions{.kernel = 2, .stride = 1});
    net.template add<MaxPool2d<float>>("again", ms::nn::PoolOptions{.kernel = 2});
  }));
}

TEST_CASE("sites: a norm with a fused relu counts as the activation") {
  ms::Context ctx;
  Sequential<float> net;
  net.add<Conv2d<float>>("a", ctx, 3, 4, same);
  auto& norm = net.add<BatchNorm<float>>("norm", ctx, 4, BatchNormOptions{.activation = Activation::relu});
  net.add<AveragePool2d<float>>("pool");
  net.add<Conv2d<float>>("b", ctx, 4, 2, same);
  const auto site = find_sites(net).front();
  CHECK(site.producer.norm() == &norm);
  CHECK(site.activation == Activation::relu);
  CHECK_FALSE(site.pool_first);
  CHECK_FALSE(site.pools_maximum());
}

TEST_CASE("sites: pooling or flattening behind a Linear is none, a convolution behind one is") {
  ms::Context ctx;
  Sequential<float> pooled, plain;
  pooled.add<Linear<float>>("a", ctx, 3, 4);
  pooled.add<MaxPool2d<float>>("pool");
  pooled.add<Conv2d<float>>("b", ctx, 4, 2, same);
  CHECK(find_sites(pooled).empty());
  plain.add<Linear<float>>("a", ctx, 3, 4);
  plain.add<Conv2d<float>>("b", ctx, 4, 2, same);
  const auto site = find_sites(plain).front();
  CHECK(site.spatial());
  CHECK(site.shape({2, 5, 6, 3}).hidden() == ms::Extent2(5, 6));
}

TEST_CASE("sites: find_site returns the site of that name") {
  ms::Context ctx;
  auto net = ms::models::resnet18<float>(ctx, {.channels = 2});
  const auto site = find_site<float>(net, "stage3.block2.conv1");
  CHECK(site.name == "stage3.block2.conv1");
  CHECK(site.consumer.name() == "stage3.block2.conv2");
}

TEST_CASE("sites: find_site says why a layer cannot grow") {
  ms::Context ctx;
  auto net = ms::models::resnet18<float>(ctx, {.channels = 2});
  const auto refused = [&](ms::nn::Layer<float>& network, const std::string& name) {
    return message_of<ms::ArgumentError>([&] { (void)find_site(network, name); });
  };
  for (const char* name : {"stage5.block1.conv1", "conv1", ""}) {
    CAPTURE(name);
    const auto text = refused(net, name);
    CHECK(contains(text, "growth: there is no layer '" + std::string(name) + "'; the layers that can grow are "));
    CHECK(contains(text, "stage1.block1.conv1, "));
    CHECK(contains(text, "stage4.block2.conv1"));
  }
  // Skip connections add the outputs of these.
  const char* const first[] = {"stem.conv", "stage1.block1.conv2", "stage1.block2.conv2"};
  const char* const third[] = {"stage3.down.conv", "stage3.block1.conv2", "stage3.block2.conv2"};
  for (const auto& group : {first, third}) {
    for (int i = 0; i < 3; ++i) {
      const auto text = refused(net, group[i]);
      CAPTURE(text);
      CHECK(
          contains(text, ms::concat("growth: ", group[i], " cannot grow alone: skip connections add the outputs of ")));
      for (int j = 0; j < 3; ++j) CHECK(contains(text, group[j]));
      const std::string listed = text.substr(0, text.find("whose channels are tied"));
      CHECK_FALSE(contains(listed, "conv1"));
      CHECK(contains(listed, "stem.conv") == (group[0] == first[0]));
    }
  }
  auto strided = ms::models::resnet18_strided<float>(ctx, {.channels = 2});
  const auto text = refused(strided, "stage2.block1.shortcut.conv");
  const std::string tied = text.substr(0, text.find("whose channels are tied"));
  CHECK(contains(tied, "stage2.block1.conv2"));
  CHECK(contains(tied, "stage2.block2.conv2"));
  CHECK_FALSE(contains(tied, "stem.conv"));

  CHECK(contains(refused(net, "linear"), "growth: linear cannot grow: its outputs are the network's"));
  CHECK(contains(refused(net, "stage1.block1"),
                 "growth: stage1.block1 cannot grow: it is no Linear, Conv2d or other layer that"));
  Sequential<float> single;
  single.add<Linear<float>>("a", ctx, 6, 4);
  CHECK(contains(refused(single, "a"), "no layer of this network can grow"));
}

TEST_SUITE_END();

}  // namespace grow_site_test
