// Definitions of matrix_ops.hpp.
#pragma once

#include <meristem/grow/solve/matrix_ops.hpp>

namespace meristem::grow::detail {

template <Real T>
std::vector<double> diagonal(Context& ctx, View<const T> a) {
  Tensor<double> out(ctx, {a.extent(0)});
  if (!out.empty()) for_each(ctx, a.extent(0), Diagonal<T>{a, out.data()});
  return to_host(ctx, out);
}

template <Real T>
void require_finite(Context& ctx, const std::string& name, View<const T> a) {
  if (a.empty()) return;
  Tensor<std::int64_t> first(ctx, {a.extent(0)});
  for_each(ctx, a.extent(0), FirstNonFinite<T>{a, first.data()});
  const std::vector<std::int64_t> columns = to_host(ctx, first);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i] < 0) continue;
    const auto row = static_cast<std::int64_t>(i);
    const T value = to_host(ctx, View<const T>(&a(row, columns[i]), Shape{1}))[0];
    throw NumericError(concat(name, ": element (", row, ", ", columns[i], ") is ", value,
                              "; growth statistics must be finite: check the inputs and the gradients they were "
                              "accumulated from, and lower the learning rate if training diverged"));
  }
}

}  // namespace meristem::grow::detail
