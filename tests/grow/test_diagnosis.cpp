// How units fare, against plain loops over weights and gradients.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include <meristem/grow/measure/diagnosis.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/method_problem.hpp>
#include <support/units_on_host.hpp>

namespace grow_diagnosis_test {

namespace ms = meristem;
using support::MethodProblem;

namespace {

double norm(const std::vector<double>& values) {
  double squares = 0.0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

/// The numbers of a tensor (units, rest) or, with `last`, (rest, positions, units) that belong to one unit.
std::vector<double> of_unit(const std::vector<double>& all, std::int64_t unit, std::int64_t width, bool last) {
  std::vector<double> result;
  const std::int64_t size = static_cast<std::int64_t>(all.size()), each = size / width;
  for (std::int64_t i = 0; i < size; ++i) {
    if ((last ? i % width : i / each) == unit) result.push_back(all[static_cast<std::size_t>(i)]);
  }
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("diagnosis: norms, gradients and dead units by growth stage, for every way of joining two layers") {
  for (const auto& net : support::method_nets()) {
    INFO(net.name);
    MethodProblem problem(net, ms::nn::Activation::relu);
    ms::Context& ctx = problem.ctx;
    ms::optim::Sgd<double> sgd(problem.net, {.learning_rate = 0.1, .momentum = 0.9});
    const auto& site = problem.site;
    const std::int64_t before = site.width();
    const ms::nn::BatchView<double> batch{.inputs = problem.x, .labels = problem.labels};
    for (int step = 0; step < 3; ++step) ms::train::step<double>(ctx, problem.net, batch, sgd, problem.criterion);
    const auto proposal = problem.propose(site, 2, {.method = ms::grow::random_units(), .significance = 0.0});
    support::HostInsertion insertion = support::on_host(ctx, proposal.insertion);
    REQUIRE(insertion.units == 2);
    // Two copies of a unit that no sample reaches: its bias lies far below, or its norm's shift.
    if (site.producer.norm()) {
      insertion.norm_shift.assign(2, -100.0);
    } else {
      for (std::size_t k = 1; k <= 2; ++k) insertion.fan_in[k * static_cast<std::size_t>(insertion.inputs) - 1] = -1e3;
    }
    ms::grow::apply<double>(ctx, ms::grow::make_edit<double>(ctx, site, support::on_device(ctx, insertion), 1.0),
                            problem.net, &sgd);
    ms::train::step<double>(ctx, problem.net, batch, sgd, problem.criterion);

    const auto found = ms::grow::diagnose<double>(ctx, problem.net, sgd, {site}, batch, problem.criterion);
    REQUIRE(found.size() == 2);
    CHECK(found[0].site == site.name);
    CHECK(found[1].site == site.name);
    const auto &in = site.producer.weight(), &out = site.consumer.weight();
    const auto w = ms::to_host(ctx, in.value), g = ms::to_host(ctx, in.gradient), v = ms::to_host(ctx, out.value),
               h = ms::to_host(ctx, out.gradient);
    const std::int64_t width = before + 2;
    for (const std::int64_t stage : {0, 1}) {
      const auto& s = found[static_cast<std::size_t>(stage)];
      CHECK(s.first_step == (stage == 0 ? 1 : 4));
      CHECK(s.units == (stage == 0 ? before : 2));
      double fan_in = 0.0, fan_out = 0.0;
      std::vector<double> weights, gradients, reads, read_gradients;
      for (std::int64_t k = stage == 0 ? 0 : before; k < (stage == 0 ? before : width); ++k) {
        const auto append = [&](std::vector<double>& to, const std::vector<double>& from, bool last) {
          const auto mine = of_unit(from, k, width, last);
          to.insert(to.end(), mine.begin(), mine.end());
          return norm(mine);
        };
        fan_in += append(weights, w, false) / static_cast<double>(s.units);
        fan_out += append(reads, v, true) / static_cast<double>(s.units);
        append(gradients, g, false);
        append(read_gradients, h, true);
      }
      CHECK(s.fan_in_norm == doctest::Approx(fan_in));
      CHECK(s.fan_out_norm == doctest::Approx(fan_out));
      CHECK(s.relative_gradient == doctest::Approx(norm(gradients) / norm(weights)));
      const double reading = norm(reads);
      CHECK(s.fan_out_gradient == doctest::Approx(reading > 0.0 ? norm(read_gradients) / reading : 0.0));
      if (!site.producer.norm()) CHECK(s.norm_weight == 1.0);
      if (stage == 1) CHECK(s.dead == 1.0);
      if (stage == 0) CHECK(s.dead < 1.0);
    }
  }
}

TEST_CASE("diagnosis: a site without units has no stages") {
  ms::Context ctx({.seed = 1});
  ms::nn::Sequential<float> net;
  net.add<ms::nn::Linear<float>>("a", ctx, 4, 0);
  net.add<ms::nn::ActivationLayer<float>>("f", ms::nn::Activation::relu);
  net.add<ms::nn::Linear<float>>("b", ctx, 0, 3);
  net.add<ms::nn::ActivationLayer<float>>("g", ms::nn::Activation::relu);
  net.add<ms::nn::Linear<float>>("c", ctx, 3, 2);
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.1});
  const auto x = ms::from_host<float>(ctx, {5, 4}, support::normal_values<float>(20, 1));
  const auto labels = ms::from_host<std::int32_t>(ctx, {5}, std::vector<std::int32_t>{0, 1, 1, 0, 1});
  const auto found =
      ms::grow::diagnose<float>(ctx, net, sgd, ms::grow::find_sites<float>(net), {.inputs = x, .labels = labels});
  REQUIRE(found.size() == 1);
  CHECK(found[0].site == "b");
}

TEST_SUITE_END();

}  // namespace grow_diagnosis_test
