// Adam with decoupled weight decay.
#pragma once

#include <vector>

#include <meristem/kernels/optimizer.cuh>
#include <meristem/optim/optimizer.hpp>

namespace meristem::optim {

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;        ///< at least 1e-30
  double weight_decay = 1e-2;   ///< decoupled: w = w - learning_rate · weight_decay · w; biases are not decayed
  GrowthRate growth_rate = {};  ///< of weights that join by growth: constant_rate(), norm_ratio() or rewarm()
};

/// I. Loshchilov, F. Hutter, "Decoupled weight decay regularization" (2019). The bias correction counts the steps
/// of each weight: one that joins later begins as all others did, with a first step of about the learning rate.
template <Real T>
class AdamW final : public Optimizer<T> {
 public:
  /// Throws ArgumentError for an option outside its range.
  AdamW(nn::Layer<T>& network, const AdamWOptions& options) : Optimizer<T>(network), options_(options) {
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

  [[nodiscard]] std::string_view kind() const override { return "AdamW"; }
  [[nodiscard]] const AdamWOptions& options() const noexcept { return options_; }

 protected:
  void update(Context& ctx, nn::Parameter<T>& parameter) override {
    const auto [stages, of_element] = this->stages(ctx, parameter);
    std::vector<kernels::AdamWStep> steps;
    for (const auto& stage : stages) {
      steps.push_back({.learning_rate = stage.learning_rate,
                       .beta1 = options_.beta1,
                       .beta2 = options_.beta2,
                       .epsilon = options_.epsilon,
                       .weight_decay = this->weight_decay_of(parameter, options_.weight_decay),
                       .step = stage.steps});
    }
    std::vector<Tensor<T>>& moments = this->moments(ctx, parameter, 2);
    kernels::adamw_step<T>(ctx, steps, of_element, parameter.gradient, moments[0], moments[1], parameter.value);
  }

 private:
  AdamWOptions options_;
};

template <class Network>
AdamW(Network&, const AdamWOptions&) -> AdamW<typename Network::value_type>;

}  // namespace meristem::optim
