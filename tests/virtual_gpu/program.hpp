// A kernel's PTX, decoded: what the parser makes of the text and the machine runs.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace virtual_gpu {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;

/// What the interpreter does not know, with the PTX that asks for it.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Types of PTX; the bits of predicates are kept by the warp, a bit a lane.
enum class Type : u8 { none, predicate, u8, s8, b8, u16, s16, b16, u32, s32, b32, u64, s64, b64, f32, f64 };

[[nodiscard]] Type type_of(std::string_view name);
[[nodiscard]] u32 bytes_of(Type type);

/// Address spaces as instructions name them.
enum class Space : u8 { generic, global, shared, local, parameter };

/// Where generic addresses lead to shared and local memory, and where the first shared array begins: 0 is nobody's.
inline constexpr u64 shared_window = u64{1} << 44, local_window = u64{3} << 43, window_bytes = u64{1} << 24;
inline constexpr u64 shared_begin = 1024;
/// Bytes between shared arrays that belong to none.
inline constexpr u64 shared_gap = 16;

/// What the scheduler of a warp does with an instruction; `warp` waits for the lanes of its member mask.
enum class Flow : u8 { next, branch, exit, trap, warp, block };

/// A predicate's number and what its bits are to be combined with by exclusive or. Number 0 is true, 1 is nobody's.
struct Predicate {
  u32 number = 0;
  u32 flip = 0;
};
inline constexpr u32 true_predicate = 0, unused_predicate = 1;

/// The memory that an instruction touched last: nearly always the next access is there too.
struct Range {
  u64 begin = 1, end = 0;
  u64 token = 0;  // of the launch or of the state of allocations it holds for
  enum Where : u8 { device, shared, local, parameters } where = device;
};

struct Warp;
struct Instruction;
using Execute = void (*)(Warp&, const Instruction&);

/// Operands are offsets into the warp's registers: 32 lanes of 4 or 8 bytes each, constants included.
struct Instruction {
  Execute execute = nullptr;
  Flow flow = Flow::next;
  u8 mode = 0;  // of operations with several forms
  Predicate guard;
  u32 result = 0;
  u32 source[4] = {};
  Predicate test;  // predicate operands
  Predicate second_test;
  u32 set = unused_predicate, set_complement = unused_predicate;  // predicate results
  u32 target = 0;                                                 // of a branch
  // Of accesses to memory.
  Space space = Space::generic;
  bool wide_address = true;
  u8 count = 1;         // elements of a vector
  u32 element[4] = {};  // their registers
  s64 offset = 0;       // added to the address
  s64 second_offset = 0;
  u32 bytes = 0;
  mutable Range last;
  u32 line = 0;
  mutable bool executed = false;
};
inline constexpr u32 no_register = ~u32{0};

struct Kernel {
  struct Constant {
    u32 at, bytes;
    u64 bits;
  };
  struct Special {
    std::string name;
    u32 at;
  };
  struct Parameter {
    u32 at, bytes;
  };
  struct SharedArray {
    std::string name;
    u64 at, bytes;
    bool dynamic;
  };
  std::string name;         // as people write it
  std::string unsupported;  // why it cannot be run, if it cannot
  std::vector<Instruction> code;
  std::vector<Constant> constants;
  std::vector<Special> specials;  // %tid.x and the like
  std::vector<Parameter> parameters;
  std::vector<SharedArray> shared;
  u32 register_bytes = 0, predicates = 2, parameter_bytes = 0, local_bytes = 0;
  u64 static_shared = 0;                             // without gaps
  u64 shared_end = shared_begin, dynamic_begin = 0;  // with them
  u32 most_threads = 1024;                           // __launch_bounds__
  u32 registers_per_thread = 0;                      // ptxas'; 0 where the program has no machine code
  u64 launches = 0, thread_instructions = 0;
  double seconds = 0.0;  // of the processor
};

/// The PTX of one object file and what ptxas made of it.
class Module {
 public:
  /// Reads the fat binary that the program registers.
  explicit Module(const char* fat_binary);
  /// The kernel of that mangled name, decoded when it is first asked for; null if there is none.
  [[nodiscard]] Kernel* kernel(const std::string& name);
  [[nodiscard]] const std::map<std::string, std::unique_ptr<Kernel>>& kernels() const { return kernels_; }

 private:
  void index();
  void read_registers(const char* elf);
  std::string_view text_;
  bool indexed_ = false;
  std::map<std::string, std::size_t> entries_;  // where the text behind the name begins
  std::map<std::string, u32> registers_;
  std::map<std::string, std::unique_ptr<Kernel>> kernels_;
};

/// Decodes the kernel whose text begins behind its name, at `at`; what cannot be is told in `unsupported`.
void parse_kernel(Kernel& kernel, std::string_view text, std::size_t at);

}  // namespace virtual_gpu
