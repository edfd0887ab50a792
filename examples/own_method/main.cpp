// Networks grow by a method that is not the library's: a perceptron and one with convolutions, on the built-in shapes.
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include <meristem/meristem.hpp>

#include "one_output.hpp"

namespace ms = meristem;

/// True if units were added, and wherever they were the loss fell as the method promised to first order.
bool grows(ms::Context& ctx, const std::string& name, ms::nn::Sequential<float>& net,
           const ms::data::ImageSet& images) {
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.02, .momentum = 0.9});
  ms::grow::GrowerOptions options;
  options.method = std::make_shared<own_method::OneOutput>();
  options.how_many.at_most = 4;
  ms::grow::Grower<float> grower(net, sgd, options);
  std::int64_t added = 0;
  bool fell = true;
  for (int epoch = 0; epoch < 3; ++epoch) {
    for (const auto& batch : images.batches<float>(ctx, 50, {.shuffle = true, .epoch = epoch})) {
      ms::train::step<float>(ctx, net, batch, sgd);
    }
    const auto report = grower.grow(ctx, images);
    std::cout << name << ", after epoch " << epoch + 1 << '\n' << report;
    added += report.added();
    for (const auto& site : report.sites) fell = fell && (site.added == 0 || (site.slope > 0 && site.measured() > 0));
  }
  return added > 0 && fell;
}

int main() {
  try {
    ms::Context ctx({.seed = 1});
    const auto images = ms::data::synthetic({.images = 500});
    auto perceptron = ms::models::mlp<float>(ctx, {.inputs = images.image_bytes(), .hidden = {4, 4}, .classes = 10});
    ms::nn::Sequential<float> convolutions;
    const ms::nn::Conv2dOptions conv{.kernel = 3, .stride = 2, .padding = 1};
    convolutions.add<ms::nn::Conv2d<float>>("conv1", ctx, 3, 4, conv);
    convolutions.add<ms::nn::BatchNorm<float>>("norm1", ctx, 4);
    convolutions.add<ms::nn::ActivationLayer<float>>("relu1", ms::nn::Activation::relu);
    convolutions.add<ms::nn::Conv2d<float>>("conv2", ctx, 4, 8, conv);
    convolutions.add<ms::nn::BatchNorm<float>>("norm2", ctx, 8);
    convolutions.add<ms::nn::ActivationLayer<float>>("relu2", ms::nn::Activation::relu);
    convolutions.add<ms::nn::GlobalAveragePool<float>>("mean");
    convolutions.add<ms::nn::Linear<float>>("linear", ctx, 8, 10);
    for (const auto& [name, net] : {std::pair{"perceptron", &perceptron}, {"convolutions", &convolutions}}) {
      if (grows(ctx, name, *net, images)) continue;
      std::cerr << name << ": nothing was added, or the loss did not fall\n";
      return 1;
    }
    return 0;
  } catch (const ms::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
}
