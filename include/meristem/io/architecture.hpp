// A network's layers with their options, without weights, as JSON text and back.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/io/format.hpp>
#include <meristem/io/layer_fields.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/concatenate.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/group_norm.hpp>
#include <meristem/nn/layer_norm.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/nn/slice.hpp>

namespace meristem::io {

/// The version of the architecture's JSON that is written, and the only one that is read.
inline constexpr std::int64_t architecture_version = 1;

template <Real T>
class LayerKinds;
template <Real T>
class OnnxLayer;

namespace detail {

template <Real T>
void add_library_kinds(LayerKinds<T>& kinds);

[[nodiscard]] Json field_json(const nn::FieldValue& field);

}  // namespace detail

/// Kinds of layers that files are read and written with: the library's, and those of a user's own that are added. What
/// is written of a layer are the fields of its description.
template <Real T>
class LayerKinds {
 public:
  /// A layer from its fields; it calls `claim` before it allocates. Weights need no initial values.
  using Make = std::function<nn::LayerPtr<T>(Context&, LayerFields&)>;
  /// Writes the layer's nodes into an ONNX graph (see OnnxLayer) and returns the name of the output.
  using Export = std::function<std::string(OnnxLayer<T>&)>;

  LayerKinds() { detail::add_library_kinds(*this); }

  /// `onnx` is for layers whose descriptions do not say it all: Operator::other and functions of one's own. Throws
  /// ArgumentError for a kind that is there already.
  void add(const std::string& kind, Make make, Export onnx = {});
  /// The same for a container that lists layers in its fields: `make` is given these kinds, for `read_layers`.
  void add_container(const std::string& kind,
                     std::function<nn::LayerPtr<T>(Context&, LayerFields&, const LayerKinds&)> make, Export onnx = {});

  struct Entry {
    std::function<nn::LayerPtr<T>(Context&, LayerFields&, const LayerKinds&)> make;
    Export onnx;
  };
  /// Null for a kind that is not there.
  [[nodiscard]] const Entry* find(const std::string& kind) const;

 private:
  std::map<std::string, Entry> kinds_;
};

namespace detail {

/// What files call the kind of a layer.
template <Real T>
[[nodiscard]] std::string kind_of(const nn::Layer<T>& layer, const nn::Description<T>& told) {
  return told.kind.empty() ? std::string(layer.kind()) : told.kind;
}

template <Real T>
[[nodiscard]] Json describe_layer(nn::Layer<T>& layer, const LayerKinds<T>& kinds);

template <Real T>
[[nodiscard]] Json describe_layer(nn::Layer<T>& layer, const LayerKinds<T>& kinds);

template <Real T>
void build_children(Context& ctx, BuildUse& use, const Json& list, nn::Sequential<T>& into, const std::string& path,
                    const LayerKinds<T>& kinds);

}  // namespace detail

/// For a container's `make`: adds the layers that a field lists (Description::layers_field) to a Sequential inside it,
/// which has no path yet but its own name.
template <Real T>
void read_layers(Context& ctx, LayerFields& fields, const std::string& field, nn::Sequential<T>& into,
                 const LayerKinds<T>& kinds);

namespace detail {

template <Real T>
void add_library_kinds(LayerKinds<T>& kinds);

template <Real T>
void build_children(Context& ctx, BuildUse& use, const Json& list, nn::Sequential<T>& into, const std::string& path,
                    const LayerKinds<T>& kinds);

}  // namespace detail

/// A network's layers as JSON: the kind, the name and the options of each, as `io/README.md` lists them. Throws
/// ArgumentError for a network that is no Sequential and for layers of unknown kinds.
template <Real T>
[[nodiscard]] std::string architecture(nn::Layer<T>& network, const LayerKinds<T>& kinds = {});

/// A network from what `architecture` wrote: all weights 0, norms as new. Draws random streams and ids as any new
/// network does. Throws DataError, which names the layer, for text that is no such description, for another version,
/// and for a network beyond the limits, before that is allocated.
template <Real T>
[[nodiscard]] nn::Sequential<T> build(Context& ctx, std::string_view text, const BuildOptions& options = {},
                                      const LayerKinds<T>& kinds = {});

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/architecture_impl.hpp>
#endif
