// What the optimisers share: a network's parameters and, keyed by parameter id, what is remembered of each.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/optimizer.cuh>
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
[[nodiscard]] inline bool matches(std::string_view pattern, std::string_view name) {
  // After a mismatch the last star takes one character more.
  std::size_t p = 0, n = 0, star = std::string_view::npos, taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

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

  /// One step along the gradients that backward left in the parameters.
  void step(Context& ctx) {
    nn::Layer<T>& network = *network_;
    ++steps_;
    network.visit_parameters([&](nn::Parameter<T>& parameter) {
      if (parameter.value.empty()) return;
      Known& known = known_[parameter.id];
      // Moments that somebody restored without first steps are of the parameter's whole life.
      if (known.first_steps.base == 0) known.first_steps.base = known.moments.empty() ? steps_ : 1;
      update(ctx, parameter);
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
  /// For a checkpoint, which restores moments, first steps and groups too.
  void set_steps(std::int64_t steps) noexcept { steps_ = steps; }
  [[nodiscard]] nn::Layer<T>& network() const { return *network_; }

  [[nodiscard]] const GrowthRate& growth_rate() const noexcept { return growth_rate_; }
  /// Throws ArgumentError for a rule that `constant_rate`, `norm_ratio` and `rewarm` do not give.
  void set_growth_rate(const GrowthRate& rate) {
    if (rate.rule == GrowthRate::Rule::rewarm) (void)rewarm(rate.start, rate.steps);
    growth_rate_ = rate;
  }

  /// Makes a group of the parameters for which `belongs` is true; they leave the groups they were in. Returns how many
  /// they are. Throws ArgumentError for numbers outside their range.
  std::int64_t set_group(const std::function<bool(const nn::Parameter<T>&)>& belongs, const ParameterGroup& group) {
    check(group);
    std::int64_t count = 0;
    network_->visit_parameters([&](nn::Parameter<T>& parameter) {
      if (!belongs(parameter)) return;
      known_[parameter.id].group = group;
      ++count;
    });
    return count;
  }

  /// The same by name: `*` stands for any text, `?` for one character, as in `head.*` or `*.bias`. Throws ArgumentError
  /// also if no name matches.
  std::int64_t set_group(std::string_view pattern, const ParameterGroup& group) {
    const std::int64_t count =
        set_group([&](const nn::Parameter<T>& parameter) { return matches(pattern, parameter.name); }, group);
    if (count == 0) {
      throw ArgumentError(concat("parameter group: no parameter's name matches '", pattern,
                                 "'; names are paths such as layer2.weight, * stands for any text"));
    }
    return count;
  }
  /// The same for one parameter.
  void set_group(nn::ParameterId id, const ParameterGroup& group) {
    check(group);
    known_[id].group = group;
  }
  [[nodiscard]] const ParameterGroup& group(nn::ParameterId id) { return known_[id].group; }

  /// What is remembered of one parameter: tensors of the parameter's own shape (moments), empty before its first step.
  /// Whoever changes the shape of the parameter changes these alike, and `first_steps` with them.
  [[nodiscard]] std::vector<Tensor<T>>& state(nn::ParameterId id) { return known_[id].moments; }
  /// Which step was the first for each element of a parameter.
  [[nodiscard]] FirstSteps& first_steps(nn::ParameterId id) { return known_[id].first_steps; }

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

  virtual void update(Context& ctx, nn::Parameter<T>& parameter) = 0;

  /// The state of a parameter, made of `count` zero tensors at its first step.
  std::vector<Tensor<T>>& moments(Context& ctx, const nn::Parameter<T>& parameter, std::size_t count) {
    std::vector<Tensor<T>>& tensors = known_[parameter.id].moments;
    while (tensors.size() < count) tensors.push_back(zeros<T>(ctx, parameter.value.shape()));
    return tensors;
  }

  /// For `update`: how far the parameter's elements have come and the rate of each. An optimiser to whose step the age
  /// of an element is nothing gets one stage for all where their rates are the same. Throws ShapeError for a parameter
  /// that changed its shape without the optimiser.
  [[nodiscard]] Stages stages(Context& ctx, const nn::Parameter<T>& parameter, bool age_matters = true) {
    Known& known = known_[parameter.id];
    if (!age_matters && growth_rate_.rule == GrowthRate::Rule::constant) {
      return {{{.steps = std::max<std::int64_t>(steps_ - known.first_steps.base + 1, 1),
                .learning_rate = learning_rate_ * known.group.learning_rate_factor}},
              {}};
    }
    const Shape& shape = parameter.value.shape();
    if (known.stages_of != known.first_steps || known.shape != shape) {
      if (!known.first_steps.fits(shape)) {
        throw ShapeError(concat("optimizer: ", parameter.name, " has shape ", shape,
                                ", but not when it last grew; give the optimiser to every edit of its network"));
      }
      GrowthStages found = growth_stages(known.first_steps, shape);
      known.of_element =
          found.of_element.empty() ? Tensor<std::int32_t>() : from_host<std::int32_t>(ctx, shape, found.of_element);
      known.stages = std::move(found.first_steps);
      known.stages_of = known.first_steps;
      known.shape = shape;
    }
    Stages result;
    if (known.stages.size() > 1) result.of_element = known.of_element;
    const double rate = learning_rate_ * known.group.learning_rate_factor;
    for (const std::int64_t first : known.stages) {
      // Steps that were set back count as a beginning.
      const std::int64_t steps = std::max<std::int64_t>(steps_ - first + 1, 1);
      double factor = 1.0;
      if (growth_rate_.rule == GrowthRate::Rule::rewarm && first > 1 && steps <= growth_rate_.steps) {
        const double done = static_cast<double>(steps - 1) / static_cast<double>(growth_rate_.steps);
        factor = growth_rate_.start + (1.0 - growth_rate_.start) * done;
      }
      result.stages.push_back({.steps = steps, .learning_rate = rate * factor});
    }
    if (growth_rate_.rule == GrowthRate::Rule::norm_ratio && known.stages.size() > 1 && shape.rank() > 1) {
      std::vector<double> norms;
      for (std::size_t stage = 0; stage < known.stages.size(); ++stage) {
        norms.push_back(std::sqrt(kernels::stage_sum_squares(ctx, parameter.value.view(), result.of_element,
                                                             static_cast<std::int32_t>(stage))));
      }
      for (std::size_t stage = 1; stage < known.stages.size(); ++stage) {
        if (norms[0] > 0.0 && norms[stage] > 0.0) result.stages[stage].learning_rate = rate * norms[stage] / norms[0];
      }
    }
    return result;
  }

  /// Of a parameter, where the optimiser's is `weight_decay`.
  [[nodiscard]] double weight_decay_of(const nn::Parameter<T>& parameter, double weight_decay) {
    const std::optional<double>& own = known_[parameter.id].group.weight_decay;
    return own ? *own : parameter.decays ? weight_decay : 0.0;
  }

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

  static void check(const ParameterGroup& group) {
    detail::check_not_negative("parameter group", "learning_rate_factor", group.learning_rate_factor);
    if (group.weight_decay) detail::check_not_negative("parameter group", "weight_decay", *group.weight_decay);
  }

  nn::LayerHandle<T> network_;
  std::map<nn::ParameterId, Known> known_;
  double learning_rate_ = 0.0;
  GrowthRate growth_rate_;
  std::int64_t steps_ = 0;
};

}  // namespace meristem::optim
