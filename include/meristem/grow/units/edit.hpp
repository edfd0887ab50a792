// A growth edit as a value: which parameters and buffers change along which axes, how old indices map to the ones that
// replace them, and the numbers that are added. Weights, gradients and optimiser state all follow the same edit.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow {

namespace detail {

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

}  // namespace detail

/// Everything one growth step changes. Axis edits apply in order, each to the result of those before it. It is for the
/// network it was made for: ids are of one Context.
template <Real T>
struct Edit {
  std::vector<detail::ValueEdit<T>> values;
  std::vector<detail::AxisEdit<T>> axes;
  double gamma = 1.0;  ///< the amplitude; numbers whose power is 0 do not depend on it
};

/// The map that keeps `old_extent` indices and appends `added`.
[[nodiscard]] std::vector<std::int64_t> appended(std::int64_t old_extent, std::int64_t added);

namespace detail {

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
             Follow follow_up = Follow::all);

  /// Changes the numbers to those of another amplitude, on the device. Throws ArgumentError while they are in the
  /// network.
  void set_amplitude(Context& ctx, double gamma);

  /// Exchanges the network's tensors with the staged ones.
  void swap() noexcept;

 private:
  /// What an id stands for; a buffer has no gradient.
  struct Target {
    std::string name;
    Tensor<T>* value = nullptr;
    Tensor<T>* gradient = nullptr;
  };

  /// Throws ShapeError unless the change fits a parameter of this shape. Returns the number of added indices.
  static std::int64_t check(const std::string& name, const Shape& shape, const AxisEdit<T>& change);

  /// Numbers that add up, each times γ to its power: as all edits are linear, they go through them one by one.
  using Parts = std::map<double, Tensor<T>>;

  /// `target` as the edits so far leave it at amplitude 0.
  [[nodiscard]] const Tensor<T>& current(Tensor<T>& target) const;

  Parts& parts(Context& ctx, Tensor<T>& target);

  /// The part of `target` that goes with this power of γ, at first 0.
  Tensor<T>& part(Context& ctx, Tensor<T>& target, double power);

  void resize(Context& ctx, Tensor<T>& target, const AxisEdit<T>& change, View<const T> fresh);

  bool swapped_ = false;
  std::map<Tensor<T>*, Parts> parts_;
  std::map<Tensor<T>*, Tensor<T>> staged_;
  std::map<optim::FirstSteps*, optim::FirstSteps> first_steps_;
};

}  // namespace detail

/// Carries out an edit for good, in the network and in the optimiser's state. Throws as StagedEdit, and ArgumentError
/// for numbers that are not finite; nothing has changed then.
template <Real T>
void apply(Context& ctx, const Edit<T>& edit, nn::Layer<T>& network, optim::Optimizer<T>* optimizer = nullptr);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/edit_impl.hpp>
#endif
