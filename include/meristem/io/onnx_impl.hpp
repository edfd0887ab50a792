// Definitions of onnx.hpp.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include <meristem/io/onnx.hpp>

namespace meristem::io::detail {

MERISTEM_INLINE std::string OnnxTarget::unique(const std::string& wanted) {
  std::string name = wanted;
  for (int i = 2; !names.insert(name).second; ++i) name = concat(wanted, "_", i);
  return name;
}

}  // namespace meristem::io::detail

namespace meristem::io {

template <Real T>
OnnxLayer<T>::OnnxLayer(Context& ctx, detail::OnnxTarget& target, nn::Layer<T>& layer, std::string input,
                        const Shape& input_shape)
    : ctx_(&ctx), target_(&target), layer_(&layer), input_(std::move(input)), input_shape_(input_shape) {}

template <Real T>
std::vector<std::int64_t> OnnxLayer<T>::extents(const Shape& shape) {
  if (shape.rank() == 4) return {shape[3], shape[1], shape[2]};
  std::vector<std::int64_t> result;
  for (int i = 1; i < shape.rank(); ++i) result.push_back(shape[i]);
  return result;
}

template <Real T>
OnnxNode& OnnxLayer<T>::add(const std::string& type, std::vector<std::string> inputs) {
  const std::string name = target_->unique((layer_->name().empty() ? "network" : layer_->name()) + "/" + type);
  target_->graph.nodes.push_back({type, name, std::move(inputs), name + ":0"});
  return target_->graph.nodes.back();
}

template <Real T>
std::string OnnxLayer<T>::transposed(const std::string& value, std::vector<std::int64_t> order) {
  OnnxNode& n = add("Transpose", {value});
  n.lists = {{"perm", std::move(order)}};
  return n.output;
}

template <Real T>
std::string OnnxLayer<T>::shape_constant(std::vector<std::int64_t> numbers) {
  OnnxConstant shape{target_->unique(layer_->name() + "/shape"), {std::ssize(numbers)}};
  shape.numbers = std::move(numbers);
  target_->graph.constants.push_back(std::move(shape));
  return target_->graph.constants.back().name;
}

template <Real T>
std::string OnnxLayer<T>::activated(nn::Activation activation, const std::string& x) {
  const auto scalar = [&](const char* what, float value) { return constant(what, {}, {value}); };
  switch (activation) {
    case nn::Activation::identity:
      return x;
    case nn::Activation::relu:
      return node("Relu", {x});
    case nn::Activation::tanh:
      return node("Tanh", {x});
    case nn::Activation::selu: {
      OnnxNode& n = add("Selu", {x});
      n.reals = {{"alpha", static_cast<float>(kernels::selu_alpha)},
                 {"gamma", static_cast<float>(kernels::selu_scale)}};
      return n.output;
    }
    case nn::Activation::silu: {
      const std::string gate = node("Sigmoid", {x});
      return node("Mul", {x, gate});
    }
    case nn::Activation::gelu: {
      // x / 2 · (1 + erf(x / √2)): Gelu itself came with opset 20.
      const std::string scaled = node("Mul", {x, scalar("sqrt_half", 0.70710678f)});
      const std::string erf = node("Erf", {scaled});
      const std::string sum = node("Add", {erf, scalar("one", 1.0f)});
      const std::string product = node("Mul", {x, sum});
      return node("Mul", {product, scalar("half", 0.5f)});
    }
  }
  return x;
}

template <Real T>
std::string OnnxLayer<T>::operation(const nn::Description<T>& told) {
  switch (told.op) {
    case nn::Operator::affine:
      return told.weight->value.rank() == 4 ? convolution(told) : linear(told);
    case nn::Operator::elementwise:
      return told.activation ? activated(*told.activation, input_) : std::string();
    case nn::Operator::normalise:
      return activated(told.activation.value_or(nn::Activation::identity), normal(told));
    case nn::Operator::pool:
      return pool(told);
    case nn::Operator::flatten:
      // In the order of the layers behind it.
      return input_shape_.rank() == 2 ? input_ : node("Flatten", {transposed(input_, {0, 2, 3, 1})});
    case nn::Operator::slice:
      return slice(told);
    case nn::Operator::identity:
      return input_;
    default:
      return {};
  }
}

template <Real T>
std::string OnnxLayer<T>::named_constant(const std::string& name, std::vector<std::int64_t> shape,
                                         std::vector<float> values) {
  target_->graph.constants.push_back({target_->unique(name), std::move(shape), std::move(values)});
  return target_->graph.constants.back().name;
}

template <Real T>
void OnnxLayer<T>::window(OnnxNode& n, const Window& w) {
  n.lists = {{"kernel_shape", {w.kernel.y, w.kernel.x}},
             {"strides", {w.stride.y, w.stride.x}},
             {"pads", {w.padding.y, w.padding.x, w.padding.y, w.padding.x}}};
  if (w.dilation != Extent2(1)) n.lists.push_back({"dilations", {w.dilation.y, w.dilation.x}});
}

template <Real T>
std::string OnnxLayer<T>::linear(const nn::Description<T>& told) {
  if (input_shape_.rank() == 2) {
    std::vector<std::string> inputs = {input_, tensor(*told.weight)};
    if (told.bias) inputs.push_back(tensor(*told.bias));
    OnnxNode& n = add("Gemm", std::move(inputs));
    n.numbers = {{"transB", 1}};
    return n.output;
  }
  const std::string last = transposed(input_, {0, 2, 3, 1});
  std::string y = node("MatMul", {last, tensor_permuted(*told.weight, {1, 0})});
  if (told.bias) y = node("Add", {y, tensor(*told.bias)});
  return transposed(y, {0, 3, 1, 2});
}

template <Real T>
std::string OnnxLayer<T>::convolution(const nn::Description<T>& told) {
  std::vector<std::string> inputs = {input_, tensor_permuted(*told.weight, {0, 3, 1, 2})};
  if (told.bias) inputs.push_back(tensor(*told.bias));
  OnnxNode& n = add("Conv", std::move(inputs));
  window(n, told.window);
  return n.output;
}

template <Real T>
std::string OnnxLayer<T>::normal(const nn::Description<T>& told) {
  const auto epsilon = [&](OnnxNode& n) {
    n.reals = {{"epsilon", static_cast<float>(told.epsilon)}};
    return n.output;
  };
  switch (told.over) {
    case nn::NormOver::batch:
      return epsilon(add("BatchNormalization", {input_, tensor(*told.weight), tensor(*told.bias),
                                                tensor(*told.buffers[0].tensor), tensor(*told.buffers[1].tensor)}));
    case nn::NormOver::row: {
      const bool maps = input_shape_.rank() == 4;
      const std::string rows = maps ? transposed(input_, {0, 2, 3, 1}) : input_;
      OnnxNode& n = add("LayerNormalization", {rows, tensor(*told.weight), tensor(*told.bias)});
      n.numbers = {{"axis", -1}};
      const std::string y = epsilon(n);
      return maps ? transposed(y, {0, 3, 1, 2}) : y;
    }
    case nn::NormOver::groups:
      break;
  }
  // An instance of InstanceNormalization is a group: (n, groups, everything else), then channel by channel.
  const auto groups = static_cast<std::size_t>(told.groups);
  const std::string grouped = node("Reshape", {input_, shape_constant({0, told.groups, -1})});
  const std::string y =
      epsilon(add("InstanceNormalization", {grouped, constant("ones", {told.groups}, std::vector<float>(groups, 1.0f)),
                                            constant("zeros", {told.groups}, std::vector<float>(groups, 0.0f))}));
  std::vector<std::int64_t> shape = extents(input_shape_), channels(shape.size(), 1);
  channels[0] = told.weight->value.size();
  shape.insert(shape.begin(), 0);
  const std::string whole = node("Reshape", {y, shape_constant(shape)});
  const std::string scaled = node("Mul", {whole, tensor(*told.weight, channels)});
  return node("Add", {scaled, tensor(*told.bias, channels)});
}

template <Real T>
std::string OnnxLayer<T>::slice(const nn::Description<T>& told) {
  const std::string row = node("Slice", {input_, shape_constant({told.first}),
                                         shape_constant({told.first + told.shape.size()}), shape_constant({1})});
  if (told.shape.rank() == 1) return row;
  const std::string maps = node("Reshape", {row, shape_constant({0, told.shape[0], told.shape[1], told.shape[2]})});
  return transposed(maps, {0, 3, 1, 2});
}

template <Real T>
std::string OnnxLayer<T>::pool(const nn::Description<T>& told) {
  const bool maximum = told.pooling == nn::Pooling::maximum;
  if (told.global) {
    const std::string one = node(maximum ? "GlobalMaxPool" : "GlobalAveragePool", {input_});
    return layer_->output_shape(input_shape_).rank() == 2 ? node("Flatten", {one}) : one;
  }
  const Window& w = told.window;
  if (w.padding.y >= w.kernel.y || w.padding.x >= w.kernel.x) {
    throw ArgumentError(concat(layer_->label(), ": its padding ", w.padding, " is not smaller than its kernel ",
                               w.kernel, ", which ONNX wants; use less padding"));
  }
  OnnxNode& n = add(maximum ? "MaxPool" : "AveragePool", {input_});
  window(n, w);
  // Means over dilated windows came with that opset.
  if (!maximum && w.dilation != Extent2(1)) target_->graph.opset = 19;
  return n.output;
}

}  // namespace meristem::io

namespace meristem::io::detail {

template <Real T>
OnnxGraph OnnxWriter<T>::run(nn::Layer<T>& network, const Shape& sample) {
  Shape input{1};
  for (int i = 0; i < sample.rank(); ++i) input.append(sample[i]);
  if (input.rank() != 2 && input.rank() != 4) {
    throw ArgumentError(
        concat(network.label(), ": ONNX export takes samples of shape (features) or (H, W, channels); got ", sample));
  }
  OnnxGraph& graph = target_.graph;
  graph.input = {"input", OnnxLayer<T>::extents(input)};
  const Value last = write(network, {"input", input});
  graph.output = {"output", OnnxLayer<T>::extents(last.shape)};
  if (last.name == "input") {
    OnnxLayer<T>(*ctx_, target_, network, last.name, input).add("Identity", {last.name}).output = "output";
  } else {
    for (OnnxNode& each : graph.nodes) {
      if (each.output == last.name) each.output = "output";
      for (std::string& name : each.inputs) {
        if (name == last.name) name = "output";
      }
    }
  }
  return std::move(graph);
}

template <Real T>
auto OnnxWriter<T>::write(nn::Layer<T>& layer, const Value& x) -> Value {
  const Shape shape = layer.output_shape(x.shape);
  nn::Description<T> told = layer.description();
  const std::array<Shape, 2> shapes{x.shape, shape};  // nvcc 13 does not compile a list of them in the loop
  for (const Shape& each : shapes) {
    // Of a sequence the layer that gives such a shape is named.
    if (each.rank() == 2 || each.rank() == 4 || told.op == nn::Operator::sequence) continue;
    throw ArgumentError(
        concat(layer.label(), ": ONNX export takes (n, features) and maps (n, H, W, channels); got ", each));
  }
  if (shape.size() == 0) {
    throw ArgumentError(concat(layer.label(), ": its output of shape ", shape, " is empty; ONNX has no such layers"));
  }
  OnnxLayer<T> nodes(*ctx_, target_, layer, x.name, x.shape);
  if (const auto* kind = kinds_->find(kind_of(layer, told)); kind && kind->onnx) {
    return {kind->onnx(nodes), shape};
  }
  // Tensors beside those of the operator mean that there is more to it.
  if (!told.plain()) told.op = nn::Operator::other;
  if (told.op == nn::Operator::sequence) {
    Value at = x;
    for (const auto& child : told.children) at = write(*child.layer, at);
    return at;
  }
  std::string output;
  if (told.op == nn::Operator::sum) {
    if (told.adding) adding_.insert(told.adding);
    for (const auto& branch : told.children) {
      const std::string term = write(*branch.layer, x).name;
      output = output.empty() ? term : nodes.node("Add", {output, term});
    }
    output = nodes.activated(told.activation.value_or(nn::Activation::identity), output);
  } else if (told.op == nn::Operator::concatenate) {
    std::vector<std::string> parts;
    for (const auto& branch : told.children) parts.push_back(write(*branch.layer, x).name);
    OnnxNode& n = nodes.add("Concat", std::move(parts));
    n.numbers = {{"axis", 1}};
    output = n.output;
  } else {
    if (adding_.count(told.batch_norm) != 0) told.activation = nn::Activation::identity;
    output = nodes.operation(told);
  }
  if (output.empty()) {
    throw ArgumentError(concat(layer.label(),
                               ": layers of this kind cannot be exported to ONNX; add the kind with its nodes to an "
                               "io::LayerKinds and hand that over, or put layers of the library in its place"));
  }
  return {output, shape};
}

}  // namespace meristem::io::detail

namespace meristem::io {

template <Real T>
void save_onnx(const std::string& path, Context& ctx, nn::Layer<T>& network, const ModelInfo& info,
               const LayerKinds<T>& kinds) {
  if (unknown_sample(info.sample)) {
    throw ArgumentError(concat(path,
                               ": info.sample is missing; an ONNX model tells the shape of its input: give that of one "
                               "sample, such as (32, 32, 3) for maps or (784) for features"));
  }
  nn::check_finite<T>(ctx, network, path + " is not written");
  OnnxGraph graph = detail::OnnxWriter<T>(ctx, kinds).run(network, info.sample);
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

}  // namespace meristem::io
