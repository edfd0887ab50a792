// Races and reads of what nobody wrote, found by remembering who touched what.
#pragma once
#include "machine.hpp"

namespace virtual_gpu {

enum class Access : u8 { read, write, atomic };

/// Checks and remembers an access of a lane to `bytes` of shared memory, from `at` in the block's array of it.
void check_shared(const Warp& warp, const Instruction& in, int lane, u64 at, u64 bytes, Access access);
/// The same for device memory at a device address.
void check_device(const Warp& warp, const Instruction& in, int lane, u64 address, u64 bytes, Access access);
/// A fence of the device: what the block wrote before is in order for blocks that see, by an atomic and a fence behind
/// it, an atomic of this block behind the fence.
void fence(Warp& warp, const Instruction& in);
/// Asynchronous copies: nobody may touch their target until its thread has waited; then it is written.
void start_copy_to_shared(const Warp& warp, const Instruction& in, int lane, u64 at, u64 bytes);
void finish_copy_to_shared(const Warp& warp, int lane, u64 at, u64 bytes);
/// Before a launch, with the bytes of shared memory.
void begin_race_checks(u64 shared_bytes);

}  // namespace virtual_gpu
