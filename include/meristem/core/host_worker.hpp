// The state of one operating system thread that runs blocks of a kernel, and CUDA's built-in variables. What it does is
// in host_scheduler.hpp (who runs next) and host_barriers.hpp (who waits for whom).
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

namespace meristem {
inline namespace MERISTEM_BACKEND {

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

}  // namespace MERISTEM_BACKEND
}  // namespace meristem

namespace meristem::host {

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

}  // namespace meristem::host
