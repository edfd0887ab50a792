// Memory that the library did not allocate: `wrap` looks at it as a View, `adopt` shares its ownership as a Tensor.
// Neither copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/memory.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

namespace detail {

/// Throws unless kernels of this Context may read `shape` elements of type T there. Nothing is read.
template <class T>
void require_usable([[maybe_unused]] const Context& ctx, const T* data, const Shape& shape) {
  const auto bytes = static_cast<std::uintptr_t>(shape.bytes(sizeof(T)));
  if (bytes == 0) return;
  if (data == nullptr) {
    throw ShapeError(concat("a view of shape ", shape, " needs data, but the pointer is null"));
  }
  if (reinterpret_cast<std::uintptr_t>(data) % alignof(T) != 0) {
    throw ArgumentError(concat("a view of shape ", shape, " of elements of ", sizeof(T), " bytes starts at address ",
                               static_cast<const void*>(data), ", which is not a multiple of ", alignof(T),
                               "; copy the elements to aligned memory first"));
  }
  if (reinterpret_cast<std::uintptr_t>(data) > UINTPTR_MAX - bytes) {
    throw ShapeError(concat("a view of shape ", shape, " at address ", static_cast<const void*>(data),
                            " ends beyond the last address; its shape or its pointer is wrong"));
  }
#if MERISTEM_GPU
  cudaPointerAttributes attributes{};
  check_cuda(cudaPointerGetAttributes(&attributes, data), "cudaPointerGetAttributes");
  if (attributes.type == cudaMemoryTypeUnregistered || attributes.devicePointer != data) {
    throw ArgumentError(concat("a view of shape ", shape, " starts at address ", static_cast<const void*>(data),
                               ", which is memory of the host, and GPU ", ctx.options().device,
                               " cannot read it; copy the elements by from_host"));
  }
  if (attributes.type == cudaMemoryTypeDevice && attributes.device != ctx.options().device) {
    throw ArgumentError(concat("a view of shape ", shape, " lies on GPU ", attributes.device,
                               ", the Context runs on GPU ", ctx.options().device,
                               "; copy the elements there, or make a Context on that GPU"));
  }
#endif
}

}  // namespace detail

/// A view of contiguous elements, the last axis innermost, in memory that the caller keeps alive for as long as the
/// view is used; on the GPU until the context's stream has done what was started with it. `data` points to host memory
/// in programs for the CPU, to device, managed or pinned memory in programs for the GPU. Throws, before anything is
/// read, ShapeError for a null pointer to a non-empty shape and one beyond all memory, and ArgumentError for a
/// misaligned pointer and, on the GPU, for memory of the host or of another GPU.
template <class T>
[[nodiscard]] View<T> wrap(const Context& ctx, T* data, const Shape& shape) {
  detail::require_usable<std::remove_const_t<T>>(ctx, data, shape);
  return View<T>(data, shape);
}

/// A tensor on memory from elsewhere, which `owner` keeps alive: for memory of a C library, for example,
/// `std::shared_ptr<void>(pointer, std::free)`. The tensor lets go of `owner` when it goes, on the GPU after it has
/// waited for the context's stream. Throws as `wrap` does, and ArgumentError for an owner of nothing.
template <class T>
[[nodiscard]] Tensor<T> adopt(Context& ctx, std::shared_ptr<void> owner, T* data, const Shape& shape) {
  detail::require_usable<T>(ctx, data, shape);
  if (!owner) {
    throw ArgumentError(concat("a tensor of shape ", shape,
                               " cannot share memory that has no owner; use wrap for a "
                               "view of memory that you keep alive yourself"));
  }
  return Tensor<T>(Allocation(ctx.memory(), std::move(owner), data, static_cast<std::size_t>(shape.size()) * sizeof(T)),
                   shape);
}

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
