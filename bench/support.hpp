// What a row of a benchmark is: samples of one piece of work with cold caches, and how far they are from its floor.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string_view>
#include <vector>

#include "machine.hpp"

namespace bench {

/// What has to be done at least: arithmetic operations (a multiply-add is two), and bytes that have to be read or
/// written once if caches held everything in between.
struct Work {
  double operations = 0.0;
  double bytes = 0.0;
};

/// Bytes of tensors.
template <class... Tensors>
double bytes_of(const Tensors&... tensors) {
  return (0.0 + ... + (static_cast<double>(tensors.size()) * static_cast<double>(sizeof(*tensors.data()))));
}

/// How long to sample a row. `--quick` on the command line makes it a tenth; no row begins when the program has run for
/// `--seconds=N`.
struct Sampling {
  double seconds = 1.0;  ///< after them no sample is begun if there are three
  std::size_t most = 200;
  std::chrono::steady_clock::time_point end = std::chrono::steady_clock::time_point::max();
};

inline Sampling& sampling() {
  static Sampling one;
  return one;
}

struct Nothing {
  void operator()() const {}
};

/// Takes samples of `body`, each after `prepare`, which is not timed, and a flush of the caches; a warm-up goes before.
/// The row's time is their median. Sets these counters, the floor being the larger of the operations at the rate of a
/// GEMM in T and the bytes at the rate of a copy, both measured when the program starts:
///   GFLOP/s, GB/s     what `work` says, over the median
///   floor_ms          the floor
///   of_floor_percent  floor over median
///   spread_percent    half of what lies between the quartiles of the samples, over the median
///   samples           how many
template <class T = float, class Body, class Prepare = Nothing>
void measure(benchmark::State& state, const Work& work, Body&& body, Prepare&& prepare = {}) {
  using Clock = std::chrono::steady_clock;
  if (Clock::now() > sampling().end) return state.SkipWithError("no time was left for it");
  const double gemm = work.operations > 0.0 ? gemm_rate<T>() : 1.0;
  Stopwatch watch;
  const auto sample = [&] {
    prepare();
    flush_caches();
    context().synchronize();
    watch.start();
    body();
    return watch.stop();
  };
  for (auto _ : state) {
    const auto start = Clock::now();
    const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    std::vector<double> seconds;
    // What takes long needs no warm-up.
    if (const double first = sample(); first > 5.0 * sampling().seconds) seconds.push_back(first);
    while (seconds.empty() || (seconds.size() < 3 && elapsed() < 5.0 * sampling().seconds) ||
           (seconds.size() < sampling().most && elapsed() < sampling().seconds)) {
      seconds.push_back(sample());
    }
    std::sort(seconds.begin(), seconds.end());
    const auto quantile = [&](double share) {
      const double place = share * static_cast<double>(seconds.size() - 1);
      const auto below = static_cast<std::size_t>(place);
      const std::size_t above = std::min(below + 1, seconds.size() - 1);
      return seconds[below] + (place - static_cast<double>(below)) * (seconds[above] - seconds[below]);
    };
    const double median = quantile(0.5);
    const double floor = std::max(work.operations / gemm, work.bytes / copy_rate());
    state.SetIterationTime(median);
    if (work.operations > 0.0) state.counters["GFLOP/s"] = work.operations / median * 1e-9;
    if (work.bytes > 0.0) state.counters["GB/s"] = work.bytes / median * 1e-9;
    if (floor > 0.0) {
      state.counters["floor_ms"] = floor * 1e3;
      state.counters["of_floor_percent"] = 100.0 * floor / median;
    }
    state.counters["spread_percent"] = 50.0 * (quantile(0.75) - quantile(0.25)) / median;
    state.counters["samples"] = static_cast<double>(seconds.size());
  }
}

/// Every row's registration: one iteration of Google Benchmark is all samples of the row.
inline void rows(benchmark::internal::Benchmark* bench) {
  bench->Unit(benchmark::kMillisecond)->UseManualTime()->Iterations(1);
}

/// What every program's main does: without a GPU, one built for it says so in a sentence and ends with 77.
inline int run(int argc, char** argv) {
  int kept = 1;
  bool lists = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--quick") {
      sampling().seconds = 0.1;
      sampling().most = 20;
    } else if (argument.starts_with("--seconds=")) {
      const double seconds = std::atof(argv[i] + std::string_view("--seconds=").size());
      sampling().end = std::chrono::steady_clock::now() + std::chrono::milliseconds(std::llround(1e3 * seconds));
    } else {
      lists = lists || argument.starts_with("--benchmark_list_tests");
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  try {
#if MERISTEM_GPU
    int devices = 0;
    if (!lists && (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)) {
      std::cerr << "no GPU was found: this program was compiled for the GPU, nothing is measured\n";
      return 77;
    }
#endif
    if (!lists) describe_machine();
    benchmark::RunSpecifiedBenchmarks();
  } catch (const ms::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
