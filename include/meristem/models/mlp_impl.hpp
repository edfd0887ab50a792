// Definitions of mlp.hpp.
#pragma once

#include <meristem/models/mlp.hpp>

namespace meristem::models {

template <Real T>
nn::Sequential<T> mlp(Context& ctx, const MlpOptions& options) {
  const auto check = [](const char* what, std::int64_t width) {
    if (width < 1) throw ArgumentError(concat("mlp: ", what, " is ", width, "; widths are 1 or more"));
  };
  check("inputs", options.inputs);
  check("classes", options.classes);
  nn::Sequential<T> net;
  net.template add<nn::Flatten<T>>("flatten");
  std::int64_t width = options.inputs;
  const bool self_normalizing = options.activation == nn::Activation::selu;
  for (std::size_t i = 0; i <= options.hidden.size(); ++i) {
    const bool last = i == options.hidden.size();
    const std::int64_t next = last ? options.classes : options.hidden[i];
    const std::string number = std::to_string(i + 1);
    if (!last) check(("hidden width " + number).c_str(), next);
    const nn::Init init = last || self_normalizing ? nn::Init::lecun_normal : nn::Init::kaiming_normal;
    net.template add<nn::Linear<T>>("layer" + number, ctx, width, next,
                                    nn::LinearOptions{.bias = options.bias, .init = init});
    if (!last) net.template add<nn::ActivationLayer<T>>("activation" + number, options.activation);
    width = next;
  }
  return net;
}

}  // namespace meristem::models
