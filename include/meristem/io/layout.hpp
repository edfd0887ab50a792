// The order in which PyTorch keeps the numbers of a network: the one place where layouts are converted.
//
// Here maps are (n, H, W, C) and a convolution's weight is (out, ky, kx, in); there they are (n, C, H, W) and
// (out, in, ky, kx). A Linear behind a Flatten of maps sees its inputs in the order (h, w, c) here, (c, h, w) there.
#pragma once

#include <cstddef>
#include <cstdint>
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
  std::optional<Shape> run(nn::Layer<T>& layer, const std::optional<Shape>& input);

  /// Throws ArgumentError if features are still in the order that a Flatten of maps left them in.
  void require_order(const nn::Layer<T>& layer) const;

  [[nodiscard]] std::vector<TorchTensor> take() { return std::move(tensors_); }

 private:
  void flatten(const nn::Layer<T>& layer, const std::optional<Shape>& input);

  /// The tensors of layers inside one that does not say how they work together.
  void note_all(nn::Layer<T>& layer);
  void note(const std::string& name, const Shape& shape);
  void note(const std::string& name, const Shape& shape, const Shape& split, std::vector<int> axes,
            const Shape& torch_shape);
  /// A tensor of one number for each feature.
  void note_features(const std::string& name, const Shape& shape);
  void note_affine(const nn::Parameter<T>& parameter, bool weight);

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
[[nodiscard]] std::vector<TorchTensor> torch_layout(nn::Layer<T>& network, const Shape& sample);

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/layout_impl.hpp>
#endif
