// Where, how many, how far: the Grower's rules, its budgets, what it refuses, and replaying what it did.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/data/sample_set.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/io/history.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>

namespace grow_grower_policy_test {

namespace ms = meristem;
using ms::grow::GrowerOptions;
using ms::grow::HowMany;
using ms::grow::Where;
using support::contains;
using support::message_of;

namespace {

using Net = ms::nn::Sequential<double>;
using Grower = ms::grow::Grower<double>;
using Numbers = std::vector<std::vector<double>>;

enum class Classes { parity, first, noise };

/// 4×4 images of two channels, bright or dark. The class is the parity of the two, the first of them, or has nothing to
/// do with the image.
ms::data::ImageSet checks(std::int64_t images, Classes classes = Classes::parity) {
  ms::data::ImageSet set;
  set.height = set.width = 4;
  set.channels = 2;
  set.class_names = {"even", "odd"};
  set.source = "checks";
  set.normalization = {.mean = {0.5, 0.5}, .stddev = {0.3, 0.3}};
  const ms::Philox random(3, 5);
  std::uint64_t at = 0;
  for (std::int64_t i = 0; i < images; ++i) {
    const std::uint64_t first = random.below(at++, 2), second = random.below(at++, 2);
    for (int place = 0; place < 16; ++place) {
      set.pixels.push_back(static_cast<std::uint8_t>((first ? 140 : 40) + random.below(at++, 80)));
      set.pixels.push_back(static_cast<std::uint8_t>((second ? 140 : 40) + random.below(at++, 80)));
    }
    const std::uint64_t any = random.below(at++, 2);
    set.labels.push_back(static_cast<std::int32_t>(classes == Classes::parity  ? (first + second) % 2
                                                   : classes == Classes::first ? first
                                                                               : any));
  }
  return set;
}

Net mlp(ms::Context& ctx) {
  return ms::models::mlp<double>(
      ctx, {.inputs = 32, .hidden = {2, 3, 2}, .classes = 2, .activation = ms::nn::Activation::tanh});
}

Net maps(ms::Context& ctx) {
  Net net;
  net.add<ms::nn::Conv2d<double>>("conv", ctx, 2, 3, ms::nn::Conv2dOptions{.padding = 1});
  net.add<ms::nn::BatchNorm<double>>("norm", ctx, 3, ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  auto& block = net.add<ms::nn::Residual<double>>("block");
  block.add<ms::nn::Conv2d<double>>("conv1", ctx, 3, 2, ms::nn::Conv2dOptions{.padding = 1});
  block.add<ms::nn::BatchNorm<double>>("norm1", ctx, 2,
                                       ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  block.add<ms::nn::Conv2d<double>>("conv2", ctx, 2, 3, ms::nn::Conv2dOptions{.padding = 1});
  block.add<ms::nn::BatchNorm<double>>("norm2", ctx, 3,
                                       ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  net.add<ms::nn::Flatten<double>>("flatten");
  net.add<ms::nn::Dropout<double>>("dropout", 0.1);
  net.add<ms::nn::Linear<double>>("fc1", ctx, 48, 3);
  net.add<ms::nn::ActivationLayer<double>>("relu", ms::nn::Activation::relu);
  net.add<ms::nn::Linear<double>>("fc2", ctx, 3, 2);
  return net;
}

using Build = Net (*)(ms::Context&);

/// A network with its optimiser, trained for some epochs.
struct Trained {
  ms::Context ctx;
  Net net;
  ms::optim::Sgd<double> sgd;
  std::int64_t epoch = 0;

  explicit Trained(const ms::data::ImageSet& set, Build build = mlp, std::int64_t epochs = 2, std::uint64_t seed = 4)
      : ctx({.seed = seed}), net(build(ctx)), sgd(net, {.learning_rate = 0.05, .momentum = 0.9}) {
    train(set, epochs);
  }

  void train(const ms::data::ImageSet& set, std::int64_t epochs) {
    for (std::int64_t last = epoch + epochs; epoch < last; ++epoch) {
      for (const auto& batch : set.batches<double>(ctx, 20, {.shuffle = true, .epoch = epoch})) {
        ms::train::step<double>(ctx, net, batch, sgd);
      }
    }
  }

  /// Every number of the network, its buffers and its optimiser.
  Numbers everything() {
    Numbers all;
    for (auto* parameter : ms::nn::parameters(net)) {
      all.push_back(ms::to_host(ctx, parameter->value));
      for (const auto& moment : sgd.state(parameter->id)) all.push_back(ms::to_host(ctx, moment));
    }
    net.visit_buffers([&](ms::nn::Buffer<double>& buffer) { all.push_back(ms::to_host(ctx, buffer.value)); });
    return all;
  }
};

/// Growth that takes what lowers the loss at all.
GrowerOptions lenient(Where where = Where::all) {
  GrowerOptions options{.where = where,
                        .how_many = {.at_most = 2, .significance = 0.0},
                        .statistics_samples = 100,
                        .search_samples = 60,
                        .batch_size = 30};
  options.amplitude.least_relative_decrease = 0.0;
  return options;
}

std::vector<std::string> grown_sites(const ms::grow::GrowthReport& report) {
  std::vector<std::string> names;
  for (const auto& site : report.sites) {
    if (site.added > 0) names.push_back(site.name);
  }
  return names;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grower policy: where no norm stands behind, fan-ins join at the scale of today's") {
  const auto set = checks(120);
  Trained run(set, [](ms::Context& ctx) {
    return ms::models::mlp<double>(ctx, {.inputs = 32, .hidden = {4, 3}, .classes = 2});
  });
  const auto norms = [&] {
    const auto weight = ms::to_host(run.ctx, ms::nn::parameters(run.net)[0]->value);
    std::vector<double> result(weight.size() / 32);
    for (std::size_t i = 0; i < weight.size(); ++i) result[i / 32] += weight[i] * weight[i];
    return result;
  };
  const std::vector<double> before = norms();
  double today = 0.0;
  for (const double square : before) today += square / static_cast<double>(before.size());
  Grower grower(run.net, run.sgd, {.sites = {"layer1"}, .how_many = HowMany::fixed(2), .search_samples = 24});
  const auto report = grower.grow(run.ctx, set);
  REQUIRE(report.sites.size() == 1);
  const std::vector<double> after = norms();
  REQUIRE(after.size() == before.size() + 2);
  for (std::size_t k = before.size(); k < after.size(); ++k) CHECK(after[k] == doctest::Approx(today).epsilon(1e-12));
}

TEST_CASE("grower policy: round robin grows one site a step, in turn, and its state says whose turn it is") {
  const auto set = checks(200);
  Trained t(set);
  Grower grower(t.net, t.sgd, lenient(Where::round_robin));
  std::vector<std::string> visited;
  for (int round = 0; round < 2; ++round) {
    const auto report = grower.grow(t.ctx, set);
    REQUIRE(report.sites.size() == 1);
    visited.push_back(report.sites[0].name);
    CHECK(report.where == "round_robin");
  }
  Grower other(t.net, t.sgd, lenient(Where::round_robin));
  other.restore(grower.state());
  for (int round = 0; round < 3; ++round) visited.push_back(other.grow(t.ctx, set).sites.at(0).name);
  CHECK(visited == std::vector<std::string>{"layer1", "layer2", "layer3", "layer1", "layer2"});
  CHECK(contains(message_of<ms::ArgumentError>([&] { other.restore({2, 0, 0, 0}); }), "not those of a Grower with 3"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { other.restore({3}); }), "the 1 saved numbers"));
}

TEST_CASE("grower policy: the best site by gain, by gain per parameter and by gain per multiply-add") {
  const auto set = checks(200);
  for (const Build build : {mlp, maps}) {
    for (const Where where : {Where::best_gain, Where::best_gain_per_parameter, Where::best_gain_per_flop}) {
      CAPTURE(ms::grow::name_of(where));
      Trained t(set, build);
      Grower grower(t.net, t.sgd, lenient(where));
      ms::grow::detail::InputShapes<double> shapes;
      for (const auto& batch : set.batches<double>(t.ctx, 1)) {
        (void)t.net.forward(t.ctx, batch.inputs, {.measuring = true, .taps = &shapes});
        break;
      }
      std::vector<ms::grow::Candidate::Cost> costs;
      for (const auto& site : grower.sites()) costs.push_back(ms::grow::unit_cost(site, shapes));
      const auto report = grower.grow(t.ctx, set);
      REQUIRE(report.sites.size() == grower.sites().size());
      std::size_t best = 0;
      double most = -1e300;
      for (std::size_t i = 0; i < report.sites.size(); ++i) {
        double value = report.sites[i].slope;
        if (where != Where::best_gain) value /= static_cast<double>(report.sites[i].found);
        if (where == Where::best_gain_per_parameter) value /= static_cast<double>(costs[i].parameters);
        if (where == Where::best_gain_per_flop) value /= static_cast<double>(costs[i].multiply_adds);
        if (value > most) {
          most = value;
          best = i;
        }
      }
      CHECK(grown_sites(report) == std::vector<std::string>{grower.sites()[best].name});
      for (const auto& site : report.sites) {
        CHECK(site.parameters == ms::nn::parameter_count(t.net));
        CHECK(site.multiply_adds == t.net.multiply_adds({1, 4, 4, 2}));
      }
    }
  }
}

TEST_CASE("grower policy: target widths are reached, never exceeded, and told") {
  const auto set = checks(200);
  Trained t(set);
  GrowerOptions options = lenient();
  options.how_many = HowMany::fixed(2) & HowMany::up_to({{"layer1", 3}, {"layer3", 4}}) &
                     HowMany::up_to([](const ms::grow::Candidate& site) {
                       return std::int64_t{site.report.name == "layer2" ? 3 : 100};
                     });
  Grower grower(t.net, t.sgd, options);
  for (int round = 0; round < 4; ++round) {
    const auto report = grower.grow(t.ctx, set);
    CHECK(report.sites[1].added == 0);
    CHECK(contains(report.sites[1].note, "its target width of 3 is reached"));
    for (const auto& site : report.sites) CHECK(site.asked <= 2);
    t.train(set, 1);
  }
  CHECK(grower.sites()[0].width() <= 3);
  CHECK(grower.sites()[2].width() <= 4);
  CHECK(grower.sites()[0].width() + grower.sites()[2].width() > 4);
}

TEST_CASE("grower policy: the fewest units that explain a share") {
  const auto set = checks(200);
  for (const double share : {0.3, 0.7, 1.0}) {
    Trained t(set);
    GrowerOptions options = lenient(Where::together);
    options.how_many = {.explained = share, .significance = 0.0};
    Grower grower(t.net, t.sgd, options);
    for (const auto& site : grower.grow(t.ctx, set).sites) {
      if (site.added == 0) continue;
      double all = 0.0, most = 0.0, without_last = 0.0;
      for (std::size_t k = 0; k < site.lambda.size(); ++k) {
        const double square = site.lambda[k] * site.lambda[k];
        all += square;
        if (static_cast<std::int64_t>(k) < site.added) most += square;
        if (static_cast<std::int64_t>(k) + 1 < site.added) without_last += square;
      }
      CHECK(most >= share * all * (1 - 1e-9));
      if (share < 1.0) CHECK(without_last < share * all);
      CHECK(site.gain == doctest::Approx(most).epsilon(1e-9));
    }
  }
}

TEST_CASE("grower policy: the budget of multiply-adds holds") {
  const auto set = checks(200);
  for (const Build build : {mlp, maps}) {
    for (const Where where : {Where::all, Where::together}) {
      if (build == maps && where == Where::all) continue;
      Trained t(set, build);
      GrowerOptions options = lenient(where);
      const std::int64_t start = t.net.multiply_adds({1, 4, 4, 2});
      options.budget.multiply_adds = start + start / 4;
      Grower grower(t.net, t.sgd, options);
      bool told = false;
      for (int round = 0; round < 4; ++round) {
        for (const auto& site : grower.grow(t.ctx, set).sites) told |= contains(site.note, "multiply-adds");
        CHECK(t.net.multiply_adds({1, 4, 4, 2}) <= options.budget.multiply_adds);
        t.train(set, 1);
      }
      CHECK(told);
      CHECK(t.net.multiply_adds({1, 4, 4, 2}) > start);
    }
  }
}

TEST_CASE("grower policy: budgets without room for a single unit are refused") {
  const auto set = checks(100);
  Trained t(set, mlp, 0);
  const std::int64_t parameters = ms::nn::parameter_count(t.net), work = t.net.multiply_adds({1, 4, 4, 2});
  // The cheapest unit is one of layer2: 2 inputs, a bias and 2 outputs.
  GrowerOptions options = lenient();
  options.budget.parameters = parameters + 4;
  CHECK(contains(message_of<ms::ArgumentError>([&] { Grower(t.net, t.sgd, options); }),
                 ms::concat("budget.parameters is ", parameters + 4, " and forbids any growth: the network has ",
                            parameters, " already, and the smallest unit adds 5")));
  options.budget.must_leave_room = false;
  Grower over(t.net, t.sgd, options);
  CHECK(over.grow(t.ctx, set).added() == 0);
  options.budget.must_leave_room = true;
  options.budget.parameters = parameters + 5;
  CHECK_NOTHROW(Grower(t.net, t.sgd, options));
  options = lenient();
  options.budget.multiply_adds = work + 3;
  Grower grower(t.net, t.sgd, options);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)grower.grow(t.ctx, set); }),
                 ms::concat("budget.multiply_adds is ", work + 3, " and forbids any growth: the network has ", work,
                            " already, and the smallest unit adds 4")));
}

TEST_CASE("grower policy: the number of samples follows from the threshold") {
  // A plain signal is seen in a few samples; noise is given up before the last sample.
  for (const bool signal : {true, false}) {
    CAPTURE(signal);
    const auto set = checks(1500, signal ? Classes::first : Classes::noise);
    Trained t(set, mlp, 0);
    GrowerOptions options{
        .how_many = {.at_most = 2}, .statistics_samples = 1200, .search_samples = 100, .batch_size = 300};
    options.first_samples = 50;
    options.damping = 0.0;
    options.sites = {"layer1"};
    Grower grower(t.net, t.sgd, options);
    const auto site = grower.grow(t.ctx, set).sites.at(0);
    CAPTURE(site.lambda.front());
    CAPTURE(site.lambda_error);
    CAPTURE(site.samples);
    CHECK(site.samples >= 50);
    CHECK(site.samples < 1200);
    CHECK(site.lambda_error == site.threshold);
    // σ (√p + √q) / √n with σ² = Ψ / q.
    const double expected = std::sqrt(site.bottleneck / 3.0) * (std::sqrt(33.0) + std::sqrt(3.0)) /
                            std::sqrt(static_cast<double>(site.samples));
    // The edge is measured, and a tenth is added. Samples whose desired updates are larger than others' move it up.
    CHECK(site.lambda_error > expected);
    CHECK(site.lambda_error < 2.0 * expected);
    const auto verdict = ms::grow::detail::judge(site.lambda.front(), site.lambda_error, 1.0, site.samples, 1200);
    CHECK(verdict == (signal ? ms::grow::detail::Evidence::above : ms::grow::detail::Evidence::below));
    if (!signal) CHECK(site.added == 0);
  }
}

TEST_CASE("grower policy: a fixed amplitude is taken as it is, and not if the loss blows up") {
  const auto set = checks(200);
  for (const Build build : {mlp, maps}) {
    Trained t(set, build);
    GrowerOptions options = lenient();
    options.amplitude = {};
    options.amplitude.fixed = 0.125;
    Grower grower(t.net, t.sgd, options);
    for (const auto& site : grower.grow(t.ctx, set).sites) {
      CAPTURE(site.name);
      CHECK(site.added > 0);
      CHECK(site.gamma == 0.125);
      CHECK(site.predicted == 0.125 * site.slope);
      CHECK(site.evaluations == 2);
      CHECK(std::isfinite(site.loss_after));
    }
  }
  // The slope is what a small amplitude gains, also of normalised units.
  for (const bool matched : {false, true}) {
    Trained t(set);
    GrowerOptions options = lenient();
    options.amplitude = {.fixed = 1e-5, .matched = matched};
    options.sites = {"layer2"};
    options.batch_size = 500;
    Grower grower(t.net, t.sgd, options);
    // Search and statistics on the same samples.
    const auto whole = [&](ms::Context& ctx, std::span<const std::int64_t> indices) {
      std::vector<std::int64_t> all(indices.size());
      std::iota(all.begin(), all.end(), std::int64_t{0});
      return set.batch<double>(ctx, all);
    };
    const auto site = grower.grow(t.ctx, ms::nn::BatchSource<double>(set.size(), whole)).sites.at(0);
    CHECK(site.added > 0);
    // Second order: γ times a curvature some tens of the slope.
    CHECK(site.measured() == doctest::Approx(site.predicted).epsilon(1e-2));
  }
  Trained t(set);
  GrowerOptions options = lenient();
  options.amplitude = {};
  options.amplitude.fixed = 1e300;
  options.sites = {"layer3"};
  Grower grower(t.net, t.sgd, options);
  const Numbers before = t.everything();
  const auto site = grower.grow(t.ctx, set).sites.at(0);
  if (site.added == 0) {
    CHECK(contains(site.note, "the loss at the amplitude 1e+300 is not finite"));
    CHECK(t.everything() == before);
  }
}

TEST_CASE("grower policy: a number of units that is insisted on goes in where no amplitude lowers the loss") {
  const auto set = checks(200);
  for (const Build build : {mlp, maps}) {
    Trained t(set, build);
    GrowerOptions options{.where = Where::together, .how_many = ms::grow::HowMany::fixed(2)};
    options.amplitude.least_relative_decrease = 0.999;
    Grower grower(t.net, t.sgd, options);
    const double before = ms::train::evaluate<double>(t.ctx, t.net, set).loss;
    const auto report = grower.grow(t.ctx, set);
    for (const auto& site : report.sites) {
      CAPTURE(site.name);
      // Two classes have one gradient, and a layer that feeds them room for one unit.
      CHECK(site.added == site.found);
      CHECK(site.found >= 1);
      CHECK(site.gamma > 0.0);
      CHECK(contains(site.note, "the units went in at a vanishing one"));
      // At a 1024th of the amplitude that would lower the loss by 2 % to first order (or by up to √2 more or less, as
      // amplitudes are powers of two), it changes by that share of it.
      CHECK(std::abs(site.measured()) < 1e-4 * site.loss_before);
      CHECK(site.evaluations <= 11);
    }
    CHECK(std::abs(ms::train::evaluate<double>(t.ctx, t.net, set).loss - before) < 1e-2 * before);
    options.how_many = ms::grow::HowMany::fixed(2);
    options.how_many.insist = false;
    Trained other(set, build);
    CHECK(Grower(other.net, other.sgd, options).grow(other.ctx, set).added() == 0);
  }
}

TEST_CASE("grower policy: new channels get a norm weight as large as today's, unless they are to be split evenly") {
  const auto set = checks(400);
  for (const bool balanced : {true, false}) {
    CAPTURE(balanced);
    Trained t(set, maps);
    GrowerOptions options{.sites = {"block.conv1"}, .how_many = ms::grow::HowMany::fixed(2)};
    if (!balanced) options.amplitude.balanced = false;
    Grower grower(t.net, t.sgd, options);
    const auto& norm = *grower.sites().at(0).producer.norm();
    const auto before = ms::to_host(t.ctx, norm.weight().value);
    double squares = 0.0;
    for (const double weight : before) squares += weight * weight / static_cast<double>(before.size());
    REQUIRE(grower.grow(t.ctx, set).added() == 2);
    const auto after = ms::to_host(t.ctx, norm.weight().value);
    for (std::size_t k = before.size(); k < after.size(); ++k) {
      // But for the norm's epsilon of 1e-5 beside variances of about 1.
      if (balanced) CHECK(after[k] == doctest::Approx(std::sqrt(squares)).epsilon(1e-3));
      if (!balanced) CHECK(after[k] < 0.5 * std::sqrt(squares));
    }
  }
}

TEST_CASE("grower policy: rejected growth leaves every bit, the random stream included") {
  const auto set = checks(200);
  for (const Build build : {mlp, maps}) {
    for (const Where where : {Where::all, Where::together, Where::round_robin, Where::best_gain_per_flop}) {
      Trained t(set, build);
      GrowerOptions options = lenient(where);
      options.amplitude.least_relative_decrease = 0.9999;
      options.amplitude.matched = true;
      Grower grower(t.net, t.sgd, options);
      const Numbers before = t.everything();
      Numbers gradients;
      for (auto* parameter : ms::nn::parameters(t.net)) gradients.push_back(ms::to_host(t.ctx, parameter->gradient));
      const auto streams = t.ctx.random_streams();
      const auto steps = t.sgd.steps();
      bool searched = false;
      const auto report = grower.grow(t.ctx, set);
      for (const auto& site : report.sites) searched |= contains(site.note, "rejected");
      CHECK(searched);
      CHECK(report.added() == 0);
      CHECK(t.everything() == before);
      std::size_t i = 0;
      for (auto* parameter : ms::nn::parameters(t.net)) {
        CHECK(ms::to_host(t.ctx, parameter->gradient) == gradients[i++]);
      }
      CHECK(t.ctx.random_streams() == streams);
      CHECK(t.sgd.steps() == steps);
    }
  }
}

TEST_CASE("grower policy: a probe measures the bottleneck and changes nothing") {
  const auto set = checks(200);
  Trained t(set, maps);
  GrowerOptions options = lenient(Where::together);
  options.amplitude.least_relative_decrease = 0.9999;
  Grower grower(t.net, t.sgd, options);
  const Numbers before = t.everything();
  const auto reports = grower.probe(t.ctx, set);
  CHECK(t.everything() == before);
  const auto grown = grower.grow(t.ctx, set);
  REQUIRE(reports.size() == grown.sites.size());
  double most = 0.0;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    CHECK(reports[i].goal_norm2 == doctest::Approx(grown.sites[i].goal_norm2).epsilon(1e-9));
    CHECK(reports[i].bottleneck <= reports[i].goal_norm2 * (1 + 1e-9));
    CHECK(reports[i].bottleneck > 0.0);
    most = std::max(most, reports[i].unexpressed());
  }
  CHECK(grower.unexpressed(t.ctx, set) == doctest::Approx(most).epsilon(1e-12));
}

TEST_CASE("grower policy: batches of measuring and line search change nothing, unless a batch norm sees them") {
  // 1,500 samples: 1,200 for the statistics, three batches of the default size, and 300 for the search.
  const std::int64_t n = 1500;
  ms::data::SampleSet<double> set{.inputs = support::normal_values<double>(3 * n, 21), .input = {3}, .target = {2}};
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    const double* x = set.inputs.data() + 3 * i;
    set.targets.push_back(std::abs(x[0]) - x[1]);
    set.targets.push_back(x[1] * x[2] + x[0]);
  }
  struct Found {
    double bottleneck, gain, loss_before, loss_after;
  };
  const auto measured = [&](bool norm, std::int64_t batch_size) {
    ms::Context ctx({.seed = 4});
    Net net;
    net.add<ms::nn::Linear<double>>("hidden", ctx, 3, 2);
    if (norm) net.add<ms::nn::BatchNorm<double>>("norm", ctx, 2);
    net.add<ms::nn::ActivationLayer<double>>("relu", ms::nn::Activation::relu);
    net.add<ms::nn::Linear<double>>("out", ctx, 2, 2);
    ms::optim::Sgd<double> sgd(net, {.learning_rate = 0.1});
    GrowerOptions options{
        .how_many = {.at_most = 1}, .damping = 0.1, .amplitude = {.fixed = 0.25}, .loss = ms::nn::SquaredError{}};
    if (batch_size > 0) options.batch_size = batch_size;
    const auto report = Grower(net, sgd, options).grow(ctx, set).sites.at(0);
    REQUIRE(report.added == 1);
    return Found{report.bottleneck, report.gain, report.loss_before, report.loss_after};
  };
  const auto distance = [](const Found& a, const Found& b) {
    const auto relative = [](double x, double y) { return std::abs(x - y) / std::abs(y); };
    return std::max({relative(a.bottleneck, b.bottleneck), relative(a.gain, b.gain),
                     relative(a.loss_before, b.loss_before), relative(a.loss_after, b.loss_after)});
  };
  const Found plain = measured(false, n), normed = measured(true, n);
  // Sums of 1,200 numbers of a double in another order.
  for (const std::int64_t batch : {0, 1, 7, 400}) {
    INFO("batch ", batch);
    CHECK(distance(measured(false, batch), plain) < 1e-10);
  }
  // Means and variances of a batch of b scatter by 1/√b: by a twentieth for the default, while two samples are -1 and 1
  // whatever they were.
  const double usual = distance(measured(true, 0), normed), small = distance(measured(true, 2), normed);
  MESSAGE("with a batch norm: " << usual << " by batches of 512, " << small << " by batches of 2");
  CHECK(usual < 0.05);
  CHECK(small > 0.1);
}

TEST_CASE("grower policy: where nothing is left to learn, every method with a bottleneck says that") {
  ms::data::SampleSet<double> set{.inputs = support::normal_values<double>(3 * 60, 22), .input = {3}, .target = {2}};
  set.targets.assign(2 * 60, 0.0);
  for (const auto& [name, note] : std::vector<std::pair<const char*, const char*>>{
           {"tiny", "N is zero, nothing is left"}, {"tiny-joint", "N is zero"}, {"tiny-fisher", "E is zero"}}) {
    INFO(name);
    ms::Context ctx({.seed = 4});
    Net net = ms::models::mlp<double>(ctx, {.inputs = 3, .hidden = {2}, .classes = 2});
    for (auto* parameter : ms::nn::parameters(net)) {
      if (contains(parameter->name, "layer2")) parameter->value = ms::zeros<double>(ctx, parameter->value.shape());
    }
    ms::optim::Sgd<double> sgd(net, {.learning_rate = 0.1});
    const auto report =
        Grower(net, sgd, {.method = ms::grow::parse_method(name), .loss = ms::nn::SquaredError{}}).grow(ctx, set);
    CHECK(report.added() == 0);
    CHECK(contains(report.sites.at(0).note, note));
  }
}

TEST_CASE("grower policy: a replay gives the same bits without a search") {
  const auto set = checks(120);
  for (const Build build : {mlp, maps}) {
    for (const Where where : {Where::all, Where::together, Where::round_robin, Where::best_gain}) {
      if (build == maps && where != Where::together) continue;
      CAPTURE(ms::grow::name_of(where));
      GrowerOptions options = lenient(where);
      options.how_many = {.at_most = 3, .explained = 0.8, .significance = 0.3, .insist = true};
      options.statistics_samples = 80;
      options.search_samples = 40;
      options.first_samples = 50;
      ms::grow::History history;
      const auto run = [&](const GrowerOptions& chosen, bool record) {
        Trained t(set, build, 1);
        Grower grower(t.net, t.sgd, chosen);
        for (int round = 0; round < 3; ++round) {
          const auto report = grower.grow(t.ctx, set);
          if (record) {
            history.add(t.epoch, t.sgd.steps(), report);
          } else {
            for (const auto& site : report.sites) CHECK((site.added == 0 || site.evaluations == 2));
          }
          t.train(set, 1);
        }
        if (!record) {
          CHECK(contains(message_of<ms::ArgumentError>([&] { (void)grower.grow(t.ctx, set); }),
                         "all 3 growth steps of the history are replayed"));
        }
        return t.everything();
      };
      const Numbers once = run(options, true);
      std::int64_t added = 0;
      for (const auto& event : history.steps) added += event.added();
      CHECK(added > 0);
      std::stringstream lines;
      history.write_json_lines(lines);
      options.replay = std::make_shared<const ms::grow::History>(ms::io::read_history(lines));
      CHECK(run(options, false) == once);
    }
  }
}

TEST_CASE("grower policy: a replay finds as many candidates of firefly that lower the loss, fewer than asked for") {
  const auto set = checks(120);
  GrowerOptions options = lenient(Where::together);
  // A candidate for each unit, of which some make the loss larger.
  options.method = ms::grow::firefly(1, 1, 0.01);
  options.how_many = {.at_most = 4, .explained = 0.8, .significance = 0.0};
  options.statistics_samples = 80;
  options.search_samples = 40;
  ms::grow::History history;
  const auto run = [&](const GrowerOptions& chosen) {
    Trained t(set, mlp, 1);
    Grower grower(t.net, t.sgd, chosen);
    history.add(1, 0, grower.grow(t.ctx, set));
    return t.everything();
  };
  const Numbers once = run(options);
  const auto& sites = history.steps.at(0).sites;
  CHECK(std::any_of(sites.begin(), sites.end(), [](const auto& site) { return site.added > 0 && site.found < 4; }));
  options.replay = std::make_shared<const ms::grow::History>(history);
  CHECK(run(options) == once);
}

TEST_CASE("grower policy: a replay of something else is refused") {
  const auto set = checks(200);
  ms::grow::History history;
  {
    Trained t(set);
    Grower grower(t.net, t.sgd, lenient());
    history.add(2, t.sgd.steps(), grower.grow(t.ctx, set));
  }
  REQUIRE(history.steps[0].added() > 0);
  const auto replay = [&](const ms::grow::History& past, GrowerOptions options = lenient()) {
    options.replay = std::make_shared<const ms::grow::History>(past);
    Trained t(set);
    Grower grower(t.net, t.sgd, options);
    (void)grower.grow(t.ctx, set);
  };
  CHECK_NOTHROW(replay(history));
  auto other = history;
  other.steps[0].method = "random";
  CHECK(contains(message_of<ms::ArgumentError>([&] { replay(other); }), "was taken by the method random, not by tiny"));
  other = history;
  other.steps[0].sites[0].name = "layer9";
  CHECK(contains(message_of<ms::ArgumentError>([&] { replay(other); }), "has a site layer9, which is not among"));
  other = history;
  for (auto& site : other.steps[0].sites) site.width += 1;
  CHECK(contains(message_of<ms::DataError>([&] { replay(other); }), "units, and had"));
  other = history;
  for (auto& site : other.steps[0].sites) site.added = site.added > 0 ? 9 : 0;
  CHECK(contains(message_of<ms::DataError>([&] { replay(other); }), "units where the history has 9"));
}

TEST_CASE("grower policy: options that contradict each other, and names that are none") {
  const auto set = checks(100);
  Trained t(set, mlp, 0);
  const auto refused = [&](const GrowerOptions& options) {
    return message_of<ms::ArgumentError>([&] { Grower grower(t.net, t.sgd, options); });
  };
  GrowerOptions options;
  CHECK(contains(refused({.how_many = HowMany::fixed(0)}), "at_most is 0"));
  CHECK(contains(refused({.how_many = HowMany::up_to({{"layer8", 4}})}), "there is no layer 'layer8'"));
  CHECK(contains(refused({.sites = {"layer1"}, .how_many = HowMany::up_to({{"layer2", 4}})}),
                 "target width of 4 for layer2, which is not among the sites that may grow: layer1"));
  CHECK(contains(refused({.sites = {"nothing"}}), "there is no layer 'nothing'"));
  CHECK(contains(refused({.how_many = {.significance = 0.0}, .first_samples = 100}), "a significance of 0 sets none"));
  CHECK(contains(refused({.first_samples = -1}), "first_samples is -1"));
  CHECK(contains(refused({.method = nullptr}), "there is no method"));
  options.amplitude.fixed = 0.5;
  options.amplitude.largest = 1.0;
  CHECK(contains(refused(options), "amplitude.fixed leaves nothing to search for"));
  options = {};
  options.amplitude.fixed = -1.0;
  CHECK(contains(refused(options), "amplitude.fixed is -1"));
  options = {};
  options.amplitude.faint_norm = 0.0;
  CHECK(contains(refused(options), "amplitude.faint_norm is 0"));
  CHECK(contains(refused({.search_memory = -1}), "search_memory is -1"));
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -1.0}) {
    CHECK(contains(refused({.how_many = {.share_of_outputs = bad}}), "share_of_outputs is "));
    CHECK(contains(refused({.how_many = {.at_most = 8, .significance = bad}}), "significance is "));
    CHECK(contains(refused({.damping = bad}), "damping is "));
    CHECK(contains(refused({.amplitude = {.first_decrease = bad}}), "amplitude.first_decrease is "));
    CHECK(contains(refused({.amplitude = {.largest = bad}}), "amplitude.largest is "));
    CHECK(contains(refused({.how_many = HowMany{.share_of_width = bad}}), "share_of_width is "));
  }
  options = {};
  options.budget.multiply_adds = 0;
  CHECK(contains(refused(options), "budget.multiply_adds is 0"));
}

TEST_CASE("grower policy: statistics that are not finite name their site, and nothing changes") {
  const auto set = checks(100);
  for (const Where where : {Where::all, Where::together}) {
    Trained t(set, mlp, 0);
    Grower grower(t.net, t.sgd, lenient(where));
    auto& weight = grower.sites()[1].producer.weight();
    std::vector<double> values = ms::to_host(t.ctx, weight.value);
    values[0] = std::numeric_limits<double>::quiet_NaN();
    weight.value = ms::from_host<double>(t.ctx, weight.value.shape(), values);
    const std::int64_t before = ms::nn::parameter_count(t.net);
    const std::string message = message_of<ms::NumericError>([&] { (void)grower.grow(t.ctx, set); });
    CAPTURE(message);
    CHECK(contains(message, "growth: the statistics of layer1 are of no use"));
    CHECK(ms::nn::parameter_count(t.net) == before);
  }
}

TEST_SUITE_END();

}  // namespace grow_grower_policy_test
