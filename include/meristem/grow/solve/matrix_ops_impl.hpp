// Definitions of matrix_ops.hpp.
#pragma once

#include <meristem/core/non_finite.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>

namespace meristem::grow::detail {

template <Real T>
std::vector<double> diagonal(Context& ctx, View<const T> a) {
  Tensor<double> out(ctx, {a.extent(0)});
  if (!out.empty()) for_each(ctx, a.extent(0), Diagonal<T>{a, out.data()});
  return to_host(ctx, out);
}

template <Real T>
void require_finite(Context& ctx, const std::vector<Named<T>>& matrices) {
  meristem::detail::NonFiniteSearch<T> search(ctx, std::ssize(matrices));
  for (const Named<T>& each : matrices) search.add(each.matrix);
  const auto found = search.found(ctx);
  for (std::size_t k = 0; k < matrices.size(); ++k) {
    if (!found[k]) continue;
    const auto [row, column] = *found[k];
    const T value = to_host(ctx, View<const T>(&matrices[k].matrix(row, column), Shape{1}))[0];
    throw NumericError(concat(matrices[k].name, ": element (", row, ", ", column, ") is ", value,
                              "; growth statistics must be finite: check the inputs and the gradients they were "
                              "accumulated from, and lower the learning rate if training diverged"));
  }
}

}  // namespace meristem::grow::detail
