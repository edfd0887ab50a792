// Definitions of resnet.hpp.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

#include <meristem/models/resnet.hpp>

namespace meristem::models::detail {

struct BlockOptions {
  std::int64_t in = 0;
  std::int64_t hidden = 0;
  std::int64_t out = 0;
  std::int64_t stride = 1;
  bool bias = false;
  nn::Activation activation = nn::Activation::relu;
};

/// Blocks of a stage, counted from 1.
template <class Options>
[[nodiscard]] std::int64_t blocks_of(const Options& options, int stage) {
  return options.blocks.empty() ? 2 : options.blocks[static_cast<std::size_t>(stage - 1)];
}

/// Throws ArgumentError unless a network can have these options.
template <class Options>
void check_resnet(const char* function, const Options& options) {
  const auto check = [&](const char* what, std::int64_t value) {
    if (value < 1) throw ArgumentError(concat(function, ": ", what, " is ", value, "; it must be 1 or more"));
  };
  check("classes", options.classes);
  check("channels", options.channels);
  check("in_channels", options.in_channels);
  if (!options.blocks.empty() && options.blocks.size() != 4) {
    throw ArgumentError(concat(function, ": ", options.blocks.size(),
                               " numbers of blocks were given; it has four stages: give one for each, or none"));
  }
  for (const std::int64_t count : options.blocks) check("a number of blocks", count);
  std::int64_t blocks = 0;
  for (int stage = 1; stage <= 4; ++stage) blocks += blocks_of(options, stage);
  if (!options.hidden.empty() && std::ssize(options.hidden) != blocks) {
    throw ArgumentError(concat(function, ": ", options.hidden.size(), " hidden widths were given; it has ", blocks,
                               " blocks: give one width for each, or none"));
  }
  for (const std::int64_t width : options.hidden) check("a hidden width", width);
}

/// Hidden width of a block of outer width `outer`, the `block`th of the `stage`th stage, both from 1.
template <class Options>
[[nodiscard]] std::int64_t hidden_width(const char* function, const Options& options, int stage, std::int64_t block,
                                        std::int64_t outer) {
  if (options.hidden.empty()) return scaled_width(function, options.width, outer);
  for (int before = 1; before < stage; ++before) block += blocks_of(options, before);
  return options.hidden[static_cast<std::size_t>(block - 1)];
}

template <Real T>
void add_stem(Context& ctx, nn::Sequential<T>& net, std::int64_t in_channels, std::int64_t channels) {
  auto& stem = net.template add<nn::Sequential<T>>("stem");
  stem.template add<nn::Conv2d<T>>("conv", ctx, in_channels, channels,
                                   nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = false});
  stem.template add<nn::BatchNorm<T>>("norm", ctx, channels, nn::BatchNormOptions{.activation = nn::Activation::relu});
}

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

}  // namespace meristem::models::detail

namespace meristem::models {

template <Real T>
nn::Sequential<T> resnet18(Context& ctx, const ResNetOptions& options) {
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
    const std::int64_t blocks = detail::blocks_of(options, number);
    for (std::int64_t block = 1; block <= blocks; ++block) {
      const bool last = number == 4 && block == blocks;
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

template <Real T>
nn::Sequential<T> resnet18_strided(Context& ctx, const StridedResNetOptions& options) {
  detail::check_resnet("resnet18_strided", options);
  nn::Sequential<T> net;
  detail::add_stem(ctx, net, options.in_channels, options.channels);
  std::int64_t in = options.channels;
  for (int number = 1; number <= 4; ++number) {
    auto& stage = net.template add<nn::Sequential<T>>("stage" + std::to_string(number));
    const std::int64_t width = number == 1 ? in : 2 * in;
    for (std::int64_t block = 1; block <= detail::blocks_of(options, number); ++block) {
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
