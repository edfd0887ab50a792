// How many floating-point operations a second do matrix products reach on this machine? The floor that every other
// benchmark of statistics and layers is measured against.
//
// Run on the CPU: OMP_NUM_THREADS sets the threads. A gemm counts 2 m n k operations, a syrk n (n + 1) k;
// `of_gemm` is the share of the rate at order 1024.
#include <benchmark/benchmark.h>

#include <cstdint>

#include <meristem/core/blas.hpp>

#include "support.hpp"

namespace {

namespace ms = meristem;
using bench::context;
using bench::normal_matrix;
using bench::report;

/// c (m, n) = a (m, k) bᵀ, b (n, k): the forward pass of a linear layer with m samples.
template <class T>
void gemm(benchmark::State& state) {
  ms::Context& ctx = context();
  const std::int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  const auto a = normal_matrix<T>({m, k}, 1);
  const auto b = normal_matrix<T>({n, k}, 2);
  auto c = ms::zeros<T>(ctx, {m, n});
  for (auto _ : state) {
    ms::gemm(ctx, ms::Transpose::no, ms::Transpose::yes, 1, a, b, 0, c.view());
    ctx.synchronize();
  }
  report<T>(state, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
}

/// c (n, n) = aᵀ a, a (samples, n): the second moment of n features.
template <class T>
void syrk(benchmark::State& state) {
  ms::Context& ctx = context();
  const std::int64_t samples = state.range(0), n = state.range(1);
  const auto a = normal_matrix<T>({samples, n}, 1);
  auto c = ms::zeros<T>(ctx, {n, n});
  for (auto _ : state) {
    ms::syrk(ctx, ms::Triangle::lower, ms::Transpose::yes, 1, a, 0, c.view());
    ctx.synchronize();
  }
  report<T>(state, static_cast<double>(n) * static_cast<double>(n + 1) * static_cast<double>(samples));
}

void gemm_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"m", "k", "n"})->UseRealTime()->Unit(benchmark::kMillisecond);
  bench->Args({1024, 3072, 64})->Args({1024, 3072, 8})->Args({1024, 64, 64})->Args({1024, 1024, 1024});
}

void syrk_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"samples", "n"})->UseRealTime()->Unit(benchmark::kMillisecond);
  bench->Args({1024, 3072})->Args({1024, 64});
}

BENCHMARK_TEMPLATE(gemm, float)->Apply(gemm_shapes);
BENCHMARK_TEMPLATE(gemm, double)->Apply(gemm_shapes);
BENCHMARK_TEMPLATE(syrk, float)->Apply(syrk_shapes);
BENCHMARK_TEMPLATE(syrk, double)->Apply(syrk_shapes);

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv); }
