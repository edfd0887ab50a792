// Definitions of layout.hpp.
#pragma once

#include <meristem/io/layout.hpp>

namespace meristem::io::detail {

template <Real T>
std::optional<Shape> TorchWalk<T>::run(nn::Layer<T>& layer, const std::optional<Shape>& input) {
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
    case nn::Operator::concatenate:
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

template <Real T>
void TorchWalk<T>::require_order(const nn::Layer<T>& layer) const {
  if (!flattened_) return;
  throw ArgumentError(concat(layer.label(), ": it sees the maps of ", flatten_,
                             " in the order (h, w, c), PyTorch's would be (c, h, w), and no Linear stands between "
                             "that could take the difference; put a Linear right behind the Flatten"));
}

template <Real T>
void TorchWalk<T>::flatten(const nn::Layer<T>& layer, const std::optional<Shape>& input) {
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

template <Real T>
void TorchWalk<T>::note_all(nn::Layer<T>& layer) {
  layer.visit_parameters([&](nn::Parameter<T>& parameter) { note(parameter.name, parameter.value.shape()); });
  layer.visit_buffers([&](nn::Buffer<T>& buffer) { note(buffer.name, buffer.value.shape()); });
}

template <Real T>
void TorchWalk<T>::note(const std::string& name, const Shape& shape) {
  std::vector<int> axes;
  for (int i = 0; i < shape.rank(); ++i) axes.push_back(i);
  note(name, shape, shape, std::move(axes), shape);
}

template <Real T>
void TorchWalk<T>::note(const std::string& name, const Shape& shape, const Shape& split, std::vector<int> axes,
                        const Shape& torch_shape) {
  std::string torch_name = name;
  const std::string ours = "running_variance";
  if (torch_name.size() >= ours.size() && torch_name.compare(torch_name.size() - ours.size(), ours.size(), ours) == 0) {
    torch_name.replace(torch_name.size() - ours.size(), ours.size(), "running_var");
  }
  tensors_.push_back({name, std::move(torch_name), shape, split, std::move(axes), torch_shape});
}

template <Real T>
void TorchWalk<T>::note_features(const std::string& name, const Shape& shape) {
  if (!flattened_) return note(name, shape);
  note(name, shape, *flattened_, {2, 0, 1}, shape);
}

template <Real T>
void TorchWalk<T>::note_affine(const nn::Parameter<T>& parameter, bool weight) {
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

}  // namespace meristem::io::detail

namespace meristem::io {

template <Real T>
std::vector<TorchTensor> torch_layout(nn::Layer<T>& network, const Shape& sample) {
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
