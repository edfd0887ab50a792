#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/random.cuh>
#include <support/check.hpp>

namespace kernels_random_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

template <class T>
std::vector<T> normals(ms::Context& ctx, std::uint64_t stream, const ms::Shape& shape, double mean = 0.0,
                       double stddev = 1.0) {
  ms::Tensor<T> x(ctx, shape);
  kernels::fill_normal(ctx, stream, static_cast<T>(mean), static_cast<T>(stddev), x.view());
  return ms::to_host(ctx, x);
}

template <class T>
std::vector<T> uniforms(ms::Context& ctx, std::uint64_t stream, const ms::Shape& shape, double low, double high) {
  ms::Tensor<T> x(ctx, shape);
  kernels::fill_uniform(ctx, stream, static_cast<T>(low), static_cast<T>(high), x.view());
  return ms::to_host(ctx, x);
}

// Largest distance between the empirical and the given distribution function.
template <class Distribution>
double kolmogorov_distance(std::vector<double> sample, Distribution distribution) {
  std::sort(sample.begin(), sample.end());
  const double n = static_cast<double>(sample.size());
  double worst = 0.0;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const double expected = distribution(sample[i]);
    worst = std::max(
        {worst, std::abs(expected - static_cast<double>(i) / n), std::abs(expected - static_cast<double>(i + 1) / n)});
  }
  return worst;
}

}  // namespace

TEST_CASE_TEMPLATE("random: element i is number i of the stream, on every executor", T, float, double) {
  const ms::Philox random(1, 5);  // for_every_executor's contexts have seed 1
  support::for_every_executor([&](ms::Context& ctx) {
    for (const std::int64_t n : {0, 1, 31, 32, 33, 1000}) {
      std::vector<T> uniform, normal;
      for (std::int64_t i = 0; i < n; ++i) {
        const auto index = static_cast<std::uint64_t>(i);
        uniform.push_back(static_cast<T>(std::fma(random.uniform(index), 5.0, -2.0)));
        normal.push_back(static_cast<T>(std::fma(random.normal(index), 0.5, 3.0)));
      }
      Guarded<T> x(ctx, {n});
      kernels::fill_uniform(ctx, 5, -2, 3, x.view());
      x.check_guards(ctx);
      support::check_same_bits(x.values(ctx), uniform);
      kernels::fill_normal(ctx, 5, 3, 0.5, x.view());
      x.check_guards(ctx);
      support::check_same_bits(x.values(ctx), normal);
    }
  });
}

TEST_CASE("random: every compiler and executor draws these bits") {
  ms::Context ctx({.seed = 1});
  support::check_same_bits(normals<double>(ctx, 5, {4}),
                           {-0x1.ca5570da550fdp-2, 0x1.c93a019db3218p-9, -0x1.45f4789d0e58ep-1, 0x1.5e6846bfb8623p-1});
  support::check_same_bits(uniforms<double>(ctx, 5, {4}, -2.0, 3.0),
                           {0x1.42fe980d3a09ap+1, 0x1.f9a63921948fap-2, 0x1.3af8feb4100fep+0, -0x1.3ae4e99b5365cp-3});
}

TEST_CASE("random: the shape does not matter, the stream and the seed do") {
  ms::Context ctx({.seed = 1}), other({.seed = 2});
  const std::vector<float> flat = normals<float>(ctx, 5, {24});
  support::check_same_bits(normals<float>(ctx, 5, {2, 3, 4}), flat);
  std::vector<float> longer = normals<float>(ctx, 5, {100});
  longer.resize(24);
  support::check_same_bits(longer, flat, "a longer tensor begins alike");
  CHECK(normals<float>(ctx, 6, {24}) != flat);
  CHECK(normals<float>(other, 5, {24}) != flat);
}

TEST_CASE("random: the same bits for one and two workers and for two runs") {
  const std::int64_t n = 200'001;
  const auto run = [&](int workers) {
    ms::ContextOptions options{.seed = 1};
    options.executor.threads = workers;
    ms::Context ctx(options);
    return normals<float>(ctx, 9, {n});
  };
  const std::vector<float> first = run(1);
  support::check_same_bits(first, run(1));
  support::check_same_bits(first, run(2));
}

TEST_CASE_TEMPLATE("random: distributions", T, float, double) {
  ms::Context ctx({.seed = 3});
  const std::int64_t n = 20'000;
  // The distance exceeds 1.95 / sqrt(n) with probability 0.001 (Kolmogorov); the seed is fixed.
  const double limit = 1.95 / std::sqrt(static_cast<double>(n));
  const std::vector<T> uniform = uniforms<T>(ctx, 1, {n}, -1.0, 3.0);
  CHECK(*std::min_element(uniform.begin(), uniform.end()) >= T(-1));
  CHECK(*std::max_element(uniform.begin(), uniform.end()) <= T(3));
  CHECK(kolmogorov_distance(support::to_double(uniform), [](double x) { return (x + 1.0) / 4.0; }) < limit);
  const std::vector<T> normal = normals<T>(ctx, 2, {n}, 1.0, 2.0);
  CHECK(kolmogorov_distance(support::to_double(normal),
                            [](double x) { return 0.5 * std::erfc(-(x - 1.0) / 2.0 / std::sqrt(2.0)); }) < limit);
  // Neighbours come from one pair of uniform numbers; they must not be correlated.
  double product = 0.0;
  for (std::int64_t i = 0; i < n; i += 2) {
    const auto at = static_cast<std::size_t>(i);
    product += (static_cast<double>(normal[at]) - 1.0) * (static_cast<double>(normal[at + 1]) - 1.0) / 4.0;
  }
  CHECK(std::abs(product) < 3.3 * std::sqrt(static_cast<double>(n / 2)));  // 3.3 standard deviations
}

TEST_CASE("random: degenerate ranges are allowed") {
  ms::Context ctx({.seed = 1});
  CHECK(uniforms<float>(ctx, 1, {3}, 2.0, 2.0) == std::vector<float>(3, 2.0f));
  CHECK(normals<double>(ctx, 1, {3}, -1.5, 0.0) == std::vector<double>(3, -1.5));
}

TEST_CASE("random: bad ranges are named") {
  ms::Context ctx({.seed = 1});
  auto x = ms::zeros<float>(ctx, {2, 3});
  CHECK(message_of<ms::ArgumentError>([&] { kernels::fill_uniform(ctx, 1, 1, 0, x.view()); }) ==
        "fill_uniform: the range is [1, 0]; low must not exceed high, and both must be finite");
  CHECK(message_of<ms::ArgumentError>([&] {
          kernels::fill_uniform(ctx, 1, 0, std::numeric_limits<float>::infinity(), x.view());
        }) == "fill_uniform: the range is [0, inf]; low must not exceed high, and both must be finite");
  CHECK(message_of<ms::ArgumentError>([&] { kernels::fill_normal(ctx, 1, 0, -2, x.view()); }) ==
        "fill_normal: mean is 0 and stddev is -2; both must be finite and stddev 0 or more");
  CHECK(message_of<ms::ArgumentError>([&] {
          kernels::fill_normal(ctx, 1, std::numeric_limits<float>::quiet_NaN(), 1, x.view());
        }) == "fill_normal: mean is nan and stddev is 1; both must be finite and stddev 0 or more");
  CHECK(support::contains(
      message_of<ms::ShapeError>([&] { kernels::fill_normal(ctx, 1, 0, 1, x.view().slice(1, 0, 2)); }),
      "fill_normal: x of shape (2, 2) is strided"));
  CHECK(support::contains(
      message_of<ms::ShapeError>([&] { kernels::fill_uniform(ctx, 1, 0, 1, x.view().slice(1, 0, 2)); }),
      "fill_uniform: x of shape (2, 2) is strided"));
}

TEST_SUITE_END();

}  // namespace kernels_random_test
