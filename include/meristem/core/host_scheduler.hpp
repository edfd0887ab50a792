// Which thread of a block runs next, on which stack, and what becomes of a block that fails.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/host_order.hpp>
#include <meristem/core/host_sanitizer.hpp>
#include <meristem/core/host_worker.hpp>
#include <meristem/core/source_location.hpp>

namespace meristem::host {

// ---------------------------------------------------------------------------------------------- blocks and threads

inline void Worker::run(Launch& launch) {
  const ExecutorScope scope;
  prepare(launch);
  struct Running {
    explicit Running(Worker* worker) { current_worker = worker; }
    ~Running() { current_worker = nullptr; }
  } const running(this);
  tsan_.open_launch();
  while (!launch.failed.load(std::memory_order_relaxed)) {
    const std::int64_t first = launch.next_block.fetch_add(launch.chunk, std::memory_order_relaxed);
    if (first >= launch.block_count) break;
    const std::int64_t last = std::min(first + launch.chunk, launch.block_count);
    for (std::int64_t i = first; i < last; ++i) {
      run_block(launch.block_order(i));
      if (launch.failed.load(std::memory_order_relaxed)) break;
    }
  }
  tsan_.close_launch();
  retired_.clear();
}

inline void Worker::prepare(Launch& launch) {
  launch_ = &launch;
  const Grid& grid = launch.grid;
  gridDim = grid.blocks;
  blockDim = grid.threads;
  if (shape_.x != grid.threads.x || shape_.y != grid.threads.y || shape_.z != grid.threads.z) {
    shape_ = grid.threads;
    size_ = grid.block_size();
    coordinates_.resize(size_);
    for (unsigned i = 0; i < size_; ++i) {
      coordinates_[i] = {i % shape_.x, i / shape_.x % shape_.y, i / (shape_.x * shape_.y)};
    }
    threads_.resize(size_);
    warps_.resize((size_ + 31) / 32);
    order_.resize(size_);
    ready_.reserve(size_);
  }
  shuffled_ = grid.options.order == ThreadOrder::shuffled;
  for (unsigned i = 0; i < size_; ++i) {
    order_[i] = grid.options.order == ThreadOrder::reverse ? size_ - 1 - i : i;
  }
  if (grid.call != last_kernel_) {
    last_kernel_ = grid.call;
    sites_.clear();
  }
  // Exactly what was asked for: AddressSanitizer then reports an access beyond it.
  if (dynamic_bytes_ != grid.shared_bytes) {
    dynamic_ = grid.shared_bytes == 0 ? SharedMemory() : allocate_shared(grid.shared_bytes);
    dynamic_bytes_ = grid.shared_bytes;
  }
}

inline void Worker::run_block(std::int64_t number) {
  const Grid& grid = launch_->grid;
  if (number < grid.blocks.x) {
    blockIdx = {static_cast<unsigned>(number), 0, 0};
  } else {
    const std::int64_t row = number / grid.blocks.x;
    blockIdx = {static_cast<unsigned>(number % grid.blocks.x), static_cast<unsigned>(row % grid.blocks.y),
                static_cast<unsigned>(row / grid.blocks.y)};
  }
  ++block_serial_;
  started_ = 0;
  alive_ = size_;
  cancelled_ = false;
  for (unsigned w = 0; w < warps_.size(); ++w) {
    const unsigned lanes = std::min(32u, size_ - 32 * w);
    warps_[w].alive = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
  }
  if (shuffled_) {
    // From the same start in every block, whichever worker ran which blocks before.
    std::iota(order_.begin(), order_.end(), 0u);
    random_ = Random(grid.options.order_seed, static_cast<std::uint64_t>(number));
    for (unsigned i = size_; i > 1; --i) std::swap(order_[i - 1], order_[random_.below(i)]);
  }
#if MERISTEM_TSAN
  tsan_.open_block(size_, name_block());
  // Blocks that count as concurrent must not share memory either.
  if (dynamic_bytes_ > 0) {
    retired_.push_back(std::move(dynamic_));
    dynamic_ = allocate_shared(dynamic_bytes_);
  }
#endif
  if (grid.options.poison_shared && dynamic_bytes_ > 0) std::memset(dynamic_.get(), 0xff, dynamic_bytes_);
  drive(native_);
}

// Runs threads and resumes waiting ones on the stack `self`, until the block is done (on the worker's own stack; other
// stacks then stay here as spares).
inline void Worker::drive(Fiber& self) {
  for (;;) {
    // ThreadSanitizer wants a stack for each thread.
    if (!MERISTEM_TSAN && may_start()) {
      run_thread(order_[started_++]);
    } else if (alive_ > 0) {
      Fiber& next = next_fiber();
      if (&self != &native_) spare_.push_back(&self);
      hop(self, next);
    } else if (&self != &native_) {
      spare_.push_back(&self);
      hop(self, native_);
    } else {
      return;
    }
  }
}

inline void Worker::fiber_main() {
  Worker& worker = *current_worker;
  Fiber& self = *worker.running_;
#if MERISTEM_TSAN
  worker.tsan_.enter();
  worker.run_thread(worker.order_[worker.started_++]);
  worker.tsan_.leave();
  Fiber& next = worker.alive_ > 0 ? worker.next_fiber() : worker.native_;
  worker.spare_.push_back(&self);
  worker.hop(self, next, true);
#else
  worker.drive(self);
#endif
}

inline void Worker::run_thread(unsigned index) {
  set_current(index);
  try {
    tsan_ignore_end();
    launch_->grid.call(launch_->grid.arguments);
    tsan_ignore_begin();
  } catch (const Cancelled&) {
    tsan_ignore_begin();
  } catch (...) {
    tsan_ignore_begin();
    launch_->fail(std::current_exception());
    if (!cancelled_) cancel();
  }
  finish_thread(index);
}

// The thread has returned: whoever waited for it alone may go on.
inline void Worker::finish_thread(unsigned index) {
  --alive_;
  Warp& warp = warps_[index / 32];
  warp.alive &= ~(1u << (index % 32));
  if (at_barrier_ > 0 && at_barrier_ == alive_) release_barrier();
  for (std::size_t i = warp.pending.size(); i-- > 0;) {
    if (warp.pending[i].arrived == (warp.pending[i].mask & warp.alive)) complete(warp, index / 32 * 32, i);
  }
}

// ------------------------------------------------------------------------------------------------------- scheduling

// Whether the next turn goes to a thread that has not started yet. Resuming comes first, because it needs fewer
// stacks; shuffled order tries both.
inline bool Worker::may_start() {
  if (started_ == size_ || cancelled_) return false;
  if (ready_head_ == ready_.size()) return true;
  return shuffled_ && random_.below(2) == 0;
}

// A stack on which the next thread can start; null if there is no memory for one.
inline Fiber* Worker::spare_fiber() {
  if (spare_.empty()) {
    try {
      fibers_.push_back(std::make_unique<Fiber>(&Worker::fiber_main));
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
    spare_.reserve(fibers_.size());
    spare_.push_back(fibers_.back().get());
  } else if (MERISTEM_TSAN) {
    spare_.back()->rewind();
  }
  Fiber* fiber = spare_.back();
  spare_.pop_back();
  fiber->set_tsan(tsan_[order_[started_]]);
  return fiber;
}

// The stack that gets the next turn while some thread has not returned.
inline Fiber& Worker::next_fiber() {
  if (may_start()) {
    if (Fiber* fiber = spare_fiber()) return *fiber;
    launch_->fail(std::make_exception_ptr(LaunchError(concat(
        name_block(), ": no memory for the stacks of its waiting threads; use a smaller block or fewer workers"))));
    cancel();
  }
  if (ready_head_ == ready_.size()) deadlock();
  if (shuffled_) std::swap(ready_[ready_head_], ready_[ready_head_ + random_.below(ready_.size() - ready_head_)]);
  Fiber& fiber = *threads_[ready_[ready_head_]].fiber;
  if (++ready_head_ == ready_.size()) {
    ready_.clear();
    ready_head_ = 0;
  }
  return fiber;
}

// Gives others their turn until the thread, which has registered what it waits for, was made ready.
inline void Worker::wait(unsigned index) {
  Fiber& self = *running_;
  threads_[index].fiber = &self;
  Fiber& next = next_fiber();
  if (&next != &self) hop(self, next);
  set_current(index);
  if (cancelled_) throw Cancelled{};
}

// Makes the rest of the block come to an end: nobody starts, and those who wait are unwound.
inline void Worker::cancel() {
  cancelled_ = true;
  alive_ -= size_ - started_;
  for (const unsigned index : order_) {
    Thread& thread = threads_[index];
    if (thread.at_barrier || thread.at_collective) make_ready(index);
    thread.at_barrier = thread.at_collective = false;
  }
  at_barrier_ = 0;
  barrier_order_.close();
  for (Warp& warp : warps_) {
    for (Rendezvous& rendezvous : warp.pending) rendezvous.order.close();
    warp.pending.clear();
  }
}

// ------------------------------------------------------------------------------------------------------- diagnostics

inline std::string Worker::name_block() const {
  return concat("kernel ", launch_->grid.name, ", block (", blockIdx.x, ", ", blockIdx.y, ", ", blockIdx.z, ")");
}

inline std::string Worker::name_thread(unsigned index) const {
  const uint3& at = coordinates_[index];
  return concat("thread (", at.x, ", ", at.y, ", ", at.z, ")");
}

inline void Worker::misuse(unsigned index, const std::string& what, SourceLocation where) const {
  throw LaunchError(concat(name_block(), ": ", name_thread(index), " ", what), where);
}

// Every thread waits. Says for what, and makes the launch fail.
inline void Worker::deadlock() {
  std::string groups;
  SourceLocation where;
  if (at_barrier_ > 0) {
    unsigned first = 0;
    while (!threads_[first].at_barrier) ++first;
    where = barrier_where_;
    groups += concat("; ", at_barrier_, " of the ", alive_, " threads that have not returned, the first of them ",
                     name_thread(first), ", wait at ", name_of(barrier_meeting_), " in ", where.file, ":", where.line);
  }
  unsigned listed = 0;
  for (unsigned w = 0; w < warps_.size(); ++w) {
    for (const Rendezvous& rendezvous : warps_[w].pending) {
      if (where.line == 0) where = rendezvous.where;
      if (++listed > 8) continue;
      unsigned first = 0;
      while ((rendezvous.arrived >> first & 1) == 0) ++first;
      groups += concat("; lanes ", hex(rendezvous.arrived), " of warp ", w, ", the first of them ",
                       name_thread(32 * w + first), ", wait at ", name_of(rendezvous.meeting), " in ",
                       rendezvous.where.file, ":", rendezvous.where.line, " for lanes ",
                       hex(rendezvous.mask & warps_[w].alive & ~rendezvous.arrived));
    }
  }
  if (listed > 8) groups += concat("; and ", listed - 8, " more groups of lanes");
  launch_->fail(std::make_exception_ptr(LaunchError(
      concat(name_block(), ": deadlock, its threads wait for each other", groups,
             "; every thread of a block must reach the same barriers, every lane of a mask the same collectives"),
      where)));
  cancel();
}

}  // namespace meristem::host
