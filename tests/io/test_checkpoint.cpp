#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/io/checkpoint.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>

namespace io_checkpoint_test {

namespace {
namespace checkpoint_test {

namespace ms = meristem;
using Net = ms::nn::Sequential<float>;
using Optimizer = ms::optim::Optimizer<float>;
using support::contains;
using support::message_of;

/// 6x6 images of one channel, noise with a brighter corner; the class is the corner.
ms::data::ImageSet corners(std::int64_t images) {
  ms::data::ImageSet set;
  set.height = set.width = 6;
  set.channels = 1;
  set.class_names = {"a", "b", "c", "d"};
  set.source = "corners";
  set.normalization = {.mean = {0.3}, .stddev = {0.2}};
  const ms::Philox random(4, 9);
  for (std::int64_t i = 0; i < images; ++i) {
    const auto bright = static_cast<int>(i % 4);
    for (int p = 0; p < 36; ++p) {
      const bool inside = p / 6 / 3 * 2 + p % 6 / 3 == bright;
      set.pixels.push_back(
          static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(i * 36 + p), 120) + (inside ? 60 : 0)));
    }
    set.labels.push_back(bright);
  }
  return set;
}

Net residual_net(ms::Context& ctx) {
  using namespace ms::nn;
  Net net;
  auto& stem = net.add<Sequential<float>>("stem");
  stem.add<Conv2d<float>>("conv", ctx, 1, 4, Conv2dOptions{.padding = 1, .bias = false});
  stem.add<BatchNorm<float>>("norm", ctx, 4, BatchNormOptions{.activation = Activation::relu});
  auto& block = net.add<Residual<float>>("block");
  block.add<Conv2d<float>>("conv1", ctx, 4, 2, Conv2dOptions{.stride = 2, .padding = 1});
  block.add<BatchNorm<float>>("norm1", ctx, 2, BatchNormOptions{.activation = Activation::relu});
  block.add<Conv2d<float>>("conv2", ctx, 2, 6, Conv2dOptions{.padding = 1});
  block.add<BatchNorm<float>>("norm2", ctx, 6, BatchNormOptions{.activation = Activation::relu});
  block.shortcut().add<Conv2d<float>>("conv", ctx, 4, 6, Conv2dOptions{.kernel = 1, .stride = 2, .bias = false});
  net.add<GlobalAveragePool<float>>("pool");
  net.add<Dropout<float>>("dropout", 0.25);
  net.add<Linear<float>>("linear", ctx, 6, 4);
  return net;
}

Net mlp(ms::Context& ctx) {
  return ms::models::mlp<float>(ctx,
                                {.inputs = 36, .hidden = {3, 2}, .classes = 4, .activation = ms::nn::Activation::selu});
}

/// Everything that training depends on.
std::vector<std::vector<float>> everything(ms::Context& ctx, Net& net, Optimizer& optimizer) {
  std::vector<std::vector<float>> all;
  net.visit_parameters([&](ms::nn::Parameter<float>& parameter) {
    all.push_back(ms::to_host(ctx, parameter.value));
    for (const auto& moment : optimizer.state(parameter.id)) all.push_back(ms::to_host(ctx, moment));
    all.push_back({static_cast<float>(parameter.id), parameter.decays ? 1.0f : 0.0f});
  });
  net.visit_buffers([&](ms::nn::Buffer<float>& buffer) {
    all.push_back(ms::to_host(ctx, buffer.value));
    all.push_back({static_cast<float>(buffer.id)});
  });
  all.push_back({static_cast<float>(optimizer.steps()), static_cast<float>(optimizer.learning_rate()),
                 static_cast<float>(ctx.random_streams())});
  return all;
}

/// One epoch from batch `first` to `last`; the losses.
std::vector<double> train(ms::Context& ctx, Net& net, Optimizer& optimizer, const ms::data::ImageSet& set,
                          std::int64_t epoch, std::int64_t first, std::int64_t last) {
  const auto batches = set.batches<float>(ctx, 16, {.shuffle = true, .epoch = epoch});
  std::vector<double> losses;
  for (std::int64_t i = first; i < last; ++i) {
    optimizer.set_learning_rate(0.02 / (1.0 + 0.1 * static_cast<double>(optimizer.steps())));
    losses.push_back(ms::train::step<float>(ctx, net, batches.batch(i), optimizer).loss);
  }
  return losses;
}

/// What follows the checkpoint: training, growth, training; the losses and widths.
std::vector<double> go_on(ms::Context& ctx, Net& net, Optimizer& optimizer, ms::grow::Grower<float>& grower,
                          const ms::data::ImageSet& set) {
  std::vector<double> seen = train(ctx, net, optimizer, set, 0, 3, 6);
  const ms::grow::GrowthReport report = grower.grow(ctx, set);
  for (const auto& site : report.sites) {
    seen.push_back(static_cast<double>(site.added));
    seen.push_back(site.loss_after);
  }
  for (const double loss : train(ctx, net, optimizer, set, 1, 0, 6)) seen.push_back(loss);
  return seen;
}

const ms::grow::GrowerOptions grower_options = {
    .max_units = 1, .significance = 0.0, .statistics_samples = 64, .search_samples = 32, .batch_size = 64};

std::string path_in_temporary(const std::string& name) {
  return (std::filesystem::temp_directory_path() / ("meristem_" + name)).string();
}

void check_resume(const std::string& name, const std::function<Net(ms::Context&)>& make, bool adamw) {
  const ms::data::ImageSet set = corners(96);
  const std::string path = path_in_temporary("checkpoint_" + name);
  ms::ContextOptions options;
  options.seed = 11;
  ms::Context ctx(options);
  Net net = make(ctx);
  std::unique_ptr<Optimizer> optimizer;
  if (adamw) {
    optimizer = std::make_unique<ms::optim::AdamW<float>>(net, ms::optim::AdamWOptions{.beta1 = 0.8, .epsilon = 1e-7});
  } else {
    optimizer = std::make_unique<ms::optim::Sgd<float>>(
        net, ms::optim::SgdOptions{.momentum = 0.9, .weight_decay = 1e-3, .nesterov = true});
  }
  ms::grow::Grower<float> grower(net, *optimizer, grower_options);
  (void)train(ctx, net, *optimizer, set, 0, 0, 2);
  // The Grower then knows covariances that the resumed one has to measure again.
  const std::int64_t before = ms::nn::parameter_count(net);
  (void)grower.grow(ctx, set);
  REQUIRE(ms::nn::parameter_count(net) > before);
  (void)train(ctx, net, *optimizer, set, 0, 2, 3);
  ms::io::save_checkpoint<float>(path, ctx, net, *optimizer, {{"epoch", 0}, {"batch", 3}, {"rate", 0.1}});
  const auto at_checkpoint = everything(ctx, net, *optimizer);
  const std::vector<double> wanted = go_on(ctx, net, *optimizer, grower, set);

  const auto checkpoint = ms::io::load_checkpoint<float>(path);
  CHECK(checkpoint.state() == ms::io::Json{{"epoch", 0}, {"batch", 3}, {"rate", 0.1}});
  ms::ContextOptions fresh_options;
  fresh_options.seed = checkpoint.seed();
  ms::Context fresh(fresh_options);
  Net loaded = checkpoint.network(fresh);
  const auto loaded_optimizer = checkpoint.optimizer(loaded);
  checkpoint.restore(fresh, loaded, *loaded_optimizer);
  CHECK(everything(fresh, loaded, *loaded_optimizer) == at_checkpoint);
  ms::grow::Grower<float> loaded_grower(loaded, *loaded_optimizer, grower_options);
  CHECK(go_on(fresh, loaded, *loaded_optimizer, loaded_grower, set) == wanted);
  CHECK(everything(fresh, loaded, *loaded_optimizer) == everything(ctx, net, *optimizer));

  // Back into the network that went on, if it has not grown.
  if (ms::io::architecture(net) != checkpoint.architecture_text()) {
    const auto now = everything(ctx, net, *optimizer);
    const std::string message = message_of<ms::DataError>([&] { checkpoint.restore(ctx, net, *optimizer); });
    CHECK(contains(message, "the network differs from the one that was saved"));
    CHECK(everything(ctx, net, *optimizer) == now);
  }
  std::filesystem::remove(path);
}

}  // namespace checkpoint_test
}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("checkpoint: a multi-layer perceptron that grows trains on bit by bit after resuming") {
  checkpoint_test::check_resume("mlp", checkpoint_test::mlp, false);
}

TEST_CASE("checkpoint: so does a residual network with norms and dropout under AdamW") {
  checkpoint_test::check_resume("residual", checkpoint_test::residual_net, true);
}

TEST_SUITE_END();

}  // namespace io_checkpoint_test
