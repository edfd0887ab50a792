// How long a growth step takes to solve: factors in float32, factors in float64 and the eigen route, 64 units, S (p, p)
// and N (p, 64), from statistics of 4 p samples that are correlated as the features of a layer are.
//
// `floor_ms` is the time of the Cholesky route's operations, p³/3 for the factor and p² (64 + 64) for the two
// triangular solves, at the GEMM rate of the same precision and run; the eigen route has no such floor.
//
//   bench_solver --benchmark_filter=cholesky
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/grow/solver.hpp>

#include "support.hpp"

namespace {

namespace ms = meristem;

constexpr std::int64_t outputs = 64, consumer_inputs = 65;

/// Rows of normal numbers with a positive mean, as after a ReLU; with `bias` the last column is 1.
ms::Tensor<float> samples(ms::Context& ctx, std::int64_t n, std::int64_t features, std::uint64_t seed, bool bias) {
  auto values = ms::to_host(ctx, bench::normal_matrix({n, features}, seed, 0.5));
  if (bias) {
    for (std::int64_t t = 1; t <= n; ++t) values[static_cast<std::size_t>(t * features - 1)] = 1.0f;
  }
  return ms::from_host<float>(ctx, {n, features}, values);
}

ms::Tensor<float> moment(ms::Context& ctx, const ms::Tensor<float>& a, const ms::Tensor<float>& b) {
  ms::Tensor<float> result(ctx, {a.extent(1), b.extent(1)});
  ms::gemm(ctx, ms::Transpose::yes, ms::Transpose::no, 1.0f / static_cast<float>(a.extent(0)), a.view(), b.view(), 0,
           result.view());
  return result;
}

template <class T>
ms::grow::Moments<T> moments(ms::Context& ctx, std::int64_t p) {
  const std::int64_t n = 4 * p;
  const auto b2 = samples(ctx, n, p, 1, true), b1 = samples(ctx, n, consumer_inputs, 2, true);
  const auto v = samples(ctx, n, outputs, 3, false);
  ms::grow::Moments<T> result;
  const auto held = [&](const ms::Tensor<float>& a, const ms::Tensor<float>& b) {
    return ms::grow::detail::converted<T, float>(ctx, moment(ctx, a, b).view());
  };
  result.s1 = held(b1, b1);
  result.m1 = held(b1, v);
  result.s = held(b2, b2);
  result.m = held(b2, v);
  result.cross = held(b2, b1);
  result.goal_norm2 = ms::grow::detail::inner_product<float, float>(ctx, v.view(), v.view()) / static_cast<double>(n);
  result.samples = n;
  // Held in double they are still known to float32 only; saying nothing asks for factors in float64.
  return result;
}

template <class T>
void solve(benchmark::State& state, ms::grow::Route route) {
  ms::Context& ctx = bench::context();
  const auto statistics = moments<T>(ctx, state.range(0));
  const ms::grow::SolveOptions options{.route = route, .max_units = 64, .significance = 0.0};
  bench::gemm_rate<T>();
  double gain = 0.0;
  for (auto _ : state) {
    const auto solution = ms::grow::solve(ctx, statistics, options);
    ctx.synchronize();
    gain = solution.gain;
    state.counters["units"] = static_cast<double>(solution.units);
  }
  state.counters["gain"] = gain;
  if (route == ms::grow::Route::cholesky) {
    const auto p = static_cast<double>(state.range(0));
    bench::report<T>(state, p * p * p / 3.0 + 2.0 * p * p * outputs);
  }
}

void cholesky_float32(benchmark::State& state) { solve<float>(state, ms::grow::Route::cholesky); }
void cholesky_float64(benchmark::State& state) { solve<double>(state, ms::grow::Route::cholesky); }
void eigen_float64(benchmark::State& state) { solve<float>(state, ms::grow::Route::eigen); }

}  // namespace

BENCHMARK(cholesky_float32)->Arg(65)->Arg(257)->Arg(1025)->Arg(3073)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(cholesky_float64)->Arg(65)->Arg(257)->Arg(1025)->Arg(3073)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(eigen_float64)->Arg(65)->Arg(257)->Arg(1025)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(eigen_float64)->Arg(3073)->Iterations(1)->Unit(benchmark::kMillisecond)->UseRealTime();

int main(int argc, char** argv) { return bench::run(argc, argv); }
