#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <support/check.hpp>
#include <virtual_gpu/counts.hpp>

namespace ms = meristem;

namespace meristem {
inline namespace MERISTEM_BACKEND {
namespace launch_test {

// --------------------------------------------------------------------------------------------------------- kernels

/// Sums the elements of one row per block: barriers, shared memory, a loop that any block size can run.
template <class T>
__global__ void row_sums(const T* x, T* sums, int columns) {
  MERISTEM_SHARED(T, partial, [1024]);
  T mine = 0;
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(columns); i += blockDim.x) {
    mine += x[blockIdx.x * static_cast<unsigned>(columns) + i];
  }
  partial[threadIdx.x] = mine;
  __syncthreads();
  for (unsigned width = blockDim.x; width > 1;) {
    const unsigned half = (width + 1) / 2;
    if (threadIdx.x < width - half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
    width = half;
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

#if MERISTEM_GPU
static __global__ void store_to(int* to) { *to = 1; }
#endif

/// Threads beyond the row leave before the barriers, and one more after each barrier.
static __global__ void early_return(int* y, int columns) {
  MERISTEM_SHARED(int, row, [256]);
  const int t = static_cast<int>(threadIdx.x);
  if (t >= columns) return;
  row[t] = t;
  // Unrolled, each thread would count its own rounds, and threads of one warp would wait at different barriers.
#if MERISTEM_GPU
#pragma unroll 1
#endif
  for (int round = 0; round < columns; ++round) {
    if (t < round) return;
    __syncthreads();
    const int present = __syncthreads_count(1);
    if (t == columns - 1) y[round] = row[round] + 1000 * present;
  }
}

/// Where every thread of a three-dimensional launch is, and how often each place occurs.
static __global__ void coordinates(int* visits) {
  const unsigned x = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned y = blockIdx.y * blockDim.y + threadIdx.y;
  const unsigned z = blockIdx.z * blockDim.z + threadIdx.z;
  const unsigned nx = gridDim.x * blockDim.x;
  const unsigned ny = gridDim.y * blockDim.y;
  atomicAdd(&visits[(z * ny + y) * nx + x], 1);
}

/// One warp: all four shuffles with one width and argument. Lanes outside the mask take no part.
template <class T>
__global__ void shuffles(const T* x, T* y, unsigned mask, int argument, int width) {
  const unsigned lane = threadIdx.x;
  if ((mask >> lane & 1) == 0) return;
  const T value = x[lane];
  y[lane] = __shfl_sync(mask, value, argument, width);
  y[32 + lane] = __shfl_up_sync(mask, value, static_cast<unsigned>(argument), width);
  y[64 + lane] = __shfl_down_sync(mask, value, static_cast<unsigned>(argument), width);
  y[96 + lane] = __shfl_xor_sync(mask, value, argument, width);
}

/// One warp per block: votes over the lanes of `mask`, the others go their own way with the complement.
static __global__ void votes(const int* predicate, unsigned* y, unsigned mask) {
  const unsigned lane = threadIdx.x;
  const unsigned mine = (mask >> lane & 1) != 0 ? mask : ~mask;
  const int p = predicate[lane];
  y[lane] = __ballot_sync(mine, p);
  y[32 + lane] = static_cast<unsigned>(__any_sync(mine, p));
  y[64 + lane] = static_cast<unsigned>(__all_sync(mine, p));
  __syncwarp(mine);
  __syncthreads();
  y[96 + lane] = static_cast<unsigned>(__syncthreads_count(p));
  y[128 + lane] = static_cast<unsigned>(__syncthreads_and(p));
  y[160 + lane] = static_cast<unsigned>(__syncthreads_or(p));
}

/// Several masks of one warp are under way at once, each its own number of rounds.
static __global__ void masks_at_once(int* y) {
  const unsigned lane = threadIdx.x;
  const unsigned group = lane / 8;
  const unsigned mask = 0xffu << (8 * group);
  int value = static_cast<int>(lane);
  for (unsigned round = 0; round < 3 * (group + 1); ++round) {
    value += __shfl_sync(mask, value, static_cast<int>((round + 1) % 8), 8);
    __syncwarp(mask);
  }
  y[lane] = value;
}

/// Warp sums by shuffles, then a block sum: the last warp may be short.
template <class T>
__global__ void warp_sums(const T* x, T* sum) {
  MERISTEM_SHARED(T, of_warp, [32]);
  const unsigned warp = threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
  const unsigned lanes = blockDim.x - 32 * warp < 32 ? blockDim.x - 32 * warp : 32;
  const unsigned mask = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
  T value = x[threadIdx.x];
  for (unsigned step = 1; step < 32; step *= 2) {
    const T other = __shfl_down_sync(mask, value, step);
    if (lane + step < lanes) value += other;
  }
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  if (threadIdx.x != 0) return;
  T total = 0;
  for (unsigned w = 0; 32 * w < blockDim.x; ++w) total += of_warp[w];
  sum[0] = total;
}

/// Counters that all threads of all blocks share.
struct Counters {
  int* integers;                   // add, sub, max, min, and, or, xor, exchanged
  unsigned* words;                 // add, max, min, inc, compare-and-swap
  unsigned long long* long_words;  // add, max, min
  float* singles;                  // add
  double* doubles;                 // add
};

static __global__ void atomics(Counters c) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const unsigned u = static_cast<unsigned>(i);
  atomicAdd(&c.integers[0], i);
  atomicSub(&c.integers[1], i);
  atomicMax(&c.integers[2], i - 5);
  atomicMin(&c.integers[3], 5 - i);
  atomicAnd(&c.integers[4], ~(1 << (i % 8)));
  atomicOr(&c.integers[5], 1 << (i % 8));
  atomicXor(&c.integers[6], 1 << (i % 8));
  atomicExch(&c.integers[7], i);
  atomicAdd(&c.words[0], u);
  atomicMax(&c.words[1], u);
  atomicMin(&c.words[2], 3000000000u - u);
  atomicInc(&c.words[3], 99u);
  unsigned seen = 0;
  unsigned expected = 0;
  do {
    expected = seen;
    seen = atomicCAS(&c.words[4], expected, expected + 2);
  } while (seen != expected);
  atomicAdd(&c.long_words[0], 1ull << 33);
  atomicMax(&c.long_words[1], (1ull << 40) + u);
  atomicMin(&c.long_words[2], (1ull << 40) - u);
  atomicAdd(&c.singles[0], 1.0f);
  atomicAdd(&c.doubles[0], 0.5);
}

/// Dynamic shared memory of two types behind each other, as large as the launch made it.
static __global__ void dynamic_reverse(double* y, unsigned elements, unsigned* misaligned) {
  MERISTEM_DYNAMIC_SHARED(double, buffer);
  unsigned* numbers = reinterpret_cast<unsigned*>(buffer + elements);
  if (reinterpret_cast<std::uintptr_t>(buffer) % 128 != 0) atomicAdd(misaligned, 1u);
  for (unsigned i = threadIdx.x; i < elements; i += blockDim.x) {
    buffer[i] = i;
    numbers[i] = 3 * i;
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < elements; i += blockDim.x) {
    y[blockIdx.x * elements + i] = buffer[elements - 1 - i] + numbers[elements - 1 - i];
  }
}

/// A type inside a class template, in shared memory and as argument.
template <class T>
struct Outer {
  template <int width>
  struct Inner {
    T values[width];
  };
};

template <class T, int width>
__global__ void nested_types(typename Outer<T>::template Inner<width> add, T* y) {
  MERISTEM_SHARED(typename Outer<T>::template Inner<width>, pairs, [32]);
  MERISTEM_SHARED(T, table, [32][width]);
  for (int i = 0; i < width; ++i) {
    pairs[threadIdx.x].values[i] = T(threadIdx.x) + add.values[i];
    table[threadIdx.x][i] = T(i);
  }
  __syncthreads();
  const unsigned other = blockDim.x - 1 - threadIdx.x;
  T sum = 0;
  for (int i = 0; i < width; ++i) sum += pairs[other].values[i] * table[other][i];
  y[threadIdx.x] = sum;
}

struct Count {
  int* visits;
  std::int64_t n1, n2;
  MERISTEM_HD void operator()(std::int64_t i) const { visits[i] += 1; }
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const { visits[i * n1 + j] += 1; }
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j, std::int64_t k) const {
    visits[(i * n1 + j) * n2 + k] += 1;
  }
};

}  // namespace launch_test
}  // namespace MERISTEM_BACKEND
}  // namespace meristem

namespace core_launch_test {

namespace {

using namespace ms::launch_test;

template <class T>
std::vector<T> small_integers(std::size_t count) {
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<T>(static_cast<int>(i * 37 % 101) - 50);
  return values;
}

// The lane a shuffle reads according to the CUDA programming guide, or -1 where it leaves the value undefined.
int guide_source(int kind, int lane, int argument, int width, unsigned mask) {
  const int first = lane / width * width;
  int source = lane;
  if (kind == 0) source = first + argument % width;
  if (kind == 1 && lane - argument >= first) source = lane - argument;
  if (kind == 2 && lane + argument < first + width) source = lane + argument;
  // Earlier groups may be read, later ones give the caller's own value.
  if (kind == 3 && (lane ^ argument) < first + width) source = lane ^ argument;
  return (mask >> source & 1) != 0 ? source : -1;
}

template <class T>
void check_shuffles(ms::Context& ctx, unsigned mask, int argument, int width) {
  std::vector<T> x(32);
  for (int lane = 0; lane < 32; ++lane) x[static_cast<std::size_t>(lane)] = static_cast<T>(1000 + 7 * lane);
  if constexpr (sizeof(T) == 8) x[9] = static_cast<T>(1) * (std::int64_t{1} << 45);
  const auto in = ms::from_host<T>(ctx, {32}, x);
  auto out = ms::zeros<T>(ctx, {4 * 32});
  ms::launch<shuffles<T>>(ctx, 1, 32, 0, in.data(), out.data(), mask, argument, width);
  const std::vector<T> y = ms::to_host(ctx, out);
  int wrong = 0;
  for (int kind = 0; kind < 4; ++kind) {
    for (int lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      const int source = guide_source(kind, lane, argument, width, mask);
      if (source < 0) continue;
      if (y[static_cast<std::size_t>(32 * kind + lane)] != x[static_cast<std::size_t>(source)]) ++wrong;
    }
  }
  INFO("mask ", mask, ", argument ", argument, ", width ", width, ", element size ", sizeof(T));
  CHECK(wrong == 0);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("launch: barriers and shared memory for all block sizes") {
  support::for_every_executor([](ms::Context& ctx) {
    for (const unsigned threads : {1u, 31u, 32u, 33u, 256u, 1024u}) {
      for (const int columns : {1, 31, 33, 1500}) {
        const int rows = 3;
        // Integers that small add up exactly.
        const auto x = small_integers<float>(static_cast<std::size_t>(rows * columns));
        const auto in = ms::from_host<float>(ctx, {rows, columns}, x);
        auto out = ms::zeros<float>(ctx, {rows});
        ms::launch<row_sums<float>>(ctx, rows, threads, 0, in.data(), out.data(), columns);
        const auto sums = ms::to_host(ctx, out);
        for (int r = 0; r < rows; ++r) {
          double expected = 0;
          for (int c = 0; c < columns; ++c) expected += x[static_cast<std::size_t>(r * columns + c)];
          INFO("threads ", threads, ", columns ", columns, ", row ", r);
          CHECK(sums[static_cast<std::size_t>(r)] == expected);
        }
      }
    }
  });
}

TEST_CASE("launch: threads that returned no longer count at barriers") {
  support::for_every_executor([](ms::Context& ctx) {
    const int columns = 50;
    auto out = ms::zeros<int>(ctx, {columns});
    ms::launch<early_return>(ctx, 1, 96, 0, out.data(), columns);
    const auto y = ms::to_host(ctx, out);
    for (int round = 0; round < columns; ++round) {
      INFO("round ", round);
      CHECK(y[static_cast<std::size_t>(round)] == round + 1000 * (columns - round));
    }
  });
}

TEST_CASE("launch: three-dimensional blocks and grids") {
  support::for_every_executor([](ms::Context& ctx) {
    const ms::dim3 grid(3, 2, 4);
    const ms::dim3 block(5, 3, 2);
    const std::int64_t total = 15 * 6 * 8;
    auto out = ms::zeros<int>(ctx, {total});
    ms::launch<coordinates>(ctx, grid, block, 0, out.data());
    CHECK(ms::to_host(ctx, out) == std::vector<int>(static_cast<std::size_t>(total), 1));
  });
}

TEST_CASE("launch: shuffles follow the programming guide for all widths and arguments") {
  support::for_every_executor([](ms::Context& ctx) {
    for (const unsigned mask : {0xffffffffu, 0x0000ffffu, 0xffff0000u, 0x0f0f0f0fu, 0xaaaaaaaau, 0x80000001u, 0x10u}) {
      for (const int width : {1, 2, 4, 8, 16, 32}) {
        for (const int argument : {0, 1, 2, 3, 5, 8, 15, 16, 31}) check_shuffles<int>(ctx, mask, argument, width);
      }
    }
    check_shuffles<unsigned>(ctx, 0xffffffffu, 3, 16);
    check_shuffles<long long>(ctx, 0xffffffffu, 3, 16);
    check_shuffles<unsigned long long>(ctx, 0xffffffffu, 3, 16);
    check_shuffles<float>(ctx, 0xffffffffu, 3, 16);
    check_shuffles<double>(ctx, 0xffffffffu, 3, 16);
  });
}

TEST_CASE("launch: votes of part of a warp and of the block") {
  support::for_every_executor([](ms::Context& ctx) {
    for (const unsigned mask : {0xffffffffu, 0x0000ffffu, 0x0f0f0f0fu, 0x55555555u, 0x00000001u}) {
      for (const unsigned bits : {0u, 0xffffffffu, 0x0000ffffu, 0x12345678u, 0x00000001u, 0x80000000u}) {
        std::vector<int> predicate(32);
        // Any value but 0 is true.
        for (unsigned lane = 0; lane < 32; ++lane) predicate[lane] = (bits >> lane & 1) != 0 ? 4 + int(lane) : 0;
        const auto in = ms::from_host<int>(ctx, {32}, predicate);
        auto out = ms::zeros<unsigned>(ctx, {6 * 32});
        ms::launch<votes>(ctx, 1, 32, 0, in.data(), out.data(), mask);
        const auto y = ms::to_host(ctx, out);
        int wrong = 0;
        for (unsigned lane = 0; lane < 32; ++lane) {
          const unsigned mine = (mask >> lane & 1) != 0 ? mask : ~mask;
          unsigned count = 0;
          for (unsigned i = 0; i < 32; ++i) count += bits >> i & 1;
          wrong += y[lane] != (bits & mine);
          wrong += y[32 + lane] != ((bits & mine) != 0 ? 1u : 0u);
          wrong += y[64 + lane] != ((bits & mine) == mine ? 1u : 0u);
          wrong += y[96 + lane] != count;
          wrong += (y[128 + lane] != 0) != (bits == 0xffffffffu);
          wrong += (y[160 + lane] != 0) != (bits != 0);
        }
        INFO("mask ", mask, ", predicates ", bits);
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("launch: several masks of a warp are under way at once") {
  support::for_every_executor([](ms::Context& ctx) {
    auto out = ms::zeros<int>(ctx, {32});
    ms::launch<masks_at_once>(ctx, 1, 32, 0, out.data());
    std::vector<int> expected(32);
    for (int lane = 0; lane < 32; ++lane) expected[static_cast<std::size_t>(lane)] = lane;
    for (std::size_t group = 0; group < 4; ++group) {
      for (std::size_t round = 0; round < 3 * (group + 1); ++round) {
        const int from = expected[8 * group + (round + 1) % 8];
        for (std::size_t i = 0; i < 8; ++i) expected[8 * group + i] += from;
      }
    }
    CHECK(ms::to_host(ctx, out) == expected);
  });
}

TEST_CASE("launch: warp sums with a short last warp") {
  support::for_every_executor([](ms::Context& ctx) {
    for (const unsigned threads : {1u, 31u, 32u, 33u, 256u, 1000u, 1024u}) {
      const auto x = small_integers<double>(threads);
      const auto in = ms::from_host<double>(ctx, {threads}, x);
      auto out = ms::zeros<double>(ctx, {1});
      ms::launch<warp_sums<double>>(ctx, 1, threads, 0, in.data(), out.data());
      double expected = 0;
      for (const double value : x) expected += value;
      INFO("threads ", threads);
      CHECK(ms::to_host(ctx, out)[0] == expected);
    }
  });
}

TEST_CASE("launch: atomics from many blocks") {
  support::for_every_executor([](ms::Context& ctx) {
    const int threads = 64;
    const int blocks = 50;
    const int n = threads * blocks;
    auto integers = ms::from_host<int>(ctx, {8}, std::vector<int>{0, 0, -100, 100, 0xff, 0, 0, -1});
    auto words = ms::from_host<unsigned>(ctx, {5}, std::vector<unsigned>{0, 0, 4000000000u, 0, 0});
    auto long_words = ms::from_host<unsigned long long>(
        ctx, {3}, std::vector<unsigned long long>{0, 0, std::numeric_limits<unsigned long long>::max()});
    auto singles = ms::zeros<float>(ctx, {1});
    auto doubles = ms::zeros<double>(ctx, {1});
    ms::launch<atomics>(ctx, blocks, threads, 0,
                        Counters{integers.data(), words.data(), long_words.data(), singles.data(), doubles.data()});
    const int sum = n * (n - 1) / 2;
    const auto i = ms::to_host(ctx, integers);
    CHECK(i[0] == sum);
    CHECK(i[1] == -sum);
    CHECK(i[2] == n - 1 - 5);
    CHECK(i[3] == 5 - (n - 1));
    CHECK(i[4] == 0);
    CHECK(i[5] == 0xff);
    // Each bit is flipped n / 8 = 400 times.
    CHECK(i[6] == 0);
    CHECK((i[7] >= 0 && i[7] < n));
    const auto u = ms::to_host(ctx, words);
    CHECK(u[0] == static_cast<unsigned>(sum));
    CHECK(u[1] == static_cast<unsigned>(n - 1));
    CHECK(u[2] == 3000000000u - static_cast<unsigned>(n - 1));
    // Counts 0, 1, .., 99, 0: 3200 steps of a cycle of 100.
    CHECK(u[3] == 0u);
    CHECK(u[4] == static_cast<unsigned>(2 * n));
    const auto l = ms::to_host(ctx, long_words);
    CHECK(l[0] == (1ull << 33) * static_cast<unsigned>(n));
    CHECK(l[1] == (1ull << 40) + static_cast<unsigned>(n - 1));
    CHECK(l[2] == (1ull << 40) - static_cast<unsigned>(n - 1));
    // Whole numbers and halves below 2^24 add up exactly in any order.
    CHECK(ms::to_host(ctx, singles)[0] == static_cast<float>(n));
    CHECK(ms::to_host(ctx, doubles)[0] == 0.5 * n);
  });
}

TEST_CASE("launch: dynamic shared memory of the size asked for") {
  support::for_every_executor([](ms::Context& ctx) {
    // 5000 * 12 bytes are more than the 48 KiB that need no permission.
    for (const unsigned elements : {1u, 31u, 1000u, 5000u}) {
      const unsigned blocks = 3;
      auto out = ms::zeros<double>(ctx, {blocks * elements});
      auto misaligned = ms::zeros<unsigned>(ctx, {1});
      ms::launch<dynamic_reverse>(ctx, blocks, 64, elements * (sizeof(double) + sizeof(unsigned)), out.data(), elements,
                                  misaligned.data());
      CHECK(ms::to_host(ctx, misaligned)[0] == 0);
      std::vector<double> expected;
      for (unsigned b = 0; b < blocks; ++b) {
        for (unsigned i = 0; i < elements; ++i) expected.push_back(4.0 * (elements - 1 - i));
      }
      CHECK(ms::to_host(ctx, out) == expected);
    }
  });
}

TEST_CASE("launch: nested types as kernel arguments and in shared memory") {
  support::for_every_executor([](ms::Context& ctx) {
    auto out = ms::zeros<float>(ctx, {32});
    const Outer<float>::Inner<3> add{{1, 2, 3}};
    ms::launch<nested_types<float, 3>>(ctx, 1, 32, 0, add, out.data());
    const auto y = ms::to_host(ctx, out);
    for (int t = 0; t < 32; ++t) {
      const float other = static_cast<float>(31 - t);
      CHECK(y[static_cast<std::size_t>(t)] == (other + 2) * 1 + (other + 3) * 2);
    }
  });
}

TEST_CASE("launch: an empty grid runs nothing") {
  ms::Context ctx;
  auto out = ms::zeros<int>(ctx, {1});
  ms::launch<coordinates>(ctx, ms::dim3(0, 1, 1), 1, 0, out.data());
  ms::launch<coordinates>(ctx, ms::dim3(1, 0, 1), 1, 0, out.data());
  ms::launch<coordinates>(ctx, ms::dim3(1, 1, 0), 1, 0, out.data());
  CHECK(ms::to_host(ctx, out)[0] == 0);
}

TEST_CASE("launch: shapes that no GPU can run are refused") {
  ms::Context ctx;
  auto out = ms::zeros<int>(ctx, {1});
  const auto refused = [&](ms::dim3 grid, ms::dim3 block, std::size_t shared_bytes) {
    return support::message_of<ms::LaunchError>(
        [&] { ms::launch<coordinates>(ctx, grid, block, shared_bytes, out.data()); });
  };
  const std::string block_limits = "a block has 1 to 1024 threads, at most (1024, 1024, 64)";
  CHECK(support::contains(refused(1, 0, 0), block_limits));
  CHECK(support::contains(refused(1, 0, 0), "coordinates: a block of (0, 1, 1) threads"));
  CHECK(support::contains(refused(1, 1025, 0), "a block of (1025, 1, 1) threads; " + block_limits));
  CHECK(support::contains(refused(1, ms::dim3(1, 1, 65), 0), block_limits));
  CHECK(support::contains(refused(1, ms::dim3(32, 33), 0), block_limits));
  // The product of the extents wraps around to 0 in 32 bits.
  CHECK(support::contains(refused(1, ms::dim3(1u << 16, 1u << 16, 1), 0), block_limits));
  const std::string grid_limits = "blocks; the limits are (2147483647, 65535, 65535)";
  CHECK(support::contains(refused(0x80000000u, 1, 0), "a grid of (2147483648, 1, 1) " + grid_limits));
  CHECK(support::contains(refused(ms::dim3(1, 65536), 1, 0), grid_limits));
  CHECK(support::contains(refused(ms::dim3(1, 1, 65536), 1, 0), grid_limits));
  CHECK(support::contains(refused(1, 1, 1 << 20), "1048576 bytes of dynamic shared memory"));
  // Nothing of this keeps later launches from working.
  ms::launch<coordinates>(ctx, 1, 1, 0, out.data());
  CHECK(ms::to_host(ctx, out)[0] == 1);
}

TEST_CASE("launch: block_threads and blocks_for") {
  ms::Context ctx;
  CHECK(ms::block_threads(ctx, 256) == (MERISTEM_GPU ? 256u : 1u));
  ms::ContextOptions options;
  options.executor.gpu_blocks = true;
  ms::Context gpu_shaped(options);
  CHECK(ms::block_threads(gpu_shaped, 256) == 256u);

  CHECK(ms::blocks_for(0, 256) == 0u);
  CHECK(ms::blocks_for(1, 256) == 1u);
  CHECK(ms::blocks_for(256, 256) == 1u);
  CHECK(ms::blocks_for(257, 256) == 2u);
  CHECK(ms::blocks_for(0x7fffffff, 1) == 0x7fffffffu);
  CHECK(support::message_of<ms::ArgumentError>([] { static_cast<void>(ms::blocks_for(-1, 256)); }) ==
        "cannot cover -1 items by blocks of 256; the first must not be negative, the second must be positive");
  CHECK(support::contains(
      support::message_of<ms::ArgumentError>([] { static_cast<void>(ms::blocks_for(std::int64_t{1} << 31, 1)); }),
      "need 2147483648 blocks; a grid has at most 2147483647"));
}

TEST_CASE("launch: kernel_name is the kernel's") {
  CHECK(support::contains(std::string(ms::kernel_name<row_sums<float>>()), "row_sums"));
  CHECK(support::contains(std::string(ms::kernel_name<coordinates>()), "coordinates"));
  CHECK_FALSE(support::contains(std::string(ms::kernel_name<coordinates>()), "Kernel"));
}

TEST_CASE("for_each: every index of one axis once") {
  support::for_every_executor([](ms::Context& ctx) {
    // The last two are shared by workers, and not a multiple of their number.
    for (const std::int64_t n : {0, 1, 31, 33, 1000, 200'003}) {
      auto visits = ms::zeros<int>(ctx, {n});
      ms::for_each(ctx, n, Count{visits.data(), 0, 0});
      INFO("n ", n);
      CHECK(ms::to_host(ctx, visits) == std::vector<int>(static_cast<std::size_t>(n), 1));
    }
  });
}

TEST_CASE("for_each: every index of two and three axes once") {
  support::for_every_executor([](ms::Context& ctx) {
    const std::int64_t shapes[][3] = {{0, 3, 4}, {3, 0, 4}, {3, 4, 0},       {1, 1, 1},       {2, 3, 5},
                                      {7, 1, 3}, {1, 9, 1}, {1, 1, 200'003}, {200'003, 1, 1}, {3, 257, 311}};
    for (const auto& n : shapes) {
      const std::int64_t size = n[0] * n[1] * n[2];
      INFO("extents ", n[0], ", ", n[1], ", ", n[2]);
      auto visits = ms::zeros<int>(ctx, {size});
      ms::for_each(ctx, n[0], n[1], n[2], Count{visits.data(), n[1], n[2]});
      CHECK(ms::to_host(ctx, visits) == std::vector<int>(static_cast<std::size_t>(size), 1));
      visits = ms::zeros<int>(ctx, {size});
      ms::for_each(ctx, n[0] * n[1], n[2], Count{visits.data(), n[2], 0});
      CHECK(ms::to_host(ctx, visits) == std::vector<int>(static_cast<std::size_t>(size), 1));
    }
  });
}

TEST_CASE("for_each_of: every index of each space once") {
  support::for_every_executor([](ms::Context& ctx) {
    const std::int64_t sizes[][3] = {{0, 0, 0}, {5, 0, 7}, {0, 12, 0}, {300, 35, 7 * 9 * 11}, {1, 200'003, 24}};
    for (const auto& n : sizes) {
      INFO("sizes ", n[0], ", ", n[1], ", ", n[2]);
      std::vector<ms::Tensor<int>> visits;
      for (const std::int64_t size : n) visits.push_back(ms::zeros<int>(ctx, {size}));
      const std::int64_t covered = n[2] / 24 * 24;  // planes of 4 × 6
      ms::for_each_of(ctx, ms::part(n[0], Count{visits[0].data(), 0, 0}),
                      ms::part(n[1], 1, Count{visits[1].data(), 1, 0}),
                      ms::part(covered / 24, 4, 6, Count{visits[2].data(), 4, 6}));
      CHECK(ms::to_host(ctx, visits[0]) == std::vector<int>(static_cast<std::size_t>(n[0]), 1));
      CHECK(ms::to_host(ctx, visits[1]) == std::vector<int>(static_cast<std::size_t>(n[1]), 1));
      std::vector<int> expected(static_cast<std::size_t>(n[2]), 0);
      std::fill_n(expected.begin(), covered, 1);
      CHECK(ms::to_host(ctx, visits[2]) == expected);
    }
    CHECK_THROWS_AS(ms::for_each_of(ctx, ms::part(1, Count{}), ms::part(2, -1, Count{})), ms::ArgumentError);
  });
}

#if MERISTEM_GPU
TEST_CASE("launch: an error names its kernel if launches are waited for, and is told once") {
  if (!virtual_gpu_take_problems) {
    MESSAGE("not run: on a GPU nothing would work after it");
    return;
  }
  ms::Context ctx;
  const auto broken = [&] { ms::launch<ms::launch_test::store_to>(ctx, 1, 1, 0, static_cast<int*>(nullptr)); };
  const bool waits = ms::detail::waits_for_launches();
  const std::string told = support::message_of<ms::CudaError>([&] {
    broken();
    ctx.synchronize();
  });
  CHECK(support::contains(told, waits ? "store_to: " : "cudaStreamSynchronize"));
  CHECK(std::string(virtual_gpu_take_problems()).find("store_to") != std::string::npos);
  CHECK(ms::to_host(ctx, ms::zeros<int>(ctx, {2})) == std::vector<int>(2));
  auto x = ms::zeros<int>(ctx, {1});
  ms::launch<ms::launch_test::store_to>(ctx, 1, 1, 0, x.data());
  CHECK(ms::to_host(ctx, x) == std::vector<int>{1});
}
#endif

TEST_CASE("for_each: bad extents are refused") {
  ms::Context ctx;
  const Count f{nullptr, 0, 0};
  CHECK(support::message_of<ms::ArgumentError>([&] { ms::for_each(ctx, -1, f); }) ==
        "for_each: extents (-1) must not be negative");
  CHECK(support::message_of<ms::ArgumentError>([&] { ms::for_each(ctx, 2, -3, f); }) ==
        "for_each: extents (2, -3) must not be negative");
  // Also where another extent is 0.
  CHECK_THROWS_AS(ms::for_each(ctx, 0, 2, -3, f), ms::ArgumentError);
  const std::int64_t large = std::int64_t{1} << 31;
  CHECK(support::message_of<ms::ArgumentError>([&] { ms::for_each(ctx, large, large, 4, f); }) ==
        "for_each: extents (2147483648, 2147483648, 4) have more than 2^63 elements");
}

TEST_SUITE_END();

}  // namespace core_launch_test
