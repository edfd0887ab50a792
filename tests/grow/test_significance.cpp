#include <doctest/doctest.h>

#include <meristem/grow/solve/solve.hpp>
#include <support/growth_problem.hpp>

namespace grow_significance_test {

namespace {

namespace ms = meristem;
using namespace support;

constexpr std::int64_t p = 12, d = 3, q = 8, n = 400;

/// Desired updates that have nothing to do with the inputs, but for `strength` times one planted direction.
ms::grow::Moments<double> noise(ms::Context& ctx, std::uint64_t trial, double strength) {
  GrowthProblem problem = random_problem(p, d, q, n, 1000 + 10 * trial, true);
  problem.v = Dense(q, n, normal_values<double>(q * n, 7 + 10 * trial));
  for (std::int64_t t = 0; t < n; ++t) {
    for (std::int64_t i = 0; i < q; ++i) problem.v(i, t) += strength * problem.b2(4, t) * (i % 2 == 0 ? 1 : -1);
  }
  return problem.moments<double>(ctx);
}

int trials_with_units(ms::Context& ctx, double c, double strength) {
  int count = 0;
  for (std::uint64_t trial = 0; trial < 100; ++trial) {
    if (ms::grow::solve(ctx, noise(ctx, trial, strength), {.significance = c}).units > 0) ++count;
  }
  return count;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grow significance: the threshold is c sigma (sqrt p + sqrt q) / sqrt n") {
  // σ² = 18 / 2 = 9
  CHECK(ms::grow::significance_threshold(1.5, 18.0, 16, 2, 100) ==
        doctest::Approx(1.5 * 3.0 * (4.0 + std::sqrt(2.0)) / 10.0));
  CHECK(ms::grow::significance_threshold(0.0, 18.0, 16, 2, 100) == 0.0);
  CHECK(ms::grow::significance_threshold(1.0, 0.0, 16, 2, 100) == 0.0);
  CHECK(ms::grow::significance_threshold(1.0, 1.0, 16, 0, 100) == 0.0);
  ms::Context ctx;
  const auto moments = noise(ctx, 0, 0.0);
  const auto solution = ms::grow::solve(ctx, moments, {.significance = 2.0});
  CHECK(solution.threshold == ms::grow::significance_threshold(2.0, solution.bottleneck, p, q, n));
}

TEST_CASE("grow significance: noise adds no unit, a planted direction does") {
  ms::Context ctx;
  // The largest singular value of noise exceeds the edge, c = 1, in 17 of 100 trials (Tracy-Widom, real), and 1.2 times
  // the edge, six of its deviations further at these extents, practically never.
  CHECK(trials_with_units(ctx, 1.2, 0.0) <= 5);
  CHECK(trials_with_units(ctx, 1.0, 0.0) <= 40);
  // Far below the edge noise is always found: the threshold is not merely large.
  CHECK(trials_with_units(ctx, 0.5, 0.0) == 100);
  // λ of the planted direction is 0.3 √8 = 0.85, the threshold 1.2 (√12 + √8) / 20 = 0.38.
  for (std::uint64_t trial = 0; trial < 20; ++trial) {
    const auto solution = ms::grow::solve(ctx, noise(ctx, trial, 0.3), {.significance = 1.2});
    REQUIRE(solution.units == 1);
    const Dense a = product_of_units(ctx, solution);
    std::int64_t strongest = 0;
    double best = 0;
    for (std::int64_t i = 0; i < p; ++i) {
      double row = 0;
      for (std::int64_t j = 0; j < q; ++j) row += a(i, j) * a(i, j);
      if (row > best) {
        best = row;
        strongest = i;
      }
    }
    CHECK(strongest == 4);
  }
}

TEST_SUITE_END();

}  // namespace grow_significance_test
