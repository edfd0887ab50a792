// Growth of convolutional sites: predicted against measured decrease of the loss, and the network as the line search
// saw it against the network after the units are in, in training and in evaluation mode.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <meristem/grow/solve/solve.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <support/map_problem.hpp>

namespace grow_map_growth_test {

namespace ms = meristem;
using ms::grow::FanOut;
using ms::nn::Activation;
using ms::nn::Conv2d;
using support::MapProblem;
using Net = MapProblem::Net;

namespace {

/// One way of joining two layers.
struct Joint {
  std::string name;
  ms::Shape map;
  std::function<void(ms::Context&, Net&, Activation, bool)> build;  // activation, bias
};

void finish(Net& net, ms::Context& ctx, std::int64_t channels, std::int64_t classes) {
  net.add<ms::nn::GlobalAveragePool<double>>("mean");
  net.add<ms::nn::Linear<double>>("out", ctx, channels, classes);
}

const std::vector<Joint>& joints() {
  using ms::nn::ActivationLayer;
  using ms::nn::BatchNorm;
  static const std::vector<Joint> all{
      {"conv3-conv3",
       {6, 5, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 2, 2, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("f", f);
         net.add<Conv2d<double>>("b", ctx, 2, 4, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("g", Activation::tanh);
         finish(net, ctx, 4, 3);
       }},
      {"conv3 stride 2 - conv3 stride 2 without padding",
       {9, 11, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 2, 2,
                                 ms::nn::Conv2dOptions{.kernel = 3, .stride = 2, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("f", f);
         net.add<Conv2d<double>>("b", ctx, 2, 4, ms::nn::Conv2dOptions{.kernel = 3, .stride = 2, .bias = bias});
         net.add<ActivationLayer<double>>("g", Activation::tanh);
         finish(net, ctx, 4, 3);
       }},
      {"conv1 - conv(2x3)",
       {5, 6, 3},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 3, 2, ms::nn::Conv2dOptions{.kernel = 1, .bias = bias});
         net.add<ActivationLayer<double>>("f", f);
         net.add<Conv2d<double>>("b", ctx, 2, 4,
                                 ms::nn::Conv2dOptions{.kernel = {2, 3}, .padding = {0, 1}, .bias = bias});
         net.add<ActivationLayer<double>>("g", Activation::tanh);
         finish(net, ctx, 4, 3);
       }},
      {"conv3 - norm - conv3",
       {6, 5, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 2, 3, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<BatchNorm<double>>("norm", ctx, 3);
         net.add<ActivationLayer<double>>("f", f);
         net.add<Conv2d<double>>("b", ctx, 3, 4, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<BatchNorm<double>>("norm2", ctx, 4);
         net.add<ActivationLayer<double>>("g", Activation::tanh);
         finish(net, ctx, 4, 3);
       }},
      {"conv3 - average pool - conv3",
       {8, 8, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 2, 2, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("f", f);
         net.add<ms::nn::AveragePool2d<double>>("pool");
         net.add<Conv2d<double>>("b", ctx, 2, 4, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("g", Activation::tanh);
         finish(net, ctx, 4, 3);
       }},
      {"conv3 - max pool - flatten - linear",
       {6, 6, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 2, 2, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("f", f);
         net.add<ms::nn::MaxPool2d<double>>("pool");
         net.add<ms::nn::Flatten<double>>("flatten");
         net.add<ms::nn::Linear<double>>("b", ctx, 18, 4, ms::nn::LinearOptions{.bias = bias});
       }},
      {"conv3 - flatten - linear",
       {4, 3, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 2, 2, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("f", f);
         net.add<ms::nn::Flatten<double>>("flatten");
         net.add<ms::nn::Linear<double>>("b", ctx, 24, 4, ms::nn::LinearOptions{.bias = bias});
       }},
      {"conv3 - global average - linear",
       {6, 5, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 2, 2, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("f", f);
         net.add<ms::nn::GlobalAveragePool<double>>("pool");
         net.add<ms::nn::Linear<double>>("b", ctx, 2, 4, ms::nn::LinearOptions{.bias = bias});
       }},
      {"conv3 - max pool - global average - linear",
       {6, 6, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("a", ctx, 2, 2, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         net.add<ActivationLayer<double>>("f", f);
         net.add<ms::nn::MaxPool2d<double>>("pool");
         net.add<ms::nn::GlobalAveragePool<double>>("mean");
         net.add<ms::nn::Linear<double>>("b", ctx, 2, 4, ms::nn::LinearOptions{.bias = bias});
       }},
      {"conv3 of one sequence - conv3 of the next",
       {6, 5, 2},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         auto& first = net.add<Net>("first");
         first.add<Conv2d<double>>("a", ctx, 2, 3, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         first.add<BatchNorm<double>>("norm", ctx, 3);
         auto& second = net.add<Net>("second");
         second.add<ActivationLayer<double>>("f", f);
         second.add<Conv2d<double>>("b", ctx, 3, 4, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         second.add<ActivationLayer<double>>("g", Activation::tanh);
         finish(net, ctx, 4, 3);
       }},
      {"residual block",
       {5, 6, 3},
       [](ms::Context& ctx, Net& net, Activation f, bool bias) {
         net.add<Conv2d<double>>("stem", ctx, 3, 4, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1});
         auto& block = net.add<ms::nn::Residual<double>>("block");
         block.add<Conv2d<double>>("conv1", ctx, 4, 1, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         block.add<BatchNorm<double>>("norm1", ctx, 1);
         block.add<ActivationLayer<double>>("f", f);
         block.add<Conv2d<double>>("conv2", ctx, 1, 4, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = bias});
         block.add<BatchNorm<double>>("norm2", ctx, 4);
         finish(net, ctx, 4, 3);
       }},
  };
  return all;
}

double relative(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0.0, scale = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(a[i]));
  }
  return difference / scale;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("map growth: measured over predicted decrease is 1 at small amplitude, for every way of joining two layers") {
  // Units go in as (√γ α, √γ ω); with tanh the quotient is 1 + O(γ).
  constexpr double gamma = 1e-7;
  for (const Joint& joint : joints()) {
    for (const bool bias : {false, true}) {
      for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
        for (const bool moves : {false, true}) {
          INFO(joint.name, ", bias ", bias, ", full ", fan_out == FanOut::full, ", moves ", moves);
          MapProblem problem(64, joint.map,
                             [&](ms::Context& ctx, Net& net) { joint.build(ctx, net, Activation::tanh, bias); });
          for (const auto& site : ms::grow::find_sites(problem.net)) {
            CAPTURE(site.name);
            const auto proposal = problem.propose(
                site, 3, {.fan_out = fan_out, .damping = 0.0, .significance = 0.0, .move_weights = moves});
            REQUIRE(proposal.insertion.units > 0);
            // The units alone may lose what the move that goes with them would gain.
            if (moves) CHECK(proposal.report.slope > 0.0);
            const double measured =
                problem.loss() - problem.loss_with(ms::grow::make_edit(problem.ctx, site, proposal.insertion, gamma));
            CHECK(measured / (gamma * proposal.report.slope) == doctest::Approx(1.0).epsilon(0.02));
          }
        }
      }
    }
  }
}

TEST_CASE("map growth: ReLU units take the better sign, and the one-sided slope is exact") {
  constexpr double gamma = 1e-7;
  for (const Joint& joint : joints()) {
    INFO(joint.name);
    MapProblem problem(64, joint.map,
                       [&](ms::Context& ctx, Net& net) { joint.build(ctx, net, Activation::relu, true); });
    for (const auto& site : ms::grow::find_sites(problem.net)) {
      CAPTURE(site.name);
      const auto proposal = problem.propose(site, 3, {.damping = 0.0, .significance = 0.0, .move_weights = false});
      REQUIRE(proposal.insertion.units > 0);
      const double measured =
          problem.loss() - problem.loss_with(ms::grow::make_edit(problem.ctx, site, proposal.insertion, gamma));
      CHECK(measured / (gamma * proposal.report.slope) == doctest::Approx(1.0).epsilon(0.02));
    }
  }
}

TEST_CASE("map growth: pending, merged in training mode and merged in evaluation mode are one function") {
  for (const Joint& joint : joints()) {
    for (const double gamma : {0.05, 0.1, 0.2}) {
      INFO(joint.name, ", gamma ", gamma);
      MapProblem problem(64, joint.map,
                         [&](ms::Context& ctx, Net& net) { joint.build(ctx, net, Activation::relu, true); });
      // Running statistics that are those of the samples, so that both modes start from the same function.
      ms::grow::detail::NormInputs<double> batch;
      (void)problem.net.forward(problem.ctx, problem.x, {.measuring = true, .taps = &batch});
      for (const auto& [norm, channels] : batch.all()) {
        auto& layer = const_cast<ms::nn::BatchNorm<double>&>(*norm);
        ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, {layer.channels()}, channels.mean),
                         layer.running_mean().value);
        ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, {layer.channels()}, channels.variance),
                         layer.running_variance().value);
      }
      const auto training = problem.outputs(ms::nn::Mode::training);
      REQUIRE(relative(training, problem.outputs(ms::nn::Mode::evaluation)) < 1e-12);

      const auto site = ms::grow::find_sites(problem.net).front();
      const auto proposal = problem.propose(site, 3);
      std::vector<double> pending;
      {
        ms::grow::detail::StagedEdit<double> staged(
            problem.ctx, ms::grow::make_edit(problem.ctx, site, proposal.insertion, gamma), problem.net);
        staged.swap();
        pending = problem.outputs(ms::nn::Mode::training);
        staged.swap();
      }
      problem.insert(site, proposal.insertion, gamma);
      CHECK(relative(pending, training) > 1e-4);
      CHECK(relative(pending, problem.outputs(ms::nn::Mode::training)) == 0.0);
      CHECK(relative(pending, problem.outputs(ms::nn::Mode::evaluation)) < 1e-12);
    }
  }
}

TEST_CASE("map growth: several times in a row, and from an empty hidden layer") {
  for (const Joint& joint : joints()) {
    INFO(joint.name);
    MapProblem problem(64, joint.map,
                       [&](ms::Context& ctx, Net& net) { joint.build(ctx, net, Activation::relu, true); });
    const auto site = ms::grow::find_sites(problem.net).front();
    // Take every unit away first.
    ms::grow::Edit<double> cut;
    const std::int64_t width = site.width();
    const int axis = site.consumer.weight().value.rank() - 1;
    cut.axes.push_back({site.producer.weight().id, 0, {}, {}});
    cut.axes.push_back({site.producer.bias().id, 0, {}, {}});
    if (site.producer.norm()) {
      for (const ms::nn::ParameterId id :
           {site.producer.norm()->weight().id, site.producer.norm()->bias().id, site.producer.norm()->running_mean().id,
            site.producer.norm()->running_variance().id}) {
        cut.axes.push_back({id, 0, {}, {}});
      }
    }
    cut.axes.push_back({site.consumer.weight().id, axis, {}, {}});
    ms::grow::apply<double>(problem.ctx, cut, problem.net);
    REQUIRE(site.width() == 0);

    double loss = problem.loss();
    for (int step = 0; step < 3; ++step) {
      CAPTURE(step);
      const auto proposal = problem.propose(site, 2);
      REQUIRE(proposal.insertion.units == 2);
      const double gamma = 1e-3;
      problem.insert(site, proposal.insertion, gamma);
      CHECK(site.width() == 2 * (step + 1));
      const double after = problem.loss();
      CHECK(after < loss);
      loss = after;
    }
    CHECK(width > 0);
  }
}

TEST_CASE("map growth: 1x1 convolutions reproduce the fully connected formulas on stacked positions") {
  MapProblem problem(10, {3, 4, 5}, [](ms::Context& ctx, Net& net) {
    net.add<Conv2d<double>>("a", ctx, 5, 2, ms::nn::Conv2dOptions{.kernel = 1});
    net.add<ms::nn::ActivationLayer<double>>("f", Activation::tanh);
    net.add<Conv2d<double>>("b", ctx, 2, 4, ms::nn::Conv2dOptions{.kernel = 1});
    finish(net, ctx, 4, 3);
  });
  const auto site = ms::grow::find_sites(problem.net).front();
  const auto proposal = problem.propose(site, 4);
  ms::grow::detail::RowStatistics<double> stacked(problem.ctx, 5, true, 2, true, 4);
  problem.visit({site}, [&](ms::Context&, std::size_t, ms::View<const double> unit, ms::View<const double> consumer,
                            ms::View<const double> goal) { stacked.update(problem.ctx, unit, consumer, goal); });
  const auto solution =
      ms::grow::solve(problem.ctx, stacked.moments(problem.ctx), {.max_units = 4, .significance = 0.0});
  REQUIRE(solution.units == proposal.insertion.units);
  for (std::size_t k = 0; k < 4; ++k) {
    CHECK(proposal.report.lambda[k] == doctest::Approx(solution.lambda[k]).epsilon(1e-9));
  }
  CHECK(proposal.report.bottleneck == doctest::Approx(solution.bottleneck).epsilon(1e-9));
  CHECK(proposal.report.best_move_decrease == doctest::Approx(solution.best_move_decrease).epsilon(1e-9));
  CHECK(proposal.report.slope ==
        doctest::Approx(solution.first_order_gain + solution.best_move_decrease).epsilon(1e-9));
}

TEST_SUITE_END();

}  // namespace grow_map_growth_test
