#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/element_loss.cuh>
#include <meristem/kernels/sample_loss.cuh>

#include <support/check.hpp>

namespace kernels_element_loss_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using support::contains;
using support::message_of;

namespace {

/// Outputs that cover both branches of every loss, and targets.
template <class T>
struct Problem {
  std::int64_t n = 7, outputs = 5;
  std::vector<T> x = support::normal_values<T>(35, 1, 3.0), y = support::normal_values<T>(35, 2);
};

template <class T>
void check_slopes(const std::vector<T>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  // A handful of roundings of numbers up to ten.
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(std::abs(static_cast<double>(found[i]) - expected[i]) <= 40 * support::eps<T>);
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("element loss: Huber is half a square near the target and a line far from it", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const Problem<T> p;
    const auto x = ms::from_host<T>(ctx, {p.n, p.outputs}, p.x), y = ms::from_host<T>(ctx, {p.n, p.outputs}, p.y);
    for (const double delta : {0.5, 1.0, 100.0}) {
      ms::Tensor<T> gradient(ctx, x.shape());
      const double found = kernels::huber<T>(ctx, x.view(), y, delta, gradient);
      CHECK(found == kernels::huber<T>(ctx, x.view(), y, delta));
      double loss = 0.0;
      std::vector<double> slopes;
      for (std::size_t i = 0; i < p.x.size(); ++i) {
        const double e = static_cast<double>(p.x[i]) - static_cast<double>(p.y[i]), a = std::abs(e);
        loss += a <= delta ? e * e / 2 : delta * (a - delta / 2);
        slopes.push_back((a <= delta ? e : std::copysign(delta, e)) / static_cast<double>(p.n));
      }
      CHECK(found == doctest::Approx(loss / static_cast<double>(p.n)).epsilon(1e-12));
      check_slopes(ms::to_host(ctx, gradient), slopes);
    }
  });
}

TEST_CASE_TEMPLATE("element loss: binary cross-entropy of logits, for targets between 0 and 1 as well", T, float,
                   double) {
  support::for_every_executor([](ms::Context& ctx) {
    Problem<T> p;
    std::int64_t right = 0;
    for (std::size_t i = 0; i < p.y.size(); ++i) p.y[i] = static_cast<T>((i * 7 % 11) / 10.0);
    // All outputs of the last sample on their side.
    for (std::size_t k = 30; k < 35; ++k) p.x[k] = p.y[k] > T(0.5) ? T(2) : T(-2);
    const auto x = ms::from_host<T>(ctx, {p.n, p.outputs}, p.x), y = ms::from_host<T>(ctx, {p.n, p.outputs}, p.y);
    ms::Tensor<T> gradient(ctx, x.shape());
    const double found = kernels::binary_cross_entropy<T>(ctx, x.view(), y, right, gradient);
    double loss = 0.0;
    std::vector<double> slopes;
    std::int64_t expected_right = 0;
    for (std::size_t s = 0; s < 7; ++s) {
      bool all = true;
      for (std::size_t i = 5 * s; i < 5 * s + 5; ++i) {
        const double o = static_cast<double>(p.x[i]), t = static_cast<double>(p.y[i]), q = 1 / (1 + std::exp(-o));
        loss -= t * std::log(q) + (1 - t) * std::log(1 - q);
        slopes.push_back((q - t) / 7);
        all = all && (o > 0) == (t > 0.5);
      }
      expected_right += all ? 1 : 0;
    }
    CHECK(found == doctest::Approx(loss / 7).epsilon(1e-11));
    check_slopes(ms::to_host(ctx, gradient), slopes);
    CHECK(right == expected_right);
    CHECK(right >= 1);
  });
}

TEST_CASE_TEMPLATE("element loss: logits that are far out give finite losses, and NaN stays NaN", T, float, double) {
  ms::Context ctx;
  const T huge = std::numeric_limits<T>::max() / 4, nan = std::numeric_limits<T>::quiet_NaN();
  std::int64_t right = 0;
  const auto loss_of = [&](T output, T target) {
    const auto x = ms::from_host<T>(ctx, {1, 1}, std::vector<T>{output});
    const auto y = ms::from_host<T>(ctx, {1, 1}, std::vector<T>{target});
    ms::Tensor<T> gradient(ctx, {1, 1});
    const double loss = kernels::binary_cross_entropy<T>(ctx, x.view(), y, right, gradient);
    CHECK(std::isnan(ms::to_host(ctx, gradient)[0]) == std::isnan(output));
    return loss;
  };
  CHECK(loss_of(huge, T(1)) == 0.0);
  CHECK(right == 1);
  CHECK(loss_of(huge, T(0)) == static_cast<double>(huge));
  CHECK(right == 0);
  CHECK(loss_of(-huge, T(0)) == 0.0);
  CHECK(loss_of(-huge, T(1)) == static_cast<double>(huge));
  CHECK(std::isnan(loss_of(nan, T(1))));
  const auto x = ms::from_host<T>(ctx, {1, 1}, std::vector<T>{nan}),
             y = ms::from_host<T>(ctx, {1, 1}, std::vector<T>{1});
  ms::Tensor<T> gradient(ctx, {1, 1});
  CHECK(std::isnan(kernels::huber<T>(ctx, x.view(), y, 1.0, gradient)));
  CHECK(std::isnan(ms::to_host(ctx, gradient)[0]));
}

TEST_CASE_TEMPLATE("element loss: sums of errors", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    // More than one block's segment.
    const std::int64_t n = 9001;
    const std::vector<T> xs = support::normal_values<T>(n, 3), ys = support::normal_values<T>(n, 4, 2.0);
    const auto x = ms::from_host<T>(ctx, {n}, xs), y = ms::from_host<T>(ctx, {n}, ys);
    const kernels::ErrorSums sums = kernels::error_sums<T>(ctx, x.view(), y);
    kernels::ErrorSums expected{};
    for (std::size_t i = 0; i < xs.size(); ++i) {
      const double t = static_cast<double>(ys[i]), e = static_cast<double>(xs[i]) - t;
      expected = {expected.absolute + std::abs(e), expected.squares + e * e, expected.targets + t,
                  expected.target_squares + t * t};
    }
    // Sums of 9001 numbers of order one in another order.
    CHECK(std::abs(sums.absolute - expected.absolute) <= 1e-8);
    CHECK(std::abs(sums.squares - expected.squares) <= 1e-8);
    CHECK(std::abs(sums.targets - expected.targets) <= 1e-8);
    CHECK(std::abs(sums.target_squares - expected.target_squares) <= 1e-8);
  });
}

TEST_CASE_TEMPLATE("sample loss: cross-entropy against probabilities, with label smoothing", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const std::int64_t n = 9, classes = 4;
    const std::vector<T> logits = support::normal_values<T>(36, 5, 3.0);
    std::vector<T> targets = support::normal_values<T>(36, 6);
    for (T& t : targets) t = t * t;  // of any sum
    const auto x = ms::from_host<T>(ctx, {n, classes}, logits), q = ms::from_host<T>(ctx, {n, classes}, targets);
    for (const double smoothing : {0.0, 0.2}) {
      std::int64_t right = -1;
      ms::Tensor<T> gradient(ctx, x.shape());
      const double found = kernels::soft_cross_entropy<T>(ctx, x.view(), q, smoothing, right, gradient);
      double loss = 0.0;
      std::int64_t expected_right = 0;
      std::vector<double> slopes;
      for (std::size_t r = 0; r < 9; ++r) {
        double total = 0.0, mass = 0.0;
        std::size_t best = 0, wanted = 0;
        for (std::size_t k = 0; k < 4; ++k) {
          total += std::exp(static_cast<double>(logits[4 * r + k]));
          mass += (1 - smoothing) * static_cast<double>(targets[4 * r + k]) + smoothing / 4;
          if (logits[4 * r + k] > logits[4 * r + best]) best = k;
          if (targets[4 * r + k] > targets[4 * r + wanted]) wanted = k;
        }
        expected_right += best == wanted ? 1 : 0;
        for (std::size_t k = 0; k < 4; ++k) {
          const double t = (1 - smoothing) * static_cast<double>(targets[4 * r + k]) + smoothing / 4;
          const double p = std::exp(static_cast<double>(logits[4 * r + k])) / total;
          loss -= t * std::log(p) / 9;
          slopes.push_back((mass * p - t) / 9);
        }
      }
      CHECK(found == doctest::Approx(loss).epsilon(20 * support::eps<T>));
      check_slopes(ms::to_host(ctx, gradient), slopes);
      CHECK(right == expected_right);
    }
  });
}

namespace {

/// The pinball loss of quantile regression.
struct Pinball {
  double tau;
  template <class T>
  MERISTEM_HD T operator()(const T* output, const T* target, std::int64_t outputs, T* gradient) const {
    T loss = T(0);
    for (std::int64_t i = 0; i < outputs; ++i) {
      const T e = target[i] - output[i], slope = e > T(0) ? -static_cast<T>(tau) : static_cast<T>(1.0 - tau);
      loss -= slope * e;
      if (gradient != nullptr) gradient[i] = slope;
    }
    return loss;
  }
};

/// Without targets: the sum of squares of differences of neighbours.
struct Smooth {
  template <class T>
  MERISTEM_HD T operator()(const T* output, const T* target, std::int64_t outputs, T* gradient) const {
    T loss = target == nullptr ? T(0) : T(1e6);
    for (std::int64_t i = 0; gradient != nullptr && i < outputs; ++i) gradient[i] = T(0);
    for (std::int64_t i = 0; i + 1 < outputs; ++i) {
      const T d = output[i + 1] - output[i];
      loss += d * d;
      if (gradient == nullptr) continue;
      gradient[i] -= 2 * d;
      gradient[i + 1] += 2 * d;
    }
    return loss;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("sample loss: a function of one's own, with targets and without", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const Problem<T> p;
    const auto x = ms::from_host<T>(ctx, {p.n, p.outputs}, p.x), y = ms::from_host<T>(ctx, {p.n, p.outputs}, p.y);
    ms::Tensor<T> gradient(ctx, x.shape());
    const double found = kernels::sample_loss<Pinball, T>(ctx, {0.9}, x.view(), y, gradient);
    double loss = 0.0;
    std::vector<double> slopes;
    for (std::size_t i = 0; i < p.x.size(); ++i) {
      const double e = static_cast<double>(p.y[i]) - static_cast<double>(p.x[i]);
      loss += (e > 0 ? 0.9 * e : -0.1 * e) / 7;
      slopes.push_back((e > 0 ? -0.9 : 0.1) / 7);
    }
    CHECK(found == doctest::Approx(loss).epsilon(40 * support::eps<T>));
    check_slopes(ms::to_host(ctx, gradient), slopes);

    const double smooth = kernels::sample_loss<Smooth, T>(ctx, {}, x.view(), {}, gradient);
    double differences = 0.0;
    slopes.assign(35, 0.0);
    for (std::size_t i = 0; i < 35; ++i) {
      if (i % 5 == 4) continue;
      const double d = static_cast<double>(p.x[i + 1]) - static_cast<double>(p.x[i]);
      differences += d * d / 7;
      slopes[i] -= 2 * d / 7;
      slopes[i + 1] += 2 * d / 7;
    }
    CHECK(smooth == doctest::Approx(differences).epsilon(40 * support::eps<T>));
    check_slopes(ms::to_host(ctx, gradient), slopes);
    CHECK(kernels::sample_loss<Smooth, T>(ctx, {}, x.view(), {}) == smooth);
  });
}

TEST_CASE("element and sample losses: what does not fit is refused, by name") {
  ms::Context ctx;
  const auto x = ms::zeros<float>(ctx, {3, 2}), y = ms::zeros<float>(ctx, {2, 3});
  auto none = ms::zeros<float>(ctx, {0, 2});
  std::int64_t right = 0;
  CHECK(contains(message_of<ms::ShapeError>([&] { (void)kernels::huber<float>(ctx, x.view(), y, 1.0); }), "(2, 3)"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)kernels::huber<float>(ctx, x.view(), x, 0.0); }),
                 "delta is 0"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)kernels::huber<float>(ctx, none.view(), none, 1.0); }),
                 "batch of 0"));
  CHECK(
      contains(message_of<ms::ShapeError>([&] { (void)kernels::binary_cross_entropy<float>(ctx, x.view(), y, right); }),
               "binary_cross_entropy"));
  CHECK(
      contains(message_of<ms::ShapeError>([&] { (void)kernels::error_sums<float>(ctx, x.view(), y); }), "error_sums"));
  CHECK(contains(
      message_of<ms::ArgumentError>([&] { (void)kernels::soft_cross_entropy<float>(ctx, x.view(), x, 1.0, right); }),
      "label_smoothing is 1"));
  CHECK(contains(message_of<ms::ArgumentError>(
                     [&] { (void)kernels::soft_cross_entropy<float>(ctx, none.view(), none, 0.0, right); }),
                 "(0, 2)"));
  CHECK(contains(message_of<ms::ShapeError>([&] { (void)kernels::sample_loss<Smooth, float>(ctx, {}, x.view(), y); }),
                 "as many samples"));
  const auto labels = ms::from_host<std::int32_t>(ctx, {3}, std::vector<std::int32_t>{0, 2, 1});
  auto targets = ms::zeros<float>(ctx, {3, 1});
  CHECK(ms::to_host(ctx, kernels::binary_targets<float>(ctx, labels, targets.view()))[0] == 1);
  CHECK(contains(message_of<ms::ShapeError>([&] { (void)kernels::binary_targets<float>(ctx, labels, none.view()); }),
                 "one label is needed"));
}

TEST_SUITE_END();

}  // namespace kernels_element_loss_test
