// Copies a tensor into a larger (or smaller) one along one axis, by an index map.
//
//   destination[…, i, …] = map[i] ≥ 0 ? source[…, map[i], …] : fresh[…, rank of i among the new ones, …]
//
// This is how weights, gradients and optimiser moments follow a growth edit: old slices move to their new place, new
// ones are filled in. destination is overwritten (=). Old indices may repeat (copied units) or be left out (pruning).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>

namespace meristem::kernels {

namespace grow_copy_detail {

/// 16 bytes, moved at once.
struct alignas(16) Pack {
  std::uint64_t bits[2];
};

/// One slice of `inner` elements: index (outer, i, k).
template <class Element>
struct CopySlices {
  const Element* source;
  const Element* fresh;     ///< null: zeros
  const std::int64_t* map;  ///< old index, or −1 − rank among the new ones
  Element* destination;
  std::int64_t source_extent;
  std::int64_t fresh_extent;
  std::int64_t extent;
  std::int64_t inner;
  MERISTEM_HD void operator()(std::int64_t outer, std::int64_t i, std::int64_t k) const {
    const std::int64_t from = map[i];
    Element& to = destination[(outer * extent + i) * inner + k];
    if (from >= 0) {
      to = source[(outer * source_extent + from) * inner + k];
    } else {
      to = fresh == nullptr ? Element{} : fresh[(outer * fresh_extent - 1 - from) * inner + k];
    }
  }
};

/// The same for inner = 1, where the axis itself is the innermost loop.
template <class Element>
struct CopyElements {
  CopySlices<Element> slices;
  MERISTEM_HD void operator()(std::int64_t outer, std::int64_t i) const { slices(outer, i, 0); }
};

template <class Element>
void run(Context& ctx, const CopySlices<Element>& copy, std::int64_t outer) {
  if (copy.inner == 1) {
    for_each(ctx, outer, copy.extent, CopyElements<Element>{copy});
  } else {
    for_each(ctx, outer, copy.extent, copy.inner, copy);
  }
}

[[nodiscard]] inline bool packs(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % alignof(Pack) == 0;
}

}  // namespace grow_copy_detail

/// Fills `destination` from `source` and `fresh`; equation at the top of this file.
///
/// @param axis         the axis that changes its extent; all others agree between the three tensors.
/// @param map          destination.extent(axis) numbers: the old index of every new one, or −1 for a new slice.
/// @param fresh        the new slices, as many along `axis` as the map has −1, in order; a default View means zeros.
/// @param destination  must not overlap the inputs.
/// Throws ShapeError for shapes or map entries that do not fit, ArgumentError if destination overlaps an input.
template <class T>
void grow_copy(Context& ctx, View<const std::type_identity_t<T>> source, int axis, std::span<const std::int64_t> map,
               View<const std::type_identity_t<T>> fresh, View<T> destination) {
  constexpr std::string_view name = "grow_copy";
  const Shape shape = source.shape();
  if (axis < 0 || axis >= shape.rank()) {
    throw ShapeError(concat(name, ": axis ", axis, " does not exist in the source of shape ", shape));
  }
  const auto new_extent = static_cast<std::int64_t>(map.size());
  if (destination.shape() != shape.with(axis, new_extent)) {
    throw ShapeError(concat(name, ": a source of shape ", shape, " and a map of ", new_extent, " indices on axis ",
                            axis, " give shape ", shape.with(axis, new_extent), ", but the destination has ",
                            destination.shape()));
  }
  std::vector<std::int64_t> from(map.begin(), map.end());
  std::int64_t new_slices = 0;
  for (std::size_t i = 0; i < map.size(); ++i) {
    if (map[i] < -1 || map[i] >= shape[axis]) {
      throw ShapeError(concat(name, ": map[", i, "] is ", map[i],
                              "; it must be -1 for a new index or an index of axis ", axis, " of the source of shape ",
                              shape));
    }
    if (map[i] == -1) from[i] = -1 - new_slices++;
  }
  const bool zeros = fresh.rank() == 0;
  if (!zeros && fresh.shape() != shape.with(axis, new_slices)) {
    throw ShapeError(concat(name, ": the map has ", new_slices, " new indices on axis ", axis,
                            ", so fresh must have shape ", shape.with(axis, new_slices), "; got ", fresh.shape()));
  }
  if (!source.is_contiguous() || !destination.is_contiguous() || !fresh.is_contiguous()) {
    throw ShapeError(concat(name, ": source, fresh and destination must be contiguous; one of them is strided"));
  }
  const auto overlaps = [&](View<const T> input) {
    return input.rank() > 0 && input.data_handle() < destination.data_handle() + destination.size() &&
           destination.data_handle() < input.data_handle() + input.size();
  };
  if (overlaps(source) || overlaps(fresh)) {
    throw ArgumentError(concat(name, ": the destination of shape ", destination.shape(),
                               " overlaps an input; give it memory of its own"));
  }
  if (destination.empty()) return;

  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  const auto indices = from_host<std::int64_t>(ctx, {new_extent}, from);
  const T* const fresh_data = zeros ? nullptr : fresh.data_handle();
  using grow_copy_detail::CopySlices;
  using grow_copy_detail::Pack;
  using grow_copy_detail::packs;
  constexpr std::int64_t per_pack = sizeof(Pack) / sizeof(T);
  if (inner % per_pack == 0 && packs(source.data_handle()) && packs(fresh_data) && packs(destination.data_handle())) {
    const CopySlices<Pack> copy{reinterpret_cast<const Pack*>(source.data_handle()),
                                reinterpret_cast<const Pack*>(fresh_data),
                                indices.data(),
                                reinterpret_cast<Pack*>(destination.data_handle()),
                                shape[axis],
                                new_slices,
                                new_extent,
                                inner / per_pack};
    grow_copy_detail::run(ctx, copy, outer);
  } else {
    const CopySlices<T> copy{source.data_handle(), fresh_data, indices.data(), destination.data_handle(),
                             shape[axis],          new_slices, new_extent,     inner};
    grow_copy_detail::run(ctx, copy, outer);
  }
}

// The compiled library holds these.
#define MERISTEM_GROW_COPY(EXTERN, T)                                                                                 \
  EXTERN template void grow_copy<T>(Context & ctx, View<const T> source, int axis, std::span<const std::int64_t> map, \
                                    View<const T> fresh, View<T> destination);

#if defined(MERISTEM_COMPILED)
MERISTEM_GROW_COPY(extern, float)
MERISTEM_GROW_COPY(extern, double)
#endif

}  // namespace meristem::kernels
