// How long does a plain training step take, against the multiply-adds it needs at the GEMM rate?
//
// ResNet-18 for images of 32x32 with the usual strided stages, the growable one at two widths, and an MLP; batch 128,
// SGD with momentum. The argument of a resnet is the number of channels of its first stage.
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>

#include "support.hpp"

namespace {

namespace ms = meristem;
using bench::context;

constexpr std::int64_t batch_size = 128;

struct Batch {
  ms::Tensor<float> images;
  ms::Tensor<std::int32_t> labels;
};

Batch random_batch() {
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < batch_size; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
  return {bench::normal_matrix<float>({batch_size, 32, 32, 3}, 1),
          ms::from_host<std::int32_t>(context(), {batch_size}, labels)};
}

void run(benchmark::State& state, ms::nn::Sequential<float> net) {
  ms::Context& ctx = context();
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.01, .momentum = 0.9});
  const Batch batch = random_batch();
  ms::train::step<float>(ctx, net, batch, sgd);
  ctx.memory()->reset_peak();
  for (auto _ : state) {
    ms::train::step<float>(ctx, net, batch, sgd);
    ctx.synchronize();
  }
  const auto forward = static_cast<double>(net.multiply_adds({1, 32, 32, 3})) * batch_size;
  bench::report<float>(state, 6.0 * forward);
  state.counters["parameters"] = static_cast<double>(ms::nn::parameter_count(net));
  state.counters["peak_MB"] = static_cast<double>(ctx.memory()->peak()) * 1e-6;
}

void resnet18_strided(benchmark::State& state) {
  run(state, ms::models::resnet18_strided<float>(context(), {.channels = state.range(0)}));
}
BENCHMARK(resnet18_strided)->Arg(16)->Arg(64)->Unit(benchmark::kMillisecond)->UseRealTime();

/// The second argument is the full hidden width over the one it has.
void resnet18(benchmark::State& state) {
  run(state, ms::models::resnet18<float>(
                 context(), {.width = 1.0 / static_cast<double>(state.range(1)), .channels = state.range(0)}));
}
BENCHMARK(resnet18)
    ->Args({16, 16})
    ->Args({16, 1})
    ->Args({64, 16})
    ->Args({64, 4})
    ->Args({64, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void mlp(benchmark::State& state) {
  run(state, ms::models::mlp<float>(context(), {.inputs = 3072, .hidden = {64, 64}, .classes = 10}));
}
BENCHMARK(mlp)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv); }
