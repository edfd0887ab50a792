#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <meristem/data/augmentation.hpp>

namespace data_augmentation_test {

namespace ms = meristem;
using ms::data::Augmentation;
using ms::data::AugmentationDraw;
using ms::data::PadMode;

namespace {

/// The same operation the long way round: pads the image, cuts the window, then mirrors it.
std::vector<std::uint8_t> pad_cut_mirror(const std::vector<std::uint8_t>& image, int height, int width, int channels,
                                         int padding, PadMode mode, const AugmentationDraw& drawn) {
  const int padded_width = width + 2 * padding;
  std::vector<std::uint8_t> padded;
  for (int y = -padding; y < height + padding; ++y) {
    for (int x = -padding; x < width + padding; ++x) {
      int from_y = y, from_x = x;
      const bool inside = y >= 0 && y < height && x >= 0 && x < width;
      if (mode == PadMode::reflect) {
        // Walks outwards from the edge, back over the pixels inside it.
        if (y < 0) from_y = 0 + (0 - y);
        if (y >= height) from_y = (height - 1) - (y - (height - 1));
        if (x < 0) from_x = 0 + (0 - x);
        if (x >= width) from_x = (width - 1) - (x - (width - 1));
      }
      for (int c = 0; c < channels; ++c) {
        const bool black = mode == PadMode::zero && !inside;
        padded.push_back(black ? std::uint8_t{0}
                               : image.at(static_cast<std::size_t>((from_y * width + from_x) * channels + c)));
      }
    }
  }
  std::vector<std::uint8_t> result(image.size());
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int to_x = drawn.flip ? width - 1 - x : x;
      const int row = y + padding + drawn.top, column = x + padding + drawn.left;
      for (int c = 0; c < channels; ++c) {
        result.at(static_cast<std::size_t>((y * width + to_x) * channels + c)) =
            padded.at(static_cast<std::size_t>((row * padded_width + column) * channels + c));
      }
    }
  }
  return result;
}

std::string complaint(const Augmentation& augmentation, int height, int width) {
  try {
    augmentation.check(height, width);
  } catch (const ms::ArgumentError& error) {
    return error.message();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("augmentation: crop and flip against pad, cut, mirror") {
  struct Size {
    int height, width, channels, padding;
  };
  for (const Size size : {Size{1, 1, 1, 0}, Size{5, 7, 3, 2}, Size{7, 5, 1, 4}, Size{2, 3, 4, 1}, Size{32, 32, 3, 4}}) {
    std::vector<std::uint8_t> image;
    for (int i = 0; i < size.height * size.width * size.channels; ++i) {
      image.push_back(static_cast<std::uint8_t>(1 + i * 37 % 255));
    }
    for (const PadMode mode : {PadMode::zero, PadMode::reflect}) {
      const Augmentation augmentation{.crop_padding = size.padding, .flip = true, .pad_mode = mode};
      for (int top = -size.padding; top <= size.padding; ++top) {
        for (int left = -size.padding; left <= size.padding; ++left) {
          for (const bool flip : {false, true}) {
            const AugmentationDraw drawn{.top = top, .left = left, .flip = flip};
            std::vector<std::uint8_t> result(image.size());
            augmentation.apply(drawn, image.data(), size.height, size.width, size.channels, result.data());
            INFO(size.height, " x ", size.width, " x ", size.channels, " top ", top, " left ", left, " flip ", flip);
            CHECK(result == pad_cut_mirror(image, size.height, size.width, size.channels, size.padding, mode, drawn));
          }
        }
      }
    }
  }
}

TEST_CASE("augmentation: draws are a pure function of seed, epoch and index") {
  const Augmentation augmentation{.crop_padding = 4, .flip = true};
  int same_epoch = 0, same_seed = 0, same_index = 0;
  for (int i = 0; i < 100; ++i) {
    const AugmentationDraw drawn = augmentation.draw(7, 3, i);
    CHECK(drawn == augmentation.draw(7, 3, i));
    same_seed += drawn == augmentation.draw(8, 3, i);
    same_epoch += drawn == augmentation.draw(7, 4, i);
    same_index += drawn == augmentation.draw(7, 3, i + 1);
  }
  // 162 equally likely draws: of 100 pairs 0.6 agree on average, and 10 or more with probability below 1e-8.
  CHECK(same_seed < 10);
  CHECK(same_epoch < 10);
  CHECK(same_index < 10);
}

TEST_CASE("augmentation: every offset and both mirrorings are equally likely") {
  const Augmentation augmentation{.crop_padding = 2, .flip = true};
  std::map<int, int> tops, lefts, flips;
  constexpr int draws = 10000;
  for (int i = 0; i < draws; ++i) {
    const AugmentationDraw drawn = augmentation.draw(1, 0, i);
    ++tops[drawn.top];
    ++lefts[drawn.left];
    ++flips[drawn.flip];
  }
  // Six standard deviations of a binomial count: sqrt(10000 * 0.2 * 0.8) = 40 and sqrt(10000 / 4) = 50.
  REQUIRE(tops.size() == 5);
  REQUIRE(lefts.size() == 5);
  for (int offset = -2; offset <= 2; ++offset) {
    CHECK(std::abs(tops[offset] - draws / 5) < 6 * 40);
    CHECK(std::abs(lefts[offset] - draws / 5) < 6 * 40);
  }
  CHECK(std::abs(flips[1] - draws / 2) < 6 * 50);
}

TEST_CASE("augmentation: without padding or flip nothing is drawn") {
  const Augmentation none;
  CHECK_FALSE(none.active());
  CHECK(Augmentation{.crop_padding = 1}.active());
  CHECK(Augmentation{.flip = true}.active());
  for (int i = 0; i < 20; ++i) CHECK(none.draw(1, 1, i) == AugmentationDraw{});
}

TEST_CASE("augmentation: padding out of range is refused") {
  CHECK(complaint({.crop_padding = -1}, 32, 32) == "augmentation: crop_padding is -1; it must be 0 or more");
  CHECK(complaint({.crop_padding = 5}, 8, 5) ==
        "augmentation: crop_padding is 5 for images of 8 x 5; it must be less than both");
  CHECK(complaint({.crop_padding = 4}, 8, 5).empty());
  CHECK(complaint({}, 1, 1).empty());
}

TEST_SUITE_END();

}  // namespace data_augmentation_test
