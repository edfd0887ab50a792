// All growth methods on the same start, data and budget: a table and a plot of accuracy against parameters and against
// floating-point operations.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <meristem/meristem.hpp>

#include "plot.hpp"
#include "training.hpp"
#include "variant.hpp"

namespace {

struct Options {
  std::string data, redraw, out = "compare", grow_after = "4/5";
  std::vector<std::string> methods;
  std::int64_t images = 4000, test_images = 2000, validation = 0, seeds = 3, first_seed = 0;
  bool controls = true;
  Task task;
  Variant usual;
};

void load(Options& o) {
  if (o.data.empty()) {
    o.task.train = ms::data::synthetic({.images = o.images + o.validation, .seed = 1, .split = ms::data::Split::train});
    o.task.test = ms::data::synthetic({.images = o.test_images, .seed = 1, .split = ms::data::Split::test});
  } else {
    o.task.train = ms::data::cifar10(o.data, ms::data::Split::train);
    o.task.test = ms::data::cifar10(o.data, ms::data::Split::test).take(o.test_images);
  }
  if (o.validation > 0) {
    // The last images of the training set; those before them train.
    if (o.images + o.validation > o.task.train.size()) {
      throw ms::ArgumentError(ms::concat("--images ", o.images, " and --validation ", o.validation,
                                         " together are more than the ", o.task.train.size(),
                                         " training images there are"));
    }
    std::vector<std::int64_t> last;
    for (std::int64_t i = o.task.train.size() - o.validation; i < o.task.train.size(); ++i) last.push_back(i);
    o.task.test = o.task.train.subset(last);
  }
  o.task.train = o.task.train.take(std::min(o.images, o.task.train.size()));
}

/// A line of the table of numbers.
struct Row {
  std::string method;
  std::int64_t seed = 0, epoch = 0;
  Mark mark;
};

constexpr const char* header = "method,seed,epoch,parameters,operations,growing,loss,accuracy,seconds";

/// Throws DataError for lines that `compare` did not write.
std::vector<Row> read_rows(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line) || line != header) {
    throw ms::DataError(ms::concat(path, " does not begin with '", header, "'; give a .csv that this program wrote"));
  }
  std::vector<Row> rows;
  while (std::getline(file, line)) {
    Row row;
    std::istringstream words(line);
    char comma = 0;
    std::getline(words, row.method, ',');
    Mark& mark = row.mark;
    words >> row.seed >> comma >> row.epoch >> comma >> mark.parameters >> comma >> mark.operations >> comma >>
        mark.growing >> comma >> mark.loss >> comma >> mark.accuracy >> comma >> mark.seconds;
    if (!words) throw ms::DataError(ms::concat(path, ", line ", rows.size() + 2, ": '", line, "' lacks numbers"));
    rows.push_back(row);
  }
  return rows;
}

/// The figure: means over the seeds after every epoch, and where every seed ended.
std::string figure(const std::vector<Row>& rows) {
  struct Series {
    std::string method;
    std::map<std::int64_t, std::vector<Mark>> epochs;
  };
  std::vector<Series> all;
  for (const Row& row : rows) {
    auto found = std::find_if(all.begin(), all.end(), [&](const Series& s) { return s.method == row.method; });
    if (found == all.end()) found = all.insert(all.end(), Series{row.method, {}});
    found->epochs[row.epoch].push_back(row.mark);
  }
  plot::Panel by_size{"accuracy against size", "parameters", "test accuracy, %", {}};
  plot::Panel by_work{
      "accuracy against work", "floating-point operations of training and growth", "test accuracy, %", {}};
  std::vector<plot::Ending> endings;
  std::size_t seeds = 0;
  for (const Series& series : all) {
    plot::Line size_line{series.method, {}}, work_line{series.method, {}};
    plot::Ending ending{series.method, {}};
    for (const auto& [epoch, marks] : series.epochs) {
      const double n = static_cast<double>(marks.size());
      Mark mean;
      for (const Mark& mark : marks) {
        mean.parameters += mark.parameters / n;
        mean.operations += mark.operations / n;
        mean.accuracy += mark.accuracy / n;
      }
      size_line.points.push_back({mean.parameters, mean.accuracy});
      work_line.points.push_back({mean.operations, mean.accuracy});
      ending.values.clear();
      for (const Mark& mark : marks) ending.values.push_back(mark.accuracy);
    }
    seeds = std::max(seeds, ending.values.size());
    by_size.lines.push_back(std::move(size_line));
    by_work.lines.push_back(std::move(work_line));
    endings.push_back(std::move(ending));
  }
  return plot::svg(by_size, by_work, "accuracy at the end",
                   ms::concat("test accuracy, %: mean and standard deviation of ", seeds, " seeds; dots are seeds"),
                   endings);
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) throw ms::IoError(ms::concat("cannot write ", path.string(), "; choose another --out"));
}

/// The lines of the comparison in the order they run: controls first, but for the one that does as many operations as
/// the first method.
std::vector<Variant> lines_of(const Options& o) {
  std::vector<std::string> methods = o.methods;
  if (methods.empty()) {
    for (const ms::grow::Method& method : ms::grow::all_methods()) {
      // The same units as tiny, more slowly.
      if (method->name() != "tiny-eigen") methods.push_back(method->name());
      if (method->name() == "gradmax") methods.emplace_back("gradmax-copied");
    }
  }
  if (o.controls) {
    methods.insert(methods.begin(), {"small", "large"});
    methods.insert(methods.begin() + 3, "large-equal");
  }
  std::vector<Variant> lines;
  for (const std::string& method : methods) {
    lines.push_back(parse_variant(method, o.usual));
    if (lines.back().from_scratch() && std::none_of(lines.begin(), lines.end(), [](auto& v) { return v.grows(); })) {
      throw ms::ArgumentError(ms::concat("'", method, "' has no method before it that grows a network to train anew"));
    }
  }
  return lines;
}

/// What a line that grew ended with, and what it took.
struct Grown {
  std::string architecture;
  double operations = 0.0;
};

/// Epochs in which that network takes as many operations.
double epochs_of(const Task& task, const Grown& grown) {
  ms::Context ctx;
  const ms::Shape image{1, task.train.height, task.train.width, task.train.channels};
  const double each = 6.0 * static_cast<double>(ms::io::build<float>(ctx, grown.architecture).multiply_adds(image));
  return grown.operations / (each * static_cast<double>(task.train.size()));
}

void compare(const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Variant> lines = lines_of(o);
  std::cout
      << "data " << o.task.train.source << ", " << o.task.train.size() << " to train, " << o.task.test.size()
      << (o.validation > 0 ? " to validate" : " to test") << "; " << o.task.model << ", " << o.seeds << " seeds, "
      << o.task.epochs << " epochs\n\n"
      << "| method | accuracy % | training loss | parameters | units added | GFLOP in all | of which growth | s |\n"
      << "|---|---|---|---|---|---|---|---|\n"
      << std::flush;
  // Written line by line: a comparison that is interrupted leaves what it has.
  write(o.out + ".csv", std::string(header) + "\n");
  std::ofstream table(o.out + ".csv", std::ios::app);
  table << std::setprecision(10);
  std::vector<Row> rows;
  double equal_epochs = static_cast<double>(o.task.epochs);
  std::map<std::int64_t, Grown> grown;  // by seed, of the last line that grew
  for (const Variant& variant : lines) {
    std::vector<double> accuracy, loss, parameters, units, operations, growing, seconds;
    try {
      for (std::int64_t seed = o.first_seed; seed < o.first_seed + o.seeds; ++seed) {
        double epochs = static_cast<double>(o.task.epochs);
        if (variant.method == "large-equal") epochs = equal_epochs;
        if (variant.method == "scratch-equal") epochs = epochs_of(o.task, grown[seed]);
        const Run run = train(o.task, variant, static_cast<std::uint64_t>(seed), epochs, grown[seed].architecture);
        if (variant.grows()) grown[seed] = {run.end, run.marks.back().operations};
        for (std::size_t i = 0; i < run.marks.size(); ++i) {
          const Mark& mark = run.marks[i];
          rows.push_back({variant.text, seed, static_cast<std::int64_t>(i) + 1, mark});
          table << variant.text << ',' << seed << ',' << i + 1 << ',' << mark.parameters << ',' << mark.operations
                << ',' << mark.growing << ',' << mark.loss << ',' << mark.accuracy << ',' << mark.seconds << '\n'
                << std::flush;
        }
        accuracy.push_back(run.marks.back().accuracy);
        loss.push_back(run.marks.back().loss);
        parameters.push_back(run.marks.back().parameters);
        operations.push_back(run.marks.back().operations * 1e-9);
        growing.push_back(run.marks.back().growing * 1e-9);
        units.push_back(static_cast<double>(run.units));
        seconds.push_back(run.marks.back().seconds);
      }
    } catch (const ms::Error& error) {
      std::cout << "| " << variant.text << " | failed: " << error.message() << " | | | | | | |\n" << std::flush;
      continue;
    }
    using plot::Spread;
    if (variant.grows() && equal_epochs == static_cast<double>(o.task.epochs)) {
      // As many operations as the first method did, by the network that has its final size from the beginning.
      ms::Context ctx;
      const std::int64_t steps = static_cast<std::int64_t>(variant.grow_after.size());
      ms::nn::Sequential<float> large = build(ctx, o.task, steps);
      equal_epochs = epochs_of(o.task, {ms::io::architecture<float>(large), Spread(operations).mean * 1e9});
    }
    const Spread quality(accuracy);
    std::cout << std::fixed << std::setprecision(2) << "| " << variant.text << " | " << quality.mean << " ± "
              << quality.deviation << " | " << std::setprecision(3) << Spread(loss).mean << " | "
              << std::setprecision(0) << Spread(parameters).mean << " | " << Spread(units).mean << " | "
              << Spread(operations).mean << " | " << Spread(growing).mean << " | " << std::setprecision(1)
              << Spread(seconds).mean << " |\n"
              << std::flush;
  }
  if (!table) throw ms::IoError(ms::concat("cannot write ", o.out, ".csv; is the disk full?"));
  write(o.out + ".svg", figure(rows));
  const double minutes = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 60.0;
  std::cout << "\nwritten: " << o.out << ".csv, " << o.out << ".svg, after " << minutes << " min\n";
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Compares growth methods on the same start, data and budget.");
  const auto whole = CLI::Range(std::int64_t{1}, std::int64_t{1} << 40);
  app.add_option("--data", o.data, "folder of CIFAR-10's binary files; without it procedural images");
  app.add_option(
         "--methods", o.methods,
         "methods to compare, all unless given; each may have settings of its own, as in tiny:split=even:damping=0.001")
      ->delimiter(',');
  app.add_option("--out", o.out, "path of the plot and the numbers, without .svg and .csv")->capture_default_str();
  app.add_option("--model", o.task.model, "vgg (four convolutions) or resnet18, whose hidden widths grow")
      ->check(CLI::IsMember({"vgg", "resnet18"}))
      ->capture_default_str();
  app.add_option("--images", o.images, "images to train on")->check(whole)->capture_default_str();
  app.add_option("--test-images", o.test_images, "images to test on")->check(whole)->capture_default_str();
  app.add_option("--validation", o.validation,
                 "test on so many of the last training images instead, to choose settings by")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  app.add_option("--seeds", o.seeds, "trainings of each method")->check(whole)->capture_default_str();
  app.add_option("--first-seed", o.first_seed, "seed of the first one")->capture_default_str();
  app.add_option("--epochs", o.task.epochs, "epochs of each training")->check(whole)->capture_default_str();
  app.add_option("--grow-after", o.grow_after, "epochs after which to grow")->capture_default_str();
  app.add_option("--hold", o.usual.hold,
                 "epochs before the learning rate falls; the last of --grow-after unless given");
  app.add_flag("--linear", o.task.linear, "the rate falls in a straight line, not by a cosine");
  app.add_option("--units", o.task.units, "channels a layer of the vgg gets in a growth step")
      ->check(whole)
      ->capture_default_str();
  app.add_option("--share", o.task.share, "the same for a block of the resnet18, in units of its outer width")
      ->check(CLI::Range(1e-3, 1.0))
      ->capture_default_str();
  app.add_option("--channels", o.task.channels, "channels of the first layer at the start; 16 for the resnet18")
      ->check(whole)
      ->capture_default_str();
  app.add_option("--batch", o.task.batch, "images of a training step")->check(whole)->capture_default_str();
  app.add_option("--learning-rate", o.usual.learning_rate, "peak of the schedule")->capture_default_str();
  app.add_flag("--augment", o.task.augment, "random crops and flips");
  app.add_flag("!--no-controls", o.controls, "only the methods, without small, large and large-equal");
  app.add_option("--redraw", o.redraw, "draw the plot from the .csv of an earlier comparison, and train nothing");
  CLI11_PARSE(app, argc, argv);
  try {
    if (o.redraw.empty()) {
      if (o.task.model == "resnet18" && app.count("--channels") == 0) o.task.channels = 16;
      o.usual.grow_after = parse_epochs(o.grow_after, "--grow-after");
      if (app.count("--hold") == 0 && !o.usual.grow_after.empty()) o.usual.hold = o.usual.grow_after.back();
      load(o);
      compare(o);
    } else {
      write(o.out + ".svg", figure(read_rows(o.redraw)));
    }
  } catch (const ms::ArgumentError& error) {
    std::cerr << "compare_methods: " << error.message() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "compare_methods: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
