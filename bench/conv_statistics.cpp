// What do the exact statistics of growth between two convolutions cost, beside a plain training step of the two layers
// and beside patches with one product of matrices?
//
// Two 3x3 convolutions with padding 1 and `c` channels everywhere, on maps of side `h`, batches of 128, float32. Rows:
//   S_centre, S_full    covariance of the input patches of the first layer, restricted and full variant
//   S1                  covariance of the input patches of the second layer
//   N_centre, N_full    patches against the desired update (M is the same product with another update)
//   set_centre, set_full  S, S1 and N; M1 is the second layer's weight gradient, which a training step has anyway
//   train_step          forward and both gradients of both layers
// each by `offsets` (what `automatic` chooses at these shapes) and by `patches`. Operations are what has to be
// multiplied: the pairs of positions of all offsets (a patch product does 2 to 6 times as much, of which nothing is
// counted). Bytes are the maps and, read and written, the sums. `scratch_MB` is the peak of memory during an update
// beyond the maps and the sums; `sums_MB` the sums. set_full with n = 8 is for comparisons with what needs more memory.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <optional>

#include <meristem/grow/statistics/patch_statistics.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/reduce.cuh>

#include "conv_work.hpp"
#include "main.hpp"

namespace {

namespace ms = meristem;
using bench::context;
using ms::grow::FanOut;
using ms::grow::detail::PatchPath;
using Covariance = ms::grow::PatchCovariance<float>;
using CrossCovariance = ms::grow::PatchCrossCovariance<float>;

constexpr ms::Window window{.kernel = 3, .padding = 1};

/// Which statistics a row computes.
struct Set {
  bool s = false, s1 = false, n = false;
  FanOut fan_out = FanOut::centre;
};

double operations(std::int64_t samples, std::int64_t c, std::int64_t h, const Set& set) {
  const double covariance = bench::patch_covariance_operations(h, c);
  const double cross = bench::patch_cross_operations(h, c, c, set.fan_out == FanOut::full);
  const double each = (set.s ? covariance : 0.0) + (set.s1 ? covariance : 0.0) + (set.n ? cross : 0.0);
  return static_cast<double>(samples) * each;
}

struct Data {
  ms::Tensor<float> x0, x1, v;
  Data(std::int64_t n, std::int64_t c, std::int64_t h)
      : x0(bench::normal_matrix({n, h, h, c}, 1)),
        x1(bench::normal_matrix({n, h, h, c}, 2)),
        v(bench::normal_matrix({n, h, h, c}, 3)) {}
};

void statistics(benchmark::State& state, Set set, PatchPath path) {
  ms::Context& ctx = context();
  const std::int64_t n_samples = state.range(0), c = state.range(1), h = state.range(2);
  const Data data(n_samples, c, h);
  const std::size_t before = ctx.memory()->in_use();
  std::optional<Covariance> s, s1;
  std::optional<CrossCovariance> n;
  if (set.s) {
    const auto [rows, columns] = ms::grow::position_counts(window, h, set.fan_out);
    s.emplace(ctx, c, window, h, true, rows, columns, path);
  }
  if (set.s1) s1.emplace(ctx, c, window, h, true, std::vector<double>{}, std::vector<double>{}, path);
  if (set.n) n.emplace(ctx, c, window, h, true, c, window, set.fan_out, path);
  const std::size_t sums = ctx.memory()->in_use() - before;
  const int maps = (set.s || set.n) + set.s1 + set.n;
  const bench::Work work{operations(n_samples, c, h, set),
                         maps * bench::bytes_of(data.x0) + 2.0 * static_cast<double>(sums)};
  bench::flush_caches();
  const std::size_t held = ctx.memory()->in_use();
  ctx.memory()->reset_peak();
  bench::measure(state, work, [&] {
    if (s) s->update(ctx, data.x0);
    if (s1) s1->update(ctx, data.x1);
    if (n) n->update(ctx, data.x0, data.v);
  });
  state.counters["scratch_MB"] = static_cast<double>(ctx.memory()->peak() - held) * 1e-6;
  state.counters["sums_MB"] = static_cast<double>(sums) * 1e-6;
}

void train_step(benchmark::State& state) {
  ms::Context& ctx = context();
  const std::int64_t n = state.range(0), c = state.range(1), h = state.range(2);
  const Data data(n, c, h);
  const auto weight = bench::normal_matrix({c, 3, 3, c}, 4), bias = bench::normal_matrix({c}, 5);
  ms::Tensor<float> y(ctx, {n, h, h, c}), dx(ctx, y.shape()), dweight(ctx, weight.shape()), dbias(ctx, {c});
  // Each layer reads its input twice and its output's gradient once, and writes its output and its input's gradient.
  const bench::Work work{2.0 * 54.0 * static_cast<double>(n * h * h * c * c), 10.0 * bench::bytes_of(y)};
  bench::measure(state, work, [&] {
    for (const ms::Tensor<float>* x : {&data.x0, &data.x1}) {
      ms::kernels::conv2d_forward<float>(ctx, *x, weight, bias, window, y.view());
      ms::kernels::conv2d_backward_data<float>(ctx, data.v, weight, window, dx.view());
      ms::kernels::conv2d_backward_weights<float>(ctx, *x, data.v, window, ms::kernels::Accumulate::overwrite,
                                                  dweight.view());
      ms::kernels::column_sums<float>(ctx, data.v, dbias.view());
    }
  });
}

void layer_shapes(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgNames({"n", "c", "h"});
  bench->Args({128, 64, 32})->Args({128, 128, 16})->Args({128, 256, 8})->Args({128, 512, 4});
}

/// The usual start of growth: few channels.
void narrow_shapes(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgNames({"n", "c", "h"});
  for (const std::int64_t c : {1, 2, 4, 8, 16}) bench->Args({128, c, 32});
  bench->Args({128, 8, 16})->Args({128, 16, 8})->Args({128, 32, 4});
}

constexpr Set centre{true, true, true, FanOut::centre}, full{true, true, true, FanOut::full};

#define MERISTEM_STATISTICS(name, ...)                                                                 \
  BENCHMARK_CAPTURE(statistics, name##_offsets, __VA_ARGS__, PatchPath::offsets)->Apply(layer_shapes); \
  BENCHMARK_CAPTURE(statistics, name##_patches, __VA_ARGS__, PatchPath::patches)->Apply(layer_shapes)

MERISTEM_STATISTICS(S_centre, Set{true, false, false, FanOut::centre});
MERISTEM_STATISTICS(S_full, Set{true, false, false, FanOut::full});
MERISTEM_STATISTICS(S1, Set{false, true, false, FanOut::centre});
MERISTEM_STATISTICS(N_centre, Set{false, false, true, FanOut::centre});
MERISTEM_STATISTICS(N_full, Set{false, false, true, FanOut::full});
MERISTEM_STATISTICS(set_centre, centre);
MERISTEM_STATISTICS(set_full, full);
BENCHMARK_CAPTURE(statistics, set_full_offsets, full, PatchPath::offsets)
    ->Apply(bench::rows)
    ->ArgNames({"n", "c", "h"})
    ->Args({8, 64, 32});
BENCHMARK(train_step)->Apply(layer_shapes);

BENCHMARK_CAPTURE(statistics, narrow_set_full_offsets, full, PatchPath::offsets)->Apply(narrow_shapes);
BENCHMARK_CAPTURE(statistics, narrow_set_full_patches, full, PatchPath::patches)->Apply(narrow_shapes);
BENCHMARK(train_step)->Name("narrow_train_step")->Apply(narrow_shapes);

}  // namespace
