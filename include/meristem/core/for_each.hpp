// Calls a functor for every index of a one-, two- or three-dimensional space: all work whose elements do not depend on
// each other. On the GPU a grid-stride kernel, on the CPU nested loops over OpenMP workers that vectorise.
//
//   struct Scale {
//     View<float> x;
//     float factor;
//     MERISTEM_HD void operator()(std::int64_t i) const { x(i) *= factor; }
//   };
//   for_each(ctx, x.extent(0), Scale{x, 2.0f});
//
// The functor must not throw: on the GPU it cannot, on the CPU the program ends.
// To vectorise, load first and select afterwards: `x > 0 ? dy[i] : 0` is a branch on data otherwise.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch_kernel.hpp>
#include <meristem/core/source_location.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

namespace detail {

/// How many indices a space with these extents has. Throws ArgumentError if an extent is negative or the number does
/// not fit 64 bits.
inline std::int64_t index_count(std::initializer_list<std::int64_t> extents, SourceLocation where) {
  const auto refuse = [&](const char* why) {
    std::string list;
    for (const std::int64_t extent : extents) list += concat(list.empty() ? "" : ", ", extent);
    throw ArgumentError(concat("for_each: extents (", list, ") ", why), where);
  };
  for (const std::int64_t extent : extents) {
    if (extent < 0) refuse("must not be negative");
  }
  std::int64_t count = 1;
  for (const std::int64_t extent : extents) {
    if (extent == 0) return 0;
    if (count > INT64_MAX / extent) refuse("have more than 2^63 elements");
    count *= extent;
  }
  return count;
}

#if MERISTEM_GPU

inline constexpr unsigned for_each_block = 256;

/// `Index` is 32 bits wide where that suffices: 64-bit division is many instructions on a GPU.
template <class Index, class F>
__global__ void for_each_1d(Index n, F f) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    f(static_cast<std::int64_t>(i));
  }
}

template <class Index, class F>
__global__ void for_each_2d(Index n, Index n1, F f) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    f(static_cast<std::int64_t>(i / n1), static_cast<std::int64_t>(i % n1));
  }
}

template <class Index, class F>
__global__ void for_each_3d(Index n, Index n1, Index n2, F f) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const Index row = i / n2;
    f(static_cast<std::int64_t>(row / n1), static_cast<std::int64_t>(row % n1), static_cast<std::int64_t>(i % n2));
  }
}

/// Enough blocks to fill any GPU; the threads stride over the rest. With so few, 32-bit indices never overflow below
/// 2^31 elements.
inline unsigned for_each_grid(std::int64_t n) {
  constexpr std::int64_t most = 8192;
  const std::int64_t blocks = (n - 1) / for_each_block + 1;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

inline bool fits_32_bits(std::int64_t n) { return n <= 0x7fffffff; }

/// Parts one after the other as one space.
template <class Index, class... Parts>
struct PartsInOne {
  __device__ void operator()(Index) const {}
};

template <class Index, class Part, class... Rest>
struct PartsInOne<Index, Part, Rest...> {
  Index size;
  Part part;
  PartsInOne<Index, Rest...> rest;

  PartsInOne(const Part& first, const Rest&... others)
      : size(static_cast<Index>(first.size())), part(first), rest(others...) {}

  __device__ void operator()(Index i) const {
    if (i < size) {
      part.template call<Index>(i);
    } else {
      rest(i - size);
    }
  }
};

template <class Index, class Parts>
__global__ void for_each_part(Index n, Parts parts) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) parts(i);
}

#else

#if defined(__clang__)
// Clang tells of every loop that it cannot vectorise, whatever functor a user gives.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

/// The elements [first, last) of one row. Out of line and with the functor by value: captured by the OpenMP region it
/// would not vectorise.
template <class F>
[[gnu::noinline]] void for_each_range(F f, std::int64_t first, std::int64_t last) {
  MERISTEM_INDEPENDENT
  for (std::int64_t i = first; i < last; ++i) f(i);
}

/// The elements [first, last) of the whole space in row-major order.
template <class F>
[[gnu::noinline]] void for_each_range(F f, std::int64_t first, std::int64_t last, std::int64_t n1, std::int64_t n2) {
  std::int64_t i = first / n2 / n1;
  std::int64_t j = first / n2 % n1;
  std::int64_t start = first % n2;
  std::int64_t left = last - first;
  while (left > 0) {
    const std::int64_t stop = left < n2 - start ? start + left : n2;
    MERISTEM_INDEPENDENT
    for (std::int64_t k = start; k < stop; ++k) f(i, j, k);
    left -= stop - start;
    start = 0;
    if (++j == n1) {
      j = 0;
      ++i;
    }
  }
}

#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/// A functor of two indices as one of three.
template <class F>
struct IgnoreFirst {
  F f;
  void operator()(std::int64_t, std::int64_t j, std::int64_t k) const { f(j, k); }
};

/// Below this many elements opening an OpenMP region costs more than it saves.
inline constexpr std::int64_t parallel_elements = 128 << 10;

/// Elements that one call of a functor works on: its member `elements`, or 1.
template <class F>
[[nodiscard]] constexpr std::int64_t elements_of_call() {
  if constexpr (requires { F::elements; }) return F::elements;
  return 1;
}

/// Splits [0, size) over the context's workers, each of which calls `run(first, last)` once. With another thread order
/// than forward, calls it for single indices in that order. An index stands for `weight` elements.
template <class Run>
void split_range(const Context& ctx, std::int64_t size, const Run& run, [[maybe_unused]] std::int64_t weight = 1) {
  const DeviceAccess access;
  const ExecutorOptions& options = ctx.executor();
  if (options.order != ThreadOrder::forward) {
    const host::Permutation order(size, options.order, options.order_seed);
    for (std::int64_t i = 0; i < size; ++i) run(order(i), order(i) + 1);
    return;
  }
#if defined(_OPENMP) && !MERISTEM_TSAN
  const int workers = ctx.threads();
  if (size >= parallel_elements / weight && size >= workers && workers > 1) {
#pragma omp parallel for num_threads(workers) schedule(static)
    for (int w = 0; w < workers; ++w) {
      const std::int64_t share = size / workers;
      run(share * w, w + 1 == workers ? size : share * (w + 1));
    }
    return;
  }
#endif
  run(std::int64_t{0}, size);
}

#endif

}  // namespace detail

/// Calls f(i) for 0 <= i < n, in no particular order and concurrently. A functor whose call works on many elements says
/// how many in a static member `elements`, so that the CPU knows when workers are worth it. Throws ArgumentError if n
/// is negative.
template <class F>
void for_each(Context& ctx, std::int64_t n, F f, SourceLocation where = SourceLocation::current()) {
  if (detail::index_count({n}, where) == 0) return;
#if MERISTEM_GPU
  if (detail::fits_32_bits(n)) {
    launch<detail::for_each_1d<unsigned, F>>(ctx, detail::for_each_grid(n), detail::for_each_block, 0,
                                             static_cast<unsigned>(n), f);
  } else {
    launch<detail::for_each_1d<std::int64_t, F>>(ctx, detail::for_each_grid(n), detail::for_each_block, 0, n, f);
  }
#else
  detail::split_range(
      ctx, n, [&f](std::int64_t first, std::int64_t last) { detail::for_each_range(f, first, last); },
      detail::elements_of_call<F>());
#endif
}

/// Calls f(i, j) for 0 <= i < n0, 0 <= j < n1; j is the index along contiguous memory.
template <class F>
void for_each(Context& ctx, std::int64_t n0, std::int64_t n1, F f, SourceLocation where = SourceLocation::current()) {
  const std::int64_t count = detail::index_count({n0, n1}, where);
  if (count == 0) return;
#if MERISTEM_GPU
  if (detail::fits_32_bits(count)) {
    launch<detail::for_each_2d<unsigned, F>>(ctx, detail::for_each_grid(count), detail::for_each_block, 0,
                                             static_cast<unsigned>(count), static_cast<unsigned>(n1), f);
  } else {
    launch<detail::for_each_2d<std::int64_t, F>>(ctx, detail::for_each_grid(count), detail::for_each_block, 0, count,
                                                 n1, f);
  }
#else
  const detail::IgnoreFirst<F> g{f};
  detail::split_range(ctx, count, [&g, n0, n1](std::int64_t first, std::int64_t last) {
    detail::for_each_range(g, first, last, n0, n1);
  });
#endif
}

/// Calls f(i, j, k) for 0 <= i < n0, 0 <= j < n1, 0 <= k < n2; k is the index along contiguous memory.
template <class F>
void for_each(Context& ctx, std::int64_t n0, std::int64_t n1, std::int64_t n2, F f,
              SourceLocation where = SourceLocation::current()) {
  const std::int64_t count = detail::index_count({n0, n1, n2}, where);
  if (count == 0) return;
#if MERISTEM_GPU
  if (detail::fits_32_bits(count)) {
    launch<detail::for_each_3d<unsigned, F>>(ctx, detail::for_each_grid(count), detail::for_each_block, 0,
                                             static_cast<unsigned>(count), static_cast<unsigned>(n1),
                                             static_cast<unsigned>(n2), f);
  } else {
    launch<detail::for_each_3d<std::int64_t, F>>(ctx, detail::for_each_grid(count), detail::for_each_block, 0, count,
                                                 n1, n2, f);
  }
#else
  detail::split_range(ctx, count, [&f, n1, n2](std::int64_t first, std::int64_t last) {
    detail::for_each_range(f, first, last, n1, n2);
  });
#endif
}

/// One space of `for_each_of`: what `for_each` is given.
template <class F, int Axes>
struct Part {
  F f;
  std::int64_t n0 = 1, n1 = 1, n2 = 1;

  [[nodiscard]] std::int64_t size() const { return detail::index_count({n0, n1, n2}, SourceLocation::current()); }

#if MERISTEM_GPU
  template <class Index>
  __device__ void call(Index i) const {
    const auto wide = [](Index k) { return static_cast<std::int64_t>(k); };
    const Index b = static_cast<Index>(n1), c = static_cast<Index>(n2);
    if constexpr (Axes == 1) f(wide(i));
    if constexpr (Axes == 2) f(wide(i / b), wide(i % b));
    if constexpr (Axes == 3) f(wide(i / c / b), wide(i / c % b), wide(i % c));
  }
#endif
};

template <class F>
[[nodiscard]] Part<F, 1> part(std::int64_t n, F f) {
  return {f, n};
}
template <class F>
[[nodiscard]] Part<F, 2> part(std::int64_t n0, std::int64_t n1, F f) {
  return {f, n0, n1};
}
template <class F>
[[nodiscard]] Part<F, 3> part(std::int64_t n0, std::int64_t n1, std::int64_t n2, F f) {
  return {f, n0, n1, n2};
}

/// `for_each` of several spaces, none of which reads what another one writes, in one launch on the GPU:
///
///   for_each_of(ctx, part(n, Scale{x, 2.0f}), part(rows, columns, Transpose{a, b}));
template <class... F, int... Axes>
void for_each_of(Context& ctx, const Part<F, Axes>&... parts) {
  const std::int64_t count = (parts.size() + ...);
  if (count == 0) return;
#if MERISTEM_GPU
  if (detail::fits_32_bits(count)) {
    using All = detail::PartsInOne<unsigned, Part<F, Axes>...>;
    launch<detail::for_each_part<unsigned, All>>(ctx, detail::for_each_grid(count), detail::for_each_block, 0,
                                                 static_cast<unsigned>(count), All(parts...));
  } else {
    using All = detail::PartsInOne<std::int64_t, Part<F, Axes>...>;
    launch<detail::for_each_part<std::int64_t, All>>(ctx, detail::for_each_grid(count), detail::for_each_block, 0,
                                                     count, All(parts...));
  }
#else
  const auto run = [&]<class G, int N>(const Part<G, N>& each) {
    if constexpr (N == 1) for_each(ctx, each.n0, each.f);
    if constexpr (N == 2) for_each(ctx, each.n0, each.n1, each.f);
    if constexpr (N == 3) for_each(ctx, each.n0, each.n1, each.n2, each.f);
  };
  (run(parts), ...);
#endif
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
