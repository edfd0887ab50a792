// What the headers of io declare, for float and double.
#include <meristem/io/architecture_impl.hpp>
#include <meristem/io/checkpoint_impl.hpp>
#include <meristem/io/file_impl.hpp>
#include <meristem/io/format_impl.hpp>
#include <meristem/io/history_impl.hpp>
#include <meristem/io/json_text_impl.hpp>
#include <meristem/io/layer_fields_impl.hpp>
#include <meristem/io/layout_impl.hpp>
#include <meristem/io/model_impl.hpp>
#include <meristem/io/npy_impl.hpp>
#include <meristem/io/onnx_graph_impl.hpp>
#include <meristem/io/onnx_impl.hpp>
#include <meristem/io/safetensors_impl.hpp>

namespace meristem::io {

#define MERISTEM_INSTANTIATE(T)                                                                                        \
  template class LayerKinds<T>;                                                                                        \
  template void read_layers<T>(Context & ctx, LayerFields & fields, const std::string& field, nn::Sequential<T>& into, \
                               const LayerKinds<T>& kinds);                                                            \
  template std::string architecture<T>(nn::Layer<T> & network, const LayerKinds<T>& kinds);                            \
  template nn::Sequential<T> build<T>(Context & ctx, std::string_view text, const BuildOptions& options,               \
                                      const LayerKinds<T>& kinds);                                                     \
  template void save_checkpoint<T>(const std::string& path, Context& ctx, nn::Layer<T>& network,                       \
                                   optim::Optimizer<T>& optimizer, const Json& state, const LayerKinds<T>& kinds);     \
  template class Checkpoint<T>;                                                                                        \
  template std::vector<TorchTensor> torch_layout<T>(nn::Layer<T> & network, const Shape& sample);                      \
  template void save_model<T>(const std::string& path, Context& ctx, nn::Layer<T>& network, const ModelInfo& info,     \
                              ModelLayout layout, const LayerKinds<T>& kinds);                                         \
  template Model<T> load_model<T>(Context & ctx, const Safetensors& file, const LayerKinds<T>& kinds);                 \
  template void load_weights<T>(Context & ctx, nn::Layer<T> & network, const Safetensors& file, ModelLayout layout,    \
                                const Shape& sample);                                                                  \
  template void load_weights<T>(Context & ctx, nn::Layer<T> & network, const std::string& path, ModelLayout layout,    \
                                const Shape& sample);                                                                  \
  template class OnnxLayer<T>;                                                                                         \
  template void save_onnx<T>(const std::string& path, Context& ctx, nn::Layer<T>& network, const ModelInfo& info,      \
                             const LayerKinds<T>& kinds);

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::io

namespace meristem::io::detail {

#define MERISTEM_INSTANTIATE(T)                                                                             \
  template Json describe_layer<T>(nn::Layer<T> & layer, const LayerKinds<T>& kinds);                        \
  template void add_library_kinds<T>(LayerKinds<T> & kinds);                                                \
  template void build_children<T>(Context & ctx, BuildUse & use, const Json& list, nn::Sequential<T>& into, \
                                  const std::string& path, const LayerKinds<T>& kinds);                     \
  template void require_dtype<T>(const Safetensors& file);                                                  \
  template BuildOptions build_options<T>(const Safetensors& file);                                          \
  template class TorchWalk<T>;                                                                              \
  template class OnnxWriter<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::io::detail
