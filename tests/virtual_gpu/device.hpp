// The device: its memory, streams and problems.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <string>

#include "program.hpp"

namespace virtual_gpu {

/// Whether races and reads of what nobody wrote are looked for: VIRTUAL_GPU_RACES=1.
inline const bool looks_for_races = std::getenv("VIRTUAL_GPU_RACES") != nullptr;

/// Records and prints a problem; the next synchronisation returns cudaErrorIllegalAddress, and a program that does not
/// take its problems ends with exit code 70.
void problem(const std::string& what);
/// Whether there was one since the last call.
[[nodiscard]] bool take_failure();

/// Device memory is mapped twice: where programs see it, nobody may touch it; the interpreter, copies and libraries use
/// the other mapping. What is fresh or freed holds NaN.
namespace memory {

enum class Kind : u8 { device, managed, pinned };  // the host may touch the last two
inline constexpr u64 capacity = u64{64} << 30;

/// A live block of memory.
struct Allocation {
  u64 begin, end;
  Kind kind;
};

/// Null if there is no room.
[[nodiscard]] void* allocate(std::size_t bytes, Kind kind);
/// False if that is no live block.
[[nodiscard]] bool release(void* pointer);
[[nodiscard]] bool is_device(const void* pointer);
[[nodiscard]] std::optional<Allocation> find(u64 address);
/// Changes with every allocation and release.
[[nodiscard]] u64 generation();
/// What to add to a device address for the address to use here.
[[nodiscard]] u64 alias();

/// The address to use for `bytes` at `pointer`, which may also be the host's. It is a problem if device memory does not
/// hold them all in one live block; `what` begins the sentence. Null then.
[[nodiscard]] char* usable(const void* pointer, u64 bytes, const std::string& what);

// Marks that find reads of what nobody wrote, if they are looked for: by device address, host addresses are ignored.
void mark_written(const void* pointer, u64 bytes);
[[nodiscard]] bool is_written(const void* pointer, u64 bytes);

/// Who touched 4 bytes of device memory last.
struct Shadow {
  struct Access {
    u32 launch, block, barriers, syncs;
    u16 thread;  // number in the block, from 1; `several` if two warps read
  } write, read;
  bool written;
};
inline constexpr u16 several = 0xffff;
inline constexpr u32 several_blocks = ~u32{0};
/// Null unless races are looked for.
[[nodiscard]] Shadow* shadow(u64 address);

}  // namespace memory
}  // namespace virtual_gpu
