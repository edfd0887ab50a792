// One batch forward and backward, shown to growth sites.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>

namespace meristem::grow {

/// Hands the inputs of producers and consumers and the desired update to `visit` while a batch flows back through the
/// network. Connect it to a Pass as its taps.
template <Real T>
class SiteTaps final : public nn::Taps<T> {
 public:
  /// site index, input of the producer, input of the consumer, desired update (all valid during the call)
  using Visit = std::function<void(Context&, std::size_t, View<const T>, View<const T>, View<const T>)>;

  SiteTaps(const std::vector<Site<T>>& sites, Visit visit)
      : sites_(&sites), visit_(std::move(visit)), unit_inputs_(sites.size()) {}

  void on_forward(Context&, const nn::Layer<T>& layer, View<const T> input) override {
    for (std::size_t i = 0; i < sites_->size(); ++i) {
      if ((*sites_)[i].producer.layer() == &layer) unit_inputs_[i] = input;
    }
  }

  void on_backward(Context& ctx, const nn::Layer<T>& layer, View<const T> input,
                   View<const T> output_gradient) override {
    for (std::size_t i = 0; i < sites_->size(); ++i) {
      if ((*sites_)[i].consumer.layer() != &layer) continue;
      // Backward carries the gradient of the mean loss; V_goal belongs to the sum over the batch.
      Tensor<T> goal = zeros<T>(ctx, output_gradient.shape());
      kernels::axpy<T>(ctx, -static_cast<T>(output_gradient.extent(0)), output_gradient, goal);
      visit_(ctx, i, unit_inputs_[i], input, goal);
    }
  }

 private:
  const std::vector<Site<T>>* sites_;
  Visit visit_;
  std::vector<View<const T>> unit_inputs_;
};

/// Runs one batch forward and backward without touching parameters, gradients or running statistics, and shows every
/// site to `visit`. Returns the mean loss of the batch.
template <Real T>
double visit_sites(Context& ctx, nn::Layer<T>& network, const std::vector<Site<T>>& sites,
                   const std::type_identity_t<nn::BatchView<T>>& batch, const nn::Objective& loss,
                   typename SiteTaps<T>::Visit visit) {
  SiteTaps<T> taps(sites, std::move(visit));
  const nn::Pass<T> pass{
      .mode = nn::Mode::training, .gradients = nn::GradientMode::ignore, .measuring = true, .taps = &taps};
  const nn::Trace<T> trace = network.forward(ctx, batch.inputs, pass);
  nn::LossValue<T> value = loss(ctx, trace.output, batch);
  (void)network.backward(ctx, batch.inputs, trace, std::move(value.gradient), pass);
  return value.mean;
}

}  // namespace meristem::grow
