// Moves and units of convolutions against vectors computed by gromo (tests/reference/README.md).
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/measure/map_statistics.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <support/npy.hpp>
#include <support/plain_maps.hpp>

namespace grow_map_reference_test {

namespace {

namespace ms = meristem;
using ms::Extent2;
using ms::grow::FanOut;
using ms::grow::Route;
using support::Dense;
using support::MapJoint;

/// Two convolutions as gromo ran them, and its totals.
struct Case {
  const char* name;
  MapJoint joint;
  FanOut fan_out;
  double decrease;         ///< parameter_update_decrease of `tiny`
  double improvement;      ///< first_order_improvement of `tiny`
  double improvement_two;  ///< first_order_improvement of `max2`
};

std::vector<Case> cases() {
  const ms::Window three{.kernel = 3, .padding = 1};
  const auto joint = [](std::int64_t in, std::int64_t width, ms::Window first, ms::Window second, bool bias) {
    return MapJoint{.map = {6, 5},
                    .in = in,
                    .width = width,
                    .out = 4,
                    .first = first,
                    .second = second,
                    .producer_bias = bias,
                    .consumer_bias = bias};
  };
  return {
      {"conv1_full", joint(5, 2, {}, {}, true), FanOut::full, 289.1291438966227, 298.4581495323922, 296.87996051986045},
      {"conv3_nobias_full", joint(2, 3, three, three, false), FanOut::full, 2327.291920197791, 2338.3691755886093,
       2331.160871192406},
      {"conv3_nobias_restricted", joint(2, 3, three, three, false), FanOut::centre, 1425.9803045637193,
       1431.461084412494, 1429.8157291323478},
      {"conv3_s2first_full", joint(2, 3, {.kernel = 3, .stride = 2, .padding = 1}, three, true), FanOut::full,
       314.2127606485851, 325.4016897837331, 317.5541885871006}};
}

Dense read(const Case& which, const std::string& array) {
  return support::read_npy(
      (std::filesystem::path(__FILE__).parent_path().parent_path() / "reference" / which.name / (array + ".npy"))
          .string());
}

/// Rows of (channel, position) to rows of (position, channel); numbers beyond them, a bias, stay at the end.
Dense channels_last(const Dense& rows, std::int64_t positions, std::int64_t channels) {
  Dense result = rows;
  for (std::int64_t i = 0; i < rows.rows; ++i) {
    for (std::int64_t at = 0; at < positions; ++at) {
      for (std::int64_t c = 0; c < channels; ++c) result(i, at * channels + c) = rows(i, c * positions + at);
    }
  }
  return result;
}

Dense to_dense(ms::Context& ctx, const ms::Tensor<double>& a) {
  return Dense(a.extent(0), a.extent(1), ms::to_host(ctx, a));
}

void check_matrix(const Dense& actual, const Dense& expected, double tolerance, const std::string& what) {
  INFO(what);
  REQUIRE(actual.rows == expected.rows);
  REQUIRE(actual.columns == expected.columns);
  support::check_close(actual.values, expected.values, tolerance * support::largest(expected), what);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("map reference: best move and units of gromo") {
  ms::Context ctx;
  for (const Case& which : cases()) {
    const MapJoint& joint = which.joint;
    const std::int64_t taps = joint.first.kernel.size(), taps2 = joint.second.kernel.size(), q = joint.out;
    const auto tensor = [&](const char* array, Extent2 extent, std::int64_t channels, double factor) {
      const Dense maps = factor * channels_last(read(which, array), extent.size(), channels);
      return ms::from_host<double>(ctx, {maps.rows, extent.y, extent.x, channels}, maps.values);
    };
    const auto x = tensor("B0", joint.map, joint.in, 1.0), z = tensor("B1", joint.hidden(), joint.width, 1.0);
    const auto goal = tensor("dA2", joint.outputs(), q, -1.0);
    ms::nn::Sequential<double> net;
    joint.build(ctx, net);
    const auto site = ms::grow::find_sites<double>(net).front();

    for (const Route route : {Route::cholesky, Route::eigen}) {
      INFO(which.name, ", route ", static_cast<int>(route));
      ms::grow::detail::MapStatistics<double> statistics(ctx, site.shape(x.shape()), which.fan_out);
      statistics.update(ctx, x, z, goal);
      statistics.find_move(ctx, 0.0, route);
      statistics.update_residual(ctx, x, z, goal);
      // Both sides are float64; the conditions of S and S1 are of the order of a hundred.
      constexpr double tolerance = 1e-11;
      check_matrix(to_dense(ctx, statistics.move().weights),
                   -1 * channels_last(read(which, "tiny.delta_raw"), taps2, joint.width), tolerance, "delta_raw");
      CHECK(statistics.move().decrease == doctest::Approx(which.decrease).epsilon(tolerance));

      const auto s = statistics.covariance(ctx), n = std::move(statistics.residual_cross_moments(ctx).front());
      for (const bool two : {false, true}) {
        const std::string option = two ? "max2" : "tiny";
        const Dense singular_values = read(which, option + ".singular_values");
        // gromo keeps singular values above 1e-3; the others are rounding errors.
        const auto units = ms::grow::new_units<double>(
            ctx, s, n.view(), {.route = route, .max_units = two ? 2 : ms::grow::unlimited, .ridge = 0.0}, 1e-3);
        REQUIRE(units.units == singular_values.columns);
        const std::vector<double> leading(units.lambda.begin(), units.lambda.begin() + units.units);
        support::check_close(leading, singular_values.values, tolerance, option);

        const Dense alpha = channels_last(read(which, option + ".alpha"), taps, joint.in);
        Dense omega = channels_last(read(which, option + ".omega"), taps2, q);
        if (which.fan_out == FanOut::centre) {
          Dense centre(omega.rows, q);
          for (std::int64_t k = 0; k < omega.rows; ++k) {
            for (std::int64_t m = 0; m < q; ++m) centre(k, m) = omega(k, taps2 / 2 * q + m);
          }
          omega = centre;
        }
        // The signs of a pair may turn together.
        check_matrix(support::transposed(to_dense(ctx, units.fan_in)) * to_dense(ctx, units.fan_out),
                     support::transposed(alpha) * omega, tolerance, option + ": sum of alpha omega");
        double gain = 0.0;
        for (const double lambda : leading) gain += lambda * lambda;
        CHECK(statistics.move().decrease + gain ==
              doctest::Approx(two ? which.improvement_two : which.improvement).epsilon(tolerance));
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace grow_map_reference_test
