#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/mse.cuh>
#include <support/check.hpp>

namespace kernels_mse_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

template <class T>
double loss_of(ms::Context& ctx, const ms::Shape& shape, const std::vector<T>& prediction,
               const std::vector<T>& target) {
  return kernels::mse(ctx, ms::from_host<T>(ctx, shape, prediction).view(), ms::from_host<T>(ctx, shape, target));
}

}  // namespace

TEST_CASE_TEMPLATE("mse: loss and gradient against loops in double", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const ms::Shape& shape : {ms::Shape{1}, ms::Shape{31}, ms::Shape{32, 1}, ms::Shape{33, 33}, ms::Shape{3, 0},
                                   ms::Shape{1000, 7}, ms::Shape{5, 2, 3, 4}}) {
      INFO(shape.to_string());
      const std::vector<T> prediction = support::normal_values<T>(shape.size(), 1),
                           target = support::normal_values<T>(shape.size(), 2);
      const double n = static_cast<double>(shape[0]);
      double loss = 0.0;
      std::vector<double> expected;
      for (std::size_t i = 0; i < prediction.size(); ++i) {
        const double error = static_cast<double>(prediction[i]) - static_cast<double>(target[i]);
        loss += error * error / n;
        expected.push_back(2.0 * error / n);
      }
      const auto device_prediction = ms::from_host<T>(ctx, shape, prediction);
      const auto device_target = ms::from_host<T>(ctx, shape, target);
      Guarded<T> gradient(ctx, shape, std::numeric_limits<T>::quiet_NaN());
      const double got = kernels::mse(ctx, device_prediction.view(), device_target, gradient.view());
      gradient.check_guards(ctx);
      // Differences are rounded by eps / 2 each, which their squares double; the oracle adds all terms in one chain.
      const double chain = support::eps<double> * static_cast<double>(shape.size());
      CHECK(std::abs(got - loss) <= (2 * support::eps<T> + chain) * loss);
      // Difference, factor 2 / n and product: three roundings of a result of at most 2 (2 scales) / n.
      const double scale = support::scale_of(prediction) + support::scale_of(target);
      support::check_close(gradient.values(ctx), expected, 2 * support::eps<T> * 2 * scale / n);
      CHECK(kernels::mse(ctx, device_prediction.view(), device_target) == got);

      Guarded<T> in_place(ctx, shape);
      ms::copy(ctx, device_prediction.view(), in_place.view());
      CHECK(kernels::mse(ctx, in_place.view(), device_target, in_place.view()) == got);
      support::check_same_bits(in_place.values(ctx), gradient.values(ctx), "in place");
    }
  });
}

TEST_CASE("mse: the mean is over samples, the rest is summed") {
  ms::Context ctx({.seed = 1});
  CHECK(loss_of<double>(ctx, {2, 3}, {1, 2, 3, 4, 5, 6}, {0, 0, 0, 0, 0, 0}) == (1.0 + 4 + 9 + 16 + 25 + 36) / 2);
  CHECK(loss_of<double>(ctx, {6}, {1, 2, 3, 4, 5, 6}, {0, 0, 0, 0, 0, 0}) == (1.0 + 4 + 9 + 16 + 25 + 36) / 6);
  CHECK(loss_of<float>(ctx, {3, 0}, {}, {}) == 0.0);
}

TEST_CASE("mse: gradient agrees with central differences") {
  ms::Context ctx({.seed = 1});
  const std::vector<double> x = support::normal_values<double>(12, 3), y = support::normal_values<double>(12, 4);
  ms::Tensor<double> gradient(ctx, {4, 3});
  (void)kernels::mse(ctx, ms::from_host<double>(ctx, {4, 3}, x).view(), ms::from_host<double>(ctx, {4, 3}, y),
                     gradient.view());
  const double h = 1e-4;
  std::vector<double> difference;
  for (std::size_t i = 0; i < x.size(); ++i) {
    std::vector<double> above = x, below = x;
    above[i] += h;
    below[i] -= h;
    difference.push_back((loss_of<double>(ctx, {4, 3}, above, y) - loss_of<double>(ctx, {4, 3}, below, y)) / (2 * h));
  }
  // A quadratic has no truncation error; a few ulp of a loss of about 10 over 2h are 1e-11.
  support::check_close(ms::to_host(ctx, gradient), difference, 5e-11);
}

TEST_CASE("mse: the same bits for one and two workers and for two runs") {
  const std::int64_t n = 100'001;
  const std::vector<float> x = support::normal_values<float>(n, 5), y = support::normal_values<float>(n, 6);
  const auto run = [&](int workers) {
    ms::ContextOptions options{.seed = 1};
    options.executor.threads = workers;
    ms::Context ctx(options);
    ms::Tensor<float> gradient(ctx, {n});
    const double loss =
        kernels::mse(ctx, ms::from_host<float>(ctx, {n}, x).view(), ms::from_host<float>(ctx, {n}, y), gradient.view());
    const std::vector<float> values = ms::to_host(ctx, gradient);
    std::vector<double> all(values.begin(), values.end());
    all.push_back(loss);
    return all;
  };
  const std::vector<double> first = run(1);
  support::check_same_bits(first, run(1));
  support::check_same_bits(first, run(2));
}

TEST_CASE("mse: bad arguments are named") {
  ms::Context ctx({.seed = 1});
  auto a = ms::zeros<float>(ctx, {2, 3}), b = ms::zeros<float>(ctx, {3, 2}), none = ms::zeros<float>(ctx, {0, 3}),
       number = ms::zeros<float>(ctx, {});
  CHECK(message_of<ms::ArgumentError>([&] { (void)kernels::mse(ctx, none.view(), none); }) ==
        "mse: got a batch of 0 samples; a mean needs at least one");
  CHECK(message_of<ms::ShapeError>([&] { (void)kernels::mse(ctx, a.view(), b); }) ==
        "mse: prediction has shape (2, 3), target has shape (3, 2); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { (void)kernels::mse(ctx, a.view(), a, b.view()); }) ==
        "mse: prediction has shape (2, 3), gradient has shape (3, 2); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { (void)kernels::mse(ctx, number.view(), number); }) ==
        "mse: prediction has rank 0; its first axis must be the batch");
}

TEST_SUITE_END();

}  // namespace kernels_mse_test
