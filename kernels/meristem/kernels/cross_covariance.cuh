// Streaming cross-covariance of the rows of two matrices, with the bias of the first as a constant 1 in its last
// coordinate.
//
//   m += [x 1]ᵀ v     x: n × p,  v: n × q,  m: (p + bias) × q
//
// m is accumulated (+=) and [x 1] is never formed. Sums, not means: results of two halves of the rows add up to that of
// all of them, and the caller divides by the number of samples once. Over long streams the caller moves m into a double
// every so often.
//
// Float32 sums: the tile kernel's order and bound are stated in row_product.cuh; BLAS keeps |error| <= n·2^-24·Σ|x v|.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/row_product.cuh>

namespace meristem::kernels {

/// m += [x 1]ᵀ v.
///
/// @param x     n × p, rows contiguous.
/// @param bias  whether the constant 1 is appended to every row of x, as coordinate p.
/// @param v     n × q, rows contiguous; often the desired update, one row for each sample.
/// @param m     (p + bias) × q, rows contiguous.
/// @param path  `automatic` suits everyone but tests and benchmarks; both give the same numbers up to rounding.
/// Throws ShapeError for shapes that do not fit.
template <class T>
void accumulate_cross_covariance(Context& ctx, View<const std::type_identity_t<T>> x, bool bias,
                                 View<const std::type_identity_t<T>> v, View<T> m,
                                 CovariancePath path = CovariancePath::automatic) {
  constexpr const char* name = "accumulate_cross_covariance";
  row_product::check_matrix(name, "x", x);
  row_product::check_matrix(name, "v", v);
  row_product::check_matrix(name, "m", m);
  const std::int64_t n = x.extent(0);
  const std::int64_t p = x.extent(1);
  const std::int64_t q = v.extent(1);
  const std::int64_t height = p + (bias ? 1 : 0);
  if (v.extent(0) != n) {
    throw ShapeError(concat(name, ": x and v must have the same number of rows, one for each sample; got ", x.shape(),
                            " and ", v.shape()));
  }
  if (m.extent(0) != height || m.extent(1) != q) {
    throw ShapeError(concat(name, ": x has ", p, " columns", bias ? " and a bias" : "", " and v has ", q,
                            ", so m must have shape ", Shape{height, q}, "; got ", m.shape()));
  }
  if (n == 0 || height == 0 || q == 0) return;
  if (row_product::use_kernel(ctx, path, std::max(p, q))) {
    row_product::accumulate<T>(ctx, x, v, nullptr, bias, false, m);
    return;
  }
  if (p > 0) gemm(ctx, Transpose::yes, Transpose::no, T(1), x, v, T(1), m.slice(0, 0, p));
  if (bias) row_product::accumulate_bias_row<T>(ctx, {}, v, View<T>(m.data_handle() + p * m.stride(0), {q}));
}

}  // namespace meristem::kernels
