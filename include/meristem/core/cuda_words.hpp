// CUDA's words for device code where g++ or clang++ reads a kernel without compiling it: in the host units of a program
// for the GPU. Declared, never defined.
#pragma once

#include <device_launch_parameters.h>

#include <meristem/core/config.hpp>

#if !defined(__launch_bounds__)
#define __launch_bounds__(...)
#endif

namespace meristem {
inline namespace MERISTEM_BACKEND {

#define MERISTEM_DECLARE(Result, name) \
  template <class... Args>             \
  Result name(Args...)

MERISTEM_DECLARE(void, __syncthreads);
MERISTEM_DECLARE(int, __syncthreads_count);
MERISTEM_DECLARE(int, __syncthreads_and);
MERISTEM_DECLARE(int, __syncthreads_or);
MERISTEM_DECLARE(void, __syncwarp);
MERISTEM_DECLARE(unsigned, __ballot_sync);
MERISTEM_DECLARE(int, __any_sync);
MERISTEM_DECLARE(int, __all_sync);
MERISTEM_DECLARE(void, __threadfence);

#undef MERISTEM_DECLARE

#define MERISTEM_DECLARE(name)      \
  template <class T, class... Args> \
  T name(unsigned mask, T value, Args...)

MERISTEM_DECLARE(__shfl_sync);
MERISTEM_DECLARE(__shfl_up_sync);
MERISTEM_DECLARE(__shfl_down_sync);
MERISTEM_DECLARE(__shfl_xor_sync);

#undef MERISTEM_DECLARE

#define MERISTEM_DECLARE(name)      \
  template <class T, class... Args> \
  T name(T*, Args...)

MERISTEM_DECLARE(atomicAdd);
MERISTEM_DECLARE(atomicMin);
MERISTEM_DECLARE(atomicMax);
MERISTEM_DECLARE(atomicInc);

#undef MERISTEM_DECLARE

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
