#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

#include <meristem/core/text.hpp>

namespace core_text_test {

TEST_SUITE_BEGIN("unit");

namespace ms = meristem;

TEST_CASE("text: digits in groups of three") {
  CHECK(ms::grouped(0) == "0");
  CHECK(ms::grouped(999) == "999");
  CHECK(ms::grouped(1000) == "1,000");
  CHECK(ms::grouped(1234567) == "1,234,567");
  CHECK(ms::grouped(-999) == "-999");
  CHECK(ms::grouped(-123456) == "-123,456");
  CHECK(ms::grouped(std::numeric_limits<std::int64_t>::min()) == "-9,223,372,036,854,775,808");
}

TEST_CASE("text: words wrapped into lines") {
  CHECK(ms::wrapped("", 10) == "");
  CHECK(ms::wrapped("one two three", 13) == "one two three");
  CHECK(ms::wrapped("one two three", 12) == "one two\nthree");
  CHECK(ms::wrapped("one two three", 7, 2) == "  one\n  two\n  three");
  CHECK(ms::wrapped("a incomprehensibilities b", 6) == "a\nincomprehensibilities\nb");
}

TEST_SUITE_END();

}  // namespace core_text_test
