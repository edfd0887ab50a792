// How long does it take to decide on growth, and how much memory?
//
// The growable ResNet-18 with 64 channels at a quarter of its hidden widths, 128 images: statistics and solution of
// each block, and of all eight measured together. `centre` is 0 for units that feed all taps of the next convolution
// and 1 for the centre tap alone.
//   growth_step/resnet18_block  one block: three passes over the samples of one batch, the network's own included
//   growth_step/resnet18_all    all eight from the same three passes
//   growth_step/resnet18_plain  the same three passes (forward, and backward without weight gradients), nothing else
// Operations: the passes; for blocks without stride what the statistics have to multiply; and the two factors of each
// solution. What is left out makes the floor lower, never higher.
//
// The 3072-64-64-10 perceptron with ReLU, 1024 samples:
//   growth_step/mlp_train_step   forward, backward, SGD
//   growth_step/mlp_statistics   forward, backward without weight gradients, S1, M1, S, M and P of both sites
//   growth_step/mlp_statistics_s_kept  the same where S of the first site, which no weight changes, is known already
//   growth_step/mlp_moments      merging into double, scaling and mirroring, once a growth step
#include <cstdint>
#include <vector>

#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>

#include "conv_work.hpp"
#include "main.hpp"

namespace {

namespace ms = meristem;
using bench::context;
using Maps = ms::View<const float>;

constexpr std::int64_t samples = 128;
constexpr std::int64_t max_units = 24;

struct Setup {
  ms::nn::Sequential<float> net = ms::models::resnet18<float>(context(), {.classes = 100, .width = 0.25});
  std::vector<ms::grow::Site<float>> sites = ms::grow::find_sites(net);
  ms::Tensor<float> images = bench::normal_matrix<float>({samples, 32, 32, 3}, 1);
  ms::Tensor<std::int32_t> labels;

  Setup() {
    std::vector<std::int32_t> classes;
    for (std::int64_t i = 0; i < samples; ++i) classes.push_back(static_cast<std::int32_t>(i % 100));
    labels = ms::from_host<std::int32_t>(context(), {samples}, classes);
  }

  template <class Use>
  void pass(const std::vector<ms::grow::Site<float>>& some, Use&& use) {
    ms::grow::visit_sites<float>(context(), net, some, {.inputs = images, .labels = labels}, ms::nn::CrossEntropy{},
                                 use);
  }
};

Setup& setup() {
  static Setup one;
  return one;
}

/// Three passes: forward, and backward without gradients of weights.
double pass_operations() {
  return 3.0 * 4.0 * static_cast<double>(setup().net.multiply_adds({1, 32, 32, 3}) * samples);
}

double cube(std::int64_t n) { return static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n); }

double site_operations(const ms::grow::Site<float>& site, std::int64_t map, bool all_taps) {
  const std::int64_t c = site.producer.in_features(), h = site.width(), q = site.fan_out();
  double operations = (cube(site.fan_in()) + cube(site.consumer_inputs())) / 3.0;
  if (site.producer.window().stride.x != 1) return operations;
  operations += static_cast<double>(samples) *
                (bench::patch_covariance_operations(map, c) + bench::patch_covariance_operations(map, h) +
                 bench::patch_cross_operations(map, c, q, all_taps));
  return operations;
}

void decide(benchmark::State& state, std::size_t first, std::size_t last) {
  ms::Context& ctx = context();
  const std::vector<ms::grow::Site<float>>& every = setup().sites;
  const std::vector<ms::grow::Site<float>> sites(every.begin() + static_cast<std::ptrdiff_t>(first),
                                                 every.begin() + static_cast<std::ptrdiff_t>(last));
  const bool all_taps = state.range(0) == 0;
  const auto fan_out = all_taps ? ms::grow::FanOut::full : ms::grow::FanOut::centre;
  bench::Work work{pass_operations(), bench::bytes_of(setup().images)};
  for (std::size_t i = first; i < last; ++i) work.operations += site_operations(every[i], 32 >> (i / 2), all_taps);
  bench::flush_caches();
  ctx.memory()->reset_peak();
  std::int64_t units = 0;
  bench::measure(state, work, [&] {
    using SiteMeasurement = ms::grow::detail::SiteMeasurement<float>;
    std::vector<SiteMeasurement> all;
    all.reserve(sites.size());
    for (const auto& site : sites) {
      all.emplace_back(ctx, site, ms::grow::detail::MeasurementOptions{.fan_out = fan_out, .significance = 0.0},
                       [](std::int64_t, const ms::grow::Choice*) { return max_units; });
    }
    // All sites go through the same passes.
    while (all.front().wants() != SiteMeasurement::Batches::none) {
      setup().pass(sites, [&](ms::Context&, std::size_t i, Maps unit, Maps consumer, Maps goal) {
        all[i].update(ctx, unit, consumer, goal);
      });
      for (auto& one : all) one.finish_pass(ctx);
    }
    units = 0;
    for (auto& one : all) units += one.propose().insertion.units;
  });
  state.counters["units"] = static_cast<double>(units);
  state.counters["peak_MB"] = static_cast<double>(ctx.memory()->peak()) * 1e-6;
}

void resnet18_block(benchmark::State& state) {
  const auto i = static_cast<std::size_t>(state.range(1));
  decide(state, i, i + 1);
}
BENCHMARK(resnet18_block)
    ->Name("growth_step/resnet18_block")
    ->Apply(bench::rows)
    ->ArgNames({"centre", "block"})
    ->ArgsProduct({{0, 1}, {0, 1, 2, 3, 4, 5, 6, 7}});

void resnet18_all(benchmark::State& state) { decide(state, 0, setup().sites.size()); }
BENCHMARK(resnet18_all)->Name("growth_step/resnet18_all")->Apply(bench::rows)->ArgName("centre")->Arg(0)->Arg(1);

void resnet18_plain(benchmark::State& state) {
  setup();
  bench::flush_caches();
  context().memory()->reset_peak();
  bench::measure(state, {pass_operations(), bench::bytes_of(setup().images)}, [] {
    for (int pass = 0; pass < 3; ++pass) {
      setup().pass(setup().sites, [](ms::Context&, std::size_t, Maps, Maps, Maps) {});
    }
  });
  state.counters["peak_MB"] = static_cast<double>(context().memory()->peak()) * 1e-6;
}
BENCHMARK(resnet18_plain)->Name("growth_step/resnet18_plain")->Apply(bench::rows);

struct Perceptron {
  static constexpr std::int64_t count = 1024, inputs = 3072, hidden = 64, classes = 10;
  static constexpr double forward = 2.0 * count * (inputs * hidden + hidden * hidden + hidden * classes);
  /// Gradients at the hidden layers' outputs.
  static constexpr double backward = 2.0 * count * (hidden * hidden + hidden * classes);

  ms::Tensor<float> images = bench::normal_matrix({count, inputs}, 1);
  ms::Tensor<std::int32_t> labels;
  ms::nn::Sequential<float> net =
      ms::models::mlp<float>(context(), {.inputs = inputs, .hidden = {hidden, hidden}, .classes = classes});
  std::vector<ms::grow::Site<float>> sites = ms::grow::find_sites(net);

  Perceptron() {
    std::vector<std::int32_t> values;
    for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<std::int32_t>(i % classes));
    labels = ms::from_host<std::int32_t>(context(), {count}, values);
  }
};

void mlp_train_step(benchmark::State& state) {
  Perceptron one;
  ms::optim::Sgd<float> sgd(one.net, {.learning_rate = 1e-4, .momentum = 0.9});
  const double parameters = static_cast<double>(ms::nn::parameter_count(one.net));
  bench::measure(state,
                 {2.0 * Perceptron::forward + Perceptron::backward,
                  2.0 * bench::bytes_of(one.images) + 7.0 * sizeof(float) * parameters},
                 [&] {
                   benchmark::DoNotOptimize(
                       ms::train::step<float>(context(), one.net, {.inputs = one.images, .labels = one.labels}, sgd));
                 });
}
BENCHMARK(mlp_train_step)->Name("growth_step/mlp_train_step")->Apply(bench::rows);

void mlp_statistics(benchmark::State& state, bool gather_input_covariance) {
  Perceptron one;
  std::vector<ms::grow::detail::RowStatistics<float>> all;
  bench::Work work{Perceptron::forward + Perceptron::backward, 2.0 * bench::bytes_of(one.images)};
  for (std::size_t i = 0; i < one.sites.size(); ++i) {
    const bool covariance = i > 0 || gather_input_covariance;
    all.emplace_back(context(), one.sites[i].shape({}), ms::grow::detail::StatisticsOptions{.covariance = covariance});
    const auto p = static_cast<double>(one.sites[i].fan_in()), d = static_cast<double>(one.sites[i].consumer_inputs());
    const auto q = static_cast<double>(one.sites[i].fan_out()), n = static_cast<double>(Perceptron::count);
    // M and P, M1, S1, S.
    work.operations += 2.0 * n * p * (q + d) + 2.0 * n * d * q + n * d * (d + 1) + (covariance ? n * p * (p + 1) : 0.0);
    work.bytes += sizeof(float) * (covariance ? p * p : 0.0);
  }
  bench::measure(state, work, [&] {
    ms::grow::visit_sites<float>(context(), one.net, one.sites, {.inputs = one.images, .labels = one.labels},
                                 ms::nn::CrossEntropy{},
                                 [&](ms::Context& ctx, std::size_t i, Maps unit, Maps consumer, Maps goal) {
                                   all[i].update(ctx, unit, consumer, goal);
                                 });
  });
}
BENCHMARK_CAPTURE(mlp_statistics, all, true)->Name("growth_step/mlp_statistics")->Apply(bench::rows);
BENCHMARK_CAPTURE(mlp_statistics, kept, false)->Name("growth_step/mlp_statistics_s_kept")->Apply(bench::rows);

void mlp_moments(benchmark::State& state) {
  Perceptron one;
  ms::grow::detail::RowStatistics<float> all(context(), one.sites[0].shape({}));
  const auto hidden = bench::normal_matrix({Perceptron::count, Perceptron::hidden}, 2);
  const double order = Perceptron::inputs + 1;
  // S in float is read, S in double read, written, and read once more for its mirror image.
  bench::measure(
      state, {0.0, order * order * (sizeof(float) / 2.0 + 2.0 * sizeof(double))},
      [&] { benchmark::DoNotOptimize(all.moments(context()).samples); },
      [&] { all.update(context(), one.images, hidden, hidden); });
}
BENCHMARK(mlp_moments)->Name("growth_step/mlp_moments")->Apply(bench::rows);

}  // namespace
