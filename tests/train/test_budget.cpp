// How often a ResNet-18 launches, allocates and waits, which decides how fast it is on a GPU while it is small.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include <meristem/data/device_images.hpp>
#include <meristem/data/image_set.hpp>
#include <meristem/data/loader.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <virtual_gpu/counts.hpp>

#if MERISTEM_GPU  // counted by the virtual GPU

namespace train_budget_test {

namespace ms = meristem;

namespace {

ms::data::ImageSet noise(std::int64_t images) {
  ms::data::ImageSet set;
  set.height = set.width = 8;
  set.channels = 3;
  set.class_names = {"a", "b"};
  set.normalization = {.mean = {0.5, 0.5, 0.5}, .stddev = {0.3, 0.3, 0.3}};
  const ms::Philox random(1, 2);
  for (std::int64_t i = 0; i < images; ++i) {
    set.labels.push_back(static_cast<std::int32_t>(i % 2));
    for (std::int64_t k = 0; k < 8 * 8 * 3; ++k) {
      set.pixels.push_back(static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(i * 8 * 8 * 3 + k), 256)));
    }
  }
  return set;
}

struct Budget {
  std::uint64_t launches, allocations, synchronizations;
};

/// That `work` keeps its budget, and needs most of it: one that is too wide shows nothing.
template <class Work>
void check_budget(const std::string& name, const Budget& budget, const Work& work) {
  const VirtualGpuCounts before = virtual_gpu_counts();
  work();
  const VirtualGpuCounts after = virtual_gpu_counts();
  const auto check = [&](const std::string& what, std::uint64_t used, std::uint64_t allowed) {
    MESSAGE(name << std::string(": ") << used << what << allowed);
    CHECK(used <= allowed);
    CHECK(used + 1 > allowed / 2);
  };
  check(" launches, allowed are ", after.launches - before.launches, budget.launches);
  check(" allocations, allowed are ", after.allocations - before.allocations, budget.allocations);
  check(" synchronisations, allowed are ", after.synchronizations - before.synchronizations, budget.synchronizations);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("budget: no loss is waited for in a step") {
  if (!virtual_gpu_counts) return;
  ms::Context ctx({.seed = 1});
  auto net = ms::models::mlp<float>(ctx, {.inputs = 3, .hidden = {4}, .classes = 2});
  ms::optim::Sgd sgd(net, {.learning_rate = 0.01});
  const auto inputs = ms::zeros<float>(ctx, {5, 3}), targets = ms::zeros<float>(ctx, {5, 2});
  const auto labels = ms::zeros<std::int32_t>(ctx, {5}), binary = ms::zeros<std::int32_t>(ctx, {5, 2});
  const ms::nn::BatchView<float> of_classes{.inputs = inputs, .labels = labels}, of_targets{inputs, {}, targets};
  const ms::nn::BatchView<float> of_answers{.inputs = inputs, .labels = binary};
  const auto check = [&](const char* name, const ms::nn::Objective& loss, const ms::nn::BatchView<float>& batch) {
    CAPTURE(name);
    ms::train::Trainer<float> trainer(ctx, net, sgd, loss);
    trainer.step(batch);
    const VirtualGpuCounts before = virtual_gpu_counts();
    trainer.step(batch);
    CHECK(virtual_gpu_counts().synchronizations == before.synchronizations);
    CHECK(trainer.metrics().samples == 10);
    CHECK(virtual_gpu_counts().synchronizations > before.synchronizations);
  };
  check("cross-entropy", {}, of_classes);
  check("soft cross-entropy", ms::nn::CrossEntropy{}, of_targets);
  check("squares", ms::nn::SquaredError{}, of_targets);
  check("Huber", ms::nn::Huber{}, of_targets);
  check("binary", ms::nn::BinaryCrossEntropy{}, of_targets);
  check("binary labels", ms::nn::BinaryCrossEntropy{}, of_answers);
}

// Whoever needs fewer lowers these; whoever needs more says in the commit what for. How many a growth step takes
// depends a little on how BLAS rounds.
TEST_CASE("budget: a training step, an evaluation batch and a growth step of a ResNet-18") {
  if (!virtual_gpu_counts) {
    MESSAGE("not counted: only the virtual GPU counts");
    return;
  }
  ::setenv("MERISTEM_MEMORY_CACHE", "1", 1);  // allocations are those that the cache does not serve
  const ms::data::ImageSet set = noise(8);
  ms::Context ctx({.seed = 1});
  auto net = ms::models::resnet18<float>(ctx, {.classes = 2, .width = 0.5, .channels = 4});
  ms::optim::Sgd sgd(net, {.learning_rate = 0.01, .momentum = 0.9});
  ms::train::Trainer<float> trainer(ctx, net, sgd);
  const ms::data::DeviceImages images(ctx, set);
  const auto step = [&] {
    for (const auto& batch : images.batches<float>(ctx, 8)) trainer.step(batch);
  };
  for (int i = 0; i < 2; ++i) step();  // makes the moments, and has every block of memory once
  check_budget("training step", {114, 0, 0}, step);
  {
    ms::train::Trainer<float> recorded(ctx, net, sgd, {}, {.graphs = true});
    const auto repeat = [&] {
      for (const auto& batch : images.batches<float>(ctx, 8)) recorded.step(batch);
    };
    for (int i = 0; i < 3; ++i) repeat();
    const std::uint64_t before = virtual_gpu_counts().graph_launches;
    check_budget("training step that is repeated, beside its graph", {1, 0, 0}, repeat);  // makes the batch
    CHECK(virtual_gpu_counts().graph_launches - before == 1);
    CHECK(recorded.plain_because() == "");
  }
  check_budget("evaluation of a batch", {66, 0, 1}, [&] { ms::train::evaluate<float>(ctx, net, set, 8); });
  // With so few samples no unit stands out of the noise; the second step searches their amplitudes all the same.
  for (const double significance : {1.0, 1e-6}) {
    ms::grow::Grower grower(net, sgd,
                            {.where = ms::grow::Where::together,
                             .how_many = {.at_most = 1, .significance = significance},
                             .statistics_samples = 8,
                             .search_samples = 8,
                             .batch_size = 8});
    std::int64_t evaluations = 0;
    const auto grow = [&] {
      for (const auto& site : grower.grow(ctx, set).sites) evaluations += site.evaluations;
    };
    if (significance == 1.0) {
      check_budget("growth step that finds nothing", {600, 400, 44}, grow);
      CHECK(evaluations == 0);
    } else {
      check_budget("growth step with its line searches", {2470, 70, 110}, grow);
      CHECK(evaluations > 0);
    }
  }
}

TEST_SUITE_END();

}  // namespace train_budget_test

#endif
