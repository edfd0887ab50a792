// Definitions of sgd.hpp.
#pragma once

#include <utility>
#include <vector>

#include <meristem/kernels/optimizer.cuh>
#include <meristem/optim/sgd.hpp>

namespace meristem::optim {

template <Real T>
Sgd<T>::Sgd(nn::Layer<T>& network, const SgdOptions& options) : Optimizer<T>(network), options_(options) {
  const auto check_share = [](const char* option, double value) {
    detail::check_option("Sgd", option, value, value >= 0.0 && value <= 1.0, "lie in [0, 1]");
  };
  detail::check_not_negative("Sgd", "learning_rate", options.learning_rate);
  check_share("momentum", options.momentum);
  check_share("dampening", options.dampening);
  detail::check_not_negative("Sgd", "weight_decay", options.weight_decay);
  if (options.nesterov && (options.momentum == 0.0 || options.dampening != 0.0)) {
    throw ArgumentError("Sgd: nesterov needs a momentum above 0 and a dampening of 0");
  }
  this->set_learning_rate(options.learning_rate);
  this->set_growth_rate(options.growth_rate);
}

template <Real T>
void Sgd<T>::prepare_step(Context& ctx, std::span<nn::Parameter<T>* const> parameters) {
  // Only the first step of a momentum buffer with dampening is another.
  const bool age_matters = options_.momentum > 0.0 && options_.dampening != 0.0;
  std::vector<kernels::SgdParameter<T>> all;
  for (nn::Parameter<T>* const parameter : parameters) {
    const auto [stages, of_element] = this->stages(ctx, *parameter, age_matters);
    std::vector<kernels::SgdStep> steps;
    for (const auto& stage : stages) {
      steps.push_back({.learning_rate = stage.learning_rate,
                       .momentum = options_.momentum,
                       .dampening = stage.steps == 1 ? 0.0 : options_.dampening,
                       .weight_decay = this->weight_decay_of(*parameter, options_.weight_decay),
                       .nesterov = options_.nesterov});
    }
    const View<T> buffer =
        options_.momentum > 0.0 ? this->moments(ctx, *parameter, 1)[0].view() : View<T>(nullptr, {0});
    all.push_back({std::move(steps), of_element, parameter->gradient, buffer, parameter->value});
  }
  kernels::prepare_sgd<T>(ctx, all, this->prepared_);
}

}  // namespace meristem::optim
