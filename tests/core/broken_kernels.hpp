// Kernels that are wrong on purpose: each leaves out a barrier or misuses one. With `repaired` the first group is
// right. They show what the host executor's debug aids find.
#pragma once

#include <stdexcept>

#include <meristem/core/launch.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {
namespace broken {

// ---------------------------------------------------------------------------------------------- a barrier is missing

/// y[t] = t - 1, passed on through shared memory.
template <bool repaired>
__global__ void take_from_left(float* y) {
  MERISTEM_SHARED(float, row, [256]);
  row[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (repaired) __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x == 0 ? -1.0f : row[threadIdx.x - 1];
}

/// y[t] = 7, which thread 0 brings.
template <bool repaired>
__global__ void broadcast(float* y) {
  MERISTEM_SHARED(float, value, [1]);
  if (threadIdx.x == 0) value[0] = 7.0f;
  if (repaired) __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = value[0];
}

/// y[t] = t + 1 modulo the block size: the row is overwritten while others still read it.
template <bool repaired>
__global__ void overwrite_while_read(float* y) {
  MERISTEM_SHARED(float, row, [256]);
  row[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  const float next = row[(threadIdx.x + 1) % blockDim.x];
  if (repaired) __syncthreads();
  row[threadIdx.x] = -5.0f;
  y[blockIdx.x * blockDim.x + threadIdx.x] = next;
}

/// y[t] = the number of the warp's other half, exchanged without __syncwarp.
template <bool repaired>
__global__ void exchange_in_warp(float* y) {
  MERISTEM_SHARED(float, half, [8][2]);
  const unsigned warp = threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
  if (lane % 16 == 0) half[warp][lane / 16] = static_cast<float>(10 * warp + lane / 16);
  if (repaired) __syncwarp();
  y[blockIdx.x * blockDim.x + threadIdx.x] = half[warp][1 - lane / 16];
}

/// y[t] = what nobody wrote.
static __global__ void read_before_write(float* y) {
  MERISTEM_SHARED(float, row, [256]);
  MERISTEM_DYNAMIC_SHARED(float, more);
  y[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x % 2 == 0 ? row[threadIdx.x] : more[threadIdx.x];
  __syncthreads();
  row[threadIdx.x] = 1.0f;
  more[threadIdx.x] = 1.0f;
}

// --------------------------------------------------------------------------------------------- barriers are misused

/// Half of the first warp waits for the block, the other half for the warp. Other warps return.
static __global__ void diverged_barrier() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

/// Every warp deadlocks: its halves name each other but with different masks.
static __global__ void diverged_masks() {
  if (threadIdx.x % 32 < 16) {
    __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __ballot_sync(0xfffffff0u, 1);
  }
}

/// Both branches have a barrier, but not the same one.
static __global__ void barriers_in_branches() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

/// Some threads skip the first barrier and meet the others at the second.
static __global__ void skipped_barrier() {
  if (threadIdx.x != 3) __syncthreads();
  __syncthreads();
}

static __global__ void lane_outside_its_mask() { __shfl_sync(0x0000ffffu, 1, 0); }

static __global__ void different_collectives() {
  if (threadIdx.x % 2 == 0) {
    __any_sync(0xffffffffu, 1);
  } else {
    __all_sync(0xffffffffu, 1);
  }
}

static __global__ void width_of_three() { __shfl_down_sync(0xffffffffu, 1, 1, 3); }

// -------------------------------------------------------------------------------------------------- exceptions

/// Counts how many of it exist.
struct Counted {
  explicit Counted(int* count) : count_(count) { atomicAdd(count_, 1); }
  ~Counted() { atomicSub(count_, 1); }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  int* count_;
};

/// One thread throws while the others wait with an object on their stacks.
static __global__ void one_thread_throws(int* objects, unsigned thrower) {
  const Counted object(objects);
  __syncthreads();
  if (blockIdx.x == 0 && threadIdx.x == thrower) throw std::domain_error("thread " + std::to_string(thrower));
  __syncthreads();
}

/// A kernel cannot start another.
static __global__ void launches_another(Context* ctx) { launch<lane_outside_its_mask>(*ctx, 1, 1, 0); }

/// Each element depends on the one before.
struct PrefixSum {
  int* x;
  void operator()(std::int64_t i) const {
    if (i > 0) x[i] += x[i - 1];
  }
};

}  // namespace broken
}  // namespace MERISTEM_BACKEND
}  // namespace meristem
