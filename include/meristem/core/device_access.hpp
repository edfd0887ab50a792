// Finds, on the CPU, host code that would touch the memory of a GPU. With MERISTEM_DEVICE_GUARD=1 in the environment,
// tensors lie in memory that nobody may read or write but kernels, copies and calls of libraries, which hold a
// DeviceAccess while they run; any other access ends the program there. Otherwise DeviceAccess does nothing.
#pragma once

#include <cstddef>

#include <meristem/core/config.hpp>

#if !MERISTEM_GPU
#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string_view>
#include <vector>
#endif

namespace meristem {
inline namespace MERISTEM_BACKEND {

namespace detail {

#if !MERISTEM_GPU

inline const bool guards_device_memory = [] {
  const char* const setting = std::getenv("MERISTEM_DEVICE_GUARD");
  return setting != nullptr && std::string_view(setting) == "1";
}();

/// The memory of all tensors: one range of addresses, open to all or to nobody.
class GuardedMemory {
 public:
  [[nodiscard]] static GuardedMemory& instance() {
    static auto* const memory = new GuardedMemory;  // outlives tensors of static lifetime
    return *memory;
  }

  /// `bytes` bytes aligned to 256; null if there are no more.
  [[nodiscard]] void* allocate(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::size_t size = (bytes + 255) / 256 * 256;
    std::vector<void*>& idle = idle_[size];
    void* block = nullptr;
    if (!idle.empty()) {
      block = idle.back();
      idle.pop_back();
    } else if (size <= capacity - used_) {
      block = base_ + used_;
      used_ += size;
      if (users_ > 0) protect(PROT_READ | PROT_WRITE);
    } else {
      return nullptr;
    }
    sizes_[block] = size;
    return block;
  }
  void release(void* block) {
    const std::lock_guard lock(mutex_);
    const auto found = sizes_.find(block);
    if (found == sizes_.end()) return;
    idle_[found->second].push_back(block);
    sizes_.erase(found);
  }

  void open() {
    const std::lock_guard lock(mutex_);
    if (users_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    const std::lock_guard lock(mutex_);
    if (--users_ == 0) protect(PROT_NONE);
  }

 private:
  static constexpr std::size_t capacity = std::size_t{1} << 36, page = 4096;

  GuardedMemory() {
    void* const mapped = mmap(nullptr, capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
      used_ = capacity;
    } else {
      base_ = static_cast<char*>(mapped);
      madvise(mapped, capacity, MADV_HUGEPAGE);  // fewer pages to change the access of
    }
  }
  void protect(int access) {
    if (base_ != nullptr && used_ > 0) mprotect(base_, (used_ + page - 1) / page * page, access);
  }

  std::mutex mutex_;
  char* base_ = nullptr;
  std::size_t used_ = 0;
  int users_ = 0;
  std::map<void*, std::size_t> sizes_;
  std::map<std::size_t, std::vector<void*>> idle_;
};

/// While one lives, tensors' memory is within reach of the host.
class DeviceAccess {
 public:
  DeviceAccess() {
    if (guards_device_memory) GuardedMemory::instance().open();
  }
  ~DeviceAccess() {
    if (guards_device_memory) GuardedMemory::instance().close();
  }
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

#else

struct DeviceAccess {
  DeviceAccess() noexcept {}  // a constructor, or compilers would call it an unused variable
};

#endif

}  // namespace detail

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
