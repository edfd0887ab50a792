// How many floating-point operations a second do matrix products reach on this machine? The floor that every other
// benchmark of statistics and layers is measured against.
//
// Run on the CPU: OMP_NUM_THREADS sets the threads. A gemm counts 2 m n k operations, a syrk n (n + 1) k.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <iostream>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>

namespace {

namespace ms = meristem;

template <class T>
ms::Tensor<T> random_matrix(ms::Context& ctx, std::int64_t rows, std::int64_t columns, std::uint64_t stream) {
  const ms::Philox random(1, stream);
  std::vector<T> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(random.uniform(i) - 0.5);
  return ms::from_host<T>(ctx, {rows, columns}, values);
}

void report(benchmark::State& state, double operations) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(operations * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

/// c (m, n) = a (m, k) bᵀ, b (n, k): the forward pass of a linear layer with m samples.
template <class T>
void gemm(benchmark::State& state) {
  ms::Context ctx;
  const std::int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  const auto a = random_matrix<T>(ctx, m, k, 0);
  const auto b = random_matrix<T>(ctx, n, k, 1);
  auto c = ms::zeros<T>(ctx, {m, n});
  for (auto _ : state) {
    ms::gemm(ctx, ms::Transpose::no, ms::Transpose::yes, 1, a, b, 0, c.view());
    ctx.synchronize();
  }
  report(state, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
}

/// c (n, n) = aᵀ a, a (samples, n): the second moment of n features.
template <class T>
void syrk(benchmark::State& state) {
  ms::Context ctx;
  const std::int64_t samples = state.range(0), n = state.range(1);
  const auto a = random_matrix<T>(ctx, samples, n, 0);
  auto c = ms::zeros<T>(ctx, {n, n});
  for (auto _ : state) {
    ms::syrk(ctx, ms::Triangle::lower, ms::Transpose::yes, 1, a, 0, c.view());
    ctx.synchronize();
  }
  report(state, static_cast<double>(n) * static_cast<double>(n + 1) * static_cast<double>(samples));
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

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  try {
    std::cout << ms::Context().device_name() << '\n';
    benchmark::RunSpecifiedBenchmarks();
  } catch (const ms::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
  benchmark::Shutdown();
}
