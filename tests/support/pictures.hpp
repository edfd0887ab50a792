// A small set of random pictures.
#pragma once

#include <cstdint>

#include <meristem/core/philox.hpp>
#include <meristem/data/image_set.hpp>
#include <support/check.hpp>

namespace support {

/// 200 random images of 2x2x3 in three classes by how bright they are.
inline ms::data::ImageSet bright_and_dark() {
  ms::data::ImageSet set;
  set.height = set.width = 2;
  set.channels = 3;
  set.class_names = {"a", "b", "c"};
  set.source = "random";
  set.normalization = {.mean = {0.5, 0.5, 0.5}, .stddev = {0.3, 0.3, 0.3}};
  const ms::Philox random(4, 4);
  for (std::int64_t i = 0; i < 200; ++i) {
    int sum = 0;
    for (std::int64_t j = 0; j < 12; ++j) {
      set.pixels.push_back(static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(12 * i + j), 256)));
      sum += set.pixels.back();
    }
    set.labels.push_back(sum / 100 % 3);
  }
  return set;
}

}  // namespace support
