// The loss on a fixed set of samples, again and again while one site changes: what flows into the first layer that the
// change can reach is computed once and kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/loss_sums.cuh>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::grow {

namespace detail {

/// Forward passes of a network in training mode that leave no trace in it (Pass::measuring), restarted at the layer of
/// a Sequential that holds the site, which may be a whole residual block. Other networks run in full.
/// Losses have the same bits as those of full passes.
template <Real T>
class SearchPass {
 public:
  /// `changing`: the first layer that changes; what it reads is kept with the batch up to
  /// `most_bytes`, batches beyond that run in full.
  SearchPass(nn::Layer<T>& network, const nn::Layer<T>& changing, std::int64_t most_bytes);

  /// The mean loss over the samples; `for_each_batch(use)` calls use(const BatchView&) for every batch, the same ones
  /// in the same order every time, and is not called again once all batches are kept. Taps see the layers from the
  /// restart on.
  template <class ForEachBatch>
  double operator()(Context& ctx, ForEachBatch&& for_each_batch, const nn::Objective& loss,
                    nn::Taps<T>* taps = nullptr) {
    const nn::Pass<T> pass{.measuring = true, .taps = taps};
    double total = 0.0;
    std::int64_t samples = 0;
    const bool first_time = batches_ == 0;
    struct Unread {
      Tensor<kernels::LossSums> sums;
      double rows, samples;
    };
    std::vector<Unread> unread;
    const auto add = [&](View<const T> output, const nn::BatchView<T>& batch, std::int64_t count) {
      // The first pass checks the labels, which takes reading; the losses of later ones are read together.
      nn::LossValue<T> value =
          first_time ? loss(ctx, output, batch, false) : loss.template on_device<T>(ctx, output, batch, false);
      samples += count;
      if (value.sums.empty()) {
        total += static_cast<double>(count) * value.mean;
      } else {
        unread.push_back({std::move(value.sums), static_cast<double>(value.rows), static_cast<double>(count)});
      }
    };
    const auto mean = [&] {
      std::vector<View<const kernels::LossSums>> views;
      for (const Unread& each : unread) views.push_back(each.sums.view());
      if (!views.empty()) {
        const auto there = to_host(ctx, views);
        for (std::size_t i = 0; i < unread.size(); ++i) {
          total += unread[i].samples * (there[i][0].loss / unread[i].rows);
        }
      }
      return total / static_cast<double>(samples);
    };
    const auto resume = [&](const Kept& kept) {
      const nn::BatchView<T> batch = kept.batch;
      const View<const T> flow = start_ == 0 ? batch.inputs : kept.flow.view();
      count_layers(start_, sequence_->size(), flow.shape(), batch.size());
      add(sequence_->forward_range(start_, sequence_->size(), ctx, flow, pass).output, batch, batch.size());
    };
    if (complete_) {
      for (const Kept& kept : kept_) resume(kept);
      return mean();
    }
    std::size_t index = 0;
    for_each_batch([&](const nn::BatchView<T>& batch) {
      if (first_time) ++batches_;
      if (index < kept_.size()) return resume(kept_[index++]);
      const std::int64_t count = batch.size();
      if (sequence_ == nullptr) {
        multiply_adds_ += count * network_->multiply_adds(batch.inputs.shape().with(0, 1));
        const nn::Trace<T> trace = network_->forward(ctx, batch.inputs, pass);
        add(trace.output, batch, count);
        return;
      }
      // Layers before the change are shown to nobody: nothing about them changes.
      const nn::Trace<T> before = sequence_->forward_range(0, start_, ctx, batch.inputs, {.measuring = true});
      const View<const T> flow = before.output;
      count_layers(0, start_, batch.inputs.shape(), count);
      const std::int64_t numbers = batch.inputs.size() + (start_ == 0 ? 0 : flow.size());
      const std::int64_t bytes = numbers * static_cast<std::int64_t>(sizeof(T));
      if (first_time && index == kept_.size() && bytes <= bytes_left_) {
        bytes_left_ -= bytes;
        Kept kept{{}, nn::copy_of(ctx, batch)};
        if (start_ > 0) {
          kept.flow = Tensor<T>(ctx, flow.shape());
          copy<T>(ctx, flow, kept.flow);
        }
        kept_.push_back(std::move(kept));
        ++index;
      } else {
        bytes_left_ = -1;
      }
      count_layers(start_, sequence_->size(), flow.shape(), count);
      add(sequence_->forward_range(start_, sequence_->size(), ctx, flow, pass).output, batch, count);
    });
    complete_ = kept_.size() == batches_ && batches_ > 0;
    return mean();
  }

  /// Of all passes so far.
  [[nodiscard]] std::int64_t multiply_adds() const noexcept { return multiply_adds_; }
  /// Batches whose flow into the changing layer is kept.
  [[nodiscard]] std::size_t kept() const noexcept { return kept_.size(); }

 private:
  struct Kept {
    Tensor<T> flow;  // what the first layer that can change reads; empty where those are the batch's inputs
    nn::Batch<T> batch;
  };

  static bool holds(nn::Layer<T>& layer, const nn::Layer<T>& wanted);

  /// Multiply-adds of layers `first` to `last - 1` for so many samples of an input of this shape.
  void count_layers(std::size_t first, std::size_t last, const Shape& input, std::int64_t samples);

  nn::Layer<T>* network_;
  std::int64_t bytes_left_;
  nn::Sequential<T>* sequence_ = nullptr;  // the network, if it is one that holds the changing layer
  std::size_t start_ = 0;
  std::vector<Kept> kept_;
  std::size_t batches_ = 0;
  bool complete_ = false;
  std::int64_t multiply_adds_ = 0;
};

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/search_impl.hpp>
#endif
