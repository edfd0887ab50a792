// Stream-ordered memory: a caching allocator over a CUDA memory pool on the GPU, over the C library on the CPU.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/device_access.hpp>
#include <meristem/core/error.hpp>
#if MERISTEM_GPU
#include <meristem/core/cuda_check.hpp>
#endif

namespace meristem {
inline namespace MERISTEM_BACKEND {

#if MERISTEM_GPU
namespace detail {

/// Makes `device` the calling thread's.
inline void select_device(int device) {
  int current = -1;
  if (cudaGetDevice(&current) == cudaSuccess && current == device) return;
  check_cuda(cudaSetDevice(device), "cudaSetDevice");
}

}  // namespace detail
#endif

/// Source of all tensor memory of one Context. Blocks are aligned to 256 bytes and handed out in stream order: a block
/// released by one operation may be reused by the next one on the same stream. Blocks are kept and handed out again, so
/// that work that repeats itself asks neither CUDA nor the C library for memory; with MERISTEM_MEMORY_CACHE=0 in the
/// environment none is, so that tools that watch memory see each by itself. Thread-safe.
class Memory {
 public:
  static constexpr std::size_t alignment = 256;

  class Arena;

#if MERISTEM_GPU
  /// A private pool on `device`, used in the order of `stream`, that keeps freed memory until it is destroyed.
  Memory(int device, std::shared_ptr<CUstream_st> stream) : device_(device), stream_(std::move(stream)) {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    check_cuda(cudaMemPoolCreate(&pool_, &properties), "cudaMemPoolCreate");
    std::uint64_t keep_all = UINT64_MAX;
    check_cuda(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep_all), "cudaMemPoolSetAttribute");
  }
  ~Memory() {
    drop_cache();
    cudaStreamSynchronize(stream_.get());
    cudaMemPoolDestroy(pool_);
  }
#else
  Memory() = default;
  ~Memory() { drop_cache(); }
#endif
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  /// At least `bytes` bytes, uninitialised. Throws MemoryError if there are not so many.
  [[nodiscard]] void* allocate(std::size_t bytes) {
    if (bytes == 0) return nullptr;
    const std::size_t rounded = round_up(bytes);
    const std::size_t taken = exact ? bytes : rounded;
    if (arena_ != nullptr) {
      if (void* const kept = take_from_arena(taken)) return kept;
    }
    void* block = bytes <= most ? take(taken) : nullptr;
    const std::lock_guard lock(mutex_);
    if (block == nullptr) {
      throw MemoryError(concat("memory ran out: ", bytes, " bytes were asked for, ", in_use_,
                               " are in use; take smaller batches, fewer samples or a smaller network"));
    }
    if (Kept* const arena = arena_) {
      try {
        arena->out.insert(block);
      } catch (...) {
        give_back(block);
        throw;
      }
    }
    in_use_ += rounded;
    peak_ = std::max(peak_, in_use_);
    most_in_use_ = std::max(most_in_use_, in_use_);
    return block;
  }

  /// Gives back a block of `allocate(bytes)`.
  void release(void* block, std::size_t bytes) noexcept {
    if (block == nullptr) return;
    const std::size_t rounded = round_up(bytes);
    {
      const std::lock_guard lock(mutex_);
      if (Kept* const arena = arena_) {
        try {
          if (arena->out.erase(block) > 0) {
            arena->idle[exact ? bytes : rounded].push_back(block);
            return;
          }
          if (!arena->may_grow) {
            arena->late.emplace_back(block, bytes);
            return;
          }
        } catch (const std::bad_alloc&) {
          // Only a block that the arena did not have before has no place in it.
        }
      }
      in_use_ -= rounded;
    }
    put_back(block, rounded);
  }

  /// Gives back to the system what lies idle: for a program that needs the memory elsewhere. Waits for the device.
  void trim() {
    drop_cache();
#if MERISTEM_GPU
    detail::select_device(device_);
    check_cuda(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
    check_cuda(cudaMemPoolTrimTo(pool_, 0), "cudaMemPoolTrimTo");
#endif
  }

  /// Waits until all work that was started in this memory's order is done.
  void synchronize() const noexcept {
#if MERISTEM_GPU
    cudaStreamSynchronize(stream_.get());
#endif
  }

  /// Bytes handed out and not yet given back.
  [[nodiscard]] std::size_t in_use() const {
    const std::lock_guard lock(mutex_);
    return in_use_;
  }
  /// Largest `in_use` since the start or the last `reset_peak`.
  [[nodiscard]] std::size_t peak() const {
    const std::lock_guard lock(mutex_);
    return peak_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = in_use_;
  }

 private:
  // AddressSanitizer sees an overrun only of blocks that end where the tensor does.
  static constexpr bool exact = MERISTEM_GPU == 0 && MERISTEM_ASAN != 0;

  static constexpr std::size_t most = SIZE_MAX / 2;

  static std::size_t round_up(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

#if MERISTEM_GPU
  /// Null if there is no memory.
  void* obtain(std::size_t bytes) {
    void* block = nullptr;
    detail::select_device(device_);
    const cudaError_t status = cudaMallocFromPoolAsync(&block, bytes, pool_, stream_.get());
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // or the next call would report it again
      return nullptr;
    }
    check_cuda(status, "cudaMallocFromPoolAsync");
    return block;
  }
  void give_back(void* block) noexcept {
    int current = device_;
    const bool known = cudaGetDevice(&current) == cudaSuccess;
    if (cudaSetDevice(device_) == cudaSuccess) cudaFreeAsync(block, stream_.get());
    // Tensors end anywhere, also where the caller works on another device.
    if (known && current != device_) cudaSetDevice(current);
  }

  int device_;
  std::shared_ptr<CUstream_st> stream_;
  cudaMemPool_t pool_ = nullptr;
#else
  /// Null if there is no memory.
  static void* obtain(std::size_t bytes) {
    if (detail::guards_device_memory) return detail::GuardedMemory::instance().allocate(bytes);
    void* block = nullptr;
    return posix_memalign(&block, alignment, bytes) == 0 ? block : nullptr;
  }
  static void give_back(void* block) noexcept {
    if (detail::guards_device_memory) {
      detail::GuardedMemory::instance().release(block);
    } else {
      std::free(block);
    }
  }
#endif

  /// Null if there is no memory, also with all idle blocks freed.
  void* take(std::size_t bytes) {
    if (!caching_) return obtain(bytes);
    {
      const std::lock_guard lock(mutex_);
      const auto blocks = free_.find(bytes);
      if (blocks != free_.end() && !blocks->second.empty()) {
        void* block = blocks->second.back();
        blocks->second.pop_back();
        cached_ -= bytes;
        return block;
      }
      free_idle([&] { return in_use_ + cached_ + bytes > most_in_use_ + cache_floor; });
    }
    void* block = obtain(bytes);
    if (block == nullptr) {
      drop_cache();
      block = obtain(bytes);
    }
    return block;
  }

  /// Null where the open arena has no such block and may grow.
  void* take_from_arena(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    Kept& arena = *arena_;
    std::vector<void*>& blocks = arena.idle[bytes];
    if (blocks.empty()) {
      if (arena.may_grow) return nullptr;
      throw MemoryError(concat(bytes, " bytes are asked for that were not when the same work ran before"));
    }
    void* const block = blocks.back();
    arena.out.insert(block);
    blocks.pop_back();
    return block;
  }

  void put_back(void* block, std::size_t bytes) noexcept {
    if (caching_) {
      const std::lock_guard lock(mutex_);
      if (in_use_ + cached_ + bytes <= most_in_use_ + cache_floor) {
        try {
          free_[bytes].push_back(block);
          cached_ += bytes;
          return;
        } catch (const std::bad_alloc&) {
        }
      }
    }
    give_back(block);
  }

  /// Frees idle blocks, largest first, while `too_many()`: sizes change as networks grow. The caller holds the lock.
  template <class TooMany>
  void free_idle(const TooMany& too_many) noexcept {
    while (cached_ > 0 && too_many()) {
      const auto largest = std::prev(free_.end());
      if (!largest->second.empty()) {
        give_back(largest->second.back());
        largest->second.pop_back();
        cached_ -= largest->first;
      }
      if (largest->second.empty()) free_.erase(largest);
    }
  }

  void drop_cache() noexcept {
    const std::lock_guard lock(mutex_);
    free_idle([] { return true; });
  }

  /// Sanitized builds never reuse a block, so that a stale pointer or an overrun is reported.
  static bool wants_cache() {
    const char* const setting = std::getenv("MERISTEM_MEMORY_CACHE");
    return MERISTEM_ASAN == 0 && (setting == nullptr || std::string_view(setting) != "0");
  }

  // What is in use and what lies idle together stay within the most that was ever in use, and this.
  static constexpr std::size_t cache_floor = std::size_t{1} << 28;
  const bool caching_ = wants_cache();
  std::map<std::size_t, std::vector<void*> > free_;
  struct Kept {
    std::map<std::size_t, std::vector<void*> > idle;
    std::set<void*> out;
    std::vector<std::pair<void*, std::size_t> > late;
    bool may_grow = true;
  };
  std::atomic<Kept*> arena_ = nullptr;  // the one that is open
  std::size_t cached_ = 0;
  mutable std::mutex mutex_;
  std::size_t in_use_ = 0;
  std::size_t peak_ = 0;
  std::size_t most_in_use_ = 0;
};

/// Blocks that repeated work has to itself, so that it finds them at the same addresses with nobody else's numbers in
/// them. While the arena is open, what is given back of what was taken meanwhile stays with it, and what is asked for
/// comes from there first. Blocks that are still out when it closes are no longer the arena's. While one is open that
/// may not grow, other blocks that are given back are out until it closes: CUDA would record that they are freed.
class Memory::Arena {
 public:
  explicit Arena(std::shared_ptr<Memory> memory) : memory_(std::move(memory)) {}
  ~Arena() { clear(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Runs `work()` with the arena open; one that `may_grow` not throws MemoryError where it lacks a block. Returns the
  /// number of blocks that are still out.
  template <class Work>
  std::size_t run(bool may_grow, Work&& work) {
    kept_.may_grow = may_grow;
    const Open open(*memory_, kept_);
    work();
    return kept_.out.size();
  }

  /// Gives all back.
  void clear() noexcept {
    for (const auto& [bytes, blocks] : kept_.idle) {
      for (void* const block : blocks) memory_->release(block, bytes);
    }
    kept_.idle.clear();
  }

 private:
  struct Open {
    Open(Memory& of, Kept& kept) : memory(of) { memory.arena_ = &kept; }
    ~Open() {
      std::vector<std::pair<void*, std::size_t> > late;
      {
        const std::lock_guard lock(memory.mutex_);
        Kept& kept = *memory.arena_.exchange(nullptr);
        kept.out.clear();
        late.swap(kept.late);
      }
      for (const auto& [block, bytes] : late) memory.release(block, bytes);
    }
    Memory& memory;
  };

  std::shared_ptr<Memory> memory_;
  Kept kept_;
};

/// Owner of one block of a Memory, or of a share in memory from elsewhere. Keeps the Memory alive. Moves, does not
/// copy.
class Allocation {
 public:
  Allocation() = default;
  Allocation(std::shared_ptr<Memory> memory, std::size_t bytes)
      : memory_(std::move(memory)), data_(memory_->allocate(bytes)), bytes_(bytes) {}
  /// `bytes` bytes at `data` that belong to `owner`, which is let go when this goes and the work started in the
  /// order of `memory` is done.
  Allocation(std::shared_ptr<Memory> memory, std::shared_ptr<void> owner, void* data, std::size_t bytes) noexcept
      : memory_(std::move(memory)), owner_(std::move(owner)), data_(data), bytes_(bytes) {}
  Allocation(Allocation&& other) noexcept
      : memory_(std::move(other.memory_)),
        owner_(std::move(other.owner_)),
        data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  Allocation& operator=(Allocation&& other) noexcept {
    if (this != &other) {
      reset();
      memory_ = std::move(other.memory_);
      owner_ = std::move(other.owner_);
      data_ = std::exchange(other.data_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  ~Allocation() { reset(); }

  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  /// Where it is from; null for an empty one.
  [[nodiscard]] const Memory* memory() const noexcept { return memory_.get(); }

 private:
  void reset() noexcept {
    if (owner_) {
      memory_->synchronize();
      owner_.reset();
    } else if (memory_) {
      memory_->release(data_, bytes_);
    }
    memory_.reset();
    data_ = nullptr;
    bytes_ = 0;
  }

  std::shared_ptr<Memory> memory_;
  std::shared_ptr<void> owner_;  // of memory from elsewhere
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
