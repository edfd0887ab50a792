// Conversions between types, and moves that take registers apart or put them together.
#include <cmath>
#include <limits>

#include "apply.hpp"

namespace virtual_gpu {

namespace {

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

}  // namespace

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

namespace {

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

Execute packing(u32 bytes) { return bytes == 8 ? &pack<u64> : &pack<u32>; }
Execute unpacking(u32 bytes) { return bytes == 8 ? &unpack<u64> : &unpack<u32>; }
Execute shift_address(bool wide_source) { return wide_source ? &add_offset<u64> : &add_offset<u32>; }

}  // namespace virtual_gpu
