// One fault of each kind, which must be told, beside the same thing done right, which must pass in silence.
#include <cublas_v2.h>
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "counts.hpp"

namespace {

std::string problems() { return virtual_gpu_take_problems(); }

/// Device memory of `count` elements; nobody has written it.
template <class T>
struct Device {
  explicit Device(std::size_t count) : count(count) { REQUIRE(cudaMalloc(&data, count * sizeof(T)) == cudaSuccess); }
  Device(const std::vector<T>& values) : Device(values.size()) {
    REQUIRE(cudaMemcpy(data, values.data(), count * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  Device(const Device&) = delete;
  ~Device() { cudaFree(data); }
  std::vector<T> values() const {
    std::vector<T> result(count);
    cudaMemcpy(result.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost);
    return result;
  }
  std::size_t count;
  T* data = nullptr;
};

/// What was told of kernels since, and that the next synchronisation fails if and only if something was.
std::string told() {
  const cudaError_t status = cudaDeviceSynchronize();
  const std::string text = problems();
  CHECK((status == cudaSuccess) == text.empty());
  return text;
}

#define CHECK_TOLD(text, ...)                                                            \
  do {                                                                                   \
    const std::string all = (text);                                                      \
    for (const char* part : {__VA_ARGS__})                                               \
      CHECK_MESSAGE(all.find(part) != std::string::npos, part << " is not in: " << all); \
  } while (false)

__global__ void fill(float* to, int shift) { to[threadIdx.x + shift] = 1.0f; }

__global__ void read_quads(const float* from, float* to) {
  reinterpret_cast<float4*>(to)[threadIdx.x] = *reinterpret_cast<const float4*>(from + 4 * threadIdx.x);
}

__global__ void sum_by_last_block(float* parts, unsigned* arrived, float* sum, bool fence_before, bool fence_behind) {
  parts[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
  if (fence_before) __threadfence();
  const bool last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;
  if (fence_behind) __threadfence();
  if (!last) return;
  float total = 0.0f;
  for (unsigned i = 0; i < gridDim.x; ++i) total += parts[i];
  *sum = total;
}

__global__ void reverse(const float* from, float* to, bool waits) {
  __shared__ float row[128];
  row[threadIdx.x] = from[threadIdx.x];
  if (waits) __syncthreads();
  to[threadIdx.x] = row[127 - threadIdx.x];
}

__global__ void through_shared(const float* from, float* to, int reach) {
  __shared__ float row[32];
  __shared__ float other[32];
  row[threadIdx.x] = from[threadIdx.x];
  other[threadIdx.x] = -from[threadIdx.x];
  __syncthreads();
  to[threadIdx.x] = row[threadIdx.x + reach] + other[threadIdx.x];
}

__global__ void copy_later(const float* from, float* to, bool waits) {
  __shared__ float row[32];
  __pipeline_memcpy_async(&row[threadIdx.x], from + threadIdx.x, sizeof(float));
  __pipeline_commit();
  if (waits) __pipeline_wait_prior(0);
  to[threadIdx.x] = row[threadIdx.x];
}

__global__ void sum_all(float* sum, bool atomic) {
  if (atomic) {
    atomicAdd(sum, 1.0f);
  } else {
    *sum = 1.0f;
  }
}

__global__ void large_shared(float* to) {
  extern __shared__ float bytes[];
  bytes[threadIdx.x] = 1.0f;
  to[threadIdx.x] = bytes[threadIdx.x];
}

__global__ void two_barriers(float* to, unsigned some) {
  if (threadIdx.x < some) {
    __syncthreads();
    to[threadIdx.x] = 1.0f;
  } else {
    to[threadIdx.x] = 2.0f;
    __syncthreads();
    to[threadIdx.x] = 3.0f;
  }
}

/// Lanes from `some` on leave, or wait for a barrier first.
__global__ void shuffle_of_some(float* to, unsigned some, bool barrier) {
  float value = static_cast<float>(threadIdx.x);
  if (threadIdx.x < some) {
    value = __shfl_down_sync(0xffffffff, value, 1);
  } else if (barrier) {
    __syncthreads();
  }
  to[threadIdx.x] = value;
}

/// Far more than 64 values live at once, so that 1,024 threads have too few registers.
__global__ void many_registers(const float* from, float* to) {
  float row[160];
#pragma unroll
  for (int i = 0; i < 160; ++i) row[i] = from[i * 32 + (threadIdx.x & 31)];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 160; ++i) {
#pragma unroll
    for (int k = 0; k < 2; ++k) row[i] = row[i] * row[(i * 7 + k + 1) % 160] + row[(i * 3 + k) % 160];
  }
#pragma unroll
  for (int i = 0; i < 160; ++i) to[i * 32 + (threadIdx.x & 31)] = row[i];
}

__global__ void __launch_bounds__(64) bounded(float* to) { to[threadIdx.x] = 1.0f; }

}  // namespace

TEST_SUITE_BEGIN("plain");

TEST_CASE("a store outside of an allocation") {
  Device<float> x(32);
  fill<<<1, 32>>>(x.data, 0);
  CHECK(told() == "");
  fill<<<1, 32>>>(x.data, 1);
  CHECK_TOLD(told(), "writes 4 bytes of device memory outside of live allocations", "behind one of 128 bytes",
             "block (0, 0, 0) thread (31, 0, 0)", "PTX line", "fill");
}

TEST_CASE("a store to freed memory, and freeing twice") {
  float* x = nullptr;
  REQUIRE(cudaMalloc(&x, 128) == cudaSuccess);
  cudaFree(x);
  fill<<<1, 32>>>(x, 0);
  CHECK_TOLD(told(), "writes 4 bytes of device memory outside of live allocations");
  CHECK(cudaFree(x) == cudaErrorInvalidValue);
  CHECK_TOLD(problems(), "cudaFree of what is no live allocation");
}

TEST_CASE("a vector that is not aligned") {
  Device<float> x(std::vector<float>(64, 1.0f)), y(32);
  read_quads<<<1, 8>>>(x.data, y.data);
  CHECK(told() == "");
  read_quads<<<1, 8>>>(x.data + 1, y.data);
  CHECK_TOLD(told(), "reads 16 bytes of memory at 0x", "not aligned", "read_quads");
}

TEST_CASE("the host touches device memory") {
  Device<float> x(std::vector<float>(32, 1.0f));
  const volatile float* const pointer = x.data;
  CHECK(*pointer == 1.0f);  // it goes on, so that other tests are run
  CHECK_TOLD(told(), "host code touches device memory");
  float* managed = nullptr;
  REQUIRE(cudaMallocManaged(&managed, 128) == cudaSuccess);
  fill<<<1, 32>>>(managed, 0);
  CHECK(managed[31] == 1.0f);
  cudaFree(managed);
  CHECK(told() == "");
}

TEST_CASE("shared memory between arrays") {
  Device<float> x(std::vector<float>(32, 1.0f)), y(32);
  through_shared<<<1, 32>>>(x.data, y.data, 0);
  CHECK(told() == "");
  through_shared<<<1, 32>>>(x.data, y.data, 1);
  CHECK_TOLD(told(), "reads 4 bytes of shared memory outside of its arrays", "thread (31, 0, 0)");
}

TEST_CASE("what nobody wrote is NaN: fresh and freed memory, and copies not waited for") {
  Device<float> x(32);
  CHECK(std::isnan(x.values()[7]));
  Device<float> y(std::vector<float>(32, 1.0f));
  copy_later<<<1, 32>>>(y.data, x.data, true);
  CHECK(x.values() == y.values());
  copy_later<<<1, 32>>>(y.data, x.data, false);
  for (const float value : x.values()) CHECK(std::isnan(value));
  problems();
}

TEST_CASE("threads wait at different barriers, within a warp and between warps") {
  Device<float> x(64);
  two_barriers<<<1, 64>>>(x.data, 64);
  CHECK(told() == "");
  two_barriers<<<1, 64>>>(x.data, 16);
  CHECK_TOLD(told(), "a barrier of the block in code where lanes of a warp diverge", "two_barriers");
  two_barriers<<<1, 64>>>(x.data, 32);
  CHECK_TOLD(told(), "threads of a block wait at different barriers", "two_barriers");
}

TEST_CASE("a shuffle of lanes that do not come") {
  Device<float> x(32);
  shuffle_of_some<<<1, 32>>>(x.data, 32, true);
  CHECK(x.values()[14] == 15.0f);
  shuffle_of_some<<<1, 32>>>(x.data, 16, false);  // those that have left are not waited for
  CHECK(x.values()[14] == 15.0f);
  CHECK(told() == "");
  shuffle_of_some<<<1, 32>>>(x.data, 16, true);
  CHECK_TOLD(told(), "a shuffle, vote or __syncwarp waits for lanes that do not come", "shuffle_of_some");
}

TEST_CASE("launches beyond what a block may have") {
  Device<float> x(std::vector<float>(5120, 0.0f)), y(5120);
  const auto last = [] {
    cudaDeviceSynchronize();
    return cudaGetLastError();
  };
  many_registers<<<1, 32>>>(x.data, y.data);
  CHECK(told() == "");
  many_registers<<<1, 1024>>>(x.data, y.data);
  CHECK(cudaGetLastError() == cudaErrorLaunchOutOfResources);
  CHECK_TOLD(problems(), "launch refused: 1024 threads of", "registers", "many_registers");
  bounded<<<1, 64>>>(y.data);
  CHECK(told() == "");
  bounded<<<1, 65>>>(y.data);
  CHECK_TOLD(problems(), "65 threads where __launch_bounds__ allows 64");
  fill<<<1, 1025>>>(y.data, 0);
  CHECK(last() != cudaSuccess);
  CHECK_TOLD(problems(), "a block of 1025 x 1 x 1 threads");
  fill<<<dim3(1, 65536), 32>>>(y.data, 0);
  CHECK_TOLD(problems(), "a grid of 1 x 65536 x 1");
  fill<<<0, 32>>>(y.data, 0);
  CHECK_TOLD(problems(), "a grid of 0 x 1 x 1");
  cudaGetLastError();
}

TEST_CASE("shared memory above 48 KiB needs leave, and there is no more than 227 KiB") {
  Device<float> y(32);
  large_shared<<<1, 32, 48 << 10>>>(y.data);
  CHECK(told() == "");
  large_shared<<<1, 32, 64 << 10>>>(y.data);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK_TOLD(problems(), "launch refused: 65536 bytes of shared memory");
  CHECK(cudaFuncSetAttribute(large_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10) == cudaSuccess);
  large_shared<<<1, 32, 64 << 10>>>(y.data);
  CHECK(told() == "");
  CHECK(cudaFuncSetAttribute(large_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10) ==
        cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST_CASE("copies and fills outside of allocations, and between other sides than they say") {
  Device<float> x(32);
  std::vector<float> host(64);
  CHECK(cudaMemcpy(x.data, host.data(), 132, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK_TOLD(problems(),
             "a copy's target: 132 bytes of device memory do not lie in one live allocation, which ends after 128");
  CHECK(cudaMemcpy(host.data(), x.data + 31, 8, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK_TOLD(problems(), "a copy's source");
  CHECK(cudaMemcpy(x.data, host.data(), 128, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK_TOLD(problems(), "a copy between other sides than it says");
  CHECK(cudaMemsetAsync(x.data, 0, 129, nullptr) == cudaErrorInvalidValue);
  CHECK_TOLD(problems(), "cudaMemsetAsync");
  cudaGetLastError();
}

TEST_CASE("a stream that was destroyed") {
  Device<float> x(32);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  fill<<<1, 32, 0, stream>>>(x.data, 0);
  CHECK(told() == "");
  cublasHandle_t handle = nullptr;
  cublasCreate(&handle);
  CHECK(cublasSetStream(handle, stream) == CUBLAS_STATUS_SUCCESS);
  cudaStreamDestroy(stream);
  fill<<<1, 32, 0, stream>>>(x.data, 0);
  CHECK(cudaGetLastError() == cudaErrorInvalidResourceHandle);
  CHECK_TOLD(problems(), "a launch uses a stream that was destroyed or never created");
  CHECK(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  CHECK_TOLD(problems(), "cudaStreamSynchronize");
  const float one = 1.0f;
  CHECK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, x.data, 1, x.data, 1, &one, x.data, 1) !=
        CUBLAS_STATUS_SUCCESS);
  CHECK_TOLD(problems(), "gemm uses a stream");
  cublasDestroy(handle);
  cudaGetLastError();
}

TEST_CASE("a stream of another device than the thread's") {
  setenv("VIRTUAL_GPU_DEVICES", "2", 1);
  Device<float> x(32);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice);
  CHECK(cudaSetDevice(1) == cudaSuccess);
  fill<<<1, 32, 0, stream>>>(x.data, 0);
  CHECK(cudaGetLastError() == cudaErrorInvalidResourceHandle);
  CHECK_TOLD(problems(), "a launch uses a stream of device 0 while device 1 is the thread's");
  CHECK(cudaSetDevice(0) == cudaSuccess);
  fill<<<1, 32, 0, stream>>>(x.data, 0);
  CHECK(told() == "");
  cudaStreamDestroy(stream);
  cudaGetLastError();
  unsetenv("VIRTUAL_GPU_DEVICES");
}

TEST_CASE("TF32 rounds what it multiplies to ten bits, ties to even") {
  // 1 + 2^-11 lies between 1 and 1 + 2^-10, 1 + 3·2^-11 between the latter and 1 + 2^-9.
  Device<float> a(std::vector<float>{1.0f + 0x1p-11f, 1.0f + 0x3p-11f}), one_there(std::vector<float>{1.0f}), c(2);
  cublasHandle_t handle = nullptr;
  cublasCreate(&handle);
  const float one = 1.0f, zero = 0.0f;
  const auto product = [&](cublasMath_t math) {
    cublasSetMathMode(handle, math);
    CHECK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 1, 1, &one, a.data, 2, one_there.data, 1, &zero, c.data,
                      2) == CUBLAS_STATUS_SUCCESS);
    return c.values();
  };
  CHECK(product(CUBLAS_TF32_TENSOR_OP_MATH) == std::vector<float>{1.0f, 1.0f + 0x1p-9f});
  CHECK(product(CUBLAS_DEFAULT_MATH) == std::vector<float>{1.0f + 0x1p-11f, 1.0f + 0x3p-11f});
  CHECK(told() == "");
  cublasDestroy(handle);
}

TEST_CASE("a matrix that is larger than its memory, or the host's") {
  Device<float> a(std::vector<float>(6, 1.0f)), b(std::vector<float>(6, 1.0f)), c(4);
  cublasHandle_t handle = nullptr;
  cublasCreate(&handle);
  const float one = 1.0f, zero = 0.0f;
  const auto product = [&](const float* left, int k) {
    return cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, k, &one, left, 2, b.data, k, &zero, c.data, 2);
  };
  CHECK(product(a.data, 3) == CUBLAS_STATUS_SUCCESS);
  CHECK(c.values() == std::vector<float>(4, 3.0f));
  CHECK(told() == "");
  CHECK(product(a.data, 4) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK_TOLD(problems(), "gemm A: 32 bytes of device memory do not lie in one live allocation", "gemm B");
  const std::vector<float> host(6);
  CHECK(product(host.data(), 3) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK_TOLD(problems(), "gemm A is not in device memory");
  cublasDestroy(handle);
}

TEST_CASE("calls are counted") {
  const VirtualGpuCounts before = virtual_gpu_counts();
  {
    Device<float> x(32);
    fill<<<1, 32>>>(x.data, 0);
    fill<<<1, 32>>>(x.data, 0);
    cudaMemsetAsync(x.data, 0, 128, nullptr);
    CHECK(x.values()[0] == 0.0f);
    CHECK(told() == "");
  }
  const VirtualGpuCounts after = virtual_gpu_counts();
  CHECK(after.launches - before.launches == 2);
  CHECK(after.allocations - before.allocations == 1);
  CHECK(after.releases - before.releases == 1);
  CHECK(after.copies - before.copies == 1);
  CHECK(after.fills - before.fills == 1);
  CHECK(after.synchronizations - before.synchronizations == 1);
  CHECK(after.blas_and_solver_calls == before.blas_and_solver_calls);
}

__global__ void add(float* to, float value) { to[threadIdx.x] += value; }

/// What `work(stream)` is captured to; null if the capture broke.
template <class Work>
cudaGraphExec_t captured(const Work& work) {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  work(stream);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) {
    REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
    cudaGraphDestroy(graph);
  } else {
    CHECK(graph == nullptr);
  }
  cudaGetLastError();
  cudaStreamDestroy(stream);
  return executable;
}

TEST_CASE("a graph does nothing while it is captured, and all of it whenever it is launched") {
  Device<float> x(std::vector<float>(32, 1.0f)), y(32), product(1);
  cublasHandle_t handle = nullptr;
  cublasCreate(&handle);
  const VirtualGpuCounts before = virtual_gpu_counts();
  const cudaGraphExec_t graph = captured([&](cudaStream_t stream) {
    float value = 2.0f;  // is gone when the graph is launched
    add<<<1, 32, 0, stream>>>(x.data, value);
    cudaMemcpyAsync(y.data, x.data, 128, cudaMemcpyDefault, stream);
    cudaMemsetAsync(y.data, 0, 4, stream);
    cublasSetStream(handle, stream);
    const float zero = 0.0f;
    CHECK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_T, 1, 1, 32, &value, y.data, 1, x.data, 1, &zero, product.data,
                      1) == CUBLAS_STATUS_SUCCESS);
    cublasSetStream(handle, nullptr);
  });
  CHECK(x.values()[0] == 1.0f);
  for (const float expected : {3.0f, 5.0f}) {
    CHECK(cudaGraphLaunch(graph, nullptr) == cudaSuccess);
    CHECK(x.values()[31] == expected);
    CHECK(y.values()[0] == 0.0f);
    CHECK(y.values()[1] == expected);
    CHECK(product.values()[0] == 2.0f * 31.0f * expected * expected);
  }
  CHECK(virtual_gpu_counts().launches == before.launches);
  CHECK(virtual_gpu_counts().graph_launches - before.graph_launches == 2);
  CHECK(told() == "");
  cudaGraphExecDestroy(graph);
  CHECK(cudaGraphLaunch(graph, nullptr) == cudaErrorInvalidValue);
  CHECK_TOLD(problems(), "cudaGraphLaunch of a graph that was destroyed");
  cublasDestroy(handle);
}

TEST_CASE("a graph whose memory was freed") {
  auto x = std::make_unique<Device<float>>(32);
  const cudaGraphExec_t graph = captured([&](cudaStream_t stream) { fill<<<1, 32, 0, stream>>>(x->data, 0); });
  cudaGraphLaunch(graph, nullptr);
  CHECK(told() == "");
  x.reset();
  cudaGraphLaunch(graph, nullptr);
  CHECK_TOLD(told(), "writes 4 bytes of device memory outside of live allocations", "fill");
  cudaGraphExecDestroy(graph);
}

TEST_CASE("what must not be captured") {
  Device<float> x(32);
  std::vector<float> host(32);
  void* block = nullptr;
  const auto check = [&](const char* what, const auto& work) {
    CAPTURE(what);
    CHECK(captured([&](cudaStream_t stream) {
            CHECK(work(stream) != cudaSuccess);
            fill<<<1, 32, 0, stream>>>(x.data, 0);  // what follows does not mend it
          }) == nullptr);
    CHECK_TOLD(problems(), what, " while a stream is captured");
  };
  check("cudaStreamSynchronize", [](cudaStream_t stream) { return cudaStreamSynchronize(stream); });
  check("cudaStreamQuery", [](cudaStream_t stream) { return cudaStreamQuery(stream); });
  check("cudaDeviceSynchronize", [](cudaStream_t) { return cudaDeviceSynchronize(); });
  check("cudaMalloc", [&](cudaStream_t) { return cudaMalloc(&block, 64); });
  check("cudaFree", [&](cudaStream_t) { return cudaFree(x.data); });
  check("cudaStreamDestroy", [](cudaStream_t stream) { return cudaStreamDestroy(stream); });
  check("a launch on the legacy stream", [&](cudaStream_t) {
    fill<<<1, 32>>>(x.data, 0);
    return cudaGetLastError();
  });
  check("cudaMemcpyAsync on the legacy stream",
        [&](cudaStream_t) { return cudaMemcpyAsync(x.data, x.data, 64, cudaMemcpyDefault, nullptr); });
  check("cudaMemcpy", [&](cudaStream_t) { return cudaMemcpy(host.data(), x.data, 64, cudaMemcpyDeviceToHost); });
  check("a copy of pageable memory of the host",
        [&](cudaStream_t stream) { return cudaMemcpyAsync(x.data, host.data(), 64, cudaMemcpyHostToDevice, stream); });
}

// Run by itself: the program has to fail though its tests pass.
TEST_CASE("a problem that nobody takes" * doctest::skip()) {
  CHECK(cudaFree(reinterpret_cast<void*>(64)) == cudaErrorInvalidValue);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("races");

TEST_CASE("a missing barrier") {
  Device<float> x(std::vector<float>(128, 1.0f)), y(128);
  reverse<<<1, 128>>>(x.data, y.data, true);
  CHECK(told() == "");
  reverse<<<1, 128>>>(x.data, y.data, false);
  CHECK_TOLD(told(), "race: ", "shared memory that thread", "with no barrier between", "reverse");
}

TEST_CASE("an asynchronous copy that is not waited for") {
  Device<float> x(std::vector<float>(32, 1.0f)), y(32);
  copy_later<<<1, 32>>>(x.data, y.data, true);
  CHECK(told() == "");
  copy_later<<<1, 32>>>(x.data, y.data, false);
  CHECK_TOLD(told(), "race: touches shared memory before the asynchronous copy to it was waited for", "copy_later");
}

TEST_CASE("blocks that write one address") {
  Device<float> x(std::vector<float>(1, 0.0f));
  sum_all<<<2, 1>>>(x.data, true);
  CHECK(told() == "");
  CHECK(x.values()[0] == 2.0f);
  sum_all<<<2, 1>>>(x.data, false);
  CHECK_TOLD(told(), "race: writes device memory that block 0 thread 0 writes");
}

TEST_CASE("a last block that goes on with what the others wrote, with and without its fences") {
  Device<float> parts(4), sum(1);
  Device<unsigned> arrived(std::vector<unsigned>(1, 0));
  const auto told_of = [&](bool fence_before, bool fence_behind) {
    sum_by_last_block<<<4, 1>>>(parts.data, arrived.data, sum.data, fence_before, fence_behind);
    return told();
  };
  CHECK(told_of(true, true) == "");
  CHECK(sum.values()[0] == 10.0f);
  CHECK_TOLD(told_of(false, true), "race: reads device memory that block 0 thread 0 writes", "sum_by_last_block");
  CHECK_TOLD(told_of(true, false), "race: reads device memory that block 0 thread 0 writes", "sum_by_last_block");
}

TEST_CASE("reads of what nobody wrote: by a kernel, a copy and cuBLAS") {
  Device<float> x(128), y(128);
  reverse<<<1, 128>>>(x.data, y.data, true);
  CHECK_TOLD(told(), "reads device memory that nobody wrote", "reverse");
  Device<float> fresh(32);
  fresh.values();
  CHECK_TOLD(problems(), "a copy to the host reads device memory that nobody wrote");
  cublasHandle_t handle = nullptr;
  cublasCreate(&handle);
  const float one = 1.0f, zero = 0.0f;
  Device<float> a(std::vector<float>(4, 1.0f)), b(4), c(4);
  CHECK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, a.data, 2, a.data, 2, &zero, c.data, 2) ==
        CUBLAS_STATUS_SUCCESS);
  c.values();
  CHECK(told() == "");
  cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, a.data, 2, b.data, 2, &zero, c.data, 2);
  CHECK_TOLD(problems(), "gemm B: reads device memory that nobody wrote");
  cublasDestroy(handle);
}

TEST_SUITE_END();
