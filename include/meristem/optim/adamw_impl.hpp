// Definitions of adamw.hpp.
#pragma once

#include <utility>
#include <vector>

#include <meristem/kernels/optimizer.cuh>
#include <meristem/optim/adamw.hpp>

namespace meristem::optim {

template <Real T>
AdamW<T>::AdamW(nn::Layer<T>& network, const AdamWOptions& options) : Optimizer<T>(network), options_(options) {
  const auto check_beta = [](const char* option, double value) {
    detail::check_option("AdamW", option, value, value >= 0.0 && value < 1.0, "lie in [0, 1)");
  };
  detail::check_not_negative("AdamW", "learning_rate", options.learning_rate);
  check_beta("beta1", options.beta1);
  check_beta("beta2", options.beta2);
  // A weight whose gradient has always been 0 would become 0 / 0 without it.
  detail::check_option("AdamW", "epsilon", options.epsilon, options.epsilon >= 1e-30 && options.epsilon <= 1.0,
                       "lie in [1e-30, 1]");
  detail::check_not_negative("AdamW", "weight_decay", options.weight_decay);
  this->set_learning_rate(options.learning_rate);
  this->set_growth_rate(options.growth_rate);
}

template <Real T>
void AdamW<T>::prepare_step(Context& ctx, std::span<nn::Parameter<T>* const> parameters) {
  std::vector<kernels::AdamWParameter<T>> all;
  for (nn::Parameter<T>* const parameter : parameters) {
    const auto [stages, of_element] = this->stages(ctx, *parameter);
    std::vector<kernels::AdamWStep> steps;
    for (const auto& stage : stages) {
      steps.push_back({.learning_rate = stage.learning_rate,
                       .beta1 = options_.beta1,
                       .beta2 = options_.beta2,
                       .epsilon = options_.epsilon,
                       .weight_decay = this->weight_decay_of(*parameter, options_.weight_decay),
                       .step = stage.steps});
    }
    std::vector<Tensor<T>>& moments = this->moments(ctx, *parameter, 2);
    all.push_back({std::move(steps), of_element, parameter->gradient, moments[0], moments[1], parameter->value});
  }
  kernels::prepare_adamw<T>(ctx, all, this->prepared_);
}

}  // namespace meristem::optim
