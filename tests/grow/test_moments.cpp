#include <doctest/doctest.h>

#include <limits>

#include <meristem/grow/solve/solve.hpp>
#include <support/growth_problem.hpp>

namespace grow_moments_test {

namespace {

namespace ms = meristem;
using namespace support;

ms::grow::Moments<double> valid(ms::Context& ctx) { return random_problem(5, 3, 4, 60, 3).moments<double>(ctx); }

ms::Tensor<double> with(ms::Context& ctx, const ms::Tensor<double>& tensor, std::int64_t i, std::int64_t j,
                        double value) {
  Dense dense = to_dense(ctx, tensor);
  dense(i, j) = value;
  return to_tensor<double>(ctx, dense);
}

template <class Expected>
std::string refusal(ms::Context& ctx, const ms::grow::Moments<double>& moments,
                    const ms::grow::SolveOptions& options = {}) {
  return message_of<Expected>([&] { (void)ms::grow::solve(ctx, moments, options); });
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grow moments: NaN and infinity are refused by name and place") {
  ms::Context ctx;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::string advice =
      "; growth statistics must be finite: check the inputs and the gradients they were accumulated from, and lower "
      "the "
      "learning rate if training diverged";
  auto moments = valid(ctx);
  moments.s = with(ctx, moments.s, 4, 1, nan);
  CHECK(refusal<ms::NumericError>(ctx, moments) == "S: element (4, 1) is nan" + advice);
  moments = valid(ctx);
  moments.s1 = with(ctx, moments.s1, 0, 2, inf);
  CHECK(refusal<ms::NumericError>(ctx, moments) == "S1: element (0, 2) is inf" + advice);
  moments = valid(ctx);
  moments.m = with(ctx, moments.m, 2, 3, -inf);
  CHECK(refusal<ms::NumericError>(ctx, moments) == "M: element (2, 3) is -inf" + advice);
  moments = valid(ctx);
  moments.m1 = with(ctx, moments.m1, 1, 0, nan);
  moments.layer = "fc2";
  CHECK(refusal<ms::NumericError>(ctx, moments) == "fc2: M1: element (1, 0) is nan" + advice);
  moments = valid(ctx);
  moments.cross = with(ctx, moments.cross, 4, 2, nan);
  CHECK(refusal<ms::NumericError>(ctx, moments) == "P: element (4, 2) is nan" + advice);
  moments = valid(ctx);
  moments.fisher = with(ctx, moments.fisher, 3, 3, nan);
  CHECK(refusal<ms::NumericError>(ctx, moments, {.fisher = true}) == "E: element (3, 3) is nan" + advice);
  CHECK(ms::grow::solve(ctx, moments).units > 0);
  moments = valid(ctx);
  moments.goal_norm2 = nan;
  CHECK(refusal<ms::NumericError>(ctx, moments) ==
        "the mean squared norm of the desired update is nan; it must be finite and not negative");
  moments.goal_norm2 = -1;
  CHECK(contains(refusal<ms::NumericError>(ctx, moments), "is -1; it must be finite and not negative"));

  const auto good = valid(ctx);
  const ms::Tensor<double> bad = with(ctx, good.m, 0, 1, nan);
  CHECK(
      contains(message_of<ms::NumericError>([&] { (void)ms::grow::new_units<double>(ctx, good.s.view(), bad.view()); }),
               "N: element (0, 1) is nan"));
  CHECK(
      contains(message_of<ms::NumericError>([&] { (void)ms::grow::best_move<double>(ctx, good.s.view(), bad.view()); }),
               "M1: element (0, 1) is nan"));
}

TEST_CASE("grow moments: what is no second moment is refused") {
  ms::Context ctx;
  auto moments = valid(ctx);
  moments.s = with(ctx, moments.s, 2, 2, -0.5);
  CHECK(refusal<ms::NumericError>(ctx, moments) ==
        "S: diagonal element 2 is -0.5; a second moment cannot be negative: accumulate sums of outer products");
  const Dense indefinite(2, 2, std::vector<double>{1, 2, 2, 1});
  const Dense n(2, 1, std::vector<double>{1, 1});
  const auto units = [&](ms::grow::Route route) {
    (void)ms::grow::new_units<double>(ctx, to_tensor<double>(ctx, indefinite).view(), to_tensor<double>(ctx, n).view(),
                                      {.route = route});
  };
  for (const ms::grow::Route route : {ms::grow::Route::cholesky, ms::grow::Route::eigen}) {
    CHECK(
        message_of<ms::NumericError>([&] { units(route); }) ==
        "S scaled to unit diagonal has the eigenvalue -1; a second moment is positive semi-definite: check how it was "
        "accumulated");
  }
}

TEST_CASE("grow moments: shapes that do not fit together") {
  ms::Context ctx;
  const auto tensor = [&](std::int64_t rows, std::int64_t columns) { return ms::zeros<double>(ctx, {rows, columns}); };
  auto moments = valid(ctx);
  moments.s = tensor(5, 4);
  CHECK(refusal<ms::ShapeError>(ctx, moments) == "S has shape (5, 4); a second moment is a square matrix");
  moments.s = tensor(6, 6);
  CHECK(refusal<ms::ShapeError>(ctx, moments) == "M has shape (5, 4), expected (p, q) with p = 6, the order of S");
  moments = valid(ctx);
  moments.s1 = ms::zeros<double>(ctx, {3});
  CHECK(refusal<ms::ShapeError>(ctx, moments) == "S1 has shape (3); a second moment is a square matrix");
  moments = valid(ctx);
  moments.m1 = tensor(4, 3);
  CHECK(refusal<ms::ShapeError>(ctx, moments) ==
        "M1 has shape (4, 3), expected (3, 4) (d, q): the order of S1, the columns of M");
  moments = valid(ctx);
  moments.cross = tensor(3, 5);
  moments.layer = "fc2";
  CHECK(refusal<ms::ShapeError>(ctx, moments) ==
        "fc2: P has shape (3, 5), expected (5, 3) (p, d): the orders of S and S1");
  moments = valid(ctx);
  moments.fisher = tensor(3, 3);
  CHECK(refusal<ms::ShapeError>(ctx, moments, {.fisher = true}) ==
        "E has shape (3, 3), expected (4, 4) (q, q): the columns of M");
  moments.fisher = ms::Tensor<double>();
  CHECK(refusal<ms::ArgumentError>(ctx, moments, {.fisher = true}) ==
        "E is empty, but the Fisher preconditioning needs it: accumulate E, (4, 4), or set fisher = false");
  CHECK(message_of<ms::ShapeError>([&] {
          (void)ms::grow::new_units<double>(ctx, tensor(3, 3).view(), tensor(2, 5).view());
        }) == "N has shape (2, 5), expected a matrix with 3 rows");
  CHECK(message_of<ms::ShapeError>([&] {
          (void)ms::grow::best_move<double>(ctx, tensor(3, 2).view(), tensor(3, 5).view());
        }) == "S1 has shape (3, 2); a second moment is a square matrix");
}

TEST_CASE("grow moments: samples, resolution and moments that contradict each other") {
  ms::Context ctx;
  auto moments = valid(ctx);
  moments.samples = 0;
  CHECK(refusal<ms::ArgumentError>(ctx, moments) ==
        "the number of samples is 0; growth needs statistics of at least one sample");
  moments = valid(ctx);
  moments.resolution = -1;
  CHECK(refusal<ms::ArgumentError>(ctx, moments) ==
        "the resolution of the moments is -1; it is the epsilon of the type they were accumulated in, or 0 for that of "
        "T");
  moments = valid(ctx);
  moments.goal_norm2 /= 60;
  CHECK(contains(refusal<ms::ArgumentError>(ctx, moments), "the mean squared norm of the desired update is "));
  CHECK(
      contains(refusal<ms::ArgumentError>(ctx, moments),
               " that the best move alone explains; divide every moment by the number of samples, and accumulate them "
               "over the same samples"));
}

TEST_SUITE_END();

}  // namespace grow_moments_test
