// Exponentials of float32 for loops on the CPU, where the library's functions are calls and keep a loop from being
// vectorised. No branches, no calls, the same bits whether the compiler vectorises or not.
//
// Errors, against the exact value of the rounded argument (measured over all of it): at most 2 units in the last place
// for exponential and exponential_minus_1, 2e-7 relative for scaled_tail.
#pragma once

#include <bit>
#include <cstdint>

#include <meristem/core/config.hpp>

#if !MERISTEM_GPU

namespace meristem::kernels::vector_math {

/// a b + c. Said explicitly: a compiler may fuse it in the vectors of a loop and not in the elements left over.
[[gnu::always_inline]] inline float multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

/// a if `condition`, else b. Computes both: in a plain selection compilers move the work behind the condition, which is
/// then a branch.
[[gnu::always_inline]] inline float choose(bool condition, float a, float b) {
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(a) & mask) | (std::bit_cast<std::uint32_t>(b) & ~mask));
}

/// x = n ln 2 + rest with |rest| at most about ln 2 / 2, for |x| up to 104 or NaN; e^rest - 1.
struct Reduced {
  std::int32_t n;
  float rest_minus_1;
};

[[gnu::always_inline]] inline Reduced reduce(float x) {
  // The last bits of a float of this size count ones: no conversion, which NaN would not survive.
  constexpr float large = 12582912.0f;
  const auto n = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(multiply_add(x, 1.44269504f, large)) -
                                           std::bit_cast<std::uint32_t>(large));
  const float count = static_cast<float>(n);
  // ln 2 in two parts, the first with zeros behind it so that its product with n is exact.
  const float rest = multiply_add(count, 2.12194440e-4f, multiply_add(count, -0.693359375f, x));
  // Polynomial of S. L. Moshier, Cephes mathematical library, expf.
  float p = 1.9875691500e-4f;
  p = multiply_add(p, rest, 1.3981999507e-3f);
  p = multiply_add(p, rest, 8.3334519073e-3f);
  p = multiply_add(p, rest, 4.1665795894e-2f);
  p = multiply_add(p, rest, 1.6666665459e-1f);
  p = multiply_add(p, rest, 5.0000001201e-1f);
  return {n, multiply_add(p * rest, rest, rest)};
}

/// 2^n for n in [-126, 127]; some number for others.
[[gnu::always_inline]] inline float power_of_two(std::int32_t n) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(n + 127) << 23);
}

/// e^x; infinity above 88.7, 0 far below, NaN for NaN.
[[gnu::always_inline]] inline float exponential(float x) {
  const float above = choose(x < -104.0f, -104.0f, x);
  const Reduced y = reduce(choose(above > 89.0f, 89.0f, above));
  // In two steps, as 2^n alone leaves the range where the result is subnormal or just below infinity.
  const std::int32_t half = y.n / 2;
  return (y.rest_minus_1 + 1.0f) * power_of_two(half) * power_of_two(y.n - half);
}

/// e^x - 1 for x at most 0; greater x count as 0. NaN for NaN.
[[gnu::always_inline]] inline float exponential_minus_1(float x) {
  const float above = choose(x < -20.0f, -20.0f, x);
  const Reduced y = reduce(choose(above > 0.0f, 0.0f, above));
  const float scale = power_of_two(y.n);
  return multiply_add(scale, y.rest_minus_1, scale - 1.0f);
}

/// e^{a²/2} Φ(-a) for a at least 0, with Φ the normal distribution function: a polynomial without constant term in
/// 1 / (1 + 0.3 a), least squares of the relative error on [0, 14.5].
[[gnu::always_inline]] inline float scaled_tail(float a) {
  const float t = 1.0f / multiply_add(0.3f, a, 1.0f);
  float p = -0.02086136839f;
  p = multiply_add(p, t, 0.1137148003f);
  p = multiply_add(p, t, -0.2311848507f);
  p = multiply_add(p, t, 0.1956874784f);
  p = multiply_add(p, t, -0.08260988574f);
  p = multiply_add(p, t, 0.09782874996f);
  p = multiply_add(p, t, 0.07782744561f);
  p = multiply_add(p, t, 0.1103519356f);
  p = multiply_add(p, t, 0.1195583421f);
  p = multiply_add(p, t, 0.1196873509f);
  return p * t;
}

}  // namespace meristem::kernels::vector_math

#endif
