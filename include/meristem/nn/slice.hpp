// One of several inputs that stand side by side in a row.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// Numbers `first` to `first + shape.size() - 1` of each row (n, features), as (n, shape...). A network with several
/// inputs reads them side by side (`side_by_side`); each branch of a `Concatenate` begins with the slice that it reads.
template <Real T>
class Slice final : public Layer<T> {
 public:
  using value_type = T;

  /// Throws ArgumentError for a negative `first`, and for a shape that has no extents, one of 0, or no room for the
  /// batch.
  Slice(std::int64_t first, const Shape& shape);

  [[nodiscard]] std::string_view kind() const override { return "Slice"; }

  [[nodiscard]] std::int64_t first() const noexcept { return first_; }
  /// Of one sample.
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }

  /// Throws ShapeError for an input that is no row or too short.
  [[nodiscard]] Shape output_shape(const Shape& input) const override;

 protected:
  void describe(Description<T>& description) override { description.slice(first_, shape_); }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override;

 private:
  std::int64_t first_;
  Shape shape_;
};

/// (n, a), (n, b, c), ... as (n, a + b·c + ...): inputs of the same samples, for a network whose slices take them
/// apart. Throws ArgumentError without inputs and ShapeError for different numbers of samples.
template <Real T>
[[nodiscard]] Tensor<T> side_by_side(Context& ctx, std::span<const View<const T>> inputs);

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/slice_impl.hpp>
#endif
