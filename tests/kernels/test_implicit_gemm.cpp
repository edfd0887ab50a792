#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/kernels/batch_norm.cuh>
#include <meristem/kernels/implicit_gemm.cuh>
#include <support/check.hpp>

namespace kernels_implicit_gemm_test {

TEST_SUITE_BEGIN("unit");

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using mk::Accumulate;
using mk::implicit_gemm::Options;
using mk::implicit_gemm::TileSize;
using ms::Extent2;
using ms::Window;
using support::Guarded;

struct Case {
  std::int64_t n;
  Extent2 map;
  std::int64_t in;
  std::int64_t out;
  Window window;
  bool bias = true;

  [[nodiscard]] Extent2 output() const { return window.output(map); }
  [[nodiscard]] ms::Shape x() const { return {n, map.y, map.x, in}; }
  [[nodiscard]] ms::Shape y() const { return {n, output().y, output().x, out}; }
  [[nodiscard]] ms::Shape weight() const { return {out, window.kernel.y, window.kernel.x, in}; }
  [[nodiscard]] bool fits() const {
    const Extent2 r = window.reach();
    return map.y + 2 * window.padding.y >= r.y && map.x + 2 * window.padding.x >= r.x;
  }
  [[nodiscard]] std::string text() const {
    return ms::concat(n, " images of ", map, ", channels ", in, " -> ", out, ", kernel ", window.kernel, ", stride ",
                      window.stride, ", padding ", window.padding, ", dilation ", window.dilation, ", bias ", bias);
  }
};

// The results, or the sums of the magnitudes of their terms.
struct Convolution {
  std::vector<double> y, dx, dw, db;
};

template <class T>
struct Inputs {
  std::vector<T> x, weight, bias, dy;

  explicit Inputs(const Case& c, std::uint64_t seed = 1)
      : x(support::normal_values<T>(c.x().size(), seed)),
        weight(support::normal_values<T>(c.weight().size(), seed + 1)),
        bias(support::normal_values<T>(c.bias ? c.out : 0, seed + 2)),
        dy(support::normal_values<T>(c.y().size(), seed + 3)) {}
};

template <class T>
Convolution oracle(const Case& c, const Inputs<T>& in, bool magnitudes) {
  const auto number = [&](double value) { return magnitudes ? std::abs(value) : value; };
  const auto size = [](const ms::Shape& shape) { return static_cast<std::size_t>(shape.size()); };
  Convolution r{std::vector<double>(size(c.y())), std::vector<double>(size(c.x())),
                std::vector<double>(size(c.weight())), std::vector<double>(static_cast<std::size_t>(c.out))};
  const Window& w = c.window;
  const Extent2 o = c.output();
  std::size_t at = 0;
  for (std::int64_t image = 0; image < c.n; ++image) {
    for (std::int64_t oy = 0; oy < o.y; ++oy) {
      for (std::int64_t ox = 0; ox < o.x; ++ox) {
        for (std::int64_t k = 0; k < c.out; ++k, ++at) {
          double& y = r.y[at];
          if (c.bias) y = number(static_cast<double>(in.bias[static_cast<std::size_t>(k)]));
          const double dy = static_cast<double>(in.dy[at]);
          r.db[static_cast<std::size_t>(k)] += number(dy);
          for (std::int64_t ty = 0; ty < w.kernel.y; ++ty) {
            const std::int64_t iy = oy * w.stride.y - w.padding.y + ty * w.dilation.y;
            if (iy < 0 || iy >= c.map.y) continue;
            for (std::int64_t tx = 0; tx < w.kernel.x; ++tx) {
              const std::int64_t ix = ox * w.stride.x - w.padding.x + tx * w.dilation.x;
              if (ix < 0 || ix >= c.map.x) continue;
              for (std::int64_t channel = 0; channel < c.in; ++channel) {
                const auto i = static_cast<std::size_t>(((image * c.map.y + iy) * c.map.x + ix) * c.in + channel);
                const auto j = static_cast<std::size_t>(((k * w.kernel.y + ty) * w.kernel.x + tx) * c.in + channel);
                const double x = static_cast<double>(in.x[i]), weight = static_cast<double>(in.weight[j]);
                y += number(x * weight);
                r.dx[i] += number(dy * weight);
                r.dw[j] += number(dy * x);
              }
            }
          }
        }
      }
    }
  }
  return r;
}

template <class T>
struct Results {
  std::vector<T> y, dx, dw, db = {};
};

// Outputs start as NaN, or dw as 0.5 if it is accumulated: what is overwritten leaves no trace.
template <class T>
Results<T> compute(ms::Context& ctx, const Case& c, const Inputs<T>& in, const Options& options = {},
                   Accumulate mode = Accumulate::overwrite) {
  const auto x = ms::from_host<T>(ctx, c.x(), in.x);
  const auto weight = ms::from_host<T>(ctx, c.weight(), in.weight);
  const auto bias = ms::from_host<T>(ctx, {c.out}, c.bias ? in.bias : std::vector<T>(static_cast<std::size_t>(c.out)));
  const auto dy = ms::from_host<T>(ctx, c.y(), in.dy);
  const T nan = std::numeric_limits<T>::quiet_NaN();
  Guarded<T> y(ctx, c.y(), nan), dx(ctx, c.x(), nan);
  Guarded<T> dw(ctx, c.weight(), mode == Accumulate::accumulate ? T(0.5) : nan);
  mk::implicit_gemm::forward<T>(ctx, x.view(), weight.view(), c.bias ? bias.view() : ms::View<const T>(), c.window,
                                y.view(), options);
  mk::implicit_gemm::backward_data<T>(ctx, dy.view(), weight.view(), c.window, dx.view(), options);
  mk::implicit_gemm::backward_weights<T>(ctx, x.view(), dy.view(), c.window, mode, dw.view(), options);
  y.check_guards(ctx);
  dx.check_guards(ctx);
  dw.check_guards(ctx);
  return {y.values(ctx), dx.values(ctx), dw.values(ctx)};
}

// The gradients in one launch.
template <class T>
Results<T> compute_together(ms::Context& ctx, const Case& c, const Inputs<T>& in, const Options& options,
                            Accumulate mode, bool biased) {
  const auto x = ms::from_host<T>(ctx, c.x(), in.x);
  const auto weight = ms::from_host<T>(ctx, c.weight(), in.weight);
  const auto dy = ms::from_host<T>(ctx, c.y(), in.dy);
  const T before = mode == Accumulate::accumulate ? T(0.5) : std::numeric_limits<T>::quiet_NaN();
  Guarded<T> dx(ctx, c.x(), before), dw(ctx, c.weight(), before), db(ctx, {c.out}, before);
  mk::implicit_gemm::backward<T>(ctx, x.view(), dy.view(), weight.view(), c.window,
                                 {dw.view(), biased ? db.view() : ms::View<T>(), mode, dx.view(), mode}, options);
  dx.check_guards(ctx);
  dw.check_guards(ctx);
  db.check_guards(ctx);
  return {{}, dx.values(ctx), dw.values(ctx), biased ? db.values(ctx) : std::vector<T>()};
}

// A sum of m terms rounds m times; each rounding is at most eps/2 of a partial sum, itself at most the sum of the
// magnitudes, and their signs are independent.
template <class T>
double tolerance(std::int64_t terms, const std::vector<double>& magnitudes) {
  return std::sqrt(static_cast<double>(terms + 2)) * support::eps<T> * support::scale_of(magnitudes, 1.0);
}

template <class T>
void check_case(ms::Context& ctx, const Case& c, const Options& options = {}, Accumulate mode = Accumulate::overwrite) {
  const std::string what = ms::concat(c.text(), ", tile ", static_cast<int>(options.tile), ", ", ms::dtype_name<T>);
  INFO(what);
  const Inputs<T> in(c);
  Convolution expected = oracle(c, in, false);
  const Convolution magnitudes = oracle(c, in, true);
  if (mode == Accumulate::accumulate) {
    for (auto* sums : {&expected.dw, &expected.db}) {
      for (double& value : *sums) value += 0.5;
    }
  }
  const Results<T> actual = compute<T>(ctx, c, in, options, mode);
  const std::int64_t taps = c.window.kernel.size();
  support::check_close(actual.y, expected.y, tolerance<T>(taps * c.in, magnitudes.y), "y");
  support::check_close(actual.dx, expected.dx, tolerance<T>(taps * c.out, magnitudes.dx), "dx");
  const double tolerance_of_dw = tolerance<T>(c.n * c.output().size(), magnitudes.dw);
  support::check_close(actual.dw, expected.dw, tolerance_of_dw, "dw");
  const Results<T> together = compute_together<T>(ctx, c, in, options, mode, c.bias);
  if (!c.bias) support::check_same_bits(together.dw, actual.dw, "dw, all at once");
  support::check_close(together.dw, expected.dw, tolerance_of_dw, "dw, all at once");
  if (c.bias)
    support::check_close(together.db, expected.db, tolerance<T>(c.n * c.output().size(), magnitudes.db), "db");
  std::vector<T> dx = actual.dx;
  if (mode == Accumulate::accumulate) {
    for (T& value : dx) value += T(0.5);
  }
  support::check_same_bits(together.dx, dx, "dx, all at once");
}

ms::ContextOptions gpu_blocks() {
  ms::ContextOptions options;
  options.executor.gpu_blocks = true;
  options.executor.poison_shared = true;
  return options;
}

constexpr std::int64_t channel_counts[] = {1, 3, 4, 17, 33, 64};
constexpr TileSize tiles[] = {TileSize::automatic, TileSize::large, TileSize::medium, TileSize::narrow};

// Every window of the grid, with channels, batches and maps that vary from one to the next.
template <class T>
void check_windows(ms::Context& ctx, std::int64_t stride) {
  std::size_t i = static_cast<std::size_t>(stride);
  const Extent2 maps[] = {{7, 5}, {4, 9}, {6, 5}, {1, 8}, {9, 2}, {5, 5}, {8, 7}};
  for (const Extent2 kernel :
       {Extent2(1), Extent2(2), Extent2(3), Extent2(4), Extent2(5), Extent2(3, 1), Extent2(2, 5)}) {
    for (const std::int64_t padding : {0, 1, 2, 3}) {
      for (const std::int64_t dilation : {1, 2}) {
        const Case c{
            static_cast<std::int64_t>(i % 3) + 1, maps[i % 7], channel_counts[i % 5], channel_counts[i / 2 % 5],
            {kernel, stride, padding, dilation},  i % 2 == 0};
        if (c.fits()) check_case<T>(ctx, c, {.tile = tiles[i % 4]});
        ++i;
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("implicit_gemm: every kernel, padding and dilation with stride 1", T, float, double) {
  ms::Context ctx({.seed = 1});
  check_windows<T>(ctx, 1);
}
TEST_CASE_TEMPLATE("implicit_gemm: every kernel, padding and dilation with stride 2", T, float, double) {
  ms::Context ctx({.seed = 1});
  check_windows<T>(ctx, 2);
}
TEST_CASE_TEMPLATE("implicit_gemm: every kernel, padding and dilation with stride 3", T, float, double) {
  ms::Context ctx({.seed = 1});
  check_windows<T>(ctx, 3);
}

TEST_CASE_TEMPLATE("implicit_gemm: every pair of channel counts with every tile", T, float, double) {
  ms::Context ctx({.seed = 1});
  for (const TileSize tile : tiles) {
    for (const std::int64_t in : channel_counts) {
      for (const std::int64_t out : channel_counts) {
        check_case<T>(ctx, {2, {2, 3}, in, out, {{2, 3}, 1, {0, 1}}, in != out}, {.tile = tile});
      }
    }
  }
}

TEST_CASE_TEMPLATE("implicit_gemm: axes that differ in everything", T, float, double) {
  ms::Context ctx({.seed = 1});
  for (const TileSize tile : tiles) {
    check_case<T>(ctx, {2, {9, 7}, 5, 6, {{2, 3}, {3, 2}, {0, 2}, {1, 2}}, true}, {.tile = tile});
    check_case<T>(ctx, {2, {7, 12}, 8, 12, {{3, 2}, {1, 4}, {2, 0}, {2, 6}}, true}, {.tile = tile});
    // Strides beyond the map and beyond the window's reach.
    check_case<T>(ctx, {3, {3, 5}, 4, 3, {{1, 2}, {7, 3}, {1, 0}, {1, 1}}, false}, {.tile = tile});
  }
}

TEST_CASE_TEMPLATE("implicit_gemm: the GPU's blocks", T, float, double) {
  ms::Context ctx(gpu_blocks());
  for (const TileSize tile : tiles) {
    check_case<T>(ctx, {2, {9, 8}, 17, 33, {3, 1, 1}, true}, {.tile = tile});
    check_case<T>(ctx, {2, {9, 8}, 64, 68, {3, 2, 1}, false}, {.tile = tile});
    check_case<T>(ctx, {3, {5, 8}, 3, 4, {{2, 5}, {3, 2}, 2, {1, 2}}, true}, {.tile = tile});
    check_case<T>(ctx, {1, {3, 3}, 1, 1, {3, 1, 1}, true}, {.tile = tile});
  }
}

TEST_CASE_TEMPLATE("implicit_gemm: every thread order", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    check_case<T>(ctx, {2, {5, 4}, 5, 3, {3, 2, 1}, true});
    check_case<T>(ctx, {1, {3, 5}, 8, 36, {{2, 3}, 1, 1, 2}, false}, {.tile = TileSize::large});
    check_case<T>(ctx, {2, {3, 4}, 12, 33, {{3, 1}, {1, 2}, 1}, true}, {.tile = TileSize::medium},
                  Accumulate::accumulate);
  });
}

TEST_CASE_TEMPLATE("implicit_gemm: large products choose the large tile, long ones many slabs", T, float, double) {
  ms::Context ctx({.seed = 1});
  check_case<T>(ctx, {1, {9, 8}, 1, 64 * 128, {1}, true});      // forward: 128 tiles side by side
  check_case<T>(ctx, {1, {9, 8}, 64 * 128, 1, {1}, true});      // backward_data
  check_case<T>(ctx, {2, {30, 41}, 9, 33, {3, 1, 1}, true});    // backward_weights: 81 × 33, 39 slabs
  check_case<T>(ctx, {3, {90, 61}, 1, 2, {{1, 2}, 1}, false});  // backward_weights: as many slabs as there may be
}

template <class T>
void check_near(T actual, double expected, double tolerance) {
  CHECK(std::abs(static_cast<double>(actual) - expected) <= tolerance);
}

// Mean and inverse deviation of each channel of the output, against those of the numbers that the output has.
template <class T>
void check_statistics(ms::Context& ctx, const Case& c, const Options& options, T offset = T(0)) {
  INFO(ms::concat(c.text(), ", tile ", static_cast<int>(options.tile), ", offset ", offset));
  Inputs<T> in(c);
  for (T& value : in.bias) value += offset;
  const auto x = ms::from_host<T>(ctx, c.x(), in.x);
  const auto weight = ms::from_host<T>(ctx, c.weight(), in.weight);
  const auto bias = ms::from_host<T>(ctx, {c.out}, in.bias);
  Guarded<T> y(ctx, c.y(), T(NAN)), mean(ctx, {c.out}, T(NAN)), inverse(ctx, {c.out}, T(NAN));
  auto running_mean = ms::from_host<T>(ctx, {c.out}, std::vector<T>(in.bias.size(), T(1)));
  auto running_variance = ms::from_host<T>(ctx, {c.out}, std::vector<T>(in.bias.size(), T(1)));
  constexpr double epsilon = 0.01;
  const mk::BatchStatistics<T> statistics{
      mean.view(), inverse.view(), epsilon, {running_mean.view(), running_variance.view(), 0.25}};
  const auto store = mk::detail::store_statistics<T>("test", statistics, y.view());
  REQUIRE(
      mk::implicit_gemm::forward<T>(ctx, x.view(), weight.view(), bias.view(), c.window, y.view(), options, &store));
  for (Guarded<T>* one : {&y, &mean, &inverse}) one->check_guards(ctx);
  const auto values = y.values(ctx), means = mean.values(ctx), inverses = inverse.values(ctx);
  support::check_same_bits(values, compute<T>(ctx, c, in, options).y, "y");
  const auto moved_mean = ms::to_host(ctx, running_mean), moved_variance = ms::to_host(ctx, running_variance);
  const std::size_t channels = in.bias.size(), rows = values.size() / channels;
  for (std::size_t k = 0; k < channels; ++k) {
    long double sum = 0.0L;
    double squares = 0.0, farthest = 0.0;
    for (std::size_t row = 0; row < rows; ++row) sum += static_cast<long double>(values[row * channels + k]);
    const auto m = static_cast<double>(sum / static_cast<long double>(rows));
    for (std::size_t row = 0; row < rows; ++row) {
      const double d = static_cast<double>(values[row * channels + k]) - m;
      squares += d * d;
      farthest = std::max(farthest, std::abs(d));
    }
    const double variance = squares / static_cast<double>(rows), deviation = 1.0 / std::sqrt(variance + epsilon);
    // A thread's terms are at most 2·farthest; each is rounded, and eight are added: (1 + 8) eps/2 of the largest of
    // their sums, a share of the mean; squares, likewise, have one more rounding. Sixteen sums and then the tiles are
    // merged in double, each time by the difference of two means. The result is rounded to T.
    const double spread = 2.0 * farthest, eps = support::eps<T>;
    const double merged = (16.0 + static_cast<double>(rows) / 64.0) * support::eps<double> * std::abs(m);
    const double of_mean = 4.5 * eps * spread + merged + eps * std::abs(m);
    const double of_variance = 10.0 * eps * spread * spread + 2.0 * spread * merged;
    const double of_deviation = 0.5 * deviation * deviation * deviation * of_variance + eps * deviation;
    check_near(means[k], m, of_mean);
    check_near(inverses[k], deviation, of_deviation);
    check_near(moved_mean[k], 0.75 + 0.25 * m, of_mean + eps);
    const double unbiased = rows > 1 ? squares / static_cast<double>(rows - 1) : 1.0;
    check_near(moved_variance[k], 0.75 + 0.25 * unbiased, of_variance + eps * (1.0 + unbiased));
  }
}

TEST_CASE_TEMPLATE("implicit_gemm: statistics of the output", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    check_statistics<T>(ctx, {2, {5, 4}, 3, 5, {3, 2, 1}}, {});
    check_statistics<T>(ctx, {1, {1, 1}, 2, 33, {1}}, {});
  });
  for (const auto& options : {ms::ContextOptions{}, gpu_blocks()}) {
    ms::Context ctx(options);
    for (const TileSize tile : tiles) {
      check_statistics<T>(ctx, {3, {9, 8}, 4, 70, {3, 1, 1}}, {.tile = tile});
      check_statistics<T>(ctx, {3, {9, 8}, 3, 9, {3, 1, 1}}, {.tile = tile}, T(1000));
    }
    check_statistics<T>(ctx, {3, {45, 41}, 1, 3, {3, 1, 1}}, {});  // two groups of tiles
    check_statistics<T>(ctx, {2, {30, 41}, 2, 11, {3, 1, 1}}, {}, T(100));
  }
  ms::Context ctx({.seed = 1});
  const Case c{5, {6, 7}, 5, 9, {3, 1, 1}};
  const mk::detail::StoreBatchStatistics<T> unused{};
  auto y = ms::zeros<T>(ctx, c.y());
  CHECK_FALSE(mk::implicit_gemm::forward<T>(ctx, ms::zeros<T>(ctx, c.x()).view(), ms::zeros<T>(ctx, c.weight()).view(),
                                            {}, c.window, y.view(), {.limit = 2 * 6 * 7 * 9}, &unused));
}

TEST_CASE_TEMPLATE("implicit_gemm: weight gradients accumulate", T, float, double) {
  ms::Context ctx({.seed = 1});
  check_case<T>(ctx, {2, {5, 6}, 3, 4, {3, 1, 1}, true}, {}, Accumulate::accumulate);
  check_case<T>(ctx, {2, {13, 16}, 4, 20, {3, 2, 1}, true}, {}, Accumulate::accumulate);
  check_case<T>(ctx, {4, {22, 25}, 3, 9, {3, 1, 1}, true}, {}, Accumulate::accumulate);  // slabs in three groups
}

TEST_CASE_TEMPLATE("implicit_gemm: pointers that are not aligned", T, float, double) {
  ms::Context ctx({.seed = 1});
  const Case c{2, {5, 6}, 8, 12, {3, 1, 1}, true};
  const Inputs<T> in(c);
  const Results<T> expected = compute<T>(ctx, c, in);
  const auto shifted = [&](const std::vector<T>& values, const ms::Shape& shape, ms::Tensor<T>& owner) {
    owner = ms::zeros<T>(ctx, {shape.size() + 1});
    const ms::View<T> view(owner.data() + 1, shape);
    ms::copy<T>(ctx, ms::from_host<T>(ctx, shape, values), view);
    return view;
  };
  ms::Tensor<T> owners[7];
  const auto x = shifted(in.x, c.x(), owners[0]), weight = shifted(in.weight, c.weight(), owners[1]);
  const auto bias = shifted(in.bias, {c.out}, owners[2]), dy = shifted(in.dy, c.y(), owners[3]);
  const auto y = shifted(in.dy, c.y(), owners[4]), dx = shifted(in.x, c.x(), owners[5]);
  const auto dw = shifted(in.weight, c.weight(), owners[6]);
  mk::implicit_gemm_forward<T>(ctx, x, weight, bias, c.window, y);
  mk::implicit_gemm_backward_data<T>(ctx, dy, weight, c.window, dx);
  mk::implicit_gemm_backward_weights<T>(ctx, x, dy, c.window, Accumulate::overwrite, dw);
  support::check_same_bits(ms::to_host(ctx, y), expected.y, "y");
  support::check_same_bits(ms::to_host(ctx, dx), expected.dx, "dx");
  support::check_same_bits(ms::to_host(ctx, dw), expected.dw, "dw");
}

TEST_CASE_TEMPLATE("implicit_gemm: runs, workers, block sizes and tiles that change no bit", T, float, double) {
  const Case c{3, {9, 7}, 12, 35, {3, 2, 1}, true};
  const Inputs<T> in(c);
  const auto run = [&](int threads, bool blocks, TileSize tile) {
    ms::ContextOptions options;
    options.executor.threads = threads;
    options.executor.gpu_blocks = blocks;
    ms::Context ctx(options);
    return compute<T>(ctx, c, in, {.tile = tile});
  };
  for (const TileSize tile : tiles) {
    const Results<T> first = run(1, true, tile);
    const auto check = [&](const Results<T>& other, const std::string& what) {
      support::check_same_bits(first.y, other.y, what + ", y");
      support::check_same_bits(first.dx, other.dx, what + ", dx");
      support::check_same_bits(first.dw, other.dw, what + ", dw");
    };
    check(run(1, true, tile), "a second run");
    check(run(2, true, tile), "two workers");
    check(run(2, false, tile), "another block size");
    const Results<T> automatic = run(1, false, TileSize::automatic);
    support::check_same_bits(first.y, automatic.y, "another tile, y");
    support::check_same_bits(first.dx, automatic.dx, "another tile, dx");
  }
}

TEST_CASE_TEMPLATE("implicit_gemm: a batch cut into pieces", T, float, double) {
  ms::Context ctx({.seed = 1});
  const Case c{5, {6, 7}, 5, 9, {3, 1, 1}, true};
  const Inputs<T> in(c);
  const Results<T> whole = compute<T>(ctx, c, in);
  const Options two_images{.limit = 2 * 6 * 7 * 9};
  const Results<T> pieces = compute<T>(ctx, c, in, two_images);
  support::check_same_bits(whole.y, pieces.y, "y");
  support::check_same_bits(whole.dx, pieces.dx, "dx");
  check_case<T>(ctx, c, two_images, Accumulate::overwrite);
  check_case<T>(ctx, c, two_images, Accumulate::accumulate);
}

TEST_CASE("implicit_gemm: empty tensors") {
  support::for_every_executor([](ms::Context& ctx) {
    check_case<float>(ctx, {0, {4, 3}, 2, 3, {3, 1, 1}, true});
    check_case<float>(ctx, {0, {4, 3}, 2, 3, {3, 1, 1}, true}, {}, Accumulate::accumulate);
    check_case<float>(ctx, {2, {4, 3}, 0, 3, {3, 1, 1}, true});   // y is the bias
    check_case<float>(ctx, {2, {4, 3}, 0, 3, {3, 2, 1}, false});  // y is zero
    check_case<float>(ctx, {2, {4, 3}, 2, 0, {3, 2, 1}, false});  // dx is zero
    check_case<float>(ctx, {2, {4, 3}, 0, 0, {3, 1, 1}, false});
    check_case<float>(ctx, {2, {0, 3}, 2, 3, {3, 1, 2}, true});  // nothing but padding
  });
}

TEST_CASE("implicit_gemm: an empty vector is no bias") {
  ms::Context ctx({.seed = 1});
  const Case c{1, {3, 3}, 2, 3, {2}, false};
  const Inputs<float> in(c);
  const auto x = ms::from_host<float>(ctx, c.x(), in.x);
  const auto weight = ms::from_host<float>(ctx, c.weight(), in.weight);
  auto y = ms::empty<float>(ctx, c.y());
  mk::implicit_gemm_forward<float>(ctx, x, weight, ms::Tensor<float>(), c.window, y.view());
  support::check_same_bits(ms::to_host(ctx, y), compute<float>(ctx, c, in).y);
}

TEST_CASE("implicit_gemm: a NaN reaches what reads it and nothing else") {
  ms::Context ctx(gpu_blocks());
  const Case c{2, {5, 6}, 5, 37, {3, 2, 1}, true};
  Inputs<double> in(c);
  const Results<double> clean = compute<double>(ctx, c, in);
  const std::size_t at = 137;
  in.x[at] = NAN;
  const Results<double> spoilt = compute<double>(ctx, c, in);
  // The plain loops, with 1 in the place of NaN and 0 elsewhere, tell where it goes.
  Inputs<double> probe(c);
  std::fill(probe.x.begin(), probe.x.end(), 0.0);
  probe.x[at] = 1.0;
  std::fill(probe.bias.begin(), probe.bias.end(), 0.0);
  const Convolution reached = oracle(c, probe, true);
  std::size_t hit = 0;
  for (std::size_t i = 0; i < clean.y.size(); ++i) {
    REQUIRE(std::isnan(spoilt.y[i]) == (reached.y[i] != 0.0));
    hit += std::isnan(spoilt.y[i]) ? 1 : 0;
    if (reached.y[i] == 0.0) REQUIRE(spoilt.y[i] == clean.y[i]);
  }
  CHECK(hit > 0);
  CHECK(hit < clean.y.size());
  for (std::size_t i = 0; i < clean.dw.size(); ++i) REQUIRE(std::isnan(spoilt.dw[i]) == (reached.dw[i] != 0.0));
  support::check_same_bits(spoilt.dx, clean.dx, "dx");
}

TEST_CASE("implicit_gemm: shapes that do not fit are named") {
  ms::Context ctx({.seed = 1});
  const auto x = ms::zeros<float>(ctx, {2, 6, 5, 3});
  auto weight = ms::zeros<float>(ctx, {4, 3, 3, 3});
  auto bias = ms::zeros<float>(ctx, {3});
  auto y = ms::zeros<float>(ctx, {2, 6, 5, 4});
  auto small = ms::zeros<float>(ctx, {2, 4, 3, 4});
  auto matrix = ms::zeros<float>(ctx, {6, 5});
  const ms::View<const float> none;
  const Window window{3, 1, 1};
  const auto shape_error = [](auto action) { return support::message_of<ms::ShapeError>(action); };
  const auto argument_error = [](auto action) { return support::message_of<ms::ArgumentError>(action); };

  CHECK(shape_error([&] { mk::implicit_gemm_forward<float>(ctx, matrix, weight, none, window, y.view()); }) ==
        "implicit_gemm_forward: x has shape (6, 5); it must have rank 4 (images, height, width, channels)");
  CHECK(shape_error([&] { mk::implicit_gemm_forward<float>(ctx, x, matrix, none, window, y.view()); }) ==
        "implicit_gemm_forward: weight has shape (6, 5); it must have rank 4 (out channels, kernel height, kernel "
        "width, in channels)");
  CHECK(shape_error([&] {
          mk::implicit_gemm_forward<float>(ctx, x, weight, none, Window{5, 1, 2}, y.view());
        }) ==
        "implicit_gemm_forward: weight has shape (4, 3, 3, 3), but the window's kernel is 5x5; the two axes in the "
        "middle must agree with it");
  CHECK(shape_error([&] { mk::implicit_gemm_forward<float>(ctx, y, weight, none, window, y.view()); }) ==
        "implicit_gemm_forward: x has 4 channels, weight expects 3; got (2, 6, 5, 4) and (4, 3, 3, 3)");
  CHECK(shape_error([&] { mk::implicit_gemm_forward<float>(ctx, x, weight, none, window, small.view()); }) ==
        "implicit_gemm_forward: y has shape (2, 4, 3, 4); with x (2, 6, 5, 3) and weight (4, 3, 3, 3) it must be (2, "
        "6, 5, 4)");
  CHECK(shape_error([&] { mk::implicit_gemm_forward<float>(ctx, x, weight, bias, window, y.view()); }) ==
        "implicit_gemm_forward: bias has shape (3), y has shape (2, 6, 5, 4); bias needs one element for each column "
        "of y");
  CHECK(shape_error(
            [&] { mk::implicit_gemm_forward<float>(ctx, x.view().slice(2, 0, 3), weight, none, window, y.view()); }) ==
        "implicit_gemm_forward: x of shape (2, 6, 3, 3) is strided; contiguous elements are needed: copy the slice to "
        "a tensor of its own");
  CHECK(argument_error([&] {
          mk::implicit_gemm_forward<float>(ctx, x, weight, none, Window{3, 0}, y.view());
        }) == "implicit_gemm_forward: the stride is 0x0; it must be at least 1x1");
  CHECK(shape_error([&] {
          mk::implicit_gemm_forward<float>(ctx, x, weight, none, Window{3, 1, 0, 3}, y.view());
        }) ==
        "implicit_gemm_forward: the kernel 3x3 with its dilation spans 7x7, more than the map of 6x5 with padding 0x0; "
        "use a smaller kernel, more padding or a larger map");

  auto dx = ms::zeros<float>(ctx, {2, 6, 5, 3});
  CHECK(shape_error([&] { mk::implicit_gemm_backward_data<float>(ctx, small, weight, window, dx.view()); }) ==
        "implicit_gemm_backward_data: dy has shape (2, 4, 3, 4); with dx (2, 6, 5, 3) and weight (4, 3, 3, 3) it must "
        "be (2, 6, 5, 4)");
  CHECK(shape_error([&] {
          mk::implicit_gemm_backward<float>(ctx, x, y, weight, window,
                                            {.dweight = weight.view(), .dbias = bias.view()});
        }) ==
        "implicit_gemm_backward: dbias has shape (3), dy has shape (2, 6, 5, 4); dbias needs one element for each "
        "column of dy");
  CHECK(shape_error([&] {
          mk::implicit_gemm_backward<float>(ctx, x, y, weight, window, {.dweight = weight.view(), .dx = y.view()});
        }) == "implicit_gemm_backward: dx has shape (2, 6, 5, 4), x has shape (2, 6, 5, 3); they must be equal");
  auto dweight = ms::zeros<float>(ctx, {4, 3, 3, 2});
  CHECK(
      shape_error([&] { mk::implicit_gemm_backward<float>(ctx, x, y, weight, window, {.dweight = dweight.view()}); }) ==
      "implicit_gemm_backward: dweight has shape (4, 3, 3, 2), weight has shape (4, 3, 3, 3); they must be equal");
  CHECK(shape_error([&] {
          mk::implicit_gemm_backward_weights<float>(ctx, x, y, window, Accumulate::overwrite, dweight.view());
        }) == "implicit_gemm_backward_weights: x has 3 channels, dweight expects 2; got (2, 6, 5, 3) and (4, 3, 3, 2)");
}

TEST_CASE("implicit_gemm: what 32-bit indices cannot reach is refused before anything runs") {
  ms::Context ctx({.seed = 1});
  float number = 0.0f;
  const auto view = [&](const ms::Shape& shape) { return ms::View<float>(&number, shape); };
  const auto forward = [&](const ms::Shape& x, const ms::Shape& weight, const Window& window, const ms::Shape& y) {
    mk::implicit_gemm_forward<float>(ctx, view(x), view(weight), {}, window, view(y));
  };
  CHECK(support::message_of<ms::ShapeError>([&] {
          forward({1, 1 << 15, 1 << 15, 2}, {1, 1, 1, 2}, {}, {1, 1 << 15, 1 << 15, 1});
        }) ==
        "implicit_gemm_forward: one image of 32768x32768 positions and 2 channels, or its output of 32768x32768 "
        "positions and 1 channels, has 2147483648 elements; at most 1073741824 are supported: cut the image into "
        "pieces");
  CHECK(support::message_of<ms::ShapeError>([&] {
          forward({1, 1, 1, 1 << 15}, {1 << 16, 1, 1, 1 << 15}, {}, {1, 1, 1, 1 << 16});
        }) ==
        "implicit_gemm_forward: weight of shape (65536, 1, 1, 32768) has 2147483648 elements; at most 1073741824 are "
        "supported: split the channels");
  const Window far{1, 1 << 29};
  CHECK(support::message_of<ms::ArgumentError>([&] {
          forward({1, 1, 1, 1}, {1, 1, 1, 1}, far, {1, 1, 1, 1});
        }) ==
        "implicit_gemm_forward: a window with kernel 1x1, stride 536870912x536870912, padding 0x0 and dilation 1x1 on "
        "a map of 1x1 with 1 channels reaches too far for 32-bit indices; use a smaller window");
}

TEST_SUITE_END();

}  // namespace kernels_implicit_gemm_test
