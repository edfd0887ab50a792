// Residual block: y = act(body(x) + shortcut(x)).
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <meristem/core/window.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::nn {

struct ResidualOptions {
  Activation activation = Activation::relu;  ///< of the sum: relu or identity
};

/// y = act(body(x) + shortcut(x)), both of one shape (K. He et al., "Deep residual learning", 2015). Layers are added
/// to the body; the shortcut is the identity until layers are added to `shortcut()`. Path names are `block.conv1` in
/// the body, `block.shortcut.conv` in the shortcut.
///
/// If the body ends in a BatchNorm without an activation of its own, or with the block's, the norm's pass does the
/// addition too; one that has the block's activation applies it to the sum and not before, so that nothing is left to
/// do: give the last norm the block's activation. A norm with relu in a block without activation acts before the
/// addition.
///
/// Taps see every layer of the body and the shortcut as in a Sequential, but not the two containers. Forward runs the
/// body but its last layer, the shortcut, the last layer; backward the reverse. A last layer that does the addition is
/// shown the gradient at what it computes, the block's output before or after the activation; all others the gradient
/// at their own output.
template <Real T>
class Residual final : public Layer<T> {
 public:
  using value_type = T;
  using Options = ResidualOptions;

  /// Throws ArgumentError for an activation other than relu and identity.
  explicit Residual(const Options& options = {});

  [[nodiscard]] std::string_view kind() const override { return "Residual"; }
  [[nodiscard]] Activation activation() const noexcept { return activation_; }

  /// Appends a layer to the body, as Sequential::add does. Throws ArgumentError also for the name `shortcut`.
  template <class L, class... Args>
  L& add(std::string name, Args&&... args) {
    refuse_shortcut(name);
    return body_.template add<L>(std::move(name), std::forward<Args>(args)...);
  }
  template <MERISTEM_LAYER_TEMPLATE L, class... Args>
  L<T>& add(std::string name, Args&&... args) {
    return add<L<T>>(std::move(name), std::forward<Args>(args)...);
  }

  [[nodiscard]] Sequential<T>& body() noexcept { return body_; }
  /// Without layers it is the identity.
  [[nodiscard]] Sequential<T>& shortcut() noexcept { return shortcut_; }

  /// Throws ShapeError also if body and shortcut differ.
  [[nodiscard]] Shape output_shape(const Shape& input) const override;

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override {
    return body_.multiply_adds(input) + shortcut_.multiply_adds(input);
  }

 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override;

 private:
  /// The BatchNorm at the end of the body, if it is to do the addition.
  [[nodiscard]] BatchNorm<T>* adding_norm();

  /// Throws ArgumentError for the name of the other branch.
  void refuse_shortcut(std::string_view name) const;

  /// What a shortcut needs to turn `input` into the shape `body`.
  [[nodiscard]] static std::string remedy(const Shape& input, const Shape& body);

  Activation activation_;
  Sequential<T> body_;
  Sequential<T> shortcut_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/residual_impl.hpp>
#endif
