// Kernels with an access out of bounds, to show that AddressSanitizer and UBSan name the kernel's line on the host
// executor: `asan_kernels <case> broken` must be reported at the line marked `BUG: <case>`, `asan_kernels <case>
// correct` must run in silence. Blocks have the GPU's size and a barrier, so that the accesses happen on fibers.
#include <cstdio>
#include <cstring>
#include <string>

#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

// `extra` is 0 in the correct program, else how far the last thread reaches beyond the end.

template <class T>
__global__ void write_global(T* y, int extra) {
  __syncthreads();
  y[threadIdx.x + extra] = T(1);  // BUG: global
}

template <class T>
__global__ void write_static_shared(T* y, int extra) {
  MERISTEM_SHARED(T, row, [64]);
  row[threadIdx.x] = T(2);
  __syncthreads();
  T* flat = row;
  flat[threadIdx.x + extra] = T(3);  // BUG: static_shared
  __syncthreads();
  y[threadIdx.x] = row[threadIdx.x];
}

template <class T>
__global__ void read_dynamic_shared(T* y, int extra) {
  MERISTEM_DYNAMIC_SHARED(T, buffer);
  buffer[threadIdx.x] = T(4);
  __syncthreads();
  y[threadIdx.x] = buffer[threadIdx.x + extra];  // BUG: dynamic_shared
}

template <class T>
__global__ void read_next_row(T* y, int extra) {
  MERISTEM_SHARED(T, tile, [2][32]);
  tile[threadIdx.x / 32][threadIdx.x % 32] = T(5);
  __syncthreads();
  y[threadIdx.x] = tile[0][threadIdx.x % 32 + extra];  // BUG: inner_index
}

template <class T>
__global__ void write_local(T* y, int extra) {
  T mine[4] = {};
  __syncthreads();
  T* flat = mine;
  flat[3 + (threadIdx.x == 40 ? extra : 0)] = T(threadIdx.x);  // BUG: local
  __syncthreads();
  y[threadIdx.x] = mine[3];
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem

int main(int count, char** arguments) {
  namespace ms = meristem;
  const std::string name = count == 3 ? arguments[1] : "";
  const int extra = count == 3 && std::strcmp(arguments[2], "broken") == 0 ? 1 : 0;
  ms::ContextOptions options;
  options.executor = {.gpu_blocks = true, .poison_shared = true};
  ms::Context ctx(options);
  auto y = ms::zeros<float>(ctx, {64});
  const unsigned threads = ms::block_threads(ctx, 64);
  if (name == "global") {
    ms::launch<ms::write_global<float>>(ctx, 2, threads, 0, y.data(), extra);
  } else if (name == "static_shared") {
    ms::launch<ms::write_static_shared<float>>(ctx, 2, threads, 0, y.data(), extra);
  } else if (name == "dynamic_shared") {
    ms::launch<ms::read_dynamic_shared<float>>(ctx, 2, threads, threads * sizeof(float), y.data(), extra);
  } else if (name == "inner_index") {
    ms::launch<ms::read_next_row<float>>(ctx, 2, threads, 0, y.data(), extra);
  } else if (name == "local") {
    ms::launch<ms::write_local<float>>(ctx, 2, threads, 0, y.data(), extra);
  } else {
    std::fprintf(stderr, "usage: asan_kernels global|static_shared|dynamic_shared|inner_index|local broken|correct\n");
    return 2;
  }
  return 0;
}
