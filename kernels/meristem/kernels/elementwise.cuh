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
#include <meristem/kernels/packs.cuh>
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
  MERISTEM_HD T operator()() const { return value; }
};

template <class T>
struct Scale {
  T a;
  MERISTEM_HD T operator()(T x) const { return x * a; }
};

template <class T>
struct Axpy {
  T a;
  MERISTEM_HD T operator()(T x, T y) const { return y + a * x; }
};

template <class T>
struct Combine {
  T a, b;
  MERISTEM_HD T operator()(T x, T y) const { return a * x + b * y; }
};

template <class T>
struct AddBias {
  const T* bias;
  T* y;
  std::int64_t cols;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t col) const { y[row * cols + col] += bias[col]; }
};

#if MERISTEM_GPU
/// The same for packs of W columns.
template <class T, int W>
struct AddBiasPacks {
  const T* bias;
  T* y;
  __device__ Pack<T, W> column(std::int64_t number) const { return load_pack<W>(bias + number * W); }
  __device__ void operator()(std::int64_t number, const Pack<T, W>& own) const {
    Pack<T, W> sum = load_pack<W>(y + number * W);
    for (int k = 0; k < W; ++k) sum.at[k] += own.at[k];
    store_pack(sum, y + number * W);
  }
};
#endif

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
  detail::map_elements(ctx, y.size(), detail::Fill<T>{value}, y.data_handle());
}

/// x *= a, any shape. Throws ShapeError if x is strided.
template <class T>
void scale(Context& ctx, std::type_identity_t<T> a, View<T> x) {
  detail::require_contiguous("scale", "x", x);
  const T* const from = x.data_handle();
  detail::map_elements(ctx, x.size(), detail::Scale<T>{a}, x.data_handle(), from);
}

/// y += a x, any shape. Throws ShapeError unless x and y are contiguous and of equal shape.
template <class T>
void axpy(Context& ctx, std::type_identity_t<T> a, View<const std::type_identity_t<T>> x, View<T> y) {
  detail::require_same_shape("axpy", "x", x, "y", y);
  const T* const to = y.data_handle();
  detail::map_elements(ctx, y.size(), detail::Axpy<T>{a}, y.data_handle(), x.data_handle(), to);
}

/// out = a x + b y, any shape; out is overwritten and may be x or y. Throws ShapeError unless all are contiguous and of
/// equal shape.
template <class T>
void combine(Context& ctx, std::type_identity_t<T> a, View<const std::type_identity_t<T>> x, std::type_identity_t<T> b,
             View<const std::type_identity_t<T>> y, View<T> out) {
  detail::require_same_shape("combine", "x", x, "out", out);
  detail::require_same_shape("combine", "y", y, "out", out);
  detail::map_elements(ctx, out.size(), detail::Combine<T>{a, b}, out.data_handle(), x.data_handle(), y.data_handle());
}

/// y += bias on every row: bias (cols), y (..., cols) with all leading axes as rows. Throws ShapeError unless both are
/// contiguous and bias has one element for each column.
template <class T>
void add_bias(Context& ctx, View<const std::type_identity_t<T>> bias, View<T> y) {
  detail::require_columns("add_bias", "bias", bias, "y", y);
  const View<T> matrix = y.as_matrix();
  const std::int64_t rows = matrix.extent(0), cols = matrix.extent(1);
#if MERISTEM_GPU
  const auto run = [&](auto size) {
    constexpr int W = decltype(size)::value;
    detail::for_each_in_columns(ctx, rows, cols / W, detail::AddBiasPacks<T, W>{bias.data_handle(), y.data_handle()});
  };
  detail::with_packs<T>(cols, run, bias.data_handle(), y.data_handle());
#else
  for_each(ctx, rows, cols, detail::AddBias<T>{bias.data_handle(), y.data_handle(), cols});
#endif
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
