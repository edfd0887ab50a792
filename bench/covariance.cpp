// How close to the floor are the statistics S = [x 1]ᵀ[x 1] (lower triangle) and M = [x 1]ᵀv?
//
// Rows: S or M, the path, and the shape: n samples, p features, q outputs; float32, the result accumulated. Operations:
// n·p·(p + 1) for S, 2·n·p·q for M. On the CPU the tile kernel is for tests only and is not measured.
#include <benchmark/benchmark.h>

#include <cstdint>

#include <meristem/kernels/covariance.cuh>
#include <meristem/kernels/cross_covariance.cuh>

#include "main.hpp"

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using bench::bytes_of;
using bench::context;
using bench::normal_matrix;

void covariance(benchmark::State& state, mk::CovariancePath path) {
  ms::Context& ctx = context();
  const std::int64_t n = state.range(0), p = state.range(1);
  const auto x = normal_matrix({n, p}, 2);
  auto s = ms::zeros<float>(ctx, {p + 1, p + 1});
  // The triangle is half of S, read and written.
  bench::measure(state, {static_cast<double>(n * p * (p + 1)), bytes_of(x, s)},
                 [&] { mk::accumulate_covariance(ctx, x.view(), true, s.view(), path); });
}

void cross_covariance(benchmark::State& state, mk::CovariancePath path) {
  ms::Context& ctx = context();
  const std::int64_t n = state.range(0), p = state.range(1), q = state.range(2);
  const auto x = normal_matrix({n, p}, 2);
  const auto v = normal_matrix({n, q}, 3);
  auto m = ms::zeros<float>(ctx, {p + 1, q});
  bench::measure(state, {static_cast<double>(2 * n * p * q), bytes_of(x, v, m, m)},
                 [&] { mk::accumulate_cross_covariance(ctx, x.view(), true, v.view(), m.view(), path); });
}

void s_shapes(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgNames({"n", "p"});
  bench->Args({1024, 3072})->Args({8192, 256})->Args({32768, 64})->Args({1024, 65});
}

void m_shapes(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgNames({"n", "p", "q"});
  for (const std::int64_t q : {10, 64}) {
    bench->Args({1024, 3072, q})->Args({8192, 256, q})->Args({32768, 64, q})->Args({1024, 65, q});
  }
}

BENCHMARK_CAPTURE(covariance, blas, mk::CovariancePath::blas)->Apply(s_shapes);
BENCHMARK_CAPTURE(cross_covariance, blas, mk::CovariancePath::blas)->Apply(m_shapes);
#if MERISTEM_GPU
BENCHMARK_CAPTURE(covariance, kernel, mk::CovariancePath::kernel)->Apply(s_shapes);
BENCHMARK_CAPTURE(cross_covariance, kernel, mk::CovariancePath::kernel)->Apply(m_shapes);
#endif

}  // namespace
