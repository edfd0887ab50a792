// How close to the machine's GEMM rate are the statistics S = [x 1]ᵀ[x 1] (lower triangle) and M = [x 1]ᵀv?
//
// Rows: S or M, the path, and the shape. GFLOP/s counts the multiply-adds that are needed: n·p·(p + 1) for S, 2·n·p·q
// for M. `of_gemm` is that rate over the best rate of a 1024 × 1024 × 1024 GEMM measured in the same run, `floor_ms`
// the time at that rate. On the CPU the tile kernel is for tests only and is not measured.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/covariance.cuh>
#include <meristem/kernels/cross_covariance.cuh>

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;

ms::Context& context() {
  static ms::Context ctx;
  return ctx;
}

ms::Tensor<float> normal_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  const ms::Philox random(seed, 0);
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
  return ms::from_host<float>(context(), {rows, columns}, values);
}

// Operations per second of a large GEMM, best of ten.
double gemm_rate() {
  static const double rate = [] {
    ms::Context& ctx = context();
    const std::int64_t n = 1024;
    const auto a = normal_matrix(n, n, 1);
    auto c = ms::zeros<float>(ctx, {n, n});
    double best = 1e30;
    for (int i = 0; i < 11; ++i) {
      ctx.synchronize();
      const auto start = std::chrono::steady_clock::now();
      ms::gemm(ctx, ms::Transpose::yes, ms::Transpose::no, 1, a, a, 0, c.view());
      ctx.synchronize();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (i > 0) best = std::min(best, seconds);
    }
    return 2.0 * n * n * n / best;
  }();
  return rate;
}

void report(benchmark::State& state, double operations) {
  using benchmark::Counter;
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = Counter(operations * iterations * 1e-9, Counter::kIsRate);
  state.counters["of_gemm"] = Counter(operations * iterations / gemm_rate(), Counter::kIsRate);
  state.counters["floor_ms"] = operations / gemm_rate() * 1e3;
}

void covariance(benchmark::State& state, mk::CovariancePath path) {
  ms::Context& ctx = context();
  gemm_rate();
  const std::int64_t n = state.range(0), p = state.range(1);
  const auto x = normal_matrix(n, p, 2);
  auto s = ms::zeros<float>(ctx, {p + 1, p + 1});
  for (auto _ : state) {
    mk::accumulate_covariance(ctx, x.view(), true, s.view(), path);
    ctx.synchronize();
  }
  report(state, static_cast<double>(n * p * (p + 1)));
}

void cross_covariance(benchmark::State& state, mk::CovariancePath path) {
  ms::Context& ctx = context();
  gemm_rate();
  const std::int64_t n = state.range(0), p = state.range(1), q = state.range(2);
  const auto x = normal_matrix(n, p, 2);
  const auto v = normal_matrix(n, q, 3);
  auto m = ms::zeros<float>(ctx, {p + 1, q});
  for (auto _ : state) {
    mk::accumulate_cross_covariance(ctx, x.view(), true, v.view(), m.view(), path);
    ctx.synchronize();
  }
  report(state, static_cast<double>(2 * n * p * q));
}

void s_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"n", "p"})->Args({1024, 3072})->Args({8192, 256})->Args({32768, 64})->Args({1024, 65});
  bench->Unit(benchmark::kMillisecond)->UseRealTime();
}

void m_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"n", "p", "q"});
  for (const std::int64_t q : {10, 64}) {
    bench->Args({1024, 3072, q})->Args({8192, 256, q})->Args({32768, 64, q})->Args({1024, 65, q});
  }
  bench->Unit(benchmark::kMillisecond)->UseRealTime();
}

BENCHMARK_CAPTURE(covariance, blas, mk::CovariancePath::blas)->Apply(s_shapes);
BENCHMARK_CAPTURE(cross_covariance, blas, mk::CovariancePath::blas)->Apply(m_shapes);
#if MERISTEM_GPU
BENCHMARK_CAPTURE(covariance, kernel, mk::CovariancePath::kernel)->Apply(s_shapes);
BENCHMARK_CAPTURE(cross_covariance, kernel, mk::CovariancePath::kernel)->Apply(m_shapes);
#endif

}  // namespace

BENCHMARK_MAIN();
