// What a program that runs on the virtual GPU can ask it. On a GPU these functions are null: they are weak.
#pragma once
#include <cstdint>

/// Calls since the program began. What a graph starts is not counted, nor what is recorded for one.
struct VirtualGpuCounts {
  std::uint64_t launches, allocations, releases, copies, fills, synchronizations, blas_and_solver_calls, graph_launches;
};

extern "C" {
__attribute__((weak)) VirtualGpuCounts virtual_gpu_counts();
/// The problems since the last call, a line each; the program then no longer fails for them. Valid until the next call.
__attribute__((weak)) const char* virtual_gpu_take_problems();
}
