// Definitions of model.hpp.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <set>
#include <utility>

#include <meristem/io/model.hpp>

namespace meristem::io::detail {

inline constexpr std::string_view model_format = "meristem-model";

template <Real T>
void for_each_tensor(nn::Layer<T>& network, const std::function<void(const std::string&, Tensor<T>&)>& use) {
  network.visit_parameters([&](nn::Parameter<T>& parameter) { use(parameter.name, parameter.value); });
  network.visit_buffers([&](nn::Buffer<T>& buffer) { use(buffer.name, buffer.value); });
}

/// What PyTorch's norms count; nothing here needs it.
[[nodiscard]] MERISTEM_INLINE bool counts_batches(const StoredTensor& tensor) {
  return tensor.dtype == "I64" && tensor.shape.empty();
}

[[nodiscard]] MERISTEM_INLINE ModelInfo read_info(const Safetensors& file) {
  ModelInfo info;
  const auto json = [&](const char* name) {
    const std::string where = concat(file.source(), ": ", name);
    return std::pair(where, parse_json(file.metadata(name), where));
  };
  const auto [sample_where, sample] = json("sample");
  info.sample = Shape();
  for (const Json& extent : Members::as_list(sample_where, sample)) {
    if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() > std::uint64_t{LayerFields::max_size} ||
        info.sample.rank() == Shape::max_rank - 1) {
      throw DataError(concat(sample_where, ": is no shape of a sample"));
    }
    info.sample.append(extent.get<std::int64_t>());
  }
  const auto [names_where, names] = json("class_names");
  for (const Json& name : Members::as_list(names_where, names)) {
    if (!name.is_string()) throw DataError(concat(names_where, ": one of them is no string"));
    info.class_names.push_back(name.get<std::string>());
  }
  const auto [normalization_where, normalization] = json("normalization");
  const Members both(normalization_where, normalization);
  for (const auto& [name, numbers] :
       {std::pair("mean", &info.normalization.mean), std::pair("stddev", &info.normalization.stddev)}) {
    for (const Json& number : both.list(name)) {
      if (!number.is_number()) throw DataError(concat(normalization_where, ": one of them is no number"));
      numbers->push_back(number.get<double>());
    }
  }
  info.history = file.metadata("history");
  const std::string prefix = "note.";
  for (const auto& [name, text] : file.metadata()) {
    if (name.compare(0, prefix.size(), prefix) == 0) info.notes[name.substr(prefix.size())] = text;
  }
  return info;
}

}  // namespace meristem::io::detail

namespace meristem::io {

template <Real T>
void save_model(const std::string& path, Context& ctx, nn::Layer<T>& network, const ModelInfo& info, ModelLayout layout,
                const LayerKinds<T>& kinds) {
  nn::check_finite<T>(ctx, network, path + " is not written");
  Safetensors file;
  auto& metadata = file.metadata();
  metadata["meristem.format"] = detail::model_format;
  metadata["meristem.format_version"] = std::to_string(model_version);
  metadata["meristem.version"] = detail::library_version();
  metadata["layout"] = layout == ModelLayout::pytorch ? "pytorch" : "meristem";
  metadata["dtype"] = dtype_name<T>;
  metadata["architecture"] = architecture(network, kinds);
  Json sample = Json::array();
  for (int i = 0; i < info.sample.rank(); ++i) sample.push_back(info.sample[i]);
  metadata["sample"] = json_text(sample, path);
  metadata["class_names"] = json_text(info.class_names, path + ": class names");
  metadata["normalization"] =
      json_text({{"mean", info.normalization.mean}, {"stddev", info.normalization.stddev}}, path + ": normalization");
  metadata["history"] = info.history;
  for (const auto& [name, text] : info.notes) metadata["note." + name] = text;
  if (layout == ModelLayout::meristem) {
    detail::for_each_tensor<T>(network, [&](const std::string& name, Tensor<T>& value) {
      file.add<T>(ctx, name, static_cast<const Tensor<T>&>(value).view());
    });
  } else {
    metadata["format"] = "pt";  // what PyTorch's users look for
    std::map<std::string, std::vector<T>> values;
    detail::for_each_tensor<T>(network,
                               [&](const std::string& name, Tensor<T>& value) { values[name] = to_host(ctx, value); });
    for (const TorchTensor& tensor : torch_layout(network, info.sample)) {
      const std::vector<T> permuted = to_torch<T>(tensor, values.at(tensor.name));
      const auto bytes = std::as_bytes(std::span<const T>(permuted));
      file.add<T>(tensor.torch_name, tensor.torch_shape, std::vector<std::byte>(bytes.begin(), bytes.end()));
    }
  }
  file.write(path);
}

template <Real T>
Model<T> load_model(Context& ctx, const Safetensors& file, const LayerKinds<T>& kinds) {
  detail::require_format(file, detail::model_format, model_version);
  detail::require_dtype<T>(file);
  const std::string& layout = file.metadata("layout");
  if (layout != "meristem" && layout != "pytorch") {
    throw DataError(concat(file.source(), ": has the layout '", layout, "'; meristem and pytorch are read"));
  }
  ModelInfo info = detail::read_info(file);
  nn::Sequential<T> network = build<T>(ctx, file.metadata("architecture"), detail::build_options<T>(file), kinds);
  std::set<std::string> used;
  std::map<std::string, TorchTensor> torch;
  if (layout == "pytorch") {
    try {
      for (TorchTensor& tensor : torch_layout(network, info.sample)) torch.emplace(tensor.name, std::move(tensor));
    } catch (const Error& error) {
      throw DataError(concat(file.source(), ": the layout cannot be undone: ", error.message()));
    }
  }
  detail::for_each_tensor<T>(network, [&](const std::string& name, Tensor<T>& value) {
    const auto found = torch.find(name);
    const std::string& stored_name = found == torch.end() ? name : found->second.torch_name;
    used.insert(stored_name);
    const StoredTensor& stored =
        file.at<T>(stored_name, found == torch.end() ? value.shape() : found->second.torch_shape);
    detail::require_finite<T>(file, stored_name);
    std::vector<T> values(stored.bytes.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), stored.bytes.data(), stored.bytes.size());
    if (found != torch.end()) values = from_torch<T>(found->second, values);
    value = from_host<T>(ctx, value.shape(), values);
  });
  for (const auto& [name, tensor] : file.tensors()) {
    const bool counter = layout == "pytorch" && detail::counts_batches(tensor);
    if (used.count(name) == 0 && !counter) {
      throw DataError(concat(file.source(), ": the tensor '", name, "' is not in the network"));
    }
  }
  return {std::move(network), std::move(info)};
}

template <Real T>
void load_weights(Context& ctx, nn::Layer<T>& network, const Safetensors& file, ModelLayout layout,
                  const Shape& sample) {
  std::map<std::string, TorchTensor> torch;
  if (layout == ModelLayout::pytorch) {
    for (TorchTensor& tensor : torch_layout(network, sample)) torch.emplace(tensor.name, std::move(tensor));
  }
  std::string problems;
  const auto problem = [&](const std::string& sentence) { problems += (problems.empty() ? "" : "; ") + sentence; };
  std::set<std::string> used;
  std::vector<std::pair<Tensor<T>*, std::vector<T>>> staged;
  detail::for_each_tensor<T>(network, [&](const std::string& name, Tensor<T>& value) {
    const auto found = torch.find(name);
    const bool reordered = found != torch.end();
    const std::string& stored_name = reordered ? found->second.torch_name : name;
    const Shape& shape = reordered ? found->second.torch_shape : value.shape();
    used.insert(stored_name);
    if (file.tensors().count(stored_name) == 0) {
      return problem(concat("there is no '", stored_name, "' of shape ", shape));
    }
    try {
      const StoredTensor& stored = file.at<T>(stored_name, shape);
      detail::require_finite<T>(file, stored_name);
      std::vector<T> values(stored.bytes.size() / sizeof(T));
      if (!values.empty()) std::memcpy(values.data(), stored.bytes.data(), stored.bytes.size());
      if (reordered) values = from_torch<T>(found->second, values);
      staged.emplace_back(&value, std::move(values));
    } catch (const DataError& error) {
      problem(error.message().substr(file.source().size() + 2));
    }
  });
  for (const auto& [name, tensor] : file.tensors()) {
    if (used.count(name) != 0 || (layout == ModelLayout::pytorch && detail::counts_batches(tensor))) continue;
    problem(concat("'", name, "' of shape ", tensor.shape_text(), " is not in the network"));
  }
  if (!problems.empty()) throw DataError(concat(file.source(), ": does not fit the network: ", problems));
  // Allocated before anything changes.
  std::vector<Tensor<T>> values;
  for (const auto& [value, numbers] : staged) values.push_back(from_host<T>(ctx, value->shape(), numbers));
  for (std::size_t i = 0; i < staged.size(); ++i) *staged[i].first = std::move(values[i]);
}

template <Real T>
void load_weights(Context& ctx, nn::Layer<T>& network, const std::string& path, ModelLayout layout,
                  const Shape& sample) {
  load_weights<T>(ctx, network, Safetensors::read(path), layout, sample);
}

}  // namespace meristem::io
