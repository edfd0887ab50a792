// Deciders: rules of one's own, how they compose, and what the Grower does with them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/data/sample_set.hpp>
#include <meristem/data/synthetic.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/grow/history.hpp>
#include <meristem/grow/policy/deciders.hpp>
#include <meristem/io/history.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>

namespace grow_decider_test {

namespace ms = meristem;
using ms::grow::Candidate;
using ms::grow::Decider;
using ms::grow::GrowerOptions;
using ms::grow::GrowthReport;
using ms::grow::HowMany;
using ms::grow::Where;
using support::contains;
using support::message_of;

namespace {

/// So many units in a growth step, one by one to the layers that gain most by each.
struct Together {
  std::int64_t most;

  void operator()(std::span<Candidate> candidates) const {
    std::vector<Candidate*> order;
    for (Candidate& one : candidates) order.push_back(&one);
    std::stable_sort(order.begin(), order.end(),
                     [](auto* a, auto* b) { return a->gain_per_cost(false) > b->gain_per_cost(false); });
    for (std::int64_t left = most; Candidate * one : order) {
      one->at_most(left, "others have all units of this growth step");
      left -= one->units;
    }
  }
};

/// Every fourth pixel of synthetic images.
ms::data::ImageSet small_images() {
  ms::data::ImageSet images = ms::data::synthetic({.images = 200});
  std::vector<std::uint8_t> pixels;
  for (std::int64_t i = 0; i < images.size(); ++i) {
    const auto image = images.image(i);
    for (std::int64_t y = 0; y < images.height; y += 4) {
      for (std::int64_t x = 0; x < images.width; x += 4) {
        const auto pixel = image.subspan(static_cast<std::size_t>((y * images.width + x) * images.channels),
                                         static_cast<std::size_t>(images.channels));
        pixels.insert(pixels.end(), pixel.begin(), pixel.end());
      }
    }
  }
  images.pixels = std::move(pixels);
  images.height /= 4, images.width /= 4;
  return images;
}

/// Growth steps of a small perceptron by some options.
struct Task {
  ms::Context ctx{{.seed = 3}};
  ms::data::ImageSet images = small_images();
  ms::nn::Sequential<float> net;
  ms::optim::Sgd<float> sgd;

  explicit Task(ms::nn::Activation activation = ms::nn::Activation::relu)
      : net(ms::models::mlp<float>(ctx, {.inputs = images.image_bytes(),
                                         .hidden = {3, 3, 2},
                                         .classes = images.classes(),
                                         .activation = activation})),
        sgd(net, {.learning_rate = 0.02}) {}

  void train() {
    for (const auto& batch : images.batches<float>(ctx, 20, {.shuffle = true})) {
      ms::train::step<float>(ctx, net, batch, sgd);
    }
  }

  std::vector<float> outputs() {
    std::vector<float> all;
    for (const auto& batch : images.batches<float>(ctx, images.size())) {
      all = ms::to_host(ctx, net.forward(ctx, batch.inputs, {.measuring = true}).output);
    }
    return all;
  }

  std::vector<GrowthReport> grow(GrowerOptions options, int steps = 1) {
    train();
    options.statistics_samples = 120;
    options.search_samples = 40;
    options.amplitude.least_relative_decrease = 0.0;
    options.how_many = HowMany::fixed(4);
    ms::grow::Grower<float> grower(net, sgd, options);
    std::vector<GrowthReport> reports;
    for (int i = 0; i < steps; ++i) reports.push_back(grower.grow(ctx, images));
    return reports;
  }
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("decider: functions and objects of any kind decide, one after the other") {
  std::vector<std::string> asked;
  struct Everything {
    std::vector<std::string>* asked;
    void consider(Candidate& one) const { one.considered = one.report.name != "a", asked->push_back("consider"); }
    void limit(Candidate& one) const { one.at_most(5), asked->push_back("limit"); }
    void choose(std::span<Candidate> all) const { all.back().at_most(0, "last"), asked->push_back("choose"); }
  };
  const auto even = [&](Candidate& one) { one.at_most(one.units / 2 * 2), asked.push_back("even"); };
  const Decider both = Decider(Everything{&asked}) & even, other = Decider(even) & Everything{&asked};
  std::vector<Candidate> candidates{{.report = {.name = "a"}}, {.report = {.name = "b"}}};
  for (Candidate& one : candidates) both.consider(one);
  CHECK(!candidates[0].considered);
  CHECK(candidates[1].considered);
  both.limit(candidates[0]);
  other.limit(candidates[1]);
  CHECK(candidates[0].units == 4);
  CHECK(candidates[1].units == 5);
  both.choose(candidates);
  CHECK(candidates[0].units == 4);
  CHECK(candidates[1].units == 0);
  CHECK(candidates[1].why == "last");
  CHECK(asked == std::vector<std::string>{"consider", "consider", "limit", "even", "even", "limit", "choose"});
  // The first reason for none is the one told.
  candidates[1].at_most(0, "another");
  candidates[0].at_most(3, "not none");
  CHECK(candidates[1].why == "last");
  CHECK(candidates[0].why.empty());
  Decider().limit(candidates[0]);
  CHECK(candidates[0].units == 3);
}

TEST_CASE("decider: of blocks the best joins, if it gains more for what it costs than the widths did") {
  using ms::grow::detail::Deepens;
  // Slopes of 6 and 2 for 2 units of 3 parameters each, and once 6.
  const auto block = [](double slope) {
    return Candidate{
        .report = {.name = "block", .slope = slope, .found = 2}, .unit = {3, 30}, .fixed = {6, 40}, .units = 2};
  };
  const auto choose = [&](const Deepens& rule) {
    std::vector<Candidate> blocks{block(2.0), block(6.0)};
    rule.choose(blocks);
    CHECK(blocks[0].units == 0);
    CHECK(blocks[0].why == (blocks[1].units > 0 ? "a block elsewhere promises more" : blocks[1].why));
    return blocks[1].units > 0 ? "" : blocks[1].why;
  };
  CHECK(choose({}) == "");
  CHECK(choose({.slope = 4.9, .paid = 10}) == "");  // 6 / 12 = 0.5
  CHECK(choose({.slope = 5.0, .paid = 10}) == "widths gain more per parameter");
  std::vector<Candidate> unknown{block(0.0)};
  Deepens{.slope = 0.0, .paid = 10}.choose(unknown);
  CHECK(unknown[0].units == 0);
  CHECK(contains(unknown[0].why, "is not measured by this method"));
}

TEST_CASE("decider: a limit of one's own holds before the units are found, and after, by what was found") {
  Task task;
  std::map<std::string, std::vector<bool>> asked;
  const auto report = task.grow({.rule = Decider([&](Candidate& one) {
                                   asked[one.report.name].push_back(one.solved);
                                   CHECK(one.growth_step == 0);
                                   CHECK(one.unit.parameters == one.fan_in + one.fan_out);
                                   // Between vectors each weight is used once, and a bias costs nothing.
                                   CHECK(one.unit.multiply_adds == one.unit.parameters - 1);
                                   CHECK(one.report.lambda.empty() != one.solved);
                                   if (one.report.name == "layer1") one.at_most(0, "it is wide enough");
                                   if (one.solved && one.report.name == "layer2") one.at_most(1);
                                 })})[0];
  REQUIRE(report.sites.size() == 3);
  CHECK(report.sites[0].asked == 0);
  CHECK(report.sites[0].added == 0);
  CHECK(report.sites[0].note == "it is wide enough");
  CHECK(report.sites[1].asked == 4);
  CHECK(report.sites[1].added == 1);
  CHECK(report.sites[2].added > 1);
  CHECK(asked["layer2"] == std::vector<bool>{false, true});
}

TEST_CASE("decider: a limit by what was found holds where random features alone are found") {
  // x² has no linear part on symmetric inputs.
  const std::int64_t n = 400;
  ms::data::SampleSet<double> set{.inputs = {}, .input = {1}, .target = {1}};
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = (static_cast<double>(2 * i + 1) / static_cast<double>(n)) - 1.0;
    set.inputs.push_back(x);
    set.targets.push_back(x * x);
  }
  for (const bool limited : {false, true}) {
    ms::Context ctx({.seed = 3});
    auto net = ms::models::mlp<double>(ctx, {.inputs = 1, .hidden = {1}, .classes = 1});
    // No hidden unit is active, so that the constant alone is learned.
    for (auto* parameter : ms::nn::parameters(net)) parameter->value = ms::zeros<double>(ctx, parameter->value.shape());
    ms::optim::Sgd<double> sgd(net, {.learning_rate = 0.02});
    std::vector<std::int64_t> found;
    const auto rule = [&](Candidate& one) {
      if (!one.solved) return;
      found.push_back(one.report.found);
      if (limited) one.at_most(1);
    };
    const auto site = ms::grow::Grower<double>(net, sgd,
                                               {.how_many = {.at_most = 8},
                                                .statistics_samples = n,
                                                .search_samples = n / 4,
                                                .damping = 0.0,  // or some of the constant is left
                                                .rule = Decider(rule),
                                                .loss = ms::nn::SquaredError{}})
                          .grow(ctx, set)
                          .sites.at(0);
    CAPTURE(site.note);
    CHECK(found == std::vector<std::int64_t>{0});
    CHECK(contains(site.note, limited ? "1 unit is a random feature" : "units are random features"));
    CHECK((limited ? site.found == 1 : site.found > 1));
  }
}

TEST_CASE("decider: a rule for all candidates keeps the units that lower the loss most") {
  const GrowerOptions together{.method = ms::grow::gradmax(), .where = Where::together};
  Task free;
  const GrowthReport all = free.grow(together)[0];
  for (const std::int64_t most : {0, 3, 100}) {
    CAPTURE(most);
    Task task;
    GrowerOptions options = together;
    options.rule = Together{most};
    const GrowthReport report = task.grow(options)[0];
    CHECK(report.added() == std::min(most, all.added()));
    for (std::size_t i = 0; i < report.sites.size(); ++i) {
      CHECK(report.sites[i].found == all.sites[i].found);
      if (most == 0) CHECK(contains(report.sites[i].note, "others have all units"));
    }
    if (most != 3) continue;
    // By gain per parameter of all units that a layer may get.
    const auto gain = [&](std::size_t i) {
      const auto& site = all.sites[i];
      return site.slope / static_cast<double>(site.new_parameters);
    };
    const std::size_t best = gain(0) > gain(1) ? (gain(0) > gain(2) ? 0 : 2) : (gain(1) > gain(2) ? 1 : 2);
    CHECK(report.sites[best].added == std::min<std::int64_t>(3, all.sites[best].found));
  }
}

TEST_CASE("decider: a rule that changes the order of the candidates is refused") {
  Task task;
  const auto reversed = [](std::span<Candidate> all) { std::reverse(all.begin(), all.end()); };
  CHECK(contains(
      message_of<ms::ArgumentError>([&] { (void)task.grow({.where = Where::together, .rule = Decider(reversed)}); }),
      "a rule put the candidate layer3 in the place of layer1; leave the candidates in their order"));
}

TEST_CASE("decider: what a candidate gains is that of the units it is left") {
  // The move gains 10, the units 1, 5 and 2.
  Candidate known{.report = {.name = "known", .slope = 18.0, .found = 3},
                  .unit = {.parameters = 4, .multiply_adds = 2},
                  .fixed = {.parameters = 2, .multiply_adds = 1},
                  .move_slope = 10.0,
                  .unit_slopes = {1.0, 5.0, 2.0},
                  .units = 3};
  CHECK(known.slope() == 18.0);
  CHECK(known.gain_per_cost(false) == 18.0 / 14.0);
  known.at_most(2);
  CHECK(known.slope() == 17.0);
  CHECK(known.gain_per_cost(false) == 17.0 / 10.0);
  CHECK(known.gain_per_cost(true) == 17.0 / 5.0);
  Candidate unknown = known;
  unknown.report.slope = 19.0;
  unknown.unit_slopes.clear();
  CHECK(unknown.slope() == 16.0);
  known.at_most(0);
  CHECK(known.slope() == 0.0);
  // Three units of 3 each against one of 7 and one of 1.
  const Candidate many{
      .report = {.name = "many", .slope = 9.0, .found = 3}, .unit_slopes = {3.0, 3.0, 3.0}, .units = 3};
  const Candidate one{.report = {.name = "one", .slope = 8.0, .found = 2}, .unit_slopes = {7.0, 1.0}, .units = 2};
  for (const std::int64_t most : {1, 3}) {
    std::vector<Candidate> all{many, one};
    for (Candidate& each : all) each.at_most(most);
    ms::grow::detail::Best{Where::best_gain}.choose(all);
    CHECK((all[0].units > 0) == (most == 3));
    CHECK((all[1].units > 0) == (most == 1));
  }
}

TEST_CASE("decider: a site grows with the slope that its candidate had") {
  for (const auto activation : {ms::nn::Activation::relu, ms::nn::Activation::tanh}) {
    Task task(activation);
    std::map<std::string, double> slopes;
    const auto report = task.grow({.where = Where::together, .rule = Decider([&](std::span<Candidate> all) {
                                                               for (Candidate& one : all) {
                                                                 CHECK(one.unit_slopes.empty() ==
                                                                       (activation == ms::nn::Activation::tanh));
                                                                 one.at_most(1);
                                                                 slopes[one.report.name] = one.slope();
                                                               }
                                                             })})[0];
    for (const auto& site : report.sites) {
      CAPTURE(site.name);
      CHECK(site.found > 1);
      CHECK(site.slope == doctest::Approx(slopes.at(site.name)).epsilon(1e-12));
    }
  }
}

TEST_CASE("decider: units that belong together are chosen again where a rule leaves fewer of them") {
  struct Case {
    ms::grow::Method method;
    std::int64_t most, added;
    bool block;
  };
  // Pairs come in twos.
  for (const Case& one : {Case{ms::grow::net2wider(0.0), 2, 2, false}, Case{ms::grow::paired(), 3, 2, false},
                          Case{ms::grow::paired(), 3, 2, true}, Case{ms::grow::paired(), 1, 0, false}}) {
    CAPTURE(one.method->name());
    CAPTURE(one.most);
    CAPTURE(one.block);
    GrowerOptions options{.method = one.method,
                          .where = one.block ? Where::best_gain : Where::together,
                          .depth = one.block,
                          .how_many = HowMany::fixed(4),
                          .statistics_samples = 120,
                          .search_samples = 40,
                          .rule = Decider([&](std::span<Candidate> all) {
                            for (Candidate& site : all) {
                              CHECK(site.units == 4);
                              site.at_most(site.report.block.empty() == one.block ? 0 : one.most);
                            }
                          })};
    if (one.block) options.widths = ms::grow::Widths::all;
    const auto grown = [&](Task& task) {
      task.train();
      return ms::grow::Grower<float>(task.net, task.sgd, options).grow(task.ctx, task.images);
    };
    Task task, same, replayed;
    const GrowthReport report = grown(task);
    std::int64_t sites = 0;
    for (const auto& site : report.sites) {
      CAPTURE(site.name);
      CHECK(site.found == 4);
      sites += site.added > 0 ? 1 : 0;
      if (site.added > 0) CHECK(site.added == one.added);
    }
    CHECK(sites == (one.added == 0 ? 0 : one.block ? 1 : 3));
    same.train();
    const std::vector<float> before = same.outputs(), after = task.outputs();
    // Sums of some hundred products in another order, in single precision.
    double most = 0.0, size = 0.0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      most = std::max(most, std::abs(static_cast<double>(before[i]) - after[i]));
      size = std::max(size, std::abs(static_cast<double>(before[i])));
    }
    CHECK(most < 1e-5 * size);
    ms::grow::History history;
    history.add(1, 10, report);
    options.replay = std::make_shared<const ms::grow::History>(history);
    CHECK(grown(replayed).added() == report.added());
    CHECK(replayed.outputs() == after);
  }
}

TEST_CASE("decider: a site that a rule leaves out is not measured, and the amplitude may be decided as well") {
  struct OddSteps {
    void consider(Candidate& one) const {
      one.considered = one.growth_step % 2 == 1 || one.report.name == "layer2";
      if (one.growth_step == 1) one.samples = 50;
    }
    void limit(Candidate& one) const { one.gamma = 0.125; }
  };
  Task task;
  const auto reports = task.grow({.rule = OddSteps{}}, 2);
  REQUIRE(reports[0].sites.size() == 1);
  CHECK(reports[0].sites[0].name == "layer2");
  CHECK(reports[0].sites[0].samples == 120);
  REQUIRE(reports[1].sites.size() == 3);
  for (const auto& report : reports) {
    for (const auto& site : report.sites) {
      CHECK(site.gamma == 0.125);
      CHECK(site.evaluations == 2);
    }
  }
  CHECK(reports[1].sites[0].samples == 50);
}

TEST_CASE("decider: in round robin every site has its turn, whatever a rule leaves out in between") {
  struct Alternate {
    void consider(Candidate& one) const {
      one.considered = (one.report.name == "layer1") == (one.growth_step % 2 == 0);
    }
  };
  struct AllBut {
    std::string name;
    void consider(Candidate& one) const { one.considered = one.report.name != name; }
  };
  const auto visited = [](const Decider& rule, int steps) {
    Task task;
    std::vector<std::string> names;
    for (const auto& report : task.grow({.where = Where::round_robin, .rule = rule}, steps)) {
      REQUIRE(report.sites.size() == 1);
      names.push_back(report.sites[0].name);
    }
    return names;
  };
  CHECK(visited(Alternate{}, 6) ==
        std::vector<std::string>{"layer1", "layer2", "layer1", "layer3", "layer1", "layer2"});
  CHECK(visited(AllBut{"layer2"}, 4) == std::vector<std::string>{"layer1", "layer3", "layer1", "layer3"});
}

TEST_CASE("decider: a growth step in which every site is left out is taken, written down and replayed") {
  struct OddSteps {
    void consider(Candidate& one) const { one.considered = one.growth_step % 2 == 1; }
  };
  GrowerOptions options{.rule = OddSteps{}};
  Task task, replayed;
  ms::grow::History history;
  for (auto& report : task.grow(options, 3)) history.add(1, 10, std::move(report));
  CHECK(history.steps[0].sites.empty());
  CHECK(history.steps[1].added() > 0);
  CHECK(history.steps[2].sites.empty());
  std::stringstream lines;
  history.write_json_lines(lines);
  options.replay = std::make_shared<const ms::grow::History>(ms::io::read_history(lines));
  const auto reports = replayed.grow(options, 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(reports[i].added() == history.steps[i].added());
  CHECK(replayed.outputs() == task.outputs());
}

TEST_CASE("decider: a place for a block is considered as a site is") {
  struct Sizes {
    std::map<std::string, Candidate>* seen;
    std::int64_t widest;
    void consider(Candidate& one) const {
      (*seen)[one.report.name] = one;
      one.considered = !one.report.block.empty() && one.fan_out <= widest;
    }
  };
  std::map<std::string, Candidate> seen;
  Task task;
  const std::int64_t parameters = ms::nn::parameter_count(task.net);
  const auto report = task.grow(
      {.where = Where::best_gain, .widths = ms::grow::Widths::all, .depth = true, .rule = Sizes{&seen, 2}})[0];
  REQUIRE(seen.size() == 6);
  std::map<std::string, std::int64_t> widths;
  for (const auto& [name, one] : seen) {
    CAPTURE(name);
    CHECK(one.report.parameters == parameters);
    CHECK(one.report.multiply_adds > 0);
    if (one.report.block.empty()) continue;
    CHECK(one.report.width == 0);
    // With a bias; what goes out is added to what comes in.
    CHECK(one.fan_in == one.fan_out + 1);
    widths[name] = one.fan_out;
  }
  // Behind hidden layers of 3, 3 and 2 units.
  REQUIRE(widths.size() == 3);
  REQUIRE(report.sites.size() == 1);
  CHECK(widths.at(report.sites[0].name) == 2);
  std::int64_t sum = 0;
  for (const auto& [name, width] : widths) sum += width;
  CHECK(sum == 8);
}

TEST_CASE("decider: of the sites that a rule leaves, the best one grows") {
  Task first;
  const GrowthReport free = first.grow({.where = Where::best_gain})[0];
  const auto grown = [](const GrowthReport& report) {
    return std::find_if(report.sites.begin(), report.sites.end(), [](const auto& site) { return site.added > 0; })
        ->name;
  };
  const std::string best = grown(free);
  Task second;
  const GrowthReport without = second.grow({.where = Where::best_gain, .rule = Decider([&](std::span<Candidate> all) {
                                                                         for (Candidate& one : all) {
                                                                           if (one.report.name == best)
                                                                             one.at_most(0, "not this one");
                                                                         }
                                                                       })})[0];
  CHECK(without.added() > 0);
  CHECK(grown(without) != best);
}

TEST_CASE("decider: where sites are compared, all of them are told of once the best has grown") {
  for (const Where where : {Where::best_gain, Where::together}) {
    Task task;
    task.train();
    ms::grow::Grower<float> grower(task.net, task.sgd,
                                   {.where = where,
                                    .sites = {"layer1", "layer3"},
                                    .how_many = HowMany::fixed(2),
                                    .statistics_samples = 120,
                                    .search_samples = 40,
                                    .rule = Decider([](std::span<Candidate> all) { all[0].at_most(0); })});
    const std::int64_t before = ms::nn::parameter_count(task.net);
    std::vector<std::int64_t> sizes;
    const auto report = grower.grow(task.ctx, task.images, [&](ms::grow::SiteReport& site) {
      CHECK(site.parameters == ms::nn::parameter_count(task.net));
      sizes.push_back(site.parameters);
    });
    REQUIRE(report.sites.size() == 2);
    CHECK(report.sites[1].added == 2);
    REQUIRE(sizes.size() == 2);
    CHECK((sizes[0] > before) == (where == Where::best_gain));
    CHECK(sizes[1] > before);
  }
}

TEST_CASE("decider: a growth step that fails is not taken, and its turn comes again") {
  Task task;
  bool fails = true;
  ms::grow::Grower<float> grower(task.net, task.sgd,
                                 {.where = Where::round_robin,
                                  .how_many = HowMany::fixed(1),
                                  .statistics_samples = 50,
                                  .search_samples = 20,
                                  .rule = Decider([&](Candidate& one) {
                                    CHECK(one.growth_step == 0);
                                    if (fails) throw ms::DataError("not now");
                                  })});
  const auto state = grower.state();
  CHECK_THROWS_AS((void)grower.grow(task.ctx, task.images), ms::DataError);
  CHECK(grower.state() == state);
  fails = false;
  CHECK(grower.grow(task.ctx, task.images).sites.at(0).name == "layer1");
  CHECK(grower.state() != state);
}

TEST_SUITE_END();

}  // namespace grow_decider_test
