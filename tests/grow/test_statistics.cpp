#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/models/mlp.hpp>
#include <support/check.hpp>

namespace grow_statistics_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

namespace {

/// (1/n) [x 1]ᵀ [y 1], each with or without its constant, in plain loops.
std::vector<double> outer_mean(const std::vector<double>& x, std::int64_t p, bool x_bias, const std::vector<double>& y,
                               std::int64_t q, bool y_bias, std::int64_t rows, std::int64_t samples) {
  const std::int64_t height = p + x_bias, width = q + y_bias;
  std::vector<double> result(static_cast<std::size_t>(height * width), 0.0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < height; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        result[i * width + j] += (i < p ? x[r * p + i] : 1.0) * (j < q ? y[r * q + j] : 1.0) / double(samples);
      }
    }
  }
  return result;
}

struct Case {
  std::int64_t samples, tokens, p, d, q;
  bool unit_bias, consumer_bias;
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("site statistics: every moment equals the plain loop", T, float, double) {
  ms::Context ctx;
  const std::vector<Case> cases{{8, 1, 3, 2, 3, false, false},  {33, 1, 5, 4, 1, true, true},
                                {31, 1, 4, 0, 3, true, true},   {16, 1, 4, 0, 2, true, false},
                                {12, 3, 5, 4, 3, true, true},   {7, 2, 1, 1, 1, false, true},
                                {64, 1, 33, 17, 5, true, false}};
  for (const Case& c : cases) {
    CAPTURE(c.p);
    CAPTURE(c.d);
    CAPTURE(c.tokens);
    const std::int64_t rows = c.samples * c.tokens;
    const auto b2 = support::normal_values<T>(rows * c.p, 1), b1 = support::normal_values<T>(rows * c.d, 2);
    const auto v = support::normal_values<T>(rows * c.q, 3);
    ms::grow::detail::RowStatistics<T> statistics(ctx, c.p, c.unit_bias, c.d, c.consumer_bias, c.q, {.fisher = true});
    // Two batches of different size.
    const std::int64_t first = c.samples / 3 + 1;
    for (const auto& [begin, end] : {std::pair{std::int64_t{0}, first}, {first, c.samples}}) {
      const auto part = [&](const std::vector<T>& all, std::int64_t width) {
        const std::vector<T> numbers(all.begin() + begin * c.tokens * width, all.begin() + end * c.tokens * width);
        return ms::from_host<T>(ctx, {end - begin, c.tokens, width}, numbers);
      };
      statistics.update(ctx, part(b2, c.p), part(b1, c.d), part(v, c.q));
    }
    const auto moments = statistics.moments(ctx);
    const auto x = support::to_double(b2), h = support::to_double(b1), g = support::to_double(v);
    // Sums of `rows` products of size up to ~16, divided by the samples.
    const double tolerance = 16.0 * double(c.tokens) * std::sqrt(double(rows)) * support::eps<T>;
    const auto equal = [&](const ms::Tensor<double>& actual, const std::vector<double>& expected, const char* name) {
      support::check_close(ms::to_host(ctx, actual), expected, tolerance, name);
    };
    equal(moments.s, outer_mean(x, c.p, c.unit_bias, x, c.p, c.unit_bias, rows, c.samples), "S");
    equal(moments.s1, outer_mean(h, c.d, c.consumer_bias, h, c.d, c.consumer_bias, rows, c.samples), "S1");
    equal(moments.m, outer_mean(x, c.p, c.unit_bias, g, c.q, false, rows, c.samples), "M");
    equal(moments.m1, outer_mean(h, c.d, c.consumer_bias, g, c.q, false, rows, c.samples), "M1");
    equal(moments.cross, outer_mean(x, c.p, c.unit_bias, h, c.d, c.consumer_bias, rows, c.samples), "P");
    equal(moments.fisher, outer_mean(g, c.q, false, g, c.q, false, rows, c.samples), "E");
    double squares = 0;
    for (const double value : g) squares += value * value / double(c.samples);
    CHECK(moments.goal_norm2 == doctest::Approx(squares).epsilon(1e-6));
    CHECK(moments.samples == c.samples);
  }
}

TEST_CASE("site statistics: merging halves equals one pass") {
  ms::Context ctx;
  const std::int64_t n = 40, p = 6, d = 4, q = 3;
  const auto b2 = support::normal_values<double>(2 * n * p, 1), b1 = support::normal_values<double>(2 * n * d, 2);
  const auto v = support::normal_values<double>(2 * n * q, 3);
  const auto make = [&] { return ms::grow::detail::RowStatistics<double>(ctx, p, true, d, true, q); };
  const auto add = [&](ms::grow::detail::RowStatistics<double>& to, std::int64_t half) {
    const auto part = [&](const std::vector<double>& all, std::int64_t width) {
      return ms::from_host<double>(
          ctx, {n, width}, std::vector<double>(all.begin() + half * n * width, all.begin() + (half + 1) * n * width));
    };
    to.update(ctx, part(b2, p), part(b1, d), part(v, q));
  };
  auto whole = make(), left = make(), right = make();
  add(whole, 0), add(whole, 1);
  add(left, 0);
  add(right, 1);
  right.merge(ctx, left);
  const auto expected = whole.moments(ctx);
  const auto actual = right.moments(ctx);
  // Means of 80 products of size up to ~10.
  const double tolerance = 80 * 10 * support::eps<double>;
  const auto equal = [&](const ms::Tensor<double>& a, const ms::Tensor<double>& b) {
    support::check_close(ms::to_host(ctx, a), ms::to_host(ctx, b), tolerance);
  };
  equal(actual.s, expected.s), equal(actual.s1, expected.s1), equal(actual.m, expected.m);
  equal(actual.m1, expected.m1), equal(actual.cross, expected.cross);
  CHECK(actual.goal_norm2 == doctest::Approx(expected.goal_norm2).epsilon(1e-13));
}

TEST_CASE("row statistics: S may be left out") {
  ms::Context ctx;
  const auto x = ms::from_host<float>(ctx, {5, 3}, support::normal_values<float>(15, 1));
  const auto h = ms::from_host<float>(ctx, {5, 2}, support::normal_values<float>(10, 2));
  ms::grow::detail::RowStatistics<float> all(ctx, 3, false, 2, false, 2),
      rest(ctx, 3, false, 2, false, 2, {.covariance = false});
  all.update(ctx, x, h, h);
  rest.update(ctx, x, h, h);
  const auto whole = all.moments(ctx), partial = rest.moments(ctx);
  CHECK(partial.s.empty());
  support::check_same_bits(ms::to_host(ctx, partial.m), ms::to_host(ctx, whole.m));
  CHECK(contains(message_of<ms::ArgumentError>([&] { rest.merge(ctx, all); }), "different options"));
}

TEST_CASE("site statistics: misuse is told") {
  ms::Context ctx;
  ms::grow::detail::RowStatistics<float> statistics(ctx, 3, true, 2, true, 2);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)statistics.moments(ctx); }), "no samples"));
  const auto x = ms::zeros<float>(ctx, {5, 3}), h = ms::zeros<float>(ctx, {4, 2}), wide = ms::zeros<float>(ctx, {5, 7});
  const auto text = message_of<ms::ShapeError>([&] { statistics.update(ctx, x, h, h); });
  CHECK(contains(text, "(5, 3)"));
  CHECK(contains(text, "(4, 2)"));
  const auto ok = ms::zeros<float>(ctx, {5, 2});
  const float inf = std::numeric_limits<float>::infinity();
  const auto bad = ms::from_host<float>(ctx, {5, 2}, std::vector<float>{0, 0, 0, inf, 0, 0, 0, 0, 0, 0});
  const auto not_finite = message_of<ms::NumericError>([&] { statistics.update(ctx, x, ok, bad); });
  CHECK(contains(not_finite, "the desired update"));
  CHECK(contains(not_finite, "element 3 of (5, 2) is inf"));
  CHECK(statistics.samples() == 0);
  CHECK(
      contains(message_of<ms::ShapeError>([&] { statistics.update(ctx, wide, ok, ok); }), "which must be 3, 2 and 2"));
}

TEST_CASE("site taps: the desired update is minus the gradient of the summed loss") {
  ms::Context ctx({.seed = 3});
  auto net = ms::models::mlp<double>(
      ctx, {.inputs = 4, .hidden = {3, 5}, .classes = 2, .activation = ms::nn::Activation::tanh});
  const auto sites = ms::grow::find_sites(net);
  const auto x = ms::from_host<double>(ctx, {6, 4}, support::normal_values<double>(24, 1));
  const auto target = ms::from_host<double>(ctx, {6, 2}, support::normal_values<double>(12, 2));
  const auto before = ms::to_host(ctx, sites[0].producer.weight().gradient);
  std::vector<std::size_t> order;
  std::vector<std::vector<double>> goals(2), weight_gradients(2);
  const double loss = ms::grow::visit_sites<double>(
      ctx, net, sites, {.inputs = x, .targets = target}, ms::nn::SquaredError{},
      [&](ms::Context&, std::size_t i, ms::View<const double> unit, ms::View<const double> consumer,
          ms::View<const double> goal) {
        order.push_back(i);
        CHECK(unit.shape() == ms::Shape{6, sites[i].producer.in_features()});
        CHECK(consumer.shape() == ms::Shape{6, sites[i].consumer.in_features()});
        goals[i] = ms::to_host(ctx, goal);
        // M1 must be minus the weight gradient: B1ᵀ goal / n, transposed.
        const auto b1 = ms::to_host(ctx, consumer);
        const std::int64_t d = sites[i].consumer.in_features(), q = sites[i].consumer.out_features();
        weight_gradients[i].assign(static_cast<std::size_t>(q * d), 0.0);
        for (std::int64_t n = 0; n < 6; ++n) {
          for (std::int64_t o = 0; o < q; ++o) {
            for (std::int64_t k = 0; k < d; ++k)
              weight_gradients[i][o * d + k] -= goals[i][n * q + o] * b1[n * d + k] / 6;
          }
        }
      });
  CHECK(order == std::vector<std::size_t>{1, 0});
  support::check_same_bits(ms::to_host(ctx, sites[0].producer.weight().gradient), before, "gradients untouched");

  const ms::nn::Pass<double> pass{};
  const auto trace = net.forward(ctx, x, pass);
  auto value = ms::nn::SquaredError{}(ctx, trace.output, ms::View<const double>(target));
  CHECK(loss == value.mean);
  (void)net.backward(ctx, x, trace, std::move(value.gradient), pass);
  for (std::size_t i = 0; i < 2; ++i) {
    support::check_close(weight_gradients[i], ms::to_host(ctx, sites[i].consumer.weight().gradient), 1e-13);
  }
}

TEST_SUITE_END();

}  // namespace grow_statistics_test
