// Multiplies a matrix by its transpose: headers, kernels and libraries are all found.
#include <iostream>

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/version.hpp>

namespace ms = meristem;

int main() {
  try {
    ms::Context ctx;
    const auto a = ms::from_host<float>(ctx, {2, 3}, {1, 2, 3, 4, 5, 6});
    auto c = ms::from_host<float>(ctx, {2, 2}, {0, 0, 0, 0});
    ms::gemm(ctx, ms::Transpose::no, ms::Transpose::yes, 1, a, a, 0, c.view());
    std::cout << "meristem " << MERISTEM_VERSION << " on " << ctx.device_name() << ':';
    for (const float value : ms::to_host(ctx, c)) std::cout << ' ' << value;
    std::cout << '\n';
  } catch (const ms::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
}
