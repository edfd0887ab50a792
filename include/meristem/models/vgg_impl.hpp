// Definitions of vgg.hpp.
#pragma once

#include <string>

#include <meristem/models/vgg.hpp>

namespace meristem::models {

MERISTEM_INLINE std::vector<std::vector<std::int64_t>> vgg_stages(int depth) {
  const auto stages = [](std::size_t early, std::size_t late) {
    using Stage = std::vector<std::int64_t>;
    return std::vector<Stage>{Stage(early, 64), Stage(early, 128), Stage(late, 256), Stage(late, 512),
                              Stage(late, 512)};
  };
  switch (depth) {
    case 11:
      return stages(1, 2);
    case 13:
      return stages(2, 2);
    case 16:
      return stages(2, 3);
    case 19:
      return stages(2, 4);
    default:
      throw ArgumentError(concat("vgg_stages: there is no VGG-", depth, "; choose 11, 13, 16 or 19"));
  }
}

template <Real T>
nn::Sequential<T> vgg(Context& ctx, const VggOptions& options) {
  const auto check = [](const char* what, std::int64_t value) {
    if (value < 1) throw ArgumentError(concat("vgg: ", what, " is ", value, "; it must be 1 or more"));
  };
  check("classes", options.classes);
  check("in_channels", options.in_channels);
  if (options.stages.empty()) throw ArgumentError("vgg: there are no stages; give one list of widths for each stage");
  const auto scaled = [&](const std::string& what, std::int64_t width) {
    check(what.c_str(), width);
    return scaled_width("vgg", options.width, width);
  };

  nn::Sequential<T> net;
  std::int64_t channels = options.in_channels;
  int number = 0;
  for (std::size_t stage = 0; stage < options.stages.size(); ++stage) {
    const std::string stage_name = std::to_string(stage + 1);
    if (options.stages[stage].empty()) {
      throw ArgumentError(concat("vgg: stage ", stage_name, " has no widths; give one for each convolution"));
    }
    for (const std::int64_t given : options.stages[stage]) {
      const std::int64_t next = scaled("a width of stage " + stage_name, given);
      const std::string name = std::to_string(++number);
      net.template add<nn::Conv2d<T>>("conv" + name, ctx, channels, next,
                                      nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = options.bias});
      if (options.batch_norm) {
        net.template add<nn::BatchNorm<T>>("norm" + name, ctx, next,
                                           nn::BatchNormOptions{.activation = nn::Activation::relu});
      } else {
        net.template add<nn::ActivationLayer<T>>("relu" + name, nn::Activation::relu);
      }
      channels = next;
    }
    if (stage + 1 < options.stages.size() || options.pool_last) {
      net.template add<nn::MaxPool2d<T>>("pool" + stage_name);
    }
  }

  std::int64_t features = channels;
  if (options.head == VggHead::flatten) {
    net.template add<nn::Flatten<T>>("flatten");
    features = net.output_shape({1, options.image.y, options.image.x, options.in_channels})[1];
  } else {
    net.template add<nn::GlobalAveragePool<T>>("pool");
  }
  for (std::size_t i = 0; i <= options.hidden.size(); ++i) {
    const std::string name = std::to_string(i + 1);
    if (options.dropout != 0.0) net.template add<nn::Dropout<T>>("dropout" + name, options.dropout);
    if (i == options.hidden.size()) {
      net.template add<nn::Linear<T>>("linear", ctx, features, options.classes,
                                      nn::LinearOptions{.init = nn::Init::lecun_normal});
      break;
    }
    const std::int64_t next = scaled("hidden width " + name, options.hidden[i]);
    net.template add<nn::Linear<T>>("linear" + name, ctx, features, next,
                                    nn::LinearOptions{.bias = options.bias, .init = nn::Init::kaiming_normal});
    net.template add<nn::ActivationLayer<T>>("linear_relu" + name, nn::Activation::relu);
    features = next;
  }
  return net;
}

}  // namespace meristem::models
