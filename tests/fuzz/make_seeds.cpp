// Writes the seeds of formats that only this project can write: make_seeds <folder>.

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include <meristem/grow/history.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/io/checkpoint.hpp>
#include <meristem/io/model.hpp>
#include <meristem/io/npy.hpp>
#include <meristem/meristem.hpp>

namespace ms = meristem;

namespace {

std::filesystem::path place(const std::filesystem::path& root, const std::string& target, const std::string& name) {
  std::filesystem::create_directories(root / target);
  return root / target / name;
}

void write(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

/// A unit for the first site, between two steps.
void grow(ms::Context& ctx, ms::nn::Layer<float>& net, ms::optim::Optimizer<float>& optimizer) {
  const ms::grow::Site<float> site = ms::grow::find_sites<float>(net).front();
  ms::grow::Edit<float> edit;
  const auto add = [&](const ms::nn::Parameter<float>& parameter, int axis) {
    const ms::Shape& shape = parameter.value.shape();
    edit.axes.push_back(
        {parameter.id, axis, ms::grow::appended(shape[axis], 1), ms::zeros<float>(ctx, shape.with(axis, 1))});
  };
  add(site.producer.weight(), 0);
  add(site.producer.bias(), 0);
  add(site.consumer.weight(), site.consumer.weight().value.rank() - 1);
  ms::grow::apply(ctx, edit, net, &optimizer);
  optimizer.step(ctx);
}

template <class Net>
void write_network(const std::filesystem::path& root, ms::Context& ctx, Net net, const std::string& name, bool adamw) {
  write(place(root, "architecture", "valid_" + name), ms::io::architecture(net));
  ms::io::save_model<float>(place(root, "model", "valid_" + name).string(), ctx, net);
  const auto save = [&](auto& optimizer) {
    optimizer.step(ctx);
    const std::string path = place(root, "checkpoint", "valid_" + name).string();
    ms::io::save_checkpoint<float>(path, ctx, net, optimizer, {{"epoch", 3}});
    std::filesystem::copy_file(path, place(root, "safetensors", "valid_" + name),
                               std::filesystem::copy_options::overwrite_existing);
  };
  if (adamw) {
    ms::optim::AdamW<float> optimizer(net, {.growth_rate = ms::optim::rewarm(0.5, 10)});
    optimizer.set_group("linear.*", {.learning_rate_factor = 0.5, .weight_decay = 0.1});
    optimizer.step(ctx);
    grow(ctx, net, optimizer);
    save(optimizer);
  } else {
    ms::optim::Sgd<float> optimizer(net, {.learning_rate = 0.1, .momentum = 0.9});
    save(optimizer);
  }
}

}  // namespace

int main(int, char** argv) {
  const std::filesystem::path root = argv[1];
  ms::Context ctx;
  write_network(root, ctx, ms::models::mlp<float>(ctx, {.inputs = 3, .hidden = {2}, .classes = 2}), "mlp", false);
  ms::nn::Sequential<float> net;
  net.add<ms::nn::Conv2d<float>>("conv", ctx, 1, 2, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = false});
  net.add<ms::nn::BatchNorm<float>>("norm", ctx, 2, ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  auto& block = net.add<ms::nn::Residual<float>>("block");
  block.add<ms::nn::Conv2d<float>>("conv1", ctx, 2, 1, ms::nn::Conv2dOptions{.kernel = 1});
  block.add<ms::nn::Conv2d<float>>("conv2", ctx, 1, 2, ms::nn::Conv2dOptions{.kernel = 1});
  net.add<ms::nn::GlobalAveragePool<float>>("pool");
  net.add<ms::nn::Linear<float>>("linear", ctx, 2, 2);
  write_network(root, ctx, std::move(net), "conv", true);
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  ms::io::write_npy<float>(place(root, "npy", "valid_float").string(), ms::Shape{2, 3}, values);
  const std::vector<std::int64_t> whole = {7};
  ms::io::write_npy<std::int64_t>(place(root, "npy", "valid_int64").string(), ms::Shape{1}, whole);
  ms::grow::GrowthReport report;
  report.method = "tiny";
  report.where = "all";
  for (const char* name : {"layer1", "layer2"}) {
    ms::grow::SiteReport site;
    site.name = name;
    site.width = 4;
    site.added = 1;
    site.lambda = {0.3, 0.1};
    report.sites.push_back(site);
  }
  ms::grow::History history;
  history.add(1, 10, report);
  history.save(place(root, "history", "valid_two").string());
  std::printf("seeds in %s\n", root.c_str());
  return 0;
}
