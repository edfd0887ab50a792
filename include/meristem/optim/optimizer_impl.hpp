// Definitions of optimizer.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/kernels/optimizer.cuh>
#include <meristem/optim/optimizer.hpp>

namespace meristem::optim {

MERISTEM_INLINE bool matches(std::string_view pattern, std::string_view name) {
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

template <Real T>
void Optimizer<T>::prepare(Context& ctx) {
  nn::Layer<T>& network = *network_;
  ++steps_;
  std::vector<nn::Parameter<T>*> parameters;
  network.visit_parameters([&](nn::Parameter<T>& parameter) {
    if (parameter.value.empty()) return;
    Known& known = known_[parameter.id];
    // Moments that somebody restored without first steps are of the parameter's whole life.
    if (known.first_steps.base == 0) known.first_steps.base = known.moments.empty() ? steps_ : 1;
    parameters.push_back(&parameter);
  });
  prepared_.clear();
  if (!parameters.empty()) prepare_step(ctx, parameters);
}

template <Real T>
void Optimizer<T>::set_learning_rate(double rate) {
  detail::check_not_negative("optimizer", "learning_rate", rate);
  learning_rate_ = rate;
}

template <Real T>
void Optimizer<T>::set_growth_rate(const GrowthRate& rate) {
  if (rate.rule == GrowthRate::Rule::rewarm) (void)rewarm(rate.start, rate.steps);
  growth_rate_ = rate;
}

template <Real T>
std::int64_t Optimizer<T>::set_group(const std::function<bool(const nn::Parameter<T>&)>& belongs,
                                     const ParameterGroup& group) {
  check(group);
  std::int64_t count = 0;
  network_->visit_parameters([&](nn::Parameter<T>& parameter) {
    if (!belongs(parameter)) return;
    known_[parameter.id].group = group;
    ++count;
  });
  return count;
}

template <Real T>
std::int64_t Optimizer<T>::set_group(std::string_view pattern, const ParameterGroup& group) {
  const std::int64_t count =
      set_group([&](const nn::Parameter<T>& parameter) { return matches(pattern, parameter.name); }, group);
  if (count == 0) {
    throw ArgumentError(concat("parameter group: no parameter's name matches '", pattern,
                               "'; names are paths such as layer2.weight, * stands for any text"));
  }
  return count;
}

template <Real T>
void Optimizer<T>::set_group(nn::ParameterId id, const ParameterGroup& group) {
  check(group);
  known_[id].group = group;
}

template <Real T>
std::vector<Tensor<T>>& Optimizer<T>::moments(Context& ctx, const nn::Parameter<T>& parameter, std::size_t count) {
  std::vector<Tensor<T>>& tensors = known_[parameter.id].moments;
  while (tensors.size() < count) tensors.push_back(zeros<T>(ctx, parameter.value.shape()));
  return tensors;
}

template <Real T>
auto Optimizer<T>::stages(Context& ctx, const nn::Parameter<T>& parameter, bool age_matters) -> Stages {
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

template <Real T>
double Optimizer<T>::weight_decay_of(const nn::Parameter<T>& parameter, double weight_decay) {
  const std::optional<double>& own = known_[parameter.id].group.weight_decay;
  return own ? *own : parameter.decays ? weight_decay : 0.0;
}

template <Real T>
void Optimizer<T>::check(const ParameterGroup& group) {
  detail::check_not_negative("parameter group", "learning_rate_factor", group.learning_rate_factor);
  if (group.weight_decay) detail::check_not_negative("parameter group", "weight_decay", *group.weight_decay);
}

}  // namespace meristem::optim
