// Operations on bits: shifts, fields, permutations, counts.
#include <algorithm>
#include <bit>

#include "apply.hpp"

namespace virtual_gpu {

namespace {

struct ShiftRight {
  template <class T>
  T operator()(T a, u32 b) const {
    constexpr u32 bits = 8 * sizeof(T);
    if (b < bits) return static_cast<T>(a >> b);
    return std::is_signed_v<T> ? static_cast<T>(a >> (bits - 1)) : T{0};
  }
};

struct InsertBits {
  template <class T>
  T operator()(T a, T b, u32 position, u32 length) const {
    constexpr u32 bits = 8 * sizeof(T);
    position &= 255, length &= 255;
    if (position >= bits || length == 0) return b;
    const T mask = static_cast<T>((length >= bits ? ~T{0} : (T{1} << length) - 1) << position);
    return static_cast<T>((b & ~mask) | (static_cast<T>(a << position) & mask));
  }
};

struct ExtractBits {
  template <class T>
  T operator()(T a, u32 position, u32 length) const {
    using U = std::make_unsigned_t<T>;
    constexpr u32 bits = 8 * sizeof(T);
    position &= 255, length &= 255;
    if (length == 0) return 0;
    const u32 top = std::min(position + length - 1, bits - 1);
    const U sign = std::is_signed_v<T> ? static_cast<U>(a) >> top & 1 : 0;
    U result = sign ? static_cast<U>(~U{0}) : U{0};
    for (u32 i = 0; i < length && i < bits; ++i) {
      const U bit = position + i < bits ? static_cast<U>(a) >> (position + i) & 1 : sign;
      result = static_cast<U>((result & ~(U{1} << i)) | (bit << i));
    }
    return static_cast<T>(result);
  }
};

u64 joined(u32 low, u32 high) { return u64{high} << 32 | low; }

struct PermuteBytes {
  u32 operator()(u32 a, u32 b, u32 selector) const {
    const u64 both = joined(a, b);
    u32 result = 0;
    for (int i = 0; i < 4; ++i) {
      const u32 choice = selector >> (4 * i);
      u32 byte = static_cast<u32>(both >> (8 * (choice & 7))) & 255;
      if (choice & 8) byte = byte & 128 ? 255 : 0;
      result |= byte << (8 * i);
    }
    return result;
  }
};

Operation funnel_shift(const Opcode& op) {
  const auto of = []<class Op>(Op) { return make<Op, u32, u32, u32, u32>(); };
  if (op.has("r")) {
    if (op.has("wrap")) return of([](u32 a, u32 b, u32 n) { return static_cast<u32>(joined(a, b) >> (n & 31)); });
    return of([](u32 a, u32 b, u32 n) { return static_cast<u32>(joined(a, b) >> std::min(n, 32u)); });
  }
  if (op.has("wrap")) return of([](u32 a, u32 b, u32 n) { return static_cast<u32>(joined(a, b) << (n & 31) >> 32); });
  return of([](u32 a, u32 b, u32 n) { return static_cast<u32>(joined(a, b) << std::min(n, 32u) >> 32); });
}

}  // namespace

std::optional<Operation> bit_operation(const Opcode& op) {
  const Type type = op.type;
  const bool wide = bytes_of(type) == 8;
  if (op.name == "and") return binary_integer(type, [](auto a, auto b) { return a & b; });
  if (op.name == "or") return binary_integer(type, [](auto a, auto b) { return a | b; });
  if (op.name == "xor") return binary_integer(type, [](auto a, auto b) { return a ^ b; });
  if (op.name == "not") return unary_integer(type, [](auto a) { return ~a; });
  if (op.name == "shl") {
    return of_integer(type, []<class T>(T) {
      constexpr auto left = [](T a, u32 b) { return b < 8 * sizeof(T) ? static_cast<T>(a << b) : T{0}; };
      return make<decltype(left), T, T, u32>();
    });
  }
  if (op.name == "shr") return of_integer(type, []<class T>(T) { return make<ShiftRight, T, T, u32>(); });
  if (op.name == "popc") {
    constexpr auto count = [](auto a) { return std::popcount(a); };
    return wide ? make<decltype(count), u32, u64>() : make<decltype(count), u32, u32>();
  }
  if (op.name == "clz") {
    constexpr auto count = [](auto a) { return std::countl_zero(a); };
    return wide ? make<decltype(count), u32, u64>() : make<decltype(count), u32, u32>();
  }
  if (op.name == "brev") {
    constexpr auto reverse = []<class T>(T a) {
      T result = 0;
      for (u32 i = 0; i < 8 * sizeof(T); ++i) result = static_cast<T>(result << 1 | (a >> i & 1));
      return result;
    };
    return wide ? make<decltype(reverse), u64, u64>() : make<decltype(reverse), u32, u32>();
  }
  if (op.name == "bfi")
    return wide ? make<InsertBits, u64, u64, u64, u32, u32>() : make<InsertBits, u32, u32, u32, u32, u32>();
  if (op.name == "bfe") return of_integer(type, []<class T>(T) { return make<ExtractBits, T, T, u32, u32>(); });
  if (op.name == "prmt" && op.modifiers.size() == 1) return make<PermuteBytes, u32, u32, u32, u32>();
  if (op.name == "shf") return funnel_shift(op);
  return std::nullopt;
}

}  // namespace virtual_gpu
