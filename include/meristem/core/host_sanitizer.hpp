// What AddressSanitizer and ThreadSanitizer must be told about kernel threads that run as fibers. In builds without a
// sanitizer everything here is empty.
//
// ThreadSanitizer sees every CUDA thread as a thread of its own ("TSan fiber"), with no order between them but the
// barriers. That makes it a checker for races within a block and between blocks that does not depend on the order in
// which they happen to run, even though one operating system thread runs them all.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <string>
#include <vector>

#include <meristem/core/config.hpp>

#if MERISTEM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if MERISTEM_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace meristem::inline MERISTEM_BACKEND::host {

#if MERISTEM_TSAN

/// Between these two calls ThreadSanitizer does not look at the memory accesses of the running TSan fiber: the
/// executor's own bookkeeping is shared by all threads of a block and no business of the kernel's.
inline void tsan_ignore_begin() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
inline void tsan_ignore_end() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

/// Makes ThreadSanitizer forget what happened on a stack that another thread is going to use.
inline void tsan_forget(void* memory, std::size_t bytes) {
  mmap(memory, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/// The TSan fibers of the threads of all blocks that count as concurrent. Used by the worker outside kernels.
class TsanThreads {
 public:
  /// TSan fibers for the `count` threads of the next block. A TSan fiber knows everything its creator knew, so they
  /// are created by the worker, which learns nothing about finished threads until `join`.
  void open_block(unsigned count, const std::string& name) {
    if (all_.size() + count > most_alive) join();
    for (unsigned i = 0; i < count; ++i) {
      all_.push_back(__tsan_create_fiber(0));
      __tsan_set_fiber_name(all_.back(), (name + ", thread " + std::to_string(i)).c_str());
    }
    block_ = all_.data() + (all_.size() - count);
  }
  /// Thread `index` of the current block.
  [[nodiscard]] void* operator[](unsigned index) const { return block_[index]; }
  /// Called by a thread that has finished.
  void leave() { __tsan_release(&end_); }
  /// Orders everything that finished threads did before everything that follows. Returns whether all are gone.
  void join() {
    __tsan_acquire(&end_);
    for (void* fiber : all_) __tsan_destroy_fiber(fiber);
    all_.clear();
  }
  [[nodiscard]] bool empty() const { return all_.empty(); }

 private:
  // ThreadSanitizer's limit is 8128 live threads in the program.
  static constexpr std::size_t most_alive = 4096;
  std::vector<void*> all_;
  void** block_ = nullptr;
  char end_ = 0;
};

/// The order that one barrier makes: what its members did before it is visible to all of them after it.
class TsanBarrier {
 public:
  void arrive() {
    // Each meeting has an address of its own, so that nobody learns what happens after an earlier one.
    if (address_ == nullptr) address_ = new char;
    __tsan_release(address_);
  }
  /// Lets `member` pass. Called by whoever completes the barrier.
  void pass(void* member) const {
    void* self = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(member, __tsan_switch_to_fiber_no_sync);
    __tsan_acquire(address_);
    __tsan_switch_to_fiber(self, __tsan_switch_to_fiber_no_sync);
  }
  void close() {
    delete address_;
    address_ = nullptr;
  }

 private:
  char* address_ = nullptr;
};

/// Orders the callers of this function as threads that fence and then communicate through an atomic are ordered.
inline void tsan_fence() {
  static char address = 0;
  __tsan_acquire(&address);
  __tsan_release(&address);
}

#else

inline void tsan_ignore_begin() {}
inline void tsan_ignore_end() {}
inline void tsan_forget(void*, std::size_t) {}
inline void tsan_fence() {}

struct TsanThreads {
  void* operator[](unsigned) const { return nullptr; }
  void leave() {}
  void join() {}
  [[nodiscard]] bool empty() const { return true; }
};

struct TsanBarrier {
  void arrive() {}
  void pass(void*) const {}
  void close() {}
};

#endif

/// Marks the executor's own work inside a kernel thread.
class ExecutorScope {
 public:
  ExecutorScope() { tsan_ignore_begin(); }
  ~ExecutorScope() { tsan_ignore_end(); }
  ExecutorScope(const ExecutorScope&) = delete;
  ExecutorScope& operator=(const ExecutorScope&) = delete;
};

}  // namespace meristem::inline MERISTEM_BACKEND::host
