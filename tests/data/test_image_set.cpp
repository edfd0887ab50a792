#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <meristem/data/image_set.hpp>

namespace data_image_set_test {

namespace ms = meristem;
using ms::data::ImageSet;
using ms::data::Normalization;

namespace {

/// Three images of 1 x 2 x 2 with bytes 0, 1, 2, ... and labels 0, 1, 0.
ImageSet small_set() {
  ImageSet set;
  set.height = 1;
  set.width = 2;
  set.channels = 2;
  for (std::uint8_t i = 0; i < 12; ++i) set.pixels.push_back(i);
  set.labels = {0, 1, 0};
  set.class_names = {"even", "odd"};
  set.normalization = {.mean = {0, 0}, .stddev = {1, 1}};
  set.source = "small";
  return set;
}

/// The sentence of the error that check() throws; empty if it throws none.
template <class Checkable, class... Arguments>
std::string complaint(const Checkable& checkable, Arguments... arguments) {
  try {
    checkable.check(arguments...);
  } catch (const ms::DataError& error) {
    return error.message();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("image_set: sizes and images") {
  const ImageSet set = small_set();
  CHECK(set.size() == 3);
  CHECK(set.classes() == 2);
  CHECK(set.image_bytes() == 4);
  CHECK_FALSE(set.empty());
  CHECK(complaint(set).empty());
  const auto image = set.image(2);
  CHECK(std::vector<std::uint8_t>(image.begin(), image.end()) == std::vector<std::uint8_t>{8, 9, 10, 11});
  CHECK_THROWS_WITH_AS((void)set.image(3), doctest::Contains("small: there is no image 3 in a set of 3"),
                       ms::ArgumentError);
  CHECK_THROWS_AS((void)set.image(-1), ms::ArgumentError);
}

TEST_CASE("image_set: an even share of every class, spread over the set") {
  ImageSet set;
  set.height = set.width = set.channels = 1;
  set.class_names = {"a", "b", "c", "none"};
  for (int i = 0; i < 10; ++i) set.labels.push_back(0);
  for (int i = 0; i < 2; ++i) set.labels.push_back(1);
  for (int i = 0; i < 10; ++i) set.labels.push_back(2);
  for (std::size_t i = 0; i < set.labels.size(); ++i) set.pixels.push_back(static_cast<std::uint8_t>(i));
  const auto taken = [&](std::int64_t count) { return set.take_evenly(count).pixels; };
  CHECK(taken(0).empty());
  CHECK(taken(22) == set.pixels);
  // b gives its two; of four each, places 0, 10/4, 20/4, 30/4.
  CHECK(taken(10) == std::vector<std::uint8_t>{0, 2, 5, 7, 10, 11, 12, 14, 17, 19});
  // A share that cannot be even gives the rest to larger classes.
  CHECK(set.take_evenly(4).labels == std::vector<std::int32_t>{0, 1, 2, 2});
  CHECK_THROWS_AS((void)set.take_evenly(23), ms::ArgumentError);
  CHECK_THROWS_AS((void)set.take_evenly(-1), ms::ArgumentError);
}

TEST_CASE("image_set: check names what does not agree") {
  ImageSet set = small_set();
  SUBCASE("extent") {
    set.width = 0;
    CHECK(complaint(set) == "small: images of 1 x 0 x 2 (height x width x channels); every extent must be at least 1");
  }
  SUBCASE("empty") {
    set.labels.clear();
    set.pixels.clear();
    CHECK(complaint(set) == "small: the data set is empty; it needs at least one image");
  }
  SUBCASE("missing pixels") {
    set.pixels.pop_back();
    CHECK(complaint(set) == "small: 3 labels of 1 x 2 x 2 images need 12 pixel bytes; there are 11");
  }
  SUBCASE("surplus pixels") {
    set.pixels.push_back(0);
    CHECK(complaint(set) == "small: 3 labels of 1 x 2 x 2 images need 12 pixel bytes; there are 13");
  }
  SUBCASE("products that would wrap around") {
    // 2^32 * 2^32 * 4 would be 0.
    set.height = set.width = std::int64_t{1} << 32;
    set.channels = 4;
    CHECK(complaint(set) ==
          "small: 3 labels of 4294967296 x 4294967296 x 4 images need more than 2^63 pixel bytes; "
          "there are 12");
  }
  SUBCASE("label too large") {
    set.labels[1] = 2;
    CHECK(complaint(set) == "small: image 1 has label 2; the set has 2 classes, so labels run from 0 to 1");
  }
  SUBCASE("negative label") {
    set.labels[2] = -1;
    CHECK(complaint(set) == "small: image 2 has label -1; the set has 2 classes, so labels run from 0 to 1");
  }
  SUBCASE("normalization of another number of channels") {
    set.normalization.mean.pop_back();
    CHECK(complaint(set) ==
          "normalization: has 1 means and 2 stddevs for images of 2 channels; give one of each per channel");
  }
}

TEST_CASE("image_set: normalization refuses what would give NaN or infinity") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(complaint(Normalization{{0, 0.5}, {1, 0.25}}, 2).empty());
  CHECK(complaint(Normalization{{0, 0.5}, {1, 0}}, 2) ==
        "normalization: channel 1 has mean 0.5 and stddev 0; the mean must be finite, the stddev finite and above 0");
  for (const double bad : {nan, infinity}) {
    CHECK(complaint(Normalization{{bad}, {1}}, 1).find("channel 0 has mean") != std::string::npos);
    CHECK(complaint(Normalization{{0}, {bad}}, 1).find("channel 0 has mean") != std::string::npos);
  }
  CHECK_FALSE(complaint(Normalization{{0}, {-1}}, 1).empty());
}

TEST_CASE("image_set: measured normalization is the mean and stddev of every channel") {
  ImageSet set = small_set();
  set.pixels = {0, 255, 10, 255, 20, 254, 200, 255, 255, 255, 255, 255};
  const Normalization measured = set.measure_normalization();
  REQUIRE(measured.mean.size() == 2);
  REQUIRE(measured.stddev.size() == 2);
  for (std::size_t c = 0; c < 2; ++c) {
    double mean = 0, variance = 0;
    for (std::size_t i = c; i < 12; i += 2) mean += set.pixels[i] / 255.0 / 6;
    for (std::size_t i = c; i < 12; i += 2) variance += std::pow(set.pixels[i] / 255.0 - mean, 2) / 6;
    // Six terms of order 1, a handful of roundings each; the variance (1.4e-5 full-scale² or more) is a difference of
    // numbers of order 1, and its root magnifies that error by 1 / (2 stddev) <= 350.
    CHECK(std::abs(measured.mean[c] - mean) < 1e-15);
    CHECK(std::abs(measured.stddev[c] - std::sqrt(variance)) < 350 * 1e-14);
  }
}

TEST_CASE("image_set: a channel that never varies gets stddev 1") {
  ImageSet set = small_set();
  for (std::size_t i = 0; i < 12; ++i) set.pixels[i] = i % 2 == 0 ? 77 : static_cast<std::uint8_t>(i);
  const Normalization measured = set.measure_normalization();
  CHECK(measured.mean[0] == 77 / 255.0);
  CHECK(measured.stddev[0] == 1.0);
  CHECK(measured.stddev[1] < 0.1);
  set.pixels.clear();
  CHECK_THROWS_WITH_AS((void)set.measure_normalization(), doctest::Contains("small: the data set is empty"),
                       ms::DataError);
}

TEST_CASE("image_set: take and subset") {
  const ImageSet set = small_set();
  const ImageSet two = set.take(2);
  CHECK(two.pixels == std::vector<std::uint8_t>{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(two.labels == std::vector<std::int32_t>{0, 1});
  CHECK(two.class_names == set.class_names);
  CHECK(two.normalization == set.normalization);
  CHECK(two.source == "small");
  CHECK(complaint(two).empty());
  CHECK(set.take(0).empty());
  CHECK_THROWS_WITH_AS((void)set.take(4), doctest::Contains("small: cannot take 4 images from a set of 3"),
                       ms::ArgumentError);
  CHECK_THROWS_AS((void)set.take(-1), ms::ArgumentError);

  const ImageSet picked = set.subset(std::vector<std::int64_t>{2, 0, 2});
  CHECK(picked.pixels == std::vector<std::uint8_t>{8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11});
  CHECK(picked.labels == std::vector<std::int32_t>{0, 0, 0});
  CHECK_THROWS_AS((void)set.subset(std::vector<std::int64_t>{0, 3}), ms::ArgumentError);
}

TEST_SUITE_END();

}  // namespace data_image_set_test
