// Growth changes what flows into every BatchNorm behind it. In training mode a BatchNorm follows at once, in evaluation
// mode only if its running statistics are moved alike.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/batch_norm.cuh>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

/// Means and biased variances of what enters each BatchNorm of a network, over batches shown to it as the taps of a
/// pass in training mode: averages of the batches' own, which are what the layers normalise by.
template <Real T>
class NormInputs final : public nn::Taps<T> {
 public:
  struct Channels {
    std::vector<double> mean, variance;
    double batches = 0.0;
  };

  void on_forward(Context& ctx, const nn::Layer<T>& layer, View<const T> input) override {
    const auto* norm = dynamic_cast<const nn::BatchNorm<T>*>(&layer);
    if (!norm || norm->channels() == 0) return;
    const std::int64_t channels = norm->channels();
    // Small enough to leave any variance alone, large enough for a float's inverse.
    constexpr double epsilon = 1e-30;
    Tensor<T> mean(ctx, {channels}), inverse_deviation(ctx, {channels});
    kernels::batch_norm_statistics<T>(ctx, input, epsilon, mean, inverse_deviation);
    Channels& entry = channels_[norm];
    entry.mean.resize(static_cast<std::size_t>(channels), 0.0);
    entry.variance.resize(static_cast<std::size_t>(channels), 0.0);
    const std::vector<T> means = to_host(ctx, mean), inverses = to_host(ctx, inverse_deviation);
    entry.batches += 1.0;
    for (std::size_t c = 0; c < means.size(); ++c) {
      entry.mean[c] += (static_cast<double>(means[c]) - entry.mean[c]) / entry.batches;
      const double inverse = static_cast<double>(inverses[c]), variance = 1.0 / (inverse * inverse) - epsilon;
      entry.variance[c] += (std::max(variance, 0.0) - entry.variance[c]) / entry.batches;
    }
  }
  void on_backward(Context&, const nn::Layer<T>&, View<const T>, View<const T>) override {}

  [[nodiscard]] const std::map<const nn::BatchNorm<T>*, Channels>& all() const noexcept { return channels_; }

 private:
  std::map<const nn::BatchNorm<T>*, Channels> channels_;
};

/// Moves the running statistics of a network as growth moved the batch statistics on the same samples: means by the
/// difference, variances by the ratio. In a layer that grew itself, the channels from before read what they read before
/// and keep theirs, and the added ones, at the end, take those of the batches.
template <Real T>
void follow_growth(Context& ctx, nn::Layer<T>& network, const NormInputs<T>& before, const NormInputs<T>& after) {
  if (auto* norm = network.description().batch_norm) {
    const auto now = after.all().find(norm);
    if (now == after.all().end()) return;
    const typename NormInputs<T>::Channels none;
    const auto found = before.all().find(norm);
    const auto& old = found == before.all().end() ? none : found->second;
    const std::size_t width = old.mean.size();
    const bool grew = width != now->second.mean.size();
    std::vector<T> means = to_host(ctx, norm->running_mean().value);
    std::vector<T> variances = to_host(ctx, norm->running_variance().value);
    for (std::size_t c = grew ? width : 0; c < means.size(); ++c) {
      const double mean = now->second.mean[c], variance = now->second.variance[c];
      if (grew) {
        means[c] = static_cast<T>(mean);
        variances[c] = static_cast<T>(variance);
        continue;
      }
      means[c] += static_cast<T>(mean - old.mean[c]);
      const double was = old.variance[c];
      if (was > 1e-29) variances[c] = static_cast<T>(static_cast<double>(variances[c]) * variance / was);
    }
    copy<T>(ctx, from_host<T>(ctx, norm->running_mean().value.shape(), means), norm->running_mean().value);
    copy<T>(ctx, from_host<T>(ctx, norm->running_variance().value.shape(), variances), norm->running_variance().value);
  }
  for (nn::Layer<T>* child : network.children()) follow_growth(ctx, *child, before, after);
}

}  // namespace meristem::grow
