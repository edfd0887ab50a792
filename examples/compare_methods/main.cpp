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
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <meristem/meristem.hpp>

#include "plot.hpp"

namespace ms = meristem;

namespace {

struct Options {
  std::string data, redraw, out = "compare";
  std::vector<std::string> methods;
  std::int64_t images = 4000, test_images = 2000, epochs = 9, grow_every = 2, grow_until = 6, units = 4, seeds = 3,
               batch = 50, channels = 4;
  double learning_rate = 0.05;
};

struct Data {
  ms::data::ImageSet train, test;
};

Data load(const Options& o) {
  Data data;
  if (o.data.empty()) {
    data.train = ms::data::synthetic({.images = o.images, .seed = 1, .split = ms::data::Split::train});
    data.test = ms::data::synthetic({.images = o.test_images, .seed = 1, .split = ms::data::Split::test});
    return data;
  }
  data.train = ms::data::cifar10(o.data, ms::data::Split::train);
  data.test = ms::data::cifar10(o.data, ms::data::Split::test);
  data.train = data.train.take(std::min(o.images, data.train.size()));
  data.test = data.test.take(std::min(o.test_images, data.test.size()));
  return data;
}

/// Four convolutions with BatchNorm, `extra` channels wider than at the start.
ms::nn::Sequential<float> build(ms::Context& ctx, const Options& o, const Data& data, std::int64_t extra) {
  const std::int64_t c = o.channels;
  return ms::models::vgg<float>(ctx, {.classes = data.train.classes(),
                                      .stages = {{c + extra}, {2 * c + extra}, {2 * c + extra, 2 * c + extra}},
                                      .in_channels = data.train.channels});
}

/// The methods of the library by name, and GradMax with fan-outs as long as today's, as in its own paper; those of
/// `gradmax` have a thousandth, as in TINY's.
ms::grow::Method method_named(const std::string& name) {
  return name == "gradmax-copied" ? ms::grow::gradmax(0.0) : ms::grow::parse_method(name);
}

/// After one epoch.
struct Mark {
  double parameters = 0.0, operations = 0.0, accuracy = 0.0;
};

struct Run {
  std::vector<Mark> marks;  ///< one after every epoch
  std::int64_t units = 0;   ///< added in all
  double growing = 0.0;     ///< operations of growth
  double seconds = 0.0;
};

/// One training with one method; "small" and "large" do not grow.
Run train(const Options& o, const Data& data, const std::string& method, std::uint64_t seed) {
  const auto start = std::chrono::steady_clock::now();
  ms::Context ctx({.seed = seed});
  const std::int64_t growths = std::min(o.grow_until, o.epochs - 1) / o.grow_every;
  ms::nn::Sequential<float> net = build(ctx, o, data, method == "large" ? growths * o.units : 0);
  ms::optim::Sgd<float> sgd(net, {.learning_rate = o.learning_rate, .momentum = 0.9, .weight_decay = 5e-4});
  const std::int64_t steps = (data.train.size() + o.batch - 1) / o.batch;
  const ms::optim::Schedule schedule(
      {.peak = o.learning_rate, .decay = ms::optim::Decay::cosine, .total_steps = o.epochs * steps});
  std::optional<ms::grow::Grower<float>> grower;
  if (method != "small" && method != "large") {
    ms::grow::GrowerOptions options;
    options.method = method_named(method);
    options.where = ms::grow::Where::together;
    // The same number of units for every method, also where a threshold would not let them pass.
    options.how_many = ms::grow::HowMany::fixed(o.units);
    options.line_search.least_relative_decrease = 0.0;
    options.statistics_samples = std::min<std::int64_t>(1000, data.train.size() / 2);
    options.search_samples = std::min<std::int64_t>(400, data.train.size() / 4);
    options.batch_size = o.batch;
    grower.emplace(net, sgd, options);
  }
  ms::grow::When when =
      ms::grow::When::every_epochs(o.grow_every) && ms::grow::When::until_epoch(std::min(o.grow_until, o.epochs - 1));
  const ms::Shape image{1, data.train.height, data.train.width, data.train.channels};
  Run run;
  double operations = 0.0;
  const auto mark = [&] {
    run.marks.push_back({static_cast<double>(ms::nn::parameter_count(net)), operations,
                         100.0 * ms::train::evaluate<float>(ctx, net, data.test, o.batch).accuracy});
  };
  for (std::int64_t epoch = 1; epoch <= o.epochs; ++epoch) {
    for (const auto& batch : data.train.batches<float>(ctx, o.batch, {.shuffle = true, .epoch = epoch - 1})) {
      sgd.set_learning_rate(schedule.at(sgd.steps()));
      ms::train::step<float>(ctx, net, batch, sgd);
    }
    // A multiply-add is two operations; forward and the gradients of inputs and weights take about the same.
    operations += 6.0 * static_cast<double>(net.multiply_adds(image)) * static_cast<double>(data.train.size());
    mark();
    if (!grower || !when({.epoch = epoch, .step = sgd.steps()})) continue;
    const ms::grow::GrowthReport report = grower->grow(ctx, data.train);
    run.units += report.added();
    run.growing += report.operations;
    operations += report.operations;
  }
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return run;
}

/// A line of the table of numbers.
struct Row {
  std::string method;
  std::int64_t seed = 0, epoch = 0;
  Mark mark;
};

constexpr const char* header = "method,seed,epoch,parameters,operations,accuracy";

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
    words >> row.seed >> comma >> row.epoch >> comma >> row.mark.parameters >> comma >> row.mark.operations >> comma >>
        row.mark.accuracy;
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

void compare(const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  const Data data = load(o);
  std::vector<std::string> methods{"small", "large"};
  if (o.methods.empty()) {
    for (const ms::grow::NamedMethod& method : ms::grow::all_methods()) {
      // The same units as tiny, more slowly.
      if (method.name != "tiny-eigen") methods.push_back(method.name);
      if (method.name == "gradmax") methods.emplace_back("gradmax-copied");
    }
  } else {
    for (const std::string& name : o.methods) (void)method_named(name);
    methods.insert(methods.end(), o.methods.begin(), o.methods.end());
  }
  std::cout << "data " << data.train.source << ", " << data.train.size() << " to train, " << data.test.size()
            << " to test; " << o.seeds << " seeds, " << o.epochs << " epochs\n\n"
            << "| method | accuracy % | parameters | units added | GFLOP training | of which growth | s |\n"
            << "|---|---|---|---|---|---|---|\n"
            << std::flush;
  // Written line by line: a comparison that is interrupted leaves what it has.
  write(o.out + ".csv", std::string(header) + "\n");
  std::ofstream table(o.out + ".csv", std::ios::app);
  table << std::setprecision(10);
  std::vector<Row> rows;
  for (const std::string& method : methods) {
    std::vector<double> accuracy, parameters, units, operations, growing, seconds;
    try {
      for (std::int64_t seed = 0; seed < o.seeds; ++seed) {
        const Run run = train(o, data, method, static_cast<std::uint64_t>(seed));
        for (std::size_t i = 0; i < run.marks.size(); ++i) {
          const Mark& mark = run.marks[i];
          rows.push_back({method, seed, static_cast<std::int64_t>(i) + 1, mark});
          table << method << ',' << seed << ',' << i + 1 << ',' << mark.parameters << ',' << mark.operations << ','
                << mark.accuracy << '\n'
                << std::flush;
        }
        accuracy.push_back(run.marks.back().accuracy);
        parameters.push_back(run.marks.back().parameters);
        operations.push_back(run.marks.back().operations * 1e-9);
        growing.push_back(run.growing * 1e-9);
        units.push_back(static_cast<double>(run.units));
        seconds.push_back(run.seconds);
      }
    } catch (const ms::Error& error) {
      std::cout << "| " << method << " | failed: " << error.message() << " | | | | | |\n" << std::flush;
      continue;
    }
    using plot::Spread;
    const Spread quality(accuracy);
    std::cout << std::fixed << std::setprecision(2) << "| " << method << " | " << quality.mean << " ± "
              << quality.deviation << " | " << std::setprecision(0) << Spread(parameters).mean << " | "
              << Spread(units).mean << " | " << Spread(operations).mean << " | " << Spread(growing).mean << " | "
              << std::setprecision(1) << Spread(seconds).mean << " |\n"
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
  app.add_option("--methods", o.methods, "methods to compare, all unless given")->delimiter(',');
  app.add_option("--out", o.out, "path of the plot and the numbers, without .svg and .csv")->capture_default_str();
  app.add_option("--images", o.images, "images to train on")->check(whole)->capture_default_str();
  app.add_option("--test-images", o.test_images, "images to test on")->check(whole)->capture_default_str();
  app.add_option("--seeds", o.seeds, "trainings of each method")->check(whole)->capture_default_str();
  app.add_option("--epochs", o.epochs, "epochs of each training")->check(whole)->capture_default_str();
  app.add_option("--grow-every", o.grow_every, "epochs between growth steps")->check(whole)->capture_default_str();
  app.add_option("--grow-until", o.grow_until, "last epoch after which to grow")->check(whole)->capture_default_str();
  app.add_option("--units", o.units, "channels a layer gets in a growth step")->check(whole)->capture_default_str();
  app.add_option("--channels", o.channels, "channels of the first layer at the start")
      ->check(whole)
      ->capture_default_str();
  app.add_option("--batch", o.batch, "images of a training step")->check(whole)->capture_default_str();
  app.add_option("--learning-rate", o.learning_rate, "peak of the cosine schedule")->capture_default_str();
  app.add_option("--redraw", o.redraw, "draw the plot from the .csv of an earlier comparison, and train nothing");
  CLI11_PARSE(app, argc, argv);
  try {
    if (o.redraw.empty()) {
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
