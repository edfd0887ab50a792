#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/activation.cuh>
#include <support/check.hpp>

namespace kernels_activation_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using kernels::Activation;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

const double lambda = 1.0507009873554805, alpha = 1.6732632423543772;

double oracle_value(Activation activation, double x) {
  switch (activation) {
    case Activation::identity:
      return x;
    case Activation::relu:
      return std::max(0.0, x);
    case Activation::gelu:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::tanh:
      return (std::exp(x) - std::exp(-x)) / (std::exp(x) + std::exp(-x));
    case Activation::selu:
      return lambda * (x > 0 ? x : alpha * (std::exp(x) - 1.0));
  }
  return NAN;
}

double oracle_slope(Activation activation, double x) {
  const double pi = std::acos(-1.0);
  switch (activation) {
    case Activation::identity:
      return 1.0;
    case Activation::relu:
      return x > 0 ? 1.0 : 0.0;
    case Activation::gelu:
      return 0.5 * (1.0 + std::erf(x / std::sqrt(2.0))) + x * std::exp(-x * x / 2.0) / std::sqrt(2.0 * pi);
    case Activation::silu:
      return 1.0 / (1.0 + std::exp(-x)) + x * std::exp(-x) / std::pow(1.0 + std::exp(-x), 2);
    case Activation::tanh:
      return 1.0 / std::pow(std::cosh(x), 2);
    case Activation::selu:
      return lambda * (x > 0 ? 1.0 : alpha * std::exp(x));
  }
  return NAN;
}

template <class T>
std::vector<T> forward(ms::Context& ctx, Activation activation, const std::vector<T>& x) {
  const auto n = static_cast<std::int64_t>(x.size());
  ms::Tensor<T> y(ctx, {n});
  kernels::activation_forward(ctx, activation, ms::from_host<T>(ctx, {n}, x), y.view());
  return ms::to_host(ctx, y);
}

template <class T>
std::vector<T> slopes(ms::Context& ctx, Activation activation, const std::vector<T>& x) {
  const auto n = static_cast<std::int64_t>(x.size());
  auto dx = ms::from_host<T>(ctx, {n}, std::vector<T>(x.size(), T(1)));
  kernels::activation_backward(ctx, activation, ms::from_host<T>(ctx, {n}, x), dx, dx.view());
  return ms::to_host(ctx, dx);
}

}  // namespace

TEST_CASE_TEMPLATE("activation: forward and backward against formulas in double", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const Activation activation : kernels::all_activations) {
      for (const std::int64_t n : {0, 1, 31, 32, 33, 1000}) {
        INFO(kernels::activation_name(activation), ", n = ", n);
        const std::vector<T> x = support::normal_values<T>(n, 1, 2.0), dy = support::normal_values<T>(n, 2);
        std::vector<double> y_expected, dx_expected;
        for (std::size_t i = 0; i < x.size(); ++i) {
          y_expected.push_back(oracle_value(activation, static_cast<double>(x[i])));
          dx_expected.push_back(oracle_slope(activation, static_cast<double>(x[i])) * static_cast<double>(dy[i]));
        }
        const auto device_x = ms::from_host<T>(ctx, {n}, x), device_dy = ms::from_host<T>(ctx, {n}, dy);
        Guarded<T> y(ctx, {n}), dx(ctx, {n});
        kernels::activation_forward(ctx, activation, device_x, y.view());
        kernels::activation_backward(ctx, activation, device_x, device_dy, dx.view());
        y.check_guards(ctx);
        dx.check_guards(ctx);
        // At most eight operations, each off by one or two units in the last place of a value below the scale; the
        // slope adds the rounding of its argument, and slopes stay below 1.8.
        support::check_close(y.values(ctx), y_expected, 8 * support::eps<T> * support::scale_of(x, 1.0));
        support::check_close(dx.values(ctx), dx_expected, 16 * support::eps<T> * support::scale_of(dy, 1.0));

        const std::vector<T> separate_y = y.values(ctx), separate_dx = dx.values(ctx);
        ms::copy(ctx, device_x.view(), y.view());
        kernels::activation_forward(ctx, activation, y.view(), y.view());
        support::check_same_bits(y.values(ctx), separate_y, "in place");
        ms::copy(ctx, device_dy.view(), dx.view());
        kernels::activation_backward(ctx, activation, device_x, dx.view(), dx.view());
        support::check_same_bits(dx.values(ctx), separate_dx, "in place");
      }
    }
  });
}

TEST_CASE("activation: slopes agree with central differences") {
  ms::Context ctx({.seed = 1});
  const double h = 1e-5;
  std::vector<double> x;
  // No point closer than h to the kinks at 0.
  for (double value = -6.0; value < 6.0; value += 0.1) x.push_back(value + 0.03);
  for (const Activation activation : kernels::all_activations) {
    std::vector<double> above = x, below = x;
    for (std::size_t i = 0; i < x.size(); ++i) {
      above[i] += h;
      below[i] -= h;
    }
    const std::vector<double> high = forward(ctx, activation, above), low = forward(ctx, activation, below);
    std::vector<double> difference;
    for (std::size_t i = 0; i < x.size(); ++i) difference.push_back((high[i] - low[i]) / (2 * h));
    // Truncation h^2 / 6 |sigma'''| with |sigma'''| below 4, and rounding 2 ulp(6.3) / 2h = 1.8e-10.
    support::check_close(slopes(ctx, activation, x), difference, 5e-10,
                         std::string(kernels::activation_name(activation)));
  }
}

TEST_CASE_TEMPLATE("activation: large inputs give limits, NaN stays NaN", T, float, double) {
  ms::Context ctx({.seed = 1});
  const T large = T(1e4);
  const T huge = std::numeric_limits<T>::max() / 4;
  for (const Activation activation : kernels::all_activations) {
    INFO(kernels::activation_name(activation));
    const std::vector<T> y = forward<T>(ctx, activation, {large, -large, huge, -huge});
    const std::vector<T> slope = slopes<T>(ctx, activation, {large, -large, huge, -huge});
    for (const std::size_t right : {0, 2}) {
      const double x = right == 0 ? static_cast<double>(large) : static_cast<double>(huge);
      double high = x, high_slope = 1.0, low = 0.0, low_slope = 0.0;
      if (activation == Activation::identity) low = -x, low_slope = 1.0;
      if (activation == Activation::tanh) high = 1.0, low = -1.0, high_slope = 0.0;
      if (activation == Activation::selu) high = lambda * x, high_slope = lambda, low = -lambda * alpha;
      CHECK(static_cast<double>(y[right]) == doctest::Approx(high).epsilon(1e-6));
      CHECK(static_cast<double>(y[right + 1]) == doctest::Approx(low).epsilon(1e-6));
      CHECK(static_cast<double>(slope[right]) == doctest::Approx(high_slope).epsilon(1e-6));
      CHECK(static_cast<double>(slope[right + 1]) == doctest::Approx(low_slope).epsilon(1e-6));
    }
    CHECK(std::isnan(forward<T>(ctx, activation, {std::numeric_limits<T>::quiet_NaN()})[0]));
  }
}

TEST_CASE("activation: gelu keeps relative accuracy far on the left") {
  ms::Context ctx({.seed = 1});
  // -8 Phi(-8), Phi(-8) = 6.22096057427178e-16.
  CHECK(forward<double>(ctx, Activation::gelu, {-8.0})[0] ==
        doctest::Approx(-8.0 * 6.22096057427178e-16).epsilon(1e-12));
}

TEST_CASE("activation: float32 is exact to few units in the last place over its whole range") {
  ms::Context ctx({.seed = 1});
  // Every 20011th float up to 88.5, where e^x overflows soon; of both signs, subnormal ones too.
  std::vector<float> x = {0.0f, -0.0f, 88.5f, -88.5f};
  for (std::uint32_t bits = 1; bits < 0x42b10000u; bits += 20011) {
    x.push_back(std::bit_cast<float>(bits));
    x.push_back(-x.back());
  }
  for (const Activation activation : {Activation::gelu, Activation::silu, Activation::tanh, Activation::selu}) {
    INFO(kernels::activation_name(activation));
    const std::vector<float> y = forward(ctx, activation, x), slope = slopes(ctx, activation, x);
    double worst = 0.0, worst_slope = 0.0, at = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto v = static_cast<double>(x[i]);
      // The formulas of oracle_value cancel near 0 or far on the left.
      const double expected = activation == Activation::gelu   ? 0.5 * v * std::erfc(-v / std::sqrt(2.0))
                              : activation == Activation::tanh ? std::tanh(v)
                              : activation == Activation::selu ? lambda * (v > 0 ? v : alpha * std::expm1(v))
                                                               : oracle_value(activation, v);
      // Relative, and some of the smallest numbers where float runs out of digits. e^{-x^2/2} of gelu inherits the
      // rounding of its exponent, x^2/2 units of it, and far on the left silu and gelu are products with it.
      const double magnified = activation == Activation::gelu && v < 0 ? 8.0 + v * v : 8.0;
      const double unit = magnified * support::eps<float> * std::max(std::abs(expected), 1.2e-38);
      const double error = std::abs(static_cast<double>(y[i]) - expected) / unit;
      if (error > worst) worst = error, at = v;
      worst_slope = std::max(worst_slope, std::abs(static_cast<double>(slope[i]) - oracle_slope(activation, v)));
    }
    INFO("at ", at);
    CHECK(worst <= 1.0);
    // Sums of three terms up to 1.8.
    CHECK(worst_slope <= 16 * support::eps<float>);
  }
}

TEST_CASE("activation: the bits depend neither on the neighbours of an element nor on the number of threads") {
  // 200003 elements are worth two threads, and leave elements over behind the last vector of each.
  const std::vector<float> x = support::normal_values<float>(200003, 1, 3.0);
  ms::Context ctx({.seed = 1}), alone({.seed = 1, .executor = {.threads = 1}}),
      three({.seed = 1, .executor = {.threads = 3}});
  for (const Activation activation : kernels::all_activations) {
    INFO(kernels::activation_name(activation));
    const std::vector<float> y = forward(alone, activation, x), slope = slopes(alone, activation, x);
    support::check_same_bits(forward(three, activation, x), y);
    support::check_same_bits(slopes(three, activation, x), slope);
    for (const std::size_t i : {0, 7, 99991, 200002}) {
      support::check_same_bits(forward(ctx, activation, std::vector<float>{x[i]}), std::vector<float>{y[i]});
      support::check_same_bits(slopes(ctx, activation, std::vector<float>{x[i]}), std::vector<float>{slope[i]});
    }
  }
}

TEST_CASE("activation: value and slope at zero") {
  ms::Context ctx({.seed = 1});
  for (const Activation activation : kernels::all_activations) {
    INFO(kernels::activation_name(activation));
    CHECK(forward<double>(ctx, activation, {0.0})[0] == kernels::value_at_zero(activation));
    // The right-hand slope, from a point just above 0.
    const double x = 1e-9;
    CHECK(forward<double>(ctx, activation, {x})[0] / x ==
          doctest::Approx(kernels::slope_at_zero(activation)).epsilon(1e-8));
  }
  CHECK(kernels::slope_at_zero(Activation::selu) == 1.0507009873554805);
  CHECK(kernels::slope_at_zero(Activation::gelu) == 0.5);
  // Backward takes the left-hand slope at a kink.
  CHECK(slopes<double>(ctx, Activation::relu, {0.0})[0] == 0.0);
  CHECK(slopes<double>(ctx, Activation::selu, {0.0})[0] == doctest::Approx(lambda * alpha));
}

TEST_CASE("activation: the same bits for one and two workers and for two runs") {
  const std::int64_t n = 300'001;
  for (const Activation activation : kernels::all_activations) {
    const auto run = [&](int workers) {
      ms::ContextOptions options{.seed = 1};
      options.executor.threads = workers;
      ms::Context ctx(options);
      const auto x = ms::from_host<float>(ctx, {n}, support::normal_values<float>(n, 7));
      ms::Tensor<float> y(ctx, {n});
      kernels::activation_forward(ctx, activation, x, y.view());
      kernels::activation_backward(ctx, activation, x, y, y.view());
      return ms::to_host(ctx, y);
    };
    const std::vector<float> first = run(1);
    support::check_same_bits(first, run(1));
    support::check_same_bits(first, run(2));
  }
}

TEST_CASE("activation: names are read and written") {
  for (const Activation activation : kernels::all_activations) {
    CHECK(kernels::parse_activation(kernels::activation_name(activation)) == activation);
  }
  CHECK(ms::concat(Activation::relu) == "relu");
  CHECK(message_of<ms::ArgumentError>([] { (void)kernels::parse_activation("rleu"); }) ==
        "there is no activation 'rleu'; choose one of identity, relu, gelu, silu, tanh, selu");
}

TEST_CASE("activation: shapes that do not fit are named") {
  ms::Context ctx({.seed = 1});
  auto a = ms::zeros<float>(ctx, {2, 3});
  auto b = ms::zeros<float>(ctx, {3, 2});
  CHECK(message_of<ms::ShapeError>([&] { kernels::activation_forward(ctx, Activation::relu, a, b.view()); }) ==
        "activation_forward: x has shape (2, 3), y has shape (3, 2); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { kernels::activation_backward(ctx, Activation::relu, a, b, a.view()); }) ==
        "activation_backward: dy has shape (3, 2), dx has shape (2, 3); they must be equal");
  CHECK(message_of<ms::ArgumentError>([&] {
          kernels::activation_forward(ctx, static_cast<Activation>(99), a, a.view());
        }) == "activation 99 does not exist");
}

TEST_SUITE_END();

}  // namespace kernels_activation_test
