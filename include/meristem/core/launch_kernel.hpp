// Starts kernels: on the GPU when nvcc compiles this, on the host executor when g++ or clang++ does.
//
// A kernel is plain CUDA: a `__global__` function that is a template or `static`, in namespace meristem (or with
// `using namespace meristem`), whose shared memory is declared by MERISTEM_SHARED or MERISTEM_DYNAMIC_SHARED:
//
//   template <class T>
//   __global__ void row_sums(View<const T> x, View<T> sums) {
//     MERISTEM_SHARED(T, partial, [1024]);
//     ...
//     __syncthreads();
//   }
//   const unsigned threads = block_threads(ctx, 256);
//   launch<row_sums<float>>(ctx, rows, threads, 0, x, sums);
//
// Kernels whose threads co-operate must work for any block size, one thread included: on the CPU that is the size
// `block_threads` gives, unless ExecutorOptions::gpu_blocks asks for the GPU's. Work without co-operation is a functor
// for `for_each` (core/for_each.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <tuple>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/source_location.hpp>
#if !MERISTEM_GPU
#include <meristem/core/host_cuda.hpp>
#elif !defined(__CUDACC__)
#include <meristem/core/cuda_words.hpp>
#endif

#if MERISTEM_GPU
/// `MERISTEM_SHARED(float, tile, [32][33]);` declares an array shared by the threads of a block, not initialised.
#define MERISTEM_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
/// `MERISTEM_DYNAMIC_SHARED(float, buffer);` declares `float* buffer`, the shared memory whose size launch was given;
/// aligned to 128 bytes.
#define MERISTEM_DYNAMIC_SHARED(T, name)                                          \
  extern __shared__ __align__(128) unsigned char meristem_dynamic_shared_bytes[]; \
  T* const name = reinterpret_cast<T*>(meristem_dynamic_shared_bytes)
#else
#define MERISTEM_SHARED(T, name, ...) auto& name = ::meristem::cpu::host::shared_array<T __VA_ARGS__>([] {})
#define MERISTEM_DYNAMIC_SHARED(T, name) T* const name = ::meristem::cpu::host::dynamic_shared<T>()
#endif

namespace meristem {
inline namespace MERISTEM_BACKEND {

#if MERISTEM_GPU
// The host executor has a type of this name in the library's namespace; so it has the same name everywhere.
using ::dim3;
#endif

/// The kernel's name, for messages.
template <auto Kernel>
[[nodiscard]] constexpr std::string_view kernel_name() {
  std::string_view name = __PRETTY_FUNCTION__;
  const auto start = name.find("Kernel = ");
  if (start == std::string_view::npos) return name;
  name.remove_prefix(start + 9);
  const auto end = name.find("; std::");
  name = name.substr(0, end == std::string_view::npos ? name.rfind(']') : end);
  if (name.starts_with("&")) name.remove_prefix(1);
  return name;
}

/// Blocks of `per_block` items that cover `items`. Throws ArgumentError if `items` is negative or they are more than a
/// grid's x extent, 2^31 - 1.
[[nodiscard]] inline unsigned blocks_for(std::int64_t items, std::int64_t per_block,
                                         SourceLocation where = SourceLocation::current()) {
  if (items < 0 || per_block < 1) {
    throw ArgumentError(concat("cannot cover ", items, " items by blocks of ", per_block,
                               "; the first must not be negative, the second must be positive"),
                        where);
  }
  const std::int64_t blocks = items / per_block + (items % per_block != 0 ? 1 : 0);
  if (blocks > 0x7fffffff) {
    throw ArgumentError(
        concat(items, " items in blocks of ", per_block, " need ", blocks, " blocks; a grid has at most 2147483647"),
        where);
  }
  return static_cast<unsigned>(blocks);
}

/// The block size for a kernel whose threads co-operate: `gpu_threads` on the GPU; on the CPU one thread, whose loops
/// are plain loops, or `gpu_threads` if ExecutorOptions::gpu_blocks is set.
[[nodiscard]] inline unsigned block_threads([[maybe_unused]] const Context& ctx, unsigned gpu_threads) {
#if MERISTEM_GPU
  return gpu_threads;
#else
  return ctx.executor().gpu_blocks ? gpu_threads : 1;
#endif
}

namespace detail {

/// Throws LaunchError if no GPU could run blocks of this shape.
inline void check_launch_shape(std::string_view name, dim3 grid, dim3 block) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const bool block_fits = block.x <= 1024 && block.y <= 1024 && block.z <= 64 && threads >= 1 && threads <= 1024;
  if (!block_fits) {
    throw LaunchError(concat("kernel ", name, ": a block of (", block.x, ", ", block.y, ", ", block.z,
                             ") threads; a block has 1 to 1024 threads, at most (1024, 1024, 64)"));
  }
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    throw LaunchError(concat("kernel ", name, ": a grid of (", grid.x, ", ", grid.y, ", ", grid.z,
                             ") blocks; the limits are (2147483647, 65535, 65535)"));
  }
}

#if MERISTEM_GPU
/// Of what only nvcc compiles.
template <auto Kernel>
inline constexpr bool compiled_here = false;

/// Allows the kernel more dynamic shared memory than the 48 KiB that need no permission.
template <auto Kernel>
void allow_shared_memory(const Context& ctx, std::size_t bytes) {
  const auto limit = ctx.properties().sharedMemPerBlockOptin;
  if (bytes > limit) {
    throw LaunchError(concat("kernel ", kernel_name<Kernel>(), ": ", bytes,
                             " bytes of dynamic shared memory; this GPU has at most ", limit, " per block"));
  }
  check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(Kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
}

/// An error of an earlier kernel would come back as this launch's: it is told as what it is.
template <auto Kernel>
void require_no_error_before() {
  const cudaError_t status = cudaGetLastError();
  if (status == cudaSuccess) return;
  throw CudaError(concat("an error of a kernel or call, maybe of your own, before kernel ", kernel_name<Kernel>(), ": ",
                         cudaGetErrorString(status), "; set MERISTEM_SYNC_LAUNCHES=1 to learn which kernel's"));
}

/// Whether each launch is waited for, so that an error names its kernel: MERISTEM_SYNC_LAUNCHES=1 in the environment.
[[nodiscard]] inline bool waits_for_launches() {
  static const bool waits = [] {
    const char* const setting = std::getenv("MERISTEM_SYNC_LAUNCHES");
    return setting != nullptr && std::string_view(setting) == "1";
  }();
  return waits;
}

template <auto Kernel>
void wait_for_launch(cudaStream_t stream) {
  const cudaError_t status = cudaStreamSynchronize(stream);
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw CudaError(concat("kernel ", kernel_name<Kernel>(), ": ", cudaGetErrorString(status)));
}
#else
template <auto Kernel, class... Args>
void call_kernel(const void* arguments) {
  std::apply([](const Args&... args) { Kernel(args...); }, *static_cast<const std::tuple<Args...>*>(arguments));
}
#endif

}  // namespace detail

/// Runs `Kernel` on `grid` blocks of `block` threads with `shared_bytes` of dynamic shared memory. On the GPU it
/// returns when the kernel is queued on the context's stream, on the CPU when it is done. A grid with an extent of 0
/// runs nothing. Throws LaunchError for shapes that no GPU can run, CudaError if the GPU refuses the launch, and on
/// the CPU LaunchError for barriers that the threads of a block do not reach together and whatever the kernel threw.
template <auto Kernel, class... Args>
void launch(Context& ctx, dim3 grid, dim3 block, std::size_t shared_bytes, [[maybe_unused]] Args... args) {
  detail::check_launch_shape(kernel_name<Kernel>(), grid, block);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#if MERISTEM_GPU
  const cudaStream_t stream = ctx.stream();  // makes the context's device the current one
  if (shared_bytes > (std::size_t{48} << 10)) detail::allow_shared_memory<Kernel>(ctx, shared_bytes);
  detail::require_no_error_before<Kernel>();
#if defined(__CUDACC__)
  Kernel<<<grid, block, shared_bytes, stream>>>(args...);
#else
  static_assert(detail::compiled_here<Kernel>,
                "this starts a kernel that the compiled library does not hold: let nvcc compile it");
#endif
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) {
    throw CudaError(concat("kernel ", kernel_name<Kernel>(), " was not started with ", grid.x, "x", grid.y, "x", grid.z,
                           " blocks of ", block.x, "x", block.y, "x", block.z, " threads and ", shared_bytes,
                           " bytes of dynamic shared memory: ", cudaGetErrorString(status)));
  }
  if (detail::waits_for_launches()) detail::wait_for_launch<Kernel>(stream);
#else
  if (shared_bytes > host::dynamic_shared_limit) {
    throw LaunchError(concat("kernel ", kernel_name<Kernel>(), ": ", shared_bytes,
                             " bytes of dynamic shared memory; no GPU has more than ", host::dynamic_shared_limit,
                             " per block"));
  }
  const detail::DeviceAccess access;
  const std::tuple<Args...> arguments(std::move(args)...);
  host::run_grid({&detail::call_kernel<Kernel, Args...>, &arguments, kernel_name<Kernel>(), grid, block, shared_bytes,
                  ctx.executor()},
                 ctx.threads());
#endif
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
