// What the optimisers share: a network's parameters and, keyed by parameter id, what is remembered of each.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::inline MERISTEM_BACKEND::optim {

namespace detail {
/// Throws ArgumentError unless `fits`; `range` completes "it must".
inline void check_option(const char* optimizer, const char* option, double value, bool fits, const char* range) {
  if (!fits) throw ArgumentError(concat(optimizer, ": ", option, " is ", value, "; it must ", range));
}

/// Throws ArgumentError unless the value is 0 or more, and finite.
inline void check_not_negative(const char* optimizer, const char* option, double value) {
  check_option(optimizer, option, value, value >= 0.0 && std::isfinite(value), "be 0 or more, and finite");
}
}  // namespace detail

/// Updates the parameters of one network, which must outlive it.
template <Real T>
class Optimizer {
 public:
  explicit Optimizer(nn::Layer<T>& network) : network_(&network) {}
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer() = default;

  /// Name of the type, such as `Sgd`.
  [[nodiscard]] virtual std::string_view kind() const = 0;

  /// One step along the gradients that backward left in the parameters.
  void step(Context& ctx) {
    ++steps_;
    network_->visit_parameters([&](nn::Parameter<T>& parameter) {
      if (!parameter.value.empty()) update(ctx, parameter);
    });
  }

  [[nodiscard]] double learning_rate() const noexcept { return learning_rate_; }
  /// Throws ArgumentError for a rate that is negative or not finite.
  void set_learning_rate(double rate) {
    detail::check_not_negative("optimizer", "learning_rate", rate);
    learning_rate_ = rate;
  }
  /// Steps taken so far.
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  /// For a checkpoint, which restores the moments in `state` too.
  void set_steps(std::int64_t steps) noexcept { steps_ = steps; }
  [[nodiscard]] nn::Layer<T>& network() noexcept { return *network_; }

  /// What is remembered of one parameter: tensors of the parameter's own shape (moments), empty before its first step.
  /// Whoever changes the shape of the parameter changes these alike.
  [[nodiscard]] std::vector<Tensor<T>>& state(nn::ParameterId id) { return state_[id]; }

 protected:
  virtual void update(Context& ctx, nn::Parameter<T>& parameter) = 0;

  /// The state of a parameter, made of `count` zero tensors at its first step.
  std::vector<Tensor<T>>& moments(Context& ctx, const nn::Parameter<T>& parameter, std::size_t count) {
    std::vector<Tensor<T>>& tensors = state_[parameter.id];
    while (tensors.size() < count) tensors.push_back(zeros<T>(ctx, parameter.value.shape()));
    return tensors;
  }

 private:
  nn::Layer<T>* network_;
  std::map<nn::ParameterId, std::vector<Tensor<T>>> state_;
  double learning_rate_ = 0.0;
  std::int64_t steps_ = 0;
};

}  // namespace meristem::inline MERISTEM_BACKEND::optim
