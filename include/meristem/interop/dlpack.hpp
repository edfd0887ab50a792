// DLPack in and out: tensors shared with NumPy, PyTorch, JAX, CuPy and others through its C structure, without copying.
// https://dmlc.github.io/dlpack; in Python the structure travels in a capsule named "dltensor".
//
// What is taken: memory that the Context's kernels can read, the element types of core/dtype.hpp with one lane, up to 5
// axes, row-major without gaps (strides of axes with one index do not matter). Everything else is refused by a typed
// error before an element is read.
//
// The versioned structure of DLPack 1.0 (DLManagedTensorVersioned, capsule "dltensor_versioned") is neither taken nor
// given, as Debian's header, 0.6, lacks it; in Python, __dlpack__() without max_version gives the structure taken here.
//
// DLPack's header comes from outside (Debian: libdlpack-dev). Where it has another name, such as PyTorch's
// <ATen/dlpack.h>, include it before this file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#if !__has_include(<dlpack/dlpack.h>) && !defined(DLPACK_VERSION) && !defined(DLPACK_MAJOR_VERSION)
#error "meristem/interop/dlpack.hpp needs DLPack's header: install libdlpack-dev, or include a dlpack.h before it"
#elif !defined(DLPACK_VERSION) && !defined(DLPACK_MAJOR_VERSION)
#include <dlpack/dlpack.h>
#endif

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/core/wrap.hpp>

namespace meristem::interop {

/// How DLPack writes an element type.
template <class T>
inline constexpr DLDataType dlpack_type{};
template <>
inline constexpr DLDataType dlpack_type<float>{kDLFloat, 32, 1};
template <>
inline constexpr DLDataType dlpack_type<double>{kDLFloat, 64, 1};
template <>
inline constexpr DLDataType dlpack_type<std::int32_t>{kDLInt, 32, 1};
template <>
inline constexpr DLDataType dlpack_type<std::int64_t>{kDLInt, 64, 1};
template <>
inline constexpr DLDataType dlpack_type<std::uint8_t>{kDLUInt, 8, 1};

/// Types that DLPack and the library share.
template <class T>
concept DlpackElement = dlpack_type<std::remove_const_t<T>>
.bits != 0;

namespace detail {

/// `float32`, `bfloat16 x 4 lanes`.
[[nodiscard]] inline std::string dlpack_type_name(DLDataType type) {
  const char* kind = "type with code ";
  switch (type.code) {
    case kDLInt:
      kind = "int";
      break;
    case kDLUInt:
      kind = "uint";
      break;
    case kDLFloat:
      kind = "float";
      break;
    case kDLBfloat:
      kind = "bfloat";
      break;
    case kDLComplex:
      kind = "complex";
      break;
    default:
      return concat(kind, int{type.code}, " and ", int{type.bits}, " bits");
  }
  std::string name = concat(kind, int{type.bits});
  if (type.lanes != 1) name += concat(" x ", type.lanes, " lanes");
  return name;
}

/// The number, which may be one that this version of DLPack has no name for.
[[nodiscard]] inline std::int32_t dlpack_device_type(DLDevice device) {
  static_assert(sizeof(device.device_type) == sizeof(std::int32_t));
  std::int32_t type = 0;
  std::memcpy(&type, &device.device_type, sizeof(type));
  return type;
}

[[nodiscard]] inline std::string dlpack_device_name(DLDevice device) {
  switch (dlpack_device_type(device)) {
    case kDLCPU:
      return concat("CPU ", device.device_id);
    case kDLCUDA:
      return concat("GPU ", device.device_id);
    default:
      return concat("device ", device.device_id, " of DLPack's type ", dlpack_device_type(device));
  }
}

/// Where tensors of this Context lie.
[[nodiscard]] inline DLDevice dlpack_device(const Context& ctx) {
  return {MERISTEM_GPU ? kDLCUDA : kDLCPU, ctx.options().device};
}

inline void require_dlpack_device(const Context& ctx, DLDevice device) {
  const DLDevice own = dlpack_device(ctx);
  // Both pinned and managed memory are read by either side.
  const std::int32_t type = dlpack_device_type(device);
  if (type == kDLCUDAHost || type == kDLCUDAManaged) return;
  if (type != dlpack_device_type(own) || device.device_id != own.device_id) {
    throw ArgumentError(concat("DLPack: the tensor lies on ", dlpack_device_name(device), ", the Context runs on ",
                               dlpack_device_name(own), "; move the tensor there first"));
  }
}

/// Throws unless the strides, in elements, are those of a row-major array without gaps.
inline void require_row_major(const Shape& shape, const std::int64_t* strides) {
  if (strides == nullptr || shape.size() <= 1) return;
  std::int64_t expected = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    if (shape[axis] != 1 && strides[axis] != expected) {
      throw ShapeError(concat("DLPack: axis ", axis, " of the tensor of shape ", shape, " has stride ", strides[axis],
                              ", a row-major array without gaps has ", expected,
                              " there; make it contiguous first (numpy.ascontiguousarray, torch.Tensor.contiguous)"));
    }
    expected *= shape[axis];
  }
}

}  // namespace detail

/// A view of a DLPack tensor's elements, without copying; the tensor's owner keeps them alive while the view is used.
/// On the GPU the producer's work on them has to be ordered before the context's stream. Throws, before an element is
/// read, ArgumentError for another device, another element type and a misaligned address, and ShapeError for a null
/// pointer, more than 5 axes, negative extents, extents and offsets beyond all memory, and strides that are not
/// row-major.
template <DlpackElement T>
[[nodiscard]] View<T> view_of_dlpack(const Context& ctx, const DLTensor& tensor) {
  using Element = std::remove_const_t<T>;
  detail::require_dlpack_device(ctx, tensor.device);
  const DLDataType expected = dlpack_type<Element>;
  if (tensor.dtype.code != expected.code || tensor.dtype.bits != expected.bits ||
      tensor.dtype.lanes != expected.lanes) {
    throw ArgumentError(concat("DLPack: the tensor's elements are ", detail::dlpack_type_name(tensor.dtype), ", ",
                               dtype_name<Element>, " was asked for; convert it first, or ask for its own type"));
  }
  const auto rank = static_cast<std::int64_t>(tensor.ndim);
  if (rank < 0 || rank > Shape::max_rank) {
    throw ShapeError(concat("DLPack: the tensor has ", rank, " axes; 0 to ", int{Shape::max_rank},
                            " are taken; merge some of them first"));
  }
  if (rank > 0 && tensor.shape == nullptr) {
    throw ShapeError(concat("DLPack: the tensor has ", rank, " axes, but its shape is a null pointer"));
  }
  Shape shape;
  for (std::int64_t axis = 0; axis < rank; ++axis) shape.append(tensor.shape[axis]);
  detail::require_row_major(shape, tensor.strides);
  if (shape.size() == 0) return View<T>(nullptr, shape);
  if (tensor.data == nullptr) {
    throw ShapeError(concat("DLPack: a tensor of shape ", shape, " needs data, but the pointer is null"));
  }
  std::uintptr_t address = 0;
  if (__builtin_add_overflow(reinterpret_cast<std::uintptr_t>(tensor.data), tensor.byte_offset, &address)) {
    throw ShapeError(concat("DLPack: a byte offset of ", tensor.byte_offset, " leads beyond the last address"));
  }
  return wrap(ctx, reinterpret_cast<T*>(address), shape);
}

/// Calls the deleter of a tensor that somebody exported.
struct DlpackDeleter {
  void operator()(DLManagedTensor* managed) const noexcept {
    if (managed->deleter != nullptr) managed->deleter(managed);
  }
};
/// An exported tensor until somebody takes it over; `release()` hands the raw pointer on.
using DlpackPtr = std::unique_ptr<DLManagedTensor, DlpackDeleter>;

/// Takes over a tensor that another library exported: the result shares its memory and calls its deleter once, when it
/// goes (on the GPU after the context's stream has done what was started with it). Throws as `view_of_dlpack` does, and
/// ArgumentError for a null pointer; `managed` then still belongs to the caller.
template <DlpackElement T>
[[nodiscard]] Tensor<T> from_dlpack(Context& ctx, DLManagedTensor* managed) {
  if (managed == nullptr) {
    throw ArgumentError("DLPack: the pointer to the tensor is null; hand over what to_dlpack or a capsule holds");
  }
  const View<T> view = view_of_dlpack<T>(ctx, managed->dl_tensor);
  // Filled last: whatever throws before leaves the tensor with the caller.
  const auto owner = std::make_shared<DlpackPtr>();
  Tensor<T> result = adopt<T>(ctx, owner, view.data_handle(), view.shape());
  owner->reset(managed);
  return result;
}

namespace detail {

/// What an exported tensor points to.
struct DlpackExport {
  DLManagedTensor managed{};
  std::array<std::int64_t, Shape::max_rank> shape{};
  std::array<std::int64_t, Shape::max_rank> strides{};
  std::shared_ptr<void> owner;

  static void destroy(DLManagedTensor* managed) {
    auto* self = static_cast<DlpackExport*>(managed->manager_ctx);
#if MERISTEM_GPU
    // The consumer may have started work on streams of its own.
    int device = 0;
    cudaGetDevice(&device);
    cudaSetDevice(self->managed.dl_tensor.device.device_id);
    cudaDeviceSynchronize();
    cudaSetDevice(device);
#endif
    delete self;
  }
};

}  // namespace detail

/// Exports the elements of a view without copying. Whoever takes the result over calls its deleter, which lets go of
/// `owner`; until then `owner` keeps the elements alive. Waits for the context's stream, so that the consumer may read
/// on any other. Throws ArgumentError for an owner of nothing.
template <DlpackElement T>
[[nodiscard]] DlpackPtr to_dlpack(Context& ctx, View<T> view, std::shared_ptr<void> owner) {
  static_assert(!std::is_const_v<T>, "DLPack cannot say that elements must not be written; export a clone");
  if (!owner) {
    throw ArgumentError(
        concat("DLPack: a view of shape ", view.shape(),
               " cannot be exported without the owner of its memory, such as a shared_ptr to its tensor"));
  }
  ctx.synchronize();
  auto result = std::make_unique<detail::DlpackExport>();
  for (int axis = 0; axis < view.rank(); ++axis) {
    result->shape[static_cast<std::size_t>(axis)] = view.extent(axis);
    result->strides[static_cast<std::size_t>(axis)] = view.stride(axis);
  }
  DLTensor& tensor = result->managed.dl_tensor;
  tensor.data = view.data_handle();
  tensor.device = detail::dlpack_device(ctx);
  tensor.ndim = view.rank();
  tensor.dtype = dlpack_type<T>;
  tensor.shape = result->shape.data();
  tensor.strides = result->strides.data();
  result->owner = std::move(owner);
  result->managed.manager_ctx = result.get();
  result->managed.deleter = &detail::DlpackExport::destroy;
  return DlpackPtr(&result.release()->managed);
}

/// Exports a tensor, which lives on until the consumer calls the deleter.
template <DlpackElement T>
[[nodiscard]] DlpackPtr to_dlpack(Context& ctx, Tensor<T>&& tensor) {
  const auto owner = std::make_shared<Tensor<T>>(std::move(tensor));
  return to_dlpack(ctx, owner->view(), owner);
}

}  // namespace meristem::interop
