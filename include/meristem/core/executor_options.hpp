// How the host executor runs kernels. The GPU ignores these.
#pragma once

#include <cstdint>

#include <meristem/core/config.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// The order in which the threads of a block take their turns on the CPU. Correct kernels give the same result in
/// every order; a missing barrier shows up as a wrong result in `reverse` or `shuffled` order.
enum class ThreadOrder { forward, reverse, shuffled };

/// Settings of the host executor.
struct ExecutorOptions {
  /// Run co-operating kernels with the block size they use on the GPU (their threads become fibers) instead of one
  /// thread per block. Slow; this is how the tests run the GPU's code path on the CPU.
  bool gpu_blocks = false;
  ThreadOrder order = ThreadOrder::forward;
  /// Seed of `ThreadOrder::shuffled`.
  std::uint64_t order_seed = 0;
  /// Fill shared memory with 0xff bytes (NaN) at the start of every block, so that a read before the first write is
  /// visible in the result.
  bool poison_shared = false;
  /// OpenMP workers; 0 takes what OpenMP offers.
  int threads = 0;
};

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
