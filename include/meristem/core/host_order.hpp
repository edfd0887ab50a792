// Orders in which the host executor may run threads, blocks and elements, from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/executor_options.hpp>

namespace meristem::host {

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded anew for every block, and no part of the library's own random
/// numbers.
class Random {
 public:
  explicit Random(std::uint64_t seed = 0, std::uint64_t stream = 0) : state_(seed * 0xd1342543de82ef95u + stream) {}

  std::uint64_t operator()() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// A number in [0, n).
  std::uint64_t below(std::uint64_t n) { return (*this)() % n; }

 private:
  std::uint64_t state_;
};

/// A reordering of 0 .. n-1 that needs no table: i -> (a i + b) mod n with a coprime to n.
class Permutation {
 public:
  Permutation(std::int64_t n, ThreadOrder order, std::uint64_t seed) : n_(static_cast<std::uint64_t>(n)) {
    if (n < 2 || order == ThreadOrder::forward) return;
    identity_ = false;
    if (order == ThreadOrder::reverse) {
      factor_ = offset_ = n_ - 1;
      return;
    }
    Random random(seed);
    offset_ = random.below(n_);
    do {
      factor_ = 1 + random.below(n_ - 1);
    } while (std::gcd(factor_, n_) != 1);
  }

  [[nodiscard]] std::int64_t operator()(std::int64_t i) const {
    if (identity_) return i;
    return static_cast<std::int64_t>((Wide{factor_} * static_cast<std::uint64_t>(i) + offset_) % n_);
  }

 private:
  __extension__ using Wide = unsigned __int128;
  std::uint64_t n_;
  std::uint64_t factor_ = 1;
  std::uint64_t offset_ = 0;
  bool identity_ = true;
};

/// `value` as 0x and eight hexadecimal digits, the way lane masks are written.
inline std::string hex(std::uint32_t value) {
  std::string text = "0x00000000";
  for (std::size_t i = 0; i < 8; ++i) text[9 - i] = "0123456789abcdef"[value >> (4 * i) & 15];
  return text;
}

}  // namespace meristem::host
