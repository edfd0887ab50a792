// The growth step against plain double loops: golden values, the facts of the method, invariants, the joint solution.
#include <doctest/doctest.h>

#include <meristem/grow/solve/solve.hpp>
#include <support/growth_problem.hpp>

namespace grow_solver_test {

namespace {

namespace ms = meristem;
using namespace support;
using ms::grow::Route;

/// The eigen route and the Cholesky route without a ridge must agree with an oracle to rounding.
std::vector<ms::grow::SolveOptions> exact_routes() {
  ms::grow::SolveOptions eigen{.route = Route::eigen, .significance = 0.0};
  ms::grow::SolveOptions cholesky{.significance = 0.0, .ridge = 0.0};
  return {eigen, cholesky};
}

/// Rounding of T, magnified by covariances with a condition below 1e3 (unit diagonal), sums of some ten terms.
template <class T>
double tolerance_of(double scale) {
  return 300 * eps<T> * scale;
}

GrowthProblem golden_problem() {
  GrowthProblem result{Dense(3, 8), Dense(2, 8), Dense(3, 8)};
  for (int t = 0; t < 8; ++t) {
    for (int i = 0; i < 3; ++i) {
      result.b2(i, t) = std::sin((i + 1) * (t + 1));
      result.v(i, t) = std::sin(0.5 * (i + 1) * (t + 2));
      if (i < 2) result.b1(i, t) = std::cos((i + 1) * (t + 1));
    }
  }
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grow solver: golden values") {
  ms::Context ctx;
  const GrowthProblem problem = golden_problem();
  const ms::grow::Moments<double> moments = problem.moments<double>(ctx);
  const std::vector<double> lambda = {0.5200060437, 0.2509002167, 0.1393451839};
  // The published digits end at 1e-10 and the covariances are well-conditioned.
  const double tolerance = 1e-9;
  for (ms::grow::SolveOptions options : exact_routes()) {
    const auto solution = ms::grow::solve(ctx, moments, options);
    check_dense(to_dense(ctx, solution.best_move),
                Dense(3, 2,
                      std::vector<double>{-0.5707481228, 0.05280325747, 0.8795078543, -0.1370608758, -0.3174654943,
                                          -0.450207493}),
                tolerance, "best move");
    check_close(solution.lambda, lambda, tolerance, "lambda");
    CHECK(std::abs(solution.goal_norm2 - 1.5459775811) < tolerance);
    CHECK(std::abs(solution.best_move_decrease - 0.6288741846) < tolerance);
    CHECK(std::abs(solution.bottleneck - 0.9171033966) < tolerance);
    const double after[] = {0.6466971111, 0.5837461924, 0.5643291121};
    for (int k = 1; k <= 3; ++k) {
      options.max_units = k;
      const auto some = ms::grow::solve(ctx, moments, options);
      CHECK(some.units == k);
      CHECK(some.fan_in.shape() == ms::Shape{k, 3});
      CHECK(some.fan_out.shape() == ms::Shape{k, 3});
      CHECK(std::abs(some.bottleneck_after - after[k - 1]) < tolerance);
      check_close(some.lambda, lambda, tolerance, "the spectrum does not depend on the number of units");
    }
  }
  ms::grow::SolveOptions with_ridge{.significance = 0.0};
  // A relative ridge of 1e-6 changes λ by at most 1e-6 / (2 μ) of itself; the correlations have μ > 0.3.
  check_close(ms::grow::solve(ctx, moments, with_ridge).lambda, lambda, 2e-6, "lambda with the ridge");

  const Dense identity = power(problem.moment(problem.b2, problem.b2), 0);
  const auto gradmax =
      ms::grow::new_units<double>(ctx, to_tensor<double>(ctx, identity).view(), moments.m.view(), exact_routes()[0]);
  check_close(gradmax.lambda, {0.368075651, 0.1988757679, 0.06105926746}, tolerance, "singular values of M");
}

TEST_CASE_TEMPLATE("grow solver: the facts of the method", T, float, double) {
  ms::Context ctx;
  struct Extents {
    std::int64_t p, d, q, n;
    bool bias;
  };
  for (const Extents e : {Extents{7, 4, 5, 60, true},
                          {3, 2, 9, 40, false},
                          {6, 0, 4, 50, true},
                          {1, 1, 1, 9, false},
                          {12, 1, 1, 80, true},
                          {2, 5, 33, 100, false},
                          {33, 3, 31, 200, true}}) {
    INFO("p ", e.p, ", d ", e.d, ", q ", e.q, ", n ", e.n);
    const GrowthProblem problem = random_problem(e.p, e.d, e.q, e.n, 5, e.bias);
    const auto moments = problem.moments<T>(ctx);
    const Dense move = problem.best_move(), v_proj = problem.residual(), cross = problem.cross();
    const Dense s = problem.moment(problem.b2, problem.b2);
    const std::vector<double> lambda = problem.lambda();
    const double psi = problem.norm2(v_proj), scale = problem.norm2(problem.v);
    for (const ms::grow::SolveOptions& options : exact_routes()) {
      INFO("route ", static_cast<int>(options.route));
      const auto solution = ms::grow::solve(ctx, moments, options);
      const std::int64_t units = std::min(e.p, e.q);
      REQUIRE(solution.units == units);
      check_dense(to_dense(ctx, solution.best_move), move, tolerance_of<T>(10), "best move");
      check_close(solution.lambda, lambda, tolerance_of<T>(lambda[0]), "lambda");
      CHECK(std::abs(solution.goal_norm2 - scale) < tolerance_of<T>(scale));
      CHECK(std::abs(solution.best_move_decrease - (scale - psi)) < tolerance_of<T>(scale));
      CHECK(solution.returned_move_decrease == solution.best_move_decrease);
      CHECK(std::abs(solution.bottleneck - psi) < tolerance_of<T>(scale));
      CHECK(solution.note == "");

      const Dense alpha = to_dense(ctx, solution.fan_in), omega = to_dense(ctx, solution.fan_out);
      Dense diagonal(units, units);
      for (std::int64_t k = 0; k < units; ++k) diagonal(k, k) = solution.lambda[static_cast<std::size_t>(k)];
      check_dense(alpha * s * transposed(alpha), diagonal, tolerance_of<T>(10 * lambda[0]), "alpha S alpha");
      check_dense(omega * transposed(omega), diagonal, tolerance_of<T>(lambda[0]), "omega omega");
      const Dense a = transposed(alpha) * omega;
      check_dense(a, power(s, -1) * cross, tolerance_of<T>(10 * lambda[0]), "sum of alpha omega");
      // Signs: the units move the pre-activation towards the desired update, not away from it.
      CHECK(dot(a, cross) > 0);
      CHECK(std::abs(dot(a, cross) - solution.gain) < tolerance_of<T>(scale));
      CHECK(std::abs(solution.first_order_gain - dot(a, problem.moment(problem.b2, problem.v))) <
            tolerance_of<T>(10 * scale));
      CHECK(std::abs(solution.bottleneck_after - problem.norm2(v_proj - transposed(a) * problem.b2)) <
            tolerance_of<T>(scale));
    }
  }
}

TEST_CASE("grow solver: after some units the rest of the spectrum remains") {
  ms::Context ctx;
  const GrowthProblem problem = random_problem(6, 3, 5, 70, 11, true);
  const Dense s = problem.moment(problem.b2, problem.b2);
  for (ms::grow::SolveOptions options : exact_routes()) {
    const auto all = ms::grow::solve(ctx, problem.moments<double>(ctx), options);
    options.max_units = 2;
    const auto some = ms::grow::solve(ctx, problem.moments<double>(ctx), options);
    const Dense left = problem.cross() - s * product_of_units(ctx, some);
    const auto rest = ms::grow::new_units<double>(ctx, to_tensor<double>(ctx, s).view(),
                                                  to_tensor<double>(ctx, left).view(), options);
    const std::vector<double> expected = {all.lambda[2], all.lambda[3], all.lambda[4], 0, 0};
    check_close(rest.lambda, expected, tolerance_of<double>(all.lambda[0]));
  }
}

TEST_CASE("grow solver: changes of coordinates that must not matter") {
  ms::Context ctx;
  const std::int64_t p = 6, q = 4;
  const GrowthProblem problem = random_problem(p, 3, q, 90, 21);
  for (const ms::grow::SolveOptions& options : exact_routes()) {
    const auto plain = ms::grow::solve(ctx, problem.moments<double>(ctx), options);
    const Dense effect = transposed(product_of_units(ctx, plain)) * problem.b2;
    const double tolerance = tolerance_of<double>(30 * largest(effect));

    GrowthProblem changed = problem;
    Dense r(p, p, normal_values<double>(p * p, 31));
    for (std::int64_t i = 0; i < p; ++i) r(i, i) += 4;  // invertible, condition some ten
    changed.b2 = r * problem.b2;
    auto other = ms::grow::solve(ctx, changed.moments<double>(ctx), options);
    check_close(other.lambda, plain.lambda, tolerance, "inputs R b: lambda");
    check_dense(transposed(product_of_units(ctx, other)) * changed.b2, effect, tolerance, "inputs R b: effect");

    changed = problem;
    const Dense rotation = jacobi(problem.moment(problem.v, problem.v)).vectors;
    changed.v = rotation * problem.v;
    other = ms::grow::solve(ctx, changed.moments<double>(ctx), options);
    check_close(other.lambda, plain.lambda, tolerance, "outputs Q v: lambda");
    check_dense(product_of_units(ctx, other), product_of_units(ctx, plain) * transposed(rotation), tolerance,
                "outputs Q v: omega");

    changed = problem;
    changed.v = 3.0 * problem.v;
    other = ms::grow::solve(ctx, changed.moments<double>(ctx), options);
    std::vector<double> tripled = plain.lambda;
    for (double& value : tripled) value *= 3;
    check_close(other.lambda, tripled, tolerance, "outputs 3 v: lambda");

    changed = problem;
    changed.b2 = 1e-3 * problem.b2;
    other = ms::grow::solve(ctx, changed.moments<double>(ctx), options);
    check_close(other.lambda, plain.lambda, tolerance, "inputs b / 1000: lambda");
  }
}

TEST_CASE("grow solver: one pass equals two") {
  ms::Context ctx;
  const GrowthProblem problem = random_problem(5, 4, 3, 40, 41, true);
  const auto moments = problem.moments<double>(ctx);
  const auto move = ms::grow::best_move<double>(ctx, moments.s1.view(), moments.m1.view(), exact_routes()[0]);
  CHECK(move.rank == 4);
  const Dense n = to_dense(ctx, ms::grow::residual_cross<double>(ctx, moments.m, moments.cross, move.weights.view()));
  check_dense(n, problem.cross(), tolerance_of<double>(1), "N");
  CHECK(std::abs(move.decrease - (problem.norm2(problem.v) - problem.norm2(problem.residual()))) <
        tolerance_of<double>(10));
}

TEST_CASE_TEMPLATE("grow solver: the joint solution", T, float, double) {
  ms::Context ctx;
  for (const bool bias : {false, true}) {
    const GrowthProblem problem = random_problem(6, 4, 5, 80, 51, bias);
    const auto moments = problem.moments<T>(ctx);
    const double psi = problem.norm2(problem.residual()), scale = problem.norm2(problem.v);
    for (ms::grow::SolveOptions options : exact_routes()) {
      INFO("bias ", bias, ", route ", static_cast<int>(options.route));
      // S⊥ is singular along the bias: the Cholesky route cannot do without a ridge there, which shortens λ by up to
      // ridge / (2 μ) with μ > 0.05 the smallest correlation left.
      options.ridge = 1e-9;
      const double tolerance = tolerance_of<T>(10 * scale) + 1e-8 * scale;
      const auto alone = ms::grow::solve(ctx, moments, options);
      options.joint = true;
      options.max_units = 3;
      const auto joint = ms::grow::solve(ctx, moments, options);
      REQUIRE(joint.units == 3);
      double gain = 0;
      for (std::size_t k = 0; k < joint.lambda.size(); ++k) {
        CHECK(joint.lambda[k] >= alone.lambda[k] - tolerance);
        if (k < 3) gain += joint.lambda[k] * joint.lambda[k];
      }
      CHECK(joint.lambda[0] > alone.lambda[0] * 1.01);
      if (options.route == Route::eigen) {
        CHECK(joint.rank == (bias ? 5 : 6));
      } else {
        // What the statistics cannot resolve must not pass for a direction of S⊥.
        CHECK(joint.ridge_used >= std::max(1e-9, eps<T>));
      }

      const Dense a = product_of_units(ctx, joint), companion = to_dense(ctx, joint.best_move);
      CHECK(std::abs(joint.best_move_decrease - (scale - psi)) < tolerance);
      CHECK(std::abs(joint.bottleneck - psi) < tolerance);
      CHECK(std::abs(joint.bottleneck_after - (psi - gain)) < tolerance);
      const Dense left = problem.v - companion * problem.b1 - transposed(a) * problem.b2;
      CHECK(std::abs(joint.bottleneck_after - problem.norm2(left)) < tolerance);
      // Nothing that B1 can express is left, so with these units no other move of the weights is better.
      CHECK(largest(problem.moment(problem.b1, left)) < tolerance);
      const double slope = dot(companion, transposed(problem.moment(problem.b1, problem.v))) +
                           dot(a, problem.moment(problem.b2, problem.v));
      CHECK(std::abs(joint.returned_move_decrease + joint.first_order_gain - slope) < tolerance);
      CHECK(std::abs(slope - (joint.best_move_decrease + gain)) < tolerance);
    }
  }
}

TEST_CASE("grow solver: the units serve V_goal itself without best move") {
  ms::Context ctx;
  const GrowthProblem problem = random_problem(6, 4, 5, 80, 61, true);
  GrowthProblem without = problem;
  without.b1 = Dense(0, problem.b1.columns);
  for (ms::grow::SolveOptions options : exact_routes()) {
    options.best_move = false;
    const auto solution = ms::grow::solve(ctx, problem.moments<double>(ctx), options);
    check_close(solution.lambda, without.lambda(), tolerance_of<double>(solution.lambda[0]));
    check_dense(to_dense(ctx, solution.best_move), Dense(5, 4), 0.0, "no move");
    CHECK(solution.bottleneck == solution.goal_norm2);
    CHECK(solution.best_move_decrease == 0.0);
    // N = M: the two slopes are one.
    CHECK(std::abs(solution.first_order_gain - solution.gain) < tolerance_of<double>(solution.gain));
  }
}

TEST_CASE("grow solver: in the metric of the outputs' Fisher matrix") {
  ms::Context ctx;
  const std::int64_t p = 6, d = 3, q = 4;
  const GrowthProblem problem = random_problem(p, d, q, 90, 71, true);
  const Dense e = problem.moment(problem.v, problem.v), s = problem.moment(problem.b2, problem.b2);
  const std::vector<double> lambda = singular_values(power(s, -0.5) * problem.cross() * power(e, -0.5));
  for (ms::grow::SolveOptions options : exact_routes()) {
    options.fisher = true;
    const auto solution = ms::grow::solve(ctx, problem.moments<double>(ctx), options);
    check_close(solution.lambda, lambda, tolerance_of<double>(1), "lambda");
    const Dense move = power(e, -1) * problem.best_move();
    check_dense(to_dense(ctx, solution.best_move), move, tolerance_of<double>(10), "natural move");
    CHECK(std::abs(solution.best_move_decrease - dot(move, transposed(problem.moment(problem.b1, problem.v)))) <
          tolerance_of<double>(10));
    CHECK(solution.goal_norm2 == 4.0);
    const Dense a = product_of_units(ctx, solution);
    check_dense(a, power(s, -1) * problem.cross() * power(e, -1), tolerance_of<double>(10), "sum of alpha omega");

    GrowthProblem changed = problem;
    Dense c(q, q, normal_values<double>(q * q, 81));
    for (std::int64_t i = 0; i < q; ++i) c(i, i) += 4;
    changed.v = c * problem.v;
    const auto other = ms::grow::solve(ctx, changed.moments<double>(ctx), options);
    check_close(other.lambda, lambda, tolerance_of<double>(30), "the coordinates of the outputs do not matter");

    // The desired updates of a softmax sum to zero: E is singular, and no unit may push along that direction.
    GrowthProblem softmax = problem;
    for (std::int64_t t = 0; t < 90; ++t) {
      double mean = 0;
      for (std::int64_t i = 0; i < q; ++i) mean += problem.v(i, t) / static_cast<double>(q);
      for (std::int64_t i = 0; i < q; ++i) softmax.v(i, t) -= mean;
    }
    const auto singular = ms::grow::solve(ctx, softmax.moments<double>(ctx), options);
    CHECK(singular.goal_norm2 == 3.0);
    CHECK(singular.units == 3);
    CHECK(singular.lambda.size() == 4);
    const Dense omega = to_dense(ctx, singular.fan_out);
    for (std::int64_t k = 0; k < 3; ++k) {
      CHECK(std::abs(omega(k, 0) + omega(k, 1) + omega(k, 2) + omega(k, 3)) < tolerance_of<double>(10));
    }
  }
}

TEST_CASE("grow solver: float statistics of a large layer, factorised in float") {
  ms::Context ctx;
  // Above order 512; the eigen route, verified above, is the reference. Fewer samples than inputs: S is singular.
  const GrowthProblem problem = random_problem(530, 5, 6, 300, 91, true);
  const auto moments = problem.moments<float>(ctx);
  const auto reference = ms::grow::solve(ctx, moments, {.route = Route::eigen, .significance = 0.0});
  const auto solution = ms::grow::solve(ctx, moments, {.significance = 0.0});
  CHECK(reference.rank == 300);
  CHECK(solution.ridge_used >= 1e-6);
  CHECK(solution.units == 6);
  // Eigenvalues of the correlations on their range are above 0.05, so the ridge counts for 1e-6 / 0.1 and rounding in
  // float for √530 eps / √0.05 of what is there.
  check_close(solution.lambda, reference.lambda, 1e-3 * reference.lambda[0]);
  CHECK(std::abs(solution.first_order_gain - reference.first_order_gain) < 1e-3 * reference.gain);
  const Dense v_proj = problem.residual();
  CHECK(std::abs(problem.norm2(v_proj - transposed(product_of_units(ctx, solution)) * problem.b2) -
                 solution.bottleneck_after) < 1e-3 * solution.bottleneck);
}

TEST_CASE("grow solver: the resolution of the moments, not the type that holds them, decides what is rounding") {
  ms::Context ctx;
  GrowthProblem problem = random_problem(8, 3, 4, 60, 101);
  for (std::int64_t t = 0; t < 60; ++t) problem.b2(7, t) = problem.b2(0, t) + problem.b2(1, t);
  auto moments = problem.moments<float>(ctx);
  ms::grow::Moments<double> widened;
  widened.s1 = to_tensor<double>(ctx, to_dense(ctx, moments.s1));
  widened.m1 = to_tensor<double>(ctx, to_dense(ctx, moments.m1));
  widened.s = to_tensor<double>(ctx, to_dense(ctx, moments.s));
  widened.m = to_tensor<double>(ctx, to_dense(ctx, moments.m));
  widened.cross = to_tensor<double>(ctx, to_dense(ctx, moments.cross));
  widened.goal_norm2 = moments.goal_norm2;
  widened.samples = moments.samples;
  CHECK(ms::grow::solve(ctx, moments, {.route = Route::eigen}).rank == 7);
  CHECK(ms::grow::solve(ctx, widened, {.route = Route::eigen}).rank == 8);
  widened.resolution = eps<float>;
  CHECK(ms::grow::solve(ctx, widened, {.route = Route::eigen}).rank == 7);
}

TEST_CASE_TEMPLATE("grow solver: the same bits twice", T, float, double) {
  ms::Context ctx;
  const auto moments = random_problem(9, 4, 6, 50, 111, true).moments<T>(ctx);
  for (ms::grow::SolveOptions options : exact_routes()) {
    const auto first = ms::grow::solve(ctx, moments, options), second = ms::grow::solve(ctx, moments, options);
    check_same_bits(to_host(ctx, first.fan_in), to_host(ctx, second.fan_in));
    check_same_bits(to_host(ctx, first.fan_out), to_host(ctx, second.fan_out));
    check_same_bits(to_host(ctx, first.best_move), to_host(ctx, second.best_move));
    check_same_bits(first.lambda, second.lambda);
  }
}

TEST_CASE("grow solver: no unit, and why") {
  ms::Context ctx;
  const GrowthProblem problem = random_problem(5, 3, 4, 60, 121);
  const auto note = [&](const GrowthProblem& of, ms::grow::SolveOptions options) {
    std::string text;
    for (const Route route : {Route::cholesky, Route::eigen}) {
      options.route = route;
      const auto solution = ms::grow::solve(ctx, of.moments<double>(ctx), options);
      CHECK(solution.units == 0);
      CHECK(solution.gain == 0.0);
      CHECK(solution.first_order_gain == 0.0);
      CHECK(solution.bottleneck_after == solution.bottleneck);
      CHECK(solution.fan_in.shape() == ms::Shape{0, of.b2.rows});
      CHECK(solution.fan_out.shape() == ms::Shape{0, of.v.rows});
      text = solution.note;
    }
    return text;
  };
  CHECK(note(problem, {.max_units = 0}) == "no unit added: max_units is 0");
  CHECK(contains(note(problem, {.significance = 100}),
                 "no unit added: nothing significant, the largest singular value "));
  CHECK(contains(note(problem, {.significance = 100}), "(significance 100, 60 samples)"));
  GrowthProblem zero = problem;
  zero.b2 = Dense(5, 60);
  CHECK(note(zero, {.significance = 0}) ==
        "no unit added: S is zero, the inputs of the layer are zero on every sample");
  zero = problem;
  zero.v = Dense(4, 60);
  CHECK(note(zero, {.significance = 0}) == "no unit added: N is zero, nothing is left that new units could express");
  // Everything is expressed by the weights of today: N is rounding, which must not become units.
  GrowthProblem expressed = problem;
  expressed.v = Dense(4, 3, normal_values<double>(12, 131)) * problem.b1;
  CHECK(contains(note(expressed, {.significance = 0}), "no unit added: N is zero up to rounding"));
  CHECK(contains(note(expressed, {.joint = true, .significance = 0}), "no unit added: N is zero up to rounding"));
  // The same with weights of about 100 that nearly cancel, from float32 statistics: the rounding of P counts as often.
  GrowthProblem cancelling = problem;
  for (std::int64_t t = 0; t < 60; ++t) {
    cancelling.b1(1, t) = cancelling.b1(0, t) + 1e-2 * cancelling.b1(1, t);
    for (std::int64_t i = 0; i < 4; ++i) cancelling.v(i, t) = 1e2 * (cancelling.b1(1, t) - cancelling.b1(0, t));
  }
  const auto rounding =
      ms::grow::solve(ctx, cancelling.moments<float>(ctx), {.route = Route::eigen, .significance = 0});
  CHECK(contains(rounding.note, "no unit added: N is zero up to rounding"));
  // A hidden layer that passes its inputs on: nothing new for units to read.
  GrowthProblem copied = problem;
  copied.b1 = problem.b2;
  CHECK(contains(note(copied, {.joint = true, .significance = 0}), "no unit added: N is zero up to rounding"));
  CHECK(note({Dense(0, 7), Dense(0, 7), Dense(2, 7)}, {}) == "no unit added: the layer has no inputs or no outputs");
}

TEST_CASE("grow solver: singular values far below the largest are reported, not used") {
  ms::Context ctx;
  Dense n(3, 2);
  n(0, 0) = 1;
  n(2, 1) = 1e-9;
  const auto units = ms::grow::new_units<double>(
      ctx, to_tensor<double>(ctx, Dense(3, 3, std::vector<double>{1, 0, 0, 0, 1, 0, 0, 0, 1})),
      to_tensor<double>(ctx, n).view(), {.ridge = 0.0});
  check_close(units.lambda, {1.0, 1e-9}, 1e-15);
  CHECK(units.units == 1);
}

TEST_CASE("grow solver: options out of range") {
  ms::Context ctx;
  const auto moments = random_problem(3, 2, 2, 20, 141).moments<double>(ctx);
  const auto refusal = [&](const ms::grow::SolveOptions& options) {
    return message_of<ms::ArgumentError>([&] { (void)ms::grow::solve(ctx, moments, options); });
  };
  CHECK(refusal({.max_units = -1}) == "solve: max_units is -1; it is 0 or more");
  CHECK(refusal({.significance = -0.5}) ==
        "solve: significance is -0.5; it is a finite number, 0 (keep everything) or more");
  CHECK(contains(refusal({.significance = std::nan("")}), "solve: significance is "));
  CHECK(contains(refusal({.significance = INFINITY}), "solve: significance is inf"));
  CHECK(refusal({.ridge = -1e-6}) == "solve: ridge is -1e-06; it is between 0 and 0.01, relative to a unit diagonal");
  CHECK(contains(refusal({.ridge = 1.0}), "solve: ridge is 1;"));
  CHECK(refusal({.rank_tolerance = -1}) == "solve: rank_tolerance is -1; it is between 0 (derived) and 1");
  CHECK(refusal({.joint = true, .best_move = false}) ==
        "solve: joint is set but best_move is not; the joint solution moves the weights along with the units: set both "
        "or neither");
}

TEST_SUITE_END();

}  // namespace grow_solver_test
