// Layers one after the other.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// Runs its layers in order. Layers are named when added; the names of a network's parameters are the path to them.
template <Real T>
class Sequential final : public Layer<T> {
 public:
  using value_type = T;

  [[nodiscard]] std::string_view kind() const override { return "Sequential"; }

  /// Appends a layer under a name that is unique among its siblings. Returns the layer. Throws ArgumentError for a
  /// name that is empty, taken or has a dot in it, and for a layer with two parameters of one name.
  template <class L, class... Args>
  L& add(std::string name, Args&&... args) {
    check_name(name);
    auto layer = std::make_unique<L>(std::forward<Args>(args)...);
    L& result = *layer;
    append(std::move(name), std::move(layer));
    return result;
  }
  /// The same for a template of layers, which gets this network's type of numbers: `net.add<nn::Linear>("fc", ctx, 8,
  /// 4)`.
  template <MERISTEM_LAYER_TEMPLATE L, class... Args>
  L<T>& add(std::string name, Args&&... args) {
    return add<L<T>>(std::move(name), std::forward<Args>(args)...);
  }

  /// Appends a layer made elsewhere, under the same rules.
  Layer<T>& append(std::string name, LayerPtr<T> layer) {
    check_name(name);
    if (!layer) throw ArgumentError(concat(this->label(), ": the layer '", name, "' is a null pointer"));
    Layer<T>& result = *layer;
    result.set_name(this->path_of(name));
    layers_.push_back({std::move(name), std::move(layer)});
    return result;
  }

  /// Keeps a name for something else than a layer: `what` completes "'name' is".
  void reserve_name(std::string name, std::string what) {
    reserved_ = std::move(name);
    reserved_for_ = std::move(what);
  }

  [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }
  /// Throws ArgumentError if there is no such layer.
  [[nodiscard]] Layer<T>& operator[](std::size_t index) {
    if (index >= layers_.size()) {
      throw ArgumentError(concat(this->label(), ": there is no layer ", index, " among ", layers_.size()));
    }
    return *layers_[index].layer;
  }

  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    Shape shape = input;
    for (const Child& child : layers_) shape = child.layer->output_shape(shape);
    return shape;
  }

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override {
    std::int64_t total = 0;
    Shape shape = input;
    for (const Child& child : layers_) {
      total += child.layer->multiply_adds(shape);
      shape = child.layer->output_shape(shape);
    }
    return total;
  }

  /// `forward` of the first `count` layers alone, for a container that runs the others in its own way.
  [[nodiscard]] Trace<T> forward_first(std::size_t count, Context& ctx, View<const T> input, const Pass<T>& pass) {
    Trace<T> trace;
    trace.output = input;
    if (!pass.forward_only) trace.children.reserve(layers_.size());
    for (std::size_t i = 0; i < count; ++i) {
      Trace<T> child = (*this)[i].forward(ctx, trace.output, pass);
      trace.output = child.output;
      if (!pass.forward_only) {
        trace.children.push_back(std::move(child));
      } else if (!child.storage.empty()) {
        trace.storage = std::move(child.storage);  // frees what this layer read
      }
    }
    return trace;
  }

  /// `backward` of the first `count` layers alone; `output_gradient` is that at the output of the last of them. The
  /// trace may have more of them.
  [[nodiscard]] Tensor<T> backward_first(std::size_t count, Context& ctx, View<const T> input, const Trace<T>& trace,
                                         Tensor<T> output_gradient, const Pass<T>& pass) {
    this->require_trace(trace.children.size() >= count);
    Tensor<T> gradient = std::move(output_gradient);
    const std::size_t first = pass.input_gradient ? 0 : first_with_work();
    for (std::size_t i = count; i-- > first;) {
      const View<const T> layer_input = i == 0 ? input : trace.children[i - 1].output;
      Pass<T> inner = pass;
      inner.input_gradient = pass.input_gradient || i > first;
      gradient = (*this)[i].backward(ctx, layer_input, trace.children[i], std::move(gradient), inner);
    }
    if (!pass.input_gradient) return {};
    return gradient;
  }

  /// The first layer that has parameters, or size(): the layers before it need no backward unless the input gradient is
  /// wanted.
  [[nodiscard]] std::size_t first_with_work() const {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      if (has_parameters(*layers_[i].layer)) return i;
    }
    return layers_.size();
  }

 protected:
  void describe(Description<T>& description) override {
    description.sequence();
    for (Child& child : layers_) description.child(child.name, *child.layer);
    description.layers_field("layers", *this);
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override {
    return forward_first(layers_.size(), ctx, input, pass);
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override {
    return backward_first(layers_.size(), ctx, input, trace, std::move(output_gradient), pass);
  }

 private:
  struct Child {
    std::string name;
    LayerPtr<T> layer;
  };

  void check_name(const std::string& name) const {
    if (name.empty() || name.find('.') != std::string::npos) {
      throw ArgumentError(concat(this->label(), ": '", name, "' is no name for a layer; use letters, digits and _"));
    }
    if (name == reserved_) {
      throw ArgumentError(concat(this->label(), ": '", name, "' is ", reserved_for_, "; choose another"));
    }
    bool taken = false;
    for (const Child& child : layers_) taken = taken || child.name == name;
    if (taken) {
      throw ArgumentError(concat(this->label(), ": there is a layer named '", name, "' already; choose another name"));
    }
  }

  std::vector<Child> layers_;
  std::string reserved_, reserved_for_;
};

}  // namespace meristem::nn
