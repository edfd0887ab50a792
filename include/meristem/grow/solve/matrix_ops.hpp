// Small operations on matrices in the memory of a Context that the growth solver needs beside BLAS and LAPACK.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/for_each.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>

namespace meristem::grow::detail {

/// Distance from 1 to the next number of the type the statistics are held in.
template <Real T>
inline constexpr double epsilon_of = std::is_same_v<T, float> ? 0x1p-23 : 0x1p-52;

template <class From, class To>
struct Convert {
  View<const From> from;
  View<To> to;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const { to(i, j) = static_cast<To>(from(i, j)); }
};

template <class From, class To>
struct ConvertTransposed {
  View<const From> from;
  View<To> to;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const { to(i, j) = static_cast<To>(from(j, i)); }
};

/// to(i, j) = factor[i] from(index[i], j)
template <class From, class To>
struct GatherRows {
  View<const From> from;
  const std::int64_t* index;
  const double* factor;
  View<To> to;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const {
    to(i, j) = static_cast<To>(factor[i] * static_cast<double>(from(index[i], j)));
  }
};

/// The lower triangle of to = D⁻¹ from D⁻¹ + ridge I; the other one stays as it was.
template <class From, class To>
struct Equilibrate {
  View<const From> from;
  const double* inverse_scale;
  double ridge;
  View<To> to;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const {
    if (j > i) return;
    const double value = static_cast<double>(from(i, j)) * inverse_scale[i] * inverse_scale[j];
    to(i, j) = static_cast<To>(i == j ? value + ridge : value);
  }
};

/// The lower triangles of to[k] = from + ridges[k] I.
template <class T>
struct AddRidges {
  View<const T> from;
  const double* ridges;
  View<T> to;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i, std::int64_t j) const {
    if (j <= i) to(k, i, j) = i == j ? from(i, i) + static_cast<T>(ridges[k]) : from(i, j);
  }
};

template <class T>
struct AddTo {
  View<const T> term;
  View<T> sum;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const { sum(i, j) += term(i, j); }
};

/// a[i stride] += value
template <class T>
struct AddToDiagonal {
  T* a;
  std::int64_t stride;
  T value;
  MERISTEM_HD void operator()(std::int64_t i) const { a[i * stride] += value; }
};

/// out[i] = Σ_j a(i, j) b(i, j), in double and in the order of j
template <class A, class B>
struct RowDots {
  View<const A> a;
  View<const B> b;
  double* out;
  MERISTEM_HD void operator()(std::int64_t i) const {
    double sum = 0.0;
    for (std::int64_t j = 0; j < a.extent(1); ++j) sum += static_cast<double>(a(i, j)) * static_cast<double>(b(i, j));
    out[i] = sum;
  }
};

/// out[i] = Σ_j a(i, j) b(j, i), in double and in the order of j
template <class T>
struct DotsWithColumns {
  View<const T> a, b;
  double* out;
  MERISTEM_HD void operator()(std::int64_t i) const {
    double sum = 0.0;
    for (std::int64_t j = 0; j < a.extent(1); ++j) sum += static_cast<double>(a(i, j)) * static_cast<double>(b(j, i));
    out[i] = sum;
  }
};

/// out[i] = a(i, i)
template <class T>
struct Diagonal {
  View<const T> a;
  double* out;
  MERISTEM_HD void operator()(std::int64_t i) const { out[i] = static_cast<double>(a(i, i)); }
};

/// out[i] = (Σ_j a(i, j)²)^{1/2}
template <class A>
struct RowLengths {
  View<const A> a;
  double* out;
  MERISTEM_HD void operator()(std::int64_t i) const {
    RowDots<A, A>{a, a, out}(i);
    out[i] = std::sqrt(out[i]);
  }
};

/// A copy in another precision, or in the same one.
template <Real To, Real From>
[[nodiscard]] Tensor<To> converted(Context& ctx, View<const From> from) {
  Tensor<To> to(ctx, from.shape());
  if constexpr (std::is_same_v<To, From>) {
    if (from.is_contiguous()) {
      copy<To>(ctx, from, to.view());
      return to;
    }
  }
  if (!to.empty()) for_each(ctx, from.extent(0), from.extent(1), Convert<From, To>{from, to.view()});
  return to;
}

/// The transpose in another precision.
template <Real To, Real From>
[[nodiscard]] Tensor<To> converted_transposed(Context& ctx, View<const From> from) {
  Tensor<To> to(ctx, {from.extent(1), from.extent(0)});
  if (!to.empty()) for_each(ctx, to.extent(0), to.extent(1), ConvertTransposed<From, To>{from, to.view()});
  return to;
}

/// to(i, j) = from(i, j) factor[j]
template <class T>
struct CopyScaled {
  View<const T> from;
  const double* factor;
  View<T> to;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const {
    to(i, j) = static_cast<T>(static_cast<double>(from(i, j)) * factor[j]);
  }
};

/// to(i, j) = from(j, i) factor[j]
template <class T>
struct TransposeScaled {
  View<const T> from;
  const double* factor;
  View<T> to;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const {
    to(i, j) = static_cast<T>(static_cast<double>(from(j, i)) * factor[j]);
  }
};

/// A copy whose element (i, j) is multiplied by factor[j].
template <Real T>
[[nodiscard]] Tensor<T> with_scaled_columns(Context& ctx, View<const T> from, const Tensor<double>& factor) {
  Tensor<T> to(ctx, from.shape());
  if (!to.empty()) for_each(ctx, from.extent(0), from.extent(1), CopyScaled<T>{from, factor.data(), to.view()});
  return to;
}

/// a(i, j) *= factor[j]
template <Real T>
void scale_columns(Context& ctx, View<T> a, const Tensor<double>& factor) {
  if (!a.empty()) for_each(ctx, a.extent(0), a.extent(1), CopyScaled<T>{a, factor.data(), a});
}

/// sum += term
template <Real T>
void add(Context& ctx, View<const T> term, View<T> sum) {
  if (!sum.empty()) for_each(ctx, sum.extent(0), sum.extent(1), AddTo<T>{term, sum});
}

/// The rows `index` of `from`, in that order, row i times factor[i].
template <Real To, Real From>
[[nodiscard]] Tensor<To> gathered(Context& ctx, View<const From> from, const std::vector<std::int64_t>& index,
                                  const std::vector<double>& factor) {
  const auto rows = static_cast<std::int64_t>(index.size());
  Tensor<To> to(ctx, {rows, from.extent(1)});
  if (to.empty()) return to;
  const Tensor<std::int64_t> index_there = from_host<std::int64_t>(ctx, {rows}, index);
  const Tensor<double> factor_there = from_host<double>(ctx, {rows}, factor);
  for_each(ctx, rows, from.extent(1), GatherRows<From, To>{from, index_there.data(), factor_there.data(), to.view()});
  return to;
}

template <Real T>
[[nodiscard]] std::vector<double> diagonal(Context& ctx, View<const T> a);

/// Σ_j a(i, j) b(i, j) for every row; there once the device was waited for.
template <Real A, Real B>
[[nodiscard]] std::vector<double> row_dots_later(Context& ctx, View<const A> a, View<const B> b) {
  Tensor<double> out(ctx, {a.extent(0)});
  if (!out.empty()) for_each(ctx, a.extent(0), RowDots<A, B>{a, b, out.data()});
  return to_host_later(ctx, out.view());
}

/// The same, waited for.
template <Real A, Real B>
[[nodiscard]] std::vector<double> row_dots(Context& ctx, View<const A> a, View<const B> b) {
  std::vector<double> result = row_dots_later<A, B>(ctx, a, b);
  ctx.synchronize();
  return result;
}

/// Σ_ij a(i, j) b(i, j), in double and in fixed order.
template <Real A, Real B>
[[nodiscard]] double inner_product(Context& ctx, View<const A> a, View<const B> b) {
  double sum = 0.0;
  for (const double row : row_dots<A, B>(ctx, a, b)) sum += row;
  return sum;
}

/// A matrix and what messages call it.
template <Real T>
struct Named {
  std::string name;
  View<const T> matrix;
};

/// Throws NumericError that names the first element of the first of the matrices that is NaN or infinite.
template <Real T>
void require_finite(Context& ctx, const std::vector<Named<T>>& matrices);

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/solve/matrix_ops_impl.hpp>
#endif
