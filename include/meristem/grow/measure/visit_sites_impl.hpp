// Definitions of visit_sites.hpp.
#pragma once

#include <utility>

#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow {

template <Real T>
detail::SiteTaps<T>::SiteTaps(const std::vector<Site<T>>& sites, Visit visit)
    : sites_(&sites), visit_(std::move(visit)), unit_inputs_(sites.size()) {}

template <Real T>
void detail::SiteTaps<T>::on_forward(Context&, const nn::Layer<T>& layer, View<const T> input) {
  for (std::size_t i = 0; i < sites_->size(); ++i) {
    if ((*sites_)[i].producer.layer() == &layer) unit_inputs_[i] = input;
    if ((*sites_)[i].consumer.layer() == &layer) ++unseen_;
  }
}

template <Real T>
void detail::SiteTaps<T>::on_backward(Context& ctx, const nn::Layer<T>& layer, View<const T> input,
                                      View<const T> output_gradient) {
  for (std::size_t i = 0; i < sites_->size(); ++i) {
    if ((*sites_)[i].consumer.layer() != &layer) continue;
    visit_(ctx, i, unit_inputs_[i], input, output_gradient);
    --unseen_;
  }
  // What stands before the first site is of no interest.
  if (unseen_ == 0) throw AllSitesSeen();
}

template <Real T>
double visit_sites(Context& ctx, nn::Layer<T>& network, const std::vector<Site<T>>& sites,
                   const std::type_identity_t<nn::BatchView<T>>& batch, const nn::Objective& loss,
                   typename detail::SiteTaps<T>::Visit visit) {
  detail::SiteTaps<T> taps(sites, std::move(visit));
  const nn::Pass<T> pass{
      .mode = nn::Mode::training, .gradients = nn::GradientMode::ignore, .measuring = true, .taps = &taps};
  const nn::Trace<T> trace = network.forward(ctx, batch.inputs, pass);
  nn::LossValue<T> value = loss(ctx, trace.output, batch);
  // Of the mean loss; V_goal is minus the gradient of the sum over the batch, and backward is linear.
  kernels::scale<T>(ctx, -static_cast<T>(batch.size()), value.gradient.view());
  try {
    (void)network.backward(ctx, batch.inputs, trace, std::move(value.gradient), pass);
  } catch (const detail::AllSitesSeen&) {
  }
  return value.mean;
}

}  // namespace meristem::grow
