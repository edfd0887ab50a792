// The order in which PyTorch keeps the numbers of a network: the one place where layouts are converted.
//
// Here maps are (n, H, W, C) and a convolution's weight is (out, ky, kx, in); there they are (n, C, H, W) and
// (out, in, ky, kx). A Linear behind a Flatten of maps sees its inputs in the order (h, w, c) here, (c, h, w) there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::io {

/// One tensor of a network and what becomes of it in PyTorch: seen as `split`, its axes are put into the order `axes`,
/// the result is kept as `torch_shape`.
struct TorchTensor {
  std::string name;        ///< path name here
  std::string torch_name;  ///< path name there
  Shape shape;
  Shape split;
  std::vector<int> axes;
  Shape torch_shape;
};

/// Copies `from`, an array of shape `split` in C order, so that axis k of `to` is axis axes[k] of `from`.
template <class T>
void permute(std::span<const T> from, const Shape& split, const std::vector<int>& axes, std::span<T> to) {
  const int rank = split.rank();
  std::vector<std::int64_t> stride(static_cast<std::size_t>(rank), 1), index(static_cast<std::size_t>(rank), 0);
  for (int i = rank - 1; i > 0; --i)
    stride[static_cast<std::size_t>(i - 1)] = stride[static_cast<std::size_t>(i)] * split[i];
  std::int64_t at = 0;
  for (T& value : to) {
    value = from[static_cast<std::size_t>(at)];
    for (int k = rank - 1; k >= 0; --k) {
      const int axis = axes[static_cast<std::size_t>(k)];
      const std::int64_t step = stride[static_cast<std::size_t>(axis)];
      at += step;
      if (++index[static_cast<std::size_t>(k)] < split[axis]) break;
      at -= step * split[axis];
      index[static_cast<std::size_t>(k)] = 0;
    }
  }
}

/// From the order here to PyTorch's.
template <class T>
[[nodiscard]] std::vector<T> to_torch(const TorchTensor& tensor, std::span<const T> values) {
  std::vector<T> result(values.size());
  permute<T>(values, tensor.split, tensor.axes, result);
  return result;
}

/// And back.
template <class T>
[[nodiscard]] std::vector<T> from_torch(const TorchTensor& tensor, std::span<const T> values) {
  Shape split;
  std::vector<int> axes(tensor.axes.size());
  for (std::size_t k = 0; k < tensor.axes.size(); ++k) {
    split.append(tensor.split[tensor.axes[k]]);
    axes[static_cast<std::size_t>(tensor.axes[k])] = static_cast<int>(k);
  }
  std::vector<T> result(values.size());
  permute<T>(values, split, axes, result);
  return result;
}

namespace detail {

/// Follows shapes through a network and notes down what becomes of each tensor.
template <Real T>
class TorchWalk {
 public:
  /// Returns the shape of the output; nothing if that of the input is not known, which only a Flatten needs.
  std::optional<Shape> run(nn::Layer<T>& layer, const std::optional<Shape>& input) {
    std::optional<Shape> output;
    if (input) output = layer.output_shape(*input);
    const nn::Description<T> told = layer.description();
    switch (told.op) {
      case nn::Operator::sequence: {
        std::optional<Shape> shape = input;
        for (const auto& child : told.children) shape = run(*child.layer, shape);
        break;
      }
      case nn::Operator::sum:
        require_order(layer);
        for (const auto& branch : told.children) {
          run(*branch.layer, input);
          require_order(*branch.layer);
        }
        break;
      case nn::Operator::flatten:
        flatten(layer, input);
        break;
      case nn::Operator::affine:
        for (const auto& entry : told.parameters) note_affine(*entry.tensor, entry.tensor == told.weight);
        for (const auto& entry : told.buffers) note(entry.tensor->name, entry.tensor->value.shape());
        flattened_.reset();
        break;
      default: {
        if (!told.keeps_order()) require_order(layer);
        const auto note_tensor = [&](const auto& entry) {
          const bool features = told.keeps_order() && entry.rank == 1 && entry.axes[0] == nn::Axis::channel;
          if (features) return note_features(entry.tensor->name, entry.tensor->value.shape());
          note(entry.tensor->name, entry.tensor->value.shape());
        };
        for (const auto& entry : told.parameters) note_tensor(entry);
        for (const auto& entry : told.buffers) note_tensor(entry);
        for (const auto& child : told.children) note_all(*child.layer);
      }
    }
    return output;
  }

  /// Throws ArgumentError if features are still in the order that a Flatten of maps left them in.
  void require_order(const nn::Layer<T>& layer) const {
    if (!flattened_) return;
    throw ArgumentError(concat(layer.label(), ": it sees the maps of ", flatten_,
                               " in the order (h, w, c), PyTorch's would be (c, h, w), and no Linear stands between "
                               "that could take the difference; put a Linear right behind the Flatten"));
  }

  [[nodiscard]] std::vector<TorchTensor> take() { return std::move(tensors_); }

 private:
  void flatten(const nn::Layer<T>& layer, const std::optional<Shape>& input) {
    if (!input) {
      throw ArgumentError(concat(layer.label(),
                                 ": sample is missing; PyTorch's order of its features follows from the height and "
                                 "width of its maps: give the shape of one sample, such as (32, 32, 3)"));
    }
    const Shape& maps = *input;
    if (maps.rank() > 4 || maps.rank() == 3) {
      throw ArgumentError(concat(layer.label(), ": PyTorch's order is defined for maps (n, H, W, C); got ", maps));
    }
    if (maps.rank() == 4 && maps[1] * maps[2] > 1 && maps[3] > 1) {
      flattened_ = Shape{maps[1], maps[2], maps[3]};
      flatten_ = layer.label();
    }
  }

  /// The tensors of layers inside one that does not say how they work together.
  void note_all(nn::Layer<T>& layer) {
    layer.visit_parameters([&](nn::Parameter<T>& parameter) { note(parameter.name, parameter.value.shape()); });
    layer.visit_buffers([&](nn::Buffer<T>& buffer) { note(buffer.name, buffer.value.shape()); });
  }
  void note(const std::string& name, const Shape& shape) {
    std::vector<int> axes;
    for (int i = 0; i < shape.rank(); ++i) axes.push_back(i);
    note(name, shape, shape, std::move(axes), shape);
  }
  void note(const std::string& name, const Shape& shape, const Shape& split, std::vector<int> axes,
            const Shape& torch_shape) {
    std::string torch_name = name;
    const std::string ours = "running_variance";
    if (torch_name.size() >= ours.size() &&
        torch_name.compare(torch_name.size() - ours.size(), ours.size(), ours) == 0) {
      torch_name.replace(torch_name.size() - ours.size(), ours.size(), "running_var");
    }
    tensors_.push_back({name, std::move(torch_name), shape, split, std::move(axes), torch_shape});
  }
  /// A tensor of one number for each feature.
  void note_features(const std::string& name, const Shape& shape) {
    if (!flattened_) return note(name, shape);
    note(name, shape, *flattened_, {2, 0, 1}, shape);
  }
  void note_affine(const nn::Parameter<T>& parameter, bool weight) {
    const Shape& s = parameter.value.shape();
    if (weight && s.rank() == 4) {
      note(parameter.name, s, s, {0, 3, 1, 2}, {s[0], s[3], s[1], s[2]});
    } else if (weight && flattened_) {
      const Shape& f = *flattened_;
      note(parameter.name, s, {s[0], f[0], f[1], f[2]}, {0, 3, 1, 2}, s);
    } else {
      note(parameter.name, s);
    }
  }

  std::vector<TorchTensor> tensors_;
  std::optional<Shape> flattened_;
  std::string flatten_;
};

}  // namespace detail

/// The shape of a sample that is not known.
[[nodiscard]] inline bool unknown_sample(const Shape& sample) { return sample == Shape{0}; }

/// Names and orders in PyTorch of all parameters and buffers of a network whose samples have the shape `sample`, such
/// as (32, 32, 3); (0), if it is not known, will do for networks without a Flatten. Throws ShapeError if the network
/// does not take them, and ArgumentError for a missing sample and where no order of the network's own tensors makes up
/// for PyTorch's order of maps.
template <Real T>
[[nodiscard]] std::vector<TorchTensor> torch_layout(nn::Layer<T>& network, const Shape& sample) {
  std::optional<Shape> input;
  if (!unknown_sample(sample)) {
    input = Shape{1};
    for (int i = 0; i < sample.rank(); ++i) input->append(sample[i]);
  }
  detail::TorchWalk<T> walk;
  walk.run(network, input);
  walk.require_order(network);
  return walk.take();
}

}  // namespace meristem::io
