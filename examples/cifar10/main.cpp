// Trains a small network on CIFAR-10 and lets it grow: after every few epochs it measures what each layer cannot
// express, adds the units that express most of it, and prints what it found.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <meristem/meristem.hpp>

namespace ms = meristem;

namespace {

struct Options {
  std::string data;
  std::string model = "mlp";
  std::vector<std::int64_t> hidden = {8, 8};
  std::string activation = "relu";
  std::string method = "tiny";
  std::string where = "all";
  std::int64_t epochs = 20;
  std::int64_t grow_every = 1;
  std::int64_t grow_until = -1;
  std::int64_t units = 8;
  double significance = 1.0;
  double damping = 1e-3;
  std::int64_t statistics_samples = 10'000;
  std::int64_t max_parameters = 0;
  std::int64_t batch = 128;
  std::string optimizer = "sgd";
  double learning_rate = -1.0;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  std::string schedule = "cosine";
  double label_smoothing = 0.0;
  bool augment = false;
  std::int64_t images = 0;
  std::uint64_t seed = 0;
  bool device = false;
};

/// 1234567 as 1,234,567.
std::string grouped(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (int at = static_cast<int>(digits.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void declare(CLI::App& app, Options& o) {
  app.add_option("--data", o.data,
                 "folder with the binary version of CIFAR-10 (data_batch_1.bin, ...); without it "
                 "./cifar-10-batches-bin, and else a built-in set of procedural images");
  app.add_option("--images", o.images, "train on the first N images only; 0 takes all")->check(CLI::NonNegativeNumber);
  app.add_option("--model", o.model, "network to train")->check(CLI::IsMember({"mlp"}))->capture_default_str();
  app.add_option("--hidden", o.hidden, "widths of the hidden layers at the start")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--activation", o.activation, "activation function")
      ->check(CLI::IsMember({"relu", "gelu", "silu", "tanh", "selu", "identity"}))
      ->capture_default_str();
  app.add_option("--method", o.method, "how to grow; none trains the starting network as it is")
      ->check(CLI::IsMember({"tiny", "tiny-eigen", "tiny-joint", "tiny-fisher", "none"}))
      ->capture_default_str();
  app.add_option("--grow-where", o.where, "grow all layers in turn, or the one that promises most")
      ->check(CLI::IsMember({"all", "best"}))
      ->capture_default_str();
  app.add_option("--epochs", o.epochs, "passes over the training images")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000}))
      ->capture_default_str();
  app.add_option("--grow-every", o.grow_every, "epochs between growth steps")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000}))
      ->capture_default_str();
  app.add_option("--grow-until", o.grow_until, "last epoch after which to grow; by default two thirds of the epochs")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1'000'000}));
  app.add_option("--units", o.units, "most units added to a layer in one growth step")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--significance", o.significance, "units weaker than this many times the noise are not added")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  app.add_option("--damping", o.damping, "share of the mean input power that is added to it before solving for units")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--statistics-samples", o.statistics_samples, "images measured in a growth step")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30))
      ->capture_default_str();
  app.add_option("--max-parameters", o.max_parameters, "never grow beyond this many parameters; 0 sets no limit")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--batch", o.batch, "images per training step")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--optimizer", o.optimizer, "optimiser")
      ->check(CLI::IsMember({"sgd", "adamw"}))
      ->capture_default_str();
  app.add_option("--learning-rate", o.learning_rate, "peak learning rate; by default 0.02 for sgd, 0.001 for adamw")
      ->check(CLI::Range(0.0, 1e6));
  app.add_option("--momentum", o.momentum, "momentum of sgd")->check(CLI::Range(0.0, 1.0))->capture_default_str();
  app.add_option("--weight-decay", o.weight_decay, "weight decay")->check(CLI::Range(0.0, 1e6))->capture_default_str();
  app.add_option("--schedule", o.schedule, "learning rate over time")
      ->check(CLI::IsMember({"constant", "cosine"}))
      ->capture_default_str();
  app.add_option("--label-smoothing", o.label_smoothing, "label smoothing")
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str();
  app.add_flag("--augment", o.augment, "random crops (4 pixels of reflected padding) and horizontal flips");
  app.add_option("--seed", o.seed, "everything random follows from it")->capture_default_str();
  app.add_flag("--device", o.device, "tell what the program runs on, and stop");
}

struct Data {
  ms::data::ImageSet train, test;
};

Data load(const Options& o) {
  Data data;
  const std::filesystem::path here = "cifar-10-batches-bin";
  if (!o.data.empty() || std::filesystem::is_directory(here)) {
    const std::filesystem::path folder = o.data.empty() ? here : std::filesystem::path(o.data);
    data.train = ms::data::cifar10(folder, ms::data::Split::train);
    data.test = ms::data::cifar10(folder, ms::data::Split::test);
    std::cout << "data      CIFAR-10 from " << folder.string();
  } else {
    data.train = ms::data::synthetic({.images = 20'000, .seed = 1, .split = ms::data::Split::train});
    data.test = ms::data::synthetic({.images = 4'000, .seed = 1, .split = ms::data::Split::test});
    std::cout << "data      built-in procedural images (there is no ./cifar-10-batches-bin; name CIFAR-10 with --data)";
  }
  if (o.images > 0 && o.images < data.train.size()) data.train = data.train.take(o.images);
  std::cout << ": " << grouped(data.train.size()) << " to train, " << grouped(data.test.size()) << " to test\n";
  return data;
}

ms::grow::Method method_of(const std::string& name) {
  if (name == "tiny-eigen") return ms::grow::tiny(ms::grow::Route::eigen);
  if (name == "tiny-joint") return ms::grow::tiny_joint();
  if (name == "tiny-fisher") return ms::grow::tiny_fisher();
  return ms::grow::tiny();
}

std::string widths_of(const std::vector<ms::grow::Site<float>>& sites) {
  std::string text;
  for (const auto& site : sites) text += (text.empty() ? "" : "-") + std::to_string(site.width());
  return text;
}

void run(const Options& o) {
  ms::Context ctx({.seed = o.seed});
  std::cout << "device    " << ctx.device_name() << '\n';
  if (o.device) return;
  const auto start = std::chrono::steady_clock::now();
  const Data data = load(o);

  auto net = ms::models::mlp<float>(ctx, {.inputs = data.train.image_bytes(),
                                          .hidden = o.hidden,
                                          .classes = data.train.classes(),
                                          .activation = ms::kernels::parse_activation(o.activation)});
  const bool sgd = o.optimizer == "sgd";
  const double peak = o.learning_rate >= 0.0 ? o.learning_rate : (sgd ? 0.02 : 0.001);
  std::unique_ptr<ms::optim::Optimizer<float>> optimizer;
  if (sgd) {
    optimizer = std::make_unique<ms::optim::Sgd<float>>(
        net, ms::optim::SgdOptions{.learning_rate = peak, .momentum = o.momentum, .weight_decay = o.weight_decay});
  } else {
    optimizer = std::make_unique<ms::optim::AdamW<float>>(
        net, ms::optim::AdamWOptions{.learning_rate = peak, .weight_decay = o.weight_decay});
  }
  const ms::nn::CrossEntropy loss{.label_smoothing = o.label_smoothing};
  const auto sites = ms::grow::find_sites(net);
  const bool grows = o.method != "none" && !sites.empty();
  std::optional<ms::grow::Grower<float>> grower;
  if (grows) {
    ms::grow::GrowerOptions options;
    options.method = method_of(o.method);
    options.where = o.where == "best" ? ms::grow::Where::best_gain : ms::grow::Where::all;
    options.max_units = o.units;
    options.significance = o.significance;
    options.damping = o.damping;
    options.statistics_samples = o.statistics_samples;
    if (o.max_parameters > 0) options.budget.parameters = o.max_parameters;
    options.loss = loss;
    grower.emplace(net, *optimizer, options);
  }

  const std::int64_t steps_per_epoch = (data.train.size() + o.batch - 1) / o.batch;
  const ms::optim::Schedule schedule(
      {.peak = peak,
       .decay = o.schedule == "cosine" ? ms::optim::Decay::cosine : ms::optim::Decay::constant,
       .total_steps = o.epochs * steps_per_epoch});
  const std::int64_t grow_until = o.grow_until >= 0 ? o.grow_until : o.epochs * 2 / 3;
  const ms::data::Augmentation augmentation =
      o.augment ? ms::data::Augmentation{.crop_padding = 4, .flip = true, .pad_mode = ms::data::PadMode::reflect}
                : ms::data::Augmentation{};

  std::cout << "network   " << o.model << ", hidden " << widths_of(sites) << ", "
            << grouped(ms::nn::parameter_count(net)) << " parameters; seed " << o.seed << '\n'
            << "growth    "
            << (grows ? o.method + ", up to " + std::to_string(o.units) + " units a layer every " +
                            std::to_string(o.grow_every) + " epoch(s) until epoch " + std::to_string(grow_until)
                      : std::string("none"))
            << "\n\n";

  double growing = 0.0;
  for (std::int64_t epoch = 1; epoch <= o.epochs; ++epoch) {
    const auto epoch_start = std::chrono::steady_clock::now();
    ms::train::Metrics training;
    for (const auto& batch :
         data.train.batches<float>(ctx, o.batch, {.shuffle = true, .epoch = epoch - 1, .augmentation = augmentation})) {
      optimizer->set_learning_rate(schedule.at(optimizer->steps()));
      training += ms::train::step<float>(ctx, net, batch, *optimizer, loss);
    }
    const ms::train::Metrics testing = ms::train::evaluate<float>(ctx, net, data.test);
    std::cout << "epoch " << std::setw(3) << epoch << "/" << o.epochs << "   train loss " << fixed(training.loss, 4)
              << "  accuracy " << fixed(100 * training.accuracy, 2) << " %   test accuracy "
              << fixed(100 * testing.accuracy, 2) << " %   hidden " << widths_of(sites) << "   "
              << fixed(seconds_since(epoch_start), 1) << " s\n"
              << std::flush;
    if (!grower || epoch % o.grow_every != 0 || epoch > grow_until || epoch == o.epochs) continue;
    const ms::grow::GrowthReport report = grower->grow(ctx, data.train, [&](ms::grow::SiteReport& site) {
      site.accuracy = ms::train::evaluate<float>(ctx, net, data.test).accuracy;
    });
    growing += report.seconds;
    std::cout << report << std::flush;
  }

  const ms::train::Metrics testing = ms::train::evaluate<float>(ctx, net, data.test);
  std::cout << "\nresult    test accuracy " << fixed(100 * testing.accuracy, 2) << " %, hidden " << widths_of(sites)
            << ", " << grouped(ms::nn::parameter_count(net)) << " parameters, " << fixed(seconds_since(start), 1)
            << " s, of which " << fixed(growing, 1) << " s growing\n";
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Trains a network on CIFAR-10 that starts small and grows where it lacks expressivity.", "cifar10");
  declare(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    std::cerr << "cifar10: " << error.what() << "\nRun cifar10 --help for the options.\n";
    return 2;
  }
  try {
    run(options);
  } catch (const ms::ArgumentError& error) {
    std::cerr << "cifar10: " << error.message() << '\n';
    return 2;
  } catch (const ms::Error& error) {
    std::cerr << "cifar10: " << error.message() << '\n';
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "cifar10: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
