// What do the statistics of a growth step cost, beside one plain training step of the same network on the same batch?
//
// The network is a 3072-64-64-10 perceptron with ReLU, the batch 1024 samples of float32. Rows:
//   train_step        forward, backward, SGD
//   statistics        forward, backward without weight gradients, S1, M1, S, M and P of both sites
//   statistics_s_kept the same where S of the first site, which no weight changes, is known from an earlier step
//   covariance_input  S of the first site alone (3073 × 3073)
//   moments           merging into double, scaling and mirroring, once a growth step whatever the number of samples
// `floor_ms` is the time of the row's multiply-adds at the GEMM rate of this run, `of_gemm` the share that is reached.
#include <benchmark/benchmark.h>

#include <vector>

#include <meristem/grow/site.hpp>
#include <meristem/grow/statistics.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>

#include "support.hpp"

namespace {

namespace ms = meristem;
using bench::context;

constexpr std::int64_t samples = 1024, inputs = 3072, classes = 10;

struct Batch {
  ms::Tensor<float> images = bench::normal_matrix({samples, inputs}, 1);
  ms::Tensor<std::int32_t> labels;
  Batch() {
    std::vector<std::int32_t> values;
    for (std::int64_t i = 0; i < samples; ++i) values.push_back(static_cast<std::int32_t>(i % classes));
    labels = ms::from_host<std::int32_t>(context(), {samples}, values);
  }
};

struct Setup {
  Batch batch;
  ms::nn::Sequential<float> net =
      ms::models::mlp<float>(context(), {.inputs = inputs, .hidden = {64, 64}, .classes = classes});
  std::vector<ms::grow::Site<float>> sites = ms::grow::find_sites(net);
};

/// Operations of forward and of the gradients at the hidden layers' outputs.
constexpr double forward_operations = 2.0 * samples * (inputs * 64 + 64 * 64 + 64 * classes);
constexpr double hidden_gradient_operations = 2.0 * samples * (64 * 64 + 64 * classes);

/// Operations of M and P, M1, S1 and, if gathered, S of one site.
double site_operations(const ms::grow::Site<float>& site, bool covariance) {
  const auto p = static_cast<double>(site.fan_in()), d = static_cast<double>(site.consumer_inputs());
  const auto q = static_cast<double>(site.fan_out()), n = static_cast<double>(samples);
  return 2.0 * n * p * (q + d) + 2.0 * n * d * q + n * d * (d + 1) + (covariance ? n * p * (p + 1) : 0.0);
}

void train_step(benchmark::State& state) {
  Setup setup;
  ms::optim::Sgd sgd(setup.net, {.learning_rate = 1e-4, .momentum = 0.9});
  bench::gemm_rate();
  for (auto _ : state) {
    benchmark::DoNotOptimize(ms::train::step<float>(context(), setup.net, setup.batch, sgd));
    context().synchronize();
  }
  bench::report(state, 2.0 * forward_operations + hidden_gradient_operations);
}

void statistics(benchmark::State& state, bool gather_input_covariance) {
  Setup setup;
  bench::gemm_rate();
  std::vector<ms::grow::SiteStatistics<float>> all;
  double operations = forward_operations + hidden_gradient_operations;
  for (std::size_t i = 0; i < setup.sites.size(); ++i) {
    const bool covariance = i > 0 || gather_input_covariance;
    all.emplace_back(context(), setup.sites[i], ms::grow::StatisticsOptions{.covariance = covariance});
    operations += site_operations(setup.sites[i], covariance);
  }
  for (auto _ : state) {
    ms::grow::visit_sites<float>(
        context(), setup.net, setup.sites, setup.batch.images, ms::View<const std::int32_t>(setup.batch.labels),
        ms::nn::CrossEntropy{},
        [&](ms::Context& ctx, std::size_t i, ms::View<const float> unit, ms::View<const float> consumer,
            ms::View<const float> goal) { all[i].update(ctx, unit, consumer, goal); });
    context().synchronize();
  }
  bench::report(state, operations);
}

void covariance_input(benchmark::State& state) {
  Batch batch;
  bench::gemm_rate();
  ms::grow::Covariance<float> covariance(context(), inputs, true);
  for (auto _ : state) {
    covariance.update(context(), batch.images, samples);
    context().synchronize();
  }
  bench::report(state, static_cast<double>(samples) * (inputs + 1) * (inputs + 2));
}

void moments(benchmark::State& state) {
  Setup setup;
  ms::grow::SiteStatistics<float> all(context(), setup.sites[0]);
  const auto hidden = bench::normal_matrix({samples, 64}, 2);
  for (auto _ : state) {
    state.PauseTiming();
    all.update(context(), setup.batch.images, hidden, hidden);
    context().synchronize();
    state.ResumeTiming();
    benchmark::DoNotOptimize(all.moments(context()).samples);
    context().synchronize();
  }
}

BENCHMARK(train_step)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(statistics, all, true)->Name("statistics")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(statistics, kept, false)->Name("statistics_s_kept")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(covariance_input)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(moments)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv); }
