// Growth methods: the property that defines each, and that units without effect leave the network's outputs alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <meristem/grow/measure/shared_passes.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <support/method_problem.hpp>
#include <support/units_on_host.hpp>

namespace grow_methods_test {

namespace ms = meristem;
using ms::grow::FanOut;
using ms::nn::Activation;
using support::contains;
using support::Dense;
using support::GrowthProblem;
using support::message_of;
using support::method_nets;
using support::MethodProblem;
using support::relative_distance;

namespace {

ms::grow::detail::MeasurementOptions method_options(ms::grow::Method method, FanOut fan_out = FanOut::full) {
  return {.method = std::move(method), .fan_out = fan_out, .damping = 0.0, .significance = 0.0};
}

double method_row_norm(const std::vector<double>& rows, std::size_t row, std::size_t columns, std::size_t count) {
  double squares = 0.0;
  for (std::size_t i = 0; i < count; ++i) squares += rows[row * columns + i] * rows[row * columns + i];
  return std::sqrt(squares);
}

/// Mean norm of some rows, of which the last number is left out with `bias`.
double method_mean_norm(const std::vector<double>& rows, std::size_t count, bool bias) {
  const std::size_t each = rows.size() / count;
  double sum = 0.0;
  for (std::size_t k = 0; k < count; ++k) sum += method_row_norm(rows, k, each, each - (bias ? 1 : 0));
  return sum / static_cast<double>(count);
}

/// M of a site, from plain loops between vectors and from the statistics of maps, which have tests of their own.
Dense method_goal_moment(MethodProblem& problem) {
  if (!problem.site.spatial()) {
    const GrowthProblem samples = problem.samples();
    return samples.moment(samples.b2, samples.v);
  }
  std::optional<ms::grow::detail::MapStatistics<double>> maps;
  problem.visit({problem.site}, [&](ms::Context&, std::size_t, ms::View<const double> unit,
                                    ms::View<const double> consumer, ms::View<const double> goal) {
    maps.emplace(problem.ctx, problem.site.shape(unit.shape()), FanOut::full,
                 ms::grow::detail::MapStatistics<double>::Options{.goal = true, .residual = false, .noise = false});
    maps->update(problem.ctx, unit, consumer, goal);
  });
  return support::to_dense(problem.ctx, maps->goal_cross_moment(problem.ctx));
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("growth methods: all are known by name, and names that are not are answered with the list") {
  std::set<std::string> names;
  for (const auto& method : ms::grow::all_methods()) {
    CAPTURE(method->name());
    CHECK(ms::grow::parse_method(method->name())->name() == method->name());
    CHECK(names.insert(method->name()).second);
  }
  const auto text = message_of<ms::ArgumentError>([] { (void)ms::grow::parse_method("magic"); });
  CHECK(contains(text, "there is no growth method 'magic'; the methods are tiny, "));
  CHECK(contains(text, "firefly"));
}

TEST_CASE("growth methods: every one grows every kind of site, and one that claims to preserve the function does") {
  for (const auto& net : method_nets()) {
    for (const Activation f : {Activation::tanh, Activation::relu}) {
      for (const auto& named : ms::grow::all_methods()) {
        for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
          INFO(net.name, ", ", named->name(), ", relu ", f == Activation::relu, ", full ", fan_out == FanOut::full);
          // What the centre tap alone changes is the same for the rest.
          const bool few = named->name() == "tiny-joint" || named->name() == "net2wider" || named->name() == "gradmax";
          if (fan_out == FanOut::centre && (net.name == "mlp" || f == Activation::relu || !few)) continue;
          if (named->name() == "tiny-eigen" || named->name() == "random-kaiming") continue;
          MethodProblem problem(net, f, 32);
          const auto training = problem.outputs(ms::nn::Mode::training);
          const auto evaluation = problem.outputs(ms::nn::Mode::evaluation);
          // A tenth of noise in what copies read is no zero effect.
          const auto method = named->name() == "net2wider" ? ms::grow::net2wider(0.0) : named;
          auto options = method_options(method, fan_out);
          options.damping = 1e-3;
          const auto streams = problem.ctx.random_streams();
          const auto proposal = problem.propose(problem.site, 4, options);
          // Training draws what it would have drawn.
          CHECK(problem.ctx.random_streams() == streams);
          REQUIRE(proposal.insertion.units > 0);
          CHECK(proposal.insertion.units <= 4);
          const std::int64_t width = problem.site.width();
          ms::grow::apply<double>(problem.ctx, ms::grow::make_edit(problem.ctx, problem.site, proposal.insertion, 1.0),
                                  problem.net);
          CHECK(problem.site.width() == width + proposal.insertion.units);
          const double in_training = relative_distance(training, problem.outputs(ms::nn::Mode::training));
          const double in_evaluation = relative_distance(evaluation, problem.outputs(ms::nn::Mode::evaluation));
          if (proposal.preserves_function) {
            // A few hundred terms of size 1 in double precision. Where the weights in front of a BatchNorm were
            // rescaled, its epsilon of 1e-5 weighs otherwise against variances of about 1.
            const bool rescaled = proposal.insertion.consumer_factor != 1.0;
            CHECK(in_training < (rescaled ? 1e-3 : 1e-12));
            CHECK(in_evaluation < 1e-12);
            CHECK(!proposal.search_amplitude);
          } else {
            CHECK(in_training > 1e-9);
          }
        }
      }
    }
  }
}

TEST_CASE("growth methods: those that preserve the function are the ones that should") {
  MethodProblem problem(method_nets().front(), Activation::tanh);
  for (const auto& expected : {std::pair{"tiny", false},
                               {"tiny-joint", false},
                               {"gradmax", true},
                               {"random", true},
                               {"random-fan-out", true},
                               {"nest", false},
                               {"net2wider", false},
                               {"paired", true},
                               {"north", true},
                               {"senn", true},
                               {"firefly", false}}) {
    const std::string name = expected.first;
    CAPTURE(name);
    const auto proposal = problem.propose(problem.site, 2, method_options(ms::grow::parse_method(name)));
    CHECK(proposal.preserves_function == expected.second);
    CHECK(proposal.search_amplitude == (name.starts_with("tiny") || name == "firefly"));
  }
}

TEST_CASE("random: scales of today's units or of Kaiming, biases zero, and other numbers for other weights") {
  MethodProblem problem(method_nets().front(), Activation::tanh);
  const auto weight = ms::to_host(problem.ctx, problem.site.producer.weight().value);
  double mean = 0.0;
  for (std::size_t k = 0; k < 3; ++k) mean += method_row_norm(weight, k, 24, 24) / 3.0;
  const auto first = problem.propose(problem.site, 2, method_options(ms::grow::random_units()));
  const auto first_units = support::on_host(problem.ctx, first.insertion);
  const auto second = problem.propose(problem.site, 2, method_options(ms::grow::random_units()));
  const auto second_units = support::on_host(problem.ctx, second.insertion);
  CHECK(first_units.fan_in == second_units.fan_in);
  MethodProblem trained(method_nets().front(), Activation::tanh);
  const auto nudge = ms::from_host<double>(trained.ctx, {1}, {0.123});
  ms::copy<double>(trained.ctx, nudge.view(), trained.site.consumer.weight().value.view().reshape({15}).slice(0, 7, 8));
  const auto third = trained.propose(trained.site, 2, method_options(ms::grow::random_units()));
  const auto third_units = support::on_host(trained.ctx, third.insertion);
  CHECK(relative_distance(first_units.fan_in, third_units.fan_in) > 0.1);
  const auto kaiming =
      problem.propose(problem.site, 2, method_options(ms::grow::random_units(ms::grow::UnitScale::kaiming)));
  const auto kaiming_units = support::on_host(problem.ctx, kaiming.insertion);
  for (std::size_t k = 0; k < 2; ++k) {
    CHECK(method_row_norm(first_units.fan_in, k, 25, 24) == doctest::Approx(mean));
    CHECK(method_row_norm(kaiming_units.fan_in, k, 25, 24) == doctest::Approx(std::sqrt(2.0)));
    CHECK(first_units.fan_in[k * 25 + 24] == 0.0);
    CHECK(method_row_norm(first_units.fan_out, k, 5, 5) == 0.0);
  }
  const auto other = problem.propose(problem.site, 2, method_options(ms::grow::random_fan_outs()));
  const auto other_units = support::on_host(problem.ctx, other.insertion);
  const auto readout = ms::to_host(problem.ctx, problem.site.consumer.weight().value);  // (5, 3)
  double mean_out = 0.0;
  for (std::size_t k = 0; k < 3; ++k) {
    double squares = 0.0;
    for (std::size_t o = 0; o < 5; ++o) squares += readout[o * 3 + k] * readout[o * 3 + k];
    mean_out += std::sqrt(squares) / 3.0;
  }
  CHECK(method_row_norm(other_units.fan_out, 1, 5, 5) == doctest::Approx(mean_out));
  CHECK(method_row_norm(other_units.fan_in, 1, 25, 25) == 0.0);
  // In front of a ReLU units of zero would never receive a gradient.
  MethodProblem relu(method_nets().front(), Activation::relu);
  const auto alive = relu.propose(relu.site, 2, method_options(ms::grow::random_fan_outs()));
  const auto alive_units = support::on_host(relu.ctx, alive.insertion);
  CHECK(method_row_norm(alive_units.fan_in, 0, 25, 25) > 0.0);
  CHECK(contains(alive.report.note, "a ReLU, which lets no gradient pass at 0"));
}

TEST_CASE("random: the scales hold between maps too, over all taps") {
  for (const auto& net : method_nets()) {
    for (const auto scale : {ms::grow::UnitScale::copied, ms::grow::UnitScale::kaiming}) {
      INFO(net.name, ", copied ", scale == ms::grow::UnitScale::copied);
      MethodProblem problem(net, Activation::tanh);
      const auto today = support::numbers_of_units<double>(problem.ctx, problem.site);
      const std::size_t width = static_cast<std::size_t>(problem.site.width());
      const bool copied = scale == ms::grow::UnitScale::copied;
      const auto in = problem.propose(problem.site, 3, method_options(ms::grow::random_units(scale)));
      const auto in_units = support::on_host(problem.ctx, in.insertion);
      const auto out = problem.propose(problem.site, 3, method_options(ms::grow::random_fan_outs(scale)));
      const auto out_units = support::on_host(problem.ctx, out.insertion);
      const std::size_t p = in_units.fan_in.size() / 3, m = out_units.fan_out.size() / 3;
      // Kaiming: variance 2 over the weights of one output, taps included, once the units are in.
      const double kaiming_out =
          std::sqrt(2.0 * static_cast<double>(problem.site.fan_out()) / static_cast<double>(problem.site.width() + 3));
      for (std::size_t k = 0; k < 3; ++k) {
        CHECK(method_row_norm(in_units.fan_in, k, p, p) ==
              doctest::Approx(copied ? method_mean_norm(today.fan_in, width, true) : std::sqrt(2.0)));
        CHECK(method_row_norm(in_units.fan_out, k, m, m) == 0.0);
        CHECK(method_row_norm(out_units.fan_out, k, m, m) ==
              doctest::Approx(copied ? method_mean_norm(today.fan_out, width, false) : kaiming_out));
        CHECK(method_row_norm(out_units.fan_in, k, p, p) == 0.0);
      }
    }
  }
}

TEST_CASE("nest: units connect the largest entries of M, with the sign that lowers the loss") {
  MethodProblem problem(method_nets().front(), Activation::tanh);
  const GrowthProblem samples = problem.samples();
  const Dense m = samples.moment(samples.b2, samples.v);  // 25 x 5, the bias last
  std::vector<std::pair<double, std::pair<std::int64_t, std::int64_t>>> entries;
  for (std::int64_t i = 0; i < 24; ++i) {
    for (std::int64_t j = 0; j < 5; ++j) entries.push_back({std::abs(m(i, j)), {i, j}});
  }
  std::sort(entries.rbegin(), entries.rend());
  const auto proposal = problem.propose(problem.site, 3, method_options(ms::grow::nest(0.5)));
  const auto insertion = support::on_host(problem.ctx, proposal.insertion);
  REQUIRE(insertion.units == 3);
  double sizes_in = 0.0, sizes_out = 0.0;
  for (std::size_t k = 0; k < 3; ++k) {
    const auto [i, j] = entries[k].second;
    const double a = insertion.fan_in[k * 25 + static_cast<std::size_t>(i)];
    const double w = insertion.fan_out[k * 5 + static_cast<std::size_t>(j)];
    CHECK(std::abs(a) == doctest::Approx(method_row_norm(insertion.fan_in, k, 25, 25)));
    CHECK(std::abs(w) == doctest::Approx(method_row_norm(insertion.fan_out, k, 5, 5)));
    CHECK(a * w * m(i, j) > 0.0);
    CHECK(std::abs(a / insertion.fan_in[static_cast<std::size_t>(entries[0].second.first)]) ==
          doctest::Approx(std::sqrt(entries[k].first / entries[0].first)));
    sizes_in += std::abs(a) / 3.0;
    sizes_out += std::abs(w) / 3.0;
  }
  const auto mean_size = [&](const std::vector<double>& values) {
    double sum = 0.0;
    for (const double value : values) sum += std::abs(value);
    return sum / static_cast<double>(values.size());
  };
  CHECK(sizes_in == doctest::Approx(0.5 * mean_size(ms::to_host(problem.ctx, problem.site.producer.weight().value))));
  CHECK(sizes_out == doctest::Approx(0.5 * mean_size(ms::to_host(problem.ctx, problem.site.consumer.weight().value))));
  CHECK(proposal.report.slope > 0.0);
  CHECK(message_of<ms::ArgumentError>([] { (void)ms::grow::nest(0.0); }).starts_with("nest: a unit connects"));
}

TEST_CASE("nest: between maps a unit connects one number of a patch with one tap of an output") {
  for (const auto& net : method_nets()) {
    CAPTURE(net.name);
    MethodProblem problem(net, Activation::tanh);
    const Dense m = method_goal_moment(problem);
    std::vector<double> sizes;  // without the bias
    for (std::int64_t i = 0; i + 1 < m.rows; ++i) {
      for (std::int64_t j = 0; j < m.columns; ++j) sizes.push_back(std::abs(m(i, j)));
    }
    std::sort(sizes.rbegin(), sizes.rend());
    const auto proposal = problem.propose(problem.site, 3, method_options(ms::grow::nest()));
    const auto insertion = support::on_host(problem.ctx, proposal.insertion);
    REQUIRE(insertion.units == 3);
    REQUIRE(static_cast<std::int64_t>(insertion.fan_in.size()) == 3 * m.rows);
    REQUIRE(static_cast<std::int64_t>(insertion.fan_out.size()) == 3 * m.columns);
    const auto only = [](const std::vector<double>& rows, std::int64_t row, std::int64_t each) {
      std::vector<std::int64_t> places;
      for (std::int64_t i = 0; i < each; ++i) {
        if (rows[static_cast<std::size_t>(row * each + i)] != 0.0) places.push_back(i);
      }
      REQUIRE(places.size() == 1);
      return places.front();
    };
    std::set<std::pair<std::int64_t, std::int64_t>> connected;
    for (std::int64_t k = 0; k < 3; ++k) {
      const std::int64_t i = only(insertion.fan_in, k, m.rows), j = only(insertion.fan_out, k, m.columns);
      CHECK(connected.insert({i, j}).second);
      // Where taps overlap many entries are the same sum: it is the size that tells, not the place.
      CHECK(std::abs(m(i, j)) == doctest::Approx(sizes[static_cast<std::size_t>(k)]));
      const double a = insertion.fan_in[static_cast<std::size_t>(k * m.rows + i)];
      const double w = insertion.fan_out[static_cast<std::size_t>(k * m.columns + j)];
      // A maximum may have the better sign elsewhere.
      if (net.name != "vgg") CHECK(a * w * m(i, j) > 0.0);
    }
  }
}

TEST_CASE("net2wider: copies share the fan-out of their unit, noise stays within what was asked for") {
  for (const auto& net : method_nets()) {
    CAPTURE(net.name);
    MethodProblem problem(net, Activation::relu);
    const std::int64_t width = problem.site.width(), p = problem.site.fan_in();
    const auto before = support::numbers_of_units<double>(problem.ctx, problem.site);
    const auto proposal = problem.propose(problem.site, 5, method_options(ms::grow::net2wider(0.0)));
    ms::grow::apply<double>(problem.ctx, ms::grow::make_edit(problem.ctx, problem.site, proposal.insertion, 1.0),
                            problem.net);
    const auto after = support::numbers_of_units<double>(problem.ctx, problem.site);
    const std::size_t m = before.fan_out.size() / static_cast<std::size_t>(width);
    for (std::int64_t j = 0; j < width; ++j) {
      std::vector<double> sum(m, 0.0);
      int copies = 0;
      for (std::int64_t k = 0; k < problem.site.width(); ++k) {
        const bool same =
            std::equal(after.fan_in.begin() + k * p, after.fan_in.begin() + (k + 1) * p, before.fan_in.begin() + j * p);
        if (!same) continue;
        ++copies;
        for (std::size_t i = 0; i < m; ++i) sum[i] += after.fan_out[static_cast<std::size_t>(k) * m + i];
        if (problem.site.producer.norm()) {
          CHECK(after.weight[static_cast<std::size_t>(k)] == before.weight[static_cast<std::size_t>(j)]);
          CHECK(after.mean[static_cast<std::size_t>(k)] == before.mean[static_cast<std::size_t>(j)]);
        }
      }
      CHECK(copies >= 1);
      const auto first = before.fan_out.begin() + static_cast<std::ptrdiff_t>(j) * static_cast<std::ptrdiff_t>(m);
      CHECK(relative_distance({first, first + static_cast<std::ptrdiff_t>(m)}, sum) < 1e-14);
    }
    MethodProblem noisy(net, Activation::relu);
    const auto quiet_outputs = noisy.outputs(ms::nn::Mode::training);
    const auto with_noise = noisy.propose(noisy.site, 5, method_options(ms::grow::net2wider(1e-4)));
    ms::grow::apply<double>(noisy.ctx, ms::grow::make_edit(noisy.ctx, noisy.site, with_noise.insertion, 1.0),
                            noisy.net);
    const double distance = relative_distance(quiet_outputs, noisy.outputs(ms::nn::Mode::training));
    CHECK(distance > 1e-8);
    CHECK(distance < 1e-2);
  }
}

TEST_CASE("paired: one unit is none") {
  MethodProblem problem(method_nets().front(), Activation::relu);
  CHECK(contains(problem.propose(problem.site, 1, method_options(ms::grow::paired())).report.note, "pairs need two"));
}

TEST_CASE("north: pre-activations orthogonal to those of today's units and to each other") {
  for (const auto& net : method_nets()) {
    CAPTURE(net.name);
    MethodProblem problem(net, Activation::tanh);
    const auto today = support::numbers_of_units<double>(problem.ctx, problem.site);
    const std::size_t width = static_cast<std::size_t>(problem.site.width());
    const std::size_t p = static_cast<std::size_t>(problem.site.fan_in());
    // The pre-activations themselves, from a network that has grown.
    const auto proposal = problem.propose(problem.site, 3, method_options(ms::grow::north()));
    const auto proposal_units = support::on_host(problem.ctx, proposal.insertion);
    REQUIRE(proposal.insertion.units == 3);
    Dense s;
    if (!problem.site.spatial()) {
      const GrowthProblem samples = problem.samples();
      s = samples.moment(samples.b2, samples.b2);
    } else {
      std::optional<ms::grow::detail::MapStatistics<double>> maps;
      problem.visit({problem.site}, [&](ms::Context&, std::size_t, ms::View<const double> unit,
                                        ms::View<const double> consumer, ms::View<const double> goal) {
        maps.emplace(problem.ctx, problem.site.shape(unit.shape()), FanOut::full);
        maps->update(problem.ctx, unit, consumer, goal);
      });
      s = support::to_dense(problem.ctx, maps->covariance(problem.ctx));
    }
    const auto product = [&](const std::vector<double>& a, std::size_t i, const std::vector<double>& b, std::size_t j) {
      double sum = 0.0;
      for (std::size_t r = 0; r < p; ++r) {
        for (std::size_t c = 0; c < p; ++c) {
          sum += a[i * p + r] * s(static_cast<std::int64_t>(r), static_cast<std::int64_t>(c)) * b[j * p + c];
        }
      }
      return sum;
    };
    for (std::size_t k = 0; k < 3; ++k) {
      const auto& fan_in = proposal_units.fan_in;
      const double own = std::sqrt(product(fan_in, k, fan_in, k));
      CHECK(own > 1e-6);
      for (std::size_t j = 0; j < width; ++j) {
        const double other = std::sqrt(product(today.fan_in, j, today.fan_in, j));
        CHECK(std::abs(product(fan_in, k, today.fan_in, j)) < 1e-9 * own * other);
      }
      for (std::size_t j = 0; j < k; ++j) {
        CHECK(std::abs(product(fan_in, k, fan_in, j)) < 1e-9 * own * std::sqrt(product(fan_in, j, fan_in, j)));
      }
    }
  }
}

TEST_CASE("north: the trigger counts directions of the activations") {
  CHECK(ms::grow::north_trigger(10, 1.0, 1.0, 0.97) == 0);
  CHECK(ms::grow::north_trigger(100, 1.0, 1.0, 0.97) == 3);
  CHECK(ms::grow::north_trigger(10, 0.9, 0.5, 1.0) == 4);
  CHECK(ms::grow::north_trigger(10, 0.2, 0.9, 0.97) == 0);
  MethodProblem problem(method_nets().front(), Activation::tanh);
  const GrowthProblem samples = problem.samples();
  Dense h(3, samples.b1.columns);
  for (std::int64_t i = 0; i < 3; ++i) {
    for (std::int64_t t = 0; t < h.columns; ++t) h(i, t) = samples.b1(i, t);
  }
  const auto values = support::singular_values((1 / std::sqrt(samples.n())) * h);
  ms::grow::SiteMoments site;
  site.width = 3;
  site.consumer_inputs = 4;
  site.consumer_bias = true;
  site.moments.s1 = support::to_tensor<double>(problem.ctx, samples.moment(samples.b1, samples.b1));
  CHECK(ms::grow::effective_dimension(problem.ctx, site, 1e-6) == 1.0);
  CHECK(ms::grow::effective_dimension(problem.ctx, site, std::sqrt(values[1] * values[2])) ==
        doctest::Approx(2.0 / 3.0));
  CHECK(ms::grow::effective_dimension(problem.ctx, site, 2 * values[0]) == 0.0);
  CHECK(
      contains(problem.propose(problem.site, 2, method_options(ms::grow::north(1.0, ms::grow::UnitScale::copied, 10.0)))
                   .report.note,
               "the effective dimension of the layer is 0, less than 1"));
}

TEST_CASE("north: the effective dimension of maps counts directions over all that an output reads") {
  for (const auto& net : method_nets()) {
    if (net.name == "mlp") continue;
    CAPTURE(net.name);
    MethodProblem problem(net, Activation::tanh);
    ms::grow::SiteMoments site;
    site.width = problem.site.width();
    site.consumer_inputs = problem.site.consumer_inputs();
    site.consumer_bias = problem.site.consumer.has_bias();
    std::vector<double> read;
    ms::Shape map;
    std::int64_t outputs = 1;
    problem.visit({problem.site}, [&](ms::Context&, std::size_t, ms::View<const double> unit,
                                      ms::View<const double> consumer, ms::View<const double> goal) {
      ms::grow::detail::MapStatistics<double> maps(problem.ctx, problem.site.shape(unit.shape()), FanOut::full);
      maps.update(problem.ctx, unit, consumer, goal);
      site.moments.s1 = maps.consumer_covariance(problem.ctx);
      site.positions = maps.shape().outputs().size();
      outputs = goal.extent(1);
      read = ms::to_host(problem.ctx, consumer);
      map = consumer.shape();
    });
    // H by plain loops: 3x3 taps with zeros around the map, or every position of a flattened map once.
    const std::int64_t c = site.width;
    std::vector<double> rows;
    if (map.rank() == 2) {
      rows = read;
    } else {
      for (std::int64_t i = 0; i < map[0]; ++i) {
        for (std::int64_t y = 0; y < map[1]; ++y) {
          for (std::int64_t x = 0; x < map[2]; ++x) {
            for (std::int64_t tap = 0; tap < 9; ++tap) {
              const std::int64_t v = y + tap / 3 - 1, u = x + tap % 3 - 1;
              const bool inside = v >= 0 && v < map[1] && u >= 0 && u < map[2];
              for (std::int64_t k = 0; k < c; ++k) {
                rows.push_back(inside ? read[static_cast<std::size_t>(((i * map[1] + v) * map[2] + u) * c + k)] : 0.0);
              }
            }
          }
        }
      }
    }
    const Dense h(static_cast<std::int64_t>(rows.size()) / c, c, rows);
    const auto values = support::singular_values((1 / std::sqrt(static_cast<double>(h.rows))) * h);
    for (std::size_t k = 0; k + 1 < values.size(); ++k) {
      CHECK(ms::grow::effective_dimension(problem.ctx, site, std::sqrt(values[k] * values[k + 1])) ==
            doctest::Approx(static_cast<double>(k + 1) / static_cast<double>(c)));
    }
    CHECK(ms::grow::effective_dimension(problem.ctx, site, 1.001 * values.front()) == 0.0);
    CHECK(ms::grow::effective_dimension(problem.ctx, site, 0.999 * values.back()) == 1.0);
  }
}

TEST_CASE("senn: between maps and vectors, the fan-ins that raise the score most, at today's scale, fan-outs zero") {
  for (const auto& net : method_nets()) {
    CAPTURE(net.name);
    MethodProblem problem(net, Activation::tanh);
    const auto today = support::numbers_of_units<double>(problem.ctx, problem.site);
    const double norm = method_mean_norm(today.fan_in, static_cast<std::size_t>(problem.site.width()), true);
    const auto found = problem.propose(problem.site, 2, method_options(ms::grow::senn(0.0)));
    const auto found_units = support::on_host(problem.ctx, found.insertion);
    const auto source = problem.propose(problem.site, 2,
                                        method_options(std::make_shared<const ms::grow::detail::Tiny>(
                                            ms::grow::detail::Tiny::Options{.joint = true, .fisher = true})));
    const auto source_units = support::on_host(problem.ctx, source.insertion);
    REQUIRE(found.insertion.units == 2);
    REQUIRE(source.insertion.units == 2);
    CHECK(found.preserves_function);
    CHECK(found.report.gain == doctest::Approx(source.report.gain));
    const std::size_t p = found_units.fan_in.size() / 2, m = found_units.fan_out.size() / 2;
    for (std::size_t k = 0; k < 2; ++k) {
      double dot = 0.0;
      for (std::size_t i = 0; i < p; ++i) {
        dot += found_units.fan_in[k * p + i] * source_units.fan_in[k * p + i];
      }
      CHECK(std::abs(dot) == doctest::Approx(method_row_norm(found_units.fan_in, k, p, p) *
                                             method_row_norm(source_units.fan_in, k, p, p)));
      CHECK(method_row_norm(found_units.fan_in, k, p, p - 1) == doctest::Approx(norm));
      CHECK(method_row_norm(found_units.fan_out, k, m, m) == 0.0);
    }
    // However large the ratio that is asked for, a score grows by no more than it does.
    const auto none = problem.propose(problem.site, 2, method_options(ms::grow::senn(1e12)));
    CHECK(none.insertion.units == 0);
    CHECK(contains(none.report.note, "2 units would raise the natural expansion score by"));
  }
  // No other fan-in raises the score more: what one does is ‖E^{-1/2} Nᵀ α‖² / (αᵀ S⊥ α), by plain loops.
  MethodProblem problem(method_nets().front(), Activation::tanh);
  const GrowthProblem samples = problem.samples();
  const Dense s1 = samples.moment(samples.b1, samples.b1), p = samples.moment(samples.b2, samples.b1);
  const Dense e = support::power(samples.moment(samples.v, samples.v), -0.5, 1e-9);
  const Dense schur = samples.moment(samples.b2, samples.b2) - p * support::power(s1, -1) * support::transposed(p);
  const Dense n = samples.cross();
  const auto raise = [&](const Dense& alpha) {  // (p, 1)
    const Dense moved = e * (support::transposed(n) * alpha);
    return support::dot(moved, moved) / support::dot(alpha, schur * alpha);
  };
  const auto best = problem.propose(problem.site, 1, method_options(ms::grow::senn(0.0)));
  const auto best_units = support::on_host(problem.ctx, best.insertion);
  const Dense own(samples.b2.rows, 1, best_units.fan_in);
  CHECK(raise(own) == doctest::Approx(best.report.gain).epsilon(1e-4));
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    Dense other(own.rows, 1, support::normal_values<double>(own.rows, seed));
    for (std::int64_t i = 0; i < own.rows && seed < 10; ++i) other(i, 0) = own(i, 0) + 0.1 * other(i, 0);
    CHECK(raise(other) < raise(own));
  }
}

TEST_CASE("senn: the natural expansion score against plain loops, and its threshold") {
  MethodProblem problem(method_nets().front(), Activation::tanh);
  const GrowthProblem samples = problem.samples();
  const Dense s1 = samples.moment(samples.b1, samples.b1), p = samples.moment(samples.b2, samples.b1);
  const Dense e = support::power(samples.moment(samples.v, samples.v), -0.5, 1e-9);
  const Dense schur = samples.moment(samples.b2, samples.b2) - p * support::power(s1, -1) * support::transposed(p);
  const auto expected = support::singular_values(support::power(schur, -0.5, 1e-9) * samples.cross() * e);
  const Dense moved = e * samples.best_move();
  const double current = support::dot(moved, e * support::transposed(samples.moment(samples.b1, samples.v)));
  const auto proposal = problem.propose(problem.site, 2, method_options(ms::grow::senn(0.0)));
  REQUIRE(proposal.insertion.units == 2);
  for (std::size_t k = 0; k < 3; ++k) CHECK(proposal.report.lambda[k] == doctest::Approx(expected[k]).epsilon(1e-4));
  const double ratio = (expected[0] * expected[0] + expected[1] * expected[1]) / current;
  CHECK(problem.propose(problem.site, 2, method_options(ms::grow::senn(0.99 * ratio))).insertion.units == 2);
  const auto none = problem.propose(problem.site, 2, method_options(ms::grow::senn(1.01 * ratio)));
  CHECK(none.insertion.units == 0);
  CHECK(contains(none.report.note, "would raise the natural expansion score by"));
}

TEST_CASE("firefly: gradients of candidates against differences, steps raise the gain, norms are held") {
  for (const auto& net : method_nets()) {
    for (const Activation f : {Activation::tanh, Activation::relu}) {
      INFO(net.name, ", relu ", f == Activation::relu);
      MethodProblem problem(net, f);
      const auto start = problem.propose(problem.site, 6, method_options(ms::grow::firefly(0)));
      const auto gain_of = [&](const support::HostInsertion& insertion) {
        ms::grow::detail::UnitEffects<double> effects(problem.ctx, problem.site,
                                                      support::on_device(problem.ctx, insertion));
        problem.visit({problem.site},
                      [&](ms::Context&, std::size_t, ms::View<const double> unit, ms::View<const double>,
                          ms::View<const double> goal) { effects.update(problem.ctx, unit, goal); });
        double gain = 0.0;
        for (std::int64_t k = 0; k < insertion.units; ++k) gain += effects.positive(k);
        return gain;
      };
      // Without steps the best of the candidates as they were drawn.
      CHECK(start.insertion.units > 0);
      CHECK(start.insertion.units <= 6);
      CHECK(start.report.lambda.size() == 12);
      ms::grow::detail::CandidatePass<double> pass(problem.ctx, problem.site, start.insertion);
      problem.visit({problem.site}, [&](ms::Context&, std::size_t, ms::View<const double> unit, ms::View<const double>,
                                        ms::View<const double> goal) { pass.update(problem.ctx, unit, goal); });
      const auto gradients = pass.gradients(problem.ctx);
      const auto start_units = support::on_host(problem.ctx, start.insertion);
      for (const bool in : {true, false}) {
        double slope = 0.0;
        support::HostInsertion up = start_units, down = start_units;
        const auto direction = ms::to_host(problem.ctx, in ? gradients.fan_in : gradients.fan_out);
        const double step = 1e-6;
        for (std::size_t i = 0; i < direction.size(); ++i) {
          (in ? up.fan_in : up.fan_out)[i] += step * direction[i];
          (in ? down.fan_in : down.fan_out)[i] -= step * direction[i];
          slope += direction[i] * direction[i];
        }
        // D is piecewise bilinear: central differences have rounding errors only, unless a kink lies in between.
        CHECK((gain_of(up) - gain_of(down)) / (2 * step) == doctest::Approx(slope).epsilon(1e-3));
      }

      const auto trained = problem.propose(problem.site, 6, method_options(ms::grow::firefly(3)));
      const auto trained_units = support::on_host(problem.ctx, trained.insertion);
      REQUIRE(trained.insertion.units > 0);
      CHECK(trained.report.gain > 2.0 * start.report.gain);
      CHECK(trained.report.lambda.size() == 12);
      CHECK(std::is_sorted(trained.report.lambda.rbegin(), trained.report.lambda.rend()));
      const std::size_t p = static_cast<std::size_t>(trained.insertion.inputs);
      for (std::size_t k = 1; k < static_cast<std::size_t>(trained.insertion.units); ++k) {
        CHECK(method_row_norm(trained_units.fan_in, k, p, p) ==
              doctest::Approx(method_row_norm(trained_units.fan_in, 0, p, p)));
      }
      CHECK(gain_of(trained_units) >= trained.report.gain * (1 - 1e-9));
    }
  }
}

TEST_CASE("growth methods: more units than can be told apart are answered with those there are") {
  for (const auto& net : method_nets()) {
    MethodProblem problem(net, Activation::tanh);
    const std::int64_t p = problem.site.fan_in();
    for (const char* name : {"tiny", "tiny-eigen", "tiny-joint", "tiny-fisher", "gradmax"}) {
      INFO(net.name, ", ", name);
      const auto proposal = problem.propose(problem.site, 100, method_options(ms::grow::parse_method(name)));
      const auto insertion = support::on_host(problem.ctx, proposal.insertion);
      CHECK(insertion.units >= 2);
      CHECK(insertion.units <= std::min(p, insertion.taps * insertion.outputs));
      CHECK(contains(proposal.report.note, ms::concat("asked for 100 units, of which ", insertion.units,
                                                      " are significant: there are at most ")));
    }
  }
  MethodProblem problem(method_nets().front(), Activation::tanh);
  const auto north = problem.propose(problem.site, 100, method_options(ms::grow::north()));
  CHECK(north.insertion.units == 22);
  CHECK(contains(north.report.note, "asked for 100 units; only 22 can be orthogonal to the others"));
}

TEST_CASE("growth methods: more units than the rank are answered with those there are") {
  for (const auto& net : method_nets()) {
    // Where the site reads the input itself: of the 24 numbers two are left, of the two channels one.
    if (net.name != "mlp" && net.name != "vgg") continue;
    const std::int64_t rank = net.name == "mlp" ? 3 : 10;  // the bias and two numbers; the bias and nine of a patch
    MethodProblem problem(net, Activation::tanh);
    auto x = ms::to_host(problem.ctx, problem.x);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = net.name == "mlp" ? x[i / 24 * 24 + i % 2] : x[i / 2 * 2];
    ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, problem.x.shape(), x).view(), problem.x.view());
    for (const char* name : {"tiny", "tiny-eigen", "tiny-joint", "tiny-fisher", "gradmax"}) {
      INFO(net.name, ", ", name);
      const auto proposal = problem.propose(problem.site, 100, method_options(ms::grow::parse_method(name)));
      const std::int64_t units = proposal.insertion.units;
      CAPTURE(units);
      CAPTURE(proposal.report.note);
      CHECK(units >= 1);
      CHECK(units <= rank);
      CHECK(contains(proposal.report.note, ms::concat("asked for 100 units, of which ", units, " are significant")));
    }
  }
}

TEST_CASE("growth methods: statistics that are not finite are refused with the site's name") {
  for (const auto& net : method_nets()) {
    for (const char* name : {"tiny", "tiny-joint", "gradmax", "nest", "north", "random"}) {
      INFO(net.name, ", ", name);
      MethodProblem problem(net, Activation::tanh);
      const auto nan = ms::from_host<double>(problem.ctx, {1}, {std::numeric_limits<double>::quiet_NaN()});
      ms::copy<double>(problem.ctx, nan.view(), problem.x.view().reshape({problem.x.size()}).slice(0, 7, 8));
      const auto text = message_of<ms::NumericError>(
          [&] { (void)problem.propose(problem.site, 2, method_options(ms::grow::parse_method(name))); });
      CHECK(contains(text, "site " + net.site + ": "));
    }
  }
}

TEST_CASE("passes: batches change no result, and a method that reads nothing is shown one batch") {
  for (const auto& net : method_nets()) {
    for (const char* name : {"tiny-joint", "tiny-fisher", "gradmax", "senn", "firefly", "random"}) {
      INFO(net.name, ", ", name);
      // Batch statistics depend on the batch.
      if (net.name == "resnet") continue;
      MethodProblem whole(net, Activation::tanh), parts(net, Activation::tanh);
      const auto expected = whole.propose(whole.site, 2, method_options(ms::grow::parse_method(name)));
      ms::grow::detail::SharedPasses<double> shared(parts.net, parts.criterion);
      const auto proposals = shared.measure(
          parts.ctx, {parts.site}, method_options(ms::grow::parse_method(name)),
          [&](const auto& use) {
            for (std::int64_t begin = 0; begin < parts.n; begin += 13) {
              const std::int64_t end = std::min(begin + 13, parts.n);
              use({.inputs = parts.x.view().slice(0, begin, end), .labels = parts.labels.view().slice(0, begin, end)});
            }
          },
          [](const ms::grow::Site<double>&, std::int64_t, const ms::grow::Choice*) { return std::int64_t{2}; });
      REQUIRE(proposals.size() == 1);
      const auto& found = proposals.front();
      REQUIRE(found.insertion.units == expected.insertion.units);
      CHECK(found.report.gain == doctest::Approx(expected.report.gain).epsilon(1e-9));
      CHECK(found.report.slope == doctest::Approx(expected.report.slope).epsilon(1e-9));
      const double samples = std::string(name) == "random" ? 13.0 : 48.0;
      const double passes =
          shared.take_operations() / (4.0 * samples * static_cast<double>(parts.net.multiply_adds({1, 4, 3, 2})));
      const bool vectors = net.name == "mlp";
      if (std::string(name) == "random" || name == std::string("gradmax")) CHECK(passes == doctest::Approx(1.0));
      if (std::string(name) == "firefly") CHECK(passes > 4.0);
      if (std::string(name) == "tiny-joint") CHECK(passes == doctest::Approx(vectors ? 1.0 : 3.0));
    }
  }
}

TEST_CASE("growth methods: a Cholesky route that gives way is recorded in the choice, between vectors and maps") {
  ms::Context ctx({.seed = 3});
  const auto tensor = [&](std::int64_t rows, std::int64_t columns, const std::vector<double>& values) {
    return ms::from_host<double>(ctx, {rows, columns}, values);
  };
  for (const bool spatial : {false, true}) {
    for (const double off_diagonal : {0.5, 1.008}) {  // no second moment has the latter: rounding gone too far
      INFO("spatial ", spatial, ", off the diagonal ", off_diagonal);
      ms::grow::SiteMoments site;
      site.name = "a";
      site.inputs = 2;
      site.outputs = 1;
      site.spatial = spatial;
      site.move_weights = false;
      site.max_units = 1;
      site.damping = 0.0;
      site.moments.s = tensor(2, 2, {1.0, off_diagonal, off_diagonal, 1.0});
      site.moments.m = tensor(2, 1, {1.0, 1.0});
      site.moments.goal_norm2 = 10.0;
      site.moments.samples = 100;
      site.moments.resolution = 1e-7;
      site.n = tensor(2, 1, {1.0, 1.0});
      const ms::grow::Choice choice = ms::grow::tiny()->choose(ctx, site);
      CHECK(choice.insertion.units == 1);
      // nᵀ S⁺ n = |n|² / (1 + s)
      CHECK(choice.lambda.at(0) == doctest::Approx(std::sqrt(2.0 / (1.0 + off_diagonal))).epsilon(1e-5));
      CHECK(contains(choice.note, "fell back to the eigen route: rounding errors outweigh") == (off_diagonal > 1.0));
    }
  }
}

TEST_CASE("growth solver: a Krylov space that does not converge gives way to all eigenvectors, and the note says so") {
  ms::Context ctx({.seed = 3});
  const std::int64_t n = 520;
  const auto noise = ms::from_host<double>(ctx, {n, n}, support::normal_values<double>(n * n, 5));
  auto s = ms::zeros<double>(ctx, {n, n});
  std::vector<double> identity(static_cast<std::size_t>(n * n), 0.0);
  for (std::int64_t i = 0; i < n; ++i) identity[static_cast<std::size_t>(i * (n + 1))] = 1.0;
  ms::copy<double>(ctx, ms::from_host<double>(ctx, {n, n}, identity).view(), s.view());
  const auto converged = ms::grow::new_units<double>(ctx, s.view(), noise.view(), {.max_units = 4});
  const auto gave_way =
      ms::grow::new_units<double>(ctx, s.view(), noise.view(), {.max_units = 4, .max_krylov_blocks = 1});
  CHECK(converged.note.empty());
  CHECK(gave_way.note == "fell back to all eigenvectors: the block Krylov space did not converge");
  REQUIRE(gave_way.units == converged.units);
  for (std::size_t k = 0; k < 4; ++k) CHECK(gave_way.lambda[k] == doctest::Approx(converged.lambda[k]).epsilon(1e-4));
}

TEST_SUITE_END();

}  // namespace grow_methods_test
