#include <meristem/core/non_finite.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>
#include <support/check.hpp>

namespace core_non_finite_test {

namespace {

namespace ms = meristem;
using ms::detail::NonFiniteSearch;
using ms::detail::Part;

/// By plain loops.
template <class T>
std::optional<std::pair<std::int64_t, std::int64_t>> first_of(const std::vector<T>& values, std::int64_t rows,
                                                              std::int64_t columns, std::int64_t stride, Part part) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const bool counts = part == Part::all || (part == Part::lower ? j <= i : j >= i);
      const double value = static_cast<double>(values[static_cast<std::size_t>(i * stride + j)]);
      if (counts && !std::isfinite(value)) return std::pair(i, j);
    }
  }
  return std::nullopt;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("non-finite: the first of each matrix is found, in all of it or a triangle", T, float, double) {
  static constexpr T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
  support::for_every_executor([](ms::Context& ctx) {
    for (const Part part : {Part::all, Part::lower, Part::upper}) {
      NonFiniteSearch<T> search(ctx, 9);
      std::vector<ms::Tensor<T>> kept;
      std::vector<std::optional<std::pair<std::int64_t, std::int64_t>>> expected;
      const auto add = [&](std::int64_t rows, std::int64_t columns, std::int64_t stride,
                           const std::vector<std::pair<std::int64_t, T>>& bad) {
        auto values = support::normal_values<T>(rows * stride, 7);
        for (const auto& [at, value] : bad) values[static_cast<std::size_t>(at)] = value;
        kept.push_back(ms::from_host<T>(ctx, {rows, stride}, values));
        search.add(ms::View<const T>(kept.back()).slice(1, 0, columns), part);
        expected.push_back(first_of(values, rows, columns, stride, part));
      };
      add(5, 5, 5, {});
      add(33, 33, 33, {{40, nan}, {32 * 33 + 3, -infinity}, {700, infinity}});
      add(33, 33, 40, {{39, nan}});  // beside the matrix
      add(2, 2, 3, {{1, infinity}, {3, -infinity}});
      add(0, 4, 4, {});
      add(1, 300, 300, {{299, nan}});
      add(300, 1, 1, {{299, nan}, {17, nan}});
      add(1, 1, 1, {});
      add(4, 4, 4, {{0, infinity}});  // beyond those that a GPU searches at once
      const auto found = search.found(ctx);
      REQUIRE(found.size() == expected.size());
      for (std::size_t k = 0; k < found.size(); ++k) {
        CAPTURE(k);
        REQUIRE(found[k].has_value() == expected[k].has_value());
        if (found[k]) CHECK(std::pair(found[k]->row, found[k]->column) == *expected[k]);
      }
    }
  });
}

TEST_SUITE_END();

}  // namespace core_non_finite_test
