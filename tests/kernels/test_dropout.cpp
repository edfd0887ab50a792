#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/dropout.cuh>
#include <support/check.hpp>

namespace kernels_dropout_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("dropout: word i of the stream decides about element i, on every executor", T, float, double) {
  const ms::Philox random(1, 9);  // for_every_executor's contexts have seed 1
  support::for_every_executor([&](ms::Context& ctx) {
    for (const std::int64_t n : {0, 1, 3, 4, 31, 32, 33, 1000}) {
      for (const double probability : {0.0, 0.1, 0.5, 0.9}) {
        CAPTURE(n);
        CAPTURE(probability);
        const auto x = support::normal_values<T>(n, 1);
        std::vector<double> expected;
        for (std::int64_t i = 0; i < n; ++i) {
          const double uniform = double(random.block(std::uint64_t(i) / 4).word[i % 4]) * 0x1p-32;
          expected.push_back(uniform < 1.0 - probability ? double(x[std::size_t(i)]) / (1.0 - probability) : 0.0);
        }
        Guarded<T> y(ctx, {n});
        kernels::dropout(ctx, 9, probability, ms::from_host<T>(ctx, {n}, x), y.view());
        y.check_guards(ctx);
        // Two roundings: of the factor and of the product.
        support::check_close(y.values(ctx), expected, 2 * support::eps<T> * support::scale_of(expected));
        // In place.
        auto same = ms::from_host<T>(ctx, {n}, x);
        kernels::dropout<T>(ctx, 9, probability, same, same);
        support::check_same_bits(ms::to_host(ctx, same), y.values(ctx));
      }
    }
  });
}

TEST_CASE("dropout: as many elements fall as the probability says, independently of their neighbours") {
  ms::Context ctx({.seed = 3});
  constexpr std::int64_t n = 100000;
  const auto ones = ms::from_host<float>(ctx, {n}, std::vector<float>(n, 1.0f));
  for (const double probability : {0.01, 0.25, 0.5, 0.75, 0.99}) {
    CAPTURE(probability);
    ms::Tensor<float> y(ctx, {n});
    kernels::dropout<float>(ctx, 4, probability, ones, y);
    const auto values = ms::to_host(ctx, y);
    double dropped = 0, pairs = 0, fours = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      dropped += values[i] == 0.0f;
      pairs += i > 0 && values[i] == 0.0f && values[i - 1] == 0.0f;
      fours += i > 3 && values[i] == 0.0f && values[i - 4] == 0.0f;
    }
    // Five standard deviations of a binomial number; pairs overlap, which at most triples their variance.
    const double p = probability, p2 = p * p;
    CHECK(std::abs(dropped - n * p) < 5 * std::sqrt(n * p * (1 - p)));
    CHECK(std::abs(pairs - n * p2) < 5 * std::sqrt(3 * n * p2 * (1 - p2)));
    CHECK(std::abs(fours - n * p2) < 5 * std::sqrt(3 * n * p2 * (1 - p2)));
  }
}

TEST_CASE("dropout: what falls is 0, whatever it was") {
  ms::Context ctx;
  ms::Tensor<float> y(ctx, {64});
  const std::vector<float> nan(64, std::numeric_limits<float>::quiet_NaN());
  kernels::dropout<float>(ctx, 1, 0.5, ms::from_host<float>(ctx, {64}, nan), y);
  int zeros = 0;
  for (const float value : ms::to_host(ctx, y)) {
    zeros += value == 0.0f;
    CHECK((value == 0.0f || std::isnan(value)));
  }
  CHECK(zeros > 10);
  CHECK(zeros < 54);
}

TEST_CASE("dropout: impossible probabilities and misfits are told") {
  ms::Context ctx;
  auto x = ms::zeros<float>(ctx, {4});
  auto y = ms::zeros<float>(ctx, {5});
  for (const double probability : {1.0, -0.1, std::nan("")}) {
    CHECK(support::contains(message_of<ms::ArgumentError>([&] { kernels::dropout<float>(ctx, 1, probability, x, x); }),
                            "it must be in [0, 1)"));
  }
  CHECK(message_of<ms::ShapeError>([&] { kernels::dropout<float>(ctx, 1, 0.5, x, y); }) ==
        "dropout: x has shape (4), y has shape (5); they must be equal");
}

TEST_SUITE_END();

}  // namespace kernels_dropout_test
