// How long does it take to decide on growth, and how much memory? The growable ResNet-18 at a quarter of its hidden
// widths: statistics and solution of each block, and of all eight measured together.
//
//   resnet18_block/i    block i alone: three passes over the samples of one batch, the network's own included
//   resnet18_all        all eight from the same three passes
//   resnet18_plain      the same three passes (forward, and backward without weight gradients) and nothing else
//
// The first argument is 0 for units that feed all taps of the next convolution and 1 for the centre tap alone.
#include <cstdint>
#include <vector>

#include <meristem/grow/measurement.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/grow/statistics.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/nn/loss.hpp>

#include "support.hpp"

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
    ms::grow::visit_sites<float>(context(), net, some, images, ms::View<const std::int32_t>(labels),
                                 ms::nn::CrossEntropy{}, use);
  }
};

Setup& setup() {
  static Setup one;
  return one;
}

void decide(benchmark::State& state, const std::vector<ms::grow::Site<float>>& sites) {
  ms::Context& ctx = context();
  const auto fan_out = state.range(0) == 0 ? ms::grow::FanOut::full : ms::grow::FanOut::centre;
  ctx.memory()->reset_peak();
  std::int64_t units = 0;
  for (auto _ : state) {
    std::vector<ms::grow::Measurement<float>> all;
    all.reserve(sites.size());
    for (const auto& site : sites) {
      all.emplace_back(ctx, site, ms::grow::MeasurementOptions{.fan_out = fan_out, .significance = 0.0});
    }
    setup().pass(sites, [&](ms::Context&, std::size_t i, Maps unit, Maps consumer, Maps goal) {
      all[i].first(ctx, unit, consumer, goal);
    });
    for (auto& one : all) one.between(ctx);
    setup().pass(sites, [&](ms::Context&, std::size_t i, Maps unit, Maps consumer, Maps goal) {
      all[i].second(ctx, unit, consumer, goal);
    });
    for (auto& one : all) one.solve(ctx, max_units);
    setup().pass(sites, [&](ms::Context&, std::size_t i, Maps unit, Maps consumer, Maps goal) {
      all[i].effects(ctx, unit, consumer, goal);
    });
    units = 0;
    for (auto& one : all) units += one.propose().insertion.units;
    ctx.synchronize();
  }
  state.counters["units"] = static_cast<double>(units);
  state.counters["peak_MB"] = static_cast<double>(ctx.memory()->peak()) * 1e-6;
}

void resnet18_block(benchmark::State& state) {
  decide(state, {setup().sites.at(static_cast<std::size_t>(state.range(1)))});
}
BENCHMARK(resnet18_block)
    ->ArgsProduct({{0, 1}, {0, 1, 2, 3, 4, 5, 6, 7}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(1);

void resnet18_all(benchmark::State& state) { decide(state, setup().sites); }
BENCHMARK(resnet18_all)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);

void resnet18_plain(benchmark::State& state) {
  context().memory()->reset_peak();
  for (auto _ : state) {
    for (int pass = 0; pass < 3; ++pass) {
      setup().pass(setup().sites, [](ms::Context&, std::size_t, Maps, Maps, Maps) {});
    }
    context().synchronize();
  }
  state.counters["peak_MB"] = static_cast<double>(context().memory()->peak()) * 1e-6;
}
BENCHMARK(resnet18_plain)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv); }
