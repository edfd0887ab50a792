// Definitions of edit.hpp.
#pragma once

#include <cmath>
#include <limits>
#include <utility>

#include <meristem/grow/units/edit.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/grow_copy.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow {

MERISTEM_INLINE std::vector<std::int64_t> appended(std::int64_t old_extent, std::int64_t added) {
  std::vector<std::int64_t> map;
  map.reserve(static_cast<std::size_t>(old_extent + added));
  for (std::int64_t i = 0; i < old_extent; ++i) map.push_back(i);
  map.insert(map.end(), static_cast<std::size_t>(added), -1);
  return map;
}

template <Real T>
detail::StagedEdit<T>::StagedEdit(Context& ctx, const Edit<T>& edit, nn::Layer<T>& network,
                                  optim::Optimizer<T>* optimizer, Follow follow_up) {
  if (optimizer != nullptr && !nn::contains(optimizer->network(), network) &&
      !nn::contains(network, optimizer->network())) {
    throw ArgumentError(
        "growth edit: the optimiser is of another network; give the optimiser that was made for this network");
  }
  std::map<nn::ParameterId, Target> known;
  network.visit_parameters([&](nn::Parameter<T>& parameter) {
    known[parameter.id] = {parameter.name, &parameter.value, &parameter.gradient};
  });
  network.visit_buffers([&](nn::Buffer<T>& buffer) { known[buffer.id] = {buffer.name, &buffer.value, nullptr}; });
  const auto find = [&](nn::ParameterId id) -> const Target& {
    const auto found = known.find(id);
    if (found == known.end()) {
      throw ArgumentError(concat("growth edit: the network has no parameter with id ", id,
                                 "; apply an edit to the network it was made for"));
    }
    return found->second;
  };
  const auto require_same_context = [](const Target& target, const Tensor<T>& numbers) {
    if (target.value->same_context(numbers)) return;
    throw ArgumentError(concat("growth edit: the numbers for ", target.name,
                               " are of another Context; apply an edit to the network it was made for"));
  };
  for (const detail::ValueEdit<T>& change : edit.values) {
    const Target& target = find(change.parameter);
    require_same_context(target, change.delta);
    if (change.delta.shape() != target.value->shape()) {
      throw ShapeError(concat("growth edit: ", target.name, " has shape ", target.value->shape(),
                              ", its change has shape ", change.delta.shape()));
    }
    kernels::axpy<T>(ctx, T(1), change.delta, part(ctx, *target.value, change.power));
  }
  for (const detail::AxisEdit<T>& change : edit.axes) {
    const Target& target = find(change.parameter);
    require_same_context(target, change.fresh);
    const Shape shape = current(*target.value).shape();
    const std::int64_t added = check(target.name, shape, change);
    const auto follow = [&](const char* what, Tensor<T>& tensor) {
      if (current(tensor).shape() != shape) {
        throw ShapeError(concat("growth edit: ", target.name, " has shape ", shape, ", but ", what, " has ",
                                current(tensor).shape(), "; give the optimiser that was made for this network"));
      }
      resize(ctx, tensor, change, View<const T>());
    };
    if (added > 0) (void)part(ctx, *target.value, change.power);
    resize(ctx, *target.value, change, added > 0 ? change.fresh.view() : View<const T>());
    if (target.gradient == nullptr || follow_up == Follow::nothing) continue;
    follow("its gradient", *target.gradient);
    if (optimizer == nullptr) continue;
    for (Tensor<T>& moment : optimizer->state(change.parameter)) follow("a moment of the optimiser", moment);
    optim::FirstSteps& first_steps = optimizer->first_steps(change.parameter);
    optim::FirstSteps& steps = first_steps_.try_emplace(&first_steps, first_steps).first->second;
    if (!steps.fits(shape)) {
      throw ShapeError(concat("growth edit: ", target.name, " has shape ", shape,
                              ", but not in the optimiser's memory; give the optimiser to every edit of its network"));
    }
    steps.follow(change.axis, shape[change.axis], change.map, optimizer->steps() + 1);
  }
  set_amplitude(ctx, edit.gamma);
}

template <Real T>
void detail::StagedEdit<T>::set_amplitude(Context& ctx, double gamma) {
  if (swapped_) {
    throw ArgumentError("growth edit: its numbers are in the network; swap them back before they change");
  }
  for (auto it = parts_.begin(); it != parts_.end();) {
    auto& [target, parts] = *it;
    if (parts.size() == 1) {
      // The same at every amplitude.
      staged_.insert_or_assign(target, std::move(parts.at(0.0)));
      it = parts_.erase(it);
      continue;
    }
    const Tensor<T>& plain = parts.at(0.0);
    Tensor<T>& sum = staged_.try_emplace(target).first->second;
    if (sum.shape() != plain.shape()) sum = Tensor<T>(ctx, plain.shape());
    copy<T>(ctx, plain, sum);
    for (const auto& [power, numbers] : parts) {
      if (power != 0.0) kernels::axpy<T>(ctx, static_cast<T>(std::pow(gamma, power)), numbers, sum.view());
    }
    ++it;
  }
}

template <Real T>
void detail::StagedEdit<T>::swap() noexcept {
  swapped_ = !swapped_;
  for (auto& [target, replacement] : staged_) std::swap(*target, replacement);
  for (auto& [target, replacement] : first_steps_) std::swap(*target, replacement);
}

template <Real T>
std::int64_t detail::StagedEdit<T>::check(const std::string& name, const Shape& shape,
                                          const detail::AxisEdit<T>& change) {
  if (change.axis < 0 || change.axis >= shape.rank()) {
    throw ShapeError(concat("growth edit: ", name, " of shape ", shape, " has no axis ", change.axis));
  }
  if (change.extent >= 0 && change.extent != shape[change.axis]) {
    throw ShapeError(concat("growth edit: axis ", change.axis, " of ", name, " has ", shape[change.axis],
                            " indices, the edit was made for ", change.extent,
                            "; if it was applied already, make another for the network as it is now"));
  }
  std::int64_t added = 0;
  for (std::size_t i = 0; i < change.map.size(); ++i) {
    const std::int64_t from = change.map[i];
    if (from < -1 || from >= shape[change.axis]) {
      throw ShapeError(concat("growth edit: ", name, " of shape ", shape, ": map[", i, "] is ", from,
                              "; it must be -1 for an added index or one of the ", shape[change.axis],
                              " indices of axis ", change.axis));
    }
    if (from == -1) ++added;
  }
  const Shape expected = shape.with(change.axis, added);
  if (change.fresh.shape() != expected && !(added == 0 && change.fresh.empty())) {
    throw ShapeError(concat("growth edit: ", name, " of shape ", shape, ": the map adds ", added, " indices on axis ",
                            change.axis, ", so fresh must have shape ", expected, "; got ", change.fresh.shape()));
  }
  return added;
}

template <Real T>
const Tensor<T>& detail::StagedEdit<T>::current(Tensor<T>& target) const {
  const auto found = parts_.find(&target);
  return found == parts_.end() ? target : found->second.at(0.0);
}

template <Real T>
auto detail::StagedEdit<T>::parts(Context& ctx, Tensor<T>& target) -> Parts& {
  Parts& result = parts_[&target];
  if (result.empty()) result.emplace(0.0, clone(ctx, target));
  return result;
}

template <Real T>
Tensor<T>& detail::StagedEdit<T>::part(Context& ctx, Tensor<T>& target, double power) {
  Parts& all = parts(ctx, target);
  const auto found = all.find(power);
  if (found != all.end()) return found->second;
  return all.emplace(power, zeros<T>(ctx, all.at(0.0).shape())).first->second;
}

template <Real T>
void detail::StagedEdit<T>::resize(Context& ctx, Tensor<T>& target, const detail::AxisEdit<T>& change,
                                   View<const T> fresh) {
  const auto resized = [&](const Tensor<T>& source, View<const T> numbers) {
    Tensor<T> result(ctx, source.shape().with(change.axis, static_cast<std::int64_t>(change.map.size())));
    kernels::grow_copy<T>(ctx, source, change.axis, change.map, numbers, result);
    return result;
  };
  if (!parts_.contains(&target)) {
    // Where nothing else changes the numbers, no copy of them is needed first.
    if (change.power == 0.0 || fresh.rank() == 0) {
      parts_[&target].emplace(0.0, resized(target, fresh));
      return;
    }
  }
  for (auto& [power, numbers] : parts(ctx, target)) {
    numbers = resized(numbers, power == change.power ? fresh : View<const T>());
  }
}

template <Real T>
void apply(Context& ctx, const Edit<T>& edit, nn::Layer<T>& network, optim::Optimizer<T>* optimizer) {
  detail::StagedEdit<T> staged(ctx, edit, network, optimizer);
  const auto require_finite = [&](nn::ParameterId id, const Tensor<T>& numbers, double power) {
    if (numbers.empty()) return;
    const std::int64_t index = kernels::first_non_finite(ctx, numbers.view());
    const double largest =
        power == 0.0 || index >= 0 ? 0.0 : static_cast<double>(kernels::max_abs(ctx, numbers.view()));
    const bool fits = largest * std::pow(edit.gamma, power) <= static_cast<double>(std::numeric_limits<T>::max());
    if (index < 0 && fits) return;
    std::string name;
    network.visit_parameters([&](nn::Parameter<T>& p) { name = p.id == id ? p.name : name; });
    network.visit_buffers([&](nn::Buffer<T>& b) { name = b.id == id ? b.name : name; });
    throw ArgumentError(concat(
        "growth edit: ", index < 0 ? concat("at the amplitude ", edit.gamma, " a number") : concat("number ", index),
        " of what ", name, " gets is not finite; the units or their amplitude are of no use"));
  };
  for (const detail::ValueEdit<T>& change : edit.values) require_finite(change.parameter, change.delta, change.power);
  for (const detail::AxisEdit<T>& change : edit.axes) require_finite(change.parameter, change.fresh, change.power);
  staged.swap();
}

}  // namespace meristem::grow
