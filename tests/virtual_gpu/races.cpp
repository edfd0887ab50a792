#include "races.hpp"

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "device.hpp"

namespace virtual_gpu {

namespace {

/// Who touched a byte of shared memory last, and when.
struct SharedShadow {
  struct Access {
    u32 barriers = 0, syncs = 0;
    u16 thread = 0;  // from 1
  } write, read;
  bool under_way = false;
};

/// What fences and atomics of a launch have ordered. Blocks run one after the other; of a block all threads count as
/// one, as barriers have to order them.
struct Fences {
  std::unordered_map<u64, std::unordered_set<u32>> released;  // by address: blocks whose fence came before an atomic
  std::unordered_set<u32> seen, acquired;                     // by the running block: before and after its fence
  u32 block = ~0u;
  bool fenced = false;  // and has written nothing since

  void enter(u32 number) {
    if (block == number) return;
    block = number;
    fenced = false;
    seen.clear();
    acquired.clear();
  }
} fences;

std::vector<SharedShadow> shared_shadows;
u32 launch = 0;

u16 thread_of(const Warp& warp, int lane) { return static_cast<u16>(warp.index * warp_size + lane + 1); }

// Threads of one warp are in order if they have waited for each other since.
bool in_order(const Warp& warp, u16 self, u16 other, u32 syncs) {
  if (other == self) return true;
  return other != memory::several && (other - 1u) / warp_size == warp.index && syncs != warp.syncs;
}

// Of several readers between two barriers the last one is kept, or that they are of several warps.
u16 joined_reader(const Warp& warp, u16 self, u16 before) {
  if (before == self || (before != memory::several && (before - 1u) / warp_size == warp.index)) return self;
  return memory::several;
}

std::string thread_name(u16 thread) {
  return thread == memory::several ? "several threads" : "thread " + std::to_string(thread - 1);
}

}  // namespace

void begin_race_checks(u64 shared_bytes) {
  ++launch;
  fences = {};
  shared_shadows.assign(shared_bytes, {});
}

void check_shared(const Warp& warp, const Instruction& in, int lane, u64 at, u64 bytes, Access access) {
  const u32 now = warp.block->barriers;
  const u16 self = thread_of(warp, lane);
  const bool writes = access != Access::read;
  for (u64 i = at; i < at + bytes; ++i) {
    SharedShadow& s = shared_shadows[i];
    if (s.under_way) {
      fault(warp, in, lane, "race: touches shared memory before the asynchronous copy to it was waited for");
      return;
    }
    const bool after_write = s.write.barriers == now && !in_order(warp, self, s.write.thread, s.write.syncs);
    const bool after_read = writes && s.read.barriers == now && !in_order(warp, self, s.read.thread, s.read.syncs);
    if (access != Access::atomic && (after_write || after_read)) {
      fault(warp, in, lane,
            std::string("race: ") + (writes ? "writes" : "reads") + " shared memory that " +
                thread_name(after_write ? s.write.thread : s.read.thread) + (after_write ? " writes" : " reads") +
                " with no barrier between");
      return;
    }
    if (writes) {
      s.write = {now, warp.syncs, self};
    } else {
      s.read = {now, warp.syncs, s.read.barriers == now ? joined_reader(warp, self, s.read.thread) : self};
    }
  }
}

void start_copy_to_shared(const Warp& warp, const Instruction& in, int lane, u64 at, u64 bytes) {
  check_shared(warp, in, lane, at, bytes, Access::write);
  for (u64 i = at; i < at + bytes; ++i) shared_shadows[i].under_way = true;
}

void finish_copy_to_shared(const Warp& warp, int lane, u64 at, u64 bytes) {
  for (u64 i = at; i < at + bytes; ++i) {
    shared_shadows[i].under_way = false;
    shared_shadows[i].write = {warp.block->barriers, warp.syncs, thread_of(warp, lane)};
  }
}

void check_device(const Warp& warp, const Instruction& in, int lane, u64 address, u64 bytes, Access access) {
  const Block& block = *warp.block;
  const u16 self = thread_of(warp, lane);
  const bool writes = access != Access::read;
  fences.enter(block.number);
  if (access == Access::write) fences.fenced = false;
  if (access == Access::atomic) {
    auto& released = fences.released[address];
    fences.seen.insert(released.begin(), released.end());
    if (fences.fenced) released.insert(block.number);
  }
  for (memory::Shadow* s = memory::shadow(address); s <= memory::shadow(address + bytes - 1); ++s) {
    if (access != Access::write && !s->written) {
      fault(warp, in, lane, "reads device memory that nobody wrote");
      s->written = true;
    }
    if (writes) s->written = true;
    // Smaller writes to one word may be of different threads.
    if (access == Access::atomic || bytes < 4) continue;
    const auto ordered = [&](const memory::Shadow::Access& other) {
      if (other.launch != launch) return true;
      if (other.block != block.number) return fences.acquired.contains(other.block);
      return other.barriers != block.barriers || in_order(warp, self, other.thread, other.syncs);
    };
    const bool after_write = !ordered(s->write), after_read = writes && !ordered(s->read);
    if (after_write || after_read) {
      const auto& other = after_write ? s->write : s->read;
      const std::string where = other.block == memory::several_blocks
                                    ? "threads of several blocks"
                                    : "block " + std::to_string(other.block) + " " + thread_name(other.thread);
      fault(warp, in, lane,
            std::string("race: ") + (writes ? "writes" : "reads") + " device memory that " + where +
                (after_write ? " writes" : " reads"));
      return;
    }
    if (writes) {
      s->write = {launch, block.number, block.barriers, warp.syncs, self};
    } else if (s->read.launch == launch && s->read.block != block.number) {
      s->read.block = memory::several_blocks;
    } else {
      const bool together = s->read.launch == launch && s->read.barriers == block.barriers;
      s->read = {launch, block.number, block.barriers, warp.syncs,
                 together ? joined_reader(warp, self, s->read.thread) : self};
    }
  }
}

void fence(Warp& warp, const Instruction&) {
  fences.enter(warp.block->number);
  fences.fenced = true;
  fences.acquired.insert(fences.seen.begin(), fences.seen.end());
}

}  // namespace virtual_gpu
