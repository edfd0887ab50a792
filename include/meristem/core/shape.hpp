// Extents of a tensor: a small value of up to `Shape::max_rank` numbers.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// Extents of a tensor, outermost first. Rank 0 is a single number; an extent of 0 makes an empty tensor.
class Shape {
 public:
  static constexpr int max_rank = 5;

  Shape() = default;

  /// Throws ShapeError for a negative extent or more than `max_rank` of them.
  Shape(std::initializer_list<std::int64_t> extents) {
    for (const std::int64_t extent : extents) append(extent);
  }

  /// Adds an innermost extent. Throws ShapeError as the constructor does.
  void append(std::int64_t extent) {
    if (rank_ == max_rank) throw ShapeError(concat("a shape has at most ", int{max_rank}, " extents"));
    if (extent < 0) {
      throw ShapeError(concat("extent ", rank_, " of a shape is ", extent, "; extents are 0 or more"));
    }
    extents_[rank_++] = extent;
  }

  [[nodiscard]] int rank() const noexcept { return rank_; }

  /// Extent of one axis. Throws ShapeError if there is no such axis.
  [[nodiscard]] std::int64_t operator[](int axis) const {
    check_axis(axis);
    return extents_[axis];
  }

  /// The same shape with one extent replaced.
  [[nodiscard]] Shape with(int axis, std::int64_t extent) const {
    check_axis(axis);
    Shape result;
    for (int i = 0; i < rank_; ++i) result.append(i == axis ? extent : extents_[i]);
    return result;
  }

  /// Number of elements: the product of the extents, 1 for rank 0. Throws ShapeError if it exceeds 2^63 - 1.
  [[nodiscard]] std::int64_t size() const {
    std::int64_t product = 1;
    for (int i = 0; i < rank_; ++i) {
      if (extents_[i] == 0) return 0;
    }
    for (int i = 0; i < rank_; ++i) {
      if (__builtin_mul_overflow(product, extents_[i], &product)) {
        throw ShapeError(concat("the number of elements of shape ", to_string(), " exceeds 2^63 - 1"));
      }
    }
    return product;
  }

  /// Bytes of so many elements of `element` bytes each. Throws ShapeError if they exceed 2^63 - 1.
  [[nodiscard]] std::int64_t bytes(std::int64_t element) const {
    std::int64_t result = 0;
    if (__builtin_mul_overflow(size(), element, &result)) {
      throw ShapeError(
          concat("the elements of shape ", to_string(), ", ", element, " bytes each, exceed 2^63 - 1 bytes"));
    }
    return result;
  }

  /// Written as a tuple: `(128, 32, 32, 3)`.
  [[nodiscard]] std::string to_string() const {
    std::string text = "(";
    for (int i = 0; i < rank_; ++i) {
      if (i > 0) text += ", ";
      text += std::to_string(extents_[i]);
    }
    return text + ")";
  }

  friend bool operator==(const Shape& a, const Shape& b) noexcept {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i) {
      if (a.extents_[i] != b.extents_[i]) return false;
    }
    return true;
  }

  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.to_string(); }

 private:
  void check_axis(int axis) const {
    if (axis < 0 || axis >= rank_) {
      throw ShapeError(concat("axis ", axis, " does not exist in shape ", to_string()));
    }
  }

  std::array<std::int64_t, max_rank> extents_{};
  int rank_ = 0;
};

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
