// A growth edit as a value: which parameters and buffers change along which axes, how old indices map to the ones that
// replace them, and the numbers that are added. Weights, gradients and optimiser state all follow the same edit.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/grow_copy.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/layer.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow {

/// A change of one axis of one parameter or buffer.
template <Real T>
struct AxisEdit {
  nn::ParameterId parameter = 0;  ///< or the id of a buffer
  int axis = 0;
  /// For every index of the result, the index it comes from, or -1 for an added one. Old indices may be left out.
  std::vector<std::int64_t> map;
  /// Numbers of the added slices, in order: the shape of the parameter with this axis as long as there are -1 in `map`.
  /// May stay empty if there are none.
  Tensor<T> fresh;
  /// How many indices the axis has before: an edit that was made for another number does not apply. Negative: not
  /// known.
  std::int64_t extent = -1;
  double power = 0.0;  ///< fresh numbers count γ^power times, for the amplitude γ of the edit
};

/// A change of a parameter's or buffer's numbers in place, before its axes change: value += delta.
template <Real T>
struct ValueEdit {
  nn::ParameterId parameter = 0;  ///< or the id of a buffer
  Tensor<T> delta;                ///< in the old shape of the parameter
  double power = 0.0;             ///< it counts γ^power times, for the amplitude γ of the edit
};

/// Everything one growth step changes. Axis edits apply in order, each to the result of those before it. It is for the
/// network it was made for: ids are of one Context.
template <Real T>
struct Edit {
  std::vector<ValueEdit<T>> values;
  std::vector<AxisEdit<T>> axes;
  double gamma = 1.0;  ///< the amplitude; numbers whose power is 0 do not depend on it
};

/// The map that keeps `old_extent` indices and appends `added`.
[[nodiscard]] inline std::vector<std::int64_t> appended(std::int64_t old_extent, std::int64_t added) {
  std::vector<std::int64_t> map;
  map.reserve(static_cast<std::size_t>(old_extent + added));
  for (std::int64_t i = 0; i < old_extent; ++i) map.push_back(i);
  map.insert(map.end(), static_cast<std::size_t>(added), -1);
  return map;
}

/// What follows an edit beside the numbers themselves.
enum class Follow {
  all,      ///< gradients, and moments if there is an optimiser
  nothing,  ///< for a trial of the network's outputs
};

/// An edit carried out beside the network it is for: `swap` exchanges the two, and exchanging twice leaves the network
/// as it was to the last bit. Gradients and optimiser moments of added slices start at zero; the optimiser's
/// next step is their first.
template <Real T>
class StagedEdit {
 public:
  /// Prepares all tensors at the amplitude of the edit; changes nothing yet. Throws ArgumentError for a parameter that
  /// `network` does not have, numbers of another Context, and an optimiser of another network, ShapeError for an edit
  /// that does not fit. Numbers that are not finite may be tried out.
  StagedEdit(Context& ctx, const Edit<T>& edit, nn::Layer<T>& network, optim::Optimizer<T>* optimizer = nullptr,
             Follow follow_up = Follow::all) {
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
    for (const ValueEdit<T>& change : edit.values) {
      const Target& target = find(change.parameter);
      require_same_context(target, change.delta);
      if (change.delta.shape() != target.value->shape()) {
        throw ShapeError(concat("growth edit: ", target.name, " has shape ", target.value->shape(),
                                ", its change has shape ", change.delta.shape()));
      }
      kernels::axpy<T>(ctx, T(1), change.delta, part(ctx, *target.value, change.power));
    }
    for (const AxisEdit<T>& change : edit.axes) {
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
        throw ShapeError(
            concat("growth edit: ", target.name, " has shape ", shape,
                   ", but not in the optimiser's memory; give the optimiser to every edit of its network"));
      }
      steps.follow(change.axis, shape[change.axis], change.map, optimizer->steps() + 1);
    }
    set_amplitude(ctx, edit.gamma);
  }

  /// Changes the numbers to those of another amplitude, on the device. Throws ArgumentError while they are in the
  /// network.
  void set_amplitude(Context& ctx, double gamma) {
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

  /// Exchanges the network's tensors with the staged ones.
  void swap() noexcept {
    swapped_ = !swapped_;
    for (auto& [target, replacement] : staged_) std::swap(*target, replacement);
    for (auto& [target, replacement] : first_steps_) std::swap(*target, replacement);
  }

 private:
  /// What an id stands for; a buffer has no gradient.
  struct Target {
    std::string name;
    Tensor<T>* value = nullptr;
    Tensor<T>* gradient = nullptr;
  };

  /// Throws ShapeError unless the change fits a parameter of this shape. Returns the number of added indices.
  static std::int64_t check(const std::string& name, const Shape& shape, const AxisEdit<T>& change) {
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

  /// Numbers that add up, each times γ to its power: as all edits are linear, they go through them one by one.
  using Parts = std::map<double, Tensor<T>>;

  /// `target` as the edits so far leave it at amplitude 0.
  [[nodiscard]] const Tensor<T>& current(Tensor<T>& target) const {
    const auto found = parts_.find(&target);
    return found == parts_.end() ? target : found->second.at(0.0);
  }

  Parts& parts(Context& ctx, Tensor<T>& target) {
    Parts& result = parts_[&target];
    if (result.empty()) result.emplace(0.0, clone(ctx, target));
    return result;
  }

  /// The part of `target` that goes with this power of γ, at first 0.
  Tensor<T>& part(Context& ctx, Tensor<T>& target, double power) {
    Parts& all = parts(ctx, target);
    const auto found = all.find(power);
    if (found != all.end()) return found->second;
    return all.emplace(power, zeros<T>(ctx, all.at(0.0).shape())).first->second;
  }

  void resize(Context& ctx, Tensor<T>& target, const AxisEdit<T>& change, View<const T> fresh) {
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

  bool swapped_ = false;
  std::map<Tensor<T>*, Parts> parts_;
  std::map<Tensor<T>*, Tensor<T>> staged_;
  std::map<optim::FirstSteps*, optim::FirstSteps> first_steps_;
};

/// Carries out an edit for good, in the network and in the optimiser's state. Throws as StagedEdit, and ArgumentError
/// for numbers that are not finite; nothing has changed then.
template <Real T>
void apply(Context& ctx, const Edit<T>& edit, nn::Layer<T>& network, optim::Optimizer<T>* optimizer = nullptr) {
  StagedEdit<T> staged(ctx, edit, network, optimizer);
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
  for (const ValueEdit<T>& change : edit.values) require_finite(change.parameter, change.delta, change.power);
  for (const AxisEdit<T>& change : edit.axes) require_finite(change.parameter, change.fresh, change.power);
  staged.swap();
}

}  // namespace meristem::grow
