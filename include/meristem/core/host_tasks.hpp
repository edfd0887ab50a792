// Tasks of one BLAS thread each, spread over the CPU's workers. Not for nvcc.
#pragma once

#include <algorithm>
#include <cstdint>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/device_access.hpp>
#if defined(_OPENMP)
#include <omp.h>
#endif

#if MERISTEM_GPU
#error "tasks run on the CPU; the GPU has kernels"
#endif

namespace meristem::host {

/// Keeps BLAS on the calling thread.
class OneBlasThread {
 public:
#if defined(_OPENMP)
  OneBlasThread() : before_(omp_get_max_threads()) {
    if (before_ > 1) omp_set_num_threads(1);
  }
  ~OneBlasThread() {
    if (before_ > 1) omp_set_num_threads(before_);
  }
#else
  OneBlasThread() {}
#endif
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
#if defined(_OPENMP)
  int before_;
#endif
};

/// How many workers `for_tasks` uses.
[[nodiscard]] inline int workers_for(const Context& ctx, std::int64_t tasks) {
#if defined(_OPENMP) && !MERISTEM_TSAN
  return static_cast<int>(std::clamp<std::int64_t>(tasks, 1, ctx.threads()));
#else
  static_cast<void>(ctx);
  static_cast<void>(tasks);
  return 1;
#endif
}

/// Calls task(i, worker) for 0 <= i < tasks, each on one thread, worker < workers_for(ctx, tasks).
template <class Task>
void for_tasks(const Context& ctx, std::int64_t tasks, const Task& task) {
  const detail::DeviceAccess access;
  [[maybe_unused]] const int workers = workers_for(ctx, tasks);
#if defined(_OPENMP) && !MERISTEM_TSAN
  // Inside a parallel region OpenBLAS stays on the calling thread by itself.
  if (workers > 1) {
#pragma omp parallel for num_threads(workers) schedule(dynamic, 1)
    for (std::int64_t i = 0; i < tasks; ++i) task(i, omp_get_thread_num());
    return;
  }
#endif
  [[maybe_unused]] const OneBlasThread one;
  for (std::int64_t i = 0; i < tasks; ++i) task(i, 0);
}

}  // namespace meristem::host
