// What do the exact statistics of growth between two convolutions cost, beside a plain training step of the two layers
// and beside patches with one product of matrices?
//
// Two 3x3 convolutions with padding 1 and `c` channels everywhere, on maps of side `h`, batches of 128, float32. Rows:
//   S_centre, S_full    covariance of the input patches of the first layer, restricted and full variant
//   S1                  covariance of the input patches of the second layer
//   N_centre, N_full    patches against the desired update (M is the same product with another update)
//   set_centre, set_full  S, S1 and N; M1 is the second layer's weight gradient, which a training step has anyway
//   train_step          forward and both gradients of both layers
// each by `offsets` (what `automatic` chooses at these shapes) and by `patches`. GFLOP/s counts what has to be
// multiplied: the pairs of positions of all offsets (a patch product does 2 to 6 times as much, of which nothing is
// counted). `of_gemm` is that rate over the best rate of a GEMM of order 1024 measured in the same run, `floor_ms` the
// time at that rate. `scratch_MB` is the peak of memory during an update beyond the maps and the sums; `sums_MB` the
// sums; `MB_read` the maps.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <optional>

#include <meristem/grow/patch_statistics.hpp>
#include <meristem/kernels/conv2d.cuh>

#include "support.hpp"

namespace {

namespace ms = meristem;
using bench::context;
using ms::grow::FanOut;
using ms::grow::PatchPath;
using Covariance = ms::grow::PatchCovariance<float>;
using CrossCovariance = ms::grow::PatchCrossCovariance<float>;

constexpr std::int64_t samples = 128;
constexpr ms::Window window{.kernel = 3, .padding = 1};

/// Which statistics a row computes.
struct Set {
  bool s = false, s1 = false, n = false;
  FanOut fan_out = FanOut::centre;
};

/// Pairs of positions that offsets `from` to `to` along both axes have on a map of side h; `half`: of opposite offsets
/// one.
double position_pairs(std::int64_t h, std::int64_t from, std::int64_t to, bool half) {
  double line = 0.0;
  for (std::int64_t d = from; d <= to; ++d) line += static_cast<double>(std::max<std::int64_t>(h - std::abs(d), 0));
  const double all = line * line, none = static_cast<double>(h * h);
  return half ? (all + none) / 2 : all;
}

double operations(std::int64_t c, std::int64_t h, const Set& set) {
  const double covariance = position_pairs(h, -2, 2, true);
  const double cross =
      set.fan_out == FanOut::centre ? position_pairs(h, -1, 1, false) : position_pairs(h, -2, 2, false);
  const double pairs = (set.s ? covariance : 0.0) + (set.s1 ? covariance : 0.0) + (set.n ? cross : 0.0);
  return 2.0 * pairs * static_cast<double>(samples * c * c);
}

struct Data {
  ms::Tensor<float> x0, x1, v;
  Data(std::int64_t c, std::int64_t h)
      : x0(bench::normal_matrix({samples, h, h, c}, 1)),
        x1(bench::normal_matrix({samples, h, h, c}, 2)),
        v(bench::normal_matrix({samples, h, h, c}, 3)) {}
};

void statistics(benchmark::State& state, Set set, PatchPath path) {
  ms::Context& ctx = context();
  bench::gemm_rate();
  const std::int64_t c = state.range(0), h = state.range(1);
  const Data data(c, h);
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
  ctx.memory()->reset_peak();
  for (auto _ : state) {
    if (s) s->update(ctx, data.x0);
    if (s1) s1->update(ctx, data.x1);
    if (n) n->update(ctx, data.x0, data.v);
    ctx.synchronize();
  }
  bench::report(state, operations(c, h, set));
  const auto megabytes = [](auto bytes) { return static_cast<double>(bytes) * 1e-6; };
  state.counters["scratch_MB"] = megabytes(ctx.memory()->peak() - before - sums);
  state.counters["sums_MB"] = megabytes(sums);
  const int maps = (set.s || set.n) + set.s1 + set.n;
  state.counters["MB_read"] = megabytes(maps * data.x0.size() * static_cast<std::int64_t>(sizeof(float)));
}

void train_step(benchmark::State& state) {
  ms::Context& ctx = context();
  bench::gemm_rate();
  const std::int64_t c = state.range(0), h = state.range(1);
  const Data data(c, h);
  const auto weight = bench::normal_matrix({c, 3, 3, c}, 4), bias = bench::normal_matrix({c}, 5);
  ms::Tensor<float> y(ctx, {samples, h, h, c}), dx(ctx, y.shape()), dweight(ctx, weight.shape()), dbias(ctx, {c});
  for (auto _ : state) {
    for (const ms::Tensor<float>* x : {&data.x0, &data.x1}) {
      ms::kernels::conv2d_forward<float>(ctx, *x, weight, bias, window, y.view());
      ms::kernels::conv2d_backward_data<float>(ctx, data.v, weight, window, dx.view());
      ms::kernels::conv2d_backward_weights<float>(ctx, *x, data.v, window, ms::kernels::Accumulate::overwrite,
                                                  dweight.view());
      ms::kernels::column_sums<float>(ctx, data.v, dbias.view());
    }
    ctx.synchronize();
  }
  bench::report(state, 2.0 * 54.0 * static_cast<double>(samples * h * h * c * c));
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"c", "h"});
  bench->Args({64, 32})->Args({128, 16})->Args({256, 8})->Args({512, 4});
  bench->Unit(benchmark::kMillisecond)->UseRealTime();
}

/// The usual start of growth: few channels.
void narrow_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"c", "h"});
  for (const std::int64_t c : {1, 2, 4, 8, 16}) bench->Args({c, 32});
  bench->Args({8, 16})->Args({16, 8})->Args({32, 4});
  bench->Unit(benchmark::kMillisecond)->UseRealTime();
}

constexpr Set centre{true, true, true, FanOut::centre}, full{true, true, true, FanOut::full};

#define MERISTEM_STATISTICS(name, ...)                                                           \
  BENCHMARK_CAPTURE(statistics, name##_offsets, __VA_ARGS__, PatchPath::offsets)->Apply(shapes); \
  BENCHMARK_CAPTURE(statistics, name##_patches, __VA_ARGS__, PatchPath::patches)->Apply(shapes)

MERISTEM_STATISTICS(S_centre, Set{true, false, false, FanOut::centre});
MERISTEM_STATISTICS(S_full, Set{true, false, false, FanOut::full});
MERISTEM_STATISTICS(S1, Set{false, true, false, FanOut::centre});
MERISTEM_STATISTICS(N_centre, Set{false, false, true, FanOut::centre});
MERISTEM_STATISTICS(N_full, Set{false, false, true, FanOut::full});
MERISTEM_STATISTICS(set_centre, centre);
MERISTEM_STATISTICS(set_full, full);
BENCHMARK(train_step)->Apply(shapes);

BENCHMARK_CAPTURE(statistics, narrow_set_full_offsets, full, PatchPath::offsets)->Apply(narrow_shapes);
BENCHMARK_CAPTURE(statistics, narrow_set_full_patches, full, PatchPath::patches)->Apply(narrow_shapes);
BENCHMARK(train_step)->Name("narrow_train_step")->Apply(narrow_shapes);

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv); }
