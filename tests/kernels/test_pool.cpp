#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/pool.cuh>
#include <support/check.hpp>

namespace kernels_pool_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using support::contains;
using support::Guarded;
using support::message_of;

namespace {

struct Case {
  std::int64_t n, height, width, channels;
  ms::Window window;
};

// Side by side, overlapping, many over one another, apart, padded, dilated, lopsided, whole maps; one channel, odd and
// wide ones; border rows and columns that no window reaches.
const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {2, 4, 6, 1, {.kernel = 2, .stride = 2}},
      {2, 4, 4, 5, {.kernel = 2, .stride = 2}},
      {1, 2, 2, 70, {.kernel = 2, .stride = 2}},
      {2, 5, 7, 3, {.kernel = 2, .stride = 2}},
      {1, 4, 5, 2, {.kernel = 2, .stride = 2}},
      {2, 5, 4, 3, {.kernel = 3, .stride = 2, .padding = 1}},
      {1, 6, 6, 33, {.kernel = 3, .stride = 1, .padding = 1}},
      {1, 9, 8, 2, {.kernel = {6, 7}, .stride = 1, .padding = {2, 3}}},
      {1, 7, 5, 2, {.kernel = 2, .stride = 3}},
      {2, 6, 7, 2, {.kernel = {3, 2}, .stride = {1, 2}, .padding = {1, 0}}},
      {1, 8, 9, 2, {.kernel = {2, 3}, .stride = {2, 1}, .padding = {1, 2}, .dilation = {3, 2}}},
      {1, 1, 1, 4, {.kernel = 1}},
      {3, 4, 3, 2, {.kernel = {4, 3}, .stride = {4, 3}}},
      {1, 3, 3, 600, {.kernel = 2, .stride = 1}},
      {0, 4, 4, 2, {.kernel = 2, .stride = 2}},
      {2, 4, 4, 0, {.kernel = 2, .stride = 2}},
      {2, 4, 4, 0, {.kernel = 3, .stride = 1}},
  };
  return all;
}

std::size_t at(const Case& c, std::int64_t height, std::int64_t width, std::int64_t n, std::int64_t y, std::int64_t x,
               std::int64_t channel) {
  (void)c;
  return static_cast<std::size_t>(((n * height + y) * width + x) * c.channels + channel);
}

struct Expected {
  std::vector<double> maximum, mean, max_gradient, mean_gradient;
};

// Window by window, each handing its gradient out.
template <class T>
Expected expected(const Case& c, const std::vector<T>& x, const std::vector<T>& dy) {
  const ms::Extent2 out = c.window.output({c.height, c.width});
  Expected e;
  e.maximum.resize(static_cast<std::size_t>(c.n * out.y * out.x * c.channels));
  e.mean.resize(e.maximum.size());
  e.max_gradient.resize(x.size());
  e.mean_gradient.resize(x.size());
  for (std::int64_t n = 0; n < c.n; ++n) {
    for (std::int64_t oy = 0; oy < out.y; ++oy) {
      for (std::int64_t ox = 0; ox < out.x; ++ox) {
        for (std::int64_t k = 0; k < c.channels; ++k) {
          std::vector<std::size_t> inside;
          for (std::int64_t ty = 0; ty < c.window.kernel.y; ++ty) {
            for (std::int64_t tx = 0; tx < c.window.kernel.x; ++tx) {
              const std::int64_t iy = oy * c.window.stride.y + ty * c.window.dilation.y - c.window.padding.y;
              const std::int64_t ix = ox * c.window.stride.x + tx * c.window.dilation.x - c.window.padding.x;
              if (iy < 0 || ix < 0 || iy >= c.height || ix >= c.width) continue;
              inside.push_back(at(c, c.height, c.width, n, iy, ix, k));
            }
          }
          const std::size_t o = at(c, out.y, out.x, n, oy, ox, k);
          std::size_t winner = inside.front();
          double sum = 0.0;
          for (const std::size_t i : inside) {
            sum += double(x[i]);
            if (std::isnan(x[winner])) continue;
            if (std::isnan(x[i]) || x[i] > x[winner]) winner = i;
          }
          e.maximum[o] = double(x[winner]);
          e.mean[o] = sum / double(inside.size());
          e.max_gradient[winner] += double(dy[o]);
          for (const std::size_t i : inside) e.mean_gradient[i] += double(dy[o]) / double(inside.size());
        }
      }
    }
  }
  return e;
}

template <class T>
void check_exact(const std::vector<T>& actual, const std::vector<double>& expected, const std::string& what) {
  std::vector<T> rounded(expected.begin(), expected.end());
  REQUIRE(actual.size() == rounded.size());
  INFO(what);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    INFO("element ", i, ": got ", actual[i], ", expected ", rounded[i]);
    if (std::isnan(rounded[i])) {
      CHECK(std::isnan(actual[i]));
    } else {
      REQUIRE(actual[i] == rounded[i]);
    }
  }
}

template <class T>
void check_case(ms::Context& ctx, const Case& c, const std::vector<T>& x) {
  CAPTURE(c.n);
  CAPTURE(c.height);
  CAPTURE(c.width);
  CAPTURE(c.channels);
  CAPTURE(c.window.kernel);
  CAPTURE(c.window.stride);
  CAPTURE(c.window.padding);
  const ms::Extent2 out = c.window.output({c.height, c.width});
  const ms::Shape map{c.n, c.height, c.width, c.channels}, pooled{c.n, out.y, out.x, c.channels};
  const auto dy = support::normal_values<T>(pooled.size(), 2);
  const auto e = expected(c, x, dy);
  const auto input = ms::from_host<T>(ctx, map, x);
  const auto upstream = ms::from_host<T>(ctx, pooled, dy);

  Guarded<T> y(ctx, pooled), dx(ctx, map);
  kernels::max_pool_forward(ctx, input, c.window, y.view());
  y.check_guards(ctx);
  check_exact(y.values(ctx), e.maximum, "maximum");
  kernels::max_pool_backward(ctx, input, upstream, c.window, dx.view());
  dx.check_guards(ctx);
  // Sums of at most `taps` terms.
  const double taps = double(c.window.kernel.size());
  support::check_close(dx.values(ctx), e.max_gradient, taps * support::eps<T> * support::scale_of(e.max_gradient),
                       "gradient of the maximum");

  Guarded<T> mean(ctx, pooled), mean_dx(ctx, map);
  kernels::average_pool_forward(ctx, input, c.window, mean.view());
  mean.check_guards(ctx);
  bool finite = true;
  for (const T value : x) finite = finite && std::isfinite(value);
  if (finite) {
    // `taps` additions of partial sums up to taps · scale, divided by as many, and two more roundings.
    support::check_close(mean.values(ctx), e.mean, (taps + 2) * support::eps<T> * support::scale_of(x), "mean");
  }
  kernels::average_pool_backward(ctx, upstream, c.window, mean_dx.view());
  mean_dx.check_guards(ctx);
  support::check_close(mean_dx.values(ctx), e.mean_gradient, (taps + 2) * support::eps<T> * support::scale_of(dy),
                       "gradient of the mean");
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("pool: maxima, means and their gradients equal plain loops, on every executor", T, float, double) {
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Case& c : cases()) {
      check_case<T>(ctx, c, support::normal_values<T>(c.n * c.height * c.width * c.channels, 1));
    }
  });
}

TEST_CASE_TEMPLATE("pool: the first of equal maxima gets the gradient, and NaN counts as the maximum", T, float,
                   double) {
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Case& c : cases()) {
      // Three values only: almost every window has ties.
      std::vector<T> ties = support::normal_values<T>(c.n * c.height * c.width * c.channels, 3);
      for (T& value : ties) value = value > T(0.5) ? T(1) : (value < T(-0.5) ? T(-1) : T(0));
      check_case<T>(ctx, c, ties);
      std::vector<T> special = ties;
      for (std::size_t i = 0; i < special.size(); ++i) {
        if (i % 7 == 0) special[i] = nan;
        if (i % 11 == 3) special[i] = inf;
        if (i % 5 == 1) special[i] = -inf;
      }
      check_case<T>(ctx, c, special);
      check_case<T>(ctx, c, std::vector<T>(special.size(), -inf));
      check_case<T>(ctx, c, std::vector<T>(special.size(), nan));
    }
  });
}

TEST_CASE("pool: many positions, shared by several workers") {
  ms::ContextOptions options{.seed = 1};
  options.executor.threads = 3;
  ms::Context ctx(options);
  for (const auto& window :
       {ms::Window{.kernel = 2, .stride = 2}, ms::Window{.kernel = 3, .stride = 2, .padding = 1}}) {
    const Case c{5, 48, 48, 21, window};
    check_case<float>(ctx, c, support::normal_values<float>(5 * 48 * 48 * 21, 1));
  }
}

TEST_CASE("pool: misfits are told with shapes and remedy") {
  ms::Context ctx;
  const auto x = ms::zeros<float>(ctx, {2, 4, 4, 3});
  auto y = ms::zeros<float>(ctx, {2, 2, 2, 3});
  const ms::Window two{.kernel = 2, .stride = 2};
  const auto shape_error = [&](auto&& action) { return message_of<ms::ShapeError>(action); };
  CHECK(shape_error([&] { kernels::max_pool_forward<float>(ctx, x, {.kernel = 3, .stride = 2}, y); }) ==
        "max_pool_forward: the window pools x of shape (2, 4, 4, 3) to (2, 1, 1, 3); y has shape (2, 2, 2, 3)");
  CHECK(contains(shape_error([&] { kernels::max_pool_forward<float>(ctx, x, {.kernel = 5}, y); }),
                 "max_pool_forward: the kernel 5x5 spans 5x5, more than the map of 4x4"));
  CHECK(
      shape_error([&] { kernels::average_pool_forward<float>(ctx, x, {.kernel = 2, .stride = 2, .padding = 2}, y); }) ==
      "average_pool_forward: a window of 2x2 with padding 2x2 and dilation 1x1 has no element of the map of 4x4 at "
      "some positions; use less padding");
  // Taps at -1 and 3 jump over a map of 3.
  CHECK(contains(shape_error([&] {
                   kernels::check_pool_window("p", {.kernel = 2, .padding = 1, .dilation = 4}, {3, 3});
                 }),
                 "p: a window of 2x2 with padding 1x1 and dilation 4x4"));
  CHECK_NOTHROW(kernels::check_pool_window("p", {.kernel = 3, .padding = 2}, {1, 1}));
  CHECK(contains(
      message_of<ms::ArgumentError>([&] { kernels::max_pool_forward<float>(ctx, x, {.kernel = 2, .stride = 0}, y); }),
      "the stride is 0x0"));
  auto flat = ms::zeros<float>(ctx, {2, 48});
  CHECK(contains(shape_error([&] { kernels::max_pool_forward<float>(ctx, flat, two, y); }),
                 "x has shape (2, 48); maps have four axes"));
  CHECK(contains(shape_error([&] { kernels::max_pool_forward<float>(ctx, x.view().slice(3, 0, 2), two, y); }),
                 "is strided"));
  auto dx = ms::zeros<float>(ctx, {2, 4, 4, 2});
  CHECK(contains(shape_error([&] { kernels::max_pool_backward<float>(ctx, x, y, two, dx); }),
                 "dx has shape (2, 4, 4, 2), x has shape (2, 4, 4, 3)"));
  CHECK(contains(shape_error([&] { kernels::average_pool_backward<float>(ctx, y, two, dx); }),
                 "average_pool_backward: the window pools dx"));
}

TEST_SUITE_END();

}  // namespace kernels_pool_test
