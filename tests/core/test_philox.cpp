#include <meristem/core/philox.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <support/check.hpp>

namespace core_philox_test {

namespace {

namespace ms = meristem;

__extension__ typedef unsigned __int128 Wide;

void check_block(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter,
                 const std::vector<std::uint32_t>& expected) {
  const auto block = ms::Philox(seed, stream).block(counter);
  CHECK(std::vector<std::uint32_t>(block.word, block.word + 4) == expected);
}

/// The 64 bits from which number `index` is made: two words of a block.
std::uint64_t bits_of(const ms::Philox& random, std::uint64_t index) {
  const auto block = random.block(index / 2);
  const std::size_t first = index % 2 == 0 ? 0 : 2;
  return std::uint64_t{block.word[first]} << 32 | block.word[first + 1];
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("philox: known answers of the Random123 distribution") {
  check_block(0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check_block(~0ull, ~0ull, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  // Digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0, low words first.
  check_block(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88,
              {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("philox: uniform is the upper 52 bits in the middle of their interval, never 0 or 1") {
  const ms::Philox random(5, 6);
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const double u = random.uniform(i);
    REQUIRE(u > 0.0);
    REQUIRE(u < 1.0);
    const auto expected = (static_cast<long double>(bits_of(random, i) / 4096) + 0.5L) / 4503599627370496.0L;
    REQUIRE(static_cast<long double>(u) == expected);
  }
}

TEST_CASE("philox: uniform numbers fill the interval evenly") {
  const ms::Philox random(1, 2);
  const std::size_t count = 100000;
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(random.uniform(i));
  std::sort(values.begin(), values.end());
  double distance = 0.0;
  for (std::size_t i = 0; i < count; ++i) {
    distance = std::max(distance, std::abs(values[i] - (double(i) + 0.5) / double(count)));
  }
  // Kolmogorov-Smirnov: above 2.2 / sqrt(count) once in 8000 seeds; below 0.2 / sqrt(count) never by chance.
  CHECK(distance < 2.2 / std::sqrt(double(count)));
  CHECK(distance > 0.2 / std::sqrt(double(count)));
}

TEST_CASE("philox: normal agrees with the library's logarithm, sine and cosine") {
  const ms::Philox random(7, 8);
  const long double pi = 3.141592653589793238462643383279502884L;
  double worst = 0.0;
  for (std::uint64_t i = 0; i < 200000; ++i) {
    const long double u = random.uniform(i / 2 * 2), v = random.uniform(i / 2 * 2 + 1);
    const long double radius = std::sqrt(-2.0L * std::log(u));
    const long double expected = radius * (i % 2 == 0 ? std::cos(2.0L * pi * v) : std::sin(2.0L * pi * v));
    worst = std::max(worst, static_cast<double>(std::abs(static_cast<long double>(random.normal(i)) - expected)));
  }
  // Radii are below 9; logarithm, root, sine and cosine are off by a few units in the last place.
  CHECK(worst < 1e-14);
}

TEST_CASE("philox: normal numbers have the moments of a standard normal distribution") {
  const ms::Philox random(3, 4);
  const int count = 200000;
  double sums[5] = {}, product = 0.0;
  for (int i = 0; i < count; ++i) {
    const double x = random.normal(static_cast<std::uint64_t>(i));
    double power = 1.0;
    for (double& sum : sums) {
      sum += power;
      power *= x;
    }
    if (i % 2 == 1) product += x * random.normal(static_cast<std::uint64_t>(i - 1));
  }
  // Five standard errors: the k-th moment has variance (m_2k - m_k^2) / count with m_2k = 1, 3, 15, 105.
  const double unit = 5.0 / std::sqrt(double(count));
  CHECK(std::abs(sums[1] / count) < unit);
  CHECK(std::abs(sums[2] / count - 1.0) < unit * std::sqrt(2.0));
  CHECK(std::abs(sums[3] / count) < unit * std::sqrt(15.0));
  CHECK(std::abs(sums[4] / count - 3.0) < unit * std::sqrt(96.0));
  CHECK(std::abs(product / (count / 2)) < unit * std::sqrt(2.0));
}

TEST_CASE("philox: below is the upper half of the 128-bit product") {
  const ms::Philox random(9, 10);
  const std::uint64_t bounds[] = {1,    2, 3, 10, 1000003, 0xffffffff, 0x100000000, 0x100000001, 0xfedcba9876543210,
                                  ~0ull};
  for (const std::uint64_t bound : bounds) {
    for (std::uint64_t i = 0; i < 2000; ++i) {
      const auto expected = static_cast<std::uint64_t>(Wide{bits_of(random, i)} * bound >> 64);
      REQUIRE(random.below(i, bound) == expected);
      REQUIRE(expected < bound);
    }
  }
}

TEST_CASE("philox: below hits every value about equally often") {
  const ms::Philox random(11, 12);
  const int count = 70000;
  std::vector<int> hits(7, 0);
  for (int i = 0; i < count; ++i) ++hits[random.below(static_cast<std::uint64_t>(i), 7)];
  double chi_square = 0.0;
  for (const int h : hits) chi_square += (h - count / 7.0) * (h - count / 7.0) / (count / 7.0);
  // Six degrees of freedom: above 27.9 once in 10^4 seeds.
  CHECK(chi_square < 27.9);
}

TEST_CASE("philox: seeds, streams and indices give unrelated numbers") {
  const int count = 50000;
  const ms::Philox base(1, 1), other_seed(2, 1), other_stream(1, 2);
  double by_seed = 0.0, by_stream = 0.0, by_index = 0.0;
  for (int i = 0; i < count; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    const double x = base.normal(index);
    by_seed += x * other_seed.normal(index);
    by_stream += x * other_stream.normal(index);
    by_index += x * base.normal(index + 1);
  }
  const double bound = 5.0 * std::sqrt(double(count));
  CHECK(std::abs(by_seed) < bound);
  CHECK(std::abs(by_stream) < bound);
  CHECK(std::abs(by_index) < bound);
}

TEST_SUITE_END();

}  // namespace core_philox_test
