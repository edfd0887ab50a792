// The line search's passes, restarted in front of what changes, and units brought to the scale of what is there.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/policy/normalize.hpp>
#include <meristem/grow/policy/search.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <support/check.hpp>
#include <support/units_on_host.hpp>

namespace grow_search_test {

namespace ms = meristem;

namespace {

using Net = ms::nn::Sequential<double>;
using Inputs = ms::View<const double>;

Net maps(ms::Context& ctx) {
  Net net;
  net.add<ms::nn::Conv2d<double>>("stem", ctx, 2, 3, ms::nn::Conv2dOptions{.padding = 1});
  net.add<ms::nn::ActivationLayer<double>>("relu0", ms::nn::Activation::relu);
  net.add<ms::nn::Conv2d<double>>("conv", ctx, 3, 4, ms::nn::Conv2dOptions{.padding = 1});
  net.add<ms::nn::BatchNorm<double>>("norm", ctx, 4, ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  auto& block = net.add<ms::nn::Residual<double>>("block");
  block.add<ms::nn::Conv2d<double>>("conv1", ctx, 4, 5, ms::nn::Conv2dOptions{.padding = 1});
  block.add<ms::nn::BatchNorm<double>>("norm1", ctx, 5,
                                       ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  block.add<ms::nn::Conv2d<double>>("conv2", ctx, 5, 4, ms::nn::Conv2dOptions{.padding = 1});
  block.add<ms::nn::BatchNorm<double>>("norm2", ctx, 4,
                                       ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  net.add<ms::nn::GlobalAveragePool<double>>("pool");
  net.add<ms::nn::Flatten<double>>("flatten");
  net.add<ms::nn::Dropout<double>>("dropout", 0.5);
  net.add<ms::nn::Linear<double>>("fc1", ctx, 4, 6);
  net.add<ms::nn::ActivationLayer<double>>("relu", ms::nn::Activation::relu);
  net.add<ms::nn::Linear<double>>("fc2", ctx, 6, 3);
  return net;
}

/// Three batches, the last of them smaller.
struct Samples {
  std::vector<ms::nn::Batch<double>> batches;
  int shown = 0;

  explicit Samples(ms::Context& ctx) {
    std::uint64_t seed = 0;
    for (const std::int64_t n : {5, 5, 3}) {
      std::vector<std::int32_t> labels;
      for (std::int64_t i = 0; i < n; ++i) labels.push_back(static_cast<std::int32_t>(i % 3));
      batches.push_back(
          {.inputs = ms::from_host<double>(ctx, {n, 4, 4, 2}, support::normal_values<double>(n * 32, ++seed)),
           .labels = ms::from_host<std::int32_t>(ctx, {n}, labels)});
    }
  }

  template <class Use>
  void operator()(Use&& use) {
    ++shown;
    for (const auto& batch : batches) use(ms::nn::BatchView<double>(batch));
  }
};

double full_loss(ms::Context& ctx, Net& net, Samples& samples) {
  double total = 0.0, count = 0.0;
  samples([&](const ms::nn::BatchView<double>& batch) {
    const auto trace = net.forward(ctx, batch.inputs, {.measuring = true});
    total += static_cast<double>(batch.size()) * ms::nn::CrossEntropy{}(ctx, trace.output, batch, false).mean;
    count += static_cast<double>(batch.size());
  });
  return total / count;
}

/// Mean squares of the outputs of a site's producer and consumer, by copying what follows them.
struct Seen final : ms::nn::Taps<double> {
  const ms::nn::Layer<double>* wanted = nullptr;
  std::vector<double> input;
  void on_forward(ms::Context& ctx, const ms::nn::Layer<double>& layer, Inputs flow) override {
    if (&layer == wanted) input = ms::to_host(ctx, flow);
  }
  void on_backward(ms::Context&, const ms::nn::Layer<double>&, Inputs, Inputs) override {}
};

double mean_square(const std::vector<double>& values, std::size_t width, std::size_t first, std::size_t last) {
  double sum = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % width >= first && i % width < last) sum += values[i] * values[i];
  }
  return sum / static_cast<double>(values.size() / width * (last - first));
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("search pass: the losses of full passes to the last bit, from whatever layer changes and memory there is") {
  ms::Context ctx({.seed = 4});
  Net net = maps(ctx);
  const auto streams = ctx.random_streams();
  Samples samples(ctx);
  // What flows into the block, (n, 4, 4, 4) doubles, and the batch itself, (n, 4, 4, 2).
  const std::int64_t one = 5 * (64 + 32) * 8;
  struct Case {
    const char* site;
    std::int64_t memory;
    std::size_t kept;
    int shown;  // of three passes, how many see the samples
  };
  for (const Case& which :
       {Case{"stem", 1 << 20, 3, 1}, Case{"block.conv1", 1 << 20, 3, 1}, Case{"fc1", 1 << 20, 3, 1},
        Case{"block.conv1", 0, 0, 3}, Case{"block.conv1", 2 * one - 1, 1, 3}, Case{"block.conv1", 2 * one, 2, 3}}) {
    CAPTURE(which.site);
    CAPTURE(which.memory);
    const auto site = ms::grow::find_site<double>(net, which.site);
    ms::grow::detail::SearchPass<double> pass(net, *site.producer.layer(), which.memory);
    const std::vector<double> weights = ms::to_host(ctx, site.producer.weight().value);
    samples.shown = 0;
    int shown = 0;
    for (const double factor : {1.0, 0.5, -2.0}) {
      std::vector<double> changed = weights;
      for (double& w : changed) w *= factor;
      site.producer.weight().value = ms::from_host<double>(ctx, site.producer.weight().value.shape(), changed);
      const double expected = full_loss(ctx, net, samples);
      const int before = samples.shown;
      CHECK(pass(ctx, samples, ms::nn::CrossEntropy{}) == expected);
      shown += samples.shown - before;
    }
    CHECK(pass.kept() == which.kept);
    CHECK(shown == which.shown);
    site.producer.weight().value = ms::from_host<double>(ctx, site.producer.weight().value.shape(), weights);
  }
  CHECK(ctx.random_streams() == streams);
}

TEST_CASE("search pass: what is kept is not computed again, and the count says so") {
  ms::Context ctx({.seed = 4});
  Net net = maps(ctx);
  Samples samples(ctx);
  const auto site = ms::grow::find_site<double>(net, "fc1");
  ms::grow::detail::SearchPass<double> pass(net, *site.producer.layer(), 1 << 20);
  (void)pass(ctx, samples, ms::nn::CrossEntropy{});
  const std::int64_t whole = 13 * net.multiply_adds({1, 4, 4, 2});
  CHECK(pass.multiply_adds() == whole);
  (void)pass(ctx, samples, ms::nn::CrossEntropy{});
  // 4 × 6 and 6 × 3 weights.
  CHECK(pass.multiply_adds() == whole + 13 * (24 + 18));
}

TEST_CASE("search pass: taps see the layers from the change on, every time") {
  ms::Context ctx({.seed = 4});
  Net net = maps(ctx);
  Samples samples(ctx);
  struct Names final : ms::nn::Taps<double> {
    std::vector<std::string> names;
    void on_forward(ms::Context&, const ms::nn::Layer<double>& layer, Inputs) override {
      names.push_back(layer.name());
    }
    void on_backward(ms::Context&, const ms::nn::Layer<double>&, Inputs, Inputs) override {}
  };
  const auto site = ms::grow::find_site<double>(net, "fc1");
  ms::grow::detail::SearchPass<double> pass(net, *site.producer.layer(), 1 << 20);
  for (int i = 0; i < 2; ++i) {
    Names taps;
    (void)pass(ctx, samples, ms::nn::CrossEntropy{}, &taps);
    CHECK(taps.names == std::vector<std::string>{"fc1", "relu", "fc2", "fc1", "relu", "fc2", "fc1", "relu", "fc2"});
  }
}

TEST_CASE("normalisation: new units match what is there") {
  ms::Context ctx({.seed = 4});
  for (const char* const name : {"fc1", "block.conv1"}) {
    CAPTURE(name);
    Net net = maps(ctx);
    ms::Context one({.seed = 4});
    Samples all(ctx);
    // One batch, so that batch statistics are the same in every pass.
    const auto samples = [&](auto&& use) { use(ms::nn::BatchView<double>(all.batches[0])); };
    const auto site = ms::grow::find_site<double>(net, name);
    const std::int64_t taps = site.consumer.window().kernel.size();
    support::HostInsertion before{.units = 2, .inputs = site.fan_in(), .outputs = site.fan_out(), .taps = taps};
    before.fan_in = support::normal_values<double>(2 * before.inputs, 7, 5.0);
    before.fan_out = support::normal_values<double>(2 * taps * before.outputs, 8, 0.01);
    if (site.producer.norm()) {
      before.mean = {0.3, -0.2};
      before.variance = {2.0, 3.0};
    }
    ms::grow::Insertion scaled = support::on_device(ctx, before);
    const double factor = ms::grow::normalize<double>(ctx, net, site, {.matched = true}, samples, scaled);
    const support::HostInsertion units = support::on_host(ctx, scaled);
    const double in = units.fan_in[0] / before.fan_in[0], out = units.fan_out[0] / before.fan_out[0];
    CHECK(factor == doctest::Approx(in * out).epsilon(1e-12));
    for (std::size_t i = 0; i < units.fan_in.size(); ++i) {
      CHECK(units.fan_in[i] == doctest::Approx(in * before.fan_in[i]).epsilon(1e-12));
    }
    for (std::size_t i = 0; i < units.fan_out.size(); ++i) {
      CHECK(units.fan_out[i] == doctest::Approx(out * before.fan_out[i]).epsilon(1e-12));
    }
    if (site.producer.norm()) {
      CHECK(units.variance[1] == doctest::Approx(in * in * 3.0).epsilon(1e-12));
      // The norm of a network that was never trained has weight 1 and bias 0: existing units have mean square 1.
      CHECK(in * in * (0.09 + 2.0 + 0.04 + 3.0) / 2 == doctest::Approx(1.0).epsilon(1e-12));
    }

    const ms::nn::Layer<double>* const behind_consumer =
        site.producer.norm() ? net.children()[4]->children()[0]->children()[3] : nullptr;
    const auto consumer_output = [&] {
      Seen seen;
      seen.wanted = behind_consumer;
      const auto trace = net.forward(ctx, all.batches[0].inputs, {.measuring = true, .taps = &seen});
      return behind_consumer ? seen.input : ms::to_host(ctx, trace.output);
    };
    const auto producer_output = [&] {
      Seen seen;
      seen.wanted = net.children()[9];
      (void)net.forward(ctx, all.batches[0].inputs, {.measuring = true, .taps = &seen});
      return seen.input;
    };
    const std::vector<double> old_output = consumer_output();
    ms::grow::apply(ctx, ms::grow::make_edit<double>(ctx, site, scaled, 1.0), net);
    std::vector<double> change = consumer_output();
    for (std::size_t i = 0; i < change.size(); ++i) change[i] -= old_output[i];
    // Means over some hundred numbers, one of them a difference.
    CHECK(mean_square(change, 1, 0, 1) == doctest::Approx(mean_square(old_output, 1, 0, 1)).epsilon(1e-9));
    if (!site.producer.norm()) {
      const std::vector<double> flow = producer_output();
      CHECK(mean_square(flow, 8, 6, 8) == doctest::Approx(mean_square(flow, 8, 0, 6)).epsilon(1e-9));
    }
  }
}

TEST_CASE("normalisation: faint fan-outs, and none") {
  ms::Context ctx({.seed = 4});
  Net net = maps(ctx);
  Samples samples(ctx);
  const auto site = ms::grow::find_site<double>(net, "fc1");
  ms::grow::Insertion units{.units = 2, .inputs = 5, .outputs = 3};
  const auto fan_in = support::normal_values<double>(10, 7);
  units.fan_in = ms::from_host<double>(ctx, {2, 5}, fan_in);
  units.fan_out = ms::from_host<double>(ctx, {2, 3}, {3, 0, 0, 0, 4, 0});
  CHECK(ms::grow::normalize<double>(ctx, net, site, {}, samples, units) == 1.0);
  CHECK(ms::to_host(ctx, units.fan_out) == std::vector<double>{3, 0, 0, 0, 4, 0});
  // Mean squared norm (9 + 16) / 2.
  const double factor = ms::grow::normalize<double>(ctx, net, site, {.faint_norm = 1e-3}, samples, units);
  CHECK(factor == doctest::Approx(1e-3 / std::sqrt(12.5)).epsilon(1e-12));
  CHECK(ms::to_host(ctx, units.fan_out)[4] == doctest::Approx(4e-3 / std::sqrt(12.5)).epsilon(1e-12));
  CHECK(ms::to_host(ctx, units.fan_in) == fan_in);
  units.fan_out = ms::zeros<double>(ctx, {2, 3});
  CHECK(ms::grow::normalize<double>(ctx, net, site, {.faint_norm = 1e-3}, samples, units) == 1.0);
}

TEST_SUITE_END();

}  // namespace grow_search_test
