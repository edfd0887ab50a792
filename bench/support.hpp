// What the benchmarks share: one Context, random matrices, and the floor that times are compared with.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>

namespace bench {

namespace ms = meristem;

inline ms::Context& context() {
  static ms::Context ctx;
  return ctx;
}

/// Standard normal numbers around `mean`.
template <class T = float>
ms::Tensor<T> normal_matrix(const ms::Shape& shape, std::uint64_t seed, double mean = 0.0) {
  const ms::Philox random(seed, 0);
  std::vector<T> values(static_cast<std::size_t>(shape.size()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(mean + random.normal(i));
  return ms::from_host<T>(context(), shape, values);
}

/// Operations per second of a GEMM of order 1024 in T, best of ten; measured once a run.
template <class T = float>
double gemm_rate() {
  static const double rate = [] {
    ms::Context& ctx = context();
    const std::int64_t n = 1024;
    const auto a = normal_matrix<T>({n, n}, 1);
    auto c = ms::zeros<T>(ctx, {n, n});
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

/// Sets GFLOP/s, the share `of_gemm` of the GEMM rate in T that this is, and `floor_ms`, the time at that rate.
template <class T = float>
void report(benchmark::State& state, double operations) {
  using benchmark::Counter;
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = Counter(operations * iterations * 1e-9, Counter::kIsRate);
  state.counters["of_gemm"] = Counter(operations * iterations / gemm_rate<T>(), Counter::kIsRate);
  state.counters["floor_ms"] = operations / gemm_rate<T>() * 1e3;
}

/// What every program's main does: without a GPU, one built for it says so in a sentence.
inline int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  try {
    benchmark::AddCustomContext("device", context().device_name());
    benchmark::RunSpecifiedBenchmarks();
  } catch (const ms::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
