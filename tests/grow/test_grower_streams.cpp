// Growth of whole networks in all their widths, streams included.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
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
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/halves.hpp>
#include <support/residual_networks.hpp>
#include <support/units_on_host.hpp>

namespace grow_grower_streams_test {

namespace ms = meristem;
using ms::grow::Where;
using ms::grow::Widths;
using support::contains;
using support::halves;
using support::message_of;
using Kind = support::Residuals;
using support::preactivated;

namespace {

using Net = ms::nn::Sequential<float>;

/// Hidden widths, and streams.
std::int64_t hidden_widths(Kind kind) { return preactivated(kind) ? 4 : 8; }
std::int64_t streams_of(Kind kind) { return preactivated(kind) ? 2 : 4; }

struct Trained {
  ms::Context ctx{{.seed = 4}};
  const ms::data::ImageSet* set;
  Net net;
  ms::optim::Sgd<float> sgd;
  std::int64_t epoch = 0;

  Trained(const ms::data::ImageSet& images, Kind kind)
      : set(&images),
        net(support::residual_network<float>(ctx, kind, 4)),
        sgd(net, {.learning_rate = 0.02, .momentum = 0.9}) {
    train();
  }

  void train() {
    for (const auto& batch : set->batches<float>(ctx, 30, {.shuffle = true, .epoch = epoch++})) {
      ms::train::step<float>(ctx, net, batch, sgd);
    }
  }

  /// Every number of the network, its buffers and its optimiser.
  std::vector<std::vector<float>> everything() {
    std::vector<std::vector<float>> all;
    for (auto* parameter : ms::nn::parameters(net)) {
      all.push_back(ms::to_host(ctx, parameter->value));
      for (const auto& moment : sgd.state(parameter->id)) all.push_back(ms::to_host(ctx, moment));
    }
    net.visit_buffers([&](ms::nn::Buffer<float>& buffer) { all.push_back(ms::to_host(ctx, buffer.value)); });
    return all;
  }

  /// Widths agree all along, and gradients and moments with them.
  void check_whole() {
    for (const auto& site : ms::grow::find_sites<float>(net, Widths::all)) {
      CAPTURE(site.name);
      const auto norm_fits = [&](const ms::nn::BatchNorm<float>* norm) {
        if (norm) CHECK(norm->running_mean().value.extent(0) == site.width());
        if (norm) CHECK(norm->channels() == site.width());
      };
      const auto fits = [&](const ms::grow::Affine<float>& layer, const ms::nn::BatchNorm<float>* norm) {
        CHECK(layer.out_features() == site.width());
        norm_fits(norm);
      };
      fits(site.producer, site.producer.norm());
      for (const auto& rider : site.riders) fits(rider, rider.norm());
      site.for_each_reader([&](const auto& reader) {
        CHECK(reader.consumer.in_features() == site.width());
        norm_fits(reader.input_norm);
      });
    }
    for (auto* parameter : ms::nn::parameters(net)) {
      CAPTURE(parameter->name);
      CHECK(parameter->gradient.shape() == parameter->value.shape());
      for (const auto& moment : sgd.state(parameter->id)) CHECK(moment.shape() == parameter->value.shape());
    }
  }
};

ms::grow::GrowerOptions all_widths(Where where) {
  ms::grow::GrowerOptions options{.where = where,
                                  .widths = Widths::all,
                                  .how_many = {.at_most = 2, .significance = 0.0},
                                  .statistics_samples = 100,
                                  .search_samples = 50,
                                  .batch_size = 50};
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

/// Means and variances of what the norms read of the whole set, in double precision.
struct Moments {
  ms::grow::detail::NormInputs<float> seen;

  Moments(Trained& t) {
    for (const auto& batch : t.set->batches<float>(t.ctx, t.set->size())) {
      (void)t.net.forward(t.ctx, batch.inputs, {.measuring = true, .taps = &seen});
    }
  }
};

/// Gives every norm the statistics of a set as its running ones, so that both modes are one function there.
void settle(Trained& t) {
  const Moments moments(t);
  for (const auto& [norm, channels] : moments.seen.all()) {
    auto& layer = const_cast<ms::nn::BatchNorm<float>&>(*norm);
    const auto write = [&](const std::vector<double>& values, ms::Tensor<float>& to) {
      const std::vector<float> numbers(values.begin(), values.end());
      ms::copy<float>(t.ctx, ms::from_host<float>(t.ctx, to.shape(), numbers), to);
    };
    write(channels.mean, layer.running_mean().value);
    write(channels.variance, layer.running_variance().value);
  }
}

/// ‖a - b‖ / ‖a‖ of the outputs in training and in evaluation mode.
double distance_of_modes(Trained& t) {
  double difference = 0.0, norm = 0.0;
  for (const auto& batch : t.set->batches<float>(t.ctx, t.set->size())) {
    const auto a = ms::to_host(t.ctx, t.net.forward(t.ctx, batch.inputs, {.measuring = true}).output);
    const auto b = ms::to_host(t.ctx, t.net.forward(t.ctx, batch.inputs, {.mode = ms::nn::Mode::evaluation}).output);
    for (std::size_t i = 0; i < a.size(); ++i) {
      difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
      norm += std::pow(static_cast<double>(a[i]), 2);
    }
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grower of streams: every rule for where, with what units cost") {
  const auto set = halves(150);
  for (const Kind kind : support::all_residuals) {
    for (const Where where : {Where::all, Where::together, Where::round_robin, Where::best_gain,
                              Where::best_gain_per_parameter, Where::best_gain_per_flop}) {
      if (kind != Kind::pooled && where != Where::together && where != Where::best_gain_per_flop) continue;
      CAPTURE(static_cast<int>(kind));
      CAPTURE(ms::grow::name_of(where));
      Trained t(set, kind);
      ms::grow::GrowerOptions options = all_widths(where);
      options.budget.multiply_adds = std::int64_t{1} << 40;  // so that shapes are seen
      ms::grow::Grower<float> grower(t.net, t.sgd, options);
      // Each stream has three sources.
      REQUIRE(std::ssize(grower.sites()) == hidden_widths(kind) + 3 * streams_of(kind));
      std::set<std::string> grown;
      std::int64_t parameters = ms::nn::parameter_count(t.net);
      std::int64_t work = t.net.multiply_adds({1, 8, 8, 2});
      for (int round = 0; round < (where == Where::round_robin ? 13 : 2); ++round) {
        const auto report = grower.grow(t.ctx, set, [&](ms::grow::SiteReport& site) {
          CAPTURE(site.name);
          CAPTURE(site.note);
          // Others report when this one has grown, or when none has.
          const auto it = std::find_if(grower.sites().begin(), grower.sites().end(),
                                       [&](const auto& known) { return known.name == site.name; });
          REQUIRE(it != grower.sites().end());
          const std::int64_t cost = it->parameters_per_unit(it->consumer.window().kernel.size());
          // Sites that are compared are told of once the best has grown.
          if (site.added > 0 || !ms::grow::picks_best(where)) {
            CHECK(ms::nn::parameter_count(t.net) == parameters + site.added * cost);
            parameters = ms::nn::parameter_count(t.net);
          }
          if (site.added == 0) {
            CHECK(site.note != "");
            return;
          }
          grown.insert(it->tied() ? it->stream : it->name);
          CHECK(site.measured() >= 1e-4 * site.loss_before);
          CHECK(site.slope > 0.0);
        });
        // The sources of a stream share what one of them may get.
        std::map<std::string, std::int64_t> streams;
        for (const auto& site : report.sites) {
          if (!site.stream.empty()) streams[site.stream] += site.added;
        }
        for (const auto& [stream, added] : streams) CHECK(added <= options.how_many.at_most);
        t.check_whole();
        CHECK(report.parameters == ms::nn::parameter_count(t.net));
        const std::int64_t now = t.net.multiply_adds({1, 8, 8, 2});
        CHECK((report.added() > 0) == (now > work));
        work = now;
        t.train();
        CHECK(std::isfinite(ms::train::evaluate<float>(t.ctx, t.net, set).loss));
      }
      if (where == Where::all || where == Where::together)
        CHECK(std::ssize(grown) >= (hidden_widths(kind) + streams_of(kind)) / 2);
      CHECK(!grown.empty());
    }
  }
}

TEST_CASE("grower of streams: the units of all sources that lower the loss most share a stream") {
  ms::Context ctx;
  Net net = support::residual_network<float>(ctx, Kind::pooled, 4);
  const auto sites = ms::grow::find_sites<float>(net, Widths::all);
  std::vector<std::size_t> which;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].stream == "stem.conv") which.push_back(i);
  }
  REQUIRE(which.size() == 3);
  const auto proposal = [&ctx](const std::vector<double>& slopes) {
    ms::grow::detail::Proposal result;
    result.insertion.units = std::ssize(slopes);
    result.insertion.inputs = result.insertion.outputs = 1;
    result.insertion.fan_in = support::rows_on_device(ctx, slopes, std::ssize(slopes));
    result.insertion.fan_out = support::rows_on_device(ctx, slopes, std::ssize(slopes));
    result.unit_slopes = slopes;
    result.move_slope = 10.0;
    result.report.slope = std::accumulate(slopes.begin(), slopes.end(), 10.0);
    result.report.asked = 4;
    return result;
  };
  const auto shared = [&](std::vector<ms::grow::detail::Proposal> proposals) {
    std::vector<ms::grow::Candidate> candidates;
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      proposals[i].report.name = sites[which[i]].name;
      proposals[i].report.stream = sites[which[i]].stream;
      candidates.push_back({.report = proposals[i].report,
                            .unit_slopes = proposals[i].unit_slopes,
                            .units = proposals[i].insertion.units});
    }
    ms::grow::detail::Shares{}.choose(candidates);
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      ms::grow::keep_best(ctx, proposals[i], candidates[i].units);
      proposals[i].report.note = candidates[i].why;
    }
    return proposals;
  };
  const auto proposals = [&](std::initializer_list<std::vector<double>> slopes) {
    std::vector<ms::grow::detail::Proposal> all;
    for (const auto& each : slopes) all.push_back(proposal(each));
    return all;
  };
  const auto host = [&](const ms::Tensor<double>& tensor) { return ms::to_host(ctx, tensor); };
  const auto one = shared(proposals({{1.0, 5.0, 2.0}, {4.0}, {0.5, 3.0, 0.25, 0.125}}));
  CHECK(host(one[0].insertion.fan_in) == std::vector<double>{5.0, 2.0});
  CHECK(one[0].report.slope == 17.0);
  CHECK(contains(one[0].report.note, "2 of 3 units"));
  CHECK(host(one[1].insertion.fan_in) == std::vector<double>{4.0});
  CHECK(one[1].report.note == "");
  CHECK(host(one[2].insertion.fan_out) == std::vector<double>{3.0});
  // Fewer than may be got: all of them.
  const auto few = shared(proposals({{1.0}, {}, {2.0}}));
  CHECK(few[0].insertion.units + few[2].insertion.units == 2);
  // Units that were not measured one by one come from one source.
  auto unknown = proposals({{1.0, 1.0}, {3.0, 1.0}, {2.0, 1.0}});
  for (auto& each : unknown) each.unit_slopes.clear();
  CHECK_THROWS_AS(ms::grow::keep(ctx, unknown[0].insertion, {2}), ms::ArgumentError);
  const auto alone = shared(std::move(unknown));
  CHECK(alone[0].insertion.units == 0);
  CHECK(host(alone[1].insertion.fan_in) == std::vector<double>{3.0, 1.0});
  CHECK(alone[2].insertion.units == 0);
  CHECK(contains(alone[2].report.note, sites[which[1]].name));
}

TEST_CASE("grower of streams: where one source has too few inputs, the others bring what is missing") {
  const auto set = halves(100);
  for (const Where where : {Where::all, Where::together}) {
    CAPTURE(ms::grow::name_of(where));
    Trained t(set, Kind::pooled);
    auto options = all_widths(where);
    options.how_many = ms::grow::HowMany::fixed(4);
    ms::grow::Grower<float> grower(t.net, t.sgd, options);
    const auto report = grower.grow(t.ctx, set);
    std::map<std::string, std::int64_t> streams, sources;
    for (const auto& site : report.sites) {
      if (site.stream.empty()) continue;
      CAPTURE(site.name);
      streams[site.stream] += site.added;
      sources[site.stream] += site.added > 0 ? 1 : 0;
      CHECK((site.slope > 0.0) == (site.found > 0));
    }
    std::int64_t shared = 0;
    for (const auto& [stream, added] : streams) {
      CAPTURE(stream);
      CHECK(added == 4);
      shared += sources[stream] > 1 ? 1 : 0;
    }
    CHECK(streams.size() == 4);
    CHECK(shared > 0);
    t.check_whole();
  }
}

TEST_CASE("grower of streams: a channel costs the rows of all sources and the weights of all readers") {
  const auto set = halves(60);
  for (const Kind kind : support::all_residuals) {
    Trained t(set, kind);
    ms::grow::detail::InputShapes<float> shapes;
    const auto one = set.batch<float>(t.ctx, std::vector<std::int64_t>{0});
    (void)t.net.forward(t.ctx, one.inputs, {.measuring = true, .taps = &shapes});
    for (const auto& site : ms::grow::find_sites<float>(t.net, Widths::all)) {
      if (!site.tied()) continue;
      CAPTURE(site.name);
      const std::int64_t parameters = ms::nn::parameter_count(t.net), work = t.net.multiply_adds({1, 8, 8, 2});
      const ms::grow::Candidate::Cost cost = ms::grow::unit_cost(site, shapes);
      support::HostInsertion units{.units = 1, .inputs = site.fan_in(), .mean = {0.0}, .variance = {1.0}};
      for (std::size_t i = 0; i < site.readers(); ++i) {
        units.outputs += site.reader(i).places(site.width()) * site.reader(i).consumer.out_features();
      }
      units.fan_in.assign(static_cast<std::size_t>(units.inputs), 1.0);
      units.fan_out.assign(static_cast<std::size_t>(units.outputs), 1.0);
      ms::grow::apply<float>(t.ctx, ms::grow::make_edit(t.ctx, site, support::on_device(t.ctx, units), 1.0), t.net,
                             &t.sgd);
      CHECK(ms::nn::parameter_count(t.net) - parameters == cost.parameters);
      CHECK(t.net.multiply_adds({1, 8, 8, 2}) - work == cost.multiply_adds);
      t.check_whole();
    }
  }
}

TEST_CASE("grower of streams: budgets are never exceeded") {
  const auto set = halves(100);
  for (const Where where : {Where::all, Where::together}) {
    Trained t(set, Kind::pooled);
    auto options = all_widths(where);
    options.how_many.at_most = 8;
    options.budget.parameters = ms::nn::parameter_count(t.net) + 400;
    options.budget.multiply_adds = t.net.multiply_adds({1, 8, 8, 2}) + 20'000;
    ms::grow::Grower<float> grower(t.net, t.sgd, options);
    const auto report = grower.grow(t.ctx, set);
    CHECK(report.added() > 0);
    CHECK(ms::nn::parameter_count(t.net) <= options.budget.parameters);
    CHECK(t.net.multiply_adds({1, 8, 8, 2}) <= options.budget.multiply_adds);
  }
}

TEST_CASE("grower of streams: rejected growth leaves every bit") {
  const auto set = halves(100);
  for (const Where where : {Where::all, Where::together}) {
    Trained t(set, Kind::pooled);
    auto options = all_widths(where);
    options.amplitude.least_relative_decrease = 0.9999;
    ms::grow::Grower<float> grower(t.net, t.sgd, options);
    const auto before = t.everything();
    CHECK(grower.grow(t.ctx, set).added() == 0);
    CHECK(t.everything() == before);
  }
}

TEST_CASE("grower of streams: after growth, evaluation computes what the line search saw in training mode") {
  const auto set = halves(150);
  for (const Kind kind : support::all_residuals) {
    for (const Where where : {Where::all, Where::together}) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(static_cast<int>(where));
      Trained t(set, kind);
      auto options = all_widths(where);
      options.statistics_samples = options.search_samples = options.batch_size = 150;
      ms::grow::Grower<float> grower(t.net, t.sgd, options);
      t.train();
      settle(t);
      // Some twenty layers whose rounding errors a norm of few values may enlarge.
      REQUIRE(distance_of_modes(t) < 1e-4);
      const auto report = grower.grow(t.ctx, undivided(set));
      std::int64_t streams = 0;
      for (std::size_t i = 0; i < report.sites.size(); ++i) streams += report.sites[i].added > 0 ? 1 : 0;
      CHECK(streams >= streams_of(kind));
      CHECK(distance_of_modes(t) < 1e-3);
    }
  }
}

TEST_CASE("grower of streams: new channels of riders have the running statistics of the statistics' samples") {
  const auto set = halves(150);
  for (const ms::grow::Method& method : {ms::grow::tiny(), ms::grow::parse_method("random")}) {
    CAPTURE(method->name());
    Trained t(set, Kind::pooled);
    auto options = all_widths(Where::all);
    options.method = method;
    options.sites = {"stage1.block1.conv2"};
    options.statistics_samples = options.search_samples = options.batch_size = 150;
    ms::grow::Grower<float> grower(t.net, t.sgd, options);
    const auto report = grower.grow(t.ctx, undivided(set));
    REQUIRE(report.sites.front().added == 2);
    const Moments now(t);
    const auto& site = grower.sites().front();
    REQUIRE(site.riders.size() == 2);
    for (const auto& rider : site.riders) {
      CAPTURE(rider.name());
      const auto& channels = now.seen.all().at(rider.norm());
      const auto mean = ms::to_host(t.ctx, rider.norm()->running_mean().value);
      const auto variance = ms::to_host(t.ctx, rider.norm()->running_variance().value);
      const auto weight = ms::to_host(t.ctx, rider.norm()->weight().value);
      const auto shift = ms::to_host(t.ctx, rider.norm()->bias().value);
      const auto rows = ms::to_host(t.ctx, rider.weight().value);
      const std::size_t width = weight.size(), each = rows.size() / width;
      const auto length = [&](std::size_t k) {
        double squares = 0.0;
        for (std::size_t i = 0; i < each; ++i) squares += std::pow(static_cast<double>(rows[k * each + i]), 2);
        return std::sqrt(squares);
      };
      const double today = (length(0) + length(1)) / 2.0;
      REQUIRE(width == 4);
      for (std::size_t k = 2; k < 4; ++k) {
        CHECK(weight[k] == 0.0f);
        CHECK(shift[k] == 0.0f);
        CHECK(static_cast<double>(variance[k]) == doctest::Approx(channels.variance[k]).epsilon(1e-5));
        CHECK(std::abs(static_cast<double>(mean[k]) - channels.mean[k]) <= 1e-5 * std::sqrt(channels.variance[k]));
        CHECK(channels.variance[k] > 0.0);
        CHECK(length(k) == doctest::Approx(today).epsilon(1e-5));
      }
    }
    // Training moves them behind the source, where the ReLU lets gradients pass as far as units are active.
    t.train();
    CHECK(site.riders[1].name() == "stage1.block2.conv2");
    for (const float weight : ms::to_host(t.ctx, site.riders[1].norm()->weight().value)) CHECK(weight != 0.0f);
  }
}

TEST_CASE("grower of streams: all widths at once leave the function as it was, by methods that preserve it") {
  const auto set = halves(100);
  for (const Kind kind : support::all_residuals) {
    for (const char* name : {"random", "net2wider", "paired", "north"}) {
      for (const Where where : {Where::all, Where::together}) {
        CAPTURE(static_cast<int>(kind));
        CAPTURE(name);
        CAPTURE(ms::grow::name_of(where));
        Trained t(set, kind);
        settle(t);
        auto options = all_widths(where);
        const std::string wanted = name;
        options.method = wanted == "net2wider" ? ms::grow::net2wider(0.0) : ms::grow::parse_method(name);
        ms::grow::Grower<float> grower(t.net, t.sgd, options);
        const auto outputs = [&] {
          std::vector<float> all;
          for (const auto& batch : set.batches<float>(t.ctx, set.size())) {
            const auto pass = t.net.forward(t.ctx, batch.inputs, {.mode = ms::nn::Mode::evaluation});
            all = ms::to_host(t.ctx, pass.output);
          }
          return all;
        };
        const auto before = outputs();
        const auto report = grower.grow(t.ctx, set);
        // Two units for each, but for those whose units leave no direction to others.
        const std::int64_t all = 2 * (hidden_widths(kind) + streams_of(kind));
        CHECK(report.added() >= (wanted == "north" ? all / 2 : all));
        t.check_whole();
        const auto after = outputs();
        double worst = 0.0;
        for (std::size_t i = 0; i < after.size(); ++i) {
          worst = std::max(worst, std::abs(static_cast<double>(after[i]) - static_cast<double>(before[i])));
        }
        // Some twenty layers of sums of some hundred terms in float, whose errors a norm of few values may enlarge.
        CHECK(worst <= 1e-4 * support::scale_of(before));
      }
    }
  }
}

TEST_CASE("grower of streams: a replay gives the same bits, and so does the same seed") {
  const auto set = halves(100);
  for (const Where where : {Where::all, Where::together, Where::best_gain}) {
    const Kind kind = where == Where::all ? Kind::preactivation : Kind::pooled;
    CAPTURE(ms::grow::name_of(where));
    auto options = all_widths(where);
    ms::grow::History history;
    const auto run = [&](bool record) {
      Trained t(set, kind);
      ms::grow::Grower<float> grower(t.net, t.sgd, options);
      for (int round = 0; round < 2; ++round) {
        const auto report = grower.grow(t.ctx, set);
        if (record) history.add(t.epoch, t.sgd.steps(), report);
        t.train();
      }
      return t.everything();
    };
    const auto once = run(true);
    // Units of streams, in some of which several sources share.
    std::int64_t added = 0, shared = 0;
    for (const auto& event : history.steps) {
      for (const auto& site : event.sites) {
        if (site.stream.empty() || site.added == 0) continue;
        added += site.added;
        shared += site.added < site.found ? 1 : 0;
      }
    }
    if (where != Where::best_gain) CHECK(added > 0);
    if (where != Where::best_gain) CHECK(shared > 0);
    options.replay = std::make_shared<const ms::grow::History>(history);
    CHECK(run(false) == once);
  }
}

TEST_CASE("grower of streams: a stream's channels can be pruned and grown back") {
  const auto set = halves(60);
  for (const Kind kind : {Kind::strided, Kind::preactivation}) {
    Trained t(set, kind);
    const auto before = t.everything();
    const auto site = ms::grow::find_site<float>(t.net, "stage2.block1.conv2", Widths::all);
    REQUIRE(site.width() == 4);
    CHECK(ms::grow::unit_norms(t.ctx, site).size() == 4);
    auto removed = ms::grow::prune(t.ctx, site, {1, 2}, t.net, &t.sgd);
    CHECK(site.width() == 2);
    t.check_whole();
    t.train();
    Trained other(set, kind);
    const auto again = ms::grow::find_site<float>(other.net, "stage2.block1.conv2", Widths::all);
    auto gone = ms::grow::prune(other.ctx, again, {1, 2}, other.net, &other.sgd);
    ms::grow::put_back(other.ctx, std::move(gone), other.net, &other.sgd);
    CHECK(other.everything() == before);
  }
}

TEST_CASE("grower of streams: the score of a channel is what its readers weigh it by") {
  const auto set = halves(60);
  Trained t(set, Kind::preactivation);
  // Both readers stand behind one norm, with 3x3 and 1x1 weights.
  const auto site = ms::grow::find_site<float>(t.net, "stage1.block2.conv2", Widths::all);
  REQUIRE(site.readers() == 2);
  const std::vector<double> scores = ms::grow::unit_norms(t.ctx, site);
  std::vector<double> squares(scores.size(), 0.0);
  site.for_each_reader([&](const auto& reader) {
    const auto norm = ms::to_host(t.ctx, reader.input_norm->weight().value);
    const auto weights = ms::to_host(t.ctx, reader.consumer.weight().value);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::size_t k = i % squares.size();
      squares[k] += std::pow(static_cast<double>(norm[k]) * static_cast<double>(weights[i]), 2);
    }
  });
  for (std::size_t k = 0; k < scores.size(); ++k) CHECK(scores[k] == doctest::Approx(std::sqrt(squares[k])));
  // What stands between the units and their reader is that norm.
  const auto batch = set.batch<float>(t.ctx, std::vector<std::int64_t>{0, 1, 2, 3});
  const auto found = ms::grow::diagnose<float>(t.ctx, t.net, t.sgd, {site}, batch);
  REQUIRE(found.size() == 1);
  double weights = 0.0;
  for (const float weight : ms::to_host(t.ctx, site.input_norm->weight().value)) {
    weights += std::pow(static_cast<double>(weight), 2) / static_cast<double>(site.width());
  }
  CHECK(found.front().norm_weight == doctest::Approx(std::sqrt(weights)));
}

TEST_CASE("grower of streams: norms in front of earlier readers see a constant, and wake up when sources learn") {
  const auto set = halves(150);
  for (const ms::grow::Method& method : {ms::grow::tiny(), ms::grow::parse_method("random")}) {
    CAPTURE(method->name());
    Trained t(set, Kind::preactivation);
    auto options = all_widths(Where::all);
    options.method = method;
    options.sites = {"stage1.block2.conv2"};
    options.statistics_samples = options.search_samples = options.batch_size = 150;
    ms::grow::Grower<float> grower(t.net, t.sgd, options);
    const auto report = grower.grow(t.ctx, undivided(set));
    REQUIRE(report.sites.front().added == 2);
    const auto& site = grower.sites().front();
    REQUIRE(site.earlier.size() == 2);
    const auto numbers = [&](auto& tensor) { return ms::to_host(t.ctx, tensor.value); };
    for (const auto& reader : site.earlier) {
      CAPTURE(reader.consumer.name());
      ms::nn::BatchNorm<float>& norm = *reader.input_norm;
      const auto weight = numbers(norm.weight());
      REQUIRE(weight.size() == 4);
      const double squares = std::pow(static_cast<double>(weight[0]), 2) + std::pow(static_cast<double>(weight[1]), 2);
      for (std::size_t k = 2; k < 4; ++k) {
        CHECK(static_cast<double>(weight[k]) == doctest::Approx(std::sqrt(squares / 2.0)).epsilon(1e-6));
        CHECK(numbers(norm.bias())[k] == 0.0f);
        CHECK(numbers(norm.running_mean())[k] == 0.0f);
        CHECK(std::abs(numbers(norm.running_variance())[k]) < 1e-20f);
      }
    }
    // The norm behind the source has the statistics of what it reads.
    const Moments now(t);
    const auto& channels = now.seen.all().at(site.input_norm);
    const auto mean = numbers(site.input_norm->running_mean()), variance = numbers(site.input_norm->running_variance());
    for (std::size_t k = 2; k < 4; ++k) {
      CHECK(static_cast<double>(variance[k]) == doctest::Approx(channels.variance[k]).epsilon(1e-5));
      CHECK(std::abs(static_cast<double>(mean[k]) - channels.mean[k]) <= 1e-5 * std::sqrt(channels.variance[k]));
    }
    const auto of_new_channels = [](const std::vector<float>& all, std::size_t width) {
      std::vector<float> some;
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (i % width >= 2) some.push_back(all[i]);
      }
      return some;
    };
    for (const auto& reader : site.earlier) {
      for (const float weight : of_new_channels(numbers(reader.consumer.weight()), 4)) CHECK(weight == 0.0f);
    }
    for (int epoch = 0; epoch < 3; ++epoch) t.train();
    for (const auto& rider : site.riders) {
      const auto rows = numbers(rider.weight());
      for (std::size_t i = rows.size() / 2; i < rows.size(); ++i) CHECK(rows[i] != 0.0f);
    }
    for (const auto& reader : site.earlier) {
      for (const float weight : of_new_channels(numbers(reader.consumer.weight()), 4)) CHECK(weight != 0.0f);
    }
  }
}

TEST_CASE("grower of streams: target widths, names and what is refused") {
  const auto set = halves(60);
  Trained t(set, Kind::pooled);
  const auto refused = [&](const ms::grow::GrowerOptions& options) {
    return message_of<ms::ArgumentError>([&] { ms::grow::Grower<float> grower(t.net, t.sgd, options); });
  };
  auto options = all_widths(Where::all);
  options.widths = Widths::hidden;
  options.sites = {"stem.conv"};
  CHECK(contains(refused(options), "growth: stem.conv cannot grow alone"));
  CHECK(contains(refused(options), "with Widths::all they grow together"));
  options = all_widths(Where::all);
  options.sites = {"linear"};
  CHECK(contains(refused(options), "growth: linear cannot grow: its outputs are the network's"));
  options = all_widths(Where::all);
  options.method = ms::grow::tiny_joint();
  CHECK(contains(refused(options), "site stem.conv: tiny-joint reads P or E of a single consumer"));
  options = all_widths(Where::all);
  options.amplitude.matched = true;
  CHECK(contains(refused(options), "the stream of stem.conv has several"));
  options = all_widths(Where::all);
  options.how_many = ms::grow::HowMany::up_to({{"stage1.block1.conv2", 3}});
  CHECK(contains(refused(options), "give it to the stream's first source, stem.conv"));
  options.how_many = {.significance = 0.0, .targets = {{"stem.conv", 3}}};
  options.sites = {"stem.conv", "stage1.block1.conv2", "stage1.block2.conv2"};
  ms::grow::Grower<float> grower(t.net, t.sgd, options);
  (void)grower.grow(t.ctx, set);
  (void)grower.grow(t.ctx, set);
  CHECK(ms::grow::find_site<float>(t.net, "stage1.block2.conv2", Widths::all).width() == 3);
}

TEST_SUITE_END();

}  // namespace grow_grower_streams_test
