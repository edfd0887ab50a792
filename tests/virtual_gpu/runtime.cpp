// The CUDA runtime, as far as the library and its tests call it. Everything has happened when a call returns.
#include "runtime.hpp"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "device.hpp"
#include "machine.hpp"

namespace virtual_gpu {

namespace {

constexpr u64 static_shared_limit = 48 << 10, registers_of_block = 65536;

/// A number from the environment.
int setting(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

u64 shared_limit() {
  static const u64 value = static_cast<u64>(setting("VIRTUAL_GPU_SHARED_KIB", 227)) << 10;
  return value;
}

void report_at_exit();

struct Function {
  Module* module;
  std::string name;
  u64 dynamic_shared_limit = static_shared_limit;
};

/// What a stream was asked for while it was captured.
struct Recording {
  std::vector<std::function<void()>> calls;
  bool broken = false;
};

struct Runtime {
  std::vector<std::unique_ptr<Module>> modules;
  std::map<const void*, Function> functions;
  std::map<cudaStream_t, int> streams;  // and their devices
  std::set<cudaMemPool_t> pools;
  std::map<cudaStream_t, Recording> captures;  // of the streams that are captured
  std::map<cudaGraph_t, Recording> graphs;
  std::map<cudaGraphExec_t, Recording> executables;
  cudaError_t last_error = cudaSuccess;
  VirtualGpuCounts counts{};
  Runtime() {
    if (std::getenv("VIRTUAL_GPU_REPORT")) std::atexit(report_at_exit);
  }
};

Runtime& runtime() {
  static auto* const instance = new Runtime;
  return *instance;
}

void report_at_exit() {
  const VirtualGpuCounts& c = counts();
  std::fprintf(
      stderr,
      "virtual GPU: %llu launches, %llu launches of graphs, %llu allocations, %llu releases, %llu copies, %llu "
      "fills, %llu synchronisations, %llu library calls\n",
      static_cast<unsigned long long>(c.launches), static_cast<unsigned long long>(c.graph_launches),
      static_cast<unsigned long long>(c.allocations), static_cast<unsigned long long>(c.releases),
      static_cast<unsigned long long>(c.copies), static_cast<unsigned long long>(c.fills),
      static_cast<unsigned long long>(c.synchronizations), static_cast<unsigned long long>(c.blas_and_solver_calls));
  std::vector<const Kernel*> kernels;
  for (const auto& module : runtime().modules) {
    for (const auto& [name, kernel] : module->kernels()) {
      if (kernel->launches > 0) kernels.push_back(kernel.get());
    }
  }
  std::sort(kernels.begin(), kernels.end(), [](const Kernel* a, const Kernel* b) { return a->seconds > b->seconds; });
  std::fprintf(stderr, " seconds  launches  thread instructions  executed  kernel\n");
  for (const Kernel* kernel : kernels) {
    const auto executed =
        std::count_if(kernel->code.begin(), kernel->code.end(), [](const auto& in) { return in.executed; });
    std::fprintf(
        stderr, "%8.3f  %8llu  %19llu  %6.1f %%  %s\n", kernel->seconds,
        static_cast<unsigned long long>(kernel->launches), static_cast<unsigned long long>(kernel->thread_instructions),
        100.0 * static_cast<double>(executed) / static_cast<double>(kernel->code.size()), kernel->name.c_str());
  }
}

/// The calling thread's.
thread_local int current_device = 0;

/// What cudaGetLastError will return, too.
cudaError_t failed(cudaError_t error) { return runtime().last_error = error; }

cudaError_t refused(const Kernel& kernel, const std::string& what, cudaError_t error) {
  problem("launch refused: " + what + ", of " + kernel.name);
  return failed(error);
}

/// What hardware gives to a warp is a multiple of 256 registers, to a block that of four warps.
u64 registers_needed(const Kernel& kernel, u64 threads) {
  const u64 warps = (threads + warp_size - 1) / warp_size,
            of_warp = (kernel.registers_per_thread * warp_size + 255) / 256 * 256;
  return (warps + 3) / 4 * 4 * of_warp;
}

/// Of a call on a stream that is captured.
cudaError_t capture_status(cudaStream_t stream) {
  const auto capture = runtime().captures.find(stream);
  if (capture == runtime().captures.end()) return failed(cudaErrorStreamCaptureImplicit);
  return capture->second.broken ? failed(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}

cudaError_t launch(const void* host_function, dim3 grid, dim3 block, void** arguments, u64 dynamic_shared,
                   cudaStream_t stream) {
  Runtime& r = runtime();
  const auto found = r.functions.find(host_function);
  if (found == r.functions.end()) return failed(cudaErrorInvalidDeviceFunction);
  if (!is_stream(stream, "a launch")) return failed(cudaErrorInvalidResourceHandle);
  const Function& function = found->second;
  Kernel* const kernel = function.module->kernel(function.name);
  if (!kernel) {
    problem("the program has no PTX of " + function.name);
    return failed(cudaErrorNoKernelImageForDevice);
  }
  if (!kernel->unsupported.empty())
    return refused(*kernel, "the virtual GPU lacks " + kernel->unsupported, cudaErrorNotSupported);
  const Extents grid_extents{grid.x, grid.y, grid.z}, extents{block.x, block.y, block.z};
  const u64 threads = extents.volume(), shared = kernel->static_shared + dynamic_shared;
  const auto text = [](const Extents& e) {
    return std::to_string(e.x) + " x " + std::to_string(e.y) + " x " + std::to_string(e.z);
  };
  if (grid_extents.volume() == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) {
    return refused(*kernel, "a grid of " + text(grid_extents), cudaErrorInvalidConfiguration);
  }
  if (threads == 0 || threads > 1024 || block.z > 64) {
    return refused(*kernel, "a block of " + text(extents) + " threads", cudaErrorInvalidConfiguration);
  }
  if (threads > kernel->most_threads) {
    return refused(
        *kernel,
        std::to_string(threads) + " threads where __launch_bounds__ allows " + std::to_string(kernel->most_threads),
        cudaErrorInvalidValue);
  }
  if (registers_needed(*kernel, threads) > registers_of_block) {
    return refused(
        *kernel, std::to_string(threads) + " threads of " + std::to_string(kernel->registers_per_thread) + " registers",
        cudaErrorLaunchOutOfResources);
  }
  if (kernel->static_shared > static_shared_limit || shared > shared_limit() ||
      (shared > static_shared_limit && dynamic_shared > function.dynamic_shared_limit)) {
    return refused(*kernel, std::to_string(shared) + " bytes of shared memory", cudaErrorInvalidValue);
  }
  std::vector<std::vector<char>> values;  // a graph's are those of its capture
  for (std::size_t i = 0; i < kernel->parameters.size(); ++i) {
    const char* const value = static_cast<const char*>(arguments[i]);
    values.emplace_back(value, value + kernel->parameters[i].bytes);
  }
  const auto run = [=]() mutable {
    std::vector<void*> pointers;
    for (auto& value : values) pointers.push_back(value.data());
    run_kernel(*kernel, grid_extents, extents, pointers.data(), dynamic_shared);
  };
  if (is_captured(stream, "a launch", run)) return capture_status(stream);
  ++r.counts.launches;
  run_kernel(*kernel, grid_extents, extents, arguments, dynamic_shared);
  return cudaSuccess;
}

cudaError_t allocate(void** pointer, std::size_t bytes, memory::Kind kind, const char* call) {
  if (breaks_capture(call)) return failed(cudaErrorStreamCaptureUnsupported);
  ++counts().allocations;
  *pointer = bytes > 0 ? memory::allocate(bytes, kind) : nullptr;
  return bytes > 0 && !*pointer ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t release(void* pointer, const char* call) {
  if (breaks_capture(call)) return failed(cudaErrorStreamCaptureUnsupported);
  ++counts().releases;
  if (!pointer || memory::release(pointer)) return cudaSuccess;
  problem(std::string(call) + " of what is no live allocation");
  return failed(cudaErrorInvalidValue);
}

cudaError_t synchronized() {
  ++counts().synchronizations;
  return take_failure() ? failed(cudaErrorIllegalAddress) : cudaSuccess;
}

/// Memory of the host that CUDA does not know: a graph would read it, or write it, long after the call.
bool is_pageable(const void* pointer) { return !memory::find(reinterpret_cast<u64>(pointer)); }

/// `rows` of `bytes` each.
cudaError_t copy(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t bytes,
                 std::size_t rows, cudaMemcpyKind kind) {
  if (bytes == 0 || rows == 0) return cudaSuccess;
  const bool to_device = memory::is_device(to), from_device = memory::is_device(from);
  if ((kind == cudaMemcpyHostToDevice && !to_device) || (kind == cudaMemcpyDeviceToHost && !from_device) ||
      (kind == cudaMemcpyDeviceToDevice && !(to_device && from_device))) {
    problem("a copy between other sides than it says");
    return failed(cudaErrorInvalidValue);
  }
  char* const target = memory::usable(to, to_pitch * (rows - 1) + bytes, "a copy's target");
  const char* const source = memory::usable(from, from_pitch * (rows - 1) + bytes, "a copy's source");
  if (!target || !source) return failed(cudaErrorInvalidValue);
  for (std::size_t row = 0; row < rows; ++row) {
    const char* const seen = static_cast<const char*>(from) + row * from_pitch;
    std::memmove(target + row * to_pitch, source + row * from_pitch, bytes);
    if (!from_device || memory::is_written(seen, bytes)) {
      memory::mark_written(static_cast<char*>(to) + row * to_pitch, bytes);
    } else if (!to_device) {
      problem("a copy to the host reads device memory that nobody wrote");
    } else {
      for (std::size_t i = 0; i < bytes; i += 4) {
        const std::size_t part = std::min<std::size_t>(4, bytes - i);
        if (memory::is_written(seen + i, part)) memory::mark_written(static_cast<char*>(to) + row * to_pitch + i, part);
      }
    }
  }
  return cudaSuccess;
}

/// The same in the order of a stream.
cudaError_t copy_async(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t bytes,
                       std::size_t rows, cudaMemcpyKind kind, cudaStream_t stream, const char* call) {
  if (!is_stream(stream, call)) return failed(cudaErrorInvalidResourceHandle);
  const auto work = [=] { (void)copy(to, to_pitch, from, from_pitch, bytes, rows, kind); };
  if ((is_pageable(to) || is_pageable(from)) && breaks_capture("a copy of pageable memory of the host", stream))
    return failed(cudaErrorStreamCaptureUnsupported);
  if (is_captured(stream, call, work)) return capture_status(stream);
  ++counts().copies;
  return copy(to, to_pitch, from, from_pitch, bytes, rows, kind);
}

cudaError_t fill(void* pointer, int value, std::size_t bytes) {
  char* const to = memory::usable(pointer, bytes, "cudaMemsetAsync");
  if (!to || !memory::is_device(pointer)) return bytes == 0 ? cudaSuccess : failed(cudaErrorInvalidValue);
  std::memset(to, value, bytes);
  memory::mark_written(pointer, bytes);
  return cudaSuccess;
}

}  // namespace

VirtualGpuCounts& counts() { return runtime().counts; }

bool is_stream(cudaStream_t stream, const char* call, bool of_any_device) {
  if (stream == nullptr) return true;
  const auto found = runtime().streams.find(stream);
  if (found == runtime().streams.end()) {
    problem(std::string(call) + " uses a stream that was destroyed or never created");
    return false;
  }
  if (of_any_device || found->second == current_device) return true;
  problem(std::string(call) + " uses a stream of device " + std::to_string(found->second) + " while device " +
          std::to_string(current_device) + " is the thread's");
  return false;
}

bool is_captured(cudaStream_t stream, const char* call, std::function<void()> work) {
  auto& captures = runtime().captures;
  if (captures.empty()) return false;
  if (stream == nullptr) return breaks_capture((std::string(call) + " on the legacy stream").c_str());
  const auto capture = captures.find(stream);
  if (capture == captures.end()) return false;
  capture->second.calls.push_back(std::move(work));
  return true;
}

bool breaks_capture(const char* call) {
  auto& captures = runtime().captures;
  if (captures.empty()) return false;
  problem(std::string(call) + " while a stream is captured");
  for (auto& [stream, recording] : captures) recording.broken = true;
  return true;
}

bool breaks_capture(const char* call, cudaStream_t stream) {
  return runtime().captures.contains(stream) && breaks_capture(call);
}

}  // namespace virtual_gpu

using namespace virtual_gpu;

extern "C" {

VirtualGpuCounts virtual_gpu_counts() { return counts(); }

// What nvcc's code calls: modules and kernels of the program, and launches.

void** __cudaRegisterFatBinary(void* wrapper) {
  struct Wrapper {
    int magic, version;
    const char* data;
  };
  try {
    runtime().modules.push_back(std::make_unique<Module>(static_cast<const Wrapper*>(wrapper)->data));
  } catch (const Unsupported& e) {
    std::fprintf(stderr, "virtual GPU: %s\n", e.what());
    std::abort();
  }
  return reinterpret_cast<void**>(runtime().modules.back().get());
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }

void __cudaRegisterFunction(void** module, const char* host_function, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  runtime().functions[host_function] = {reinterpret_cast<Module*>(module), name};
}

void __cudaRegisterVar(void**, char*, char*, const char* name, int, std::size_t, int, int) {
  std::fprintf(stderr, "virtual GPU: it lacks variables of the device, as %s is\n", name);
  std::abort();
}

static struct {
  dim3 grid, block;
  std::size_t shared;
  cudaStream_t stream;
} configuration;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream) {
  configuration = {grid, block, shared, stream};
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host_function));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                               cudaStream_t stream) {
  return launch(kernel, grid, block, arguments, shared, stream);
}

cudaError_t cudaLaunchKernel(const void* host_function, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                             cudaStream_t stream) {
  return launch(host_function, grid, block, arguments, shared, stream);
}

cudaError_t cudaFuncSetAttribute(const void* host_function, cudaFuncAttribute attribute, int value) {
  const auto found = runtime().functions.find(host_function);
  if (found == runtime().functions.end()) return failed(cudaErrorInvalidDeviceFunction);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  const Kernel* const kernel = found->second.module->kernel(found->second.name);
  if (!kernel || value < 0 || static_cast<u64>(value) + kernel->static_shared > shared_limit())
    return failed(cudaErrorInvalidValue);
  found->second.dynamic_shared_limit = static_cast<u64>(value);
  return cudaSuccess;
}

// The device and errors.

cudaError_t cudaGetDeviceCount(int* count) {
  *count = setting("VIRTUAL_GPU_DEVICES", 1);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= setting("VIRTUAL_GPU_DEVICES", 1)) return failed(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

// As an H200 says, but for its memory.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "virtual GPU");
  properties->major = 9;
  properties->multiProcessorCount = setting("VIRTUAL_GPU_MULTIPROCESSORS", 132);
  properties->totalGlobalMem = memory::capacity;
  properties->sharedMemPerBlock = static_shared_limit;
  properties->sharedMemPerBlockOptin = shared_limit();
  properties->sharedMemPerMultiprocessor = 228 << 10;
  properties->l2CacheSize = 60 << 20;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->warpSize = warp_size;
  properties->regsPerBlock = registers_of_block;
  return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) {
  static thread_local char text[32];
  std::snprintf(text, sizeof text, "cudaError %d", static_cast<int>(error));
  return text;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorIllegalAddress ? "the virtual GPU has printed a problem" : cudaGetErrorName(error);
}

cudaError_t cudaGetLastError() { return std::exchange(runtime().last_error, cudaSuccess); }

// Streams.

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(new char);
  runtime().streams[*stream] = current_device;
  return cudaSuccess;
}

// Its address is not given back, lest another stream gets it.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (breaks_capture("cudaStreamDestroy", stream)) return failed(cudaErrorStreamCaptureUnsupported);
  if (stream == nullptr || runtime().streams.erase(stream) > 0) return cudaSuccess;
  problem("cudaStreamDestroy uses a stream that was destroyed or never created");
  return failed(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!is_stream(stream, "cudaStreamSynchronize", true)) return failed(cudaErrorInvalidResourceHandle);
  if (breaks_capture("cudaStreamSynchronize", stream)) return failed(cudaErrorStreamCaptureUnsupported);
  return synchronized();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (breaks_capture("cudaStreamQuery", stream)) return failed(cudaErrorStreamCaptureUnsupported);
  return is_stream(stream, "cudaStreamQuery", true) ? cudaSuccess : failed(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaDeviceSynchronize() {
  return breaks_capture("cudaDeviceSynchronize") ? failed(cudaErrorStreamCaptureUnsupported) : synchronized();
}

// Graphs. What a graph starts is checked when it runs: all of its memory has to live then.

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!is_stream(stream, "cudaStreamBeginCapture")) return failed(cudaErrorInvalidResourceHandle);
  if (stream == nullptr) return failed(cudaErrorStreamCaptureUnsupported);
  return runtime().captures.try_emplace(stream).second ? cudaSuccess : failed(cudaErrorIllegalState);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const auto node = runtime().captures.extract(stream);
  if (node.empty()) return failed(cudaErrorIllegalState);
  if (node.mapped().broken) return failed(cudaErrorStreamCaptureInvalidated);
  *graph = reinterpret_cast<cudaGraph_t>(new char);
  runtime().graphs[*graph] = node.mapped();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const auto found = runtime().graphs.find(graph);
  if (found == runtime().graphs.end()) return failed(cudaErrorInvalidValue);
  *executable = reinterpret_cast<cudaGraphExec_t>(new char);
  runtime().executables[*executable] = found->second;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return runtime().graphs.erase(graph) > 0 ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return runtime().executables.erase(executable) > 0 ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (!is_stream(stream, "cudaGraphLaunch")) return failed(cudaErrorInvalidResourceHandle);
  if (breaks_capture("cudaGraphLaunch", stream)) return failed(cudaErrorStreamCaptureUnsupported);
  const auto found = runtime().executables.find(executable);
  if (found == runtime().executables.end()) {
    problem("cudaGraphLaunch of a graph that was destroyed or never made");
    return failed(cudaErrorInvalidValue);
  }
  ++counts().graph_launches;
  for (const auto& call : found->second.calls) call();
  return cudaSuccess;
}

// Memory.

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = reinterpret_cast<cudaMemPool_t>(new char);
  runtime().pools.insert(*pool);
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr, void*) {
  return runtime().pools.contains(pool) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t) {
  return runtime().pools.contains(pool) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  return runtime().pools.erase(pool) > 0 ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return allocate(pointer, bytes, memory::Kind::device, "cudaMalloc");
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  return allocate(pointer, bytes, memory::Kind::pinned, "cudaMallocHost");
}

cudaError_t cudaMallocManaged(void** pointer, std::size_t bytes, unsigned) {
  return allocate(pointer, bytes, memory::Kind::managed, "cudaMallocManaged");
}

cudaError_t cudaMallocFromPoolAsync(void** pointer, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  if (!runtime().pools.contains(pool)) return failed(cudaErrorInvalidValue);
  if (!is_stream(stream, "cudaMallocFromPoolAsync")) return failed(cudaErrorInvalidResourceHandle);
  return allocate(pointer, bytes, memory::Kind::device, "cudaMallocFromPoolAsync");
}

cudaError_t cudaFree(void* pointer) { return release(pointer, "cudaFree"); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer, "cudaFreeHost"); }

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  if (!is_stream(stream, "cudaFreeAsync")) return failed(cudaErrorInvalidResourceHandle);
  return release(pointer, "cudaFreeAsync");
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (breaks_capture("cudaMemcpy")) return failed(cudaErrorStreamCaptureImplicit);
  ++counts().copies;
  return copy(to, bytes, from, bytes, bytes, 1, kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_async(to, bytes, from, bytes, bytes, 1, kind, stream, "cudaMemcpyAsync");
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t bytes, std::size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  if (bytes > to_pitch || bytes > from_pitch) return failed(cudaErrorInvalidPitchValue);
  return copy_async(to, to_pitch, from, from_pitch, bytes, rows, kind, stream, "cudaMemcpy2DAsync");
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  if (!is_stream(stream, "cudaMemsetAsync")) return failed(cudaErrorInvalidResourceHandle);
  if (is_captured(stream, "cudaMemsetAsync", [=] { (void)fill(pointer, value, bytes); })) return capture_status(stream);
  ++counts().fills;
  return fill(pointer, value, bytes);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  *attributes = {};
  const auto block = memory::find(reinterpret_cast<u64>(pointer));
  if (!block) return cudaSuccess;
  attributes->type = block->kind == memory::Kind::device    ? cudaMemoryTypeDevice
                     : block->kind == memory::Kind::managed ? cudaMemoryTypeManaged
                                                            : cudaMemoryTypeHost;
  attributes->devicePointer = const_cast<void*>(pointer);
  return cudaSuccess;
}

}  // extern "C"
