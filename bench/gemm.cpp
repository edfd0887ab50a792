// How many floating-point operations a second do matrix products reach on this machine, and how many bytes a copy? The
// floors of all other rows are made of them.
//
// A gemm counts 2 m n k operations, a syrk n (n + 1) k; both read their inputs and write their result once. Rows of
// order 1024 may stand above 100 % of the floor: its rate was measured with warm caches or cold ones, whichever is
// quicker. On the CPU OMP_NUM_THREADS sets the threads.
#include <benchmark/benchmark.h>

#include <cstdint>

#include <meristem/core/blas.hpp>

#include "main.hpp"

namespace {

namespace ms = meristem;
using bench::bytes_of;
using bench::context;
using bench::normal_matrix;

/// c (m, n) = a (m, k) bᵀ, b (n, k): the forward pass of a linear layer with m samples.
template <class T>
void gemm(benchmark::State& state) {
  ms::Context& ctx = context();
  const std::int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  const auto a = normal_matrix<T>({m, k}, 1);
  const auto b = normal_matrix<T>({n, k}, 2);
  auto c = ms::zeros<T>(ctx, {m, n});
  bench::measure<T>(state, {2.0 * static_cast<double>(m * n * k), bytes_of(a, b, c)},
                    [&] { ms::gemm(ctx, ms::Transpose::no, ms::Transpose::yes, 1, a, b, 0, c.view()); });
}

/// c (n, n) = aᵀ a, a (samples, n): the second moment of n features, one triangle of it.
template <class T>
void syrk(benchmark::State& state) {
  ms::Context& ctx = context();
  const std::int64_t samples = state.range(0), n = state.range(1);
  const auto a = normal_matrix<T>({samples, n}, 1);
  auto c = ms::zeros<T>(ctx, {n, n});
  bench::measure<T>(state, {static_cast<double>(n * (n + 1) * samples), bytes_of(a) + bytes_of(c) / 2},
                    [&] { ms::syrk(ctx, ms::Triangle::lower, ms::Transpose::yes, 1, a, 0, c.view()); });
}

void copy(benchmark::State& state) {
  const auto from = normal_matrix({state.range(0), 1 << 18}, 1);
  auto to = ms::zeros<float>(context(), from.shape());
  bench::measure(state, {0.0, bytes_of(from, to)}, [&] { ms::copy(context(), from.view(), to.view()); });
}

void gemm_shapes(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgNames({"m", "k", "n"});
  bench->Args({1024, 3072, 64})->Args({1024, 3072, 8})->Args({1024, 64, 64})->Args({1024, 1024, 1024});
#if MERISTEM_GPU
  bench->Args({4096, 4096, 4096});
#endif
}

void syrk_shapes(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgNames({"samples", "n"})->Args({1024, 3072})->Args({1024, 64});
}

BENCHMARK_TEMPLATE(gemm, float)->Name("gemm/float32")->Apply(gemm_shapes);
BENCHMARK_TEMPLATE(gemm, double)->Name("gemm/float64")->Apply(gemm_shapes);
BENCHMARK_TEMPLATE(syrk, float)->Name("syrk/float32")->Apply(syrk_shapes);
BENCHMARK_TEMPLATE(syrk, double)->Name("syrk/float64")->Apply(syrk_shapes);
BENCHMARK(copy)->Apply(bench::rows)->ArgName("MiB")->Arg(1)->Arg(64);

}  // namespace
