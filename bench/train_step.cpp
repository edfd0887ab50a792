// How long does a plain training step take, beside its floor?
//
// ResNet-18 for images of 32x32 with the usual strided stages, the growable one at two widths, and an MLP; batch 128,
// on a GPU larger ones too, and there the time of a step in twenty that nothing waits for (`steady`, a Trainer's); SGD
// with momentum. The argument of a resnet is the number of channels of its first stage, `narrowed` the full hidden
// width over the one it has. Operations: 2 for each multiply-add of forward, 4 backward, but for the first layer, whose
// input needs no gradient, 2. Bytes: the images, and each parameter read twice, its gradient and momentum written and
// read, the parameter written; activations do not count, as a small enough part of the batch would stay in a cache.
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>

#include "main.hpp"

namespace {

namespace ms = meristem;
using bench::context;

using Batch = ms::nn::Batch<float>;

Batch random_batch(std::int64_t batch_size) {
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < batch_size; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
  return {.inputs = bench::normal_matrix<float>({batch_size, 32, 32, 3}, 1),
          .labels = ms::from_host<std::int32_t>(context(), {batch_size}, labels)};
}

/// Multiply-adds of the first layer that has some, for one sample.
std::int64_t first_layer(const ms::nn::Sequential<float>& net, ms::Shape shape) {
  for (ms::nn::Layer<float>* layer : const_cast<ms::nn::Sequential<float>&>(net).children()) {
    if (const std::int64_t count = layer->multiply_adds(shape)) return count;
    shape = layer->output_shape(shape);
  }
  return 0;
}

void run(benchmark::State& state, ms::nn::Sequential<float> net, std::int64_t batch_size = 128, int steps = 1) {
  ms::Context& ctx = context();
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.001, .momentum = 0.9});
  ms::train::Trainer trainer(ctx, net, sgd);
  const Batch batch = random_batch(batch_size);
  const ms::Shape one{1, 32, 32, 3};
  const auto parameters = static_cast<double>(ms::nn::parameter_count(net));
  const auto samples = static_cast<double>(steps * batch_size);
  const bench::Work work{
      samples * (6.0 * static_cast<double>(net.multiply_adds(one)) - 2.0 * static_cast<double>(first_layer(net, one))),
      steps * (bench::bytes_of(batch.inputs) + 7.0 * parameters * sizeof(float))};
  bench::flush_caches();
  ctx.memory()->reset_peak();
  bench::measure(state, work, [&] {
    if (steps == 1) {
      ms::train::step<float>(ctx, net, batch, sgd);
    } else {
      for (int i = 0; i < steps; ++i) trainer.step(batch);
      benchmark::DoNotOptimize(trainer.metrics());
    }
  });
  state.counters["parameters"] = parameters;
  state.counters["peak_MB"] = static_cast<double>(ctx.memory()->peak()) * 1e-6;
  state.counters["images/s"] = benchmark::Counter(samples, benchmark::Counter::kIsIterationInvariantRate);
}

void resnet18_strided(benchmark::State& state) {
  run(state, ms::models::resnet18_strided<float>(context(), {.channels = state.range(0)}));
}
BENCHMARK(resnet18_strided)
    ->Name("train_step/resnet18_strided")
    ->Apply(bench::rows)
    ->ArgName("channels")
    ->Arg(16)
    ->Arg(64);

#if MERISTEM_GPU
void resnet18_batches(benchmark::State& state) {
  run(state, ms::models::resnet18_strided<float>(context(), {.channels = state.range(0)}), state.range(1));
}
BENCHMARK(resnet18_batches)
    ->Name("train_step/resnet18_strided")
    ->Apply(bench::rows)
    ->ArgNames({"channels", "batch"})
    ->Args({64, 512})
    ->Args({64, 1024});

void resnet18_steady(benchmark::State& state) {
  run(state, ms::models::resnet18_strided<float>(context(), {.channels = state.range(0)}), state.range(1), 20);
}
BENCHMARK(resnet18_steady)
    ->Name("train_step/resnet18_strided/steady")
    ->Apply(bench::rows)
    ->ArgNames({"channels", "batch"})
    ->Args({64, 128})
    ->Args({64, 1024});
#endif

void resnet18(benchmark::State& state) {
  run(state, ms::models::resnet18<float>(
                 context(), {.width = 1.0 / static_cast<double>(state.range(1)), .channels = state.range(0)}));
}
BENCHMARK(resnet18)
    ->Name("train_step/resnet18_growable")
    ->Apply(bench::rows)
    ->ArgNames({"channels", "narrowed"})
    ->Args({16, 16})
    ->Args({16, 1})
    ->Args({64, 16})
    ->Args({64, 4})
    ->Args({64, 1});

void mlp(benchmark::State& state) {
  run(state, ms::models::mlp<float>(context(), {.inputs = 3072, .hidden = {64, 64}, .classes = 10}));
}
BENCHMARK(mlp)->Name("train_step/mlp")->Apply(bench::rows);

}  // namespace
