// CUDA's words for device code, for the host executor: what a kernel may use besides plain C++. They live in the
// library's namespace, not in the global one; a kernel outside it says `using namespace meristem`.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/host_executor.hpp>
#include <meristem/core/source_location.hpp>

#if !defined(__global__)
#define __global__
#endif
#if !defined(__device__)
#define __device__
#endif
#if !defined(__host__)
#define __host__
#endif
#if !defined(__forceinline__)
#define __forceinline__ inline __attribute__((always_inline))
#endif
#if !defined(__launch_bounds__)
#define __launch_bounds__(...)
#endif

namespace meristem {
inline namespace MERISTEM_BACKEND {

// ---------------------------------------------------------------------------------------------------------- barriers

/// Waits until all threads of the block that have not returned are here. Throws LaunchError if some of them wait at
/// another barrier.
inline void __syncthreads(SourceLocation where = SourceLocation::current()) {
  host::this_worker("__syncthreads()", where).block_barrier(host::Meeting::syncthreads, false, where);
}
/// __syncthreads that counts the threads whose predicate is not 0.
inline int __syncthreads_count(int predicate, SourceLocation where = SourceLocation::current()) {
  return host::this_worker("__syncthreads_count()", where).block_barrier(host::Meeting::count, predicate != 0, where);
}
inline int __syncthreads_and(int predicate, SourceLocation where = SourceLocation::current()) {
  return host::this_worker("__syncthreads_and()", where).block_barrier(host::Meeting::all, predicate != 0, where);
}
inline int __syncthreads_or(int predicate, SourceLocation where = SourceLocation::current()) {
  return host::this_worker("__syncthreads_or()", where).block_barrier(host::Meeting::any, predicate != 0, where);
}

// --------------------------------------------------------------------------------------------------- warp collectives

namespace host {

/// What warp shuffles move: the number types CUDA has them for.
template <class T>
concept Shuffled = std::is_arithmetic_v<T> &&(sizeof(T) == 4 || sizeof(T) == 8);

template <Shuffled T>
T shuffle(Meeting meeting, unsigned mask, T value, unsigned argument, int width, SourceLocation where) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = this_worker(name_of(meeting), where).warp_collective(meeting, mask, bits, argument, width, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline std::uint64_t vote(Meeting meeting, unsigned mask, bool predicate, SourceLocation where) {
  return this_worker(name_of(meeting), where).warp_collective(meeting, mask, predicate ? 1 : 0, 0, 32, where);
}

}  // namespace host

inline void __syncwarp(unsigned mask = 0xffffffffu, SourceLocation where = SourceLocation::current()) {
  host::vote(host::Meeting::syncwarp, mask, false, where);
}
/// The value of lane `source` of the calling lane's group of `width` lanes. From a lane that has returned, never
/// existed or is not in the mask, every shuffle gives the caller's own value (CUDA leaves that undefined).
template <host::Shuffled T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              SourceLocation where = SourceLocation::current()) {
  return host::shuffle(host::Meeting::shfl, mask, value, static_cast<unsigned>(source), width, where);
}
template <host::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 SourceLocation where = SourceLocation::current()) {
  return host::shuffle(host::Meeting::shfl_up, mask, value, delta, width, where);
}
template <host::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   SourceLocation where = SourceLocation::current()) {
  return host::shuffle(host::Meeting::shfl_down, mask, value, delta, width, where);
}
template <host::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  SourceLocation where = SourceLocation::current()) {
  return host::shuffle(host::Meeting::shfl_xor, mask, value, static_cast<unsigned>(lane_mask), width, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SourceLocation where = SourceLocation::current()) {
  return static_cast<unsigned>(host::vote(host::Meeting::ballot, mask, predicate != 0, where));
}
inline int __any_sync(unsigned mask, int predicate, SourceLocation where = SourceLocation::current()) {
  return static_cast<int>(host::vote(host::Meeting::any_sync, mask, predicate != 0, where));
}
inline int __all_sync(unsigned mask, int predicate, SourceLocation where = SourceLocation::current()) {
  return static_cast<int>(host::vote(host::Meeting::all_sync, mask, predicate != 0, where));
}
/// The calling lane alone: CUDA promises no more, and a kernel that needs more must say so with a mask.
inline unsigned __activemask(SourceLocation where = SourceLocation::current()) {
  return host::this_worker("__activemask()", where).lane_bit();
}

// ----------------------------------------------------------------------------------------------------------- atomics

namespace host {

template <class T, class... Types>
concept one_of = (std::same_as<T, Types> || ...);
template <class T>
concept AtomicInteger = one_of<T, int, unsigned, unsigned long long>;
template <class T>
concept AtomicOrdered = one_of<T, int, unsigned, long long, unsigned long long>;
template <class T>
concept AtomicNumber = AtomicInteger<T> || one_of<T, float, double>;
template <class T>
concept AtomicWord = AtomicInteger<T> || one_of<T, float>;

/// Replaces *address by change(*address) and returns the old value.
template <class T, class Change>
T atomic_update(T* address, Change change) {
  const std::atomic_ref<T> target(*address);
  T old = target.load(std::memory_order_relaxed);
  while (!target.compare_exchange_weak(old, change(old), std::memory_order_relaxed)) {
  }
  return old;
}

}  // namespace host

// Each returns the value from before. The second parameter takes part in no deduction, so that numbers convert as
// they do for CUDA's overloads.
template <host::AtomicNumber T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <host::one_of<int, unsigned> T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_sub(value, std::memory_order_relaxed);
}
template <host::AtomicWord T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).exchange(value, std::memory_order_relaxed);
}
template <host::AtomicInteger T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*address).compare_exchange_strong(compare, value, std::memory_order_relaxed);
  return compare;
}
template <host::AtomicOrdered T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return host::atomic_update(address, [value](T old) { return old < value ? value : old; });
}
template <host::AtomicOrdered T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return host::atomic_update(address, [value](T old) { return value < old ? value : old; });
}
template <host::AtomicInteger T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_and(value, std::memory_order_relaxed);
}
template <host::AtomicInteger T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_or(value, std::memory_order_relaxed);
}
template <host::AtomicInteger T>
T atomicXor(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_xor(value, std::memory_order_relaxed);
}
/// Counts up, and starts again from 0 after `last`.
inline unsigned atomicInc(unsigned* address, unsigned last) {
  return host::atomic_update(address, [last](unsigned old) { return old >= last ? 0 : old + 1; });
}

/// What this thread wrote before is seen by whoever sees what it writes afterwards.
inline void __threadfence() {
#if MERISTEM_TSAN
  host::tsan_fence();
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }

// ------------------------------------------------------------------------------------------------------------- others

template <class T>
T __ldg(const T* address) {
  return *address;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
/// Position of the lowest set bit, counted from 1; 0 if there is none.
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(std::uint64_t{a} * b >> 32); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }

}  // namespace MERISTEM_BACKEND
}  // namespace meristem

// ------------------------------------------------------------------------------------------------------ shared memory

namespace meristem::host {

/// CUDA's limit for arrays whose size is known at compile time, and the most an H100 grants on request.
inline constexpr std::size_t static_shared_limit = 48 << 10;
inline constexpr std::size_t dynamic_shared_limit = 227 << 10;

template <class Declaration>
inline constexpr char shared_key = 0;

/// The current block's array for one MERISTEM_SHARED, told apart from others by the type of the lambda it passes.
template <class Array, class Declaration>
Array& shared_array(Declaration, SourceLocation where = SourceLocation::current()) {
  static_assert(sizeof(Array) <= static_shared_limit,
                "MERISTEM_SHARED arrays hold at most 48 KiB; use dynamic shared memory");
  static_assert(std::is_trivial_v<std::remove_all_extents_t<Array>>, "CUDA does not construct shared memory");
  return *static_cast<Array*>(
      this_worker("MERISTEM_SHARED", where).shared_array(&shared_key<Declaration>, sizeof(Array)));
}

template <class T>
T* dynamic_shared(SourceLocation where = SourceLocation::current()) {
  return static_cast<T*>(this_worker("MERISTEM_DYNAMIC_SHARED", where).dynamic_shared());
}

}  // namespace meristem::host
