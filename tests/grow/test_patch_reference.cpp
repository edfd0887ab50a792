// Statistics of convolutions against vectors computed by gromo (tests/reference/README.md).
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <meristem/grow/statistics/patch_statistics.hpp>
#include <support/check.hpp>
#include <support/npy.hpp>

namespace grow_patch_reference_test {

namespace {

namespace ms = meristem;
using ms::Extent2;
using ms::Window;
using ms::grow::FanOut;
using support::Dense;

/// Two convolutions as gromo ran them.
struct Case {
  const char* name;
  Window first, second;
  bool bias;
  FanOut fan_out;
  std::int64_t in, hidden, out;
};

const Window three{.kernel = 3, .padding = 1};
const Case cases[] = {
    {"conv1_full", {}, {}, true, FanOut::full, 5, 2, 4},
    {"conv3_nobias_full", three, three, false, FanOut::full, 2, 3, 4},
    {"conv3_nobias_restricted", three, three, false, FanOut::centre, 2, 3, 4},
    {"conv3_s2first_full", {.kernel = 3, .stride = 2, .padding = 1}, three, true, FanOut::full, 2, 3, 4}};

Dense read(const Case& which, const std::string& array) {
  return support::read_npy(
      (std::filesystem::path(__FILE__).parent_path().parent_path() / "reference" / which.name / (array + ".npy"))
          .string());
}

/// (n, c·h·w) to (n, h, w, c).
std::vector<double> to_nhwc(const Dense& maps, Extent2 extent) {
  const std::int64_t channels = maps.columns / extent.size();
  std::vector<double> result;
  for (std::int64_t i = 0; i < maps.rows; ++i) {
    for (std::int64_t at = 0; at < extent.size(); ++at) {
      for (std::int64_t c = 0; c < channels; ++c) result.push_back(maps(i, c * extent.size() + at));
    }
  }
  return result;
}

/// The place of our patch coordinate i, [tap][c] and the bias, in gromo's order [c][tap] and the bias.
std::int64_t gromo_row(std::int64_t i, std::int64_t taps, std::int64_t channels) {
  return i < taps * channels ? i % channels * taps + i / channels : i;
}

/// gromo's matrix in our order: rows of patches, columns of patches or of (tap, output) pairs.
std::vector<double> reordered(const Dense& a, std::int64_t row_taps, std::int64_t row_channels,
                              std::int64_t column_taps, std::int64_t column_channels, double factor) {
  std::vector<double> result;
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < a.columns; ++j) {
      result.push_back(factor * a(gromo_row(i, row_taps, row_channels), gromo_row(j, column_taps, column_channels)));
    }
  }
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("patch reference: S, S1, M and N of gromo") {
  ms::Context ctx;
  const Extent2 map{6, 5};
  for (const Case& which : cases) {
    INFO(which.name);
    const Extent2 hidden = which.first.output(map), outputs = which.second.output(hidden);
    const std::int64_t taps = which.first.kernel.size(), taps2 = which.second.kernel.size();
    const std::int64_t columns = which.fan_out == FanOut::full ? taps2 : 1;
    const Dense b0 = read(which, "B0"), b1 = read(which, "B1"), gradient = read(which, "dA2");
    const std::int64_t n = b0.rows;
    const auto x0 = ms::from_host<double>(ctx, {n, map.y, map.x, which.in}, to_nhwc(b0, map));
    const auto x1 = ms::from_host<double>(ctx, {n, hidden.y, hidden.x, which.hidden}, to_nhwc(b1, hidden));
    std::vector<double> goal = to_nhwc(gradient, outputs);
    for (double& value : goal) value = -value;

    // Sums of at most 12 · 30 · 9 products, each divided by 12: agreement to a few hundred roundings of the largest.
    const auto compare = [&](const ms::Tensor<double>& actual, const std::vector<double>& expected, const char* what) {
      support::check_close(ms::to_host(ctx, actual), expected, 1e-13 * support::scale_of(expected), what);
    };
    const auto [rows, cols] = ms::grow::position_counts(which.second, hidden, which.fan_out);
    ms::grow::PatchCovariance<double> s(ctx, which.in, which.first, map, which.bias, rows, cols);
    ms::grow::PatchCovariance<double> s1(ctx, which.hidden, which.second, hidden, which.bias);
    s.update(ctx, x0);
    s1.update(ctx, x1);
    compare(s.mean(ctx), reordered(read(which, "S_growth"), taps, which.in, taps, which.in, 1), "S");
    compare(s1.mean(ctx), reordered(read(which, "S"), taps2, which.hidden, taps2, which.hidden, 1), "S1");

    const auto cross = [&](const std::vector<double>& v) {
      ms::grow::PatchCrossCovariance<double> result(ctx, which.in, which.first, map, which.bias, which.out,
                                                    which.second, which.fan_out);
      result.update(ctx, x0, ms::from_host<double>(ctx, {n, outputs.y, outputs.x, which.out}, v));
      return result.mean(ctx);
    };
    compare(cross(goal), reordered(read(which, "M_prev"), taps, which.in, columns, which.out, -1), "M");

    // V_proj = V_goal - δW* B1, in plain loops; delta_raw is -δW*.
    const Dense delta = read(which, "tiny.delta_raw");
    std::vector<double> residual = goal;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t jy = 0; jy < outputs.y; ++jy) {
        for (std::int64_t jx = 0; jx < outputs.x; ++jx) {
          for (std::int64_t m = 0; m < which.out; ++m) {
            double sum = which.bias ? delta(m, delta.columns - 1) : 0.0;
            for (std::int64_t tap = 0; tap < taps2; ++tap) {
              const std::int64_t y = jy - which.second.padding.y + tap / which.second.kernel.x;
              const std::int64_t x = jx - which.second.padding.x + tap % which.second.kernel.x;
              if (y < 0 || x < 0 || y >= hidden.y || x >= hidden.x) continue;
              for (std::int64_t c = 0; c < which.hidden; ++c) {
                sum += delta(m, c * taps2 + tap) * b1(i, (c * hidden.y + y) * hidden.x + x);
              }
            }
            residual[static_cast<std::size_t>(((i * outputs.y + jy) * outputs.x + jx) * which.out + m)] += sum;
          }
        }
      }
    }
    const std::vector<double> expected = reordered(read(which, "N"), taps, which.in, columns, which.out, 1);
    // N is a small difference of sums as large as M, whose S1 has conditions up to a hundred.
    const double scale = support::scale_of(reordered(read(which, "M_prev"), taps, which.in, columns, which.out, 1));
    support::check_close(ms::to_host(ctx, cross(residual)), expected, 1e-12 * scale, "N");
  }
}

TEST_SUITE_END();

}  // namespace grow_patch_reference_test
