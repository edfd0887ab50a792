// Trains a small network on CIFAR-10 and lets it grow: after every few epochs it measures what each layer cannot
// express, adds the units that express most of it, and prints what it found.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <meristem/meristem.hpp>

#include "options.hpp"

namespace ms = meristem;

namespace {

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Data {
  ms::data::ImageSet train, test;
};

Data load(const Options& o) {
  Data data;
  const std::filesystem::path here = "./cifar-10-batches-bin";
  const bool built_in = o.data.empty() && !std::filesystem::is_directory(here);
  if (built_in) {
    // They show how the program works: a run shall take minutes, also with convolutions.
    const std::int64_t images = o.is_mlp() ? 20'000 : 5'000;
    data.train = ms::data::synthetic({.images = images, .seed = 1, .split = ms::data::Split::train});
    data.test = ms::data::synthetic({.images = images / 5, .seed = 1, .split = ms::data::Split::test});
    std::cout << "data      built-in procedural images";
  } else {
    const std::filesystem::path folder = o.data.empty() ? here : std::filesystem::path(o.data);
    data.train = ms::data::cifar10(folder, ms::data::Split::train);
    data.test = ms::data::cifar10(folder, ms::data::Split::test);
    std::cout << "data      CIFAR-10 from " << folder.string();
  }
  if (o.images > 0 && o.images < data.train.size()) data.train = data.train.take(o.images);
  std::cout << ": " << ms::grouped(data.train.size()) << " to train, " << ms::grouped(data.test.size()) << " to test\n";
  if (built_in) std::cout << "          (for CIFAR-10 give --data DIR; there is no " << here.string() << " here)\n";
  return data;
}

ms::grow::Method method_of(const std::string& name) {
  if (name == "tiny-eigen") return ms::grow::tiny(ms::grow::Route::eigen);
  if (name == "tiny-joint") return ms::grow::tiny_joint();
  if (name == "tiny-fisher") return ms::grow::tiny_fisher();
  return ms::grow::tiny();
}

/// The hidden widths, or of very many layers their number and extremes.
std::string widths_of(const std::vector<ms::grow::Site<float>>& sites) {
  std::string text;
  std::int64_t least = sites.front().width(), most = least;
  for (const auto& site : sites) {
    text += (text.empty() ? "" : "-") + std::to_string(site.width());
    least = std::min(least, site.width());
    most = std::max(most, site.width());
  }
  return text.size() <= 36 ? text : ms::concat(sites.size(), " layers of ", least, " to ", most);
}

ms::nn::Sequential<float> build(ms::Context& ctx, const Options& o, const ms::data::ImageSet& images) {
  const std::int64_t classes = images.classes();
  if (o.is_mlp()) {
    return ms::models::mlp<float>(ctx, {.inputs = images.image_bytes(),
                                        .hidden = o.hidden.value_or(std::vector<std::int64_t>{8, 8}),
                                        .classes = classes,
                                        .activation = ms::kernels::parse_activation(o.activation.value_or("relu"))});
  }
  if (o.model == "vgg") {
    auto stages = ms::models::vgg_stages(11);
    for (auto& stage : stages) {
      for (std::int64_t& width : stage) width = std::max<std::int64_t>(width * o.channels / 64, 1);
    }
    return ms::models::vgg<float>(
        ctx, {.classes = classes, .stages = stages, .width = o.width, .in_channels = images.channels});
  }
  const std::vector<std::int64_t> hidden = o.hidden.value_or(std::vector<std::int64_t>{});
  if (o.model == "resnet18-strided") {
    return ms::models::resnet18_strided<float>(ctx, {.classes = classes,
                                                     .width = o.width,
                                                     .channels = o.channels,
                                                     .in_channels = images.channels,
                                                     .hidden = hidden});
  }
  return ms::models::resnet18<float>(
      ctx,
      {.classes = classes, .width = o.width, .channels = o.channels, .in_channels = images.channels, .hidden = hidden});
}

ms::grow::Where where_of(const std::string& name) {
  if (name == "best") return ms::grow::Where::best_gain;
  return name == "together" ? ms::grow::Where::together : ms::grow::Where::all;
}

/// A number of floating-point operations with a prefix.
std::string operations(double count) {
  const char* const units[] = {" megaFLOP", " gigaFLOP", " teraFLOP", " petaFLOP"};
  int unit = 0;
  for (count *= 1e-6; count >= 1000.0 && unit < 3; count *= 1e-3) ++unit;
  return fixed(count, count < 10.0 ? 2 : count < 100.0 ? 1 : 0) + units[unit];
}

/// In words: when the network grows, and by how much.
std::string growth_plan(const Options& o, std::int64_t steps) {
  if (o.method == "none") return "none";
  if (steps == 0) return "none: no growth step falls into these epochs (--epochs, --grow-every, --grow-until)";
  const std::string every = o.grow_every == 1 ? "epoch" : std::to_string(o.grow_every) + " epochs";
  std::string most = "1/8 of what a layer feeds";
  if (o.is_mlp() || o.units) {
    const std::int64_t units = o.units.value_or(8);
    most = ms::concat(units, units == 1 ? " unit" : " units", " a layer");
  }
  return ms::concat(o.method, ", ", ms::grouped(steps), steps == 1 ? " step" : " steps", ": after every ", every,
                    " up to epoch ", steps * o.grow_every, ", at most ", most);
}

std::string shown_size(ms::nn::Sequential<float>& net, const std::vector<ms::grow::Site<float>>& sites) {
  return ms::concat("hidden ", widths_of(sites), ", ", ms::grouped(ms::nn::parameter_count(net)), " parameters");
}

/// A loss in few characters, even one that is running away.
std::string shown_loss(double loss) {
  std::ostringstream text;
  if (loss < 1e4) text << std::fixed;
  text << std::setprecision(4) << loss;
  return text.str();
}

void run(const Options& o) {
  ms::Context ctx({.seed = o.seed});
  std::cout << "device    " << ctx.device_name() << '\n';
  if (o.device) return;
  const auto start = std::chrono::steady_clock::now();
  const Data data = load(o);

  ms::nn::Sequential<float> net = build(ctx, o, data.train);
  const bool sgd = o.optimizer == "sgd";
  const double peak = o.learning_rate.value_or(!sgd ? 0.001 : o.is_mlp() ? 0.02 : 0.1);
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
    options.where = where_of(o.where.value_or(o.is_mlp() ? "all" : "together"));
    options.sites = o.layers;
    options.fan_out = o.fan_out == "centre" ? ms::grow::FanOut::centre : ms::grow::FanOut::full;
    options.max_units = o.units.value_or(8);
    if (!o.is_mlp() && !o.units) options.max_unit_share = 1.0 / 8;
    options.significance = o.significance;
    options.damping = o.damping;
    options.statistics_samples = o.statistics_samples.value_or(o.is_mlp() ? 10'000 : 2'000);
    options.search_samples = o.search_samples.value_or(o.is_mlp() ? 1'000 : 500);
    // Batch normalisation measures what it would do in training.
    if (!o.is_mlp()) options.batch_size = o.batch;
    if (o.max_parameters > 0) options.budget.parameters = o.max_parameters;
    options.loss = loss;
    grower.emplace(net, *optimizer, options);
  }

  const std::int64_t steps_per_epoch = (data.train.size() + o.batch - 1) / o.batch;
  const ms::optim::Schedule schedule(
      {.peak = peak,
       .decay = o.schedule == "cosine" ? ms::optim::Decay::cosine : ms::optim::Decay::constant,
       .total_steps = o.epochs * steps_per_epoch});
  // Growth after the last epoch would not be trained.
  const std::int64_t grow_until = std::min(o.grow_until.value_or(o.epochs * 2 / 3), o.epochs - 1);
  const ms::data::Augmentation augmentation =
      o.augment ? ms::data::Augmentation{.crop_padding = 4, .flip = true, .pad_mode = ms::data::PadMode::reflect}
                : ms::data::Augmentation{};

  std::cout << "network   " << o.model << ", " << shown_size(net, sites) << "\ntraining  " << ms::grouped(o.epochs)
            << (o.epochs == 1 ? " epoch" : " epochs") << " of " << ms::grouped(steps_per_epoch)
            << (steps_per_epoch == 1 ? " step; " : " steps; ") << o.optimizer << ", learning rate " << peak
            << (o.schedule == "cosine" ? " falling to 0" : "") << "; seed " << o.seed << "\ngrowth    "
            << growth_plan(o, grows ? grow_until / o.grow_every : 0) << "\n\n";

  // Maps take much memory; rows do not.
  const std::int64_t test_batch = o.is_mlp() ? 1'000 : o.batch;
  const auto test = [&] { return ms::train::evaluate<float>(ctx, net, data.test, test_batch); };
  const ms::Shape image{1, data.train.height, data.train.width, data.train.channels};
  double growing = 0.0, growing_operations = 0.0, training_operations = 0.0;
  for (std::int64_t epoch = 1; epoch <= o.epochs; ++epoch) {
    const auto epoch_start = std::chrono::steady_clock::now();
    ms::train::Metrics training;
    for (const auto& batch :
         data.train.batches<float>(ctx, o.batch, {.shuffle = true, .epoch = epoch - 1, .augmentation = augmentation})) {
      optimizer->set_learning_rate(schedule.at(optimizer->steps()));
      training += ms::train::step<float>(ctx, net, batch, *optimizer, loss);
    }
    // A multiply-add is two operations; forward, the inputs' and the weights' gradients take about the same.
    training_operations += 6.0 * static_cast<double>(net.multiply_adds(image)) * static_cast<double>(training.samples);
    const ms::train::Metrics testing = test();
    std::cout << "epoch " << std::setw(static_cast<int>(std::to_string(o.epochs).size())) << epoch << '/' << o.epochs
              << "   loss " << shown_loss(training.loss) << "   accuracy " << fixed(100 * training.accuracy, 2)
              << " % train, " << fixed(100 * testing.accuracy, 2) << " % test   "
              << ms::grouped(ms::nn::parameter_count(net)) << " parameters   " << fixed(seconds_since(epoch_start), 1)
              << " s\n"
              << std::flush;
    if (!grower || epoch % o.grow_every != 0 || epoch > grow_until) continue;
    ms::grow::GrowthReport report;
    if (o.is_mlp()) {
      report = grower->grow(ctx, data.train, [&](ms::grow::SiteReport& site) { site.accuracy = test().accuracy; });
    } else {
      // Testing after every layer would take longer than growing.
      report = grower->grow(ctx, data.train);
    }
    for (const ms::grow::SiteReport& site : report.sites) growing += site.seconds;
    growing_operations += report.operations;
    std::cout << "\ngrowth after epoch " << epoch << '\n' << report << "  ";
    if (report.added() == 0) {
      std::cout << "no layer grew";
    } else {
      std::cout << "now " << shown_size(net, sites) << ", test accuracy " << fixed(100 * test().accuracy, 2) << " %";
    }
    std::cout << "\n\n" << std::flush;
  }

  const ms::train::Metrics testing = test();
  std::cout << "\nresult    test accuracy " << fixed(100 * testing.accuracy, 2) << " %, " << shown_size(net, sites)
            << "\n          " << fixed(seconds_since(start), 1) << " s";
  if (grower) std::cout << ", of which " << fixed(growing, 1) << " s growing";
  std::cout << "; " << operations(training_operations) << " of training";
  if (grower) std::cout << ", " << operations(growing_operations) << " of growing";
  std::cout << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (const auto exit_code = CommandLine(options).parse(argc, argv)) return *exit_code;
  try {
    run(options);
  } catch (const ms::ArgumentError& error) {
    std::cerr << "cifar10: " << error.message() << '\n';
    return 2;
  } catch (const ms::Error& error) {
    std::cerr << "cifar10: " << error.message() << '\n';
    return 1;
  } catch (const std::bad_alloc&) {
    std::cerr << "cifar10: memory ran out; lower " << (options.is_mlp() ? "--hidden" : "--channels")
              << ", --units, --batch or --max-parameters\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "cifar10: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
