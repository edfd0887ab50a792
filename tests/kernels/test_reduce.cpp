#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/reduce.cuh>
#include <support/check.hpp>

namespace kernels_reduce_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using kernels::Accumulate;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

template <class T>
std::vector<double> oracle_column_sums(const std::vector<T>& x, std::int64_t rows, std::int64_t cols) {
  std::vector<double> sums(static_cast<std::size_t>(cols), 0.0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      sums[static_cast<std::size_t>(c)] += static_cast<double>(x[static_cast<std::size_t>(r * cols + c)]);
    }
  }
  return sums;
}

// A running sum of r numbers of size s is about s sqrt(r) large, and an addition rounds it by up to eps / 2 in a random
// direction. The kernel adds at most 64 terms at a time on several levels: below 4 eps s sqrt(r) for the scale s = max.
// The oracle adds r terms in double: below eps s r.
template <class T>
double column_tolerance(const std::vector<T>& x, std::int64_t rows) {
  const double r = static_cast<double>(rows + 1);
  return support::scale_of(x) * (4 * support::eps<T> * std::sqrt(r) + support::eps<double> * r);
}

ms::ContextOptions workers(int count) {
  ms::ContextOptions options{.seed = 1};
  options.executor.threads = count;
  return options;
}

}  // namespace

TEST_CASE_TEMPLATE("reduce: column_sums against loops in double", T, float, double) {
  const std::vector<T> numbers = support::normal_values<T>(70'000, 1);
  support::for_every_executor([&](ms::Context& ctx) {
    for (const std::int64_t rows : {0, 1, 31, 63, 64, 65, 1000, 4097}) {
      for (const std::int64_t cols : {0, 1, 10, 33, 600}) {
        if (rows * cols > 70'000) continue;
        INFO("rows ", rows, ", cols ", cols);
        const std::vector<T> x(numbers.begin(), numbers.begin() + rows * cols);
        const auto device_x = ms::from_host<T>(ctx, {rows, cols}, x);
        std::vector<double> expected = oracle_column_sums(x, rows, cols);
        const double tolerance = column_tolerance(x, rows);

        Guarded<T> out(ctx, {cols}, std::numeric_limits<T>::quiet_NaN());
        kernels::column_sums(ctx, device_x, out.view());
        out.check_guards(ctx);
        support::check_close(out.values(ctx), expected, tolerance, "overwrite");

        Guarded<T> accumulated(ctx, {cols}, T(2));
        kernels::column_sums(ctx, device_x, accumulated.view(), Accumulate::accumulate);
        accumulated.check_guards(ctx);
        for (double& sum : expected) sum += 2.0;
        // One more addition, of a number of size 2.
        support::check_close(accumulated.values(ctx), expected, tolerance + 2 * support::eps<T>, "accumulate");
      }
    }
  });
}

TEST_CASE_TEMPLATE("reduce: column_sums merges leading axes", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const std::vector<T> x = support::normal_values<T>(2 * 3 * 5 * 7, 1);
    Guarded<T> out(ctx, {7});
    kernels::column_sums(ctx, ms::from_host<T>(ctx, {2, 3, 5, 7}, x), out.view());
    support::check_close(out.values(ctx), oracle_column_sums(x, 30, 7), column_tolerance(x, 30));
    kernels::column_sums(ctx, ms::from_host<T>(ctx, {7}, std::vector<T>(x.begin(), x.begin() + 7)), out.view());
    support::check_close(out.values(ctx), std::vector<double>(x.begin(), x.begin() + 7), 0.0, "one row");
  });
}

TEST_CASE("reduce: column_sums does not depend on workers, runs or block size") {
  const std::int64_t rows = 5000, cols = 130;
  const std::vector<float> x = support::normal_values<float>(rows * cols, 2);
  const auto run = [&](const ms::ContextOptions& options) {
    ms::Context ctx(options);
    Guarded<float> out(ctx, {cols});
    kernels::column_sums(ctx, ms::from_host<float>(ctx, {rows, cols}, x), out.view());
    return out.values(ctx);
  };
  const std::vector<float> first = run(workers(1));
  support::check_same_bits(first, run(workers(1)));
  support::check_same_bits(first, run(workers(2)));
  ms::ContextOptions blocks = workers(2);
  blocks.executor.gpu_blocks = true;
  support::check_same_bits(first, run(blocks));
}

TEST_CASE("reduce: long column sums keep their accuracy") {
  ms::Context ctx({.seed = 1});
  const std::int64_t rows = 1'000'000;
  auto out = ms::zeros<float>(ctx, {1});
  kernels::column_sums(ctx, ms::from_host<float>(ctx, {rows, 1}, std::vector<float>(rows, 0.1f)), out.view());
  // Four levels of at most 64 additions, each within eps / 2 of the sum so far; one long chain would be off by 1e-2.
  const double expected = static_cast<double>(0.1f) * static_cast<double>(rows);
  CHECK(std::abs(static_cast<double>(ms::to_host(ctx, out)[0]) - expected) < 4 * 64 * 0x1p-24 * expected);
}

TEST_CASE_TEMPLATE("reduce: sum, sum_squares, dot and max_abs against loops in double", T, float, double) {
  const std::vector<T> all_x = support::normal_values<T>(9000, 3), all_y = support::normal_values<T>(9000, 4);
  support::for_every_executor([&](ms::Context& ctx) {
    for (const std::int64_t n : {0, 1, 31, 32, 33, 256, 257, 1000, 4096, 4097, 9000}) {
      INFO("n = ", n);
      const std::vector<T> x(all_x.begin(), all_x.begin() + n), y(all_y.begin(), all_y.begin() + n);
      double sum = 0.0, squares = 0.0, product = 0.0, largest = 0.0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double xi = static_cast<double>(x[i]), yi = static_cast<double>(y[i]);
        sum += xi;
        squares += xi * xi;
        product += xi * yi;
        largest = std::max(largest, std::abs(xi));
      }
      auto device_x = ms::from_host<T>(ctx, {n}, x);
      const auto device_y = ms::from_host<T>(ctx, {n}, y);
      // Both sides sum in double: n roundings of partial sums below n scale^2 / 4, here and in the oracle's chain.
      const double scale = std::max(1.0, std::max(support::scale_of(x), support::scale_of(y)));
      const double count = static_cast<double>(n) + 1.0;
      const double tolerance = support::eps<double> * scale * scale * count * std::sqrt(count) / 4.0;
      CHECK(std::abs(kernels::sum(ctx, device_x.view()) - sum) <= tolerance);
      CHECK(std::abs(kernels::sum_squares(ctx, device_x.view()) - squares) <= tolerance);
      CHECK(std::abs(kernels::dot(ctx, device_x.view(), device_y.view()) - product) <= tolerance);
      CHECK(kernels::max_abs(ctx, device_x.view()) == largest);
    }
  });
}

TEST_CASE("reduce: sums to one number do not depend on workers or runs") {
  // Longer than 1024 segments of 4096, so that segments grow.
  const std::int64_t n = 4'500'001;
  std::vector<float> x;
  for (std::int64_t i = 0; i < n; ++i) x.push_back(static_cast<float>(i * 7919 % 10'007) / 5000.0f - 1.0f);
  const auto run = [&](int count) {
    ms::Context ctx(workers(count));
    const auto device_x = ms::from_host<float>(ctx, {n}, x);
    return std::vector<double>{kernels::sum(ctx, device_x.view()), kernels::sum_squares(ctx, device_x.view()),
                               kernels::max_abs(ctx, device_x.view())};
  };
  const std::vector<double> first = run(1);
  support::check_same_bits(first, run(1));
  support::check_same_bits(first, run(2));
  double sum = 0.0, squares = 0.0;
  for (const float value : x) {
    sum += static_cast<double>(value);
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  // The oracle's chain of n additions rounds partial sums of up to n by eps / 2, in random directions.
  const double tolerance = support::eps<double> * static_cast<double>(n) * std::sqrt(static_cast<double>(n));
  CHECK(std::abs(first[0] - sum) < tolerance);
  CHECK(std::abs(first[1] - squares) < tolerance);
  CHECK(first[2] == support::scale_of(x));
}

TEST_CASE("reduce: float sums are accumulated in double") {
  ms::Context ctx({.seed = 1});
  const std::int64_t n = 1'000'000;
  const auto x = ms::from_host<float>(ctx, {n}, std::vector<float>(n, 0.1f));
  CHECK(kernels::sum(ctx, x.view()) == doctest::Approx(static_cast<double>(0.1f) * 1e6).epsilon(1e-12));
  // The squares alone overflow float.
  const auto big = ms::from_host<float>(ctx, {2}, {3e30f, 4e30f});
  CHECK(kernels::sum_squares(ctx, big.view()) == doctest::Approx(25e60).epsilon(1e-6));
}

TEST_CASE_TEMPLATE("reduce: max_abs is NaN if any element is", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::size_t at : {0, 31, 32, 700, 999}) {
      std::vector<T> x = support::normal_values<T>(1000, 6);
      x[at] = std::numeric_limits<T>::quiet_NaN();
      CHECK(std::isnan(kernels::max_abs(ctx, ms::from_host<T>(ctx, {1000}, x).view())));
      x[at] = -std::numeric_limits<T>::infinity();
      CHECK(kernels::max_abs(ctx, ms::from_host<T>(ctx, {1000}, x).view()) == std::numeric_limits<double>::infinity());
    }
  });
}

TEST_CASE_TEMPLATE("reduce: first_non_finite finds the first", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  support::for_every_executor([&](ms::Context& ctx) {
    for (const std::int64_t n : {0, 1, 33, 4097}) {
      std::vector<T> x = support::normal_values<T>(n, 7);
      // The largest and smallest finite numbers are finite.
      if (n > 2) x[1] = std::numeric_limits<T>::max(), x[2] = std::numeric_limits<T>::denorm_min();
      CHECK(kernels::first_non_finite(ctx, ms::from_host<T>(ctx, {n}, x).view()) == -1);
      if (n == 0) continue;
      x.back() = nan;
      CHECK(kernels::first_non_finite(ctx, ms::from_host<T>(ctx, {n}, x).view()) == n - 1);
      x[static_cast<std::size_t>(n / 2)] = inf;
      CHECK(kernels::first_non_finite(ctx, ms::from_host<T>(ctx, {n}, x).view()) == n / 2);
      x[0] = -inf;
      CHECK(kernels::first_non_finite(ctx, ms::from_host<T>(ctx, {n}, x).view()) == 0);
    }
  });
}

TEST_CASE("reduce: check_finite says which element of what") {
  ms::Context ctx({.seed = 1});
  std::vector<float> x(1280, 1.0f);
  CHECK_NOTHROW(kernels::check_finite(ctx, ms::from_host<float>(ctx, {128, 10}, x).view(), "x"));
  const std::string remedy = "; lower the learning rate, or check the data for values that are not finite";
  const auto message = [&](float bad) {
    x[17] = bad;
    const auto tensor = ms::from_host<float>(ctx, {128, 10}, x);
    return message_of<ms::NumericError>([&] { kernels::check_finite(ctx, tensor.view(), "gradient of fc1.weight"); });
  };
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(message(std::nanf("")) == "gradient of fc1.weight: element 17 of (128, 10) is nan" + remedy);
  CHECK(message(inf) == "gradient of fc1.weight: element 17 of (128, 10) is inf" + remedy);
  CHECK(message(-inf) == "gradient of fc1.weight: element 17 of (128, 10) is -inf" + remedy);
}

TEST_CASE("reduce: shapes that do not fit are named") {
  ms::Context ctx({.seed = 1});
  auto a = ms::zeros<float>(ctx, {2, 3});
  auto b = ms::zeros<float>(ctx, {3, 2});
  auto out = ms::zeros<float>(ctx, {2});
  CHECK(message_of<ms::ShapeError>([&] { kernels::column_sums(ctx, a, out.view()); }) ==
        "column_sums: out has shape (2), x has shape (2, 3); out needs one element for each column of x");
  CHECK(message_of<ms::ShapeError>([&] { (void)kernels::dot(ctx, a.view(), b.view()); }) ==
        "dot: x has shape (2, 3), y has shape (3, 2); they must be equal");
  const auto strided = a.view().slice(1, 0, 2);
  const std::string rest =
      "x of shape (2, 2) is strided; contiguous elements are needed: copy the slice to a tensor of its own";
  CHECK(message_of<ms::ShapeError>([&] { (void)kernels::sum(ctx, strided); }) == "sum: " + rest);
  CHECK(message_of<ms::ShapeError>([&] { (void)kernels::sum_squares(ctx, strided); }) == "sum_squares: " + rest);
  CHECK(message_of<ms::ShapeError>([&] { (void)kernels::max_abs(ctx, strided); }) == "max_abs: " + rest);
  CHECK(message_of<ms::ShapeError>([&] { (void)kernels::first_non_finite(ctx, strided); }) ==
        "first_non_finite: " + rest);
  CHECK(message_of<ms::ShapeError>([&] { kernels::column_sums(ctx, strided, out.view()); }) == "column_sums: " + rest);
}

TEST_SUITE_END();

}  // namespace kernels_reduce_test
