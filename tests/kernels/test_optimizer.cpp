#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/kernels/optimizer.cuh>
#include <support/check.hpp>

namespace kernels_optimizer_test {

TEST_SUITE_BEGIN("unit");

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using support::Guarded;

constexpr int steps = 10;

template <class T>
std::vector<T> gradient_of_step(std::int64_t size, int step) {
  return support::normal_values<T>(size, 100 + static_cast<std::uint64_t>(step));
}

// Ten steps of one float operation after the other: every step adds a few roundings of numbers of size `scale`.
template <class T>
double tolerance(double scale) {
  return 8 * steps * support::eps<T> * scale;
}

template <class T>
void put(ms::Context& ctx, ms::View<T> to, const std::vector<T>& values) {
  if (values.empty()) return;
  const auto tensor = ms::from_host<T>(ctx, to.shape(), values);
  ms::copy(ctx, tensor.view(), to);
}

template <class T>
void check_sgd(ms::Context& ctx, std::int64_t size, const mk::SgdStep& step) {
  Guarded<T> parameter(ctx, {size});
  Guarded<T> buffer(ctx, {size}, T(0));
  const auto start = support::normal_values<T>(size, 1);
  put(ctx, parameter.view(), start);
  std::vector<double> w = support::to_double(start);
  std::vector<double> v(w.size(), 0.0);
  for (int t = 0; t < steps; ++t) {
    const auto gradient = gradient_of_step<T>(size, t);
    const auto device_gradient = ms::from_host<T>(ctx, {size}, gradient);
    mk::sgd_step(ctx, step, device_gradient.view(), step.momentum == 0.0 ? ms::View<T>() : buffer.view(),
                 parameter.view());
    for (std::size_t i = 0; i < w.size(); ++i) {
      double d = static_cast<double>(gradient[i]);
      if (step.weight_decay != 0.0) d += step.weight_decay * w[i];
      if (step.momentum != 0.0) {
        v[i] = step.momentum * v[i] + (1.0 - step.dampening) * d;
        d = step.nesterov ? d + step.momentum * v[i] : v[i];
      }
      w[i] -= step.learning_rate * d;
    }
  }
  parameter.check_guards(ctx);
  buffer.check_guards(ctx);
  support::check_close(parameter.values(ctx), w, tolerance<T>(support::scale_of(w, 1.0)), "parameter");
  support::check_close(buffer.values(ctx), v, tolerance<T>(support::scale_of(v, 1.0)), "momentum buffer");
}

template <class T>
void check_adamw(ms::Context& ctx, std::int64_t size, mk::AdamWStep step) {
  Guarded<T> parameter(ctx, {size});
  Guarded<T> first(ctx, {size}, T(0));
  Guarded<T> second(ctx, {size}, T(0));
  const auto start = support::normal_values<T>(size, 1);
  put(ctx, parameter.view(), start);
  std::vector<double> w = support::to_double(start);
  std::vector<double> m(w.size(), 0.0), v(w.size(), 0.0);
  double power1 = 1.0, power2 = 1.0;
  for (int t = 1; t <= steps; ++t) {
    const auto gradient = gradient_of_step<T>(size, t);
    const auto device_gradient = ms::from_host<T>(ctx, {size}, gradient);
    step.step = t;
    mk::adamw_step(ctx, step, device_gradient.view(), first.view(), second.view(), parameter.view());
    power1 *= step.beta1;
    power2 *= step.beta2;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double g = static_cast<double>(gradient[i]);
      w[i] -= step.learning_rate * step.weight_decay * w[i];
      m[i] = step.beta1 * m[i] + (1.0 - step.beta1) * g;
      v[i] = step.beta2 * v[i] + (1.0 - step.beta2) * g * g;
      const double m_hat = m[i] / (1.0 - power1);
      const double v_hat = v[i] / (1.0 - power2);
      w[i] -= step.learning_rate * m_hat / (std::sqrt(v_hat) + step.epsilon);
    }
  }
  parameter.check_guards(ctx);
  first.check_guards(ctx);
  second.check_guards(ctx);
  support::check_close(first.values(ctx), m, tolerance<T>(support::scale_of(m, 1.0)), "first moment");
  support::check_close(second.values(ctx), v, tolerance<T>(support::scale_of(v, 1.0)), "second moment");
  support::check_close(parameter.values(ctx), w, tolerance<T>(support::scale_of(w, 1.0)), "parameter");
}

}  // namespace

TEST_CASE_TEMPLATE("optimizer: ten SGD steps match the double loop", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t size : {0, 1, 31, 33, 130}) {
      CAPTURE(size);
      check_sgd<T>(ctx, size, {.learning_rate = 0.1});
      check_sgd<T>(ctx, size, {.learning_rate = 0.1, .weight_decay = 5e-2});
      check_sgd<T>(ctx, size, {.learning_rate = 0.1, .momentum = 0.9});
      check_sgd<T>(ctx, size, {.learning_rate = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 1e-2});
      check_sgd<T>(ctx, size, {.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-2, .nesterov = true});
      check_sgd<T>(ctx, size, {.learning_rate = 0.0, .momentum = 0.9, .weight_decay = 1e-2});
    }
  });
}

TEST_CASE_TEMPLATE("optimizer: ten AdamW steps match the double loop", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t size : {0, 1, 31, 33, 130}) {
      CAPTURE(size);
      check_adamw<T>(ctx, size, {});
      check_adamw<T>(ctx, size, {.learning_rate = 0.1, .weight_decay = 0.0});
      check_adamw<T>(ctx, size,
                     {.learning_rate = 0.05, .beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.1});
      check_adamw<T>(ctx, size, {.learning_rate = 0.05, .beta1 = 0.0, .beta2 = 0.0, .epsilon = 1e-3});
    }
  });
}

TEST_CASE("optimizer: known trajectories") {
  ms::Context ctx({.seed = 1});
  const std::vector<double> gradients = {0.3, -0.2, 0.1};
  {
    auto w = ms::from_host<double>(ctx, {1}, std::vector<double>{0.5});
    auto v = ms::zeros<double>(ctx, {1});
    for (const double g : gradients) {
      const auto gradient = ms::from_host<double>(ctx, {1}, std::vector<double>{g});
      mk::sgd_step(ctx, {.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true},
                   gradient.view(), v.view(), w.view());
    }
    // By hand: v = 0.305, w = 0.44205; v = 0.0789205, w = 0.4545051; v = 0.1755735, w = 0.42824897.
    CHECK(ms::to_host(ctx, v)[0] == doctest::Approx(0.1755735).epsilon(1e-6));
    CHECK(ms::to_host(ctx, w)[0] == doctest::Approx(0.42824897).epsilon(1e-6));
  }
  {
    auto w = ms::from_host<double>(ctx, {1}, std::vector<double>{0.5});
    auto m = ms::zeros<double>(ctx, {1});
    auto v = ms::zeros<double>(ctx, {1});
    const auto gradient = ms::from_host<double>(ctx, {1}, std::vector<double>{0.3});
    mk::adamw_step(ctx, {.learning_rate = 0.1, .epsilon = 0.0, .weight_decay = 0.2}, gradient.view(), m.view(),
                   v.view(), w.view());
    // The first step moves by the learning rate whatever the gradient's size; the decay is not scaled by it.
    CHECK(ms::to_host(ctx, w)[0] == doctest::Approx(0.5 * (1 - 0.02) - 0.1).epsilon(1e-12));
  }
}

TEST_CASE("optimizer: a zero gradient leaves the parameter, and a second run gives the same bits") {
  ms::Context ctx({.seed = 1});
  const std::int64_t size = 1000;
  const auto start = support::normal_values<float>(size, 1);
  const auto run = [&](const std::vector<float>& gradient_values) {
    auto w = ms::from_host<float>(ctx, {size}, start);
    auto m = ms::zeros<float>(ctx, {size});
    auto v = ms::zeros<float>(ctx, {size});
    const auto gradient = ms::from_host<float>(ctx, {size}, gradient_values);
    mk::adamw_step(ctx, {.weight_decay = 0.0}, gradient.view(), m.view(), v.view(), w.view());
    return ms::to_host(ctx, w);
  };
  support::check_same_bits(run(std::vector<float>(size, 0.0f)), start, "zero gradient");
  const auto gradient = gradient_of_step<float>(size, 1);
  support::check_same_bits(run(gradient), run(gradient), "second run");
}

TEST_CASE("optimizer: hyper-parameters out of range and shapes that differ are named") {
  ms::Context ctx({.seed = 1});
  auto w = ms::zeros<float>(ctx, {2, 3});
  auto g = ms::zeros<float>(ctx, {2, 3});
  auto other = ms::zeros<float>(ctx, {3, 2});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto sgd = [&](const mk::SgdStep& step) {
    return support::message_of<ms::ArgumentError>([&] { mk::sgd_step(ctx, step, g.view(), other.view(), w.view()); });
  };
  CHECK(sgd({.learning_rate = -1.0}) == "sgd_step: learning_rate is -1; it must be 0 or more, and finite");
  CHECK(sgd({.learning_rate = nan}) == "sgd_step: learning_rate is nan; it must be 0 or more, and finite");
  CHECK(sgd({.momentum = -0.5}) == "sgd_step: momentum is -0.5; it must be 0 or more, and finite");
  CHECK(sgd({.weight_decay = -0.5}) == "sgd_step: weight_decay is -0.5; it must be 0 or more, and finite");
  CHECK(sgd({.dampening = nan}) == "sgd_step: dampening is nan; it must be finite");
  CHECK(sgd({.nesterov = true}) ==
        "sgd_step: nesterov needs momentum > 0 and dampening 0; got momentum 0 and dampening 0");
  CHECK(sgd({.momentum = 0.9, .dampening = 0.5, .nesterov = true}) ==
        "sgd_step: nesterov needs momentum > 0 and dampening 0; got momentum 0.9 and dampening 0.5");
  const auto adamw = [&](const mk::AdamWStep& step) {
    return support::message_of<ms::ArgumentError>(
        [&] { mk::adamw_step(ctx, step, g.view(), g.view(), g.view(), w.view()); });
  };
  CHECK(adamw({.learning_rate = -1.0}) == "adamw_step: learning_rate is -1; it must be 0 or more, and finite");
  CHECK(adamw({.beta1 = 1.0}) == "adamw_step: beta1 is 1; it must lie in [0, 1)");
  CHECK(adamw({.beta2 = -0.1}) == "adamw_step: beta2 is -0.1; it must lie in [0, 1)");
  CHECK(adamw({.epsilon = nan}) == "adamw_step: epsilon is nan; it must be 0 or more, and finite");
  CHECK(adamw({.weight_decay = -1}) == "adamw_step: weight_decay is -1; it must be 0 or more, and finite");
  CHECK(adamw({.step = 0}) == "adamw_step: step is 0; steps are counted from 1");

  const auto shape_message = [&](auto action) { return support::message_of<ms::ShapeError>(action); };
  CHECK(shape_message([&] { mk::sgd_step(ctx, {}, other.view(), {}, w.view()); }) ==
        "sgd_step: gradient has shape (3, 2), but the parameter has (2, 3)");
  CHECK(shape_message([&] { mk::sgd_step(ctx, {.momentum = 0.9}, g.view(), {}, w.view()); }) ==
        "sgd_step: momentum is 0.9, so a momentum_buffer of shape (2, 3), zero at the start, is needed; got an empty "
        "view");
  CHECK(shape_message([&] { mk::sgd_step(ctx, {.momentum = 0.9}, g.view(), other.view(), w.view()); }) ==
        "sgd_step: momentum_buffer has shape (3, 2), but the parameter has (2, 3)");
  CHECK(shape_message([&] { mk::sgd_step(ctx, {}, g.view().slice(1, 0, 2), {}, w.view().slice(1, 0, 2)); }) ==
        "sgd_step: the parameter of shape (2, 2) is strided; it must be contiguous");
  CHECK(shape_message([&] { mk::adamw_step(ctx, {}, other.view(), g.view(), g.view(), w.view()); }) ==
        "adamw_step: gradient has shape (3, 2), but the parameter has (2, 3)");
  CHECK(shape_message([&] { mk::adamw_step(ctx, {}, g.view(), other.view(), g.view(), w.view()); }) ==
        "adamw_step: first_moment has shape (3, 2), but the parameter has (2, 3)");
  CHECK(shape_message([&] { mk::adamw_step(ctx, {}, g.view(), g.view(), other.view(), w.view()); }) ==
        "adamw_step: second_moment has shape (3, 2), but the parameter has (2, 3)");
}

TEST_SUITE_END();

}  // namespace kernels_optimizer_test
