// A network of a layer of one's own grows, is saved, loaded again and exported to ONNX.
#include <filesystem>
#include <iostream>
#include <string>

#include "dense.hpp"

namespace ms = meristem;

int main() {
  try {
    ms::Context ctx({.seed = 1});
    const auto images = ms::data::synthetic({.images = 1000});
    ms::nn::Sequential<float> net;
    net.add<ms::nn::Flatten>("flatten");
    net.add<own_layer::Dense>("hidden", ctx, images.image_bytes(), 2);
    net.add<ms::nn::ActivationLayer>("relu", ms::nn::Activation::relu);
    net.add<own_layer::Dense>("last", ctx, 2, 10);

    ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.02, .momentum = 0.9});
    ms::grow::Grower<float> grower(net, sgd, {.how_many = {.at_most = 4, .significance = 0.0}});
    std::int64_t added = 0;
    for (int epoch = 0; epoch < 2; ++epoch) {
      for (const auto& batch : images.batches<float>(ctx, 50, {.shuffle = true, .epoch = epoch})) {
        ms::train::step<float>(ctx, net, batch, sgd);
      }
      const auto report = grower.grow(ctx, images);
      std::cout << report;
      added += report.added();
    }

    const auto kinds = own_layer::kinds<float>();
    const auto folder = std::filesystem::temp_directory_path();
    const std::string model = folder / "meristem_own_layer.safetensors", onnx = folder / "meristem_own_layer.onnx";
    const ms::io::ModelInfo info{.sample = {images.height, images.width, images.channels}};
    ms::io::save_model<float>(model, ctx, net, info, ms::io::ModelLayout::meristem, kinds);
    ms::io::save_onnx<float>(onnx, ctx, net, info, kinds);
    auto loaded = ms::io::load_model<float>(ctx, model, kinds).network;
    const double loss = ms::train::evaluate<float>(ctx, net, images).loss;
    const double again = ms::train::evaluate<float>(ctx, loaded, images).loss;
    std::cout << "loss " << loss << ", of the loaded network " << again << '\n'
              << "model " << std::filesystem::file_size(model) << " bytes, ONNX " << std::filesystem::file_size(onnx)
              << " bytes\n";
    std::filesystem::remove(model);
    std::filesystem::remove(onnx);
    return added > 0 && loss == again ? 0 : 1;
  } catch (const ms::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
}
