// JPEG and PNG files, read by stb_image, and images of another size made of them. One source file of the program has to
// provide stb_image: define STB_IMAGE_IMPLEMENTATION there and include <stb/stb_image.h>, or link Debian's libstb.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <stb/stb_image.h>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/data/jpeg_file.hpp>
#include <meristem/data/png_file.hpp>

namespace meristem::data {

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

/// What stb_image makes of a file: (height, columns, channels) bytes, 4 channels if `alpha`, else 3. Throws DataError.
[[nodiscard]] inline std::vector<std::uint8_t> decode_by_stb(std::span<const std::uint8_t> bytes, bool alpha,
                                                             const PlainFile& plain, const std::string& name,
                                                             const char* kind) {
  int width = 0, height = 0, channels = 0;
  const int wanted = alpha ? 4 : 3;
  const std::unique_ptr<stbi_uc, void (*)(void*)> decoded(
      stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height, &channels, wanted),
      stbi_image_free);
  if (!decoded) {
    const char* const given = stbi_failure_reason();
    const std::string reason = given == nullptr ? "unknown reason" : given;
    if (reason == "outofmem") {
      throw DataError(
          concat(name, ": memory ran out for ", plain.width, " x ", plain.height, " pixels; make it smaller"));
    }
    if (plain.end_missing) {
      throw DataError(concat(name, ": damaged ", kind, " file (its end marker is missing, and what is there cannot be ",
                             "decoded: ", reason, "); copy it again or remove it"));
    }
    throw DataError(concat(name, ": damaged ", kind, " file (", reason, "); copy it again or remove it"));
  }
  return {decoded.get(), decoded.get() + std::int64_t{wanted} * width * height};
}

/// Of (height, columns, 3) samples as they are in a JPEG file with components of half the columns: RGB, with the column
/// put right in which stb_image takes the neighbour for the nearer of two samples, and without a column that was asked
/// for too much. YCbCr becomes RGB as in JFIF 1.02, rounded as by libjpeg.
inline void mend_half_columns(const PlainFile& plain, std::vector<std::uint8_t>& pixels) {
  const std::int64_t columns = plain.width + plain.width % 2;
  const auto byte = [](int value) { return static_cast<std::uint8_t>(std::clamp(value, 0, 255)); };
  std::uint8_t* to = pixels.data();
  for (std::int64_t y = 0; y < plain.height; ++y) {
    std::uint8_t* const row = pixels.data() + 3 * columns * y;
    for (std::int64_t c = 0; c < 3 && columns > 2; ++c) {
      if (!plain.half_columns[c]) continue;
      std::uint8_t* const wrong = row + 3 * (columns - 2) + c;
      // It is a quarter of the last sample and three of the one before; the last stands in the last column.
      const int last = wrong[3], before = std::clamp((4 * *wrong - last + 1) / 3, 0, 255);
      *wrong = static_cast<std::uint8_t>((3 * last + before + 2) / 4);
    }
    for (std::int64_t x = 0; x < plain.width; ++x, to += 3) {
      const int first = row[3 * x], second = row[3 * x + 1], third = row[3 * x + 2];
      const int cb = second - 128, cr = third - 128;
      to[0] = plain.ycc ? byte(first + ((91881 * cr + 32768) >> 16)) : byte(first);
      to[1] = plain.ycc ? byte(first + ((-22554 * cb - 46802 * cr + 32768) >> 16)) : byte(second);
      to[2] = plain.ycc ? byte(first + ((116130 * cb + 32768) >> 16)) : byte(third);
    }
  }
  pixels.resize(static_cast<std::size_t>(3 * plain.width * plain.height));
}

/// The image as the camera was held: turned and mirrored as EXIF's `orientation`, 1 to 8, says.
[[nodiscard]] inline Image upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool swapped = orientation >= 5;
  const bool flips_rows = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool flips_columns = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  Image result{.pixels = std::vector<std::uint8_t>(image.pixels.size()),
               .height = swapped ? image.width : image.height,
               .width = swapped ? image.height : image.width};
  std::uint8_t* to = result.pixels.data();
  for (std::int64_t y = 0; y < result.height; ++y) {
    for (std::int64_t x = 0; x < result.width; ++x, to += 3) {
      std::int64_t row = swapped ? x : y, column = swapped ? y : x;
      if (flips_rows) row = image.height - 1 - row;
      if (flips_columns) column = image.width - 1 - column;
      std::copy_n(image.pixels.data() + 3 * (row * image.width + column), 3, to);
    }
  }
  return result;
}

}  // namespace detail

/// The image in the bytes of a JPEG or PNG file; `name` is for messages. What is transparent is shown on white; the
/// image is turned as EXIF's orientation says; colour profiles and gamma are not looked at. An end marker may be
/// missing if nothing else is. Throws DataError for another format or a kind of these that is not known (the sentence
/// says which), for a header that promises more pixels than the file can hold or than 2^26, and for damaged content.
[[nodiscard]] inline Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  const bool png = detail::starts_with(bytes, "\x89PNG");
  if (bytes.empty()) throw DataError(concat(name, ": the file is empty; copy it again or remove it"));
  if (!png && !detail::starts_with(bytes, "\xff\xd8")) {
    throw DataError(concat(name, ": neither JPEG nor PNG, whatever its name says; convert it to one of them"));
  }
  if (std::ssize(bytes) > largest_image_file) {
    throw DataError(concat(name, ": ", bytes.size() >> 20, " MiB are too many for an image; the limit is ",
                           largest_image_file >> 20, " MiB: make it smaller"));
  }
  const detail::PlainFile plain = png ? detail::plain_png(bytes, name) : detail::JpegWalk(bytes, name).run();
  const std::int64_t width = plain.width, height = plain.height;
  if (width < 1 || height < 1) {
    throw DataError(concat(name, ": ", width, " x ", height, " pixels are no image; remove the file"));
  }
  const auto promises = [&](const char* rest) {
    return DataError(concat(name, ": its header promises ", width, " x ", height, " pixels, ", rest));
  };
  if (height > largest_image_pixels / width) throw promises("more than the limit of 2^26; make it smaller");
  if (width * height > (png ? detail::most_png_pixels(plain) : detail::most_jpeg_pixels(plain))) {
    throw promises("which no file of its length can hold; copy it again or remove it");
  }
  std::vector<std::uint8_t> decoded;
  if (png) {
    decoded = detail::decode_by_stb(plain.bytes, true, plain, name, "PNG");
  } else {
    decoded = detail::decode_by_stb(detail::with_end(plain.bytes, 0), false, plain, name, "JPEG");
    // What follows an image that is whole does not show.
    if (plain.end_missing &&
        decoded != detail::decode_by_stb(detail::with_end(plain.bytes, 0x55), false, plain, name, "JPEG")) {
      throw DataError(
          concat(name, ": damaged JPEG file (it ends in the midst of the image); copy it again or remove it"));
    }
  }
  if (std::any_of(std::begin(plain.half_columns), std::end(plain.half_columns), [](bool half) { return half; })) {
    detail::mend_half_columns(plain, decoded);
  }
  Image image{.pixels = std::move(decoded), .height = height, .width = width};
  if (png) {
    std::vector<std::uint8_t> shown(image.pixels.size() / 4 * 3);
    for (std::size_t p = 0; p < shown.size() / 3; ++p) {
      const unsigned opaque = image.pixels[4 * p + 3];
      for (std::size_t c = 0; c < 3; ++c) {
        shown[3 * p + c] =
            static_cast<std::uint8_t>((image.pixels[4 * p + c] * opaque + 255 * (255 - opaque) + 127) / 255);
      }
    }
    image.pixels = std::move(shown);
  }
  return detail::upright(std::move(image), plain.orientation);
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
/// where it shrinks, else bilinear. Throws ArgumentError for a size below 1 or beyond 2^26 pixels, an empty image, and
/// one whose pixels are not as many as it says.
[[nodiscard]] inline Image resize_image(const Image& image, std::int64_t height, std::int64_t width) {
  for (const auto& [rows, columns] : {std::pair(height, width), std::pair(image.height, image.width)}) {
    if (rows < 1 || columns < 1 || rows > largest_image_pixels / columns) {
      throw ArgumentError(concat("resize_image: ", image.height, " x ", image.width, " to ", height, " x ", width,
                                 "; every extent must be at least 1, and an image at most 2^26 pixels"));
    }
  }
  if (std::ssize(image.pixels) != 3 * image.height * image.width) {
    throw ArgumentError(concat("resize_image: ", image.height, " x ", image.width, " pixels take ",
                               3 * image.height * image.width, " bytes; got ", image.pixels.size()));
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

}  // namespace meristem::data
