// A user's affine layer (examples/own_layer) in a network that grows, is pruned, saved, loaded and exported: to the
// last bit what the library's Linear does in its place.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/prune.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>
#include <support/pictures.hpp>

#include "../../examples/own_layer/dense.hpp"

namespace io_own_layer_test {

namespace {

namespace ms = meristem;
using own_layer::Dense;
using support::contains;
using support::message_of;
using Net = ms::nn::Sequential<float>;
using Numbers = std::vector<std::vector<float>>;

/// Two layers of a kind whose constructors draw alike, so that networks of either start with the same numbers.
template <template <ms::Real> class L>
Net network(ms::Context& ctx, std::int64_t inputs) {
  Net net;
  net.add<ms::nn::Flatten>("flatten");
  net.add<L>("hidden", ctx, inputs, 2);
  net.add<ms::nn::ActivationLayer>("relu", ms::nn::Activation::relu);
  net.add<L>("last", ctx, 2, 3);
  return net;
}

Numbers numbers(ms::Context& ctx, Net& net) {
  Numbers result;
  for (auto* parameter : ms::nn::parameters(net)) result.push_back(ms::to_host(ctx, parameter->value));
  return result;
}

std::string path_of(const std::string& name) {
  return (std::filesystem::temp_directory_path() / ("meristem_own_" + std::to_string(::getpid()) + "_" + name))
      .string();
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Outcome {
  Numbers trained, grown, pruned, restored;
  std::int64_t added = 0;
  std::string onnx;
  std::vector<float> torch;  ///< the first weight in PyTorch's order
};

template <template <ms::Real> class L>
Outcome outcome(const std::string& name) {
  ms::Context ctx({.seed = 4});
  const auto images = support::bright_and_dark();
  Net net = network<L>(ctx, images.image_bytes());
  const auto kinds = own_layer::kinds<float>();
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.02, .momentum = 0.9});
  ms::grow::Grower<float> grower(net, sgd,
                                 {.how_many = {.at_most = 2, .significance = 0.0}, .statistics_samples = 150});
  Outcome result;
  for (const auto& batch : images.batches<float>(ctx, 30)) ms::train::step<float>(ctx, net, batch, sgd);
  result.trained = numbers(ctx, net);
  result.added = grower.grow(ctx, images).added();
  result.grown = numbers(ctx, net);
  const auto site = ms::grow::find_site<float>(net, "hidden");
  auto removed = ms::grow::prune<float>(ctx, site, {1}, net, &sgd);
  result.pruned = numbers(ctx, net);
  ms::grow::put_back<float>(ctx, std::move(removed), net, &sgd);
  result.restored = numbers(ctx, net);

  const ms::Shape sample = {images.height, images.width, images.channels};
  const std::string model = path_of(name + ".safetensors"), onnx = path_of(name + ".onnx");
  for (const auto layout : {ms::io::ModelLayout::pytorch, ms::io::ModelLayout::meristem}) {
    ms::io::save_model<float>(model, ctx, net, {.sample = sample}, layout, kinds);
    auto loaded = ms::io::load_model<float>(ctx, model, kinds);
    CHECK(numbers(ctx, loaded.network) == result.grown);
  }
  ms::io::save_onnx<float>(onnx, ctx, net, {.sample = sample}, kinds);
  result.onnx = bytes_of(onnx);
  const auto layout = ms::io::torch_layout<float>(net, sample);
  result.torch = ms::io::to_torch<float>(layout.at(0), result.grown.at(0));
  std::filesystem::remove(model);
  std::filesystem::remove(onnx);
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("own affine layer: gradients agree with finite differences") {
  ms::Context ctx({.seed = 2});
  Dense<double> dense(ctx, 4, 3);
  support::check_gradients(ctx, dense, {5, 4}, 7);
}

TEST_CASE("own affine layer: trains, grows, is pruned, saved and exported as the library's") {
  const Outcome own = outcome<Dense>("dense"), library = outcome<ms::nn::Linear>("linear");
  CHECK(own.added > 0);
  CHECK(own.grown != own.trained);
  CHECK(own.pruned != own.grown);
  CHECK(own.restored == own.grown);
  CHECK(own.trained == library.trained);
  CHECK(own.added == library.added);
  CHECK(own.grown == library.grown);
  CHECK(own.pruned == library.pruned);
  CHECK(own.torch == library.torch);
  CHECK(own.torch != own.grown[0]);
  CHECK(!own.onnx.empty());
  CHECK(own.onnx == library.onnx);
}

TEST_CASE("own affine layer: without its kind it is exported, but neither written down nor made") {
  ms::Context ctx;
  Net net = network<Dense>(ctx, 4);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::io::architecture<float>(net); }),
                 "hidden (Dense): layers of this kind cannot be written down"));
  const auto kinds = own_layer::kinds<float>();
  const std::string text = ms::io::architecture<float>(net, kinds);
  CHECK(contains(text, R"({"in":4,"kind":"Dense","name":"hidden","out":2})"));
  CHECK(contains(message_of<ms::DataError>([&] { (void)ms::io::build<float>(ctx, text); }),
                 "layer 'hidden' (Dense): there is no such kind of layer here"));
  const std::string path = path_of("unknown.onnx");
  ms::io::save_onnx<float>(path, ctx, net, {.sample = {4}});
  CHECK(contains(bytes_of(path), "hidden/Gemm"));
  std::filesystem::remove(path);
}

TEST_SUITE_END();

}  // namespace io_own_layer_test
