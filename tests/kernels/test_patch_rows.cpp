#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <meristem/kernels/patch_rows.cuh>
#include <support/check.hpp>

namespace kernels_patch_rows_test {

namespace ms = meristem;
namespace mk = meristem::kernels;

namespace {

using Indices = std::vector<std::int64_t>;

ms::Tensor<std::int64_t> upload(ms::Context& ctx, const Indices& values) {
  return ms::from_host<std::int64_t>(ctx, {static_cast<std::int64_t>(values.size())}, values);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("patch rows: chosen patches, scaled, in every way of running a block") {
  const std::int64_t n = 2, height = 5, width = 4, channels = 3;
  const auto x = support::normal_values<float>(n * height * width * channels, 3);
  const Indices ys{0, 2, 3}, xs{1, 2};
  const std::vector<float> fy{1, 2, 0.5}, fx{4, 1};
  support::for_every_executor([&](ms::Context& ctx) {
    const auto maps = ms::from_host<float>(ctx, {n, height, width, channels}, x);
    const auto rows = upload(ctx, ys), columns = upload(ctx, xs);
    const auto factor_y = ms::from_host<float>(ctx, {3}, fy), factor_x = ms::from_host<float>(ctx, {2}, fx);
    for (const ms::Window& w :
         {ms::Window{.kernel = 3, .padding = 1}, ms::Window{.kernel = {2, 3}, .padding = {1, 4}, .dilation = {1, 2}},
          ms::Window{.kernel = 2, .stride = 2, .padding = 2}}) {
      for (const bool scaled : {false, true}) {
        const std::int64_t first = 3, count = 7, p = w.kernel.size() * channels;
        support::Guarded<float> out(ctx, {count, p});
        mk::gather(ctx,
                   mk::GatherPatches<float>{maps.data(),
                                            out.view().data_handle(),
                                            {rows.data(), columns.data(), 3, 2},
                                            scaled ? factor_y.data() : nullptr,
                                            scaled ? factor_x.data() : nullptr,
                                            height,
                                            width,
                                            channels,
                                            w,
                                            first},
                   count);
        std::vector<double> expected;
        for (std::int64_t r = first; r < first + count; ++r) {
          const auto a = static_cast<std::size_t>(r / 2 % 3), b = static_cast<std::size_t>(r % 2);
          for (std::int64_t ky = 0; ky < w.kernel.y; ++ky) {
            for (std::int64_t kx = 0; kx < w.kernel.x; ++kx) {
              for (std::int64_t c = 0; c < channels; ++c) {
                const std::int64_t y = ys[a] * w.stride.y - w.padding.y + ky * w.dilation.y;
                const std::int64_t at = xs[b] * w.stride.x - w.padding.x + kx * w.dilation.x;
                const bool inside = y >= 0 && at >= 0 && y < height && at < width;
                const double value =
                    inside ? static_cast<double>(
                                 x[static_cast<std::size_t>(((r / 6 * height + y) * width + at) * channels + c)])
                           : 0.0;
                // Factors are powers of two: exact.
                expected.push_back(scaled ? static_cast<double>(fy[a] * fx[b]) * value : value);
              }
            }
          }
        }
        support::check_close(out.values(ctx), expected, 0.0);
        out.check_guards(ctx);
      }
    }
  });
}

TEST_CASE("patch rows: what a consumer's outputs take from each position, in every way of running a block") {
  const std::int64_t n = 2, outputs = 3;
  const ms::Extent2 map{6, 5};
  const Indices ys{0, 1, 5}, xs{0, 2, 4}, taps_y{0, 2}, taps_x{1};
  support::for_every_executor([&](ms::Context& ctx) {
    for (const ms::Window& w :
         {ms::Window{.kernel = 3, .padding = 1}, ms::Window{.kernel = 3, .stride = 2, .padding = 1},
          ms::Window{.kernel = 3, .padding = {2, 1}, .dilation = {2, 1}}}) {
      const ms::Extent2 extent = w.output(map);
      const auto v = support::normal_values<float>(n * extent.size() * outputs, 4);
      const auto goals = ms::from_host<float>(ctx, {n, extent.y, extent.x, outputs}, v);
      const auto rows = upload(ctx, ys), columns = upload(ctx, xs), ty = upload(ctx, taps_y), tx = upload(ctx, taps_x);
      const std::int64_t first = 2, count = 15;
      support::Guarded<float> out(ctx, {count, 2 * outputs});
      mk::gather(ctx,
                 mk::GatherOutputs<float>{goals.data(),
                                          out.view().data_handle(),
                                          {rows.data(), columns.data(), 3, 3},
                                          ty.data(),
                                          tx.data(),
                                          2,
                                          1,
                                          extent.y,
                                          extent.x,
                                          outputs,
                                          w,
                                          first},
                 count);
      std::vector<double> expected;
      for (std::int64_t r = first; r < first + count; ++r) {
        const std::int64_t y = ys[static_cast<std::size_t>(r / 3 % 3)], x = xs[static_cast<std::size_t>(r % 3)];
        for (const std::int64_t a : taps_y) {
          for (std::int64_t m = 0; m < outputs; ++m) {
            double value = 0.0;
            for (std::int64_t jy = 0; jy < extent.y; ++jy) {
              for (std::int64_t jx = 0; jx < extent.x; ++jx) {
                if (jy * w.stride.y - w.padding.y + a * w.dilation.y != y) continue;
                if (jx * w.stride.x - w.padding.x + taps_x[0] * w.dilation.x != x) continue;
                value = static_cast<double>(
                    v[static_cast<std::size_t>(((r / 9 * extent.y + jy) * extent.x + jx) * outputs + m)]);
              }
            }
            expected.push_back(value);
          }
        }
      }
      support::check_close(out.values(ctx), expected, 0.0);
      out.check_guards(ctx);
    }
  });
}

TEST_SUITE_END();

}  // namespace kernels_patch_rows_test
