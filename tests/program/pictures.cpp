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

std::vector<std::uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

/// The pixel in row `y`, column `x`.
std::vector<int> pixel(const ms::data::Image& image, std::int64_t y, std::int64_t x) {
  const auto at = image.pixels.begin() + 3 * (y * image.width + x);
  return {at, at + 3};
}

/// A file of those beside this one; what they are stands in pictures/README.md.
std::vector<std::uint8_t> file(const std::string& name) {
  const std::string bytes = program::read(std::filesystem::path(MERISTEM_PICTURES) / name);
  REQUIRE(!bytes.empty());
  return bytes_of(bytes);
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

TEST_CASE("pictures: colour keys of PNG are transparent, in every colour type and depth that has them") {
  const auto png = [](int depth, int type, const std::string& chunks, const std::string& raw, std::uint32_t width) {
    return ms::data::decode_image(
        bytes_of(program::png_signature + program::png_header(width, 1, depth, type) + chunks + program::png_data(raw)),
        "file");
  };
  const auto key = [](const std::string& bytes) { return program::png_chunk("tRNS", bytes); };
  const std::vector<int> white = {255, 255, 255};
  using namespace std::string_literals;
  const auto rgb = png(8, 2, key("\0\1\0\2\0\3"s), "\0\1\2\3\1\2\4"s, 2);
  CHECK(pixel(rgb, 0, 0) == white);
  CHECK(pixel(rgb, 0, 1) == std::vector<int>{1, 2, 4});
  // All sixteen bits count, though eight are shown.
  const auto deep = png(16, 2, key("\1\1\2\2\3\3"s), "\0\1\1\2\2\3\3\1\1\2\2\3\4"s, 2);
  CHECK(pixel(deep, 0, 0) == white);
  CHECK(pixel(deep, 0, 1) == std::vector<int>{1, 2, 3});
  const auto deep_grey = png(16, 0, key("\7\7"s), "\0\7\7\7\10"s, 2);
  CHECK(pixel(deep_grey, 0, 0) == white);
  CHECK(pixel(deep_grey, 0, 1) == std::vector<int>{7, 7, 7});
  CHECK(pixel(png(8, 0, key("\0\0"s), "\0\0\11"s, 2), 0, 0) == white);
  // Two bits: samples 0, 1, 2, 3 in one byte; key 2. Of a key only the bits count that samples have.
  for (const char* bits : {"\0\2", "\1\6"}) {
    const auto small = png(2, 0, key(std::string(bits, 2)), "\0\x1b"s, 4);
    CHECK(pixel(small, 0, 0) == std::vector<int>{0, 0, 0});
    CHECK(pixel(small, 0, 1) == std::vector<int>{85, 85, 85});
    CHECK(pixel(small, 0, 2) == white);
    CHECK(pixel(small, 0, 3) == white);
  }
  const std::string palette = program::png_chunk("PLTE", "\1\2\3\4\5\6"s);
  const auto indexed = png(8, 3, palette + key("\0"s), "\0\0\1\x80"s, 3);
  CHECK(pixel(indexed, 0, 0) == white);
  CHECK(pixel(indexed, 0, 1) == std::vector<int>{4, 5, 6});
  // Beyond the palette everything is black.
  CHECK(pixel(indexed, 0, 2) == std::vector<int>{0, 0, 0});
  for (const char* name : {"rgb_trns.png", "grey_trns.png", "rgb16_trns.png", "pal_trns.png"}) {
    CAPTURE(name);
    CHECK(pixel(ms::data::decode_image(file(name), name), 0, 0) == white);
  }
}

TEST_CASE("pictures: a PNG without its end is read, one that is damaged or Apple's own is told") {
  const std::string header = program::png_header(1, 1, 8, 0), data = program::png_data(std::string("\0\5", 2));
  const std::string start = program::png_signature;
  const auto told = [&](const std::string& bytes) { return message(bytes_of(bytes)); };
  for (const std::string& end :
       {std::string(), program::png_chunk("IEND", ""), program::png_chunk("IEND", "").substr(0, 7),
        program::png_chunk("tEXt", "Comment") + program::png_chunk("IEND", "") + "anything"}) {
    const auto image = ms::data::decode_image(bytes_of(start + header + data + end), "file");
    CHECK(pixel(image, 0, 0) == std::vector<int>{5, 5, 5});
  }
  std::string wrong = data;
  wrong[15] = '\6';
  CHECK(contains(told(start + header + wrong), "file: damaged PNG file (the checksum of a chunk IDAT is wrong)"));
  CHECK(contains(told(start + data), "it does not begin with an IHDR chunk"));
  CHECK(contains(told(start + header + header), "two IHDR chunks"));
  CHECK(contains(told(start + header), "there is no image data in it"));
  CHECK(contains(told(start + program::png_header(1, 1, 4, 2) + data), "its header says colour type 2, 4 bits"));
  CHECK(contains(told(start + program::png_header(1, 1, 8, 3) + data), "it has no palette"));
  CHECK(contains(told(start + header + program::png_chunk("NEWS", "") + data),
                 "file: the PNG file needs a chunk NEWS to be understood, which is not known here; convert it"));
  CHECK(contains(told(start + header + std::string(12, '\1') + data), "a chunk is longer than the file"));
  CHECK(contains(told("\x89PNG\n\x1a\n" + header + data), "its first eight bytes are not those of PNG"));
  CHECK(contains(message(file("cgbi.png")),
                 "file: a PNG file of Apple's own kind (CgBI), which only Apple's programs "
                 "read; convert it to PNG"));
}

TEST_CASE("pictures: orientations of EXIF turn the picture as they turn it elsewhere") {
  // Four pixels a b / c d and where they go, by EXIF 2.3, 4.6.4 A (row 0 and column 0 as they are seen).
  const char* const shown[] = {"abcd", "abcd", "badc", "dcba", "cdab", "acbd", "cadb", "dbca", "bdac", "abcd"};
  const auto exif = [](int orientation, bool little) {
    const auto number = [&](std::uint32_t value, int bytes) {
      std::string text;
      for (int i = 0; i < bytes; ++i) {
        text += static_cast<char>(value >> 8 * (little ? i : bytes - 1 - i));
      }
      return text;
    };
    return std::string(little ? "II" : "MM") + number(42, 2) + number(8, 4) + number(2, 2) +  //
           number(0x10f, 2) + number(2, 2) + number(1, 4) + number(0, 4) +                    //
           number(0x112, 2) + number(3, 2) + number(1, 4) + number(static_cast<std::uint32_t>(orientation), 2) +
           number(0, 2) + number(0, 4);
  };
  for (int orientation = 0; orientation <= 9; ++orientation) {
    for (const bool little : {true, false}) {
      CAPTURE(orientation);
      const auto image = ms::data::decode_image(bytes_of(program::png_signature + program::png_header(2, 2, 8, 0) +
                                                         program::png_chunk("eXIf", exif(orientation, little)) +
                                                         program::png_data(std::string("\0ab\0cd", 6))),
                                                "file");
      std::string seen;
      for (std::size_t p = 0; p < 12; p += 3) seen += static_cast<char>(image.pixels[p]);
      CHECK(seen == shown[orientation]);
    }
  }
  // Sides change places.
  const auto base = ms::data::decode_image(file("base.jpg"), "base"),
             turned = ms::data::decode_image(file("exif6.jpg"), "");
  REQUIRE(turned.height == base.width);
  REQUIRE(turned.width == base.height);
  for (std::int64_t y = 0; y < base.height; ++y) {
    for (std::int64_t x = 0; x < base.width; ++x) {
      REQUIRE(pixel(turned, x, base.height - 1 - y) == pixel(base, y, x));
    }
  }
}

TEST_CASE("pictures: colours of JPEG files of four components do not depend on a marker") {
  const auto with = ms::data::decode_image(file("cmyk.jpg"), "with"),
             without = ms::data::decode_image(file("cmyk_noadobe.jpg"), "without");
  CHECK(with.pixels == without.pixels);
  // What Pillow shows; decoders may round otherwise.
  const std::vector<int> first = pixel(with, 0, 0);
  for (std::size_t c = 0; c < 3; ++c) CHECK(std::abs(first[c] - std::vector<int>{240, 240, 20}[c]) <= 2);
}

TEST_CASE("pictures: colours of half the columns are right in the last columns too") {
  // What Pillow shows of the last three columns; decoders may round otherwise.
  const int shown[2][3][3] = {{{71, 86, 145}, {189, 126, 85}, {221, 120, 28}},
                              {{39, 91, 201}, {71, 86, 145}, {189, 126, 85}}};
  for (const int odd : {0, 1}) {
    const char* const name = odd == 1 ? "half_odd.jpg" : "half_even.jpg";
    const std::int64_t width = 10 - odd;
    CAPTURE(name);
    const ms::data::Image image = ms::data::decode_image(file(name), name);
    REQUIRE(image.height == 8);
    REQUIRE(image.width == width);
    for (std::int64_t x = 0; x < 3; ++x) {
      const std::vector<int> seen = pixel(image, 3, width - 3 + x);
      for (std::size_t c = 0; c < 3; ++c) CHECK(std::abs(seen[c] - shown[odd][x][c]) <= 2);
    }
  }
}

TEST_CASE("pictures: a JPEG without its end marker is read if nothing else is missing") {
  const std::vector<std::uint8_t> whole = file("base.jpg");
  const ms::data::Image wanted = ms::data::decode_image(whole, "whole");
  const auto pixels = [](const std::vector<std::uint8_t>& bytes) {
    return ms::data::decode_image(bytes, "file").pixels;
  };
  for (const char* name : {"no_eoi.jpg", "no_eoi_zeros.jpg", "no_eoi_trailer.jpg"}) {
    CAPTURE(name);
    const ms::data::Image read = ms::data::decode_image(file(name), name);
    const std::vector<int> first = pixel(read, 0, 0);
    for (std::size_t c = 0; c < 3; ++c) CHECK(std::abs(first[c] - std::vector<int>{240, 240, 20}[c]) <= 2);
  }
  REQUIRE(whole.size() > 600);
  REQUIRE(whole[whole.size() - 2] == 0xff);
  std::vector<std::uint8_t> cut(whole.begin(), whole.end() - 2);
  CHECK(pixels(cut) == wanted.pixels);
  // Half of the marker; another picture; bytes of any kind but those that begin a marker.
  std::vector<std::uint8_t> more = cut;
  more.push_back(0xff);
  CHECK(pixels(more) == wanted.pixels);
  more = cut;
  more.insert(more.end(), whole.begin(), whole.end());
  CHECK(pixels(more) == wanted.pixels);
  more = cut;
  for (int i = 0; i < 1000; ++i) more.push_back(static_cast<std::uint8_t>(i * i % 255));
  CHECK(pixels(more) == wanted.pixels);
  more = whole;
  more.insert(more.end(), 1000, 0xff);
  CHECK(pixels(more) == wanted.pixels);
  // Without more than the end marker something of the image is missing, with zeros in its place or not.
  for (const std::ptrdiff_t lost : {8, 40, 200}) {
    cut.assign(whole.begin(), whole.end() - lost);
    CHECK(contains(message(cut), "file: damaged JPEG file (it ends in the midst of the image); copy it again"));
  }
}

TEST_CASE("pictures: kinds of JPEG that are not read are told") {
  const std::vector<std::uint8_t> whole = file("base.jpg");
  // Where the frame header's marker stands.
  std::size_t frame = 2;
  while (!(whole[frame] == 0xff && whole[frame + 1] == 0xc0)) frame += 2 + (whole[frame + 2] << 8 | whole[frame + 3]);
  const auto changed = [&](std::size_t at, int value) {
    std::vector<std::uint8_t> bytes = whole;
    bytes[at] = static_cast<std::uint8_t>(value);
    return message(bytes);
  };
  CHECK(
      contains(changed(frame + 1, 0xc9), "file: a JPEG file of a kind that is not read (arithmetic coding); convert"));
  CHECK(contains(changed(frame + 1, 0xc3), "(lossless)"));
  CHECK(contains(changed(frame + 4, 12), "(12 bits a sample)"));
  CHECK(contains(changed(frame + 9, 2), "its frame header is of another length than it says"));
  std::vector<std::uint8_t> bytes = whole;
  bytes[frame + 5] = bytes[frame + 6] = 0;
  CHECK(contains(message(bytes), "(its height follows the image)"));
  // Without any Huffman table it is a frame of a film, without one of several it is damaged.
  const auto without_tables = [&](int keep) {
    std::vector<std::uint8_t> result = {0xff, 0xd8};
    for (std::size_t at = 2; at < whole.size();) {
      const std::size_t length = 2 + static_cast<std::size_t>(whole[at + 2] << 8 | whole[at + 3]);
      const bool scan = whole[at + 1] == 0xda, table = whole[at + 1] == 0xc4;
      const auto from = whole.begin() + static_cast<std::ptrdiff_t>(at);
      if (!table || keep-- > 0)
        result.insert(result.end(), from, scan ? whole.end() : from + static_cast<std::ptrdiff_t>(length));
      if (scan) break;
      at += length;
    }
    return message(result);
  };
  CHECK(contains(without_tables(0), "(a frame of Motion JPEG, without its Huffman tables)"));
  CHECK(contains(without_tables(1), "damaged JPEG file (a Huffman table is missing)"));
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
  // Products that would wrap around to little, and pixels that are not there.
  CHECK_THROWS_AS((void)ms::data::resize_image(wide, std::int64_t{1} << 32, std::int64_t{1} << 32), ms::ArgumentError);
  CHECK_THROWS_AS((void)ms::data::resize_image({.pixels = {}, .height = 2, .width = 2}, 2, 2), ms::ArgumentError);
  CHECK_THROWS_AS((void)ms::data::image_folder("/", {.height = std::int64_t{1} << 32, .width = std::int64_t{1} << 32}),
                  ms::ArgumentError);
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
    const std::string file =
        program::png_signature + program::png_header(width, height, 8, 2) + program::png_data(std::string(200, '\0'));
    return message({file.begin(), file.end()});
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
