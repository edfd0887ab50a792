// Steps that are recorded as a CUDA graph and repeated: they are the plain ones, bit by bit. For the CPU the option
// does nothing.
#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/grower.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/schedule.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/plain_mlp.hpp>
#include <virtual_gpu/counts.hpp>

namespace train_graphs_test {

namespace ms = meristem;
using Net = ms::nn::Sequential<float>;
using Trainer = ms::train::Trainer<float>;
using support::contains;
using support::message_of;

namespace {

Net net_of(ms::Context& ctx) {
  Net net;
  net.add<ms::nn::Conv2d>("conv", ctx, 2, 3, ms::nn::Conv2d<float>::Options{.kernel = {3, 3}, .padding = {1, 1}});
  net.add<ms::nn::BatchNorm>("norm", ctx, 3, ms::nn::BatchNorm<float>::Options{});
  net.add<ms::nn::ActivationLayer>("relu", ms::nn::Activation::relu);
  net.add<ms::nn::Dropout>("drop1", 0.25);
  net.add<ms::nn::Flatten>("flatten");
  net.add<ms::nn::Linear>("fc1", ctx, 48, 4);
  net.add<ms::nn::ActivationLayer>("relu2", ms::nn::Activation::relu);
  net.add<ms::nn::Dropout>("drop2", 0.5);
  net.add<ms::nn::Linear>("fc2", ctx, 4, 3);
  return net;
}

/// `n` maps of 4 × 4 with two channels, which differ from step to step.
ms::nn::Batch<float> batch_of(ms::Context& ctx, std::int64_t n, std::uint64_t step) {
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) labels.push_back(static_cast<std::int32_t>((i + static_cast<int>(step)) % 3));
  return support::make_batch<float>(ctx, {n, 4, 4, 2}, support::to_double(support::normal_values<float>(32 * n, step)),
                                    labels);
}

/// What a run leaves.
struct Result {
  std::vector<float> numbers;  // of the network and the moments
  std::vector<double> losses;
  std::uint64_t random_streams = 0;
  std::string plain_because;
  std::uint64_t graph_launches = 0;  // on the virtual GPU
};

std::uint64_t graph_launches() { return virtual_gpu_counts ? virtual_gpu_counts().graph_launches : 0; }

std::vector<float> numbers_of(ms::Context& ctx, ms::nn::Layer<float>& net, ms::optim::Optimizer<float>& optimizer) {
  std::vector<float> numbers = support::all_numbers(ctx, net);
  net.visit_buffers([&](ms::nn::Buffer<float>& buffer) {
    for (const float value : ms::to_host(ctx, buffer.value)) numbers.push_back(value);
  });
  for (auto* parameter : ms::nn::parameters(net)) {
    for (const auto& moment : optimizer.state(parameter->id)) {
      for (const float value : ms::to_host(ctx, moment)) numbers.push_back(value);
    }
  }
  return numbers;
}

using Make = std::function<std::unique_ptr<ms::optim::Optimizer<float>>(Net&)>;
using Between = std::function<void(ms::Context&, Net&, ms::optim::Optimizer<float>&, int step)>;

/// Fourteen steps with batches of two sizes and a rate that changes in each; `between` steps something else happens.
Result run(bool graphs, const Make& make, const Between& between = {}) {
  ms::Context ctx({.seed = 7});
  Net net = net_of(ctx);
  const auto optimizer = make(net);
  const ms::optim::Schedule schedule(
      {.peak = 0.05, .decay = ms::optim::Decay::cosine, .warmup_steps = 3, .total_steps = 14});
  Trainer trainer(ctx, net, *optimizer, {}, {.graphs = graphs});
  Result result;
  const std::uint64_t launches_before = graph_launches();
  for (int step = 0; step < 14; ++step) {
    optimizer->set_learning_rate(schedule.at(step));
    trainer.step(batch_of(ctx, step % 3 == 2 ? 4 : 8, static_cast<std::uint64_t>(step)));
    if (step % 5 == 4) result.losses.push_back(trainer.metrics().loss);
    if (between) between(ctx, net, *optimizer, step);
  }
  result.losses.push_back(trainer.metrics().loss);
  result.numbers = numbers_of(ctx, net, *optimizer);
  result.random_streams = ctx.random_streams();
  result.plain_because = trainer.plain_because();
  result.graph_launches = graph_launches() - launches_before;
  return result;
}

/// That both ways leave the same; `repeated` steps at least are the launch of a graph.
void check_same(const Make& make, std::uint64_t repeated, const Between& between = {}) {
  const Result plain = run(false, make, between), graphs = run(true, make, between);
  support::check_same_bits(graphs.numbers, plain.numbers);
  support::check_same_bits(graphs.losses, plain.losses);
  CHECK(graphs.random_streams == plain.random_streams);
  CHECK(graphs.plain_because == "");
  CHECK(plain.graph_launches == 0);
  if (virtual_gpu_counts) CHECK(graphs.graph_launches >= repeated);
}

std::unique_ptr<ms::optim::Optimizer<float>> sgd(Net& net) {
  return std::make_unique<ms::optim::Sgd<float>>(
      net, ms::optim::SgdOptions{.momentum = 0.9, .dampening = 0.1, .weight_decay = 1e-2});
}

std::unique_ptr<ms::optim::Optimizer<float>> adamw(Net& net) {
  return std::make_unique<ms::optim::AdamW<float>>(net,
                                                   ms::optim::AdamWOptions{.growth_rate = ms::optim::rewarm(0.1, 3)});
}

void grow(ms::Context& ctx, Net& net, ms::optim::Optimizer<float>& optimizer) {
  const std::int64_t before = ms::nn::parameter_count(net);
  const ms::nn::BatchSource<float> set(
      8, [&](ms::Context& on, std::span<const std::int64_t> indices) { return batch_of(on, std::ssize(indices), 99); });
  ms::grow::Grower<float> grower(
      net, optimizer,
      ms::grow::GrowerOptions{.how_many = {.at_most = 1, .significance = 0.0}, .amplitude = {.fixed = 0.1}});
  (void)grower.grow(ctx, set);
  CHECK(ms::nn::parameter_count(net) > before);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("graphs: repeated steps are plain ones, with dropout, running statistics, moments and a schedule") {
  check_same(sgd, 11);
  check_same(adamw, 11);
}

TEST_CASE("graphs: what the optimiser is told between two steps is heeded") {
  check_same(sgd, 11, [](ms::Context&, Net&, ms::optim::Optimizer<float>& optimizer, int step) {
    if (step == 6) optimizer.set_group("fc*", {.learning_rate_factor = 0.5, .weight_decay = 0.1});
    if (step == 9) optimizer.set_steps(2);
  });
}

TEST_CASE("graphs: a network that grew, was moved or got other weights is recorded anew") {
  const auto grow_twice = [](ms::Context& ctx, Net& net, ms::optim::Optimizer<float>& optimizer, int step) {
    if (step == 4 || step == 8) grow(ctx, net, optimizer);
  };
  check_same(sgd, 5, grow_twice);
  check_same(adamw, 5, grow_twice);
  check_same(sgd, 5, [](ms::Context& ctx, Net& net, ms::optim::Optimizer<float>&, int step) {
    if (step == 5) {
      Net elsewhere = std::move(net);
      net = std::move(elsewhere);
    }
    if (step == 8) {
      auto& bias = *ms::nn::parameters(net).back();
      bias.value = ms::from_host<float>(ctx, {3}, {0.5f, -0.25f, 0.125f});
    }
    if (step == 10) {
      (void)net.extract("drop2");
      net.insert(7, "drop2", std::make_unique<ms::nn::Dropout<float>>(0.75));
    }
  });
}

TEST_CASE("graphs: what goes wrong in a repeated step holds the weights, and is told when asked") {
  ms::Context ctx({.seed = 7});
  Net net = net_of(ctx);
  const auto optimizer = sgd(net);
  Trainer trainer(ctx, net, *optimizer, {}, {.graphs = true});
  const auto good = batch_of(ctx, 8, 1), bad = batch_of(ctx, 8, 2);
  ms::Tensor<std::int32_t> wrong = ms::from_host<std::int32_t>(ctx, {8}, {0, 1, 2, 0, 1, 2, 0, 3});
  for (int step = 0; step < 4; ++step) trainer.step(good);
  CHECK(trainer.metrics().samples == 32);
  const auto values = [&] {
    std::vector<float> all;
    for (const auto* parameter : ms::nn::parameters(net)) {
      for (const float value : ms::to_host(ctx, parameter->value)) all.push_back(value);
    }
    return all;
  };
  const auto before = values();
  trainer.step({.inputs = bad.inputs, .labels = wrong});
  trainer.step(good);
  CHECK(optimizer->steps() == 6);
  CHECK(contains(message_of<ms::DataError>([&] { (void)trainer.metrics(); }),
                 "training: step 5: label 7 of the batch is out of range"));
  CHECK(optimizer->steps() == 4);
  support::check_same_bits(values(), before);
  trainer.step(good);
  CHECK(trainer.metrics().samples == 8);
  CHECK(values() != before);
}

#if MERISTEM_GPU

namespace {

struct ReadSquares {
  template <ms::Real T>
  [[nodiscard]] ms::nn::LossValue<T> operator()(ms::Context& ctx, ms::View<const T> output,
                                                const ms::nn::BatchView<T>& batch, bool with_gradient = true) const {
    return ms::nn::SquaredError{}(ctx, output, batch, with_gradient);
  }
};

/// Passes everything, and does in between what cannot be recorded.
class Meddling final : public ms::nn::Layer<float> {
 public:
  explicit Meddling(std::function<void(ms::Context&, ms::View<const float>)> deed) : deed_(std::move(deed)) {}
  [[nodiscard]] std::string_view kind() const override { return "Meddling"; }
  [[nodiscard]] ms::Shape output_shape(const ms::Shape& input) const override { return input; }

 protected:
  [[nodiscard]] ms::nn::Trace<float> do_forward(ms::Context& ctx, ms::View<const float> input,
                                                const ms::nn::Pass<float>&) override {
    deed_(ctx, input);
    ms::nn::Trace<float> trace;
    trace.output = input;
    return trace;
  }
  [[nodiscard]] ms::Tensor<float> do_backward(ms::Context&, ms::View<const float>, const ms::nn::Trace<float>&,
                                              ms::Tensor<float> output_gradient, const ms::nn::Pass<float>&) override {
    return output_gradient;
  }

 private:
  std::function<void(ms::Context&, ms::View<const float>)> deed_;
};

}  // namespace

TEST_CASE("graphs: what cannot be recorded takes plain steps, and is told") {
  const auto check = [](const std::string& because, const auto& deed) {
    CAPTURE(because);
    const auto run_with = [&](bool graphs) {
      ms::Context ctx({.seed = 7});
      Net net;
      net.add<ms::nn::Flatten>("flatten");
      net.add<ms::nn::Dropout>("drop", 0.5);
      net.add<ms::nn::Linear>("fc", ctx, 32, 3);
      net.append("meddling", std::make_unique<Meddling>(deed));
      const auto optimizer = sgd(net);
      Trainer trainer(ctx, net, *optimizer, {}, {.graphs = graphs});
      for (std::uint64_t step = 0; step < 5; ++step) trainer.step(batch_of(ctx, 8, step));
      CHECK(trainer.metrics().samples == 40);
      if (graphs) CHECK(contains(trainer.plain_because(), because));
      CHECK(ctx.memory()->in_use() > 0);
      return numbers_of(ctx, net, *optimizer);
    };
    support::check_same_bits(run_with(true), run_with(false));
  };
  check("waits for the device", [](ms::Context& ctx, ms::View<const float> x) { (void)ms::to_host(ctx, x); });
  check("reads memory of the host",
        [](ms::Context& ctx, ms::View<const float>) { (void)ms::from_host<float>(ctx, {1}, {1.0f}); });
  check("draws a random stream", [](ms::Context& ctx, ms::View<const float>) { (void)ctx.next_random_stream(); });
  std::int64_t size = 0;
  check("bytes are asked for that were not",
        [&](ms::Context& ctx, ms::View<const float>) { const auto more = ms::empty<float>(ctx, {size += 1000}); });

  ms::Context ctx({.seed = 7});
  auto net = ms::models::mlp<float>(ctx, {.inputs = 3, .hidden = {4}, .classes = 2});
  ms::optim::Sgd<float> optimizer(net, {.learning_rate = 0.01});
  Trainer trainer(ctx, net, optimizer, ReadSquares{}, {.graphs = true});
  const auto inputs = ms::zeros<float>(ctx, {5, 3}), targets = ms::zeros<float>(ctx, {5, 2});
  for (int step = 0; step < 3; ++step) trainer.step({.inputs = inputs, .labels = {}, .targets = targets});
  CHECK(trainer.plain_because() == "the loss is read in every step");
  CHECK(trainer.metrics().samples == 15);
}

TEST_CASE("graphs: a step that throws while it is recorded, or before, is not counted") {
  for (const int first_bad : {0, 1, 2}) {
    CAPTURE(first_bad);
    ms::Context ctx({.seed = 7});
    Net net = net_of(ctx);
    int step = 0;
    net.append("meddling", std::make_unique<Meddling>([&](ms::Context&, ms::View<const float>) {
                 if (step >= first_bad) throw ms::DataError("the disk is gone");
               }));
    const auto optimizer = sgd(net);
    Trainer trainer(ctx, net, *optimizer, {}, {.graphs = true});
    const auto batch = batch_of(ctx, 8, 1);
    for (; step < first_bad; ++step) trainer.step(batch);
    CHECK_THROWS_AS(trainer.step(batch), ms::DataError);
    CHECK(optimizer->steps() == first_bad);
    step = -1;
    trainer.step(batch);
    CHECK(optimizer->steps() == first_bad + 1);
    CHECK(trainer.metrics().samples == 8 * (first_bad + 1));
  }
}

TEST_CASE("graphs: a step is one launch, and nothing is waited for or allocated") {
  if (!virtual_gpu_counts) {
    MESSAGE("not counted: only the virtual GPU counts");
    return;
  }
  ms::Context ctx({.seed = 7});
  Net net = net_of(ctx);
  const auto optimizer = sgd(net);
  Trainer trainer(ctx, net, *optimizer, {}, {.graphs = true});
  const auto batch = batch_of(ctx, 8, 1);
  for (int step = 0; step < 4; ++step) trainer.step(batch);
  const std::size_t in_use = ctx.memory()->in_use();
  const VirtualGpuCounts before = virtual_gpu_counts();
  for (int step = 0; step < 3; ++step) trainer.step(batch);
  const VirtualGpuCounts after = virtual_gpu_counts();
  CHECK(after.graph_launches - before.graph_launches == 3);
  CHECK(after.launches == before.launches);
  CHECK(after.allocations == before.allocations);
  CHECK(after.synchronizations == before.synchronizations);
  CHECK(after.fills == before.fills);
  // The inputs, the labels, the optimiser's table and the step's numbers.
  CHECK(after.copies - before.copies == 3 * 4);
  CHECK(ctx.memory()->in_use() == in_use);
  CHECK(trainer.metrics().samples == 56);
}

#endif

TEST_SUITE_END();

}  // namespace train_graphs_test
