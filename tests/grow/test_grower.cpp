#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/data/synthetic.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>

namespace grow_grower_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

namespace {

/// 8×8 images of one channel whose class is a nonlinear function of four of their quadrants' brightness.
ms::data::ImageSet quadrants(std::int64_t images, std::uint64_t seed) {
  ms::data::ImageSet set;
  set.height = set.width = 8;
  set.channels = 1;
  set.class_names = {"even", "odd"};
  set.source = "quadrants";
  set.normalization = {.mean = {0.5}, .stddev = {0.3}};
  const ms::Philox random(seed, 5);
  for (std::int64_t i = 0; i < images; ++i) {
    int bright = 0;
    bool quadrant[4];
    for (int q = 0; q < 4; ++q) {
      quadrant[q] = random.below(static_cast<std::uint64_t>(i * 100 + q), 2) == 1;
      bright += quadrant[q];
    }
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 8; ++x) {
        const bool on = quadrant[(y / 4) * 2 + x / 4];
        const std::uint64_t noise = random.below(static_cast<std::uint64_t>(i * 100 + 10 + y * 8 + x), 80);
        set.pixels.push_back(static_cast<std::uint8_t>((on ? 150 : 20) + noise));
      }
    }
    set.labels.push_back(bright % 2);
  }
  return set;
}

std::vector<std::vector<float>> weights_of(ms::Context& ctx, ms::nn::Layer<float>& net) {
  std::vector<std::vector<float>> all;
  for (auto* parameter : ms::nn::parameters(net)) all.push_back(ms::to_host(ctx, parameter->value));
  return all;
}

ms::nn::Sequential<float> small_net(ms::Context& ctx, std::vector<std::int64_t> hidden = {2, 3}) {
  return ms::models::mlp<float>(ctx, {.inputs = 64, .hidden = std::move(hidden), .classes = 2});
}

void train_epochs(ms::Context& ctx, ms::nn::Layer<float>& net, const ms::data::ImageSet& set,
                  ms::optim::Optimizer<float>& optimizer, std::int64_t first, std::int64_t last) {
  for (std::int64_t epoch = first; epoch < last; ++epoch) {
    for (const auto& batch : set.batches<float>(ctx, 50, {.shuffle = true, .epoch = epoch})) {
      ms::train::step<float>(ctx, net, batch, optimizer);
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grower: accepted growth lowers the loss, follows the parameters, and training goes on") {
  const auto set = quadrants(1000, 1);
  ms::Context ctx({.seed = 4});
  auto net = small_net(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
  ms::grow::Grower grower(net, sgd, {.how_many = {.at_most = 4}, .statistics_samples = 700, .search_samples = 200});
  REQUIRE(grower.sites().size() == 2);
  std::vector<ms::nn::ParameterId> ids;
  for (auto* parameter : ms::nn::parameters(net)) ids.push_back(parameter->id);
  std::int64_t grown = 0;
  for (std::int64_t round = 0; round < 4; ++round) {
    train_epochs(ctx, net, set, sgd, 3 * round, 3 * round + 3);
    const auto report = grower.grow(ctx, set);
    REQUIRE(report.sites.size() == 2);
    for (const auto& site : report.sites) {
      CHECK(site.bottleneck >= -1e-12);
      CHECK(site.unexpressed() <= 1.0 + 1e-12);
      if (site.added == 0) {
        CHECK(site.note != "");
        continue;
      }
      CHECK(site.added <= 4);
      CHECK(site.measured() >= 1e-3 * site.loss_before);
      CHECK(site.predicted == site.gamma * site.slope);
      CHECK(site.slope > 0.0);
    }
    grown += report.added();
    CHECK(report.parameters == ms::nn::parameter_count(net));
  }
  CHECK(grown > 0);
  std::vector<ms::nn::ParameterId> ids_after;
  for (auto* parameter : ms::nn::parameters(net)) {
    ids_after.push_back(parameter->id);
    CHECK(parameter->gradient.shape() == parameter->value.shape());
    for (const auto& moment : sgd.state(parameter->id)) CHECK(moment.shape() == parameter->value.shape());
  }
  CHECK(ids == ids_after);
  const double before = ms::train::evaluate<float>(ctx, net, set).loss;
  // The rate of the start is too high for what is left of the loss.
  sgd.set_learning_rate(0.1 * sgd.learning_rate());
  train_epochs(ctx, net, set, sgd, 100, 110);
  CHECK(ms::train::evaluate<float>(ctx, net, set).loss < before);
}

TEST_CASE("grower: it grows when its condition is due, and its state remembers when that was") {
  ms::Context ctx({.seed = 4});
  const auto set = quadrants(200, 1);
  auto net = small_net(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.05});
  using ms::grow::When;
  const ms::grow::GrowerOptions options{.when = When::every_epochs(2) && When::bottleneck(0.0),
                                        .how_many = {.at_most = 8, .significance = 0.0}};
  ms::grow::Grower grower(net, sgd, options);
  std::vector<std::int64_t> grown;
  for (std::int64_t epoch = 1; epoch <= 3; ++epoch) {
    if (grower.grow_when_due(ctx, set, {.epoch = epoch})) grown.push_back(epoch);
  }
  CHECK(grown == std::vector<std::int64_t>{2});
  ms::grow::Grower again(net, sgd, options);
  again.restore(grower.state());
  CHECK_FALSE(again.grow_when_due(ctx, set, {.epoch = 3}).has_value());
  CHECK(again.grow_when_due(ctx, set, {.epoch = 4}).has_value());
  ms::grow::Grower never(net, sgd, {});
  CHECK_FALSE(never.grow_when_due(ctx, set, {.epoch = 100}).has_value());
  CHECK_THROWS_AS(never.restore(grower.state()), ms::ArgumentError);
}

TEST_CASE("grower: the same seed gives the same bits, another seed others") {
  const auto set = quadrants(400, 1);
  const auto run = [&](std::uint64_t seed) {
    ms::Context ctx({.seed = seed});
    auto net = small_net(ctx);
    ms::optim::AdamW adam(net, {.learning_rate = 0.01});
    ms::grow::Grower grower(net, adam, {.how_many = {.at_most = 3, .significance = 0.2}, .statistics_samples = 300});
    train_epochs(ctx, net, set, adam, 0, 4);
    const auto report = grower.grow(ctx, set);
    CHECK(report.added() > 0);
    train_epochs(ctx, net, set, adam, 4, 6);
    return weights_of(ctx, net);
  };
  const auto once = run(7), again = run(7), other = run(8);
  CHECK(once == again);
  CHECK(once != other);
}

TEST_CASE("grower: rejected growth leaves every bit of the network and the optimiser") {
  const auto set = quadrants(400, 1);
  ms::Context ctx({.seed = 4});
  auto net = small_net(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
  train_epochs(ctx, net, set, sgd, 0, 2);
  ms::grow::GrowerOptions options{.how_many = {.at_most = 8, .significance = 0.0}, .statistics_samples = 200};
  options.amplitude.least_relative_decrease = 0.999;
  ms::grow::Grower grower(net, sgd, options);
  const auto before = weights_of(ctx, net);
  std::vector<std::vector<float>> moments;
  for (auto* parameter : ms::nn::parameters(net)) moments.push_back(ms::to_host(ctx, sgd.state(parameter->id)[0]));
  const auto report = grower.grow(ctx, set);
  CHECK(report.added() == 0);
  for (const auto& site : report.sites) CHECK(contains(site.note, "rejected"));
  CHECK(weights_of(ctx, net) == before);
  std::size_t i = 0;
  for (auto* parameter : ms::nn::parameters(net)) CHECK(ms::to_host(ctx, sgd.state(parameter->id)[0]) == moments[i++]);
}

TEST_CASE("grower: the covariance of the network's input is computed once for a training set and stays exact") {
  const auto set = quadrants(300, 1), another = quadrants(300, 2);
  const auto widths = [&](bool fresh_each_time) {
    ms::Context ctx({.seed = 4});
    auto net = small_net(ctx);
    ms::optim::Sgd sgd(net, {.learning_rate = 0.05});
    const ms::grow::GrowerOptions options{.how_many = {.at_most = 2, .significance = 0.0}};
    ms::grow::Grower kept(net, sgd, options);
    std::vector<double> numbers;
    for (int round = 0; round < 4; ++round) {
      train_epochs(ctx, net, set, sgd, round, round + 1);
      ms::grow::Grower fresh(net, sgd, options);
      for (const auto& site : (fresh_each_time ? fresh : kept).grow(ctx, round == 2 ? another : set).sites) {
        numbers.insert(numbers.end(), site.lambda.begin(), site.lambda.end());
        numbers.push_back(site.loss_after);
      }
    }
    return numbers;
  };
  CHECK(widths(true) == widths(false));
}

TEST_CASE("grower: best_gain grows one site and reports all") {
  const auto set = quadrants(400, 1);
  ms::Context ctx({.seed = 7});
  auto net = small_net(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.05});
  train_epochs(ctx, net, set, sgd, 0, 3);
  // With this seed growth lowers the loss by 3 %: rounding does not decide whether units are added, nor where.
  const ms::grow::GrowerOptions options{.where = ms::grow::Where::best_gain,
                                        .how_many = {.at_most = 2, .significance = 0.0}};
  ms::grow::Grower grower(net, sgd, options);
  const auto report = grower.grow(ctx, set);
  REQUIRE(report.sites.size() == 2);
  const std::size_t best = report.sites[1].slope > report.sites[0].slope ? 1 : 0;
  CHECK(report.sites[best].added > 0);
  CHECK(report.sites[1 - best].added == 0);
  CHECK(contains(report.sites[1 - best].note, "another site promises more"));
}

TEST_CASE("grower: the parameter budget holds") {
  const auto set = quadrants(400, 1);
  ms::Context ctx({.seed = 4});
  auto net = small_net(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.05});
  const std::int64_t start = ms::nn::parameter_count(net);
  // Room for one unit of the first site (64 + 1 + 3) and not for two.
  ms::grow::Grower grower(net, sgd,
                          {.how_many = {.at_most = 5, .significance = 0.0}, .budget = {.parameters = start + 70}});
  const auto report = grower.grow(ctx, set);
  CHECK(ms::nn::parameter_count(net) <= start + 70);
  bool told = false;
  for (const auto& site : report.sites) told |= contains(site.note, "budget");
  CHECK(told);
}

TEST_CASE("grower: NaN in the network or the data is told, and nothing changes") {
  auto set = quadrants(100, 1);
  ms::Context ctx({.seed = 4});
  auto net = small_net(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.05});
  ms::grow::Grower grower(net, sgd, {.how_many = {.at_most = 8, .significance = 0.0}});
  auto* bias = ms::nn::parameters(net)[5];
  bias->value = ms::from_host<float>(ctx, {2}, std::vector<float>{0.0f, std::numeric_limits<float>::quiet_NaN()});
  const auto before = ms::nn::parameter_count(net);
  CHECK_THROWS_AS((void)grower.grow(ctx, set), ms::NumericError);
  CHECK(ms::nn::parameter_count(net) == before);
}

TEST_CASE("grower: options and networks that make no sense are refused") {
  ms::Context ctx({.seed = 4});
  auto net = small_net(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.05});
  const auto refused = [&](const ms::grow::GrowerOptions& options) {
    return message_of<ms::ArgumentError>([&] { ms::grow::Grower grower(net, sgd, options); });
  };
  CHECK(contains(refused({.how_many = {.at_most = 0}}), "at_most is 0"));
  CHECK(contains(refused({.how_many = {.at_most = 8, .significance = -1.0}}), "significance is -1"));
  CHECK(contains(refused({.how_many = {.at_most = 8, .significance = std::nan("")}}), "significance is nan"));
  CHECK(contains(refused({.statistics_samples = 0}), "statistics_samples is 0"));
  CHECK(contains(refused({.search_samples = -3}), "search_samples is -3"));
  CHECK(contains(refused({.batch_size = 0}), "batch_size is 0"));
  CHECK(contains(refused({.budget = {.parameters = 0}}), "budget.parameters is 0"));
  auto linear = small_net(ctx, {});
  ms::optim::Sgd other(linear, {.learning_rate = 0.05});
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::Grower grower(linear, other, {}); }),
                 "no layer that can grow"));
  ms::grow::Grower grower(net, sgd, {});
  CHECK(contains(message_of<ms::DataError>([&] { (void)grower.grow(ctx, ms::data::ImageSet{}); }), "empty"));
}

TEST_CASE("growth report: a table with a line for every site, and a dash for what was not measured") {
  ms::grow::GrowthReport report;
  report.sites.push_back({.name = "layer1",
                          .width = 8,
                          .added = 3,
                          .goal_norm2 = 2.0,
                          .bottleneck = 1.5,
                          .gamma = 0.25,
                          .predicted = 0.125,
                          .loss_before = 2.0,
                          .loss_after = 1.9,
                          .parameters = 1234567,
                          .accuracy = 0.5,
                          .seconds = 1.5});
  report.sites.push_back({.name = "layer2", .width = 4, .parameters = 999, .note = "nothing significant"});
  std::ostringstream out;
  out << report;
  CHECK(out.str() ==
        "  layer  bottleneck unexpressed     units    gamma predicted measured     params  accuracy    sec\n"
        "  layer1        1.5      75.0 %     8 + 3     0.25     0.125      0.1  1,234,567   50.00 %   1.50\n"
        "  layer2          -           -         4        -         -        -        999         -   0.00\n"
        "    nothing significant\n");
}

TEST_CASE("growth report: methods that do not read a bottleneck report none") {
  for (const char* name : {"tiny", "gradmax", "random", "net2wider", "paired", "nest", "north"}) {
    INFO(name);
    ms::Context ctx({.seed = 4});
    auto net = ms::models::mlp<float>(ctx, {.inputs = 3072, .hidden = {4}, .classes = 10});
    ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.02});
    ms::grow::Grower grower(
        net, sgd, {.method = ms::grow::parse_method(name), .how_many = {.at_most = 2}, .statistics_samples = 60});
    const auto report = grower.grow(ctx, ms::data::synthetic({.images = 100, .seed = 1}));
    const bool measured = std::string(name) == "tiny";
    CHECK(std::isnan(report.sites.at(0).bottleneck) != measured);
    CHECK(std::isnan(report.sites.at(0).goal_norm2) != measured);
    CHECK(std::isnan(report.sites.at(0).unexpressed()) != measured);
    CHECK(std::isfinite(report.sites.at(0).loss_before));
    ms::grow::History history;
    history.add(1, 1, report);
    CHECK(contains(history.json_lines(0), "\"bottleneck\":null") != measured);
  }
}

TEST_CASE("growth report: long names keep the columns in line, long notes are wrapped") {
  ms::grow::GrowthReport report;
  report.sites.push_back({.name = "stage2.block1.conv1", .width = 4});
  std::string note;
  for (int i = 0; i < 40; ++i) note += "word ";
  report.sites.push_back({.name = "fc", .note = note});
  std::ostringstream out;
  out << report;
  std::istringstream lines(out.str());
  std::string heading, first, second, line;
  std::getline(lines, heading);
  std::getline(lines, first);
  std::getline(lines, second);
  CHECK(first.size() == heading.size());
  CHECK(second.size() == heading.size());
  int notes = 0;
  while (std::getline(lines, line)) {
    CHECK(line.size() <= 100);
    CHECK(line.starts_with("    word"));
    ++notes;
  }
  CHECK(notes == 3);  // 200 characters in lines of 92
}

TEST_CASE("growth report: amplitudes are powers of two, and shown as such") {
  for (const auto& [gamma, text] : {std::pair{4096.0, " 4096 "}, {0.25, " 0.25 "}, {0x1p-12, " 0.000244 "}}) {
    ms::grow::GrowthReport report;
    report.sites.push_back({.name = "layer1", .added = 1, .gamma = gamma});
    std::ostringstream out;
    out << report;
    CAPTURE(out.str());
    CHECK(contains(out.str(), text));
  }
}

TEST_CASE("growth report: names of a residual network fit into 100 columns, with accuracies and without") {
  for (const double accuracy : {std::numeric_limits<double>::quiet_NaN(), 0.9123}) {
    ms::grow::GrowthReport report;
    report.sites.push_back({.name = "stage4.block2.conv1",
                            .width = 64,
                            .added = 8,
                            .goal_norm2 = 0.00123456,
                            .bottleneck = 0.00123456,
                            .gamma = 0.0625,
                            .predicted = 0.00123456,
                            .loss_before = 2.0,
                            .loss_after = 1.98764,
                            .parameters = 773156,
                            .accuracy = accuracy,
                            .seconds = 23.456});
    std::ostringstream out;
    out << report;
    std::istringstream lines(out.str());
    std::string heading, line;
    std::getline(lines, heading);
    std::getline(lines, line);
    CHECK(line.size() <= 100);
    CHECK(line.size() == heading.size());
    CHECK(contains(heading, "accuracy") == !std::isnan(accuracy));
    CHECK(contains(line, "91.23 %") == !std::isnan(accuracy));
    for (const char* cell : {"  stage4.block2.conv1 ", " 0.00123 ", " 100.0 % ", " 64 + 8 ", " 0.0625 ", " 0.0124 ",
                             " 773,156 ", " 23.46"}) {
      CAPTURE(cell);
      CHECK(contains(line, cell));
    }
  }
}

TEST_SUITE_END();

}  // namespace grow_grower_test
