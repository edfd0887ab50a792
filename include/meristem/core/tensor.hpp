// Tensors that own their memory, and the few ways to make, copy and read them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/memory.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/view.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// A contiguous array in the memory of a Context. It moves; copies are made by name (`clone`, `copy`).
template <class T>
class Tensor {
  static_assert(std::is_trivially_copyable_v<T> && !std::is_const_v<T>);

 public:
  using value_type = T;

  /// Empty: shape (0).
  Tensor() = default;

  /// Uninitialised elements. Throws MemoryError if there is no memory for them, ShapeError if nothing could hold them.
  Tensor(Context& ctx, const Shape& shape) : allocation_(allocated(ctx, shape)), shape_(shape) {}

  /// Elements in memory from elsewhere; `adopt` (core/wrap.hpp) checks the pointer first.
  Tensor(Allocation allocation, const Shape& shape) : allocation_(std::move(allocation)), shape_(shape) {}

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] int rank() const noexcept { return shape_.rank(); }
  [[nodiscard]] std::int64_t extent(int axis) const { return shape_[axis]; }
  [[nodiscard]] std::int64_t size() const { return shape_.size(); }
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] T* data() noexcept { return static_cast<T*>(allocation_.data()); }
  [[nodiscard]] const T* data() const noexcept { return static_cast<const T*>(allocation_.data()); }

  /// Whether both are of one Context; an empty tensor without one is of every Context.
  template <class U>
  [[nodiscard]] bool same_context(const Tensor<U>& other) const noexcept {
    return memory() == nullptr || other.memory() == nullptr || memory() == other.memory();
  }
  /// The memory of its Context; null for a tensor that was made without one.
  [[nodiscard]] const Memory* memory() const noexcept { return allocation_.memory(); }

  /// The same elements under another shape; this tensor is left empty. Throws ShapeError if the sizes differ.
  [[nodiscard]] Tensor reshape(const Shape& to) && {
    if (to.size() != size()) {
      throw ShapeError(concat("cannot reshape ", shape_, " with ", size(), " elements to ", to, " with ", to.size()));
    }
    Tensor result = std::move(*this);
    result.shape_ = to;
    shape_ = Shape({0});
    return result;
  }

  [[nodiscard]] View<T> view() { return View<T>(data(), shape_); }
  [[nodiscard]] View<const T> view() const { return View<const T>(data(), shape_); }
  operator View<T>() { return view(); }
  operator View<const T>() const { return view(); }

 private:
  static Allocation allocated(Context& ctx, const Shape& shape) {
    const auto bytes = static_cast<std::size_t>(shape.bytes(sizeof(T)));
    try {
      return Allocation(ctx.memory(), bytes);
    } catch (const MemoryError& error) {
      throw MemoryError(concat("a tensor of shape ", shape, ": ", error.message()));
    }
  }

  Allocation allocation_;
  Shape shape_{0};
};

namespace detail {

/// Copies bytes between any two of host and device, in stream order. What lies in pageable host memory was read when
/// this returns.
inline void copy_bytes([[maybe_unused]] Context& ctx, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
#if MERISTEM_GPU
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, ctx.stream()), "cudaMemcpyAsync");
#else
  const DeviceAccess access;
  std::memmove(to, from, bytes);
#endif
}

/// Sets each of the bytes to `value`, in stream order.
inline void fill_bytes([[maybe_unused]] Context& ctx, void* to, int value, std::size_t bytes) {
  if (bytes == 0) return;
#if MERISTEM_GPU
  check_cuda(cudaMemsetAsync(to, value, bytes, ctx.stream()), "cudaMemsetAsync");
#else
  const DeviceAccess access;
  std::memset(to, value, bytes);
#endif
}

/// Waits until the host memory from which a copy was started may go away: CUDA has read pageable memory by then, but
/// reads memory that it knows itself while the program goes on.
inline void wait_for_source([[maybe_unused]] Context& ctx, [[maybe_unused]] const void* from) {
#if MERISTEM_GPU
  cudaPointerAttributes attributes{};
  check_cuda(cudaPointerGetAttributes(&attributes, from), "cudaPointerGetAttributes");
  if (attributes.type != cudaMemoryTypeUnregistered) ctx.synchronize();
#endif
}

}  // namespace detail

/// Uninitialised tensor.
template <class T>
[[nodiscard]] Tensor<T> empty(Context& ctx, const Shape& shape) {
  return Tensor<T>(ctx, shape);
}

/// Tensor whose bytes are all zero.
template <class T>
[[nodiscard]] Tensor<T> zeros(Context& ctx, const Shape& shape) {
  Tensor<T> result(ctx, shape);
  detail::fill_bytes(ctx, result.data(), 0, static_cast<std::size_t>(result.size()) * sizeof(T));
  return result;
}

/// Tensor with the given elements in index order. Throws ShapeError if their number does not match the shape.
template <class T>
[[nodiscard]] Tensor<T> from_host(Context& ctx, const Shape& shape, std::span<const T> elements) {
  if (static_cast<std::int64_t>(elements.size()) != shape.size()) {
    throw ShapeError(
        concat(elements.size(), " elements were given for a tensor of shape ", shape, ", which holds ", shape.size()));
  }
  ctx.require_not_recording("reads memory of the host");
  Tensor<T> result(ctx, shape);
  detail::copy_bytes(ctx, result.data(), elements.data(), elements.size_bytes());
  // The caller's memory may go away as soon as this returns.
  if (!elements.empty()) detail::wait_for_source(ctx, elements.data());
  return result;
}

template <class T>
[[nodiscard]] Tensor<T> from_host(Context& ctx, const Shape& shape, const std::vector<T>& elements) {
  return from_host<T>(ctx, shape, std::span<const T>(elements));
}

/// Elements of a contiguous view in index order, on the host; they are there once the device was waited for, and are to
/// live until then. Throws ShapeError for a view with gaps.
template <class T>
[[nodiscard]] std::vector<std::remove_const_t<T>> to_host_later(Context& ctx, View<T> view) {
  if (!view.is_contiguous()) {
    throw ShapeError(concat("to_host needs contiguous elements; the view of shape ", view.shape(), " is strided"));
  }
  ctx.require_not_recording("waits for the device");
  std::vector<std::remove_const_t<T>> result(static_cast<std::size_t>(view.size()));
  detail::copy_bytes(ctx, result.data(), view.data_handle(), result.size() * sizeof(T));
  return result;
}

/// The same, waited for.
template <class T>
[[nodiscard]] std::vector<std::remove_const_t<T>> to_host(Context& ctx, View<T> view) {
  auto result = to_host_later(ctx, view);
  ctx.synchronize();
  return result;
}

template <class T>
[[nodiscard]] std::vector<T> to_host(Context& ctx, const Tensor<T>& tensor) {
  return tensor.empty() ? std::vector<T>() : to_host(ctx, tensor.view());
}

/// The elements of several contiguous views; waits for the device once. Throws ShapeError for a view with gaps.
template <class T>
[[nodiscard]] std::vector<std::vector<std::remove_const_t<T>>> to_host(Context& ctx,
                                                                       const std::vector<View<T>>& views) {
  ctx.require_not_recording("waits for the device");
  std::vector<std::vector<std::remove_const_t<T>>> result;
  for (const View<T>& view : views) result.push_back(to_host_later(ctx, view));
  ctx.synchronize();
  return result;
}

/// to = from for contiguous views of equal shape. Throws ShapeError otherwise.
template <class T>
void copy(Context& ctx, View<const std::type_identity_t<T>> from, View<T> to) {
  if (from.shape() != to.shape()) throw ShapeError(concat("cannot copy ", from.shape(), " to ", to.shape()));
  if (!from.is_contiguous() || !to.is_contiguous()) {
    throw ShapeError(concat("copy needs contiguous views; got shape ", from.shape(), " with gaps"));
  }
  detail::copy_bytes(ctx, to.data_handle(), from.data_handle(), static_cast<std::size_t>(from.size()) * sizeof(T));
}

/// A tensor with the same elements.
template <class T>
[[nodiscard]] Tensor<T> clone(Context& ctx, const Tensor<T>& tensor) {
  Tensor<T> result(ctx, tensor.shape());
  detail::copy_bytes(ctx, result.data(), tensor.data(), static_cast<std::size_t>(tensor.size()) * sizeof(T));
  return result;
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
