#include <doctest/doctest.h>

#include <vector>

#include <meristem/kernels/patches.cuh>
#include <support/check.hpp>

namespace kernels_patches_test {

namespace ms = meristem;
namespace mk = meristem::kernels;
using support::contains;
using support::message_of;

namespace {

struct Case {
  ms::Shape x;
  ms::Window window;
};

const std::vector<Case> cases = {
    {{1, 1, 1, 1}, {1, 1, 0, 1}},
    {{2, 5, 4, 3}, {3, 1, 1, 1}},
    {{2, 7, 6, 2}, {{3, 2}, {2, 3}, {1, 0}, {1, 2}}},
    {{1, 6, 9, 5}, {{1, 4}, {3, 1}, {0, 5}, 1}},
    {{3, 4, 4, 1}, {{4, 4}, 1, 0, 1}},
    {{2, 8, 5, 4}, {{5, 2}, {1, 2}, {4, 1}, {2, 3}}},
    {{2, 6, 6, 33}, {1, 2, 0, 1}},
};

ms::Shape patches_shape(const Case& c) {
  const ms::Extent2 output = c.window.output({c.x[1], c.x[2]});
  return {c.x[0] * output.size(), c.window.kernel.size() * c.x[3]};
}

/// Calls visit(row, column, offset in x) for every element of the patches; the offset is -1 outside the map.
template <class Visit>
void plain_patches(const Case& c, const Visit& visit) {
  const ms::Window& w = c.window;
  std::int64_t row = 0;
  for (std::int64_t i = 0; i < c.x[0]; ++i) {
    for (std::int64_t top = -w.padding.y; top + (w.kernel.y - 1) * w.dilation.y < c.x[1] + w.padding.y;
         top += w.stride.y) {
      for (std::int64_t left = -w.padding.x; left + (w.kernel.x - 1) * w.dilation.x < c.x[2] + w.padding.x;
           left += w.stride.x, ++row) {
        std::int64_t column = 0;
        for (std::int64_t ky = 0; ky < w.kernel.y; ++ky) {
          for (std::int64_t kx = 0; kx < w.kernel.x; ++kx) {
            for (std::int64_t k = 0; k < c.x[3]; ++k, ++column) {
              const std::int64_t y = top + ky * w.dilation.y, x = left + kx * w.dilation.x;
              const bool inside = y >= 0 && x >= 0 && y < c.x[1] && x < c.x[2];
              visit(row, column, inside ? ((i * c.x[1] + y) * c.x[2] + x) * c.x[3] + k : -1);
            }
          }
        }
      }
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("patches: im2col copies what the window reads", T, float, double) {
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Case& c : cases) {
      CAPTURE(c.x.to_string());
      const auto x = support::normal_values<T>(c.x.size(), 1);
      const ms::Shape shape = patches_shape(c);
      std::vector<double> expected(static_cast<std::size_t>(shape.size()), 777.0);
      plain_patches(c, [&](std::int64_t row, std::int64_t column, std::int64_t from) {
        expected[static_cast<std::size_t>(row * shape[1] + column)] =
            from < 0 ? 0.0 : static_cast<double>(x[static_cast<std::size_t>(from)]);
      });
      support::Guarded<T> patches(ctx, shape);
      mk::im2col<T>(ctx, ms::from_host<T>(ctx, c.x, x), c.window, patches.view());
      support::check_close(patches.values(ctx), expected, 0.0);
      patches.check_guards(ctx);
    }
  });
}

TEST_CASE_TEMPLATE("patches: col2im adds every patch where it came from", T, float, double) {
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Case& c : cases) {
      CAPTURE(c.x.to_string());
      const ms::Shape shape = patches_shape(c);
      const auto patches = support::normal_values<T>(shape.size(), 2);
      std::vector<double> expected(static_cast<std::size_t>(c.x.size()), 0.0);
      plain_patches(c, [&](std::int64_t row, std::int64_t column, std::int64_t to) {
        if (to < 0) return;
        expected[static_cast<std::size_t>(to)] += patches[static_cast<std::size_t>(row * shape[1] + column)];
      });
      support::Guarded<T> x(ctx, c.x);
      mk::col2im<T>(ctx, ms::from_host<T>(ctx, shape, patches), c.window, x.view());
      // At most kernel.size() additions of terms below 5, each rounded to half an eps of a partial sum below 5 terms.
      const double terms = static_cast<double>(c.window.kernel.size());
      support::check_close(x.values(ctx), expected, terms * terms * 5.0 * support::eps<T>);
      x.check_guards(ctx);
    }
  });
}

TEST_CASE("patches: empty batches and no channels leave nothing to do") {
  ms::Context ctx;
  const ms::Window window{3, 1, 1, 1};
  auto none = ms::empty<float>(ctx, {0, 4, 4, 2});
  auto no_rows = ms::empty<float>(ctx, {0, 18});
  mk::im2col<float>(ctx, none, window, no_rows);
  mk::col2im<float>(ctx, no_rows, window, none);
  auto thin = ms::empty<float>(ctx, {2, 4, 4, 0});
  auto no_columns = ms::empty<float>(ctx, {32, 0});
  mk::im2col<float>(ctx, thin, window, no_columns);
  mk::col2im<float>(ctx, no_columns, window, thin);
  CHECK(no_columns.shape() == ms::Shape{32, 0});
  auto padding = ms::empty<float>(ctx, {1, 0, 2, 1});
  auto zeros = ms::from_host<float>(ctx, {2, 2}, std::vector<float>(4, 7.0f));
  mk::im2col<float>(ctx, padding, {{2, 1}, 1, {1, 0}, 1}, zeros);
  support::check_close(ms::to_host(ctx, zeros), std::vector<double>(4, 0.0), 0.0);
}

TEST_CASE("patches: misfits are told with shapes") {
  ms::Context ctx;
  auto x = ms::zeros<float>(ctx, {2, 4, 5, 3});
  auto patches = ms::zeros<float>(ctx, {40, 27});
  const auto wrong = message_of<ms::ShapeError>([&] { mk::im2col<float>(ctx, x, {3, 1, 0, 1}, patches); });
  CHECK(contains(wrong, "im2col: x of shape (2, 4, 5, 3) under a kernel of 3x3 has patches of shape (12, 27)"));
  CHECK(contains(wrong, "got (40, 27)"));
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   mk::col2im<float>(ctx, patches, {5, 1, 0, 1}, x);
                 }),
                 "spans 5x5, more than the map of 4x5"));
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   mk::im2col<float>(ctx, x, {3, 0, 0, 1}, patches);
                 }),
                 "the stride is 0x0"));
  auto flat = ms::zeros<float>(ctx, {2, 60});
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   mk::im2col<float>(ctx, flat, {3, 1, 0, 1}, patches);
                 }),
                 "x has shape (2, 60); it must have rank 4"));
}

TEST_SUITE_END();

}  // namespace kernels_patches_test
