// Definitions of normalize.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include <meristem/grow/policy/normalize.hpp>

namespace meristem::grow::detail {

template <Real T>
std::vector<double> mean_squares(Context& ctx, View<const T> a) {
  const std::int64_t channels = a.extent(a.rank() - 1);
  if (channels == 0) return {};
  constexpr double epsilon = 1e-30;
  Tensor<T> mean(ctx, {channels}), inverse_deviation(ctx, {channels});
  kernels::batch_norm_statistics<T>(ctx, a, epsilon, mean, inverse_deviation);
  const std::vector<T> means = to_host(ctx, mean), inverses = to_host(ctx, inverse_deviation);
  std::vector<double> result;
  for (std::size_t c = 0; c < means.size(); ++c) {
    const double m = static_cast<double>(means[c]), inverse = static_cast<double>(inverses[c]);
    result.push_back(m * m + std::max(1.0 / (inverse * inverse) - epsilon, 0.0));
  }
  return result;
}

MERISTEM_INLINE double mean_of(const std::vector<double>& values, std::size_t first) {
  double sum = 0.0;
  for (std::size_t i = first; i < values.size(); ++i) sum += values[i];
  return values.size() > first ? sum / static_cast<double>(values.size() - first) : 0.0;
}

template <Real T>
void SiteOutputs<T>::on_forward(Context& ctx, const nn::Layer<T>& layer, View<const T> input) {
  const nn::Pass<T> pass{.measuring = true};
  if (&layer == site_->producer.layer()) {
    producer = mean_squares<T>(ctx, site_->producer.layer()->forward(ctx, input, pass).output);
  }
  if (&layer == site_->consumer.layer()) {
    nn::Trace<T> trace = site_->consumer.layer()->forward(ctx, input, pass);
    consumer = std::move(trace.storage);
  }
}

}  // namespace meristem::grow::detail
