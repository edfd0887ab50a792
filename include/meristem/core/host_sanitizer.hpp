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

namespace meristem::host {

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

/// The TSan fibers of the threads of all blocks that count as concurrent. Used by the worker outside kernels, but for
/// `enter` and `leave`.
class TsanThreads {
 public:
  TsanThreads() = default;
  ~TsanThreads() {
    for (void* fiber : all_) __tsan_destroy_fiber(fiber);
  }
  TsanThreads(const TsanThreads&) = delete;
  TsanThreads& operator=(const TsanThreads&) = delete;

  /// A launch starts: its threads will know what happened until now.
  void open_launch() { __tsan_release(&start_); }
  /// TSan fibers for the `count` threads of the next block.
  void open_block(unsigned count, const std::string& name) {
    if (used_ + count > most_concurrent) {
      close_launch();
      open_launch();
    }
    // A TSan fiber knows what its creator knew; the worker knows nothing of this launch's threads until they are done.
    while (all_.size() < used_ + count) all_.push_back(__tsan_create_fiber(0));
    block_ = all_.data() + used_;
    used_ += count;
    for (unsigned i = 0; i < count; ++i) {
      __tsan_set_fiber_name(block_[i], (name + ", thread " + std::to_string(i)).c_str());
    }
  }
  /// Everything that the launch's threads did comes before everything that follows.
  void close_launch() {
    __tsan_acquire(&end_);
    used_ = 0;
  }
  /// Thread `index` of the current block.
  [[nodiscard]] void* operator[](unsigned index) const { return block_[index]; }
  /// First thing a thread does.
  void enter() { __tsan_acquire(&start_); }
  /// Last thing a thread does.
  void leave() { __tsan_release(&end_); }

 private:
  // Creating one takes milliseconds and a megabyte, and ThreadSanitizer has room for some 8000.
  static constexpr std::size_t most_concurrent = 1024;
  std::vector<void*> all_;
  std::size_t used_ = 0;
  void** block_ = nullptr;
  char start_ = 0;
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
  void open_launch() {}
  void close_launch() {}
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

}  // namespace meristem::host
