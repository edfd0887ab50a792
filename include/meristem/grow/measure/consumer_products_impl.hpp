// Definitions of consumer_products.hpp.
#pragma once

#include <meristem/core/blas.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/grow/measure/consumer_products.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow::detail {

template <Real T>
void AddRows<T>::operator()(std::int64_t row, std::int64_t column) const {
  const std::int64_t width = columns + (sums ? 1 : 0);
  total[row * width + column] += static_cast<double>(column < columns ? part[row * columns + column] : sums[row]);
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
void add_consumer_products(Context& ctx, const SiteShape& site, View<const T> consumer_input,
                           View<const std::type_identity_t<T>> v, Tensor<double>& total) {
  const std::int64_t q = v.extent(v.rank() - 1), d = site.consumer_inputs();
  const std::int64_t features = d - (site.consumer.bias ? 1 : 0);
  if (d == 0 || q == 0) return;
  const Window& window = site.consumer.window;
  Tensor<T> products(ctx, {q, features});
  if (features > 0 && site.consumer.convolution) {
    kernels::conv2d_backward_weights<T>(
        ctx, consumer_input, v, window, kernels::Accumulate::overwrite,
        products.view().reshape({q, window.kernel.y, window.kernel.x, site.consumer.in}));
  } else if (features > 0) {
    gemm(ctx, Transpose::yes, Transpose::no, 1, v.as_matrix(), consumer_input.as_matrix(), 0, products.view());
  }
  Tensor<T> sums;
  if (site.consumer.bias) {
    sums = Tensor<T>(ctx, {q});
    kernels::column_sums<T>(ctx, v.as_matrix(), sums, kernels::Accumulate::overwrite);
  }
  for_each(ctx, q, d,
           detail::AddRows<T>{products.data(), sums.empty() ? nullptr : sums.data(), total.data(), features});
}

}  // namespace meristem::grow
