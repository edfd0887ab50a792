// Layers that pool maps (n, H, W, C) channel by channel: MaxPool2d, AveragePool2d, GlobalAveragePool.
#pragma once

#include <optional>

#include <meristem/core/window.hpp>
#include <meristem/kernels/pool.cuh>
#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// The window of a pooling layer.
struct PoolOptions {
  Extent2 kernel = 2;
  std::optional<Extent2> stride = {};  ///< that of the kernel if not given: windows side by side
  Extent2 padding = 0;                 ///< holds no elements: never a maximum, counted in no mean
  Extent2 dilation = 1;
};

namespace detail {

/// Throws ArgumentError for an impossible window.
Window pool_window(std::string_view kind, const PoolOptions& options);

/// Throws ShapeError, which names the layer, unless `input` is a batch of maps.
template <Real T>
void require_maps(const Layer<T>& layer, const Shape& input);

template <Real T>
Shape pooled_shape(const Layer<T>& layer, const Window& window, const Shape& input);

}  // namespace detail

/// What layers that pool by a sliding window share. One that says no more than that it has a window is to growth no
/// pooling.
template <Real T>
class WindowPool : public Layer<T> {
 public:
  using Options = PoolOptions;

  [[nodiscard]] const Window& window() const noexcept { return window_; }
  /// Throws ShapeError also if some windows would lie wholly in the padding.
  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    return detail::pooled_shape(*this, window_, input);
  }

 protected:
  explicit WindowPool(const Window& window) : window_(window) {}

  virtual void pool(Context& ctx, View<const T> input, View<T> output) const = 0;
  virtual void pool_backward(Context& ctx, View<const T> input, View<const T> output_gradient,
                             View<T> input_gradient) const = 0;

  void describe(Description<T>& description) override { description.window_fields(window_); }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override;

 private:
  Window window_;
};

/// y[n][oy][ox][c] = the largest x[n][iy][ix][c] of the window's elements inside the map; NaN if one of them is NaN.
/// The gradient goes to the first of equal maxima in row-major order.
template <Real T>
class MaxPool2d final : public WindowPool<T> {
 public:
  /// Throws ArgumentError for a window that cannot be.
  explicit MaxPool2d(const PoolOptions& options = {}) : WindowPool<T>(detail::pool_window("MaxPool2d", options)) {}

  [[nodiscard]] std::string_view kind() const override { return "MaxPool2d"; }

 private:
  void describe(Description<T>& description) override;
  void pool(Context& ctx, View<const T> input, View<T> output) const override;
  void pool_backward(Context& ctx, View<const T> input, View<const T> output_gradient,
                     View<T> input_gradient) const override;
};

/// y[n][oy][ox][c] = the mean of x[n][iy][ix][c] over the window's elements inside the map: at the border it is the
/// mean of fewer elements.
template <Real T>
class AveragePool2d final : public WindowPool<T> {
 public:
  /// Throws ArgumentError for a window that cannot be.
  explicit AveragePool2d(const PoolOptions& options = {});

  [[nodiscard]] std::string_view kind() const override { return "AveragePool2d"; }

 private:
  void describe(Description<T>& description) override;
  void pool(Context& ctx, View<const T> input, View<T> output) const override;
  void pool_backward(Context& ctx, View<const T> input, View<const T> output_gradient,
                     View<T> input_gradient) const override;
};

/// y[n][c] = the mean of x[n][iy][ix][c] over the whole map: (n, H, W, C) to (n, C).
template <Real T>
class GlobalAveragePool final : public Layer<T> {
 public:
  [[nodiscard]] std::string_view kind() const override { return "GlobalAveragePool"; }

  /// Throws ShapeError also for a map without elements.
  [[nodiscard]] Shape output_shape(const Shape& input) const override;

 protected:
  void describe(Description<T>& description) override { description.pool(Pooling::mean); }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override;

 private:
  static Window whole(const View<const T>& input) { return {.kernel = {input.extent(1), input.extent(2)}}; }
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/pooling_impl.hpp>
#endif
