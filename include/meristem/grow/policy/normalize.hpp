// New units brought to the scale of what is there.
#pragma once

#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/policy/amplitude.hpp>
#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/kernels/batch_norm.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

namespace detail {

/// For every index of the last axis, the mean of the squares over all others.
template <Real T>
[[nodiscard]] std::vector<double> mean_squares(Context& ctx, View<const T> a);

[[nodiscard]] double mean_of(const std::vector<double>& values, std::size_t first = 0);

/// Outputs of a site's producer and consumer while a batch flows through the network.
template <Real T>
class SiteOutputs final : public nn::Taps<T> {
 public:
  explicit SiteOutputs(const Site<T>& site) : site_(&site) {}

  void on_forward(Context& ctx, const nn::Layer<T>& layer, View<const T> input) override;
  void on_backward(Context&, const nn::Layer<T>&, View<const T>, View<const T>) override {}

  std::vector<double> producer;  ///< mean squares, unit by unit
  Tensor<T> consumer;            ///< the output itself

 private:
  const Site<T>* site_;
};

}  // namespace detail

/// Scales the units of an insertion as `options` says (Amplitude::matched, faint_norm); the move of today's weights
/// stays. The samples are those that `for_each_batch(use)` shows as use(const BatchView&). Returns the factor by which
/// the units' slope changes.
template <Real T, class ForEachBatch>
[[nodiscard]] double normalize(Context& ctx, nn::Layer<T>& network, const Site<T>& site, const Amplitude& options,
                               ForEachBatch&& for_each_batch, Insertion& insertion) {
  if (insertion.units == 0 || (!options.matched && !options.faint_norm)) return 1.0;
  if (options.faint_norm) {
    const double squares = kernels::sum_squares<double>(ctx, insertion.fan_out.view());
    if (squares == 0.0) return 1.0;
    const double factor = *options.faint_norm / std::sqrt(squares / static_cast<double>(insertion.units));
    kernels::scale<double>(ctx, factor, insertion.fan_out.view());
    return factor;
  }

  // One pass with the units as they are, one with their fan-ins scaled.
  const std::size_t width = static_cast<std::size_t>(site.width());
  struct Sums {
    double existing = 0.0, added = 0.0, output = 0.0, change = 0.0;
  };
  const auto measure = [&](Sums& sums) {
    Tensor<double> move = std::exchange(insertion.move, {});
    detail::StagedEdit<T> staged(ctx, make_edit<T>(ctx, site, insertion, 1.0), network);
    insertion.move = std::move(move);
    for_each_batch([&](const nn::BatchView<T>& batch) {
      const View<const T> inputs = batch.inputs;
      const double count = static_cast<double>(inputs.extent(0));
      detail::SiteOutputs<T> before(site), after(site);
      (void)network.forward(ctx, inputs, {.measuring = true, .taps = &before});
      staged.swap();
      try {
        (void)network.forward(ctx, inputs, {.measuring = true, .taps = &after});
      } catch (...) {
        staged.swap();
        throw;
      }
      staged.swap();
      sums.existing += count * detail::mean_of(before.producer);
      sums.added += count * detail::mean_of(after.producer, width);
      sums.output += count * detail::mean_of(detail::mean_squares<T>(ctx, before.consumer.view()));
      kernels::axpy<T>(ctx, T(-1), before.consumer, after.consumer.view());
      sums.change += count * detail::mean_of(detail::mean_squares<T>(ctx, after.consumer.view()));
    });
  };
  const auto ratio = [](double wanted, double is) {
    const double factor = std::sqrt(wanted / is);
    return factor > 0.0 && std::isfinite(factor) ? factor : 1.0;
  };
  Sums first, second;
  measure(first);
  if (site.producer.norm()) {
    // What the activation reads is the norm's output: in training mode a channel has mean `bias` and deviation
    // `weight`.
    const std::vector<T> weights = to_host(ctx, site.producer.norm()->weight().value);
    const std::vector<T> shifts = to_host(ctx, site.producer.norm()->bias().value);
    std::vector<double> existing, added;
    for (std::size_t c = 0; c < weights.size(); ++c) {
      const double w = static_cast<double>(weights[c]), b = static_cast<double>(shifts[c]);
      existing.push_back(w * w + b * b);
    }
    const auto units = to_host(ctx, std::vector{insertion.mean.view(), insertion.variance.view()});
    for (std::size_t k = 0; k < units[0].size(); ++k) added.push_back(units[0][k] * units[0][k] + units[1][k]);
    first.existing = detail::mean_of(existing);
    first.added = detail::mean_of(added);
  }
  const double in = ratio(first.existing, first.added);
  kernels::scale<double>(ctx, in, insertion.fan_in.view());
  kernels::scale<double>(ctx, in, insertion.mean.view());
  kernels::scale<double>(ctx, in * in, insertion.variance.view());
  measure(second);
  const double out = ratio(second.output, second.change);
  kernels::scale<double>(ctx, out, insertion.fan_out.view());
  return in * out;
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/normalize_impl.hpp>
#endif
