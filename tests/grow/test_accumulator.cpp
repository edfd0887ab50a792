#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <meristem/grow/statistics/accumulator.hpp>
#include <support/check.hpp>

namespace grow_accumulator_test {

namespace ms = meristem;
using ms::grow::Covariance;
using ms::grow::CrossCovariance;
using support::contains;
using support::message_of;

namespace {

/// (1 / samples) Σ [x 1]ᵀ[v 1] over rows, and the same of magnitudes: the scale of its rounding errors.
struct Plain {
  std::vector<double> mean, magnitude;
  double scale = 0.0;  ///< the largest magnitude
};

template <class T>
Plain plain_product(const std::vector<T>& x, std::int64_t p, bool bias, const std::vector<T>& v, std::int64_t q,
                    bool right_bias, std::int64_t rows, std::int64_t samples) {
  const auto at = [](const std::vector<T>& values, std::int64_t r, std::int64_t width, std::int64_t i) {
    return i == width ? 1.0 : static_cast<double>(values[static_cast<std::size_t>(r * width + i)]);
  };
  Plain result;
  for (std::int64_t i = 0; i < p + bias; ++i) {
    for (std::int64_t j = 0; j < q + right_bias; ++j) {
      double sum = 0.0, magnitude = 0.0;
      for (std::int64_t r = 0; r < rows; ++r) {
        const double term = at(x, r, p, i) * at(v, r, q, j);
        sum += term;
        magnitude += std::abs(term);
      }
      result.mean.push_back(sum / static_cast<double>(samples));
      result.magnitude.push_back(magnitude / static_cast<double>(samples));
      result.scale = std::max(result.scale, result.magnitude.back());
    }
  }
  return result;
}

/// A sum of n products in T, in any order, is off by at most (n + 1) roundings of the sum of magnitudes; the oracle
/// adds its own in double.
template <class T>
double tolerance(std::int64_t rows, double scale) {
  return static_cast<double>(rows + 2) * (support::eps<T> + support::eps<double>)*scale;
}

template <class T>
ms::Tensor<T> rows_of(ms::Context& ctx, const std::vector<T>& values, std::int64_t width, std::int64_t begin,
                      std::int64_t end) {
  return ms::from_host<T>(ctx, {end - begin, width},
                          std::vector<T>(values.begin() + begin * width, values.begin() + end * width));
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("covariance: equals the plain loop, with and without bias, also at widths 0 and 1", T, float,
                   double) {
  for (const std::int64_t rows : {1, 31, 33, 200}) {
    for (const std::int64_t p : {0, 1, 5, 33}) {
      for (const bool bias : {false, true}) {
        CAPTURE(rows);
        CAPTURE(p);
        CAPTURE(bias);
        ms::Context ctx;
        const auto x = support::normal_values<T>(rows * p, 3);
        Covariance<T> covariance(ctx, p, bias);
        covariance.update(ctx, rows_of(ctx, x, p, 0, rows), rows);
        CHECK(covariance.samples() == rows);
        const auto mean = covariance.mean(ctx);
        static_assert(std::is_same_v<decltype(mean), const ms::Tensor<double>>);
        CHECK(mean.shape() == ms::Shape{p + bias, p + bias});
        const Plain expected = plain_product(x, p, bias, x, p, bias, rows, rows);
        support::check_close(ms::to_host(ctx, mean), expected.mean, tolerance<T>(rows, expected.scale));
      }
    }
  }
}

TEST_CASE_TEMPLATE("cross-covariance: equals the plain loop, with and without bias, also at widths 0 and 1", T, float,
                   double) {
  for (const std::int64_t rows : {1, 31, 200}) {
    for (const std::int64_t p : {0, 1, 6}) {
      for (const std::int64_t q : {0, 1, 33}) {
        for (const bool bias : {false, true}) {
          CAPTURE(rows);
          CAPTURE(p);
          CAPTURE(q);
          CAPTURE(bias);
          ms::Context ctx;
          const auto x = support::normal_values<T>(rows * p, 3), v = support::normal_values<T>(rows * q, 4);
          CrossCovariance<T> cross(ctx, p, bias, q);
          cross.update(ctx, rows_of(ctx, x, p, 0, rows), rows_of(ctx, v, q, 0, rows), rows);
          CHECK(cross.samples() == rows);
          const auto mean = cross.mean(ctx);
          CHECK(mean.shape() == ms::Shape{p + bias, q});
          const Plain expected = plain_product(x, p, bias, v, q, false, rows, rows);
          support::check_close(ms::to_host(ctx, mean), expected.mean, tolerance<T>(rows, expected.scale));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("covariance: order, splitting, merging and using the data twice change nothing", T, float, double) {
  ms::Context ctx;
  const std::int64_t rows = 240, p = 7, q = 3;
  const auto x = support::normal_values<T>(rows * p, 3), v = support::normal_values<T>(rows * q, 4);
  const Plain square = plain_product(x, p, true, x, p, true, rows, rows);
  const Plain product = plain_product(x, p, true, v, q, false, rows, rows);

  struct Both {
    Covariance<T> s;
    CrossCovariance<T> m;
    Both(ms::Context& ctx, std::int64_t p, std::int64_t q) : s(ctx, p, true), m(ctx, p, true, q) {}
  };
  const auto add = [&](Both& both, std::int64_t begin, std::int64_t end) {
    const auto part = rows_of(ctx, x, p, begin, end);
    both.s.update(ctx, part, end - begin);
    both.m.update(ctx, part, rows_of(ctx, v, q, begin, end), end - begin);
  };
  const auto check = [&](Both& both, std::int64_t samples, const char* what) {
    INFO(what);
    CHECK(both.s.samples() == samples);
    CHECK(both.m.samples() == samples);
    support::check_close(ms::to_host(ctx, both.s.mean(ctx)), square.mean, tolerance<T>(2 * rows, square.scale));
    support::check_close(ms::to_host(ctx, both.m.mean(ctx)), product.mean, tolerance<T>(2 * rows, product.scale));
  };

  Both whole(ctx, p, q);
  add(whole, 0, rows);
  check(whole, rows, "whole");

  const std::vector<std::int64_t> cuts{0, 1, 2, 33, 100, 100, 177, 240};
  Both split(ctx, p, q), backwards(ctx, p, q);
  for (std::size_t i = 1; i < cuts.size(); ++i) add(split, cuts[i - 1], cuts[i]);
  for (std::size_t i = cuts.size(); i-- > 1;) add(backwards, cuts[i - 1], cuts[i]);
  check(split, rows, "split");
  check(backwards, rows, "backwards");

  // The mean may be asked for in the middle of the stream.
  Both looked_at(ctx, p, q);
  add(looked_at, 0, 90);
  (void)looked_at.s.mean(ctx);
  (void)looked_at.m.mean(ctx);
  add(looked_at, 90, rows);
  check(looked_at, rows, "looked at");

  Both first(ctx, p, q), second(ctx, p, q), none(ctx, p, q);
  add(first, 0, 77);
  add(second, 77, rows);
  (void)second.s.mean(ctx);  // flushed or not, it merges alike
  first.s.merge(ctx, second.s);
  first.m.merge(ctx, second.m);
  first.s.merge(ctx, none.s);
  first.m.merge(ctx, none.m);
  check(first, rows, "merged");
  const auto untouched = ms::to_host(ctx, second.m.mean(ctx));
  none.m.merge(ctx, second.m);
  support::check_same_bits(ms::to_host(ctx, none.m.mean(ctx)), untouched, "into an empty one");
  support::check_same_bits(ms::to_host(ctx, second.m.mean(ctx)), untouched, "merging leaves the other alone");

  add(whole, 0, rows);
  check(whole, 2 * rows, "twice");
  whole.s.merge(ctx, whole.s);
  whole.m.merge(ctx, whole.m);
  check(whole, 4 * rows, "merged with itself");
}

TEST_CASE_TEMPLATE("covariance: rows of one sample are summed and divided by the samples", T, float, double) {
  ms::Context ctx;
  const std::int64_t n = 6, tokens = 5, p = 4, q = 2, rows = n * tokens;
  const auto x = support::normal_values<T>(rows * p, 3), v = support::normal_values<T>(rows * q, 4);
  const auto input = ms::from_host<T>(ctx, {n, tokens, p}, x), goal = ms::from_host<T>(ctx, {n, tokens, q}, v);
  Covariance<T> covariance(ctx, p, true);
  CrossCovariance<T> cross(ctx, p, true, q);
  covariance.update(ctx, input, n);
  cross.update(ctx, input, goal, n);
  CHECK(covariance.samples() == n);
  const Plain square = plain_product(x, p, true, x, p, true, rows, n);
  const Plain product = plain_product(x, p, true, v, q, false, rows, n);
  const auto mean = ms::to_host(ctx, covariance.mean(ctx));
  support::check_close(mean, square.mean, tolerance<T>(rows, square.scale));
  CHECK(mean.back() == static_cast<double>(tokens));
  support::check_close(ms::to_host(ctx, cross.mean(ctx)), product.mean, tolerance<T>(rows, product.scale));
}

TEST_CASE("covariance: both triangles hold the same bits, and two runs give the same") {
  const auto run = [] {
    ms::Context ctx;
    const auto x = support::normal_values<float>(500 * 37, 9);
    Covariance<float> covariance(ctx, 37, true);
    for (std::int64_t begin = 0; begin < 500; begin += 100) {
      covariance.update(ctx, rows_of(ctx, x, 37, begin, begin + 100), 100);
    }
    return ms::to_host(ctx, covariance.mean(ctx));
  };
  const auto mean = run();
  support::check_same_bits(run(), mean);
  for (std::size_t i = 0; i < 38; ++i) {
    for (std::size_t j = 0; j < i; ++j) REQUIRE(mean[i * 38 + j] == mean[j * 38 + i]);
  }
}

TEST_CASE("covariance: 100,000 float rows keep the error of one stretch, in one batch or many") {
  ms::Context ctx;
  const std::int64_t rows = 100000, p = 5, q = 3;
  auto x = support::normal_values<float>(rows * p, 3);
  const auto v = support::normal_values<float>(rows * q, 4);
  // A mean of 2 makes sums that grow all the way, a constant column roundings that all go the same way.
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % p == 4 ? 0.1f : x[i] + 2.0f;
  const Plain square = plain_product(x, p, true, x, p, true, rows, rows);
  const Plain product = plain_product(x, p, true, v, q, false, rows, rows);
  // Per stretch √8192 · 2^-24 of the root mean square; terms here have a root mean square below 10 (E[x⁴] = 43). The
  // constant column may be off by a rounding per row, 8192 · 2^-24 of it at worst, were it added up one row at a time;
  // no sum of 32 or more partial sums comes near: (8192 / 32 + 32) 2^-24.
  const double random = std::sqrt(8192.0) * 0x1p-24 * 10.0;
  const double constant = (8192.0 / 32 + 32) * 0x1p-24 * 2.0;
  for (const std::int64_t batch : {std::int64_t{777}, std::int64_t{20000}, rows}) {
    CAPTURE(batch);
    Covariance<float> covariance(ctx, p, true);
    CrossCovariance<float> cross(ctx, p, true, q);
    for (std::int64_t begin = 0; begin < rows; begin += batch) {
      const std::int64_t end = std::min(begin + batch, rows);
      const auto part = rows_of(ctx, x, p, begin, end);
      covariance.update(ctx, part, end - begin);
      cross.update(ctx, part, rows_of(ctx, v, q, begin, end), end - begin);
    }
    const auto mean = ms::to_host(ctx, covariance.mean(ctx));
    support::check_close(mean, square.mean, std::max(random, constant));
    CHECK(mean.back() == 1.0);
    support::check_close(ms::to_host(ctx, cross.mean(ctx)), product.mean, std::max(random, constant));
  }
}

TEST_CASE("covariance: the number of rows is counted exactly beyond what a float can hold" *
          doctest::test_suite("slow")) {
  ms::Context ctx;
  const std::int64_t rows = (std::int64_t{1} << 24) + 1;
  const ms::View<const float> nothing(nullptr, {rows, 0});
  Covariance<float> covariance(ctx, 0, true);
  covariance.update(ctx, nothing, rows);
  CHECK(ms::to_host(ctx, covariance.mean(ctx)) == std::vector<double>{1.0});
  covariance.update(ctx, nothing.slice(0, 0, 1), 1);
  CHECK(ms::to_host(ctx, covariance.mean(ctx)) == std::vector<double>{1.0});
}

TEST_CASE("covariance: a batch of 0 rows changes nothing") {
  ms::Context ctx;
  const auto x = support::normal_values<float>(12, 3);
  Covariance<float> covariance(ctx, 3, true);
  CrossCovariance<float> cross(ctx, 3, true, 3);
  const auto input = rows_of(ctx, x, 3, 0, 4), none = ms::zeros<float>(ctx, {0, 3});
  covariance.update(ctx, input, 4);
  cross.update(ctx, input, input, 4);
  const auto s = ms::to_host(ctx, covariance.mean(ctx)), m = ms::to_host(ctx, cross.mean(ctx));
  covariance.update(ctx, none, 0);
  cross.update(ctx, none, none, 0);
  support::check_same_bits(ms::to_host(ctx, covariance.mean(ctx)), s);
  support::check_same_bits(ms::to_host(ctx, cross.mean(ctx)), m);
}

TEST_CASE("covariance: a NaN among the rows stays visible") {
  ms::Context ctx;
  std::vector<float> x = support::normal_values<float>(12, 3);
  x[4] = std::numeric_limits<float>::quiet_NaN();
  Covariance<float> covariance(ctx, 3, true);
  covariance.update(ctx, rows_of(ctx, x, 3, 0, 4), 4);
  const auto mean = ms::to_host(ctx, covariance.mean(ctx));
  CHECK(std::isnan(mean[1 * 4 + 1]));
  CHECK(std::isnan(mean[0 * 4 + 1]));
  CHECK(std::isnan(mean[3 * 4 + 1]));
  CHECK(std::isfinite(mean[0]));
}

TEST_CASE("covariance: misuse is told and changes nothing") {
  ms::Context ctx;
  Covariance<float> covariance(ctx, 3, true);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)covariance.mean(ctx); }),
                 "Covariance: the mean of no samples was asked for; call update first"));
  const auto x = ms::from_host<float>(ctx, {2, 3}, {1, 2, 3, 4, 5, 6});
  covariance.update(ctx, x, 2);
  const auto before = ms::to_host(ctx, covariance.mean(ctx));

  const auto wide = ms::zeros<float>(ctx, {2, 4});
  CHECK(contains(message_of<ms::ShapeError>([&] { covariance.update(ctx, wide, 2); }),
                 "Covariance: was made for rows of 3 features, got 4"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { covariance.update(ctx, x, -1); }),
                 "Covariance: the number of samples is -1; it must be 0 or more"));
  CHECK(contains(message_of<ms::ShapeError>([&] { covariance.update(ctx, ms::View<const float>(), 1); }), "rank 0"));
  // Four coordinates each, but of another meaning.
  Covariance<float> without_bias(ctx, 4, false), plain(ctx, 3, false);
  CHECK(contains(message_of<ms::ShapeError>([&] { covariance.merge(ctx, without_bias); }),
                 "was made for rows of 3 features, got 4"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { covariance.merge(ctx, plain); }),
                 "Covariance: one with a bias and one without cannot be merged"));
  CHECK(contains(message_of<ms::ShapeError>([&] { Covariance<float>(ctx, -2, false); }), "is -2"));
  support::check_same_bits(ms::to_host(ctx, covariance.mean(ctx)), before);
  CHECK(covariance.samples() == 2);
}

TEST_CASE("cross-covariance: misuse is told and changes nothing") {
  ms::Context ctx;
  CrossCovariance<float> cross(ctx, 3, true, 2);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)cross.mean(ctx); }),
                 "CrossCovariance: the mean of no samples was asked for; call update first"));
  const auto x = ms::from_host<float>(ctx, {2, 3}, {1, 2, 3, 4, 5, 6});
  const auto v = ms::from_host<float>(ctx, {2, 2}, {1, -2, 3, -4});
  cross.update(ctx, x, v, 2);
  const auto before = ms::to_host(ctx, cross.mean(ctx));

  CHECK(contains(message_of<ms::ShapeError>([&] { cross.update(ctx, v, v, 2); }),
                 "CrossCovariance: was made for rows of 3 features, got 2"));
  CHECK(contains(message_of<ms::ShapeError>([&] { cross.update(ctx, x, x, 2); }),
                 "CrossCovariance: was made for rows of 2 features, got 3"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { cross.update(ctx, x, v, -3); }), "the number of samples is -3"));
  const auto longer = ms::zeros<float>(ctx, {3, 2});
  CHECK(contains(message_of<ms::ShapeError>([&] { cross.update(ctx, x, longer, 2); }),
                 "CrossCovariance: rows come in pairs; got 2 rows of x and 3 of v"));
  CrossCovariance<float> other_inputs(ctx, 4, false, 2), other_outputs(ctx, 3, true, 4), plain(ctx, 3, false, 2);
  CHECK(contains(message_of<ms::ShapeError>([&] { cross.merge(ctx, other_inputs); }), "of 3 features, got 4"));
  CHECK(contains(message_of<ms::ShapeError>([&] { cross.merge(ctx, other_outputs); }), "of 2 features, got 4"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { cross.merge(ctx, plain); }), "one with a bias and one without"));
  support::check_same_bits(ms::to_host(ctx, cross.mean(ctx)), before);
  CHECK(cross.samples() == 2);
}

TEST_SUITE_END();

}  // namespace grow_accumulator_test
