// What every test shares: comparison with an oracle, every way the executor can run a kernel, guarded tensors.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>

namespace support {

namespace ms = meristem;

/// Unit roundoff times two: the distance from 1 to the next number.
template <class T>
inline constexpr double eps = sizeof(T) == 4 ? 0x1p-23 : 0x1p-52;

/// Fails unless |actual - expected| <= tolerance everywhere; prints the worst element and its index.
/// `tolerance` is absolute, derived by the caller from the scale of the data and the length of the sums.
template <class T>
void check_close(const std::vector<T>& actual, const std::vector<double>& expected, double tolerance,
                 const std::string& what = "") {
  INFO(what);
  REQUIRE(actual.size() == expected.size());
  double worst = 0.0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - expected[i]);
    if (!(error <= worst)) {  // also true for NaN
      worst = error;
      at = i;
    }
    if (std::isnan(worst)) break;
  }
  if (!actual.empty()) {
    INFO("worst element ", at, ": got ", static_cast<double>(actual[at]), ", expected ", expected[at], ", error ",
         worst, ", tolerance ", tolerance);
    CHECK(worst <= tolerance);
  }
}

/// Fails unless both hold the same bits.
template <class T>
void check_same_bits(const std::vector<T>& a, const std::vector<T>& b, const std::string& what = "") {
  INFO(what);
  REQUIRE(a.size() == b.size());
  if (!a.empty()) CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Largest magnitude, at least `floor`: the scale in tolerances.
template <class T>
double scale_of(const std::vector<T>& values, double floor = 1e-30) {
  double scale = floor;
  for (const T value : values) scale = std::max(scale, std::abs(static_cast<double>(value)));
  return scale;
}

/// Standard normal numbers, representable in T.
template <class T>
std::vector<T> normal_values(std::int64_t count, std::uint64_t seed, double scale = 1.0) {
  const ms::Philox random(seed, 77);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    values[static_cast<std::size_t>(i)] = static_cast<T>(scale * random.normal(static_cast<std::uint64_t>(i)));
  }
  return values;
}

/// The same numbers in double precision.
template <class T>
std::vector<double> to_double(const std::vector<T>& values) {
  return std::vector<double>(values.begin(), values.end());
}

/// Calls `test(ctx)` once for production settings and, on the CPU, once for each way of running the GPU's blocks:
/// forward, reverse and 16 shuffled thread orders, with poisoned shared memory; not where tensors are guarded, as each
/// launch takes long.
template <class Test>
void for_every_executor(Test&& test) {
  {
    INFO("executor: production");
    ms::Context ctx({.seed = 1});
    test(ctx);
  }
#if !MERISTEM_GPU
  if (ms::detail::guards_device_memory) return;
  const auto run = [&](ms::ThreadOrder order, std::uint64_t seed) {
    ms::ContextOptions options{.seed = 1};
    options.executor.gpu_blocks = true;
    options.executor.poison_shared = true;
    options.executor.order = order;
    options.executor.order_seed = seed;
    ms::Context ctx(options);
    INFO("executor: GPU blocks, order ", static_cast<int>(order), ", seed ", seed);
    test(ctx);
  };
  run(ms::ThreadOrder::forward, 0);
  run(ms::ThreadOrder::reverse, 0);
  for (std::uint64_t seed = 1; seed <= 16; ++seed) run(ms::ThreadOrder::shuffled, seed);
#endif
}

/// A tensor between two bands of known bytes: `check_guards` fails if a kernel wrote outside its output.
template <class T>
class Guarded {
 public:
  static constexpr std::int64_t band = 64;

  Guarded(ms::Context& ctx, const ms::Shape& shape, T fill = T(-7))
      : shape_(shape), all_(ms::from_host<T>(ctx, {shape.size() + 2 * band}, initial(shape.size(), fill))) {}

  [[nodiscard]] ms::View<T> view() { return ms::View<T>(all_.data() + band, shape_); }

  [[nodiscard]] std::vector<T> values(ms::Context& ctx) {
    return shape_.size() == 0 ? std::vector<T>() : ms::to_host(ctx, view());
  }

  void check_guards(ms::Context& ctx) {
    const std::vector<T> all = ms::to_host(ctx, all_);
    for (std::int64_t i = 0; i < band; ++i) {
      INFO("guard element ", i);
      REQUIRE(all[static_cast<std::size_t>(i)] == T(-12345));
      REQUIRE(all[all.size() - 1 - static_cast<std::size_t>(i)] == T(-12345));
    }
  }

 private:
  static std::vector<T> initial(std::int64_t size, T fill) {
    std::vector<T> values(static_cast<std::size_t>(size + 2 * band), T(-12345));
    for (std::int64_t i = 0; i < size; ++i) values[static_cast<std::size_t>(band + i)] = fill;
    return values;
  }

  ms::Shape shape_;
  ms::Tensor<T> all_;
};

/// The message of the exception `action` throws; fails unless it throws exactly an `Expected`.
template <class Expected, class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Expected& error) {
    return error.message();
  }
  FAIL("no exception was thrown");
  return "";
}

/// True if `text` contains `part`.
inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace support
