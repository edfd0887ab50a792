// Growth of whole networks in depth: what the Grower does with places for blocks.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/io/checkpoint.hpp>
#include <meristem/io/history.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/models/vgg.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/halves.hpp>

namespace grow_grower_depth_test {

namespace ms = meristem;
using ms::grow::GrowerOptions;
using ms::grow::GrowthReport;
using ms::grow::SiteReport;
using ms::grow::Where;
using ms::grow::Widths;
using support::contains;
using support::halves;
using support::message_of;

namespace {

using Net = ms::nn::Sequential<float>;
using Everything = std::vector<std::pair<std::string, std::vector<float>>>;

enum class Kind { resnet, strided, vgg, mlp, small };

Net build(ms::Context& ctx, Kind kind) {
  switch (kind) {
    case Kind::resnet:
      return ms::models::resnet18<float>(ctx, {.classes = 4, .width = 0.5, .channels = 2, .in_channels = 2});
    case Kind::strided:
      return ms::models::resnet18_strided<float>(ctx, {.classes = 4, .width = 0.5, .channels = 2, .in_channels = 2});
    case Kind::vgg:
      return ms::models::vgg<float>(ctx, {.classes = 4, .stages = {{2}, {3}}, .width = 1.0, .in_channels = 2});
    case Kind::small: {
      // A stem and a stage of two blocks.
      Net net;
      net.add<ms::nn::Conv2d<float>>("conv", ctx, 2, 3, ms::nn::Conv2dOptions{.kernel = 3, .stride = 2, .padding = 1});
      net.add<ms::nn::BatchNorm<float>>("norm", ctx, 3,
                                        ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
      auto& stage = net.add<ms::nn::Sequential<float>>("stage");
      for (const char* name : {"block1", "block2"}) {
        auto& block = stage.add<ms::nn::Residual<float>>(name);
        block.add<ms::nn::Conv2d<float>>("conv1", ctx, 3, 1, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1});
        block.add<ms::nn::BatchNorm<float>>("norm1", ctx, 1,
                                            ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
        block.add<ms::nn::Conv2d<float>>("conv2", ctx, 1, 3, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1});
        block.add<ms::nn::BatchNorm<float>>("norm2", ctx, 3,
                                            ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
      }
      net.add<ms::nn::GlobalAveragePool<float>>("pool");
      net.add<ms::nn::Linear<float>>("linear", ctx, 3, 4);
      return net;
    }
    case Kind::mlp:
      break;
  }
  return ms::models::mlp<float>(ctx, {.inputs = 128, .hidden = {4, 3}, .classes = 4});
}

struct Run {
  ms::Context ctx{{.seed = 4}};
  const ms::data::ImageSet* set;
  Net net;
  ms::optim::Sgd<float> sgd;
  std::int64_t epoch = 0;

  Run(const ms::data::ImageSet& images, Kind kind)
      : set(&images), net(build(ctx, kind)), sgd(net, {.learning_rate = 0.02, .momentum = 0.9}) {
    train();
  }

  void train() { train(net, sgd, ctx); }
  void train(Net& network, ms::optim::Optimizer<float>& optimizer, ms::Context& context) {
    for (const auto& batch : set->batches<float>(context, 30, {.shuffle = true, .epoch = epoch})) {
      ms::train::step<float>(context, network, batch, optimizer);
    }
    ++epoch;
  }

  Everything everything() { return everything(net, sgd, ctx); }
  /// Parameters with moments and ids, and buffers.
  static Everything everything(Net& network, ms::optim::Optimizer<float>& optimizer, ms::Context& context) {
    Everything all;
    network.visit_parameters([&](ms::nn::Parameter<float>& parameter) {
      all.emplace_back(ms::concat(parameter.name, " ", parameter.id), ms::to_host(context, parameter.value));
      for (const auto& moment : optimizer.state(parameter.id)) {
        all.emplace_back("moment of " + parameter.name, ms::to_host(context, moment));
      }
    });
    network.visit_buffers(
        [&](ms::nn::Buffer<float>& buffer) { all.emplace_back(buffer.name, ms::to_host(context, buffer.value)); });
    return all;
  }

  std::vector<std::string> layers() {
    std::vector<std::string> names;
    for (const auto* parameter : ms::nn::parameters<float>(net)) names.push_back(parameter->name);
    return names;
  }
};

GrowerOptions deepening(Where where, Widths widths = Widths::hidden) {
  GrowerOptions options{.where = where,
                        .widths = widths,
                        .depth = true,
                        .how_many = {.at_most = 2, .significance = 0.0},
                        .statistics_samples = 400,
                        .search_samples = 120,
                        .batch_size = 50};
  options.amplitude.least_relative_decrease = 1e-6;
  return options;
}

/// The block that a growth step put in, or null.
const SiteReport* bought(const GrowthReport& report) {
  for (const SiteReport& site : report.sites) {
    if (!site.block.empty() && site.added > 0) return &site;
  }
  return nullptr;
}

/// Learned scalars of a block with some units at a place.
std::int64_t cost_of(const ms::grow::Place<float>& place, std::int64_t units) {
  const std::int64_t in = place.first_window.kernel.size() * place.features + (place.first.has_bias() ? 1 : 0);
  const std::int64_t out = place.last_window.kernel.size() * place.features;
  return units * (in + out + (place.norm ? 2 : 0)) +
         place.features * ((place.last.has_bias() ? 1 : 0) + (place.last_norm ? 2 : 0));
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grower depth: depth alone puts the best block in, and everything else keeps its bits") {
  const auto images = halves(600);
  for (const Kind kind : {Kind::resnet, Kind::strided, Kind::vgg, Kind::mlp}) {
    CAPTURE(static_cast<int>(kind));
    Run run(images, kind);
    const Everything before = run.everything();
    const std::int64_t parameters = ms::nn::parameter_count<float>(run.net);
    ms::grow::Grower<float> grower(run.net, run.sgd, deepening(Where::best_gain_per_parameter, Widths::none));
    CHECK(grower.sites().empty());
    GrowerOptions measured = deepening(Where::best_gain_per_parameter, Widths::none);
    measured.when = ms::grow::When::bottleneck(0.1);
    CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::Grower<float>(run.net, run.sgd, measured); }),
                   "the bottleneck is one of layers"));
    const auto places = ms::grow::find_places<float>(run.net, Widths::none);
    const GrowthReport report = grower.grow(run.ctx, images);
    CHECK(report.sites.size() == places.size());
    const SiteReport* const block = bought(report);
    REQUIRE(block != nullptr);
    CHECK(block->added == 2);
    CHECK(block->width == 0);
    CHECK(block->name.starts_with(block->block + "."));
    CHECK(block->loss_after < block->loss_before);
    CHECK(block->new_parameters == ms::nn::parameter_count<float>(run.net) - parameters);
    CHECK(report.parameters == block->parameters);
    CHECK(block->new_multiply_adds ==
          run.net.multiply_adds({1, 8, 8, 2}) - (block->multiply_adds - block->new_multiply_adds));
    CHECK(block->new_multiply_adds > 0);
    REQUIRE(grower.sites().empty());

    // Names, ids, weights and moments of all that was there; running statistics behind the block follow it.
    const Everything after = run.everything();
    std::size_t found = 0;
    for (const auto& [name, values] : before) {
      for (const auto& [same, now] : after) {
        if (same != name) continue;
        ++found;
        if (!contains(name, "running_")) CHECK(now == values);
      }
    }
    CHECK(found == before.size());
    // The best by slope per parameter, its norms and biases included.
    for (std::size_t i = 0; i < places.size(); ++i) {
      const SiteReport& site = report.sites[i];
      CHECK(site.block == places[i].name);
      if (site.block == block->block) CHECK(block->new_parameters == cost_of(places[i], block->added));
      const auto worth = [&](const SiteReport& one, const auto& place) {
        return one.slope / static_cast<double>(cost_of(place, one.found));
      };
      for (std::size_t j = 0; j < places.size(); ++j) {
        if (site.block == block->block) CHECK(worth(site, places[i]) >= worth(report.sites[j], places[j]));
      }
    }
    for (const SiteReport& site : report.sites) {
      CHECK(!site.block.empty());
      if (&site != block) CHECK(contains(site.note, "a block elsewhere promises more"));
    }
    run.train();
    const GrowthReport again = grower.grow(run.ctx, images);
    CHECK(again.sites.size() == places.size() + 1);
    run.train();
  }
}

TEST_CASE("grower depth: blocks compete with widths, and what joined goes on growing in width") {
  const auto images = halves(600);
  for (const Where where : {Where::all, Where::together, Where::best_gain, Where::best_gain_per_parameter,
                            Where::best_gain_per_flop, Where::round_robin}) {
    for (const Widths widths : {Widths::hidden, Widths::all}) {
      if (widths == Widths::all && where == Where::best_gain) continue;  // as the other two that pick one
      CAPTURE(ms::grow::name_of(where));
      CAPTURE(static_cast<int>(widths));
      Run run(images, Kind::small);
      ms::grow::Grower<float> grower(run.net, run.sgd, deepening(where, widths));
      const std::size_t sites = grower.sites().size();
      const std::size_t turns = ms::grow::turns_of(grower.sites()).size();
      const SiteReport* block = nullptr;
      GrowthReport report;
      for (std::size_t step = 0; step < (where == Where::round_robin ? turns + 1 : 2) && !block; ++step) {
        const std::vector<std::string> names = run.layers();
        report = grower.grow(run.ctx, images);
        block = bought(report);
        if (!block) CHECK(run.layers() == names);
      }
      if (picks_best(where)) {
        std::int64_t grown = 0;
        for (const SiteReport& site : report.sites) grown += site.added > 0 ? 1 : 0;
        CHECK(grown <= 1);
        CHECK(report.sites.size() == sites + 3);
      }
      for (const SiteReport& site : report.sites) CHECK(std::isfinite(site.slope));
      if (where == Where::round_robin) REQUIRE(block != nullptr);
      if (!block) continue;
      const std::string name = block->name;
      const auto known = [&](const auto& site) { return site.name == name; };
      CHECK(std::any_of(grower.sites().begin(), grower.sites().end(), known));
      run.train();
      // The next growth step measures it as any other.
      const GrowthReport next = grower.grow(run.ctx, images);
      if (where != Where::round_robin) CHECK(std::any_of(next.sites.begin(), next.sites.end(), known));
    }
  }
}

TEST_CASE("grower depth: where every width grows, a block joins only if its parameters are worth more") {
  // Which it is depends on rounding, which training of so narrow a network multiplies.
  const auto images = halves(600);
  for (const std::int64_t units : {1, 4}) {
    Run run(images, units == 1 ? Kind::resnet : Kind::small);
    GrowerOptions options = deepening(Where::together);
    options.how_many.at_most = units;
    ms::grow::Grower<float> grower(run.net, run.sgd, options);
    for (int step = 0; step < 2; ++step) {
      const GrowthReport report = grower.grow(run.ctx, images);
      double slope = 0.0, paid = 0.0;
      for (const SiteReport& site : report.sites) {
        if (!site.block.empty() || site.added == 0) continue;
        slope += site.slope;
        paid += static_cast<double>(site.new_parameters);
      }
      if (const SiteReport* const block = bought(report)) {
        // The rate was that of the slope before units were normalised, which is the same here.
        if (paid > 0.0) CHECK(block->slope / static_cast<double>(block->new_parameters) > slope / paid);
      } else {
        // Left out before anything was tried, or rejected by the line search.
        const auto said = [&](const char* what) {
          return std::any_of(report.sites.begin(), report.sites.end(),
                             [&](const SiteReport& site) { return !site.block.empty() && contains(site.note, what); });
        };
        CHECK(said("widths gain more per parameter") != said("no amplitude lowers the loss enough"));
      }
      run.train();
    }
  }
}

TEST_CASE("grower depth: growth that is refused leaves every bit, and so do methods without units") {
  const auto images = halves(600);
  Run run(images, Kind::resnet);
  const Everything before = run.everything();
  const std::uint64_t streams = run.ctx.random_streams();
  const auto unchanged = [&](GrowerOptions options) {
    ms::grow::Grower<float> grower(run.net, run.sgd, options);
    const GrowthReport report = grower.grow(run.ctx, images);
    CHECK(report.added() == 0);
    CHECK(run.everything() == before);
    CHECK(run.ctx.random_streams() == streams);
    return report;
  };
  GrowerOptions options = deepening(Where::best_gain, Widths::none);
  options.amplitude.least_relative_decrease = 0.9;
  const GrowthReport rejected = unchanged(options);
  CHECK(std::any_of(rejected.sites.begin(), rejected.sites.end(),
                    [](const SiteReport& site) { return contains(site.note, "no amplitude lowers the loss enough"); }));

  // The norms and biases of a block count: one parameter short of what the cheapest one takes.
  options = deepening(Where::best_gain_per_parameter, Widths::none);
  options.how_many.at_most = 1;
  options.budget.must_leave_room = false;
  const std::int64_t now = ms::nn::parameter_count<float>(run.net);
  // Behind the stem: two convolutions of 3x3 between 2 channels and a unit, without biases, a norm for each.
  const std::int64_t cheapest = (2 * 9 + 2) + (9 * 2 + 2 * 2);
  options.budget.parameters = now + cheapest - 1;
  for (const SiteReport& site : unchanged(options).sites) {
    CHECK(contains(site.note, "leaves no room"));
    CHECK(!contains(site.note, "a block elsewhere promises more"));
  }
  options.budget.parameters = now + cheapest;
  ms::grow::Grower<float> grower(run.net, run.sgd, options);
  const GrowthReport report = grower.grow(run.ctx, images);
  REQUIRE(bought(report) != nullptr);
  CHECK(bought(report)->new_parameters == cheapest);
  CHECK(report.parameters == options.budget.parameters);
}

TEST_CASE("grower depth: multiply-adds of a block count with those of its norms") {
  const auto images = halves(600);
  Run run(images, Kind::resnet);
  const ms::Shape image{1, 8, 8, 2};
  GrowerOptions options = deepening(Where::best_gain_per_flop, Widths::none);
  options.how_many.at_most = 1;
  options.budget.must_leave_room = false;
  // The cheapest place is in the last stage, on maps of 1x1 with 16 channels.
  const std::int64_t cheapest = (9 * 16 + 1) + (9 * 16 + 16), now = run.net.multiply_adds(image);
  options.budget.multiply_adds = now + cheapest - 1;
  {
    ms::grow::Grower<float> grower(run.net, run.sgd, options);
    const GrowthReport report = grower.grow(run.ctx, images);
    for (const SiteReport& site : report.sites) CHECK(contains(site.note, "leaves no room"));
  }
  options.budget.multiply_adds = now + cheapest;
  ms::grow::Grower<float> grower(run.net, run.sgd, options);
  const GrowthReport report = grower.grow(run.ctx, images);
  REQUIRE(bought(report) != nullptr);
  CHECK(bought(report)->new_multiply_adds == cheapest);
  CHECK(run.net.multiply_adds(image) == options.budget.multiply_adds);
}

TEST_CASE("grower depth: a run goes on from a checkpoint bit by bit, and its history replays") {
  const auto images = halves(600);
  for (const Where where : {Where::together, Where::best_gain_per_parameter}) {
    CAPTURE(ms::grow::name_of(where));
    const std::string path =
        (std::filesystem::temp_directory_path() / ms::concat("depth_", ms::grow::name_of(where))).string();
    GrowerOptions options = deepening(where, Widths::none);
    Run run(images, Kind::small);
    ms::grow::Grower<float> grower(run.net, run.sgd, options);
    ms::grow::History history;
    history.add(1, 8, grower.grow(run.ctx, images));
    REQUIRE(bought(history.steps[0]) != nullptr);
    run.train();
    ms::io::save_checkpoint<float>(path, run.ctx, run.net, run.sgd, {{"grower", grower.state()}});
    const std::int64_t epoch = run.epoch;
    run.train();
    history.add(3, 24, grower.grow(run.ctx, images));
    run.train();
    const Everything end = run.everything();

    const auto checkpoint = ms::io::load_checkpoint<float>(path);
    std::remove(path.c_str());
    ms::Context ctx({.seed = checkpoint.seed()});
    Net net = checkpoint.network(ctx);
    const auto optimizer = checkpoint.optimizer(net);
    checkpoint.restore(ctx, net, *optimizer);
    ms::grow::Grower<float> resumed(net, *optimizer, options);
    resumed.restore(checkpoint.state().at("grower").get<std::vector<double>>());
    run.epoch = epoch;
    run.train(net, *optimizer, ctx);
    (void)resumed.grow(ctx, images);
    run.train(net, *optimizer, ctx);
    CHECK(Run::everything(net, *optimizer, ctx) == end);

    // From the written history.
    std::stringstream lines;
    history.write_json_lines(lines);
    auto read = std::make_shared<ms::grow::History>(ms::io::read_history(lines));
    CHECK(bought(read->steps[0])->block == bought(history.steps[0])->block);
    CHECK(bought(read->steps[0])->new_parameters == bought(history.steps[0])->new_parameters);
    Run again(images, Kind::small);
    options.replay = read;
    ms::grow::Grower<float> replaying(again.net, again.sgd, options);
    (void)replaying.grow(again.ctx, images);
    again.train();
    again.train();
    (void)replaying.grow(again.ctx, images);
    again.train();
    const Everything replayed = again.everything();
    REQUIRE(replayed.size() == end.size());
    for (std::size_t i = 0; i < end.size(); ++i) {
      // Ids are counted up by every block that was looked at.
      CHECK(replayed[i].first.substr(0, replayed[i].first.find(' ')) == end[i].first.substr(0, end[i].first.find(' ')));
      CHECK(replayed[i].second == end[i].second);
    }

    // A history of another network.
    read->steps[0].sites.front().block = "stage7.block1_1";
    read->steps[0].sites.front().added = 1;
    for (std::size_t i = 1; i < read->steps[0].sites.size(); ++i) read->steps[0].sites[i].added = 0;
    Run other(images, Kind::small);
    ms::grow::Grower<float> lost(other.net, other.sgd, options);
    CHECK(contains(message_of<ms::ArgumentError>([&] { (void)lost.grow(other.ctx, images); }),
                   "has a block stage7.block1_1, for which there is no place here"));
  }
}

TEST_CASE("grower depth: widths and depth together replay as well") {
  const auto images = halves(600);
  for (const Where where : {Where::all, Where::together, Where::round_robin}) {
    CAPTURE(ms::grow::name_of(where));
    GrowerOptions options = deepening(where, Widths::all);
    Run run(images, Kind::small);
    ms::grow::Grower<float> grower(run.net, run.sgd, options);
    auto history = std::make_shared<ms::grow::History>();
    const int steps = where == Where::round_robin ? static_cast<int>(ms::grow::turns_of(grower.sites()).size()) + 2 : 3;
    bool blocks = false;
    for (int step = 0; step < steps; ++step) {
      history->add(0, 0, grower.grow(run.ctx, images));
      blocks = blocks || bought(history->steps.back());
    }
    if (where == Where::round_robin) CHECK(blocks);
    Run again(images, Kind::small);
    options.replay = history;
    ms::grow::Grower<float> replaying(again.net, again.sgd, options);
    for (int step = 0; step < steps; ++step) (void)replaying.grow(again.ctx, images);
    const Everything a = run.everything(), b = again.everything();
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      CAPTURE(a[i].first);
      CHECK(a[i].second == b[i].second);
    }
  }
}

TEST_CASE("grower depth: what a growth step finds depends on nothing that was measured before") {
  const auto images = halves(300);
  GrowerOptions options = deepening(Where::together, Widths::all);
  options.statistics_samples = 200;
  options.search_samples = 100;
  std::vector<Everything> ends;
  for (const bool same : {true, false}) {
    Run run(images, Kind::small);
    ms::grow::Grower<float> grower(run.net, run.sgd, options);
    // The block is one more reader of the stream whose first source reads the images.
    REQUIRE(bought(grower.grow(run.ctx, images)) != nullptr);
    ms::grow::Grower<float> fresh(run.net, run.sgd, options);
    const GrowthReport report = (same ? grower : fresh).grow(run.ctx, images);
    ends.push_back(run.everything());
    for (const SiteReport& site : report.sites) {
      for (const double lambda : site.lambda) ends.back().back().second.push_back(static_cast<float>(lambda));
    }
  }
  CHECK(ends[0] == ends[1]);
}

TEST_CASE("grower depth: what cannot be is said before anything changes") {
  ms::Context ctx({.seed = 4});
  Net mlp = build(ctx, Kind::mlp);
  ms::optim::Sgd<float> sgd(mlp, {});
  const auto refused = [&](const GrowerOptions& options) {
    return message_of<ms::ArgumentError>([&] { ms::grow::Grower<float> grower(mlp, sgd, options); });
  };
  CHECK(contains(refused(deepening(Where::all)), "no place for a block"));
  CHECK(contains(refused(deepening(Where::all)), "with widths all or none"));
  GrowerOptions nothing = deepening(Where::all, Widths::none);
  nothing.depth = false;
  CHECK(contains(refused(nothing), "no layer that can grow"));

  // Places are served by the method or the growth step is refused, with no block left in.
  const auto images = halves(60);
  GrowerOptions fisher = deepening(Where::best_gain, Widths::none);
  fisher.method = ms::grow::parse_method("tiny-fisher");
  Net resnet = build(ctx, Kind::resnet);
  ms::optim::Sgd<float> other(resnet, {});
  const std::size_t count = ms::nn::parameters<float>(resnet).size();
  const ms::nn::BatchSource<float> broken{
      60, [&](ms::Context& context, std::span<const std::int64_t> indices) -> ms::nn::Batch<float> {
        auto batch = images.batch<float>(context, indices);
        if (indices.size() > 20) throw ms::DataError("the disk is gone");
        return batch;
      }};
  ms::grow::Grower<float> grower(resnet, other, deepening(Where::best_gain, Widths::none));
  CHECK_THROWS_AS((void)grower.grow(ctx, broken), ms::DataError);
  CHECK(ms::nn::parameters<float>(resnet).size() == count);
}

TEST_CASE("grower depth: every method of the list can fill a block or says why it does not") {
  const auto images = halves(120);
  for (const auto& method : ms::grow::all_methods()) {
    CAPTURE(method->name());
    Run run(images, Kind::resnet);
    GrowerOptions options = deepening(Where::best_gain, Widths::none);
    options.method = method;
    ms::grow::Grower<float> grower(run.net, run.sgd, options);
    const std::size_t count = run.layers().size();
    const GrowthReport report = grower.grow(run.ctx, images);
    CHECK((bought(report) != nullptr) == (run.layers().size() > count));
    if (!bought(report)) {
      for (const SiteReport& site : report.sites) {
        CHECK(!site.note.empty());
        CHECK(!contains(site.note, "promises more"));
      }
    }
    run.train();
  }
}

TEST_SUITE_END();

}  // namespace grow_grower_depth_test
