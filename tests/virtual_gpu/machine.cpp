#include "machine.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>
#include <random>
#include <string_view>

#include "device.hpp"
#include "races.hpp"

namespace virtual_gpu {

namespace {

constexpr u32 nowhere = ~u32{0};

/// In which order warps run between barriers: 0 ascending, 1 descending, others shuffled. VIRTUAL_GPU_ORDER.
int order_of_warps() {
  static const char* const text = std::getenv("VIRTUAL_GPU_ORDER");
  static const int value = text ? std::atoi(text) : 0;
  return value;
}

void add_group(Warp& warp, u32 at, u32 lanes, Warp::Group::State state) {
  for (auto& group : warp.groups) {
    if (group.at == at && group.state == state) {
      group.lanes |= lanes;
      return;
    }
  }
  warp.groups.push_back({at, lanes, state});
}

/// Takes out the lanes that are at `at` in a state.
u32 take_group(Warp& warp, u32 at, Warp::Group::State state) {
  u32 lanes = 0;
  std::erase_if(warp.groups, [&](const Warp::Group& group) {
    if (group.at != at || group.state != state) return false;
    lanes |= group.lanes;
    return true;
  });
  return lanes;
}

u32 lowest_ready(const Warp& warp) {
  u32 lowest = nowhere;
  for (const auto& group : warp.groups) {
    if (group.state == Warp::Group::ready) lowest = std::min(lowest, group.at);
  }
  return lowest;
}

/// Runs an instruction of which the lanes of a mask take part together, for all masks of which the lanes are here.
/// Returns the lanes that have to wait for others.
u32 run_together(Warp& warp, const Instruction& in, u32 here) {
  const u32* const members_of = warp.lanes<u32>(in.source[3]);
  u32 waiting = 0;
  for (u32 left = here; left != 0;) {
    const u32 members = members_of[first_lane(left)];
    u32 together = 0;
    for_lanes(left, [&](int lane) { together |= u32{members_of[lane] == members} << lane; });
    left &= ~together;
    if (together & ~members) {
      fault(warp, in, first_lane(together & ~members),
            "a lane is not in the member mask of its own shuffle, vote or barrier");
    }
    if (members & warp.alive & ~together) {
      waiting |= together;
    } else {
      warp.active = together;
      in.execute(warp, in);
      ++warp.syncs;
    }
  }
  return waiting;
}

/// Runs the warp until its lanes are gone, wait at a barrier of the block or for lanes that are elsewhere. Lanes that
/// are furthest behind go first, and join those they catch up with. Returns the instructions, counted by thread.
u64 run_warp(Warp& warp) {
  using Group = Warp::Group;
  const Instruction* const code = warp.block->kernel->code.data();
  u64 instructions = 0;
  for (;;) {
    u32 at = lowest_ready(warp);
    if (at == nowhere) return instructions;
    u32 here = take_group(warp, at, Group::ready);
    u32 next = lowest_ready(warp);  // where others wait
    while (here != 0) {
      if (at >= next) {
        if (at == next) {
          here |= take_group(warp, at, Group::ready);
          next = lowest_ready(warp);
        } else {
          add_group(warp, at, here, Group::ready);
          break;
        }
      }
      const Instruction& in = code[at];
      in.executed = true;
      const u32 active = here & warp.value(in.guard);
      instructions += static_cast<u64>(__builtin_popcount(active));
      switch (in.flow) {
        case Flow::next:
          if (active != 0) {
            warp.active = active;
            in.execute(warp, in);
          }
          ++at;
          break;
        case Flow::branch: {
          const u32 stay = here & ~active;
          if (stay == 0) {
            at = in.target;
          } else if (active == 0) {
            ++at;
          } else {
            const u32 later = std::max(in.target, at + 1);
            add_group(warp, later, in.target > at ? active : stay, Group::ready);
            here = in.target > at ? stay : active;
            at = std::min(in.target, at + 1);
            next = std::min(next, later);
          }
          break;
        }
        case Flow::trap:
          if (active != 0) fault(warp, in, first_lane(active), "a trap");
          [[fallthrough]];
        case Flow::exit:
          warp.alive &= ~active;
          here &= ~active;
          ++at;
          // Nobody waits for lanes that are gone.
          for (auto& group : warp.groups) {
            if (group.state == Group::waits_for_lanes) group.state = Group::ready;
          }
          next = lowest_ready(warp);
          break;
        case Flow::warp: {
          if (active == 0) {
            ++at;
            break;
          }
          if (active != here) {
            add_group(warp, at + 1, here & ~active, Group::ready);
            next = std::min(next, at + 1);
          }
          here = active | take_group(warp, at, Group::waits_for_lanes);
          const u32 waiting = run_together(warp, in, here);
          if (waiting != 0) add_group(warp, at, waiting, Group::waits_for_lanes);
          here &= ~waiting;
          ++at;
          break;
        }
        case Flow::block:
          if (here != active) add_group(warp, at + 1, here & ~active, Group::ready);
          if (active != 0) add_group(warp, at, active, Group::waits_for_block);
          here = 0;
          break;
      }
    }
  }
}

/// When nothing moves any more: whether all that are left wait at a barrier. Tells what is wrong with how they do.
bool all_wait_at_barrier(Block& block) {
  const auto& code = block.kernel->code;
  u32 at = nowhere;
  bool stuck = false;
  for (const Warp& warp : block.warps) {
    for (const auto& group : warp.groups) {
      const Instruction& in = code[group.at];
      if (group.state == Warp::Group::waits_for_lanes) {
        fault(warp, in, first_lane(group.lanes), "a shuffle, vote or __syncwarp waits for lanes that do not come");
        stuck = true;
      } else if (group.lanes != warp.alive) {
        fault(warp, in, first_lane(group.lanes), "a barrier of the block in code where lanes of a warp diverge");
      } else if (at != nowhere && at != group.at) {
        fault(warp, in, first_lane(group.lanes),
              "threads of a block wait at different barriers, others at PTX line " + std::to_string(code[at].line));
      }
      at = group.at;
    }
  }
  return at != nowhere && !stuck;
}

// Forms of barriers; all but `plain` combine a predicate of the threads.
enum class Reduction : u8 { plain, count, all, any };

void pass_barrier(Block& block) {
  ++block.barriers;
  u32 count = 0;
  bool all = true;
  const auto& code = block.kernel->code;
  for (const Warp& warp : block.warps) {
    for (const auto& group : warp.groups) {
      const u32 votes = warp.value(code[group.at].test) & group.lanes;
      count += static_cast<u32>(__builtin_popcount(votes));
      all = all && votes == group.lanes;
    }
  }
  for (Warp& warp : block.warps) {
    for (auto& group : warp.groups) {
      const Instruction& in = code[group.at];
      warp.active = group.lanes;
      const auto reduction = static_cast<Reduction>(in.mode);
      if (reduction == Reduction::count)
        for_lanes(group.lanes, [&](int lane) { warp.lanes<u32>(in.result)[lane] = count; });
      if (reduction == Reduction::all) warp.set(in.set, all ? all_lanes : 0);
      if (reduction == Reduction::any) warp.set(in.set, count > 0 ? all_lanes : 0);
      group.state = Warp::Group::ready;
      ++group.at;
    }
  }
}

u32 component(const Extents& e, char axis) { return axis == 'x' ? e.x : axis == 'y' ? e.y : e.z; }

Extents place_of(u32 thread, const Extents& e) { return {thread % e.x, thread / e.x % e.y, thread / e.x / e.y}; }

/// Writes %tid.x and the like.
void set_special(const Warp& warp, const Kernel::Special& special) {
  const Block& block = *warp.block;
  const std::string_view name = special.name;
  const char axis = name.back();
  u32* const to = warp.lanes<u32>(special.at);
  const auto each = [&](const auto& value) {
    for (int lane = 0; lane < warp_size; ++lane) to[lane] = value(lane);
  };
  const auto all = [&](u32 value) { std::fill_n(to, warp_size, value); };
  if (name.starts_with("%tid.")) {
    each([&](int lane) {
      return component(place_of(warp.index * warp_size + static_cast<u32>(lane), block.extents), axis);
    });
  } else if (name.starts_with("%ntid.")) {
    all(component(block.extents, axis));
  } else if (name.starts_with("%ctaid.")) {
    all(component(block.index, axis));
  } else if (name.starts_with("%nctaid.")) {
    all(component(block.grid, axis));
  } else if (name == "%laneid") {
    each([](int lane) { return static_cast<u32>(lane); });
  } else if (name == "%warpid") {
    all(warp.index);
  } else if (name == "%nwarpid") {
    all(static_cast<u32>(block.warps.size()));
  } else if (name == "%dynamic_smem_size") {
    all(static_cast<u32>(block.dynamic_shared));
  } else if (name == "%lanemask_eq") {
    each([](int lane) { return 1u << lane; });
  } else if (name == "%lanemask_lt") {
    each([](int lane) { return (1u << lane) - 1; });
  } else if (name == "%lanemask_le") {
    each([](int lane) { return (2u << lane) - 1; });
  } else if (name == "%lanemask_gt") {
    each([](int lane) { return ~((2u << lane) - 1); });
  } else {  // %lanemask_ge
    each([](int lane) { return ~((1u << lane) - 1); });
  }
}

/// Registers and local memory of a block's warps, kept from launch to launch.
struct Store {
  std::vector<u64> registers;
  std::vector<u32> predicates;
  std::vector<char> local;
  const Kernel* kernel = nullptr;  // whose constants are in the registers of so many warps
  std::size_t warps = 0;
};

void set_constants(const Warp& warp) {
  for (const auto& constant : warp.block->kernel->constants) {
    if (constant.bytes == 8) {
      std::fill_n(warp.lanes<u64>(constant.at), warp_size, constant.bits);
    } else {
      std::fill_n(warp.lanes<u32>(constant.at), warp_size, static_cast<u32>(constant.bits));
    }
  }
}

void place_warps(Block& block, Store& store) {
  const Kernel& kernel = *block.kernel;
  const std::size_t warps = (block.extents.volume() + warp_size - 1) / warp_size;
  constexpr std::size_t line = 64;  // registers begin at a cache line
  const std::size_t stride = (kernel.register_bytes + line - 1) / line * line;
  if (store.registers.size() * sizeof(u64) < stride * warps + line)
    store.registers.resize((stride * warps + line) / sizeof(u64) + 1);
  store.predicates.assign(kernel.predicates * warps, 0);
  store.local.assign(std::size_t{kernel.local_bytes} * warp_size * warps, '\xff');
  const auto begin = reinterpret_cast<std::uintptr_t>(store.registers.data());
  char* const registers = reinterpret_cast<char*>((begin + line - 1) / line * line);
  block.warps.resize(warps);
  const bool constants_are_there = store.kernel == &kernel && store.warps >= warps;
  store.kernel = &kernel;
  store.warps = warps;
  for (u32 i = 0; i < warps; ++i) {
    Warp& warp = block.warps[i];
    warp.registers = registers + stride * i;
    warp.predicates = store.predicates.data() + kernel.predicates * i;
    warp.predicates[true_predicate] = all_lanes;
    warp.local = store.local.data() + std::size_t{kernel.local_bytes} * warp_size * i;
    warp.block = &block;
    warp.index = i;
    if (!constants_are_there) set_constants(warp);
    for (const auto& special : kernel.specials) set_special(warp, special);
  }
}

u64 run_block(Block& block, std::vector<u32>& order, std::optional<std::mt19937>& random) {
  const Kernel& kernel = *block.kernel;

  std::memset(block.shared.data(), 0xff, kernel.shared_end);
  std::memset(block.shared.data() + kernel.dynamic_begin, 0xff, block.dynamic_shared);
  ++block.barriers;
  block.number = (block.index.z * block.grid.y + block.index.y) * block.grid.x + block.index.x;
  const u64 threads = block.extents.volume();
  for (Warp& warp : block.warps) {
    const u64 lanes = std::min<u64>(warp_size, threads - u64{warp.index} * warp_size);
    warp.alive = lanes == warp_size ? all_lanes : (1u << lanes) - 1;
    warp.groups.assign(1, {0, warp.alive, Warp::Group::ready});
    warp.copies.clear();
    std::fill_n(warp.copy_group, warp_size, 0);
    for (const auto& special : kernel.specials) {
      if (special.name.starts_with("%ctaid.")) set_special(warp, special);
    }
  }
  u64 instructions = 0;
  for (;;) {
    if (random) std::shuffle(order.begin(), order.end(), *random);
    for (const u32 i : order) instructions += run_warp(block.warps[i]);
    if (!all_wait_at_barrier(block)) return instructions;
    pass_barrier(block);
  }
}

}  // namespace

void fault(const Warp& warp, const Instruction& in, int lane, const std::string& what) {
  Block& block = *warp.block;
  if (++block.faults > 3) return;
  const auto text = [](const Extents& e) {
    return '(' + std::to_string(e.x) + ", " + std::to_string(e.y) + ", " + std::to_string(e.z) + ')';
  };
  problem(what + " in block " + text(block.index) + " thread " +
          text(place_of(warp.index * warp_size + static_cast<u32>(lane), block.extents)) + ", PTX line " +
          std::to_string(in.line) + " of " + block.kernel->name);
}

void run_kernel(Kernel& kernel, Extents grid, Extents extents, void** arguments, u64 dynamic_shared) {
  const std::clock_t start = std::clock();
  static Store store;
  static Block block;
  static u64 launches = 0;
  block.kernel = &kernel;
  block.grid = grid;
  block.extents = extents;
  block.dynamic_shared = dynamic_shared;
  block.device_token = memory::generation();
  block.launch_token = ++launches;
  block.faults = 0;
  block.parameters.assign(kernel.parameter_bytes, 0);
  for (std::size_t i = 0; i < kernel.parameters.size(); ++i) {
    std::memcpy(block.parameters.data() + kernel.parameters[i].at, arguments[i], kernel.parameters[i].bytes);
  }
  block.shared.resize(std::max<u64>(block.shared.size(), kernel.dynamic_begin + dynamic_shared));
  if (looks_for_races) begin_race_checks(kernel.dynamic_begin + dynamic_shared);
  place_warps(block, store);
  std::vector<u32> order(block.warps.size());
  for (u32 i = 0; i < order.size(); ++i) order[i] = order_of_warps() == 1 ? static_cast<u32>(order.size()) - 1 - i : i;
  std::optional<std::mt19937> random;  // slow to make
  if (order_of_warps() > 1) random.emplace(order_of_warps());
  u64 instructions = 0;
  for (u32 z = 0; z < grid.z; ++z) {
    for (u32 y = 0; y < grid.y; ++y) {
      for (u32 x = 0; x < grid.x; ++x) {
        block.index = {x, y, z};
        instructions += run_block(block, order, random);
      }
    }
  }
  kernel.launches += 1;
  kernel.thread_instructions += instructions;
  kernel.seconds += static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

// The lane that `source[1]` names, by the clamp and segment mask of source[2]; a lane that takes no part gives NaN.
void shuffle(Warp& warp, const Instruction& in) {
  enum { up, down, butterfly, index };
  const u32* const value = warp.lanes<u32>(in.source[0]);
  const u32* const argument = warp.lanes<u32>(in.source[1]);
  const u32* const clamp = warp.lanes<u32>(in.source[2]);
  u32 results[warp_size];
  u32 valid = 0;
  for_lanes(warp.active, [&](int lane) {
    const int by = static_cast<int>(argument[lane] & 31), bound = static_cast<int>(clamp[lane] & 31);
    const int segment = static_cast<int>(clamp[lane] >> 8 & 31);
    const int first = lane & segment, last = first | (bound & ~segment);
    int other = first | (by & ~segment);
    if (in.mode == up) other = lane - by;
    if (in.mode == down) other = lane + by;
    if (in.mode == butterfly) other = lane ^ by;
    const bool inside = in.mode == up ? other >= last : other <= last;
    if (!inside) other = lane;
    results[lane] = has_lane(warp.active, other) ? value[other] : all_lanes;
    valid |= u32{inside} << lane;
  });
  u32* const result = warp.lanes<u32>(in.result);
  for_lanes(warp.active, [&](int lane) { result[lane] = results[lane]; });
  warp.set(in.set, valid);
}

void vote(Warp& warp, const Instruction& in) {
  enum { all, any, uniform, ballot };
  const u32 votes = warp.value(in.test) & warp.active;
  const bool none = votes == 0, every = votes == warp.active;
  if (in.mode == ballot) {
    for_lanes(warp.active, [&](int lane) { warp.lanes<u32>(in.result)[lane] = votes; });
  } else {
    const bool result = in.mode == all ? every : in.mode == any ? !none : none || every;
    warp.set(in.set, result ? all_lanes : 0);
  }
}

void warp_barrier(Warp&, const Instruction&) {}

}  // namespace virtual_gpu
