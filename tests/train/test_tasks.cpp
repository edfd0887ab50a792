// Whole tasks other than classifying images, growth included, with the errors they have to reach.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

#include <meristem/core/philox.hpp>
#include <meristem/data/sample_set.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/dense.hpp>

namespace train_tasks_test {

namespace ms = meristem;
using ms::nn::Activation;

namespace {

template <ms::Real T>
ms::nn::Sequential<T> one_hidden(ms::Context& ctx, std::int64_t inputs, std::int64_t hidden, std::int64_t outputs,
                                 Activation activation) {
  ms::nn::Sequential<T> net;
  net.template add<ms::nn::Linear<T>>("hidden", ctx, inputs, hidden);
  net.template add<ms::nn::ActivationLayer<T>>("activation", activation);
  net.template add<ms::nn::Linear<T>>("out", ctx, hidden, outputs);
  return net;
}

/// Trains with AdamW and grows every `every` epochs in the first half; returns the units added.
template <ms::Real T, class Set>
std::int64_t train(ms::Context& ctx, ms::nn::Sequential<T>& net, const Set& set, const ms::nn::Objective& loss,
                   int epochs, int every, std::int64_t batch, double rate, ms::grow::GrowerOptions options) {
  ms::optim::AdamW<T> adamw(net, {.learning_rate = rate, .weight_decay = 0.0});
  options.loss = loss;
  ms::grow::Grower<T> grower(net, adamw, options);
  std::int64_t added = 0;
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    adamw.set_learning_rate(rate * (epoch > 3 * epochs / 4 ? 0.1 : 1.0));
    for (const auto& one : ms::data::Loader<T>(ctx, set, batch, {.shuffle = true, .epoch = epoch})) {
      ms::train::step(ctx, net, one, adamw, loss);
    }
    if (epoch % every == 0 && epoch <= epochs / 2) added += grower.grow(ctx, set).added();
  }
  return added;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("tasks: binary classification of two half moons, by labels of one logit") {
  const auto moons = [](std::int64_t n, std::uint64_t seed) {
    ms::data::SampleSet<float> set{.inputs = {}, .input = {2}};
    const ms::Philox random(seed, 1);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto draw = static_cast<std::uint64_t>(4 * i);
      const double angle = std::numbers::pi * random.uniform(draw), side = i % 2 == 0 ? 1.0 : -1.0;
      set.inputs.push_back(
          static_cast<float>(side * std::cos(angle) + (side < 0 ? 1.0 : 0.0) + 0.1 * random.normal(draw + 2)));
      set.inputs.push_back(
          static_cast<float>(side * std::sin(angle) + (side < 0 ? 0.5 : 0.0) + 0.1 * random.normal(draw + 3)));
      set.labels.push_back(static_cast<std::int32_t>(i % 2));
    }
    return set;
  };
  const auto set = moons(1000, 1), test = moons(1000, 2);
  ms::Context ctx({.seed = 4});
  auto net = one_hidden<float>(ctx, 2, 1, 1, Activation::relu);
  const ms::nn::Objective loss = ms::nn::BinaryCrossEntropy{};
  const std::int64_t added =
      train<float>(ctx, net, ms::nn::BatchSource<float>(set), loss, 60, 6, 50, 0.02, {.how_many = {.at_most = 3}});
  const auto metrics = ms::train::evaluate(ctx, net, test, 1000, loss);
  MESSAGE(metrics << ", " << added << " units added");
  CHECK(added >= 2);
  // Noise of deviation 0.1 about curves that are 0.5 apart and more.
  CHECK(metrics.accuracy >= 0.98);
}

TEST_CASE("tasks: regression of two outputs with outliers, by Huber's loss") {
  const auto waves = [](std::int64_t n, std::uint64_t seed, bool outliers) {
    ms::data::SampleSet<double> set{.inputs = {}, .input = {1}, .target = {2}};
    const ms::Philox random(seed, 2);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto draw = static_cast<std::uint64_t>(3 * i);
      const double x = 6.0 * random.uniform(draw) - 3.0;
      set.inputs.push_back(x);
      const double off = outliers && random.uniform(draw + 1) < 0.05 ? 20.0 : 0.0;
      set.targets.push_back(std::sin(2 * x) + off);
      set.targets.push_back(std::abs(x) - 1.5);
    }
    return set;
  };
  const auto set = waves(2000, 1, true), clean = waves(500, 2, false);
  ms::Context ctx({.seed = 4});
  auto net = one_hidden<double>(ctx, 1, 2, 2, Activation::relu);
  const ms::nn::Objective loss = ms::nn::Huber{.delta = 0.3};
  const std::int64_t added =
      train<double>(ctx, net, ms::nn::BatchSource<double>(set), loss, 80, 5, 50, 0.01, {.how_many = {.at_most = 4}});
  const auto metrics = ms::train::evaluate(ctx, net, clean, 500, loss);
  MESSAGE(metrics << ", " << added << " units added");
  CHECK(added >= 4);
  // A twentieth of outliers moves the mean by 1 where squares are minimised, hardly where their roots are.
  CHECK(metrics.mean_absolute_error() < 0.15);
}

namespace {

/// Digits of 3×5 points, drawn twice as wide into 8×8 pixels at a random place, with a random strength and noise.
ms::data::SampleSet<float> digits(std::int64_t n, std::uint64_t seed) {
  // A row of three bits each, from the top.
  constexpr std::uint32_t shapes[10] = {075557, 022222, 071747, 071717, 055711, 074717, 074757, 071111, 075757, 075717};
  ms::data::SampleSet<float> set{.inputs = {}, .input = {64}};
  const ms::Philox random(seed, 3);
  std::uint64_t draw = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto top = random.below(draw++, 3), left = random.below(draw++, 2);
    const double strength = 0.5 + 0.5 * random.uniform(draw++);
    for (std::uint64_t y = 0; y < 8; ++y) {
      for (std::uint64_t x = 0; x < 8; ++x) {
        const bool inside = y >= top && y < top + 5 && x >= left && x < left + 6;
        const bool on = inside && (shapes[i % 10] >> (3 * (4 - (y - top)) + 2 - (x - left) / 2)) % 2 == 1;
        set.inputs.push_back(static_cast<float>((on ? strength : 0.0) + 0.15 * random.normal(draw)));
        draw += 2;
      }
    }
    set.labels.push_back(static_cast<std::int32_t>(i % 10));
  }
  return set;
}

}  // namespace

TEST_CASE("tasks: ten digits of 8×8 pixels, from two units on") {
  const auto set = digits(2000, 1), test = digits(500, 2);
  const ms::nn::Objective loss = ms::nn::CrossEntropy{};
  double accuracy[2] = {};
  std::int64_t added[2] = {};
  for (const bool grows : {false, true}) {
    ms::Context ctx({.seed = 4});
    auto net = one_hidden<float>(ctx, 64, 2, 10, Activation::relu);
    const ms::grow::GrowerOptions options{.how_many = {.at_most = 8, .significance = 0.5},
                                          .budget = {.parameters = grows ? 4000 : 160, .must_leave_room = false}};
    added[grows] = train<float>(ctx, net, ms::nn::BatchSource<float>(set), loss, 40, 4, 50, 0.01, options);
    const auto metrics = ms::train::evaluate(ctx, net, test, 500, loss);
    MESSAGE(metrics << ", " << added[grows] << " units added");
    accuracy[grows] = metrics.accuracy;
  }
  CHECK(added[0] == 0);
  CHECK(added[1] >= 8);
  // Two numbers for ten classes in six places each.
  CHECK(accuracy[0] < 0.7);
  CHECK(accuracy[1] > 0.93);
}

namespace {

/// Of a point x the three outputs N(x - h), N(x), N(x + h); targets are x, h and f(x). What is to be small is the
/// residual of u'' = f with u(x) = x (1 - x) N(x), which is 0 at both ends of [0, 1].
struct Poisson {
  template <class T>
  MERISTEM_HD T operator()(const T* output, const T* target, std::int64_t outputs, T* gradient) const {
    const T x = target[0], h = target[1];
    T residual = -target[2];
    const T sign[3] = {T(1), T(-2), T(1)};
    for (std::int64_t i = 0; i < outputs; ++i) {
      const T at = x + static_cast<T>(i - 1) * h, weight = sign[i] * at * (T(1) - at) / (h * h);
      residual += weight * output[i];
      if (gradient != nullptr) gradient[i] = weight;
    }
    for (std::int64_t i = 0; gradient != nullptr && i < outputs; ++i) gradient[i] *= T(2) * residual;
    return residual * residual;
  }
};

}  // namespace

TEST_CASE("tasks: a physics-informed fit, where no values are known, only an equation") {
  // u'' = -4π² sin(2π x), whose solution is sin(2π x). The source makes points on the fly.
  constexpr double h = 0.01;
  const ms::nn::BatchSource<double> points(400, [](ms::Context& ctx, std::span<const std::int64_t> indices) {
    std::vector<double> inputs, targets;
    for (const std::int64_t i : indices) {
      const double x = h + (1 - 2 * h) * (static_cast<double>(i) + 0.5) / 400;
      inputs.insert(inputs.end(), {x - h, x, x + h});
      const double f = -4 * std::numbers::pi * std::numbers::pi * std::sin(2 * std::numbers::pi * x);
      targets.insert(targets.end(), {x, h, f});
    }
    const auto n = std::ssize(indices);
    return ms::nn::Batch<double>{.inputs = ms::from_host<double>(ctx, {n, 3, 1}, inputs),
                                 .targets = ms::from_host<double>(ctx, {n, 3}, targets)};
  });
  ms::Context ctx({.seed = 4});
  auto net = one_hidden<double>(ctx, 1, 2, 1, Activation::tanh);
  const std::int64_t added = train<double>(
      ctx, net, points, ms::nn::PerSample{Poisson{}}, 300, 10, 40, 0.01,
      {.how_many = {.at_most = 2, .significance = 0.0}, .statistics_samples = 300, .search_samples = 100});
  std::vector<double> grid;
  for (int i = 0; i <= 100; ++i) grid.push_back(i / 100.0);
  const auto outputs = ms::to_host(
      ctx,
      net.forward(ctx, ms::from_host<double>(ctx, {101, 1}, grid).view(), {.mode = ms::nn::Mode::evaluation}).output);
  double worst = 0.0;
  for (std::size_t i = 0; i < grid.size(); ++i) {
    const double u = grid[i] * (1 - grid[i]) * outputs[i];
    worst = std::max(worst, std::abs(u - std::sin(2 * std::numbers::pi * grid[i])));
  }
  MESSAGE("largest error " << worst << ", " << added << " units added");
  CHECK(added >= 2);
  CHECK(worst < 0.05);
}

namespace {

/// Made like the blocks of the Californian census of 1990 (R. Pace, R. Barry, "Sparse spatial autoregressions", 1997):
/// skewed inputs that depend on one another, two cities along a coast, and a value that income raises most where the
/// cities are near, times a noise, never above 5. Inputs: income, age, rooms, bedrooms, population, occupants,
/// latitude, longitude.
ms::data::SampleSet<float> houses(std::int64_t n, std::uint64_t seed) {
  ms::data::SampleSet<float> set{.inputs = {}, .input = {8}, .target = {1}};
  const ms::Philox random(seed, 4);
  std::uint64_t draw = 0;
  const auto normal = [&] { return random.normal(std::exchange(draw, draw + 2)); };
  for (std::int64_t i = 0; i < n; ++i) {
    const bool south = random.uniform(draw++) < 0.6;
    const double along = 0.9 * normal(), inland = std::abs(0.8 * normal());
    const double latitude = (south ? 34.0 : 37.7) + 0.6 * along + 0.3 * inland;
    const double longitude = (south ? -118.3 : -122.3) - 0.5 * along + inland;
    const double income = std::exp(1.25 - 0.15 * inland + 0.45 * normal());
    const double age = std::min(52.0, 10.0 + 40.0 * random.uniform(draw++) / (0.6 + inland));
    const double rooms = 3.5 + 0.5 * income + std::exp(0.5 * normal()),
                 bedrooms = 0.2 * rooms * std::exp(0.1 * normal());
    const double population = std::exp(7.0 + 0.7 * normal()), occupants = 1.5 + std::exp(0.3 + 0.3 * normal());
    const double near = std::exp(-(along * along + 2.0 * inland * inland) / 2.0);
    const double value =
        0.4 * income * (0.5 + near) + 0.8 * near * (south ? 1.0 : 1.4) + 0.004 * age - 0.25 * (occupants - 2.5) + 0.3;
    for (const double number : {income, age, rooms, bedrooms, population, occupants, latitude, longitude}) {
      set.inputs.push_back(static_cast<float>(number));
    }
    set.targets.push_back(static_cast<float>(std::min(5.0, std::max(0.15, value) * std::exp(0.1 * normal()))));
  }
  return set;
}

/// R² on `test` of the linear regression that fits `set` best.
double linear_r2(const ms::data::SampleSet<float>& set, const ms::data::SampleSet<float>& test) {
  const auto inputs = [](const ms::data::SampleSet<float>& of) {
    const std::int64_t n = of.size(), p = of.input.size() + 1;
    support::Dense result(n, p);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < p; ++j)
        result(i, j) = j + 1 < p ? of.inputs[static_cast<std::size_t>(i * (p - 1) + j)] : 1.0;
    }
    return result;
  };
  const support::Dense x = inputs(set), y(set.size(), 1, set.targets), truth(test.size(), 1, test.targets);
  const support::Dense weights = support::power(support::transposed(x) * x, -1) * (support::transposed(x) * y);
  const support::Dense residual = truth - inputs(test) * weights;
  double mean = 0.0;
  for (const double value : truth.values) mean += value / static_cast<double>(test.size());
  double squares = 0.0;
  for (const double value : truth.values) squares += (value - mean) * (value - mean);
  return 1.0 - support::dot(residual, residual) / squares;
}

}  // namespace

TEST_CASE("tasks: regression of house values on skewed, correlated inputs, beside linear regression") {
  auto set = houses(4000, 1), test = houses(1000, 2);
  const auto inputs = set.measure_inputs(), targets = set.measure_targets();
  for (auto* each : {&set, &test}) {
    each->scale_inputs(inputs);
    each->scale_targets(targets);
  }
  const double linear = linear_r2(set, test);
  ms::Context ctx({.seed = 4});
  auto net = one_hidden<float>(ctx, 8, 2, 1, Activation::relu);
  const ms::nn::Objective loss = ms::nn::SquaredError{};
  const std::int64_t added =
      train<float>(ctx, net, ms::nn::BatchSource<float>(set), loss, 60, 6, 50, 0.005, {.how_many = {.at_most = 6}});
  const auto metrics = ms::train::evaluate(ctx, net, test, 1000, loss);
  MESSAGE(metrics << ", " << added << " units added; linear regression: R² " << linear);
  CHECK(added >= 6);
  CHECK(metrics.r2() > linear + 0.05);
  CHECK(metrics.r2() > 0.85);
}

TEST_SUITE_END();

}  // namespace train_tasks_test
