// Small residual networks, with norms wherever they may stand.
#pragma once

#include <cstdint>
#include <string>

#include <meristem/models/resnet.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>

namespace support {

struct Preactivation {
  std::int64_t classes = 3, channels = 2, in_channels = 2;
  bool stem_norm = false;  ///< a norm, and no ReLU, behind the first convolution
  bool last_norm = true;   ///< norm and ReLU before the classifier
};

/// K. He et al., "Identity mappings in deep residual networks" (2016): a stage of two blocks, one at half the size
/// whose first block has a 1x1 shortcut behind the norm that its body reads.
template <class T>
meristem::nn::Sequential<T> preactivation_resnet(meristem::Context& ctx, const Preactivation& options) {
  namespace nn = meristem::nn;
  const std::int64_t c = options.channels;
  const auto norm = [&](nn::Sequential<T>& to, const char* name, std::int64_t width) {
    to.template add<nn::BatchNorm<T>>(name, ctx, width, nn::BatchNormOptions{.activation = nn::Activation::relu});
  };
  const auto conv = [&](nn::Sequential<T>& to, const char* name, std::int64_t in, std::int64_t out,
                        std::int64_t kernel = 3, std::int64_t stride = 1) {
    to.template add<nn::Conv2d<T>>(
        name, ctx, in, out,
        nn::Conv2dOptions{.kernel = kernel, .stride = stride, .padding = kernel / 2, .bias = false});
  };
  const auto block = [&](nn::Sequential<T>& stage, const char* name, std::int64_t in, std::int64_t out) {
    auto& added =
        stage.template add<nn::Residual<T>>(name, nn::ResidualOptions{.activation = nn::Activation::identity});
    const std::int64_t hidden = out + 1, stride = in == out ? 1 : 2;
    if (in == out) norm(added.body(), "norm1", in);
    conv(added.body(), "conv1", in, hidden, 3, stride);
    norm(added.body(), "norm2", hidden);
    conv(added.body(), "conv2", hidden, out);
    if (in != out) conv(added.shortcut(), "conv", in, out, 1, stride);
  };
  nn::Sequential<T> net;
  auto& stem = net.template add<nn::Sequential<T>>("stem");
  conv(stem, "conv", options.in_channels, c);
  if (options.stem_norm) stem.template add<nn::BatchNorm<T>>("norm", ctx, c);
  auto& first = net.template add<nn::Sequential<T>>("stage1");
  block(first, "block1", c, c);
  block(first, "block2", c, c);
  auto& second = net.template add<nn::Sequential<T>>("stage2");
  norm(second, "norm", c);
  block(second, "block1", c, 2 * c);
  block(second, "block2", 2 * c, 2 * c);
  if (options.last_norm) norm(net, "norm", 2 * c);
  net.template add<nn::GlobalAveragePool<T>>("pool");
  net.template add<nn::Linear<T>>("linear", ctx, 2 * c, options.classes);
  return net;
}

/// Where the norms of a residual network stand.
enum class Residuals {
  pooled,         ///< behind the layers: the ResNet-18 of the TINY paper
  strided,        ///< the usual ResNet-18
  preactivation,  ///< in front of the readers
  mixed,          ///< the same with a norm behind the stem as well, and none before the classifier
};
inline constexpr Residuals all_residuals[] = {Residuals::pooled, Residuals::strided, Residuals::preactivation,
                                              Residuals::mixed};

inline bool preactivated(Residuals kind) { return kind == Residuals::preactivation || kind == Residuals::mixed; }

template <class T>
meristem::nn::Sequential<T> residual_network(meristem::Context& ctx, Residuals kind, std::int64_t classes) {
  if (preactivated(kind)) {
    const bool mixed = kind == Residuals::mixed;
    return preactivation_resnet<T>(ctx, {.classes = classes, .stem_norm = mixed, .last_norm = !mixed});
  }
  if (kind == Residuals::strided) {
    return meristem::models::resnet18_strided<T>(ctx,
                                                 {.classes = classes, .width = 0.5, .channels = 2, .in_channels = 2});
  }
  return meristem::models::resnet18<T>(ctx, {.classes = classes, .width = 0.5, .channels = 2, .in_channels = 2});
}

}  // namespace support
