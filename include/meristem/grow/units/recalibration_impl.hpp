// Definitions of recalibration.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <meristem/grow/units/recalibration.hpp>
#include <meristem/kernels/batch_norm.cuh>

namespace meristem::grow {

template <Real T>
void detail::NormInputs<T>::on_forward(Context& ctx, const nn::Layer<T>& layer, View<const T> input) {
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

template <Real T>
void follow_growth(Context& ctx, nn::Layer<T>& network, const detail::NormInputs<T>& before,
                   const detail::NormInputs<T>& after, const std::vector<nn::BatchNorm<T>*>& tied) {
  if (auto* norm = network.description().batch_norm) {
    const auto now = after.all().find(norm);
    if (now == after.all().end()) return;
    const typename detail::NormInputs<T>::Channels none;
    const auto found = before.all().find(norm);
    const auto& old = found == before.all().end() ? none : found->second;
    const std::size_t width = old.mean.size();
    const bool grew = width != now->second.mean.size();
    std::vector<T> means = to_host(ctx, norm->running_mean().value);
    std::vector<T> variances = to_host(ctx, norm->running_variance().value);
    const bool follows = !grew || std::find(tied.begin(), tied.end(), norm) != tied.end();
    for (std::size_t c = follows ? 0 : width; c < means.size(); ++c) {
      const double mean = now->second.mean[c], variance = now->second.variance[c];
      if (c >= width) {
        means[c] = static_cast<T>(mean);
        variances[c] = static_cast<T>(variance);
        continue;
      }
      means[c] += static_cast<T>(mean - old.mean[c]);
      // Below the epsilon the norm looks past a variance, and a channel that was constant has no ratio.
      const double was = old.variance[c], running = static_cast<double>(variances[c]);
      variances[c] =
          static_cast<T>(was > norm->epsilon() ? running * variance / was : std::max(running + variance - was, 0.0));
    }
    copy<T>(ctx, from_host<T>(ctx, norm->running_mean().value.shape(), means), norm->running_mean().value);
    copy<T>(ctx, from_host<T>(ctx, norm->running_variance().value.shape(), variances), norm->running_variance().value);
  }
  for (nn::Layer<T>* child : network.children()) follow_growth(ctx, *child, before, after, tied);
}

template <Real T>
void take_statistics(Context& ctx, const std::vector<Affine<T>>& riders, std::int64_t units,
                     const detail::NormInputs<T>& batches) {
  for (const Affine<T>& rider : riders) {
    const auto found = batches.all().find(rider.norm());
    if (found == batches.all().end()) continue;
    const auto take = [&](Tensor<T>& tensor, const std::vector<double>& from) {
      std::vector<T> values = to_host(ctx, tensor);
      for (std::size_t c = values.size() - static_cast<std::size_t>(units); c < values.size(); ++c) {
        values[c] = static_cast<T>(from[c]);
      }
      copy<T>(ctx, from_host<T>(ctx, tensor.shape(), values), tensor);
    };
    take(rider.norm()->running_mean().value, found->second.mean);
    take(rider.norm()->running_variance().value, found->second.variance);
  }
}

}  // namespace meristem::grow
