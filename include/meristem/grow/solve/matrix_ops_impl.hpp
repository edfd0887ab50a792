// Definitions of matrix_ops.hpp.
#pragma once

#include <meristem/core/solver.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>

namespace meristem::grow::detail {

template <class T>
struct Diagonal {
  View<const T> a;
  double* out;
  MERISTEM_HD void operator()(std::int64_t i) const { out[i] = static_cast<double>(a(i, i)); }
};

/// out[i] = the first column of row i that holds NaN or infinity, or -1
template <class T>
struct FirstNonFinite {
  static constexpr std::int64_t elements = 256;  // in a row, about
  View<const T> a;
  std::int64_t* out;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const T* row = &a(i, 0);
    const std::int64_t n = a.extent(1), step = a.stride(1);
    out[i] = -1;
    if (step == 1 && meristem::detail::all_finite(row, n)) return;
    for (std::int64_t j = n; j-- > 0;) {
      if (row[j * step] - row[j * step] != T(0)) out[i] = j;
    }
  }
};

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
