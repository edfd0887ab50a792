#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/kernels/batch_norm.cuh>
#include <meristem/kernels/reduce.cuh>
#include <support/check.hpp>

namespace kernels_batch_norm_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using kernels::Accumulate;
using kernels::Activation;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

constexpr double epsilon = 1e-5;

struct Size {
  std::int64_t rows, cols;
};

// Every way of cutting: no row, fewer rows than lanes, folded rows with and without a rest, several chunks, several
// tiles of columns.
const std::vector<Size> sizes = {{0, 3},   {1, 1},   {1, 17},   {2, 3},    {5, 130}, {31, 1},   {100, 2},
                                 {129, 1}, {700, 3}, {1000, 1}, {1000, 5}, {64, 64}, {150, 17}, {67, 300}};

/// Mean, biased variance and 1 / √(variance + epsilon) of each column, from the definitions.
struct Statistics {
  std::vector<double> mean, variance, inverse;

  template <class T>
  Statistics(const std::vector<T>& x, std::int64_t rows, std::int64_t cols) {
    for (std::int64_t c = 0; c < cols; ++c) {
      double sum = 0.0, squares = 0.0;
      for (std::int64_t r = 0; r < rows; ++r) sum += static_cast<double>(x[static_cast<std::size_t>(r * cols + c)]);
      const double center = rows > 0 ? sum / static_cast<double>(rows) : 0.0;
      for (std::int64_t r = 0; r < rows; ++r) {
        const double d = static_cast<double>(x[static_cast<std::size_t>(r * cols + c)]) - center;
        squares += d * d;
      }
      mean.push_back(center);
      variance.push_back(rows > 0 ? squares / static_cast<double>(rows) : 0.0);
      inverse.push_back(1.0 / std::sqrt(variance.back() + epsilon));
    }
  }
};

template <class T>
std::vector<T> rounded(const std::vector<double>& values) {
  return std::vector<T>(values.begin(), values.end());
}

/// Forward and backward by the formulas, for given statistics.
struct Oracle {
  std::vector<double> y, dx, dweight, dbias, dresidual;

  template <class T>
  Oracle(const std::vector<T>& x, const std::vector<T>& mean, const std::vector<T>& inverse,
         const std::vector<T>& weight, const std::vector<T>& bias, const std::vector<T>& residual,
         const std::vector<T>& dy, bool relu, bool constant)
      : dweight(mean.size(), 0.0), dbias(mean.size(), 0.0) {
    const std::size_t cols = mean.size();
    std::vector<double> normalized;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t c = i % cols;
      normalized.push_back((double(x[i]) - double(mean[c])) * double(inverse[c]));
      const double value =
          normalized[i] * double(weight[c]) + double(bias[c]) + (residual.empty() ? 0.0 : double(residual[i]));
      y.push_back(relu && value < 0.0 ? 0.0 : value);
      dresidual.push_back(relu && value <= 0.0 ? 0.0 : double(dy[i]));
      dbias[c] += dresidual[i];
      dweight[c] += dresidual[i] * normalized[i];
    }
    const double n = static_cast<double>(x.size() / cols);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t c = i % cols;
      const double through_statistics = constant ? 0.0 : dbias[c] / n + normalized[i] * dweight[c] / n;
      dx.push_back(double(weight[c]) * double(inverse[c]) * (dresidual[i] - through_statistics));
    }
  }
};

ms::ContextOptions workers(int count) {
  ms::ContextOptions options{.seed = 1};
  options.executor.threads = count;
  return options;
}

}  // namespace

TEST_CASE_TEMPLATE("batch norm: sums of so many rows that chunks are merged in groups", T, float, double) {
  // 34 chunks of 64 rows, the last of 3: a group of 32 and one of two. Values are small integers, so that all sums are
  // exact, in every order.
  const std::int64_t rows = 33 * 64 + 3, cols = 130;
  ms::ContextOptions options{.seed = 1};
  options.executor.gpu_blocks = true;
  ms::Context ctx(options);
  std::vector<T> dy;
  std::vector<double> sums(static_cast<std::size_t>(cols), 0.0), products = sums;
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    const auto c = static_cast<std::size_t>(i % cols);
    dy.push_back(static_cast<T>((i * i + i / cols) % 7 - 3));
    sums[c] += double(dy.back());
    products[c] += double(dy.back()) * double(dy.back());
  }
  const auto device_dy = ms::from_host<T>(ctx, {rows, cols}, dy);
  auto zeros = ms::zeros<T>(ctx, {cols}), ones = ms::empty<T>(ctx, {cols});
  kernels::fill(ctx, T(1), ones.view());
  Guarded<T> dweight(ctx, {cols}), dbias(ctx, {cols}), mean(ctx, {cols}), inverse(ctx, {cols});
  for (int repeat = 0; repeat < 2; ++repeat) {  // counters of blocks are as before
    kernels::batch_norm_backward<T>(ctx, {device_dy, zeros, ones, ones, {}}, device_dy, Accumulate::overwrite,
                                    dweight.view(), dbias.view(), {});
    support::check_close(dbias.values(ctx), sums, 0.0, "dbias");
    support::check_close(dweight.values(ctx), products, 0.0, "dweight");
  }
  kernels::batch_norm_statistics<T>(ctx, device_dy, epsilon, mean.view(), inverse.view());
  const Statistics expected(dy, rows, cols);
  // As below.
  support::check_close(mean.values(ctx), expected.mean, 64 * support::eps<T> * 3.0, "mean");
  support::check_close(inverse.values(ctx), expected.inverse, 64 * support::eps<T> * 8.0, "inverse deviation");
}

TEST_CASE_TEMPLATE("batch norm: statistics against loops in double", T, float, double) {
  const std::vector<T> numbers = support::normal_values<T>(25'000, 1);
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Size& size : sizes) {
      const std::int64_t rows = size.rows, cols = size.cols;
      INFO("rows ", rows, ", cols ", cols);
      std::vector<T> x(numbers.begin(), numbers.begin() + rows * cols);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += static_cast<T>(i % static_cast<std::size_t>(cols));
      const Statistics expected(x, rows, cols);
      Guarded<T> mean(ctx, {cols}), inverse(ctx, {cols});
      Guarded<T> running_mean(ctx, {cols}, T(2)), running_variance(ctx, {cols}, T(3));
      const auto device_x = ms::from_host<T>(ctx, {rows, cols}, x);
      kernels::batch_norm_statistics<T>(ctx, device_x, epsilon, mean.view(), inverse.view(),
                                        {running_mean.view(), running_variance.view(), 0.25});
      for (Guarded<T>* out : {&mean, &inverse, &running_mean, &running_variance}) out->check_guards(ctx);
      // At most 64 terms are added in T, of deviations up to 8 and their squares up to 64, each sum rounded by eps / 2
      // of a partial sum: relative to n 64, 8 sqrt(64) eps is several times the worst.
      const double tolerance = 64 * support::eps<T>;
      support::check_close(mean.values(ctx), expected.mean, tolerance * support::scale_of(expected.mean, 1.0), "mean");
      // The inverse deviation of one row is 1 / sqrt(epsilon), and errors of the variance weigh s³ / 2 in it.
      std::vector<double> variance;
      for (const T s : inverse.values(ctx)) variance.push_back(1.0 / (double(s) * double(s)) - epsilon);
      support::check_close(variance, expected.variance, tolerance * 8, "variance");
      std::vector<double> moved_mean, moved_variance;
      const double n = static_cast<double>(rows);
      for (std::size_t c = 0; c < expected.mean.size(); ++c) {
        moved_mean.push_back(rows > 0 ? 1.5 + 0.25 * expected.mean[c] : 2.0);
        moved_variance.push_back(rows > 1 ? 2.25 + 0.25 * expected.variance[c] * n / (n - 1) : 3.0);
      }
      support::check_close(running_mean.values(ctx), moved_mean, tolerance * support::scale_of(moved_mean),
                           "running mean");
      support::check_close(running_variance.values(ctx), moved_variance, tolerance * 8, "running variance");

      const auto first = mean.values(ctx);
      kernels::batch_norm_statistics<T>(ctx, device_x, epsilon, mean.view(), inverse.view());
      support::check_same_bits(mean.values(ctx), first, "without running statistics");
    }
  });
}

TEST_CASE_TEMPLATE("batch norm: forward and backward against loops in double", T, float, double) {
  const std::vector<T> numbers = support::normal_values<T>(25'000, 2);
  const std::vector<T> others = support::normal_values<T>(25'000, 3), upstream = support::normal_values<T>(25'000, 4);
  support::for_every_executor([&](ms::Context& ctx) {
    // The ways differ in the order of threads only where threads co-operate: all variants in production, a few else.
    const bool all = !ctx.executor().gpu_blocks;
    int count = 0;
    for (const Size& size : sizes) {
      const std::int64_t rows = size.rows, cols = size.cols;
      for (const bool relu : {false, true}) {
        for (const bool added : {false, true}) {
          for (const bool constant : {false, true}) {
            if (!all && ++count % 3 != 0) continue;
            INFO("rows ", rows, ", cols ", cols, ", relu ", relu, ", added ", added, ", constant ", constant);
            const ms::Shape shape{rows, cols};
            const std::vector<T> x(numbers.begin(), numbers.begin() + rows * cols);
            const std::vector<T> residual(others.begin(), others.begin() + (added ? rows * cols : 0));
            const std::vector<T> dy(upstream.begin(), upstream.begin() + rows * cols);
            const std::vector<T> weight(others.end() - cols, others.end()), bias(upstream.end() - cols, upstream.end());
            Statistics statistics(x, rows, cols);
            if (constant || rows < 2) statistics.inverse.assign(statistics.inverse.size(), 0.5);
            const auto mean = rounded<T>(statistics.mean), inverse = rounded<T>(statistics.inverse);
            const Oracle expected(x, mean, inverse, weight, bias, residual, dy, relu, constant);

            const auto vector = [&](const std::vector<T>& values) { return ms::from_host<T>(ctx, {cols}, values); };
            const auto device_x = ms::from_host<T>(ctx, shape, x), device_dy = ms::from_host<T>(ctx, shape, dy);
            const auto device_residual = added ? ms::from_host<T>(ctx, shape, residual) : ms::Tensor<T>();
            const auto device_mean = vector(mean), device_inverse = vector(inverse), device_weight = vector(weight),
                       device_bias = vector(bias);
            const Activation activation = relu ? Activation::relu : Activation::identity;
            Guarded<T> y(ctx, shape), dx(ctx, shape), dresidual(ctx, shape), dweight(ctx, {cols}), dbias(ctx, {cols});
            kernels::batch_norm_forward<T>(ctx, activation, device_x, device_mean, device_inverse, device_weight,
                                           device_bias, added ? device_residual.view() : ms::View<const T>(), y.view());
            y.check_guards(ctx);
            // Five roundings of numbers up to 64: deviations up to 8 times weights up to 4, twice.
            support::check_close(y.values(ctx), expected.y, 5 * 64 * support::eps<T>, "y");

            const kernels::BatchNormForward<T> forward{device_x, device_mean, device_inverse, device_weight,
                                                       y.view(), activation,  constant};
            kernels::batch_norm_backward<T>(ctx, forward, device_dy, Accumulate::overwrite, dweight.view(),
                                            dbias.view(), dx.view(), added ? dresidual.view() : ms::View<T>());
            for (Guarded<T>* out : {&dx, &dresidual, &dweight, &dbias}) out->check_guards(ctx);
            // Sums in T of at most 64 terms up to 32, rounded by eps / 2 of a partial sum; their results in double.
            const double n = static_cast<double>(rows + 1);
            const double sums = 32 * 8 * std::sqrt(n) * support::eps<T>;
            support::check_close(dweight.values(ctx), expected.dweight, sums, "dweight");
            support::check_close(dbias.values(ctx), expected.dbias, sums, "dbias");
            // dx adds three terms, each a product of at most four factors of order 4, with the sums' means in it.
            support::check_close(dx.values(ctx), expected.dx, 8 * 64 * support::eps<T> + 16 * sums / n, "dx");
            if (added) support::check_close(dresidual.values(ctx), expected.dresidual, 0.0, "dresidual");

            // Accumulated, in place, and one of the outputs at a time.
            const auto first_dx = dx.values(ctx), first_dweight = dweight.values(ctx), first_dbias = dbias.values(ctx);
            kernels::batch_norm_backward<T>(ctx, forward, device_dy, Accumulate::accumulate, dweight.view(),
                                            dbias.view(), {});
            auto twice = expected.dweight;
            for (double& value : twice) value *= 2;
            support::check_close(dweight.values(ctx), twice, 4 * sums, "dweight accumulated");
            twice = expected.dbias;
            for (double& value : twice) value *= 2;
            support::check_close(dbias.values(ctx), twice, 4 * sums, "dbias accumulated");
            auto in_place = ms::from_host<T>(ctx, shape, dy);
            kernels::batch_norm_backward<T>(ctx, forward, in_place, Accumulate::overwrite, {}, {}, in_place.view());
            support::check_same_bits(ms::to_host(ctx, in_place), first_dx, "in place");
            if (added) {
              auto only = ms::from_host<T>(ctx, shape, dy);
              kernels::batch_norm_backward<T>(ctx, forward, only, Accumulate::overwrite, {}, {}, {}, only.view());
              support::check_close(ms::to_host(ctx, only), expected.dresidual, 0.0, "dresidual alone, in place");
              kernels::batch_norm_backward<T>(ctx, forward, device_dy, Accumulate::overwrite, {}, {}, dx.view(),
                                              dresidual.view());
              support::check_same_bits(dx.values(ctx), first_dx, "without parameters");
            }
          }
        }
      }
    }
  });
}

TEST_CASE("batch norm: leading axes are rows, y may be the input or the residual") {
  ms::Context ctx({.seed = 1});
  const std::vector<float> x = support::normal_values<float>(2 * 3 * 5 * 7, 1);
  const auto tensor = ms::from_host<float>(ctx, {2, 3, 5, 7}, x);
  ms::Tensor<float> mean(ctx, {7}), inverse(ctx, {7}), other_mean(ctx, {7}), other_inverse(ctx, {7});
  kernels::batch_norm_statistics<float>(ctx, tensor, epsilon, mean, inverse);
  kernels::batch_norm_statistics<float>(ctx, ms::from_host<float>(ctx, {30, 7}, x), epsilon, other_mean, other_inverse);
  support::check_same_bits(ms::to_host(ctx, mean), ms::to_host(ctx, other_mean));
  support::check_same_bits(ms::to_host(ctx, inverse), ms::to_host(ctx, other_inverse));
  const auto ones = ms::from_host<float>(ctx, {7}, std::vector<float>(7, 1.0f));
  const auto run = [&](ms::View<const float> input, ms::View<const float> residual, ms::View<float> y) {
    kernels::batch_norm_forward<float>(ctx, Activation::relu, input, mean, inverse, ones, ones, residual, y);
  };
  ms::Tensor<float> y(ctx, {2, 3, 5, 7});
  run(tensor, tensor, y);
  auto as_residual = ms::clone(ctx, tensor), as_input = ms::clone(ctx, tensor);
  run(tensor, as_residual, as_residual);
  run(as_input, tensor, as_input);
  support::check_same_bits(ms::to_host(ctx, as_residual), ms::to_host(ctx, y));
  support::check_same_bits(ms::to_host(ctx, as_input), ms::to_host(ctx, y));
}

TEST_CASE_TEMPLATE("batch norm: a large offset costs no accuracy", T, float, double) {
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Size& size : std::vector<Size>{{3000, 1}, {1500, 3}, {400, 17}, {200, 260}}) {
      const std::int64_t rows = size.rows, cols = size.cols;
      INFO("rows ", rows, ", cols ", cols);
      std::vector<T> x = support::normal_values<T>(rows * cols, 5);
      for (T& value : x) value += T(1000);
      // Where the deviations are taken from may be far off: an outlier comes first.
      x[0] = T(900);
      const Statistics expected(x, rows, cols);
      ms::Tensor<T> mean(ctx, {cols}), inverse(ctx, {cols});
      kernels::batch_norm_statistics<T>(ctx, ms::from_host<T>(ctx, {rows, cols}, x), epsilon, mean, inverse);
      // The stored mean is rounded once; the oracle rounds sums of up to 1000 n in random directions, n times.
      const double oracle = std::sqrt(static_cast<double>(rows)) * support::eps<double>;
      support::check_close(ms::to_host(ctx, mean), expected.mean, 1000 * (support::eps<T> + oracle), "mean");
      std::vector<double> ratio;
      const auto s = ms::to_host(ctx, inverse);
      for (std::size_t c = 0; c < s.size(); ++c) {
        ratio.push_back((1.0 / (double(s[c]) * double(s[c])) - epsilon) / expected.variance[c]);
      }
      // Squares of 100 deviations stand against a variance of 1 in the column of the outlier, at most 64 of them in a
      // sum in T; elsewhere nothing is lost.
      const double worst = 100.0 * 100.0 / std::max(1.0, expected.variance[0]) * support::eps<T>;
      CHECK(std::abs(ratio[0] - 1.0) < std::max(8 * worst, 32 * support::eps<T>));
      ratio[0] = 1.0;
      support::check_close(ratio, std::vector<double>(ratio.size(), 1.0), 256 * support::eps<T>, "variance");
    }
  });
}

TEST_CASE("batch norm: equal elements have variance 0") {
  ms::Context ctx({.seed = 1});
  const std::int64_t rows = 1000, cols = 3;
  ms::Tensor<float> mean(ctx, {cols}), inverse(ctx, {cols});
  const auto x = ms::from_host<float>(ctx, {rows, cols}, std::vector<float>(rows * cols, 12345.678f));
  kernels::batch_norm_statistics<float>(ctx, x, epsilon, mean, inverse);
  support::check_same_bits(ms::to_host(ctx, mean), std::vector<float>(cols, 12345.678f));
  support::check_close(ms::to_host(ctx, inverse), std::vector<double>(cols, 1 / std::sqrt(epsilon)),
                       support::eps<float> * 1e3);
}

TEST_CASE("batch norm: a NaN stays in its channel") {
  support::for_every_executor([](ms::Context& ctx) {
    const std::int64_t rows = 300, cols = 5;
    std::vector<float> x = support::normal_values<float>(rows * cols, 6);
    x[1002] = std::numeric_limits<float>::quiet_NaN();
    ms::Tensor<float> mean(ctx, {cols}), inverse(ctx, {cols});
    kernels::batch_norm_statistics<float>(ctx, ms::from_host<float>(ctx, {rows, cols}, x), epsilon, mean, inverse);
    const auto m = ms::to_host(ctx, mean), s = ms::to_host(ctx, inverse);
    for (std::size_t c = 0; c < 5; ++c) {
      CHECK(std::isnan(m[c]) == (c == 2));
      CHECK(std::isnan(s[c]) == (c == 2));
    }
  });
}

TEST_CASE("batch norm: results do not depend on workers or runs") {
  for (const Size& size : std::vector<Size>{{70'000, 2}, {20'000, 17}, {3000, 130}, {500, 600}}) {
    const std::int64_t rows = size.rows, cols = size.cols;
    INFO("rows ", rows, ", cols ", cols);
    const std::vector<float> x = support::normal_values<float>(rows * cols, 7);
    const auto run = [&](int count) {
      ms::Context ctx(workers(count));
      const auto device_x = ms::from_host<float>(ctx, {rows, cols}, x);
      ms::Tensor<float> mean(ctx, {cols}), inverse(ctx, {cols}), dweight(ctx, {cols}), dbias(ctx, {cols});
      ms::Tensor<float> y(ctx, {rows, cols}), dx(ctx, {rows, cols});
      const auto weight = ms::from_host<float>(ctx, {cols}, std::vector<float>(static_cast<std::size_t>(cols), 0.5f));
      kernels::batch_norm_statistics<float>(ctx, device_x, epsilon, mean, inverse);
      kernels::batch_norm_forward<float>(ctx, Activation::relu, device_x, mean, inverse, weight, weight, {}, y);
      kernels::batch_norm_backward<float>(
          ctx, kernels::BatchNormForward<float>{device_x, mean, inverse, weight, y, Activation::relu}, device_x,
          Accumulate::overwrite, dweight, dbias, dx);
      std::vector<float> all;
      for (const auto* tensor : {&mean, &inverse, &dweight, &dbias, &y, &dx}) {
        for (const float value : ms::to_host(ctx, *tensor)) all.push_back(value);
      }
      return all;
    };
    const auto first = run(1);
    support::check_same_bits(run(1), first, "again");
    support::check_same_bits(run(2), first, "two workers");
    support::check_same_bits(run(3), first, "three workers");
  }
}

TEST_CASE("batch norm: constants of evaluation") {
  ms::Context ctx({.seed = 1});
  const auto running_mean = ms::from_host<double>(ctx, {2}, {0.5, -1.0});
  const auto running_variance = ms::from_host<double>(ctx, {2}, {4.0, 0.25});
  ms::Tensor<double> mean(ctx, {2}), inverse(ctx, {2});
  kernels::batch_norm_constants<double>(ctx, running_mean, running_variance, 0.5, mean, inverse);
  support::check_close(ms::to_host(ctx, mean), {0.5, -1.0}, 0.0);
  support::check_close(ms::to_host(ctx, inverse), {1 / std::sqrt(4.5), 1 / std::sqrt(0.75)}, 1e-15);
}

TEST_CASE("batch norm: arguments that do not fit are named") {
  ms::Context ctx({.seed = 1});
  auto x = ms::zeros<float>(ctx, {4, 3}), y = ms::zeros<float>(ctx, {4, 3}), wrong = ms::zeros<float>(ctx, {4, 2});
  auto right = ms::zeros<float>(ctx, {3}), two = ms::zeros<float>(ctx, {2});
  CHECK(
      message_of<ms::ShapeError>([&] { kernels::batch_norm_statistics<float>(ctx, x, epsilon, right, two); }) ==
      "batch_norm_statistics: inverse_deviation has shape (2), x has shape (4, 3); inverse_deviation needs one element "
      "for each column of x");
  const auto forward = [&](Activation activation, const ms::Tensor<float>& weight, const ms::Tensor<float>& residual) {
    kernels::batch_norm_forward<float>(ctx, activation, x, right, right, weight, right, residual, y);
  };
  CHECK(message_of<ms::ShapeError>([&] { forward(Activation::relu, two, x); }) ==
        "batch_norm_forward: weight has shape (2), x has shape (4, 3); weight needs one element for each column of x");
  CHECK(message_of<ms::ShapeError>([&] { forward(Activation::relu, right, wrong); }) ==
        "batch_norm_forward: residual has shape (4, 2), x has shape (4, 3); they must be equal");
  const std::string tail =
      ": activation gelu cannot be fused; take identity or relu, or put an activation of its own behind it";
  CHECK(message_of<ms::ArgumentError>([&] { forward(Activation::gelu, right, x); }) == "batch_norm_forward" + tail);
  const auto backward = [&](Activation activation, ms::View<const float> output, ms::View<float> dx) {
    kernels::batch_norm_backward<float>(ctx,
                                        kernels::BatchNormForward<float>{x, right, right, right, output, activation}, y,
                                        Accumulate::overwrite, {}, {}, dx);
  };
  CHECK(message_of<ms::ArgumentError>([&] { backward(Activation::gelu, y, x); }) == "batch_norm_backward" + tail);
  CHECK(message_of<ms::ShapeError>([&] { backward(Activation::identity, {}, wrong); }) ==
        "batch_norm_backward: dx has shape (4, 2), x has shape (4, 3); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { backward(Activation::relu, wrong, x); }) ==
        "batch_norm_backward: y has shape (4, 2), x has shape (4, 3); they must be equal");
}

TEST_SUITE_END();

}  // namespace kernels_batch_norm_test
