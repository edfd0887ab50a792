// Edits that training does not feel: units without effect, and growth that is rejected.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/schedule.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/units_on_host.hpp>

namespace grow_training_after_test {

namespace ms = meristem;

namespace {

using Net = ms::nn::Sequential<double>;

using Batch = ms::nn::Batch<double>;

Batch batch_of(ms::Context& ctx, std::uint64_t seed) {
  const ms::Shape shape{8, 4, 4, 2};
  std::vector<std::int32_t> labels;
  const ms::Philox random(seed, 3);
  for (std::int64_t i = 0; i < shape[0]; ++i) {
    labels.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(i), 3)));
  }
  return {.inputs = ms::from_host<double>(ctx, shape, support::normal_values<double>(shape.size(), seed)),
          .labels = ms::from_host<std::int32_t>(ctx, {shape[0]}, labels)};
}

/// Dropout stands where its mask does not depend on a width that grows: one behind a growing layer would draw others.
Net mlp(ms::Context& ctx) {
  Net net;
  net.add<ms::nn::Flatten<double>>("flatten");
  net.add<ms::nn::Dropout<double>>("dropout", 0.25);
  net.add<ms::nn::Linear<double>>("layer1", ctx, 32, 6);
  net.add<ms::nn::ActivationLayer<double>>("tanh", ms::nn::Activation::tanh);
  net.add<ms::nn::Linear<double>>("layer2", ctx, 6, 3);
  return net;
}

/// Convolutions in front of norms have no bias: its gradient is nothing but rounding error, which AdamW scales up.
Net residual(ms::Context& ctx) {
  Net net;
  net.add<ms::nn::Conv2d<double>>("conv", ctx, 2, 4, ms::nn::Conv2dOptions{.padding = 1, .bias = false});
  net.add<ms::nn::BatchNorm<double>>("norm", ctx, 4, ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  auto& block = net.add<ms::nn::Residual<double>>("block");
  block.add<ms::nn::Conv2d<double>>("conv1", ctx, 4, 5, ms::nn::Conv2dOptions{.padding = 1, .bias = false});
  block.add<ms::nn::BatchNorm<double>>("norm1", ctx, 5,
                                       ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  block.add<ms::nn::Conv2d<double>>("conv2", ctx, 5, 4, ms::nn::Conv2dOptions{.padding = 1, .bias = false});
  block.add<ms::nn::BatchNorm<double>>("norm2", ctx, 4,
                                       ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  net.add<ms::nn::GlobalAveragePool<double>>("pool");
  net.add<ms::nn::Dropout<double>>("dropout", 0.25);
  net.add<ms::nn::Linear<double>>("fc", ctx, 4, 3);
  return net;
}

/// Numbers of one parameter, moment or buffer, with what is needed to leave the units out that were added.
using Named = std::vector<std::pair<std::string, std::vector<double>>>;

struct Trajectory {
  std::vector<double> losses;
  Named numbers;
  std::uint64_t random_streams = 0;
};

/// All numbers, without those of units from `width` on of a site.
Named numbers_of(ms::Context& ctx, Net& net, ms::optim::Optimizer<double>& optimizer,
                 const ms::grow::Site<double>& site, std::int64_t width) {
  Named all;
  const auto add = [&](const std::string& name, ms::nn::ParameterId id, const ms::Tensor<double>& tensor) {
    const std::vector<double> values = ms::to_host(ctx, tensor);
    std::vector<double> kept;
    const std::int64_t now = site.width(), size = static_cast<std::int64_t>(values.size());
    const bool rows =
        id == site.producer.weight().id || (site.producer.has_bias() && id == site.producer.bias().id) ||
        (site.producer.norm() &&
         (id == site.producer.norm()->weight().id || id == site.producer.norm()->bias().id ||
          id == site.producer.norm()->running_mean().id || id == site.producer.norm()->running_variance().id));
    for (std::int64_t i = 0; i < size; ++i) {
      if (rows && i / (size / now) >= width) continue;
      if (id == site.consumer.weight().id && i % now >= width) continue;
      kept.push_back(values[static_cast<std::size_t>(i)]);
    }
    all.emplace_back(name, std::move(kept));
  };
  net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
    add(parameter.name, parameter.id, parameter.value);
    int index = 0;
    for (const auto& moment : optimizer.state(parameter.id)) {
      add(ms::concat("moment ", index++, " of ", parameter.name), parameter.id, moment);
    }
  });
  net.visit_buffers([&](ms::nn::Buffer<double>& buffer) { add(buffer.name, buffer.id, buffer.value); });
  return all;
}

enum class Added {
  nothing,
  no_units,      ///< an edit without units
  at_zero,       ///< γ = 0: neither read nor reading anything, they stay so for good
  silent_units,  ///< ω = 0
};

/// Five steps, an edit, ten more steps. Silent units would learn a fan-out from their first step on: it is kept at zero
/// here, so that what is trained is the function of the old parameters.
Trajectory train(Net (*build)(ms::Context&), const std::string& name, bool adam, Added added) {
  ms::Context ctx({.seed = 9});
  Net net = build(ctx);
  std::unique_ptr<ms::optim::Optimizer<double>> optimizer;
  if (adam) {
    optimizer = std::make_unique<ms::optim::AdamW<double>>(net, ms::optim::AdamWOptions{.learning_rate = 0.01});
  } else {
    optimizer = std::make_unique<ms::optim::Sgd<double>>(
        net, ms::optim::SgdOptions{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3});
  }
  const ms::optim::Schedule schedule(
      {.peak = 0.05, .decay = ms::optim::Decay::cosine, .warmup_steps = 3, .total_steps = 15});
  const auto site = ms::grow::find_site<double>(net, name);
  const std::int64_t width = site.width();
  Trajectory result;
  std::vector<ms::nn::ParameterId> ids;
  for (std::uint64_t step = 0; step < 15; ++step) {
    if (step == 5 && added != Added::nothing) {
      net.visit_parameters([&](ms::nn::Parameter<double>& parameter) { ids.push_back(parameter.id); });
      const std::int64_t units = added == Added::no_units ? 0 : 3;
      support::HostInsertion insertion{.units = units, .inputs = site.fan_in(), .outputs = site.fan_out()};
      insertion.taps = site.consumer.window().kernel.size();
      insertion.fan_in = support::normal_values<double>(units * insertion.inputs, 31, 0.3);
      insertion.fan_out.assign(static_cast<std::size_t>(units * insertion.taps * insertion.outputs), 0.0);
      if (site.producer.norm()) {
        insertion.mean.assign(static_cast<std::size_t>(units), 0.1);
        insertion.variance.assign(static_cast<std::size_t>(units), 0.5);
      }
      if (added == Added::at_zero) insertion.fan_out.assign(insertion.fan_out.size(), 0.7);
      const double gamma = added == Added::at_zero ? 0.0 : 1.0;
      ms::grow::apply(ctx, ms::grow::make_edit<double>(ctx, site, support::on_device(ctx, insertion), gamma), net,
                      optimizer.get());
      std::vector<ms::nn::ParameterId> after;
      net.visit_parameters([&](ms::nn::Parameter<double>& parameter) { after.push_back(parameter.id); });
      CHECK(ids == after);
      CHECK(site.width() == width + units);
      CHECK(optimizer->steps() == 5);
    }
    optimizer->set_learning_rate(schedule.at(optimizer->steps()));
    result.losses.push_back(ms::train::step<double>(ctx, net, batch_of(ctx, step), *optimizer).loss);
    if (added != Added::silent_units || step < 5) continue;
    std::vector<double> weights = ms::to_host(ctx, site.consumer.weight().value);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (static_cast<std::int64_t>(i) % site.width() >= width) weights[i] = 0.0;
    }
    site.consumer.weight().value = ms::from_host<double>(ctx, site.consumer.weight().value.shape(), weights);
  }
  result.numbers = numbers_of(ctx, net, *optimizer, site, width);
  result.random_streams = ctx.random_streams();
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("training after growth: units without effect leave the trajectory, to rounding; no units leave every bit") {
  struct Case {
    Net (*build)(ms::Context&);
    const char* site;
  };
  for (const Case& which : {Case{mlp, "layer1"}, Case{residual, "block.conv1"}}) {
    for (const bool adam : {false, true}) {
      CAPTURE(which.site);
      CAPTURE(adam);
      const Trajectory plain = train(which.build, which.site, adam, Added::nothing);
      const Trajectory same = train(which.build, which.site, adam, Added::no_units);
      CHECK(same.losses == plain.losses);
      CHECK(same.numbers == plain.numbers);
      CHECK(same.random_streams == plain.random_streams);

      for (const Added added : {Added::at_zero, Added::silent_units}) {
        CAPTURE(static_cast<int>(added));
        const Trajectory grown = train(which.build, which.site, adam, added);
        CHECK(grown.random_streams == plain.random_streams);
        for (std::size_t i = 0; i < plain.losses.size(); ++i) {
          // Sums over the consumer's inputs get zeros in their midst, which may move partial sums by a unit in the last
          // place; ten steps do not blow that up beyond ten thousandfold.
          CHECK(std::abs(grown.losses[i] - plain.losses[i]) <= 1e-12);
        }
        REQUIRE(grown.numbers.size() == plain.numbers.size());
        for (std::size_t i = 0; i < plain.numbers.size(); ++i) {
          REQUIRE(grown.numbers[i].first == plain.numbers[i].first);
          support::check_close(grown.numbers[i].second, plain.numbers[i].second, 1e-11, plain.numbers[i].first);
        }
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace grow_training_after_test
