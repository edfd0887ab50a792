// Definitions of device_images.hpp.
#pragma once

#include <meristem/data/device_images.hpp>

namespace meristem::data {

MERISTEM_INLINE DeviceImages::DeviceImages(Context& ctx, const ImageSet& set) : set_(&set) {
  set.check();
  pixels_ = from_host<std::uint8_t>(ctx, {set.size(), set.height, set.width, set.channels}, set.pixels);
  labels_ = from_host<std::int32_t>(ctx, {set.size()}, set.labels);
}

MERISTEM_INLINE void DeviceImages::require_context(const Context& ctx) const {
  if (size() == 0 || pixels_.memory() == ctx.memory().get()) return;
  throw ArgumentError(
      concat(set_->source, ": the images are in the memory of another Context; make DeviceImages with this one"));
}

MERISTEM_INLINE bool DeviceImages::fits([[maybe_unused]] const Context& ctx, [[maybe_unused]] const ImageSet& set) {
#if MERISTEM_GPU
  return set.pixels.size() <= ctx.properties().totalGlobalMem / 4;
#else
  return false;
#endif
}

}  // namespace meristem::data
