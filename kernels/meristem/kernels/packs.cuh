// Elements side by side that a thread of a GPU reads and writes by one access, of 16 bytes where alignment and extents
// allow. On the CPU loops vectorise without them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>

namespace meristem::kernels::detail {

/// out[i] = f(in[0][i], in[1][i], ...); out may be one of the inputs.
template <class F, class T, int Inputs>
struct Map {
  F f;
  const T* in[Inputs > 0 ? Inputs : 1];
  T* out;

  MERISTEM_HD void operator()(std::int64_t i) const { at(i, std::make_index_sequence<Inputs>()); }
  template <std::size_t... Each>
  MERISTEM_HD void at([[maybe_unused]] std::int64_t i, std::index_sequence<Each...>) const {
    out[i] = f(in[Each][i]...);
  }
};

/// Elements of the widest access.
template <class T>
inline constexpr int pack_size = (MERISTEM_GPU) && std::is_floating_point_v<T> ? 16 / static_cast<int>(sizeof(T)) : 1;

/// W elements, aligned to as many.
template <class T, int W>
struct alignas(sizeof(T) * W) Pack {
  T at[W];
};

template <int W, class T>
MERISTEM_HD Pack<T, W> load_pack(const T* from) {
  if constexpr (W == 1) {
    return {{*from}};
  } else {
    return *reinterpret_cast<const Pack<T, W>*>(from);
  }
}

template <class T, int W>
MERISTEM_HD void store_pack(const Pack<T, W>& pack, T* to) {
  static_assert(W == 1 || (W == 4 && std::is_same_v<T, float>) || (W == 2 && std::is_same_v<T, double>));
#if defined(__CUDA_ARCH__)
  // The compiler takes structures apart, and does not always put the parts together again.
  if constexpr (W == 4)
    __stwb(reinterpret_cast<float4*>(to), make_float4(pack.at[0], pack.at[1], pack.at[2], pack.at[3]));
  if constexpr (W == 2) __stwb(reinterpret_cast<double2*>(to), make_double2(pack.at[0], pack.at[1]));
#endif
  if constexpr (W == 1) *to = pack.at[0];
}

/// Whether a pointer, or none, may be read by 16 bytes.
MERISTEM_HD inline bool is_aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

/// Calls `run` with the size of packs, as a type: the largest, if all pointers are aligned and rows of `extent`
/// elements too, else 1.
template <class T, class Run, class... Pointers>
void with_packs(std::int64_t extent, Run&& run, Pointers... pointers) {
  if constexpr ((pack_size<T>) > 1) {
    if (extent % pack_size<T> == 0 && (is_aligned(pointers) && ...)) {
      return run(std::integral_constant<int, pack_size<T>>());
    }
  }
  run(std::integral_constant<int, 1>());
}

#if MERISTEM_GPU

/// A Map, a pack at a time; what is left at the end of n elements one by one.
template <class F, class T, int Inputs>
struct MapPacks {
  Map<F, T, Inputs> map;
  std::int64_t n;

  __device__ void operator()(std::int64_t number) const {
    constexpr int W = pack_size<T>;
    const std::int64_t first = number * W;
    if (first + W <= n) {
      at(first, std::make_index_sequence<Inputs>());
    } else {
      for (std::int64_t i = first; i < n; ++i) map(i);
    }
  }
  template <std::size_t... Each>
  __device__ void at(std::int64_t first, std::index_sequence<Each...>) const {
    constexpr int W = pack_size<T>;
    [[maybe_unused]] const Pack<T, W> in[] = {load_pack<W>(map.in[Each] + first)..., {}};
    Pack<T, W> out;
    for (int k = 0; k < W; ++k) out.at[k] = map.f(in[Each].at[k]...);
    store_pack(out, map.out + first);
  }
};

/// Calls f(i, f.column(i modulo `columns`)) for i < n: a thread stays in one column, so that what belongs to it is in
/// registers and nothing is divided on the way.
template <class Index, class F>
__global__ void for_each_in_columns(Index n, Index columns, F f) {
  const Index threads = static_cast<Index>(gridDim.x) * blockDim.x, step = threads - threads % columns;
  const Index first = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (first >= step || first >= n) return;
  const auto column = f.column(static_cast<std::int64_t>(first % columns));
  for (Index i = first; i < n; i += step) f(static_cast<std::int64_t>(i), column);
}

template <class F>
void for_each_in_columns(Context& ctx, std::int64_t rows, std::int64_t columns, const F& f) {
  const std::int64_t n = rows * columns;
  if (n == 0) return;
  constexpr std::int64_t block = 256;
  // Enough to fill the GPU; but all columns have to be there, and none is without work.
  const std::int64_t fill = std::int64_t{8} * ctx.properties().multiProcessorCount;
  const std::int64_t least = (columns - 1) / block + 1, most = (n - 1) / block + 1;
  const std::int64_t blocks = fill < least ? least : fill < most ? fill : most;
  if (n <= 0x3fffffff) {
    launch<for_each_in_columns<unsigned, F>>(ctx, blocks_for(blocks, 1), block, 0, static_cast<unsigned>(n),
                                             static_cast<unsigned>(columns), f);
  } else {
    launch<for_each_in_columns<std::int64_t, F>>(ctx, blocks_for(blocks, 1), block, 0, n, columns, f);
  }
}

#endif

/// out[i] = f(in[i]...) for i < n.
template <class F, class T, class... Inputs>
void map_elements(Context& ctx, std::int64_t n, const F& f, T* out, const Inputs*... in) {
  const Map<F, T, sizeof...(in)> map{f, {in...}, out};
#if MERISTEM_GPU
  if (is_aligned(out) && (is_aligned(in) && ...)) {
    return for_each(ctx, (n + pack_size<T> - 1) / pack_size<T>, MapPacks<F, T, sizeof...(in)>{map, n});
  }
#endif
  for_each(ctx, n, map);
}

}  // namespace meristem::kernels::detail
