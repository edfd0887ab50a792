// A trained network in one safetensors file: weights, architecture, and what a program needs to use it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/data/image_set.hpp>
#include <meristem/io/architecture.hpp>
#include <meristem/io/finite.hpp>
#include <meristem/io/format.hpp>
#include <meristem/io/json_text.hpp>
#include <meristem/io/layout.hpp>
#include <meristem/io/safetensors.hpp>
#include <meristem/nn/finite.hpp>

namespace meristem::io {

/// The version of model files that is written, and the only one that is read.
inline constexpr std::int64_t model_version = 1;

/// Names and order of the tensors in a model file.
enum class ModelLayout {
  meristem,  ///< as in memory
  pytorch,   ///< as in the state_dict of the equivalent PyTorch module, which takes maps as (n, C, H, W)
};

/// What a model file holds besides the network. All of it may be left out.
struct ModelInfo {
  Shape sample = {0};                         ///< shape of one sample, such as (32, 32, 3); (0) if not known
  std::vector<std::string> class_names = {};  ///< of the outputs, in order
  data::Normalization normalization = {};     ///< of the inputs
  std::string history = {};                   ///< how the network grew: lines of JSON
  std::map<std::string, std::string> notes = {};
};

template <Real T>
struct Model {
  nn::Sequential<T> network;
  ModelInfo info;
};

/// Writes a network as AtomicFile does. For PyTorch's layout of a network with a Flatten `info.sample` is needed. Waits
/// for the device. Throws IoError if the file cannot be written; ArgumentError if `info.sample` is missing, for a
/// network that `architecture` cannot write down or that has no equivalent in PyTorch's order, and for strings that are
/// not UTF-8; ShapeError if it does not take `info.sample`; NumericError for weights that are not finite.
template <Real T>
void save_model(const std::string& path, Context& ctx, nn::Layer<T>& network, const ModelInfo& info = {},
                ModelLayout layout = ModelLayout::meristem, const LayerKinds<T>& kinds = {});

/// The network in a file that was read already, and what was saved with it, from either layout. Throws DataError, which
/// names file and tensor, for a file that is no model or of another version or element type, and for tensors that are
/// missing, of another shape, not finite, or not in the network.
template <Real T>
[[nodiscard]] Model<T> load_model(Context& ctx, const Safetensors& file, const LayerKinds<T>& kinds = {});

/// As above, of a file. Throws IoError too if it cannot be read.
template <Real T>
[[nodiscard]] Model<T> load_model(Context& ctx, const std::string& path, const LayerKinds<T>& kinds = {}) {
  return load_model<T>(ctx, Safetensors::read(path), kinds);
}

/// Puts the tensors of any safetensors file, such as a PyTorch `state_dict` that safetensors.torch.save_file wrote,
/// into a network that is there already. Names are matched by path. In PyTorch's layout a file has the names and orders
/// that `torch_layout` gives for `sample`, which networks with a Flatten need, and PyTorch's counters of batches are
/// passed over. Throws DataError, which lists all that does not fit (tensors that are missing, of another shape or
/// dtype, not finite, or not in the network), and as `torch_layout`; the network is then as it was.
template <Real T>
void load_weights(Context& ctx, nn::Layer<T>& network, const Safetensors& file, ModelLayout layout,
                  const Shape& sample = {0});

/// As above, of a file. Throws IoError too if it cannot be read.
template <Real T>
void load_weights(Context& ctx, nn::Layer<T>& network, const std::string& path, ModelLayout layout,
                  const Shape& sample = {0});

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/model_impl.hpp>
#endif
