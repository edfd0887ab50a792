#include <meristem/core/config.hpp>

#if !MERISTEM_GPU

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <core/broken_kernels.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <support/check.hpp>

namespace core_host_executor_test {

namespace ms = meristem;
namespace broken = meristem::broken;
using support::contains;
using support::message_of;

namespace {

constexpr unsigned threads = 64;
constexpr unsigned blocks = 4;

ms::ContextOptions options_for(ms::ThreadOrder order, std::uint64_t seed = 0) {
  ms::ContextOptions options;
  options.executor = {.gpu_blocks = true, .order = order, .order_seed = seed, .poison_shared = true};
  return options;
}

// What `kernel(y)` writes for every thread of a few blocks.
template <auto Kernel>
std::vector<float> results(ms::ThreadOrder order, std::uint64_t seed = 0) {
  ms::Context ctx(options_for(order, seed));
  auto y = ms::zeros<float>(ctx, {blocks * threads});
  ms::launch<Kernel>(ctx, blocks, threads, 0, y.data());
  return ms::to_host(ctx, y);
}

// The broken kernel must be wrong in reverse and in 16 shuffled orders, the repaired one right in all.
template <auto Broken, auto Repaired>
void check_missing_barrier(const std::function<float(unsigned)>& expected_at) {
  std::vector<float> expected;
  for (unsigned i = 0; i < blocks * threads; ++i) expected.push_back(expected_at(i % threads));
  CHECK(results<Repaired>(ms::ThreadOrder::forward) == expected);
  CHECK(results<Repaired>(ms::ThreadOrder::reverse) == expected);
  CHECK(results<Broken>(ms::ThreadOrder::reverse) != expected);
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    INFO("seed ", seed);
    CHECK(results<Repaired>(ms::ThreadOrder::shuffled, seed) == expected);
    CHECK(results<Broken>(ms::ThreadOrder::shuffled, seed) != expected);
  }
}

// "file:line" of the first line of broken_kernels.hpp that contains `text`, counted from the line with `after`.
std::string place(const std::string& after, const std::string& text) {
  const std::string folder = std::string(__FILE__).substr(0, std::string(__FILE__).rfind('/'));
  std::ifstream file(folder + "/broken_kernels.hpp");
  REQUIRE(file.good());
  std::string line;
  bool started = false;
  for (int number = 1; std::getline(file, line); ++number) {
    started = started || contains(line, after);
    if (started && contains(line, text)) return "broken_kernels.hpp:" + std::to_string(number);
  }
  FAIL("no such line in broken_kernels.hpp");
  return "";
}

// The message of the LaunchError that `kernel()` causes in forward order; and that shuffled orders cause one too.
template <auto Kernel>
std::string misuse(unsigned block_size = 32) {
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    ms::Context ctx(options_for(ms::ThreadOrder::shuffled, seed));
    INFO("seed ", seed);
    CHECK_THROWS_AS(ms::launch<Kernel>(ctx, blocks, block_size, 0), ms::LaunchError);
  }
  ms::ContextOptions options = options_for(ms::ThreadOrder::forward);
  options.executor.threads = 1;
  ms::Context ctx(options);
  return message_of<ms::LaunchError>([&] { ms::launch<Kernel>(ctx, blocks, block_size, 0); });
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("host executor: a missing barrier gives wrong results in reverse and shuffled order") {
  SUBCASE("read of a neighbour's element") {
    check_missing_barrier<broken::take_from_left<false>, broken::take_from_left<true>>(
        [](unsigned t) { return static_cast<float>(t) - 1.0f; });
  }
  SUBCASE("value from one thread for all") {
    check_missing_barrier<broken::broadcast<false>, broken::broadcast<true>>([](unsigned) { return 7.0f; });
  }
  SUBCASE("row overwritten while others read it") {
    check_missing_barrier<broken::overwrite_while_read<false>, broken::overwrite_while_read<true>>(
        [](unsigned t) { return static_cast<float>((t + 1) % threads); });
  }
  SUBCASE("exchange within a warp") {
    check_missing_barrier<broken::exchange_in_warp<false>, broken::exchange_in_warp<true>>(
        [](unsigned t) { return static_cast<float>(10 * (t / 32) + 1 - t % 32 / 16); });
  }
}

TEST_CASE("host executor: forward order alone hides a missing barrier") {
  const auto y = results<broken::broadcast<false>>(ms::ThreadOrder::forward);
  CHECK(y == std::vector<float>(blocks * threads, 7.0f));
}

TEST_CASE("host executor: the same seed gives the same order") {
  const auto bits = [](std::uint64_t seed) {
    // NaN from poisoned memory is not equal to itself; -2 stands for it.
    auto y = results<broken::take_from_left<false>>(ms::ThreadOrder::shuffled, seed);
    for (float& value : y) value = std::isnan(value) ? -2.0f : value;
    return y;
  };
  CHECK(bits(5) == bits(5));
  CHECK(bits(5) != bits(6));
}

TEST_CASE("host executor: poisoned shared memory shows a read before the first write, in every block") {
  ms::Context ctx(options_for(ms::ThreadOrder::forward));
  auto y = ms::zeros<float>(ctx, {blocks * threads});
  ms::launch<broken::read_before_write>(ctx, blocks, threads, threads * sizeof(float), y.data());
  int numbers = 0;
  for (const float value : ms::to_host(ctx, y)) numbers += std::isnan(value) ? 0 : 1;
  CHECK(numbers == 0);
}

TEST_CASE("host executor: a diverged barrier is a diagnosed deadlock") {
  const std::string message = misuse<broken::diverged_barrier>(64);
  INFO(message);
  CHECK(contains(message, "diverged_barrier, block (0, 0, 0): deadlock, its threads wait for each other"));
  CHECK(contains(
      message,
      "16 of the 32 threads that have not returned, the first of them thread (0, 0, 0), wait at __syncthreads() in "));
  CHECK(contains(message, place("void diverged_barrier", "__syncthreads()")));
  CHECK(contains(message, "lanes 0xffff0000 of warp 0, the first of them thread (16, 0, 0), wait at __syncwarp() in "));
  CHECK(contains(message, place("void diverged_barrier", "__syncwarp()") + " for lanes 0x0000ffff"));
}

TEST_CASE("host executor: a deadlock between lanes of a warp names both groups, and not too many warps") {
  const std::string message = misuse<broken::diverged_masks>(1024);
  INFO(message);
  CHECK(contains(message, "lanes 0x0000ffff of warp 0, the first of them thread (0, 0, 0), wait at __shfl_sync() in "));
  CHECK(contains(message, place("void diverged_masks", "__shfl_sync") + " for lanes 0xffff0000"));
  CHECK(contains(message, "lanes 0xffff0000 of warp 0, the first of them thread (16, 0, 0), wait at __ballot_sync()"));
  CHECK(contains(message, place("void diverged_masks", "__ballot_sync") + " for lanes 0x0000fff0"));
  // 64 groups, 8 of which are listed.
  CHECK(contains(message, "and 56 more groups of lanes"));
}

TEST_CASE("host executor: barriers at different lines are an error") {
  const std::string first = place("void barriers_in_branches", "__syncthreads()");
  const std::string message = misuse<broken::barriers_in_branches>();
  INFO(message);
  CHECK(contains(message, "barriers_in_branches, block (0, 0, 0): thread (1, 0, 0) waits at __syncthreads() in line "));
  CHECK(contains(message, "while 1 other threads of its block wait at __syncthreads() in "));
  CHECK(contains(message, first + "; all threads of a block must reach the same barrier"));

  CHECK(contains(misuse<broken::skipped_barrier>(), "thread (3, 0, 0) waits at __syncthreads() in line "));
}

TEST_CASE("host executor: the error's place is the kernel's line") {
  ms::Context ctx(options_for(ms::ThreadOrder::forward));
  try {
    ms::launch<broken::lane_outside_its_mask>(ctx, 1, 32, 0);
    FAIL("no exception was thrown");
  } catch (const ms::LaunchError& error) {
    CHECK(contains(std::string(error.what()), place("void lane_outside_its_mask", "__shfl_sync")));
  }
}

TEST_CASE("host executor: misused warp collectives are errors") {
  const std::string outside = misuse<broken::lane_outside_its_mask>();
  CHECK(contains(outside,
                 "thread (16, 0, 0) is lane 16 and calls __shfl_sync() with mask 0x0000ffff, which leaves itself out"));

  const std::string different = misuse<broken::different_collectives>();
  INFO(different);
  CHECK(contains(different,
                 "thread (1, 0, 0) calls __all_sync() with mask 0xffffffff while lanes 0x00000001 of its "
                 "warp wait with the same mask at __any_sync() in "));
  CHECK(contains(different, place("void different_collectives", "__any_sync")));

  CHECK(contains(misuse<broken::width_of_three>(),
                 "calls __shfl_down_sync() with width 3; the width is 1, 2, 4, 8, 16 or 32"));
}

TEST_CASE("host executor: what a kernel throws is rethrown, and its waiting threads are unwound") {
  for (const auto order : {ms::ThreadOrder::forward, ms::ThreadOrder::reverse, ms::ThreadOrder::shuffled}) {
    ms::Context ctx(options_for(order));
    auto objects = ms::zeros<int>(ctx, {1});
    for (const unsigned thrower : {0u, 1u, 40u, threads - 1}) {
      const std::string thrown = "thread " + std::to_string(thrower);
      CHECK_THROWS_WITH_AS(ms::launch<broken::one_thread_throws>(ctx, blocks, threads, 0, objects.data(), thrower),
                           thrown.c_str(), std::domain_error);
      CHECK(ms::to_host(ctx, objects)[0] == 0);
    }
    // The next launch works.
    ms::launch<broken::one_thread_throws>(ctx, blocks, threads, 0, objects.data(), threads);
    CHECK(ms::to_host(ctx, objects)[0] == 0);
  }
}

TEST_CASE("host executor: launches work after every kind of misuse") {
  const auto before = results<broken::take_from_left<true>>(ms::ThreadOrder::forward);
  misuse<broken::diverged_barrier>(64);
  CHECK(results<broken::take_from_left<true>>(ms::ThreadOrder::forward) == before);
  misuse<broken::barriers_in_branches>(1024);
  CHECK(results<broken::take_from_left<true>>(ms::ThreadOrder::reverse) == before);
  misuse<broken::different_collectives>(33);
  CHECK(results<broken::take_from_left<true>>(ms::ThreadOrder::shuffled, 3) == before);
}

TEST_CASE("host executor: device functions and launches in the wrong place are errors") {
  CHECK(message_of<ms::LaunchError>([] { ms::__syncthreads(); }) ==
        "__syncthreads() was called outside a kernel; only kernels started by launch may use it");
  CHECK(contains(message_of<ms::LaunchError>([] { ms::__shfl_sync(1u, 1, 0); }), "__shfl_sync() was called outside"));
  ms::Context ctx;
  CHECK(contains(message_of<ms::LaunchError>([&] { ms::launch<broken::launches_another>(ctx, 1, 1, 0, &ctx); }),
                 "lane_outside_its_mask was launched from inside a kernel; launch from the host only"));
}

TEST_CASE("host executor: an order dependence between elements of for_each shows") {
  const int n = 100;
  const std::vector<int> ones(n, 1);
  const auto sums = [&](ms::ThreadOrder order, std::uint64_t seed) {
    ms::Context ctx(options_for(order, seed));
    auto x = ms::from_host<int>(ctx, {n}, ones);
    ms::for_each(ctx, n, broken::PrefixSum{x.data()});
    return ms::to_host(ctx, x);
  };
  std::vector<int> in_order(n);
  for (int i = 0; i < n; ++i) in_order[static_cast<std::size_t>(i)] = i + 1;
  CHECK(sums(ms::ThreadOrder::reverse, 0) != in_order);
  for (std::uint64_t seed = 1; seed <= 16; ++seed) CHECK(sums(ms::ThreadOrder::shuffled, seed) != in_order);
}

TEST_CASE("host executor: contexts of several threads run kernels at the same time") {
  const auto expected = results<broken::take_from_left<true>>(ms::ThreadOrder::forward);
  std::vector<int> equal(4, 0);
  std::vector<std::thread> users;
  for (std::size_t i = 0; i < equal.size(); ++i) {
    users.emplace_back([&equal, &expected, i] {
      for (std::uint64_t round = 0; round < 20; ++round) {
        if (results<broken::take_from_left<true>>(ms::ThreadOrder::shuffled, round) == expected) ++equal[i];
      }
    });
  }
  for (std::thread& user : users) user.join();
  CHECK(equal == std::vector<int>(4, 20));
}

TEST_CASE("host executor: permutations visit everything once") {
  for (const std::int64_t n : {1, 2, 3, 10, 64, 97, 1000}) {
    for (const auto order : {ms::ThreadOrder::forward, ms::ThreadOrder::reverse, ms::ThreadOrder::shuffled}) {
      for (std::uint64_t seed = 0; seed < 8; ++seed) {
        const ms::host::Permutation permutation(n, order, seed);
        std::vector<int> visits(static_cast<std::size_t>(n), 0);
        for (std::int64_t i = 0; i < n; ++i) ++visits.at(static_cast<std::size_t>(permutation(i)));
        INFO("n ", n, ", order ", static_cast<int>(order), ", seed ", seed);
        CHECK(visits == std::vector<int>(static_cast<std::size_t>(n), 1));
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace core_host_executor_test

#endif
