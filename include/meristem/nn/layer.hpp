// What every layer offers: forward, backward, and what it says of itself. Activations live outside the layer, in the
// Trace that forward returns and backward takes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/nn/description.hpp>
#include <meristem/nn/parameter.hpp>

// A template of layers as a template parameter. clang 14 crashes at one with a constraint in a member of a class
// template; it takes constrained arguments without.
#if defined(__clang__) && __clang_major__ < 16
#define MERISTEM_LAYER_TEMPLATE \
  template <class>              \
  class
#else
#define MERISTEM_LAYER_TEMPLATE \
  template <Real>               \
  class
#endif

namespace meristem::nn {

/// Layers such as dropout and batch normalisation behave differently in training and in evaluation.
enum class Mode { training, evaluation };

/// What backward does with the gradients of parameters.
enum class GradientMode { ignore, overwrite, accumulate };

/// What forward leaves for backward.
template <Real T>
struct Trace {
  View<const T> output;             ///< the layer's output; it may alias the layer's input
  Tensor<T> storage;                ///< owns `output` unless that aliases something else
  std::vector<Trace<T>> children;   ///< of layers inside, in the order they ran
  std::vector<Tensor<T>> saved;     ///< whatever else backward needs
  std::uint64_t random_stream = 0;  ///< of a layer that drew random numbers
  /// The layer that left it, wherever that is moved; set by Layer::forward of passes that keep a trace.
  std::shared_ptr<Layer<T>*> source = nullptr;

  /// Lets go of everything but the output and the tensor that owns it.
  void keep_output();

 private:
  /// Takes out the tensor in whose memory the output lies; none for an output that aliases the input.
  [[nodiscard]] Tensor<T> owner();
};

template <Real T>
class LayerHandle;

/// Receives what flows through a network: the input of each layer that runs, the network's own included, and in
/// backward its input once more with the gradient of the mean loss at its output, before the layer's own backward runs.
/// Views are valid during the call; inputs stay valid as long as the trace, in passes that keep one.
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
  /// No backward will follow: the trace holds the output alone, and activations are freed when the layer or container
  /// that reads them has run.
  bool forward_only = false;
};

/// A differentiable function with parameters. It may be moved; a LayerHandle finds it again.
///
/// A layer of one's own defines `kind`, `output_shape`, `do_forward` and `do_backward`, and describes what it computes,
/// its parameters, buffers and layers inside (`describe`): whatever it does not tell there does not exist for
/// optimisers, growth and files.
template <Real T>
class Layer {
 public:
  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  Layer(Layer&& other) noexcept;
  Layer& operator=(Layer&& other) noexcept;
  virtual ~Layer() {
    if (place_) *place_ = nullptr;
  }

  /// Name of the type, such as `Linear`.
  [[nodiscard]] virtual std::string_view kind() const = 0;

  /// Path name within the network, such as `layer2`; empty for the network itself.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Renames the layer, its parameters and buffers and the layers inside: their names become its path, a dot, and what
  /// they were called when they were made or described. Throws ArgumentError if two would have one name.
  void set_name(const std::string& name);

  /// How messages call the layer: `layer2 (Linear)`.
  [[nodiscard]] std::string label() const;

  /// Shape of the output for an input of this shape, the batch first. Throws ShapeError that names the layer.
  [[nodiscard]] virtual Shape output_shape(const Shape& input) const = 0;

  /// Multiply-adds of one forward pass for one sample (`input` without the batch axis counts as batch 1).
  [[nodiscard]] virtual std::int64_t multiply_adds(const Shape& input) const;

  /// Computes the output, and shows its input to the taps of the pass first. Throws ShapeError for an input that does
  /// not fit.
  [[nodiscard]] Trace<T> forward(Context& ctx, View<const T> input, const Pass<T>& pass) {
    return run_forward(ctx, input, pass, [&] { return do_forward(ctx, input, pass); });
  }

  /// Gradients of parameters as `pass.gradients` says, and the gradient at the input if `pass.input_gradient`
  /// (otherwise an empty tensor). `input` and `trace` are those of the forward call; `output_gradient` has the shape of
  /// the output and is consumed; taps are shown it first. With a `sum`, of the input's shape, which is consumed, that
  /// and the gradient at the input are added up. Throws ArgumentError for a trace that forward did not leave and for a
  /// pass that keeps none, ShapeError for a gradient of another shape.
  [[nodiscard]] Tensor<T> backward(Context& ctx, View<const T> input, const Trace<T>& trace, Tensor<T> output_gradient,
                                   const Pass<T>& pass, Tensor<T> sum = {});

  /// What the layer says of itself; the layers inside have their paths then.
  [[nodiscard]] Description<T> description(bool with_fields = false);

  /// Calls `visit` for every parameter, its own and then those of the layers inside, in the order of the descriptions.
  void visit_parameters(const std::function<void(Parameter<T>&)>& visit);

  /// Calls `visit` for every tensor that is saved but not learned, in the same order.
  void visit_buffers(const std::function<void(Buffer<T>&)>& visit);

  /// The layers directly inside this one.
  [[nodiscard]] std::vector<Layer<T>*> children();

 protected:
  /// Tells what the layer computes, its parameters, buffers, layers inside and fields.
  virtual void describe(Description<T>& description) { (void)description; }

  /// The output and what backward needs, for an input that fits. Layers inside run by their `forward`, with a pass that
  /// has these taps; their traces are kept as children.
  [[nodiscard]] virtual Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) = 0;

  /// As `backward`, for a trace that `do_forward` left. It may write into the gradient that it is given.
  [[nodiscard]] virtual Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                              Tensor<T> output_gradient, const Pass<T>& pass) = 0;

  /// The same, for a pass that wants the gradient at the input, plus `sum`. For layers that can add where they compute
  /// it; the others do so in a pass of its own.
  [[nodiscard]] virtual Tensor<T> do_backward_onto(Context& ctx, View<const T> input, const Trace<T>& trace,
                                                   Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T> sum);

  /// What `forward` does around `run()`; for layers with more than one way to run.
  template <class Run>
  [[nodiscard]] Trace<T> run_forward(Context& ctx, View<const T> input, const Pass<T>& pass, Run&& run) {
    if (!named_) rename(name_);
    const Shape shape = output_shape(input.shape());
    if (pass.taps) pass.taps->on_forward(ctx, *this, input);
    Trace<T> trace = run();
    if (trace.output.shape() != shape) {
      throw ShapeError(concat(label(), ": its do_forward gave shape ", trace.output.shape(), ", its output_shape says ",
                              shape, " for an input of shape ", input.shape(), "; make them agree"));
    }
    if (pass.forward_only) {
      trace.keep_output();
    } else {
      trace.source = place();
    }
    return trace;
  }

  /// What `backward` does around `run()`.
  template <class Run>
  [[nodiscard]] Tensor<T> run_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                       const Tensor<T>& output_gradient, const Pass<T>& pass, Run&& run) {
    if (pass.forward_only) {
      throw ArgumentError(concat(label(),
                                 ": backward of a pass that is forward_only, which keeps nothing to go back by; "
                                 "give a pass that is not, to forward too"));
    }
    require_trace(trace.source && *trace.source == this && trace.output.shape() == output_shape(input.shape()));
    if (output_gradient.shape() != trace.output.shape()) {
      throw ShapeError(concat(label(), ": backward got a gradient of shape ", output_gradient.shape(),
                              " for an output of shape ", trace.output.shape(), "; give the gradient at the output"));
    }
    if (pass.taps) pass.taps->on_backward(ctx, *this, input, output_gradient);
    return run();
  }

  /// Throws ArgumentError unless a trace is the one that forward left.
  void require_trace(bool fits) const;

  /// Path name of a layer inside.
  [[nodiscard]] std::string path_of(const std::string& child) const {
    return name_.empty() || child.empty() ? name_ + child : name_ + "." + child;
  }

 private:
  friend class LayerHandle<T>;

  void rename(const std::string& name);

  /// Whether its name is `path`, a dot, and `own`.
  [[nodiscard]] bool is_called(std::string_view path, std::string_view own) const noexcept;

  [[nodiscard]] const std::shared_ptr<Layer*>& place();

  std::string name_;
  bool named_ = false;             // whether its parameters and the layers inside have their paths
  std::shared_ptr<Layer*> place_;  // where handles look; null without any
};

/// Refers to a layer wherever it is moved to.
template <Real T>
class LayerHandle {
 public:
  explicit LayerHandle(Layer<T>& layer) : place_(layer.place()) {}

  /// The layer, or null if it was destroyed or another one was moved into its place.
  [[nodiscard]] Layer<T>* get() const noexcept { return *place_; }
  /// Throws ArgumentError if it is gone.
  [[nodiscard]] Layer<T>& operator*() const;
  [[nodiscard]] Layer<T>* operator->() const { return &**this; }

 private:
  std::shared_ptr<Layer<T>*> place_;
};

template <Real T>
using LayerPtr = std::unique_ptr<Layer<T>>;

/// All parameters of a network, in a fixed order. The pointers stay valid as long as the network, also across growth.
template <Real T>
[[nodiscard]] std::vector<Parameter<T>*> parameters(Layer<T>& layer);

/// Whether `part` is `network` or inside it, at any depth.
template <Real T>
[[nodiscard]] bool contains(Layer<T>& network, const Layer<T>& part);

/// Whether there is anything to learn in a layer.
template <Real T>
[[nodiscard]] bool has_parameters(Layer<T>& layer);

/// Number of learned scalars.
template <Real T>
[[nodiscard]] std::int64_t parameter_count(Layer<T>& layer);

/// The output of a network in evaluation mode; no activation is kept longer than it is read (Pass::forward_only).
/// `storage` of the result owns the output, unless that aliases the input.
template <Real T>
[[nodiscard]] Trace<T> infer(Context& ctx, Layer<T>& network, View<const std::type_identity_t<T>> input) {
  return network.forward(ctx, input, {.mode = Mode::evaluation, .forward_only = true});
}

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/layer_impl.hpp>
#endif
