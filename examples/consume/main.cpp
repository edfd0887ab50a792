// Multiplies two matrices: headers, kernels' folder and BLAS are all found.
#include <iostream>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/version.hpp>

int main() {
  namespace ms = meristem;
  ms::Context ctx;
  const auto a = ms::from_host<float>(ctx, {2, 3}, {1, 2, 3, 4, 5, 6});
  auto c = ms::from_host<float>(ctx, {2, 2}, {0, 0, 0, 0});
  ms::gemm(ctx, ms::Transpose::no, ms::Transpose::yes, 1, a, a, 0, c.view());
  std::cout << "meristem " << MERISTEM_VERSION_MAJOR << '.' << MERISTEM_VERSION_MINOR << '.' << MERISTEM_VERSION_PATCH
            << " on " << ctx.device_name() << ':';
  for (const float value : ms::to_host(ctx, c)) std::cout << ' ' << value;
  std::cout << '\n';
}
