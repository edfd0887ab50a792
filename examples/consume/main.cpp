// Headers, kernels and libraries are all found, from two source files.
#include <iostream>

#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/version.hpp>

#include "product.hpp"

#if defined(CONSUME_BOTH)
namespace consume::gpu {
std::string product();
}
#endif

int main() {
  try {
    std::cout << "meristem " << MERISTEM_VERSION << " on " << consume::product() << std::endl;
#if defined(CONSUME_BOTH)
    std::cout << "and on " << consume::gpu::product() << '\n';
#endif
  } catch (const meristem::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
}
