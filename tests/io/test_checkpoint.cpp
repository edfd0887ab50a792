#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
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
    .how_many = {.at_most = 1, .significance = 0.0}, .statistics_samples = 64, .search_samples = 32, .batch_size = 64};

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

/// A small network, trained for two steps, and its checkpoint.
struct Small {
  ms::Context ctx;
  Net net;
  ms::optim::Sgd<float> sgd;
  std::string path;
  explicit Small(const std::string& name)
      : net(ms::models::mlp<float>(ctx, {.inputs = 36, .hidden = {2}, .classes = 4})),
        sgd(net, {.learning_rate = 0.1, .momentum = 0.5}),
        path(path_in_temporary("small_" + name)) {
    (void)train(ctx, net, sgd, corners(32), 0, 0, 2);
    ms::io::save_checkpoint<float>(path, ctx, net, sgd, {{"epoch", 3}});
  }
  ~Small() { std::filesystem::remove(path); }
  Small(const Small&) = delete;
  Small& operator=(const Small&) = delete;
};

std::vector<std::byte> flipped(const std::vector<std::byte>& bytes, std::size_t bit) {
  std::vector<std::byte> result = bytes;
  result[bit / 8] ^= std::byte{1} << (bit % 8);
  return result;
}

/// Whether a DataError, and nothing else, comes of these bytes.
bool refused(std::vector<std::byte> bytes) {
  try {
    (void)ms::io::Checkpoint<float>(ms::io::Safetensors::parse(std::move(bytes), "x"));
  } catch (const ms::DataError&) {
    return true;
  }
  return false;
}

/// What is said of the checkpoint when its run is changed and its checksum fits again.
std::string after_change(const std::string& path, const std::function<void(ms::io::Json& run)>& change,
                         const std::string& without = {}, const std::string& added = {}) {
  const ms::io::Safetensors original = ms::io::Safetensors::read(path);
  ms::io::Safetensors file;
  file.metadata() = original.metadata();
  for (const auto& [name, tensor] : original.tensors()) {
    ms::Shape shape;
    for (const std::int64_t extent : tensor.shape) shape.append(extent);
    if (name != without) file.add<float>(name, shape, std::vector<std::byte>(tensor.bytes.begin(), tensor.bytes.end()));
  }
  if (!added.empty()) file.add<float>(added, {1}, std::vector<std::byte>(4));
  ms::io::Json run = ms::io::Json::parse(original.metadata("run"));
  change(run);
  file.metadata()["run"] = run.dump();
  file.metadata()["checksum"] = ms::io::detail::hexadecimal(file.checksum("checksum"));
  ms::Context ctx;
  return message_of<ms::DataError>([&] { (void)ms::io::Checkpoint<float>(std::move(file)).network(ctx); });
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("checkpoint: a multi-layer perceptron that grows trains on bit by bit after resuming") {
  check_resume("mlp", mlp, false);
}

TEST_CASE("checkpoint: so does a residual network with norms and dropout under AdamW") {
  check_resume("residual", residual_net, true);
}

TEST_CASE("checkpoint: no single bit can change and no byte be missing") {
  const Small small("bits");
  const std::vector<std::byte> bytes = ms::io::read_file(small.path);
  REQUIRE_FALSE(refused(bytes));
  REQUIRE(bytes.size() < 8000);
  std::size_t taken = 0;
  // Every fifth: each byte, and each place in a byte.
  for (std::size_t bit = 0; bit < bytes.size() * 8; bit += 5) taken += refused(flipped(bytes, bit)) ? 0 : 1;
  CHECK(taken == 0);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    taken += refused({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length)}) ? 0 : 1;
  }
  CHECK(taken == 0);
}

TEST_CASE("checkpoint: other versions, types and damage are named") {
  const Small small("versions");
  const auto with = [&](const std::string& name, const std::string& text) {
    const ms::io::Safetensors original = ms::io::Safetensors::read(small.path);
    ms::io::Safetensors file;
    file.metadata() = original.metadata();
    file.metadata()[name] = text;
    return message_of<ms::DataError>([&] { (void)ms::io::Checkpoint<float>(std::move(file)); });
  };
  CHECK(contains(with("meristem.format_version", "3"), "has version 3 of the format; version 2 is read here"));
  CHECK(contains(with("meristem.format", "meristem-model"), "is no meristem-checkpoint file but meristem-model"));
  CHECK(contains(with("state", "{}"), "its content does not match its checksum; it is damaged"));
  CHECK(contains(message_of<ms::DataError>([&] { (void)ms::io::load_checkpoint<double>(small.path); }),
                 small.path + ": holds numbers of type float32; this program computes in float64"));
  CHECK_THROWS_AS((void)ms::io::load_checkpoint<float>(small.path + "x"), ms::IoError);
}

TEST_CASE("checkpoint: content that contradicts itself is refused even with the right checksum") {
  const Small small("contradictions");
  const auto changed = [&](auto&& change) { return after_change(small.path, change); };
  const auto nothing = [](ms::io::Json&) {};
  CHECK(contains(changed([](auto& run) { run["parameters"][1]["id"] = run["parameters"][0]["id"]; }), "cannot be"));
  CHECK(contains(changed([](auto& run) { run["parameters"][1]["id"] = 1000; }),
                 "the id 1000 of 'layer1.bias' cannot be"));
  CHECK(contains(changed([](auto& run) { run["parameters"][1]["name"] = "layer1.weight"; }), "is listed twice"));
  CHECK(contains(changed([](auto& run) { std::swap(run["parameters"][1], run["parameters"][3]); }),
                 "the architecture has 'layer1.bias', the list of parameters 'layer2.bias' in its place"));
  CHECK(contains(changed([](auto& run) { run["parameters"].erase(3); }), "belongs to nothing"));
  CHECK(contains(changed([](auto& run) { run["parameters"][0]["moments"] = 2; }),
                 "there is no tensor 'optimizer.1.layer1.weight'"));
  CHECK(contains(changed([](auto& run) { run["parameters"][0]["moments"] = -1; }), "'moments' is no whole number"));
  CHECK(contains(changed([](auto& run) { run["optimizer"]["steps"] = 1e3; }), "'steps' is no whole number"));
  CHECK(contains(changed([](auto& run) { run["optimizer"]["learning_rate"] = -1; }), "learning rate (-1) cannot be"));
  // The next step, stream or id would wrap around.
  CHECK(contains(changed([](auto& run) { run["optimizer"]["steps"] = INT64_MAX; }), "steps (9223372036854775807)"));
  CHECK(contains(changed([](auto& run) { run["random_streams"] = UINT64_MAX; }),
                 "18446744073709551615 random streams or "));
  CHECK(contains(changed([](auto& run) { run["ids"] = UINT64_MAX; }), "or 18446744073709551615 ids cannot be"));
  CHECK(contains(changed([](auto& run) { run["parameters"] = 1; }), "'parameters' is no list"));
  const auto parameter = [&](const char* name, const ms::io::Json& value) {
    return changed([&](auto& run) { run["parameters"][0][name] = value; });
  };
  CHECK(contains(parameter("first_steps", 1), "'layer1.weight': 'base' is missing"));
  const auto first_steps = [&](const ms::io::Json& base, const ms::io::Json& axes) {
    return parameter("first_steps", {{"base", base}, {"axes", axes}});
  };
  CHECK(contains(first_steps(-1, ms::io::Json::array()), "a first step is no whole number up to"));
  CHECK(contains(first_steps(1000, ms::io::Json::array()), "a first step is no whole number up to"));
  const auto axis = [](int number, const std::vector<double>& steps) {
    return ms::io::Json{{"axis", number}, {"first_steps", steps}};
  };
  CHECK(contains(first_steps(1, ms::io::Json::array({axis(0, {1, 2, 1})})),
                 "the first steps of axis 0 do not fit the parameter"));
  CHECK(contains(first_steps(1, ms::io::Json::array({axis(7, {1})})),
                 "the first steps of axis 7 do not fit the parameter"));
  const ms::io::Json whole = {{"axis", 0}, {"first_steps", {1, 2}}};
  CHECK(contains(first_steps(1, {whole, whole}), "axis 0 is listed twice"));
  CHECK(contains(first_steps(1, ms::io::Json::array({axis(0, {1.5, 1})})), "a first step is no whole number"));
  CHECK(contains(parameter("learning_rate_factor", -1), "a learning rate factor or weight decay of -1 cannot be"));
  CHECK(contains(parameter("weight_decay", -0.5), "weight decay of -0.5 cannot be"));
  const auto growth_rate = [&](const ms::io::Json& rate) {
    return changed([&](auto& run) { run["optimizer"]["growth_rate"] = rate; });
  };
  CHECK(contains(growth_rate({{"rule", "other"}}), "there is no growth rate 'other'"));
  CHECK(contains(growth_rate({{"rule", "rewarm"}, {"start", -1}, {"steps", 3}}), "rewarm: start is -1"));
  CHECK(contains(changed([](auto& run) { run = 1; }), "'seed' is missing"));
  CHECK(contains(after_change(small.path, nothing, "network.layer1.bias"), "there is no tensor 'network.layer1.bias'"));
  CHECK(contains(after_change(small.path, nothing, "", "more"), "the tensor 'more' belongs to nothing"));
  CHECK(contains(after_change(small.path, nothing, "optimizer.0.layer1.weight", "optimizer.0.layer1.weight"),
                 "tensor 'optimizer.0.layer1.weight' has shape (1), its parameter (2, 36)"));
}

TEST_CASE("checkpoint: numbers that are not finite are neither written nor read") {
  Small small("finite");
  const std::vector<std::byte> good = ms::io::read_file(small.path);
  ms::nn::Parameter<float>& weight = *ms::nn::parameters(small.net).at(2);
  REQUIRE(weight.name == "layer2.weight");
  std::vector<float> values = ms::to_host(small.ctx, weight.value);
  values[5] = std::nanf("");
  weight.value = ms::from_host<float>(small.ctx, weight.value.shape(), values);
  CHECK(contains(message_of<ms::NumericError>(
                     [&] { ms::io::save_checkpoint<float>(small.path, small.ctx, small.net, small.sgd); }),
                 small.path + " is not written: layer2.weight: element 5 of (4, 2) is nan"));
  CHECK(ms::io::read_file(small.path) == good);

  const ms::io::Safetensors original = ms::io::Safetensors::read(small.path);
  ms::io::Safetensors file;
  file.metadata() = original.metadata();
  for (const auto& [name, tensor] : original.tensors()) {
    ms::Shape shape;
    for (const std::int64_t extent : tensor.shape) shape.append(extent);
    std::vector<std::byte> bytes(tensor.bytes.begin(), tensor.bytes.end());
    const float infinite = -HUGE_VALF;
    if (name == "network.layer1.bias") std::memcpy(bytes.data() + sizeof(float), &infinite, sizeof(float));
    file.add<float>(name, shape, std::move(bytes));
  }
  file.metadata()["checksum"] = ms::io::detail::hexadecimal(file.checksum("checksum"));
  file.write(small.path);
  CHECK(contains(message_of<ms::DataError>([&] { (void)ms::io::load_checkpoint<float>(small.path); }),
                 small.path + ": tensor 'network.layer1.bias': element 1 of (2) is -inf"));
}

TEST_CASE("checkpoint: what cannot be restored leaves network, optimiser and Context alone") {
  Small small("restoring");
  const auto checkpoint = ms::io::load_checkpoint<float>(small.path);
  // Training goes on; restoring into the live network takes it back.
  const auto saved = everything(small.ctx, small.net, small.sgd);
  (void)train(small.ctx, small.net, small.sgd, corners(32), 1, 0, 2);
  // Making a network draws random streams.
  Net twin = checkpoint.network(small.ctx);
  const auto later = everything(small.ctx, small.net, small.sgd);
  REQUIRE(later != saved);
  CHECK_THROWS_AS(checkpoint.restore(small.ctx, twin, small.sgd), ms::ArgumentError);
  ms::optim::AdamW<float> adamw(small.net, {});
  CHECK(contains(message_of<ms::DataError>([&] { checkpoint.restore(small.ctx, small.net, adamw); }),
                 "has the state of a Sgd optimiser; got AdamW"));
  ms::ContextOptions options;
  options.seed = 5;
  ms::Context other(options);
  CHECK(contains(message_of<ms::ArgumentError>([&] { checkpoint.restore(other, small.net, small.sgd); }),
                 "was saved with seed 0, the Context has seed 5"));
  CHECK_THROWS_AS(ms::io::save_checkpoint<float>(small.path, small.ctx, twin, small.sgd), ms::ArgumentError);
  CHECK(everything(small.ctx, small.net, small.sgd) == later);
  checkpoint.restore(small.ctx, small.net, small.sgd);
  CHECK(everything(small.ctx, small.net, small.sgd) == saved);
  // A user's optimiser has to be made by the user.
  CHECK(checkpoint.optimizer(small.net)->kind() == "Sgd");
  CHECK(after_change(small.path, [](auto& run) { run["optimizer"].erase("kind"); }).find("'kind' is missing") !=
        std::string::npos);
  // Other numbers than JSON has are no reason to fail, strings that are not UTF-8 are.
  CHECK_THROWS_AS(ms::io::save_checkpoint<float>(small.path, small.ctx, small.net, small.sgd, {{"a", "\xff"}}),
                  ms::ArgumentError);
  CHECK(ms::io::load_checkpoint<float>(small.path).state() == ms::io::Json{{"epoch", 3}});
}

TEST_CASE("checkpoint: moments that are not finite are neither written nor read, and the good file stays") {
  Small small("finite moments");
  const std::vector<std::byte> good = ms::io::read_file(small.path);
  auto* const parameter = ms::nn::parameters(small.net)[0];
  auto& moment = small.sgd.state(parameter->id)[0];
  std::vector<float> numbers = ms::to_host(small.ctx, moment);
  numbers[3] = INFINITY;
  moment = ms::from_host<float>(small.ctx, parameter->value.shape(), numbers);
  CHECK(contains(message_of<ms::NumericError>(
                     [&] { ms::io::save_checkpoint<float>(small.path, small.ctx, small.net, small.sgd); }),
                 "moment 0 of layer1.weight: element 3 of (2, 36) is inf"));
  CHECK(ms::io::read_file(small.path) == good);
  // A file that somebody else wrote.
  ms::io::Safetensors file;
  const ms::io::Safetensors original = ms::io::Safetensors::read(small.path);
  file.metadata() = original.metadata();
  for (const auto& [name, tensor] : original.tensors()) {
    std::vector<float> values = ms::to_host(small.ctx, original.tensor<float>(small.ctx, name));
    if (name == "optimizer.0.layer2.bias") values[1] = std::nanf("");
    ms::Shape extents;
    for (const std::int64_t extent : tensor.shape) extents.append(extent);
    file.add<float>(small.ctx, name, ms::from_host<float>(small.ctx, extents, values).view());
  }
  file.metadata()["checksum"] = ms::io::detail::hexadecimal(file.checksum("checksum"));
  CHECK(contains(message_of<ms::DataError>([&] { (void)ms::io::Checkpoint<float>(std::move(file)); }),
                 "tensor 'optimizer.0.layer2.bias': element 1 of (4) is nan"));
}

TEST_SUITE_END();

}  // namespace io_checkpoint_test
