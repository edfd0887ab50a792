// Export to ONNX, as runtimes elsewhere read it: maps are (n, C, H, W) there, numbers float32, the batch is open.
#pragma once

#include <cstdint>
#include <set>
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

namespace meristem::io {

namespace detail {

/// What a graph is written into.
struct OnnxTarget {
  OnnxGraph graph = {};
  std::set<std::string> names = {};

  /// A name nobody has; parameters have theirs already.
  [[nodiscard]] std::string unique(const std::string& wanted);
};

}  // namespace detail

/// Writes the nodes of one layer, as it computes in evaluation. Maps are (n, C, H, W) in the graph; shapes here have
/// the channels last. Values are called by their names.
template <Real T>
class OnnxLayer {
 public:
  OnnxLayer(Context& ctx, detail::OnnxTarget& target, nn::Layer<T>& layer, std::string input, const Shape& input_shape);

  [[nodiscard]] nn::Layer<T>& layer() const noexcept { return *layer_; }
  [[nodiscard]] const std::string& input() const noexcept { return input_; }
  [[nodiscard]] const Shape& input_shape() const noexcept { return input_shape_; }

  /// Extents of a value of this shape in the graph, without the batch.
  [[nodiscard]] static std::vector<std::int64_t> extents(const Shape& shape);

  /// Appends a node, such as `Relu`, whose attributes may be set until the next one is added.
  OnnxNode& add(const std::string& type, std::vector<std::string> inputs);
  /// Appends a node without attributes and returns its output.
  [[nodiscard]] std::string node(const std::string& type, std::vector<std::string> inputs) {
    return add(type, std::move(inputs)).output;
  }
  [[nodiscard]] std::string transposed(const std::string& value, std::vector<std::int64_t> order);

  /// Constant numbers, called by the layer's name and this one.
  [[nodiscard]] std::string constant(const std::string& name, std::vector<std::int64_t> shape,
                                     std::vector<float> values) {
    return named_constant(layer_->name() + "/" + name, std::move(shape), std::move(values));
  }
  /// A shape, as `Reshape` takes it.
  [[nodiscard]] std::string shape_constant(std::vector<std::int64_t> numbers);
  /// The numbers of a nn::Parameter or nn::Buffer under its path name, in its own shape if none is given.
  template <class Tensor>
  [[nodiscard]] std::string tensor(const Tensor& tensor, std::vector<std::int64_t> shape = {}) {
    for (int axis = 0, own = shape.empty() ? tensor.value.rank() : 0; axis < own; ++axis) {
      shape.push_back(tensor.value.extent(axis));
    }
    return named_constant(tensor.name, std::move(shape), numbers(tensor));
  }
  /// The same with its axes in another order.
  template <class Tensor>
  [[nodiscard]] std::string tensor_permuted(const Tensor& tensor, const std::vector<int>& axes) {
    const std::vector<float> values = numbers(tensor);
    std::vector<float> result(values.size());
    permute<float>(values, tensor.value.shape(), axes, result);
    std::vector<std::int64_t> shape;
    for (const int axis : axes) shape.push_back(tensor.value.extent(axis));
    return named_constant(tensor.name, std::move(shape), std::move(result));
  }

  /// One of the library's functions of a value.
  [[nodiscard]] std::string activated(nn::Activation activation, const std::string& x);

  /// What a description says of one layer without others inside; an empty name if it does not say enough.
  [[nodiscard]] std::string operation(const nn::Description<T>& told);

 private:
  template <class Tensor>
  [[nodiscard]] std::vector<float> numbers(const Tensor& tensor) {
    const std::vector<T> values = to_host(*ctx_, tensor.value);
    return std::vector<float>(values.begin(), values.end());
  }
  [[nodiscard]] std::string named_constant(const std::string& name, std::vector<std::int64_t> shape,
                                           std::vector<float> values);

  static void window(OnnxNode& n, const Window& w);

  [[nodiscard]] std::string linear(const nn::Description<T>& told);

  [[nodiscard]] std::string convolution(const nn::Description<T>& told);

  /// A normalisation without what follows it.
  [[nodiscard]] std::string normal(const nn::Description<T>& told);

  [[nodiscard]] std::string slice(const nn::Description<T>& told);

  [[nodiscard]] std::string pool(const nn::Description<T>& told);

  Context* ctx_;
  detail::OnnxTarget* target_;
  nn::Layer<T>* layer_;
  std::string input_;
  Shape input_shape_;
};

namespace detail {

/// Writes a network down as a graph, layer by layer.
template <Real T>
class OnnxWriter {
 public:
  OnnxWriter(Context& ctx, const LayerKinds<T>& kinds) : ctx_(&ctx), kinds_(&kinds) {}

  /// The whole graph, for samples of this shape.
  [[nodiscard]] OnnxGraph run(nn::Layer<T>& network, const Shape& sample);

 private:
  /// A value in the graph. The shape is the one here: maps with the channels last.
  struct Value {
    std::string name;
    Shape shape;
  };

  [[nodiscard]] Value write(nn::Layer<T>& layer, const Value& x);

  Context* ctx_;
  const LayerKinds<T>* kinds_;
  OnnxTarget target_;
  std::set<const nn::BatchNorm<T>*> adding_;  // their activation is that of the sum
};

}  // namespace detail

/// Writes a network, as it computes in evaluation, as an ONNX model of opset 17 (19 if there is a dilated
/// AveragePool2d) with one input, `input`, of shape (batch, C, H, W) or (batch, features), and one output, `output`;
/// `info.sample` is the shape of one sample here, (H, W, C) or (features). Class names and normalisation go into its
/// metadata. Numbers become float32. The file is written as by AtomicFile. Throws ArgumentError without `info.sample`,
/// for layers whose descriptions do not say enough unless `kinds` has their nodes, and a model of 2 GiB or more, which
/// protobuf cannot hold; ShapeError if the network does not take `info.sample`; NumericError for numbers that are not
/// finite; IoError.
template <Real T>
void save_onnx(const std::string& path, Context& ctx, nn::Layer<T>& network, const ModelInfo& info,
               const LayerKinds<T>& kinds = {});

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/onnx_impl.hpp>
#endif
