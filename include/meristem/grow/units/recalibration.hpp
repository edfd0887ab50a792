// Growth changes what flows into every BatchNorm behind it. In training mode a BatchNorm follows at once, in evaluation
// mode only if its running statistics are moved alike.
#pragma once

#include <map>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

namespace detail {

/// Means and biased variances of what enters each BatchNorm of a network, over batches shown to it as the taps of a
/// pass in training mode: averages of the batches' own, which are what the layers normalise by.
template <Real T>
class NormInputs final : public nn::Taps<T> {
 public:
  struct Channels {
    std::vector<double> mean, variance;
    double batches = 0.0;
  };

  void on_forward(Context& ctx, const nn::Layer<T>& layer, View<const T> input) override;
  void on_backward(Context&, const nn::Layer<T>&, View<const T>, View<const T>) override {}

  /// Reads what the batches have left on the device.
  [[nodiscard]] const std::map<const nn::BatchNorm<T>*, Channels>& all() const;

 private:
  struct Unread {
    const nn::BatchNorm<T>* norm;
    Tensor<T> mean, inverse_deviation;
  };

  Context* ctx_ = nullptr;
  mutable std::vector<Unread> unread_;
  mutable std::map<const nn::BatchNorm<T>*, Channels> channels_;
};

}  // namespace detail

/// Moves the running statistics of a network as growth moved the batch statistics on the same samples: means by the
/// difference, variances by the ratio, and by the difference where they were below the norm's epsilon. In a layer that
/// grew itself, the channels from before read what they read before and keep theirs, and the added ones, at the end or
/// where the `edit` put them, take those of the batches. Of the `tied` norms of a stream, whose inputs may have changed
/// too, the channels from before follow.
template <Real T>
void follow_growth(Context& ctx, nn::Layer<T>& network, const detail::NormInputs<T>& before,
                   const detail::NormInputs<T>& after, const std::vector<nn::BatchNorm<T>*>& tied = {},
                   const Edit<T>& edit = {});

/// Sets the running statistics of the last `units` channels in the norms of a stream's riders to those of the batches.
template <Real T>
void take_statistics(Context& ctx, const std::vector<Affine<T>>& riders, std::int64_t units,
                     const detail::NormInputs<T>& batches);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/recalibration_impl.hpp>
#endif
