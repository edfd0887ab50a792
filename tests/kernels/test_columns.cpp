#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <meristem/kernels/columns.cuh>
#include <support/check.hpp>

namespace kernels_columns_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("copy_columns: some columns of one matrix go into another's, the rest stays") {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t rows : {0, 1, 37}) {
      const auto from = support::normal_values<float>(rows * 11, 1),
                 before = support::normal_values<float>(rows * 6, 2);
      const auto a = ms::from_host<float>(ctx, {rows, 11}, from);
      auto b = ms::from_host<float>(ctx, {rows, 6}, before);
      ms::kernels::copy_columns<float>(ctx, a, 7, b.view(), 1, 4);
      ms::kernels::copy_columns<float>(ctx, a, 11, b.view(), 6, 0);
      const std::vector<float> after = ms::to_host(ctx, b);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < 6; ++j) {
          const bool copied = j >= 1 && j < 5;
          CHECK(after[static_cast<std::size_t>(i * 6 + j)] == (copied ? from[static_cast<std::size_t>(i * 11 + j + 6)]
                                                                      : before[static_cast<std::size_t>(i * 6 + j)]));
        }
      }
    }
  });
}

TEST_CASE("copy_columns: what is refused") {
  ms::Context ctx;
  const auto a = ms::zeros<double>(ctx, {2, 5}), other = ms::zeros<double>(ctx, {3, 5});
  auto b = ms::zeros<double>(ctx, {2, 4});
  const auto refused = [&](const ms::Tensor<double>& from, std::int64_t from_first, std::int64_t to_first,
                           std::int64_t columns) {
    return message_of<ms::ShapeError>(
        [&] { ms::kernels::copy_columns<double>(ctx, from, from_first, b.view(), to_first, columns); });
  };
  CHECK(contains(refused(a, 2, 0, 4), "copy_columns: 4 columns from 2 of (2, 5) to 0 of (2, 4)"));
  CHECK(contains(refused(a, 0, 1, 4), "both need those columns"));
  CHECK(contains(refused(a, -1, 0, 2), "both need those columns"));
  CHECK(contains(refused(other, 0, 0, 2), "the same rows"));
}

TEST_SUITE_END();

}  // namespace kernels_columns_test
