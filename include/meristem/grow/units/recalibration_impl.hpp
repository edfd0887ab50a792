// Definitions of recalibration.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <meristem/grow/units/recalibration.hpp>
#include <meristem/kernels/batch_norm.cuh>

namespace meristem::grow {

namespace detail {

/// What `batch_norm_statistics` adds to a variance: small enough to leave any alone, large enough for a float's
/// inverse.
inline constexpr double faint_epsilon = 1e-30;

template <Real T>
void NormInputs<T>::on_forward(Context& ctx, const nn::Layer<T>& layer, View<const T> input) {
  const auto* norm = dynamic_cast<const nn::BatchNorm<T>*>(&layer);
  if (!norm || norm->channels() == 0) return;
  ctx_ = &ctx;
  const std::int64_t channels = norm->channels();
  Unread& batch = unread_.emplace_back(Unread{norm, Tensor<T>(ctx, {channels}), Tensor<T>(ctx, {channels})});
  kernels::batch_norm_statistics<T>(ctx, input, faint_epsilon, batch.mean, batch.inverse_deviation);
}

template <Real T>
auto NormInputs<T>::all() const -> const std::map<const nn::BatchNorm<T>*, Channels>& {
  if (unread_.empty()) return channels_;
  std::vector<View<const T>> there;
  for (const Unread& batch : unread_) {
    there.push_back(batch.mean.view());
    there.push_back(batch.inverse_deviation.view());
  }
  const std::vector<std::vector<T>> here = to_host(*ctx_, there);
  for (std::size_t i = 0; i < unread_.size(); ++i) {
    const std::vector<T>&means = here[2 * i], &inverses = here[2 * i + 1];
    Channels& entry = channels_[unread_[i].norm];
    entry.mean.resize(means.size(), 0.0);
    entry.variance.resize(means.size(), 0.0);
    entry.batches += 1.0;
    for (std::size_t c = 0; c < means.size(); ++c) {
      entry.mean[c] += (static_cast<double>(means[c]) - entry.mean[c]) / entry.batches;
      const double inverse = static_cast<double>(inverses[c]), variance = 1.0 / (inverse * inverse) - faint_epsilon;
      entry.variance[c] += (std::max(variance, 0.0) - entry.variance[c]) / entry.batches;
    }
  }
  unread_.clear();
  return channels_;
}

template <Real T>
void collect_norms(nn::Layer<T>& layer, std::vector<nn::BatchNorm<T>*>& norms) {
  if (auto* norm = layer.description().batch_norm) norms.push_back(norm);
  for (nn::Layer<T>* child : layer.children()) collect_norms(*child, norms);
}

}  // namespace detail

template <Real T>
void follow_growth(Context& ctx, nn::Layer<T>& network, const detail::NormInputs<T>& before,
                   const detail::NormInputs<T>& after, const std::vector<nn::BatchNorm<T>*>& tied,
                   const Edit<T>& edit) {
  std::vector<nn::BatchNorm<T>*> norms;
  detail::collect_norms(network, norms);
  std::erase_if(norms, [&](nn::BatchNorm<T>* norm) { return !after.all().contains(norm); });
  if (norms.empty()) return;
  std::vector<View<const T>> there;
  for (nn::BatchNorm<T>* norm : norms) {
    there.push_back(std::as_const(norm->running_mean().value).view());
    there.push_back(std::as_const(norm->running_variance().value).view());
  }
  std::vector<std::vector<T>> here = to_host(ctx, there);
  for (std::size_t i = 0; i < norms.size(); ++i) {
    nn::BatchNorm<T>* const norm = norms[i];
    const auto& now = after.all().at(norm);
    const typename detail::NormInputs<T>::Channels none;
    const auto found = before.all().find(norm);
    const auto& old = found == before.all().end() ? none : found->second;
    const std::int64_t width = std::ssize(old.mean);
    std::vector<std::int64_t> from = appended(width, std::ssize(now.mean) - width);
    for (const detail::AxisEdit<T>& change : edit.axes) {
      if (change.parameter == norm->running_mean().id) from = change.map;
    }
    std::vector<T>&means = here[2 * i], &variances = here[2 * i + 1];
    const bool grew = width != std::ssize(now.mean);
    const bool follows = !grew || std::find(tied.begin(), tied.end(), norm) != tied.end();
    for (std::size_t c = 0; c < means.size(); ++c) {
      const double mean = now.mean[c], variance = now.variance[c];
      if (from[c] < 0) {
        means[c] = static_cast<T>(mean);
        variances[c] = static_cast<T>(variance);
        continue;
      }
      if (!follows) continue;
      const auto before_it = static_cast<std::size_t>(from[c]);
      means[c] += static_cast<T>(mean - old.mean[before_it]);
      // Below the epsilon the norm looks past a variance, and a channel that was constant has no ratio.
      const double was = old.variance[before_it], running = static_cast<double>(variances[c]);
      variances[c] =
          static_cast<T>(was > norm->epsilon() ? running * variance / was : std::max(running + variance - was, 0.0));
    }
    copy<T>(ctx, from_host<T>(ctx, norm->running_mean().value.shape(), means), norm->running_mean().value);
    copy<T>(ctx, from_host<T>(ctx, norm->running_variance().value.shape(), variances), norm->running_variance().value);
  }
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
