// Units that are not in the network yet, run on what their producer reads: the way from there to the consumer and back.
#pragma once

#include <cstddef>
#include <cstdint>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

namespace detail {

/// The units of an insertion in the place where they would stand, to first order at amplitude 0: activations are their
/// slope there, a ReLU stays one, and a BatchNorm lets everything pass.
template <Real T>
class UnitPath {
 public:
  /// The way to one reader. Throws ShapeError for units that do not fit the site.
  UnitPath(Context& ctx, const Site<T>& site, const Insertion& insertion, std::size_t reader = 0);

  [[nodiscard]] const Site<T>& site() const noexcept { return site_; }
  [[nodiscard]] std::int64_t units() const noexcept { return units_; }
  /// Weights by which an output reads a unit.
  [[nodiscard]] std::int64_t taps() const noexcept { return taps_; }
  /// True if what the units do depends on their sign.
  [[nodiscard]] bool one_sided() const { return site_.activation == nn::Activation::relu || site_.pools_maximum(); }

  /// α ∗ [b 1], the batch's shape with the units as channels.
  [[nodiscard]] Tensor<T> pre_activation(Context& ctx, View<const T> input) const;

  /// ωᵀ v at every place from which the consumer reads a unit.
  [[nodiscard]] Tensor<T> backward_fan_out(Context& ctx, View<const T> goal, const Shape& hidden) const;

  [[nodiscard]] Tensor<T> pooled(Context& ctx, Tensor<T> maps) const;
  [[nodiscard]] Tensor<T> pooled(Context& ctx, Tensor<T> maps, nn::Layer<T>& by) const;

  /// Activation and pooling of sign · h, as far as they are not linear at 0.
  [[nodiscard]] Tensor<T> through(Context& ctx, const Tensor<T>& h, T sign) const;

  /// The gradient at h of ⟨through(h, 1), z⟩.
  [[nodiscard]] Tensor<T> backward_through(Context& ctx, const Tensor<T>& h, const Tensor<T>& z) const;

  /// The units' contribution at the consumer's output as the statistics see it, (n, ..., q): without activation, and
  /// with means for maxima. Turning a unit's sign changes nothing.
  [[nodiscard]] Tensor<T> contribution(Context& ctx, const Tensor<T>& h) const;

 private:
  void activate(Context& ctx, Tensor<T>& u) const;

  void activate_backward(Context& ctx, const Tensor<T>& before, Tensor<T>& gradient) const;

  [[nodiscard]] Tensor<T> unpooled(Context& ctx, const Tensor<T>& maps, Tensor<T> gradient) const;
  [[nodiscard]] Tensor<T> unpooled(Context& ctx, const Tensor<T>& maps, Tensor<T> gradient, nn::Layer<T>& by) const;

  /// Pooling as the statistics take it, which turning a unit's sign turns along.
  [[nodiscard]] Tensor<T> averaged(Context& ctx, const Tensor<T>& maps) const;

  Site<T> site_;
  std::int64_t units_, taps_;
  Tensor<T> fan_in_, bias_, fan_out_;
};

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/unit_path_impl.hpp>
#endif
