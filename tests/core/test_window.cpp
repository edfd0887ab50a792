// Output sizes of sliding windows against counting the positions one by one.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include <meristem/core/window.hpp>
#include <support/check.hpp>

namespace core_window_test {

namespace ms = meristem;

TEST_SUITE_BEGIN("unit");

TEST_CASE("window: the output size is the number of positions that fit the padded map") {
  for (std::int64_t map = 1; map <= 9; ++map) {
    for (std::int64_t kernel = 1; kernel <= 5; ++kernel) {
      for (std::int64_t stride = 1; stride <= 3; ++stride) {
        for (std::int64_t padding = 0; padding <= 3; ++padding) {
          for (std::int64_t dilation = 1; dilation <= 2; ++dilation) {
            std::int64_t count = 0;
            const std::int64_t span = (kernel - 1) * dilation + 1;
            for (std::int64_t start = -padding; start + span <= map + padding; start += stride) ++count;
            const ms::Window window{
                .kernel = {kernel, 1}, .stride = {stride, 1}, .padding = {padding, 0}, .dilation = {dilation, 1}};
            INFO("map ", map, ", kernel ", kernel, ", stride ", stride, ", padding ", padding, ", dilation ", dilation);
            CHECK(window.reach() == ms::Extent2(span, 1));
            if (count == 0) {
              CHECK_THROWS_AS(window.check("conv1", {map, 7}), ms::ShapeError);
            } else {
              CHECK_NOTHROW(window.check("conv1", {map, 7}));
              CHECK(window.output({map, 7}) == ms::Extent2(count, 7));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("window: what cannot slide is refused in a sentence") {
  const auto message = [](const ms::Window& window) {
    return support::message_of<ms::ArgumentError>([&] { window.check("conv1 (Conv2d)"); });
  };
  CHECK(message({.kernel = {0, 3}}) == "conv1 (Conv2d): the kernel is 0x3; it must be at least 1x1");
  CHECK(message({.kernel = 3, .stride = 0}) == "conv1 (Conv2d): the stride is 0x0; it must be at least 1x1");
  CHECK(message({.kernel = 3, .padding = {0, -1}}) == "conv1 (Conv2d): the padding is 0x-1; it must be at least 0x0");
  CHECK(message({.kernel = 3, .dilation = 0}) == "conv1 (Conv2d): the dilation is 0x0; it must be at least 1x1");
  constexpr std::int64_t huge = std::int64_t{1} << 62, most = 0x7fffffff;
  CHECK(message({.kernel = 3, .padding = huge}) ==
        "conv1 (Conv2d): the padding is 4611686018427387904x4611686018427387904; it must be at most "
        "2147483647x2147483647");
  CHECK(support::contains(message({.kernel = {1, huge}}), "the kernel is 1x4611686018427387904; it must be at most"));
  CHECK(support::contains(message({.kernel = 3, .dilation = most + 1}), "the dilation is 2147483648x2147483648"));
  CHECK(support::contains(message({.stride = huge}), "the stride is"));
  const ms::Window largest{.kernel = most, .stride = 1, .padding = most, .dilation = most};
  CHECK(largest.reach().y == (most - 1) * most + 1);
  CHECK_THROWS_AS(largest.check("conv1", {most, most}), ms::ShapeError);
  CHECK(support::contains(support::message_of<ms::ShapeError>([&] {
                            ms::Window{}.check("conv1", {huge, 1});
                          }),
                          "a map of 4611686018427387904x1 is larger than 2147483647x2147483647"));
  CHECK(support::message_of<ms::ShapeError>([] {
          ms::Window{.kernel = 5, .padding = 1}.check("conv1 (Conv2d)", {2, 8});
        }) ==
        "conv1 (Conv2d): the kernel 5x5 spans 5x5, more than the map of 2x8 with padding 1x1; use a smaller kernel, "
        "more padding or a larger map");
}

TEST_SUITE_END();

}  // namespace core_window_test
