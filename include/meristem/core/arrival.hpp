// For kernels whose last block goes on with what all blocks have written, where a second launch would cost more than
// it does. Which block is last differs from run to run; what it does must not depend on that.
#pragma once

#include <meristem/core/config.hpp>
#include <meristem/core/launch_kernel.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// Whether this block is the last of `blocks` to call it with `counter`, one of Context::arrivals; it is 0 again then.
/// The last block sees what all threads of the others wrote before. All threads of a block call it, once.
__device__ inline bool last_to_arrive(unsigned* counter, unsigned blocks) {
  bool last = false;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicInc(counter, blocks - 1) == blocks - 1;
    __threadfence();
  }
  return __syncthreads_or(last ? 1 : 0) != 0;
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
