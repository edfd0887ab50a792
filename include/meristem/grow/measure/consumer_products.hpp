// Products of what a consumer reads with anything at its output.
#pragma once

#include <cstdint>

#include <meristem/core/blas.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/grow/statistics/site_shape.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow {

namespace detail {

/// total (rows, columns [+ 1]) += part (rows, columns) [and sums (rows) in the last column], in double.
template <Real T>
struct AddRows {
  const T* part;
  const T* sums;  // null without a last column
  double* total;
  std::int64_t columns;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t width = columns + (sums ? 1 : 0);
    total[row * width + column] += static_cast<double>(column < columns ? part[row * columns + column] : sums[row]);
  }
};

}  // namespace detail

/// total (q, d) += Σ v [b 1]ᵀ over samples and positions, b what the consumer reads there and v (n, ..., q). With the
/// desired update as v this is M1ᵀ, minus the weight gradient of the sum loss: the kernel that backward runs.
template <Real T>
void add_consumer_products(Context& ctx, const SiteShape& site, View<const T> consumer_input,
                           View<const std::type_identity_t<T>> v, Tensor<double>& total) {
  const std::int64_t q = site.fan_out(), d = site.consumer_inputs();
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
