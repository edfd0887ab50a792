// What units do before they are inserted, against plain loops over patches.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/grow/measure/unit_effects.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <support/map_problem.hpp>
#include <support/plain_maps.hpp>
#include <support/units_on_host.hpp>

namespace grow_unit_effects_test {

namespace ms = meristem;
using ms::grow::detail::UnitEffects;
using ms::nn::Activation;
using support::HostInsertion;
using support::MapJoint;
using support::on_device;
using support::PlainMaps;
using support::Pooling;

namespace {

struct Effects {
  std::vector<double> positive, negative, mean, variance;
  double move_norm2 = 0.0;
};

/// α_kᵀ[b 1] at every hidden position of a sample, as a map (y, x).
std::vector<double> pre_activation(const PlainMaps& plain, const HostInsertion& insertion, std::int64_t k,
                                   std::int64_t i) {
  const ms::Extent2 hidden = plain.joint().hidden();
  std::vector<double> map;
  for (std::int64_t y = 0; y < hidden.y; ++y) {
    for (std::int64_t x = 0; x < hidden.x; ++x) {
      const auto b = plain.patch(i, y, x);
      double sum = 0.0;
      for (std::size_t j = 0; j < b.size(); ++j) {
        sum += insertion.fan_in[static_cast<std::size_t>(k * insertion.inputs) + j] * b[j];
      }
      map.push_back(sum);
    }
  }
  return map;
}

/// The unit at a pooled position: the limit of its activation at small amplitudes, and its pooling.
double through(const PlainMaps& plain, const std::vector<double>& h, double sign, std::int64_t u, std::int64_t v) {
  const MapJoint& joint = plain.joint();
  const auto activate = [&](double value) {
    if (joint.activation == Activation::relu) return std::max(value, 0.0);
    return joint.activation == Activation::silu ? 0.5 * value : value;  // the slope at 0; of tanh 1
  };
  double largest = -std::numeric_limits<double>::infinity(), sum = 0.0, count = 0.0;
  plain.for_each_pooled(u, v, [&](std::int64_t y, std::int64_t x) {
    const double raw = sign * h[static_cast<std::size_t>(y * joint.hidden().x + x)];
    const double value = joint.pool_first ? raw : activate(raw);
    largest = std::max(largest, value);
    sum += value;
    count += 1.0;
  });
  const double pooled = joint.pooling == Pooling::maximum ? largest : sum / count;
  return joint.pool_first ? activate(pooled) : pooled;
}

/// What the units add to every output of the consumer, without activation, and with means for maxima.
std::vector<double> move_of(const PlainMaps& plain, const HostInsertion& insertion) {
  const MapJoint& joint = plain.joint();
  const bool centre = insertion.taps == 1 && joint.consumer().kernel.size() > 1;
  std::vector<double> result;
  plain.for_each_output([&](std::int64_t i, std::int64_t oy, std::int64_t ox) {
    std::vector<double> sums(static_cast<std::size_t>(joint.out), 0.0);
    plain.for_each_tap(centre, oy, ox, [&](std::int64_t tap, std::int64_t u, std::int64_t v) {
      const auto b = plain.pooled_patch(i, u, v);
      for (std::int64_t k = 0; k < insertion.units; ++k) {
        double h = 0.0;
        for (std::size_t j = 0; j < b.size(); ++j) {
          h += insertion.fan_in[static_cast<std::size_t>(k * insertion.inputs) + j] * b[j];
        }
        for (std::int64_t m = 0; m < joint.out; ++m) {
          const auto at = static_cast<std::size_t>((k * insertion.taps + tap) * joint.out + m);
          sums[static_cast<std::size_t>(m)] += h * insertion.fan_out[at];
        }
      }
    });
    result.insert(result.end(), sums.begin(), sums.end());
  });
  return result;
}

Effects plain_effects(const PlainMaps& plain, const HostInsertion& insertion) {
  const MapJoint& joint = plain.joint();
  const bool centre = insertion.taps == 1 && joint.consumer().kernel.size() > 1;
  const double n = static_cast<double>(plain.samples());
  Effects result;
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    std::vector<std::vector<double>> h;
    std::vector<double> all;
    for (std::int64_t i = 0; i < plain.samples(); ++i) {
      h.push_back(pre_activation(plain, insertion, k, i));
      all.insert(all.end(), h.back().begin(), h.back().end());
    }
    double mean = 0.0, variance = 0.0;
    for (const double value : all) mean += value / static_cast<double>(all.size());
    for (const double value : all) variance += (value - mean) * (value - mean) / static_cast<double>(all.size());
    result.mean.push_back(mean);
    result.variance.push_back(variance);
    for (const double sign : {1.0, -1.0}) {
      double sum = 0.0;
      plain.for_each_output([&](std::int64_t i, std::int64_t oy, std::int64_t ox) {
        plain.for_each_tap(centre, oy, ox, [&](std::int64_t tap, std::int64_t u, std::int64_t v) {
          const double unit = through(plain, h[static_cast<std::size_t>(i)], sign, u, v);
          for (std::int64_t m = 0; m < joint.out; ++m) {
            const auto at = static_cast<std::size_t>((k * insertion.taps + tap) * joint.out + m);
            sum += unit * sign * insertion.fan_out[at] * plain.goal(i, oy, ox, m);
          }
        });
      });
      (sign > 0 ? result.positive : result.negative).push_back(sum / n);
    }
  }
  result.move_norm2 = plain.norm2(move_of(plain, insertion));
  return result;
}

/// Random units for a site.
HostInsertion random_units(const MapJoint& joint, std::int64_t units, bool centre) {
  HostInsertion result;
  result.units = units;
  result.inputs = joint.p();
  result.outputs = joint.out;
  result.taps = centre ? 1 : joint.consumer().kernel.size();
  result.fan_in = support::normal_values<double>(units * joint.p(), 21, 0.5);
  result.fan_out = support::normal_values<double>(units * result.taps * joint.out, 22, 0.5);
  return result;
}

template <class T>
void check_effects(const MapJoint& joint, bool centre, const std::vector<std::int64_t>& ends) {
  const std::int64_t n = ends.back();
  ms::Context ctx({.seed = 3});
  ms::nn::Sequential<T> net;
  joint.build(ctx, net);
  const auto site = ms::grow::find_sites<T>(net).front();
  const auto x = support::normal_values<T>(joint.unit_shape(n).size(), 5);
  const auto v = support::normal_values<T>(joint.goal_shape(n).size(), 6);
  const auto there = ms::from_host<T>(ctx, joint.unit_shape(n), x),
             goal = ms::from_host<T>(ctx, joint.goal_shape(n), v);
  HostInsertion units = random_units(joint, 3, centre);
  for (double& value : units.fan_in) value = static_cast<double>(static_cast<T>(value));
  for (double& value : units.fan_out) value = static_cast<double>(static_cast<T>(value));

  UnitEffects<T> effects(ctx, site, on_device(ctx, units));
  std::int64_t begin = 0;
  for (const std::int64_t end : ends) {
    effects.update(ctx, there.view().slice(0, begin, end), goal.view().slice(0, begin, end));
    begin = end;
  }
  const Effects expected = plain_effects(PlainMaps(joint, n, support::to_double(x), {}, support::to_double(v)), units);
  // Sums over at most 6 · 88 positions, of numbers of order 1 that are themselves sums of at most 30 products.
  const double tolerance = 1000 * support::eps<T>;
  std::vector<double> positive, negative, mean, variance;
  for (std::int64_t k = 0; k < 3; ++k) {
    positive.push_back(effects.positive(k));
    negative.push_back(effects.negative(k));
    mean.push_back(effects.mean(k));
    variance.push_back(effects.variance(k));
  }
  support::check_close(positive, expected.positive, tolerance, "positive");
  support::check_close(negative, expected.negative, tolerance, "negative");
  if (joint.norm) {
    support::check_close(mean, expected.mean, tolerance, "mean");
    support::check_close(variance, expected.variance, tolerance, "variance");
  }
  if (units.taps > 1) {
    CHECK(effects.move_norm2() == doctest::Approx(expected.move_norm2).epsilon(tolerance));
  }
}

/// All joints, with batch normalisation where something follows it.
std::vector<MapJoint> joints_with(Activation activation, bool norm, bool pool_first) {
  std::vector<MapJoint> result;
  for (MapJoint joint : support::map_joints()) {
    joint.activation = activation;
    joint.norm = norm;
    joint.pool_first = pool_first;
    if (pool_first && joint.pooling == Pooling::none) continue;
    result.push_back(joint);
  }
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("unit effects: both signs, moments and the norm of the move, for every joint and activation") {
  for (const Activation activation : {Activation::identity, Activation::relu, Activation::tanh, Activation::silu}) {
    for (const bool norm : {false, true}) {
      for (const bool pool_first : {false, true}) {
        for (const MapJoint& joint : joints_with(activation, norm, pool_first)) {
          for (const bool centre : {false, true}) {
            if (centre && joint.linear_consumer) continue;
            INFO(joint.name, ", ", ms::kernels::activation_name(activation), ", norm ", norm, ", pool first ",
                 pool_first, ", centre ", centre);
            check_effects<double>(joint, centre, {6});
          }
        }
      }
    }
  }
}

TEST_CASE("unit effects: without biases, in batches, in float32") {
  for (MapJoint joint : joints_with(Activation::relu, true, false)) {
    INFO(joint.name);
    check_effects<double>(joint, false, {1, 4, 6});
    check_effects<float>(joint, false, {2, 6});
    joint.producer_bias = joint.consumer_bias = false;
    check_effects<double>(joint, false, {6});
  }
}

TEST_CASE("unit effects: far from zero the variance keeps its digits") {
  MapJoint joint = support::map_joints().front();
  joint.norm = true;
  HostInsertion units = random_units(joint, 2, false);
  // The bias alone makes the mean a million times the deviation.
  for (std::int64_t k = 0; k < 2; ++k) units.fan_in[static_cast<std::size_t>((k + 1) * joint.p() - 1)] = 1e6;
  ms::Context ctx({.seed = 3});
  ms::nn::Sequential<double> net;
  joint.build(ctx, net);
  const auto x = support::normal_values<double>(joint.unit_shape(8).size(), 5);
  const auto v = support::normal_values<double>(joint.goal_shape(8).size(), 6);
  const auto there = ms::from_host<double>(ctx, joint.unit_shape(8), x);
  const auto goal = ms::from_host<double>(ctx, joint.goal_shape(8), v);
  UnitEffects<double> effects(ctx, ms::grow::find_sites<double>(net).front(), on_device(ctx, units));
  for (std::int64_t i = 0; i < 8; ++i) {
    effects.update(ctx, there.view().slice(0, i, i + 1), goal.view().slice(0, i, i + 1));
  }
  const Effects expected = plain_effects(PlainMaps(joint, 8, x, {}, v), units);
  for (std::int64_t k = 0; k < 2; ++k) {
    CHECK(effects.mean(k) == doctest::Approx(expected.mean[static_cast<std::size_t>(k)]).epsilon(1e-14));
    // Deviations of order 1 hold 1e6 roundings; squares summed plainly would keep no more than four digits.
    CHECK(effects.variance(k) == doctest::Approx(expected.variance[static_cast<std::size_t>(k)]).epsilon(1e-9));
  }
}

TEST_CASE("unit effects: D+ + D- is what a unit without activation would bring, and each sign's own is exact") {
  // The units' own slope, from the definition: ⟨N with V_goal, A⟩.
  for (const MapJoint& joint : joints_with(Activation::relu, false, false)) {
    if (joint.pooling == Pooling::maximum) continue;  // a maximum has no sum of both signs
    INFO(joint.name);
    const auto x = support::normal_values<double>(joint.unit_shape(6).size(), 5);
    const auto v = support::normal_values<double>(joint.goal_shape(6).size(), 6);
    const PlainMaps plain(joint, 6, x, {}, v);
    const HostInsertion units = random_units(joint, 3, false);
    ms::Context ctx;
    ms::nn::Sequential<double> net;
    joint.build(ctx, net);
    UnitEffects<double> effects(ctx, ms::grow::find_sites<double>(net).front(), on_device(ctx, units));
    effects.update(ctx, ms::from_host<double>(ctx, joint.unit_shape(6), x),
                   ms::from_host<double>(ctx, joint.goal_shape(6), v));
    const support::Dense m = plain.cross(false, v);
    for (std::int64_t k = 0; k < 3; ++k) {
      double both = 0.0;
      for (std::int64_t j = 0; j < m.rows; ++j) {
        for (std::int64_t c = 0; c < m.columns; ++c) {
          both += units.fan_in[static_cast<std::size_t>(k * m.rows + j)] * m(j, c) *
                  units.fan_out[static_cast<std::size_t>(k * m.columns + c)];
        }
      }
      CHECK(effects.positive(k) + effects.negative(k) == doctest::Approx(both).epsilon(1e-10));
    }
  }
}

TEST_CASE("unit effects: choose_signs turns exactly the units that bring more when turned") {
  MapJoint joint = support::map_joints().front();
  joint.activation = Activation::relu;
  joint.norm = true;
  HostInsertion before = random_units(joint, 8, false);
  before.mean = support::normal_values<double>(8, 31);
  before.variance = std::vector<double>(8, 2.0);
  ms::Context ctx;
  ms::nn::Sequential<double> net;
  joint.build(ctx, net);
  ms::grow::Insertion there = on_device(ctx, before);
  std::vector<UnitEffects<double>> all;
  UnitEffects<double>& effects = all.emplace_back(ctx, ms::grow::find_sites<double>(net).front(), there);
  const auto x = support::normal_values<double>(joint.unit_shape(6).size(), 5);
  const auto v = support::normal_values<double>(joint.goal_shape(6).size(), 6);
  effects.update(ctx, ms::from_host<double>(ctx, joint.unit_shape(6), x),
                 ms::from_host<double>(ctx, joint.goal_shape(6), v));
  const Effects expected = plain_effects(PlainMaps(joint, 6, x, {}, v), before);
  const std::vector<double> slopes = ms::grow::choose_signs(ctx, all, there);
  const HostInsertion units = support::on_host(ctx, there);
  REQUIRE(slopes.size() == 8);
  int turned = 0;
  const auto check_times = [](const std::vector<double>& now, const std::vector<double>& then, std::size_t k,
                              std::size_t each, double sign) {
    for (std::size_t i = k * each; i < (k + 1) * each; ++i) CHECK(now[i] == sign * then[i]);
  };
  for (std::size_t k = 0; k < 8; ++k) {
    const bool turn = expected.negative[k] > expected.positive[k];
    turned += turn ? 1 : 0;
    // Sums of some hundred products in double precision.
    CHECK(slopes[k] == doctest::Approx(std::max(expected.negative[k], expected.positive[k])).epsilon(1e-10));
    const double sign = turn ? -1.0 : 1.0;
    check_times(units.fan_in, before.fan_in, k, static_cast<std::size_t>(before.inputs), sign);
    check_times(units.fan_out, before.fan_out, k, static_cast<std::size_t>(before.taps * before.outputs), sign);
    check_times(units.mean, before.mean, k, 1, sign);
  }
  CHECK(units.variance == before.variance);
  CHECK(turned > 0);
  CHECK(turned < 8);
}

TEST_CASE("unit effects: units that do not fit the site are refused") {
  const MapJoint joint = support::map_joints().front();
  ms::Context ctx;
  ms::nn::Sequential<double> net;
  joint.build(ctx, net);
  const auto site = ms::grow::find_sites<double>(net).front();
  HostInsertion units = random_units(joint, 2, false);
  units.fan_in.pop_back();
  CHECK(support::contains(
      support::message_of<ms::ShapeError>([&] { UnitEffects<double>(ctx, site, on_device(ctx, units)); }),
      "site a: 2 units have "));
}

TEST_CASE("unit effects: the amplitude of several taps leaves least of the residual") {
  // Of all multiples c of the proposed units, 1 leaves least of (1/n) ‖V_proj - c · move‖².
  for (const MapJoint& joint : joints_with(Activation::tanh, false, false)) {
    if (joint.consumer().kernel.size() == 1) continue;
    INFO(joint.name);
    support::MapProblem problem(48, {joint.map.y, joint.map.x, joint.in}, [&](ms::Context& ctx, auto& net) {
      joint.build(ctx, net);
      const auto shape = net.output_shape(joint.unit_shape(1));
      if (shape.rank() == 4) net.template add<ms::nn::GlobalAveragePool<double>>("mean");
    });
    const auto site = ms::grow::find_sites(problem.net).front();
    const auto proposal = problem.propose(site, 2);
    REQUIRE(proposal.insertion.units == 2);
    std::vector<double> x, z, v;
    using Maps = ms::View<const double>;
    problem.visit({site}, [&](ms::Context& ctx, std::size_t, Maps unit, Maps consumer, Maps goal) {
      x = ms::to_host(ctx, unit);
      z = ms::to_host(ctx, consumer);
      v = ms::to_host(ctx, goal);
    });
    const PlainMaps plain(joint, 48, x, z, v);
    support::Dense best(joint.out, joint.d());
    best.values = ms::to_host(problem.ctx, proposal.insertion.move);
    const auto residual = plain.residual(best),
               move = move_of(plain, support::on_host(problem.ctx, proposal.insertion));
    const auto left = [&](double c) {
      std::vector<double> difference = residual;
      for (std::size_t i = 0; i < move.size(); ++i) difference[i] -= c * move[i];
      return plain.norm2(difference);
    };
    // The minimum of the parabola through three points.
    const double a = left(0.5), b = left(1.0), c = left(1.5);
    CHECK(1.0 - 0.25 * (c - a) / (a - 2.0 * b + c) == doctest::Approx(1.0).epsilon(1e-7));
    CHECK(b < left(0.0));
    // The slope in the report is that of the rescaled units.
    const double gamma = 1e-7;
    const double measured =
        problem.loss() - problem.loss_with(ms::grow::make_edit(problem.ctx, site, proposal.insertion, gamma));
    CHECK(measured / (gamma * proposal.report.slope) == doctest::Approx(1.0).epsilon(0.02));
  }
}

TEST_CASE("unit effects: in the outputs' Fisher metric the units of several taps gain what they cost") {
  // c ⟨N, A⟩ - c² Q(A) / 2 is largest at c = 1 where ⟨N, A⟩ = Q(A) = (1/n) Σ mᵀ E m, here by plain loops.
  for (const MapJoint& joint : joints_with(Activation::tanh, false, false)) {
    if (joint.consumer().kernel.size() == 1) continue;
    INFO(joint.name);
    support::MapProblem problem(48, {joint.map.y, joint.map.x, joint.in}, [&](ms::Context& ctx, auto& net) {
      joint.build(ctx, net);
      const auto shape = net.output_shape(joint.unit_shape(1));
      if (shape.rank() == 4) net.template add<ms::nn::GlobalAveragePool<double>>("mean");
    });
    const auto site = ms::grow::find_sites(problem.net).front();
    std::vector<double> x, z, v;
    using Maps = ms::View<const double>;
    problem.visit({site}, [&](ms::Context& ctx, std::size_t, Maps unit, Maps consumer, Maps goal) {
      x = ms::to_host(ctx, unit);
      z = ms::to_host(ctx, consumer);
      v = ms::to_host(ctx, goal);
    });
    const PlainMaps plain(joint, 48, x, z, v);
    support::Dense best(joint.out, joint.d());
    best.values = ms::to_host(problem.ctx, problem.propose(site, 2).insertion.move);
    const auto residual = plain.residual(best);
    const std::size_t q = static_cast<std::size_t>(joint.out);
    std::vector<double> fisher(q * q, 0.0);
    for (std::size_t row = 0; row < v.size() / q; ++row) {
      for (std::size_t i = 0; i < q; ++i) {
        for (std::size_t j = 0; j < q; ++j) fisher[i * q + j] += v[row * q + i] * v[row * q + j] / 48.0;
      }
    }
    const auto proposal =
        problem.propose(site, 2, {.method = ms::grow::tiny_fisher(), .damping = 0.0, .significance = 0.0});
    REQUIRE(proposal.insertion.units == 2);
    const auto move = move_of(plain, support::on_host(problem.ctx, proposal.insertion));
    REQUIRE(move.size() == residual.size());
    double gained = 0.0, cost = 0.0;
    for (std::size_t row = 0; row < move.size() / q; ++row) {
      for (std::size_t i = 0; i < q; ++i) {
        gained += residual[row * q + i] * move[row * q + i] / 48.0;
        for (std::size_t j = 0; j < q; ++j) cost += fisher[i * q + j] * move[row * q + i] * move[row * q + j] / 48.0;
      }
    }
    CHECK(gained == doctest::Approx(cost).epsilon(1e-6));
    const double gamma = 1e-7;
    const double measured =
        problem.loss() - problem.loss_with(ms::grow::make_edit(problem.ctx, site, proposal.insertion, gamma));
    CHECK(measured / (gamma * proposal.report.slope) == doctest::Approx(1.0).epsilon(0.02));
  }
}

TEST_SUITE_END();

}  // namespace grow_unit_effects_test
