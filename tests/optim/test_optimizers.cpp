#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <meristem/models/mlp.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/schedule.hpp>
#include <meristem/optim/sgd.hpp>
#include <support/check.hpp>
#include <support/plain_mlp.hpp>

namespace optim_optimizers_test {

namespace ms = meristem;
using ms::optim::AdamW;
using ms::optim::AdamWOptions;
using ms::optim::Optimizer;
using ms::optim::Sgd;
using ms::optim::SgdOptions;
using support::contains;
using support::message_of;
using support::PlainParameter;

namespace {

constexpr int steps = 12;

/// One step of an optimiser on plain vectors, with its own state.
struct Oracle {
  std::function<void(std::size_t, PlainParameter&)> update;
  std::vector<std::vector<double>> first, second;
  int step = 0;

  void run(std::vector<PlainParameter>& parameters) {
    ++step;
    first.resize(parameters.size());
    second.resize(parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      first[i].resize(parameters[i].value.size());
      second[i].resize(parameters[i].value.size());
      update(i, parameters[i]);
    }
  }
};

std::unique_ptr<Oracle> oracle_of(const SgdOptions& o) {
  auto oracle = std::make_unique<Oracle>();
  oracle->update = [o, self = oracle.get()](std::size_t index, PlainParameter& p) {
    for (std::size_t i = 0; i < p.value.size(); ++i) {
      double d = p.gradient[i];
      if (p.decays) d += o.weight_decay * p.value[i];
      double& v = self->first[index][i];
      if (o.momentum != 0.0) {
        v = self->step == 1 ? d : o.momentum * v + (1.0 - o.dampening) * d;
        d = o.nesterov ? d + o.momentum * v : v;
      }
      p.value[i] -= o.learning_rate * d;
    }
  };
  return oracle;
}

std::unique_ptr<Oracle> oracle_of(const AdamWOptions& o) {
  auto oracle = std::make_unique<Oracle>();
  oracle->update = [o, self = oracle.get()](std::size_t index, PlainParameter& p) {
    for (std::size_t i = 0; i < p.value.size(); ++i) {
      const double g = p.gradient[i];
      double &m = self->first[index][i], &v = self->second[index][i];
      if (p.decays) p.value[i] *= 1.0 - o.learning_rate * o.weight_decay;
      m = o.beta1 * m + (1.0 - o.beta1) * g;
      v = o.beta2 * v + (1.0 - o.beta2) * g * g;
      const double m_hat = m / (1.0 - std::pow(o.beta1, self->step));
      const double v_hat = v / (1.0 - std::pow(o.beta2, self->step));
      p.value[i] -= o.learning_rate * m_hat / (std::sqrt(v_hat) + o.epsilon);
    }
  };
  return oracle;
}

const std::vector<SgdOptions> all_sgd = {
    {.learning_rate = 0.3},
    {.learning_rate = 0.3, .weight_decay = 0.2},
    {.learning_rate = 0.1, .momentum = 0.9},
    {.learning_rate = 0.1, .momentum = 0.9, .dampening = 0.5},
    {.learning_rate = 0.1, .momentum = 0.9, .dampening = 0.25, .weight_decay = 0.2},
    {.learning_rate = 0.1, .momentum = 0.9, .nesterov = true},
    {.learning_rate = 0.1, .momentum = 0.8, .weight_decay = 0.2, .nesterov = true},
};

const std::vector<AdamWOptions> all_adamw = {
    {.learning_rate = 0.02, .weight_decay = 0.0},
    {.learning_rate = 0.02, .weight_decay = 0.5},
    {.learning_rate = 0.02, .beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.1},
    {.learning_rate = 0.02, .beta1 = 0.0, .beta2 = 0.0, .epsilon = 0.1},
};

const std::vector<std::int64_t> widths = {6, 7, 5, 3};
constexpr std::int64_t batch_size = 11;

template <class T>
ms::nn::Sequential<T> small_net(ms::Context& ctx) {
  auto net =
      ms::models::mlp<T>(ctx, {.inputs = 6, .hidden = {7, 5}, .classes = 3, .activation = ms::nn::Activation::tanh});
  // Biases start at 0, where weight decay would not show.
  std::uint64_t seed = 50;
  net.visit_parameters([&](ms::nn::Parameter<T>& parameter) {
    const auto values = support::normal_values<T>(parameter.value.size(), seed++, 0.5);
    parameter.value = ms::from_host<T>(ctx, parameter.value.shape(), values);
  });
  return net;
}

template <class T>
std::vector<double> inputs_of_step(int step) {
  return support::to_double(support::normal_values<T>(batch_size * widths[0], 900 + static_cast<std::uint64_t>(step)));
}

const std::vector<std::int32_t> labels{0, 1, 2, 2, 1, 0, 0, 2, 1, 1, 0};

template <class T>
void backpropagate(ms::Context& ctx, ms::nn::Layer<T>& net, int step) {
  const auto batch = support::make_batch<T>(ctx, {batch_size, widths[0]}, inputs_of_step<T>(step), labels);
  const ms::nn::Pass<T> pass{};
  const auto trace = net.forward(ctx, batch.inputs, pass);
  auto loss = ms::nn::CrossEntropy{}.operator()<T>(ctx, trace.output, batch.labels);
  (void)net.backward(ctx, batch.inputs, trace, std::move(loss.gradient), pass);
}

/// The gradients come from the network, so that only the optimiser is on trial, in both precisions.
template <class T, class Optim, class Options>
void check_updates(const Options& options) {
  ms::Context ctx({.seed = 3});
  auto net = small_net<T>(ctx);
  Optim optimizer(net, options);
  auto oracle = oracle_of(options);
  auto plain = support::plain_parameters(ctx, net);
  double largest_update = 0.0;
  for (int t = 0; t < steps; ++t) {
    backpropagate<T>(ctx, net, t);
    const auto now = support::plain_parameters(ctx, net);
    for (std::size_t i = 0; i < plain.size(); ++i) plain[i].gradient = now[i].gradient;
    optimizer.step(ctx);
    const auto before = plain;
    oracle->run(plain);
    const auto after = support::plain_parameters(ctx, net);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      for (std::size_t k = 0; k < plain[i].value.size(); ++k) {
        largest_update = std::max(largest_update, std::abs(plain[i].value[k] - before[i].value[k]));
      }
      // Each step rounds the weight once and some eight operations on numbers of the size of the update; the momentum
      // buffer hands its roundings on, at most 1 / (1 - 0.9) times.
      const double scale = support::scale_of(plain[i].value) + 80 * largest_update;
      support::check_close(after[i].value, plain[i].value, (t + 1) * support::eps<T> * scale,
                           ms::concat("parameter ", i, " after step ", t + 1));
    }
  }
  CHECK(optimizer.steps() == steps);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("optimizers: Sgd equals the plain loop with all options", T, float, double) {
  for (std::size_t i = 0; i < all_sgd.size(); ++i) {
    CAPTURE(i);
    check_updates<T, Sgd<T>>(all_sgd[i]);
  }
}

TEST_CASE_TEMPLATE("optimizers: AdamW equals the plain loop with all options", T, float, double) {
  for (std::size_t i = 0; i < all_adamw.size(); ++i) {
    CAPTURE(i);
    check_updates<T, AdamW<T>>(all_adamw[i]);
  }
}

TEST_CASE("optimizers: whole trajectories equal a network and optimiser in plain loops") {
  const auto check = [](auto&& make_optimizer, Oracle& oracle, double sensitivity) {
    ms::Context ctx({.seed = 3});
    auto net = small_net<double>(ctx);
    auto optimizer = make_optimizer(net);
    support::PlainMlp plain{widths, support::plain_parameters(ctx, net)};
    double start = 0.0, end = 0.0;
    for (int t = 0; t < steps; ++t) {
      backpropagate<double>(ctx, net, 0);
      optimizer->step(ctx);
      end = plain.run(inputs_of_step<double>(0), labels).loss;
      if (t == 0) start = end;
      oracle.run(plain.parameters);
    }
    CHECK(end < start);
    const auto final = support::plain_parameters(ctx, net);
    for (std::size_t i = 0; i < final.size(); ++i) {
      // Gradients are sums of about 100 products of numbers below 4, so 400 eps apart; a step makes `sensitivity` times
      // that of it, and 12 steps with momentum at most double the difference each.
      support::check_close(final[i].value, plain.parameters[i].value,
                           400 * support::eps<double> * sensitivity * (1 << steps), ms::concat("parameter ", i));
    }
  };
  for (std::size_t i = 0; i < all_sgd.size(); ++i) {
    CAPTURE(i);
    check([&](auto& net) { return std::make_unique<Sgd<double>>(net, all_sgd[i]); }, *oracle_of(all_sgd[i]),
          all_sgd[i].learning_rate);
  }
  AdamWOptions options = all_adamw[2];
  check([&](auto& net) { return std::make_unique<AdamW<double>>(net, options); }, *oracle_of(options),
        options.learning_rate / options.epsilon);
}

TEST_CASE("optimizers: weight decay leaves biases alone") {
  ms::Context ctx;
  ms::nn::Linear<double> linear(ctx, 2, 2);
  linear.weight().value = ms::from_host<double>(ctx, {2, 2}, {1, -2, 4, 8});
  linear.bias().value = ms::from_host<double>(ctx, {2}, {1, -2});
  const auto run = [&](Optimizer<double>& optimizer, std::vector<double> weights) {
    optimizer.step(ctx);
    support::check_same_bits(ms::to_host(ctx, linear.weight().value), weights);
    support::check_same_bits(ms::to_host(ctx, linear.bias().value), {1, -2});
  };
  // The gradient is 0 and all factors are powers of two: no rounding.
  Sgd<double> sgd(linear, {.learning_rate = 0.5, .weight_decay = 1.0});
  run(sgd, {0.5, -1, 2, 4});
  AdamW<double> adamw(linear, {.learning_rate = 0.5, .weight_decay = 1.0});
  run(adamw, {0.25, -0.5, 1, 2});
}

namespace {

/// A point in the plane whose gradient the test sets.
struct Point final : ms::nn::Layer<double> {
  ms::nn::Parameter<double> x;
  explicit Point(ms::Context& ctx) : x(ctx, "x", {2}, true) {}
  std::string_view kind() const override { return "Point"; }
  ms::Shape output_shape(const ms::Shape& input) const override { return input; }
  ms::nn::Trace<double> do_forward(ms::Context&, ms::View<const double>, const ms::nn::Pass<double>&) override {
    return {};
  }
  ms::Tensor<double> do_backward(ms::Context&, ms::View<const double>, const ms::nn::Trace<double>&, ms::Tensor<double>,
                                 const ms::nn::Pass<double>&) override {
    return {};
  }
  void describe(ms::nn::Description<double>& description) override { description.parameter(x); }
};

struct Problem {
  const char* name;
  std::array<double, 2> start, optimum;
  std::array<double, 2> (*gradient)(double, double);
  double rate;  ///< learning rate of plain descent
  int steps;
};

const std::vector<Problem> problems = {
    {"sphere",
     {3, -4},
     {0, 0},
     [](double x, double y) {
       return std::array{2 * x, 2 * y};
     },
     0.1,
     2000},
    {"Booth",
     {-5, 7},
     {1, 3},
     [](double x, double y) {
       const double a = x + 2 * y - 7, b = 2 * x + y - 5;
       return std::array{2 * a + 4 * b, 4 * a + 2 * b};
     },
     0.05,
     2000},
    {"Matyas",
     {4, -3},
     {0, 0},
     [](double x, double y) {
       return std::array{0.52 * x - 0.48 * y, 0.52 * y - 0.48 * x};
     },
     0.5,
     4000},
    {"Rosenbrock",
     {-1.2, 1},
     {1, 1},
     [](double x, double y) {
       return std::array{-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)};
     },
     1e-3,
     40000},
};

}  // namespace

TEST_CASE("optimizers: each finds the known optimum of each problem") {
  using Make = std::function<std::unique_ptr<Optimizer<double>>(Point&, double)>;
  const auto sgd = [](SgdOptions options) -> Make {
    return [options](Point& point, double rate) mutable {
      options.learning_rate = rate * (1.0 - options.momentum) / (1.0 - options.dampening);
      return std::make_unique<Sgd<double>>(point, options);
    };
  };
  const std::vector<std::pair<const char*, Make>> optimizers = {
      {"Sgd", sgd({})},
      {"momentum", sgd({.momentum = 0.9})},
      {"dampening", sgd({.momentum = 0.5, .dampening = 0.5})},
      {"Nesterov", sgd({.momentum = 0.9, .nesterov = true})},
      {"AdamW",
       [](Point& point, double) {
         return std::make_unique<AdamW<double>>(point, AdamWOptions{.learning_rate = 0.05, .weight_decay = 0.0});
       }},
  };
  for (const Problem& problem : problems) {
    for (const auto& named : optimizers) {
      CAPTURE(problem.name);
      CAPTURE(named.first);
      ms::Context ctx;
      Point point(ctx);
      point.x.value = ms::from_host<double>(ctx, {2}, {problem.start[0], problem.start[1]});
      const auto optimizer = named.second(point, problem.rate);
      // The rate falls to 0, which stills AdamW's oscillation; the first half at the full rate does the way.
      const double rate = optimizer->learning_rate();
      const ms::optim::Schedule schedule(
          {.peak = rate, .decay = ms::optim::Decay::cosine, .warmup_steps = 0, .total_steps = problem.steps});
      for (int t = 0; t < problem.steps; ++t) {
        const auto x = ms::to_host(ctx, point.x.value);
        const auto g = problem.gradient(x[0], x[1]);
        point.x.gradient = ms::from_host<double>(ctx, {2}, {g[0], g[1]});
        optimizer->set_learning_rate(schedule.at(t));
        optimizer->step(ctx);
      }
      // The flattest direction has curvature 0.04 (Matyas) or 0.4 (Rosenbrock): the error shrinks at least by
      // exp(-curvature · Σ rates), e^-40 and e^-8.
      const auto x = ms::to_host(ctx, point.x.value);
      CHECK(std::abs(x[0] - problem.optimum[0]) < 2e-3);
      CHECK(std::abs(x[1] - problem.optimum[1]) < 4e-3);
    }
  }
}

TEST_CASE("optimizers: linear regression reaches the weights that made the data") {
  ms::Context ctx({.seed = 7});
  const std::int64_t n = 64, in = 3, out = 2;
  const auto x = support::normal_values<double>(n * in, 1);
  const std::vector<double> w{1, -2, 3, 0.5, 0.25, -1}, b{0.75, -0.5};
  std::vector<double> y;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t o = 0; o < out; ++o) {
      double sum = b[static_cast<std::size_t>(o)];
      for (std::int64_t k = 0; k < in; ++k) {
        sum += w[static_cast<std::size_t>(o * in + k)] * x[static_cast<std::size_t>(i * in + k)];
      }
      y.push_back(sum);
    }
  }
  const auto inputs = ms::from_host<double>(ctx, {n, in}, x), targets = ms::from_host<double>(ctx, {n, out}, y);
  const auto train = [&](auto&& make_optimizer, int count) {
    ms::nn::Linear<double> linear(ctx, in, out);
    auto optimizer = make_optimizer(linear);
    const double rate = optimizer->learning_rate();
    const ms::optim::Schedule schedule(
        {.peak = rate, .decay = ms::optim::Decay::cosine, .warmup_steps = 0, .total_steps = count});
    for (int t = 0; t < count; ++t) {
      const auto trace = linear.forward(ctx, inputs, {});
      auto loss = ms::nn::SquaredError{}(ctx, trace.output, targets);
      (void)linear.backward(ctx, inputs, trace, std::move(loss.gradient), {});
      optimizer->set_learning_rate(schedule.at(t));
      optimizer->step(ctx);
    }
    // The Hessian 2 [x 1]ᵀ[x 1] / n has eigenvalues near 2, all above 1 here: exp(-Σ rates) is below 1e-10.
    support::check_close(ms::to_host(ctx, linear.weight().value), w, 1e-6, "weight");
    support::check_close(ms::to_host(ctx, linear.bias().value), b, 1e-6, "bias");
  };
  train([](auto& net) { return std::make_unique<Sgd<double>>(net, SgdOptions{.learning_rate = 0.2}); }, 400);
  train(
      [](auto& net) {
        return std::make_unique<Sgd<double>>(net, SgdOptions{.learning_rate = 0.02, .momentum = 0.9, .nesterov = true});
      },
      600);
  train(
      [](auto& net) {
        return std::make_unique<AdamW<double>>(net, AdamWOptions{.learning_rate = 0.05, .weight_decay = 0.0});
      },
      1500);
}

TEST_CASE("optimizers: Sgd with weight decay reaches the ridge solution") {
  ms::Context ctx;
  ms::nn::Linear<double> linear(ctx, 1, 1, {.bias = false});
  const std::vector<double> x{1, 2, -1, 3}, y{2, 3, 0, 5};
  double xx = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += x[i] * x[i] / 4;
    xy += x[i] * y[i] / 4;
  }
  const double decay = 0.5;
  Sgd sgd(linear, {.learning_rate = 0.05, .momentum = 0.5, .weight_decay = decay});
  const auto inputs = ms::from_host<double>(ctx, {4, 1}, x), targets = ms::from_host<double>(ctx, {4, 1}, y);
  for (int t = 0; t < 300; ++t) {
    const auto trace = linear.forward(ctx, inputs, {});
    auto loss = ms::nn::SquaredError{}(ctx, trace.output, targets);
    (void)linear.backward(ctx, inputs, trace, std::move(loss.gradient), {});
    sgd.step(ctx);
  }
  // 2 (w xx - xy) + decay w = 0; the fixed point holds to rounding.
  support::check_close(ms::to_host(ctx, linear.weight().value), {2 * xy / (2 * xx + decay)}, 1e-13);
}

namespace {

/// Two parameters, visited in either order.
struct Pair final : ms::nn::Layer<double> {
  ms::nn::Parameter<double> first, second;
  bool reversed = false;
  explicit Pair(ms::Context& ctx) : first(ctx, "first", {3}, true), second(ctx, "second", {3}, true) {}
  std::string_view kind() const override { return "Pair"; }
  ms::Shape output_shape(const ms::Shape& input) const override { return input; }
  ms::nn::Trace<double> do_forward(ms::Context&, ms::View<const double>, const ms::nn::Pass<double>&) override {
    return {};
  }
  ms::Tensor<double> do_backward(ms::Context&, ms::View<const double>, const ms::nn::Trace<double>&, ms::Tensor<double>,
                                 const ms::nn::Pass<double>&) override {
    return {};
  }
  void describe(ms::nn::Description<double>& description) override {
    description.parameter(reversed ? second : first);
    description.parameter(reversed ? first : second);
  }
};

}  // namespace

TEST_CASE("optimizers: state follows the parameter's id, not its place in the network or in memory") {
  const auto run = [](bool shuffle, auto&& make_optimizer) {
    ms::Context ctx;
    Pair pair(ctx);
    pair.first.value = ms::from_host<double>(ctx, {3}, {1, 2, 3});
    pair.second.value = ms::from_host<double>(ctx, {3}, {4, 5, 6});
    auto optimizer = make_optimizer(pair);
    for (int t = 0; t < 6; ++t) {
      pair.reversed = shuffle && t % 2 == 1;
      pair.first.gradient = ms::from_host<double>(ctx, {3}, support::normal_values<double>(3, 10 + t));
      pair.second.gradient = ms::from_host<double>(ctx, {3}, support::normal_values<double>(3, 20 + t));
      if (shuffle) pair.first.value = ms::clone(ctx, pair.first.value);
      optimizer->step(ctx);
    }
    auto numbers = ms::to_host(ctx, pair.first.value);
    for (const double value : ms::to_host(ctx, pair.second.value)) numbers.push_back(value);
    for (const auto id : {pair.first.id, pair.second.id}) {
      for (const auto& moment : optimizer->state(id)) {
        CHECK(moment.shape() == ms::Shape{3});
        for (const double value : ms::to_host(ctx, moment)) numbers.push_back(value);
      }
    }
    return numbers;
  };
  const auto sgd = [](auto& net) {
    return std::make_unique<Sgd<double>>(net, SgdOptions{.learning_rate = 0.1, .momentum = 0.9});
  };
  const auto adamw = [](auto& net) { return std::make_unique<AdamW<double>>(net, AdamWOptions{}); };
  const auto numbers = run(false, sgd);
  CHECK(numbers.size() == 12);
  support::check_same_bits(run(true, sgd), numbers);
  CHECK(run(false, adamw).size() == 18);
  support::check_same_bits(run(true, adamw), run(false, adamw));
}

TEST_CASE("optimizers: no state before the first step, none at all without momentum or elements") {
  ms::Context ctx;
  ms::nn::Sequential<float> net;
  auto& a = net.add<ms::nn::Linear<float>>("a", ctx, 3, 0);
  auto& b = net.add<ms::nn::Linear<float>>("b", ctx, 0, 2);
  Sgd sgd(net, {.momentum = 0.9});
  CHECK(sgd.state(b.bias().id).empty());
  sgd.step(ctx);
  CHECK(sgd.state(a.weight().id).empty());
  CHECK(sgd.state(b.weight().id).empty());
  REQUIRE(sgd.state(b.bias().id).size() == 1);
  CHECK(sgd.state(b.bias().id)[0].shape() == ms::Shape{2});
  Sgd plain(net, {});
  plain.step(ctx);
  CHECK(plain.state(b.bias().id).empty());
  AdamW adamw(net, {});
  adamw.step(ctx);
  CHECK(adamw.state(b.bias().id).size() == 2);
}

TEST_CASE("optimizers: weights whose gradient stays 0 stay what they are") {
  ms::Context ctx;
  ms::nn::Linear<float> linear(ctx, 3, 4);
  const auto before = ms::to_host(ctx, linear.weight().value);
  AdamW adamw(linear, {.epsilon = 1e-30, .weight_decay = 0.0});
  Sgd sgd(linear, {.momentum = 0.9, .nesterov = true});
  for (int t = 0; t < 3; ++t) {
    adamw.step(ctx);
    sgd.step(ctx);
  }
  support::check_same_bits(ms::to_host(ctx, linear.weight().value), before);
}

TEST_CASE("optimizers: moments that were put back by hand go on at their age") {
  ms::Context ctx;
  ms::nn::Linear<double> linear(ctx, 1, 1, {.bias = false}), same(ctx, 1, 1, {.bias = false});
  same.weight().value = ms::clone(ctx, linear.weight().value);
  for (auto* layer : {&linear, &same}) layer->weight().gradient = ms::from_host<double>(ctx, {1, 1}, {0.3});
  AdamW adamw(linear, {}), resumed(same, {});
  for (int t = 0; t < 5; ++t) adamw.step(ctx);
  same.weight().value = ms::clone(ctx, linear.weight().value);
  for (const auto& moment : adamw.state(linear.weight().id)) {
    resumed.state(same.weight().id).push_back(ms::clone(ctx, moment));
  }
  resumed.set_steps(adamw.steps());
  adamw.step(ctx);
  resumed.step(ctx);
  support::check_same_bits(ms::to_host(ctx, same.weight().value), ms::to_host(ctx, linear.weight().value));
}

TEST_CASE("optimizers: a parameter that joins later counts its own steps") {
  // As PyTorch counts, by parameter.
  ms::Context ctx;
  ms::nn::Sequential<double> net;
  const auto add = [&](const char* name) {
    auto& layer = net.add<ms::nn::Linear<double>>(name, ctx, 1, 1, ms::nn::LinearOptions{.bias = false});
    layer.weight().value = ms::from_host<double>(ctx, {1, 1}, {1.0});
    layer.weight().gradient = ms::from_host<double>(ctx, {1, 1}, {0.3});
    return &layer;
  };
  add("a");
  AdamW adamw(net, {.learning_rate = 1e-3, .weight_decay = 0.0});
  for (int t = 0; t < 100; ++t) adamw.step(ctx);
  auto* const late = add("b");
  adamw.step(ctx);
  CHECK(1.0 - ms::to_host(ctx, late->weight().value)[0] == doctest::Approx(1e-3).epsilon(1e-6));
}

TEST_CASE("optimizers: the learning rate can change between steps") {
  ms::Context ctx;
  ms::nn::Linear<double> linear(ctx, 1, 1, {.bias = false});
  linear.weight().value = ms::from_host<double>(ctx, {1, 1}, {1.0});
  linear.weight().gradient = ms::from_host<double>(ctx, {1, 1}, {1.0});
  Sgd sgd(linear, {.learning_rate = 0.5});
  CHECK(sgd.learning_rate() == 0.5);
  CHECK(&sgd.network() == &linear);
  sgd.step(ctx);
  CHECK(ms::to_host(ctx, linear.weight().value)[0] == 0.5);
  sgd.set_learning_rate(0.25);
  CHECK(sgd.learning_rate() == 0.25);
  sgd.step(ctx);
  CHECK(ms::to_host(ctx, linear.weight().value)[0] == 0.25);
  sgd.set_learning_rate(0.0);
  sgd.step(ctx);
  CHECK(ms::to_host(ctx, linear.weight().value)[0] == 0.25);
}

TEST_CASE("optimizers: the element type is deduced from the network") {
  ms::Context ctx;
  auto net = ms::models::mlp<float>(ctx, {.inputs = 2, .hidden = {}, .classes = 2});
  ms::optim::Sgd sgd(net, {.learning_rate = 0.1});
  ms::optim::AdamW adamw(net, {.beta1 = 0.5});
  static_assert(std::is_same_v<decltype(sgd), Sgd<float>>);
  static_assert(std::is_same_v<decltype(adamw), AdamW<float>>);
  ms::nn::Linear<double> linear(ctx, 1, 1);
  ms::nn::Layer<double>& layer = linear;
  ms::optim::Sgd of_layer(layer, {});
  ms::optim::AdamW of_linear(linear, {});
  static_assert(std::is_same_v<decltype(of_layer), Sgd<double>>);
  static_assert(std::is_same_v<decltype(of_linear), AdamW<double>>);
  CHECK(of_layer.steps() == 0);
}

TEST_CASE("optimizers: bad options of Sgd are told with their range") {
  ms::Context ctx;
  ms::nn::Linear<float> linear(ctx, 1, 1);
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const auto refused = [&](const SgdOptions& options) {
    return message_of<ms::ArgumentError>([&] { Sgd<float>(linear, options); });
  };
  CHECK(refused({.learning_rate = -1}) == "Sgd: learning_rate is -1; it must be 0 or more, and finite");
  CHECK(contains(refused({.learning_rate = nan}), "learning_rate is nan"));
  CHECK(contains(refused({.learning_rate = infinity}), "learning_rate is inf"));
  CHECK(refused({.momentum = 1.5}) == "Sgd: momentum is 1.5; it must lie in [0, 1]");
  CHECK(contains(refused({.momentum = -0.1}), "momentum is -0.1"));
  CHECK(contains(refused({.momentum = nan}), "momentum is nan"));
  CHECK(refused({.dampening = 2}) == "Sgd: dampening is 2; it must lie in [0, 1]");
  CHECK(contains(refused({.dampening = -1}), "dampening is -1"));
  CHECK(refused({.weight_decay = -1e-4}) == "Sgd: weight_decay is -0.0001; it must be 0 or more, and finite");
  CHECK(contains(refused({.nesterov = true}), "nesterov needs a momentum above 0 and a dampening of 0"));
  CHECK(contains(refused({.momentum = 0.9, .dampening = 0.1, .nesterov = true}), "nesterov needs"));
  CHECK_NOTHROW(Sgd<float>(linear, {.learning_rate = 0, .momentum = 1, .dampening = 1}));

  Sgd sgd(linear, {.learning_rate = 0.5});
  CHECK(message_of<ms::ArgumentError>([&] { sgd.set_learning_rate(-2); }) ==
        "optimizer: learning_rate is -2; it must be 0 or more, and finite");
  CHECK(contains(message_of<ms::ArgumentError>([&] { sgd.set_learning_rate(nan); }), "is nan"));
  CHECK(sgd.learning_rate() == 0.5);
}

TEST_CASE("optimizers: bad options of AdamW are told with their range") {
  ms::Context ctx;
  ms::nn::Linear<float> linear(ctx, 1, 1);
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [&](const AdamWOptions& options) {
    return message_of<ms::ArgumentError>([&] { AdamW<float>(linear, options); });
  };
  CHECK(refused({.learning_rate = -1}) == "AdamW: learning_rate is -1; it must be 0 or more, and finite");
  CHECK(refused({.beta1 = 1}) == "AdamW: beta1 is 1; it must lie in [0, 1)");
  CHECK(contains(refused({.beta1 = -0.5}), "beta1 is -0.5"));
  CHECK(refused({.beta2 = 1}) == "AdamW: beta2 is 1; it must lie in [0, 1)");
  CHECK(contains(refused({.beta2 = nan}), "beta2 is nan"));
  CHECK(refused({.epsilon = 0}) == "AdamW: epsilon is 0; it must lie in [1e-30, 1]");
  CHECK(contains(refused({.epsilon = -1e-8}), "epsilon is -1e-08"));
  CHECK(contains(refused({.epsilon = 2}), "epsilon is 2"));
  CHECK(refused({.weight_decay = -1}) == "AdamW: weight_decay is -1; it must be 0 or more, and finite");
  CHECK_NOTHROW(AdamW<float>(linear, {.learning_rate = 0, .beta1 = 0, .beta2 = 0, .epsilon = 1, .weight_decay = 0}));
}

TEST_SUITE_END();

}  // namespace optim_optimizers_test
