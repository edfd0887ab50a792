// What the optimisers share: a network's parameters and, keyed by parameter id, what is remembered of each.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/optimizer_step.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/optim/first_steps.hpp>
#include <meristem/optim/growth_rate.hpp>

namespace meristem::optim {

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

/// What is different for some parameters of a network.
struct ParameterGroup {
  double learning_rate_factor = 1.0;        ///< of the optimiser's learning rate, 0 or more; 0 freezes
  std::optional<double> weight_decay = {};  ///< in place of the optimiser's, also for biases; 0 or more

  friend bool operator==(const ParameterGroup&, const ParameterGroup&) = default;
};

/// Whether a name matches a pattern, where `*` stands for any text and `?` for any one character.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view name);

/// Updates the parameters of one network, also after that was moved. With the network gone, what needs it throws
/// ArgumentError.
template <Real T>
class Optimizer {
 public:
  explicit Optimizer(nn::Layer<T>& network) : network_(network) {}
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer() = default;

  /// Name of the type, such as `Sgd`.
  [[nodiscard]] virtual std::string_view kind() const = 0;
  /// Its options by name, for checkpoints; none where it is not made again from one.
  [[nodiscard]] virtual std::vector<std::pair<std::string, nn::FieldValue>> fields() const { return {}; }

  /// One step along the gradients that backward left in the parameters. Where `held`, a number in device memory, is not
  /// 0 when the device gets there, no weight and no moment changes.
  void step(Context& ctx, const std::int32_t* held = nullptr) {
    prepare(ctx);
    start(ctx, held);
  }
  /// The first half of a step: counts it, and brings what changes from step to step to the device. Reads no gradient.
  void prepare(Context& ctx);
  /// The second half. It reads what `prepare` left on the device, so that it may be recorded and repeated
  /// (core/graph.hpp) behind each `prepare` that leaves `launch` as it was.
  virtual void start(Context& ctx, const std::int32_t* held = nullptr) { prepared_.start(ctx, held); }
  [[nodiscard]] const kernels::OptimizerStep::Launch& launch() const noexcept { return prepared_.launch(); }

  [[nodiscard]] double learning_rate() const noexcept { return learning_rate_; }
  /// Throws ArgumentError for a rate that is negative or not finite.
  void set_learning_rate(double rate);
  /// Steps taken so far.
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  /// For a checkpoint, which restores moments, first steps and groups too.
  void set_steps(std::int64_t steps) noexcept { steps_ = steps; }
  [[nodiscard]] nn::Layer<T>& network() const { return *network_; }

  [[nodiscard]] const GrowthRate& growth_rate() const noexcept { return growth_rate_; }
  /// Throws ArgumentError for a rule that `constant_rate`, `norm_ratio` and `rewarm` do not give.
  void set_growth_rate(const GrowthRate& rate);

  /// Makes a group of the parameters for which `belongs` is true; they leave the groups they were in. Returns how many
  /// they are. Throws ArgumentError for numbers outside their range.
  std::int64_t set_group(const std::function<bool(const nn::Parameter<T>&)>& belongs, const ParameterGroup& group);

  /// The same by name: `*` stands for any text, `?` for one character, as in `head.*` or `*.bias`. Throws ArgumentError
  /// also if no name matches.
  std::int64_t set_group(std::string_view pattern, const ParameterGroup& group);
  /// The same for one parameter.
  void set_group(nn::ParameterId id, const ParameterGroup& group);
  [[nodiscard]] const ParameterGroup& group(nn::ParameterId id) { return known_[id].group; }

  /// What is remembered of one parameter: tensors of the parameter's own shape (moments), empty before its first step.
  /// Whoever changes the shape of the parameter changes these alike, and `first_steps` with them.
  [[nodiscard]] std::vector<Tensor<T>>& state(nn::ParameterId id) { return known_[id].moments; }
  /// Which step was the first for each element of a parameter.
  [[nodiscard]] FirstSteps& first_steps(nn::ParameterId id) { return known_[id].first_steps; }
  /// Lets go of all that is remembered of a parameter that left the network.
  void forget(nn::ParameterId id) { known_.erase(id); }

 protected:
  /// Elements that joined in the same step.
  struct Stage {
    std::int64_t steps = 1;      ///< they have taken, this one included
    double learning_rate = 0.0;  ///< of this step
  };
  /// The growth stages of a parameter, and which one each element belongs to: not set if there is but one.
  struct Stages {
    std::vector<Stage> stages;
    View<const std::int32_t> of_element;
  };

  /// Makes a step of these, all parameters that are not empty, ready in `prepared_`.
  virtual void prepare_step(Context& ctx, std::span<nn::Parameter<T>* const> parameters) = 0;

  /// The state of a parameter, made of `count` zero tensors at its first step.
  std::vector<Tensor<T>>& moments(Context& ctx, const nn::Parameter<T>& parameter, std::size_t count);

  /// For `prepare_step`: how far the parameter's elements have come and the rate of each. An optimiser to whose step
  /// the age of an element is nothing gets one stage for all where their rates are the same. Throws ShapeError for a
  /// parameter that changed its shape without the optimiser.
  [[nodiscard]] Stages stages(Context& ctx, const nn::Parameter<T>& parameter, bool age_matters = true);

  /// Of a parameter, where the optimiser's is `weight_decay`.
  [[nodiscard]] double weight_decay_of(const nn::Parameter<T>& parameter, double weight_decay);

  kernels::OptimizerStep prepared_;

 private:
  struct Known {
    std::vector<Tensor<T>> moments;
    FirstSteps first_steps;
    ParameterGroup group;
    // Follows from the first steps and the shape.
    FirstSteps stages_of;
    Shape shape;
    std::vector<std::int64_t> stages;  // their first steps
    Tensor<std::int32_t> of_element;
  };

  static void check(const ParameterGroup& group);

  nn::LayerHandle<T> network_;
  std::map<nn::ParameterId, Known> known_;
  double learning_rate_ = 0.0;
  GrowthRate growth_rate_;
  std::int64_t steps_ = 0;
};

}  // namespace meristem::optim

#if !defined(MERISTEM_COMPILED)
#include <meristem/optim/optimizer_impl.hpp>
#endif
