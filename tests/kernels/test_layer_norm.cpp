#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/kernels/layer_norm.cuh>
#include <meristem/kernels/reduce.cuh>
#include <support/check.hpp>

namespace kernels_layer_norm_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using kernels::Accumulate;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

constexpr double epsilon = 1e-5;

struct Size {
  std::int64_t rows, cols;
};

// Rows shorter and longer than a warp, than a block of threads; one block and several; column sums in several tiles.
const std::vector<Size> sizes = {{0, 3},   {1, 1},   {3, 1},  {1, 17},   {2, 3},
                                 {5, 130}, {70, 64}, {40, 3}, {15, 300}, {9, 1000}};

/// Forward and backward from the definitions, in double.
struct Oracle {
  std::vector<double> mean, variance, inverse, y, dx, dweight, dbias;

  template <class T>
  Oracle(const std::vector<T>& x, const std::vector<T>& weight, const std::vector<T>& bias, const std::vector<T>& dy,
         std::size_t rows)
      : y(x.size()), dx(x.size()), dweight(weight.size(), 0.0), dbias(weight.size(), 0.0) {
    const std::size_t cols = weight.size();
    const double m = static_cast<double>(cols);
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0.0, squares = 0.0;
      for (std::size_t c = 0; c < cols; ++c) sum += double(x[r * cols + c]);
      mean.push_back(sum / m);
      for (std::size_t c = 0; c < cols; ++c) squares += std::pow(double(x[r * cols + c]) - mean[r], 2);
      variance.push_back(squares / m);
      const double s = 1.0 / std::sqrt(squares / m + epsilon);
      inverse.push_back(s);
      double gradient = 0.0, moment = 0.0;
      for (std::size_t c = 0; c < cols; ++c) {
        const std::size_t i = r * cols + c;
        const double normalized = (double(x[i]) - mean[r]) * s, g = double(dy[i]) * double(weight[c]);
        y[i] = normalized * double(weight[c]) + double(bias[c]);
        dweight[c] += double(dy[i]) * normalized;
        dbias[c] += double(dy[i]);
        gradient += g / m;
        moment += g * normalized / m;
      }
      for (std::size_t c = 0; c < cols; ++c) {
        const std::size_t i = r * cols + c;
        dx[i] = s * (double(dy[i]) * double(weight[c]) - gradient - (double(x[i]) - mean[r]) * s * moment);
      }
    }
  }
};

ms::ContextOptions workers(int count) {
  ms::ContextOptions options{.seed = 1};
  options.executor.threads = count;
  return options;
}

}  // namespace

TEST_CASE_TEMPLATE("layer norm: forward and backward against loops in double", T, float, double) {
  const std::vector<T> numbers = support::normal_values<T>(25'000, 2), upstream = support::normal_values<T>(25'000, 3);
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Size& size : sizes) {
      const std::int64_t rows = size.rows, cols = size.cols;
      INFO("rows ", rows, ", cols ", cols);
      const ms::Shape shape{rows, cols};
      const std::vector<T> x(numbers.begin(), numbers.begin() + rows * cols);
      const std::vector<T> dy(upstream.begin(), upstream.begin() + rows * cols);
      const std::vector<T> weight(numbers.end() - cols, numbers.end()), bias(upstream.end() - cols, upstream.end());
      const Oracle expected(x, weight, bias, dy, static_cast<std::size_t>(rows));
      const auto device_x = ms::from_host<T>(ctx, shape, x), device_dy = ms::from_host<T>(ctx, shape, dy);
      const auto device_weight = ms::from_host<T>(ctx, {cols}, weight),
                 device_bias = ms::from_host<T>(ctx, {cols}, bias);
      Guarded<T> mean(ctx, {rows}), inverse(ctx, {rows}), y(ctx, shape), dx(ctx, shape);
      Guarded<T> dweight(ctx, {cols}), dbias(ctx, {cols});
      kernels::layer_norm_forward<T>(ctx, device_x, device_weight, device_bias, epsilon, mean.view(), inverse.view(),
                                     y.view());
      for (Guarded<T>* out : {&mean, &inverse, &y}) out->check_guards(ctx);
      // Sums of m terms of order 1, squares up to 16, in T: 16 sqrt(m) roundings, over m.
      const double sums = 16 * support::eps<T>;
      support::check_close(mean.values(ctx), expected.mean, sums, "mean");
      std::vector<double> variance;
      for (const T s : inverse.values(ctx)) variance.push_back(1.0 / (double(s) * double(s)) - epsilon);
      support::check_close(variance, expected.variance, 4 * sums, "variance");
      // Two numbers may lie close together: then s, up to 1 / sqrt(epsilon), magnifies the roundings of x - mean.
      const double s = support::scale_of(expected.inverse, 1.0), w = support::scale_of(weight, 1.0);
      support::check_close(y.values(ctx), expected.y, 8 * w * (4 + s) * support::eps<T>, "y");

      kernels::layer_norm_backward<T>(ctx, device_x, mean.view(), inverse.view(), device_weight, device_dy,
                                      Accumulate::overwrite, dweight.view(), dbias.view(), dx.view());
      for (Guarded<T>* out : {&dx, &dweight, &dbias}) out->check_guards(ctx);
      const double n = std::sqrt(static_cast<double>(rows + 1));
      support::check_close(dbias.values(ctx), expected.dbias, 16 * n * support::eps<T>, "dbias");
      support::check_close(dweight.values(ctx), expected.dweight, 16 * n * (4 + s) * support::eps<T>, "dweight");
      // s times the error of numbers like y.
      support::check_close(dx.values(ctx), expected.dx, 32 * w * s * (4 + s) * support::eps<T>, "dx");

      const auto first_dx = dx.values(ctx);
      auto twice = expected.dweight;
      for (double& value : twice) value *= 2;
      kernels::layer_norm_backward<T>(ctx, device_x, mean.view(), inverse.view(), device_weight, device_dy,
                                      Accumulate::accumulate, dweight.view(), dbias.view(), {});
      support::check_close(dweight.values(ctx), twice, 32 * n * (4 + s) * support::eps<T>, "accumulated");
      auto in_place = ms::from_host<T>(ctx, shape, dy);
      kernels::layer_norm_backward<T>(ctx, device_x, mean.view(), inverse.view(), device_weight, in_place,
                                      Accumulate::overwrite, {}, {}, in_place.view());
      support::check_same_bits(ms::to_host(ctx, in_place), first_dx, "in place");
      auto x_in_place = ms::from_host<T>(ctx, shape, x);
      kernels::layer_norm_forward<T>(ctx, x_in_place, device_weight, device_bias, epsilon, mean.view(), inverse.view(),
                                     x_in_place.view());
      support::check_same_bits(ms::to_host(ctx, x_in_place), y.values(ctx), "y in place of x");
    }
  });
}

TEST_CASE("layer norm: a large offset and an outlier in front cost no accuracy") {
  support::for_every_executor([](ms::Context& ctx) {
    const std::int64_t rows = 5, cols = 400;
    std::vector<float> x = support::normal_values<float>(rows * cols, 5);
    for (float& value : x) value += 1000.0f;
    for (std::int64_t r = 0; r < rows; ++r) x[static_cast<std::size_t>(r * cols)] = 990.0f;
    const std::vector<float> ones(static_cast<std::size_t>(cols), 1.0f);
    const Oracle expected(x, ones, ones, x, static_cast<std::size_t>(rows));
    ms::Tensor<float> mean(ctx, {rows}), inverse(ctx, {rows}), y(ctx, {rows, cols});
    const auto weight = ms::from_host<float>(ctx, {cols}, ones);
    kernels::layer_norm_forward<float>(ctx, ms::from_host<float>(ctx, {rows, cols}, x), weight, weight, epsilon, mean,
                                       inverse, y);
    std::vector<double> ratio;
    const auto s = ms::to_host(ctx, inverse);
    for (std::size_t r = 0; r < s.size(); ++r)
      ratio.push_back(1.0 / (double(s[r]) * double(s[r])) / expected.variance[r]);
    // Sums of 400 squares in float: sqrt(400) roundings, and epsilon.
    support::check_close(ratio, std::vector<double>(ratio.size(), 1.0), 20 * support::eps<float> + 2 * epsilon);
  });
}

TEST_CASE("layer norm: results do not depend on workers or runs") {
  for (const Size& size : std::vector<Size>{{5000, 64}, {500, 600}}) {
    const std::int64_t rows = size.rows, cols = size.cols;
    const std::vector<float> x = support::normal_values<float>(rows * cols, 7);
    const auto run = [&](int count) {
      ms::Context ctx(workers(count));
      const auto device_x = ms::from_host<float>(ctx, {rows, cols}, x);
      ms::Tensor<float> mean(ctx, {rows}), inverse(ctx, {rows}), dweight(ctx, {cols}), dbias(ctx, {cols});
      ms::Tensor<float> y(ctx, {rows, cols}), dx(ctx, {rows, cols});
      const auto weight = ms::from_host<float>(ctx, {cols}, std::vector<float>(static_cast<std::size_t>(cols), 0.5f));
      kernels::layer_norm_forward<float>(ctx, device_x, weight, weight, epsilon, mean, inverse, y);
      kernels::layer_norm_backward<float>(ctx, device_x, mean, inverse, weight, y, Accumulate::overwrite, dweight,
                                          dbias, dx);
      std::vector<float> all;
      for (const auto* tensor : {&mean, &inverse, &dweight, &dbias, &y, &dx}) {
        for (const float value : ms::to_host(ctx, *tensor)) all.push_back(value);
      }
      return all;
    };
    const auto first = run(1);
    support::check_same_bits(run(1), first, "again");
    support::check_same_bits(run(2), first, "two workers");
  }
}

TEST_CASE("layer norm: arguments that do not fit are named") {
  ms::Context ctx({.seed = 1});
  auto x = ms::zeros<float>(ctx, {4, 3}), wrong = ms::zeros<float>(ctx, {4, 2});
  auto rows = ms::zeros<float>(ctx, {4}), cols = ms::zeros<float>(ctx, {3});
  CHECK(
      message_of<ms::ShapeError>(
          [&] { kernels::layer_norm_forward<float>(ctx, x, cols, cols, epsilon, cols, rows, x); }) ==
      "layer_norm_forward: mean has shape (3), x has shape (4, 3); mean needs one element for each of the 4 rows of x");
  CHECK(message_of<ms::ShapeError>(
            [&] { kernels::layer_norm_forward<float>(ctx, x, rows, cols, epsilon, rows, rows, x); }) ==
        "layer_norm_forward: weight has shape (4), x has shape (4, 3); weight needs one element for each column of x");
  CHECK(message_of<ms::ShapeError>([&] {
          kernels::layer_norm_backward<float>(ctx, x, rows, rows, cols, wrong, Accumulate::overwrite, cols, cols, x);
        }) == "layer_norm_backward: dy has shape (4, 2), x has shape (4, 3); they must be equal");
}

TEST_SUITE_END();

}  // namespace kernels_layer_norm_test
