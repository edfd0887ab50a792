// What methods predict to first order against what the loss does, on perceptrons, VGG and residual networks; and the
// joint solution and the Fisher metric of maps against those of vectors.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <meristem/grow/solve/solve.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <support/method_problem.hpp>
#include <support/units_on_host.hpp>

namespace grow_method_slopes_test {

namespace ms = meristem;
using ms::grow::FanOut;
using ms::nn::Activation;
using support::method_nets;
using support::MethodProblem;

namespace {

/// The three kinds of networks: perceptron, VGG (within a stage, through a maximum, to a Linear) and residual.
std::vector<support::MethodNet> slope_nets() {
  std::vector<support::MethodNet> nets = method_nets();
  nets.push_back({"vgg within a stage", "a", [](ms::Context& ctx, support::MapProblem::Net& net, Activation f) {
                    static const ms::nn::Conv2dOptions conv3{.kernel = 3, .padding = 1};
                    net.add<ms::nn::Conv2d<double>>("a", ctx, 2, 3, conv3);
                    net.add<ms::nn::ActivationLayer<double>>("f", f);
                    net.add<ms::nn::Conv2d<double>>("b", ctx, 3, 4, conv3);
                    net.add<ms::nn::ActivationLayer<double>>("g", Activation::tanh);
                    net.add<ms::nn::Flatten<double>>("flatten");
                    net.add<ms::nn::Linear<double>>("out", ctx, 48, 3);
                  }});
  return nets;
}

/// Gradients of the mean loss at the fan-ins of the units from `width` on, by the network's own backward pass, in the
/// layout of Insertion.
std::vector<double> fan_in_gradients(MethodProblem& problem, std::int64_t width) {
  const auto trace = problem.net.forward(problem.ctx, problem.x, {});
  auto value = problem.criterion.operator()<double>(problem.ctx, trace.output, problem.labels.view());
  (void)problem.net.backward(problem.ctx, problem.x, trace, std::move(value.gradient), {});
  const auto weights = ms::to_host(problem.ctx, problem.site.producer.weight().gradient);
  const auto biases = ms::to_host(problem.ctx, problem.site.producer.bias().gradient);
  const std::size_t each = weights.size() / biases.size();
  std::vector<double> result;
  for (std::size_t k = static_cast<std::size_t>(width); k < biases.size(); ++k) {
    for (std::size_t i = 0; i < each; ++i) result.push_back(weights[k * each + i]);
    result.push_back(biases[k]);
  }
  return result;
}

/// Adds to the fan-ins of the units from `width` on.
void move_fan_ins(MethodProblem& problem, std::int64_t width, const std::vector<double>& change) {
  auto weights = ms::to_host(problem.ctx, problem.site.producer.weight().value);
  auto biases = ms::to_host(problem.ctx, problem.site.producer.bias().value);
  const std::size_t each = weights.size() / biases.size();
  for (std::size_t at = 0, k = static_cast<std::size_t>(width); k < biases.size(); ++k) {
    for (std::size_t i = 0; i < each; ++i) weights[k * each + i] += change[at++];
    biases[k] += change[at++];
  }
  const auto write = [&](ms::nn::Parameter<double>& to, const std::vector<double>& values) {
    ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, to.value.shape(), values).view(), to.value.view());
  };
  write(problem.site.producer.weight(), weights);
  write(problem.site.producer.bias(), biases);
}

double sum_of_squares(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value * value;
  return sum;
}

ms::grow::detail::MeasurementOptions slope_options(ms::grow::Method method, FanOut fan_out = FanOut::full) {
  return {.method = std::move(method), .fan_out = fan_out, .damping = 0.0, .significance = 0.0};
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("slope of methods: predicted and measured decrease agree within 5 % at small amplitude") {
  // Where σ''(0) = 0 the quotient is 1 + O(γ), else 1 + O(√γ). Of a ReLU the slope is one-sided, for the better sign.
  for (const auto& net : slope_nets()) {
    for (const auto& how : {std::pair{Activation::tanh, 1e-7}, {Activation::silu, 1e-9}, {Activation::relu, 1e-8}}) {
      const Activation f = how.first;
      const double gamma = how.second;
      for (const char* name : {"tiny", "tiny-joint", "tiny-fisher"}) {
        for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
          if (fan_out == FanOut::centre && (net.name == "mlp" || f != Activation::tanh)) continue;
          INFO(net.name, ", activation ", ms::kernels::activation_name(f), ", ", name, ", full ",
               fan_out == FanOut::full);
          MethodProblem problem(net, f);
          const auto proposal = problem.propose(problem.site, 3, slope_options(ms::grow::parse_method(name), fan_out));
          REQUIRE(proposal.insertion.units == 3);
          CHECK(proposal.report.slope > 0.0);
          const double measured = problem.loss() - problem.loss_with(ms::grow::make_edit(problem.ctx, problem.site,
                                                                                         proposal.insertion, gamma));
          CHECK(measured / (gamma * proposal.report.slope) == doctest::Approx(1.0).epsilon(0.05));
        }
      }
    }
  }
}

TEST_CASE("slope of methods: the joint solution gains D_W and the sum of its squares, and no unit less than alone") {
  for (const auto& net : method_nets()) {
    for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
      if (net.name == "vgg" || (fan_out == FanOut::centre && net.name == "mlp")) continue;
      INFO(net.name, ", full ", fan_out == FanOut::full);
      MethodProblem problem(net, Activation::tanh);
      const auto alone =
          problem.propose(problem.site, 3, slope_options(ms::grow::tiny(ms::grow::Route::eigen), fan_out));
      const auto joint =
          problem.propose(problem.site, 3, slope_options(ms::grow::tiny_joint(ms::grow::Route::eigen), fan_out));
      REQUIRE(joint.insertion.units == 3);
      for (std::size_t k = 0; k < 3; ++k) {
        CHECK(joint.report.lambda[k] >= alone.report.lambda[k] * (1 - 1e-9));
      }
      CHECK(joint.report.lambda[0] > 1.001 * alone.report.lambda[0]);
      // Where taps overlap the units are taken by a factor, and so is what they gain.
      const double gained = joint.report.slope - joint.report.best_move_decrease;
      if (joint.insertion.taps == 1) {
        CHECK(gained == doctest::Approx(joint.report.gain).epsilon(1e-6));
      } else {
        double squares = 0.0;
        for (const double w : ms::to_host(problem.ctx, joint.insertion.fan_out)) squares += w * w;
        double lambda = 0.0;
        for (std::size_t k = 0; k < 3; ++k) lambda += joint.report.lambda[k];
        CHECK(gained == doctest::Approx(squares / lambda * joint.report.gain).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("slope of methods: 1x1 convolutions take the joint solution and the metric of vectors on stacked positions") {
  support::MapProblem problem(30, {3, 4, 5}, [](ms::Context& ctx, support::MapProblem::Net& net) {
    net.add<ms::nn::Conv2d<double>>("a", ctx, 5, 2, ms::nn::Conv2dOptions{.kernel = 1});
    net.add<ms::nn::ActivationLayer<double>>("f", Activation::tanh);
    net.add<ms::nn::Conv2d<double>>("b", ctx, 2, 4, ms::nn::Conv2dOptions{.kernel = 1});
    net.add<ms::nn::ActivationLayer<double>>("g", Activation::tanh);
    net.add<ms::nn::GlobalAveragePool<double>>("mean");
    net.add<ms::nn::Linear<double>>("out", ctx, 4, 6);
  });
  const auto site = ms::grow::find_sites(problem.net).front();
  ms::grow::detail::RowStatistics<double> stacked(problem.ctx, 5, true, 2, true, 4, {.fisher = true});
  problem.visit({site}, [&](ms::Context&, std::size_t, ms::View<const double> unit, ms::View<const double> consumer,
                            ms::View<const double> goal) { stacked.update(problem.ctx, unit, consumer, goal); });
  for (const auto route : {ms::grow::Route::eigen, ms::grow::Route::cholesky}) {
    for (const bool joint : {false, true}) {
      for (const bool fisher : {false, true}) {
        INFO("route ", static_cast<int>(route), ", joint ", joint, ", fisher ", fisher);
        const auto solution =
            ms::grow::solve(problem.ctx, stacked.moments(problem.ctx),
                            {.route = route, .joint = joint, .fisher = fisher, .max_units = 2, .significance = 0.0});
        const auto proposal =
            problem.propose(site, 2,
                            slope_options(std::make_shared<const ms::grow::detail::Tiny>(
                                ms::grow::detail::Tiny::Options{.route = route, .joint = joint, .fisher = fisher})));
        const auto proposal_units = support::on_host(problem.ctx, proposal.insertion);
        REQUIRE(proposal.insertion.units == 2);
        // The Cholesky route adds a ridge of 1e-6.
        const double tolerance = route == ms::grow::Route::eigen ? 1e-8 : 1e-4;
        for (std::size_t k = 0; k < 3; ++k) {
          CHECK(proposal.report.lambda[k] == doctest::Approx(solution.lambda[k]).epsilon(tolerance));
        }
        CHECK(proposal.report.slope ==
              doctest::Approx(solution.first_order_gain + solution.returned_move_decrease).epsilon(tolerance));
        const auto move = ms::to_host(problem.ctx, solution.best_move);
        // Along the bias, which the weights express as well, only the reference route has one solution.
        if (route == ms::grow::Route::eigen) {
          CHECK(support::relative_distance(move, proposal_units.move) < 10 * tolerance);
        }
      }
    }
  }
}

TEST_CASE("slope of methods: GradMax's units receive the gradient it promises, and a step along it gains that") {
  constexpr double c = 1e-3;
  for (const auto& net : slope_nets()) {
    for (const Activation f : {Activation::tanh, Activation::silu}) {
      INFO(net.name, ", activation ", ms::kernels::activation_name(f));
      MethodProblem problem(net, f);
      const auto proposal = problem.propose(problem.site, 3, slope_options(ms::grow::gradmax(c)));
      const auto insertion = support::on_host(problem.ctx, proposal.insertion);
      REQUIRE(insertion.units == 3);
      const std::size_t m = insertion.fan_out.size() / 3;
      for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
          double dot = 0.0;
          for (std::size_t e = 0; e < m; ++e) dot += insertion.fan_out[i * m + e] * insertion.fan_out[j * m + e];
          CHECK(dot / (c * c) == doctest::Approx(i == j ? 1.0 : 0.0).epsilon(1e-9));
        }
      }
      const std::int64_t width = problem.site.width();
      ms::grow::apply<double>(problem.ctx, ms::grow::make_edit(problem.ctx, problem.site, proposal.insertion, 1.0),
                              problem.net);
      std::vector<double> step = fan_in_gradients(problem, width);
      const double slope = problem.site.slope_at_zero(), promised = c * c * slope * slope * proposal.report.gain;
      // What enters a maximum is zero everywhere for the new units: the gradient is that of one of equal elements, not
      // of their mean, and a step makes another one the largest.
      const bool maximum = net.name == "vgg";
      if (!maximum) CHECK(sum_of_squares(step) == doctest::Approx(promised).epsilon(1e-9));

      for (double& value : step) value = -value;
      support::HostInsertion stepped = insertion;
      stepped.fan_in = step;
      ms::grow::detail::UnitEffects<double> effects(problem.ctx, problem.site,
                                                    support::on_device(problem.ctx, stepped));
      problem.visit({problem.site}, [&](ms::Context&, std::size_t, ms::View<const double> unit, ms::View<const double>,
                                        ms::View<const double> goal) { effects.update(problem.ctx, unit, goal); });
      double predicted = 0.0;
      for (std::int64_t k = 0; k < 3; ++k) predicted += effects.positive(k);
      // A BatchNorm takes the mean out of what a step adds, which this slope does not.
      if (!maximum && !problem.site.producer.norm()) CHECK(predicted == doctest::Approx(promised).epsilon(1e-9));
      const double before = problem.loss();
      move_fan_ins(problem, width, step);
      CHECK((before - problem.loss()) / (maximum ? predicted : promised) == doctest::Approx(1.0).epsilon(0.05));
    }
  }
}

TEST_CASE("slope of methods: no other orthonormal fan-outs bring a larger gradient than GradMax's") {
  MethodProblem vectors(method_nets().front(), Activation::tanh);
  const auto samples = vectors.samples();
  const auto values = support::singular_values(samples.moment(samples.b2, samples.v));
  const auto leading = vectors.propose(vectors.site, 2, slope_options(ms::grow::gradmax(1.0)));
  CHECK(leading.report.gain == doctest::Approx(values[0] * values[0] + values[1] * values[1]).epsilon(1e-9));
  for (const auto& net : slope_nets()) {
    CAPTURE(net.name);
    if (net.name == "vgg") continue;  // see above
    MethodProblem problem(net, Activation::tanh);
    const auto proposal = problem.propose(problem.site, 2, slope_options(ms::grow::gradmax(1.0)));
    const auto proposal_units = support::on_host(problem.ctx, proposal.insertion);
    REQUIRE(proposal.insertion.units == 2);
    const auto m = static_cast<std::int64_t>(proposal_units.fan_out.size()) / 2;
    const std::int64_t width = problem.site.width();
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      support::Dense basis(2, m, proposal_units.fan_out);
      // The first time GradMax's own, then some close by and some far away.
      const auto noise = support::normal_values<double>(2 * m, seed + 1);
      for (std::size_t i = 0; i < noise.size(); ++i) {
        basis.values[i] += seed == 0 ? 0.0 : (seed < 4 ? 0.1 : 10.0) * noise[i];
      }
      for (int pass = 0; pass < 2; ++pass) {
        for (std::int64_t i = 0; i < 2; ++i) {
          for (std::int64_t j = 0; j < i; ++j) {
            double dot = 0.0;
            for (std::int64_t e = 0; e < m; ++e) dot += basis(i, e) * basis(j, e);
            for (std::int64_t e = 0; e < m; ++e) basis(i, e) -= dot * basis(j, e);
          }
          double squares = 0.0;
          for (std::int64_t e = 0; e < m; ++e) squares += basis(i, e) * basis(i, e);
          for (std::int64_t e = 0; e < m; ++e) basis(i, e) /= std::sqrt(squares);
        }
      }
      support::HostInsertion other = proposal_units;
      other.fan_out = basis.values;
      ms::grow::detail::StagedEdit<double> staged(
          problem.ctx, ms::grow::make_edit(problem.ctx, problem.site, support::on_device(problem.ctx, other), 1.0),
          problem.net);
      staged.swap();
      const double squares = sum_of_squares(fan_in_gradients(problem, width));
      staged.swap();
      if (seed == 0) {
        CHECK(squares == doctest::Approx(proposal.report.gain).epsilon(1e-9));
      } else {
        CHECK(squares < proposal.report.gain);
      }
    }
  }
}

TEST_CASE("slope of methods: GradMax in front of a ReLU has the one-sided slope it reports") {
  for (const auto& net : slope_nets()) {
    CAPTURE(net.name);
    MethodProblem problem(net, Activation::relu);
    const auto proposal = problem.propose(problem.site, 3, slope_options(ms::grow::gradmax()));
    REQUIRE(proposal.insertion.units == 3);
    CHECK(!proposal.preserves_function);
    CHECK(proposal.report.slope > 0.0);
    // At γ = 1 the units go in as they are; their effect is small enough to be of first order.
    const double measured =
        problem.loss() - problem.loss_with(ms::grow::make_edit(problem.ctx, problem.site, proposal.insertion, 1.0));
    CHECK(measured / proposal.report.slope == doctest::Approx(1.0).epsilon(0.05));
  }
}

TEST_SUITE_END();

}  // namespace grow_method_slopes_test
