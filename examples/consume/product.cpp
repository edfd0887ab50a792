#include "product.hpp"

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>

namespace ms = meristem;

namespace consume {
inline namespace MERISTEM_BACKEND {

std::string product() {
  ms::Context ctx;
  const auto a = ms::from_host<float>(ctx, {2, 3}, {1, 2, 3, 4, 5, 6});
  auto c = ms::empty<float>(ctx, {2, 2});
  ms::gemm(ctx, ms::Transpose::no, ms::Transpose::yes, 1, a, a, 0, c.view());
  std::string text = ctx.device_name() + ':';
  for (const float value : ms::to_host(ctx, c)) text += ' ' + std::to_string(static_cast<int>(value));
  return text;
}

}  // namespace MERISTEM_BACKEND
}  // namespace consume
