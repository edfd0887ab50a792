#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <meristem/data/synthetic.hpp>

namespace data_synthetic_test {

namespace ms = meristem;
using ms::data::ImageSet;
using ms::data::Split;
using ms::data::synthetic;

namespace {

/// FNV-1a, 64 bits.
std::uint64_t hash(const ImageSet& set) {
  std::uint64_t value = 0xcbf29ce484222325;
  const auto add = [&](std::uint8_t byte) { value = (value ^ byte) * 0x100000001b3; };
  for (const std::uint8_t byte : set.pixels) add(byte);
  for (const std::int32_t label : set.labels) add(static_cast<std::uint8_t>(label));
  return value;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("synthetic: the bytes are the same everywhere") {
  CHECK(hash(synthetic({.images = 100})) == 0xb5a9bca019b8ba5e);
  CHECK(hash(synthetic({.images = 100, .seed = 12345, .split = Split::test})) == 0xad662c0eb48fc1f2);
}

TEST_CASE("synthetic: the set is whole and its classes are balanced") {
  const ImageSet set = synthetic({.images = 1000});
  set.check();
  CHECK(set.size() == 1000);
  CHECK(set.classes() == 10);
  CHECK(set.height == 32);
  CHECK(set.width == 32);
  CHECK(set.channels == 3);
  CHECK(set.source == "built-in synthetic train set");
  for (int label = 0; label < 10; ++label) CHECK(std::count(set.labels.begin(), set.labels.end(), label) == 100);
  // Every ten images hold all classes, in an order that changes.
  std::set<std::vector<std::int32_t>> orders;
  for (auto ten = set.labels.begin(); ten != set.labels.end(); ten += 10) {
    CHECK(std::set<std::int32_t>(ten, ten + 10).size() == 10);
    orders.emplace(ten, ten + 10);
  }
  CHECK(orders.size() > 90);
}

TEST_CASE("synthetic: an image depends on seed, split and index, not on how many there are") {
  const ImageSet set = synthetic({.images = 35});
  CHECK(set.take(13).pixels == synthetic({.images = 13}).pixels);
  CHECK(set.take(13).labels == synthetic({.images = 13}).labels);
  const ImageSet other_seed = synthetic({.images = 35, .seed = 1});
  const ImageSet other_split = synthetic({.images = 35, .split = Split::test});
  CHECK(other_split.source == "built-in synthetic test set");
  std::set<std::vector<std::uint8_t>> images;
  for (const ImageSet* one : {&set, &other_seed, &other_split}) {
    for (int i = 0; i < 35; ++i) {
      const auto image = one->image(i);
      images.emplace(image.begin(), image.end());
    }
  }
  CHECK(images.size() == 3 * 35);
}

TEST_CASE("synthetic: the normalization fits the images") {
  const ImageSet set = synthetic({.images = 2000});
  const auto measured = set.measure_normalization();
  for (std::size_t c = 0; c < 3; ++c) {
    // The mean brightness of an image varies by about 0.12 from image to image: six standard errors of 2000 images.
    CHECK(std::abs(measured.mean[c] - set.normalization.mean[c]) < 6 * 0.12 / std::sqrt(2000.0));
    CHECK(std::abs(measured.stddev[c] - set.normalization.stddev[c]) < 6 * 0.12 / std::sqrt(2000.0));
  }
}

TEST_CASE("synthetic: the mean images of the classes are alike") {
  // Light on dark is as likely as dark on light, so no class is brighter than another anywhere: a linear classifier has
  // nothing to hold on to.
  const ImageSet set = synthetic({.images = 2000});
  std::vector<double> mean(10 * 3072), overall(3072);
  for (std::size_t i = 0; i < 2000; ++i) {
    for (std::size_t p = 0; p < 3072; ++p) {
      const double value = set.pixels[i * 3072 + p] / 255.0;
      mean[static_cast<std::size_t>(set.labels[i]) * 3072 + p] += value / 200;
      overall[p] += value / 2000;
    }
  }
  // A pixel's standard deviation is at most 0.25, its mean over 200 images has 0.018: six of them.
  double worst = 0;
  for (std::size_t k = 0; k < mean.size(); ++k) worst = std::max(worst, std::abs(mean[k] - overall[k % 3072]));
  CHECK(worst < 6 * 0.018);
}

TEST_CASE("synthetic: drawing can be watched and ended") {
  int calls = 0;
  const ImageSet watched = synthetic({.images = 1100, .before_some = [&] { ++calls; }});
  CHECK(calls == 3);
  CHECK(watched.pixels == synthetic({.images = 1100}).pixels);
  const auto stop = [&] {
    if (--calls == 0) throw std::string("enough");
  };
  CHECK_THROWS_AS((void)synthetic({.images = 5000, .before_some = stop}), std::string);
  CHECK(calls == 0);
}

TEST_CASE("synthetic: fewer than one image is refused") {
  for (const int images : {0, -3}) {
    try {
      (void)synthetic({.images = images});
      FAIL_CHECK("no error for ", images);
    } catch (const ms::ArgumentError& error) {
      CHECK(error.message() == "synthetic: " + std::to_string(images) + " images were asked for; at least 1 is needed");
    }
  }
}

TEST_CASE("synthetic: so many images that their bytes could not be counted are refused") {
  CHECK_THROWS_WITH_AS((void)synthetic({.images = std::int64_t{1} << 62}),
                       doctest::Contains("at most 2147483648 are drawn"), ms::ArgumentError);
}

TEST_SUITE_END();

}  // namespace data_synthetic_test
