// Stochastic gradient descent with momentum.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include <meristem/optim/optimizer.hpp>

namespace meristem::optim {

struct SgdOptions {
  double learning_rate = 0.1;
  double momentum = 0.0;
  double dampening = 0.0;
  double weight_decay = 0.0;  ///< added to the gradient as weight_decay · w; biases are not decayed
  bool nesterov = false;
  GrowthRate growth_rate = {};  ///< of weights that join by growth: constant_rate(), norm_ratio() or rewarm()
};

/// v = momentum · v + (1 - dampening) · g, w = w - learning_rate · v, as in PyTorch, I. Sutskever et al., "On the
/// importance of initialization and momentum in deep learning" (2013). In the first step of a weight v = g, also of one
/// that joins later.
template <Real T>
class Sgd final : public Optimizer<T> {
 public:
  /// Throws ArgumentError for an option outside its range.
  Sgd(nn::Layer<T>& network, const SgdOptions& options);

  [[nodiscard]] std::string_view kind() const override { return "Sgd"; }
  [[nodiscard]] std::vector<std::pair<std::string, nn::FieldValue>> fields() const override {
    return {{"learning_rate", options_.learning_rate},
            {"momentum", options_.momentum},
            {"dampening", options_.dampening},
            {"weight_decay", options_.weight_decay},
            {"nesterov", options_.nesterov}};
  }
  [[nodiscard]] const SgdOptions& options() const noexcept { return options_; }

 protected:
  void prepare_step(Context& ctx, std::span<nn::Parameter<T>* const> parameters) override;

 private:
  SgdOptions options_;
};

template <class Network>
Sgd(Network&, const SgdOptions&) -> Sgd<typename Network::value_type>;

}  // namespace meristem::optim

#if !defined(MERISTEM_COMPILED)
#include <meristem/optim/sgd_impl.hpp>
#endif
