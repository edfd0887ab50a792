// What methods predict to first order against what the loss does, on perceptrons, VGG and residual networks; and the
// joint solution and the Fisher metric of maps against those of vectors.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <support/method_problem.hpp>

namespace grow_method_slopes_test {

namespace ms = meristem;
using ms::grow::FanOut;
using ms::nn::Activation;
using support::method_nets;
using support::MethodProblem;

namespace {

ms::grow::MeasurementOptions slope_options(ms::grow::Method method, FanOut fan_out = FanOut::full) {
  return {.method = std::move(method), .fan_out = fan_out, .damping = 0.0, .significance = 0.0};
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("slope of methods: predicted and measured decrease agree within 5 % at small amplitude") {
  // Where σ''(0) = 0 the quotient is 1 + O(γ), else 1 + O(√γ).
  for (const auto& net : method_nets()) {
    for (const auto& [f, gamma] :
         {std::pair{Activation::tanh, 1e-7}, {Activation::silu, 1e-9}, {Activation::relu, 1e-8}}) {
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
        for (std::size_t i = 0; i < joint.insertion.fan_out.size(); ++i) {
          squares += joint.insertion.fan_out[i] * joint.insertion.fan_out[i];
        }
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
  ms::grow::SiteStatistics<double> stacked(problem.ctx, 5, true, 2, true, 4, {.fisher = true});
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
                            slope_options(ms::grow::make_method<ms::grow::Tiny>(
                                ms::grow::Tiny::Options{.route = route, .joint = joint, .fisher = fisher})));
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
          CHECK(support::relative_distance(move, proposal.insertion.move) < 10 * tolerance);
        }
      }
    }
  }
}

TEST_CASE("slope of methods: GradMax's units receive the gradient it promises, and a step along it gains that") {
  constexpr double c = 1e-3;
  for (const auto& net : method_nets()) {
    for (const Activation f : {Activation::tanh, Activation::silu}) {
      INFO(net.name, ", activation ", ms::kernels::activation_name(f));
      MethodProblem problem(net, f);
      const auto proposal = problem.propose(problem.site, 3, slope_options(ms::grow::gradmax(c)));
      const auto& insertion = proposal.insertion;
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
      ms::grow::apply<double>(problem.ctx, ms::grow::make_edit(problem.ctx, problem.site, insertion, 1.0), problem.net);
      // The gradient of the mean loss at the new fan-ins, by the network's own backward pass.
      const auto trace = problem.net.forward(problem.ctx, problem.x, {});
      auto value = problem.criterion.operator()<double>(problem.ctx, trace.output, problem.labels.view());
      (void)problem.net.backward(problem.ctx, problem.x, trace, std::move(value.gradient), {});
      double squares = 0.0;
      const auto add = [&](const ms::nn::Parameter<double>& parameter) {
        const auto gradient = ms::to_host(problem.ctx, parameter.gradient);
        const std::size_t each = gradient.size() / static_cast<std::size_t>(width + 3);
        for (std::size_t i = static_cast<std::size_t>(width) * each; i < gradient.size(); ++i) {
          squares += gradient[i] * gradient[i];
        }
      };
      add(problem.site.producer.weight());
      add(problem.site.producer.bias());
      const double slope = problem.site.slope_at_zero();
      // What enters a maximum is zero everywhere for the new units: it takes one of equal elements, not their mean.
      if (net.name == "vgg") continue;
      CHECK(squares == doctest::Approx(c * c * slope * slope * proposal.report.gain).epsilon(1e-9));

      const double gamma = 1.0, before = problem.loss();
      const auto step = [&](ms::nn::Parameter<double>& parameter) {
        auto values = ms::to_host(problem.ctx, parameter.value);
        const auto gradient = ms::to_host(problem.ctx, parameter.gradient);
        const std::size_t each = gradient.size() / static_cast<std::size_t>(width + 3);
        for (std::size_t i = static_cast<std::size_t>(width) * each; i < gradient.size(); ++i) {
          values[i] -= gamma * gradient[i];
        }
        ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, parameter.value.shape(), values).view(),
                         parameter.value.view());
      };
      step(problem.site.producer.weight());
      step(problem.site.producer.bias());
      const double predicted = gamma * c * c * slope * slope * proposal.report.gain;
      CHECK((before - problem.loss()) / predicted == doctest::Approx(1.0).epsilon(0.05));
    }
  }
}

TEST_CASE("slope of methods: no other orthonormal fan-outs bring a larger gradient than GradMax's") {
  MethodProblem problem(method_nets().front(), Activation::tanh);
  const auto samples = problem.samples();
  const support::Dense m = samples.moment(samples.b2, samples.v);
  const auto values = support::singular_values(m);
  const auto proposal = problem.propose(problem.site, 2, slope_options(ms::grow::gradmax(1.0)));
  CHECK(proposal.report.gain == doctest::Approx(values[0] * values[0] + values[1] * values[1]).epsilon(1e-9));
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    support::Dense basis(2, 5, support::normal_values<double>(10, seed));
    for (int pass = 0; pass < 2; ++pass) {
      for (std::int64_t i = 0; i < 2; ++i) {
        for (std::int64_t j = 0; j < i; ++j) {
          double dot = 0.0;
          for (std::int64_t e = 0; e < 5; ++e) dot += basis(i, e) * basis(j, e);
          for (std::int64_t e = 0; e < 5; ++e) basis(i, e) -= dot * basis(j, e);
        }
        double squares = 0.0;
        for (std::int64_t e = 0; e < 5; ++e) squares += basis(i, e) * basis(i, e);
        for (std::int64_t e = 0; e < 5; ++e) basis(i, e) /= std::sqrt(squares);
      }
    }
    const support::Dense gradient = m * support::transposed(basis);
    CHECK(support::dot(gradient, gradient) < proposal.report.gain);
  }
}

TEST_CASE("slope of methods: GradMax in front of a ReLU has the one-sided slope it reports") {
  for (const auto& net : method_nets()) {
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
