#include <meristem/core/shape.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <sstream>

#include <support/check.hpp>

namespace core_shape_test {

namespace {
namespace ms = meristem;
}

TEST_SUITE_BEGIN("unit");

TEST_CASE("shape: rank, extents, size and text") {
  const ms::Shape image{128, 32, 31, 3};
  CHECK(image.rank() == 4);
  CHECK(image[0] == 128);
  CHECK(image[3] == 3);
  CHECK(image.size() == 128 * 32 * 31 * 3);
  CHECK(image.to_string() == "(128, 32, 31, 3)");
  std::ostringstream text;
  text << ms::Shape{7};
  CHECK(text.str() == "(7)");
}

TEST_CASE("shape: rank 0 holds one number, an extent of 0 none") {
  CHECK(ms::Shape{}.rank() == 0);
  CHECK(ms::Shape{}.size() == 1);
  CHECK(ms::Shape{}.to_string() == "()");
  CHECK(ms::Shape{5, 0, 3}.size() == 0);
  // 0 wherever it stands, even beside extents whose product alone would overflow.
  const std::int64_t large = std::int64_t{1} << 40;
  CHECK(ms::Shape{large, large, 0}.size() == 0);
}

TEST_CASE("shape: append adds the innermost extent") {
  ms::Shape shape{4};
  shape.append(6);
  CHECK(shape == ms::Shape{4, 6});
}

TEST_CASE("shape: with replaces one extent and leaves the original") {
  const ms::Shape shape{4, 5, 6};
  CHECK(shape.with(1, 9) == ms::Shape{4, 9, 6});
  CHECK(shape == ms::Shape{4, 5, 6});
}

TEST_CASE("shape: equality looks at rank and every extent") {
  CHECK(ms::Shape{2, 3} == ms::Shape{2, 3});
  CHECK(ms::Shape{2, 3} != ms::Shape{2, 4});
  CHECK(ms::Shape{2, 3} != ms::Shape{3, 3});
  CHECK(ms::Shape{2, 3} != ms::Shape{2, 3, 1});
  CHECK(ms::Shape{} != ms::Shape{1});
}

TEST_CASE("shape: every misuse is a sentence") {
  const ms::Shape shape{4, 5};
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(shape[2]); }) ==
        "axis 2 does not exist in shape (4, 5)");
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(shape[-1]); }) ==
        "axis -1 does not exist in shape (4, 5)");
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(shape.with(2, 1)); }) ==
        "axis 2 does not exist in shape (4, 5)");
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(shape.with(1, -3)); }) ==
        "extent 1 of a shape is -3; extents are 0 or more");
  CHECK(support::message_of<ms::ShapeError>([] {
          ms::Shape{2, -1};
        }) == "extent 1 of a shape is -1; extents are 0 or more");
  CHECK(support::message_of<ms::ShapeError>([] { ms::Shape{1, 2, 3, 4, 5, 6}; }) == "a shape has at most 5 extents");
  const std::int64_t large = std::int64_t{1} << 32;
  CHECK(support::message_of<ms::ShapeError>([&] {
          static_cast<void>(ms::Shape{large, large}.size());
        }) == "the number of elements of shape (4294967296, 4294967296) exceeds 2^63 - 1");
}

TEST_SUITE_END();

}  // namespace core_shape_test
