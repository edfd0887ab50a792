// Where the threads of a block and the lanes of a warp wait for each other, and the shared memory between them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/host_order.hpp>
#include <meristem/core/host_sanitizer.hpp>
#include <meristem/core/host_worker.hpp>
#include <meristem/core/source_location.hpp>

namespace meristem::host {

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

}  // namespace meristem::host
