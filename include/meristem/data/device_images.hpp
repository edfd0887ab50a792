// Images that lie on the device as bytes, so that batches are made there.
#pragma once

#include <cstdint>
#include <span>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/data/image_set.hpp>

namespace meristem::data {

/// The pixels and labels of a set on the device. Its batches are those of the set, to the last bit; a launch gathers,
/// crops, flips and normalises them, and nothing but indices and a table of what each byte stands for leaves the host.
/// It refers to the set, which must outlive it and keep its pixels, and serves the Context it was made with.
class DeviceImages {
 public:
  /// Copies the set: `set.pixels.size()` bytes, and 4 for each label. Throws DataError for an inconsistent set.
  DeviceImages(Context& ctx, const ImageSet& set);

  /// Whether that is worth it: on a GPU, if the set takes at most a quarter of its memory. On the CPU there is nothing
  /// to gain.
  [[nodiscard]] static bool fits(const Context& ctx, const ImageSet& set);

  /// Throws ArgumentError for a Context whose memory the pixels are not in.
  void require_context(const Context& ctx) const;

  [[nodiscard]] const ImageSet& set() const { return *set_; }
  [[nodiscard]] std::int64_t size() const { return set_->size(); }
  [[nodiscard]] View<const std::uint8_t> pixels() const { return pixels_; }  ///< (size, height, width, channels)
  [[nodiscard]] View<const std::int32_t> labels() const { return labels_; }  ///< (size)

  /// As those of ImageSet, and like them defined in loader.hpp.
  template <Real T = float>
  [[nodiscard]] nn::Batch<T> batch(Context& ctx, std::span<const std::int64_t> indices) const;
  template <Real T = float>
  [[nodiscard]] Loader<T> batches(Context& ctx, std::int64_t batch_size) const&;
  template <Real T = float>
  [[nodiscard]] Loader<T> batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options) const&;
  template <Real T = float>
  Loader<T> batches(Context& ctx, std::int64_t batch_size) const&& = delete;
  template <Real T = float>
  Loader<T> batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options) const&& = delete;

 private:
  const ImageSet* set_;
  Tensor<std::uint8_t> pixels_;
  Tensor<std::int32_t> labels_;
};

}  // namespace meristem::data

#if !defined(MERISTEM_COMPILED)
#include <meristem/data/device_images_impl.hpp>
#endif
