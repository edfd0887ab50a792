// Runs a grid of CUDA threads on the CPU: blocks over OpenMP workers, the threads of a block on the worker's stack.
//
// Each thread starts as a plain call. The first that has to wait at a barrier turns the stack it stands on into its
// fiber, and a spare stack goes on starting threads; so a kernel whose threads never wait costs plain calls, and
// nothing has to say beforehand which kernels have barriers.
//
// Rules that follow CUDA's: a thread that returned no longer counts at barriers; `__syncthreads` waits for all threads
// of the block that have not returned; a warp collective waits for the lanes of its mask that have not returned.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/host_barriers.hpp>
#include <meristem/core/host_scheduler.hpp>
#include <meristem/core/host_worker.hpp>

namespace meristem::host {

/// The calling operating system thread's worker.
inline Worker& local_worker() {
  static thread_local Worker worker;
  return worker;
}

/// Runs the grid on up to `workers` operating system threads. Rethrows the first exception of a kernel.
inline void run_grid(const Grid& grid, [[maybe_unused]] int workers) {
  if (current_worker != nullptr) {
    throw LaunchError(concat("kernel ", grid.name, " was launched from inside a kernel; launch from the host only"));
  }
  Launch launch(grid);
#if defined(_OPENMP) && !MERISTEM_TSAN
  if (workers > 1 && launch.block_count > 1) {
    const int team = static_cast<int>(std::min<std::int64_t>(workers, launch.block_count));
    launch.chunk = std::clamp<std::int64_t>(launch.block_count / (16 * std::int64_t{workers}), 1, 256);
#pragma omp parallel num_threads(team)
    {
      try {
        local_worker().run(launch);
      } catch (...) {
        launch.fail(std::current_exception());
      }
    }
  } else
#endif
  {
    local_worker().run(launch);
  }
  if (launch.error) std::rethrow_exception(launch.error);
}

}  // namespace meristem::host
