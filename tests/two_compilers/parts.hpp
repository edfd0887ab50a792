// One program, two compilers: the same work compiled by g++ for the CPU and by nvcc for the GPU.
#pragma once

#include <cstdint>

#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>

/// The sum of 0, 1, .., n - 1 by a kernel on the executor of whoever compiled it.
long long sum_on_cpu(std::int64_t n);
long long sum_on_gpu(std::int64_t n);

namespace meristem {
inline namespace MERISTEM_BACKEND {
namespace two_compilers {

struct Iota {
  int* x;
  MERISTEM_HD void operator()(std::int64_t i) const { x[i] = static_cast<int>(i); }
};

template <class T>
__global__ void block_sum(const int* x, std::int64_t n, T* sum) {
  MERISTEM_SHARED(T, partial, [128]);
  T mine = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) mine += static_cast<T>(x[i]);
  partial[threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  T total = 0;
  for (unsigned t = 0; t < blockDim.x; ++t) total += partial[t];
  sum[0] = total;
}

inline long long sum(std::int64_t n) {
  Context ctx;
  auto x = empty<int>(ctx, {n});
  auto result = zeros<long long>(ctx, {1});
  for_each(ctx, n, Iota{x.data()});
  launch<block_sum<long long>>(ctx, 1, block_threads(ctx, 128), 0, x.data(), n, result.data());
  return to_host(ctx, result)[0];
}

}  // namespace two_compilers
}  // namespace MERISTEM_BACKEND
}  // namespace meristem
