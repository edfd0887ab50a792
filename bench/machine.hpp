// The device as a measuring instrument: a stopwatch, a cold cache, and the two rates that floors are made of.
#pragma once

#include <benchmark/benchmark.h>
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iomanip>
#include <sstream>
#include <string>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/for_each.hpp>
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

/// Seconds between two points of the device's work: CUDA events on the GPU, the steady clock on the CPU.
class Stopwatch {
 public:
#if MERISTEM_GPU
  Stopwatch() {
    ms::check_cuda(cudaEventCreate(&start_), "cudaEventCreate");
    ms::check_cuda(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  ~Stopwatch() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void start() { ms::check_cuda(cudaEventRecord(start_, context().stream()), "cudaEventRecord"); }
  double stop() {
    ms::check_cuda(cudaEventRecord(stop_, context().stream()), "cudaEventRecord");
    ms::check_cuda(cudaEventSynchronize(stop_), "cudaEventSynchronize");
    float milliseconds = 0.0f;
    ms::check_cuda(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
#else
  void start() { start_ = std::chrono::steady_clock::now(); }
  double stop() { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_;
#endif
};

struct Fill {
  float* to;
  float value;
  MERISTEM_HD void operator()(std::int64_t i) const { to[i] = value; }
};

/// Bytes of the last cache that data can stay in.
inline std::int64_t cache_bytes() {
#if MERISTEM_GPU
  return context().properties().l2CacheSize;
#else
  const std::int64_t found = std::max(sysconf(_SC_LEVEL3_CACHE_SIZE), sysconf(_SC_LEVEL2_CACHE_SIZE));
  return std::clamp<std::int64_t>(found, 8 << 20, 64 << 20);
#endif
}

/// Leaves nothing of a row's data in the caches, by writing twice their size.
inline void flush_caches() {
  static ms::Tensor<float> other(context(), {2 * cache_bytes() / static_cast<std::int64_t>(sizeof(float))});
  static float value = 0.0f;
  value += 1.0f;
  ms::for_each(context(), other.size(), Fill{other.data(), value});
}

/// Operations per second of a square GEMM in T, best of ten. Measured once a run; order 1024 on the CPU, 4096 on the
/// GPU, which is idle for much of a smaller one.
template <class T = float>
double gemm_rate() {
  static const double rate = [] {
    ms::Context& ctx = context();
    const std::int64_t n = MERISTEM_GPU ? 4096 : 1024;
    const auto a = normal_matrix<T>({n, n}, 1);
    auto c = ms::zeros<T>(ctx, {n, n});
    Stopwatch watch;
    double best = 1e30;
    for (int i = 0; i < 12; ++i) {
      watch.start();
      ms::gemm(ctx, ms::Transpose::yes, ms::Transpose::no, 1, a, a, 0, c.view());
      const double seconds = watch.stop();
      if (i > 1) best = std::min(best, seconds);
    }
    return 2.0 * static_cast<double>(n * n * n) / best;
  }();
  return rate;
}

struct Copy {
  const float* from;
  float* to;
  MERISTEM_HD void operator()(std::int64_t i) const { to[i] = from[i]; }
};

/// Bytes per second, read and written, of a copy of 8 times the cache; the better of the library's loop and the
/// system's copy, best of ten. Measured once a run.
inline double copy_rate() {
  static const double rate = [] {
    ms::Context& ctx = context();
    const std::int64_t n = 4 * cache_bytes() / static_cast<std::int64_t>(sizeof(float));
    const auto from = ms::zeros<float>(ctx, {n});
    auto to = ms::zeros<float>(ctx, {n});
    Stopwatch watch;
    double best = 1e30;
    for (int i = 0; i < 24; ++i) {
      watch.start();
      if (i % 2 == 0) {
        ms::for_each(ctx, n, Copy{from.data(), to.data()});
      } else {
        ms::copy(ctx, from.view(), to.view());
      }
      const double seconds = watch.stop();
      if (i > 3) best = std::min(best, seconds);
    }
    return 2.0 * static_cast<double>(n) * sizeof(float) / best;
  }();
  return rate;
}

/// What a command prints first; empty if it fails.
inline std::string first_line_of(const std::string& command) {
  std::string line;
  if (FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r")) {
    for (int c = 0; (c = std::fgetc(pipe)) != EOF && c != '\n';) line.push_back(static_cast<char>(c));
    pclose(pipe);
  }
  return line;
}

/// The first `key : value` of /proc/cpuinfo with this key.
inline std::string processor(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key) && line.find(": ") != std::string::npos) return line.substr(line.find(": ") + 2);
  }
  return "unknown";
}

template <class T>
std::string text_of(const T& value) {
  std::ostringstream out;
  out << std::setprecision(4) << value;
  return out.str();
}

/// Writes into the JSON, and above the table, what the times depend on.
inline void describe_machine() {
  const auto add = [](const char* key, const std::string& value) { benchmark::AddCustomContext(key, value); };
  const std::string file = __FILE__;
  std::string commit =
      first_line_of("git -C '" + file.substr(0, file.find_last_of('/')) + "' describe --always --dirty");
  add("commit", commit.empty() ? "unknown" : commit);
  add("device", context().device_name());
  add("processor", processor("model name"));
#if MERISTEM_GPU
  int driver = 0, runtime = 0, clock = 0, memory_clock = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, context().options().device);
  cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, context().options().device);
  const auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
  add("driver",
      first_line_of("nvidia-smi --query-gpu=driver_version --format=csv,noheader") + ", CUDA " + version(driver));
  add("toolkit", "CUDA " + version(runtime) + ", nvcc " + std::to_string(__CUDACC_VER_MAJOR__) + "." +
                     std::to_string(__CUDACC_VER_MINOR__));
  add("clocks", "at most " + std::to_string(clock / 1000) + " MHz, memory " + std::to_string(memory_clock / 1000) +
                    " MHz; now " + first_line_of("nvidia-smi --query-gpu=clocks.sm,clocks.mem --format=csv,noheader"));
#else
  add("driver", "none");
  add("toolkit", __VERSION__);
  add("clocks", processor("cpu MHz") + " MHz");
  using Config = char* (*)();
  const auto config = reinterpret_cast<Config>(dlsym(RTLD_DEFAULT, "openblas_get_config"));
  using Parallel = int (*)();
  const auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "openblas_get_parallel"));
  const int flavour = parallel ? parallel() : -1;
  add("blas", config ? std::string(config()) + (flavour == 2   ? " OpenMP"
                                                : flavour == 1 ? " pthread"
                                                               : " one thread")
                     : "not OpenBLAS");
  add("threads", std::to_string(context().threads()));
#endif
  add("gemm_gflops_float32", text_of(gemm_rate<float>() * 1e-9));
  add("copy_gbps", text_of(copy_rate() * 1e-9));
}

}  // namespace bench
