#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <support/check.hpp>

namespace kernels_elementwise_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

const std::vector<std::int64_t> sizes = {0, 1, 31, 32, 33, 1000, 4097};

}  // namespace

TEST_CASE_TEMPLATE("elementwise: fill writes every element and nothing else", T, float, double, std::int32_t) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t n : sizes) {
      Guarded<T> y(ctx, {n});
      kernels::fill(ctx, 3, y.view());
      y.check_guards(ctx);
      CHECK(y.values(ctx) == std::vector<T>(static_cast<std::size_t>(n), T(3)));
    }
  });
}

TEST_CASE_TEMPLATE("elementwise: scale, axpy and combine against loops in double", T, float, double) {
  const double a = 0.7, b = -1.3;
  support::for_every_executor([&](ms::Context& ctx) {
    for (const std::int64_t n : sizes) {
      const std::vector<T> x = support::normal_values<T>(n, 1), y = support::normal_values<T>(n, 2);
      const auto device_x = ms::from_host<T>(ctx, {n}, x), device_y = ms::from_host<T>(ctx, {n}, y);
      // a and b rounded to T are what the kernels see.
      const double at = static_cast<T>(a), bt = static_cast<T>(b);
      std::vector<double> scaled, added, combined;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double xi = x[i], yi = y[i];
        scaled.push_back(at * xi);
        added.push_back(yi + at * xi);
        combined.push_back(at * xi + bt * yi);
      }
      // Each product and sum is rounded once, by at most eps / 2 of its size, and no intermediate exceeds 2 scales.
      const double tolerance = 2 * support::eps<T> * 1.3 * std::max(support::scale_of(x), support::scale_of(y));

      Guarded<T> out(ctx, {n});
      ms::copy(ctx, device_x.view(), out.view());
      kernels::scale(ctx, a, out.view());
      out.check_guards(ctx);
      support::check_close(out.values(ctx), scaled, tolerance, "scale");

      ms::copy(ctx, device_y.view(), out.view());
      kernels::axpy(ctx, a, device_x, out.view());
      out.check_guards(ctx);
      support::check_close(out.values(ctx), added, tolerance, "axpy");

      kernels::combine(ctx, a, device_x, b, device_y, out.view());
      out.check_guards(ctx);
      support::check_close(out.values(ctx), combined, tolerance, "combine");
      const std::vector<T> separate = out.values(ctx);

      ms::copy(ctx, device_x.view(), out.view());
      kernels::combine(ctx, a, out.view(), b, device_y, out.view());
      support::check_same_bits(out.values(ctx), separate, "combine in place");
    }
  });
}

TEST_CASE_TEMPLATE("elementwise: add_bias adds to every row of any leading shape", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const ms::Shape& shape : {ms::Shape{0, 3}, ms::Shape{4, 0}, ms::Shape{1, 1}, ms::Shape{5}, ms::Shape{31, 33},
                                   ms::Shape{1000, 3}, ms::Shape{2, 3, 5, 7}}) {
      const std::int64_t cols = shape[shape.rank() - 1];
      const std::vector<T> bias = support::normal_values<T>(cols, 3), y = support::normal_values<T>(shape.size(), 4);
      std::vector<double> expected;
      for (std::size_t i = 0; i < y.size(); ++i) {
        expected.push_back(static_cast<double>(y[i]) + static_cast<double>(bias[i % bias.size()]));
      }
      Guarded<T> out(ctx, shape);
      ms::copy(ctx, ms::from_host<T>(ctx, shape, y).view(), out.view());
      kernels::add_bias(ctx, ms::from_host<T>(ctx, {cols}, bias), out.view());
      out.check_guards(ctx);
      // One addition, rounded by eps / 2 of a result of at most 2 scales.
      const double scale = std::max(support::scale_of(y), support::scale_of(bias));
      support::check_close(out.values(ctx), expected, support::eps<T> * scale, shape.to_string());
    }
  });
}

TEST_CASE("elementwise: convert rounds to nearest and widens exactly") {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t n : sizes) {
      const std::vector<double> wide = support::normal_values<double>(n, 5);
      const std::vector<float> narrow = support::normal_values<float>(n, 6);
      std::vector<std::uint8_t> bytes;
      for (std::int64_t i = 0; i < n; ++i) bytes.push_back(static_cast<std::uint8_t>(i * 7));

      Guarded<float> floats(ctx, {n});
      kernels::convert(ctx, ms::from_host<double>(ctx, {n}, wide).view(), floats.view());
      floats.check_guards(ctx);
      CHECK(floats.values(ctx) == std::vector<float>(wide.begin(), wide.end()));

      Guarded<double> doubles(ctx, {n});
      kernels::convert(ctx, ms::from_host<float>(ctx, {n}, narrow).view(), doubles.view());
      doubles.check_guards(ctx);
      CHECK(doubles.values(ctx) == std::vector<double>(narrow.begin(), narrow.end()));

      kernels::convert(ctx, ms::from_host<std::uint8_t>(ctx, {n}, bytes).view(), floats.view());
      floats.check_guards(ctx);
      CHECK(floats.values(ctx) == std::vector<float>(bytes.begin(), bytes.end()));
    }
  });
}

TEST_CASE("elementwise: the same bits for one and two workers and for two runs") {
  const std::int64_t n = 300'001;
  const auto run = [&](int workers) {
    ms::ContextOptions options{.seed = 1};
    options.executor.threads = workers;
    ms::Context ctx(options);
    const auto x = ms::from_host<float>(ctx, {n}, support::normal_values<float>(n, 7));
    auto y = ms::from_host<float>(ctx, {n}, support::normal_values<float>(n, 8));
    kernels::axpy(ctx, 0.3f, x, y.view());
    kernels::scale(ctx, 1.7f, y.view());
    kernels::combine(ctx, 0.1f, x, 0.9f, y, y.view());
    return ms::to_host(ctx, y);
  };
  const std::vector<float> first = run(1);
  support::check_same_bits(first, run(1));
  support::check_same_bits(first, run(2));
}

TEST_CASE("elementwise: shapes that do not fit are named") {
  ms::Context ctx({.seed = 1});
  auto a = ms::zeros<float>(ctx, {2, 3});
  auto b = ms::zeros<float>(ctx, {3, 2});
  auto bias = ms::zeros<float>(ctx, {2});
  CHECK(message_of<ms::ShapeError>([&] { kernels::axpy(ctx, 1, a, b.view()); }) ==
        "axpy: x has shape (2, 3), y has shape (3, 2); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { kernels::combine(ctx, 1, a, 1, b, a.view()); }) ==
        "combine: y has shape (3, 2), out has shape (2, 3); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { kernels::convert(ctx, a.view(), b.view()); }) ==
        "convert: from has shape (2, 3), to has shape (3, 2); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { kernels::add_bias(ctx, bias, a.view()); }) ==
        "add_bias: bias has shape (2), y has shape (2, 3); bias needs one element for each column of y");
  CHECK(message_of<ms::ShapeError>([&] { kernels::scale(ctx, 2, a.view().slice(1, 0, 2)); }) ==
        "scale: x of shape (2, 2) is strided; contiguous elements are needed: copy the slice to a tensor of its own");
  CHECK(message_of<ms::ShapeError>([&] { kernels::fill(ctx, 2, ms::View<float>()); }) ==
        "fill: y is a default-constructed view; pass a tensor's view");
}

TEST_SUITE_END();

}  // namespace kernels_elementwise_test
