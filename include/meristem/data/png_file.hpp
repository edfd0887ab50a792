// PNG files (W3C, Portable Network Graphics, second edition), checked and written anew with nothing in them but what
// makes up the pixels, as stb_image understands it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/data/exif.hpp>

namespace meristem::data::detail {

/// The bytes of a picture for stb_image, and what has to be known of them.
struct PlainFile {
  std::vector<std::uint8_t> bytes;
  std::int64_t width = 0, height = 0;
  int orientation = 1;
  /// Of a JPEG file with components of half the columns: stb_image is to give them as they are, one column more if the
  /// width is odd; see `mend_half_columns`.
  bool half_columns[3] = {};
  bool ycc = false;  ///< whether these are YCbCr, else RGB
  /// Of a JPEG file without an end marker: where it has to be shown that nothing of the image is missing.
  bool end_missing = false;
};

/// The checksum of a chunk: CRC-32 as in ISO 3309.
[[nodiscard]] inline std::uint32_t png_checksum(std::span<const std::uint8_t> bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> entries{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? 0xedb88320u ^ value >> 1 : value >> 1;
      entries[i] = value;
    }
    return entries;
  }();
  std::uint32_t crc = 0xffffffffu;
  for (const std::uint8_t byte : bytes) crc = table[(crc ^ byte) & 0xff] ^ crc >> 8;
  return ~crc;
}

/// Throws DataError, which starts with `name`, for a file that is damaged or needs what is not known here. A missing
/// IEND chunk is none of that.
[[nodiscard]] inline PlainFile plain_png(std::span<const std::uint8_t> bytes, const std::string& name) {
  const auto damaged = [&](const std::string& how) {
    return DataError(concat(name, ": damaged PNG file (", how, "); copy it again or remove it"));
  };
  if (!starts_with(bytes, "\x89PNG\r\n\x1a\n")) throw damaged("its first eight bytes are not those of PNG");
  std::span<const std::uint8_t> header, palette, transparency;
  std::vector<std::uint8_t> data;
  PlainFile plain;
  for (std::size_t at = 8; at + 8 <= bytes.size();) {
    const std::size_t length = big_endian(bytes.subspan(at, 4));
    if (length > bytes.size() - at - 8) throw damaged("a chunk is longer than the file");
    const std::string type(bytes.begin() + static_cast<std::ptrdiff_t>(at + 4),
                           bytes.begin() + static_cast<std::ptrdiff_t>(at + 8));
    const std::span<const std::uint8_t> content = bytes.subspan(at + 8, length);
    const std::span<const std::uint8_t> rest = bytes.subspan(at + 8 + length);
    if (type == "CgBI") {
      throw DataError(concat(name,
                             ": a PNG file of Apple's own kind (CgBI), which only Apple's programs read; convert it "
                             "to PNG, for instance by Xcode's pngcrush -revert-iphone-optimizations"));
    }
    if (header.empty() && type != "IHDR") throw damaged("it does not begin with an IHDR chunk");
    const bool used = type == "IHDR" || type == "PLTE" || type == "tRNS" || type == "IDAT";
    if (used && rest.size() >= 4 && big_endian(rest.first(4)) != png_checksum(bytes.subspan(at + 4, 4 + length))) {
      throw damaged(concat("the checksum of a chunk ", type, " is wrong"));
    }
    if (type == "IEND") break;
    if (type == "IHDR") {
      if (!header.empty() || length != 13)
        throw damaged(header.empty() ? "IHDR is not 13 bytes long" : "two IHDR chunks");
      header = content;
    } else if (type == "PLTE") {
      if (length % 3 != 0 || length > 768) throw damaged("the palette is not of 1 to 256 colours");
      palette = content;
    } else if (type == "tRNS") {
      transparency = content;
    } else if (type == "IDAT") {
      data.insert(data.end(), content.begin(), content.end());
    } else if (type == "eXIf") {
      plain.orientation = exif_orientation(content);
    } else if (!std::all_of(type.begin(), type.end(),
                            [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); })) {
      throw damaged("there is no chunk where one should be");
    } else if (type[0] >= 'A' && type[0] <= 'Z') {
      throw DataError(concat(name, ": the PNG file needs a chunk ", type,
                             " to be understood, which is not known here; convert it to plain PNG"));
    }
    at += 12 + length;
  }
  if (header.empty()) throw damaged("it ends before its first chunk");
  if (data.empty()) throw damaged("there is no image data in it");
  plain.width = static_cast<std::int64_t>(big_endian(header.first(4)));
  plain.height = static_cast<std::int64_t>(big_endian(header.subspan(4, 4)));
  const unsigned depth = header[8], colour = header[9];
  const bool grey = colour == 0, rgb = colour == 2, indexed = colour == 3, alpha = colour == 4 || colour == 6;
  const bool known_depth =
      depth == 8 || (depth == 16 && !indexed) || ((depth == 1 || depth == 2 || depth == 4) && (grey || indexed));
  if (!(grey || rgb || indexed || alpha) || !known_depth || header[10] != 0 || header[11] != 0 || header[12] > 1) {
    throw damaged(concat("its header says colour type ", colour, ", ", depth, " bits, methods ", unsigned{header[10]},
                         ", ", unsigned{header[11]}, ", ", unsigned{header[12]}, ", which do not go together"));
  }
  if (indexed && palette.empty()) throw damaged("it has no palette");

  std::vector<std::uint8_t>& out = plain.bytes;
  const auto chunk = [&](std::string_view type, std::span<const std::uint8_t> content) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(content.size() >> shift));
    out.insert(out.end(), type.begin(), type.end());
    out.insert(out.end(), content.begin(), content.end());
    out.insert(out.end(), 4, 0);  // stb_image reads past checksums
  };
  out.assign(bytes.begin(), bytes.begin() + 8);
  chunk("IHDR", header);
  if (indexed) {
    // Indices beyond the palette are black; stb_image would take what lies in memory there.
    std::vector<std::uint8_t> whole(768, 0);
    std::copy(palette.begin(), palette.end(), whole.begin());
    chunk("PLTE", whole);
    if (!transparency.empty()) chunk("tRNS", transparency.first(std::min<std::size_t>(transparency.size(), 256)));
  }
  const std::size_t key_bytes = grey ? 2 : rgb ? 6 : 0;
  if (key_bytes != 0 && transparency.size() >= key_bytes) {
    std::vector<std::uint8_t> key(transparency.begin(), transparency.begin() + static_cast<std::ptrdiff_t>(key_bytes));
    // Only as many bits count as samples have.
    for (std::size_t i = 0; i < key_bytes && depth < 16; i += 2) {
      key[i] = 0;
      key[i + 1] = static_cast<std::uint8_t>(key[i + 1] & ((1u << depth) - 1));
    }
    chunk("tRNS", key);
  }
  chunk("IDAT", data);
  chunk("IEND", {});
  return plain;
}

/// The most pixels that a PNG file of so many bytes can hold: DEFLATE shrinks at most to 1/1032.
[[nodiscard]] inline std::int64_t most_png_pixels(const PlainFile& plain) {
  const std::int64_t colour = plain.bytes[25], depth = plain.bytes[24];
  const std::int64_t samples = colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1;
  return 1032 * std::ssize(plain.bytes) * 8 / (samples * depth);
}

}  // namespace meristem::data::detail
