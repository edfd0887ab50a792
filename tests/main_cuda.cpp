// The main function of the tests that nvcc compiled. Without a GPU they are skipped, not failed: exit code 77.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <string_view>

int main(int count, char** arguments) {
  bool runs_tests = true;
  for (int i = 1; i < count; ++i) runs_tests = runs_tests && std::string_view(arguments[i]) != "--list-test-cases";
  int devices = 0;
  const cudaError_t status = runs_tests ? cudaGetDeviceCount(&devices) : cudaSuccess;
  if (runs_tests && (status != cudaSuccess || devices == 0)) {
    std::printf("no GPU was found (%s): the tests compiled for the GPU are skipped\n",
                status == cudaSuccess ? "no device" : cudaGetErrorString(status));
    return 77;
  }
  return doctest::Context(count, arguments).run();
}
