// A row-major matrix inside a wider one, for functions that take row strides.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>

namespace support {

/// A matrix whose rows lie apart; `check_gaps` fails if anything between them was written.
template <class T>
class Strided {
 public:
  static constexpr std::int64_t before = 2, after = 3;
  static constexpr T gap = T(-12345);

  Strided(meristem::Context& ctx, std::int64_t rows, std::int64_t columns, const std::vector<T>& values)
      : rows_(rows),
        columns_(columns),
        all_(meristem::from_host<T>(ctx, {rows, before + columns + after}, spread(rows, columns, values))) {}

  [[nodiscard]] meristem::View<T> view() { return all_.view().slice(1, before, before + columns_); }

  [[nodiscard]] std::vector<T> values(meristem::Context& ctx) const {
    const std::vector<T> all = meristem::to_host(ctx, all_);
    std::vector<T> result;
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < columns_; ++j) result.push_back(all[at(i, before + j)]);
    }
    return result;
  }

  void check_gaps(meristem::Context& ctx) const {
    const std::vector<T> all = meristem::to_host(ctx, all_);
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < before + columns_ + after; ++j) {
        if (j >= before && j < before + columns_) continue;
        INFO("row ", i, ", column ", j - before);
        REQUIRE(all[at(i, j)] == gap);
      }
    }
  }

 private:
  [[nodiscard]] std::size_t at(std::int64_t i, std::int64_t j) const {
    return static_cast<std::size_t>(i * (before + columns_ + after) + j);
  }
  static std::vector<T> spread(std::int64_t rows, std::int64_t columns, const std::vector<T>& values) {
    const std::int64_t stride = before + columns + after;
    std::vector<T> all(static_cast<std::size_t>(rows * stride), gap);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        all[static_cast<std::size_t>(i * stride + before + j)] = values[static_cast<std::size_t>(i * columns + j)];
      }
    }
    return all;
  }

  std::int64_t rows_, columns_;
  meristem::Tensor<T> all_;
};

}  // namespace support
