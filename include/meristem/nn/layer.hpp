// What every layer offers: parameters, forward, backward, taps and growable axes. Activations live outside the layer,
// in the Trace that forward returns and backward takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/nn/parameter.hpp>

namespace meristem::inline MERISTEM_BACKEND::nn {

/// Layers such as dropout and batch normalisation behave differently in training and in evaluation.
enum class Mode { training, evaluation };

/// What backward does with the gradients of parameters.
enum class GradientMode { ignore, overwrite, accumulate };

/// What forward leaves for backward.
template <Real T>
struct Trace {
  View<const T> output;             ///< the layer's output; it may alias the layer's input
  Tensor<T> storage;                ///< owns `output` unless that aliases something else
  std::vector<Trace<T>> children;   ///< of a container, in the order they ran
  std::vector<Tensor<T>> saved;     ///< whatever else backward needs
  std::uint64_t random_stream = 0;  ///< of a layer that drew random numbers
};

template <Real T>
class Layer;
template <Real T>
class LayerHandle;

/// Receives what flows through a network: each layer's input in forward, and in backward its input once more with the
/// gradient of the mean loss at its output, before the layer's own backward runs. Views are valid during the call;
/// inputs stay valid as long as the trace.
template <Real T>
class Taps {
 public:
  virtual ~Taps() = default;
  virtual void on_forward(Context& ctx, const Layer<T>& layer, View<const T> input) = 0;
  virtual void on_backward(Context& ctx, const Layer<T>& layer, View<const T> input, View<const T> output_gradient) = 0;
};

/// How to run forward and backward.
template <Real T>
struct Pass {
  Mode mode = Mode::training;
  GradientMode gradients = GradientMode::overwrite;
  bool input_gradient = false;  ///< whether backward must return the gradient at the input
  /// Runs a network to learn about it, not to train it: in training mode batch normalisation uses the statistics of the
  /// batch, but leaves the running ones alone, and dropout lets everything pass.
  bool measuring = false;
  Taps<T>* taps = nullptr;
};

/// A differentiable function with parameters. It may be moved; a LayerHandle finds it again.
template <Real T>
class Layer {
 public:
  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  Layer(Layer&& other) noexcept : name_(std::move(other.name_)), place_(std::move(other.place_)) {
    if (place_) *place_ = this;
  }
  Layer& operator=(Layer&& other) noexcept {
    if (this == &other) return *this;
    if (place_) *place_ = nullptr;
    name_ = std::move(other.name_);
    place_ = std::move(other.place_);
    if (place_) *place_ = this;
    return *this;
  }
  virtual ~Layer() {
    if (place_) *place_ = nullptr;
  }

  /// Name of the type, such as `Linear`.
  [[nodiscard]] virtual std::string_view kind() const = 0;

  /// Path name within the network, such as `layer2`; empty for the network itself.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Renames the layer and its parameters and buffers: their names become its path, a dot, and what they were called
  /// when they were made. A layer with layers inside names those itself.
  virtual void set_name(const std::string& name) {
    const std::string old = std::exchange(name_, name);
    if (!children().empty()) return;
    const auto rename = [&](auto& tensor) {
      const std::string own =
          !old.empty() && tensor.name.starts_with(old + ".") ? tensor.name.substr(old.size() + 1) : tensor.name;
      tensor.name = name.empty() ? own : concat(name, ".", own);
    };
    visit_parameters(rename);
    visit_buffers(rename);
  }

  /// How messages call the layer: `layer2 (Linear)`.
  [[nodiscard]] std::string label() const {
    return name_.empty() ? std::string(kind()) : concat(name_, " (", kind(), ")");
  }

  /// Shape of the output for an input of this shape, the batch first. Throws ShapeError that names the layer.
  [[nodiscard]] virtual Shape output_shape(const Shape& input) const = 0;

  /// Multiply-adds of one forward pass for one sample (`input` without the batch axis counts as batch 1).
  [[nodiscard]] virtual std::int64_t multiply_adds(const Shape& input) const {
    (void)input;
    return 0;
  }

  /// Computes the output. Throws ShapeError for an input that does not fit.
  [[nodiscard]] virtual Trace<T> forward(Context& ctx, View<const T> input, const Pass<T>& pass) = 0;

  /// Gradients of parameters as `pass.gradients` says, and the gradient at the input if `pass.input_gradient`
  /// (otherwise an empty tensor). `input` and `trace` are those of the forward call; `output_gradient` has the shape of
  /// the output and is consumed. Throws ArgumentError for a trace that forward cannot have left.
  [[nodiscard]] virtual Tensor<T> backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                           Tensor<T> output_gradient, const Pass<T>& pass) = 0;

  /// Calls `visit` for every parameter, in a fixed order.
  virtual void visit_parameters(const std::function<void(Parameter<T>&)>& visit) { (void)visit; }

  /// Calls `visit` for every tensor that is saved but not learned, in a fixed order.
  virtual void visit_buffers(const std::function<void(Buffer<T>&)>& visit) { (void)visit; }

  /// The layers directly inside this one, in the order they run.
  [[nodiscard]] virtual std::vector<Layer<T>*> children() { return {}; }

  /// For a layer that applies one function σ to every element, with σ(0) = 0 and a derivative there: σ'(0). Growth then
  /// takes the layer for the activation between two layers; a layer that returns nothing is one that it cannot grow
  /// through. (It knows the library's own layers by their types.)
  [[nodiscard]] virtual std::optional<double> slope_at_zero() const { return std::nullopt; }

  /// The axes of parameters that output features index; they grow together.
  [[nodiscard]] virtual std::vector<ParameterAxis<T>> output_axes() { return {}; }
  /// The axes of parameters that input features index; they grow together.
  [[nodiscard]] virtual std::vector<ParameterAxis<T>> input_axes() { return {}; }

 protected:
  /// For backward: throws ArgumentError unless a trace has as many children and saved tensors as forward leaves.
  void require_trace(const Trace<T>& trace, std::size_t children, std::size_t saved) const {
    if (trace.children.size() == children && trace.saved.size() == saved) return;
    throw ArgumentError(concat(label(),
                               ": backward got a trace that its forward did not leave; give it the one that "
                               "forward returned for the same input"));
  }

 private:
  friend class LayerHandle<T>;
  std::string name_;
  std::shared_ptr<Layer*> place_;  // where handles look; null without any
};

/// Refers to a layer wherever it is moved to.
template <Real T>
class LayerHandle {
 public:
  explicit LayerHandle(Layer<T>& layer) {
    if (!layer.place_) layer.place_ = std::make_shared<Layer<T>*>(&layer);
    place_ = layer.place_;
  }

  /// The layer, or null if it was destroyed or another one was moved into its place.
  [[nodiscard]] Layer<T>* get() const noexcept { return *place_; }
  /// Throws ArgumentError if it is gone.
  [[nodiscard]] Layer<T>& operator*() const {
    if (*place_ == nullptr) {
      throw ArgumentError(
          "the network is gone that an optimiser or a Grower was made for; make another for the new one");
    }
    return **place_;
  }
  [[nodiscard]] Layer<T>* operator->() const { return &**this; }

 private:
  std::shared_ptr<Layer<T>*> place_;
};

template <Real T>
using LayerPtr = std::unique_ptr<Layer<T>>;

/// All parameters of a network, in a fixed order. The pointers stay valid as long as the network, also across growth.
template <Real T>
[[nodiscard]] std::vector<Parameter<T>*> parameters(Layer<T>& layer) {
  std::vector<Parameter<T>*> result;
  layer.visit_parameters([&](Parameter<T>& parameter) { result.push_back(&parameter); });
  return result;
}

/// Whether `part` is `network` or inside it, at any depth.
template <Real T>
[[nodiscard]] bool contains(Layer<T>& network, const Layer<T>& part) {
  if (&network == &part) return true;
  for (Layer<T>* child : network.children()) {
    if (contains(*child, part)) return true;
  }
  return false;
}

/// Number of learned scalars.
template <Real T>
[[nodiscard]] std::int64_t parameter_count(Layer<T>& layer) {
  std::int64_t count = 0;
  layer.visit_parameters([&](Parameter<T>& parameter) { count += parameter.value.size(); });
  return count;
}

}  // namespace meristem::inline MERISTEM_BACKEND::nn
