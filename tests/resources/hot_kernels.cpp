// Everything a training step and a growth step launch, in float32, compiled for its report of registers and spills.
// The second type is there where statistics are kept in it. Nothing here runs.
#include <meristem/data/loader.hpp>
#include <meristem/grow/statistics/patch_covariance.hpp>
#include <meristem/grow/statistics/patch_cross_covariance.hpp>
#include <meristem/kernels/covariance.cuh>
#include <meristem/kernels/cross_covariance.cuh>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/group_norm.hpp>
#include <meristem/nn/layer_norm.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>

template class meristem::nn::ActivationLayer<float>;
template class meristem::nn::BatchNorm<float>;
template class meristem::nn::Conv2d<float>;
template class meristem::nn::Dropout<float>;
template class meristem::nn::GroupNorm<float>;
template class meristem::nn::LayerNorm<float>;
template class meristem::nn::Linear<float>;
template class meristem::nn::MaxPool2d<float>;
template class meristem::nn::AveragePool2d<float>;
template class meristem::nn::GlobalAveragePool<float>;
template class meristem::optim::Sgd<float>;
template class meristem::optim::AdamW<float>;
template class meristem::grow::PatchCovariance<float>;
template class meristem::grow::PatchCrossCovariance<float>;

namespace ms = meristem;

// A training step makes batches of images that lie on the device.
template class meristem::data::ImageBatches<float>;

ms::nn::LossValue<float> losses(ms::Context& ctx, ms::View<const float> x, ms::View<const std::int32_t> labels) {
  return ms::nn::CrossEntropy{}(ctx, x, labels);
}

void covariances(ms::Context& ctx, ms::View<const float> x, ms::View<float> out) {
  ms::kernels::accumulate_covariance(ctx, x, true, out, ms::kernels::CovariancePath::kernel);
  ms::kernels::accumulate_cross_covariance(ctx, x, true, x, out, ms::kernels::CovariancePath::kernel);
}
