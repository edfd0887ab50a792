// Products of what a consumer reads with anything at its output.
#pragma once

#include <cstdint>

#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/grow/statistics/site_shape.hpp>

namespace meristem::grow {

namespace detail {

/// total (rows, columns [+ 1]) += part (rows, columns) [and sums (rows) in the last column], in double.
template <Real T>
struct AddRows {
  const T* part;
  const T* sums;  // null without a last column
  double* total;
  std::int64_t columns;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column) const;
};

}  // namespace detail

/// total (q, d) += Σ v [b 1]ᵀ over samples and positions, b what the consumer reads there and v (n, ..., q), of any
/// number q of columns. With the desired update as v this is M1ᵀ, minus the weight gradient of the sum loss: the kernel
/// that backward runs.
template <Real T>
void add_consumer_products(Context& ctx, const SiteShape& site, View<const T> consumer_input,
                           View<const std::type_identity_t<T>> v, Tensor<double>& total);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/consumer_products_impl.hpp>
#endif
