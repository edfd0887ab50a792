// Looking for NaN and infinity in matrices.
#pragma once

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
    const std::int64_t begin = part == Part::upper ? i : 0, end = part == Part::lower ? i + 1 : a.extent(1);
    if (begin >= end || (a.stride(1) == 1 && all_finite(&a(i, begin), end - begin))) return;
    for (std::int64_t j = begin; j < end; ++j) (*this)(i, j);
  }
#endif
};

/// Looks for NaN and infinity in several matrices, and waits for the device once for all of them.
class NonFiniteSearch {
 public:
  struct Place {
    std::int64_t row, column;
  };

  /// For at most `matrices`.
  NonFiniteSearch(Context& ctx, std::int64_t matrices) : first_(ctx, {matrices}) {
    fill_bytes(ctx, first_.data(), 0xff, static_cast<std::size_t>(matrices) * sizeof(unsigned long long));
  }

  template <class T>
  void add(Context& ctx, View<const T> a, Part part = Part::all) {
    const FindNonFinite<T> find{a, part, first_.data() + columns_.size()};
    columns_.push_back(a.extent(1));
    if (a.empty()) return;
#if MERISTEM_GPU
    for_each(ctx, a.extent(0), a.extent(1), find);
#else
    for_each(ctx, a.extent(0), find);
#endif
  }

  /// Of each matrix, in the order in which they were added, the first place in memory order, if there is one.
  [[nodiscard]] std::vector<std::optional<Place>> found(Context& ctx) const {
    const std::vector<unsigned long long> first = to_host(ctx, first_);
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
  Tensor<unsigned long long> first_;
  std::vector<std::int64_t> columns_;
};

}  // namespace detail

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
