// Residual block: y = act(body(x) + shortcut(x)).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <meristem/core/window.hpp>
#include <meristem/kernels/activation.cuh>
#include <meristem/kernels/elementwise.cuh>
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
  explicit Residual(const Options& options = {}) : activation_(options.activation) {
    if (activation_ != Activation::relu && activation_ != Activation::identity) {
      throw ArgumentError(concat("Residual: the activation of the sum is ", activation_, "; choose relu or identity"));
    }
    shortcut_.set_name("shortcut");
    body_.reserve_name("shortcut", "the name of the other branch");
  }

  [[nodiscard]] std::string_view kind() const override { return "Residual"; }
  [[nodiscard]] Activation activation() const noexcept { return activation_; }

  /// Appends a layer to the body, as Sequential::add does. Throws ArgumentError also for the name `shortcut`.
  template <class L, class... Args>
  L& add(std::string name, Args&&... args) {
    if (name == "shortcut") {
      throw ArgumentError(concat(this->label(), ": 'shortcut' is the name of the other branch; choose another"));
    }
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
  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    const Shape body = body_.output_shape(input), shortcut = shortcut_.output_shape(input);
    if (body != shortcut) {
      throw ShapeError(
          concat(this->label(), ": the body gives ", body, ", the shortcut ", shortcut, "; ", remedy(input, body)));
    }
    return body;
  }

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override {
    return body_.multiply_adds(input) + shortcut_.multiply_adds(input);
  }

 protected:
  void describe(Description<T>& description) override {
    description.sum(activation_);
    description.adding = adding_norm();
    description.child("", body_);
    description.child("shortcut", shortcut_);
    description.field("activation", kernels::activation_name(activation_));
    description.layers_field("body", body_);
    description.layers_field("shortcut", shortcut_);
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override {
    const std::size_t count = body_.size();
    BatchNorm<T>* const norm = adding_norm();
    Trace<T> body = body_.forward_first(count > 0 ? count - 1 : 0, ctx, input, pass);
    Trace<T> shortcut = shortcut_.forward_first(shortcut_.size(), ctx, input, pass);
    Trace<T> trace;
    if (norm != nullptr) {
      body.children.push_back(norm->forward_added(ctx, body.output, shortcut.output, pass));
      body.output = body.children.back().output;
      trace.output = body.output;
      if (norm->activation() != activation_) {
        const View<T> sum = body.children.back().storage.view();
        kernels::activation_forward<T>(ctx, activation_, sum, sum);
      }
    } else {
      if (count > 0) {
        body.children.push_back(body_[count - 1].forward(ctx, body.output, pass));
        body.output = body.children.back().output;
      }
      trace.storage = Tensor<T>(ctx, body.output.shape());
      const View<T> sum = trace.storage.view();
      kernels::combine<T>(ctx, T(1), body.output, T(1), shortcut.output, sum);
      if (activation_ != Activation::identity) kernels::activation_forward<T>(ctx, activation_, sum, sum);
      trace.output = sum;
    }
    trace.children.push_back(std::move(body));
    trace.children.push_back(std::move(shortcut));
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override {
    const Trace<T>& body = trace.children[0];
    const std::size_t count = body_.size();
    this->require_trace(body.children.size() == count);
    BatchNorm<T>* const norm = adding_norm();
    Tensor<T> sum_gradient = std::move(output_gradient);
    if (activation_ != Activation::identity && (norm == nullptr || norm->activation() != activation_)) {
      // relu's slope can be told from its output.
      kernels::activation_backward<T>(ctx, activation_, trace.output, sum_gradient, sum_gradient);
    }
    // Gradients at the output of the last layer of each branch that is still to run.
    Tensor<T> body_gradient, shortcut_gradient;
    std::size_t left = count;
    if (norm != nullptr) {
      left = count - 1;
      const View<const T> norm_input = left == 0 ? input : body.children[left - 1].output;
      Pass<T> inner = pass;
      inner.input_gradient = pass.input_gradient || body_.first_with_work() < left;
      body_gradient =
          norm->backward_added(ctx, norm_input, body.children[left], std::move(sum_gradient), inner, shortcut_gradient);
    } else {
      body_gradient = clone(ctx, sum_gradient);
      shortcut_gradient = std::move(sum_gradient);
    }
    shortcut_gradient =
        shortcut_.backward_first(shortcut_.size(), ctx, input, trace.children[1], std::move(shortcut_gradient), pass);
    body_gradient = body_.backward_first(left, ctx, input, body, std::move(body_gradient), pass);
    if (!pass.input_gradient) return {};
    kernels::axpy<T>(ctx, T(1), shortcut_gradient, body_gradient.view());
    return body_gradient;
  }

 private:
  /// The BatchNorm at the end of the body, if it is to do the addition.
  [[nodiscard]] BatchNorm<T>* adding_norm() {
    if (body_.size() == 0) return nullptr;
    BatchNorm<T>* const norm = body_[body_.size() - 1].description().batch_norm;
    const bool adds = norm && (norm->activation() == Activation::identity || norm->activation() == activation_);
    return adds ? norm : nullptr;
  }

  /// What a shortcut needs to turn `input` into the shape `body`.
  [[nodiscard]] static std::string remedy(const Shape& input, const Shape& body) {
    if (input.rank() == 4 && body.rank() == 4 && body[1] > 0 && body[2] > 0) {
      const Extent2 stride((input[1] + body[1] - 1) / body[1], (input[2] + body[2] - 1) / body[2]);
      return concat("give the shortcut a 1x1 convolution with ", body[3], " output channels and stride ", stride,
                    ", or make the shapes equal");
    }
    return "make the shapes equal, or give the shortcut a layer that changes its shape";
  }

  Activation activation_;
  Sequential<T> body_;
  Sequential<T> shortcut_;
};

}  // namespace meristem::nn
