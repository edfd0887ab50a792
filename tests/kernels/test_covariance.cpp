#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/kernels/covariance.cuh>
#include <support/check.hpp>

namespace kernels_covariance_test {

TEST_SUITE_BEGIN("unit");

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using mk::CovariancePath;
using support::Guarded;

constexpr double fill = -7.0;

std::vector<double> positive_weights(std::int64_t n) {
  std::vector<double> weights;
  for (std::int64_t r = 0; r < n; ++r) weights.push_back(static_cast<double>(r % 4) + (r % 3 == 0 ? 0.25 : 0.0));
  return weights;
}

// s of shape (width, stride): fill plus the covariance in the lower triangle, fill elsewhere.
template <class T>
std::vector<double> oracle(const std::vector<T>& x, std::int64_t n, std::int64_t p, std::int64_t x_stride, bool bias,
                           const std::vector<double>& weight, std::int64_t s_stride) {
  const std::int64_t width = p + (bias ? 1 : 0);
  const auto value = [&](std::int64_t r, std::int64_t i) {
    return i < p ? static_cast<double>(x[static_cast<std::size_t>(r * x_stride + i)]) : 1.0;
  };
  std::vector<double> s(static_cast<std::size_t>(width * s_stride), fill);
  for (std::int64_t i = 0; i < width; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      double sum = 0.0;
      for (std::int64_t r = 0; r < n; ++r) {
        sum += value(r, i) * value(r, j) * (weight.empty() ? 1.0 : weight[static_cast<std::size_t>(r)]);
      }
      s[static_cast<std::size_t>(i * s_stride + j)] += sum;
    }
  }
  return s;
}

struct Case {
  std::int64_t n;
  std::int64_t p;
  bool bias;
  bool weighted;
  CovariancePath path;
  std::int64_t x_padding = 0;  // elements between the rows of x
  std::int64_t s_padding = 0;
};

template <class T>
std::vector<T> compute(ms::Context& ctx, const Case& c, const std::vector<T>& x_values,
                       const std::vector<double>& weights) {
  const std::int64_t width = c.p + (c.bias ? 1 : 0);
  const auto x = ms::from_host<T>(ctx, {c.n, c.p + c.x_padding}, x_values);
  const auto w = ms::from_host<T>(ctx, {c.n}, std::vector<T>(weights.begin(), weights.end()));
  Guarded<T> s(ctx, {width, width + c.s_padding}, static_cast<T>(fill));
  mk::accumulate_covariance(ctx, x.view().slice(1, 0, c.p), c.bias, s.view().slice(1, 0, width), c.path,
                            c.weighted ? w.view() : ms::View<const T>());
  s.check_guards(ctx);
  return s.values(ctx);
}

template <class T>
void check_case(ms::Context& ctx, const Case& c) {
  const std::string what =
      ms::concat("n ", c.n, ", p ", c.p, ", bias ", c.bias, ", weighted ", c.weighted, ", path ",
                 static_cast<int>(c.path), ", paddings ", c.x_padding, " and ", c.s_padding, ", ", ms::dtype_name<T>);
  INFO(what);
  const std::int64_t width = c.p + (c.bias ? 1 : 0);
  const auto x = support::normal_values<T>(c.n * (c.p + c.x_padding), 11);
  const auto weights = c.weighted ? positive_weights(c.n) : std::vector<double>(static_cast<std::size_t>(c.n), 1.0);
  const auto expected =
      oracle(x, c.n, c.p, c.p + c.x_padding, c.bias, c.weighted ? weights : std::vector<double>(), width + c.s_padding);
  const auto actual = compute<T>(ctx, c, x, weights);
  // n roundings of partial sums that are at most the sum of the terms' magnitudes, itself at most the largest diagonal
  // element (Cauchy-Schwarz).
  const double tolerance =
      2 * std::sqrt(static_cast<double>(c.n + 1)) * support::eps<T> * (support::scale_of(expected, 1.0) - 2 * fill);
  support::check_close(actual, expected, tolerance, what);
  for (std::int64_t i = 0; i < width; ++i) {
    for (std::int64_t j = i + 1; j < width + c.s_padding; ++j) {
      const T untouched = actual[static_cast<std::size_t>(i * (width + c.s_padding) + j)];
      if (untouched != static_cast<T>(fill)) {
        CAPTURE(i);
        CAPTURE(j);
        CHECK(untouched == static_cast<T>(fill));
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("covariance: every shape, path, bias and weight matches the double loop", T, float, double) {
  ms::Context production({.seed = 1});
  for (const std::int64_t n : {0, 1, 2, 31, 33, 65, 130}) {
    for (const std::int64_t p : {0, 1, 2, 31, 33, 65, 130}) {
      for (const bool bias : {false, true}) {
        for (const bool weighted : {false, true}) {
          check_case<T>(production, {n, p, bias, weighted, CovariancePath::blas});
          check_case<T>(production, {n, p, bias, weighted, CovariancePath::automatic});
        }
      }
    }
  }
  ms::ContextOptions options;
  options.executor.gpu_blocks = true;
  ms::Context blocks(options);
  for (const std::int64_t n : {0, 1, 2, 31, 33, 65, 130}) {
    for (const std::int64_t p : {0, 1, 2, 31, 33, 65, 130}) {
      check_case<T>(blocks, {n, p, (n + p) % 2 == 0, false, CovariancePath::kernel});
      check_case<T>(blocks, {n, p, (n + p) % 2 == 1, true, CovariancePath::kernel});
    }
  }
  check_case<T>(blocks, {9001, 3, true, true, CovariancePath::kernel});  // as many slabs of rows as there may be
}

TEST_CASE_TEMPLATE("covariance: the tile kernel in every thread order", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    check_case<T>(ctx, {130, 65, true, false, CovariancePath::kernel});
    check_case<T>(ctx, {33, 2, true, true, CovariancePath::kernel});
    check_case<T>(ctx, {2, 66, false, true, CovariancePath::kernel});
    check_case<T>(ctx, {1, 0, true, false, CovariancePath::kernel});
  });
}

TEST_CASE_TEMPLATE("covariance: rows with gaps, aligned and not, and an output inside a larger matrix", T, float,
                   double) {
  ms::Context production({.seed = 1});
  ms::ContextOptions options;
  options.executor.gpu_blocks = true;
  ms::Context blocks(options);
  for (const std::int64_t x_padding : {1, 3, 4}) {
    for (const bool weighted : {false, true}) {
      check_case<T>(production, {35, 33, true, weighted, CovariancePath::blas, x_padding, 2});
      check_case<T>(blocks, {35, 33, true, weighted, CovariancePath::kernel, x_padding, 2});
      check_case<T>(blocks, {35, 64, true, weighted, CovariancePath::kernel, x_padding, 5});
    }
  }
}

TEST_CASE("covariance: the number of OpenMP workers and a second run change no bit") {
  const Case c{130, 65, true, true, CovariancePath::kernel};
  const auto x = support::normal_values<float>(c.n * c.p, 3);
  const auto run = [&](int threads, bool gpu_blocks) {
    ms::ContextOptions options;
    options.executor.threads = threads;
    options.executor.gpu_blocks = gpu_blocks;
    ms::Context ctx(options);
    return compute<float>(ctx, c, x, positive_weights(c.n));
  };
  const auto first = run(1, true);
  support::check_same_bits(first, run(1, true), "a second run");
  support::check_same_bits(first, run(2, true), "two workers");
  support::check_same_bits(first, run(2, false), "another block size");
}

TEST_CASE("covariance: two halves of the rows add up to the whole") {
  ms::Context ctx({.seed = 1});
  const std::int64_t n = 130, p = 33;
  const auto values = support::normal_values<double>(n * p, 5);
  const auto x = ms::from_host<double>(ctx, {n, p}, values);
  for (const auto path : {CovariancePath::blas, CovariancePath::kernel}) {
    auto whole = ms::zeros<double>(ctx, {p + 1, p + 1});
    auto halves = ms::zeros<double>(ctx, {p + 1, p + 1});
    mk::accumulate_covariance(ctx, x.view(), true, whole.view(), path);
    mk::accumulate_covariance(ctx, x.view().slice(0, 0, 47), true, halves.view(), path);
    mk::accumulate_covariance(ctx, x.view().slice(0, 47, n), true, halves.view(), path);
    const double scale = support::scale_of(values);
    support::check_close(ms::to_host(ctx, halves), ms::to_host(ctx, whole),
                         4 * std::sqrt(double(n)) * support::eps<double> * scale * scale);
    CHECK(ms::to_host(ctx, whole).back() == doctest::Approx(double(n)));
  }
}

TEST_CASE("covariance: a NaN shows in its row and column only") {
  ms::ContextOptions options;
  options.executor.gpu_blocks = true;
  ms::Context ctx(options);
  const std::int64_t n = 20, p = 70, at = 66;
  auto values = support::normal_values<float>(n * p, 5);
  values[static_cast<std::size_t>(3 * p + at)] = NAN;
  const auto x = ms::from_host<float>(ctx, {n, p}, values);
  for (const auto path : {CovariancePath::blas, CovariancePath::kernel}) {
    auto s = ms::zeros<float>(ctx, {p + 1, p + 1});
    mk::accumulate_covariance(ctx, x.view(), true, s.view(), path);
    const auto result = ms::to_host(ctx, s);
    for (std::int64_t i = 0; i <= p; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        REQUIRE(std::isnan(result[static_cast<std::size_t>(i * (p + 1) + j)]) == (i == at || j == at));
      }
    }
  }
}

TEST_CASE("covariance: shapes that do not fit are named") {
  ms::Context ctx({.seed = 1});
  const auto x = ms::zeros<float>(ctx, {5, 3});
  const auto images = ms::zeros<float>(ctx, {5, 2, 2, 3});
  const auto weight = ms::zeros<float>(ctx, {4});
  auto s = ms::zeros<float>(ctx, {4, 4});
  const auto message = [&](auto action) { return support::message_of<ms::ShapeError>(action); };
  CHECK(message([&] { mk::accumulate_covariance(ctx, images.view(), true, s.view()); }) ==
        "accumulate_covariance: x has shape (5, 2, 2, 3); it must have rank 2 (rows, columns)");
  CHECK(message([&] { mk::accumulate_covariance(ctx, x.view(), false, s.view()); }) ==
        "accumulate_covariance: x has 3 columns, so s must have shape (3, 3); got (4, 4)");
  CHECK(message([&] { mk::accumulate_covariance(ctx, s.view(), true, s.view()); }) ==
        "accumulate_covariance: x has 4 columns and a bias, so s must have shape (5, 5); got (4, 4)");
  CHECK(message([&] {
          mk::accumulate_covariance(ctx, x.view(), true, s.view(), CovariancePath::automatic, weight.view());
        }) == "accumulate_covariance: x has 5 rows, so weight must hold 5 contiguous numbers; got shape (4)");
  auto vector = ms::zeros<float>(ctx, {16});
  CHECK(message([&] { mk::accumulate_covariance(ctx, x.view(), true, vector.view()); }) ==
        "accumulate_covariance: s has shape (16); it must have rank 2 (rows, columns)");
}

TEST_SUITE_END();

}  // namespace kernels_covariance_test
