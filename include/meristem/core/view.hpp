// Non-owning, strided, trivially copyable access to the elements of a tensor; passed to kernels by value.
#pragma once

#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// A strided window on elements owned elsewhere. Extents and strides are in elements, outermost axis first.
template <class T>
class View {
 public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;
  static constexpr int max_rank = Shape::max_rank;

  View() = default;

  /// Elements stored contiguously, the last axis innermost. Throws ShapeError for a null pointer to a non-empty shape
  /// and for more bytes than can be addressed.
  View(T* data, const Shape& shape) : data_(data), rank_(shape.rank()) {
    if (shape.bytes(sizeof(T)) > 0 && data == nullptr) {
      throw ShapeError(concat("a view of shape ", shape, " needs data, but the pointer is null"));
    }
    // Unsigned, for empty shapes whose other extents have no 64-bit product.
    std::uint64_t stride = 1;
    for (int axis = rank_ - 1; axis >= 0; --axis) {
      extents_[axis] = shape[axis];
      strides_[axis] = static_cast<std::int64_t>(stride);
      stride *= static_cast<std::uint64_t>(shape[axis]);
    }
  }

  /// A view of mutable elements is a view of const ones.
  template <class U>
  requires std::is_same_v<const U, T> MERISTEM_HD View(const View<U>& other)
      : data_(other.data_handle()), rank_(other.rank()) {
    for (int axis = 0; axis < rank_; ++axis) {
      extents_[axis] = other.extent(axis);
      strides_[axis] = other.stride(axis);
    }
  }

  [[nodiscard]] MERISTEM_HD T* data_handle() const { return data_; }
  [[nodiscard]] MERISTEM_HD int rank() const { return rank_; }
  [[nodiscard]] MERISTEM_HD std::int64_t extent(int axis) const { return extents_[axis]; }
  [[nodiscard]] MERISTEM_HD std::int64_t stride(int axis) const { return strides_[axis]; }

  /// Number of elements.
  [[nodiscard]] MERISTEM_HD std::int64_t size() const {
    std::uint64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis) product *= static_cast<std::uint64_t>(extents_[axis]);
    return static_cast<std::int64_t>(product);
  }
  [[nodiscard]] MERISTEM_HD bool empty() const { return size() == 0; }

  [[nodiscard]] Shape shape() const {
    Shape result;
    for (int axis = 0; axis < rank_; ++axis) result.append(extents_[axis]);
    return result;
  }

  /// The element at the given indices, one for each axis; not checked.
  template <class... Index>
  [[nodiscard]] MERISTEM_HD T& operator()(Index... index) const {
    const std::int64_t indices[] = {static_cast<std::int64_t>(index)..., 0};
    std::int64_t offset = 0;
    for (int axis = 0; axis < static_cast<int>(sizeof...(Index)); ++axis) offset += indices[axis] * strides_[axis];
    return data_[offset];
  }

  /// True if the elements lie in memory one after the other in index order.
  [[nodiscard]] MERISTEM_HD bool is_contiguous() const {
    // Unsigned, for empty views whose other extents have no 64-bit product.
    std::uint64_t expected = 1;
    for (int axis = rank_ - 1; axis >= 0; --axis) {
      if (extents_[axis] != 1 && strides_[axis] != static_cast<std::int64_t>(expected)) return empty();
      expected *= static_cast<std::uint64_t>(extents_[axis]);
    }
    return true;
  }

  /// The same elements under another shape. Throws ShapeError unless contiguous and of equal size.
  [[nodiscard]] View reshape(const Shape& to) const {
    if (!is_contiguous()) throw ShapeError(concat("cannot reshape ", shape(), " to ", to, ": it is not contiguous"));
    if (to.size() != size()) {
      throw ShapeError(concat("cannot reshape ", shape(), " with ", size(), " elements to ", to, " with ", to.size()));
    }
    return View(data_, to);
  }

  /// All leading axes merged: shape (rows, last extent). Throws ShapeError for rank 0, if not contiguous, and for more
  /// than 2^63 - 1 rows (of an empty view).
  [[nodiscard]] View as_matrix() const {
    if (rank_ == 0) throw ShapeError("a tensor of rank 0 has no last axis to make a matrix of");
    if (rank_ == 2) return *this;
    Shape leading;
    for (int axis = 0; axis + 1 < rank_; ++axis) leading.append(extents_[axis]);
    return reshape({leading.size(), extents_[rank_ - 1]});
  }

  /// Indices [begin, end) of one axis. Throws ShapeError if the range does not fit.
  [[nodiscard]] View slice(int axis, std::int64_t begin, std::int64_t end) const {
    if (axis < 0 || axis >= rank_ || begin < 0 || end < begin || end > extents_[axis]) {
      throw ShapeError(concat("slice [", begin, ", ", end, ") of axis ", axis, " does not fit shape ", shape()));
    }
    View result = *this;
    if (end > begin) result.data_ += begin * strides_[axis];
    result.extents_[axis] = end - begin;
    return result;
  }

 private:
  T* data_ = nullptr;
  int rank_ = 0;
  std::int64_t extents_[max_rank] = {};
  std::int64_t strides_[max_rank] = {};
};

static_assert(std::is_trivially_copyable_v<View<float>>);

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
