// Columns of one matrix copied into another.
#pragma once

#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/for_each.hpp>
#include <meristem/core/text.hpp>
#include <meristem/core/view.hpp>

namespace meristem::kernels {

namespace detail {

/// to(i, j) = from(i, j), each with a pitch of its own.
template <Real T>
struct CopyColumns {
  const T* from;
  T* to;
  std::int64_t from_pitch, to_pitch;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column) const {
    to[row * to_pitch + column] = from[row * from_pitch + column];
  }
};

}  // namespace detail

/// to(i, to_first + j) = from(i, from_first + j) for 0 <= j < columns; from (n, a) and to (n, b) contiguous. Other
/// columns stay. Throws ShapeError for matrices that do not have them.
template <Real T>
void copy_columns(Context& ctx, std::type_identity_t<View<const T>> from, std::int64_t from_first,
                  std::type_identity_t<View<T>> to, std::int64_t to_first, std::int64_t columns) {
  const auto has = [&](const auto& matrix, std::int64_t first) {
    return matrix.rank() == 2 && matrix.is_contiguous() && first >= 0 && columns >= 0 &&
           matrix.extent(1) - first >= columns;
  };
  if (!has(from, from_first) || !has(to, to_first) || from.extent(0) != to.extent(0)) {
    throw ShapeError(concat("copy_columns: ", columns, " columns from ", from_first, " of ", from.shape(), " to ",
                            to_first, " of ", to.shape(), "; both need those columns and the same rows, contiguous"));
  }
  if (from.extent(0) == 0 || columns == 0) return;
  for_each(ctx, from.extent(0), columns,
           detail::CopyColumns<T>{from.data_handle() + from_first, to.data_handle() + to_first, from.extent(1),
                                  to.extent(1)});
}

}  // namespace meristem::kernels
