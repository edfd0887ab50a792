// The readers of pictures: sizes, resampling against sums by hand, what is refused.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <meristem/data/image_file.hpp>
#include <meristem/data/image_folder.hpp>

#include "../../examples/cifar10/png.hpp"
#include "program.hpp"

namespace ms = meristem;
using program::contains;

namespace {

ms::data::Image pattern(std::int64_t height, std::int64_t width) {
  ms::data::Image image{.pixels = {}, .height = height, .width = width};
  for (std::int64_t i = 0; i < 3 * height * width; ++i) {
    image.pixels.push_back(static_cast<std::uint8_t>((i * i + 31 * i) % 251));
  }
  return image;
}

/// The bytes in a data URI.
std::vector<std::uint8_t> decoded(const std::string& uri) {
  static const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<std::uint8_t> bytes;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : uri.substr(uri.find(',') + 1)) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(digits.find(c));
    held += 6;
    if (held >= 8) bytes.push_back(static_cast<std::uint8_t>(bits >> (held -= 8)));
  }
  return bytes;
}

std::string message(const std::vector<std::uint8_t>& bytes) {
  try {
    (void)ms::data::decode_image(bytes, "file");
  } catch (const ms::DataError& error) {
    return error.message();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("pictures: a PNG that was written reads back, whatever its channels") {
  for (const std::int64_t width : {1, 2, 3, 17}) {
    const ms::data::Image image = pattern(5, width);
    const auto bytes = decoded(cifar10::png_data_uri(image.pixels, 5, width, 3));
    const ms::data::Image read = ms::data::decode_image(bytes, "file");
    CHECK(read.height == 5);
    CHECK(read.width == width);
    CHECK(read.pixels == image.pixels);
  }
  // Grey becomes three equal channels; what is half transparent is half white.
  const ms::data::Image grey = ms::data::decode_image(decoded(cifar10::png_data_uri({7, 200}, 1, 2, 1)), "grey");
  CHECK(grey.pixels == std::vector<std::uint8_t>{7, 7, 7, 200, 200, 200});
  const ms::data::Image clear = ms::data::decode_image(
      decoded(cifar10::png_data_uri({10, 20, 30, 0, 10, 20, 30, 255, 0, 100, 200, 51}, 1, 3, 4)), "clear");
  CHECK(clear.pixels == std::vector<std::uint8_t>{255, 255, 255, 10, 20, 30, 204, 224, 244});
}

TEST_CASE("pictures: the same size is the same picture") {
  const ms::data::Image image = pattern(6, 9);
  CHECK(ms::data::resize_image(image, 6, 9).pixels == image.pixels);
}

TEST_CASE("pictures: shrinking takes means over the covered area") {
  // Whole factors: plain means of blocks, rounded.
  const ms::data::Image image = pattern(12, 8), small = ms::data::resize_image(image, 3, 2);
  for (std::int64_t y = 0; y < 3; ++y) {
    for (std::int64_t x = 0; x < 2; ++x) {
      for (std::int64_t c = 0; c < 3; ++c) {
        double sum = 0.0;
        for (std::int64_t j = 0; j < 4; ++j) {
          for (std::int64_t i = 0; i < 4; ++i) {
            sum += image.pixels[static_cast<std::size_t>(3 * (8 * (4 * y + j) + 4 * x + i) + c)];
          }
        }
        // A mean that ends in one half may go either way.
        CHECK(std::abs(small.pixels[static_cast<std::size_t>(3 * (2 * y + x) + c)] - sum / 16) <= 0.5 + 1e-9);
      }
    }
  }
  // 3 pixels to 2: each takes one and a half.
  const ms::data::Image three{.pixels = {0, 0, 0, 90, 90, 90, 240, 240, 240}, .height = 1, .width = 3};
  ms::data::Image rows = three;
  rows.pixels.insert(rows.pixels.end(), three.pixels.begin(), three.pixels.end());
  rows.pixels.insert(rows.pixels.end(), three.pixels.begin(), three.pixels.end());
  rows.height = 3;
  const ms::data::Image two = ms::data::resize_image(rows, 2, 2);
  CHECK(static_cast<int>(two.pixels[0]) == 30);   // (0 + 90 / 2) / 1.5
  CHECK(static_cast<int>(two.pixels[3]) == 190);  // (90 / 2 + 240) / 1.5
}

TEST_CASE("pictures: enlarging is linear between pixel centres, and keeps the border") {
  const ms::data::Image image{.pixels = {0, 0, 0, 100, 100, 100, 0, 0, 0, 100, 100, 100}, .height = 2, .width = 2};
  const ms::data::Image large = ms::data::resize_image(image, 4, 4);
  for (int y = 0; y < 4; ++y) {
    const int expected[] = {0, 25, 75, 100};
    for (int x = 0; x < 4; ++x)
      CHECK(static_cast<int>(large.pixels[static_cast<std::size_t>(3 * (4 * y + x))]) == expected[x]);
  }
}

TEST_CASE("pictures: another shape keeps the middle") {
  ms::data::Image wide = pattern(4, 12);
  for (std::size_t i = 0; i < wide.pixels.size(); ++i) wide.pixels[i] = static_cast<std::uint8_t>(i / 3 % 12);
  const ms::data::Image square = ms::data::resize_image(wide, 4, 4);
  for (int x = 0; x < 4; ++x) CHECK(static_cast<int>(square.pixels[static_cast<std::size_t>(3 * x)]) == 4 + x);
  CHECK(ms::data::resize_image(pattern(1, 1), 32, 32).pixels.size() == 3072);
  CHECK(ms::data::resize_image(pattern(1, 300), 2, 2).pixels.size() == 12);
  CHECK_THROWS_AS((void)ms::data::resize_image(ms::data::Image{}, 2, 2), ms::ArgumentError);
  CHECK_THROWS_AS((void)ms::data::resize_image(wide, 0, 2), ms::ArgumentError);
}

TEST_CASE("pictures: what is refused, and with which sentence") {
  const auto good = decoded(cifar10::png_data_uri(pattern(8, 8).pixels, 8, 8, 3));
  CHECK(contains(message({}), "file: the file is empty; copy it again or remove it"));
  CHECK(contains(message({'G', 'I', 'F', '8', '9', 'a', 1, 0}), "file: neither JPEG nor PNG, whatever its name says"));
  for (std::size_t length : {std::size_t{5}, std::size_t{20}, good.size() / 2}) {
    CHECK(contains(message({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)}),
                   "file: damaged PNG file ("));
  }
  CHECK(contains(message({0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0}), "file: damaged JPEG file ("));
  const auto with_size = [&](std::uint32_t width, std::uint32_t height) {
    auto changed = good;
    for (int i = 0; i < 4; ++i) {
      changed[static_cast<std::size_t>(16 + i)] = static_cast<std::uint8_t>(width >> (24 - 8 * i));
      changed[static_cast<std::size_t>(20 + i)] = static_cast<std::uint8_t>(height >> (24 - 8 * i));
    }
    return message(changed);
  };
  CHECK(contains(with_size(10'000, 10'000),
                 "promises 10000 x 10000 pixels, more than the limit of 2^26; make it smaller"));
  CHECK(contains(with_size(65'535, 65'535),
                 "promises 65535 x 65535 pixels, more than the limit of 2^26; make it smaller"));
  CHECK(contains(with_size(8'000, 8'000), "promises 8000 x 8000 pixels, which no file of its length can hold"));
  CHECK_THROWS_WITH_AS((void)ms::data::read_image("/nowhere.png"), doctest::Contains("no such file; check the name"),
                       ms::IoError);
  CHECK_THROWS_WITH_AS((void)ms::data::read_image("/"), doctest::Contains("not a file"), ms::IoError);
  CHECK_THROWS_WITH_AS((void)ms::data::image_folder("/nowhere"), doctest::Contains("no such folder; give one with"),
                       ms::IoError);
  CHECK_THROWS_WITH_AS((void)ms::data::image_folder("/", {.height = 0}), doctest::Contains("must be at least 1"),
                       ms::ArgumentError);
}

TEST_CASE("pictures: folders are classes by name, every sixth file tests") {
  const program::Folder folder;
  const auto put = [&](const std::string& name, std::uint8_t value) {
    const auto path = folder.path() / name;
    std::filesystem::create_directories(path.parent_path());
    const auto bytes = decoded(cifar10::png_data_uri(std::vector<std::uint8_t>(3 * 4, value), 2, 2, 3));
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  };
  for (int i = 1; i <= 7; ++i) put("dogs/" + std::to_string(i) + ".png", static_cast<std::uint8_t>(10 * i));
  put("cats/a.PNG", 200);
  put("cats/.hidden.png", 1);
  const auto read = ms::data::image_folder(folder.path(), {.height = 2, .width = 2});
  CHECK(read.train.class_names == std::vector<std::string>{"cats", "dogs"});
  CHECK(read.train.labels == std::vector<std::int32_t>{0, 1, 1, 1, 1, 1, 1});
  CHECK(read.test.labels == std::vector<std::int32_t>{1});
  CHECK(static_cast<int>(read.test.pixels[0]) == 60);
  CHECK(read.unreadable.empty());
  CHECK(read.train.normalization == read.test.normalization);
  CHECK(read.train.normalization == read.train.measure_normalization());
  int calls = 0;
  (void)ms::data::image_folder(folder.path(), {.height = 2, .width = 2, .before_file = [&] { ++calls; }});
  CHECK(calls == 8);
  const auto stop = [] { throw std::string("enough"); };
  CHECK_THROWS_AS((void)ms::data::image_folder(folder.path(), {.before_file = stop}), std::string);
}

TEST_SUITE_END();
