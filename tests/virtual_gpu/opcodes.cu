// Each kind of instruction against what the host computes, or against a formula.
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "counts.hpp"

namespace {

#define BOTH __host__ __device__

template <class T>
T* on_device(const std::vector<T>& values) {
  T* data = nullptr;
  REQUIRE(cudaMalloc(&data, std::max<std::size_t>(values.size(), 1) * sizeof(T)) == cudaSuccess);
  REQUIRE(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  return data;
}

template <class T>
std::vector<T> taken(T* data, std::size_t count) {
  std::vector<T> values(count);
  REQUIRE(cudaMemcpy(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
  cudaFree(data);
  return values;
}

/// Values at which integer and floating-point arithmetic differ from each other.
template <class T>
std::vector<T> samples() {
  using Limits = std::numeric_limits<T>;
  std::vector<T> values{
      T(0), T(1), T(2), T(3), T(7), T(31), T(33), T(100), Limits::max(), Limits::min(), Limits::lowest()};
  if constexpr (std::is_signed_v<T>) {
    for (const int value : {-1, -2, -7, -100}) values.push_back(T(value));
  }
  if constexpr (std::is_floating_point_v<T>) {
    for (const T value :
         {T(-0.0), T(0.5), T(-0.5), T(1.5), T(2.5), T(-2.5), T(1e-3), T(1) / 3, T(1e9), T(-3e9), T(16777217.0),
          Limits::denorm_min(), Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()}) {
      values.push_back(value);
    }
  }
  for (std::uint64_t i = 1, bits = 12345; i < 20; ++i) {
    bits = bits * 6364136223846793005u + 1442695040888963407u;
    values.push_back(std::is_floating_point_v<T> ? T(static_cast<double>(static_cast<std::int64_t>(bits)) * 0x1p-50)
                                                 : T(bits >> 20));
  }
  return values;
}

template <class T>
bool same(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}

template <class F, class T, class R>
__global__ void apply(F f, const T* a, const T* b, R* result, int n, int m) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n * m) result[i] = f(a[i / m], b[i % m]);
}

/// f(a, b) for all pairs of samples, computed by the device and by the host.
template <class T, class F>
void check_pairs(const char* name, F f, bool (*fits)(T, T) = nullptr) {
  using R = decltype(f(T{}, T{}));
  std::vector<T> as = samples<T>(), bs = samples<T>();
  T *const a = on_device(as), *const b = on_device(bs);
  const int n = static_cast<int>(as.size()), m = static_cast<int>(bs.size());
  R* const result = on_device(std::vector<R>(as.size() * bs.size()));
  apply<<<(n * m + 95) / 96, 96>>>(f, a, b, result, n, m);
  const std::vector<R> got = taken(result, as.size() * bs.size());
  cudaFree(a);
  cudaFree(b);
  int wrong = 0;
  for (int i = 0; i < n * m; ++i) {
    if (fits && !fits(as[i / m], bs[i % m])) continue;
    const R expected = f(as[i / m], bs[i % m]);
    if (!same(got[i], expected) && ++wrong < 4) {
      FAIL_CHECK(name << " of " << +as[i / m] << " and " << +bs[i % m] << " is " << +got[i] << ", not " << +expected);
    }
  }
  CHECK(wrong == 0);
}

// Named functors, as the library's kernels have them.
#define FUNCTOR(name, expression)          \
  struct name {                            \
    template <class T>                     \
    BOTH auto operator()(T a, T b) const { \
      (void)a, (void)b;                    \
      return expression;                   \
    }                                      \
  };
FUNCTOR(Plus, T(a + b))
FUNCTOR(Minus, T(a - b))
FUNCTOR(Times, T(a* b))
FUNCTOR(Over, T(a / b))
FUNCTOR(Modulo, T(a % b))
FUNCTOR(BitAnd, T(a& b))
FUNCTOR(BitOr, T(a | b))
FUNCTOR(BitXor, T(a ^ b))
FUNCTOR(BitNot, T(~a))
FUNCTOR(Left, T(a << (static_cast<unsigned>(b) % (8 * sizeof(T)))))
FUNCTOR(Right, T(a >> (static_cast<unsigned>(b) % (8 * sizeof(T)))))
FUNCTOR(Smaller, (b < a ? b : a))
FUNCTOR(Larger, (a < b ? b : a))
FUNCTOR(Negative, T(-a))
FUNCTOR(Chosen, T(a<b ? a + b : a> 3 ? a - b : b))
FUNCTOR(Comparisons, (a < b) + 2 * (a <= b) + 4 * (a > b) + 8 * (a >= b) + 16 * (a == b) + 32 * (a != b) +
                         64 * !(a < b) + 128 * !(a <= b) + 256 * !(a > b) + 512 * !(a >= b))
FUNCTOR(Logic, (a < b && b != 3) + 2 * (a > b || a == 7) + 4 * ((a < b) ^ (b > 7)) + 8 * !(a == b || b == 0))
FUNCTOR(Fused, std::fma(a, b, a))
FUNCTOR(Root, std::sqrt(a))
FUNCTOR(Inverse, T(1) / a)
FUNCTOR(LeastNumber, std::fmin(a, b))
FUNCTOR(GreatestNumber, std::fmax(a, b))
FUNCTOR(Magnitude, std::fabs(a))
FUNCTOR(WithSign, std::copysign(a, b))
FUNCTOR(Truncated, std::trunc(a))
FUNCTOR(Rounded, std::rint(a))
FUNCTOR(Floored, std::floor(a))
FUNCTOR(Ceiled, std::ceil(a))
FUNCTOR(Unordered, std::isnan(a) + 2 * !(a < b) + 4 * !(a >= b))
FUNCTOR(Widened, (std::int64_t(a) * std::int64_t(b)))
FUNCTOR(WideSum, (std::uint64_t(a) * std::uint64_t(b) + 5u))

template <class To>
struct Converted {
  template <class T>
  BOTH To operator()(T a, T) const {
    return static_cast<To>(a);
  }
};

template <class T>
void check_integers() {
  check_pairs<T>("+", Plus{});
  check_pairs<T>("-", Minus{});
  check_pairs<T>("*", Times{});
  const auto divides = [](T a, T b) {
    return b != 0 && !(std::is_signed_v<T> && b == T(-1) && a == std::numeric_limits<T>::min());
  };
  check_pairs<T>("/", Over{}, divides);
  check_pairs<T>("%", Modulo{}, divides);
  check_pairs<T>("&", BitAnd{});
  check_pairs<T>("|", BitOr{});
  check_pairs<T>("^", BitXor{});
  check_pairs<T>("~", BitNot{});
  check_pairs<T>("<<", Left{});
  check_pairs<T>(">>", Right{});
  check_pairs<T>("min", Smaller{});
  check_pairs<T>("max", Larger{});
  check_pairs<T>("-a", Negative{});
  check_pairs<T>("?:", Chosen{});
  check_pairs<T>("<", Comparisons{});
  check_pairs<T>("&&", Logic{});
  check_pairs<T>("int8", Converted<std::int8_t>{});
  check_pairs<T>("uint16", Converted<std::uint16_t>{});
  check_pairs<T>("int32", Converted<std::int32_t>{});
  check_pairs<T>("int64", Converted<std::int64_t>{});
  check_pairs<T>("uint64", Converted<std::uint64_t>{});
  check_pairs<T>("float", Converted<float>{});
  check_pairs<T>("double", Converted<double>{});
}

/// Whether the conversion is defined for the host.
template <class T, class To>
bool fits(T a, T) {
  return a > T(std::numeric_limits<To>::min()) && a < T(std::numeric_limits<To>::max());
}

template <class T>
void check_floats() {
  check_pairs<T>("+", Plus{});
  check_pairs<T>("-", Minus{});
  check_pairs<T>("*", Times{});
  check_pairs<T>("/", Over{});
  check_pairs<T>("fma", Fused{});
  check_pairs<T>("sqrt", Root{});
  check_pairs<T>("1/a", Inverse{});
  check_pairs<T>("fmin", LeastNumber{}, [](T a, T b) { return a != b; });
  check_pairs<T>("fmax", GreatestNumber{}, [](T a, T b) { return a != b; });
  check_pairs<T>("fabs", Magnitude{});
  check_pairs<T>("copysign", WithSign{});
  check_pairs<T>("trunc", Truncated{});
  check_pairs<T>("rint", Rounded{});
  check_pairs<T>("floor", Floored{});
  check_pairs<T>("ceil", Ceiled{});
  check_pairs<T>("nan", Unordered{});
  check_pairs<T>("-a", Negative{});
  check_pairs<T>("?:", Chosen{});
  check_pairs<T>("<", Comparisons{});
  check_pairs<T>("&&", Logic{});
  check_pairs<T>("float", Converted<float>{});
  check_pairs<T>("double", Converted<double>{});
  check_pairs<T>("int32", Converted<std::int32_t>{}, fits<T, std::int32_t>);
  check_pairs<T>("uint32", Converted<std::uint32_t>{}, fits<T, std::uint32_t>);
  check_pairs<T>("int64", Converted<std::int64_t>{}, fits<T, std::int64_t>);
  check_pairs<T>("uint64", Converted<std::uint64_t>{}, fits<T, std::uint64_t>);
}

// Instructions that C++ has no word for, with a plain form for the host.

BOTH inline std::uint32_t counted(std::uint32_t a) {
#ifdef __CUDA_ARCH__
  return __popc(a) + 100 * __clz(static_cast<int>(a));
#else
  std::uint32_t ones = 0, zeros = 32;
  for (std::uint32_t i = 0; i < 32; ++i) {
    if (!(a >> i & 1)) continue;
    ++ones;
    zeros = 31 - i;
  }
  return ones + 100 * zeros;
#endif
}

BOTH inline std::uint64_t reversed(std::uint64_t a) {
#ifdef __CUDA_ARCH__
  return __brevll(a) ^ __brev(static_cast<unsigned>(a));
#else
  std::uint64_t wide = 0;
  std::uint32_t narrow = 0;
  for (int i = 0; i < 64; ++i) wide |= (a >> i & 1) << (63 - i);
  for (int i = 0; i < 32; ++i) narrow |= static_cast<std::uint32_t>(a >> i & 1) << (31 - i);
  return wide ^ narrow;
#endif
}

BOTH inline std::uint32_t high_product(std::uint32_t a, std::uint32_t b) {
#ifdef __CUDA_ARCH__
  return __umulhi(a, b) ^ static_cast<std::uint32_t>(__mulhi(static_cast<int>(a), static_cast<int>(b)));
#else
  const std::int64_t product = std::int64_t{static_cast<std::int32_t>(a)} * static_cast<std::int32_t>(b);
  return static_cast<std::uint32_t>((std::uint64_t{a} * b) >> 32) ^ static_cast<std::uint32_t>(product >> 32);
#endif
}

BOTH inline std::uint64_t high_product(std::uint64_t a, std::uint64_t b) {
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  const std::uint64_t al = a & 0xffffffff, ah = a >> 32, bl = b & 0xffffffff, bh = b >> 32;
  const std::uint64_t middle = ah * bl + (al * bl >> 32), other = al * bh + (middle & 0xffffffff);
  return ah * bh + (middle >> 32) + (other >> 32);
#endif
}

BOTH inline std::uint32_t funnel(std::uint32_t a, std::uint32_t b) {
#ifdef __CUDA_ARCH__
  return __funnelshift_l(a, b, b) ^ __funnelshift_r(a, b, a) ^ __funnelshift_lc(a, b, b) ^ __funnelshift_rc(a, b, a);
#else
  const std::uint64_t both = std::uint64_t{b} << 32 | a;
  const std::uint32_t left = b % 32, right = a % 32, clamped_left = std::min(b, 32u), clamped_right = std::min(a, 32u);
  return static_cast<std::uint32_t>(both << left >> 32) ^ static_cast<std::uint32_t>(both >> right) ^
         static_cast<std::uint32_t>(both << clamped_left >> 32) ^ static_cast<std::uint32_t>(both >> clamped_right);
#endif
}

BOTH inline std::uint32_t permuted(std::uint32_t a, std::uint32_t b) {
#ifdef __CUDA_ARCH__
  return __byte_perm(a, b, 0x6240 ^ (b & 0x1111));
#else
  const std::uint64_t both = std::uint64_t{b} << 32 | a;
  std::uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t choice = ((0x6240 ^ (b & 0x1111)) >> (4 * i)) & 7;
    result |= static_cast<std::uint32_t>(both >> (8 * choice) & 255) << (8 * i);
  }
  return result;
#endif
}

/// bfe and bfi at every position and length.
BOTH inline std::int32_t bit_fields(std::uint32_t a, std::uint32_t b) {
  const std::uint32_t position = b % 32, length = (b >> 5) % 33;
#ifdef __CUDA_ARCH__
  std::uint32_t extracted, inserted;
  std::int32_t with_sign;
  asm("bfe.u32 %0, %1, %2, %3;" : "=r"(extracted) : "r"(a), "r"(position), "r"(length));
  asm("bfe.s32 %0, %1, %2, %3;" : "=r"(with_sign) : "r"(static_cast<std::int32_t>(a)), "r"(position), "r"(length));
  asm("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(inserted) : "r"(a), "r"(b), "r"(position), "r"(length));
#else
  std::uint32_t extracted = 0, sign = 0, inserted = b;
  if (length > 0) sign = a >> std::min(position + length - 1, 31u) & 1;
  std::uint32_t bits = 0;
  for (std::uint32_t i = 0; i < 32; ++i) {
    const bool inside = i < length && position + i < 32;
    if (inside) extracted |= (a >> (position + i) & 1) << i;
    bits |= (inside ? a >> (position + i) & 1 : sign) << i;
    if (inside) inserted = (inserted & ~(1u << (position + i))) | (a >> i & 1) << (position + i);
  }
  const auto with_sign = static_cast<std::int32_t>(bits);
#endif
  return static_cast<std::int32_t>(extracted + 3 * static_cast<std::uint32_t>(with_sign) + 5 * inserted);
}

FUNCTOR(Counted, counted(a))
FUNCTOR(Reversed, reversed(a))
FUNCTOR(HighProduct, high_product(a, b))
FUNCTOR(Funnel, funnel(a, b))
FUNCTOR(Permuted, permuted(a, b))
FUNCTOR(BitFields, bit_fields(a, b))

__global__ void functions(const float* x, float* y, int n) {
  const int i = threadIdx.x;
  if (i >= n) return;
  y[i] = exp2f(x[i]);
  y[n + i] = log2f(x[i]);
  y[2 * n + i] = rsqrtf(x[i]);
  y[3 * n + i] = __sinf(x[i]);
  y[4 * n + i] = expf(-x[i]);
  y[5 * n + i] = tanhf(x[i]);
  y[6 * n + i] = __saturatef(x[i] - 1.0f);
  y[7 * n + i] = __fmaf_rd(x[i], 1.0f / 3.0f, -1.0f);
}

/// A row of a local array at an index known at run time; bytes, pairs and quadruples.
__global__ void memory_forms(const std::uint8_t* bytes, const std::int16_t* shorts, const float2* pairs, float4* quads,
                             int which) {
  float local[8];
  for (int k = 0; k < 8; ++k) local[k] = static_cast<float>(k * static_cast<int>(threadIdx.x));
  const float2 pair = pairs[threadIdx.x];
  const auto negative = reinterpret_cast<const std::int8_t*>(bytes);
  quads[threadIdx.x] =
      make_float4(static_cast<float>(bytes[threadIdx.x]) + local[(which + threadIdx.x) % 8],
                  static_cast<float>(negative[threadIdx.x]), static_cast<float>(shorts[threadIdx.x]), pair.x - pair.y);
}

__global__ void coordinates(int* y) {
  const int in_block = static_cast<int>((threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x);
  const int block = static_cast<int>((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x);
  y[block * static_cast<int>(blockDim.x * blockDim.y * blockDim.z) + in_block] = block * 1000 + in_block;
}

__global__ void shuffles(int* y, int by, int width) {
  const int t = static_cast<int>(threadIdx.x);
  y[t] = __shfl_sync(0xffffffff, t, by, width);
  y[32 + t] = __shfl_up_sync(0xffffffff, t, by, width);
  y[64 + t] = __shfl_down_sync(0xffffffff, t, by, width);
  y[96 + t] = __shfl_xor_sync(0xffffffff, t, by, width);
}

__global__ void votes(const int* x, unsigned* y) {
  const int value = x[threadIdx.x];
  const unsigned half = threadIdx.x < 16 ? 0xffffu : 0xffff0000u;
  const unsigned ballot = __ballot_sync(half, value > 2);
  const int any = __any_sync(half, value > 6), all = __all_sync(half, value > 0);
  const int count = __syncthreads_count(value > 2), every = __syncthreads_and(value > 0),
            some = __syncthreads_or(value > 100);
  y[threadIdx.x] = ballot;
  y[32 + threadIdx.x] = any + 2 * all + 4 * every + 8 * some + 16 * count;
}

__global__ void atomics(int* i, unsigned* u, unsigned long long* w, float* f, double* d) {
  const int t = static_cast<int>(threadIdx.x);
  atomicAdd(&i[0], t);
  atomicMin(&i[1], -t);
  atomicMax(&i[2], t);
  atomicAnd(&u[0], ~(1u << (t % 32)));
  atomicOr(&u[1], 1u << (t % 32));
  atomicXor(&u[2], static_cast<unsigned>(t));
  atomicInc(&u[3], 10);
  atomicDec(&u[4], 10);
  atomicExch(&u[5], 77);
  atomicCAS(&u[6], 5, 9);
  atomicAdd(&w[0], 1ull << 33);
  atomicMax(&w[1], static_cast<unsigned long long>(t));
  atomicAdd(&f[0], 0.5f);
  atomicAdd(&d[0], 0.25);
  __shared__ unsigned count;
  if (t == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 1u);
  __syncthreads();
  if (t == 0) u[7] = count;
}

/// Two groups of copies under way, the older one waited for; of the last thread's, one element is filled with zero.
__global__ void copies(const float* x, float* y) {
  __shared__ alignas(16) float row[2][128];
  const int t = static_cast<int>(threadIdx.x);
  __pipeline_memcpy_async(&row[0][4 * t], x + 4 * t, 16, t == 31 ? 4 : 0);
  __pipeline_commit();
  __pipeline_memcpy_async(&row[1][t], x + t, 4);
  __pipeline_commit();
  __pipeline_wait_prior(1);
  __syncthreads();
  for (int k = 0; k < 4; ++k) y[k * 32 + t] = row[0][k * 32 + t];
  y[128 + t] = row[1][t];
  __pipeline_wait_prior(0);
  y[160 + t] = row[1][t];
}

}  // namespace

TEST_SUITE_BEGIN("plain");

TEST_CASE("integers") {
  check_integers<std::int32_t>();
  check_integers<std::uint32_t>();
  check_integers<std::int64_t>();
  check_integers<std::uint64_t>();
  check_integers<std::int16_t>();
  check_integers<std::uint16_t>();
  check_integers<std::uint8_t>();
  check_pairs<std::int32_t>("wide product", Widened{});
  check_pairs<std::uint32_t>("wide sum", WideSum{});
  check_pairs<std::uint32_t>("counts of bits", Counted{});
  check_pairs<std::uint64_t>("reversed bits", Reversed{});
  check_pairs<std::uint32_t>("high product", HighProduct{});
  check_pairs<std::uint64_t>("high product", HighProduct{});
  check_pairs<std::uint32_t>("funnel shift", Funnel{});
  check_pairs<std::uint32_t>("permuted bytes", Permuted{});
  check_pairs<std::uint32_t>("bit fields", BitFields{});
}

TEST_CASE_TEMPLATE("floating-point numbers", T, float, double) { check_floats<T>(); }

// The host's functions in double; a GPU may be wrong by a few units in the last place.
TEST_CASE("functions") {
  const std::vector<float> x{0.25f, 0.5f, 1.0f, 1.75f, 3.0f, 10.0f, 120.0f, 1e6f};
  const int n = static_cast<int>(x.size());
  float* const from = on_device(x);
  float* const to = on_device(std::vector<float>(8 * x.size()));
  functions<<<1, 32>>>(from, to, n);
  const std::vector<float> y = taken(to, 8 * x.size());
  cudaFree(from);
  for (int i = 0; i < n; ++i) {
    CAPTURE(x[i]);
    const double v = x[i];
    const auto near = [&](int row, double expected) {
      const double limit = expected > std::numeric_limits<float>::max()
                               ? 0.0
                               : 4 * std::numeric_limits<float>::epsilon() * std::fabs(expected) + 1e-37;
      CHECK_MESSAGE((y[row * n + i] == static_cast<float>(expected) || std::fabs(y[row * n + i] - expected) <= limit),
                    "function " << row << ": " << y[row * n + i] << ", not " << expected);
    };
    near(0, std::exp2(v));
    near(1, std::log2(v));
    near(2, 1.0 / std::sqrt(v));
    near(3, std::sin(v));
    near(4, std::exp(-v));
    near(5, std::tanh(v));
    near(6, std::min(std::max(v - 1.0, 0.0), 1.0));
    // Rounded down: not above the exact value, which double holds but for its own rounding, and next to it.
    const double exact = std::fma(v, static_cast<double>(1.0f / 3.0f), -1.0);
    CHECK(y[7 * n + i] <= exact);
    CHECK(std::nextafter(y[7 * n + i], INFINITY) > exact);
  }
}

TEST_CASE("bytes, shorts, vectors and local arrays") {
  std::vector<std::uint8_t> bytes(32);
  std::vector<std::int16_t> shorts(32);
  std::vector<float2> pairs(32);
  for (int i = 0; i < 32; ++i) {
    bytes[i] = static_cast<std::uint8_t>(i * 9);
    shorts[i] = static_cast<std::int16_t>(i * 100 - 1600);
    pairs[i] = make_float2(static_cast<float>(i), 0.5f);
  }
  auto* const b = on_device(bytes);
  auto* const s = on_device(shorts);
  auto* const p = on_device(pairs);
  float4* const q = on_device(std::vector<float4>(32));
  memory_forms<<<1, 32>>>(b, s, p, q, 3);
  const std::vector<float4> got = taken(q, 32);
  cudaFree(b);
  cudaFree(s);
  cudaFree(p);
  for (int i = 0; i < 32; ++i) {
    CHECK(got[i].x == static_cast<float>(bytes[i] + (3 + i) % 8 * i));
    CHECK(got[i].y == static_cast<float>(static_cast<std::int8_t>(bytes[i])));
    CHECK(got[i].z == static_cast<float>(shorts[i]));
    CHECK(got[i].w == pairs[i].x - 0.5f);
  }
}

TEST_CASE("grids and blocks of three dimensions") {
  int* const y = on_device(std::vector<int>(2 * 3 * 4 * 60));
  coordinates<<<dim3(2, 3, 4), dim3(5, 4, 3)>>>(y);
  const std::vector<int> got = taken(y, 2 * 3 * 4 * 60);
  for (int i = 0; i < static_cast<int>(got.size()); ++i) CHECK(got[i] == i / 60 * 1000 + i % 60);
}

TEST_CASE("shuffles of every width") {
  for (const int width : {2, 8, 32}) {
    for (const int by : {0, 1, 3}) {
      int* const y = on_device(std::vector<int>(128));
      shuffles<<<1, 32>>>(y, by, width);
      const std::vector<int> got = taken(y, 128);
      for (int t = 0; t < 32; ++t) {
        const int first = t / width * width;
        CHECK(got[t] == first + by % width);
        CHECK(got[32 + t] == (t - by >= first ? t - by : t));
        CHECK(got[64 + t] == (t + by < first + width ? t + by : t));
        CHECK(got[96 + t] == ((t ^ by) < first + width ? t ^ by : t));
      }
    }
  }
}

TEST_CASE("votes of a warp and of a block") {
  std::vector<int> x(32);
  for (int i = 0; i < 32; ++i) x[i] = 1 + i % 8 - (i >= 16 ? 1 : 0);
  int* const from = on_device(x);
  unsigned* const y = on_device(std::vector<unsigned>(64));
  votes<<<1, 32>>>(from, y);
  const std::vector<unsigned> got = taken(y, 64);
  cudaFree(from);
  unsigned count = 0;
  for (const int value : x) count += value > 2;
  for (int half = 0; half < 2; ++half) {
    unsigned ballot = 0;
    bool any = false, all = true;
    for (int i = 16 * half; i < 16 * half + 16; ++i) {
      ballot |= static_cast<unsigned>(x[i] > 2) << i;
      any = any || x[i] > 6;
      all = all && x[i] > 0;
    }
    for (int i = 16 * half; i < 16 * half + 16; ++i) {
      CHECK(got[i] == ballot);
      CHECK(got[32 + i] == any + 2u * all + 16 * count);
    }
  }
}

TEST_CASE("atomic updates") {
  int* const i = on_device(std::vector<int>(3));
  unsigned* const u = on_device(std::vector<unsigned>{~0u, 0, 0, 0, 0, 0, 5, 0});
  auto* const w = on_device(std::vector<unsigned long long>(2));
  float* const f = on_device(std::vector<float>(1));
  double* const d = on_device(std::vector<double>(1));
  atomics<<<1, 64>>>(i, u, w, f, d);
  CHECK(taken(i, 3) == std::vector<int>{63 * 32, -63, 63});
  // 64 steps through 0 to 10: 64 % 11 = 9; down from 0 to 10, 9, ...: 11 - 9 = 2.
  CHECK(taken(u, 8) == std::vector<unsigned>{0, ~0u, 0, 9, 2, 77, 9, 64});
  CHECK(taken(w, 2) == std::vector<unsigned long long>{64ull << 33, 63});
  CHECK(taken(f, 1) == std::vector<float>{32.0f});
  CHECK(taken(d, 1) == std::vector<double>{16.0});
}

TEST_CASE("asynchronous copies arrive group by group") {
  std::vector<float> x(128);
  for (int i = 0; i < 128; ++i) x[i] = static_cast<float>(i);
  float* const from = on_device(x);
  float* const to = on_device(std::vector<float>(192));
  copies<<<1, 32>>>(from, to);
  const std::vector<float> y = taken(to, 192);
  cudaFree(from);
  for (int i = 0; i < 128; ++i) CHECK(y[i] == (i == 127 ? 0.0f : x[i]));
  for (int i = 0; i < 32; ++i) {
    CHECK(std::isnan(y[128 + i]));
    CHECK(y[160 + i] == x[i]);
  }
}

TEST_CASE("none of these is a problem") {
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(std::string(virtual_gpu_take_problems()) == "");
}

TEST_SUITE_END();
