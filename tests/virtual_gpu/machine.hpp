// What runs kernels: warps of 32 lanes in lock step, in blocks, one after the other.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "program.hpp"

namespace virtual_gpu {

inline constexpr u32 all_lanes = ~u32{0};
inline constexpr int warp_size = 32;

[[nodiscard]] inline bool has_lane(u32 lanes, int lane) { return (lanes >> lane & 1) != 0; }
[[nodiscard]] inline int first_lane(u32 lanes) { return __builtin_ctz(lanes); }

/// Calls f(lane) for every lane of the mask.
template <class F>
inline void for_lanes(u32 lanes, const F& f) {
  for (; lanes != 0; lanes &= lanes - 1) f(first_lane(lanes));
}

struct Extents {
  u32 x = 1, y = 1, z = 1;
  [[nodiscard]] u64 volume() const { return u64{x} * y * z; }
};

struct Block;

/// An asynchronous copy under way: the bytes arrive when its thread waits for them.
struct Copy {
  int lane;
  u32 group, bytes, source_bytes;
  u64 to, from;
};

struct Warp {
  /// Lanes that are at the same instruction, and what they wait for.
  struct Group {
    u32 at, lanes;
    enum State : u8 { ready, waits_for_lanes, waits_for_block } state;
  };
  char* registers = nullptr;
  u32* predicates = nullptr;
  char* local = nullptr;
  Block* block = nullptr;
  u32 index = 0;
  u32 active = 0;  // lanes that execute the instruction
  u32 alive = 0;
  std::vector<Group> groups;
  std::vector<Copy> copies;
  u32 copy_group[warp_size] = {};
  u32 syncs = 1;  // how often lanes of the warp have waited for each other

  template <class T>
  [[nodiscard]] T* lanes(u32 at) const {
    return reinterpret_cast<T*>(registers + at);
  }
  [[nodiscard]] u32 value(Predicate p) const { return predicates[p.number] ^ p.flip; }
  void set(u32 predicate, u32 bits) const {
    predicates[predicate] = (predicates[predicate] & ~active) | (bits & active);
  }
};

struct Block {
  Kernel* kernel = nullptr;
  Extents grid, extents, index;
  std::vector<Warp> warps;
  std::vector<char> shared, parameters;
  u64 dynamic_shared = 0;
  u64 device_token = 0, launch_token = 0;  // for Range
  u32 barriers = 0;                        // passed by the blocks of this launch, one more for each block
  u32 number = 0;                          // of the block in the grid
  int faults = 0;
};

/// Runs a kernel; `arguments` are pointers to its parameters. Faults are problems of the device.
void run_kernel(Kernel& kernel, Extents grid, Extents block, void** arguments, u64 dynamic_shared);

/// A problem at an instruction, with the place of the thread. At most three are told of a block's launch.
void fault(const Warp& warp, const Instruction& in, int lane, const std::string& what);

// Instructions that touch memory, for the parser.
[[nodiscard]] Execute load_operation(Type type, u32 register_bytes);
[[nodiscard]] Execute store_operation(Type type, u32 register_bytes);
[[nodiscard]] Execute load_parameter_operation(Type type, u32 register_bytes);
enum class Update : u8 { add, min, max, bit_and, bit_or, bit_xor, exchange, compare_and_swap, increment, decrement };
[[nodiscard]] Execute atomic_operation(Type type);
void start_copy(Warp& warp, const Instruction& in);
void commit_copies(Warp& warp, const Instruction& in);
void wait_for_copies(Warp& warp, const Instruction& in);
void finish_copies(Warp& warp, u32 lanes, u32 newest_groups);

// Instructions that a warp executes when the lanes of the member mask are together.
void shuffle(Warp& warp, const Instruction& in);
void vote(Warp& warp, const Instruction& in);
void warp_barrier(Warp& warp, const Instruction& in);

}  // namespace virtual_gpu
