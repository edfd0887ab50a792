// What the headers of layers, optimisers, models, training and data declare, for float and double.
#include <meristem/data/augmentation_impl.hpp>
#include <meristem/data/cifar_impl.hpp>
#include <meristem/data/device_images_impl.hpp>
#include <meristem/data/image_set_impl.hpp>
#include <meristem/data/loader_impl.hpp>
#include <meristem/data/synthetic_impl.hpp>
#include <meristem/models/mlp_impl.hpp>
#include <meristem/models/resnet_impl.hpp>
#include <meristem/models/vgg_impl.hpp>
#include <meristem/nn/activation_impl.hpp>
#include <meristem/nn/batch_impl.hpp>
#include <meristem/nn/batch_norm_impl.hpp>
#include <meristem/nn/concatenate_impl.hpp>
#include <meristem/nn/conv2d_impl.hpp>
#include <meristem/nn/description_impl.hpp>
#include <meristem/nn/dropout_impl.hpp>
#include <meristem/nn/finite_impl.hpp>
#include <meristem/nn/flatten_impl.hpp>
#include <meristem/nn/group_norm_impl.hpp>
#include <meristem/nn/init_impl.hpp>
#include <meristem/nn/layer_impl.hpp>
#include <meristem/nn/layer_norm_impl.hpp>
#include <meristem/nn/linear_impl.hpp>
#include <meristem/nn/loss_impl.hpp>
#include <meristem/nn/pooling_impl.hpp>
#include <meristem/nn/residual_impl.hpp>
#include <meristem/nn/sequential_impl.hpp>
#include <meristem/nn/slice_impl.hpp>
#include <meristem/nn/weighted_layer_impl.hpp>
#include <meristem/optim/adamw_impl.hpp>
#include <meristem/optim/first_steps_impl.hpp>
#include <meristem/optim/optimizer_impl.hpp>
#include <meristem/optim/schedule_impl.hpp>
#include <meristem/optim/sgd_impl.hpp>
#include <meristem/train/trainer_impl.hpp>

namespace meristem::data {

#define MERISTEM_INSTANTIATE(T)   \
  template class ImageBatches<T>; \
  template class Loader<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::data

namespace meristem::models {

#define MERISTEM_INSTANTIATE(T)                                                                       \
  template nn::Sequential<T> mlp<T>(Context & ctx, const MlpOptions& options);                        \
  template nn::Sequential<T> resnet18<T>(Context & ctx, const ResNetOptions& options);                \
  template nn::Sequential<T> resnet18_strided<T>(Context & ctx, const StridedResNetOptions& options); \
  template nn::Sequential<T> vgg<T>(Context & ctx, const VggOptions& options);

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::models

namespace meristem::nn {

#define MERISTEM_LOSS(Loss, T)                                                                              \
  template LossValue<T> Loss::operator()<T>(Context & ctx, View<const T> output, const BatchView<T>& batch, \
                                            bool with_gradient) const;                                      \
  template LossValue<T> Loss::on_device<T>(Context & ctx, View<const T> output, const BatchView<T>& batch,  \
                                           bool with_gradient) const;

#define MERISTEM_INSTANTIATE(T)                                                                                     \
  template class ActivationLayer<T>;                                                                                \
  template struct Batch<T>;                                                                                         \
  template Batch<T> copy_of<T>(Context & ctx, const BatchView<T>& batch);                                           \
  template class BatchSource<T>;                                                                                    \
  template class BatchNorm<T>;                                                                                      \
  template class Conv2d<T>;                                                                                         \
  template class Description<T>;                                                                                    \
  template class Dropout<T>;                                                                                        \
  template class Flatten<T>;                                                                                        \
  template class GroupNorm<T>;                                                                                      \
  template void initialize<T>(Context & ctx, Init init, std::int64_t fan_in, std::int64_t fan_out, View<T> values); \
  template struct Trace<T>;                                                                                         \
  template class Layer<T>;                                                                                          \
  template class LayerHandle<T>;                                                                                    \
  template std::vector<Parameter<T>*> parameters<T>(Layer<T> & layer);                                              \
  template bool contains<T>(Layer<T> & network, const Layer<T>& part);                                              \
  template bool has_parameters<T>(Layer<T> & layer);                                                                \
  template std::int64_t parameter_count<T>(Layer<T> & layer);                                                       \
  template class LayerNorm<T>;                                                                                      \
  template class Linear<T>;                                                                                         \
  template class WindowPool<T>;                                                                                     \
  template class MaxPool2d<T>;                                                                                      \
  template class AveragePool2d<T>;                                                                                  \
  template class GlobalAveragePool<T>;                                                                              \
  template class Concatenate<T>;                                                                                    \
  template class Residual<T>;                                                                                       \
  template class Sequential<T>;                                                                                     \
  template class Slice<T>;                                                                                          \
  template Tensor<T> side_by_side<T>(Context & ctx, std::span<const View<const T>> inputs);                         \
  template LossValue<T> CrossEntropy::operator()<T>(Context & ctx, View<const T> logits,                            \
                                                    View<const std::int32_t> labels, bool with_gradient) const;     \
  template LossValue<T> SquaredError::operator()<T>(Context & ctx, View<const T> output, View<const T> target,      \
                                                    bool with_gradient) const;                                      \
  MERISTEM_LOSS(CrossEntropy, T)                                                                                    \
  MERISTEM_LOSS(SquaredError, T)                                                                                    \
  MERISTEM_LOSS(Huber, T)                                                                                           \
  MERISTEM_LOSS(BinaryCrossEntropy, T)                                                                              \
  template void check_finite<T>(Context & ctx, Layer<T> & network, const std::string& where);                       \
  template void check_gradients<T>(Context & ctx, Layer<T> & network, const std::string& where);                    \
  template class WeightedLayer<T>;                                                                                  \
  template class NormLayer<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE
#undef MERISTEM_LOSS

}  // namespace meristem::nn

namespace meristem::nn::detail {

#define MERISTEM_INSTANTIATE(T)                                             \
  template void require_maps<T>(const Layer<T>& layer, const Shape& input); \
  template Shape pooled_shape<T>(const Layer<T>& layer, const Window& window, const Shape& input);

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::nn::detail

namespace meristem::optim {

#define MERISTEM_INSTANTIATE(T) \
  template class AdamW<T>;      \
  template class Optimizer<T>;  \
  template class Sgd<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::optim

namespace meristem::train {

#define MERISTEM_INSTANTIATE(T)                                                                                        \
  template Metrics step<T>(Context & ctx, nn::Layer<T> & network, const std::type_identity_t<nn::BatchView<T>>& batch, \
                           optim::Optimizer<T>& optimizer, const nn::Objective& loss);                                 \
  template class Trainer<T>;                                                                                           \
  template Metrics evaluate<T>(Context & ctx, nn::Layer<T> & network,                                                  \
                               const std::type_identity_t<nn::BatchSource<T>>& set, std::int64_t batch_size,           \
                               const nn::Objective& loss);

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::train
