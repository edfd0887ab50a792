// A network's layers with their options, without weights, as JSON text and back.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/io/format.hpp>
#include <meristem/io/layer_fields.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/group_norm.hpp>
#include <meristem/nn/layer_norm.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::inline MERISTEM_BACKEND::io {

/// The version of the architecture's JSON that is written, and the only one that is read.
inline constexpr std::int64_t architecture_version = 1;

/// How to write down and make layers of a user's own kinds. Those of the library are known without it.
template <Real T>
class LayerKinds {
 public:
  /// The options of a layer as a JSON object, without kind and name.
  using Describe = std::function<Json(nn::Layer<T>&)>;
  /// A layer from its fields; it calls `claim` before it allocates. Weights need no initial values.
  using Make = std::function<nn::LayerPtr<T>(Context&, LayerFields&)>;

  /// Throws ArgumentError for a kind that is there already.
  void add(const std::string& kind, Describe describe, Make make) {
    if (!kinds_.emplace(kind, Entry{std::move(describe), std::move(make)}).second) {
      throw ArgumentError(concat("LayerKinds: the kind '", kind, "' is there already"));
    }
  }

  struct Entry {
    Describe describe;
    Make make;
  };
  /// Null for a kind that was not added.
  [[nodiscard]] const Entry* find(const std::string& kind) const {
    const auto found = kinds_.find(kind);
    return found == kinds_.end() ? nullptr : &found->second;
  }

 private:
  std::map<std::string, Entry> kinds_;
};

namespace detail {

[[nodiscard]] inline Json window_json(std::string_view kind, const Window& window) {
  return {{"kind", kind},
          {"kernel", extent_json(window.kernel)},
          {"stride", extent_json(window.stride)},
          {"padding", extent_json(window.padding)},
          {"dilation", extent_json(window.dilation)}};
}

template <Real T>
[[nodiscard]] Json describe_layer(nn::Layer<T>& layer, const LayerKinds<T>& kinds);

/// The layers of a container whose path names start with `prefix`.
template <Real T>
[[nodiscard]] Json describe_children(nn::Sequential<T>& container, const LayerKinds<T>& kinds) {
  const std::size_t skip = container.name().empty() ? 0 : container.name().size() + 1;
  Json layers = Json::array();
  for (nn::Layer<T>* child : container.children()) {
    Json value = describe_layer(*child, kinds);
    value["name"] = child->name().substr(skip);
    layers.push_back(std::move(value));
  }
  return layers;
}

template <Real T>
[[nodiscard]] Json describe_layer(nn::Layer<T>& layer, const LayerKinds<T>& kinds) {
  const std::string kind(layer.kind());
  if (const auto* own = kinds.find(kind)) {
    Json value = own->describe(layer);
    if (!value.is_object() || value.contains("kind") || value.contains("name")) {
      throw ArgumentError(concat(layer.label(), ": its description must be an object without 'kind' and 'name'"));
    }
    value["kind"] = kind;
    return value;
  }
  if (auto* l = dynamic_cast<nn::Sequential<T>*>(&layer)) {
    return {{"kind", kind}, {"layers", describe_children(*l, kinds)}};
  }
  if (auto* l = dynamic_cast<nn::Residual<T>*>(&layer)) {
    return {{"kind", kind},
            {"activation", kernels::activation_name(l->activation())},
            {"body", describe_children(l->body(), kinds)},
            {"shortcut", describe_children(l->shortcut(), kinds)}};
  }
  if (auto* l = dynamic_cast<nn::Linear<T>*>(&layer)) {
    return {{"kind", kind},
            {"in_features", l->in_features()},
            {"out_features", l->out_features()},
            {"bias", l->has_bias()}};
  }
  if (auto* l = dynamic_cast<nn::Conv2d<T>*>(&layer)) {
    Json value = window_json(kind, l->window());
    value.update({{"in_channels", l->in_channels()}, {"out_channels", l->out_channels()}, {"bias", l->has_bias()}});
    return value;
  }
  if (auto* l = dynamic_cast<nn::BatchNorm<T>*>(&layer)) {
    return {{"kind", kind},
            {"channels", l->channels()},
            {"momentum", l->momentum()},
            {"epsilon", l->epsilon()},
            {"activation", kernels::activation_name(l->activation())}};
  }
  if (auto* l = dynamic_cast<nn::GroupNorm<T>*>(&layer)) {
    return {{"kind", kind}, {"groups", l->groups()}, {"channels", l->channels()}, {"epsilon", l->epsilon()}};
  }
  if (auto* l = dynamic_cast<nn::LayerNorm<T>*>(&layer)) {
    return {{"kind", kind}, {"channels", l->channels()}, {"epsilon", l->epsilon()}};
  }
  if (auto* l = dynamic_cast<nn::MaxPool2d<T>*>(&layer)) return window_json(kind, l->window());
  if (auto* l = dynamic_cast<nn::AveragePool2d<T>*>(&layer)) return window_json(kind, l->window());
  if (auto* l = dynamic_cast<nn::Dropout<T>*>(&layer)) return {{"kind", kind}, {"probability", l->probability()}};
  if (auto* l = dynamic_cast<nn::ActivationLayer<T>*>(&layer)) {
    return {{"kind", "Activation"}, {"function", kernels::activation_name(l->function())}};
  }
  if (dynamic_cast<nn::Flatten<T>*>(&layer) || dynamic_cast<nn::GlobalAveragePool<T>*>(&layer)) {
    return {{"kind", kind}};
  }
  throw ArgumentError(
      concat(layer.label(),
             ": layers of this kind cannot be written down; add the kind to an io::LayerKinds and hand that over"));
}

template <Real T>
void build_children(Context& ctx, BuildUse& use, const Json& list, nn::Sequential<T>& into, const std::string& path,
                    const LayerKinds<T>& kinds);

template <Real T>
[[nodiscard]] nn::LayerPtr<T> build_layer(Context& ctx, LayerFields& fields, const LayerKinds<T>& kinds) {
  const std::string& kind = fields.kind();
  const auto activation = [&](const char* name) {
    try {
      return kernels::parse_activation(fields.text(name));
    } catch (const ArgumentError& error) {
      fields.fail(error.message());
    }
  };
  if (const auto* own = kinds.find(kind)) return own->make(ctx, fields);
  if (kind == "Sequential") {
    auto layer = std::make_unique<nn::Sequential<T>>();
    build_children(ctx, fields.use(), fields.field("layers"), *layer, fields.path(), kinds);
    return layer;
  }
  if (kind == "Residual") {
    auto layer = std::make_unique<nn::Residual<T>>(nn::ResidualOptions{.activation = activation("activation")});
    build_children(ctx, fields.use(), fields.field("body"), layer->body(), fields.path(), kinds);
    for (nn::Layer<T>* child : layer->body().children()) {
      if (child->name() == "shortcut") fields.fail("'shortcut' is the name of the other branch");
    }
    build_children(ctx, fields.use(), fields.field("shortcut"), layer->shortcut(), fields.path() + ".shortcut", kinds);
    return layer;
  }
  if (kind == "Linear") {
    const std::int64_t in = fields.size("in_features"), out = fields.size("out_features");
    const bool bias = fields.flag("bias");
    fields.claim({{out, in}, {bias ? out : 0}});
    return std::make_unique<nn::Linear<T>>(ctx, in, out, nn::LinearOptions{.bias = bias, .init = nn::Init::zeros});
  }
  if (kind == "Conv2d") {
    const std::int64_t in = fields.size("in_channels"), out = fields.size("out_channels");
    const nn::Conv2dOptions options{.kernel = fields.extent("kernel", 1),
                                    .stride = fields.extent("stride", 1),
                                    .padding = fields.extent("padding"),
                                    .dilation = fields.extent("dilation", 1),
                                    .bias = fields.flag("bias"),
                                    .init = nn::Init::zeros};
    fields.claim({{options.kernel.size(), out, in}, {options.bias ? out : 0}});
    return std::make_unique<nn::Conv2d<T>>(ctx, in, out, options);
  }
  if (kind == "BatchNorm") {
    const std::int64_t channels = fields.size("channels");
    const nn::BatchNormOptions options{
        .momentum = fields.real("momentum"), .epsilon = fields.real("epsilon"), .activation = activation("activation")};
    fields.claim({{4, channels}});
    return std::make_unique<nn::BatchNorm<T>>(ctx, channels, options);
  }
  if (kind == "GroupNorm") {
    const std::int64_t groups = fields.size("groups", 1), channels = fields.size("channels");
    const double epsilon = fields.real("epsilon");
    fields.claim({{2, channels}});
    return std::make_unique<nn::GroupNorm<T>>(ctx, groups, channels, nn::GroupNormOptions{.epsilon = epsilon});
  }
  if (kind == "LayerNorm") {
    const std::int64_t channels = fields.size("channels");
    const double epsilon = fields.real("epsilon");
    fields.claim({{2, channels}});
    return std::make_unique<nn::LayerNorm<T>>(ctx, channels, nn::LayerNormOptions{.epsilon = epsilon});
  }
  if (kind == "MaxPool2d" || kind == "AveragePool2d") {
    const nn::PoolOptions options{.kernel = fields.extent("kernel", 1),
                                  .stride = fields.extent("stride", 1),
                                  .padding = fields.extent("padding"),
                                  .dilation = fields.extent("dilation", 1)};
    if (kind == "MaxPool2d") return std::make_unique<nn::MaxPool2d<T>>(options);
    return std::make_unique<nn::AveragePool2d<T>>(options);
  }
  if (kind == "GlobalAveragePool") return std::make_unique<nn::GlobalAveragePool<T>>();
  if (kind == "Flatten") return std::make_unique<nn::Flatten<T>>();
  if (kind == "Dropout") return std::make_unique<nn::Dropout<T>>(fields.real("probability"));
  if (kind == "Activation") return std::make_unique<nn::ActivationLayer<T>>(activation("function"));
  fields.fail("there is no such kind of layer here; add it to LayerKinds, or use the version that wrote the file");
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
      nn::LayerPtr<T> layer = build_layer(ctx, fields, kinds);
      fields.finish();
      into.append(name, std::move(layer));
    } catch (const ArgumentError& error) {
      fields.fail(error.message());
    }
  }
  --use.depth;
}

}  // namespace detail

/// A network's layers as JSON: the kind, the name and the options of each, as `io/README.md` lists them. Throws
/// ArgumentError for a network that is no Sequential and for layers of unknown kinds.
template <Real T>
[[nodiscard]] std::string architecture(nn::Layer<T>& network, const LayerKinds<T>& kinds = {}) {
  if (dynamic_cast<nn::Sequential<T>*>(&network) == nullptr) {
    throw ArgumentError(
        concat(network.label(), ": only a Sequential can be written down as a network; put it into one"));
  }
  Json value = detail::describe_layer(network, kinds);
  value["version"] = architecture_version;
  value["name"] = network.name();
  return json_text(value, concat(network.label(), ": the architecture"));
}

/// A network from what `architecture` wrote: all weights 0, norms as new. Draws random streams and ids as any new
/// network does. Throws DataError, which names the layer, for text that is no such description, for another version,
/// and for a network beyond the limits, before that is allocated.
template <Real T>
[[nodiscard]] nn::Sequential<T> build(Context& ctx, std::string_view text, const BuildOptions& options = {},
                                      const LayerKinds<T>& kinds = {}) {
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

}  // namespace meristem::inline MERISTEM_BACKEND::io
