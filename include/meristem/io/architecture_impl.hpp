// Definitions of architecture.hpp.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>
#include <variant>

#include <meristem/io/architecture.hpp>

namespace meristem::io {

template <Real T>
void LayerKinds<T>::add(const std::string& kind, Make make, Export onnx) {
  add_container(
      kind,
      [make = std::move(make)](Context& ctx, LayerFields& fields, const LayerKinds&) { return make(ctx, fields); },
      std::move(onnx));
}

template <Real T>
void LayerKinds<T>::add_container(const std::string& kind,
                                  std::function<nn::LayerPtr<T>(Context&, LayerFields&, const LayerKinds&)> make,
                                  Export onnx) {
  if (!kinds_.emplace(kind, Entry{std::move(make), std::move(onnx)}).second) {
    throw ArgumentError(concat("LayerKinds: the kind '", kind, "' is there already"));
  }
}

template <Real T>
auto LayerKinds<T>::find(const std::string& kind) const -> const Entry* {
  const auto found = kinds_.find(kind);
  return found == kinds_.end() ? nullptr : &found->second;
}

}  // namespace meristem::io

namespace meristem::io::detail {

MERISTEM_INLINE Json field_json(const nn::FieldValue& field) {
  return std::visit(
      [](const auto& value) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, nn::FieldValue::List>) {
          Json list = Json::array();
          for (const nn::FieldValue& each : value) list.push_back(field_json(each));
          return list;
        } else {
          return value;
        }
      },
      field.value);
}

/// The layers of a Sequential.
template <Real T>
[[nodiscard]] Json describe_children(nn::Layer<T>& container, const LayerKinds<T>& kinds) {
  Json layers = Json::array();
  for (const auto& child : container.description().children) {
    Json value = describe_layer(*child.layer, kinds);
    value["name"] = child.name;
    layers.push_back(std::move(value));
  }
  return layers;
}

template <Real T>
Json describe_layer(nn::Layer<T>& layer, const LayerKinds<T>& kinds) {
  const nn::Description<T> told = layer.description(true);
  const std::string kind = kind_of(layer, told);
  if (!kinds.find(kind)) {
    throw ArgumentError(
        concat(layer.label(),
               ": layers of this kind cannot be written down; add the kind to an io::LayerKinds and hand that over"));
  }
  Json value = {{"kind", kind}};
  const auto put = [&](const std::string& name, Json field) {
    if (name == "name" || !value.emplace(name, std::move(field)).second) {
      throw ArgumentError(concat(layer.label(), ": its description has a field '", name,
                                 "', which is taken; 'kind' and 'name' are the file's own, others are there once"));
    }
  };
  for (const auto& [name, field] : told.fields) put(name, field_json(field));
  for (const auto& [name, sequence] : told.lists) put(name, describe_children(*sequence, kinds));
  return value;
}

}  // namespace meristem::io::detail

namespace meristem::io {

template <Real T>
void read_layers(Context& ctx, LayerFields& fields, const std::string& field, nn::Sequential<T>& into,
                 const LayerKinds<T>& kinds) {
  const std::string path = into.name().empty() ? fields.path() : concat(fields.path(), ".", into.name());
  detail::build_children(ctx, fields.use(), fields.field(field), into, path, kinds);
}

}  // namespace meristem::io

namespace meristem::io::detail {

[[nodiscard]] MERISTEM_INLINE nn::Activation activation_field(LayerFields& fields, const char* name) {
  try {
    return kernels::parse_activation(fields.text(name));
  } catch (const ArgumentError& error) {
    fields.fail(error.message());
  }
}

template <Real T>
void add_library_containers(LayerKinds<T>& kinds) {
  using Kinds = LayerKinds<T>;
  kinds.add_container("Sequential", [](Context& ctx, LayerFields& fields, const Kinds& all) {
    auto layer = std::make_unique<nn::Sequential<T>>();
    read_layers(ctx, fields, "layers", *layer, all);
    return layer;
  });
  kinds.add_container("Residual", [](Context& ctx, LayerFields& fields, const Kinds& all) {
    auto layer =
        std::make_unique<nn::Residual<T>>(nn::ResidualOptions{.activation = activation_field(fields, "activation")});
    read_layers(ctx, fields, "body", layer->body(), all);
    read_layers(ctx, fields, "shortcut", layer->shortcut(), all);
    return layer;
  });
  kinds.add_container("Concatenate", [](Context& ctx, LayerFields& fields, const Kinds& all) {
    auto layer = std::make_unique<nn::Concatenate<T>>();
    nn::Sequential<T> branches;
    read_layers(ctx, fields, "branches", branches, all);
    for (const auto& branch : branches.description().children) {
      layer->append(branch.name, branches.extract(branch.name));
    }
    return layer;
  });
}

template <Real T>
void add_library_kinds(LayerKinds<T>& kinds) {
  add_library_containers(kinds);
  kinds.add("Linear", [](Context& ctx, LayerFields& fields) {
    const std::int64_t in = fields.size("in_features"), out = fields.size("out_features");
    const bool bias = fields.flag("bias");
    fields.claim({{out, in}, {bias ? out : 0}});
    return std::make_unique<nn::Linear<T>>(ctx, in, out, nn::LinearOptions{.bias = bias, .init = nn::Init::zeros});
  });
  kinds.add("Conv2d", [](Context& ctx, LayerFields& fields) {
    const std::int64_t in = fields.size("in_channels"), out = fields.size("out_channels");
    const nn::Conv2dOptions options{.kernel = fields.extent("kernel", 1),
                                    .stride = fields.extent("stride", 1),
                                    .padding = fields.extent("padding"),
                                    .dilation = fields.extent("dilation", 1),
                                    .bias = fields.flag("bias"),
                                    .init = nn::Init::zeros};
    fields.claim({{options.kernel.size(), out, in}, {options.bias ? out : 0}});
    return std::make_unique<nn::Conv2d<T>>(ctx, in, out, options);
  });
  kinds.add("BatchNorm", [](Context& ctx, LayerFields& fields) {
    const std::int64_t channels = fields.size("channels");
    const nn::BatchNormOptions options{.momentum = fields.real("momentum"),
                                       .epsilon = fields.real("epsilon"),
                                       .activation = activation_field(fields, "activation")};
    fields.claim({{4, channels}});
    return std::make_unique<nn::BatchNorm<T>>(ctx, channels, options);
  });
  kinds.add("GroupNorm", [](Context& ctx, LayerFields& fields) {
    const std::int64_t groups = fields.size("groups", 1), channels = fields.size("channels");
    const double epsilon = fields.real("epsilon");
    fields.claim({{2, channels}});
    return std::make_unique<nn::GroupNorm<T>>(ctx, groups, channels, nn::GroupNormOptions{.epsilon = epsilon});
  });
  kinds.add("LayerNorm", [](Context& ctx, LayerFields& fields) {
    const std::int64_t channels = fields.size("channels");
    const double epsilon = fields.real("epsilon");
    fields.claim({{2, channels}});
    return std::make_unique<nn::LayerNorm<T>>(ctx, channels, nn::LayerNormOptions{.epsilon = epsilon});
  });
  const auto pool_options = [](LayerFields& fields) {
    return nn::PoolOptions{.kernel = fields.extent("kernel", 1),
                           .stride = fields.extent("stride", 1),
                           .padding = fields.extent("padding"),
                           .dilation = fields.extent("dilation", 1)};
  };
  kinds.add("MaxPool2d",
            [=](Context&, LayerFields& fields) { return std::make_unique<nn::MaxPool2d<T>>(pool_options(fields)); });
  kinds.add("AveragePool2d", [=](Context&, LayerFields& fields) {
    return std::make_unique<nn::AveragePool2d<T>>(pool_options(fields));
  });
  kinds.add("GlobalAveragePool", [](Context&, LayerFields&) { return std::make_unique<nn::GlobalAveragePool<T>>(); });
  kinds.add("Flatten", [](Context&, LayerFields&) { return std::make_unique<nn::Flatten<T>>(); });
  kinds.add("Slice", [](Context&, LayerFields& fields) {
    return std::make_unique<nn::Slice<T>>(fields.size("first"), fields.shape("shape"));
  });
  kinds.add("Dropout",
            [](Context&, LayerFields& fields) { return std::make_unique<nn::Dropout<T>>(fields.real("probability")); });
  kinds.add("Activation", [](Context&, LayerFields& fields) {
    return std::make_unique<nn::ActivationLayer<T>>(activation_field(fields, "function"));
  });
}

template <Real T>
void build_children(Context& ctx, BuildUse& use, const Json& list, nn::Sequential<T>& into, const std::string& path,
                    const LayerKinds<T>& kinds) {
  const auto refuse = [&](const std::string& problem) {
    throw DataError(concat(use.source, ": architecture: container '", path, "': ", problem));
  };
  if (!list.is_array()) refuse("its layers must be a list");
  if (use.depth == use.limits.depth) refuse(concat("containers stand in containers more than ", use.depth, " deep"));
  ++use.depth;
  for (const Json& value : list) {
    if (++use.layers > use.limits.layers) refuse(concat("the network has more than ", use.limits.layers, " layers"));
    if (!value.is_object() || !value.contains("name") || !value["name"].is_string()) {
      refuse("each of its layers must be an object with a name");
    }
    const std::string name = value["name"].get<std::string>();
    LayerFields fields(use, path.empty() ? name : path + "." + name, value);
    // What the layer itself finds wrong with its options.
    try {
      const auto* kind = kinds.find(fields.kind());
      if (!kind) {
        fields.fail(
            "there is no such kind of layer here; add it to LayerKinds, or use the version that wrote the file");
      }
      nn::LayerPtr<T> layer = kind->make(ctx, fields, kinds);
      fields.finish();
      into.append(name, std::move(layer));
    } catch (const ArgumentError& error) {
      fields.fail(error.message());
    }
  }
  --use.depth;
}

}  // namespace meristem::io::detail

namespace meristem::io {

template <Real T>
std::string architecture(nn::Layer<T>& network, const LayerKinds<T>& kinds) {
  if (network.kind() != "Sequential") {
    throw ArgumentError(
        concat(network.label(), ": only a Sequential can be written down as a network; put it into one"));
  }
  Json value = detail::describe_layer(network, kinds);
  value["version"] = architecture_version;
  value["name"] = network.name();
  return json_text(value, concat(network.label(), ": the architecture"));
}

template <Real T>
nn::Sequential<T> build(Context& ctx, std::string_view text, const BuildOptions& options, const LayerKinds<T>& kinds) {
  const std::string where = options.source + ": architecture";
  const Json value = parse_json(text, where);
  if (!value.is_object() || !value.contains("version")) throw DataError(concat(where, ": the version is missing"));
  if (value["version"] != architecture_version) {
    throw DataError(concat(where, ": has version ", value["version"].dump(-1, ' ', true), "; version ",
                           architecture_version, " is read here: use the meristem that wrote it"));
  }
  if (!value.contains("kind") || value["kind"] != "Sequential" || !value.contains("layers") ||
      !value.contains("name") || !value["name"].is_string() || value.size() != 4) {
    throw DataError(concat(where, ": must be an object with version, name, the kind Sequential and layers"));
  }
  detail::BuildUse use{.source = options.source, .limits = options.limits};
  nn::Sequential<T> network;
  network.set_name(value["name"].get<std::string>());
  detail::build_children(ctx, use, value["layers"], network, network.name(), kinds);
  return network;
}

}  // namespace meristem::io
