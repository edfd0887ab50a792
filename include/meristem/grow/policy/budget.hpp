// What units cost, and how much a network may cost.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

/// The network never exceeds any of these.
struct Budget {
  std::int64_t parameters = std::numeric_limits<std::int64_t>::max();
  /// Multiply-adds of one forward pass of one sample, as Layer::multiply_adds counts them (half the FLOPs).
  std::int64_t multiply_adds = std::numeric_limits<std::int64_t>::max();
  /// Whether it is an error if not even one unit fits at the start. A network that was grown before may have used up
  /// the budget: give false for it.
  bool must_leave_room = true;

  [[nodiscard]] bool limits_multiply_adds() const noexcept {
    return multiply_adds != std::numeric_limits<std::int64_t>::max();
  }
};

/// What one more unit adds.
struct UnitCost {
  std::int64_t parameters = 0;
  std::int64_t multiply_adds = 0;  ///< of one forward pass of one sample
};

/// Shapes of what enters each layer, noted while a batch flows through the network as the taps of a pass.
template <Real T>
class InputShapes final : public nn::Taps<T> {
 public:
  void on_forward(Context&, const nn::Layer<T>& layer, View<const T> input) override {
    shapes_[&layer] = input.shape();
  }
  void on_backward(Context&, const nn::Layer<T>&, View<const T>, View<const T>) override {}

  /// Throws ArgumentError for a layer that no batch has reached.
  [[nodiscard]] const Shape& of(const nn::Layer<T>& layer) const {
    const auto found = shapes_.find(&layer);
    if (found == shapes_.end()) {
      throw ArgumentError(concat("growth: no batch has reached ", layer.label(),
                                 "; the container around it describes it as a layer inside, but does not run it"));
    }
    return found->second;
  }

 private:
  std::map<const nn::Layer<T>*, Shape> shapes_;
};

/// Throws ArgumentError if the smallest unit, which adds `least`, does not fit. `what` is the budget's name.
inline void require_room(const char* what, std::int64_t budget, std::int64_t used, std::int64_t least) {
  if (budget - used >= least) return;
  throw ArgumentError(concat("Grower: budget.", what, " is ", budget, " and forbids any growth: the network has ", used,
                             " already, and the smallest unit adds ", least,
                             "; raise the budget, or set must_leave_room to false if growth may be over"));
}

/// The least that a unit of the site costs in parameters, before any input's shape is known: exact but for a Flatten
/// behind a layer without units.
template <Real T>
[[nodiscard]] std::int64_t least_unit_parameters(const Site<T>& site) {
  if (site.flattened) {
    return site.parameters_per_unit(site.width() > 0 ? site.consumer.in_features() / site.width() : 1);
  }
  return site.parameters_per_unit(site.consumer.window().kernel.size());
}

/// What one more unit of the site costs.
template <Real T>
[[nodiscard]] UnitCost unit_cost(const Site<T>& site, const InputShapes<T>& shapes) {
  // Inputs may have grown since they were seen.
  const auto input_of = [&](const Affine<T>& layer) {
    const Shape& seen = shapes.of(*layer.layer());
    return seen.with(seen.rank() - 1, layer.in_features());
  };
  const Shape unit_input = input_of(site.producer);
  const std::int64_t taps = site.spatial() ? site.shape(unit_input).consumer_window().kernel.size() : 1;
  // Places at which a layer computes each of its outputs for one sample; its own width may be 0.
  const auto places = [&](const Affine<T>& layer) {
    const Shape output = layer.layer()->output_shape(input_of(layer));
    std::int64_t count = 1;
    for (int axis = 1; axis + 1 < output.rank(); ++axis) count *= output[axis];
    return count;
  };
  const std::int64_t hidden = places(site.producer);
  std::int64_t work = hidden * site.producer.window().kernel.size() * site.producer.in_features() +
                      places(site.consumer) * taps * site.fan_out();
  if (site.norm) work += hidden;
  return {.parameters = site.parameters_per_unit(taps), .multiply_adds = work};
}

}  // namespace meristem::grow
