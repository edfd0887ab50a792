// JPEG and PNG files, read by stb_image, and images of another size made of them. One source file of the program has to
// provide stb_image: define STB_IMAGE_IMPLEMENTATION there and include <stb/stb_image.h>, or link Debian's libstb.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <stb/stb_image.h>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::inline MERISTEM_BACKEND {
namespace data {

/// One 8-bit image, (height, width, 3): red, green, blue, rows from the top.
struct Image {
  std::vector<std::uint8_t> pixels;
  std::int64_t height = 0;
  std::int64_t width = 0;
};

/// Larger files and images are refused before memory is taken for them.
inline constexpr std::int64_t largest_image_file = std::int64_t{1} << 28;
inline constexpr std::int64_t largest_image_pixels = std::int64_t{1} << 26;

namespace detail {

/// Whether the Huffman tables of a JPEG file hold at most 255 codes (162 are the most that 8-bit images need; ITU T.81,
/// K.3) and every scan names tables that came before it. stb_image before 2.29 writes past its table for more than 256
/// codes, takes the last of 256 for none, and decodes by tables that were never filled.
[[nodiscard]] inline bool jpeg_tables_fit(std::span<const std::uint8_t> bytes) {
  const auto byte = [&](std::size_t at) { return at < bytes.size() ? std::size_t{bytes[at]} : std::size_t{0}; };
  bool known[2][4] = {};  // [DC, AC][table]
  bool framed = false, progressive = false;
  for (std::size_t at = 2; at < bytes.size();) {
    if (byte(at) != 0xff) {
      ++at;
      continue;
    }
    while (byte(at) == 0xff) ++at;
    const std::size_t marker = byte(at++);
    // Neither stuffed bytes of compressed data nor restarts have a segment.
    if (marker == 0 || (marker >= 0xd0 && marker <= 0xd8)) continue;
    const std::size_t length = byte(at) << 8 | byte(at + 1);
    if (marker == 0xd9 || length < 2) return true;
    if (marker >= 0xc0 && marker <= 0xc2 && !framed) {
      framed = true;
      progressive = marker == 0xc2;
    } else if (marker == 0xc4) {
      for (std::size_t table = at + 2; table < at + length;) {
        const std::size_t kind = byte(table) >> 4, number = byte(table) & 15;
        std::size_t codes = 0;
        for (std::size_t bits = 1; bits <= 16; ++bits) codes += byte(table + bits);
        if (codes > 255 || kind > 1 || number > 3) return false;
        known[kind][number] = true;
        table += 17 + codes;
      }
    } else if (marker == 0xda) {
      const std::size_t components = byte(at + 2), first = byte(at + 3 + 2 * components);
      const bool refines = byte(at + 5 + 2 * components) >> 4 != 0;
      for (std::size_t i = 0; i < components; ++i) {
        const std::size_t tables = byte(at + 4 + 2 * i), dc = tables >> 4, ac = tables & 15;
        if (dc > 3 || ac > 3) return false;
        if ((!progressive || (first == 0 && !refines)) && !known[0][dc]) return false;
        if ((!progressive || first != 0) && !known[1][ac]) return false;
      }
    }
    at += length;
  }
  return true;
}

/// The number in these bytes, the largest digit first.
[[nodiscard]] inline std::size_t big_endian(std::span<const std::uint8_t> bytes) {
  std::size_t number = 0;
  for (const std::uint8_t byte : bytes) number = number << 8 | byte;
  return number;
}

/// Whether every chunk of a PNG file ends within it; stb_image takes memory for what a chunk says it holds.
[[nodiscard]] inline bool png_chunks_fit(std::span<const std::uint8_t> bytes) {
  for (std::size_t at = 8; at + 8 <= bytes.size();) {
    const std::size_t length = big_endian(bytes.subspan(at, 4));
    if (length > bytes.size() - at - 8) return false;
    at += 12 + length;
  }
  return true;
}

/// The most pixels of this width that a file of so many bytes can hold. DEFLATE shrinks at most to 1/1032; a JPEG file
/// spends a bit at least on a block of 64 pixels.
[[nodiscard]] inline std::int64_t most_pixels(std::span<const std::uint8_t> bytes, bool png) {
  const std::int64_t length = std::ssize(bytes);
  if (!png || bytes.size() < 26) return 1024 * length;
  const std::int64_t samples = bytes[25] == 2 ? 3 : bytes[25] == 4 ? 2 : bytes[25] == 6 ? 4 : 1;
  return 1032 * length * 8 / (samples * std::max<std::int64_t>(bytes[24], 1));
}

}  // namespace detail

/// The image in the bytes of a JPEG or PNG file; `name` is for messages. What is transparent is shown on white;
/// orientation tags and colour profiles are not looked at. Throws DataError for another format, for a header that
/// promises more pixels than the file can hold or than 2^26, and for damaged content.
[[nodiscard]] inline Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  const auto starts_with = [&](std::initializer_list<int> signature) {
    return bytes.size() > signature.size() && std::equal(signature.begin(), signature.end(), bytes.begin());
  };
  const bool png = starts_with({0x89, 'P', 'N', 'G'});
  if (bytes.empty()) throw DataError(concat(name, ": the file is empty; copy it again or remove it"));
  if (!png && !starts_with({0xff, 0xd8})) {
    throw DataError(concat(name, ": neither JPEG nor PNG, whatever its name says; convert it to one of them"));
  }
  if (std::ssize(bytes) > largest_image_file) {
    throw DataError(concat(name, ": ", bytes.size() >> 20, " MiB are too many for an image; the limit is ",
                           largest_image_file >> 20, " MiB: make it smaller"));
  }
  const auto damaged = [&] {
    const char* reason = stbi_failure_reason();
    return DataError(concat(name, ": damaged ", png ? "PNG" : "JPEG", " file (", reason ? reason : "unknown reason",
                            "); copy it again or remove it"));
  };
  if (!png && !detail::jpeg_tables_fit(bytes)) {
    throw DataError(
        concat(name, ": damaged JPEG file (a Huffman table is missing or too large); copy it again or remove it"));
  }
  if (png && !detail::png_chunks_fit(bytes)) {
    throw DataError(concat(name, ": damaged PNG file (a chunk is longer than the file); copy it again or remove it"));
  }
  const auto promises = [&](std::int64_t width, std::int64_t height, const char* rest) {
    return DataError(concat(name, ": its header promises ", width, " x ", height, " pixels, ", rest));
  };
  const char* const too_many = "more than the limit of 2^26; make it smaller";
  if (png && bytes.size() >= 24) {
    // stb_image only says that it does not know a PNG file of more than 2^30 samples.
    const std::uint64_t width = detail::big_endian(bytes.subspan(16, 4)),
                        height = detail::big_endian(bytes.subspan(20, 4));
    if (width <= INT32_MAX && height <= INT32_MAX && width * height > std::uint64_t{largest_image_pixels}) {
      throw promises(static_cast<std::int64_t>(width), static_cast<std::int64_t>(height), too_many);
    }
  }
  const int length = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  if (!stbi_info_from_memory(bytes.data(), length, &width, &height, &channels)) throw damaged();
  if (width < 1 || height < 1) {
    throw DataError(concat(name, ": ", width, " x ", height, " pixels are no image; remove the file"));
  }
  const std::int64_t pixels = std::int64_t{width} * height;
  if (pixels > largest_image_pixels) throw promises(width, height, too_many);
  if (pixels > detail::most_pixels(bytes, png)) {
    throw promises(width, height, "which no file of its length can hold; copy it again or remove it");
  }
  const int wanted = channels == 2 || channels == 4 ? 4 : 3;
  const std::unique_ptr<stbi_uc, void (*)(void*)> decoded(
      stbi_load_from_memory(bytes.data(), length, &width, &height, &channels, wanted), stbi_image_free);
  if (!decoded) throw damaged();
  Image image{.pixels = {}, .height = height, .width = width};
  image.pixels.resize(static_cast<std::size_t>(3) * static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  const std::size_t step = static_cast<std::size_t>(wanted);
  for (std::size_t p = 0; p < image.pixels.size() / 3; ++p) {
    for (std::size_t c = 0; c < 3; ++c) {
      const unsigned value = decoded.get()[step * p + c];
      const unsigned opaque = wanted == 4 ? decoded.get()[step * p + 3] : 255;
      image.pixels[3 * p + c] = static_cast<std::uint8_t>((value * opaque + 255 * (255 - opaque) + 127) / 255);
    }
  }
  return image;
}

/// The image in a JPEG or PNG file. Throws IoError for a file that is missing or cannot be read, otherwise as
/// decode_image.
[[nodiscard]] inline Image read_image(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    throw IoError(concat(path.string(), ": no such file; check the name"));
  }
  if (status.type() != std::filesystem::file_type::regular) {
    throw IoError(concat(path.string(), ": not a file; give the name of a JPEG or PNG file"));
  }
  const std::uintmax_t length = std::filesystem::file_size(path, error);
  if (error) throw IoError(concat(path.string(), ": its size cannot be read: ", error.message(), "; check the disk"));
  if (length > static_cast<std::uintmax_t>(largest_image_file)) {
    throw DataError(concat(path.string(), ": ", length >> 20, " MiB are too many for an image; the limit is ",
                           largest_image_file >> 20, " MiB: make it smaller"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw IoError(concat(path.string(), ": cannot be opened for reading; check its permissions"));
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(length));
  if (!file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(length))) {
    throw IoError(concat(path.string(), ": reading stopped before the end of the file; copy it again"));
  }
  return decode_image(bytes, path.string());
}

namespace detail {

/// What one output pixel takes of the input along one axis: `weights` from `first` on; they sum to 1.
struct AxisTaps {
  std::int64_t first = 0;
  std::vector<double> weights;
};

/// Taps of `to` pixels that share `from` pixels' worth of input, of which `begin` lie before: shares of the covered
/// area where the image shrinks, else linear between pixel centres, the border repeated.
[[nodiscard]] inline std::vector<AxisTaps> axis_taps(std::int64_t begin, std::int64_t from, std::int64_t to) {
  std::vector<AxisTaps> result;
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  for (std::int64_t i = 0; i < to; ++i) {
    AxisTaps taps;
    if (scale >= 1.0) {
      const double low = scale * static_cast<double>(i), high = low + scale;
      taps.first = std::min(static_cast<std::int64_t>(low), from - 1);
      for (std::int64_t at = taps.first; at < from && (at == taps.first || static_cast<double>(at) < high); ++at) {
        const double share = std::min(high, static_cast<double>(at + 1)) - std::max(low, static_cast<double>(at));
        taps.weights.push_back(std::max(share, 0.0) / scale);
      }
    } else {
      const double centre =
          std::clamp((static_cast<double>(i) + 0.5) * scale - 0.5, 0.0, static_cast<double>(from - 1));
      taps.first = static_cast<std::int64_t>(centre);
      const double beyond = centre - static_cast<double>(taps.first);
      taps.weights = {1.0 - beyond};
      if (taps.first + 1 < from) taps.weights.push_back(beyond);
    }
    taps.first += begin;
    result.push_back(std::move(taps));
  }
  return result;
}

}  // namespace detail

/// The middle of the image, as large as the shape of the result allows, at another size: means over the covered area
/// where it shrinks, else bilinear. Throws ArgumentError for a size below 1 or an empty image.
[[nodiscard]] inline Image resize_image(const Image& image, std::int64_t height, std::int64_t width) {
  if (height < 1 || width < 1 || image.height < 1 || image.width < 1) {
    throw ArgumentError(concat("resize_image: ", image.height, " x ", image.width, " to ", height, " x ", width,
                               "; every extent must be at least 1"));
  }
  // The largest part of the image with the result's shape.
  const std::int64_t crop_width = std::clamp<std::int64_t>(image.height * width / height, 1, image.width);
  const std::int64_t crop_height = std::clamp<std::int64_t>(image.width * height / width, 1, image.height);
  const auto columns = detail::axis_taps((image.width - crop_width) / 2, crop_width, width);
  const auto rows = detail::axis_taps((image.height - crop_height) / 2, crop_height, height);
  Image result{.pixels = {}, .height = height, .width = width};
  result.pixels.resize(static_cast<std::size_t>(3 * height * width));
  std::vector<double> line(static_cast<std::size_t>(3 * width));
  // Rows of the input first, so that only one line of them is kept.
  for (std::int64_t y = 0; y < height; ++y) {
    std::fill(line.begin(), line.end(), 0.0);
    const detail::AxisTaps& row = rows[static_cast<std::size_t>(y)];
    for (std::size_t r = 0; r < row.weights.size(); ++r) {
      const std::uint8_t* from = image.pixels.data() + 3 * image.width * (row.first + static_cast<std::int64_t>(r));
      for (std::int64_t x = 0; x < width; ++x) {
        const detail::AxisTaps& column = columns[static_cast<std::size_t>(x)];
        for (std::size_t t = 0; t < column.weights.size(); ++t) {
          const std::uint8_t* pixel = from + 3 * (column.first + static_cast<std::int64_t>(t));
          for (std::int64_t c = 0; c < 3; ++c) {
            line[static_cast<std::size_t>(3 * x + c)] += row.weights[r] * column.weights[t] * pixel[c];
          }
        }
      }
    }
    for (std::size_t i = 0; i < line.size(); ++i) {
      result.pixels[static_cast<std::size_t>(3 * width * y) + i] =
          static_cast<std::uint8_t>(std::clamp(std::lround(line[i]), 0L, 255L));
    }
  }
  return result;
}

}  // namespace data
}  // namespace meristem::inline MERISTEM_BACKEND
