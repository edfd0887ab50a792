#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <meristem/nn/dropout.hpp>
#include <support/check.hpp>

namespace nn_dropout_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("dropout layer: the same elements fall in forward and backward, other ones in the next pass") {
  ms::Context ctx({.seed = 5});
  ms::nn::Dropout<double> dropout(0.25);
  const std::int64_t n = 403;
  const auto x = ms::from_host<double>(ctx, {n}, std::vector<double>(n, 3.0));
  const ms::nn::Pass<double> pass{.input_gradient = true};
  std::vector<std::vector<double>> outputs;
  for (int i = 0; i < 2; ++i) {
    const auto trace = dropout.forward(ctx, x, pass);
    const auto again =
        dropout.backward(ctx, x, trace, ms::from_host<double>(ctx, {n}, std::vector<double>(n, 3.0)), pass);
    outputs.push_back(ms::to_host(ctx, trace.output));
    support::check_same_bits(ms::to_host(ctx, again), outputs.back());
    int dropped = 0;
    for (const double value : outputs.back()) {
      dropped += value == 0.0;
      CHECK((value == 0.0 || value == doctest::Approx(4.0)));
    }
    // Five standard deviations.
    CHECK(std::abs(dropped - 0.25 * n) < 5 * std::sqrt(0.25 * 0.75 * n));
  }
  CHECK(outputs[0] != outputs[1]);

  ms::Context same({.seed = 5}), other({.seed = 6});
  const auto first = [&](ms::Context& context) {
    const auto trace = dropout.forward(context, x, pass);
    return ms::to_host(context, trace.output);
  };
  CHECK(first(same) == outputs[0]);
  CHECK(first(other) != outputs[0]);
}

TEST_CASE("dropout layer: everything passes untouched in evaluation, when measuring and for probability 0") {
  ms::Context ctx;
  ms::nn::Dropout<float> dropout(0.5), none(0.0);
  const auto x = ms::from_host<float>(ctx, {2, 3}, support::normal_values<float>(6, 1));
  const auto passes = [&](ms::nn::Dropout<float>& layer, const ms::nn::Pass<float>& pass) {
    const auto streams = ctx.random_streams();
    const auto trace = layer.forward(ctx, x, pass);
    CHECK(trace.output.data_handle() == x.data());
    CHECK(trace.output.shape() == x.shape());
    CHECK(ctx.random_streams() == streams);
    const auto values = support::normal_values<float>(6, 2);
    auto gradient = ms::from_host<float>(ctx, {2, 3}, values);
    const float* data = gradient.data();
    const auto dx = layer.backward(ctx, x, trace, std::move(gradient), pass);
    CHECK(dx.data() == data);
    support::check_same_bits(ms::to_host(ctx, dx), values);
  };
  passes(dropout, {.mode = ms::nn::Mode::evaluation, .input_gradient = true});
  passes(dropout, {.input_gradient = true, .measuring = true});
  passes(none, {.input_gradient = true});
  const auto trace = dropout.forward(ctx, x, {});
  CHECK(trace.output.data_handle() != x.data());
  CHECK(dropout.backward(ctx, x, trace, ms::zeros<float>(ctx, {2, 3}), {}).empty());
}

TEST_CASE("dropout layer: probabilities outside [0, 1) are told") {
  for (const double probability : {1.0, -0.01, 2.0, std::nan("")}) {
    CHECK(contains(message_of<ms::ArgumentError>([&] { ms::nn::Dropout<float> layer(probability); }),
                   "it must be at least 0 and below 1"));
  }
}

TEST_SUITE_END();

}  // namespace nn_dropout_test
