// Adam with decoupled weight decay.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

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
  AdamW(nn::Layer<T>& network, const AdamWOptions& options);

  [[nodiscard]] std::string_view kind() const override { return "AdamW"; }
  [[nodiscard]] std::vector<std::pair<std::string, nn::FieldValue>> fields() const override {
    return {{"learning_rate", options_.learning_rate},
            {"beta1", options_.beta1},
            {"beta2", options_.beta2},
            {"epsilon", options_.epsilon},
            {"weight_decay", options_.weight_decay}};
  }
  [[nodiscard]] const AdamWOptions& options() const noexcept { return options_; }

 protected:
  void prepare_step(Context& ctx, std::span<nn::Parameter<T>* const> parameters) override;

 private:
  AdamWOptions options_;
};

template <class Network>
AdamW(Network&, const AdamWOptions&) -> AdamW<typename Network::value_type>;

}  // namespace meristem::optim

#if !defined(MERISTEM_COMPILED)
#include <meristem/optim/adamw_impl.hpp>
#endif
