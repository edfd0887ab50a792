// Loads, stores, atomic updates and asynchronous copies.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>

#include "device.hpp"
#include "machine.hpp"
#include "races.hpp"

#define VIRTUAL_GPU_LANES for (int lane = 0; lane < warp_size; ++lane)

namespace virtual_gpu {

namespace {

constexpr u64 not_a_number = ~u64{0};

/// What an instruction reads or writes: addresses of lanes that are off are those of one that is on. Of `differ` a bit
/// is set where two lanes differ, of `bits` where one has it.
struct Addresses {
  u64 lane[warp_size];
  u64 differ, bits;
};

Addresses addresses_of(const Warp& warp, const Instruction& in) {
  Addresses result;
  const u32 active = warp.active;
  const int first = first_lane(active);
  const auto fill = [&](const auto* from) {
    const u64 offset = static_cast<u64>(in.offset), other = from[first] + offset;
    u64 differ = 0, bits = 0;
    if (active == all_lanes) {
      VIRTUAL_GPU_LANES {
        const u64 address = from[lane] + offset;
        result.lane[lane] = address;
        differ |= address ^ other;
        bits |= address;
      }
    } else {
      VIRTUAL_GPU_LANES {
        const u64 own = from[lane] + offset, on = u64{0} - (active >> lane & 1), address = (own & on) | (other & ~on);
        result.lane[lane] = address;
        differ |= address ^ other;
        bits |= address;
      }
    }
    result.differ = differ, result.bits = bits;
  };
  if (in.wide_address) {
    fill(warp.lanes<u64>(in.source[0]));
  } else {
    fill(warp.lanes<u32>(in.source[0]));
  }
  return result;
}

std::string place(u64 address) {
  char text[32];
  std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(address));
  return text;
}

/// Finds what memory an address leads to and remembers it in `in.last`. Returns what is wrong with it, nothing if
/// nothing.
std::string find_range(const Warp& warp, const Instruction& in, u64 address, u64 bytes) {
  const Block& block = *warp.block;
  const std::string size = std::to_string(bytes) + " bytes of ";
  if (address % bytes != 0) return size + "memory at " + place(address) + ", which is not aligned to as many";
  const bool generic = in.space == Space::generic;
  const u64 shared_base = generic ? shared_window : 0, local_base = generic ? local_window : 0;
  if (in.space == Space::shared || (generic && address - shared_window < window_bytes)) {
    const u64 at = address - shared_base;
    for (const auto& array : block.kernel->shared) {
      const u64 end = array.at + (array.dynamic ? block.dynamic_shared : array.bytes);
      if (at < array.at || at >= end || end - at < bytes) continue;
      in.last = {shared_base + array.at, shared_base + end, block.launch_token, Range::shared};
      return {};
    }
    return size + "shared memory outside of its arrays, at offset " +
           std::to_string(static_cast<s64>(at - shared_begin));
  }
  if (in.space == Space::local || (generic && address - local_window < window_bytes)) {
    const u64 at = address - local_base, end = block.kernel->local_bytes;
    if (at >= end || end - at < bytes) return size + "local memory outside of its arrays";
    in.last = {local_base, local_base + end, block.launch_token, Range::local};
    return {};
  }
  if (in.space == Space::parameter) {
    const u64 end = block.parameters.size();
    if (address >= end || end - address < bytes) return size + "parameters outside of them";
    in.last = {0, end, block.launch_token, Range::parameters};
    return {};
  }
  const auto found = memory::find(address);
  if (found && found->end - address >= bytes) {
    in.last = {found->begin, found->end, block.device_token, Range::device};
    return {};
  }
  const auto before = memory::find(address - 1);
  return size + "device memory outside of live allocations, at " + place(address) +
         (before ? ", behind one of " + std::to_string(before->end - before->begin) + " bytes" : "");
}

bool holds(const Warp& warp, const Range& range) {
  return range.token == (range.where == Range::device ? warp.block->device_token : warp.block->launch_token);
}

bool is_within(const Warp& warp, const Range& range, u64 address, u64 bytes) {
  return holds(warp, range) && address >= range.begin && address < range.end && range.end - address >= bytes;
}

/// The same for all lanes. Ranges are shorter than 2^63: the sign tells which numbers are negative.
bool are_within(const Warp& warp, const Range& range, const Addresses& at, u64 bytes) {
  if (!holds(warp, range)) return false;
  const u64 last = range.end - range.begin - bytes;
  u64 outside = last;
  VIRTUAL_GPU_LANES {
    const u64 offset = at.lane[lane] - range.begin;
    outside |= offset | (last - offset);
  }
  return outside >> 63 == 0;
}

/// What to add to a lane's address for where it leads.
u64 base_of(const Warp& warp, const Instruction& in, int lane) {
  const u64 window = in.space != Space::generic ? 0 : in.last.where == Range::shared ? shared_window : local_window;
  switch (in.last.where) {
    case Range::device:
      return memory::alias();
    case Range::parameters:
      return reinterpret_cast<u64>(warp.block->parameters.data());
    case Range::shared:
      return reinterpret_cast<u64>(warp.block->shared.data()) - window;
    default:
      return reinterpret_cast<u64>(warp.local) + u64(lane) * warp.block->kernel->local_bytes - window;
  }
}

/// Where a lane's access leads, checked; null after a fault.
char* locate(const Warp& warp, const Instruction& in, int lane, u64 address, u64 bytes, const char* does,
             Access access) {
  if (!is_within(warp, in.last, address, bytes) || address % bytes != 0) {
    const std::string wrong = find_range(warp, in, address, bytes);
    if (!wrong.empty()) {
      fault(warp, in, lane, does + (" " + wrong));
      return nullptr;
    }
  }
  char* const result = reinterpret_cast<char*>(address + base_of(warp, in, lane));
  if (looks_for_races) {
    if (in.last.where == Range::device) check_device(warp, in, lane, address, bytes, access);
    if (in.last.where == Range::shared) {
      check_shared(warp, in, lane, static_cast<u64>(result - warp.block->shared.data()), bytes, access);
    }
  }
  return result;
}

/// Adds to the lanes' addresses what leads to their memory, if all are aligned and within what the instruction touched
/// last, which is how nearly all are.
bool locate_all(const Warp& warp, const Instruction& in, Addresses& at, u64 bytes) {
  if (looks_for_races || (at.bits & (bytes - 1)) != 0) return false;
  if (!are_within(warp, in.last, at, bytes)) {
    if (!find_range(warp, in, at.lane[first_lane(warp.active)], bytes).empty()) return false;
    if (!are_within(warp, in.last, at, bytes)) return false;
  }
  const u64 base = base_of(warp, in, 0);
  const u64 step = in.last.where == Range::local ? warp.block->kernel->local_bytes : 0;
  VIRTUAL_GPU_LANES at.lane[lane] += base + u64(lane) * step;
  return true;
}

template <class T>
T read(u64 address) {
  T value;
  std::memcpy(&value, reinterpret_cast<const char*>(address), sizeof value);
  return value;
}

// Lanes one element after the other, as most are.
bool is_contiguous(const Addresses& at, u64 bytes) {
  u64 out_of_place = 0;
  VIRTUAL_GPU_LANES out_of_place |= (at.lane[lane] - at.lane[0]) ^ (u64(lane) * bytes);
  return out_of_place == 0;
}

template <class T, class Register>
Register extended(T value) {
  return static_cast<Register>(static_cast<std::conditional_t<std::is_signed_v<T>, s64, u64>>(value));
}

template <class T, class Register>
void load(Warp& warp, const Instruction& in) {
  const u64 bytes = sizeof(T) * in.count;
  const u32 active = warp.active;
  Addresses at = addresses_of(warp, in);
  if (locate_all(warp, in, at, bytes)) {
    const bool uniform = at.differ == 0 && in.last.where != Range::local;
    for (int i = 0; i < in.count; ++i) {
      if (in.element[i] == no_register) continue;
      auto* const result = warp.lanes<Register>(in.element[i]);
      const u64 skip = u64(i) * sizeof(T);
      if (uniform) {
        const auto value = extended<T, Register>(read<T>(at.lane[0] + skip));
        VIRTUAL_GPU_LANES result[lane] = has_lane(active, lane) ? value : result[lane];
      } else if (sizeof(T) == sizeof(Register) && in.count == 1 && active == all_lanes && is_contiguous(at, bytes)) {
        std::memcpy(result, reinterpret_cast<const char*>(at.lane[0]), warp_size * sizeof(Register));
      } else {
        VIRTUAL_GPU_LANES {
          const auto value = extended<T, Register>(read<T>(at.lane[lane] + skip));
          result[lane] = has_lane(active, lane) ? value : result[lane];
        }
      }
    }
    return;
  }
  char* place[warp_size] = {};
  for_lanes(active,
            [&](int lane) { place[lane] = locate(warp, in, lane, at.lane[lane], bytes, "reads", Access::read); });
  for (int i = 0; i < in.count; ++i) {
    if (in.element[i] == no_register) continue;
    auto* const result = warp.lanes<Register>(in.element[i]);
    for_lanes(active, [&](int lane) {
      const char* const from = place[lane];
      result[lane] = from ? extended<T, Register>(read<T>(reinterpret_cast<u64>(from) + u64(i) * sizeof(T)))
                          : static_cast<Register>(not_a_number);
    });
  }
}

template <class T, class Register>
void store(Warp& warp, const Instruction& in) {
  const u64 bytes = sizeof(T) * in.count;
  Addresses at = addresses_of(warp, in);
  const auto put = [&](int lane, u64 address) {
    for (int i = 0; i < in.count; ++i) {
      const auto value = static_cast<T>(warp.lanes<Register>(in.element[i])[lane]);
      std::memcpy(reinterpret_cast<char*>(address) + u64(i) * sizeof(T), &value, sizeof value);
    }
  };
  if (locate_all(warp, in, at, bytes)) {
    if (sizeof(T) == sizeof(Register) && in.count == 1 && warp.active == all_lanes && is_contiguous(at, bytes)) {
      std::memcpy(reinterpret_cast<char*>(at.lane[0]), warp.lanes<Register>(in.element[0]),
                  warp_size * sizeof(Register));
    } else {
      for_lanes(warp.active, [&](int lane) { put(lane, at.lane[lane]); });
    }
    return;
  }
  for_lanes(warp.active, [&](int lane) {
    const char* const to = locate(warp, in, lane, at.lane[lane], bytes, "writes", Access::write);
    if (to) put(lane, reinterpret_cast<u64>(to));
  });
}

template <class T>
T updated(Update how, T old, T operand, T swap) {
  switch (how) {
    case Update::add:
      return static_cast<T>(old + operand);
    case Update::min:
      return operand < old ? operand : old;
    case Update::max:
      return operand > old ? operand : old;
    case Update::exchange:
      return operand;
    case Update::increment:
      return old >= operand ? T{0} : static_cast<T>(old + 1);
    case Update::decrement:
      return old == T{0} || old > operand ? operand : static_cast<T>(old - 1);
    case Update::compare_and_swap:
      return std::memcmp(&old, &operand, sizeof old) == 0 ? swap : old;
    default:
      break;
  }
  if constexpr (std::is_integral_v<T>) {
    return how == Update::bit_and ? old & operand : how == Update::bit_or ? old | operand : old ^ operand;
  }
  return old;
}

template <class T>
void update(Warp& warp, const Instruction& in) {
  const Addresses at = addresses_of(warp, in);
  const auto how = static_cast<Update>(in.mode);
  for_lanes(warp.active, [&](int lane) {
    char* const to = locate(warp, in, lane, at.lane[lane], sizeof(T), "updates", Access::atomic);
    if (!to) return;
    const T old = read<T>(reinterpret_cast<u64>(to)), operand = warp.lanes<T>(in.source[1])[lane];
    const T swap = how == Update::compare_and_swap ? warp.lanes<T>(in.source[2])[lane] : T{};
    const T value = updated(how, old, operand, swap);
    std::memcpy(to, &value, sizeof value);
    if (in.result != no_register) warp.lanes<T>(in.result)[lane] = old;
  });
}

template <class T, class Register>
void load_parameter(Warp& warp, const Instruction& in) {
  const char* const from = warp.block->parameters.data() + in.offset;
  for (int i = 0; i < in.count; ++i) {
    if (in.element[i] == no_register) continue;
    auto* const result = warp.lanes<Register>(in.element[i]);
    const auto value = extended<T, Register>(read<T>(reinterpret_cast<u64>(from) + u64(i) * sizeof(T)));
    VIRTUAL_GPU_LANES result[lane] = has_lane(warp.active, lane) ? value : result[lane];
  }
}

/// f(a value of the type that memory holds, one of the register's type).
template <class F>
Execute of_memory(Type type, u32 register_bytes, const F& f) {
  const auto with = [&](auto held) { return register_bytes == 8 ? f(held, u64{}) : f(held, u32{}); };
  switch (type) {
    case Type::s8:
      return with(s8{});
    case Type::s16:
      return with(s16{});
    case Type::s32:
      return with(s32{});
    default:
      break;
  }
  switch (bytes_of(type)) {
    case 1:
      return with(u8{});
    case 2:
      return with(u16{});
    case 4:
      return with(u32{});
    case 8:
      return with(u64{});
    default:
      throw Unsupported("the type of");
  }
}

}  // namespace

Execute load_operation(Type type, u32 register_bytes) {
  return of_memory(type, register_bytes, []<class T, class R>(T, R) -> Execute { return &load<T, R>; });
}

Execute store_operation(Type type, u32 register_bytes) {
  return of_memory(type, register_bytes, []<class T, class R>(T, R) -> Execute { return &store<T, R>; });
}

Execute load_parameter_operation(Type type, u32 register_bytes) {
  return of_memory(type, register_bytes, []<class T, class R>(T, R) -> Execute { return &load_parameter<T, R>; });
}

Execute atomic_operation(Type type) {
  switch (type) {
    case Type::u32:
    case Type::b32:
      return &update<u32>;
    case Type::s32:
      return &update<s32>;
    case Type::u64:
    case Type::b64:
      return &update<u64>;
    case Type::s64:
      return &update<s64>;
    case Type::f32:
      return &update<float>;
    case Type::f64:
      return &update<double>;
    default:
      throw Unsupported("the type of");
  }
}

// source[0] + offset: to shared memory; source[1] + second_offset: from device memory; source[2]: bytes to read, of
// `bytes`, the others become zero.
void start_copy(Warp& warp, const Instruction& in) {
  const Addresses to = addresses_of(warp, in);
  for_lanes(warp.active, [&](int lane) {
    const u64 from = warp.lanes<u64>(in.source[1])[lane] + static_cast<u64>(in.second_offset);
    const u32 read_bytes = in.mode == 0 ? in.bytes : std::min(in.bytes, warp.lanes<u32>(in.source[2])[lane]);
    const u64 at = to.lane[lane];
    const std::string wrong = find_range(warp, in, at, in.bytes);
    if (!wrong.empty()) {
      fault(warp, in, lane, "copies to " + wrong);
      return;
    }
    if (from % in.bytes != 0) {
      fault(warp, in, lane, "copies " + std::to_string(in.bytes) + " bytes of device memory not aligned to as many");
      return;
    }
    const auto source = read_bytes > 0 ? memory::find(from) : std::nullopt;
    if (read_bytes > 0 && (!source || source->end - from < read_bytes)) {
      fault(warp, in, lane, "copies device memory outside of live allocations, at " + place(from));
      return;
    }
    if (looks_for_races) {
      start_copy_to_shared(warp, in, lane, at, in.bytes);
      if (read_bytes > 0) check_device(warp, in, lane, from, read_bytes, Access::read);
    }
    std::memset(warp.block->shared.data() + at, 0xff, in.bytes);  // not there before the wait
    warp.copies.push_back({lane, warp.copy_group[lane], in.bytes, read_bytes, at, from});
  });
}

void finish_copies(Warp& warp, u32 lanes, u32 newest_groups) {
  std::erase_if(warp.copies, [&](const Copy& copy) {
    if (!has_lane(lanes, copy.lane) || copy.group + newest_groups >= warp.copy_group[copy.lane]) return false;
    char* const to = warp.block->shared.data() + copy.to;
    std::memcpy(to, reinterpret_cast<const char*>(copy.from + memory::alias()), copy.source_bytes);
    std::memset(to + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
    if (looks_for_races) finish_copy_to_shared(warp, copy.lane, copy.to, copy.bytes);
    return true;
  });
}

void commit_copies(Warp& warp, const Instruction&) {
  for_lanes(warp.active, [&](int lane) { ++warp.copy_group[lane]; });
}

// mode 1: cp.async.wait_all, which commits what is not.
void wait_for_copies(Warp& warp, const Instruction& in) {
  if (in.mode == 1) commit_copies(warp, in);
  finish_copies(warp, warp.active, static_cast<u32>(in.offset));
}

}  // namespace virtual_gpu
