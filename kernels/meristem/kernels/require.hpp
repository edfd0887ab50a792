// The checks that every kernel's launcher makes of its arguments before anything runs.
#pragma once

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/view.hpp>

namespace meristem::kernels::detail {

/// Throws ShapeError unless the elements of `view` exist and lie one after the other.
template <class T>
void require_contiguous(const char* function, const char* argument, const View<T>& view) {
  if (view.data_handle() == nullptr && view.size() > 0) {
    throw ShapeError(concat(function, ": ", argument, " is a default-constructed view; pass a tensor's view"));
  }
  if (!view.is_contiguous()) {
    throw ShapeError(concat(function, ": ", argument, " of shape ", view.shape(),
                            " is strided; contiguous elements are needed: copy the slice to a tensor of its own"));
  }
}

/// Throws ShapeError unless both views are contiguous and of equal shape.
template <class A, class B>
void require_same_shape(const char* function, const char* name_a, const View<A>& a, const char* name_b,
                        const View<B>& b) {
  require_contiguous(function, name_a, a);
  require_contiguous(function, name_b, b);
  if (a.shape() != b.shape()) {
    throw ShapeError(concat(function, ": ", name_a, " has shape ", a.shape(), ", ", name_b, " has shape ", b.shape(),
                            "; they must be equal"));
  }
}

/// Throws ShapeError unless `vector` is contiguous, of rank 1, and as long as the last axis of `matrix`, which is
/// contiguous and of rank 1 or more.
template <class A, class B>
void require_columns(const char* function, const char* vector_name, const View<A>& vector, const char* matrix_name,
                     const View<B>& matrix) {
  require_contiguous(function, vector_name, vector);
  require_contiguous(function, matrix_name, matrix);
  if (vector.rank() != 1 || matrix.rank() < 1 || vector.extent(0) != matrix.extent(matrix.rank() - 1)) {
    throw ShapeError(concat(function, ": ", vector_name, " has shape ", vector.shape(), ", ", matrix_name,
                            " has shape ", matrix.shape(), "; ", vector_name, " needs one element for each column of ",
                            matrix_name));
  }
}

}  // namespace meristem::kernels::detail
