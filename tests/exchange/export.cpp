// Writes networks of every kind of layer, with inputs and logits, for the Python checks beside this file; and reads
// back what they wrote.
//
//   exchange write FOLDER                   models as .safetensors (two layouts) and .onnx, inputs and logits as .npy
//   exchange logits FOLDER NAME [CIFAR]     inputs and logits of a network that the main program grew and exported
//   exchange again FOLDER                   models that Python saved again: their logits
//   exchange npy FOLDER                     arrays that Python wrote: written again, or the reason why not
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iostream>
#include <numeric>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <meristem/io.hpp>
#include <meristem/kernels/random.cuh>
#include <meristem/meristem.hpp>

namespace {

namespace ms = meristem;
namespace fs = std::filesystem;
using namespace ms::nn;
using Net = Sequential<float>;

/// Every parameter and buffer random, so that each of them matters; variances positive.
void randomize(ms::Context& ctx, Net& net) {
  const auto fill = [&](const std::string& name, ms::View<float> values) {
    const bool positive =
        name.find("running_variance") != std::string::npos || name.find("weight") == std::string::npos;
    const bool norm = values.rank() == 1;
    const float low = norm && positive ? 0.5f : (norm ? 0.6f : -0.4f), high = norm ? 1.4f : 0.4f;
    ms::kernels::fill_uniform(ctx, ctx.next_random_stream(), low, high, values);
  };
  net.visit_parameters([&](Parameter<float>& parameter) { fill(parameter.name, parameter.value.view()); });
  net.visit_buffers([&](Buffer<float>& buffer) { fill(buffer.name, buffer.value.view()); });
}

/// Every kind of layer, on maps of 12x10x3 and behind a Flatten of maps.
Net every_layer(ms::Context& ctx) {
  Net net;
  net.add<Conv2d<float>>("conv", ctx, 3, 8, Conv2dOptions{.kernel = {3, 5}, .padding = {1, 2}});
  net.add<BatchNorm<float>>("norm", ctx, 8, BatchNormOptions{.epsilon = 1e-3, .activation = Activation::relu});
  net.add<Conv2d<float>>("wide", ctx, 8, 6, Conv2dOptions{.padding = 2, .dilation = 2, .bias = false});
  net.add<GroupNorm<float>>("groups", ctx, 3, 6, GroupNormOptions{.epsilon = 1e-4});
  net.add<ActivationLayer<float>>("gelu", Activation::gelu);
  net.add<LayerNorm<float>>("rows", ctx, 6, LayerNormOptions{.epsilon = 1e-4});
  net.add<ActivationLayer<float>>("silu", Activation::silu);
  auto& block = net.add<Residual<float>>("block");
  block.add<Conv2d<float>>("conv1", ctx, 6, 5, Conv2dOptions{.stride = {2, 1}, .padding = 1, .bias = false});
  block.add<BatchNorm<float>>("norm1", ctx, 5, BatchNormOptions{.activation = Activation::relu});
  block.add<Conv2d<float>>("conv2", ctx, 5, 7, Conv2dOptions{.padding = 1});
  block.add<BatchNorm<float>>("norm2", ctx, 7, BatchNormOptions{.activation = Activation::relu});
  block.shortcut().add<Conv2d<float>>("conv", ctx, 6, 7, Conv2dOptions{.kernel = 1, .stride = {2, 1}});
  auto& plain = net.add<Residual<float>>("plain", ResidualOptions{.activation = Activation::identity});
  plain.add<Conv2d<float>>("conv", ctx, 7, 7, Conv2dOptions{.padding = 1});
  plain.add<BatchNorm<float>>("norm", ctx, 7, BatchNormOptions{.activation = Activation::relu});
  auto& branches = net.add<Concatenate<float>>("branches");
  branches.add<Conv2d<float>>("narrow", ctx, 7, 3, Conv2dOptions{.kernel = 1});
  auto& deep = branches.add<Net>("deep");
  deep.add<Conv2d<float>>("conv", ctx, 7, 2, Conv2dOptions{.padding = 1});
  deep.add<BatchNorm<float>>("norm", ctx, 2, BatchNormOptions{.activation = Activation::relu});
  branches.add<Net>("same");
  net.add<Conv2d<float>>("joined", ctx, 12, 7, Conv2dOptions{.kernel = 1});
  net.add<MaxPool2d<float>>("largest", PoolOptions{.kernel = 3, .stride = ms::Extent2(1), .padding = 1});
  net.add<MaxPool2d<float>>("apart", PoolOptions{.kernel = 2, .stride = ms::Extent2(1), .dilation = 2});
  net.add<Linear<float>>("pixels", ctx, 7, 6);
  net.add<AveragePool2d<float>>("mean", PoolOptions{.kernel = {2, 3}, .stride = ms::Extent2(2), .padding = 1});
  net.add<Flatten<float>>("flatten");
  net.add<BatchNorm<float>>("flat_norm", ctx, 3 * 4 * 6);
  net.add<Dropout<float>>("dropout", 0.3);
  net.add<ActivationLayer<float>>("selu", Activation::selu);
  net.add<LayerNorm<float>>("flat_rows", ctx, 3 * 4 * 6);
  net.add<Linear<float>>("linear", ctx, 3 * 4 * 6, 12);
  net.add<GroupNorm<float>>("flat_groups", ctx, 4, 12);
  auto& sides = net.add<Concatenate<float>>("sides");
  sides.add<Linear<float>>("left", ctx, 12, 5);
  sides.add<Linear<float>>("right", ctx, 12, 7);
  net.add<ActivationLayer<float>>("tanh", Activation::tanh);
  net.add<ActivationLayer<float>>("identity", Activation::identity);
  net.add<Linear<float>>("head", ctx, 12, 10, LinearOptions{.bias = false});
  return net;
}

/// Means over dilated windows, which PyTorch lacks, and a head without Flatten.
Net dilated(ms::Context& ctx) {
  Net net;
  net.add<AveragePool2d<float>>("apart",
                                PoolOptions{.kernel = 3, .stride = ms::Extent2(1), .padding = 1, .dilation = 2});
  net.add<Conv2d<float>>("conv", ctx, 3, 5, Conv2dOptions{});
  net.add<GlobalAveragePool<float>>("pool");
  net.add<Linear<float>>("linear", ctx, 5, 4);
  return net;
}

Net strided(ms::Context& ctx) {
  return ms::models::resnet18_strided<float>(ctx, {.classes = 10, .width = 0.25, .channels = 4});
}
Net plain_mlp(ms::Context& ctx) { return ms::models::mlp<float>(ctx, {.inputs = 7, .hidden = {9, 5}, .classes = 3}); }
Net image_mlp(ms::Context& ctx) {
  return ms::models::mlp<float>(
      ctx, {.inputs = 6 * 5 * 3, .hidden = {9}, .classes = 4, .activation = ms::nn::Activation::gelu});
}
Net vgg(ms::Context& ctx) {
  return ms::models::vgg<float>(ctx, {.classes = 10,
                                      .stages = {{4}, {6}},
                                      .batch_norm = true,
                                      .head = ms::models::VggHead::flatten,
                                      .image = 12,
                                      .hidden = {8}});
}

/// Maps of (4, 5, 3) and a vector of 7, side by side.
Net several_inputs(ms::Context& ctx) {
  Net net;
  auto& branches = net.add<Concatenate<float>>("branches");
  auto& maps = branches.add<Net>("maps");
  maps.add<Slice<float>>("slice", 0, ms::Shape{4, 5, 3});
  maps.add<Conv2d<float>>("conv", ctx, 3, 4, Conv2dOptions{.padding = 1});
  maps.add<ActivationLayer<float>>("relu", Activation::relu);
  maps.add<Flatten<float>>("flatten");
  maps.add<Linear<float>>("linear", ctx, 4 * 5 * 4, 6);
  auto& vector = branches.add<Net>("vector");
  vector.add<Slice<float>>("slice", 60, ms::Shape{7});
  vector.add<Linear<float>>("linear", ctx, 7, 3);
  net.add<ActivationLayer<float>>("tanh", Activation::tanh);
  net.add<Linear<float>>("head", ctx, 9, 5);
  return net;
}

ms::Tensor<float> logits(ms::Context& ctx, Net& net, ms::View<const float> input) {
  const Trace<float> trace = net.forward(ctx, input, {.mode = Mode::evaluation});
  return ms::from_host<float>(ctx, trace.output.shape(), ms::to_host(ctx, trace.output));
}

void write(ms::Context& ctx, const fs::path& folder, const std::string& name, Net& net, ms::View<const float> input,
           ms::io::ModelInfo info) {
  info.sample = ms::Shape();
  for (int i = 1; i < input.rank(); ++i) info.sample.append(input.extent(i));
  info.notes["name"] = name;
  const std::string base = (folder / name).string();
  ms::io::save_model<float>(base + ".safetensors", ctx, net, info);
  ms::io::save_model<float>(base + ".pytorch.safetensors", ctx, net, info, ms::io::ModelLayout::pytorch);
  ms::io::save_onnx<float>(base + ".onnx", ctx, net, info);
  ms::io::write_npy<float>(base + ".input.npy", ctx, input);
  const ms::Tensor<float> output = logits(ctx, net, input);
  ms::io::write_npy<float>(base + ".logits.npy", ctx, output.view());
}

/// Of a network that the main program trained, grew and exported: 1,000 test images as pixels and as the network reads
/// them, and its logits, computed from the checkpoint.
void write_logits(const fs::path& folder, const std::string& name, const std::string& cifar) {
  ms::Context ctx;
  const std::string base = (folder / name).string();
  Net net = ms::io::load_checkpoint<float>(base + ".checkpoint").network(ctx);
  const ms::io::ModelInfo info = ms::io::load_model<float>(ctx, base + ".safetensors").info;
  std::istringstream lines(info.history);
  std::int64_t units = 0;
  for (const auto& event : ms::io::read_history(lines, name).steps) units += event.added();
  if (units == 0) throw std::runtime_error(name + " has not grown");
  std::vector<std::int64_t> first(1000);
  std::iota(first.begin(), first.end(), std::int64_t{0});
  ms::data::ImageSet test = (cifar.empty() ? ms::data::synthetic({.images = 1000, .split = ms::data::Split::test})
                                           : ms::data::cifar10(cifar, ms::data::Split::test))
                                .subset(first);
  test.normalization = info.normalization;
  std::cout << name << ": " << units << " units added; 1000 test images: " << test.source << "\n";
  ms::io::write_npy<std::uint8_t>(base + ".pixels.npy", {test.size(), test.height, test.width, test.channels},
                                  std::span<const std::uint8_t>(test.pixels));
  const auto batch = test.batches<float>(ctx, test.size()).batch(0);
  ms::io::write_npy<float>(base + ".input.npy", ctx, batch.inputs.view());
  ms::io::write_npy<float>(base + ".logits.npy", ctx, logits(ctx, net, batch.inputs.view()).view());
}

void write_all(const fs::path& folder) {
  ms::Context ctx;
  struct Case {
    const char* name;
    std::function<Net(ms::Context&)> make;
    ms::Shape input;
  };
  const std::vector<Case> cases = {{"every_layer", every_layer, {9, 12, 10, 3}}, {"dilated", dilated, {3, 9, 8, 3}},
                                   {"strided", strided, {5, 32, 32, 3}},         {"mlp", plain_mlp, {6, 7}},
                                   {"image_mlp", image_mlp, {4, 6, 5, 3}},       {"vgg", vgg, {3, 12, 12, 3}},
                                   {"several_inputs", several_inputs, {4, 67}}};
  for (const Case& one : cases) {
    Net net = one.make(ctx);
    randomize(ctx, net);
    ms::Tensor<float> input(ctx, one.input);
    ms::kernels::fill_normal(ctx, ctx.next_random_stream(), 0.0f, 1.0f, input.view());
    write(ctx, folder, one.name, net, input.view(), {});
  }
}

/// Every <name>.again.safetensors with the inputs of <name>.
void load_again(const fs::path& folder) {
  ms::Context ctx;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string path = entry.path().string(), suffix = ".again.safetensors";
    if (path.size() < suffix.size() || path.compare(path.size() - suffix.size(), suffix.size(), suffix) != 0) continue;
    const std::string base = path.substr(0, path.size() - suffix.size());
    // "name" or "name.pytorch"; both have the inputs of "name".
    const std::string name = entry.path().filename().string();
    const ms::Tensor<float> input =
        ms::io::read_npy<float>(ctx, (folder / name.substr(0, name.find('.'))).string() + ".input.npy");
    ms::io::Model<float> model = ms::io::load_model<float>(ctx, path);
    ms::io::write_npy<float>(base + ".again.logits.npy", ctx, logits(ctx, model.network, input.view()).view());
  }
}

template <class T>
void copy_npy(const fs::path& folder, const std::string& name) {
  const std::string from = (folder / (name + ".npy")).string();
  try {
    const ms::io::NpyArray<T> array = ms::io::read_npy<T>(from);
    ms::io::write_npy<T>((folder / (name + ".back.npy")).string(), array.shape, std::span<const T>(array.values));
  } catch (const ms::Error& error) {
    std::cout << name << ": " << error.message() << "\n";
  }
}

void copy_arrays(const fs::path& folder) {
  for (const char* version : {"1", "2", "3"}) {
    copy_npy<float>(folder, ms::concat("f4_", version));
    copy_npy<double>(folder, ms::concat("f8_", version));
    copy_npy<std::int32_t>(folder, ms::concat("i4_", version));
    copy_npy<std::int64_t>(folder, ms::concat("i8_", version));
    copy_npy<std::uint8_t>(folder, ms::concat("u1_", version));
  }
  for (const char* name : {"scalar", "empty", "vector", "fortran", "big_endian", "complex", "structure", "f8_1"}) {
    copy_npy<float>(folder, name);
  }
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  try {
    if (words.size() == 2 && words[0] == "write") {
      write_all(words[1]);
    } else if (words.size() >= 3 && words[0] == "logits") {
      write_logits(words[1], words[2], words.size() > 3 ? words[3] : "");
    } else if (words.size() == 2 && words[0] == "again") {
      load_again(words[1]);
    } else if (words.size() == 2 && words[0] == "npy") {
      copy_arrays(words[1]);
    } else {
      std::cerr << "usage: exchange write|logits|again|npy FOLDER ...\n";
      return 2;
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
