// Kernels with a data race, to show that ThreadSanitizer finds it on the host executor and names the kernel's line:
// `tsan_kernels <case> broken` must be reported at the line marked `BUG: <case>`, `tsan_kernels <case> correct` must
// run in silence. Every CUDA thread is a thread to ThreadSanitizer, although a single one runs them all.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

// `broken` leaves out the barrier or the atomic that the kernel needs.

template <class T>
__global__ void reverse_block(T* y, bool broken) {
  MERISTEM_SHARED(T, row, [64]);
  row[threadIdx.x] = T(threadIdx.x);
  if (!broken) __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = row[blockDim.x - 1 - threadIdx.x];  // BUG: block
}

// The barrier after the last read is the one that people forget.
template <class T>
__global__ void shift_twice(T* y, bool broken) {
  MERISTEM_DYNAMIC_SHARED(T, row);
  row[threadIdx.x] = T(threadIdx.x);
  __syncthreads();
  const T next = row[(threadIdx.x + 1) % blockDim.x];  // BUG: reuse
  if (!broken) __syncthreads();
  row[threadIdx.x] = next;
  __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = row[(threadIdx.x + 1) % blockDim.x];
}

template <class T>
__global__ void swap_lanes(T* y, bool broken) {
  MERISTEM_SHARED(T, row, [64]);
  row[threadIdx.x] = T(threadIdx.x);
  if (!broken) __syncwarp();
  y[blockIdx.x * blockDim.x + threadIdx.x] = row[threadIdx.x ^ 1] + __shfl_xor_sync(0xffffffffu, T(1), 2);  // BUG: warp
}

template <class T>
__global__ void count_threads(T* y, bool broken) {
  if (broken) {
    y[0] += T(1);  // BUG: blocks
  } else {
    atomicAdd(y, T(1));
  }
}

// The last block to finish adds up what all blocks wrote.
template <class T>
__global__ void last_block_sums(T* y, unsigned* finished, bool broken) {
  MERISTEM_SHARED(unsigned, ticket, [1]);
  if (threadIdx.x == 0) y[1 + blockIdx.x] = T(blockIdx.x);  // BUG: fence
  if (!broken) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    ticket[0] = atomicInc(finished, gridDim.x - 1);
    if (!broken) __threadfence();
  }
  __syncthreads();
  if (ticket[0] != gridDim.x - 1 || threadIdx.x != 0) return;
  T sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += y[1 + i];
  y[0] = sum;
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem

int main(int count, char** arguments) {
  namespace ms = meristem;
  const std::string name = count == 3 ? arguments[1] : "";
  const bool broken = count == 3 && std::strcmp(arguments[2], "broken") == 0;
  ms::ContextOptions options;
  options.executor = {.gpu_blocks = true, .poison_shared = true};
  ms::Context ctx(options);
  auto y = ms::zeros<float>(ctx, {4 * 64});
  auto finished = ms::zeros<unsigned>(ctx, {1});
  const unsigned threads = ms::block_threads(ctx, 64);
  // Twice, so that whatever one launch leaves behind shows in the next.
  for (int run = 0; run < 2; ++run) {
    if (name == "block") {
      ms::launch<ms::reverse_block<float>>(ctx, 4, threads, 0, y.data(), broken);
    } else if (name == "reuse") {
      ms::launch<ms::shift_twice<float>>(ctx, 4, threads, threads * sizeof(float), y.data(), broken);
    } else if (name == "warp") {
      ms::launch<ms::swap_lanes<float>>(ctx, 4, threads, 0, y.data(), broken);
    } else if (name == "blocks") {
      ms::launch<ms::count_threads<float>>(ctx, 4, 1, 0, y.data(), broken);
    } else if (name == "fence") {
      ms::launch<ms::last_block_sums<float>>(ctx, 4, threads, 0, y.data(), finished.data(), broken);
    } else {
      std::fprintf(stderr, "usage: tsan_kernels block|reuse|warp|blocks|fence broken|correct\n");
      return 2;
    }
  }
  return 0;
}
