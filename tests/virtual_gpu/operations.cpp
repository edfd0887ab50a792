// Arithmetic.
#include "operations.hpp"

#include <bit>
#include <cmath>
#include <limits>

#include "apply.hpp"

namespace virtual_gpu {

namespace {

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

}  // namespace virtual_gpu
