// Decompositions of symmetric matrices in row-major views: LAPACK on the CPU, cuSOLVER on the GPU.
//
// A row-major matrix is the transpose of a column-major one on the same memory, so a row-major lower triangle is what
// the libraries call the upper one, and the eigenvectors that they put into columns are rows here.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/memory.hpp>
#include <meristem/core/non_finite.hpp>
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

/// What `syevd` computes.
enum class EigenJob {
  vectors,  ///< eigenvalues and eigenvectors
  values,   ///< eigenvalues only, in about a third of the time
};

namespace detail {

/// "64×64".
[[nodiscard]] inline std::string order(std::int64_t n) { return concat(n, "×", n); }

/// Throws NumericError that names the first element of the triangle that is NaN or infinite: LAPACK's eigenvalue
/// iteration may not end on such a matrix, and OpenBLAS's Cholesky factorisation returns NaN without a word.
template <Real T>
void require_finite_triangle(Context& ctx, const char* function, Triangle triangle, View<const T> a,
                             const SourceLocation& where) {
  NonFiniteSearch<T> search(ctx, 1);
  search.add(a, triangle == Triangle::lower ? Part::lower : Part::upper);
  const auto found = search.found(ctx)[0];
  if (!found) return;
  T value;
  copy_bytes(ctx, &value, &a(found->row, found->column), sizeof(T));
  ctx.synchronize();
  throw NumericError(concat(function, ": element (", found->row, ", ", found->column, ") of the ", order(a.extent(0)),
                            " matrix is ", value, "; check what it was computed from for NaN, infinity or overflow"),
                     where);
}

/// Throws SolverError for what LAPACK and cuSOLVER report as info != 0 of an eigenvalue decomposition, and NumericError
/// for NaN, which stands for a matrix that is not finite.
inline void require_eigen_success(double info, std::int64_t n, const SourceLocation& where) {
  if (info == 0) return;
  if (std::isnan(info)) {
    throw NumericError(concat("syevd: the ", order(n),
                              " matrix holds NaN or infinity; check what it was computed from for NaN, infinity or "
                              "overflow"),
                       where);
  }
  if (info < 0) throw SolverError(concat("syevd: the library refused argument ", -info), where);
  throw SolverError(concat("syevd: the eigenvalue iteration of the ", order(n), " matrix did not converge (info ", info,
                           "); add a ridge, scale the matrix or use float64"),
                    where);
}

#if !MERISTEM_GPU
/// Numbers of type T and integers that `syevd` works in, by the formulas in LAPACK's documentation of xSYEVD: the
/// library's own answer to a query is a number of type T, which for float is rounded down from n = 2897 on and then
/// refused by the same library. Throws ShapeError for more than LAPACK can count to.
[[nodiscard]] inline std::pair<std::int64_t, std::int64_t> eigen_workspace(std::int64_t n, EigenJob job,
                                                                           const SourceLocation& where) {
  const std::int64_t numbers = job == EigenJob::vectors ? 1 + 6 * n + 2 * n * n : 2 * n + 1;
  if (numbers > std::numeric_limits<lapack_int>::max()) {
    throw ShapeError(concat("syevd: a is ", Shape{n, n}, "; its workspace of ", numbers,
                            " numbers exceeds what LAPACK can count to, 2^31 - 1; the largest order is 32766"),
                     where);
  }
  return {numbers, job == EigenJob::vectors ? 3 + 5 * n : 1};
}
#else
/// cuSOLVER's parameter object and its workspace on the device, which may go away when the call was made: its memory
/// is handed on in the order of the stream.
class SolverCall {
 public:
  explicit SolverCall(Context& ctx, std::int64_t numbers = 1) : ctx_(ctx), info_(ctx, {numbers}) {
    cusolverDnParams_t params = nullptr;
    check_cusolver(cusolverDnCreateParams(&params), "cusolverDnCreateParams");
    params_.reset(params);
  }

  /// The library may still read the workspace of a call that an exception leaves behind.
  ~SolverCall() {
    if (std::uncaught_exceptions() > exceptions_) ctx_.memory()->synchronize();
  }

  [[nodiscard]] cusolverDnParams_t params() const { return params_.get(); }
  [[nodiscard]] int* info() { return info_.data(); }
  [[nodiscard]] void* device(std::size_t bytes) {
    device_ = Allocation(ctx_.memory(), bytes);
    return device_.data();
  }

 private:
  struct Destroy {
    void operator()(cusolverDnParams_t params) const { cusolverDnDestroyParams(params); }
  };
  Context& ctx_;
  const int exceptions_ = std::uncaught_exceptions();
  Tensor<int> info_;
  std::unique_ptr<std::remove_pointer_t<cusolverDnParams_t>, Destroy> params_;
  Allocation device_;
};

/// Of each of several matrices k: out[k][0] = info[k], or NaN where one of its `rows` was not finite, and
/// out[k][1 + i] = values[k][i step].
template <class T>
struct WriteOutcome {
  const T* values;
  std::int64_t step, values_apart;
  const int* info;
  double* out;
  std::int64_t out_apart;
  const int* is_finite = nullptr;  // (matrices, rows)
  std::int64_t rows = 0;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const {
    double* const to = out + k * out_apart;
    if (i > 0) {
      to[i] = static_cast<double>(values[k * values_apart + (i - 1) * step]);
      return;
    }
    bool finite = true;
    for (std::int64_t row = 0; row < rows; ++row) finite = finite && is_finite[k * rows + row] != 0;
    *to = finite ? static_cast<double>(info[k]) : double{NAN};
  }
};

/// Whether row i of the lower triangle of each a[k] is finite; what is not becomes 0, as the library's iteration may
/// not end on it.
template <class T>
struct ZeroNonFinite {
  T* a;
  std::int64_t stride, apart, rows;
  int* is_finite;  // (matrices, rows)
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const {
    T* const row = a + k * apart + i * stride;
    int finite = 1;
    for (std::int64_t j = 0; j <= i; ++j) {
      if (row[j] - row[j] == T(0)) continue;
      row[j] = T(0);
      finite = 0;
    }
    is_finite[k * rows + i] = finite;
  }
};
#endif

/// The lower triangle of each a[k] becomes that of ∞ I, whose inverse is 0, unless info[k] is 0; diagonals[k][i] = a[k]
/// (i, i), unless that is null.
template <class T>
struct InfiniteUnless {
  const int* info;
  View<T> a;
  double* diagonals;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i, std::int64_t j) const {
    if (info[k] != 0 && j <= i) a(k, i, j) = i == j ? static_cast<T>(HUGE_VAL) : T(0);
    if (i == j && diagonals != nullptr) diagonals[k * a.extent(1) + i] = static_cast<double>(a(k, i, i));
  }
};

/// Matrix k of a stack (matrices, rows, columns) without gaps.
template <class T>
[[nodiscard]] View<T> matrix_of(View<T> stack, std::int64_t k) {
  return stack.slice(0, k, k + 1).reshape({stack.extent(1), stack.extent(2)});
}

/// Decompositions of matrices that are known to be finite, or for `eigen` thought to be: of one that is not the info is
/// NaN. They wait for nothing: the outcome is in the context's memory, (1 + n), the library's info first. Lives until
/// the device was waited for, as cuSOLVER's workspaces on the host do.
class Decompositions {
 public:
  /// As `potrf`, of n > 0 rows; the outcome goes on with the diagonal of the factor.
  template <Real T>
  void factorize(Context& ctx, Triangle triangle, View<T> view, double* outcome,
                 const SourceLocation& where = SourceLocation::current()) {
    const Matrix<T> a = as_square_matrix("potrf", "a", view, where);
    const std::int64_t step = std::int64_t{a.stride} + 1;
#if MERISTEM_GPU
    SolverCall call(ctx);
    factorize_all(ctx, call, triangle, a, 1, 0, where);
    for_each(ctx, 1, a.rows + 1, WriteOutcome<T>{a.data, step, 0, call.info(), outcome, 0});
#else
    static_cast<void>(ctx);
    const DeviceAccess access;
    outcome[0] = potrf_info(triangle, a);
    for (std::int64_t i = 0; i < a.rows; ++i) outcome[1 + i] = static_cast<double>(a.data[i * step]);
#endif
  }

  /// The lower triangle of each matrix of a contiguous stack (matrices, n, n), n > 0; where it breaks down it becomes
  /// that of ∞ I, whose inverse is 0. The factors' diagonals go to `diagonals` (matrices, n), unless that is null.
  template <Real T>
  void factorize_each(Context& ctx, View<T> stack, double* diagonals = nullptr,
                      const SourceLocation& where = SourceLocation::current()) {
    const Matrix<T> first = as_square_matrix("potrf", "a", matrix_of(stack, 0), where);
    const std::int64_t matrices = stack.extent(0);
#if MERISTEM_GPU
    SolverCall call(ctx, matrices);
    factorize_all(ctx, call, Triangle::lower, first, matrices, stack.stride(0), where);
    const int* const info = call.info();
#else
    Tensor<int> outcomes(ctx, {matrices});
    int* const info = outcomes.data();
    {
      const DeviceAccess access;
      for (std::int64_t k = 0; k < matrices; ++k) {
        Matrix<T> a = first;
        a.data += k * stack.stride(0);
        info[k] = static_cast<int>(potrf_info(Triangle::lower, a));
      }
    }
#endif
    for_each(ctx, matrices, stack.extent(1), stack.extent(2), InfiniteUnless<T>{info, stack, diagonals});
  }

  /// As `syevd`, of n > 0 rows; the outcome goes on with the eigenvalues.
  template <Real T>
  void eigen(Context& ctx, View<T> view, T* values, EigenJob job, double* outcome,
             const SourceLocation& where = SourceLocation::current()) {
    eigen_all(ctx, view, 1, 0, values, job, outcome, 0, where);
  }

  /// Of each matrix of a contiguous stack (matrices, n, n); values (matrices, n), outcomes `apart` from each other.
  template <Real T>
  void eigen_each(Context& ctx, View<T> stack, T* values, EigenJob job, double* outcomes, std::int64_t apart,
                  const SourceLocation& where = SourceLocation::current()) {
    eigen_all(ctx, matrix_of(stack, 0), stack.extent(0), stack.stride(0), values, job, outcomes, apart, where);
  }

#if MERISTEM_GPU
  Decompositions() = default;
  Decompositions(const Decompositions&) = delete;
  Decompositions& operator=(const Decompositions&) = delete;
  /// The library may still use the workspaces of calls that an exception leaves behind.
  ~Decompositions() {
    if (memory_ && std::uncaught_exceptions() > exceptions_) memory_->synchronize();
  }
#endif

 private:
#if MERISTEM_GPU
  /// Of `matrices` that lie `apart` from each other, `a` the first of them.
  template <Real T>
  void factorize_all(Context& ctx, SolverCall& call, Triangle triangle, const Matrix<T>& a, std::int64_t matrices,
                     std::int64_t apart, const SourceLocation& where) {
    constexpr cudaDataType type = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;
    const cublasFillMode_t fill = native(flipped(triangle));
    std::size_t device_bytes = 0, host_bytes = 0;
    check_cusolver(cusolverDnXpotrf_bufferSize(ctx.solver(), call.params(), fill, a.rows, type, a.data, a.stride, type,
                                               &device_bytes, &host_bytes),
                   "cusolverDnXpotrf_bufferSize", where);
    void* const device = call.device(device_bytes);
    for (std::int64_t k = 0; k < matrices; ++k) {
      check_cusolver(cusolverDnXpotrf(ctx.solver(), call.params(), fill, a.rows, type, a.data + k * apart, a.stride,
                                      type, device, device_bytes, host(ctx, host_bytes), host_bytes, call.info() + k),
                     "cusolverDnXpotrf", where);
    }
  }
#else
  template <Real T>
  [[nodiscard]] static lapack_int potrf_info(Triangle triangle, const Matrix<T>& a) {
    return for_type<T>(LAPACKE_spotrf_work, LAPACKE_dpotrf_work)(
        LAPACK_COL_MAJOR, triangle == Triangle::lower ? 'U' : 'L', a.rows, a.data, a.stride);
  }
#endif

  /// Eigenvalues and eigenvectors of `matrices` that lie `apart` from each other, `view` the first of them; outcomes
  /// `outcomes_apart` from each other.
  template <Real T>
  void eigen_all(Context& ctx, View<T> view, std::int64_t matrices, std::int64_t apart, T* values, EigenJob job,
                 double* outcomes, std::int64_t outcomes_apart, const SourceLocation& where) {
    const Matrix<T> a = as_square_matrix("syevd", "a", view, where);
    const std::int64_t n = a.rows;
#if MERISTEM_GPU
    constexpr cudaDataType type = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;
    const cusolverEigMode_t mode = job == EigenJob::vectors ? CUSOLVER_EIG_MODE_VECTOR : CUSOLVER_EIG_MODE_NOVECTOR;
    SolverCall call(ctx, matrices * (1 + n));
    int* const is_finite = call.info() + matrices;
    for_each(ctx, matrices, n, ZeroNonFinite<T>{a.data, a.stride, apart, n, is_finite});
    std::size_t device_bytes = 0, host_bytes = 0;
    if (matrices == 1) {
      check_cusolver(cusolverDnXsyevd_bufferSize(ctx.solver(), call.params(), mode, CUBLAS_FILL_MODE_UPPER, n, type,
                                                 a.data, a.stride, type, values, type, &device_bytes, &host_bytes),
                     "cusolverDnXsyevd_bufferSize", where);
      check_cusolver(cusolverDnXsyevd(ctx.solver(), call.params(), mode, CUBLAS_FILL_MODE_UPPER, n, type, a.data,
                                      a.stride, type, values, type, call.device(device_bytes), device_bytes,
                                      host(ctx, host_bytes), host_bytes, call.info()),
                     "cusolverDnXsyevd", where);
    } else {
      check_cusolver(
          cusolverDnXsyevBatched_bufferSize(ctx.solver(), call.params(), mode, CUBLAS_FILL_MODE_UPPER, n, type, a.data,
                                            n, type, values, type, &device_bytes, &host_bytes, matrices),
          "cusolverDnXsyevBatched_bufferSize", where);
      check_cusolver(cusolverDnXsyevBatched(ctx.solver(), call.params(), mode, CUBLAS_FILL_MODE_UPPER, n, type, a.data,
                                            n, type, values, type, call.device(device_bytes), device_bytes,
                                            host(ctx, host_bytes), host_bytes, call.info(), matrices),
                     "cusolverDnXsyevBatched", where);
    }
    for_each(ctx, matrices, n + 1, WriteOutcome<T>{values, 1, n, call.info(), outcomes, outcomes_apart, is_finite, n});
#else
    const auto [work_size, integer_work_size] = eigen_workspace(n, job, where);
    Tensor<T> work(ctx, {work_size});
    Tensor<lapack_int> integer_work(ctx, {integer_work_size});
    const DeviceAccess access;
    for (std::int64_t k = 0; k < matrices; ++k) {
      T* const data = a.data + k * apart;
      double* const outcome = outcomes + k * outcomes_apart;
      // On a matrix that is not finite the iteration may not end.
      bool finite = true;
      for (std::int64_t i = 0; i < n; ++i) finite = finite && all_finite(data + i * a.stride, i + 1);
      if (!finite) {
        std::fill_n(outcome, 1 + n, std::numeric_limits<double>::quiet_NaN());
        continue;
      }
      outcome[0] = for_type<T>(LAPACKE_ssyevd_work, LAPACKE_dsyevd_work)(
          LAPACK_COL_MAJOR, job == EigenJob::vectors ? 'V' : 'N', 'U', a.rows, data, a.stride, values + k * n,
          work.data(), static_cast<lapack_int>(work_size), integer_work.data(),
          static_cast<lapack_int>(integer_work_size));
      for (std::int64_t i = 0; i < n; ++i) outcome[1 + i] = static_cast<double>(values[k * n + i]);
    }
#endif
  }

#if MERISTEM_GPU
  [[nodiscard]] void* host(Context& ctx, std::size_t bytes) {
    memory_ = ctx.memory();
    return bytes > 0 ? host_.emplace_back(bytes).data() : nullptr;
  }

  const int exceptions_ = std::uncaught_exceptions();
  std::shared_ptr<Memory> memory_;
  std::vector<std::vector<unsigned char>> host_;
#endif
};

/// What came of a Cholesky factorisation.
struct Factorization {
  std::int64_t info = 0;         ///< 0 or the order of the first minor that is not positive definite
  std::vector<double> diagonal;  ///< of the factor
};

/// From the outcome of `Decompositions::factorize`.
[[nodiscard]] inline Factorization factorization(const char* function, std::span<const double> outcome,
                                                 const SourceLocation& where) {
  Factorization result{static_cast<std::int64_t>(outcome[0]), {outcome.begin() + 1, outcome.end()}};
  if (result.info < 0) throw SolverError(concat(function, ": the library refused argument ", -result.info), where);
  // Overflow inside the factorisation ends in a pivot of NaN, which not every library reports.
  for (std::size_t i = 0; result.info == 0 && i < result.diagonal.size(); ++i) {
    if (!std::isfinite(result.diagonal[i])) result.info = static_cast<std::int64_t>(i) + 1;
  }
  return result;
}

/// Of a matrix that is known to be finite.
template <Real T>
[[nodiscard]] Factorization factorize(const char* function, Context& ctx, Triangle triangle, View<T> a,
                                      const SourceLocation& where = SourceLocation::current()) {
  if (a.extent(0) == 0) return {};
  Decompositions calls;
  Tensor<double> outcome(ctx, {a.extent(0) + 1});
  calls.factorize(ctx, triangle, a, outcome.data(), where);
  return factorization(function, to_host(ctx, outcome), where);
}

template <Real T>
[[nodiscard]] Factorization cholesky(const char* function, Context& ctx, Triangle triangle, View<T> a,
                                     const SourceLocation& where) {
  if (as_square_matrix(function, "a", a, where).rows > 0) require_finite_triangle<T>(ctx, function, triangle, a, where);
  return factorize(function, ctx, triangle, a, where);
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
  return detail::cholesky("try_potrf", ctx, triangle, a, where).info;
}

/// As `try_potrf`, but throws SolverError with the order of the failing minor.
template <Real T>
void potrf(Context& ctx, Triangle triangle, View<T> a, SourceLocation where = SourceLocation::current()) {
  const std::int64_t minor = detail::cholesky("potrf", ctx, triangle, a, where).info;
  if (minor == 0) return;
  throw SolverError(concat("potrf: the leading minor of order ", minor, " of the ", detail::order(a.extent(0)),
                           " matrix is not positive definite; add a ridge or use the eigen route"),
                    where);
}

/// Eigenvalues and eigenvectors of the symmetric a (n, n), of which only the lower triangle is read, by divide and
/// conquer.
///
/// values (n) is overwritten with the eigenvalues, ascending; a is overwritten: row i is the eigenvector of unit length
/// that belongs to values[i], or, with EigenJob::values, nothing of use. Throws ShapeError; NumericError if the lower
/// triangle holds NaN or infinity, which leaves a as it was; SolverError if the iteration does not converge.
template <Real T>
void syevd(Context& ctx, View<T> a, std::type_identity_t<View<T>> values, EigenJob job = EigenJob::vectors,
           SourceLocation where = SourceLocation::current()) {
  const std::int64_t n = detail::as_square_matrix("syevd", "a", a, where).rows;
  if (values.rank() != 1 || values.extent(0) != n || !values.is_contiguous()) {
    throw ShapeError(
        concat("syevd: a is ", a.shape(), ", values is ", values.shape(), values.is_contiguous() ? "" : " with gaps",
               "; values must be contiguous of shape ", Shape{n}),
        where);
  }
  if (n == 0) return;
#if !MERISTEM_GPU
  static_cast<void>(detail::eigen_workspace(n, job, where));  // before anything is read
#endif
  detail::require_finite_triangle<T>(ctx, "syevd", Triangle::lower, a, where);
  detail::Decompositions calls;
  Tensor<double> outcome(ctx, {n + 1});
  calls.eigen(ctx, a, values.data_handle(), job, outcome.data(), where);
  detail::require_eigen_success(to_host(ctx, outcome)[0], n, where);
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
