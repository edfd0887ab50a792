// Training steps that were recorded as CUDA graphs, and what they were recorded for.
#pragma once

#include <cstdint>

#include <meristem/core/context.hpp>

namespace meristem::train::detail {

/// What a step that is repeated finds in device memory, as it changes from step to step.
struct StepNumbers {
  std::int64_t step;
  std::uint64_t random_shift;
};

}  // namespace meristem::train::detail

#if MERISTEM_GPU

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/core/graph.hpp>
#include <meristem/core/memory.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/optimizer_step.hpp>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::train::detail {

/// The layers of a network, their parameters and buffers: with the batch they decide which kernels a step starts, on
/// which memory, unless a layer keeps tensors that it does not describe.
template <Real T>
class StepFingerprint {
 public:
  StepFingerprint() = default;
  explicit StepFingerprint(nn::Layer<T>& network) { add(network); }

  /// Whether the network is still as it was.
  [[nodiscard]] bool fits(const StepFingerprint& now) const {
    // A layer that was made where another one was has no handle here.
    return tensors_ == now.tensors_ &&
           std::equal(layers_.begin(), layers_.end(), now.layers_.begin(), now.layers_.end(),
                      [](const auto& before, const auto& after) { return before.get() == after.get(); });
  }

 private:
  struct Place {
    std::uint64_t id;
    Shape shape;
    const void* value;
    const void* gradient;
    friend bool operator==(const Place&, const Place&) = default;
  };

  void add(nn::Layer<T>& layer) {
    layers_.emplace_back(layer);
    const nn::Description<T> told = layer.description();
    for (const auto& entry : told.parameters) {
      const nn::Parameter<T>& parameter = *entry.tensor;
      tensors_.push_back({parameter.id, parameter.value.shape(), parameter.value.data(), parameter.gradient.data()});
    }
    for (const auto& entry : told.buffers) {
      tensors_.push_back({entry.tensor->id, entry.tensor->value.shape(), entry.tensor->value.data(), nullptr});
    }
    for (const auto& child : told.children) add(*child.layer);
  }

  std::vector<nn::LayerHandle<T>> layers_;
  std::vector<Place> tensors_;
};

/// Steps with batches of one shape.
template <Real T>
struct RecordedStep {
  std::vector<Shape> shapes;   // of the batch; (0) for what it has not
  std::optional<Graph> graph;  // none before the step is recorded
  nn::Batch<T> batch;          // where the graph reads
  std::int64_t judged = 0;
};

template <Real T>
[[nodiscard]] std::vector<Shape> shapes_of(const nn::BatchView<T>& batch) {
  const auto shape = [](const auto& view) { return view.data_handle() == nullptr ? Shape({0}) : view.shape(); };
  std::vector<Shape> result{shape(batch.inputs), shape(batch.labels), shape(batch.targets)};
  for (const auto& view : batch.extra) result.push_back(shape(view));
  return result;
}

template <Real T>
[[nodiscard]] bool is_contiguous(const nn::BatchView<T>& batch) {
  const auto has_gaps = [](const auto& view) { return !view.is_contiguous(); };
  return !has_gaps(batch.inputs) && !has_gaps(batch.labels) && !has_gaps(batch.targets) &&
         std::none_of(batch.extra.begin(), batch.extra.end(), has_gaps);
}

/// Brings a batch to where a graph reads it.
template <Real T>
void copy_batch(Context& ctx, const nn::BatchView<T>& from, nn::Batch<T>& to) {
  const auto one = [&](const auto& view, auto& tensor) {
    if (!tensor.empty()) copy(ctx, view, tensor.view());
  };
  one(from.inputs, to.inputs);
  one(from.labels, to.labels);
  one(from.targets, to.targets);
  for (std::size_t i = 0; i < to.extra.size(); ++i) one(from.extra[i], to.extra[i]);
}

template <Real T>
struct RecordedSteps {
  static constexpr std::size_t most_shapes = 4;  // batches of further shapes take plain steps

  explicit RecordedSteps(Context& ctx) : arena(ctx.memory()), numbers(zeros<StepNumbers>(ctx, {1})) {}

  /// Lets go of all graphs unless the network is still as they know it.
  void forget_unless(nn::Layer<T>& network) {
    StepFingerprint<T> now(network);
    if (fingerprint.fits(now)) return;
    forget();
    fingerprint = std::move(now);
  }
  void forget() {
    steps.clear();
    arena.clear();
  }

  /// Of these shapes; null if there are none.
  [[nodiscard]] RecordedStep<T>* find(const std::vector<Shape>& shapes) {
    const auto at = std::find_if(steps.begin(), steps.end(), [&](const auto& step) { return step.shapes == shapes; });
    return at == steps.end() ? nullptr : &*at;
  }

  Memory::Arena arena;  // of all steps, as they run one behind the other
  Tensor<StepNumbers> numbers;
  StepFingerprint<T> fingerprint;
  kernels::OptimizerStep::Launch optimizer;
  std::vector<RecordedStep<T>> steps;
};

}  // namespace meristem::train::detail

#endif
