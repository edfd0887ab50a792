// What enters batch norms, and how their running statistics follow growth.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/recalibration.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>
#include <support/check.hpp>

namespace grow_recalibration_test {

namespace ms = meristem;
using ms::grow::detail::NormInputs;
using ms::nn::BatchNorm;
using ms::nn::Sequential;

namespace {

struct Moments {
  std::vector<double> mean, variance;
};

/// Mean and biased variance of each column.
template <class T>
Moments plain_moments(const std::vector<T>& rows, std::size_t channels) {
  Moments result;
  const std::size_t n = rows.size() / channels;
  for (std::size_t c = 0; c < channels; ++c) {
    double mean = 0.0, variance = 0.0;
    for (std::size_t i = 0; i < n; ++i) mean += static_cast<double>(rows[i * channels + c]) / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double deviation = static_cast<double>(rows[i * channels + c]) - mean;
      variance += deviation * deviation / static_cast<double>(n);
    }
    result.mean.push_back(mean);
    result.variance.push_back(variance);
  }
  return result;
}

template <class T>
ms::Tensor<T> tensor(ms::Context& ctx, const ms::Shape& shape, const std::vector<T>& values) {
  return ms::from_host<T>(ctx, shape, values);
}

/// Shows batches to the norms of a network in training mode.
template <class T>
NormInputs<T> shown(ms::Context& ctx, ms::nn::Layer<T>& net, const std::vector<ms::Tensor<T>>& batches) {
  NormInputs<T> inputs;
  for (const auto& batch : batches) (void)net.forward(ctx, batch, {.measuring = true, .taps = &inputs});
  return inputs;
}

template <class T>
void set(ms::Context& ctx, ms::Tensor<T>& target, const std::vector<T>& values) {
  target = tensor<T>(ctx, target.shape(), values);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("recalibration: means and variances are averages of the batches' own", T, float, double) {
  ms::Context ctx;
  Sequential<T> net;
  auto& norm = net.template add<BatchNorm<T>>("norm", ctx, 3);
  std::vector<T> values[2] = {support::normal_values<T>(5 * 4 * 3, 1), support::normal_values<T>(2 * 4 * 3, 2)};
  // Unlike batches, one channel far from zero, one constant.
  for (auto& batch : values) {
    for (std::size_t i = 0; i < batch.size(); i += 3) {
      batch[i] += T(100);
      batch[i + 1] = T(2.5);
    }
  }
  std::vector<ms::Tensor<T>> batches;
  batches.push_back(tensor<T>(ctx, {5, 2, 2, 3}, values[0]));
  batches.push_back(tensor<T>(ctx, {2, 2, 2, 3}, values[1]));
  const NormInputs<T> inputs = shown<T>(ctx, net, batches);
  REQUIRE(inputs.all().size() == 1);
  const auto& channels = inputs.all().at(&norm);
  CHECK(channels.batches == 2.0);
  const auto first = plain_moments(values[0], 3), second = plain_moments(values[1], 3);
  std::vector<double> mean, variance;
  for (std::size_t c = 0; c < 3; ++c) {
    mean.push_back((first.mean[c] + second.mean[c]) / 2);
    variance.push_back((first.variance[c] + second.variance[c]) / 2);
  }
  // Means and deviations of numbers up to 100 are rounded in T.
  support::check_close(channels.mean, mean, 200 * support::eps<T>, "mean");
  support::check_close(channels.variance, variance, 2000 * support::eps<T>, "variance");
  CHECK(channels.variance[1] < 1e-29);
  // Nothing was changed.
  CHECK(ms::to_host(ctx, norm.running_mean().value) == std::vector<T>(3, T(0)));
  CHECK(ms::to_host(ctx, norm.running_variance().value) == std::vector<T>(3, T(1)));
}

TEST_CASE("recalibration: every norm of a network is seen, wherever it stands, but for empty ones") {
  ms::Context ctx({.seed = 5});
  Sequential<double> net;
  net.add<ms::nn::Linear<double>>("a", ctx, 4, 3);
  auto& first = net.add<BatchNorm<double>>("norm", ctx, 3);
  auto& block = net.add<ms::nn::Residual<double>>("block");
  block.add<ms::nn::Linear<double>>("b", ctx, 3, 0);
  auto& empty = block.add<BatchNorm<double>>("norm1", ctx, 0);
  block.add<ms::nn::Linear<double>>("c", ctx, 0, 3);
  auto& last = block.add<BatchNorm<double>>("norm2", ctx, 3);
  std::vector<ms::Tensor<double>> batches;
  batches.push_back(tensor<double>(ctx, {6, 4}, support::normal_values<double>(24, 1)));
  const auto inputs = shown<double>(ctx, net, batches);
  CHECK(inputs.all().size() == 2);
  CHECK(inputs.all().count(&first) == 1);
  CHECK(inputs.all().count(&last) == 1);
  CHECK(inputs.all().count(&empty) == 0);
  CHECK_NOTHROW(ms::grow::follow_growth<double>(ctx, net, inputs, inputs));
}

TEST_CASE_TEMPLATE("recalibration: means move by the difference, variances by the ratio", T, float, double) {
  ms::Context ctx({.seed = 5});
  Sequential<T> net;
  auto& norm = net.template add<BatchNorm<T>>("norm", ctx, 3);
  set<T>(ctx, norm.running_mean().value, {T(1), T(-2), T(0.5)});
  set<T>(ctx, norm.running_variance().value, {T(2), T(0.25), T(3)});
  const auto values = support::normal_values<T>(40 * 3, 1);
  std::vector<T> moved = values;
  for (std::size_t i = 0; i < moved.size(); i += 3) {
    moved[i] = T(2) * values[i] + T(1);      // twice as wide, and shifted
    moved[i + 1] = values[i + 1];            // as before
    moved[i + 2] = T(-0.5) * values[i + 2];  // half as wide, turned
  }
  std::vector<ms::Tensor<T>> before, after;
  before.push_back(tensor<T>(ctx, {40, 3}, values));
  after.push_back(tensor<T>(ctx, {40, 3}, moved));
  const auto old = shown<T>(ctx, net, before), now = shown<T>(ctx, net, after);
  ms::grow::follow_growth<T>(ctx, net, old, now);
  const auto a = plain_moments(values, 3), b = plain_moments(moved, 3);
  const double tolerance = 100 * support::eps<T>;
  support::check_close(ms::to_host(ctx, norm.running_mean().value),
                       {1 + b.mean[0] - a.mean[0], -2, 0.5 + b.mean[2] - a.mean[2]}, tolerance, "mean");
  support::check_close(ms::to_host(ctx, norm.running_variance().value), {8, 0.25, 0.75}, tolerance, "variance");
}

TEST_CASE("recalibration: the variance of a channel that was constant moves by the difference") {
  for (const double running : {0.0, 0.5}) {
    ms::Context ctx;
    Sequential<double> net;
    auto& norm = net.add<BatchNorm<double>>("norm", ctx, 1);
    set<double>(ctx, norm.running_variance().value, {running});
    std::vector<ms::Tensor<double>> before, after;
    before.push_back(tensor<double>(ctx, {4, 1}, {2.0, 2.0, 2.0, 2.0}));
    after.push_back(tensor<double>(ctx, {4, 1}, {1.0, 2.0, 3.0, 4.0}));
    const auto old = shown<double>(ctx, net, before), now = shown<double>(ctx, net, after);
    ms::grow::follow_growth<double>(ctx, net, old, now);
    CHECK(ms::to_host(ctx, norm.running_variance().value)[0] == doctest::Approx(running + 1.25));
    CHECK(ms::to_host(ctx, norm.running_mean().value)[0] == doctest::Approx(0.5));
    ms::grow::follow_growth<double>(ctx, net, now, old);
    CHECK(ms::to_host(ctx, norm.running_variance().value)[0] == doctest::Approx(0.0));
  }
}

TEST_CASE("recalibration: a layer that grew keeps its channels, and the added ones take those of the batches") {
  for (const std::int64_t width : {0, 2}) {
    CAPTURE(width);
    ms::Context ctx({.seed = 5});
    Sequential<double> net;
    auto& layer = net.add<ms::nn::Linear<double>>("a", ctx, 4, width);
    auto& norm = net.add<BatchNorm<double>>("norm", ctx, width);
    const auto w = static_cast<std::size_t>(width);
    set<double>(ctx, norm.running_mean().value, std::vector<double>(w, 0.75));
    set<double>(ctx, norm.running_variance().value, std::vector<double>(w, 1.5));
    const auto x = support::normal_values<double>(30 * 4, 1);
    std::vector<ms::Tensor<double>> batches;
    batches.push_back(tensor<double>(ctx, {30, 4}, x));
    const auto before = shown<double>(ctx, net, batches);

    const auto rows = support::normal_values<double>(3 * 4, 2);
    const auto map = ms::grow::appended(width, 3);
    ms::grow::Edit<double> edit;
    const auto add = [&](ms::nn::ParameterId id, const ms::Shape& shape, const std::vector<double>& values) {
      edit.axes.push_back({id, 0, map, tensor<double>(ctx, shape, values)});
    };
    add(layer.weight().id, {3, 4}, rows);
    add(layer.bias().id, {3}, {1, 2, 3});
    for (const auto id : {norm.weight().id, norm.bias().id, norm.running_mean().id, norm.running_variance().id}) {
      add(id, {3}, {7, 8, 9});
    }
    ms::grow::apply<double>(ctx, edit, net);
    const auto after = shown<double>(ctx, net, batches);
    ms::grow::follow_growth<double>(ctx, net, before, after);

    std::vector<double> added;
    for (std::size_t i = 0; i < 30; ++i) {
      for (std::size_t k = 0; k < 3; ++k) {
        double sum = static_cast<double>(k + 1);
        for (std::size_t j = 0; j < 4; ++j) sum += rows[k * 4 + j] * x[i * 4 + j];
        added.push_back(sum);
      }
    }
    const auto expected = plain_moments(added, 3);
    std::vector<double> means(w, 0.75), variances(w, 1.5);
    means.insert(means.end(), expected.mean.begin(), expected.mean.end());
    variances.insert(variances.end(), expected.variance.begin(), expected.variance.end());
    support::check_close(ms::to_host(ctx, norm.running_mean().value), means, 1e-13, "mean");
    support::check_close(ms::to_host(ctx, norm.running_variance().value), variances, 1e-12, "variance");
  }
}

TEST_CASE("recalibration: where running and batch statistics agree, they agree after a change of the weights below") {
  ms::Context ctx({.seed = 5});
  Sequential<double> net;
  auto& conv = net.add<ms::nn::Conv2d<double>>("a", ctx, 2, 3, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1});
  auto& norm = net.add<BatchNorm<double>>("norm", ctx, 3);
  std::vector<ms::Tensor<double>> batches;
  batches.push_back(tensor<double>(ctx, {8, 4, 5, 2}, support::normal_values<double>(320, 1)));
  const auto before = shown<double>(ctx, net, batches);
  set<double>(ctx, norm.running_mean().value, before.all().at(&norm).mean);
  set<double>(ctx, norm.running_variance().value, before.all().at(&norm).variance);
  set<double>(ctx, conv.weight().value, support::normal_values<double>(54, 3));
  const auto outputs = [&](ms::nn::Mode mode) {
    return ms::to_host(ctx, net.forward(ctx, batches[0], {.mode = mode, .measuring = true}).output);
  };
  const auto training = outputs(ms::nn::Mode::training);
  const auto stale = outputs(ms::nn::Mode::evaluation);
  ms::grow::follow_growth<double>(ctx, net, before, shown<double>(ctx, net, batches));
  support::check_close(outputs(ms::nn::Mode::evaluation), training, 1e-12);
  double difference = 0.0;
  for (std::size_t i = 0; i < stale.size(); ++i) difference = std::max(difference, std::abs(stale[i] - training[i]));
  CHECK(difference > 0.1);
}

TEST_SUITE_END();

}  // namespace grow_recalibration_test
