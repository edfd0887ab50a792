// Growth of whole networks in which a Concatenate puts outputs of several layers side by side.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/grow/measure/diagnosis.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/grow/units/prune.hpp>
#include <meristem/io/checkpoint.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/concatenated_networks.hpp>
#include <support/halves.hpp>
#include <support/units_on_host.hpp>

namespace grow_grower_rows_test {

namespace ms = meristem;
using ms::grow::Where;
using ms::grow::Widths;
using support::halves;
using support::Rows;

namespace {

using Net = ms::nn::Sequential<float>;
using Numbers = std::vector<std::vector<float>>;

const ms::Shape image{1, 8, 8, 2};

struct Trained {
  ms::Context ctx{{.seed = 4}};
  const ms::data::ImageSet* set;
  Net net;
  ms::optim::AdamW<float> adam;
  std::int64_t epoch = 0;

  Trained(const ms::data::ImageSet& images, Rows kind, bool norms)
      : set(&images),
        net(support::RowBuilder<float>(ctx, true, norms, 8).build(kind, 4)),
        adam(net, {.learning_rate = 0.01}) {
    train();
  }

  void train() { train(ctx, net, adam, epoch++); }
  void train(ms::Context& on, Net& which, ms::optim::Optimizer<float>& optimizer, std::int64_t number) const {
    for (const auto& batch : set->batches<float>(on, 30, {.shuffle = true, .epoch = number})) {
      ms::train::step<float>(on, which, batch, optimizer);
    }
  }

  /// Every number of a network, its buffers and its optimiser.
  static Numbers everything(ms::Context& on, Net& which, ms::optim::Optimizer<float>& optimizer) {
    Numbers all;
    for (auto* parameter : ms::nn::parameters(which)) {
      all.push_back(ms::to_host(on, parameter->value));
      for (const auto& moment : optimizer.state(parameter->id)) all.push_back(ms::to_host(on, moment));
    }
    which.visit_buffers([&](ms::nn::Buffer<float>& buffer) { all.push_back(ms::to_host(on, buffer.value)); });
    return all;
  }
  Numbers everything() { return everything(ctx, net, adam); }

  std::vector<float> outputs(ms::nn::Mode mode) {
    std::vector<float> all;
    for (const auto& batch : set->batches<float>(ctx, set->size())) {
      all = ms::to_host(ctx, net.forward(ctx, batch.inputs, {.mode = mode, .measuring = true}).output);
    }
    return all;
  }

  /// Widths agree all along, and gradients and moments with them.
  void check_whole() {
    CHECK(net.output_shape(image) == ms::Shape{1, 4});
    for (const auto& site : ms::grow::find_sites<float>(net, Widths::all)) {
      CAPTURE(site.name);
      site.for_each_reader([&](const auto& reader) {
        CHECK(reader.offset() + site.width() <= reader.features(site.width()));
        if (reader.input_norm) CHECK(reader.input_norm->channels() == reader.features(site.width()));
        if (reader.input_norm) CHECK(reader.input_norm->running_mean().value.size() == reader.input_norm->channels());
      });
    }
    for (auto* parameter : ms::nn::parameters(net)) {
      CAPTURE(parameter->name);
      CHECK(parameter->gradient.shape() == parameter->value.shape());
      for (const auto& moment : adam.state(parameter->id)) CHECK(moment.shape() == parameter->value.shape());
    }
  }

  /// Gives every norm the statistics of the set as its running ones, so that both modes are one function there.
  void settle() {
    ms::grow::detail::NormInputs<float> seen;
    for (const auto& batch : set->batches<float>(ctx, set->size())) {
      (void)net.forward(ctx, batch.inputs, {.measuring = true, .taps = &seen});
    }
    for (const auto& [norm, channels] : seen.all()) {
      auto& layer = const_cast<ms::nn::BatchNorm<float>&>(*norm);
      const auto write = [&](const std::vector<double>& values, ms::Tensor<float>& to) {
        const std::vector<float> numbers(values.begin(), values.end());
        ms::copy<float>(ctx, ms::from_host<float>(ctx, to.shape(), numbers), to);
      };
      write(channels.mean, layer.running_mean().value);
      write(channels.variance, layer.running_variance().value);
    }
  }
};

ms::grow::GrowerOptions all_widths(Where where, std::int64_t samples = 100) {
  ms::grow::GrowerOptions options{.where = where,
                                  .widths = Widths::all,
                                  .how_many = {.at_most = 2, .significance = 0.0},
                                  .statistics_samples = samples,
                                  .search_samples = samples,
                                  .batch_size = samples};
  options.amplitude.least_relative_decrease = 1e-4;
  return options;
}

/// A source of which every batch is the whole set: statistics, line search and test see the same samples.
ms::nn::BatchSource<float> undivided(const ms::data::ImageSet& set) {
  return {5 * set.size(), [&set](ms::Context& ctx, std::span<const std::int64_t> indices) {
            std::vector<std::int64_t> all(indices.size());
            std::iota(all.begin(), all.end(), std::int64_t{0});
            return set.batch<float>(ctx, all);
          }};
}

void for_each_network(const std::function<void(Rows, bool)>& use) {
  for (const Rows kind : support::all_rows) {
    for (const bool norms : {false, true}) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(norms);
      use(kind, norms);
    }
  }
}

/// ‖a - b‖ / ‖a‖
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0.0, norm = 0.0;
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(a[i]), 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grower of rows: layers side by side grow together, and both modes stay one function") {
  const auto set = halves(60);
  for_each_network([&](Rows kind, bool norms) {
    for (const Where where : {Where::all, Where::together}) {
      if (where == (kind == Rows::dense ? Where::all : Where::together)) continue;
      CAPTURE(ms::grow::name_of(where));
      Trained t(set, kind, norms);
      ms::grow::Grower<float> grower(t.net, t.adam, all_widths(where, 60));
      std::set<std::string> grown;
      std::int64_t parameters = ms::nn::parameter_count(t.net);
      for (int round = 0; round < 2; ++round) {
        t.train();
        t.settle();
        // Some ten layers whose rounding errors a norm of few values may enlarge.
        REQUIRE(distance(t.outputs(ms::nn::Mode::training), t.outputs(ms::nn::Mode::evaluation)) < 1e-4);
        (void)grower.grow(t.ctx, undivided(set), [&](ms::grow::SiteReport& site) {
          CAPTURE(site.name);
          CAPTURE(site.note);
          const auto it = std::find_if(grower.sites().begin(), grower.sites().end(),
                                       [&](const auto& known) { return known.name == site.name; });
          REQUIRE(it != grower.sites().end());
          const std::int64_t cost = it->parameters_per_unit(it->places(it->width()));
          CHECK(ms::nn::parameter_count(t.net) == parameters + site.added * cost);
          parameters = ms::nn::parameter_count(t.net);
          if (site.added == 0) return;
          grown.insert(site.name);
          CHECK(site.slope > 0.0);
          CHECK(site.measured() >= 1e-4 * site.loss_before);
        });
        t.check_whole();
        CHECK(distance(t.outputs(ms::nn::Mode::training), t.outputs(ms::nn::Mode::evaluation)) < 1e-3);
      }
      CHECK(std::ssize(grown) * 2 >= std::ssize(grower.sites()));
      t.train();
      CHECK(std::isfinite(ms::train::evaluate<float>(t.ctx, t.net, set).loss));
    }
  });
}

TEST_CASE("grower of rows: all widths at once leave the function as it was, by methods that preserve it") {
  const auto set = halves(100);
  for_each_network([&](Rows kind, bool norms) {
    for (const std::string name : {"random", "net2wider", "paired"}) {
      CAPTURE(name);
      Trained t(set, kind, norms);
      t.settle();
      auto options = all_widths(Where::together);
      options.method = name == "net2wider" ? ms::grow::net2wider(0.0) : ms::grow::parse_method(name);
      ms::grow::Grower<float> grower(t.net, t.adam, options);
      const auto before = t.outputs(ms::nn::Mode::evaluation);
      std::set<std::string> widths;
      for (const auto& site : grower.sites()) widths.insert(site.tied() ? site.stream : site.name);
      CHECK(grower.grow(t.ctx, set).added() == 2 * std::ssize(widths));
      t.check_whole();
      // Some ten layers of sums of some ten terms in float, whose errors a norm may enlarge.
      CHECK(distance(before, t.outputs(ms::nn::Mode::evaluation)) < 1e-4);
    }
  });
}

TEST_CASE("grower of rows: what a unit costs is what it adds") {
  const auto set = halves(60);
  for_each_network([&](Rows kind, bool norms) {
    Trained t(set, kind, norms);
    ms::grow::detail::InputShapes<float> shapes;
    const auto one = set.batch<float>(t.ctx, std::vector<std::int64_t>{0});
    (void)t.net.forward(t.ctx, one.inputs, {.measuring = true, .taps = &shapes});
    for (const auto& site : ms::grow::find_sites<float>(t.net, Widths::all)) {
      CAPTURE(site.name);
      const std::int64_t parameters = ms::nn::parameter_count(t.net), work = t.net.multiply_adds(image);
      const ms::grow::Candidate::Cost cost = ms::grow::unit_cost(site, shapes);
      support::HostInsertion units{.units = 1, .inputs = site.fan_in(), .mean = {0.0}, .variance = {1.0}};
      for (std::size_t i = 0; i < site.readers(); ++i) {
        const std::int64_t taps = site.reader(i).places(site.width());
        if (!site.tied()) units.taps = taps;
        units.outputs += (site.tied() ? taps : 1) * site.reader(i).consumer.out_features();
      }
      units.fan_in.assign(static_cast<std::size_t>(units.inputs), 1.0);
      units.fan_out.assign(static_cast<std::size_t>(units.taps * units.outputs), 1.0);
      ms::grow::apply<float>(t.ctx, ms::grow::make_edit(t.ctx, site, support::on_device(t.ctx, units), 1.0), t.net,
                             &t.adam);
      CHECK(ms::nn::parameter_count(t.net) - parameters == cost.parameters);
      CHECK(t.net.multiply_adds(image) - work == cost.multiply_adds);
      t.check_whole();
    }
  });
}

TEST_CASE("grower of rows: a reader that several layers feed moves once") {
  const auto set = halves(100);
  const auto source = undivided(set);
  Trained t(set, Rows::inception, false);
  auto options = all_widths(Where::together);
  options.sites = {"mix.a.a", "mix.b.b2"};
  options.amplitude = {.fixed = 0.01};
  const auto bias = [&] {
    return ms::to_host(t.ctx, ms::grow::find_site<float>(t.net, "mix.a.a").consumer.bias().value);
  };
  const std::vector<float> before = bias();
  ms::grow::detail::SharedPasses<float> passes(t.net, ms::nn::CrossEntropy{});
  const auto batch = source.batch(t.ctx, std::vector<std::int64_t>(100, 0));
  const auto proposals = passes.measure(
      t.ctx, {ms::grow::find_site<float>(t.net, "mix.a.a")}, {.significance = 0.0},
      [&](const auto& use) { use(batch); }, [](const auto&, std::int64_t, const auto*) { return std::int64_t{2}; });
  const std::vector<double> move = ms::to_host(t.ctx, proposals.front().insertion.move);
  ms::grow::Grower<float> grower(t.net, t.adam, options);
  const auto report = grower.grow(t.ctx, source);
  REQUIRE(report.sites.size() == 2);
  for (const auto& site : report.sites) CHECK(site.added == 2);
  const std::vector<float> after = bias();
  const std::size_t outputs = before.size(), d = move.size() / outputs;
  for (std::size_t o = 0; o < outputs; ++o) {
    const double moved = static_cast<double>(after[o]) - static_cast<double>(before[o]);
    // Rounding of a bias of unit scale in float.
    CHECK(std::abs(moved - 0.01 * move[o * d + d - 1]) <= 1e-6);
  }
}

TEST_CASE("grower of rows: a run goes on from a checkpoint bit by bit, and its history replays") {
  const auto set = halves(100);
  for_each_network([&](Rows kind, bool norms) {
    if (kind == Rows::towers || kind == Rows::inception) return;
    const auto path = (std::filesystem::temp_directory_path() / ms::concat("rows_", static_cast<int>(kind))).string();
    auto options = all_widths(Where::together);
    Trained t(set, kind, norms);
    ms::grow::Grower<float> grower(t.net, t.adam, options);
    ms::grow::History history;
    history.add(t.epoch, t.adam.steps(), grower.grow(t.ctx, set));
    t.train();
    ms::io::save_checkpoint<float>(path, t.ctx, t.net, t.adam, {{"grower", grower.state()}});
    const std::int64_t epoch = t.epoch;
    history.add(t.epoch, t.adam.steps(), grower.grow(t.ctx, set));
    CHECK(history.steps.back().added() > 0);
    t.train();
    const auto end = t.everything();

    const auto checkpoint = ms::io::load_checkpoint<float>(path);
    std::remove(path.c_str());
    ms::Context ctx({.seed = checkpoint.seed()});
    Net net = checkpoint.network(ctx);
    const auto optimizer = checkpoint.optimizer(net);
    checkpoint.restore(ctx, net, *optimizer);
    ms::grow::Grower<float> resumed(net, *optimizer, options);
    resumed.restore(checkpoint.state().at("grower").get<std::vector<double>>());
    (void)resumed.grow(ctx, set);
    t.train(ctx, net, *optimizer, epoch);
    CHECK(Trained::everything(ctx, net, *optimizer) == end);

    Trained again(set, kind, norms);
    options.replay = std::make_shared<const ms::grow::History>(history);
    ms::grow::Grower<float> replaying(again.net, again.adam, options);
    for (int round = 0; round < 2; ++round) {
      (void)replaying.grow(again.ctx, set);
      again.train();
    }
    CHECK(again.everything() == end);
  });
}

TEST_CASE("grower of rows: units can be pruned and grown back, and are looked at") {
  const auto set = halves(60);
  for_each_network([&](Rows kind, bool norms) {
    Trained t(set, kind, norms);
    const auto before = t.everything();
    const auto batch = set.batch<float>(t.ctx, std::vector<std::int64_t>{0, 1, 2, 3});
    for (const auto& site : ms::grow::find_sites<float>(t.net, Widths::all)) {
      CAPTURE(site.name);
      const auto outputs = t.outputs(ms::nn::Mode::evaluation);
      const std::int64_t width = site.width();
      // ‖fan-out‖ of the first reader, and the weights of the norm on the way.
      const auto weights = ms::to_host(t.ctx, site.consumer.weight().value);
      const ms::nn::BatchNorm<float>* const norm = site.producer.norm() ? site.producer.norm() : site.input_norm;
      double length = 0.0, squares = 0.0;
      for (std::int64_t k = 0; k < width; ++k) {
        double sum = 0.0;
        for (std::int64_t i = site.offset() + k; i < std::ssize(weights); i += site.features(width)) {
          sum += std::pow(static_cast<double>(weights[static_cast<std::size_t>(i)]), 2);
        }
        length += std::sqrt(sum) / static_cast<double>(width);
        const std::int64_t first = norm == site.input_norm ? site.offset() : 0;
        squares += norm ? std::pow(static_cast<double>(
                                       ms::to_host(t.ctx, norm->weight().value)[static_cast<std::size_t>(first + k)]),
                                   2)
                        : 1.0;
      }
      const auto found = ms::grow::diagnose<float>(t.ctx, t.net, t.adam, {site}, batch);
      REQUIRE(found.size() == 1);
      CHECK(found.front().units == width);
      CHECK(found.front().fan_out_norm == doctest::Approx(length).epsilon(1e-5));
      CHECK(found.front().norm_weight ==
            doctest::Approx(std::sqrt(squares / static_cast<double>(width))).epsilon(1e-5));
      auto removed = ms::grow::prune(t.ctx, site, {1}, t.net, &t.adam);
      CHECK(site.width() == width - 1);
      t.check_whole();
      ms::grow::put_back(t.ctx, std::move(removed), t.net, &t.adam);
      CHECK(t.everything() == before);
      CHECK(t.outputs(ms::nn::Mode::evaluation) == outputs);
    }
  });
}

TEST_CASE("grower of rows: a unit without weights to its readers leaves, and the function stays") {
  const auto set = halves(60);
  for_each_network([&](Rows kind, bool norms) {
    Trained t(set, kind, norms);
    for (const auto& site : ms::grow::find_sites<float>(t.net, Widths::all)) {
      CAPTURE(site.name);
      const std::int64_t width = site.width();
      site.for_each_reader([&](const auto& reader) {
        auto& weight = reader.consumer.weight().value;
        auto values = ms::to_host(t.ctx, weight);
        for (std::int64_t i = reader.offset(); i < std::ssize(values); i += reader.features(width)) {
          values[static_cast<std::size_t>(i)] = 0.0f;
        }
        ms::copy<float>(t.ctx, ms::from_host<float>(t.ctx, weight.shape(), values), weight);
      });
      CHECK(ms::grow::unit_norms(t.ctx, site)[0] == 0.0);
      const auto before = t.outputs(ms::nn::Mode::evaluation);
      (void)ms::grow::prune(t.ctx, site, {0}, t.net, &t.adam);
      CHECK(distance(before, t.outputs(ms::nn::Mode::evaluation)) < 1e-6);
      t.train();
      t.check_whole();
    }
  });
}

TEST_SUITE_END();

}  // namespace grow_grower_rows_test
