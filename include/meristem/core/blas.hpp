// Matrix products and triangular solves on row-major views: CBLAS on the CPU, cuBLAS on the GPU.
//
// A row-major matrix is the transpose of a column-major one on the same memory. Every function maps its arguments to
// the column-major call once, for both libraries, so that what is tested on the CPU is what the GPU gets.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/source_location.hpp>
#include <meristem/core/view.hpp>
#if MERISTEM_GPU
#include <meristem/core/cuda_check.hpp>
#else
#include <cblas.h>
#endif

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// Whether an operand stands as it is or transposed: op(a) = a or aᵀ.
enum class Transpose { no, yes };
/// Which triangle of a square matrix, diagonal included, is read and written.
enum class Triangle { lower, upper };
/// On which side of the unknown the triangular matrix stands.
enum class Side { left, right };

namespace detail {

/// `when_float` if T is float, else `when_double`: picks one of two C functions of different types.
template <Real T, class F, class D>
[[nodiscard]] constexpr auto for_type(F when_float, D when_double) {
  if constexpr (std::is_same_v<T, float>) {
    return when_float;
  } else {
    return when_double;
  }
}

[[nodiscard]] inline Triangle flipped(Triangle triangle) {
  return triangle == Triangle::lower ? Triangle::upper : Triangle::lower;
}
[[nodiscard]] inline Transpose flipped(Transpose transpose) {
  return transpose == Transpose::no ? Transpose::yes : Transpose::no;
}
[[nodiscard]] inline Side flipped(Side side) { return side == Side::left ? Side::right : Side::left; }

#if MERISTEM_GPU
[[nodiscard]] inline cublasOperation_t native(Transpose t) { return t == Transpose::no ? CUBLAS_OP_N : CUBLAS_OP_T; }
[[nodiscard]] inline cublasFillMode_t native(Triangle t) {
  return t == Triangle::lower ? CUBLAS_FILL_MODE_LOWER : CUBLAS_FILL_MODE_UPPER;
}
[[nodiscard]] inline cublasSideMode_t native(Side s) { return s == Side::left ? CUBLAS_SIDE_LEFT : CUBLAS_SIDE_RIGHT; }
#else
[[nodiscard]] inline auto native(Transpose t) { return t == Transpose::no ? CblasNoTrans : CblasTrans; }
[[nodiscard]] inline auto native(Triangle t) { return t == Triangle::lower ? CblasLower : CblasUpper; }
[[nodiscard]] inline auto native(Side s) { return s == Side::left ? CblasLeft : CblasRight; }
#endif

/// A row-major matrix whose extents and row stride fit the libraries' 32-bit integers.
template <class T>
struct Matrix {
  T* data;
  int rows;
  int columns;
  int stride;  ///< at least max(1, columns), as the libraries demand even of empty matrices
};

/// "(3, 4)".
[[nodiscard]] inline std::string extents(std::int64_t rows, std::int64_t columns) {
  return Shape{rows, columns}.to_string();
}

/// A view as a matrix. Throws ShapeError, naming the function and the argument, unless it has rank 2, contiguous rows
/// that do not overlap, and extents below 2^31.
template <class T>
[[nodiscard]] Matrix<T> as_blas_matrix(const char* function, const char* argument, View<T> view,
                                       const SourceLocation& where) {
  if (view.rank() != 2) {
    throw ShapeError(
        concat(function, ": ", argument, " has shape ", view.shape(), "; it must have rank 2 (rows, columns)"), where);
  }
  const std::int64_t rows = view.extent(0), columns = view.extent(1);
  const bool strides_used = rows > 0 && columns > 0;
  if (strides_used && columns > 1 && view.stride(1) != 1) {
    throw ShapeError(concat(function, ": the elements of a row of ", argument, " of shape ", view.shape(), " lie ",
                            view.stride(1), " apart; rows must be contiguous (last stride 1)"),
                     where);
  }
  if (strides_used && rows > 1 && view.stride(0) < columns) {
    throw ShapeError(concat(function, ": the rows of ", argument, " of shape ", view.shape(), " lie ", view.stride(0),
                            " elements apart; the row stride must be at least the number of columns"),
                     where);
  }
  std::int64_t stride = columns > 1 ? columns : 1;
  if (strides_used && rows > 1) stride = view.stride(0);
  constexpr std::int64_t limit = std::numeric_limits<int>::max();
  if (rows > limit || columns > limit || stride > limit) {
    throw ShapeError(concat(function, ": ", argument, " of shape ", view.shape(), " with row stride ", stride,
                            " exceeds what BLAS and LAPACK can count to, 2^31 - 1; split it"),
                     where);
  }
  return {view.data_handle(), static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(stride)};
}

/// As `as_blas_matrix`, and square.
template <class T>
[[nodiscard]] Matrix<T> as_square_matrix(const char* function, const char* argument, View<T> view,
                                         const SourceLocation& where) {
  const Matrix<T> matrix = as_blas_matrix(function, argument, view, where);
  if (matrix.rows != matrix.columns) {
    throw ShapeError(concat(function, ": ", argument, " has shape ", view.shape(), "; it must be square"), where);
  }
  return matrix;
}

/// How an operand is written in messages: `op(a)` and its extents after transposition.
template <class T>
[[nodiscard]] std::string operand(const char* name, const Matrix<T>& a, Transpose t) {
  if (t == Transpose::no) return concat(name, " is ", extents(a.rows, a.columns));
  return concat(name, " transposed is ", extents(a.columns, a.rows));
}

/// Mirrors one triangle; one index is a tile of it, so that the transposed access stays in the CPU's cache.
template <class T>
struct MirrorTriangle {
  static constexpr std::int64_t tile = MERISTEM_GPU ? 1 : 32;
  View<T> a;
  bool from_lower;

  MERISTEM_HD void operator()(std::int64_t tile_row, std::int64_t tile_column) const {
    if (tile_row < tile_column) return;
    if constexpr (tile == 1) {
      if (tile_row > tile_column) mirror(tile_row, tile_column);
    } else {
      const std::int64_t n = a.extent(0);
      const std::int64_t row_end = (tile_row + 1) * tile < n ? (tile_row + 1) * tile : n;
      for (std::int64_t i = tile_row * tile; i < row_end; ++i) {
        const std::int64_t column_end = (tile_column + 1) * tile < i ? (tile_column + 1) * tile : i;
        for (std::int64_t j = tile_column * tile; j < column_end; ++j) mirror(i, j);
      }
    }
  }

  /// Of row i and column j < i.
  MERISTEM_HD void mirror(std::int64_t i, std::int64_t j) const {
    if (from_lower) {
      a(j, i) = a(i, j);
    } else {
      a(i, j) = a(j, i);
    }
  }
};

}  // namespace detail

/// General matrix product, c = alpha op(a) op(b) + beta c.
///
/// op(a) has shape (m, k), op(b) (k, n), c (m, n); all row-major with contiguous rows, row stride at least the number
/// of columns. c is overwritten if beta is 0, even where it holds NaN, else scaled and accumulated into. Any extent may
/// be 0; k = 0 leaves beta c; alpha = 0 leaves a and b unread. c must not overlap a or b (not checked). `precision` is
/// of float32 numbers on a GPU. Throws ShapeError.
template <Real T>
void gemm(Context& ctx, Transpose transpose_a, Transpose transpose_b, std::type_identity_t<T> alpha,
          std::type_identity_t<View<const T>> a, std::type_identity_t<View<const T>> b, std::type_identity_t<T> beta,
          View<T> c, [[maybe_unused]] MatmulPrecision precision = MatmulPrecision::full,
          SourceLocation where = SourceLocation::current()) {
  const auto ma = detail::as_blas_matrix("gemm", "a", a, where);
  const auto mb = detail::as_blas_matrix("gemm", "b", b, where);
  const auto mc = detail::as_blas_matrix("gemm", "c", c, where);
  const int m = transpose_a == Transpose::no ? ma.rows : ma.columns;
  const int k = transpose_a == Transpose::no ? ma.columns : ma.rows;
  const int k_of_b = transpose_b == Transpose::no ? mb.rows : mb.columns;
  const int n = transpose_b == Transpose::no ? mb.columns : mb.rows;
  if (k != k_of_b || mc.rows != m || mc.columns != n) {
    throw ShapeError(concat("gemm: ", detail::operand("a", ma, transpose_a), ", ",
                            detail::operand("b", mb, transpose_b), ", c is ", detail::extents(mc.rows, mc.columns),
                            k != k_of_b ? "; the columns of the first factor must match the rows of the second"
                                        : "; c must have the rows of the first factor and the columns of the second"),
                     where);
  }
  if (m == 0 || n == 0) return;
  // OpenBLAS's kernels for small matrices multiply NaN by alpha = 0 instead of leaving a and b unread.
  const int depth = alpha == T(0) ? 0 : k;
#if MERISTEM_GPU
  check_cublas(detail::for_type<T>(cublasSgemm, cublasDgemm)(ctx.blas(precision), detail::native(transpose_b),
                                                             detail::native(transpose_a), n, m, depth, &alpha, mb.data,
                                                             mb.stride, ma.data, ma.stride, &beta, mc.data, mc.stride),
               "cublas gemm", where);
#else
  static_cast<void>(ctx);
  const detail::DeviceAccess access;
  detail::for_type<T>(cblas_sgemm, cblas_dgemm)(CblasColMajor, detail::native(transpose_b), detail::native(transpose_a),
                                                n, m, depth, alpha, mb.data, mb.stride, ma.data, ma.stride, beta,
                                                mc.data, mc.stride);
#endif
}

/// Symmetric rank-k update of one triangle of c: c = alpha a aᵀ + beta c (Transpose::no) or c = alpha aᵀ a + beta c
/// (Transpose::yes).
///
/// op(a) has shape (n, k), c (n, n). Only the named triangle of c is read and written; it is overwritten if beta is 0,
/// even where it holds NaN. c must not overlap a (not checked). Throws ShapeError.
template <Real T>
void syrk(Context& ctx, Triangle triangle, Transpose transpose, std::type_identity_t<T> alpha,
          std::type_identity_t<View<const T>> a, std::type_identity_t<T> beta, View<T> c,
          SourceLocation where = SourceLocation::current()) {
  const auto ma = detail::as_blas_matrix("syrk", "a", a, where);
  const auto mc = detail::as_square_matrix("syrk", "c", c, where);
  const int n = transpose == Transpose::no ? ma.rows : ma.columns;
  const int k = transpose == Transpose::no ? ma.columns : ma.rows;
  if (mc.rows != n) {
    throw ShapeError(concat("syrk: ", detail::operand("a", ma, transpose), ", c is ",
                            detail::extents(mc.rows, mc.columns), "; c must be ", detail::extents(n, n)),
                     where);
  }
  if (n == 0) return;
  const auto fill = detail::native(detail::flipped(triangle));
  const auto operation = detail::native(detail::flipped(transpose));
#if MERISTEM_GPU
  check_cublas(detail::for_type<T>(cublasSsyrk, cublasDsyrk)(ctx.blas(), fill, operation, n, k, &alpha, ma.data,
                                                             ma.stride, &beta, mc.data, mc.stride),
               "cublas syrk", where);
#else
  static_cast<void>(ctx);
  const detail::DeviceAccess access;
  detail::for_type<T>(cblas_ssyrk, cblas_dsyrk)(CblasColMajor, fill, operation, n, k, alpha, ma.data, ma.stride, beta,
                                                mc.data, mc.stride);
#endif
}

/// Triangular solve in place: b = alpha op(a)⁻¹ b (Side::left) or b = alpha b op(a)⁻¹ (Side::right).
///
/// a has shape (n, n), of which only the named triangle, diagonal included, is read; b (m, p) is overwritten, with
/// m = n on the left and p = n on the right. A zero on the diagonal gives infinities or NaN, as in BLAS. b must not
/// overlap a (not checked). Throws ShapeError.
template <Real T>
void trsm(Context& ctx, Side side, Triangle triangle, Transpose transpose, std::type_identity_t<T> alpha,
          std::type_identity_t<View<const T>> a, View<T> b, SourceLocation where = SourceLocation::current()) {
  const auto ma = detail::as_square_matrix("trsm", "a", a, where);
  const auto mb = detail::as_blas_matrix("trsm", "b", b, where);
  if (ma.rows != (side == Side::left ? mb.rows : mb.columns)) {
    throw ShapeError(concat("trsm: a is ", detail::extents(ma.rows, ma.columns), ", b is ",
                            detail::extents(mb.rows, mb.columns), "; the order of a must equal the number of ",
                            side == Side::left ? "rows of b (left side)" : "columns of b (right side)"),
                     where);
  }
  if (mb.rows == 0 || mb.columns == 0) return;
  const auto native_side = detail::native(detail::flipped(side));
  const auto fill = detail::native(detail::flipped(triangle));
#if MERISTEM_GPU
  check_cublas(detail::for_type<T>(cublasStrsm, cublasDtrsm)(ctx.blas(), native_side, fill, detail::native(transpose),
                                                             CUBLAS_DIAG_NON_UNIT, mb.columns, mb.rows, &alpha, ma.data,
                                                             ma.stride, mb.data, mb.stride),
               "cublas trsm", where);
#else
  static_cast<void>(ctx);
  const detail::DeviceAccess access;
  detail::for_type<T>(cblas_strsm, cblas_dtrsm)(CblasColMajor, native_side, fill, detail::native(transpose),
                                                CblasNonUnit, mb.columns, mb.rows, alpha, ma.data, ma.stride, mb.data,
                                                mb.stride);
#endif
}

/// Makes a square matrix symmetric: the named triangle of a (n, n) is copied onto the other one, which is overwritten.
/// Throws ShapeError.
template <Real T>
void symmetrize(Context& ctx, Triangle from, View<T> a, SourceLocation where = SourceLocation::current()) {
  const auto matrix = detail::as_square_matrix("symmetrize", "a", a, where);
  constexpr std::int64_t tile = detail::MirrorTriangle<T>::tile;
  const std::int64_t tiles = (matrix.rows + tile - 1) / tile;
  if (matrix.rows < 2) return;
  for_each(ctx, tiles, tiles, detail::MirrorTriangle<T>{a, from == Triangle::lower});
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
