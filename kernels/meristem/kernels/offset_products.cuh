// Products of two maps shifted against each other, over rows and columns of positions: the channel × channel matrices
// that convolution statistics are made of.
//
//   out[c, o, q] += Σ_i Σ_{y in rows} Σ_{x in columns} a[i, y, x, c] · b[i, y + dy, x + dx + o, q]    b zero outside
//
//   a: n × Ha × Wa × A,  b: n × Hb × Wb × B,  out: channels of a × column offsets × B
//
// Two paths. `kernel` is the tile kernel of offset_products_kernel.cuh. `blas`: a few maps at a time are copied with
// their rows side by side, (y, i, x, channel), where they stay in cache. There a column of positions of all these maps
// is a matrix whose rows lie equally far apart, and so are its neighbours on the right and left together: for each
// column and row offset ONE product of matrices serves all column offsets, in place, without zeros around the maps and
// without patches. Multiply-adds: as many as there are pairs of positions on the maps.
//
// Any rows and columns of positions may be asked for, so that border strips that count differently are sums of their
// own: nothing is computed twice and nothing is subtracted.
//
// Sums are in T, in an order that follows from the shapes alone: equal inputs give equal bits, for any number of
// threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/offset_products_kernel.cuh>
#include <meristem/kernels/require.hpp>
#if !MERISTEM_GPU
#include <meristem/core/host_tasks.hpp>
#endif

namespace meristem::kernels {

/// How shifted products are computed.
enum class OffsetPath {
  automatic,  ///< the CPU takes `blas`, the GPU `kernel`
  kernel,     ///< the tile kernel of offset_products_kernel.cuh
  blas,       ///< gemm on interleaved maps
};

/// The indices [begin, end).
struct IndexRange {
  std::int64_t begin = 0, end = 0;
  [[nodiscard]] constexpr std::int64_t size() const { return end - begin; }
  friend constexpr bool operator==(const IndexRange&, const IndexRange&) = default;
};

/// The products over one set of positions of a, at one row offset and neighbouring column offsets.
struct OffsetProduct {
  std::vector<IndexRange> rows;     ///< of a; with the row offset on the map of b
  std::vector<IndexRange> columns;  ///< of a
  std::int64_t dy = 0;              ///< row offset
  std::int64_t dx = 0;              ///< first column offset
  std::int64_t offsets = 1;         ///< column offsets
  IndexRange channels;              ///< of a
  std::int64_t place = 0;           ///< first element of the result (channels, offsets, channels of b)
};

namespace offset_detail {

/// to[y][i][x·c] = from[first + i][y][x·c]
template <class T>
struct InterleaveRows {
  const T* from;
  T* to;
  std::int64_t maps, rows, row_size, first;
  MERISTEM_HD void operator()(std::int64_t y, std::int64_t i, std::int64_t k) const {
    to[(y * maps + i) * row_size + k] = from[((first + i) * rows + y) * row_size + k];
  }
};

/// A group of maps with their rows side by side.
template <class T>
struct Interleaved {
  const T* data = nullptr;
  std::int64_t maps = 0, rows = 0, columns = 0, channels = 0;

  /// Positions (y, x) for `count` rows of all maps from row (y, 0) on, and `width` columns: (count, width · channels).
  [[nodiscard]] View<const T> block(std::int64_t first_row, std::int64_t count, std::int64_t x, IndexRange take) const {
    const std::int64_t stride = columns * channels;
    return View<const T>(data + first_row * stride, {count, stride})
        .slice(1, x * channels + take.begin, x * channels + take.end);
  }
};

/// Calls task(i) for 0 <= i < count; on the CPU spread over the context's threads if `multiply_adds`, of all of them,
/// are worth it, BLAS on one thread each.
template <class Task>
void for_tasks([[maybe_unused]] Context& ctx, std::int64_t count, [[maybe_unused]] double multiply_adds,
               const Task& task) {
#if !MERISTEM_GPU
  constexpr double worth_threads = 4e6;
  if (multiply_adds >= worth_threads) {
    host::for_tasks(ctx, count, [&](std::int64_t i, int) { task(i); });
    return;
  }
  [[maybe_unused]] const host::OneBlasThread one;
#endif
  for (std::int64_t i = 0; i < count; ++i) task(i);
}

[[nodiscard]] inline std::int64_t total_size(const std::vector<IndexRange>& ranges) {
  std::int64_t sum = 0;
  for (const IndexRange& range : ranges) sum += range.size();
  return sum;
}

/// Rows of a product of matrices with m × n results. BLAS libraries with kernels for small matrices use them up to
/// about 100³ multiply-adds, without packing; where they have none, a little depth is lost. The results of all columns
/// are added up before `target` is asked again: not much more than 4096 positions.
[[nodiscard]] constexpr std::int64_t depth_of_product(std::int64_t m, std::int64_t n, std::int64_t columns) {
  constexpr std::int64_t little_work = 1'000'000, least = 32, most = 512, positions = 4096;
  const std::int64_t depth = std::clamp(little_work / std::max<std::int64_t>(m * n, 1), least, most);
  return std::clamp<std::int64_t>(positions / std::max<std::int64_t>(columns, 1), 1, depth);
}

/// One product over one group of maps.
template <Real T, class Target>
void multiply(Context& ctx, const Interleaved<T>& a, const Interleaved<T>& b, const OffsetProduct& product,
              const Target& target) {
  const std::int64_t width = product.offsets * b.channels, m = product.channels.size();
  const std::int64_t columns = total_size(product.columns);
  const std::int64_t longest = depth_of_product(m, width, columns);
  for (const IndexRange& rows : product.rows) {
    const std::int64_t depth = rows.size() * a.maps;
    const std::int64_t parts = (depth + longest - 1) / longest;
    for (std::int64_t part = 0; part < parts; ++part) {
      const std::int64_t begin = depth * part / parts, count = depth * (part + 1) / parts - begin;
      const View<T> out(target(count * columns), {m, width});
      for (const IndexRange& range : product.columns) {
        for (std::int64_t x = range.begin; x < range.end; ++x) {
          // The neighbours that are on the map.
          const std::int64_t low = std::max<std::int64_t>(product.dx, -x);
          const std::int64_t high = std::min(product.dx + product.offsets, b.columns - x);
          if (low >= high) continue;
          gemm(ctx, Transpose::yes, Transpose::no, 1, a.block(rows.begin * a.maps + begin, count, x, product.channels),
               b.block((rows.begin + product.dy) * a.maps + begin, count, x + low, {0, (high - low) * b.channels}), 1,
               out.slice(1, (low - product.dx) * b.channels, (high - product.dx) * b.channels));
        }
      }
    }
  }
}

template <Real T, class Target>
void with_kernel(Context& ctx, View<const T> a, View<const T> b, std::span<const OffsetProduct> products,
                 const Target& target) {
  offset_tiles::require_map<T>("accumulate_offset_products", "a", a);
  offset_tiles::require_map<T>("accumulate_offset_products", "b", b);
  std::vector<offset_tiles::Request<T>> requests;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const OffsetProduct& product = products[i];
    offset_tiles::Request<T> request;
    for (std::int64_t o = 0; o < product.offsets; ++o) request.offsets.push_back({product.dy, product.dx + o});
    for (const IndexRange& rows : product.rows) {
      for (const IndexRange& columns : product.columns) {
        const Region region{{rows.begin, columns.begin}, {rows.end, columns.end}};
        if (!region.empty()) request.regions.push_back(region);
      }
    }
    if (request.regions.empty()) continue;
    // The kernel adds up slabs in double: its sums count as short ones, whatever the number of positions.
    request.out = {target(i, std::int64_t{0}, std::int64_t{1}), b.extent(3), product.offsets * b.extent(3),
                   product.channels.begin, product.channels.size()};
    requests.push_back(std::move(request));
  }
  offset_tiles::add_products<T>(ctx, a, b, requests, nullptr, nullptr);
}

}  // namespace offset_detail

/// How many samples are interleaved at a time: those of four megabytes, which the outer caches hold, so that threads
/// that share the products of a group seldom wait for each other.
[[nodiscard]] constexpr std::int64_t interleaved_samples(std::int64_t sample_bytes) {
  constexpr std::int64_t bytes = std::int64_t{4} << 20;
  return std::max<std::int64_t>(1, bytes / std::max<std::int64_t>(sample_bytes, 1));
}

/// Adds all `products` of the maps a and b. `slabs` groups of maps are added up apart from each other, so that they can
/// be computed at the same time: their sums have to be added by the caller. `target(i, slab, positions)` returns where
/// to add (+=) the result of products[i], (channels, offsets, channels of b), over that many positions of the slab's
/// maps; it is called from several threads, but never at the same time for the same i and slab.
///
/// a (n, Ha, Wa, A) and b (n, Hb, Wb, B) are contiguous; b may be a. Scratch memory: by BLAS about four megabytes,
/// or a sample for each slab; by the kernel a matrix of A·B numbers for each slab of each product and offset, all at
/// once. Throws ShapeError for maps that do not fit each other.
template <Real T, class Target>
void accumulate_offset_products(Context& ctx, View<const std::type_identity_t<T>> a,
                                View<const std::type_identity_t<T>> b, std::span<const OffsetProduct> products,
                                std::int64_t slabs, const Target& target, OffsetPath path = OffsetPath::automatic) {
  constexpr const char* name = "accumulate_offset_products";
  detail::require_contiguous(name, "a", a);
  detail::require_contiguous(name, "b", b);
  if (a.rank() != 4 || b.rank() != 4 || a.extent(0) != b.extent(0)) {
    throw ShapeError(concat(name,
                            ": a and b must have rank 4 (samples, rows, columns, channels) and the same number of ",
                            "samples; got shapes ", a.shape(), " and ", b.shape()));
  }
  const std::int64_t n = a.extent(0);
  if (n == 0 || a.empty() || b.empty() || products.empty()) return;
  if (path == OffsetPath::kernel || (path == OffsetPath::automatic && MERISTEM_GPU)) {
    offset_detail::with_kernel<T>(ctx, a, b, products, target);
    return;
  }
  const bool same = a.data_handle() == b.data_handle();
  const std::int64_t a_row = a.extent(2) * a.extent(3), b_row = b.extent(2) * b.extent(3);
  const std::int64_t a_map = a.extent(1) * a_row, b_map = same ? 0 : b.extent(1) * b_row;
  const std::int64_t group = std::min(interleaved_samples((a_map + b_map) * static_cast<std::int64_t>(sizeof(T))), n);
  const std::int64_t at_once = (group + slabs - 1) / slabs;
  // The rows of a single map lie side by side already.
  const bool copied = at_once > 1;
  Tensor<T> scratch(ctx, {slabs, copied ? at_once * (a_map + b_map) : 0});
  std::vector<offset_detail::Interleaved<T>> left(static_cast<std::size_t>(slabs)), right(left);
  const auto count = static_cast<std::int64_t>(products.size());
  double multiply_adds = 0.0;
  for (const OffsetProduct& product : products) {
    const std::int64_t results = product.channels.size() * product.offsets * b.extent(3);
    multiply_adds += static_cast<double>(offset_detail::total_size(product.rows)) *
                     static_cast<double>(offset_detail::total_size(product.columns) * results);
  }
  for (std::int64_t first = 0; first < n; first += slabs * at_once) {
    const std::int64_t maps = std::min(slabs * at_once, n - first);
    for (std::int64_t slab = 0; slab < slabs; ++slab) {
      const std::int64_t begin = maps * slab / slabs, size = maps * (slab + 1) / slabs - begin;
      T* const to = scratch.data() + slab * scratch.extent(1);
      T* const b_to = same ? to : to + at_once * a_map;
      const auto at = static_cast<std::size_t>(slab);
      left[at] = {copied ? to : a.data_handle() + (first + begin) * a_map, size, a.extent(1), a.extent(2), a.extent(3)};
      right[at] = {copied ? b_to : b.data_handle() + (first + begin) * b.stride(0), size, b.extent(1), b.extent(2),
                   b.extent(3)};
      if (!copied) continue;
      for_each(ctx, a.extent(1), size, a_row,
               offset_detail::InterleaveRows<T>{a.data_handle(), to, size, a.extent(1), a_row, first + begin});
      if (same) continue;
      for_each(ctx, b.extent(1), size, b_row,
               offset_detail::InterleaveRows<T>{b.data_handle(), b_to, size, b.extent(1), b_row, first + begin});
    }
    const double work = multiply_adds * static_cast<double>(maps);
    offset_detail::for_tasks(ctx, slabs * count, work, [&](std::int64_t task) {
      const std::int64_t slab = task / count;
      const auto i = static_cast<std::size_t>(task % count), at = static_cast<std::size_t>(slab);
      if (left[at].maps == 0) return;
      offset_detail::multiply<T>(ctx, left[at], right[at], products[i],
                                 [&](std::int64_t positions) { return target(i, slab, positions); });
    });
  }
}

}  // namespace meristem::kernels
