#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/kernels/cross_covariance.cuh>
#include <support/check.hpp>

namespace kernels_cross_covariance_test {

TEST_SUITE_BEGIN("unit");

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using mk::CovariancePath;
using support::Guarded;

struct Case {
  std::int64_t n;
  std::int64_t p;
  std::int64_t q;
  bool bias;
  CovariancePath path;
  std::int64_t padding = 0;  // elements between the rows of all three matrices
};

template <class T>
std::vector<T> compute(ms::Context& ctx, const Case& c, const std::vector<T>& x_values,
                       const std::vector<T>& v_values) {
  const std::int64_t height = c.p + (c.bias ? 1 : 0);
  const auto x = ms::from_host<T>(ctx, {c.n, c.p + c.padding}, x_values);
  const auto v = ms::from_host<T>(ctx, {c.n, c.q + c.padding}, v_values);
  Guarded<T> m(ctx, {height, c.q + c.padding}, T(3));
  mk::accumulate_cross_covariance(ctx, x.view().slice(1, 0, c.p), c.bias, v.view().slice(1, 0, c.q),
                                  m.view().slice(1, 0, c.q), c.path);
  m.check_guards(ctx);
  return m.values(ctx);
}

template <class T>
void check_case(ms::Context& ctx, const Case& c) {
  const std::string what = ms::concat("n ", c.n, ", p ", c.p, ", q ", c.q, ", bias ", c.bias, ", path ",
                                      static_cast<int>(c.path), ", padding ", c.padding, ", ", ms::dtype_name<T>);
  const std::int64_t height = c.p + (c.bias ? 1 : 0);
  const std::int64_t m_stride = c.q + c.padding;
  const auto x = support::normal_values<T>(c.n * (c.p + c.padding), 21);
  const auto v = support::normal_values<T>(c.n * (c.q + c.padding), 22);
  std::vector<double> expected(static_cast<std::size_t>(height * m_stride), 3.0);
  std::vector<double> magnitude(expected.size(), 0.0);
  for (std::int64_t r = 0; r < c.n; ++r) {
    for (std::int64_t i = 0; i < height; ++i) {
      const double a = i < c.p ? static_cast<double>(x[static_cast<std::size_t>(r * (c.p + c.padding) + i)]) : 1.0;
      for (std::int64_t j = 0; j < c.q; ++j) {
        const double term = a * static_cast<double>(v[static_cast<std::size_t>(r * m_stride + j)]);
        expected[static_cast<std::size_t>(i * m_stride + j)] += term;
        magnitude[static_cast<std::size_t>(i * m_stride + j)] += std::abs(term);
      }
    }
  }
  // n roundings of partial sums that are at most the sum of the terms' magnitudes.
  const double tolerance =
      2 * std::sqrt(static_cast<double>(c.n + 1)) * support::eps<T> * (3.0 + support::scale_of(magnitude, 1.0));
  const auto actual = compute<T>(ctx, c, x, v);
  support::check_close(actual, expected, tolerance, what);
  for (std::int64_t i = 0; i < height; ++i) {
    for (std::int64_t j = c.q; j < m_stride; ++j) REQUIRE(actual[static_cast<std::size_t>(i * m_stride + j)] == T(3));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("cross_covariance: every shape, path and bias matches the double loop", T, float, double) {
  ms::Context production({.seed = 1});
  ms::ContextOptions options;
  options.executor.gpu_blocks = true;
  ms::Context blocks(options);
  for (const std::int64_t n : {0, 1, 2, 31, 33, 65, 130}) {
    for (const std::int64_t p : {0, 1, 2, 31, 33, 65, 130}) {
      for (const std::int64_t q : {0, 1, 2, 31, 33, 65, 130}) {
        const bool bias = (n + p + q) % 2 == 0;
        check_case<T>(production, {n, p, q, true, CovariancePath::blas});
        check_case<T>(production, {n, p, q, bias, CovariancePath::automatic});
        check_case<T>(blocks, {n, p, q, bias, CovariancePath::kernel});
      }
    }
  }
  check_case<T>(blocks, {9001, 3, 2, true, CovariancePath::kernel});  // as many slabs of rows as there may be
}

TEST_CASE_TEMPLATE("cross_covariance: the tile kernel in every thread order", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    check_case<T>(ctx, {130, 65, 10, true, CovariancePath::kernel});
    check_case<T>(ctx, {70, 3, 66, true, CovariancePath::kernel});
    check_case<T>(ctx, {33, 65, 1, false, CovariancePath::kernel});
    check_case<T>(ctx, {1, 0, 2, true, CovariancePath::kernel});
  });
}

TEST_CASE_TEMPLATE("cross_covariance: rows with gaps, aligned and not", T, float, double) {
  ms::Context production({.seed = 1});
  ms::ContextOptions options;
  options.executor.gpu_blocks = true;
  ms::Context blocks(options);
  for (const std::int64_t padding : {1, 3, 4}) {
    check_case<T>(production, {35, 33, 20, true, CovariancePath::blas, padding});
    check_case<T>(blocks, {35, 33, 20, true, CovariancePath::kernel, padding});
    check_case<T>(blocks, {35, 64, 16, true, CovariancePath::kernel, padding});
  }
}

TEST_CASE("cross_covariance: the number of OpenMP workers and a second run change no bit") {
  for (const std::int64_t q : {10, 70}) {
    const Case c{130, 65, q, true, CovariancePath::kernel};
    const auto x = support::normal_values<float>(c.n * c.p, 3);
    const auto v = support::normal_values<float>(c.n * c.q, 4);
    const auto run = [&](int threads, bool gpu_blocks) {
      ms::ContextOptions options;
      options.executor.threads = threads;
      options.executor.gpu_blocks = gpu_blocks;
      ms::Context ctx(options);
      return compute<float>(ctx, c, x, v);
    };
    const auto first = run(1, true);
    support::check_same_bits(first, run(1, true), "a second run");
    support::check_same_bits(first, run(2, true), "two workers");
    support::check_same_bits(first, run(2, false), "another block size");
  }
}

TEST_CASE("cross_covariance: two halves of the rows add up to the whole") {
  ms::Context ctx({.seed = 1});
  const std::int64_t n = 130, p = 33, q = 5;
  const auto x_values = support::normal_values<double>(n * p, 5);
  const auto v_values = support::normal_values<double>(n * q, 6);
  const auto x = ms::from_host<double>(ctx, {n, p}, x_values);
  const auto v = ms::from_host<double>(ctx, {n, q}, v_values);
  for (const auto path : {CovariancePath::blas, CovariancePath::kernel}) {
    auto whole = ms::zeros<double>(ctx, {p + 1, q});
    auto halves = ms::zeros<double>(ctx, {p + 1, q});
    mk::accumulate_cross_covariance(ctx, x.view(), true, v.view(), whole.view(), path);
    mk::accumulate_cross_covariance(ctx, x.view().slice(0, 0, 47), true, v.view().slice(0, 0, 47), halves.view(), path);
    mk::accumulate_cross_covariance(ctx, x.view().slice(0, 47, n), true, v.view().slice(0, 47, n), halves.view(), path);
    support::check_close(
        ms::to_host(ctx, halves), ms::to_host(ctx, whole),
        4 * std::sqrt(double(n)) * support::eps<double> * support::scale_of(x_values) * support::scale_of(v_values));
    CHECK(support::scale_of(ms::to_host(ctx, whole)) > 1.0);
  }
}

TEST_CASE("cross_covariance: shapes that do not fit are named") {
  ms::Context ctx({.seed = 1});
  const auto x = ms::zeros<float>(ctx, {5, 3});
  const auto v = ms::zeros<float>(ctx, {5, 2});
  const auto short_v = ms::zeros<float>(ctx, {4, 2});
  auto vector = ms::zeros<float>(ctx, {5});
  auto m = ms::zeros<float>(ctx, {4, 2});
  const auto message = [&](auto action) { return support::message_of<ms::ShapeError>(action); };
  CHECK(message([&] { mk::accumulate_cross_covariance(ctx, x.view(), true, short_v.view(), m.view()); }) ==
        "accumulate_cross_covariance: x and v must have the same number of rows, one for each sample; got (5, 3) and "
        "(4, 2)");
  CHECK(message([&] { mk::accumulate_cross_covariance(ctx, x.view(), false, v.view(), m.view()); }) ==
        "accumulate_cross_covariance: x has 3 columns and v has 2, so m must have shape (3, 2); got (4, 2)");
  CHECK(message([&] { mk::accumulate_cross_covariance(ctx, v.view(), true, v.view(), m.view()); }) ==
        "accumulate_cross_covariance: x has 2 columns and a bias and v has 2, so m must have shape (3, 2); got (4, 2)");
  CHECK(message([&] { mk::accumulate_cross_covariance(ctx, vector.view(), true, v.view(), m.view()); }) ==
        "accumulate_cross_covariance: x has shape (5); it must have rank 2 (rows, columns)");
  CHECK(message([&] { mk::accumulate_cross_covariance(ctx, x.view(), true, vector.view(), m.view()); }) ==
        "accumulate_cross_covariance: v has shape (5); it must have rank 2 (rows, columns)");
  CHECK(message([&] { mk::accumulate_cross_covariance(ctx, x.view(), true, v.view(), vector.view()); }) ==
        "accumulate_cross_covariance: m has shape (5); it must have rank 2 (rows, columns)");
}

TEST_SUITE_END();

}  // namespace kernels_cross_covariance_test
