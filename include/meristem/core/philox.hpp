// Counter-based random numbers: Philox4x32-10, the same bits on the CPU and the GPU.
#pragma once

#include <cmath>
#include <cstdint>

#include <meristem/core/config.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// Philox4x32-10 of J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
/// A pure function: number `i` of stream `stream` under `seed` never depends on what was drawn before.
class Philox {
 public:
  struct Block {
    std::uint32_t word[4];
  };

  MERISTEM_HD Philox(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  /// The stream `shift` streams further on.
  [[nodiscard]] MERISTEM_HD Philox shifted(std::uint64_t shift) const { return Philox(seed_, stream_ + shift); }

  /// Four 32-bit words for one 64-bit counter; the stream fills the upper half of the 128-bit counter.
  [[nodiscard]] MERISTEM_HD Block block(std::uint64_t counter) const {
    std::uint32_t c0 = static_cast<std::uint32_t>(counter), c1 = static_cast<std::uint32_t>(counter >> 32);
    std::uint32_t c2 = static_cast<std::uint32_t>(stream_), c3 = static_cast<std::uint32_t>(stream_ >> 32);
    std::uint32_t k0 = static_cast<std::uint32_t>(seed_), k1 = static_cast<std::uint32_t>(seed_ >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c0;
      const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c2;
      c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c1 = static_cast<std::uint32_t>(p1);
      c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c3 = static_cast<std::uint32_t>(p0);
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    return {{c0, c1, c2, c3}};
  }

#if !MERISTEM_GPU
  /// Blocks `counter` to `counter` + lanes - 1, word by word: what `block` gives, in loops that vectorise.
  template <int lanes>
  void blocks(std::uint64_t counter, std::uint32_t (&word)[4][lanes]) const {
    std::uint32_t k0 = static_cast<std::uint32_t>(seed_), k1 = static_cast<std::uint32_t>(seed_ >> 32);
    MERISTEM_INDEPENDENT
    for (int l = 0; l < lanes; ++l) {
      const std::uint64_t number = counter + static_cast<std::uint64_t>(l);
      word[0][l] = static_cast<std::uint32_t>(number);
      word[1][l] = static_cast<std::uint32_t>(number >> 32);
      word[2][l] = static_cast<std::uint32_t>(stream_);
      word[3][l] = static_cast<std::uint32_t>(stream_ >> 32);
    }
    for (int round = 0; round < 10; ++round) {
      MERISTEM_INDEPENDENT
      for (int l = 0; l < lanes; ++l) {
        const std::uint64_t p0 = std::uint64_t{0xD2511F53} * word[0][l];
        const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * word[2][l];
        word[0][l] = static_cast<std::uint32_t>(p1 >> 32) ^ word[1][l] ^ k0;
        word[1][l] = static_cast<std::uint32_t>(p1);
        word[2][l] = static_cast<std::uint32_t>(p0 >> 32) ^ word[3][l] ^ k1;
        word[3][l] = static_cast<std::uint32_t>(p0);
      }
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
  }
#endif

  /// Number `index` uniform in (0, 1): 52 random bits, never 0 and never 1.
  [[nodiscard]] MERISTEM_HD double uniform(std::uint64_t index) const {
    const Block b = block(index >> 1);
    const int half = static_cast<int>(index & 1) * 2;
    const std::uint64_t bits = (std::uint64_t{b.word[half]} << 32 | b.word[half + 1]) >> 12;
    return (static_cast<double>(bits) + 0.5) * 0x1p-52;
  }

  /// Number `index` of a standard normal distribution, by G. Box and M. Muller, "A note on the generation of random
  /// normal deviates" (1958). Uses only operations that IEEE 754 rounds correctly, so that both executors give the
  /// same bits. Numbers 2i and 2i + 1 are made of the uniform numbers 2i and 2i + 1 and depend on these.
  [[nodiscard]] MERISTEM_HD double normal(std::uint64_t index) const {
    const Philox& self = *this;
    const double u = self.uniform(index & ~std::uint64_t{1});
    const double v = self.uniform(index | 1);
    const double radius = sqrt(-2.0 * log_exact(u));
    double sine, cosine;
    sincos_turn(v, sine, cosine);
    return radius * ((index & 1) ? sine : cosine);
  }

  /// Integer uniform in [0, bound), bound >= 1, by multiplication of 64 random bits (bias below bound / 2^64).
  [[nodiscard]] MERISTEM_HD std::uint64_t below(std::uint64_t index, std::uint64_t bound) const {
    const Block b = block(index >> 1);
    const int half = static_cast<int>(index & 1) * 2;
    const std::uint64_t high = b.word[half], low = b.word[half + 1];
    const std::uint64_t bound_low = bound & 0xffffffffu, bound_high = bound >> 32;
    // Upper 64 bits of the 128-bit product, from 32-bit halves: there is no 128-bit integer on every device.
    const std::uint64_t low_low = low * bound_low;
    const std::uint64_t mid = high * bound_low + (low_low >> 32);
    const std::uint64_t mid2 = low * bound_high + (mid & 0xffffffffu);
    return high * bound_high + (mid >> 32) + (mid2 >> 32);
  }

 private:
  /// Natural logarithm of a normal number in (0, 1), from log m = 2 atanh((m - 1) / (m + 1)) with m in
  /// [sqrt(1/2), sqrt(2)); the series' first omitted term is below 2e-18.
  MERISTEM_HD static double log_exact(double x) {
    int exponent = 0;
    double m = x;
    while (m < 0x1p-16) {
      m *= 0x1p16;
      exponent -= 16;
    }
    while (m < 0.70710678118654752) {
      m *= 2.0;
      --exponent;
    }
    const double s = (m - 1.0) / (m + 1.0);
    const double s2 = s * s;
    double series = 1.0 / 21.0;
    for (int k = 19; k >= 1; k -= 2) series = fma(series, s2, 1.0 / k);
    return fma(static_cast<double>(exponent), 0.69314718055994531, 2.0 * s * series);
  }

  /// Sine and cosine of `turn` full turns, turn in (0, 1), by Taylor series on an eighth of a turn.
  MERISTEM_HD static void sincos_turn(double turn, double& sine, double& cosine) {
    const int quarter = static_cast<int>(turn * 4.0 + 0.5);  // nearest multiple of a quarter turn
    const double x = fma(static_cast<double>(quarter), -0.25, turn) * 6.2831853071795865;
    const double x2 = x * x;
    double s = 1.0, c = 1.0;
    for (int k = 18; k >= 2; k -= 2) {
      s = fma(s * x2, -1.0 / (k * (k + 1)), 1.0);
      c = fma(c * x2, -1.0 / ((k - 1) * k), 1.0);
    }
    s *= x;
    switch (quarter & 3) {
      case 0:
        sine = s;
        cosine = c;
        break;
      case 1:
        sine = c;
        cosine = -s;
        break;
      case 2:
        sine = -s;
        cosine = -c;
        break;
      default:
        sine = -c;
        cosine = s;
        break;
    }
  }

  std::uint64_t seed_;
  std::uint64_t stream_;
};

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
