// Which of the two executors this translation unit is compiled for, and the words both understand.
//
// nvcc compiles the library for the GPU, g++ and clang++ compile it for the CPU. Everything whose code differs
// lives in the inline namespace `meristem::gpu` or `meristem::cpu`, so that parts compiled by different compilers
// link into one program. Error types (core/error.hpp) are common to both.
//
// A program for the GPU may have units that g++ or clang++ compiles in a fraction of nvcc's time, MERISTEM_CUDA_HOST:
// they read the declarations that the compiled library for the GPU defines (meristem::compiled_cuda, which sets it),
// and start no kernel that it does not hold.
#pragma once

#if defined(MERISTEM_CUDA_HOST) && !defined(MERISTEM_COMPILED)
#error \
    "MERISTEM_CUDA_HOST is for programs that link meristem::compiled_cuda: define MERISTEM_COMPILED, or compile by nvcc"
#endif

#if defined(__CUDACC__)
#define MERISTEM_GPU 1
#define MERISTEM_BACKEND gpu
#define MERISTEM_HD __host__ __device__
#elif defined(MERISTEM_CUDA_HOST)
#define MERISTEM_GPU 1
#define MERISTEM_BACKEND gpu
#define MERISTEM_HD
#else
#define MERISTEM_GPU 0
#define MERISTEM_BACKEND cpu
#define MERISTEM_HD
#endif

// Definitions stand in headers that end in _impl.hpp. A program that links the compiled library (meristem::compiled)
// sets MERISTEM_COMPILED and reads declarations alone; else every unit that includes a header gets what it defines.
#if defined(MERISTEM_COMPILED)
#define MERISTEM_INLINE
#else
#define MERISTEM_INLINE inline
#endif

// Set when AddressSanitizer or ThreadSanitizer instruments this translation unit.
#if defined(__SANITIZE_ADDRESS__)
#define MERISTEM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MERISTEM_ASAN 1
#endif
#endif
#if !defined(MERISTEM_ASAN)
#define MERISTEM_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define MERISTEM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MERISTEM_TSAN 1
#endif
#endif
#if !defined(MERISTEM_TSAN)
#define MERISTEM_TSAN 0
#endif

// The loop's iterations are independent; say so in the compiler's words.
#if defined(_OPENMP)
#define MERISTEM_INDEPENDENT _Pragma("omp simd")
#elif defined(__clang__)
#define MERISTEM_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define MERISTEM_INDEPENDENT _Pragma("GCC ivdep")
#else
#define MERISTEM_INDEPENDENT
#endif

// The parts of the library. Declared here, so that `namespace meristem::nn {` opens the one that belongs to the
// backend.
namespace meristem {
inline namespace MERISTEM_BACKEND {
namespace data {}
namespace grow {}
namespace host {}
namespace interop {}
namespace io {}
namespace kernels {}
namespace models {}
namespace nn {}
namespace optim {}
namespace train {}
}  // namespace MERISTEM_BACKEND
}  // namespace meristem
