// Between the parts that stand in for libcudart, libcublas and libcusolver.
#pragma once
#include <cuda_runtime_api.h>

#include "counts.hpp"

namespace virtual_gpu {

[[nodiscard]] VirtualGpuCounts& counts();
/// Whether a stream lives; if not, that is a problem, told with the name of the call.
[[nodiscard]] bool is_stream(cudaStream_t stream, const char* call, bool of_any_device = false);

}  // namespace virtual_gpu
