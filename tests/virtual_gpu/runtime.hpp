// Between the parts that stand in for libcudart, libcublas and libcusolver.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>

#include "counts.hpp"

namespace virtual_gpu {

[[nodiscard]] VirtualGpuCounts& counts();
/// Whether a stream lives; if not, that is a problem, told with the name of the call.
[[nodiscard]] bool is_stream(cudaStream_t stream, const char* call, bool of_any_device = false);

/// For calls that may be captured: whether the stream is, so that `work` will be done whenever its graph is launched.
/// Work on the legacy stream while another is captured is a problem, and breaks the capture.
[[nodiscard]] bool is_captured(cudaStream_t stream, const char* call, std::function<void()> work);
/// For calls that may not: whether the stream, by default any, is captured. That is a problem then, and breaks the
/// capture.
[[nodiscard]] bool breaks_capture(const char* call);
[[nodiscard]] bool breaks_capture(const char* call, cudaStream_t stream);

}  // namespace virtual_gpu
