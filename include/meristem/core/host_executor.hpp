// Runs a grid of CUDA threads on the CPU: blocks over OpenMP workers, the threads of a block on the worker's stack.
//
// Each thread starts as a plain call. The first that has to wait at a barrier turns the stack it stands on into its
// fiber, and a spare stack goes on starting threads; so a kernel whose threads never wait costs plain calls, and
// nothing has to say beforehand which kernels have barriers.
//
// Rules that follow CUDA's: a thread that returned no longer counts at barriers; `__syncthreads` waits for all threads
// of the block that have not returned; a warp collective waits for the lanes of its mask that have not returned.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/executor_options.hpp>
#include <meristem/core/host_fiber.hpp>
#include <meristem/core/host_order.hpp>
#include <meristem/core/host_sanitizer.hpp>
#include <meristem/core/source_location.hpp>

namespace meristem::inline MERISTEM_BACKEND {

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

inline constexpr int warpSize = 32;
inline constinit thread_local uint3 threadIdx{0, 0, 0};
inline constinit thread_local uint3 blockIdx{0, 0, 0};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};

}  // namespace meristem::inline MERISTEM_BACKEND

namespace meristem::inline MERISTEM_BACKEND::host {

/// The operations at which the threads of a block or the lanes of a warp meet.
enum class Meeting {
  syncthreads,
  count,
  all,
  any,
  syncwarp,
  shfl,
  shfl_up,
  shfl_down,
  shfl_xor,
  ballot,
  any_sync,
  all_sync
};

inline const char* name_of(Meeting meeting) {
  static constexpr const char* names[] = {"__syncthreads()",    "__syncthreads_count()", "__syncthreads_and()",
                                          "__syncthreads_or()", "__syncwarp()",          "__shfl_sync()",
                                          "__shfl_up_sync()",   "__shfl_down_sync()",    "__shfl_xor_sync()",
                                          "__ballot_sync()",    "__any_sync()",          "__all_sync()"};
  return names[static_cast<int>(meeting)];
}

/// A kernel with its arguments and shape. The kernel is behind a function pointer so that all this is compiled once.
struct Grid {
  void (*call)(const void* arguments);
  const void* arguments;
  std::string_view name;
  dim3 blocks, threads;
  std::size_t shared_bytes;
  ExecutorOptions options;

  [[nodiscard]] std::int64_t block_count() const { return std::int64_t{1} * blocks.x * blocks.y * blocks.z; }
  [[nodiscard]] unsigned block_size() const { return threads.x * threads.y * threads.z; }
};

/// One launch, shared by the workers that run its blocks.
struct Launch {
  Grid grid;
  std::int64_t block_count;
  std::int64_t chunk;
  Permutation block_order;
  std::atomic<std::int64_t> next_block{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;

  explicit Launch(const Grid& what)
      : grid(what),
        block_count(what.block_count()),
        chunk(block_count),
        block_order(block_count, what.options.order, what.options.order_seed) {}

  /// Keeps the first error; the blocks that have not started will not.
  void fail(std::exception_ptr what) {
    if (!failed.exchange(true)) error = std::move(what);
  }
};

/// Runs blocks on one operating system thread. Kept between launches for its stacks and shared memory.
class Worker {
 public:
  /// Takes blocks of `launch` until none is left.
  void run(Launch& launch);

  /// `__syncthreads` and its kin: the value of the collective for the calling thread.
  int block_barrier(Meeting meeting, bool predicate, SourceLocation where);
  /// A warp collective; `argument` is the source lane, delta or lane mask of a shuffle.
  std::uint64_t warp_collective(Meeting meeting, unsigned mask, std::uint64_t value, unsigned argument, int width,
                                SourceLocation where);
  /// The current block's array of the MERISTEM_SHARED declaration that `key` stands for.
  void* shared_array(const void* key, std::size_t bytes);
  /// The current block's dynamic shared memory.
  [[nodiscard]] void* dynamic_shared() const { return dynamic_.get(); }
  [[nodiscard]] unsigned lane_bit() const { return 1u << (current_ % 32); }

 private:
  // Thrown through a kernel whose block has failed, to unwind its stack.
  struct Cancelled {};

  static constexpr std::size_t shared_alignment = 128;
  struct FreeShared {
    void operator()(void* memory) const { ::operator delete (memory, std::align_val_t{shared_alignment}); }
  };
  using SharedMemory = std::unique_ptr<void, FreeShared>;
  // Every array has its own allocation, whose red zones AddressSanitizer watches.
  static SharedMemory allocate_shared(std::size_t bytes) {
    return SharedMemory(::operator new (bytes, std::align_val_t{shared_alignment}));
  }
  struct SharedSite {
    const void* key;
    SharedMemory memory;
    std::uint64_t block;
  };

  struct Thread {
    Fiber* fiber = nullptr;  // where it waits
    bool at_barrier = false;
    bool at_collective = false;
    unsigned argument = 0;
    int width = 32;
    std::uint64_t value = 0;  // what it brings to a collective, then what it takes away
  };
  // Lanes of one warp on their way into one collective.
  struct Rendezvous {
    Meeting meeting;
    unsigned mask;
    unsigned arrived;
    SourceLocation where;
    TsanBarrier order;
  };
  struct Warp {
    unsigned alive = 0;
    std::vector<Rendezvous> pending;
  };

  void prepare(Launch& launch);
  void run_block(std::int64_t number);
  void run_thread(unsigned index);
  void finish_thread(unsigned index);
  static void fiber_main();
  void drive(Fiber& self);

  void wait(unsigned index);
  Fiber* spare_fiber();
  Fiber& next_fiber();
  bool may_start();
  void hop(Fiber& from, Fiber& to, bool last = false) {
    running_ = &to;
    from.switch_to(to, last);
  }
  void make_ready(unsigned index) { ready_.push_back(index); }
  void set_current(unsigned index) {
    current_ = index;
    threadIdx = coordinates_[index];
  }

  void release_barrier();
  void complete(Warp& warp, unsigned first_thread, std::size_t pending);
  static unsigned source_lane(Meeting meeting, unsigned lane, unsigned argument, int width);
  void deadlock();
  void cancel();
  [[noreturn]] void misuse(unsigned index, const std::string& what, SourceLocation where) const;
  [[nodiscard]] std::string name_block() const;
  [[nodiscard]] std::string name_thread(unsigned index) const;

  // The launch.
  Launch* launch_ = nullptr;
  void (*last_kernel_)(const void*) = nullptr;
  dim3 shape_{0, 0, 0};
  unsigned size_ = 0;
  std::vector<uint3> coordinates_;
  bool shuffled_ = false;

  // The block.
  std::uint64_t block_serial_ = 0;
  std::vector<unsigned> order_;  // in which threads start and are released
  unsigned started_ = 0;
  unsigned alive_ = 0;
  unsigned current_ = 0;
  bool cancelled_ = false;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> ready_;
  std::size_t ready_head_ = 0;
  unsigned at_barrier_ = 0;
  unsigned barrier_count_ = 0;
  Meeting barrier_meeting_ = Meeting::syncthreads;
  SourceLocation barrier_where_;
  TsanBarrier barrier_order_;
  Random random_;

  // Memory and stacks.
  std::vector<SharedSite> sites_;
  SharedMemory dynamic_;
  std::size_t dynamic_bytes_ = 0;
  std::vector<SharedMemory> retired_;
  TsanThreads tsan_;
  Fiber native_;
  Fiber* running_ = &native_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> spare_;
};

/// The worker whose kernel is running on this operating system thread, or null outside kernels.
inline constinit thread_local Worker* current_worker = nullptr;

/// The worker of a device function; throws LaunchError outside a kernel.
inline Worker& this_worker(const char* function, SourceLocation where) {
  if (current_worker == nullptr) {
    throw LaunchError(concat(function, " was called outside a kernel; only kernels started by launch may use it"),
                      where);
  }
  return *current_worker;
}

// ---------------------------------------------------------------------------------------------- blocks and threads

inline void Worker::run(Launch& launch) {
  const ExecutorScope scope;
  prepare(launch);
  struct Running {
    explicit Running(Worker* worker) { current_worker = worker; }
    ~Running() { current_worker = nullptr; }
  } const running(this);
  while (!launch.failed.load(std::memory_order_relaxed)) {
    const std::int64_t first = launch.next_block.fetch_add(launch.chunk, std::memory_order_relaxed);
    if (first >= launch.block_count) break;
    const std::int64_t last = std::min(first + launch.chunk, launch.block_count);
    for (std::int64_t i = first; i < last; ++i) {
      run_block(launch.block_order(i));
      if (launch.failed.load(std::memory_order_relaxed)) break;
    }
  }
  tsan_.join();
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

// --------------------------------------------------------------------------------------------------------- barriers

inline int Worker::block_barrier(Meeting meeting, bool predicate, SourceLocation where) {
  const ExecutorScope scope;
  if (cancelled_) throw Cancelled{};
  if (alive_ == 1) return predicate ? 1 : 0;
  const unsigned index = current_;
  if (at_barrier_ == 0) {
    barrier_meeting_ = meeting;
    barrier_where_ = where;
    barrier_count_ = 0;
  } else if (barrier_meeting_ != meeting || barrier_where_.line != where.line ||
             std::strcmp(barrier_where_.file, where.file) != 0) {
    misuse(index,
           concat("waits at ", name_of(meeting), " in line ", where.line, " while ", at_barrier_,
                  " other threads of its block wait at ", name_of(barrier_meeting_), " in ", barrier_where_.file, ":",
                  barrier_where_.line, "; all threads of a block must reach the same barrier"),
           where);
  }
  ++at_barrier_;
  barrier_count_ += predicate ? 1 : 0;
  threads_[index].at_barrier = true;
  barrier_order_.arrive();
  if (at_barrier_ == alive_) release_barrier();
  wait(index);
  return static_cast<int>(threads_[index].value);
}

inline void Worker::release_barrier() {
  unsigned value = barrier_count_;
  if (barrier_meeting_ == Meeting::all) value = barrier_count_ == at_barrier_ ? 1 : 0;
  if (barrier_meeting_ == Meeting::any) value = barrier_count_ > 0 ? 1 : 0;
  for (const unsigned index : order_) {
    Thread& thread = threads_[index];
    if (!thread.at_barrier) continue;
    thread.at_barrier = false;
    thread.value = value;
    barrier_order_.pass(tsan_[index]);
    make_ready(index);
  }
  at_barrier_ = 0;
  barrier_order_.close();
}

inline std::uint64_t Worker::warp_collective(Meeting meeting, unsigned mask, std::uint64_t value, unsigned argument,
                                             int width, SourceLocation where) {
  const ExecutorScope scope;
  if (cancelled_) throw Cancelled{};
  const unsigned index = current_;
  const unsigned bit = lane_bit();
  Warp& warp = warps_[index / 32];
  if ((mask & bit) == 0) {
    misuse(index,
           concat("is lane ", index % 32, " and calls ", name_of(meeting), " with mask ", hex(mask),
                  ", which leaves itself out; the mask must name every lane that makes the call"),
           where);
  }
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    misuse(index, concat("calls ", name_of(meeting), " with width ", width, "; the width is 1, 2, 4, 8, 16 or 32"),
           where);
  }
  if ((mask & warp.alive) == bit) {
    if (meeting == Meeting::ballot) return value != 0 ? bit : 0;
    return meeting == Meeting::any_sync || meeting == Meeting::all_sync ? (value != 0 ? 1 : 0) : value;
  }
  Thread& self = threads_[index];
  self.value = value;
  self.argument = argument;
  self.width = width;

  std::size_t found = 0;
  while (found < warp.pending.size() && warp.pending[found].mask != mask) ++found;
  if (found == warp.pending.size()) warp.pending.push_back({meeting, mask, 0, where, {}});
  Rendezvous& rendezvous = warp.pending[found];
  if (rendezvous.meeting != meeting) {
    misuse(index,
           concat("calls ", name_of(meeting), " with mask ", hex(mask), " while lanes ", hex(rendezvous.arrived),
                  " of its warp wait with the same mask at ", name_of(rendezvous.meeting), " in ",
                  rendezvous.where.file, ":", rendezvous.where.line, "; all lanes of a mask must make the same call"),
           where);
  }
  rendezvous.arrived |= bit;
  rendezvous.order.arrive();
  self.at_collective = true;
  if (rendezvous.arrived == (mask & warp.alive)) complete(warp, index / 32 * 32, found);
  wait(index);
  return self.value;
}

// All lanes have arrived: works out what each takes away. The values of all lanes are read before any is written,
// because a lane that goes on may bring another value at once.
inline void Worker::complete(Warp& warp, unsigned first_thread, std::size_t pending) {
  Rendezvous rendezvous = warp.pending[pending];
  warp.pending.erase(warp.pending.begin() + static_cast<std::ptrdiff_t>(pending));
  std::uint64_t values[32];
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((rendezvous.arrived >> lane & 1) == 0) continue;
    values[lane] = threads_[first_thread + lane].value;
    if (values[lane] != 0) votes |= 1u << lane;
  }
  const unsigned lanes = std::min(32u, size_ - first_thread);
  for (unsigned i = 0; i < lanes; ++i) {
    const unsigned lane = launch_->grid.options.order == ThreadOrder::reverse ? lanes - 1 - i : i;
    if ((rendezvous.arrived >> lane & 1) == 0) continue;
    Thread& thread = threads_[first_thread + lane];
    switch (rendezvous.meeting) {
      case Meeting::ballot:
        thread.value = votes;
        break;
      case Meeting::any_sync:
        thread.value = votes != 0 ? 1 : 0;
        break;
      case Meeting::all_sync:
        thread.value = votes == rendezvous.arrived ? 1 : 0;
        break;
      default: {
        const unsigned from = source_lane(rendezvous.meeting, lane, thread.argument, thread.width);
        // CUDA leaves the value of an absent lane undefined; here a lane then keeps its own.
        thread.value = values[(rendezvous.arrived >> from & 1) != 0 ? from : lane];
      }
    }
    thread.at_collective = false;
    rendezvous.order.pass(tsan_[first_thread + lane]);
    make_ready(first_thread + lane);
  }
  rendezvous.order.close();
}

// The lane a shuffle reads from, as the PTX manual defines `shfl.sync`.
inline unsigned Worker::source_lane(Meeting meeting, unsigned lane, unsigned argument, int width) {
  const unsigned segment = ~(static_cast<unsigned>(width) - 1) & 31;
  const unsigned first = lane & segment;
  const unsigned last = first | (~segment & 31);
  argument &= 31;
  switch (meeting) {
    case Meeting::shfl:
      return first | (argument & ~segment & 31);
    case Meeting::shfl_up:
      return lane < first + argument ? lane : lane - argument;
    case Meeting::shfl_down:
      return lane + argument > last ? lane : lane + argument;
    case Meeting::shfl_xor:
      return (lane ^ argument) > last ? lane : lane ^ argument;
    default:
      return lane;
  }
}

// ----------------------------------------------------------------------------------------------------- shared memory

inline void* Worker::shared_array(const void* key, std::size_t bytes) {
  const ExecutorScope scope;
  std::size_t found = 0;
  while (found < sites_.size() && sites_[found].key != key) ++found;
  if (found == sites_.size()) sites_.push_back({key, allocate_shared(bytes), 0});
  SharedSite& site = sites_[found];
  if (site.block != block_serial_) {
    if (MERISTEM_TSAN && site.block != 0) {
      retired_.push_back(std::move(site.memory));
      site.memory = allocate_shared(bytes);
    }
    site.block = block_serial_;
    if (launch_->grid.options.poison_shared) std::memset(site.memory.get(), 0xff, bytes);
  }
  return site.memory.get();
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
    groups += concat("; ", at_barrier_, " of ", alive_, " threads, the first of them ", name_thread(first),
                     ", wait at ", name_of(barrier_meeting_), " in ", where.file, ":", where.line);
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

/// The calling operating system thread's worker.
inline Worker& local_worker() {
  static thread_local Worker worker;
  return worker;
}

/// Runs the grid on up to `workers` operating system threads. Rethrows the first exception of a kernel.
inline void run_grid(const Grid& grid, [[maybe_unused]] int workers) {
  if (current_worker != nullptr) {
    throw LaunchError(concat("kernel ", grid.name, " was launched from inside a kernel; launch from the host only"));
  }
  Launch launch(grid);
#if defined(_OPENMP) && !MERISTEM_TSAN
  if (workers > 1 && launch.block_count > 1) {
    const int team = static_cast<int>(std::min<std::int64_t>(workers, launch.block_count));
    launch.chunk = std::clamp<std::int64_t>(launch.block_count / (16 * std::int64_t{workers}), 1, 256);
#pragma omp parallel num_threads(team)
    {
      try {
        local_worker().run(launch);
      } catch (...) {
        launch.fail(std::current_exception());
      }
    }
  } else
#endif
  {
    local_worker().run(launch);
  }
  if (launch.error) std::rethrow_exception(launch.error);
}

}  // namespace meristem::inline MERISTEM_BACKEND::host
