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

template <class... Args>
void __syncthreads(Args...);
template <class... Args>
int __syncthreads_count(Args...);
template <class... Args>
int __syncthreads_and(Args...);
template <class... Args>
int __syncthreads_or(Args...);
template <class... Args>
void __syncwarp(Args...);
template <class... Args>
unsigned __ballot_sync(Args...);
template <class... Args>
int __any_sync(Args...);
template <class... Args>
int __all_sync(Args...);
template <class T, class... Args>
T __shfl_sync(unsigned mask, T value, Args...);
template <class T, class... Args>
T __shfl_up_sync(unsigned mask, T value, Args...);
template <class T, class... Args>
T __shfl_down_sync(unsigned mask, T value, Args...);
template <class T, class... Args>
T __shfl_xor_sync(unsigned mask, T value, Args...);
template <class... Args>
void __threadfence(Args...);
template <class T, class... Args>
T atomicAdd(T*, Args...);
template <class T, class... Args>
T atomicMin(T*, Args...);
template <class T, class... Args>
T atomicMax(T*, Args...);
template <class T, class... Args>
T atomicInc(T*, Args...);

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
