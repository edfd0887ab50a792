#include "operations.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <utility>

#include "machine.hpp"

// Lanes are independent of each other; a result may be one of the sources, lane by lane.
#define VIRTUAL_GPU_LANES _Pragma("GCC ivdep") for (int lane = 0; lane < warp_size; ++lane)

namespace virtual_gpu {

namespace {

// Values of 1 and 2 bytes live in registers of 4.
template <class T>
using Register = std::conditional_t<(sizeof(T) < 4), u32, T>;

template <class T>
Register<T> widened(T value) {
  if constexpr (sizeof(T) < 4) {
    return static_cast<std::make_unsigned_t<T>>(value);
  } else {
    return value;
  }
}

/// result = Op(sources) in each active lane.
template <class Op, class Result, class... Sources>
struct Apply {
  static void execute(Warp& warp, const Instruction& in) { run(warp, in, std::index_sequence_for<Sources...>{}); }
  template <std::size_t... n>
  static void run(Warp& warp, const Instruction& in, std::index_sequence<n...>) {
    auto* const result = warp.lanes<Register<Result>>(in.result);
    const std::tuple<const Register<Sources>*...> source{warp.lanes<Register<Sources>>(in.source[n])...};
    const auto value = [&](int lane) {
      return widened(static_cast<Result>(Op{}(static_cast<Sources>(std::get<n>(source)[lane])...)));
    };
    const u32 active = warp.active;
    if (active == all_lanes) {
      VIRTUAL_GPU_LANES result[lane] = value(lane);
    } else {
      VIRTUAL_GPU_LANES result[lane] = has_lane(active, lane) ? value(lane) : result[lane];
    }
  }
};

template <class Op, class Result, class... Sources>
Operation make() {
  return {&Apply<Op, Result, Sources...>::execute, sizeof(Register<Result>), {sizeof(Register<Sources>)...}};
}

template <class F>
auto of_integer(Type type, const F& f) {
  switch (type) {
    case Type::u8:
    case Type::b8:
      return f(u8{});
    case Type::s8:
      return f(s8{});
    case Type::u16:
    case Type::b16:
      return f(u16{});
    case Type::s16:
      return f(s16{});
    case Type::u32:
    case Type::b32:
      return f(u32{});
    case Type::s32:
      return f(s32{});
    case Type::u64:
    case Type::b64:
      return f(u64{});
    case Type::s64:
      return f(s64{});
    default:
      throw Unsupported("the type of");
  }
}

template <class F>
auto of_float(Type type, const F& f) {
  switch (type) {
    case Type::f32:
      return f(float{});
    case Type::f64:
      return f(double{});
    default:
      throw Unsupported("the type of");
  }
}

template <class F>
auto of_number(Type type, const F& f) {
  return type == Type::f32 || type == Type::f64 ? of_float(type, f) : of_integer(type, f);
}

// Operations whose sources have the result's type, by the types they exist for.
template <class Op>
Operation unary(Type type, Op) {
  return of_number(type, []<class T>(T) { return make<Op, T, T>(); });
}
template <class Op>
Operation unary_integer(Type type, Op) {
  return of_integer(type, []<class T>(T) { return make<Op, T, T>(); });
}
template <class Op>
Operation unary_float(Type type, Op) {
  return of_float(type, []<class T>(T) { return make<Op, T, T>(); });
}
template <class Op>
Operation binary(Type type, Op) {
  return of_number(type, []<class T>(T) { return make<Op, T, T, T>(); });
}
template <class Op>
Operation binary_integer(Type type, Op) {
  return of_integer(type, []<class T>(T) { return make<Op, T, T, T>(); });
}
template <class Op>
Operation binary_float(Type type, Op) {
  return of_float(type, []<class T>(T) { return make<Op, T, T, T>(); });
}

struct Divide {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      return a / b;
    } else {
      if (b == 0) return static_cast<T>(~T{0});
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return static_cast<T>(-static_cast<std::make_unsigned_t<T>>(a));
      }
      return static_cast<T>(a / b);
    }
  }
};

struct Remainder {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  }
};

struct Magnitude {
  template <class T>
  T operator()(T a) const {
    if constexpr (std::is_floating_point_v<T>) {
      return std::fabs(a);
    } else {
      return static_cast<T>(a < 0 ? -a : a);
    }
  }
};

// Of a NaN and a number the number; -0 is less than +0.
struct Minimum {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (a != a) return b;
      if (b != b) return a;
      return a < b || (a == b && std::signbit(a)) ? a : b;
    } else {
      return a < b ? a : b;
    }
  }
};

struct Maximum {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (a != a) return b;
      if (b != b) return a;
      return a > b || (a == b && std::signbit(b)) ? a : b;
    } else {
      return a > b ? a : b;
    }
  }
};

struct HighProduct {
  template <class T>
  T operator()(T a, T b) const {
    using Wide =
        std::conditional_t<sizeof(T) == 8, std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>,
                           std::conditional_t<std::is_signed_v<T>, s64, u64>>;
    return static_cast<T>((static_cast<Wide>(a) * b) >> (8 * sizeof(T)));
  }
};

struct ShiftRight {
  template <class T>
  T operator()(T a, u32 b) const {
    constexpr u32 bits = 8 * sizeof(T);
    if (b < bits) return static_cast<T>(a >> b);
    return std::is_signed_v<T> ? static_cast<T>(a >> (bits - 1)) : T{0};
  }
};

// Rounded down: the sum's rounding error by Knuth's TwoSum tells whether the nearest float lies above.
struct FusedDown {
  float operator()(float a, float b, float c) const {
    const double product = static_cast<double>(a) * b, sum = product + c;
    if (!std::isfinite(sum)) return static_cast<float>(sum);
    const double part = sum - product, error = (product - (sum - part)) + (static_cast<double>(c) - part);
    const auto nearest = static_cast<float>(sum);
    if (nearest > sum || (nearest == sum && error < 0)) return std::nextafter(nearest, -INFINITY);
    return nearest;
  }
};

template <class T>
T flushed(T a) {
  return std::fabs(a) < std::numeric_limits<T>::min() ? std::copysign(T(0), a) : a;
}

// The double form of rcp.approx.ftz works with the upper halves of its operands.
struct ReciprocalFlushed {
  float operator()(float a) const { return flushed(1.0f / flushed(a)); }
  double operator()(double a) const {
    return std::bit_cast<double>(std::bit_cast<u64>(1.0 / flushed(a)) & ~u64{0xffffffff});
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

// Conversions. Rounding to integers is done in double, which holds every float and every result below 2^53.
template <class Result, class Round>
struct ToInteger {
  template <class T>
  Result operator()(T a) const {
    if (a != a) return sizeof(Result) == 8 ? static_cast<Result>(u64{1} << 63) : Result{0};
    const double x = Round{}(static_cast<double>(a));
    const double low = std::is_signed_v<Result> ? -std::ldexp(1.0, 8 * sizeof(Result) - 1) : 0.0;
    const double high = std::ldexp(1.0, 8 * sizeof(Result) - (std::is_signed_v<Result> ? 1 : 0));
    if (x < low) return std::numeric_limits<Result>::min();
    if (x >= high) return std::numeric_limits<Result>::max();
    return static_cast<Result>(x);
  }
};

template <class F>
Operation with_rounding(const Opcode& op, const F& f) {
  if (op.has("rzi")) return f([](auto a) { return std::trunc(a); });
  if (op.has("rni")) return f([](auto a) { return std::nearbyint(a); });
  if (op.has("rmi")) return f([](auto a) { return std::floor(a); });
  if (op.has("rpi")) return f([](auto a) { return std::ceil(a); });
  throw Unsupported("the rounding of");
}

Operation conversion(const Opcode& op) {
  const Type to = op.other_type, from = op.type;
  const auto is_float = [](Type t) { return t == Type::f32 || t == Type::f64; };
  if (op.has("rm") || op.has("rp") || op.has("rz") || op.has("ftz")) throw Unsupported("the rounding of");
  if (op.has("sat")) {
    if (to != from) throw Unsupported("saturation by");
    return unary_float(to, [](auto a) { return a > 0 ? (a > 1 ? decltype(a)(1) : a) : decltype(a)(0); });
  }
  if (is_float(from) && !is_float(to)) {
    return with_rounding(op, [&]<class Round>(Round) {
      return of_integer(to, [&]<class To>(To) {
        return of_float(from, []<class From>(From) { return make<ToInteger<To, Round>, To, From>(); });
      });
    });
  }
  if (is_float(from) && to == from) return with_rounding(op, [&](auto round) { return unary_float(to, round); });
  constexpr auto same = [](auto a) { return a; };
  return of_number(to, [&]<class To>(To) {
    return of_number(from, []<class From>(From) { return make<decltype(same), To, From>(); });
  });
}

Operation wide_product(const Opcode& op) {
  const auto of = [&]<class Wide, class T>(Wide, T) {
    constexpr auto product = [](T a, T b) { return static_cast<Wide>(static_cast<Wide>(a) * static_cast<Wide>(b)); };
    constexpr auto sum = [](T a, T b, Wide c) {
      return static_cast<Wide>(static_cast<Wide>(a) * static_cast<Wide>(b) + c);
    };
    if (op.name == "mul") return make<decltype(product), Wide, T, T>();
    return make<decltype(sum), Wide, T, T, Wide>();
  };
  switch (op.type) {
    case Type::u16:
      return of(u32{}, u16{});
    case Type::s16:
      return of(s32{}, s16{});
    case Type::u32:
      return of(u64{}, u32{});
    case Type::s32:
      return of(s64{}, s32{});
    default:
      throw Unsupported("the type of");
  }
}

Operation funnel_shift(const Opcode& op) {
  const auto of = []<class Op>(Op) { return make<Op, u32, u32, u32, u32>(); };
  if (op.has("r")) {
    if (op.has("wrap")) return of([](u32 a, u32 b, u32 n) { return static_cast<u32>(joined(a, b) >> (n & 31)); });
    return of([](u32 a, u32 b, u32 n) { return static_cast<u32>(joined(a, b) >> std::min(n, 32u)); });
  }
  if (op.has("wrap")) return of([](u32 a, u32 b, u32 n) { return static_cast<u32>(joined(a, b) << (n & 31) >> 32); });
  return of([](u32 a, u32 b, u32 n) { return static_cast<u32>(joined(a, b) << std::min(n, 32u) >> 32); });
}

// Functions that the GPU approximates; the C library's are nearer to the true values.
std::optional<Operation> approximation(const Opcode& op) {
  const Type type = op.type;
  if (op.name == "ex2") {
    if (op.has("ftz")) return unary_float(type, [](auto a) { return flushed(std::exp2(flushed(a))); });
    return unary_float(type, [](auto a) { return std::exp2(a); });
  }
  if (op.name == "lg2") {
    if (op.has("ftz")) return unary_float(type, [](auto a) { return std::log2(flushed(a)); });
    return unary_float(type, [](auto a) { return std::log2(a); });
  }
  if (op.name == "rcp" && op.has("ftz")) return unary_float(type, ReciprocalFlushed{});
  if (op.has("ftz")) throw Unsupported("flushing to zero by");
  if (op.name == "rcp") return unary_float(type, [](auto a) { return 1 / a; });
  if (op.name == "sqrt") return unary_float(type, [](auto a) { return std::sqrt(a); });
  if (op.name == "rsqrt") return unary_float(type, [](auto a) { return 1 / std::sqrt(a); });
  if (op.name == "sin") return unary_float(type, [](auto a) { return std::sin(a); });
  if (op.name == "cos") return unary_float(type, [](auto a) { return std::cos(a); });
  if (op.name == "tanh") return unary_float(type, [](auto a) { return std::tanh(a); });
  return std::nullopt;
}

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

// Halves of 2 bytes live in registers of 4.
template <class Whole>
void pack(Warp& warp, const Instruction& in) {
  constexpr int bits = 4 * sizeof(Whole);
  constexpr Whole half = (Whole{1} << bits) - 1;
  Whole* const result = warp.lanes<Whole>(in.result);
  const u32* const low = warp.lanes<u32>(in.element[0]);
  const u32* const high = warp.lanes<u32>(in.element[1]);
  VIRTUAL_GPU_LANES if (has_lane(warp.active, lane)) result[lane] = Whole{high[lane]} << bits | (low[lane] & half);
}

template <class Whole>
void unpack(Warp& warp, const Instruction& in) {
  constexpr int bits = 4 * sizeof(Whole);
  constexpr Whole half = (Whole{1} << bits) - 1;
  const Whole* const source = warp.lanes<Whole>(in.source[0]);
  for (int part = 0; part < 2; ++part) {
    if (in.element[part] == no_register) continue;
    u32* const result = warp.lanes<u32>(in.element[part]);
    VIRTUAL_GPU_LANES if (has_lane(warp.active, lane)) {
      result[lane] = static_cast<u32>(source[lane] >> (part * bits) & half);
    }
  }
}

template <class Source>
void add_offset(Warp& warp, const Instruction& in) {
  u64* const result = warp.lanes<u64>(in.result);
  const Source* const source = warp.lanes<Source>(in.source[0]);
  const u64 offset = static_cast<u64>(in.offset);
  VIRTUAL_GPU_LANES if (has_lane(warp.active, lane)) result[lane] = source[lane] + offset;
}

}  // namespace

std::optional<Operation> operation(const Opcode& op) {
  const Type type = op.type;
  if (op.name == "cvt") return conversion(op);
  if (auto found = approximation(op)) return found;
  if (auto found = bit_operation(op)) return found;
  if (op.name == "fma" && op.has("rm") && type == Type::f32) return make<FusedDown, float, float, float, float>();
  for (const auto* rounding : {"rm", "rp", "rz", "sat", "ftz"}) {
    if (op.has(rounding)) throw Unsupported("the rounding of");
  }
  if (op.name == "mov") return unary(type, [](auto a) { return a; });
  if (op.name == "add") return binary(type, [](auto a, auto b) { return a + b; });
  if (op.name == "sub") return binary(type, [](auto a, auto b) { return a - b; });
  if ((op.name == "mul" || op.name == "mad") && op.has("wide")) return wide_product(op);
  if (op.name == "mul" && op.has("hi")) return binary_integer(type, HighProduct{});
  if (op.name == "mul") return binary(type, [](auto a, auto b) { return a * b; });
  if (op.name == "mad" && op.has("lo")) {
    return of_integer(type, []<class T>(T) {
      constexpr auto sum = [](T a, T b, T c) { return static_cast<T>(a * b + c); };
      return make<decltype(sum), T, T, T, T>();
    });
  }
  if (op.name == "fma") {
    return of_float(type, []<class T>(T) {
      constexpr auto fused = [](T a, T b, T c) { return std::fma(a, b, c); };
      return make<decltype(fused), T, T, T, T>();
    });
  }
  if (op.name == "div") return binary(type, Divide{});
  if (op.name == "rem") return binary_integer(type, Remainder{});
  if (op.name == "min") return binary(type, Minimum{});
  if (op.name == "max") return binary(type, Maximum{});
  if (op.name == "neg") return unary(type, [](auto a) { return -a; });
  if (op.name == "abs") return unary(type, Magnitude{});
  if (op.name == "copysign") return binary_float(type, [](auto a, auto b) { return std::copysign(b, a); });
  return std::nullopt;
}

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

Execute packing(u32 bytes) { return bytes == 8 ? &pack<u64> : &pack<u32>; }
Execute unpacking(u32 bytes) { return bytes == 8 ? &unpack<u64> : &unpack<u32>; }
Execute shift_address(bool wide_source) { return wide_source ? &add_offset<u64> : &add_offset<u32>; }

}  // namespace virtual_gpu
