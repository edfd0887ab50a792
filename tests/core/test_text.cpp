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

TEST_CASE("text: what is UTF-8, and what becomes of other bytes") {
  for (const char* good : {"", "abc", "caf\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\x7f", "\xc2\x80",
                           "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    CAPTURE(good);
    CHECK(ms::is_utf8(good));
    CHECK(ms::to_utf8(good) == good);
  }
  // Cut short, without a start, longer than it has to be, a surrogate, beyond the last character.
  for (const char* bad : {"caf\xe9", "\xc3", "\xa9", "\xc0\xaf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xff", "\xf8\x88\x80\x80\x80", "\xe2\x82", "\xc3\xa9\xe9"}) {
    CAPTURE(bad);
    CHECK_FALSE(ms::is_utf8(bad));
    CHECK(ms::is_utf8(ms::to_utf8(bad)));
  }
  // Latin-1's characters are Unicode's first 256.
  CHECK(ms::to_utf8("caf\xe9 \xff\x80") == "caf\xc3\xa9 \xc3\xbf\xc2\x80");
}

TEST_SUITE_END();

}  // namespace core_text_test
