// The explicit first argument of everything: device, stream, library handles, memory, seed and numerics policy.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/executor_options.hpp>
#include <meristem/core/memory.hpp>
#if MERISTEM_GPU
#include <meristem/core/cuda_check.hpp>
#elif defined(_OPENMP)
#include <omp.h>
#endif

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// How the products of dense layers with float32 numbers are computed on the GPU. Convolutions, and
/// growth's statistics and solver, are in full precision whatever it says, as is everything on the CPU.
enum class MatmulPrecision {
  full,  ///< IEEE float32
  tf32,  ///< 10-bit mantissa inputs on tensor cores; a choice the user makes, never a default
};

/// Choices between speed and exactness.
struct Numerics {
  MatmulPrecision matmul = MatmulPrecision::full;
};

/// Settings of a Context.
struct ContextOptions {
  /// Everything random follows from it.
  std::uint64_t seed = 0;
  /// CUDA device ordinal; the CPU has device 0 only.
  int device = 0;
  Numerics numerics = {};
  ExecutorOptions executor = {};
#if MERISTEM_GPU
  /// A stream to run on, which the caller keeps alive; by default the Context creates its own.
  cudaStream_t stream = nullptr;
#endif
};

/// Owns the device, stream, BLAS and solver handles, memory pool, seed and numerics policy. Not copied, not moved:
/// tensors refer to its stream. Use one Context from one thread at a time.
class Context {
 public:
#if MERISTEM_GPU
  /// Throws CudaError if there is no GPU or no such device.
  explicit Context(const ContextOptions& options = {}) : options_(options) {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0) {
      throw CudaError(concat("no GPU was found (", status == cudaSuccess ? "no device" : cudaGetErrorString(status),
                             "); this program was compiled by nvcc for the GPU: compile it with g++ or clang++ to run "
                             "it on the CPU"));
    }
    if (options.device < 0 || options.device >= devices) {
      throw ArgumentError(
          concat("device ", options.device, " does not exist; this machine has ", devices, " GPU(s), numbered from 0"));
    }
    check_cuda(cudaSetDevice(options.device), "cudaSetDevice");
    check_cuda(cudaGetDeviceProperties(&properties_, options.device), "cudaGetDeviceProperties");
    if (options.stream != nullptr) {
      stream_ = std::shared_ptr<CUstream_st>(options.stream, [](cudaStream_t) {});
    } else {
      cudaStream_t stream = nullptr;
      check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
      stream_ = std::shared_ptr<CUstream_st>(stream, [](cudaStream_t mine) { cudaStreamDestroy(mine); });
    }
    memory_ = std::make_shared<Memory>(options.device, stream_);
  }

  /// The stream that everything runs on. This and the two below make the Context's device the calling thread's, as CUDA
  /// wants of whoever uses them.
  [[nodiscard]] cudaStream_t stream() const {
    detail::select_device(options_.device);
    return stream_.get();
  }
  /// cuBLAS, made when it is first asked for, to compute with this precision.
  [[nodiscard]] cublasHandle_t blas(MatmulPrecision precision = MatmulPrecision::full) {
    const cudaStream_t mine = stream();
    if (!blas_) {
      cublasHandle_t blas = nullptr;
      check_cublas(cublasCreate(&blas), "cublasCreate");
      blas_.reset(blas);
      check_cublas(cublasSetStream(blas, mine), "cublasSetStream");
    }
    const auto mode = precision == MatmulPrecision::tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH;
    check_cublas(cublasSetMathMode(blas_.get(), mode), "cublasSetMathMode");
    return blas_.get();
  }
  /// cuSOLVER, made when it is first asked for.
  [[nodiscard]] cusolverDnHandle_t solver() {
    const cudaStream_t mine = stream();
    if (!solver_) {
      cusolverDnHandle_t solver = nullptr;
      check_cusolver(cusolverDnCreate(&solver), "cusolverDnCreate");
      solver_.reset(solver);
      check_cusolver(cusolverDnSetStream(solver, mine), "cusolverDnSetStream");
    }
    return solver_.get();
  }
  [[nodiscard]] const cudaDeviceProp& properties() const noexcept { return properties_; }

  /// Waits until everything started so far is done; errors of kernels surface here.
  void synchronize() const {
    require_not_recording("waits for the device");
    check_cuda(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  }

  /// A sentence for people: what the program runs on.
  [[nodiscard]] std::string device_name() const {
    return concat("GPU ", options_.device, ": ", properties_.name, ", ", properties_.multiProcessorCount,
                  " multiprocessors, ", properties_.totalGlobalMem >> 20, " MiB");
  }
#else
  /// Throws ArgumentError for a device other than 0.
  explicit Context(const ContextOptions& options = {}) : options_(options), memory_(std::make_shared<Memory>()) {
    if (options.device != 0) {
      throw ArgumentError(concat("device ", options.device,
                                 " does not exist: this program was compiled for the CPU, "
                                 "which is device 0; compile it with nvcc to use a GPU"));
    }
    if (options.executor.threads < 0) {
      throw ArgumentError(concat("executor.threads is ", options.executor.threads, "; it is 0 (all) or more"));
    }
  }

  /// Everything on the CPU is done when the call returns.
  void synchronize() const {}

  /// A sentence for people: what the program runs on.
  [[nodiscard]] std::string device_name() const {
    return concat("CPU, ", threads(), threads() == 1 ? " thread" : " threads");
  }

  /// Workers that share the blocks of a launch.
  [[nodiscard]] int threads() const {
#if defined(_OPENMP)
    return options_.executor.threads > 0 ? options_.executor.threads : omp_get_max_threads();
#else
    return 1;
#endif
  }
#endif
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  [[nodiscard]] const ContextOptions& options() const noexcept { return options_; }
  [[nodiscard]] const ExecutorOptions& executor() const noexcept { return options_.executor; }
  /// Changes how the host executor runs kernels from now on.
  void set_executor(const ExecutorOptions& executor) { options_.executor = executor; }
  [[nodiscard]] std::uint64_t seed() const noexcept { return options_.seed; }
  [[nodiscard]] const std::shared_ptr<Memory>& memory() const noexcept { return memory_; }

  /// A random stream number nobody had from this Context before. Taken in program order, so that the same program with
  /// the same seed draws the same numbers.
  [[nodiscard]] std::uint64_t next_random_stream() {
    require_not_recording("draws a random stream by Context::next_random_stream");
    return random_streams_++;
  }
  /// The same for kernels that add what `random_shift` points at, so that work that is recorded draws new numbers each
  /// time it is repeated.
  [[nodiscard]] std::uint64_t next_shifted_random_stream() noexcept { return random_streams_++; }
  /// In device memory: what kernels add to the numbers of random streams; null for 0.
  [[nodiscard]] const std::uint64_t* random_shift() const noexcept { return random_shift_; }

  /// Whether what is started now does not run but is recorded, to be repeated (core/graph.hpp).
  [[nodiscard]] bool recording() const noexcept { return recording_; }
  /// Throws ArgumentError while work is recorded; `what` completes "work that is recorded".
  void require_not_recording(const char* what) const {
    if (recording_) throw ArgumentError(concat("work that is recorded ", what, "; it cannot be repeated then"));
  }
  /// A number nobody had from this Context before, from 1; parameters are known by it.
  [[nodiscard]] std::uint64_t next_id() noexcept { return ++ids_; }

  /// At least `count` counters in device memory, all 0, for `last_to_arrive` (core/arrival.hpp), which leaves them so.
  /// Valid for the launches that are started before the next call.
  [[nodiscard]] unsigned* arrivals(std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(unsigned);
    if (arrivals_.empty() || bytes > arrivals_.back().bytes()) {
      // The smaller ones stay: recorded work counts there.
      arrivals_.emplace_back(memory_, arrivals_.empty() ? bytes : std::max(bytes, 2 * arrivals_.back().bytes()));
      const Allocation& fresh = arrivals_.back();
#if MERISTEM_GPU
      check_cuda(cudaMemsetAsync(fresh.data(), 0, fresh.bytes(), stream()), "cudaMemsetAsync");
#else
      const detail::DeviceAccess access;
      std::memset(fresh.data(), 0, fresh.bytes());
#endif
    }
    return static_cast<unsigned*>(arrivals_.back().data());
  }

  /// How many random streams were taken; with `set_random_streams` a checkpoint restores where the program was.
  [[nodiscard]] std::uint64_t random_streams() const noexcept { return random_streams_; }
  void set_random_streams(std::uint64_t count) noexcept { random_streams_ = count; }
  /// The last number that `next_id` gave, 0 before the first.
  [[nodiscard]] std::uint64_t ids() const noexcept { return ids_; }
  /// For a checkpoint, which restores the ids too. Only upwards, or numbers would be given twice.
  void set_ids(std::uint64_t last) noexcept { ids_ = last; }

 private:
  friend class Graph;

  ContextOptions options_;
#if MERISTEM_GPU
  struct Release {
    void operator()(cublasHandle_t handle) const { cublasDestroy(handle); }
    void operator()(cusolverDnHandle_t handle) const { cusolverDnDestroy(handle); }
  };
  template <class Handle>
  using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Release>;

  cudaDeviceProp properties_{};
  std::shared_ptr<CUstream_st> stream_;
  Owned<cublasHandle_t> blas_;
  Owned<cusolverDnHandle_t> solver_;
#endif
  std::shared_ptr<Memory> memory_;
  std::vector<Allocation> arrivals_;
  bool recording_ = false;
  const std::uint64_t* random_shift_ = nullptr;
  std::uint64_t random_streams_ = 0;
  std::uint64_t ids_ = 0;
};

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
