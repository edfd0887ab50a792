// Looking for NaN and infinity in matrices.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/for_each.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

namespace detail {

/// The elements of a matrix that count.
enum class Part { all, lower, upper };

/// Whether none of n numbers that lie one after the other is NaN or infinite.
template <class T>
[[nodiscard]] MERISTEM_HD bool all_finite(const T* values, std::int64_t n) {
  int bad = 0;
#if defined(_OPENMP) && !MERISTEM_GPU
#pragma omp simd reduction(| : bad)
#endif
  for (std::int64_t j = 0; j < n; ++j) bad |= values[j] - values[j] != T(0);
  return bad == 0;
}

/// *first = the least place i · columns + j of an element (i, j) that is NaN or infinite, if it is below what was
/// there.
template <class T>
struct FindNonFinite {
  static constexpr std::int64_t elements = 256;  // in a row, about
  View<const T> a;
  Part part;
  unsigned long long* first;

  /// One element; on a GPU neighbouring threads read neighbours.
  __device__ void operator()(std::int64_t i, std::int64_t j) const {
    if (part == Part::lower ? j > i : part == Part::upper && j < i) return;
    const T value = a(i, j);
    if (value - value != T(0)) atomicMin(first, static_cast<unsigned long long>(i * a.extent(1) + j));
  }
#if !MERISTEM_GPU
  /// A row, in vectors.
  void operator()(std::int64_t i) const {
    const std::int64_t begin = part == Part::upper ? i : 0;
    const std::int64_t end = part == Part::lower ? std::min(i + 1, a.extent(1)) : a.extent(1);
    if (begin >= end || (a.stride(1) == 1 && all_finite(&a(i, begin), end - begin))) return;
    for (std::int64_t j = begin; j < end; ++j) (*this)(i, j);
  }
#endif
};

#if MERISTEM_GPU
/// The same in several matrices at once; element (i, j) of those that have one.
template <class T>
struct FindNonFiniteInEach {
  static constexpr int most = 8;
  FindNonFinite<T> find[most];

  __device__ void operator()(std::int64_t matrix, std::int64_t i, std::int64_t j) const {
    const FindNonFinite<T>& one = find[matrix];
    if (i < one.a.extent(0) && j < one.a.extent(1)) one(i, j);
  }
};
#endif

/// Looks for NaN and infinity in several matrices at once, and waits for the device once for all of them.
template <class T>
class NonFiniteSearch {
 public:
  struct Place {
    std::int64_t row, column;
  };

  /// For at most `matrices`.
  NonFiniteSearch(Context& ctx, std::int64_t matrices) : first_(ctx, {matrices}) {
    fill_bytes(ctx, first_.data(), 0xff, static_cast<std::size_t>(matrices) * sizeof(unsigned long long));
  }

  void add(View<const T> a, Part part = Part::all) {
    const auto index = static_cast<std::int64_t>(columns_.size());
    columns_.push_back(a.extent(1));
    if (!a.empty()) searches_.push_back({a, part, first_.data() + index});
  }

  /// Of each matrix, in the order in which they were added, the first place in memory order, if there is one. Waits for
  /// the device in any case.
  [[nodiscard]] std::vector<std::optional<Place>> found(Context& ctx) const {
    search(ctx);
    const std::vector<unsigned long long> first = to_host(ctx, first_.view());
    std::vector<std::optional<Place>> result;
    for (std::size_t k = 0; k < columns_.size(); ++k) {
      result.emplace_back();
      if (first[k] == ~0ull) continue;
      const auto at = static_cast<std::int64_t>(first[k]);
      result.back() = Place{at / columns_[k], at % columns_[k]};
    }
    return result;
  }

 private:
  void search(Context& ctx) const {
#if MERISTEM_GPU
    using Each = FindNonFiniteInEach<T>;
    for (std::size_t begin = 0; begin < searches_.size(); begin += Each::most) {
      Each each{};
      const std::size_t count = std::min<std::size_t>(Each::most, searches_.size() - begin);
      std::int64_t rows = 0, columns = 0;
      for (std::size_t k = 0; k < count; ++k) {
        each.find[k] = searches_[begin + k];
        rows = std::max(rows, each.find[k].a.extent(0));
        columns = std::max(columns, each.find[k].a.extent(1));
      }
      for_each(ctx, static_cast<std::int64_t>(count), rows, columns, each);
    }
#else
    for (const FindNonFinite<T>& find : searches_) for_each(ctx, find.a.extent(0), find);
#endif
  }

  Tensor<unsigned long long> first_;
  std::vector<std::int64_t> columns_;
  std::vector<FindNonFinite<T>> searches_;
};

}  // namespace detail

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
