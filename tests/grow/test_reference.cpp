// The solver against vectors computed by gromo (tests/reference/README.md).
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <meristem/grow/solve/solve.hpp>
#include <support/growth_problem.hpp>
#include <support/npy.hpp>

namespace grow_reference_test {

namespace {

namespace ms = meristem;
using namespace support;
using ms::grow::Route;

// Both sides are float64 with conditions up to 115: agreement to a few hundred roundings.
constexpr double tolerance = 1e-11;

class Case {
 public:
  explicit Case(const std::string& name)
      : folder_(std::filesystem::path(__FILE__).parent_path().parent_path() / "reference" / name) {}

  [[nodiscard]] Dense operator[](const std::string& array) const {
    return read_npy((folder_ / (array + ".npy")).string());
  }

  /// Σ α_k ω_kᵀ
  [[nodiscard]] Dense units(const std::string& option) const {
    return transposed((*this)[option + ".alpha"]) * transposed((*this)[option + ".omega"]);
  }

  [[nodiscard]] ms::grow::Moments<double> moments(ms::Context& ctx) const {
    ms::grow::Moments<double> result;
    result.s1 = to_tensor<double>(ctx, (*this)["S"]);
    result.m1 = to_tensor<double>(ctx, -1 * (*this)["M"]);
    result.s = to_tensor<double>(ctx, (*this)["S_growth"]);
    result.m = to_tensor<double>(ctx, -1 * (*this)["M_prev"]);
    result.cross = to_tensor<double>(ctx, (*this)["C"]);
    result.fisher = to_tensor<double>(ctx, (*this)["E"]);
    const Dense e = (*this)["E"];
    for (std::int64_t i = 0; i < e.rows; ++i) result.goal_norm2 += e(i, i);
    result.samples = 12;
    return result;
  }

 private:
  std::filesystem::path folder_;
};

struct Expected {
  const char* name;
  double decrease;         ///< parameter_update_decrease of `tiny`
  double improvement;      ///< first_order_improvement of `tiny`
  double fisher_decrease;  ///< parameter_update_decrease of `fisher`
};

constexpr Expected cases[] = {{"lin_nobias_identity", 15.041924707118499, 17.60595149821739, 1.5015529219753811},
                              {"lin_bias_relu", 21.862101265855244, 25.987730320651192, 1.7903770970190502},
                              {"lin_tokens_bias", 52.22494114328952, 54.121225637396435, 1.5194951202418523}};

std::vector<double> leading(const std::vector<double>& values, const Dense& expected) {
  return {values.begin(), values.begin() + expected.columns};
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grow reference: best move and units of gromo") {
  ms::Context ctx;
  for (const Expected& expected : cases) {
    for (const Route route : {Route::cholesky, Route::eigen}) {
      INFO(expected.name, ", route ", static_cast<int>(route));
      const Case reference(expected.name);
      const auto moments = reference.moments(ctx);
      ms::grow::SolveOptions options{.route = route, .significance = 0.0, .ridge = 0.0};
      const auto solution = ms::grow::solve(ctx, moments, options);
      check_dense(to_dense(ctx, solution.best_move), -1 * reference["tiny.delta_raw"], tolerance, "delta_raw");
      CHECK(std::abs(solution.best_move_decrease - expected.decrease) < tolerance * expected.decrease);
      CHECK(std::abs(solution.best_move_decrease + solution.gain - expected.improvement) <
            tolerance * expected.improvement);
      const auto n = ms::grow::residual_cross<double>(ctx, moments.m, moments.cross, solution.best_move.view());
      check_dense(to_dense(ctx, n), reference["N"], tolerance, "N");
      for (const char* option : {"tiny", "tiny_nodelta"}) {
        const Dense singular_values = reference[std::string(option) + ".singular_values"];
        REQUIRE(solution.units == singular_values.columns);
        check_close(leading(solution.lambda, singular_values), singular_values.values, tolerance, option);
        check_dense(product_of_units(ctx, solution), reference.units(option), tolerance, option);
      }

      // `unit` leaves λ out: Σ α ω / λ.
      Dense unscaled = to_dense(ctx, solution.fan_in);
      for (std::int64_t k = 0; k < unscaled.rows; ++k) {
        for (std::int64_t j = 0; j < unscaled.columns; ++j) {
          unscaled(k, j) /= solution.lambda[static_cast<std::size_t>(k)];
        }
      }
      check_dense(transposed(unscaled) * to_dense(ctx, solution.fan_out), reference.units("unit"), 10 * tolerance,
                  "unit");

      options.max_units = 2;
      const auto two = ms::grow::solve(ctx, moments, options);
      CHECK(two.units == reference["max2.singular_values"].columns);
      check_dense(product_of_units(ctx, two), reference.units("max2"), tolerance, "max2");

      options.max_units = ms::grow::unlimited;
      options.best_move = false;
      const auto raw = ms::grow::solve(ctx, moments, options);
      check_close(raw.lambda, reference["raw.singular_values"].values, tolerance, "raw");
      check_dense(product_of_units(ctx, raw), reference.units("raw"), tolerance, "raw");

      const Dense identity = power(reference["S_growth"], 0);
      const auto gradmax = ms::grow::new_units<double>(ctx, to_tensor<double>(ctx, identity).view(), moments.m.view(),
                                                       {.route = route, .ridge = 0.0});
      check_close(gradmax.lambda, reference["gradmax.singular_values"].values, tolerance, "gradmax");
      // ω of gradmax has unit length and α is zero: compare the projection on its directions.
      Dense directions = to_dense(ctx, gradmax.fan_out);
      for (std::int64_t k = 0; k < directions.rows; ++k) {
        for (std::int64_t j = 0; j < directions.columns; ++j) {
          directions(k, j) /= std::sqrt(gradmax.lambda[static_cast<std::size_t>(k)]);
        }
      }
      const Dense overlap = directions * reference["gradmax.omega"];
      for (std::int64_t k = 0; k < overlap.rows; ++k) CHECK(std::abs(std::abs(overlap(k, k)) - 1) < tolerance);
    }
  }
}

TEST_CASE("grow reference: Fisher preconditioning of gromo") {
  ms::Context ctx;
  // Slopes of gromo's identity networks along the units alone, by finite differences of step 1e-3, whose relative
  // error is half the step times the curvature: a few 1e-6.
  const double slopes[] = {1.830633054034081, 0.0, 1.541582761888094};
  for (std::size_t i = 0; i < 3; ++i) {
    for (const Route route : {Route::cholesky, Route::eigen}) {
      INFO(cases[i].name, ", route ", static_cast<int>(route));
      const Case reference(cases[i].name);
      const auto moments = reference.moments(ctx);
      ms::grow::SolveOptions options{.route = route, .fisher = true, .significance = 0.0, .ridge = 0.0};
      const auto solution = ms::grow::solve(ctx, moments, options);
      check_dense(to_dense(ctx, solution.best_move), -1 * reference["fisher.delta_raw"], tolerance, "delta_raw");
      CHECK(std::abs(solution.best_move_decrease - cases[i].fisher_decrease) < tolerance * 10);

      // gromo's units are those of the cross moment with the preconditioned move.
      const auto n = ms::grow::residual_cross<double>(ctx, moments.m, moments.cross, solution.best_move.view());
      const auto units =
          ms::grow::new_units<double>(ctx, moments.s.view(), n.view(), options, 0.0, moments.fisher.view());
      check_close(units.lambda, reference["fisher.singular_values"].values, tolerance, "singular values");
      const Dense a = product_of_units(ctx, units);
      check_dense(a, reference.units("fisher"), tolerance, "sum of alpha omega");
      const double slope = -dot(a, reference["M_prev"]);
      if (slopes[i] != 0.0) CHECK(std::abs(slope - slopes[i]) < 1e-5 * slope);
    }
  }
}

TEST_CASE("grow reference: unreadable arrays are refused") {
  const std::string path = (std::filesystem::temp_directory_path() / "meristem_not_an_array.npy").string();
  std::ofstream(path) << "not an array";
  CHECK_THROWS_WITH(read_npy(path), doctest::Contains("not a readable .npy file"));
  std::filesystem::remove(path);
  CHECK_THROWS(read_npy(path));
}

TEST_SUITE_END();

}  // namespace grow_reference_test
