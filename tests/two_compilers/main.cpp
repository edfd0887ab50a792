// Runs both parts. An error thrown by the part that nvcc compiled is caught here by its type, which both share.
#include <iostream>

#include "parts.hpp"

int main() {
  const std::int64_t n = 1000;
  const long long expected = n * (n - 1) / 2;
  const long long cpu = sum_on_cpu(n);
  std::cout << "CPU: " << cpu << '\n';
  if (cpu != expected) return 1;
  try {
    const long long gpu = sum_on_gpu(n);
    std::cout << "GPU: " << gpu << '\n';
    return gpu == expected ? 0 : 1;
  } catch (const meristem::CudaError& error) {
    std::cout << "GPU: " << error.message() << '\n';
    return error.message().find("no GPU was found") == std::string::npos ? 1 : 0;
  }
}
