#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <meristem/kernels/conv2d.cuh>
#include <support/check.hpp>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace kernels_conv2d_test {

namespace ms = meristem;
namespace mk = meristem::kernels;
using support::contains;
using support::message_of;

namespace {

struct Case {
  std::int64_t n, height, width, in, out;
  ms::Window window;

  [[nodiscard]] ms::Extent2 output() const { return window.output({height, width}); }
  [[nodiscard]] ms::Shape x_shape() const { return {n, height, width, in}; }
  [[nodiscard]] ms::Shape y_shape() const { return {n, output().y, output().x, out}; }
  [[nodiscard]] ms::Shape weight_shape() const { return {out, window.kernel.y, window.kernel.x, in}; }
  [[nodiscard]] std::string text() const {
    return ms::concat("x ", x_shape(), ", out ", out, ", kernel ", window.kernel, ", stride ", window.stride,
                      ", padding ", window.padding, ", dilation ", window.dilation);
  }
};

/// Results of the plain loops, and the same sums of magnitudes.
struct Plain {
  std::vector<double> y, dx, dweight, y_size, dx_size, dweight_size;
};

template <class T>
Plain plain_conv2d(const Case& c, const std::vector<T>& x, const std::vector<T>& weight, const std::vector<T>& bias,
                   const std::vector<T>& dy) {
  const ms::Window& w = c.window;
  const auto [oh, ow] = c.output();
  Plain p;
  for (const int size : {0, 1}) {
    const auto at = [&](const std::vector<T>& v, std::int64_t i) {
      const double value = static_cast<double>(v[static_cast<std::size_t>(i)]);
      return size == 1 ? std::abs(value) : value;
    };
    std::vector<double> y, dx(x.size()), dweight(weight.size());
    for (std::int64_t i = 0; i < c.n; ++i) {
      for (std::int64_t oy = 0; oy < oh; ++oy) {
        for (std::int64_t ox = 0; ox < ow; ++ox) {
          for (std::int64_t k = 0; k < c.out; ++k) {
            double sum = bias.empty() ? 0.0 : at(bias, k);
            const double d = at(dy, ((i * oh + oy) * ow + ox) * c.out + k);
            for (std::int64_t ky = 0; ky < w.kernel.y; ++ky) {
              for (std::int64_t kx = 0; kx < w.kernel.x; ++kx) {
                const std::int64_t iy = oy * w.stride.y - w.padding.y + ky * w.dilation.y;
                const std::int64_t ix = ox * w.stride.x - w.padding.x + kx * w.dilation.x;
                if (iy < 0 || ix < 0 || iy >= c.height || ix >= c.width) continue;
                for (std::int64_t channel = 0; channel < c.in; ++channel) {
                  const std::int64_t from = ((i * c.height + iy) * c.width + ix) * c.in + channel;
                  const std::int64_t tap = ((k * w.kernel.y + ky) * w.kernel.x + kx) * c.in + channel;
                  sum += at(x, from) * at(weight, tap);
                  dx[static_cast<std::size_t>(from)] += d * at(weight, tap);
                  dweight[static_cast<std::size_t>(tap)] += d * at(x, from);
                }
              }
            }
            y.push_back(sum);
          }
        }
      }
    }
    (size == 1 ? p.y_size : p.y) = y;
    (size == 1 ? p.dx_size : p.dx) = dx;
    (size == 1 ? p.dweight_size : p.dweight) = dweight;
  }
  return p;
}

template <class T>
struct Numbers {
  std::vector<T> x, weight, bias, dy;
  explicit Numbers(const Case& c)
      : x(support::normal_values<T>(c.x_shape().size(), 1)),
        weight(support::normal_values<T>(c.weight_shape().size(), 2)),
        bias(support::normal_values<T>(c.out, 3)),
        dy(support::normal_values<T>(c.y_shape().size(), 4)) {}
};

/// A sum of m terms in any order errs by at most m·eps/2 times the sum of magnitudes; 2 more roundings for product and
/// final addition.
template <class T>
double tolerance(std::int64_t terms, const std::vector<double>& magnitudes) {
  return 0.5 * static_cast<double>(terms + 2) * support::eps<T> * support::scale_of(magnitudes);
}

template <class T>
void check_all(ms::Context& ctx, const Case& c, mk::ConvPath path) {
  INFO(c.text());
  const Numbers<T> numbers(c);
  const Plain plain = plain_conv2d(c, numbers.x, numbers.weight, numbers.bias, numbers.dy);
  const auto x = ms::from_host<T>(ctx, c.x_shape(), numbers.x);
  const auto weight = ms::from_host<T>(ctx, c.weight_shape(), numbers.weight);
  const auto bias = ms::from_host<T>(ctx, {c.out}, numbers.bias);
  const auto dy = ms::from_host<T>(ctx, c.y_shape(), numbers.dy);
  const std::int64_t taps = c.window.kernel.size();

  support::Guarded<T> y(ctx, c.y_shape(), T(NAN));
  mk::conv2d_forward<T>(ctx, x, weight, bias, c.window, y.view(), path);
  support::check_close(y.values(ctx), plain.y, tolerance<T>(taps * c.in + 1, plain.y_size), "y");
  y.check_guards(ctx);

  support::Guarded<T> dx(ctx, c.x_shape(), T(NAN));
  mk::conv2d_backward_data<T>(ctx, dy, weight, c.window, dx.view(), path);
  support::check_close(dx.values(ctx), plain.dx, tolerance<T>(taps * c.out, plain.dx_size), "dx");
  dx.check_guards(ctx);

  const std::int64_t rows = c.n * c.output().size();
  support::Guarded<T> dweight(ctx, c.weight_shape(), T(NAN));
  mk::conv2d_backward_weights<T>(ctx, x, dy, c.window, mk::Accumulate::overwrite, dweight.view(), path);
  support::check_close(dweight.values(ctx), plain.dweight, tolerance<T>(rows, plain.dweight_size), "dweight");
  dweight.check_guards(ctx);

  support::Guarded<T> sum(ctx, c.weight_shape(), T(3));
  mk::conv2d_backward_weights<T>(ctx, x, dy, c.window, mk::Accumulate::accumulate, sum.view(), path);
  std::vector<double> expected = plain.dweight, magnitudes = plain.dweight_size;
  for (double& value : expected) value += 3;
  for (double& value : magnitudes) value += 3;
  support::check_close(sum.values(ctx), expected, tolerance<T>(rows + 1, magnitudes), "dweight, accumulated");
  sum.check_guards(ctx);

  // All at once, onto numbers that are there.
  const auto plus_three = [](std::vector<double> values) {
    for (double& value : values) value += 3;
    return values;
  };
  std::vector<double> dbias(static_cast<std::size_t>(c.out)), dbias_size(dbias.size());
  for (std::size_t i = 0; i < numbers.dy.size(); ++i) {
    dbias[i % dbias.size()] += static_cast<double>(numbers.dy[i]);
    dbias_size[i % dbias.size()] += std::abs(static_cast<double>(numbers.dy[i]));
  }
  support::Guarded<T> sums[] = {{ctx, c.weight_shape(), T(3)}, {ctx, {c.out}, T(3)}, {ctx, c.x_shape(), T(3)}};
  const auto add = mk::Accumulate::accumulate;
  mk::conv2d_backward<T>(ctx, x, dy, weight, c.window, {sums[0].view(), sums[1].view(), add, sums[2].view(), add},
                         path);
  support::check_close(sums[0].values(ctx), expected, tolerance<T>(rows + 1, magnitudes), "dweight, all at once");
  support::check_close(sums[1].values(ctx), plus_three(dbias), tolerance<T>(rows + 1, plus_three(dbias_size)),
                       "dbias, all at once");
  support::check_close(sums[2].values(ctx), plus_three(plain.dx),
                       tolerance<T>(taps * c.out + 1, plus_three(plain.dx_size)), "dx, all at once");
  for (auto& one : sums) one.check_guards(ctx);
}

/// Kernels 1 to 5, strides, paddings and dilations on maps that are not square, channels in turn.
std::vector<Case> window_grid() {
  const std::int64_t channels[] = {1, 2, 3, 5, 8, 16, 17};
  std::vector<Case> result;
  std::int64_t turn = 0;
  for (std::int64_t ky = 1; ky <= 5; ++ky) {
    for (std::int64_t kx = 1; kx <= 5; ++kx) {
      for (std::int64_t stride = 1; stride <= 3; ++stride) {
        for (const std::int64_t padding : {0, 1, 4}) {
          for (const std::int64_t dilation : {1, 2}) {
            Case c{2, 7, 6, channels[turn % 7], channels[turn / 2 % 7], {}};
            c.window = {{ky, kx}, {stride, 1 + (stride + turn) % 3}, {padding, (padding + 1) / 2}, {dilation, 1}};
            if (turn % 3 == 0) std::swap(c.window.dilation.y, c.window.dilation.x);
            ++turn;
            const ms::Extent2 reach = c.window.reach();
            if (reach.y > c.height + 2 * c.window.padding.y || reach.x > c.width + 2 * c.window.padding.x) continue;
            result.push_back(c);
          }
        }
      }
    }
  }
  return result;
}

const std::vector<Case> channel_grid = [] {
  std::vector<Case> result;
  for (const std::int64_t in : {1, 2, 3, 4, 7, 8, 15, 16, 31, 33}) {
    for (const std::int64_t out : {1, 3, 6, 8, 16, 17, 32, 33}) result.push_back({2, 6, 5, in, out, {3, 1, 1, 1}});
  }
  return result;
}();

/// Small cases for the kernels under every thread order.
const std::vector<Case> small = {
    {1, 1, 1, 1, 1, {1, 1, 0, 1}},
    {2, 5, 4, 3, 5, {3, 1, 1, 1}},
    {1, 6, 7, 4, 2, {{3, 2}, {2, 1}, {1, 0}, {1, 2}}},
    {3, 4, 4, 2, 9, {1, 2, 0, 1}},
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("conv2d: BLAS path equals plain loops for every window", T, float, double) {
  ms::Context ctx({.seed = 1});
  for (const Case& c : window_grid()) check_all<T>(ctx, c, mk::ConvPath::blas);
}

TEST_CASE_TEMPLATE("conv2d: BLAS path equals plain loops for every channel count", T, float, double) {
  ms::Context ctx({.seed = 1});
  for (const Case& c : channel_grid) check_all<T>(ctx, c, mk::ConvPath::blas);
}

TEST_CASE_TEMPLATE("conv2d: BLAS path over many blocks, slabs and pieces of the depth", T, float, double) {
  ms::Context ctx({.seed = 1});
  check_all<T>(ctx, {5, 21, 19, 3, 2, {3, 1, 1, 1}}, mk::ConvPath::blas);  // 1995 rows
  check_all<T>(ctx, {1, 4, 3, 200, 3, {3, 1, 1, 1}}, mk::ConvPath::blas);  // 1800 columns
  check_all<T>(ctx, {1, 3, 3, 2, 260, {3, 2, 1, 1}}, mk::ConvPath::blas);  // more outputs than a block has rows
  check_all<T>(ctx, {1, 3, 4, 65, 200, {{3, 5}, 1, 2, 1}}, mk::ConvPath::blas);
  check_all<T>(ctx, {3, 17, 16, 4, 3, {1, 1, 0, 1}}, mk::ConvPath::blas);  // the map is the matrix
}

TEST_CASE_TEMPLATE("conv2d: BLAS path with few outputs or few inputs, in strips and in groups of images", T, float,
                   double) {
  ms::Context ctx({.seed = 1});
  const ms::Window windows[] = {
      {3, 1, 1, 1}, {{2, 5}, 1, {0, 2}, 1}, {{5, 1}, 1, {6, 0}, {2, 1}}, {{1, 4}, 1, {2, 5}, {1, 3}}, {3, 1, 0, 2}};
  for (const ms::Window& window : windows) {
    for (const auto& [channels, thin] : {std::pair{4, 1}, std::pair{9, 2}, std::pair{33, 5}}) {
      check_all<T>(ctx, {3, 11, 10, channels, thin, window}, mk::ConvPath::blas);
      check_all<T>(ctx, {3, 11, 10, thin, channels, window}, mk::ConvPath::blas);
    }
  }
  check_all<T>(ctx, {2, 70, 61, 8, 2, {3, 1, 1, 1}}, mk::ConvPath::blas);             // strips of 57 lines
  check_all<T>(ctx, {1, 9, 2000, 4, 1, {{3, 2}, 1, {4, 1}, 1}}, mk::ConvPath::blas);  // wider than a strip
  check_all<T>(ctx, {800, 5, 4, 4, 1, {3, 1, 1, 1}}, mk::ConvPath::blas);             // groups of 364 images
}

TEST_CASE_TEMPLATE("conv2d: patches and products by image equal plain loops", T, float, double) {
  ms::Context ctx({.seed = 1});
  for (const Case& c : small) {
    INFO(c.text());
    const Numbers<T> numbers(c);
    const Plain plain = plain_conv2d(c, numbers.x, numbers.weight, numbers.bias, numbers.dy);
    const auto x = ms::from_host<T>(ctx, c.x_shape(), numbers.x);
    const auto weight = ms::from_host<T>(ctx, c.weight_shape(), numbers.weight);
    const auto bias = ms::from_host<T>(ctx, {c.out}, numbers.bias);
    const auto dy = ms::from_host<T>(ctx, c.y_shape(), numbers.dy);
    const std::int64_t taps = c.window.kernel.size();
    auto y = ms::empty<T>(ctx, c.y_shape());
    mk::conv2d_detail::patches_forward<T>(ctx, x, weight, bias, c.window, y);
    support::check_close(ms::to_host(ctx, y), plain.y, tolerance<T>(taps * c.in + 1, plain.y_size), "y");
    auto dx = ms::empty<T>(ctx, c.x_shape());
    mk::conv2d_detail::patches_backward_data<T>(ctx, dy, weight, c.window, dx);
    support::check_close(ms::to_host(ctx, dx), plain.dx, tolerance<T>(taps * c.out, plain.dx_size), "dx");
    auto dweight = ms::empty<T>(ctx, c.weight_shape());
    const std::int64_t rows = c.n * c.output().size();
    mk::conv2d_detail::patches_backward_weights<T>(ctx, x, dy, c.window, mk::Accumulate::overwrite, dweight);
    support::check_close(ms::to_host(ctx, dweight), plain.dweight, tolerance<T>(rows, plain.dweight_size), "dweight");
    mk::conv2d_detail::patches_backward_weights<T>(ctx, x, dy, c.window, mk::Accumulate::accumulate, dweight);
    std::vector<double> twice = plain.dweight;
    for (double& value : twice) value *= 2;
    support::check_close(ms::to_host(ctx, dweight), twice, 2 * tolerance<T>(rows + 1, plain.dweight_size), "twice");
  }
}

TEST_CASE_TEMPLATE("conv2d: kernels equal plain loops in every thread order", T, float, double) {
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Case& c : small) check_all<T>(ctx, c, mk::ConvPath::kernel);
  });
}

TEST_CASE("conv2d: a long float32 weight gradient stays near the error of blocked sums") {
  ms::Context ctx({.seed = 1});
  const Case c{32, 32, 32, 1, 2, {1, 1, 0, 1}};
  std::vector<float> x(static_cast<std::size_t>(c.x_shape().size())), dy(static_cast<std::size_t>(c.y_shape().size()));
  // All of one sign: in a running float32 sum of 32768 such terms rounding errors drift.
  const auto noise = support::normal_values<float>(c.y_shape().size(), 5);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1.0f + 0.1f * noise[i];
  for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = 1.0f + 0.1f * noise[i] * noise[i];
  const Plain plain = plain_conv2d<float>(c, x, {0.0f, 0.0f}, {}, dy);
  auto dweight = ms::empty<float>(ctx, c.weight_shape());
  mk::conv2d_backward_weights<float>(ctx, ms::from_host<float>(ctx, c.x_shape(), x),
                                     ms::from_host<float>(ctx, c.y_shape(), dy), c.window, mk::Accumulate::overwrite,
                                     dweight, mk::ConvPath::blas);
  // The bound stated in conv2d.cuh with 16 slabs of 2048 rows: (256 + 16 + 3)·2^-24.
  support::check_close(ms::to_host(ctx, dweight), plain.dweight, 275 * 0x1p-24 * support::scale_of(plain.dweight_size));
}

TEST_CASE_TEMPLATE("conv2d: equal bits twice, and whatever the number of threads", T, float, double) {
  ms::Context ctx({.seed = 1});
  for (const Case& c : {Case{8, 16, 15, 5, 7, {3, 1, 1, 1}}, Case{8, 16, 15, 24, 40, {3, 2, 1, 1}},
                        Case{8, 16, 15, 64, 32, {1, 1, 0, 1}}, Case{8, 16, 15, 20, 3, {3, 1, 1, 1}},
                        Case{2, 8, 8, 160, 192, {3, 1, 1, 1}}}) {
    INFO(c.text());
    const Numbers<T> numbers(c);
    const auto x = ms::from_host<T>(ctx, c.x_shape(), numbers.x);
    const auto weight = ms::from_host<T>(ctx, c.weight_shape(), numbers.weight);
    const auto bias = ms::from_host<T>(ctx, {c.out}, numbers.bias);
    const auto dy = ms::from_host<T>(ctx, c.y_shape(), numbers.dy);
    auto y = ms::empty<T>(ctx, c.y_shape());
    auto dx = ms::empty<T>(ctx, c.x_shape());
    auto dweight = ms::empty<T>(ctx, c.weight_shape());
    const auto run = [&] {
      mk::conv2d_forward<T>(ctx, x, weight, bias, c.window, y);
      mk::conv2d_backward_data<T>(ctx, dy, weight, c.window, dx);
      mk::conv2d_backward_weights<T>(ctx, x, dy, c.window, mk::Accumulate::overwrite, dweight);
      std::vector<T> all = ms::to_host(ctx, y);
      for (const auto& more : {ms::to_host(ctx, dx), ms::to_host(ctx, dweight)}) {
        all.insert(all.end(), more.begin(), more.end());
      }
      return all;
    };
    const auto once = run();
    support::check_same_bits(run(), once, "again");
#if defined(_OPENMP) && !MERISTEM_GPU
    const int before = omp_get_max_threads();
    for (const int threads : {1, 2, 3}) {
      omp_set_num_threads(threads);
      support::check_same_bits(run(), once, ms::concat(threads, " OpenMP threads"));
      CHECK(omp_get_max_threads() == threads);
    }
    omp_set_num_threads(before);
    ms::ExecutorOptions executor;
    executor.threads = 1;
    ctx.set_executor(executor);
    support::check_same_bits(run(), once, "one worker");
    ctx.set_executor({});
#endif
  }
}

TEST_CASE("conv2d: empty batches and channels") {
  ms::Context ctx({.seed = 1});
  for (const mk::ConvPath path : {mk::ConvPath::blas, mk::ConvPath::kernel}) {
    for (const ms::Window& window : {ms::Window{3, 1, 1, 1}, ms::Window{1, 2, 0, 1}, ms::Window{1, 1, 0, 1}}) {
      for (const auto& [n, in, out] : {std::tuple{0, 2, 3}, std::tuple{2, 0, 3}, std::tuple{2, 2, 0}}) {
        check_all<float>(ctx, {n, 4, 5, in, out, window}, path);
      }
    }
    // Nothing but padding.
    check_all<float>(ctx, {2, 0, 3, 2, 3, {{2, 3}, 1, 1, 1}}, path);
    check_all<float>(ctx, {2, 3, 0, 8, 2, {{3, 1}, 1, 1, 1}}, path);
  }
}

TEST_CASE("conv2d: misfits are told with names and shapes") {
  ms::Context ctx;
  auto x = ms::zeros<float>(ctx, {2, 5, 5, 3});
  auto weight = ms::zeros<float>(ctx, {4, 3, 3, 3});
  auto bias = ms::zeros<float>(ctx, {4});
  auto y = ms::zeros<float>(ctx, {2, 3, 3, 4});
  const ms::Window window{3, 1, 0, 1};
  const auto forward = [&](ms::View<const float> x_, ms::View<const float> w_, ms::View<const float> b_,
                           const ms::Window& window_, ms::View<float> y_) {
    return message_of<ms::ShapeError>([&] { mk::conv2d_forward<float>(ctx, x_, w_, b_, window_, y_); });
  };
  mk::conv2d_forward<float>(ctx, x, weight, bias, window, y);
  auto wide = ms::zeros<float>(ctx, {4, 3, 3, 16});
  CHECK(contains(forward(x, wide, bias, window, y),
                 "conv2d_forward: x has 3 channels, weight expects 16; got (2, 5, 5, 3) and (4, 3, 3, 16)"));
  auto flat = ms::zeros<float>(ctx, {2, 75});
  CHECK(contains(forward(flat, weight, bias, window, y), "x has shape (2, 75); it must have rank 4"));
  CHECK(
      contains(forward(x, weight, bias, {2, 1, 0, 1}, y), "weight has shape (4, 3, 3, 3), the window a kernel of 2x2"));
  CHECK(contains(forward(x, weight, bias, {3, 1, 1, 1}, y), "belong to y of shape (2, 5, 5, 4); got (2, 3, 3, 4)"));
  CHECK(contains(forward(x, weight, bias, {3, 1, 0, 3}, y), "spans 7x7, more than the map of 5x5"));
  auto long_bias = ms::zeros<float>(ctx, {5});
  CHECK(contains(forward(x, weight, long_bias, window, y), "bias has shape (5)"));
  CHECK(contains(forward(x, weight, bias, window, y.view().slice(3, 0, 2)), "strided"));
  CHECK(contains(message_of<ms::ShapeError>([&] { mk::conv2d_backward_data<float>(ctx, y, wide, window, x); }),
                 "conv2d_backward_data: dx has 3 channels, weight expects 16"));
  CHECK(contains(message_of<ms::ShapeError>(
                     [&] { mk::conv2d_backward_weights<float>(ctx, x, x, window, mk::Accumulate::overwrite, weight); }),
                 "conv2d_backward_weights: x of shape (2, 5, 5, 3) and dweight of shape (4, 3, 3, 3) belong to dy of "
                 "shape (2, 3, 3, 4); got (2, 5, 5, 3)"));
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   mk::conv2d_forward<float>(ctx, x, weight, bias, {3, 0, 0, 1}, y);
                 }),
                 "conv2d_forward: the stride is 0x0"));
}

TEST_SUITE_END();

}  // namespace kernels_conv2d_test
