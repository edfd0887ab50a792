// Which side of a picture is up: cameras store what the sensor saw and say in EXIF how they were held.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <meristem/core/config.hpp>

namespace meristem::data::detail {

/// The number in these bytes, the largest digit first.
[[nodiscard]] inline std::size_t big_endian(std::span<const std::uint8_t> bytes) {
  std::size_t number = 0;
  for (const std::uint8_t byte : bytes) number = number << 8 | byte;
  return number;
}

[[nodiscard]] inline bool starts_with(std::span<const std::uint8_t> bytes, std::string_view text) {
  if (bytes.size() < text.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (bytes[i] != static_cast<std::uint8_t>(text[i])) return false;
  }
  return true;
}

/// The orientation, 1 to 8, in EXIF data (a TIFF header and directories; EXIF 2.3, 4.6.2 and tag 0x0112); 1, upright,
/// if it says nothing that can be understood.
[[nodiscard]] inline int exif_orientation(std::span<const std::uint8_t> tiff) {
  using namespace std::string_view_literals;
  const bool little = starts_with(tiff, "II*\0"sv);
  if (!little && !starts_with(tiff, "MM\0*"sv)) return 1;
  const auto number = [&](std::size_t at, std::size_t length) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < length; ++i) {
      const std::size_t byte = at + (little ? length - 1 - i : i);
      value = value << 8 | (byte < tiff.size() ? tiff[byte] : 0u);
    }
    return value;
  };
  const std::size_t directory = number(4, 4);
  if (directory >= tiff.size()) return 1;
  const std::size_t entries = number(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > tiff.size()) return 1;
    if (number(entry, 2) != 0x0112) continue;
    const std::size_t type = number(entry + 2, 2);
    const std::size_t value = type == 3 ? number(entry + 8, 2) : type == 4 ? number(entry + 8, 4) : 0;
    return value >= 1 && value <= 8 && number(entry + 4, 4) == 1 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace meristem::data::detail
