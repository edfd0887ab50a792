// Export to ONNX, as runtimes elsewhere read it: maps are (n, C, H, W) there, numbers float32, the batch is open.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/io/architecture.hpp>
#include <meristem/io/file.hpp>
#include <meristem/io/format.hpp>
#include <meristem/io/json_text.hpp>
#include <meristem/io/layout.hpp>
#include <meristem/io/model.hpp>
#include <meristem/io/onnx_graph.hpp>
#include <meristem/nn/finite.hpp>

namespace meristem::inline MERISTEM_BACKEND::io {

namespace detail {

/// Writes a network down as a graph, layer by layer, as it computes in evaluation.
template <Real T>
class OnnxWriter {
 public:
  explicit OnnxWriter(Context& ctx) : ctx_(&ctx) {}

  /// The whole graph, for samples of this shape.
  [[nodiscard]] OnnxGraph run(nn::Layer<T>& network, const Shape& sample) {
    Shape input{1};
    for (int i = 0; i < sample.rank(); ++i) input.append(sample[i]);
    if (input.rank() != 2 && input.rank() != 4) {
      throw ArgumentError(
          concat(network.label(), ": ONNX export takes samples of shape (features) or (H, W, channels); got ", sample));
    }
    graph_.input = {"input", outside(input)};
    const Value last = layer(network, {"input", input});
    graph_.output = {"output", outside(last.shape)};
    if (last.name == "input") {
      node("Identity", network, {last.name}, "output");
    } else {
      for (OnnxNode& each : graph_.nodes) {
        if (each.output == last.name) each.output = "output";
        for (std::string& name : each.inputs) {
          if (name == last.name) name = "output";
        }
      }
    }
    return std::move(graph_);
  }

 private:
  /// A value in the graph. The shape is the one here: maps with the channels last.
  struct Value {
    std::string name;
    Shape shape;
  };

  /// Extents there, without the batch.
  [[nodiscard]] static std::vector<std::int64_t> outside(const Shape& shape) {
    if (shape.rank() == 4) return {shape[3], shape[1], shape[2]};
    std::vector<std::int64_t> extents;
    for (int i = 1; i < shape.rank(); ++i) extents.push_back(shape[i]);
    return extents;
  }

  /// A name nobody has; parameters have theirs already.
  [[nodiscard]] std::string unique(const std::string& wanted) {
    std::string name = wanted;
    for (int i = 2; !names_.insert(name).second; ++i) name = concat(wanted, "_", i);
    return name;
  }

  OnnxNode& node(const std::string& type, const nn::Layer<T>& layer, std::vector<std::string> inputs,
                 std::string output = {}) {
    const std::string name = unique((layer.name().empty() ? "network" : layer.name()) + "/" + type);
    graph_.nodes.push_back({type, name, std::move(inputs), output.empty() ? name + ":0" : std::move(output)});
    return graph_.nodes.back();
  }

  [[nodiscard]] std::string constant(const std::string& name, std::vector<std::int64_t> shape,
                                     std::vector<float> values) {
    graph_.constants.push_back({unique(name), std::move(shape), std::move(values)});
    return graph_.constants.back().name;
  }
  [[nodiscard]] std::string shape_constant(const nn::Layer<T>& layer, std::vector<std::int64_t> numbers) {
    OnnxConstant shape{unique(layer.name() + "/shape"), {std::ssize(numbers)}};
    shape.numbers = std::move(numbers);
    graph_.constants.push_back(std::move(shape));
    return graph_.constants.back().name;
  }

  [[nodiscard]] std::vector<float> numbers(const Tensor<T>& tensor) {
    const std::vector<T> values = to_host(*ctx_, tensor);
    return std::vector<float>(values.begin(), values.end());
  }
  /// A parameter or buffer of one axis.
  [[nodiscard]] std::string vector_of(const std::string& name, const Tensor<T>& tensor,
                                      std::vector<std::int64_t> shape = {}) {
    if (shape.empty()) shape = {tensor.size()};
    return constant(name, std::move(shape), numbers(tensor));
  }
  /// One whose axes are put into another order.
  [[nodiscard]] std::string permuted(const std::string& name, const Tensor<T>& tensor, const std::vector<int>& axes) {
    const std::vector<float> values = numbers(tensor);
    std::vector<float> result(values.size());
    permute<float>(values, tensor.shape(), axes, result);
    std::vector<std::int64_t> shape;
    for (const int axis : axes) shape.push_back(tensor.extent(axis));
    return constant(name, std::move(shape), std::move(result));
  }

  [[nodiscard]] std::string transpose(const nn::Layer<T>& layer, const std::string& value,
                                      std::vector<std::int64_t> order) {
    OnnxNode& n = node("Transpose", layer, {value});
    n.lists = {{"perm", std::move(order)}};
    return n.output;
  }

  [[nodiscard]] std::string activated(const nn::Layer<T>& layer, nn::Activation activation, const std::string& x) {
    const auto scalar = [&](const char* what, float value) { return constant(layer.name() + "/" + what, {}, {value}); };
    switch (activation) {
      case nn::Activation::identity:
        return x;
      case nn::Activation::relu:
        return node("Relu", layer, {x}).output;
      case nn::Activation::tanh:
        return node("Tanh", layer, {x}).output;
      case nn::Activation::selu: {
        OnnxNode& n = node("Selu", layer, {x});
        n.reals = {{"alpha", static_cast<float>(kernels::selu_alpha)},
                   {"gamma", static_cast<float>(kernels::selu_scale)}};
        return n.output;
      }
      case nn::Activation::silu: {
        const std::string gate = node("Sigmoid", layer, {x}).output;
        return node("Mul", layer, {x, gate}).output;
      }
      case nn::Activation::gelu: {
        // x / 2 · (1 + erf(x / √2)): Gelu itself came with opset 20.
        const std::string scaled = node("Mul", layer, {x, scalar("sqrt_half", 0.70710678f)}).output;
        const std::string erf = node("Erf", layer, {scaled}).output;
        const std::string sum = node("Add", layer, {erf, scalar("one", 1.0f)}).output;
        const std::string product = node("Mul", layer, {x, sum}).output;
        return node("Mul", layer, {product, scalar("half", 0.5f)}).output;
      }
    }
    return x;
  }

  void window(OnnxNode& n, const Window& w) const {
    n.lists = {{"kernel_shape", {w.kernel.y, w.kernel.x}},
               {"strides", {w.stride.y, w.stride.x}},
               {"pads", {w.padding.y, w.padding.x, w.padding.y, w.padding.x}}};
    if (w.dilation != Extent2(1)) n.lists.push_back({"dilations", {w.dilation.y, w.dilation.x}});
  }

  [[nodiscard]] std::string linear(nn::Linear<T>& l, const Value& x) {
    if (x.shape.rank() == 2) {
      std::vector<std::string> inputs = {
          x.name, vector_of(l.weight().name, l.weight().value, {l.out_features(), l.in_features()})};
      if (l.has_bias()) inputs.push_back(vector_of(l.bias().name, l.bias().value));
      OnnxNode& n = node("Gemm", l, std::move(inputs));
      n.numbers = {{"transB", 1}};
      return n.output;
    }
    const std::string last = transpose(l, x.name, {0, 2, 3, 1});
    std::string y = node("MatMul", l, {last, permuted(l.weight().name, l.weight().value, {1, 0})}).output;
    if (l.has_bias()) y = node("Add", l, {y, vector_of(l.bias().name, l.bias().value)}).output;
    return transpose(l, y, {0, 3, 1, 2});
  }

  [[nodiscard]] std::string group_norm(nn::GroupNorm<T>& l, const Value& x) {
    // An instance of InstanceNormalization is a group: (n, groups, everything else), then channel by channel.
    const auto groups = static_cast<std::size_t>(l.groups());
    const std::string grouped = node("Reshape", l, {x.name, shape_constant(l, {0, l.groups(), -1})}).output;
    OnnxNode& norm = node("InstanceNormalization", l,
                          {grouped, constant(l.name() + "/ones", {l.groups()}, std::vector<float>(groups, 1.0f)),
                           constant(l.name() + "/zeros", {l.groups()}, std::vector<float>(groups, 0.0f))});
    norm.reals = {{"epsilon", static_cast<float>(l.epsilon())}};
    const std::string normal = norm.output;
    std::vector<std::int64_t> shape = outside(x.shape), channels(shape.size(), 1);
    channels[0] = l.channels();
    shape.insert(shape.begin(), 0);
    const std::string whole = node("Reshape", l, {normal, shape_constant(l, shape)}).output;
    const std::string scaled = node("Mul", l, {whole, vector_of(l.weight().name, l.weight().value, channels)}).output;
    return node("Add", l, {scaled, vector_of(l.bias().name, l.bias().value, channels)}).output;
  }

  [[nodiscard]] std::string layer_norm(nn::LayerNorm<T>& l, const Value& x) {
    const bool maps = x.shape.rank() == 4;
    const std::string rows = maps ? transpose(l, x.name, {0, 2, 3, 1}) : x.name;
    OnnxNode& n = node("LayerNormalization", l,
                       {rows, vector_of(l.weight().name, l.weight().value), vector_of(l.bias().name, l.bias().value)});
    n.numbers = {{"axis", -1}};
    n.reals = {{"epsilon", static_cast<float>(l.epsilon())}};
    const std::string normal = n.output;
    return maps ? transpose(l, normal, {0, 3, 1, 2}) : normal;
  }

  [[nodiscard]] std::string batch_norm(nn::BatchNorm<T>& l, const Value& x) {
    OnnxNode& n = node("BatchNormalization", l,
                       {x.name, vector_of(l.weight().name, l.weight().value), vector_of(l.bias().name, l.bias().value),
                        vector_of(l.running_mean().name, l.running_mean().value),
                        vector_of(l.running_variance().name, l.running_variance().value)});
    n.reals = {{"epsilon", static_cast<float>(l.epsilon())}};
    const std::string normal = n.output;
    return before_addition_.count(&l) != 0 ? normal : activated(l, l.activation(), normal);
  }

  [[nodiscard]] std::string conv(nn::Conv2d<T>& l, const Value& x) {
    std::vector<std::string> inputs = {x.name, permuted(l.weight().name, l.weight().value, {0, 3, 1, 2})};
    if (l.has_bias()) inputs.push_back(vector_of(l.bias().name, l.bias().value));
    OnnxNode& n = node("Conv", l, std::move(inputs));
    window(n, l.window());
    return n.output;
  }

  [[nodiscard]] std::string pool(nn::WindowPool<T>& l, const std::string& type, const Value& x) {
    if (l.window().padding.y >= l.window().kernel.y || l.window().padding.x >= l.window().kernel.x) {
      throw ArgumentError(concat(l.label(), ": its padding ", l.window().padding, " is not smaller than its kernel ",
                                 l.window().kernel, ", which ONNX wants; use less padding"));
    }
    OnnxNode& n = node(type, l, {x.name});
    window(n, l.window());
    // Means over dilated windows came with that opset.
    if (type == "AveragePool" && l.window().dilation != Extent2(1)) graph_.opset = 19;
    return n.output;
  }

  [[nodiscard]] Value layer(nn::Layer<T>& l, const Value& x) {
    const Shape shape = l.output_shape(x.shape);
    if (x.shape.rank() != 2 && x.shape.rank() != 4) {
      throw ArgumentError(
          concat(l.label(), ": ONNX export takes (n, features) and maps (n, H, W, channels); got ", x.shape));
    }
    if (shape.size() == 0) {
      throw ArgumentError(concat(l.label(), ": its output of shape ", shape, " is empty; ONNX has no such layers"));
    }
    const auto value = [&](std::string name) { return Value{std::move(name), shape}; };
    if (auto* s = dynamic_cast<nn::Sequential<T>*>(&l)) {
      Value at = x;
      for (nn::Layer<T>* child : s->children()) at = layer(*child, at);
      return at;
    }
    if (auto* r = dynamic_cast<nn::Residual<T>*>(&l)) {
      // A norm at the end of the body that has the block's activation leaves it to the sum.
      const std::vector<nn::Layer<T>*> body_layers = r->body().children();
      if (!body_layers.empty()) {
        const auto* norm = dynamic_cast<nn::BatchNorm<T>*>(body_layers.back());
        if (norm != nullptr && norm->activation() == r->activation()) before_addition_.insert(norm);
      }
      const Value body = layer(r->body(), x), shortcut = layer(r->shortcut(), x);
      const std::string sum = node("Add", l, {body.name, shortcut.name}).output;
      return value(activated(l, r->activation(), sum));
    }
    if (auto* linear_layer = dynamic_cast<nn::Linear<T>*>(&l)) return value(linear(*linear_layer, x));
    if (auto* conv_layer = dynamic_cast<nn::Conv2d<T>*>(&l)) return value(conv(*conv_layer, x));
    if (auto* norm = dynamic_cast<nn::BatchNorm<T>*>(&l)) return value(batch_norm(*norm, x));
    if (auto* norm = dynamic_cast<nn::LayerNorm<T>*>(&l)) return value(layer_norm(*norm, x));
    if (auto* norm = dynamic_cast<nn::GroupNorm<T>*>(&l)) return value(group_norm(*norm, x));
    if (auto* pooling = dynamic_cast<nn::MaxPool2d<T>*>(&l)) return value(pool(*pooling, "MaxPool", x));
    if (auto* pooling = dynamic_cast<nn::AveragePool2d<T>*>(&l)) return value(pool(*pooling, "AveragePool", x));
    if (auto* a = dynamic_cast<nn::ActivationLayer<T>*>(&l)) return value(activated(l, a->function(), x.name));
    if (dynamic_cast<nn::Dropout<T>*>(&l)) return x;
    if (dynamic_cast<nn::GlobalAveragePool<T>*>(&l)) {
      const std::string mean = node("GlobalAveragePool", l, {x.name}).output;
      return value(node("Flatten", l, {mean}).output);
    }
    if (dynamic_cast<nn::Flatten<T>*>(&l)) {
      if (x.shape.rank() == 2) return x;
      // In the order of the layers behind it.
      return value(node("Flatten", l, {transpose(l, x.name, {0, 2, 3, 1})}).output);
    }
    throw ArgumentError(concat(l.label(),
                               ": layers of this kind cannot be exported to ONNX; put layers of the library in its "
                               "place, or save the network by save_model, whose LayerKinds take layers of your own"));
  }

  Context* ctx_;
  OnnxGraph graph_;
  std::set<const nn::Layer<T>*> before_addition_;
  std::set<std::string> names_;
};

}  // namespace detail

/// Writes a network, as it computes in evaluation, as an ONNX model of opset 17 (19 if there is a dilated
/// AveragePool2d) with one input, `input`, of shape (batch, C, H, W) or (batch, features), and one output, `output`;
/// `info.sample` is the shape of one sample here, (H, W, C) or (features). Class names and normalisation go into its
/// metadata. Numbers become float32. The file is written as by AtomicFile. Throws ArgumentError without `info.sample`,
/// for layers that ONNX has no words for, and a model of 2 GiB or more, which protobuf cannot hold; ShapeError if the
/// network does not take `info.sample`; NumericError for numbers that are not finite; IoError.
template <Real T>
void save_onnx(const std::string& path, Context& ctx, nn::Layer<T>& network, const ModelInfo& info) {
  if (unknown_sample(info.sample)) {
    throw ArgumentError(concat(path,
                               ": info.sample is missing; an ONNX model tells the shape of its input: give that of one "
                               "sample, such as (32, 32, 3) for maps or (784) for features"));
  }
  nn::check_finite<T>(ctx, network, path + " is not written");
  OnnxGraph graph = detail::OnnxWriter<T>(ctx).run(network, info.sample);
  graph.metadata.emplace_back("class_names", json_text(info.class_names, path + ": class names"));
  graph.metadata.emplace_back(
      "normalization",
      json_text({{"mean", info.normalization.mean}, {"stddev", info.normalization.stddev}}, path + ": normalization"));
  std::size_t bytes = 0;
  for (const OnnxConstant& constant : graph.constants) {
    bytes += constant.values.size() * sizeof(float);
    // From float64 they may have come.
    for (const float value : constant.values) {
      if (std::isfinite(value)) continue;
      throw NumericError(concat(path, " is not written: ", constant.name,
                                ": one of its numbers is beyond float32, in which ONNX files are written"));
    }
  }
  constexpr std::size_t most = (std::size_t{1} << 31) - (std::size_t{1} << 20);
  if (bytes > most) {
    throw ArgumentError(
        concat(path, ": the model has ", bytes, " bytes of weights; an ONNX file holds less than 2 GiB"));
  }
  write_file(path, graph.serialize("meristem", detail::library_version()));
}

}  // namespace meristem::inline MERISTEM_BACKEND::io
