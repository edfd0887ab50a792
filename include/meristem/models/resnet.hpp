// Residual networks of 18 layers for small images.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/models/scaled_width.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::models {

struct ResNetOptions {
  std::int64_t classes = 10;
  /// Inside the blocks: hidden width over outer width. A block of outer width w starts with max(1, round(width·w))
  /// hidden channels.
  double width = 1.0;
  std::int64_t channels = 64;  ///< outer width of the first stage; it doubles from stage to stage
  std::int64_t in_channels = 3;
  bool bias = true;                       ///< of the convolutions behind the stem
  std::vector<std::int64_t> hidden = {};  ///< hidden widths of the eight blocks, in place of `width`
};

struct StridedResNetOptions {
  std::int64_t classes = 10;
  double width = 1.0;          ///< hidden width over outer width, as in ResNetOptions
  std::int64_t channels = 64;  ///< outer width of the first stage; it doubles from stage to stage
  std::int64_t in_channels = 3;
  std::vector<std::int64_t> hidden = {};  ///< hidden widths of the eight blocks, in place of `width`
};

namespace detail {

/// Throws ArgumentError unless a network can have these options.
template <class Options>
void check_resnet(const char* function, const Options& options) {
  const auto check = [&](const char* what, std::int64_t value) {
    if (value < 1) throw ArgumentError(concat(function, ": ", what, " is ", value, "; it must be 1 or more"));
  };
  check("classes", options.classes);
  check("channels", options.channels);
  check("in_channels", options.in_channels);
  if (!options.hidden.empty() && options.hidden.size() != 8) {
    throw ArgumentError(concat(function, ": ", options.hidden.size(),
                               " hidden widths were given; it has eight blocks: give one width for each, or none"));
  }
  for (const std::int64_t width : options.hidden) check("a hidden width", width);
}

/// Hidden width of a block of outer width `outer`, the `block`th of the `stage`th stage, both from 1.
template <class Options>
[[nodiscard]] std::int64_t hidden_width(const char* function, const Options& options, int stage, int block,
                                        std::int64_t outer) {
  if (options.hidden.empty()) return scaled_width(function, options.width, outer);
  return options.hidden[static_cast<std::size_t>(2 * (stage - 1) + block - 1)];
}

template <Real T>
void add_stem(Context& ctx, nn::Sequential<T>& net, std::int64_t in_channels, std::int64_t channels) {
  auto& stem = net.template add<nn::Sequential<T>>("stem");
  stem.template add<nn::Conv2d<T>>("conv", ctx, in_channels, channels,
                                   nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = false});
  stem.template add<nn::BatchNorm<T>>("norm", ctx, channels, nn::BatchNormOptions{.activation = nn::Activation::relu});
}

struct BlockOptions {
  std::int64_t in = 0;
  std::int64_t hidden = 0;
  std::int64_t out = 0;
  std::int64_t stride = 1;
  bool bias = false;
  nn::Activation activation = nn::Activation::relu;
};

/// conv3x3, norm, relu, conv3x3, norm, and the activation behind the addition. The shortcut is the identity, or a 1x1
/// convolution without bias and a norm where the shape changes.
template <Real T>
void add_block(Context& ctx, nn::Sequential<T>& stage, const std::string& name, const BlockOptions& options) {
  auto& block = stage.template add<nn::Residual<T>>(name, nn::ResidualOptions{.activation = options.activation});
  block.template add<nn::Conv2d<T>>(
      "conv1", ctx, options.in, options.hidden,
      nn::Conv2dOptions{.kernel = 3, .stride = options.stride, .padding = 1, .bias = options.bias});
  block.template add<nn::BatchNorm<T>>("norm1", ctx, options.hidden,
                                       nn::BatchNormOptions{.activation = nn::Activation::relu});
  block.template add<nn::Conv2d<T>>("conv2", ctx, options.hidden, options.out,
                                    nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = options.bias});
  // With the block's activation: the norm adds and activates in one pass.
  block.template add<nn::BatchNorm<T>>("norm2", ctx, options.out,
                                       nn::BatchNormOptions{.activation = options.activation});
  if (options.stride == 1 && options.in == options.out) return;
  block.shortcut().template add<nn::Conv2d<T>>("conv", ctx, options.in, options.out,
                                               nn::Conv2dOptions{.kernel = 1, .stride = options.stride, .bias = false});
  block.shortcut().template add<nn::BatchNorm<T>>("norm", ctx, options.out);
}

template <Real T>
void add_classifier(Context& ctx, nn::Sequential<T>& net, std::int64_t features, std::int64_t classes) {
  net.template add<nn::GlobalAveragePool<T>>("pool");
  net.template add<nn::Linear<T>>("linear", ctx, features, classes, nn::LinearOptions{.init = nn::Init::lecun_normal});
}

}  // namespace detail

/// The growable ResNet-18 of M. Verbockhaven et al., "Growing tiny networks" (TMLR 2024): every block keeps its shape
/// and its identity shortcut, and only the hidden widths grow.
///
/// `stem`: conv3x3 without bias, norm, relu. `stage1` ... `stage4` of width w = channels·{1, 2, 4, 8}, with two
/// residual blocks each: `conv1` (3x3, w to h), `norm1`, relu, `conv2` (3x3, h to w), `norm2`, addition, relu. Stages 2
/// to 4 start with `down`: conv1x1 w/2 to w, norm, 2x2 average pooling. No relu after the last block; `pool` (global
/// average) and `linear`. Images need a side of 8 or more, divisible by 8 if no border is to be dropped. Convolutions
/// start kaiming_normal, the linear layer lecun_normal. Throws ArgumentError for options out of range.
template <Real T>
[[nodiscard]] nn::Sequential<T> resnet18(Context& ctx, const ResNetOptions& options) {
  detail::check_resnet("resnet18", options);
  nn::Sequential<T> net;
  detail::add_stem(ctx, net, options.in_channels, options.channels);
  std::int64_t width = options.channels;
  for (int number = 1; number <= 4; ++number) {
    auto& stage = net.template add<nn::Sequential<T>>("stage" + std::to_string(number));
    if (number > 1) {
      auto& down = stage.template add<nn::Sequential<T>>("down");
      down.template add<nn::Conv2d<T>>("conv", ctx, width, 2 * width,
                                       nn::Conv2dOptions{.kernel = 1, .bias = options.bias});
      down.template add<nn::BatchNorm<T>>("norm", ctx, 2 * width);
      down.template add<nn::AveragePool2d<T>>("pool", nn::PoolOptions{.kernel = 2});
      width *= 2;
    }
    for (int block = 1; block <= 2; ++block) {
      const bool last = number == 4 && block == 2;
      detail::add_block(ctx, stage, "block" + std::to_string(block),
                        {.in = width,
                         .hidden = detail::hidden_width("resnet18", options, number, block, width),
                         .out = width,
                         .bias = options.bias,
                         .activation = last ? nn::Activation::identity : nn::Activation::relu});
    }
  }
  detail::add_classifier(ctx, net, width, options.classes);
  return net;
}

/// The usual ResNet-18 for images of 32x32 (K. He et al., "Deep residual learning for image recognition" (2015), with a
/// 3x3 stem and no first pooling): stages of width channels·{1, 2, 4, 8}, two blocks each; stages 2 to 4 start with
/// stride 2 and a 1x1 stride-2 projection with norm as the shortcut (`stage2.block1.shortcut.conv`); no convolution has
/// a bias; relu after every block; global average pooling and a linear layer. Names and initial values as resnet18.
/// Throws ArgumentError for options out of range.
template <Real T>
[[nodiscard]] nn::Sequential<T> resnet18_strided(Context& ctx, const StridedResNetOptions& options) {
  detail::check_resnet("resnet18_strided", options);
  nn::Sequential<T> net;
  detail::add_stem(ctx, net, options.in_channels, options.channels);
  std::int64_t in = options.channels;
  for (int number = 1; number <= 4; ++number) {
    auto& stage = net.template add<nn::Sequential<T>>("stage" + std::to_string(number));
    const std::int64_t width = number == 1 ? in : 2 * in;
    for (int block = 1; block <= 2; ++block) {
      detail::add_block(ctx, stage, "block" + std::to_string(block),
                        {.in = in,
                         .hidden = detail::hidden_width("resnet18_strided", options, number, block, width),
                         .out = width,
                         .stride = number > 1 && block == 1 ? 2 : 1});
      in = width;
    }
  }
  detail::add_classifier(ctx, net, in, options.classes);
  return net;
}

}  // namespace meristem::models
