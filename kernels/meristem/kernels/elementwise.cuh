// Elementwise operations on contiguous tensors of any shape.
//
//   fill                y  = value
//   scale               x *= a
//   axpy                y += a x
//   combine             out = a x + b y
//   add_bias            y[row][col] += bias[col]
//   convert             to = from, in another element type
//
// Each element is computed by one thread from the same element of the inputs, so inputs and outputs may be the same
// tensor where their types agree.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

/// In the precision of its argument, on either side.
#if MERISTEM_GPU
MERISTEM_HD inline float square_root(float value) { return sqrtf(value); }
MERISTEM_HD inline double square_root(double value) { return sqrt(value); }
#else
template <class T>
T square_root(T value) {
  return std::sqrt(value);
}
#endif

template <class T>
struct Fill {
  T value;
  T* y;
  MERISTEM_HD void operator()(std::int64_t i) const { y[i] = value; }
};

template <class T>
struct Scale {
  T a;
  T* x;
  MERISTEM_HD void operator()(std::int64_t i) const { x[i] *= a; }
};

template <class T>
struct Axpy {
  T a;
  const T* x;
  T* y;
  MERISTEM_HD void operator()(std::int64_t i) const { y[i] += a * x[i]; }
};

template <class T>
struct Combine {
  T a;
  const T* x;
  T b;
  const T* y;
  T* out;
  MERISTEM_HD void operator()(std::int64_t i) const { out[i] = a * x[i] + b * y[i]; }
};

template <class T>
struct AddBias {
  const T* bias;
  T* y;
  std::int64_t cols;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t col) const { y[row * cols + col] += bias[col]; }
};

template <class From, class To>
struct Convert {
  const From* from;
  To* to;
  MERISTEM_HD void operator()(std::int64_t i) const { to[i] = static_cast<To>(from[i]); }
};

}  // namespace detail

/// y = value, any shape. Throws ShapeError if y is strided.
template <class T>
void fill(Context& ctx, std::type_identity_t<T> value, View<T> y) {
  detail::require_contiguous("fill", "y", y);
  for_each(ctx, y.size(), detail::Fill<T>{value, y.data_handle()});
}

/// x *= a, any shape. Throws ShapeError if x is strided.
template <class T>
void scale(Context& ctx, std::type_identity_t<T> a, View<T> x) {
  detail::require_contiguous("scale", "x", x);
  for_each(ctx, x.size(), detail::Scale<T>{a, x.data_handle()});
}

/// y += a x, any shape. Throws ShapeError unless x and y are contiguous and of equal shape.
template <class T>
void axpy(Context& ctx, std::type_identity_t<T> a, View<const std::type_identity_t<T>> x, View<T> y) {
  detail::require_same_shape("axpy", "x", x, "y", y);
  for_each(ctx, y.size(), detail::Axpy<T>{a, x.data_handle(), y.data_handle()});
}

/// out = a x + b y, any shape; out is overwritten and may be x or y. Throws ShapeError unless all are contiguous and of
/// equal shape.
template <class T>
void combine(Context& ctx, std::type_identity_t<T> a, View<const std::type_identity_t<T>> x, std::type_identity_t<T> b,
             View<const std::type_identity_t<T>> y, View<T> out) {
  detail::require_same_shape("combine", "x", x, "out", out);
  detail::require_same_shape("combine", "y", y, "out", out);
  for_each(ctx, out.size(), detail::Combine<T>{a, x.data_handle(), b, y.data_handle(), out.data_handle()});
}

/// y += bias on every row: bias (cols), y (..., cols) with all leading axes as rows. Throws ShapeError unless both are
/// contiguous and bias has one element for each column.
template <class T>
void add_bias(Context& ctx, View<const std::type_identity_t<T>> bias, View<T> y) {
  detail::require_columns("add_bias", "bias", bias, "y", y);
  const View<T> matrix = y.as_matrix();
  for_each(ctx, matrix.extent(0), matrix.extent(1),
           detail::AddBias<T>{bias.data_handle(), y.data_handle(), matrix.extent(1)});
}

/// to = from, rounded to the nearest number of the other type (double to float) or exactly (float to double, uint8 to
/// float or double). Throws ShapeError unless both are contiguous and of equal shape.
template <class From, class To>
void convert(Context& ctx, View<From> from, View<To> to) {
  detail::require_same_shape("convert", "from", from, "to", to);
  for_each(ctx, to.size(), detail::Convert<std::remove_const_t<From>, To>{from.data_handle(), to.data_handle()});
}

// The compiled library holds these.
#define MERISTEM_ELEMENTWISE(EXTERN, T)                                         \
  EXTERN template void fill<T>(Context & ctx, T value, View<T> y);              \
  EXTERN template void scale<T>(Context & ctx, T a, View<T> x);                 \
  EXTERN template void axpy<T>(Context & ctx, T a, View<const T> x, View<T> y); \
  EXTERN template void combine<T>(Context & ctx, T a, View<const T> x, T b, View<const T> y, View<T> out);

#if defined(MERISTEM_COMPILED)
MERISTEM_ELEMENTWISE(extern, float)
MERISTEM_ELEMENTWISE(extern, double)
#endif

}  // namespace meristem::kernels
