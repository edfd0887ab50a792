// Decompositions of symmetric matrices in row-major views: LAPACK on the CPU, cuSOLVER on the GPU.
//
// A row-major matrix is the transpose of a column-major one on the same memory, so a row-major lower triangle is what
// the libraries call the upper one, and the eigenvectors that they put into columns are rows here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/memory.hpp>
#include <meristem/core/source_location.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#if MERISTEM_GPU
#include <memory>

#include <meristem/core/cuda_check.hpp>
#else
#include <lapacke.h>
#endif

namespace meristem {
inline namespace MERISTEM_BACKEND {

namespace detail {

/// "64×64".
[[nodiscard]] inline std::string order(std::int64_t n) { return concat(n, "×", n); }

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

/// For every row of one triangle, the first column that holds NaN or infinity, or -1.
template <class T>
struct FindNonFinite {
  View<const T> a;
  bool lower;
  std::int64_t* first;

  MERISTEM_HD void operator()(std::int64_t i) const {
    const std::int64_t begin = lower ? 0 : i;
    const std::int64_t end = lower ? i + 1 : a.extent(1);
    std::int64_t found = -1;
    if (a.stride(1) == 1 && all_finite(&a(i, begin), end - begin)) {
      first[i] = found;
      return;
    }
    for (std::int64_t j = begin; j < end; ++j) {
      const T value = a(i, j);
      if (value - value != T(0)) {
        found = j;
        break;
      }
    }
    first[i] = found;
  }
};

/// Throws NumericError that names the first element of the triangle that is NaN or infinite: LAPACK's eigenvalue
/// iteration may not end on such a matrix, and OpenBLAS's Cholesky factorisation returns NaN without a word.
template <Real T>
void require_finite_triangle(Context& ctx, const char* function, Triangle triangle, View<const T> a,
                             const SourceLocation& where) {
  const std::int64_t n = a.extent(0);
  Tensor<std::int64_t> first(ctx, {n});
  for_each(ctx, n, FindNonFinite<T>{a, triangle == Triangle::lower, first.data()});
  const std::vector<std::int64_t> columns = to_host(ctx, first);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t j = columns[static_cast<std::size_t>(i)];
    if (j < 0) continue;
    T value;
    copy_bytes(ctx, &value, &a(i, j), sizeof(T));
    ctx.synchronize();
    throw NumericError(concat(function, ": element (", i, ", ", j, ") of the ", order(n), " matrix is ", value,
                              "; check what it was computed from for NaN, infinity or overflow"),
                       where);
  }
}

/// Throws SolverError for what LAPACK and cuSOLVER report as info != 0 of an eigenvalue decomposition.
inline void require_eigen_success(std::int64_t info, std::int64_t n, const SourceLocation& where) {
  if (info == 0) return;
  if (info < 0) throw SolverError(concat("syevd: the library refused argument ", -info), where);
  throw SolverError(concat("syevd: the eigenvalue iteration of the ", order(n), " matrix did not converge (info ", info,
                           "); add a ridge, scale the matrix or use float64"),
                    where);
}

#if MERISTEM_GPU
/// cuSOLVER's parameter object and its workspace on both sides, alive until the call is done.
class SolverCall {
 public:
  explicit SolverCall(Context& ctx) : ctx_(ctx), info_(ctx, {1}) {
    cusolverDnParams_t params = nullptr;
    check_cusolver(cusolverDnCreateParams(&params), "cusolverDnCreateParams");
    params_.reset(params);
  }

  [[nodiscard]] cusolverDnParams_t params() const { return params_.get(); }
  [[nodiscard]] int* info() { return info_.data(); }
  [[nodiscard]] void* device() const { return device_.data(); }
  [[nodiscard]] void* host() { return host_.empty() ? nullptr : host_.data(); }

  void reserve(std::size_t device_bytes, std::size_t host_bytes) {
    device_ = Buffer(ctx_.memory(), device_bytes);
    host_.resize(host_bytes);
  }

  /// Waits for the call and returns its info.
  [[nodiscard]] int finish() { return to_host(ctx_, info_)[0]; }

 private:
  struct Destroy {
    void operator()(cusolverDnParams_t params) const { cusolverDnDestroyParams(params); }
  };
  Context& ctx_;
  Tensor<int> info_;
  std::unique_ptr<std::remove_pointer_t<cusolverDnParams_t>, Destroy> params_;
  Buffer device_;
  std::vector<unsigned char> host_;
};
#endif

/// Cholesky factorisation of n > 0 rows; returns the library's info.
template <Real T>
[[nodiscard]] std::int64_t factorize(Context& ctx, Triangle triangle, const Matrix<T>& a, const SourceLocation& where) {
#if MERISTEM_GPU
  constexpr cudaDataType type = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;
  const cublasFillMode_t fill = native(flipped(triangle));
  SolverCall call(ctx);
  std::size_t device_bytes = 0, host_bytes = 0;
  check_cusolver(cusolverDnXpotrf_bufferSize(ctx.solver(), call.params(), fill, a.rows, type, a.data, a.stride, type,
                                             &device_bytes, &host_bytes),
                 "cusolverDnXpotrf_bufferSize", where);
  call.reserve(device_bytes, host_bytes);
  check_cusolver(cusolverDnXpotrf(ctx.solver(), call.params(), fill, a.rows, type, a.data, a.stride, type,
                                  call.device(), device_bytes, call.host(), host_bytes, call.info()),
                 "cusolverDnXpotrf", where);
  return call.finish();
#else
  static_cast<void>(ctx);
  static_cast<void>(where);
  return for_type<T>(LAPACKE_spotrf_work, LAPACKE_dpotrf_work)(
      LAPACK_COL_MAJOR, triangle == Triangle::lower ? 'U' : 'L', a.rows, a.data, a.stride);
#endif
}

/// Order of the first minor whose pivot is NaN or infinite in a finished factor, or 0.
template <Real T>
[[nodiscard]] std::int64_t first_bad_pivot(Context& ctx, const Matrix<T>& a) {
  std::vector<T> diagonal(static_cast<std::size_t>(a.rows));
  const std::int64_t step = std::int64_t{a.stride} + 1;
#if MERISTEM_GPU
  check_cuda(cudaMemcpy2DAsync(diagonal.data(), sizeof(T), a.data, static_cast<std::size_t>(step) * sizeof(T),
                               sizeof(T), diagonal.size(), cudaMemcpyDeviceToHost, ctx.stream()),
             "cudaMemcpy2DAsync");
  ctx.synchronize();
#else
  static_cast<void>(ctx);
  for (std::int64_t i = 0; i < a.rows; ++i) diagonal[static_cast<std::size_t>(i)] = a.data[i * step];
#endif
  for (std::size_t i = 0; i < diagonal.size(); ++i) {
    if (diagonal[i] - diagonal[i] != T(0)) return static_cast<std::int64_t>(i) + 1;
  }
  return 0;
}

template <Real T>
[[nodiscard]] std::int64_t cholesky(const char* function, Context& ctx, Triangle triangle, View<T> a,
                                    const SourceLocation& where) {
  const Matrix<T> matrix = as_square_matrix(function, "a", a, where);
  if (matrix.rows == 0) return 0;
  require_finite_triangle<T>(ctx, function, triangle, a, where);
  const std::int64_t info = factorize(ctx, triangle, matrix, where);
  if (info < 0) throw SolverError(concat(function, ": the library refused argument ", -info), where);
  // Overflow inside the factorisation ends in a NaN pivot, which not every library reports.
  return info != 0 ? info : first_bad_pivot(ctx, matrix);
}

}  // namespace detail

/// Cholesky factorisation in place: the named triangle of the symmetric positive definite a (n, n) is replaced by its
/// factor, l with a = l lᵀ (Triangle::lower) or u with a = uᵀ u (Triangle::upper). The other triangle is neither read
/// nor written.
///
/// Returns 0, or the order of the first leading minor that is not positive definite; the triangle then holds a partial
/// factor. Throws ShapeError, and NumericError if the triangle holds NaN or infinity, which leaves a as it was.
template <Real T>
[[nodiscard]] std::int64_t try_potrf(Context& ctx, Triangle triangle, View<T> a,
                                     SourceLocation where = SourceLocation::current()) {
  return detail::cholesky("try_potrf", ctx, triangle, a, where);
}

/// As `try_potrf`, but throws SolverError with the order of the failing minor.
template <Real T>
void potrf(Context& ctx, Triangle triangle, View<T> a, SourceLocation where = SourceLocation::current()) {
  const std::int64_t minor = detail::cholesky("potrf", ctx, triangle, a, where);
  if (minor == 0) return;
  throw SolverError(concat("potrf: the leading minor of order ", minor, " of the ", detail::order(a.extent(0)),
                           " matrix is not positive definite; add a ridge or use the eigen route"),
                    where);
}

/// What `syevd` computes.
enum class EigenJob {
  vectors,  ///< eigenvalues and eigenvectors
  values,   ///< eigenvalues only, in about a third of the time
};

/// Eigenvalues and eigenvectors of the symmetric a (n, n), of which only the lower triangle is read, by divide and
/// conquer.
///
/// values (n) is overwritten with the eigenvalues, ascending; a is overwritten: row i is the eigenvector of unit length
/// that belongs to values[i], or, with EigenJob::values, nothing of use. Throws ShapeError; NumericError if the lower
/// triangle holds NaN or infinity, which leaves a as it was; SolverError if the iteration does not converge.
template <Real T>
void syevd(Context& ctx, View<T> a, std::type_identity_t<View<T>> values, EigenJob job = EigenJob::vectors,
           SourceLocation where = SourceLocation::current()) {
  const auto matrix = detail::as_square_matrix("syevd", "a", a, where);
  const std::int64_t n = matrix.rows;
  if (values.rank() != 1 || values.extent(0) != n || !values.is_contiguous()) {
    throw ShapeError(
        concat("syevd: a is ", a.shape(), ", values is ", values.shape(), values.is_contiguous() ? "" : " with gaps",
               "; values must be contiguous of shape ", Shape{n}),
        where);
  }
  if (n == 0) return;
#if !MERISTEM_GPU
  // Workspace by the formulas in LAPACK's documentation of xSYEVD: the library's own answer to a query is a number of
  // type T, which for float is rounded down from n = 2897 on and then refused by the same library.
  const std::int64_t work_size = job == EigenJob::vectors ? 1 + 6 * n + 2 * n * n : 2 * n + 1;
  const std::int64_t integer_work_size = job == EigenJob::vectors ? 3 + 5 * n : 1;
  if (work_size > std::numeric_limits<lapack_int>::max()) {
    throw ShapeError(concat("syevd: a is ", a.shape(), "; its workspace of ", work_size,
                            " numbers exceeds what LAPACK can count to, 2^31 - 1; the largest order is 32766"),
                     where);
  }
#endif
  detail::require_finite_triangle<T>(ctx, "syevd", Triangle::lower, a, where);
#if MERISTEM_GPU
  constexpr cudaDataType type = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;
  const cusolverEigMode_t mode = job == EigenJob::vectors ? CUSOLVER_EIG_MODE_VECTOR : CUSOLVER_EIG_MODE_NOVECTOR;
  detail::SolverCall call(ctx);
  std::size_t device_bytes = 0, host_bytes = 0;
  check_cusolver(
      cusolverDnXsyevd_bufferSize(ctx.solver(), call.params(), mode, CUBLAS_FILL_MODE_UPPER, n, type, matrix.data,
                                  matrix.stride, type, values.data_handle(), type, &device_bytes, &host_bytes),
      "cusolverDnXsyevd_bufferSize", where);
  call.reserve(device_bytes, host_bytes);
  check_cusolver(cusolverDnXsyevd(ctx.solver(), call.params(), mode, CUBLAS_FILL_MODE_UPPER, n, type, matrix.data,
                                  matrix.stride, type, values.data_handle(), type, call.device(), device_bytes,
                                  call.host(), host_bytes, call.info()),
                 "cusolverDnXsyevd", where);
  const std::int64_t info = call.finish();
#else
  Tensor<T> work(ctx, {work_size});
  Tensor<lapack_int> integer_work(ctx, {integer_work_size});
  const std::int64_t info = detail::for_type<T>(LAPACKE_ssyevd_work, LAPACKE_dsyevd_work)(
      LAPACK_COL_MAJOR, job == EigenJob::vectors ? 'V' : 'N', 'U', matrix.rows, matrix.data, matrix.stride,
      values.data_handle(), work.data(), static_cast<lapack_int>(work_size), integer_work.data(),
      static_cast<lapack_int>(integer_work_size));
#endif
  detail::require_eigen_success(info, n, where);
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
