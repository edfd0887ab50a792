#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/kernels/group_norm.cuh>
#include <meristem/kernels/reduce.cuh>
#include <support/check.hpp>

namespace kernels_group_norm_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using kernels::Accumulate;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

constexpr double epsilon = 1e-5;

struct Size {
  std::int64_t samples, positions, cols, groups;
};

const std::vector<Size> sizes = {{0, 4, 4, 2},   {2, 0, 4, 2},    {1, 1, 4, 1},   {3, 1, 6, 3},
                                 {2, 40, 1, 1},  {3, 100, 2, 2},  {2, 49, 17, 1}, {1, 300, 3, 3},
                                 {2, 70, 64, 8}, {2, 20, 300, 5}, {2, 1000, 6, 2}};

/// Forward and backward from the definitions, in double, group by group.
struct Oracle {
  std::vector<double> mean, variance, inverse, y, dx, dweight, dbias;

  template <class T>
  Oracle(const std::vector<T>& x, const std::vector<T>& weight, const std::vector<T>& bias, const std::vector<T>& dy,
         const Size& size)
      : y(x.size()), dx(x.size()), dweight(weight.size(), 0.0), dbias(weight.size(), 0.0) {
    const std::int64_t width = size.cols / size.groups;
    const double m = static_cast<double>(size.positions * width);
    for (std::int64_t sample = 0; sample < size.samples; ++sample) {
      for (std::int64_t group = 0; group < size.groups; ++group) {
        const auto for_all = [&](auto&& f) {
          for (std::int64_t p = 0; p < size.positions; ++p) {
            for (std::int64_t c = group * width; c < (group + 1) * width; ++c) {
              f(static_cast<std::size_t>((sample * size.positions + p) * size.cols + c), static_cast<std::size_t>(c));
            }
          }
        };
        double sum = 0.0, squares = 0.0, gradient = 0.0, moment = 0.0;
        for_all([&](std::size_t i, std::size_t) { sum += double(x[i]); });
        const double center = m > 0 ? sum / m : 0.0;
        for_all([&](std::size_t i, std::size_t) { squares += (double(x[i]) - center) * (double(x[i]) - center); });
        mean.push_back(center);
        variance.push_back(m > 0 ? squares / m : 0.0);
        const double s = 1.0 / std::sqrt(variance.back() + epsilon);
        inverse.push_back(s);
        for_all([&](std::size_t i, std::size_t c) {
          const double normalized = (double(x[i]) - center) * s;
          y[i] = normalized * double(weight[c]) + double(bias[c]);
          dweight[c] += double(dy[i]) * normalized;
          dbias[c] += double(dy[i]);
          gradient += double(dy[i]) * double(weight[c]) / m;
          moment += double(dy[i]) * double(weight[c]) * normalized / m;
        });
        for_all([&](std::size_t i, std::size_t c) {
          dx[i] = s * (double(dy[i]) * double(weight[c]) - gradient - (double(x[i]) - center) * s * moment);
        });
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

TEST_CASE_TEMPLATE("group norm: forward and backward against loops in double", T, float, double) {
  const std::vector<T> numbers = support::normal_values<T>(15'000, 2), upstream = support::normal_values<T>(15'000, 3);
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Size& size : sizes) {
      const std::int64_t samples = size.samples, positions = size.positions, cols = size.cols, groups = size.groups;
      INFO("samples ", samples, ", positions ", positions, ", cols ", cols, ", groups ", groups);
      const ms::Shape shape{samples, positions, cols};
      const std::vector<T> x(numbers.begin(), numbers.begin() + shape.size());
      const std::vector<T> dy(upstream.begin(), upstream.begin() + shape.size());
      const std::vector<T> weight(numbers.end() - cols, numbers.end()), bias(upstream.end() - cols, upstream.end());
      const Oracle expected(x, weight, bias, dy, size);
      const auto device_x = ms::from_host<T>(ctx, shape, x), device_dy = ms::from_host<T>(ctx, shape, dy);
      const auto device_weight = ms::from_host<T>(ctx, {cols}, weight),
                 device_bias = ms::from_host<T>(ctx, {cols}, bias);
      Guarded<T> mean(ctx, {samples, groups}), inverse(ctx, {samples, groups}), y(ctx, shape), dx(ctx, shape);
      Guarded<T> dweight(ctx, {cols}), dbias(ctx, {cols});
      kernels::group_norm_forward<T>(ctx, device_x, groups, device_weight, device_bias, epsilon, mean.view(),
                                     inverse.view(), y.view());
      for (Guarded<T>* out : {&mean, &inverse, &y}) out->check_guards(ctx);
      // Sums in T of at most 64 terms, squares up to 64, then in double.
      const double sums = 64 * support::eps<T>;
      support::check_close(mean.values(ctx), expected.mean, sums, "mean");
      std::vector<double> variance;
      for (const T s : inverse.values(ctx)) variance.push_back(1.0 / (double(s) * double(s)) - epsilon);
      support::check_close(variance, expected.variance, 4 * sums, "variance");
      // Few numbers may lie close together: then s magnifies the roundings of x - mean.
      const double s = support::scale_of(expected.inverse, 1.0), w = support::scale_of(weight, 1.0);
      support::check_close(y.values(ctx), expected.y, 8 * w * (4 + s) * support::eps<T>, "y");

      kernels::group_norm_backward<T>(ctx, device_x, groups, mean.view(), inverse.view(), device_weight, device_dy,
                                      Accumulate::overwrite, dweight.view(), dbias.view(), dx.view());
      for (Guarded<T>* out : {&dx, &dweight, &dbias}) out->check_guards(ctx);
      const double n = std::sqrt(static_cast<double>(samples * positions + 1));
      support::check_close(dbias.values(ctx), expected.dbias, 16 * n * support::eps<T>, "dbias");
      support::check_close(dweight.values(ctx), expected.dweight, 16 * n * (4 + s) * support::eps<T>, "dweight");
      // s times the error of numbers like y.
      support::check_close(dx.values(ctx), expected.dx, 32 * w * s * (4 + s) * support::eps<T>, "dx");

      const auto first_dx = dx.values(ctx);
      auto twice = expected.dweight;
      for (double& value : twice) value *= 2;
      kernels::group_norm_backward<T>(ctx, device_x, groups, mean.view(), inverse.view(), device_weight, device_dy,
                                      Accumulate::accumulate, dweight.view(), dbias.view(), {});
      support::check_close(dweight.values(ctx), twice, 32 * n * (4 + s) * support::eps<T>, "accumulated");
      auto in_place = ms::from_host<T>(ctx, shape, dy);
      kernels::group_norm_backward<T>(ctx, device_x, groups, mean.view(), inverse.view(), device_weight, in_place,
                                      Accumulate::overwrite, {}, {}, in_place.view());
      support::check_same_bits(ms::to_host(ctx, in_place), first_dx, "in place");
    }
  });
}

TEST_CASE("group norm: a large offset costs no accuracy, channels of different means count") {
  support::for_every_executor([](ms::Context& ctx) {
    const Size size{2, 200, 6, 2};
    const ms::Shape shape{size.samples, size.positions, size.cols};
    std::vector<float> x = support::normal_values<float>(shape.size(), 5);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += 1000.0f + static_cast<float>(i % 6);
    const std::vector<float> ones(6, 1.0f);
    const Oracle expected(x, ones, ones, x, size);
    ms::Tensor<float> mean(ctx, {2, 2}), inverse(ctx, {2, 2}), y(ctx, shape);
    const auto weight = ms::from_host<float>(ctx, {6}, ones);
    kernels::group_norm_forward<float>(ctx, ms::from_host<float>(ctx, shape, x), 2, weight, weight, epsilon, mean,
                                       inverse, y);
    std::vector<double> ratio;
    const auto s = ms::to_host(ctx, inverse);
    for (std::size_t k = 0; k < s.size(); ++k) {
      ratio.push_back((1.0 / (double(s[k]) * double(s[k])) - epsilon) / expected.variance[k]);
    }
    // Sums of 64 squares in float; s is rounded once and squared.
    support::check_close(ratio, std::vector<double>(ratio.size(), 1.0), 64 * support::eps<float>);
  });
}

TEST_CASE("group norm: results do not depend on workers or runs") {
  const ms::Shape shape{12, 300, 24};
  const std::vector<float> x = support::normal_values<float>(shape.size(), 7);
  const auto run = [&](int count) {
    ms::Context ctx(workers(count));
    const auto device_x = ms::from_host<float>(ctx, shape, x);
    ms::Tensor<float> mean(ctx, {12, 3}), inverse(ctx, {12, 3}), dweight(ctx, {24}), dbias(ctx, {24}), y(ctx, shape),
        dx(ctx, shape);
    const auto weight = ms::from_host<float>(ctx, {24}, std::vector<float>(24, 0.5f));
    kernels::group_norm_forward<float>(ctx, device_x, 3, weight, weight, epsilon, mean, inverse, y);
    kernels::group_norm_backward<float>(ctx, device_x, 3, mean, inverse, weight, y, Accumulate::overwrite, dweight,
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

TEST_CASE("group norm: arguments that do not fit are named") {
  ms::Context ctx({.seed = 1});
  auto x = ms::zeros<float>(ctx, {4, 2, 6}), cols = ms::zeros<float>(ctx, {6}), two = ms::zeros<float>(ctx, {4, 2});
  const auto forward = [&](std::int64_t groups, const ms::Tensor<float>& weight) {
    kernels::group_norm_forward<float>(ctx, x, groups, weight, cols, epsilon, two, two, x);
  };
  CHECK(
      message_of<ms::ArgumentError>([&] { forward(4, cols); }) ==
      "group_norm_forward: 6 channels do not fall into 4 groups of equal size; choose a number of groups that divides "
      "the channels");
  CHECK_THROWS_AS(forward(0, cols), ms::ArgumentError);
  CHECK(message_of<ms::ShapeError>([&] { forward(3, cols); }) ==
        "group_norm_forward: mean has shape (4, 2), but x of shape (4, 2, 6) in 3 groups needs (4, 3)");
  CHECK(message_of<ms::ShapeError>([&] { forward(2, two); }) ==
        "group_norm_forward: weight has shape (4, 2), x has shape (4, 2, 6); weight needs one element for each column "
        "of x");
  CHECK(message_of<ms::ShapeError>([&] {
          kernels::group_norm_backward<float>(ctx, x, 2, two, two, cols, two, Accumulate::overwrite, cols, cols, x);
        }) == "group_norm_backward: dy has shape (4, 2), x has shape (4, 2, 6); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] {
          kernels::group_norm_forward<float>(ctx, cols, 2, cols, cols, epsilon, two, two, cols);
        }) == "group_norm_forward: x has shape (6); it needs a batch axis and channels");
}

TEST_SUITE_END();

}  // namespace kernels_group_norm_test
