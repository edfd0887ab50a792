// Headers, kernels and libraries are all found, from two source files.
#include <iostream>
#include <string>

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
    const std::string here = consume::product();
    std::cout << "meristem " << MERISTEM_VERSION << " on " << here << std::endl;
#if defined(CONSUME_BOTH)
    const std::string there = consume::gpu::product();
    std::cout << "and on " << there << '\n';
#endif
  } catch (const meristem::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
}
