// How much a network may cost, and what units cost.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/grow/policy/decider.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

/// A decider: the network never exceeds any of these.
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

  /// Units of a candidate that fit, and which of the two limits them.
  [[nodiscard]] std::pair<std::int64_t, std::string> room(const Candidate& candidate) const;
  /// Lowers the candidate's units to those that fit.
  void limit(Candidate& candidate) const;

  /// Throws ArgumentError for a limit below 1.
  void require_valid() const;
};

namespace detail {

/// Shapes of what enters each layer, noted while a batch flows through the network as the taps of a pass.
template <Real T>
class InputShapes final : public nn::Taps<T> {
 public:
  void on_forward(Context&, const nn::Layer<T>& layer, View<const T> input) override {
    shapes_[&layer] = input.shape();
  }
  void on_backward(Context&, const nn::Layer<T>&, View<const T>, View<const T>) override {}

  /// Throws ArgumentError for a layer that no batch has reached.
  [[nodiscard]] const Shape& of(const nn::Layer<T>& layer) const;

 private:
  std::map<const nn::Layer<T>*, Shape> shapes_;
};

}  // namespace detail

/// Throws ArgumentError if the smallest unit, which adds `least`, does not fit. `what` is the budget's name.
void require_room(const char* what, std::int64_t budget, std::int64_t used, std::int64_t least);

/// The least that a unit of the site costs in parameters, before any input's shape is known: exact but for a Flatten
/// behind a layer without units.
template <Real T>
[[nodiscard]] std::int64_t least_unit_parameters(const Site<T>& site);

/// What one more unit of the site costs.
template <Real T>
[[nodiscard]] Candidate::Cost unit_cost(const Site<T>& site, const detail::InputShapes<T>& shapes);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/budget_impl.hpp>
#endif
