// How an operation of single values becomes one of a warp, and the types that an instruction may be of.
#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

#include "machine.hpp"
#include "operations.hpp"

// Lanes are independent of each other; a result may be one of the sources, lane by lane.
#define VIRTUAL_GPU_LANES _Pragma("GCC ivdep") for (int lane = 0; lane < warp_size; ++lane)

namespace virtual_gpu {

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
[[nodiscard]] auto of_integer(Type type, const F& f) {
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
[[nodiscard]] auto of_float(Type type, const F& f) {
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
[[nodiscard]] auto of_number(Type type, const F& f) {
  return type == Type::f32 || type == Type::f64 ? of_float(type, f) : of_integer(type, f);
}

// Operations whose sources have the result's type, by the types they exist for.
template <class Op>
[[nodiscard]] Operation unary(Type type, Op) {
  return of_number(type, []<class T>(T) { return make<Op, T, T>(); });
}
template <class Op>
[[nodiscard]] Operation unary_integer(Type type, Op) {
  return of_integer(type, []<class T>(T) { return make<Op, T, T>(); });
}
template <class Op>
[[nodiscard]] Operation unary_float(Type type, Op) {
  return of_float(type, []<class T>(T) { return make<Op, T, T>(); });
}
template <class Op>
[[nodiscard]] Operation binary(Type type, Op) {
  return of_number(type, []<class T>(T) { return make<Op, T, T, T>(); });
}
template <class Op>
[[nodiscard]] Operation binary_integer(Type type, Op) {
  return of_integer(type, []<class T>(T) { return make<Op, T, T, T>(); });
}
template <class Op>
[[nodiscard]] Operation binary_float(Type type, Op) {
  return of_float(type, []<class T>(T) { return make<Op, T, T, T>(); });
}

// Kinds of operations; each is empty for opcodes of other kinds.
[[nodiscard]] std::optional<Operation> bit_operation(const Opcode& op);
[[nodiscard]] Operation conversion(const Opcode& op);

}  // namespace virtual_gpu
