// Streaming covariance of the rows of a matrix, with the bias as a constant 1 in the last coordinate.
//
//   s += [x 1]ᵀ diag(w) [x 1]     x: n × p,  w: n,  s: (p + bias) × (p + bias), lower triangle
//
// s is accumulated (+=) and [x 1] is never formed. Sums, not means: s of two halves of the rows, added, is s of all of
// them; the caller divides by the number of samples once, at the end. Over long streams the caller moves s into a
// double every so often, since adding to a float32 sum of n terms loses n·2^-24 of it at worst.
//
// Float32 sums: the tile kernel's order and bound are stated in row_product.cuh; BLAS keeps |error| <= n·2^-24·Σ|x w
// x|.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/row_product.cuh>

namespace meristem::kernels {

namespace covariance_detail {

/// out(r, i) = √w(r) · x(r, i).
template <class T>
struct ScaleRows {
  const T* x;
  std::int64_t x_stride;
  const T* weight;
  T* out;
  std::int64_t columns;
  MERISTEM_HD void operator()(std::int64_t r, std::int64_t i) const {
    out[r * columns + i] = detail::square_root(weight[r]) * x[r * x_stride + i];
  }
};

/// *out += value.
template <class T>
struct AddTo {
  T* out;
  T value;
  MERISTEM_HD void operator()(std::int64_t) const { *out += value; }
};

template <class T>
void accumulate_blas(Context& ctx, View<const T> x, bool bias, View<const T> weight, View<T> s) {
  const std::int64_t n = x.extent(0);
  const std::int64_t p = x.extent(1);
  const bool weighted = weight.rank() == 1;
  if (p > 0) {
    const View<T> block = s.slice(0, 0, p).slice(1, 0, p);
    if (weighted) {
      auto scaled = empty<T>(ctx, {n, p});
      for_each(ctx, n, p, ScaleRows<T>{x.data_handle(), x.stride(0), weight.data_handle(), scaled.data(), p});
      syrk(ctx, Triangle::lower, Transpose::yes, T(1), View<const T>(scaled.view()), T(1), block);
    } else {
      syrk(ctx, Triangle::lower, Transpose::yes, T(1), x, T(1), block);
    }
  }
  if (!bias) return;
  T* const last_row = s.data_handle() + p * s.stride(0);
  row_product::accumulate_bias_row<T>(ctx, weight, x, View<T>(last_row, {p}));
  const View<T> corner(last_row + p, {1});
  if (weighted) {
    column_sums(ctx, weight.reshape({n, 1}), corner, Accumulate::accumulate);
  } else {
    for_each(ctx, 1, AddTo<T>{corner.data_handle(), static_cast<T>(n)});
  }
}

}  // namespace covariance_detail

/// s += [x 1]ᵀ diag(weight) [x 1] in the lower triangle (row ≥ column) of s; the upper triangle is left untouched.
///
/// @param x       n × p, rows contiguous; merge the leading axes of a larger tensor with `as_matrix`.
/// @param bias    whether the constant 1 is appended to every row, as coordinate p.
/// @param s       (p + bias) × (p + bias), rows contiguous.
/// @param path    `automatic` suits everyone but tests and benchmarks; both give the same numbers up to rounding.
/// @param weight  n numbers ≥ 0, one for each row; the default means 1 for all. With `blas` the rows are scaled by the
///                square roots into a scratch matrix of the size of x, so that a negative weight gives NaN.
/// Throws ShapeError for shapes that do not fit.
template <class T>
void accumulate_covariance(Context& ctx, View<const std::type_identity_t<T>> x, bool bias, View<T> s,
                           CovariancePath path = CovariancePath::automatic,
                           View<const std::type_identity_t<T>> weight = {}) {
  constexpr const char* name = "accumulate_covariance";
  row_product::check_matrix(name, "x", x);
  row_product::check_matrix(name, "s", s);
  const std::int64_t n = x.extent(0);
  const std::int64_t p = x.extent(1);
  const std::int64_t width = p + (bias ? 1 : 0);
  if (s.extent(0) != width || s.extent(1) != width) {
    throw ShapeError(concat(name, ": x has ", p, " columns", bias ? " and a bias" : "", ", so s must have shape ",
                            Shape{width, width}, "; got ", s.shape()));
  }
  const bool weighted = weight.rank() != 0;
  if (weighted && (weight.rank() != 1 || weight.extent(0) != n || !weight.is_contiguous())) {
    throw ShapeError(concat(name, ": x has ", n, " rows, so weight must hold ", n, " contiguous numbers; got shape ",
                            weight.shape()));
  }
  if (n == 0 || width == 0) return;
  if (row_product::use_kernel(ctx, path, p)) {
    row_product::accumulate<T>(ctx, x, x, weighted ? weight.data_handle() : nullptr, bias, true, s);
  } else {
    covariance_detail::accumulate_blas<T>(ctx, x, bias, weight, s);
  }
}

}  // namespace meristem::kernels
