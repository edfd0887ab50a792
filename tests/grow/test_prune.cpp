// Removing units and growing them back.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/prune.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>

namespace grow_prune_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

namespace {

using Net = ms::nn::Sequential<double>;
using Numbers = std::vector<std::vector<double>>;

using Batch = ms::nn::Batch<double>;

Batch batch_of(ms::Context& ctx, const ms::Shape& shape, std::uint64_t seed) {
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < shape[0]; ++i) labels.push_back(static_cast<std::int32_t>(i % 3));
  return {.inputs = ms::from_host<double>(ctx, shape, support::normal_values<double>(shape.size(), seed)),
          .labels = ms::from_host<std::int32_t>(ctx, {shape[0]}, labels)};
}

Net mlp(ms::Context& ctx) { return ms::models::mlp<double>(ctx, {.inputs = 24, .hidden = {5, 4}, .classes = 3}); }

/// A residual block with norms, then a convolution that a Flatten and a Linear read.
Net maps(ms::Context& ctx) {
  Net net;
  net.add<ms::nn::Conv2d<double>>("conv", ctx, 2, 3, ms::nn::Conv2dOptions{.padding = 1});
  auto& block = net.add<ms::nn::Residual<double>>("block");
  block.add<ms::nn::Conv2d<double>>("conv1", ctx, 3, 5, ms::nn::Conv2dOptions{.padding = 1});
  block.add<ms::nn::BatchNorm<double>>("norm1", ctx, 5,
                                       ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  block.add<ms::nn::Conv2d<double>>("conv2", ctx, 5, 3, ms::nn::Conv2dOptions{.padding = 1});
  block.add<ms::nn::BatchNorm<double>>("norm2", ctx, 3,
                                       ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  net.add<ms::nn::Conv2d<double>>("last", ctx, 3, 4, ms::nn::Conv2dOptions{.padding = 1, .bias = false});
  net.add<ms::nn::ActivationLayer<double>>("relu", ms::nn::Activation::relu);
  net.add<ms::nn::Flatten<double>>("flatten");
  net.add<ms::nn::Linear<double>>("fc", ctx, 4 * 12, 3);
  return net;
}

/// Every number of a network, its buffers and its optimiser's moments.
Numbers everything(ms::Context& ctx, Net& net, ms::optim::Optimizer<double>& optimizer) {
  Numbers all;
  for (auto* parameter : ms::nn::parameters(net)) {
    all.push_back(ms::to_host(ctx, parameter->value));
    for (const auto& moment : optimizer.state(parameter->id)) all.push_back(ms::to_host(ctx, moment));
  }
  net.visit_buffers([&](ms::nn::Buffer<double>& buffer) { all.push_back(ms::to_host(ctx, buffer.value)); });
  return all;
}

std::vector<double> outputs(ms::Context& ctx, Net& net, const Batch& batch) {
  return ms::to_host(ctx, net.forward(ctx, batch.inputs, {.mode = ms::nn::Mode::evaluation}).output);
}

std::unique_ptr<ms::optim::Optimizer<double>> optimizer_of(Net& net, bool adam) {
  if (adam) return std::make_unique<ms::optim::AdamW<double>>(net, ms::optim::AdamWOptions{.learning_rate = 0.01});
  return std::make_unique<ms::optim::Sgd<double>>(net, ms::optim::SgdOptions{.learning_rate = 0.05, .momentum = 0.9});
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("prune: units go with all that belongs to them, and growing them back restores every bit") {
  for (const bool adam : {false, true}) {
    for (const auto build : {mlp, maps}) {
      ms::Context ctx({.seed = 5});
      Net net = build(ctx);
      const auto optimizer = optimizer_of(net, adam);
      const Batch batch = batch_of(ctx, {6, 3, 4, 2}, 1);
      for (int i = 0; i < 3; ++i) ms::train::step<double>(ctx, net, batch, *optimizer);
      for (const auto& site : ms::grow::find_sites<double>(net)) {
        CAPTURE(site.name);
        const std::int64_t width = site.width();
        const Numbers before = everything(ctx, net, *optimizer);
        // What the outputs are without the two units: their fan-outs are zero.
        std::vector<double> weights = ms::to_host(ctx, site.consumer.weight().value), muted = weights;
        for (std::size_t i = 0; i < muted.size(); ++i) {
          if (const std::int64_t unit = static_cast<std::int64_t>(i) % width; unit == 0 || unit == 2) muted[i] = 0.0;
        }
        const ms::Shape shape = site.consumer.weight().value.shape();
        site.consumer.weight().value = ms::from_host<double>(ctx, shape, muted);
        const std::vector<double> expected = outputs(ctx, net, batch);
        site.consumer.weight().value = ms::from_host<double>(ctx, shape, weights);

        auto removed = ms::grow::prune(ctx, site, {2, 0}, net, optimizer.get());
        CHECK(removed.units == std::vector<std::int64_t>{0, 2});
        CHECK(site.width() == width - 2);
        for (auto* parameter : ms::nn::parameters(net)) {
          CHECK(parameter->gradient.shape() == parameter->value.shape());
          for (const auto& moment : optimizer->state(parameter->id)) {
            CHECK(moment.shape() == parameter->value.shape());
          }
        }
        if (site.producer.norm()) CHECK(site.producer.norm()->running_mean().value.extent(0) == width - 2);
        // Sums over a hundred terms of order 1, in another order.
        support::check_close(outputs(ctx, net, batch), expected, 1e-12);

        ms::grow::put_back(ctx, std::move(removed), net, optimizer.get());
        CHECK(everything(ctx, net, *optimizer) == before);
        for (auto* parameter : ms::nn::parameters(net)) {
          CHECK(parameter->gradient.shape() == parameter->value.shape());
        }
      }
    }
  }
}

TEST_CASE("prune: a network that was pruned and grown back trains on as if nothing had been") {
  for (const auto build : {mlp, maps}) {
    const auto run = [&](bool prunes) {
      ms::Context ctx({.seed = 5});
      Net net = build(ctx);
      const auto optimizer = optimizer_of(net, true);
      for (std::uint64_t i = 0; i < 8; ++i) {
        ms::train::step<double>(ctx, net, batch_of(ctx, {6, 3, 4, 2}, i), *optimizer);
        if (!prunes || i != 3) continue;
        for (const auto& site : ms::grow::find_sites<double>(net)) {
          ms::grow::put_back(ctx, ms::grow::prune(ctx, site, {1}, net, optimizer.get()), net, optimizer.get());
        }
      }
      return everything(ctx, net, *optimizer);
    };
    CHECK(run(true) == run(false));
  }
}

TEST_CASE("prune: a whole layer can go and come back") {
  ms::Context ctx({.seed = 5});
  Net net = mlp(ctx);
  const auto optimizer = optimizer_of(net, false);
  ms::train::step<double>(ctx, net, batch_of(ctx, {6, 3, 4, 2}, 1), *optimizer);
  const Numbers before = everything(ctx, net, *optimizer);
  const auto site = ms::grow::find_sites<double>(net).front();
  auto removed = ms::grow::prune(ctx, site, {0, 1, 2, 3, 4}, net, optimizer.get());
  CHECK(site.width() == 0);
  ms::grow::put_back(ctx, std::move(removed), net, optimizer.get());
  CHECK(everything(ctx, net, *optimizer) == before);
}

TEST_CASE("prune: the norms of units do not change with the scale that fan-in and fan-out share") {
  ms::Context ctx({.seed = 5});
  for (const auto build : {mlp, maps}) {
    Net net = build(ctx);
    for (const auto& site : ms::grow::find_sites<double>(net)) {
      CAPTURE(site.name);
      const std::vector<double> norms = ms::grow::unit_norms(ctx, site);
      REQUIRE(norms.size() == static_cast<std::size_t>(site.width()));
      const std::vector<double> in = site.producer.norm() ? ms::to_host(ctx, site.producer.norm()->weight().value)
                                                          : ms::to_host(ctx, site.producer.weight().value);
      const std::vector<double> out = ms::to_host(ctx, site.consumer.weight().value);
      for (std::size_t k = 0; k < norms.size(); ++k) {
        double squares_in = 0.0, squares_out = 0.0;
        const std::size_t row = in.size() / norms.size();
        for (std::size_t i = 0; i < row; ++i) squares_in += in[k * row + i] * in[k * row + i];
        for (std::size_t i = k; i < out.size(); i += norms.size()) squares_out += out[i] * out[i];
        // Sums of at most a few hundred squares.
        CHECK(norms[k] == doctest::Approx(std::sqrt(squares_in) * std::sqrt(squares_out)).epsilon(1e-12));
      }
    }
  }
  CHECK(ms::grow::smallest_units({3, 1, 2, 1}, 3) == std::vector<std::int64_t>{1, 2, 3});
  CHECK(ms::grow::smallest_units({3, 1, 2, 1}, 1) == std::vector<std::int64_t>{1});
  CHECK(ms::grow::smallest_units({}, 0).empty());
}

TEST_CASE("prune: the contribution of a unit is the slope of the loss as its output is turned down") {
  ms::Context ctx({.seed = 5});
  for (const auto build : {mlp, maps}) {
    Net net = build(ctx);
    const std::vector<Batch> batches = [&] {
      std::vector<Batch> result;
      result.push_back(batch_of(ctx, {6, 3, 4, 2}, 1));
      result.push_back(batch_of(ctx, {6, 3, 4, 2}, 2));
      return result;
    }();
    const auto show = [&](auto&& use) {
      for (const Batch& batch : batches) use(ms::nn::BatchView<double>(batch));
    };
    const auto loss = [&] {
      double total = 0.0;
      show([&](const ms::nn::BatchView<double>& batch) {
        const auto trace = net.forward(ctx, batch.inputs, {.measuring = true});
        total += ms::nn::CrossEntropy{}(ctx, trace.output, batch.labels, false).mean / 2;
      });
      return total;
    };
    for (const auto& site : ms::grow::find_sites<double>(net)) {
      CAPTURE(site.name);
      const std::vector<double> found = ms::grow::unit_contributions(ctx, site, net, show);
      const std::vector<double> weights = ms::to_host(ctx, site.consumer.weight().value);
      const auto width = static_cast<std::size_t>(site.width());
      const auto turned = [&](std::size_t unit, double factor) {
        std::vector<double> values = weights;
        for (std::size_t i = unit; i < values.size(); i += width) values[i] *= factor;
        site.consumer.weight().value = ms::from_host<double>(ctx, site.consumer.weight().value.shape(), values);
        return loss();
      };
      for (std::size_t k = 0; k < width; ++k) {
        constexpr double h = 1e-5;
        const double expected = (turned(k, 1 - h) - turned(k, 1 + h)) / (2 * h);
        // Central differences: h² times a third derivative of order 1, and rounding of order 1e-16 / h.
        CHECK(std::abs(found[k] - expected) <= 1e-8);
      }
      (void)turned(0, 1.0);
    }
  }
}

TEST_CASE("prune: units that are none are told, and nothing changes") {
  ms::Context ctx({.seed = 5});
  Net net = mlp(ctx);
  const auto optimizer = optimizer_of(net, false);
  const auto site = ms::grow::find_sites<double>(net).front();
  const Numbers before = everything(ctx, net, *optimizer);
  const auto refused = [&](const std::vector<std::int64_t>& units) {
    return message_of<ms::ArgumentError>([&] { (void)ms::grow::prune(ctx, site, units, net, optimizer.get()); });
  };
  CHECK(contains(refused({}), "pruning of layer1: no unit is named"));
  CHECK(contains(refused({5}), "there is no unit 5 among its 5"));
  CHECK(contains(refused({0, -1}), "there is no unit -1"));
  CHECK(contains(refused({3, 3}), "unit 3 is named twice"));
  CHECK(everything(ctx, net, *optimizer) == before);
  CHECK(contains(message_of<ms::ArgumentError>([] {
                   (void)ms::grow::smallest_units({1, 2}, 3);
                 }),
                 "3 units were asked for among 2"));
  CHECK(contains(message_of<ms::DataError>([&] { (void)ms::grow::unit_contributions(ctx, site, net, [](auto&&) {}); }),
                 "no samples were shown"));
  auto removed = ms::grow::prune(ctx, site, {1}, net, optimizer.get());
  (void)ms::grow::prune(ctx, site, {1}, net, optimizer.get());
  CHECK_THROWS_AS(ms::grow::put_back(ctx, std::move(removed), net, optimizer.get()), ms::ShapeError);
}

TEST_SUITE_END();

}  // namespace grow_prune_test
