#include <meristem/core/view.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

#include <support/check.hpp>

namespace core_view_test {

namespace {

namespace ms = meristem;

std::vector<int> counted(int count) {
  std::vector<int> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("view: is trivially copyable, as kernels need it") {
  CHECK(std::is_trivially_copyable_v<ms::View<double>>);
  CHECK(std::is_trivially_copyable_v<ms::View<const float>>);
}

TEST_CASE("view: the last axis is innermost") {
  auto values = counted(24);
  const ms::View<int> view(values.data(), {2, 3, 4});
  CHECK(view.rank() == 3);
  CHECK(view.stride(0) == 12);
  CHECK(view.stride(1) == 4);
  CHECK(view.stride(2) == 1);
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k) REQUIRE(view(i, j, k) == 12 * i + 4 * j + k);
    }
  }
  view(1, 2, 3) = -5;
  CHECK(values[23] == -5);
  CHECK(view.shape() == ms::Shape{2, 3, 4});
  CHECK(view.size() == 24);
}

TEST_CASE("view: rank 0 is one number, a default view too but without data") {
  int number = 3;
  const ms::View<int> view(&number, {});
  CHECK(view.size() == 1);
  CHECK(view() == 3);
  CHECK(view.is_contiguous());
  CHECK(ms::View<int>().data_handle() == nullptr);
}

TEST_CASE("view: of mutable elements converts to one of const elements, strides included") {
  auto values = counted(12);
  const ms::View<int> part = ms::View<int>(values.data(), {3, 4}).slice(1, 1, 3);
  const ms::View<const int> constant = part;
  CHECK(constant.shape() == ms::Shape{3, 2});
  CHECK(constant.stride(0) == 4);
  CHECK(constant(2, 1) == 10);
  CHECK_FALSE(std::is_convertible_v<ms::View<const int>, ms::View<int>>);
}

TEST_CASE("view: slice keeps strides and moves the start") {
  auto values = counted(24);
  const ms::View<int> view(values.data(), {2, 3, 4});
  const auto rows = view.slice(0, 1, 2);
  CHECK(rows.shape() == ms::Shape{1, 3, 4});
  CHECK(rows(0, 0, 0) == 12);
  CHECK(rows.is_contiguous());
  const auto columns = view.slice(2, 1, 3);
  CHECK(columns(1, 2, 1) == 22);
  CHECK_FALSE(columns.is_contiguous());
  const auto none = view.slice(1, 3, 3);
  CHECK(none.empty());
  CHECK(none.data_handle() == values.data());
}

TEST_CASE("view: contiguity ignores axes of extent 1 and empty views") {
  auto values = counted(12);
  const ms::View<int> view(values.data(), {3, 4});
  CHECK(view.is_contiguous());
  CHECK(view.slice(0, 1, 2).slice(1, 1, 3).is_contiguous());  // one row: its stride is never used
  CHECK_FALSE(view.slice(1, 0, 1).is_contiguous());           // one column of three rows
  CHECK(view.slice(0, 0, 1).slice(1, 0, 1).is_contiguous());
  CHECK(view.slice(1, 2, 2).is_contiguous());
}

TEST_CASE("view: reshape and as_matrix see the same elements") {
  auto values = counted(24);
  const ms::View<int> view(values.data(), {2, 3, 4});
  CHECK(view.reshape({6, 4})(5, 3) == 23);
  CHECK(view.reshape({24})(13) == 13);
  const auto matrix = view.as_matrix();
  CHECK(matrix.shape() == ms::Shape{6, 4});
  CHECK(matrix(4, 1) == view(1, 1, 1));
  CHECK(ms::View<int>(values.data(), {24}).as_matrix().shape() == ms::Shape{1, 24});
  // A matrix stays what it is, gaps between its rows included.
  const auto part = matrix.slice(1, 1, 3).as_matrix();
  CHECK(part.stride(0) == 4);
  CHECK(ms::View<int>(nullptr, {0, 5, 7}).as_matrix().shape() == ms::Shape{0, 7});
}

TEST_CASE("view: every misuse is a sentence") {
  auto values = counted(12);
  const ms::View<int> view(values.data(), {3, 4});
  CHECK(support::message_of<ms::ShapeError>([] {
          ms::View<int>(nullptr, {3, 4});
        }) == "a view of shape (3, 4) needs data, but the pointer is null");
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(view.slice(1, 2, 5)); }) ==
        "slice [2, 5) of axis 1 does not fit shape (3, 4)");
  CHECK_THROWS_AS(static_cast<void>(view.slice(2, 0, 1)), ms::ShapeError);
  CHECK_THROWS_AS(static_cast<void>(view.slice(-1, 0, 1)), ms::ShapeError);
  CHECK_THROWS_AS(static_cast<void>(view.slice(0, -1, 1)), ms::ShapeError);
  CHECK_THROWS_AS(static_cast<void>(view.slice(0, 2, 1)), ms::ShapeError);
  CHECK(support::message_of<ms::ShapeError>([&] {
          static_cast<void>(view.reshape({5, 2}));
        }) == "cannot reshape (3, 4) with 12 elements to (5, 2) with 10");
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(view.slice(1, 0, 2).reshape({6})); }) ==
        "cannot reshape (3, 2) to (6): it is not contiguous");
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(ms::View<int>(values.data(), {}).as_matrix()); }) ==
        "a tensor of rank 0 has no last axis to make a matrix of");
  const ms::View<int> cube(values.data(), {2, 3, 2});
  CHECK_THROWS_AS(static_cast<void>(cube.slice(1, 0, 2).as_matrix()), ms::ShapeError);
}

TEST_CASE("view: extents whose product does not fit are told, or stand in an empty view") {
  constexpr std::int64_t big = std::int64_t{1} << 40;
  int number = 3;
  CHECK(support::message_of<ms::ShapeError>([&] {
          ms::View<int>(&number, {big, big});
        }) == "the number of elements of shape (1099511627776, 1099511627776) exceeds 2^63 - 1");
  CHECK(support::contains(support::message_of<ms::ShapeError>([&] {
                            ms::View<int>(&number, {big, big >> 18});
                          }),
                          "4 bytes each, exceed 2^63 - 1 bytes"));
  for (const ms::Shape& shape : {ms::Shape{0, big, big}, ms::Shape{big, 0, big}, ms::Shape{big, big, 0}}) {
    const ms::View<int> view(nullptr, shape);
    CHECK(view.empty());
    CHECK(view.is_contiguous());
    CHECK(view.shape() == shape);
  }
  CHECK_THROWS_AS((void)ms::View<int>(nullptr, {big, big, 0}).as_matrix(), ms::ShapeError);
  CHECK(ms::View<int>(nullptr, {big, 0, 7}).as_matrix().shape() == ms::Shape{0, 7});
}

TEST_SUITE_END();

}  // namespace core_view_test
