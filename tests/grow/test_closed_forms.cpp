// Twelve set-ups whose statistics, moves and units have exact values, through what the library offers to its users.
// Numbers are of size 1 to 1e3 and sums have up to 1e3 terms, matrices that are solved with have a condition below 1e2:
// rounding in double precision stays below 1e3 · 1e2 · 2^-53 ≈ 1e-11 of the largest number.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/data/sample_set.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/grow/measure/site_statistics.hpp>
#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/grow/solve/solve.hpp>
#include <meristem/grow/statistics/patch_statistics.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/optim/sgd.hpp>
#include <support/growth_problem.hpp>
#include <support/method_problem.hpp>
#include <support/units_on_host.hpp>

namespace grow_closed_forms_test {

namespace {

namespace ms = meristem;
using namespace support;
using ms::grow::FanOut;
using ms::grow::SiteMoments;
using ms::nn::Conv2d;
using ms::nn::Linear;
using Net = ms::nn::Sequential<double>;
using V = ms::View<const double>;

constexpr double tolerance = 1e-11;

/// ½ Σ (output - target)², as no residual is larger.
const ms::nn::Objective half_squares = ms::nn::Huber{.delta = 1e9};

Dense identity(std::int64_t n) {
  Dense result(n, n);
  for (std::int64_t i = 0; i < n; ++i) result(i, i) = 1.0;
  return result;
}

void set_weight(ms::Context& ctx, Net& net, const std::string& name, const std::vector<double>& numbers) {
  net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
    if (parameter.name != name + ".weight") return;
    REQUIRE(static_cast<std::int64_t>(numbers.size()) == parameter.value.size());
    parameter.value = ms::from_host<double>(ctx, parameter.value.shape(), numbers);
  });
}

std::vector<double> weight_of(ms::Context& ctx, Net& net, const std::string& name) {
  std::vector<double> result;
  net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
    if (parameter.name == name + ".weight") result = ms::to_host(ctx, parameter.value);
  });
  return result;
}

std::vector<double> zeros(std::int64_t count) { return std::vector<double>(static_cast<std::size_t>(count), 0.0); }

/// Layers without biases.
Linear<double>& add_linear(ms::Context& ctx, Net& net, const std::string& name, std::int64_t in, std::int64_t out) {
  return net.add<Linear<double>>(name, ctx, in, out, ms::nn::LinearOptions{.bias = false});
}
Conv2d<double>& add_conv(ms::Context& ctx, Net& net, const std::string& name, std::int64_t in, std::int64_t out,
                         const ms::Window& window) {
  return net.add<Conv2d<double>>(
      name, ctx, in, out, ms::nn::Conv2dOptions{.kernel = window.kernel, .padding = window.padding, .bias = false});
}

/// As many samples as one has numbers, a single number of each is 1.
ms::Tensor<double> indicators(ms::Context& ctx, const ms::Shape& one) {
  ms::Shape shape{one.size()};
  for (int axis = 0; axis < one.rank(); ++axis) shape.append(one[axis]);
  return ms::from_host<double>(ctx, shape, identity(one.size()).values);
}

/// All moments of a site, from one batch that is shown so many times.
SiteMoments measured(ms::Context& ctx, Net& net, const ms::grow::Site<double>& site, V inputs, V targets,
                     const ms::nn::Objective& loss, FanOut fan_out = FanOut::full, int times = 1) {
  const ms::grow::Needs needs{.inputs = true, .consumer = true, .goal = true, .residual = true, .fisher = true};
  std::optional<ms::grow::SiteStatistics<double>> statistics;
  do {
    for (int time = 0; time < times; ++time) {
      ms::grow::visit_sites<double>(
          ctx, net, {site}, {.inputs = inputs, .targets = targets}, loss,
          [&](ms::Context&, std::size_t, V unit, V consumer, V goal) {
            if (!statistics)
              statistics.emplace(ctx, site.shape(unit.shape()), needs,
                                 ms::grow::SiteStatistics<double>::Options{.fan_out = fan_out, .damping = 0.0});
            statistics->update(ctx, unit, consumer, goal);
          });
    }
    statistics->finish_pass(ctx);
  } while (statistics->wants_pass());
  SiteMoments result = statistics->moments(ctx);
  result.damping = 0.0;
  result.significance = 0.0;
  result.max_units = ms::grow::unlimited;
  return result;
}

/// The units of a choice, as an insertion for the site.
ms::grow::Insertion units_for(const SiteMoments& site, ms::grow::Choice choice) {
  choice.insertion.inputs = site.inputs;
  choice.insertion.outputs = site.outputs;
  choice.insertion.consumer_inputs = site.consumer_inputs;
  choice.insertion.taps = site.taps;
  return std::move(choice.insertion);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("closed form 1: sums of squares of two ramps, before and behind a layer", T, float, double) {
  // x1[i, j] = i and x2[i, j] = i + j; behind W with rows j e_j and a row of ones, y1 = i a and y2 = i a + b. All sums
  // are whole numbers that a float holds, but for the division by n.
  constexpr std::int64_t n = 11, c = 5;
  constexpr double sum_i = n * (n - 1) / 2, sum_i2 = (n - 1) * n * (2 * n - 1) / 6;
  const std::vector<double> ones(c, 1.0), j{0, 1, 2, 3, 4}, a{0, 1, 2, 3, 4, c}, b{0, 1, 4, 9, 16, c * (c - 1) / 2};
  ms::Context ctx;
  std::vector<T> first, second, rows(static_cast<std::size_t>((c + 1) * c), T(0));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < c; ++k) {
      first.push_back(static_cast<T>(i));
      second.push_back(static_cast<T>(i + k));
    }
  }
  for (std::int64_t k = 0; k < c; ++k) {
    rows[static_cast<std::size_t>(k * c + k)] = static_cast<T>(k);
    rows[static_cast<std::size_t>(c * c + k)] = T(1);
  }
  Linear<T> layer(ctx, c, c + 1, ms::nn::LinearOptions{.bias = false});
  layer.weight().value = ms::from_host<T>(ctx, {c + 1, c}, rows);

  ms::grow::Covariance<T> inputs(ctx, c, false), outputs(ctx, c + 1, false);
  // Σ over both of (slope i + offset)(slope i + offset)ᵀ, of which the first has no offset.
  const auto check = [&](ms::grow::Covariance<T>& covariance, const std::vector<double>& slope,
                         const std::vector<double>& offset, double ramps) {
    std::vector<double> expected;
    for (std::size_t p = 0; p < slope.size(); ++p) {
      for (std::size_t q = 0; q < slope.size(); ++q) {
        const double squares = ramps * sum_i2 * slope[p] * slope[q];
        const double mixed = sum_i * (slope[p] * offset[q] + offset[p] * slope[q]) + n * offset[p] * offset[q];
        expected.push_back((squares + (ramps - 1) * mixed) / (ramps * n));
      }
    }
    check_close(ms::to_host(ctx, covariance.mean(ctx)), expected,
                1e-13 * *std::max_element(expected.begin(), expected.end()));
  };
  double ramps = 0;
  for (const auto* x : {&first, &second}) {
    const auto batch = ms::from_host<T>(ctx, {n, c}, *x);
    inputs.update(ctx, batch, n);
    outputs.update(ctx, layer.forward(ctx, batch, {}).output, n);
    ++ramps;
    check(inputs, ones, j, ramps);
    check(outputs, a, b, ramps);
  }
}

TEST_CASE("closed form 2: learning the identity from a layer of zeros") {
  // y = W h with W = 0, of h = α I, a row for each sample; loss ‖y - h‖² summed.
  constexpr std::int64_t c = 5;
  for (const double alpha : {0.1, 1.0, 10.0}) {
    ms::Context ctx;
    Net net;
    add_linear(ctx, net, "first", c, c);
    add_linear(ctx, net, "second", c, c);
    set_weight(ctx, net, "first", identity(c).values);
    set_weight(ctx, net, "second", zeros(c * c));
    const auto x = to_tensor<double>(ctx, alpha * identity(c));
    const auto site = ms::grow::find_site<double>(net, "first");
    const SiteMoments found = measured(ctx, net, site, x, x, ms::nn::SquaredError{});
    const double square = alpha * alpha / c;
    check_dense(to_dense(ctx, found.moments.s1), square * identity(c), tolerance * square, "S1 = α² I / c");
    check_dense(to_dense(ctx, found.moments.m1), 2 * square * identity(c), tolerance * square, "M1 = 2 α² I / c");
    check_dense(to_dense(ctx, found.move.weights), 2 * identity(c), tolerance, "δW* = 2 I");
    CHECK(found.move.decrease == doctest::Approx(4 * alpha * alpha).epsilon(tolerance));
    CHECK(found.moments.goal_norm2 == doctest::Approx(4 * alpha * alpha).epsilon(tolerance));
    CHECK(found.bottleneck < tolerance * alpha * alpha);
  }
}

TEST_CASE("closed form 3: two outputs that are the same") {
  // y = W h with W = (1, 1)ᵀ, h = ±1 and the loss ½ ‖y‖²: V_goal = -y.
  ms::Context ctx;
  Net net;
  add_linear(ctx, net, "first", 1, 1);
  add_linear(ctx, net, "second", 1, 2);
  set_weight(ctx, net, "first", {1.0});
  set_weight(ctx, net, "second", {1.0, 1.0});
  const auto x = ms::from_host<double>(ctx, {2, 1}, {1.0, -1.0}), nothing = ms::zeros<double>(ctx, {2, 2});
  SiteMoments found = measured(ctx, net, ms::grow::find_site<double>(net, "first"), x, nothing, half_squares);
  check_close(ms::to_host(ctx, found.moments.s1), {1.0}, tolerance, "S1");
  check_close(ms::to_host(ctx, found.moments.m1), {-1.0, -1.0}, tolerance, "M1 = -Wᵀ");
  check_close(ms::to_host(ctx, found.moments.fisher), {1.0, 1.0, 1.0, 1.0}, tolerance, "E = W Wᵀ, of eigenvalues 2, 0");
  check_close(ms::to_host(ctx, found.move.weights), {-1.0, -1.0}, tolerance, "δW* = -W");
  found.moments.cross = ms::from_host<double>(ctx, {1, 1}, {1.0});  // P, as the inputs of both layers are the same
  for (const bool fisher : {false, true}) {
    const auto solution = ms::grow::solve(ctx, found.moments, {.route = ms::grow::Route::eigen, .fisher = fisher});
    const double move = fisher ? -0.5 : -1.0;
    check_close(ms::to_host(ctx, solution.best_move), {move, move}, tolerance, "E⁺ δW* = -W / 2 in the metric of E");
    CHECK(solution.units == 0);
  }
}

TEST_CASE("closed form 4: units of a diagonal") {
  // X = diag(1..5) and V_goal = 4 I with S = XᵀX, N = XᵀV: X Σ α ωᵀ = V. With S = I and two units, the largest entries
  // of N alone: rows 4 and 5 of X Σ α ωᵀ are those of V X².
  constexpr std::int64_t c = 5;
  ms::Context ctx;
  Dense x(c, c);
  for (std::int64_t i = 0; i < c; ++i) x(i, i) = static_cast<double>(i + 1);
  const Dense v = 4 * identity(c);
  const auto s = to_tensor<double>(ctx, transposed(x) * x), n = to_tensor<double>(ctx, transposed(x) * v);
  const auto all = ms::grow::new_units<double>(ctx, s.view(), n.view());
  CHECK(all.units == c);
  check_dense(x * product_of_units(ctx, all), v, tolerance, "all units");
  const auto plain = to_tensor<double>(ctx, identity(c));
  const auto two = ms::grow::new_units<double>(ctx, plain.view(), n.view(), {.max_units = 2});
  Dense expected(c, c);
  for (std::int64_t i = 3; i < c; ++i) expected(i, i) = 4 * x(i, i) * x(i, i);
  check_dense(x * product_of_units(ctx, two), expected, 100 * tolerance, "two units of N itself");
}

TEST_CASE("closed form 5: nothing is left of what today's weights can do") {
  // Samples with a single 1, loss ½ ‖y‖², two layers without biases: V_goal = -W h, so that δW* = -W leaves nothing.
  const ms::Window three{.kernel = 3, .padding = 1};
  for (const char* kind : {"linear", "convolutions", "convolutions, centre tap"}) {
    INFO(kind);
    const bool maps = std::string(kind) != "linear";
    const FanOut fan_out = std::string(kind) == "convolutions" ? FanOut::full : FanOut::centre;
    ms::Context ctx({.seed = 3});
    Net net;
    ms::Shape one{6};
    if (maps) {
      one = {4, 3, 2};
      add_conv(ctx, net, "first", 2, 2, three);
      add_conv(ctx, net, "second", 2, 3, three);
    } else {
      add_linear(ctx, net, "first", 6, 4);
      add_linear(ctx, net, "second", 4, 3);
    }
    const auto x = indicators(ctx, one);
    const auto nothing = ms::zeros<double>(ctx, net.output_shape(x.shape()));
    const auto site = ms::grow::find_site<double>(net, "first");
    const SiteMoments found = measured(ctx, net, site, x, nothing, half_squares, fan_out);
    const auto weight = weight_of(ctx, net, "second");
    std::vector<double> opposite;
    for (const double w : weight) opposite.push_back(-w);
    check_close(ms::to_host(ctx, found.move.weights), opposite, tolerance, "δW* = -W");
    const Dense n = to_dense(ctx, found.n);
    check_dense(n, Dense(n.rows, n.columns), tolerance, "N = 0");
    const auto none = ms::grow::new_units<double>(ctx, found.moments.s.view(), found.n.view());
    for (const double lambda : none.lambda) CHECK(lambda < tolerance);
    CHECK(found.bottleneck < tolerance);
  }
}

TEST_CASE("closed form 6: growth alone learns the identity") {
  // Both layers zero, loss ½ ‖y - x‖²: N = S, so that five units at γ = 1 make Σ α ωᵀ = I.
  constexpr std::int64_t c = 5, n = 40;
  ms::Context ctx({.seed = 5});
  Net net;
  add_linear(ctx, net, "first", c, 2);
  add_linear(ctx, net, "second", 2, c);
  set_weight(ctx, net, "first", zeros(2 * c));
  set_weight(ctx, net, "second", zeros(2 * c));
  ms::data::SampleSet<double> set{.inputs = normal_values<double>(n * c, 6), .input = {c}, .target = {c}};
  set.targets = set.inputs;
  ms::optim::Sgd<double> sgd(net, {.learning_rate = 0.1});
  ms::grow::Grower<double> grower(net, sgd,
                                  {.how_many = {.at_most = c, .significance = 0.0},
                                   .move_weights = false,
                                   .damping = 0.0,
                                   .amplitude = {.fixed = 1.0},
                                   .loss = half_squares});
  CHECK(grower.grow(ctx, set).added() == c);
  const auto x = ms::from_host<double>(ctx, {n, c}, set.inputs);
  check_close(ms::to_host(ctx, net.forward(ctx, x, {}).output), set.inputs, tolerance);
}

TEST_CASE("closed form 7: the best move of a convolution leads to zero") {
  // A convolution 3x5 of 2 channels to 7 on maps with a single 1, loss ‖y‖ over the whole batch: V_goal = -y / ‖y‖.
  const ms::Window window{.kernel = {3, 5}, .padding = {1, 2}};
  ms::Context ctx({.seed = 7});
  Conv2d<double> layer(ctx, 2, 7, {.kernel = window.kernel, .padding = window.padding, .bias = false});
  const auto x = indicators(ctx, {3, 5, 2});
  const auto y = ms::to_host(ctx, layer.forward(ctx, x, {}).output);
  const std::int64_t n = x.extent(0);
  double norm = 0.0;
  for (const double value : y) norm += value * value;
  norm = std::sqrt(norm);
  std::vector<double> goal;
  for (const double value : y) goal.push_back(-value / norm);
  const auto v = ms::from_host<double>(ctx, {n, 3, 5, 7}, goal);

  ms::grow::PatchCovariance<double> s1(ctx, 2, window, {3, 5}, false);
  ms::grow::PatchCrossCovariance<double> m1(ctx, 2, window, {3, 5}, false, 7, {}, FanOut::centre);
  s1.update(ctx, x);
  m1.update(ctx, x, v);
  const auto m = m1.mean(ctx);
  const auto move = ms::grow::best_move<double>(ctx, s1.mean(ctx), m.view());
  const auto weight = ms::to_host(ctx, layer.weight().value), found = ms::to_host(ctx, move.weights);
  std::vector<double> opposite, moved;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    opposite.push_back(-weight[i] / norm);
    moved.push_back(weight[i] + norm * found[i]);
  }
  check_close(found, opposite, tolerance, "δW* = -W / ‖y‖");
  layer.weight().value = ms::from_host<double>(ctx, layer.weight().value.shape(), moved);
  check_close(ms::to_host(ctx, layer.forward(ctx, x, {}).output), zeros(std::ssize(y)), tolerance * norm, "y after it");
}

TEST_CASE("closed form 8: layers of zeros leave all of M to the units") {
  const ms::Window three{.kernel = 3, .padding = 1};
  ms::Context ctx;
  Net net;
  add_conv(ctx, net, "first", 2, 2, three);
  add_conv(ctx, net, "second", 2, 3, three);
  set_weight(ctx, net, "first", zeros(36));
  set_weight(ctx, net, "second", zeros(54));
  const auto x = indicators(ctx, {4, 3, 2});
  const auto target = ms::from_host<double>(ctx, {24, 4, 3, 3}, normal_values<double>(24 * 36, 8));
  const auto site = ms::grow::find_site<double>(net, "first");
  const SiteMoments found = measured(ctx, net, site, x, target, half_squares);
  const Dense move = to_dense(ctx, found.move.weights);
  check_dense(move, Dense(move.rows, move.columns), 0.0, "no move, as the hidden layer is zero");
  check_dense(to_dense(ctx, found.n), to_dense(ctx, found.moments.m), tolerance, "N = M");
  const auto loss = [&] {
    return half_squares.operator()<double>(ctx, net.forward(ctx, x, {}).output, {.inputs = x, .targets = target}, false)
        .mean;
  };
  const double before = loss();
  const auto insertion = units_for(found, ms::grow::tiny()->choose(ctx, found));
  CHECK(insertion.units == 18);  // numbers of a patch
  ms::grow::apply<double>(ctx, ms::grow::make_edit(ctx, site, insertion, 1e-2), net);
  CHECK(loss() < before);
}

TEST_CASE("closed form 9: how everything scales with the weights around") {
  // Four layers without activations; W1 times c and W4 over c leave the network as it is. Of the second one's outputs:
  // inputs grow by c, desired updates by 1 / c.
  constexpr double c = 2.0;
  const ms::Window three{.kernel = 3, .padding = 1};
  for (const bool maps : {false, true}) {
    INFO((maps ? "convolutions, centre tap" : "linear"));
    ms::Context ctx({.seed = 9});
    Net net;
    const std::string names[] = {"1", "2", "3", "4"};
    const std::int64_t widths[] = {3, 4, 3, 4, 2};
    for (std::size_t k = 0; k < 4; ++k) {
      if (maps) {
        add_conv(ctx, net, names[k], widths[k], widths[k + 1], three);
      } else {
        add_linear(ctx, net, names[k], widths[k], widths[k + 1]);
      }
    }
    const ms::Shape shape = maps ? ms::Shape{30, 5, 4, 3} : ms::Shape{30, 3};
    const auto x = ms::from_host<double>(ctx, shape, normal_values<double>(shape.size(), 1));
    const ms::Shape out = net.output_shape(shape);
    const auto target = ms::from_host<double>(ctx, out, normal_values<double>(out.size(), 2));
    const auto site = ms::grow::find_site<double>(net, "2");
    struct Found {
      SiteMoments moments;
      ms::grow::Choice tiny = {}, fisher = {};
      std::vector<double> lambda = {};  // of N itself
    };
    const auto find = [&] {
      Found result{.moments = measured(ctx, net, site, x, target, half_squares, FanOut::centre)};
      result.tiny = ms::grow::tiny()->choose(ctx, result.moments);
      result.fisher = ms::grow::tiny_fisher()->choose(ctx, result.moments);
      const auto plain = to_tensor<double>(ctx, identity(result.moments.inputs));
      result.lambda = ms::grow::new_units<double>(ctx, plain.view(), result.moments.n.view()).lambda;
      return result;
    };
    const Found before = find();
    for (const auto& [name, factor] : {std::pair{"1", c}, {"4", 1 / c}}) {
      std::vector<double> weight = weight_of(ctx, net, name);
      for (double& w : weight) w *= factor;
      set_weight(ctx, net, name, weight);
    }
    const Found after = find();
    const auto scaled = [&](const std::vector<double>& from, const std::vector<double>& to, double factor,
                            const char* what) {
      REQUIRE(!from.empty());
      std::vector<double> expected;
      for (const double value : from) expected.push_back(factor * value);
      check_close(to, expected, tolerance * scale_of(expected), what);
    };
    const auto tensor = [&](auto&& member, double factor, const char* what) {
      scaled(ms::to_host(ctx, member(before)), ms::to_host(ctx, member(after)), factor, what);
    };
    tensor(
        [](const Found& f) -> const auto& { return f.moments.moments.s; }, c* c, "S");
    tensor(
        [](const Found& f) -> const auto& { return f.moments.moments.s1; }, c* c, "S1");
    tensor(
        [](const Found& f) -> const auto& { return f.moments.moments.m; }, 1, "M");
    tensor(
        [](const Found& f) -> const auto& { return f.moments.moments.m1; }, 1, "M1");
    tensor(
        [](const Found& f) -> const auto& { return f.moments.moments.fisher; }, 1 / (c * c), "E");
    tensor(
        [](const Found& f) -> const auto& { return f.moments.move.weights; }, 1 / (c * c), "δW*");
    tensor(
        [](const Found& f) -> const auto& { return f.fisher.insertion.move; }, 1, "δW* in the metric of E");
    scaled(before.lambda, after.lambda, 1, "λ of N");
    scaled(before.tiny.lambda, after.tiny.lambda, 1 / c, "λ with S");
    scaled(before.fisher.lambda, after.fisher.lambda, 1, "λ with S and E");
  }
}

TEST_CASE("closed form 10: units at the centre tap are a product with bordered patches") {
  // A unit with fan-in α and fan-out ω at the centre of a second kernel k with padding: y = ω α · the patch at the
  // position that the centre reads, or 0 in the padding.
  const ms::Window first{.kernel = {3, 5}, .padding = {1, 2}};
  constexpr std::int64_t n = 3, height = 5, width = 7, in = 2, out = 2, p = 3 * 5 * in;
  const auto x = normal_values<double>(n * height * width * in, 10), alpha = normal_values<double>(p, 11),
             omega = normal_values<double>(out, 12);
  for (std::int64_t k = 1; k <= 3; ++k) {
    for (std::int64_t padding = 0; padding <= 2; ++padding) {
      INFO("kernel ", k, ", padding ", padding);
      const ms::Window second{.kernel = k, .padding = padding};
      const std::int64_t rows = height + 2 * padding - k + 1, columns = width + 2 * padding - k + 1;
      // Patch [ky][kx][channel] at the hidden position (y, x), zeros outside of the map.
      const auto patch = [&](std::int64_t sample, std::int64_t y, std::int64_t x0, std::int64_t i) {
        if (y < 0 || x0 < 0 || y >= height || x0 >= width) return 0.0;
        const std::int64_t r = y + i / in / 5 - 1, s = x0 + i / in % 5 - 2;
        if (r < 0 || s < 0 || r >= height || s >= width) return 0.0;
        return x[static_cast<std::size_t>(((sample * height + r) * width + s) * in + i % in)];
      };
      const auto v = normal_values<double>(n * rows * columns * out, 13);
      std::vector<double> y, cross(static_cast<std::size_t>(p * out), 0.0);
      for (std::int64_t at = 0; at < n * rows * columns; ++at) {
        const std::int64_t sample = at / rows / columns;
        const std::int64_t row = at / columns % rows - padding + k / 2, column = at % columns - padding + k / 2;
        double hidden = 0.0;
        for (std::int64_t i = 0; i < p; ++i) {
          const double value = patch(sample, row, column, i);
          hidden += alpha[static_cast<std::size_t>(i)] * value;
          for (std::int64_t o = 0; o < out; ++o) {
            cross[static_cast<std::size_t>(i * out + o)] += value * v[static_cast<std::size_t>(at * out + o)] / n;
          }
        }
        for (const double weight : omega) y.push_back(weight * hidden);
      }

      ms::Context ctx;
      Net net;
      add_conv(ctx, net, "first", in, 0, first);
      add_conv(ctx, net, "second", 0, out, second);
      const auto maps = ms::from_host<double>(ctx, {n, height, width, in}, x);
      const ms::grow::Insertion unit{.units = 1,
                                     .inputs = p,
                                     .outputs = out,
                                     .fan_in = ms::from_host<double>(ctx, {1, p}, alpha),
                                     .fan_out = ms::from_host<double>(ctx, {1, out}, omega)};
      ms::grow::apply<double>(ctx, ms::grow::make_edit(ctx, ms::grow::find_site<double>(net, "first"), unit, 1.0), net);
      check_close(ms::to_host(ctx, net.forward(ctx, maps, {}).output), y, tolerance * scale_of(y), "outputs");

      ms::grow::PatchCrossCovariance<double> m(ctx, in, first, {height, width}, false, out, second, FanOut::centre);
      m.update(ctx, maps, ms::from_host<double>(ctx, {n, rows, columns, out}, v));
      check_close(ms::to_host(ctx, m.mean(ctx)), cross, tolerance * scale_of(cross), "M");
    }
  }
}

TEST_CASE("closed form 11: pairs of units cancel, and variances carry over to the wider layer") {
  // Fan-ins (V, V) and fan-outs (Z, -Z) leave the function; so does rescaling today's fan-outs by s = √(width / new
  // width), if a homogeneous activation or a BatchNorm behind the consumer makes up for it: mean · s, variance · s².
  constexpr std::size_t added = 4;
  for (const MethodNet& kind : method_nets()) {
    for (const auto f : {ms::nn::Activation::relu, ms::nn::Activation::tanh}) {
      for (const auto scale : {ms::grow::UnitScale::copied, ms::grow::UnitScale::kaiming}) {
        INFO(kind.name, ", relu ", f == ms::nn::Activation::relu, ", copied ", scale == ms::grow::UnitScale::copied);
        MethodProblem problem(kind, f);
        ms::Context& ctx = problem.ctx;
        const bool bias = problem.site.producer.has_bias();
        const auto width = static_cast<std::size_t>(problem.site.width());
        const auto before = numbers_of_units<double>(ctx, problem.site);
        const std::size_t p = before.fan_in.size() / width, m = before.fan_out.size() / width;
        const std::vector<double> outputs[] = {problem.outputs(ms::nn::Mode::evaluation),
                                               problem.outputs(ms::nn::Mode::training)};
        const auto statistics = [&] {
          ms::nn::BatchNorm<double>* const norm = problem.site.consumer.norm();
          return norm ? std::pair{ms::to_host(ctx, norm->running_mean().value),
                                  ms::to_host(ctx, norm->running_variance().value)}
                      : std::pair<std::vector<double>, std::vector<double>>();
        };
        const auto [mean, variance] = statistics();

        const ms::data::SampleSet<double> set{
            .inputs = ms::to_host(ctx, problem.x), .input = {4, 3, 2}, .labels = ms::to_host(ctx, problem.labels)};
        ms::optim::Sgd<double> sgd(problem.net, {.learning_rate = 0.1});
        ms::grow::Grower<double> grower(problem.net, sgd,
                                        {.method = ms::grow::paired(scale),
                                         .sites = {problem.site.name},
                                         .how_many = ms::grow::HowMany::fixed(added + 1),
                                         .loss = problem.criterion});
        const auto report = grower.grow(ctx, set);
        REQUIRE(report.added() == added);
        CHECK(contains(report.sites.front().note, "asked for 5 units; pairs make 4"));
        CHECK(relative_distance(outputs[0], problem.outputs(ms::nn::Mode::evaluation)) < tolerance);
        CHECK(relative_distance(outputs[1], problem.outputs(ms::nn::Mode::training)) < tolerance);

        const auto after = numbers_of_units<double>(ctx, problem.site);
        const auto row = [](const std::vector<double>& rows, std::size_t k, std::size_t each, std::size_t count) {
          return Dense(1, static_cast<std::int64_t>(count),
                       std::vector<double>(rows.begin() + k * each, rows.begin() + k * each + count));
        };
        const auto norm = [&](const std::vector<double>& rows, std::size_t k, std::size_t each, std::size_t count) {
          return std::sqrt(dot(row(rows, k, each, count), row(rows, k, each, count)));
        };
        for (std::size_t k = width; k < width + added / 2; ++k) {
          CHECK(row(after.fan_in, k, p, p).values == row(after.fan_in, k + added / 2, p, p).values);
          CHECK(row(after.fan_out, k, m, m).values == (-1.0 * row(after.fan_out, k + added / 2, m, m)).values);
        }
        const double s = std::sqrt(static_cast<double>(width) / static_cast<double>(width + added));
        const bool rescaled = problem.site.consumer.norm() || f == ms::nn::Activation::relu;
        CHECK(contains(report.sites.front().note, "not rescaled") == !rescaled);
        const double factor = rescaled ? s : 1.0;
        for (std::size_t i = 0; i < width * m; ++i) {
          CHECK(after.fan_out[i] == doctest::Approx(factor * before.fan_out[i]).epsilon(tolerance));
        }
        const auto [new_mean, new_variance] = statistics();
        for (std::size_t i = 0; i < mean.size(); ++i) {
          CHECK(new_mean[i] == doctest::Approx(s * mean[i]).epsilon(tolerance));
          CHECK(new_variance[i] == doctest::Approx(s * s * variance[i]).epsilon(tolerance));
        }

        // Norms of today's rows on the mean, or by Kaiming's variance 2 / fan-in, that of the consumer as it becomes.
        double fan_in = 0.0, fan_out = 0.0, squares = 0.0, new_squares = 0.0;
        for (std::size_t k = 0; k < width; ++k) {
          fan_in += norm(before.fan_in, k, p, p - (bias ? 1 : 0)) / static_cast<double>(width);
          fan_out += norm(before.fan_out, k, m, m) / static_cast<double>(width);
          squares += std::pow(norm(before.fan_out, k, m, m), 2);
        }
        if (scale == ms::grow::UnitScale::kaiming) {
          fan_in = std::sqrt(2.0);
          fan_out = std::sqrt(2.0 * static_cast<double>(problem.site.fan_out()) / static_cast<double>(width + added));
        }
        for (std::size_t k = width; k < width + added; ++k) {
          CHECK(norm(after.fan_in, k, p, p - (bias ? 1 : 0)) == doctest::Approx(fan_in).epsilon(tolerance));
          CHECK(norm(after.fan_out, k, m, m) == doctest::Approx(factor * fan_out).epsilon(tolerance));
        }
        // So the variance of what an output sums up, of independent activations of one variance, carries over.
        for (std::size_t k = 0; k < width + added; ++k) new_squares += std::pow(norm(after.fan_out, k, m, m), 2);
        if (rescaled && scale == ms::grow::UnitScale::copied) {
          CHECK(new_squares == doctest::Approx(s * s * (squares + added * fan_out * fan_out)).epsilon(tolerance));
          CHECK(new_squares <= squares * (1 + tolerance));
        }
      }
    }
  }
}

TEST_CASE("closed form 12: the same batch twice changes nothing") {
  const ms::Window three{.kernel = 3, .padding = 1};
  for (const bool maps : {false, true}) {
    INFO((maps ? "convolutions" : "linear"));
    ms::Context ctx({.seed = 12});
    Net net;
    if (maps) {
      add_conv(ctx, net, "first", 2, 2, three);
      add_conv(ctx, net, "second", 2, 3, three);
    } else {
      add_linear(ctx, net, "first", 5, 3);
      add_linear(ctx, net, "second", 3, 4);
    }
    const ms::Shape shape = maps ? ms::Shape{20, 4, 5, 2} : ms::Shape{20, 5};
    const auto x = ms::from_host<double>(ctx, shape, normal_values<double>(shape.size(), 1));
    const ms::Shape out = net.output_shape(shape);
    const auto target = ms::from_host<double>(ctx, out, normal_values<double>(out.size(), 2));
    const auto site = ms::grow::find_site<double>(net, "first");
    const auto numbers = [&](int times) {
      const SiteMoments m = measured(ctx, net, site, x, target, half_squares, FanOut::full, times);
      std::vector<std::vector<double>> result;
      for (const auto* tensor :
           {&m.moments.s, &m.moments.s1, &m.moments.m, &m.moments.m1, &m.moments.fisher, &m.n, &m.move.weights})
        result.push_back(ms::to_host(ctx, *tensor));
      result.push_back({m.moments.goal_norm2, m.bottleneck, m.move.decrease});
      for (const auto& method : {ms::grow::tiny(), ms::grow::tiny_fisher(), ms::grow::gradmax()})
        result.push_back(method->choose(ctx, m).lambda);
      return result;
    };
    const auto once = numbers(1), twice = numbers(2);
    for (std::size_t i = 0; i < once.size(); ++i) {
      CAPTURE(i);
      REQUIRE(!once[i].empty());
      check_close(twice[i], once[i], tolerance * scale_of(once[i]));
    }
  }
}

TEST_SUITE_END();

}  // namespace grow_closed_forms_test
