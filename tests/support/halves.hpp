// Small images that a small network can learn.
#pragma once

#include <cstdint>

#include <meristem/core/philox.hpp>
#include <meristem/data/image_set.hpp>

namespace support {

/// Random 8×8 images of two channels; the class is that of the brighter half.
inline meristem::data::ImageSet halves(std::int64_t images) {
  meristem::data::ImageSet set;
  set.height = set.width = 8;
  set.channels = 2;
  set.class_names = {"a", "b", "c", "d"};
  set.source = "halves";
  set.normalization = {.mean = {0.5, 0.5}, .stddev = {0.3, 0.3}};
  const meristem::Philox random(2, 5);
  for (std::int64_t i = 0; i < images; ++i) {
    const auto label = static_cast<std::int32_t>(i % 4);
    for (std::int64_t at = 0; at < 128; ++at) {
      const std::int64_t y = at / 16, x = at / 2 % 8;
      const std::int64_t along = label < 2 ? y : x;
      const bool bright = (along >= 4) == (label % 2 == 1);
      const std::uint64_t noise = random.below(static_cast<std::uint64_t>(i * 128 + at), 160);
      set.pixels.push_back(static_cast<std::uint8_t>(noise + (bright ? 70 : 0)));
    }
    set.labels.push_back(label);
  }
  return set;
}

}  // namespace support
