// Comparisons, selections and predicates.
#include <string_view>
#include <utility>

#include "apply.hpp"

namespace virtual_gpu {

namespace {

enum class Compare { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };

template <Compare how, class T>
bool compared(T a, T b) {
  const bool unordered = a != a || b != b;
  switch (how) {
    case Compare::eq:
      return a == b;
    case Compare::ne:
      return !unordered && a != b;
    case Compare::lt:
      return a < b;
    case Compare::le:
      return a <= b;
    case Compare::gt:
      return a > b;
    case Compare::ge:
      return a >= b;
    case Compare::equ:
      return unordered || a == b;
    case Compare::neu:
      return a != b;
    case Compare::ltu:
      return !(a >= b);
    case Compare::leu:
      return !(a > b);
    case Compare::gtu:
      return !(a <= b);
    case Compare::geu:
      return !(a < b);
    case Compare::num:
      return !unordered;
    case Compare::nan:
      return unordered;
  }
}

u32 combined(Logic how, u32 a, u32 b) { return how == Logic::bit_and ? a & b : how == Logic::bit_or ? a | b : a ^ b; }

template <Compare how, class T>
void compare(Warp& warp, const Instruction& in) {
  const auto* const a = warp.lanes<Register<T>>(in.source[0]);
  const auto* const b = warp.lanes<Register<T>>(in.source[1]);
  u32 bits = 0;
  for (int lane = 0; lane < warp_size; ++lane) {
    bits |= u32{compared<how>(static_cast<T>(a[lane]), static_cast<T>(b[lane]))} << lane;
  }
  const u32 other = warp.value(in.test);
  const auto logic = static_cast<Logic>(in.mode);
  warp.set(in.set, combined(logic, bits, other));
  warp.set(in.set_complement, combined(logic, ~bits, other));
}

template <class T, Compare... how>
Execute pick(std::string_view name, std::integer_sequence<Compare, how...>) {
  static constexpr std::string_view names[] = {"eq",  "ne",  "lt",  "le",  "gt",  "ge",  "equ",
                                               "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};
  Execute result = nullptr;
  ((names[static_cast<int>(how)] == name ? void(result = &compare<how, T>) : void()), ...);
  if (result == nullptr) throw Unsupported("the comparison of");
  return result;
}

template <class T>
void select(Warp& warp, const Instruction& in) {
  T* const result = warp.lanes<T>(in.result);
  const T* const a = warp.lanes<T>(in.source[0]);
  const T* const b = warp.lanes<T>(in.source[1]);
  const u32 choice = warp.value(in.test), active = warp.active;
  VIRTUAL_GPU_LANES {
    const T value = has_lane(choice, lane) ? a[lane] : b[lane];
    result[lane] = has_lane(active, lane) ? value : result[lane];
  }
}

}  // namespace

Execute comparison(const Opcode& op) {
  using All = std::integer_sequence<Compare, Compare::eq, Compare::ne, Compare::lt, Compare::le, Compare::gt,
                                    Compare::ge, Compare::equ, Compare::neu, Compare::ltu, Compare::leu, Compare::gtu,
                                    Compare::geu, Compare::num, Compare::nan>;
  using Ordered =
      std::integer_sequence<Compare, Compare::eq, Compare::ne, Compare::lt, Compare::le, Compare::gt, Compare::ge>;
  if (op.modifiers.empty()) throw Unsupported("the comparison of");
  std::string_view name = op.modifiers.front();
  // Of unsigned numbers PTX has names of its own.
  if (name == "lo") name = "lt";
  if (name == "ls") name = "le";
  if (name == "hi") name = "gt";
  if (name == "hs") name = "ge";
  if (op.type == Type::f32 || op.type == Type::f64) {
    return of_float(op.type, [&]<class T>(T) { return pick<T>(name, All{}); });
  }
  return of_integer(op.type, [&]<class T>(T) { return pick<T>(name, Ordered{}); });
}

Execute selection(u32 bytes) { return bytes == 8 ? &select<u64> : &select<u32>; }

void combine_predicates(Warp& warp, const Instruction& in) {
  warp.set(in.set, combined(static_cast<Logic>(in.mode), warp.value(in.test), warp.value(in.second_test)));
}

}  // namespace virtual_gpu
