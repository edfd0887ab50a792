// cuBLAS and cuSOLVER by OpenBLAS and LAPACK, as far as the library calls them. Matrices are column-major.
#include <cblas.h>
#include <cublas_v2.h>
#include <cusolverDn.h>
#include <lapacke.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "device.hpp"
#include "runtime.hpp"

using namespace virtual_gpu;

// Handles know the stream that they work on.
struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
};
struct cusolverDnContext {
  cudaStream_t stream = nullptr;
};

namespace {

/// Which part of a matrix is read or written.
enum class Part { all, lower, upper };

/// A matrix in device memory: what may be used of it, checked.
template <class T>
struct Matrix {
  Matrix(const char* call, const char* name, const void* pointer, s64 rows, s64 columns, s64 stride)
      : what(std::string(call) + " " + name),
        seen(static_cast<const T*>(pointer)),
        rows(rows),
        columns(columns),
        stride(stride) {
    valid = stride >= std::max<s64>(1, rows) && rows >= 0 && columns >= 0;
    if (!valid) return;
    const s64 elements = rows > 0 && columns > 0 ? (columns - 1) * stride + rows : 0;
    data = reinterpret_cast<T*>(memory::usable(pointer, static_cast<u64>(elements) * sizeof(T), what));
    if (elements > 0 && !memory::is_device(pointer)) problem(what + " is not in device memory");
    valid = elements == 0 || (data && memory::is_device(pointer));
  }
  template <class F>
  void columns_of(Part part, const F& f) const {
    for (s64 j = 0; j < columns; ++j) {
      const s64 begin = part == Part::lower ? std::min(j, rows) : 0,
                end = part == Part::upper ? std::min(j + 1, rows) : rows;
      f(seen + j * stride + begin, static_cast<u64>(end - begin) * sizeof(T));
    }
  }
  void reads(Part part = Part::all) const {
    bool written = true;
    if (looks_for_races)
      columns_of(part, [&](const T* at, u64 bytes) { written = written && memory::is_written(at, bytes); });
    if (!written) problem(what + ": reads device memory that nobody wrote");
  }
  void writes(Part part = Part::all) const {
    if (looks_for_races) columns_of(part, [](const T* at, u64 bytes) { memory::mark_written(at, bytes); });
  }
  std::string what;
  const T* seen;
  T* data = nullptr;
  s64 rows, columns, stride;
  bool valid;
};

Part part_of(cublasFillMode_t fill) { return fill == CUBLAS_FILL_MODE_LOWER ? Part::lower : Part::upper; }
CBLAS_UPLO triangle(cublasFillMode_t fill) { return fill == CUBLAS_FILL_MODE_LOWER ? CblasLower : CblasUpper; }
char letter(cublasFillMode_t fill) { return fill == CUBLAS_FILL_MODE_LOWER ? 'L' : 'U'; }
CBLAS_TRANSPOSE transpose(cublasOperation_t operation) { return operation == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }

/// What `call` has to return at once: its stream is none, or it is captured, so that `again()` goes on, with the handle
/// as it is now, whenever the graph is launched.
template <class Again>
std::optional<cublasStatus_t> returns_at_once(cublasHandle_t handle, const char* call, const Again& again) {
  if (!is_stream(handle->stream, call)) return CUBLAS_STATUS_EXECUTION_FAILED;
  const auto work = [handle, again, math = handle->math] {
    const cublasMath_t other = std::exchange(handle->math, math);
    again();
    handle->math = other;
  };
  if (is_captured(handle->stream, call, work)) return CUBLAS_STATUS_SUCCESS;
  ++counts().blas_and_solver_calls;
  return std::nullopt;
}

/// Its elements with mantissas of ten bits, to the nearest, ties to even.
std::vector<float> rounded_to_tf32(const Matrix<float>& matrix) {
  std::vector<float> result(static_cast<std::size_t>(matrix.stride * std::max<s64>(matrix.columns, 1)));
  for (s64 j = 0; j < matrix.columns; ++j) {
    for (s64 i = 0; i < matrix.rows; ++i) {
      const s64 at = j * matrix.stride + i;
      std::uint32_t bits = 0;
      std::memcpy(&bits, matrix.data + at, sizeof bits);
      if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu;
      std::memcpy(&result[static_cast<std::size_t>(at)], &bits, sizeof bits);
    }
  }
  return result;
}

template <class T>
cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                    const T* alpha, const T* a, int lda, const T* b, int ldb, const T* beta, T* c, int ldc) {
  const auto again = [=, alpha = *alpha, beta = *beta] {
    gemm(handle, ta, tb, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc);
  };
  if (const auto status = returns_at_once(handle, "gemm", again)) return *status;
  const bool na = ta == CUBLAS_OP_N, nb = tb == CUBLAS_OP_N;
  const Matrix<T> ma("gemm", "A", a, na ? m : k, na ? k : m, lda), mb("gemm", "B", b, nb ? k : n, nb ? n : k, ldb);
  const Matrix<T> mc("gemm", "C", c, m, n, ldc);
  if (!ma.valid || !mb.valid || !mc.valid) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  if (*alpha != 0) {
    ma.reads();
    mb.reads();
  }
  if (*beta != 0) mc.reads();
  mc.writes();
  const auto product = [&](auto function, const T* of_a, const T* of_b) {
    function(CblasColMajor, transpose(ta), transpose(tb), m, n, k, *alpha, of_a, lda, of_b, ldb, *beta, mc.data, ldc);
  };
  if constexpr (std::is_same_v<T, float>) {
    if (handle->math == CUBLAS_TF32_TENSOR_OP_MATH && *alpha != 0) {
      product(cblas_sgemm, rounded_to_tf32(ma).data(), rounded_to_tf32(mb).data());
    } else {
      product(cblas_sgemm, ma.data, mb.data);
    }
  } else {
    product(cblas_dgemm, ma.data, mb.data);
  }
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t syrk(cublasHandle_t handle, cublasFillMode_t fill, cublasOperation_t t, int n, int k, const T* alpha,
                    const T* a, int lda, const T* beta, T* c, int ldc) {
  const auto again = [=, alpha = *alpha, beta = *beta] { syrk(handle, fill, t, n, k, &alpha, a, lda, &beta, c, ldc); };
  if (const auto status = returns_at_once(handle, "syrk", again)) return *status;
  const bool plain = t == CUBLAS_OP_N;
  const Matrix<T> ma("syrk", "A", a, plain ? n : k, plain ? k : n, lda), mc("syrk", "C", c, n, n, ldc);
  if (!ma.valid || !mc.valid) return CUBLAS_STATUS_INVALID_VALUE;
  if (n == 0) return CUBLAS_STATUS_SUCCESS;
  if (*alpha != 0) ma.reads();
  if (*beta != 0) mc.reads(part_of(fill));
  mc.writes(part_of(fill));
  const auto product = [&](auto function) {
    function(CblasColMajor, triangle(fill), transpose(t), n, k, *alpha, ma.data, lda, *beta, mc.data, ldc);
  };
  if constexpr (std::is_same_v<T, float>) {
    product(cblas_ssyrk);
  } else {
    product(cblas_dsyrk);
  }
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t trsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t t,
                    cublasDiagType_t diagonal, int m, int n, const T* alpha, const T* a, int lda, T* b, int ldb) {
  const auto again = [=, alpha = *alpha] { trsm(handle, side, fill, t, diagonal, m, n, &alpha, a, lda, b, ldb); };
  if (const auto status = returns_at_once(handle, "trsm", again)) return *status;
  const bool left = side == CUBLAS_SIDE_LEFT;
  const Matrix<T> ma("trsm", "A", a, left ? m : n, left ? m : n, lda), mb("trsm", "B", b, m, n, ldb);
  if (!ma.valid || !mb.valid) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  ma.reads(part_of(fill));
  mb.reads();
  const auto solve = [&](auto function) {
    function(CblasColMajor, left ? CblasLeft : CblasRight, triangle(fill), transpose(t),
             diagonal == CUBLAS_DIAG_UNIT ? CblasUnit : CblasNonUnit, m, n, *alpha, ma.data, lda, mb.data, ldb);
  };
  if constexpr (std::is_same_v<T, float>) {
    solve(cblas_strsm);
  } else {
    solve(cblas_dtrsm);
  }
  return CUBLAS_STATUS_SUCCESS;
}

/// Work spaces of solvers: of the size they asked for, and overwritten.
constexpr std::size_t device_work = 1024, host_work = 16;

bool take_work(const char* call, void* device, std::size_t device_bytes, void* host, std::size_t host_bytes) {
  char* const usable = memory::usable(device, device_bytes, std::string(call) + " work space");
  if (!usable || device_bytes < device_work || host_bytes < host_work) return false;
  std::memset(usable, 0xff, device_bytes);
  std::memset(host, 0xff, host_bytes);
  return true;
}

int* usable_info(int* info) {
  memory::mark_written(info, sizeof(int));
  return reinterpret_cast<int*>(memory::usable(info, sizeof(int), "a solver's info"));
}

template <class T>
cusolverStatus_t potrf(cublasFillMode_t fill, s64 n, void* a, s64 lda, int* info) {
  const Matrix<T> ma("potrf", "A", a, n, n, lda);
  int* const result = usable_info(info);
  if (!ma.valid || !result) return CUSOLVER_STATUS_INVALID_VALUE;
  ma.reads(part_of(fill));
  const int order = static_cast<int>(n), stride = static_cast<int>(lda);
  if constexpr (std::is_same_v<T, float>) {
    *result = LAPACKE_spotrf_work(LAPACK_COL_MAJOR, letter(fill), order, ma.data, stride);
  } else {
    *result = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, letter(fill), order, ma.data, stride);
  }
  return CUSOLVER_STATUS_SUCCESS;
}

template <class T>
cusolverStatus_t syevd(cusolverEigMode_t job, cublasFillMode_t fill, s64 n, void* a, s64 lda, void* values, int* info) {
  const Matrix<T> ma("syevd", "A", a, n, n, lda), mv("syevd", "W", values, n, 1, std::max<s64>(1, n));
  int* const result = usable_info(info);
  if (!ma.valid || !mv.valid || !result) return CUSOLVER_STATUS_INVALID_VALUE;
  ma.reads(part_of(fill));
  ma.writes();
  mv.writes();
  // LAPACK's bounds; its query of the sizes in float is wrong beyond 2^24.
  std::vector<T> work(static_cast<std::size_t>(1 + 6 * n + 2 * n * n));
  std::vector<int> integers(static_cast<std::size_t>(3 + 5 * n));
  const char what = job == CUSOLVER_EIG_MODE_VECTOR ? 'V' : 'N';
  const int order = static_cast<int>(n), stride = static_cast<int>(lda),
            integer_size = static_cast<int>(integers.size());
  const int size = static_cast<int>(work.size());
  if constexpr (std::is_same_v<T, float>) {
    *result = LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, what, letter(fill), order, ma.data, stride, mv.data, work.data(),
                                  size, integers.data(), integer_size);
  } else {
    *result = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, what, letter(fill), order, ma.data, stride, mv.data, work.data(),
                                  size, integers.data(), integer_size);
  }
  return CUSOLVER_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return is_stream(stream, "cublasSetStream") ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t math) {
  handle->math = math;
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusString(cublasStatus_t) { return "an error of cuBLAS on the virtual GPU"; }

cublasStatus_t cublasSgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                              const float* alpha, const float* a, int lda, const float* b, int ldb, const float* beta,
                              float* c, int ldc) {
  return gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

cublasStatus_t cublasDgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                              const double* alpha, const double* a, int lda, const double* b, int ldb,
                              const double* beta, double* c, int ldc) {
  return gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

cublasStatus_t cublasSsyrk_v2(cublasHandle_t h, cublasFillMode_t fill, cublasOperation_t t, int n, int k,
                              const float* alpha, const float* a, int lda, const float* beta, float* c, int ldc) {
  return syrk(h, fill, t, n, k, alpha, a, lda, beta, c, ldc);
}

cublasStatus_t cublasDsyrk_v2(cublasHandle_t h, cublasFillMode_t fill, cublasOperation_t t, int n, int k,
                              const double* alpha, const double* a, int lda, const double* beta, double* c, int ldc) {
  return syrk(h, fill, t, n, k, alpha, a, lda, beta, c, ldc);
}

cublasStatus_t cublasStrsm_v2(cublasHandle_t h, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t t,
                              cublasDiagType_t diagonal, int m, int n, const float* alpha, const float* a, int lda,
                              float* b, int ldb) {
  return trsm(h, side, fill, t, diagonal, m, n, alpha, a, lda, b, ldb);
}

cublasStatus_t cublasDtrsm_v2(cublasHandle_t h, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t t,
                              cublasDiagType_t diagonal, int m, int n, const double* alpha, const double* a, int lda,
                              double* b, int ldb) {
  return trsm(h, side, fill, t, diagonal, m, n, alpha, a, lda, b, ldb);
}

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  *handle = new cusolverDnContext;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
  delete handle;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return is_stream(stream, "cusolverDnSetStream") ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_INVALID_VALUE;
}

cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* parameters) {
  *parameters = reinterpret_cast<cusolverDnParams_t>(new char);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t parameters) {
  delete reinterpret_cast<char*>(parameters);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t, cusolverDnParams_t, cublasFillMode_t, int64_t,
                                             cudaDataType, const void*, int64_t, cudaDataType,
                                             std::size_t* device_bytes, std::size_t* host_bytes) {
  *device_bytes = device_work;
  *host_bytes = host_work;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t, cublasFillMode_t fill, int64_t n,
                                  cudaDataType type, void* a, int64_t lda, cudaDataType, void* device,
                                  std::size_t device_bytes, void* host, std::size_t host_bytes, int* info) {
  ++counts().blas_and_solver_calls;
  if (breaks_capture("potrf", handle->stream) || !is_stream(handle->stream, "potrf"))
    return CUSOLVER_STATUS_EXECUTION_FAILED;
  if (!take_work("potrf", device, device_bytes, host, host_bytes)) return CUSOLVER_STATUS_INVALID_VALUE;
  return type == CUDA_R_64F ? potrf<double>(fill, n, a, lda, info) : potrf<float>(fill, n, a, lda, info);
}

cusolverStatus_t cusolverDnXsyevd_bufferSize(cusolverDnHandle_t, cusolverDnParams_t, cusolverEigMode_t,
                                             cublasFillMode_t, int64_t, cudaDataType, const void*, int64_t,
                                             cudaDataType, const void*, cudaDataType, std::size_t* device_bytes,
                                             std::size_t* host_bytes) {
  *device_bytes = device_work;
  *host_bytes = host_work;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t, cusolverEigMode_t job,
                                  cublasFillMode_t fill, int64_t n, cudaDataType type, void* a, int64_t lda,
                                  cudaDataType, void* values, cudaDataType, void* device, std::size_t device_bytes,
                                  void* host, std::size_t host_bytes, int* info) {
  ++counts().blas_and_solver_calls;
  if (breaks_capture("syevd", handle->stream) || !is_stream(handle->stream, "syevd"))
    return CUSOLVER_STATUS_EXECUTION_FAILED;
  if (!take_work("syevd", device, device_bytes, host, host_bytes)) return CUSOLVER_STATUS_INVALID_VALUE;
  return type == CUDA_R_64F ? syevd<double>(job, fill, n, a, lda, values, info)
                            : syevd<float>(job, fill, n, a, lda, values, info);
}

cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t, cusolverDnParams_t, cusolverEigMode_t,
                                                   cublasFillMode_t, int64_t, cudaDataType, const void*, int64_t,
                                                   cudaDataType, const void*, cudaDataType, std::size_t* device_bytes,
                                                   std::size_t* host_bytes, int64_t) {
  *device_bytes = device_work;
  *host_bytes = host_work;
  return CUSOLVER_STATUS_SUCCESS;
}

// Matrices lie lda · n from each other, their values n.
cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t handle, cusolverDnParams_t, cusolverEigMode_t job,
                                        cublasFillMode_t fill, int64_t n, cudaDataType type, void* a, int64_t lda,
                                        cudaDataType, void* values, cudaDataType, void* device,
                                        std::size_t device_bytes, void* host, std::size_t host_bytes, int* info,
                                        int64_t matrices) {
  ++counts().blas_and_solver_calls;
  if (!is_stream(handle->stream, "syevBatched")) return CUSOLVER_STATUS_EXECUTION_FAILED;
  if (!take_work("syevBatched", device, device_bytes, host, host_bytes)) return CUSOLVER_STATUS_INVALID_VALUE;
  const auto each = [&]<class T>(T* first, T* first_values) {
    cusolverStatus_t status = CUSOLVER_STATUS_SUCCESS;
    for (int64_t k = 0; k < matrices && status == CUSOLVER_STATUS_SUCCESS; ++k) {
      status = syevd<T>(job, fill, n, first + k * lda * n, lda, first_values + k * n, info + k);
    }
    return status;
  };
  return type == CUDA_R_64F ? each(static_cast<double*>(a), static_cast<double*>(values))
                            : each(static_cast<float*>(a), static_cast<float*>(values));
}

}  // extern "C"
