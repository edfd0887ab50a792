// Turns CUDA status codes into exceptions. Only included by translation units that nvcc compiles.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusolverDn.h>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/source_location.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

inline void check_cuda(cudaError_t status, const char* what, SourceLocation where = SourceLocation::current()) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would tell of it again
  throw CudaError(concat(what, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"), where);
}

inline void check_cublas(cublasStatus_t status, const char* what, SourceLocation where = SourceLocation::current()) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(concat(what, " failed: ", cublasGetStatusString(status)), where);
}

inline void check_cusolver(cusolverStatus_t status, const char* what,
                           SourceLocation where = SourceLocation::current()) {
  if (status == CUSOLVER_STATUS_SUCCESS) return;
  throw CudaError(concat(what, " failed with cuSOLVER status ", static_cast<int>(status)), where);
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
