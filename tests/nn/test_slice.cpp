#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <meristem/data/sample_set.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/concatenate.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/slice.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_slice_test {

namespace ms = meristem;
namespace nn = meristem::nn;
using support::contains;
using support::message_of;

namespace {

/// Maps of (4, 3, 2), 24 numbers, and a vector of 5 behind them; 30 numbers, one of which nobody reads.
template <ms::Real T>
nn::Sequential<T> two_inputs(ms::Context& ctx) {
  nn::Sequential<T> net;
  auto& branches = net.template add<nn::Concatenate<T>>("inputs");
  auto& maps = branches.template add<nn::Sequential<T>>("maps");
  maps.template add<nn::Slice<T>>("slice", 0, ms::Shape{4, 3, 2});
  maps.template add<nn::Conv2d<T>>("conv1", ctx, 2, 2, nn::Conv2dOptions{.padding = 1});
  maps.template add<nn::ActivationLayer<T>>("tanh", nn::Activation::tanh);
  maps.template add<nn::Conv2d<T>>("conv2", ctx, 2, 3, nn::Conv2dOptions{.padding = 1});
  maps.template add<nn::GlobalAveragePool<T>>("pool");
  auto& vector = branches.template add<nn::Sequential<T>>("vector");
  vector.template add<nn::Slice<T>>("slice", 25, ms::Shape{5});
  vector.template add<nn::Linear<T>>("linear", ctx, 5, 3);
  net.template add<nn::Linear<T>>("hidden", ctx, 6, 2);
  net.template add<nn::ActivationLayer<T>>("relu", nn::Activation::relu);
  net.template add<nn::Linear<T>>("out", ctx, 2, 1);
  return net;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("slice: takes its numbers of each row, and side_by_side puts them there") {
  ms::Context ctx;
  const std::int64_t n = 3;
  const auto maps = support::normal_values<double>(n * 12, 1), vector = support::normal_values<double>(n * 5, 2);
  const auto a = ms::from_host<double>(ctx, {n, 2, 3, 2}, maps), b = ms::from_host<double>(ctx, {n, 5}, vector);
  const std::array<ms::View<const double>, 2> inputs{a.view(), b.view()};
  const auto rows = nn::side_by_side<double>(ctx, inputs);
  REQUIRE(rows.shape() == ms::Shape{n, 17});
  const std::vector<double> all = ms::to_host(ctx, rows);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < 17; ++j) {
      CHECK(all[static_cast<std::size_t>(i * 17 + j)] ==
            (j < 12 ? maps[static_cast<std::size_t>(i * 12 + j)] : vector[static_cast<std::size_t>(i * 5 + j - 12)]));
    }
  }
  const auto none = ms::zeros<double>(ctx, {0, 2, 3, 2}), nothing = ms::zeros<double>(ctx, {0, 5});
  const std::array<ms::View<const double>, 2> empty{none.view(), nothing.view()};
  CHECK(nn::side_by_side<double>(ctx, empty).shape() == ms::Shape{0, 17});
  nn::Slice<double> first(0, {2, 3, 2}), second(12, {5}), middle(4, {1, 4});
  const auto read = [&](nn::Slice<double>& slice) {
    return ms::to_host(ctx, slice.forward(ctx, rows, {.mode = nn::Mode::evaluation}).output);
  };
  CHECK(read(first) == maps);
  CHECK(read(second) == vector);
  const std::vector<double> part = read(middle);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < 4; ++j) {
      CHECK(part[static_cast<std::size_t>(i * 4 + j)] == all[static_cast<std::size_t>(i * 17 + 4 + j)]);
    }
  }
  CHECK(middle.output_shape({7, 8}) == ms::Shape{7, 1, 4});
  CHECK(second.multiply_adds({1, 17}) == 0);
}

TEST_CASE("slice: gradients agree with finite differences, also of what stands side by side") {
  ms::Context ctx({.seed = 3});
  nn::Slice<double> slice(2, {2, 2, 1});
  support::check_gradients(ctx, slice, {3, 8}, 40);
  auto net = two_inputs<double>(ctx);
  support::check_gradients(ctx, net, {4, 30}, 41);
}

TEST_CASE("slice: what is refused") {
  ms::Context ctx;
  const auto made = [](std::int64_t first, const ms::Shape& shape) {
    return message_of<ms::ArgumentError>([&] { nn::Slice<double> slice(first, shape); });
  };
  CHECK(contains(made(-1, {2}), "Slice: numbers from -1 on"));
  CHECK(contains(made(0, {}), "has one to 4 extents, none of them 0"));
  CHECK(contains(made(0, {1, 1, 1, 1, 1}), "has one to 4 extents"));
  CHECK(contains(made(0, {2, 0}), "in the shape (2, 0)"));
  nn::Slice<double> slice(3, {2, 2});
  slice.set_name("left");
  CHECK(slice.output_shape({1, 7}) == ms::Shape{1, 2, 2});
  for (const ms::Shape& shape : std::vector<ms::Shape>{{1, 6}, {1, 2}, {7}, {1, 1, 7}}) {
    CHECK(contains(message_of<ms::ShapeError>([&] { (void)slice.output_shape(shape); }),
                   "left (Slice): reads 4 numbers of each row (n, features) from number 3 on; the input has shape "));
  }
  const auto rows = ms::zeros<double>(ctx, {2, 3}), other = ms::zeros<double>(ctx, {3, 3});
  const std::array<ms::View<const double>, 2> inputs{rows.view(), other.view()};
  CHECK(contains(message_of<ms::ShapeError>([&] { (void)nn::side_by_side<double>(ctx, inputs); }),
                 "inputs of shapes (2, 3) and (3, 3)"));
  CHECK(contains(message_of<ms::ArgumentError>(
                     [&] { (void)nn::side_by_side<double>(ctx, std::span<const ms::View<const double>>()); }),
                 "there are no inputs"));
}

TEST_CASE("slice: a network of two inputs trains and grows on both sides") {
  // y = the mean of the map's first channel times the first number of the vector.
  ms::data::SampleSet<float> set{.inputs = support::normal_values<float>(200 * 30, 7), .input = {30}};
  for (std::size_t i = 0; i < 200; ++i) {
    double mean = 0.0;
    for (std::size_t pixel = 0; pixel < 12; ++pixel) mean += set.inputs[i * 30 + 2 * pixel] / 12.0;
    set.targets.push_back(static_cast<float>(3.0 * mean * set.inputs[i * 30 + 25]));
  }
  set.target = {1};
  const nn::Objective loss = nn::SquaredError{};
  const std::vector<std::string> sites{"inputs.maps.conv1", "inputs.maps.conv2", "inputs.vector.linear", "hidden"};
  const auto trained = [&](bool grows) {
    ms::Context ctx({.seed = 2});
    auto net = two_inputs<float>(ctx);
    ms::optim::AdamW<float> adamw(net, {.learning_rate = 0.01, .weight_decay = 0.0});
    for (int epoch = 0; epoch < 100; ++epoch) {
      for (const auto& batch : ms::data::Loader<float>(ctx, set, 50, {.shuffle = true, .epoch = epoch})) {
        ms::train::step(ctx, net, batch, adamw, loss);
      }
      if (!grows || epoch != 40) continue;
      CHECK(ms::grow::find_sites<float>(net).size() == sites.size());
      ms::grow::Grower<float> grower(net, adamw, {.how_many = {.at_most = 4}, .loss = loss});
      const ms::grow::GrowthReport report = grower.grow(ctx, set);
      CHECK(report.added() > 0);
      for (const auto& site : report.sites) CHECK(std::find(sites.begin(), sites.end(), site.name) != sites.end());
    }
    return ms::train::evaluate(ctx, net, set, 200, loss).loss;
  };
  const double small = trained(false), grown = trained(true);
  CAPTURE(small);
  CHECK(grown < 0.5 * small);
}

TEST_SUITE_END();

}  // namespace nn_slice_test
