// Streams of residual networks: statistics, slopes and what new channels carry, against plain double loops.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
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
#include <support/check.hpp>
#include <support/dense.hpp>
#include <support/layer_inputs.hpp>
#include <support/plain_maps.hpp>
#include <support/residual_networks.hpp>
#include <support/units_on_host.hpp>

namespace grow_stream_maps_test {

namespace ms = meristem;
using ms::grow::Widths;
using ms::nn::Activation;
using Net = ms::nn::Sequential<double>;
using Site = ms::grow::Site<double>;
using support::Dense;
using Kind = support::Residuals;

namespace {

constexpr std::int64_t n = 6, side = 16, classes = 3;

struct Problem {
  ms::Context ctx{{.seed = 3}};
  Net net;
  ms::Tensor<double> x;
  ms::Tensor<std::int32_t> labels;

  explicit Problem(Kind kind) : net(support::residual_network<double>(ctx, kind, classes)) {
    x = ms::from_host<double>(ctx, {n, side, side, 2}, support::normal_values<double>(n * side * side * 2, 1));
    std::vector<std::int32_t> numbers;
    for (std::int64_t i = 0; i < n; ++i) numbers.push_back(static_cast<std::int32_t>(i % classes));
    labels = ms::from_host<std::int32_t>(ctx, {n}, numbers);
    std::uint64_t seed = 20;
    net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
      if (parameter.value.rank() != 1) return;
      std::vector<double> values = support::normal_values<double>(parameter.value.size(), ++seed, 0.2);
      const bool weight = parameter.name.ends_with("weight");
      for (double& value : values) value += weight ? 0.8 : 0.0;
      ms::copy<double>(ctx, ms::from_host<double>(ctx, parameter.value.shape(), values), parameter.value);
    });
  }

  [[nodiscard]] ms::nn::BatchView<double> batch() const { return {.inputs = x, .labels = labels}; }

  double loss() {
    return ms::nn::CrossEntropy{}(ctx, net.forward(ctx, x, {.measuring = true}).output, labels.view(), false).mean;
  }

  std::vector<ms::grow::detail::Proposal> measure(const std::vector<Site>& sites, double damping, std::int64_t most) {
    ms::grow::detail::SharedPasses<double> passes(net, ms::nn::CrossEntropy{});
    return passes.measure(
        ctx, sites, {.method = ms::grow::tiny(), .damping = damping, .significance = 0.0},
        [&](const auto& use) { use(batch()); },
        [&](const Site&, std::int64_t, const ms::grow::Choice*) { return most; });
  }

  /// Gives the norms the statistics of the batch.
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

  std::vector<Site> streams() {
    std::vector<Site> result;
    for (const Site& site : ms::grow::find_sites<double>(net, Widths::all)) {
      if (site.tied()) result.push_back(site);
    }
    return result;
  }
};

/// The two layers and what lies between them, as plain loops see it.
support::MapJoint joint_of(const Site& pair, const ms::Shape& input) {
  support::MapJoint joint;
  joint.map = {input[1], input[2]};
  joint.in = pair.producer.in_features();
  joint.width = pair.width();
  joint.out = pair.consumer.out_features();
  joint.first = pair.producer.window();
  joint.second = pair.consumer.window();
  joint.producer_bias = pair.producer.has_bias();
  joint.consumer_bias = pair.consumer.has_bias();
  if (pair.last_pool) {
    // Means over 2x2 of the whole map, and the mean of these.
    joint.pooling = support::Pooling::global;
  } else if (pair.pool) {
    joint.pooling = pair.pool->description().global ? support::Pooling::global : support::Pooling::average;
    joint.pool = pair.pool->description().window;
  }
  return joint;
}

/// Largest difference, relative to the largest number.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) difference = std::max(difference, std::abs(a[i] - b[i]));
  return difference / support::scale_of(a);
}

/// a with the diagonal times 1 + share.
Dense damped(Dense a, double share) {
  for (std::int64_t i = 0; i < a.rows; ++i) a(i, i) *= 1.0 + share;
  return a;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("streams of maps: S is the mean over readers, N stands side by side, each with a move of its own") {
  constexpr double share = 0.1;
  for (const Kind kind : support::all_residuals) {
    Problem problem(kind);
    const std::vector<Site> sites = problem.streams();
    const auto proposals = problem.measure(sites, share, 2);
    for (std::size_t at = 0; at < sites.size(); ++at) {
      const Site& site = sites[at];
      // The small maps of the last stages and the largest ones; all kinds of readers are among them.
      const bool deep = kind == Kind::pooled || kind == Kind::strided;
      if (deep && (site.name.starts_with("stage2") || site.name.starts_with("stage3.block"))) continue;
      CAPTURE(static_cast<int>(kind));
      CAPTURE(site.name);
      std::vector<Site> pairs;
      for (std::size_t i = 0; i < site.readers(); ++i) pairs.push_back(site.read_by(i));
      Dense s, cross;
      double goal_norm2 = 0.0, left = 0.0;
      std::vector<double> moves;
      std::vector<Dense> all_s(pairs.size()), all_n(pairs.size()), all_moves(pairs.size());
      ms::grow::visit_sites<double>(
          problem.ctx, problem.net, pairs, problem.batch(), ms::nn::CrossEntropy{},
          [&](ms::Context& ctx, std::size_t i, ms::View<const double> unit, ms::View<const double> consumer,
              ms::View<const double> goal) {
            const support::PlainMaps plain(joint_of(pairs[i], unit.shape()), n, ms::to_host(ctx, unit),
                                           ms::to_host(ctx, consumer), ms::to_host(ctx, goal));
            all_moves[i] = support::transposed(support::power(damped(plain.s1(), share), -1) * plain.m1());
            const std::vector<double> residual = plain.residual(all_moves[i]);
            all_s[i] = plain.s(false);
            all_n[i] = plain.cross(false, residual);
            goal_norm2 += plain.goal_norm2();
            left += plain.norm2(residual);
          });
      s = all_s[0];
      std::int64_t columns = 0;
      for (std::size_t i = 0; i < pairs.size(); ++i) {
        for (std::size_t j = 0; i > 0 && j < s.values.size(); ++j) s.values[j] += all_s[i].values[j];
        columns += all_n[i].columns;
        moves.insert(moves.end(), all_moves[i].values.begin(), all_moves[i].values.end());
      }
      s = (1.0 / static_cast<double>(pairs.size())) * s;
      cross = Dense(s.rows, columns);
      std::int64_t first = 0;
      for (const Dense& one : all_n) {
        for (std::int64_t i = 0; i < one.rows; ++i) {
          for (std::int64_t j = 0; j < one.columns; ++j) cross(i, first + j) = one(i, j);
        }
        first += one.columns;
      }
      const std::vector<double> lambda = support::singular_values(support::power(damped(s, share), -0.5) * cross);
      const auto& report = proposals[at].report;
      REQUIRE(report.lambda.size() >= 2);
      // Sums of up to 10⁵ products of unit scale in double, through a square root of a matrix of condition 10 / share.
      for (std::size_t k = 0; k < 2; ++k) CHECK(std::abs(report.lambda[k] - lambda[k]) <= 1e-9 * lambda[0]);
      CHECK(std::abs(report.goal_norm2 - goal_norm2) <= 1e-10 * goal_norm2);
      CHECK(std::abs(report.bottleneck - left) <= 1e-9 * goal_norm2);
      support::check_close(ms::to_host(problem.ctx, proposals[at].insertion.move), moves,
                           1e-8 * support::scale_of(moves), "moves");
    }
  }
}

TEST_CASE("streams of maps: the slope of the loss is the one that is reported, for every source") {
  for (const Kind kind : support::all_residuals) {
    Problem problem(kind);
    const std::vector<Site> sites = problem.streams();
    auto proposals = problem.measure(sites, 0.1, 2);
    const double before = problem.loss();
    for (std::size_t i = 0; i < sites.size(); ++i) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(sites[i].name);
      ms::grow::Insertion& units = proposals[i].insertion;
      REQUIRE(units.units == 2);
      REQUIRE(proposals[i].report.slope > 0.0);
      units.rider_rows = ms::grow::draw_rider_rows(problem.ctx, sites[i], units.units);
      // The loss falls by 1e-7 of itself, which rounding in double precision changes by 1e-8 of that.
      const double gamma = 1e-7 * before / proposals[i].report.slope;
      ms::grow::detail::StagedEdit<double> staged(problem.ctx, ms::grow::make_edit(problem.ctx, sites[i], units, gamma),
                                                  problem.net);
      staged.swap();
      const double measured = (before - problem.loss()) / gamma;
      staged.swap();
      const double ratio = measured / proposals[i].report.slope;
      // Second order is 1e-7 times the loss's curvature over its slope.
      CHECK(ratio == doctest::Approx(1.0).epsilon(1e-5));
    }
  }
}

TEST_CASE("streams of maps: new channels carry the units to the readers behind their source, and nothing elsewhere") {
  for (const Kind kind : support::all_residuals) {
    Problem problem(kind);
    const std::vector<Site> sites = problem.streams();
    auto proposals = problem.measure(sites, 0.1, 2);
    for (std::size_t at = 0; at < sites.size(); ++at) {
      const Site& site = sites[at];
      CAPTURE(static_cast<int>(kind));
      CAPTURE(site.name);
      ms::grow::Insertion& there = proposals[at].insertion;
      REQUIRE(there.units == 2);
      there.rider_rows = ms::grow::draw_rider_rows(problem.ctx, site, there.units);
      constexpr double gamma = 0.2;
      there.split = ms::grow::balanced_split<double>(problem.ctx, site, there, gamma);
      const support::HostInsertion units = support::on_host(problem.ctx, there);
      const std::int64_t width = site.width();
      support::LayerInputs before, after;
      (void)problem.net.forward(problem.ctx, problem.x, {.measuring = true, .taps = &before});
      ms::grow::detail::StagedEdit<double> staged(problem.ctx, ms::grow::make_edit(problem.ctx, site, there, gamma),
                                                  problem.net);
      staged.swap();
      (void)problem.net.forward(problem.ctx, problem.x, {.measuring = true, .taps = &after});
      std::map<const ms::nn::Layer<double>*, std::vector<double>> weights;
      site.for_each_reader([&](const auto& reader) {
        weights[reader.consumer.layer()] = ms::to_host(problem.ctx, reader.consumer.weight().value);
        if (reader.input_norm) {
          weights[reader.input_norm] = ms::to_host(problem.ctx, reader.input_norm->weight().value);
        }
      });
      staged.swap();
      const ms::nn::Layer<double>* const producer = site.producer.layer();
      const auto norms = site.input_norms();
      std::size_t first = 0;  // of the reader's numbers in a fan-out
      for (std::size_t r = 0; r < site.readers(); ++r) {
        const Site pair = site.read_by(r);
        const support::MapJoint joint = joint_of(pair, before.shapes.at(producer));
        const support::PlainMaps plain(joint, n, before.values.at(producer), {}, {});
        const std::vector<double>& seen = after.values.at(pair.consumer.layer());
        const ms::Extent2 pooled = joint.pooled();
        // c √γ; where the stream carries a number of its own choice, its product with the reader's weight is γ ω.
        const auto scale_of_unit = [&](std::int64_t k) {
          const auto at = static_cast<std::size_t>(k);
          if (!norms.empty() && !pair.input_norm) {
            const std::vector<double>& now = weights.at(pair.consumer.layer());
            const std::size_t outputs = static_cast<std::size_t>(units.outputs);
            return gamma * units.fan_out[at * outputs + first] / now[static_cast<std::size_t>(width) + at];
          }
          const auto norm = static_cast<std::size_t>(
              norms.empty() ? 0 : std::find(norms.begin(), norms.end(), pair.input_norm) - norms.begin());
          const std::size_t each = std::max<std::size_t>(norms.size(), 1);
          return (units.split.empty() ? 1.0 : units.split[at * each + norm]) * std::sqrt(gamma);
        };
        std::vector<double> actual, expected;
        for (std::int64_t i = 0; i < n; ++i) {
          for (std::int64_t u = 0; u < pooled.y; ++u) {
            for (std::int64_t v = 0; v < pooled.x; ++v) {
              for (std::int64_t k = 0; k < 2; ++k) {
                const double scale = scale_of_unit(k);
                const auto unit = [&](const std::vector<double>& patch) {
                  double sum = 0.0;
                  for (std::size_t j = 0; j < patch.size(); ++j) {
                    sum += patch[j] * units.fan_in[static_cast<std::size_t>(k) * patch.size() + j];
                  }
                  return scale * sum;
                };
                const bool relu = pair.activation == Activation::relu;
                double value = 0.0;
                if (pair.pool_first && !pair.last_pool) {
                  value = unit(plain.pooled_patch(i, u, v));
                  if (relu) value = std::max(value, 0.0);
                } else {
                  // The ReLU stands before the last pooling: of means over 2x2 where another stands before.
                  double count = 0.0;
                  std::map<std::pair<std::int64_t, std::int64_t>, double> parts;
                  plain.for_each_pooled(u, v, [&](std::int64_t hy, std::int64_t hx) {
                    const std::int64_t size = pair.last_pool ? 2 : 1;
                    const double share = 1.0 / static_cast<double>(size * size);
                    parts[{hy / size, hx / size}] += share * unit(plain.patch(i, hy, hx));
                  });
                  for (const auto& [place, part] : parts) {
                    value += relu ? std::max(part, 0.0) : part;
                    count += 1.0;
                  }
                  value /= count;
                }
                expected.push_back(value);
                const std::int64_t row = (i * pooled.y + u) * pooled.x + v;
                actual.push_back(seen[static_cast<std::size_t>(row * (width + 2) + width + k)]);
              }
            }
          }
        }
        // The norm takes the fan-in's scale out and puts another in: some hundred roundings.
        support::check_close(actual, expected, 1e-11 * support::scale_of(expected), pair.consumer.name());
        if (pair.input_norm && !units.split.empty()) {
          // At the amplitude of the split new weights are as large as today's.
          double squares = 0.0;
          const std::vector<double>& norm = weights.at(pair.input_norm);
          for (std::int64_t c = 0; c < width; ++c) squares += std::pow(norm[static_cast<std::size_t>(c)], 2);
          for (std::int64_t c = width; c < width + 2; ++c) {
            // Up to what its epsilon is to the variance.
            CHECK(norm[static_cast<std::size_t>(c)] ==
                  doctest::Approx(std::sqrt(squares / static_cast<double>(width))).epsilon(1e-3));
          }
        }
        first += static_cast<std::size_t>(site.reader(r).places(width) * pair.consumer.out_features());
      }
      for (const auto& reader : site.earlier) {
        const std::vector<double>& seen = after.values.at(reader.consumer.layer());
        const std::vector<double>& old = before.values.at(reader.consumer.layer());
        double largest = 0.0, moved = 0.0;
        for (std::size_t i = 0; i < seen.size(); ++i) {
          const auto row = static_cast<std::int64_t>(i) / (width + 2), c = static_cast<std::int64_t>(i) % (width + 2);
          if (c >= width) {
            largest = std::max(largest, std::abs(seen[i]));
          } else {
            moved = std::max(moved, std::abs(seen[i] - old[static_cast<std::size_t>(row * width + c)]));
          }
        }
        CHECK(largest == 0.0);
        CHECK(moved <= 1e-12 * support::scale_of(old));
      }
    }
  }
}

TEST_CASE("streams of maps: what a channel contributes is the slope of the loss as all its readers lose it") {
  for (const Kind kind : support::all_residuals) {
    Problem problem(kind);
    const Site site = ms::grow::find_site<double>(problem.net, "stage1.block1.conv2", Widths::all);
    REQUIRE(site.readers() + site.earlier.size() >= 3);
    const std::vector<double> contributions = ms::grow::unit_contributions<double>(
        problem.ctx, site, problem.net, [&](const auto& use) { use(problem.batch()); }, ms::nn::CrossEntropy{});
    const auto width = static_cast<std::size_t>(site.width());
    for (std::size_t k = 0; k < width; ++k) {
      const auto loss_with = [&](double share) {
        std::vector<std::vector<double>> old;
        site.for_each_reader([&](const auto& reader) {
          auto& weight = reader.consumer.weight().value;
          std::vector<double> values = ms::to_host(problem.ctx, weight);
          old.push_back(values);
          for (std::size_t i = k; i < values.size(); i += width) values[i] *= share;
          ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, weight.shape(), values), weight);
        });
        const double loss = problem.loss();
        std::size_t at = 0;
        site.for_each_reader([&](const auto& reader) {
          auto& weight = reader.consumer.weight().value;
          ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, weight.shape(), old[at++]), weight);
        });
        return loss;
      };
      // Rounding of the loss counts 1e-16 / 1e-5, the third derivative 1e-10.
      const double measured = (loss_with(1.0 - 1e-5) - loss_with(1.0 + 1e-5)) / 2e-5;
      CAPTURE(static_cast<int>(kind));
      CHECK(std::abs(contributions[k] - measured) <= 1e-7);
    }
  }
}

TEST_CASE("streams of maps: methods that preserve the function do, in training and in evaluation") {
  for (const Kind kind : support::all_residuals) {
    for (const auto& named : ms::grow::all_methods()) {
      if (named->name() == "tiny-eigen" || named->name() == "random-kaiming") continue;
      const auto method = named->name() == "net2wider" ? ms::grow::net2wider(0.0) : named;
      if (method->needs().joint || method->needs().fisher) continue;
      const bool deep = kind == Kind::pooled || kind == Kind::strided;
      for (const char* name :
           {"stem.conv", "stage1.block2.conv2", deep ? "stage4.block1.conv2" : "stage2.block1.conv2"}) {
        CAPTURE(static_cast<int>(kind));
        CAPTURE(named->name());
        CAPTURE(name);
        Problem problem(kind);
        problem.settle();
        const Site site = ms::grow::find_site<double>(problem.net, name, Widths::all);
        const auto training = problem.outputs(ms::nn::Mode::training);
        const auto evaluation = problem.outputs(ms::nn::Mode::evaluation);
        ms::grow::detail::SharedPasses<double> passes(problem.net, ms::nn::CrossEntropy{});
        auto proposals = passes.measure(
            problem.ctx, {site}, {.method = method, .damping = 0.1, .significance = 0.0},
            [&](const auto& use) { use(problem.batch()); },
            [](const Site&, std::int64_t, const ms::grow::Choice*) { return 2; });
        auto& proposal = proposals.front();
        ms::grow::Insertion& units = proposal.insertion;
        REQUIRE(units.units == 2);
        CHECK((units.copies.size() == 2) == (named->name() == "net2wider"));
        if (units.copies.empty()) units.rider_rows = ms::grow::draw_rider_rows(problem.ctx, site, units.units);
        const std::int64_t width = site.width();
        ms::grow::apply<double>(problem.ctx, ms::grow::make_edit(problem.ctx, site, units, 1.0), problem.net);
        CHECK(site.width() == width + 2);
        const double in_training = distance(training, problem.outputs(ms::nn::Mode::training));
        const double in_evaluation = distance(evaluation, problem.outputs(ms::nn::Mode::evaluation));
        if (proposal.preserves_function) {
          // Some twenty layers of sums of some hundred terms, whose errors a norm over six positions may enlarge. Where
          // the weights in front of a norm were rescaled, its epsilon of 1e-5 weighs otherwise.
          CHECK(in_training < (units.consumer_factor != 1.0 ? 1e-2 : 1e-9));
          CHECK(in_evaluation < 1e-9);
        } else {
          CHECK(in_training > 1e-9);
        }
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace grow_stream_maps_test
