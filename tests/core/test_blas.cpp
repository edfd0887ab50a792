#include <meristem/core/blas.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>
#include <support/check.hpp>
#include <support/strided.hpp>

namespace core_blas_test {

namespace {

namespace ms = meristem;
using ms::Side;
using ms::Transpose;
using ms::Triangle;
using support::Strided;

const std::int64_t sizes[] = {0, 1, 31, 33, 64};
const Transpose transposes[] = {Transpose::no, Transpose::yes};
const Triangle triangles[] = {Triangle::lower, Triangle::upper};

std::size_t at(std::int64_t row, std::int64_t column, std::int64_t columns) {
  return static_cast<std::size_t>(row * columns + column);
}

bool in_triangle(Triangle triangle, std::int64_t i, std::int64_t j) {
  return triangle == Triangle::lower ? j <= i : j >= i;
}

/// alpha op(a) op(b) + beta c by three loops, and the largest sum of absolute terms, which scales the rounding error.
struct Product {
  std::vector<double> values;
  double magnitude = 0.0;
};
template <class T>
Product product(Transpose ta, Transpose tb, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
                const std::vector<T>& a, const std::vector<T>& b, double beta, const std::vector<T>& c) {
  Product result;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0.0, absolute = 0.0;
      for (std::int64_t l = 0; l < k; ++l) {
        const double x = a[ta == Transpose::no ? at(i, l, k) : at(l, i, m)];
        const double y = b[tb == Transpose::no ? at(l, j, n) : at(j, l, k)];
        sum += x * y;
        absolute += std::abs(x * y);
      }
      sum *= alpha;
      absolute *= std::abs(alpha);
      if (beta != 0.0) {
        sum += beta * c[at(i, j, n)];
        absolute += std::abs(beta * c[at(i, j, n)]);
      }
      result.values.push_back(sum);
      result.magnitude = std::max(result.magnitude, absolute);
    }
  }
  return result;
}

/// A sum of k products in any order, two scalings and an addition: at most k + 4 roundings of each term.
template <class T>
double product_tolerance(std::int64_t k, double magnitude) {
  return static_cast<double>(k + 4) * 0.5 * support::eps<T> * magnitude;
}

template <class T>
void check_gemm(ms::Context& ctx, Transpose ta, Transpose tb, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                T beta) {
  INFO("m ", m, ", n ", n, ", k ", k, ", a transposed ", ta == Transpose::yes, ", b transposed ", tb == Transpose::yes,
       ", alpha ", double(alpha), ", beta ", double(beta));
  const auto a = support::normal_values<T>(m * k, 1);
  const auto b = support::normal_values<T>(k * n, 2);
  // With beta = 0 the old content must not matter, not even NaN.
  const auto c = beta == T(0) ? std::vector<T>(static_cast<std::size_t>(m * n), std::numeric_limits<T>::quiet_NaN())
                              : support::normal_values<T>(m * n, 3);
  Strided<T> sa(ctx, ta == Transpose::no ? m : k, ta == Transpose::no ? k : m, a);
  Strided<T> sb(ctx, tb == Transpose::no ? k : n, tb == Transpose::no ? n : k, b);
  Strided<T> sc(ctx, m, n, c);
  ms::gemm(ctx, ta, tb, alpha, sa.view(), sb.view(), beta, sc.view());
  const Product expected = product(ta, tb, m, n, k, double(alpha), a, b, double(beta), c);
  support::check_close(sc.values(ctx), expected.values, product_tolerance<T>(k, expected.magnitude));
  sc.check_gaps(ctx);
}

template <class T>
void check_syrk(ms::Context& ctx, Triangle triangle, Transpose transpose, std::int64_t n, std::int64_t k, T alpha,
                T beta) {
  INFO("n ", n, ", k ", k, ", lower ", triangle == Triangle::lower, ", transposed ", transpose == Transpose::yes,
       ", alpha ", double(alpha), ", beta ", double(beta));
  const auto a = support::normal_values<T>(n * k, 4);
  auto c = support::normal_values<T>(n * n, 5);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      if (!in_triangle(triangle, i, j) || beta == T(0)) c[at(i, j, n)] = std::numeric_limits<T>::quiet_NaN();
    }
  }
  Strided<T> sa(ctx, transpose == Transpose::no ? n : k, transpose == Transpose::no ? k : n, a);
  Strided<T> sc(ctx, n, n, c);
  ms::syrk(ctx, triangle, transpose, alpha, sa.view(), beta, sc.view());
  const Transpose other = transpose == Transpose::no ? Transpose::yes : Transpose::no;
  const Product expected = product(transpose, other, n, n, k, double(alpha), a, a, double(beta), c);
  const auto actual = sc.values(ctx);
  std::vector<T> inside, outside, outside_before;
  std::vector<double> inside_expected;
  double magnitude = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      if (in_triangle(triangle, i, j)) {
        inside.push_back(actual[at(i, j, n)]);
        inside_expected.push_back(expected.values[at(i, j, n)]);
        double absolute = beta == T(0) ? 0.0 : std::abs(double(beta) * double(c[at(i, j, n)]));
        for (std::int64_t l = 0; l < k; ++l) {
          const double x = a[transpose == Transpose::no ? at(i, l, k) : at(l, i, n)];
          const double y = a[transpose == Transpose::no ? at(j, l, k) : at(l, j, n)];
          absolute += std::abs(double(alpha) * x * y);
        }
        magnitude = std::max(magnitude, absolute);
      } else {
        outside.push_back(actual[at(i, j, n)]);
        outside_before.push_back(c[at(i, j, n)]);
      }
    }
  }
  support::check_close(inside, inside_expected, product_tolerance<T>(k, magnitude));
  support::check_same_bits(outside, outside_before, "the other triangle");
  sc.check_gaps(ctx);
}

/// Checks alpha b = op(a) x (left) or alpha b = x op(a) (right). Substitution solves a system whose matrix is off by at
/// most (n + 1) roundings of each element (N. Higham, Accuracy and Stability of Numerical Algorithms, theorem 8.5).
template <class T>
void check_trsm(ms::Context& ctx, Side side, Triangle triangle, Transpose transpose, std::int64_t m, std::int64_t p,
                T alpha) {
  INFO("b (", m, ", ", p, "), left ", side == Side::left, ", lower ", triangle == Triangle::lower, ", transposed ",
       transpose == Transpose::yes);
  const std::int64_t n = side == Side::left ? m : p;
  auto a = support::normal_values<T>(n * n, 6, 1.0 / std::max(1.0, double(n)));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      if (i == j) a[at(i, j, n)] += T(2);
      if (!in_triangle(triangle, i, j)) a[at(i, j, n)] = std::numeric_limits<T>::quiet_NaN();
    }
  }
  const auto b = support::normal_values<T>(m * p, 7);
  Strided<T> sa(ctx, n, n, a);
  Strided<T> sb(ctx, m, p, b);
  ms::trsm(ctx, side, triangle, transpose, alpha, sa.view(), sb.view());
  const auto x = sb.values(ctx);
  const auto op_a = [&](std::int64_t i, std::int64_t j) {
    const std::int64_t row = transpose == Transpose::no ? i : j, column = transpose == Transpose::no ? j : i;
    return in_triangle(triangle, row, column) ? double(a[at(row, column, n)]) : 0.0;
  };
  std::vector<double> residual, zero(static_cast<std::size_t>(m * p), 0.0);
  double magnitude = 0.0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < p; ++j) {
      double sum = -double(alpha) * double(b[at(i, j, p)]), absolute = std::abs(sum);
      for (std::int64_t l = 0; l < n; ++l) {
        const double term =
            side == Side::left ? op_a(i, l) * double(x[at(l, j, p)]) : double(x[at(i, l, p)]) * op_a(l, j);
        sum += term;
        absolute += std::abs(term);
      }
      residual.push_back(sum);
      magnitude = std::max(magnitude, absolute);
    }
  }
  support::check_close(residual, zero, product_tolerance<T>(n, magnitude));
  sb.check_gaps(ctx);
}

/// A matrix with any strides; View itself offers only those that slicing makes.
template <class T>
ms::View<T> with_strides(T* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                         std::int64_t column_stride) {
  struct Layout {
    T* data;
    int rank;
    std::int64_t extents[ms::View<T>::max_rank];
    std::int64_t strides[ms::View<T>::max_rank];
  };
  static_assert(sizeof(Layout) == sizeof(ms::View<T>));
  const auto view = std::bit_cast<ms::View<T>>(Layout{data, 2, {rows, columns}, {row_stride, column_stride}});
  REQUIRE(view.stride(0) == row_stride);
  REQUIRE(view.stride(1) == column_stride);
  return view;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("blas: gemm agrees with three loops for every transposition, size and scaling", T, float, double) {
  ms::Context ctx;
  for (const std::int64_t m : sizes) {
    for (const std::int64_t n : sizes) {
      for (const std::int64_t k : sizes) {
        for (const Transpose ta : transposes) {
          for (const Transpose tb : transposes) {
            check_gemm<T>(ctx, ta, tb, m, n, k, T(1), T(0));
            check_gemm<T>(ctx, ta, tb, m, n, k, T(-0.5), T(0.25));
            check_gemm<T>(ctx, ta, tb, m, n, k, T(2), T(1));
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("blas: alpha 0 leaves the operands unread", T, float, double) {
  ms::Context ctx;
  for (const std::int64_t n : {5, 64}) {
    const std::vector<T> nan(static_cast<std::size_t>(n * n), std::numeric_limits<T>::quiet_NaN());
    const std::vector<T> threes(nan.size(), T(3)), sixes(nan.size(), T(6)), zeros(nan.size(), T(0));
    auto a = ms::from_host<T>(ctx, {n, n}, nan);
    auto c = ms::from_host<T>(ctx, {n, n}, threes);
    ms::gemm(ctx, Transpose::no, Transpose::no, 0, a, a, 2, c.view());
    support::check_same_bits(ms::to_host(ctx, c), sixes, "gemm");
    c = ms::from_host<T>(ctx, {n, n}, threes);
    ms::syrk(ctx, Triangle::lower, Transpose::no, 0, a, 2, c.view());
    ms::symmetrize(ctx, Triangle::lower, c.view());
    support::check_same_bits(ms::to_host(ctx, c), sixes, "syrk");
    c = ms::from_host<T>(ctx, {n, n}, nan);
    ms::gemm(ctx, Transpose::no, Transpose::no, 0, a, a, 0, c.view());
    support::check_same_bits(ms::to_host(ctx, c), zeros, "gemm with beta 0");
    ms::trsm(ctx, Side::left, Triangle::lower, Transpose::no, 0, a, a.view());
    support::check_same_bits(ms::to_host(ctx, a), zeros, "trsm");
  }
}

TEST_CASE_TEMPLATE("blas: gemm on one row or one column ignores the unused stride", T, float, double) {
  ms::Context ctx;
  const auto values = support::normal_values<T>(12, 8);
  auto all = ms::from_host<T>(ctx, {3, 4}, values);
  auto dot = ms::zeros<T>(ctx, {1, 1});
  // Column 1 is (3, 1) with row stride 4; its transpose times itself is a sum of squares.
  const auto column = all.view().slice(1, 1, 2);
  ms::gemm(ctx, Transpose::yes, Transpose::no, 1, column, column, 0, dot.view());
  const double a = values[1], b = values[5], c = values[9];
  support::check_close(ms::to_host(ctx, dot), {a * a + b * b + c * c}, product_tolerance<T>(3, a * a + b * b + c * c));
}

TEST_CASE_TEMPLATE("blas: syrk agrees with three loops and leaves the other triangle alone", T, float, double) {
  ms::Context ctx;
  for (const std::int64_t n : sizes) {
    for (const std::int64_t k : sizes) {
      for (const Triangle triangle : triangles) {
        for (const Transpose transpose : transposes) {
          check_syrk<T>(ctx, triangle, transpose, n, k, T(1), T(0));
          check_syrk<T>(ctx, triangle, transpose, n, k, T(-0.5), T(0.25));
          check_syrk<T>(ctx, triangle, transpose, n, k, T(2), T(1));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("blas: trsm solves for every side, triangle and transposition", T, float, double) {
  ms::Context ctx;
  for (const std::int64_t m : sizes) {
    for (const std::int64_t p : sizes) {
      for (const Triangle triangle : triangles) {
        for (const Transpose transpose : transposes) {
          check_trsm<T>(ctx, Side::left, triangle, transpose, m, p, T(1));
          check_trsm<T>(ctx, Side::right, triangle, transpose, m, p, T(-1.5));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("blas: symmetrize mirrors the named triangle, bit for bit", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t n : {0, 1, 2, 31, 32, 33, 64, 97}) {
      for (const Triangle from : triangles) {
        INFO("n ", n, ", from lower ", from == Triangle::lower);
        const auto before = support::normal_values<T>(n * n, 9);
        Strided<T> a(ctx, n, n, before);
        ms::symmetrize(ctx, from, a.view());
        std::vector<T> expected = before;
        for (std::int64_t i = 0; i < n; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            if (!in_triangle(from, i, j)) expected[at(i, j, n)] = before[at(j, i, n)];
          }
        }
        support::check_same_bits(a.values(ctx), expected);
        a.check_gaps(ctx);
      }
    }
  });
}

TEST_CASE_TEMPLATE("blas: the same call gives the same bits twice", T, float, double) {
  ms::Context ctx;
  auto a = ms::from_host<T>(ctx, {70, 130}, support::normal_values<T>(70 * 130, 10));
  const auto run = [&] {
    auto c = ms::empty<T>(ctx, {70, 70});
    ms::gemm(ctx, Transpose::no, Transpose::yes, 1, a, a, 0, c.view());
    ms::syrk(ctx, Triangle::lower, Transpose::no, 0.5, a, 1, c.view());
    return ms::to_host(ctx, c);
  };
  support::check_same_bits(run(), run());
}

TEST_CASE("blas: gemm names the operands that do not fit") {
  ms::Context ctx;
  ms::Tensor<float> a(ctx, {4, 3}), b(ctx, {5, 6}), c(ctx, {3, 6}), good_b(ctx, {4, 6}), wrong_c(ctx, {6, 3});
  CHECK(support::message_of<ms::ShapeError>(
            [&] { ms::gemm(ctx, Transpose::yes, Transpose::no, 1, a, b, 0, c.view()); }) ==
        "gemm: a transposed is (3, 4), b is (5, 6), c is (3, 6); the columns of the first factor must match the rows "
        "of the second");
  CHECK(support::message_of<ms::ShapeError>(
            [&] { ms::gemm(ctx, Transpose::yes, Transpose::no, 1, a, good_b, 0, wrong_c.view()); }) ==
        "gemm: a transposed is (3, 4), b is (4, 6), c is (6, 3); c must have the rows of the first factor and the "
        "columns of the second");
  ms::Tensor<float> cube(ctx, {2, 2, 2});
  CHECK(support::message_of<ms::ShapeError>([&] {
          ms::gemm(ctx, Transpose::no, Transpose::no, 1, cube, b, 0, c.view());
        }) == "gemm: a has shape (2, 2, 2); it must have rank 2 (rows, columns)");
}

TEST_CASE("blas: an error carries the line of the caller") {
  ms::Context ctx;
  ms::Tensor<float> a(ctx, {4, 3}), c(ctx, {4, 4});
  try {
    ms::gemm(ctx, Transpose::no, Transpose::no, 1, a, a, 0, c.view());
    FAIL("no exception was thrown");
  } catch (const ms::ShapeError& error) {
    CHECK(support::contains(error.where().file, "test_blas.cpp"));
  }
}

TEST_CASE("blas: syrk, trsm and symmetrize name what does not fit") {
  ms::Context ctx;
  ms::Tensor<double> a(ctx, {4, 3}), c(ctx, {4, 4}), small(ctx, {2, 2});
  CHECK(support::message_of<ms::ShapeError>([&] {
          ms::syrk(ctx, Triangle::lower, Transpose::yes, 1, a, 0, c.view());
        }) == "syrk: a transposed is (3, 4), c is (4, 4); c must be (3, 3)");
  CHECK(support::message_of<ms::ShapeError>([&] {
          ms::syrk(ctx, Triangle::lower, Transpose::no, 1, c, 0, a.view());
        }) == "syrk: c has shape (4, 3); it must be square");
  CHECK(support::message_of<ms::ShapeError>([&] {
          ms::trsm(ctx, Side::left, Triangle::lower, Transpose::no, 1, small, a.view());
        }) == "trsm: a is (2, 2), b is (4, 3); the order of a must equal the number of rows of b (left side)");
  CHECK(support::message_of<ms::ShapeError>([&] {
          ms::trsm(ctx, Side::right, Triangle::lower, Transpose::no, 1, c, a.view());
        }) == "trsm: a is (4, 4), b is (4, 3); the order of a must equal the number of columns of b (right side)");
  CHECK(support::message_of<ms::ShapeError>([&] { ms::symmetrize(ctx, Triangle::lower, a.view()); }) ==
        "symmetrize: a has shape (4, 3); it must be square");
}

TEST_CASE("blas: strides that the libraries cannot express are refused") {
  ms::Context ctx;
  ms::Tensor<float> a(ctx, {4, 4}), c(ctx, {4, 4});
  const auto transposed = with_strides(a.data(), 4, 4, 1, 4);
  CHECK(support::message_of<ms::ShapeError>([&] {
          ms::gemm(ctx, Transpose::no, Transpose::yes, 1, transposed, a, 0, c.view());
        }) == "gemm: the elements of a row of a of shape (4, 4) lie 4 apart; rows must be contiguous (last stride 1)");
  const auto overlapping = with_strides(a.data(), 4, 4, 2, 1);
  CHECK(support::message_of<ms::ShapeError>(
            [&] { ms::gemm(ctx, Transpose::no, Transpose::yes, 1, a, overlapping, 0, c.view()); }) ==
        "gemm: the rows of b of shape (4, 4) lie 2 elements apart; the row stride must be at least the number of "
        "columns");
}

TEST_CASE("blas: extents beyond 32 bits are refused before anything is read") {
  ms::Context ctx;
  ms::Tensor<float> small(ctx, {1, 1});
  const ms::View<float> tall(small.data(), {std::int64_t{1} << 31, 1});
  CHECK(support::message_of<ms::ShapeError>(
            [&] { ms::gemm(ctx, Transpose::no, Transpose::no, 1, tall, small, 0, tall); }) ==
        "gemm: a of shape (2147483648, 1) with row stride 1 exceeds what BLAS and LAPACK can count to, 2^31 - 1; "
        "split it");
  const ms::View<float> wide = ms::View<float>(small.data(), {2, std::int64_t{1} << 31}).slice(1, 0, 3);
  CHECK(support::message_of<ms::ShapeError>([&] { ms::symmetrize(ctx, Triangle::lower, wide.slice(1, 0, 2)); }) ==
        "symmetrize: a of shape (2, 2) with row stride 2147483648 exceeds what BLAS and LAPACK can count to, 2^31 - "
        "1; split it");
}

TEST_SUITE_END();

}  // namespace core_blas_test
