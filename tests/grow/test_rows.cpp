// Outputs that a Concatenate puts side by side: what the finder makes of them, and their units against plain double
// loops, for vectors and for maps.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/measure/shared_passes.hpp>
#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/grow/methods/methods.hpp>
#include <meristem/grow/policy/streams.hpp>
#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/grow/units/prune.hpp>
#include <meristem/grow/units/recalibration.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/group_norm.hpp>
#include <support/check.hpp>
#include <support/concatenated_networks.hpp>
#include <support/dense.hpp>
#include <support/layer_inputs.hpp>
#include <support/plain_maps.hpp>
#include <support/units_on_host.hpp>

namespace grow_rows_test {

namespace ms = meristem;
using ms::grow::Widths;
using ms::nn::Activation;
using Net = ms::nn::Sequential<double>;
using Site = ms::grow::Site<double>;
using support::contains;
using support::Dense;
using support::message_of;
using support::Rows;

namespace {

constexpr std::int64_t classes = 3;

struct Problem {
  ms::Context ctx{{.seed = 3}};
  std::int64_t n;
  Net net;
  ms::Tensor<double> x;
  ms::Tensor<std::int32_t> labels;

  Problem(Rows kind, bool maps, bool norms)
      : n(maps ? 8 : 60), net(support::RowBuilder<double>(ctx, maps, norms).build(kind, classes)) {
    const ms::Shape shape = maps ? ms::Shape{n, 4, 4, 2} : ms::Shape{n, 2};
    x = ms::from_host<double>(ctx, shape, support::normal_values<double>(shape.size(), 1));
    std::vector<std::int32_t> numbers;
    for (std::int64_t i = 0; i < n; ++i) numbers.push_back(static_cast<std::int32_t>(i % classes));
    labels = ms::from_host<std::int32_t>(ctx, {n}, numbers);
    std::uint64_t seed = 20;
    net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
      if (parameter.value.rank() != 1) return;
      std::vector<double> values = support::normal_values<double>(parameter.value.size(), ++seed, 0.2);
      for (double& value : values) value += contains(parameter.name, "norm.weight") ? 0.8 : 0.0;
      ms::copy<double>(ctx, ms::from_host<double>(ctx, parameter.value.shape(), values), parameter.value);
    });
    settle();
  }

  [[nodiscard]] ms::nn::BatchView<double> batch() const { return {.inputs = x, .labels = labels}; }

  double loss() {
    return ms::nn::CrossEntropy{}(ctx, net.forward(ctx, x, {.measuring = true}).output, labels.view(), false).mean;
  }

  std::vector<ms::grow::detail::Proposal> measure(const std::vector<Site>& sites,
                                                  const ms::grow::detail::MeasurementOptions& options) {
    ms::grow::detail::SharedPasses<double> passes(net, ms::nn::CrossEntropy{});
    return passes.measure(
        ctx, sites, options, [&](const auto& use) { use(batch()); },
        [&](const Site&, std::int64_t, const ms::grow::Choice*) { return 2; });
  }

  /// Gives the norms the statistics of the batch, so that training and evaluation are one function on it.
  void settle() {
    ms::grow::detail::NormInputs<double> seen;
    (void)net.forward(ctx, x, {.measuring = true, .taps = &seen});
    for (const auto& [norm, channels] : seen.all()) {
      auto& layer = const_cast<ms::nn::BatchNorm<double>&>(*norm);
      ms::copy<double>(ctx, ms::from_host<double>(ctx, {layer.channels()}, channels.mean), layer.running_mean().value);
      ms::copy<double>(ctx, ms::from_host<double>(ctx, {layer.channels()}, channels.variance),
                       layer.running_variance().value);
    }
  }

  std::vector<double> outputs(ms::nn::Mode mode) {
    return ms::to_host(ctx, net.forward(ctx, x, {.mode = mode, .measuring = true}).output);
  }

  std::vector<Site> sites() { return ms::grow::find_sites<double>(net, Widths::all); }
  Site site(const std::string& name) { return ms::grow::find_site<double>(net, name, Widths::all); }
};

/// Calls use(problem, kind) for every network.
void for_each_problem(const std::function<void(Problem&, Rows)>& use) {
  for (const Rows kind : support::all_rows) {
    for (const bool maps : {false, true}) {
      for (const bool norms : {false, true}) {
        if (kind == Rows::flattened && !maps) continue;
        CAPTURE(static_cast<int>(kind));
        CAPTURE(maps);
        CAPTURE(norms);
        Problem problem(kind, maps, norms);
        use(problem, kind);
      }
    }
  }
}

const ms::grow::detail::MeasurementOptions plain_tiny{.method = ms::grow::tiny(), .damping = 0.1, .significance = 0.0};

/// The two layers and what lies between them, as plain loops see it; a vector is a map of one position. The consumer
/// reads all that stands side by side.
support::MapJoint joint_of(const Site& pair, const ms::Shape& input) {
  support::MapJoint joint;
  if (input.rank() == 4) joint.map = {input[1], input[2]};
  joint.in = pair.producer.in_features();
  joint.width = pair.features(pair.width());
  joint.out = pair.consumer.out_features();
  joint.first = pair.producer.window();
  joint.second = pair.consumer.window();
  joint.producer_bias = pair.producer.has_bias();
  joint.consumer_bias = pair.consumer.has_bias();
  joint.flatten = pair.flattened;
  if (pair.pool) {
    joint.pooling = pair.pool->description().global ? support::Pooling::global : support::Pooling::average;
    joint.pool = pair.pool->description().window;
  }
  return joint;
}

/// Largest difference, relative to the largest number.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0.0;
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) difference = std::max(difference, std::abs(a[i] - b[i]));
  return difference / support::scale_of(a);
}

/// a with the diagonal times 1 + share.
Dense damped(Dense a, double share) {
  for (std::int64_t i = 0; i < a.rows; ++i) a(i, i) *= 1.0 + share;
  return a;
}

std::vector<std::string> names_of(const std::vector<Site>& sites) {
  std::vector<std::string> names;
  for (const Site& site : sites) names.push_back(site.name);
  return names;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("rows: layers side by side, where their units stand, and who reads them") {
  using Names = std::vector<std::string>;
  {
    Problem problem(Rows::inception, false, false);
    CHECK(names_of(problem.sites()) == Names{"stem", "mix.a.a", "mix.b.b1", "mix.b.b2", "join"});
    CHECK(names_of(ms::grow::find_sites<double>(problem.net)) == Names{"mix.a.a", "mix.b.b1", "mix.b.b2", "join"});
    const Site stem = problem.site("stem"), a = problem.site("mix.a.a"), b = problem.site("mix.b.b2");
    REQUIRE(stem.readers() == 3);
    CHECK(stem.tied());
    CHECK(stem.reader(0).consumer.name() == "mix.a.a");
    CHECK(stem.reader(0).offset() == 0);
    CHECK(stem.reader(0).features(3) == 3);
    CHECK(stem.reader(1).consumer.name() == "mix.b.b1");
    CHECK(stem.reader(2).consumer.name() == "join");
    CHECK(stem.reader(2).offset() == 2);
    CHECK(stem.reader(2).features(3) == 8);
    CHECK(!a.tied());
    CHECK(a.offset() == 0);
    CHECK(!b.tied());
    CHECK(b.offset() == 5);
    CHECK(b.shape({1, 2}).before == 5);
    CHECK(b.shape({1, 2}).after == 0);
    CHECK(stem.read_by(2).shape({1, 2}).after == 3);
    CHECK(b.parameters_per_unit() == 3 + 4);
  }
  {
    Problem problem(Rows::flattened, true, true);
    const Site a = problem.site("mix.a.a");
    CHECK(!a.tied());
    CHECK(a.places(a.width()) == 4);
    CHECK(a.features(a.width()) == 8);
    CHECK(problem.site("stem").reader(2).offset() == 2);
  }
  {
    Problem problem(Rows::dense, true, true);
    CHECK(names_of(problem.sites()) == Names{"stem", "block1.made.layer", "block2.made.layer"});
    CHECK(ms::grow::find_sites<double>(problem.net).empty());
    const Site first = problem.site("block1.made.layer"), last = problem.site("block2.made.layer");
    CHECK(first.readers() == 2);
    CHECK(first.offset_in(*first.input_norm) == 3);
    CHECK(first.riders.empty());
    CHECK(last.readers() == 1);
    CHECK(last.tied());
    CHECK(last.stream == "block2.made.layer");
    CHECK(last.input_norm->name() == "norm");
    CHECK(last.offset_in(*last.input_norm) == 5);
    CHECK(contains(
        message_of<ms::ArgumentError>([&] { (void)ms::grow::find_site<double>(problem.net, "block2.made.layer"); }),
        "others share the norm in front of the layer that reads its outputs; with Widths::all"));
  }
  {
    Problem problem(Rows::residual, false, false);
    CHECK(names_of(problem.sites()) == Names{"stem", "block.row.p.p", "block.in", "block.out", "mix.a.a", "join"});
    const Site out = problem.site("block.out");
    REQUIRE(out.readers() == 2);
    CHECK(out.reader(1).offset() == 2);
    REQUIRE(out.earlier.size() == 2);
    CHECK(out.earlier[0].offset() == 0);
    CHECK(out.earlier[1].consumer.name() == "block.in");
    CHECK(out.earlier[1].offset() == 2);
    CHECK(names_of(Problem(Rows::residual, false, true).sites()).size() == 6);
  }
  {
    Problem problem(Rows::towers, false, false);
    CHECK(names_of(ms::grow::find_sites<double>(problem.net)) == Names{"mix.a.a", "mix.b.b", "join"});
    CHECK(problem.site("mix.a.a").fixed_before == 2);
    CHECK(problem.site("mix.b.b").offset() == 5);
  }
}

TEST_CASE("rows: what cannot grow, and why") {
  ms::Context ctx;
  const auto refused = [&](Net& net, const char* name) {
    for (const auto& site : ms::grow::find_sites<double>(net, Widths::all)) CHECK(site.name != name);
    return message_of<ms::ArgumentError>([&] { (void)ms::grow::find_site<double>(net, name, Widths::all); });
  };
  const auto row = [](Net& net) -> ms::nn::Concatenate<double>& { return net.add<ms::nn::Concatenate<double>>("row"); };
  const auto linear = [&](auto& to, const char* name, std::int64_t in, std::int64_t out) {
    to.template add<ms::nn::Linear<double>>(name, ctx, in, out);
  };
  {
    Net net;
    linear(net, "stem", 2, 3);
    auto& twice = row(net);
    twice.add<Net>("same");
    twice.add<Net>("again").add<ms::nn::ActivationLayer<double>>("relu", Activation::relu);
    linear(net, "head", 6, 2);
    CHECK(contains(refused(net, "stem"), "head (Linear) reads them twice, side by side"));
  }
  {
    Net net;
    linear(net, "stem", 2, 3);
    auto& block = net.add<ms::nn::Residual<double>>("block");
    auto& parts = block.add<ms::nn::Concatenate<double>>("row");
    linear(parts, "a", 3, 1);
    linear(parts, "b", 3, 2);
    linear(net, "head", 3, 2);
    for (const char* name : {"stem", "block.row.a", "block.row.b"}) {
      CHECK(contains(refused(net, name), "block (Residual) adds outputs of several layers side by side to others"));
    }
  }
  {
    // A norm, a Flatten in a branch; the others grow.
    Net net;
    linear(net, "stem", 2, 3);
    net.add<ms::nn::ActivationLayer<double>>("relu", Activation::relu);
    auto& parts = row(net);
    linear(parts, "a", 3, 2);
    auto& b = parts.add<Net>("b");
    linear(b, "linear", 3, 2);
    b.add<ms::nn::GroupNorm<double>>("group", ctx, 1, 2);
    net.add<ms::nn::BatchNorm<double>>("norm", ctx, 4);
    linear(net, "head", 4, 2);
    CHECK(contains(refused(net, "row.b.linear"), "row.b.group (GroupNorm) reads them"));
    const Site a = ms::grow::find_site<double>(net, "row.a", Widths::all);
    CHECK(a.offset() == 0);
    CHECK(a.tied());
  }
  {
    Net net;
    auto& parts = row(net);
    auto& a = parts.add<Net>("a");
    a.add<ms::nn::Conv2d<double>>("conv", ctx, 2, 3);
    a.add<ms::nn::Flatten<double>>("flatten");
    auto& b = parts.add<Net>("b");
    b.add<ms::nn::Conv2d<double>>("conv", ctx, 2, 3);
    b.add<ms::nn::GlobalAveragePool<double>>("mean");
    linear(net, "head", 15, 2);
    CHECK(contains(refused(net, "row.a.conv"), "row (Concatenate) puts others beside what a Flatten gives"));
    CHECK(ms::grow::find_site<double>(net, "row.b.conv").offset() == 12);
  }
  {
    Net net;
    auto& parts = row(net);
    parts.add<Net>("same");
    linear(parts, "a", 2, 3);
    parts.add<Net>("again");
    linear(net, "head", 7, 2);
    CHECK(
        contains(refused(net, "row.a"), "head (Linear) reads them beside others, and how many those are is not known"));
  }
  {
    Net net;
    linear(net, "stem", 2, 3);
    auto& parts = row(net);
    auto& a = parts.add<Net>("a");
    linear(a, "linear", 3, 2);
    a.add<ms::nn::Dropout<double>>("dropout", 0.1);
    a.add<ms::nn::BatchNorm<double>>("norm", ctx, 2);
    parts.add<Net>("same");
    linear(net, "head", 5, 2);
    CHECK(contains(refused(net, "row.a.linear"),
                   "row (Concatenate) puts others beside what row.a.norm (BatchNorm) gives"));
  }
}

TEST_CASE("rows: units and moves are those of plain loops over all that the readers read") {
  constexpr double share = 0.1;
  for_each_problem([&](Problem& problem, Rows) {
    const std::vector<Site> sites = problem.sites();
    const auto proposals = problem.measure(sites, plain_tiny);
    for (std::size_t at = 0; at < sites.size(); ++at) {
      const Site& site = sites[at];
      CAPTURE(site.name);
      std::vector<Site> pairs;
      for (std::size_t i = 0; i < site.readers(); ++i) pairs.push_back(site.read_by(i));
      double goal_norm2 = 0.0, left = 0.0, decrease = 0.0;
      std::vector<Dense> all_s(pairs.size()), all_n(pairs.size()), all_moves(pairs.size());
      ms::grow::visit_sites<double>(
          problem.ctx, problem.net, pairs, problem.batch(), ms::nn::CrossEntropy{},
          [&](ms::Context& ctx, std::size_t i, ms::View<const double> unit, ms::View<const double> consumer,
              ms::View<const double> goal) {
            const support::PlainMaps plain(joint_of(pairs[i], unit.shape()), problem.n, ms::to_host(ctx, unit),
                                           ms::to_host(ctx, consumer), ms::to_host(ctx, goal));
            all_moves[i] = support::transposed(support::power(damped(plain.s1(), share), -1) * plain.m1());
            const std::vector<double> residual = plain.residual(all_moves[i]);
            all_s[i] = plain.s(false);
            all_n[i] = plain.cross(false, residual);
            goal_norm2 += plain.goal_norm2();
            decrease += support::dot(support::transposed(all_moves[i]), plain.m1());
            left += plain.norm2(residual);
          });
      Dense s(all_s[0].rows, all_s[0].rows);
      std::int64_t columns = 0, first = 0;
      std::vector<double> moves;
      for (std::size_t i = 0; i < pairs.size(); ++i) {
        for (std::size_t j = 0; j < s.values.size(); ++j) {
          s.values[j] += all_s[i].values[j] / static_cast<double>(pairs.size());
        }
        columns += all_n[i].columns;
        moves.insert(moves.end(), all_moves[i].values.begin(), all_moves[i].values.end());
      }
      Dense cross(s.rows, columns);
      for (const Dense& one : all_n) {
        for (std::int64_t i = 0; i < one.rows; ++i) {
          for (std::int64_t j = 0; j < one.columns; ++j) cross(i, first + j) = one(i, j);
        }
        first += one.columns;
      }
      const std::vector<double> lambda = support::singular_values(support::power(damped(s, share), -0.5) * cross);
      const auto& report = proposals[at].report;
      REQUIRE(report.lambda.size() >= 2);
      // Sums of some hundred products of unit scale in double, through a square root of a matrix of condition 10 /
      // share.
      for (std::size_t k = 0; k < 2; ++k) CHECK(std::abs(report.lambda[k] - lambda[k]) <= 1e-9 * lambda[0]);
      CHECK(std::abs(report.goal_norm2 - goal_norm2) <= 1e-10 * goal_norm2);
      CHECK(std::abs(report.bottleneck - left) <= 1e-9 * goal_norm2);
      CHECK(std::abs(report.best_move_decrease - decrease) <= 1e-9 * goal_norm2);
      // Random features behind a ReLU, between vectors, take what they gain out of the move.
      if (!site.tied() && !site.spatial() && !site.producer.norm() && site.activation == Activation::relu) continue;
      support::check_close(ms::to_host(problem.ctx, proposals[at].insertion.move), moves,
                           1e-8 * support::scale_of(moves), "moves");
    }
  });
}

TEST_CASE("rows: the slope of the loss is the one that is reported") {
  for_each_problem([&](Problem& problem, Rows) {
    const std::vector<Site> sites = problem.sites();
    for (const bool moves : {false, true}) {
      auto options = plain_tiny;
      options.move_weights = moves;
      auto proposals = problem.measure(sites, options);
      const double before = problem.loss();
      for (std::size_t i = 0; i < sites.size(); ++i) {
        CAPTURE(sites[i].name);
        ms::grow::Insertion& units = proposals[i].insertion;
        REQUIRE(units.units == 2);
        REQUIRE(proposals[i].report.slope > 0.0);
        units.rider_rows = ms::grow::draw_rider_rows(problem.ctx, sites[i], units.units);
        // The loss falls by 1e-7 of itself, which rounding in double precision changes by 1e-8 of that.
        const double gamma = 1e-7 * before / proposals[i].report.slope;
        ms::grow::detail::StagedEdit<double> staged(
            problem.ctx, ms::grow::make_edit(problem.ctx, sites[i], units, gamma), problem.net);
        staged.swap();
        const double measured = (before - problem.loss()) / gamma;
        staged.swap();
        // Second order is 1e-7 times the loss's curvature over its slope, and ε of a norm counts to 1e-5.
        CHECK(measured / proposals[i].report.slope == doctest::Approx(1.0).epsilon(1e-4));
      }
    }
  });
}

TEST_CASE("rows: new units stand behind those of their layer, and all else moves on as it was") {
  for_each_problem([&](Problem& problem, Rows) {
    auto options = plain_tiny;
    options.move_weights = false;
    const std::vector<Site> sites = problem.sites();
    auto proposals = problem.measure(sites, options);
    for (std::size_t at = 0; at < sites.size(); ++at) {
      const Site& site = sites[at];
      CAPTURE(site.name);
      ms::grow::Insertion& there = proposals[at].insertion;
      REQUIRE(there.units == 2);
      there.rider_rows = ms::grow::draw_rider_rows(problem.ctx, site, there.units);
      constexpr double gamma = 0.2;
      there.split = ms::grow::balanced_split<double>(problem.ctx, site, there, gamma);
      const support::HostInsertion units = support::on_host(problem.ctx, there);
      const std::int64_t width = site.width();
      struct Seen {
        std::int64_t offset, features;
      };
      std::map<const ms::nn::Layer<double>*, Seen> readers;
      site.for_each_reader([&](const auto& reader) {
        readers[reader.consumer.layer()] = {reader.offset(), reader.features(width)};
      });
      for (const ms::nn::Mode mode : {ms::nn::Mode::training, ms::nn::Mode::evaluation}) {
        support::LayerInputs before, after;
        const ms::nn::Pass<double> pass{.mode = mode, .measuring = true};
        const auto look = [&](support::LayerInputs& inputs) {
          auto with = pass;
          with.taps = &inputs;
          (void)problem.net.forward(problem.ctx, problem.x, with);
        };
        look(before);
        ms::grow::detail::StagedEdit<double> staged(problem.ctx, ms::grow::make_edit(problem.ctx, site, there, gamma),
                                                    problem.net);
        staged.swap();
        look(after);
        staged.swap();
        const ms::nn::Layer<double>* const producer = site.producer.layer();
        const auto norms = site.input_norms();
        for (std::size_t r = 0; r < site.readers(); ++r) {
          const Site pair = site.read_by(r);
          const Seen where = readers.at(pair.consumer.layer());
          const support::MapJoint joint = joint_of(pair, before.shapes.at(producer));
          const support::PlainMaps plain(joint, problem.n, before.values.at(producer), {}, {});
          const std::vector<double>&now = after.values.at(pair.consumer.layer()),
                &old = before.values.at(pair.consumer.layer());
          const ms::Extent2 pooled = joint.pooled();
          const bool relu = pair.activation == Activation::relu;
          // A reader without a norm, beside others with one, gets a multiple of its own.
          const bool raw = !norms.empty() && !pair.input_norm;
          const std::size_t norm = static_cast<std::size_t>(
              norms.empty() ? 0 : std::find(norms.begin(), norms.end(), pair.input_norm) - norms.begin());
          const std::size_t each = std::max<std::size_t>(norms.size(), 1);
          std::vector<double> expected, actual, stays, stayed;
          for (std::int64_t row = 0; row < problem.n * pooled.size(); ++row) {
            const std::int64_t i = row / pooled.size(), u = row / pooled.x % pooled.y, v = row % pooled.x;
            for (std::int64_t c = 0; c < where.features + 2; ++c) {
              const double is = now[static_cast<std::size_t>(row * (where.features + 2) + c)];
              const std::int64_t k = c - where.offset - width;
              if (k < 0 || k >= 2) {
                stayed.push_back(is);
                stays.push_back(old[static_cast<std::size_t>(row * where.features + (k < 0 ? c : c - 2))]);
                continue;
              }
              const double split =
                  raw || units.split.empty() ? 1.0 : units.split[static_cast<std::size_t>(k) * each + norm];
              double value = 0.0, count = 0.0;
              plain.for_each_pooled(u, v, [&](std::int64_t hy, std::int64_t hx) {
                const std::vector<double> patch = plain.patch(i, hy, hx);
                double sum = 0.0;
                for (std::size_t j = 0; j < patch.size(); ++j) {
                  sum += patch[j] * units.fan_in[static_cast<std::size_t>(k) * patch.size() + j];
                }
                sum *= split * std::sqrt(gamma);
                value += relu ? std::max(sum, 0.0) : sum;
                count += 1.0;
              });
              expected.push_back(value / count);
              actual.push_back(is);
            }
          }
          CAPTURE(pair.consumer.name());
          // The norm takes the fan-in's scale out and puts another in: some hundred roundings.
          if (!raw) support::check_close(actual, expected, 1e-10 * support::scale_of(expected), "new");
          // What units do to a reader changes those behind it.
          if (r == 0) support::check_close(stayed, stays, 1e-12 * support::scale_of(stays), "old");
        }
      }
    }
  });
}

TEST_CASE("rows: methods that preserve the function do, in training and in evaluation") {
  for_each_problem([&](Problem& problem, Rows) {
    for (const auto& named : ms::grow::all_methods()) {
      if (named->name() == "tiny-eigen" || named->name() == "random-kaiming") continue;
      const auto method = named->name() == "net2wider" ? ms::grow::net2wider(0.0) : named;
      CAPTURE(named->name());
      std::vector<Site> sites = problem.sites();
      if (method->needs().joint || method->needs().fisher) {
        std::erase_if(sites, [](const Site& site) { return site.tied(); });
      }
      if (sites.empty()) continue;
      auto proposals = problem.measure(sites, {.method = method, .damping = 0.1, .significance = 0.0});
      const auto training = problem.outputs(ms::nn::Mode::training);
      const auto evaluation = problem.outputs(ms::nn::Mode::evaluation);
      for (std::size_t i = 0; i < sites.size(); ++i) {
        const Site& site = sites[i];
        CAPTURE(site.name);
        auto& proposal = proposals[i];
        ms::grow::Insertion& units = proposal.insertion;
        if (units.units == 0) {
          // Today's units leave no direction, or none of the candidates lowers the loss.
          CHECK((named->name() == "north" || named->name() == "firefly"));
          continue;
        }
        if (units.copies.empty()) units.rider_rows = ms::grow::draw_rider_rows(problem.ctx, site, units.units);
        ms::grow::detail::StagedEdit<double> staged(problem.ctx, ms::grow::make_edit(problem.ctx, site, units, 1.0),
                                                    problem.net);
        staged.swap();
        const double in_training = distance(training, problem.outputs(ms::nn::Mode::training));
        const double in_evaluation = distance(evaluation, problem.outputs(ms::nn::Mode::evaluation));
        staged.swap();
        if (proposal.preserves_function) {
          // Some ten layers of sums of some ten terms, whose errors a norm may enlarge. Where the weights in front of a
          // norm were rescaled, its epsilon of 1e-5 weighs otherwise.
          CHECK(in_training < (units.consumer_factor != 1.0 ? 1e-2 : 1e-10));
          CHECK(in_evaluation < 1e-10);
        } else {
          CHECK(in_training > 1e-9);
        }
      }
    }
  });
}

TEST_CASE("rows: what a unit contributes is the slope of the loss as its readers lose it") {
  for_each_problem([&](Problem& problem, Rows) {
    for (const Site& site : problem.sites()) {
      CAPTURE(site.name);
      const std::vector<double> contributions = ms::grow::unit_contributions<double>(
          problem.ctx, site, problem.net, [&](const auto& use) { use(problem.batch()); }, ms::nn::CrossEntropy{});
      REQUIRE(std::ssize(contributions) == site.width());
      for (std::int64_t k = 0; k < site.width(); ++k) {
        const auto loss_with = [&](double share) {
          std::vector<std::pair<ms::Tensor<double>*, std::vector<double>>> old;
          site.for_each_reader([&](const auto& reader) {
            auto& weight = reader.consumer.weight().value;
            const std::vector<double> values = ms::to_host(problem.ctx, weight);
            old.emplace_back(&weight, values);
            std::vector<double> changed = values;
            const std::int64_t features = reader.features(site.width());
            for (std::int64_t i = reader.offset() + k; i < std::ssize(values); i += features) {
              changed[static_cast<std::size_t>(i)] *= share;
            }
            ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, weight.shape(), changed), weight);
          });
          const double loss = problem.loss();
          for (const auto& [weight, values] : old) {
            ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, weight->shape(), values), *weight);
          }
          return loss;
        };
        // Rounding of the loss counts 1e-16 / 1e-5, the third derivative 1e-10.
        const double measured = (loss_with(1.0 - 1e-5) - loss_with(1.0 + 1e-5)) / 2e-5;
        CHECK(std::abs(contributions[static_cast<std::size_t>(k)] - measured) <= 1e-7);
      }
    }
  });
}

TEST_CASE("rows: the effective dimension is that of a layer's own units") {
  ms::Context ctx;
  ms::grow::SiteMoments site;
  site.width = 2;
  site.before = site.after = 1;
  site.consumer_bias = true;
  site.consumer_inputs = 5;
  std::vector<double> s1(25, 0.0);
  for (const std::size_t lively : {0, 1, 3, 4}) s1[6 * lively] = 1.0;
  site.moments.s1 = ms::from_host<double>(ctx, {5, 5}, s1);
  CHECK(ms::grow::effective_dimension(ctx, site, 0.1) == 0.5);
}

TEST_SUITE_END();

}  // namespace grow_rows_test
