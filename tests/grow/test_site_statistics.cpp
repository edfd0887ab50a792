#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/grow/measure/site_statistics.hpp>
#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/grow/methods/methods.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <support/check.hpp>
#include <support/dense.hpp>
#include <support/method_problem.hpp>

namespace grow_site_statistics_test {

namespace ms = meristem;
using ms::grow::SiteShape;
using ms::grow::SiteStatistics;
using support::contains;
using support::message_of;
using support::MethodProblem;
using V = ms::View<const double>;

namespace {

const ms::grow::Needs everything{
    .inputs = true, .consumer = true, .goal = true, .residual = true, .noise = true, .joint = true, .fisher = true};

/// Every number that was gathered.
std::vector<std::vector<double>> numbers(ms::Context& ctx, const ms::grow::SiteMoments& m) {
  std::vector<std::vector<double>> result;
  for (const ms::Tensor<double>* tensor :
       {&m.moments.s, &m.moments.s1, &m.moments.m, &m.moments.m1, &m.moments.fisher, &m.n, &m.move.weights}) {
    result.push_back(ms::to_host(ctx, *tensor));
  }
  // C stands for C Cᵀ alone.
  const support::Dense c(m.explained.extent(0), m.explained.extent(1), ms::to_host(ctx, m.explained));
  result.push_back((c * support::transposed(c)).values);
  result.push_back({m.bottleneck, m.moments.goal_norm2, static_cast<double>(m.moments.samples)});
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("site statistics: two halves merged are the whole, for every way of joining two layers") {
  for (const auto& net : support::method_nets()) {
    INFO(net.name);
    // Batch statistics depend on the batch.
    if (net.name == "resnet") continue;
    MethodProblem problem(net, ms::nn::Activation::tanh);
    ms::Context& ctx = problem.ctx;
    std::vector<ms::nn::BatchView<double>> halves;
    for (const std::int64_t begin : {0, 20}) {
      const std::int64_t end = begin == 0 ? 20 : 48;
      halves.push_back({.inputs = V(problem.x).slice(0, begin, end),
                        .labels = ms::View<const std::int32_t>(problem.labels).slice(0, begin, end)});
    }
    const auto shape_of = [&] {
      ms::Shape input;
      problem.visit({problem.site}, [&](ms::Context&, std::size_t, V unit, V, V) { input = unit.shape(); });
      return problem.site.shape(input);
    };
    const SiteShape shape = shape_of();
    // Random signs go by the number of the sample, and halves have numbers of their own: what they choose is given
    // here.
    const SiteStatistics<double>::Options options{.damping = 0.1};
    const auto make = [&] { return SiteStatistics<double>(ctx, shape, everything, options); };
    SiteStatistics<double> whole = make(), first = make(), second = make();
    int passes = 0;
    while (whole.wants_pass()) {
      ++passes;
      SiteStatistics<double>* parts[] = {&first, &second};
      for (std::size_t h = 0; h < 2; ++h) {
        ms::grow::visit_sites<double>(ctx, problem.net, {problem.site}, halves[h], problem.criterion,
                                      [&](ms::Context&, std::size_t, V unit, V consumer, V goal) {
                                        whole.update(ctx, unit, consumer, goal);
                                        parts[h]->update(ctx, unit, consumer, goal);
                                      });
      }
      // Both halves go into the second pass with the move of all samples.
      first.merge(ctx, second);
      whole.finish_pass(ctx);
      first.finish_pass(ctx);
      if (first.wants_pass()) {
        second = make();
        for (std::size_t h = 0; h < 2; ++h) {
          ms::grow::visit_sites<double>(
              ctx, problem.net, {problem.site}, halves[h], problem.criterion,
              [&](ms::Context&, std::size_t, V unit, V consumer, V goal) { second.update(ctx, unit, consumer, goal); });
        }
        second.finish_pass(ctx);
      }
    }
    CHECK(passes == (shape.spatial() ? 2 : 1));
    const auto expected = numbers(ctx, whole.moments(ctx)), found = numbers(ctx, first.moments(ctx));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      // Sums of 48 samples in another order, and a move that is solved from them.
      CHECK(support::relative_distance(found[i], expected[i]) < 1e-9);
    }
  }
}

TEST_CASE("site statistics: units for a convolution from tensors of one's own") {
  // Maps (n, 6, 5, 2) go through a 3x3 convolution to 3 channels and another one to 4; the goal is what a fourth
  // channel would have added, which TINY's first unit has to find.
  ms::Context ctx({.seed = 1});
  const std::int64_t n = 60;
  const ms::Window three{.kernel = 3, .padding = 1};
  const SiteShape shape{.producer = {.in = 2, .out = 3, .bias = false, .convolution = true, .window = three},
                        .consumer = {.in = 3, .out = 4, .bias = false, .convolution = true, .window = {}},
                        .map = {6, 5}};
  const auto x = ms::from_host<double>(ctx, {n, 6, 5, 2}, support::normal_values<double>(n * 60, 1));
  const auto hidden = ms::from_host<double>(ctx, {n, 6, 5, 3}, support::normal_values<double>(n * 90, 2));
  const auto fan_in = support::normal_values<double>(18, 3), fan_out = support::normal_values<double>(4, 4);
  ms::Tensor<double> unit(ctx, {n, 6, 5, 1}), goal(ctx, {n, 6, 5, 4});
  ms::kernels::conv2d_forward<double>(ctx, x, ms::from_host<double>(ctx, {1, 3, 3, 2}, fan_in), V(), three, unit);
  ms::kernels::conv2d_forward<double>(ctx, unit, ms::from_host<double>(ctx, {4, 1, 1, 1}, fan_out), V(), {}, goal);

  const auto method = ms::grow::tiny();
  SiteStatistics<double> statistics(ctx, shape, method->needs(), {.damping = 0.0});
  while (statistics.wants_pass()) {
    statistics.update(ctx, x, hidden, goal);
    statistics.finish_pass(ctx);
  }
  ms::grow::SiteMoments moments = statistics.moments(ctx);
  moments.damping = 0.0;
  moments.max_units = 1;
  const ms::grow::Choice choice = method->choose(ctx, moments);
  REQUIRE(choice.insertion.units == 1);
  // The goal depends on x linearly, so nothing is left: the unit times its fan-out is the one that made it. What
  // today's weights make of it by chance, 90 independent numbers a sample and 12 weights, moves it a little.
  const auto alpha = ms::to_host(ctx, choice.insertion.fan_in), omega = ms::to_host(ctx, choice.insertion.fan_out);
  double dot = 0.0, mine = 0.0, theirs = 0.0;
  for (std::size_t i = 0; i < 18; ++i) {
    for (std::size_t o = 0; o < 4; ++o) {
      const double a = alpha[i] * omega[o], b = fan_in[i] * fan_out[o];
      dot += a * b;
      mine += a * a;
      theirs += b * b;
    }
  }
  CHECK(dot / std::sqrt(mine * theirs) > 0.99);
}

TEST_CASE("site statistics: out of turn is told") {
  ms::Context ctx;
  const SiteShape shape{.producer = {.in = 3, .out = 2}, .consumer = {.in = 2, .out = 1}};
  const auto x = ms::zeros<double>(ctx, {4, 3}), b = ms::zeros<double>(ctx, {4, 2}), v = ms::zeros<double>(ctx, {4, 1});
  SiteStatistics<double> statistics(ctx, shape, ms::grow::tiny()->needs());
  const auto refused = [](auto&& call) { return message_of<ms::ArgumentError>(call); };
  CHECK(contains(refused([&] { (void)statistics.moments(ctx); }), "not complete"));
  statistics.update(ctx, x, b, v);
  statistics.finish_pass(ctx);
  CHECK(contains(refused([&] { statistics.update(ctx, x, b, v); }), "no further pass is wanted"));
  CHECK(contains(refused([&] { statistics.finish_pass(ctx); }), "no further pass is wanted"));
  SiteStatistics<double> fresh(ctx, shape, ms::grow::tiny()->needs());
  CHECK(contains(refused([&] { fresh.merge(ctx, statistics); }), "different passes"));
  const SiteShape wrong{.producer = {.in = 3, .out = 2}, .consumer = {.in = 3, .out = 1}};
  CHECK(contains(message_of<ms::ShapeError>([&] { SiteStatistics<double>(ctx, wrong, ms::grow::tiny()->needs()); }),
                 "the producer has 2 outputs, the consumer reads 3"));
  CHECK_THROWS_AS(SiteStatistics<double>(ctx, shape, ms::grow::tiny()->needs()).update(ctx, b, b, v), ms::ShapeError);
  const SiteShape maps{.producer = {.in = 3, .out = 2, .convolution = true}, .consumer = {.in = 2, .out = 1}, .map = 4};
  CHECK(contains(message_of<ms::ShapeError>(
                     [&] { SiteStatistics<double>(ctx, maps, ms::grow::tiny()->needs()).update(ctx, x, b, v); }),
                 "maps of 4x4 with 3 channels were announced"));
}

TEST_CASE("measurement: a pass too many, none at all, and one without a batch are told") {
  MethodProblem problem(support::method_nets().front(), ms::nn::Activation::tanh);
  ms::Context& ctx = problem.ctx;
  using SiteMeasurement = ms::grow::detail::SiteMeasurement<double>;
  const auto refused = [](auto&& call) { return message_of<ms::ArgumentError>(call); };
  SiteMeasurement fresh(ctx, problem.site, {}, [](std::int64_t, const ms::grow::Choice*) { return std::int64_t{2}; });
  CHECK(fresh.wants() == SiteMeasurement::Batches::all);
  CHECK(contains(refused([&] { fresh.finish_pass(ctx); }), "no batch was shown"));
  CHECK(contains(refused([&] { (void)fresh.propose(); }), "a proposal was asked for before the passes that it takes"));
  CHECK(contains(refused([&] { SiteMeasurement(ctx, problem.site, {}, nullptr); }), "no function was given"));
  SiteMeasurement reads_nothing(ctx, problem.site, {.method = ms::grow::random_units()},
                                [](std::int64_t, const ms::grow::Choice*) { return std::int64_t{2}; });
  CHECK(reads_nothing.wants() == SiteMeasurement::Batches::one);
  const auto show = [&](SiteMeasurement& measurement) {
    problem.visit({problem.site}, [&](ms::Context&, std::size_t, V unit, V consumer, V goal) {
      measurement.update(ctx, unit, consumer, goal);
    });
    measurement.finish_pass(ctx);
  };
  while (reads_nothing.wants() != SiteMeasurement::Batches::none) show(reads_nothing);
  CHECK(contains(refused([&] { show(reads_nothing); }), "no further pass is wanted"));
  CHECK(reads_nothing.propose().insertion.units == 2);
}

TEST_SUITE_END();

}  // namespace grow_site_statistics_test
