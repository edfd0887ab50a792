// How close to the machine's GEMM rate are the statistics S = [x 1]ᵀ[x 1] (lower triangle) and M = [x 1]ᵀv?
//
// Rows: S or M, the path, and the shape. GFLOP/s counts the multiply-adds that are needed: n·p·(p + 1) for S, 2·n·p·q
// for M. `of_gemm` is that rate over the best rate of a 1024 × 1024 × 1024 GEMM measured in the same run, `floor_ms`
// the time at that rate. On the CPU the tile kernel is for tests only and is not measured.
#include <benchmark/benchmark.h>

#include <cstdint>

#include <meristem/kernels/covariance.cuh>
#include <meristem/kernels/cross_covariance.cuh>

#include "support.hpp"

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using bench::context;
using bench::gemm_rate;
using bench::normal_matrix;
using bench::report;

void covariance(benchmark::State& state, mk::CovariancePath path) {
  ms::Context& ctx = context();
  gemm_rate();
  const std::int64_t n = state.range(0), p = state.range(1);
  const auto x = normal_matrix({n, p}, 2);
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
  const auto x = normal_matrix({n, p}, 2);
  const auto v = normal_matrix({n, q}, 3);
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

int main(int argc, char** argv) { return bench::run(argc, argv); }
