// Instructions between registers: arithmetic, conversions, comparisons, bits.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "program.hpp"

namespace virtual_gpu {

/// A PTX opcode taken apart: setp.lt.and.s32 is setp, with lt and and, of s32.
struct Opcode {
  explicit Opcode(std::string_view text);
  [[nodiscard]] bool has(std::string_view modifier) const;
  std::string_view text, name;
  std::vector<std::string_view> modifiers;  // the type included
  Type type = Type::none;                   // the last modifier's
  Type other_type = Type::none;             // the one before it, of conversions
};

/// How an instruction computes its result from registers.
struct Operation {
  Execute execute;
  u32 result_bytes;
  std::vector<u32> source_bytes;
};

/// Nothing for opcodes of other kinds; throws Unsupported for forms that the interpreter lacks.
[[nodiscard]] std::optional<Operation> operation(const Opcode& opcode);

/// setp of two sources; the parser fills in the predicates.
[[nodiscard]] Execute comparison(const Opcode& opcode);
/// selp: the first source where the predicate is true, else the second.
[[nodiscard]] Execute selection(u32 bytes);
enum class Logic : u8 { bit_and, bit_or, bit_xor };
/// and, or, xor of predicates. `set` becomes mode(test, second_test).
void combine_predicates(Warp& warp, const Instruction& in);

/// mov between a register and its two halves.
[[nodiscard]] Execute packing(u32 bytes);
[[nodiscard]] Execute unpacking(u32 bytes);
/// result = source + offset, of addresses; the source may be of 4 bytes.
[[nodiscard]] Execute shift_address(bool wide_source);

}  // namespace virtual_gpu
