// Statistics of sites with maps against plain loops over patches.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/measure/map_statistics.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <support/plain_maps.hpp>

namespace grow_map_statistics_test {

namespace ms = meristem;
using ms::grow::FanOut;
using ms::grow::Route;
using ms::grow::detail::MapStatistics;
using support::contains;
using support::Dense;
using support::MapJoint;
using support::message_of;
using support::PlainMaps;

namespace {

Dense to_dense(ms::Context& ctx, const ms::Tensor<double>& a) {
  return Dense(a.extent(0), a.extent(1), ms::to_host(ctx, a));
}

void check_matrix(const Dense& actual, const Dense& expected, double tolerance, const std::string& what) {
  INFO(what);
  REQUIRE(actual.rows == expected.rows);
  REQUIRE(actual.columns == expected.columns);
  support::check_close(actual.values, expected.values, tolerance, what);
}

/// A site with random maps on either side; what the consumer reads has a mean, as behind a ReLU.
template <class T>
struct Problem {
  ms::Context ctx{{.seed = 3}};
  MapJoint joint;
  std::int64_t n;
  ms::nn::Sequential<T> net;
  ms::grow::Site<T> site;
  ms::Tensor<T> x, z, v;

  Problem(const MapJoint& given, std::int64_t samples) : joint(given), n(samples) {
    joint.build(ctx, net);
    const auto sites = ms::grow::find_sites<T>(net);
    REQUIRE(sites.size() == 1);
    site = sites.front();
    const auto normal = [&](const ms::Shape& shape, std::uint64_t seed) {
      return support::normal_values<T>(shape.size(), seed);
    };
    x = ms::from_host<T>(ctx, joint.unit_shape(n), normal(joint.unit_shape(n), 1));
    std::vector<T> inputs = normal(joint.consumer_shape(n), 2);
    for (T& value : inputs) value += T(0.5);
    z = ms::from_host<T>(ctx, joint.consumer_shape(n), inputs);
    v = ms::from_host<T>(ctx, joint.goal_shape(n), normal(joint.goal_shape(n), 4));
  }

  PlainMaps plain() {
    const auto host = [&](const ms::Tensor<T>& a) { return support::to_double(ms::to_host(ctx, a)); };
    return {joint, n, host(x), host(z), host(v)};
  }

  /// Both passes over the same samples, each pass in its own batches, which end at the numbers given.
  MapStatistics<T> gather(FanOut fan_out, std::vector<std::int64_t> ends, Route route = Route::eigen,
                          std::vector<std::int64_t> second_ends = {}) {
    MapStatistics<T> statistics(ctx, site.shape(x.shape()), fan_out);
    const auto pass = [&](const std::vector<std::int64_t>& stops, auto&& use) {
      std::int64_t begin = 0;
      for (const std::int64_t end : stops) {
        use(x.view().slice(0, begin, end), z.view().slice(0, begin, end), v.view().slice(0, begin, end));
        begin = end;
      }
      REQUIRE(begin == n);
    };
    using Maps = ms::View<const T>;
    pass(ends, [&](Maps a, Maps b, Maps c) { statistics.update(ctx, a, b, c); });
    statistics.find_move(ctx, 0.0, route);
    pass(second_ends.empty() ? ends : second_ends,
         [&](Maps a, Maps b, Maps c) { statistics.update_residual(ctx, a, b, c); });
    return statistics;
  }
};

/// How an error of S1 or M1 grows in δW*.
double condition(const Dense& s1) {
  if (s1.rows == 0) return 1.0;
  const auto values = support::jacobi(s1).values;
  return values.front() / values.back();
}

template <class T>
void check_against_loops(Problem<T>& problem, FanOut fan_out, const std::vector<std::int64_t>& ends,
                         Route route = Route::eigen) {
  const PlainMaps plain = problem.plain();
  MapStatistics<T> statistics = problem.gather(fan_out, ends, route);
  ms::Context& ctx = problem.ctx;
  // A Linear behind a Flatten has a tap for every position whatever is asked for.
  const bool centre = statistics.fan_out() == FanOut::centre;
  CHECK(centre == (fan_out == FanOut::centre && !problem.joint.linear_consumer));
  CHECK(statistics.samples() == problem.n);

  // Sums of up to a few thousand products, some of them by differences of larger sums: errors of √terms roundings of
  // the largest element, tenfold.
  const double rounding = 500 * support::eps<T>;
  const auto near = [&](const ms::Tensor<double>& actual, const Dense& expected, const char* what) {
    check_matrix(to_dense(ctx, actual), expected, rounding * std::max(support::largest(expected), 1e-3), what);
  };
  const Dense s1 = plain.s1(), m1 = plain.m1();
  near(statistics.covariance(ctx), plain.s(centre), "S");
  near(statistics.consumer_covariance(ctx), s1, "S1");
  near(statistics.first_moment(ctx), m1, "M1");

  const Dense move = support::transposed(support::solved(s1, m1));
  const double error = rounding * condition(s1);
  check_matrix(to_dense(ctx, statistics.move().weights), move, error * std::max(support::largest(move), 1e-3), "move");
  CHECK(statistics.move().decrease == doctest::Approx(support::dot(move, support::transposed(m1))).epsilon(error));

  const auto residual = plain.residual(move);
  const Dense n = plain.cross(centre, residual);
  // An error of δW* reaches N by way of P, which is no larger than S and S1.
  const double scale = support::largest(plain.cross(centre, plain.residual(Dense(move.rows, move.columns))));
  const double coupling = std::sqrt(support::largest(plain.s(centre)) * std::max(support::largest(s1), 1e-3));
  check_matrix(to_dense(ctx, statistics.residual_cross_moments(ctx).front()), n,
               rounding * scale + error * coupling * support::largest(move) + rounding, "N");
  CHECK(statistics.goal_norm2(problem.ctx) == doctest::Approx(plain.goal_norm2()).epsilon(rounding));
  CHECK(statistics.bottleneck(problem.ctx) == doctest::Approx(plain.norm2(residual)).epsilon(error));
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("map statistics: S, S1, M1, move, N and bottleneck in float64, for every joint") {
  for (MapJoint joint : support::map_joints()) {
    for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
      for (const bool bias : {false, true}) {
        INFO(joint.name, ", bias ", bias, ", full ", fan_out == FanOut::full);
        joint.producer_bias = joint.consumer_bias = bias;
        Problem<double> problem(joint, 30);
        check_against_loops(problem, fan_out, {30});
      }
    }
  }
}

TEST_CASE("map statistics: a bias on one side only") {
  for (MapJoint joint : support::map_joints()) {
    for (const bool producer : {false, true}) {
      INFO(joint.name, ", of the producer ", producer);
      joint.producer_bias = producer;
      joint.consumer_bias = !producer;
      Problem<double> problem(joint, 30);
      check_against_loops(problem, FanOut::full, {30});
    }
  }
}

TEST_CASE("map statistics: float32 differs by rounding") {
  for (const MapJoint& joint : support::map_joints()) {
    INFO(joint.name);
    Problem<float> problem(joint, 30);
    check_against_loops(problem, FanOut::full, {30});
  }
}

TEST_CASE("map statistics: the Cholesky route finds the same move, whose ridge is refined away") {
  for (const MapJoint& joint : support::map_joints()) {
    INFO(joint.name);
    Problem<double> problem(joint, 30);
    check_against_loops(problem, FanOut::centre, {30}, Route::cholesky);
  }
}

TEST_CASE("map statistics: from an empty hidden layer, where only the consumer's bias can move") {
  for (MapJoint joint : support::map_joints()) {
    for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
      for (const bool bias : {false, true}) {
        INFO(joint.name, ", bias ", bias, ", full ", fan_out == FanOut::full);
        joint.width = 0;
        joint.consumer_bias = bias;
        Problem<double> problem(joint, 9);
        check_against_loops(problem, fan_out, {9});
        if (bias) continue;
        // Nothing can move: the residual is the desired update.
        auto statistics = problem.gather(fan_out, {9});
        CHECK(statistics.move().decrease == 0.0);
        CHECK(statistics.bottleneck(problem.ctx) == statistics.goal_norm2(problem.ctx));
      }
    }
  }
}

TEST_CASE("map statistics: batches of any size, in both passes, change nothing") {
  for (const MapJoint& joint : support::map_joints()) {
    INFO(joint.name);
    Problem<double> problem(joint, 30);
    check_against_loops(problem, FanOut::full, {1, 8, 9, 30});
    // Passes may be cut at different places.
    auto uneven = problem.gather(FanOut::full, {17, 30}, Route::eigen, {5, 6, 30});
    auto whole = problem.gather(FanOut::full, {30});
    const Dense n = to_dense(problem.ctx, whole.residual_cross_moments(problem.ctx).front());
    check_matrix(to_dense(problem.ctx, uneven.residual_cross_moments(problem.ctx).front()), n,
                 1e-12 * std::max(support::largest(n), 1.0), "N");
    CHECK(uneven.bottleneck(problem.ctx) == doctest::Approx(whole.bottleneck(problem.ctx)).epsilon(1e-12));
  }
}

TEST_CASE("map statistics: samples shown twice change nothing") {
  const MapJoint joint = support::map_joints().front();
  Problem<double> problem(joint, 12);
  MapStatistics<double> once(problem.ctx, problem.site.shape(problem.x.shape()), FanOut::full),
      twice(problem.ctx, problem.site.shape(problem.x.shape()), FanOut::full);
  const auto show = [&](MapStatistics<double>& statistics, int times) {
    for (int k = 0; k < times; ++k) statistics.update(problem.ctx, problem.x, problem.z, problem.v);
    statistics.find_move(problem.ctx, 0.0);
    for (int k = 0; k < times; ++k) statistics.update_residual(problem.ctx, problem.x, problem.z, problem.v);
  };
  show(once, 1);
  show(twice, 2);
  CHECK(twice.samples() == 24);
  const auto n_of = [](MapStatistics<double>& statistics, ms::Context& ctx) {
    return std::move(statistics.residual_cross_moments(ctx).front());
  };
  const auto check = [&](const auto& what) {
    const Dense expected = to_dense(problem.ctx, std::invoke(what, once, problem.ctx));
    check_matrix(to_dense(problem.ctx, std::invoke(what, twice, problem.ctx)), expected,
                 1e-12 * support::largest(expected), "");
  };
  check(&MapStatistics<double>::covariance);
  check(&MapStatistics<double>::consumer_covariance);
  check(n_of);
  CHECK(twice.bottleneck(problem.ctx) == doctest::Approx(once.bottleneck(problem.ctx)).epsilon(1e-12));
}

TEST_CASE("map statistics: the residual is orthogonal to what the consumer reads, and N = M - P move^T") {
  for (const MapJoint& joint : support::map_joints()) {
    INFO(joint.name);
    Problem<double> problem(joint, 30);
    const PlainMaps plain = problem.plain();
    auto statistics = problem.gather(FanOut::full, {30});
    const Dense move = to_dense(problem.ctx, statistics.move().weights);
    // The move's own first moment is that of the goal.
    const PlainMaps left(joint, 30, {}, support::to_double(ms::to_host(problem.ctx, problem.z)), plain.residual(move));
    CHECK(support::largest(left.m1()) < 1e-12 * condition(plain.s1()) * support::largest(plain.m1()));
    CHECK(statistics.bottleneck(problem.ctx) ==
          doctest::Approx(statistics.goal_norm2(problem.ctx) - statistics.move().decrease).epsilon(1e-10));
  }
}

TEST_CASE("map statistics: with damping the residual is that of the damped move") {
  Problem<double> problem(support::map_joints().front(), 30);
  const PlainMaps plain = problem.plain();
  MapStatistics<double> statistics(problem.ctx, problem.site.shape(problem.x.shape()), FanOut::full);
  statistics.update(problem.ctx, problem.x, problem.z, problem.v);
  statistics.find_move(problem.ctx, 0.25, Route::eigen);
  statistics.update_residual(problem.ctx, problem.x, problem.z, problem.v);
  Dense s1 = plain.s1();
  for (std::int64_t i = 0; i < s1.rows; ++i) s1(i, i) *= 1.25;
  const Dense move = support::transposed(support::solved(s1, plain.m1()));
  check_matrix(to_dense(problem.ctx, statistics.move().weights), move, 1e-12, "move");
  const auto residual = plain.residual(move);
  check_matrix(to_dense(problem.ctx, statistics.residual_cross_moments(problem.ctx).front()),
               plain.cross(false, residual), 1e-11, "N");
  CHECK(statistics.bottleneck(problem.ctx) == doctest::Approx(plain.norm2(residual)).epsilon(1e-12));
}

TEST_CASE("map statistics: the noise is N with a sign for each sample, whatever the batches") {
  constexpr std::int64_t n = 8;
  for (const std::size_t which : {0, 9, 11}) {
    MapJoint joint = support::map_joints()[which];
    joint.width = 0;  // so few samples would determine a move
    INFO(joint.name);
    Problem<double> problem(joint, n);
    const PlainMaps plain = problem.plain();
    auto whole = problem.gather(FanOut::full, {n}), parts = problem.gather(FanOut::full, {3, 4, n});
    const Dense noise = to_dense(problem.ctx, whole.residual_cross_moments(problem.ctx).back());
    check_matrix(to_dense(problem.ctx, parts.residual_cross_moments(problem.ctx).back()), noise,
                 1e-13 * support::largest(noise), "in parts");
    const auto residual = plain.residual(to_dense(problem.ctx, whole.move().weights));
    int matches = 0, positive = 0;
    for (int signs = 0; signs < (1 << n); ++signs) {
      std::vector<double> factors;
      for (int i = 0; i < n; ++i) factors.push_back((signs >> i) % 2 == 0 ? 1.0 : -1.0);
      if (support::largest(plain.cross(false, residual, factors) - noise) > 1e-12 * support::largest(noise)) continue;
      ++matches;
      for (const double factor : factors) positive += factor > 0.0 ? 1 : 0;
    }
    CHECK(matches == 1);
    // Not all alike: that would be N itself.
    CHECK(positive > 0);
    CHECK(positive < n);
  }
}

TEST_CASE("map statistics: a goal that is not finite is told by the names of site and consumer") {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Problem<double> problem(support::map_joints().front(), 4);
    MapStatistics<double> statistics(problem.ctx, problem.site.shape(problem.x.shape()), FanOut::full);
    std::vector<double> values = ms::to_host(problem.ctx, problem.v);
    values[7] = bad;
    const auto goal = ms::from_host<double>(problem.ctx, problem.v.shape(), values);
    statistics.update(problem.ctx, problem.x, problem.z, goal);
    for (const std::optional<double> damping : {std::optional<double>(), std::optional<double>(1.0)}) {
      const auto text = message_of<ms::NumericError>([&] { statistics.find_move(problem.ctx, damping); });
      CHECK(contains(text, "site a: the desired update (minus the gradient at b (Conv2d)) is not finite"));
    }
  }
}

TEST_CASE("map statistics: a move before any sample and inputs that are no maps are refused") {
  Problem<double> problem(support::map_joints().front(), 4);
  MapStatistics<double> statistics(problem.ctx, problem.site.shape(problem.x.shape()), FanOut::full);
  CHECK(message_of<ms::ArgumentError>([&] { statistics.find_move(problem.ctx, 0.0); }) ==
        "site a: no samples were shown; call update first");
  const auto text = message_of<ms::ShapeError>([&] {
    MapStatistics<double>(problem.ctx, problem.site.shape({4, 60}), FanOut::full);
  });
  CHECK(text ==
        "site a: a (Conv2d) reads shape (4, 60); a site with a convolution reads maps (n, height, width, "
        "channels)");
}

TEST_CASE("map statistics: what was left out cannot be asked for, and changes nothing else") {
  Problem<double> problem(support::map_joints().front(), 4);
  MapStatistics<double> all(problem.ctx, problem.site.shape(problem.x.shape()), FanOut::full);
  MapStatistics<double> some(problem.ctx, problem.site.shape(problem.x.shape()), FanOut::full,
                             MapStatistics<double>::Options{.covariance = false, .noise = false});
  for (MapStatistics<double>* statistics : {&all, &some}) {
    statistics->update(problem.ctx, problem.x, problem.z, problem.v);
    statistics->find_move(problem.ctx, 1e-3);
    statistics->update_residual(problem.ctx, problem.x, problem.z, problem.v);
  }
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)some.covariance(problem.ctx); }), "S was left out"));
  const auto with = all.residual_cross_moments(problem.ctx), without = some.residual_cross_moments(problem.ctx);
  CHECK(with.size() == 2);
  REQUIRE(without.size() == 1);
  // The same products, in matrices of twice the width: sums of a few hundred terms may come in another order.
  const Dense expected = to_dense(problem.ctx, without.front());
  check_matrix(to_dense(problem.ctx, with.front()), expected, 1e-13 * support::largest(expected), "N");
}

TEST_SUITE_END();

}  // namespace grow_map_statistics_test
