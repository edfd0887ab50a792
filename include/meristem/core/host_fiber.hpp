// A stack that a kernel thread can wait on, and the switch from one such stack to another.
//
// Boost.Context switches in about 10 ns and needs -lboost_context; where its header is missing, or with
// MERISTEM_UCONTEXT defined (for the whole program), the C library's ucontext does it with a system call.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <new>

#include <meristem/core/config.hpp>
#include <meristem/core/host_sanitizer.hpp>

#if !defined(MERISTEM_UCONTEXT) && defined(__has_include)
#if __has_include(<boost/context/detail/fcontext.hpp>)
#define MERISTEM_HAS_BOOST_CONTEXT 1
#endif
#endif
#if !defined(MERISTEM_HAS_BOOST_CONTEXT)
#define MERISTEM_HAS_BOOST_CONTEXT 0
#endif

#if MERISTEM_HAS_BOOST_CONTEXT
#include <boost/context/detail/fcontext.hpp>
#else
#include <ucontext.h>
#endif

namespace meristem::host {

/// A stack with the place where its execution stopped. A default-constructed Fiber stands for the stack it is used on
/// first, the operating system's.
class Fiber {
 public:
  using Entry = void (*)();

  Fiber() = default;

  /// A stack of its own; the first switch to it calls `entry`, which must not return. Throws std::bad_alloc.
  explicit Fiber(Entry entry) : entry_(entry) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_bytes_ = stack_bytes + page;
    mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    // An overflow hits the guard page. If the system has no page range left for one, do without.
    static_cast<void>(mprotect(mapped_, page, PROT_NONE));
    bottom_ = static_cast<char*>(mapped_) + page;
    bytes_ = stack_bytes;
    arm();
  }

  ~Fiber() {
    if (mapped_ == nullptr) return;
#if MERISTEM_ASAN
    // What unfinished calls left on the stack must not stay poisoned for the next user of these addresses.
    __asan_unpoison_memory_region(bottom_, bytes_);
#endif
    munmap(mapped_, mapped_bytes_);
  }

  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Forgets what runs on this stack; the next switch to it calls the entry again.
  void rewind() {
    tsan_forget(const_cast<void*>(bottom_), bytes_);
    arm();
  }

  /// Leaves this fiber, which must be the running one, and goes on in `target`. Returns when something switches back.
  /// With `last` nothing ever will.
  void switch_to(Fiber& target, [[maybe_unused]] bool last = false) {
    Passage passage{this, &target};
#if MERISTEM_ASAN
    __sanitizer_start_switch_fiber(&fake_stack_, target.bottom_, target.bytes_);
#endif
#if MERISTEM_TSAN
    if (tsan_ == nullptr) tsan_ = __tsan_get_current_fiber();
    void* const tsan = target.tsan_;
    if (last) tsan_ignore_end();
    __tsan_switch_to_fiber(tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if MERISTEM_HAS_BOOST_CONTEXT
    const auto arrival = boost::context::detail::jump_fcontext(target.context_, &passage);
    auto& from = *static_cast<Passage*>(arrival.data)->from;
    from.context_ = arrival.fctx;
#else
    passing = &passage;
    swapcontext(&context_, &target.context_);
    auto& from = *passing->from;
#endif
    arrive(from);
  }

  /// The thread that ThreadSanitizer takes this stack's execution for.
  void set_tsan([[maybe_unused]] void* tsan) {
#if MERISTEM_TSAN
    tsan_ = tsan;
#endif
  }

 private:
  struct Passage {
    Fiber* from;
    Fiber* to;
  };

  // Sanitizers make frames several times larger.
  static constexpr std::size_t stack_bytes =
      MERISTEM_ASAN || MERISTEM_TSAN ? std::size_t{256} << 10 : std::size_t{64} << 10;

  // First thing after a switch, on the stack that was switched to.
  void arrive([[maybe_unused]] Fiber& from) {
#if MERISTEM_ASAN
    __sanitizer_finish_switch_fiber(fake_stack_, &from.bottom_, &from.bytes_);
    fake_stack_ = nullptr;
#endif
  }

#if MERISTEM_HAS_BOOST_CONTEXT
  void arm() {
    char* top = static_cast<char*>(const_cast<void*>(bottom_)) + bytes_;
    context_ = boost::context::detail::make_fcontext(top, bytes_, &Fiber::start);
  }

  static void start(boost::context::detail::transfer_t arrival) {
    tsan_ignore_begin();
    const Passage passage = *static_cast<Passage*>(arrival.data);
    passage.from->context_ = arrival.fctx;
    passage.to->arrive(*passage.from);
    passage.to->entry_();
  }

  boost::context::detail::fcontext_t context_ = nullptr;
#else
  void arm() {
    getcontext(&context_);
    context_.uc_stack.ss_sp = const_cast<void*>(bottom_);
    context_.uc_stack.ss_size = bytes_;
    context_.uc_link = nullptr;
    makecontext(&context_, &Fiber::start, 0);
  }

  static void start() {
    tsan_ignore_begin();
    const Passage passage = *passing;
    passage.to->arrive(*passage.from);
    passage.to->entry_();
  }

  static inline constinit thread_local Passage* passing = nullptr;
  ucontext_t context_{};
#endif

  Entry entry_ = nullptr;
  void* mapped_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  const void* bottom_ = nullptr;
  std::size_t bytes_ = 0;
#if MERISTEM_ASAN
  void* fake_stack_ = nullptr;
#endif
#if MERISTEM_TSAN
  void* tsan_ = nullptr;
#endif
};

}  // namespace meristem::host
