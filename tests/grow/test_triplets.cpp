// Leading singular triplets: the block Krylov space against a matrix built from triplets that are known.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <meristem/grow/triplets.hpp>
#include <support/check.hpp>

namespace grow_triplets_test {

namespace ms = meristem;
namespace detail = ms::grow::detail;

namespace {

/// A matrix (m, r) with given singular values: orthonormal rows from products of Householder reflections.
struct Known {
  std::int64_t m, r;
  std::vector<double> lambda, u, v;  // u: k × r, v: k × m

  std::vector<double> transposed() const {
    std::vector<double> a(static_cast<std::size_t>(m * r), 0.0);
    for (std::size_t k = 0; k < lambda.size(); ++k) {
      for (std::int64_t i = 0; i < m; ++i) {
        const double vi = lambda[k] * v[k * static_cast<std::size_t>(m) + static_cast<std::size_t>(i)];
        for (std::int64_t j = 0; j < r; ++j) {
          a[static_cast<std::size_t>(i * r + j)] +=
              vi * u[k * static_cast<std::size_t>(r) + static_cast<std::size_t>(j)];
        }
      }
    }
    return a;
  }
};

/// k orthonormal rows of length n by Gram-Schmidt, twice.
std::vector<double> orthonormal_rows(std::int64_t k, std::int64_t n, std::uint64_t seed) {
  std::vector<double> rows = support::normal_values<double>(k * n, seed);
  const auto at = [&](std::int64_t i) { return rows.data() + i * n; };
  for (std::int64_t i = 0; i < k; ++i) {
    for (int pass = 0; pass < 2; ++pass) {
      for (std::int64_t j = 0; j < i; ++j) {
        double dot = 0.0;
        for (std::int64_t c = 0; c < n; ++c) dot += at(i)[c] * at(j)[c];
        for (std::int64_t c = 0; c < n; ++c) at(i)[c] -= dot * at(j)[c];
      }
    }
    double squares = 0.0;
    for (std::int64_t c = 0; c < n; ++c) squares += at(i)[c] * at(i)[c];
    for (std::int64_t c = 0; c < n; ++c) at(i)[c] /= std::sqrt(squares);
  }
  return rows;
}

Known known(std::int64_t m, std::int64_t r, std::int64_t rank, double decay) {
  Known result{m, r, {}, orthonormal_rows(rank, r, 1), orthonormal_rows(rank, m, 2)};
  for (std::int64_t k = 0; k < rank; ++k) result.lambda.push_back(std::pow(decay, static_cast<double>(k)));
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("triplets: the rule asks for a Krylov space only for few units of many") {
  CHECK_FALSE(detail::is_worth_krylov(512, 4));
  CHECK(detail::is_worth_krylov(513, 4));
  CHECK(detail::is_worth_krylov(4608, 64));
  CHECK_FALSE(detail::is_worth_krylov(600, 64));
  CHECK_FALSE(detail::is_worth_krylov(4608, 0));
  CHECK_FALSE(detail::is_worth_krylov(4608, INT64_MAX));
}

TEST_CASE("triplets: the Krylov space finds the leading triplets of a known matrix") {
  // A slowly decaying spectrum: λ_7 / λ_0 = 0.93, and 120 of them above 1e-1 λ_0.
  ms::Context ctx;
  for (const auto& [m, r] : {std::pair<std::int64_t, std::int64_t>{300, 420}, {420, 300}}) {
    const Known matrix = known(m, r, 200, 0.99);
    const auto a = ms::from_host<double>(ctx, {m, r}, matrix.transposed());
    const auto found = detail::krylov_triplets(ctx, a.view(), 0.0, 6, 24);
    REQUIRE(found.has_value());
    REQUIRE(found->units == 6);
    CHECK(found->partial);
    // Ritz values are below the singular values. The last block moved their sum of squares by less than 1e-6 of itself;
    // blocks converge geometrically, and even if each left 0.9 of the error, ten times that would be left.
    double gain = 0.0, best = 0.0;
    for (std::size_t k = 0; k < 6; ++k) {
      gain += found->lambda[k] * found->lambda[k];
      best += matrix.lambda[k] * matrix.lambda[k];
    }
    CHECK(gain <= best * (1 + 1e-12));
    CHECK(gain >= best * (1 - 1e-5));
    // left and right belong together: A has the value λ² between v √λ and u √λ.
    const auto left = ms::to_host(ctx, found->left), right = ms::to_host(ctx, found->right);
    const auto elements = matrix.transposed();
    for (std::int64_t k = 0; k < 6; ++k) {
      double value = 0.0;
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < r; ++j) {
          value += right[static_cast<std::size_t>(k * m + i)] * elements[static_cast<std::size_t>(i * r + j)] *
                   left[static_cast<std::size_t>(k * r + j)];
        }
      }
      const double lambda = found->lambda[static_cast<std::size_t>(k)];
      CHECK(value == doctest::Approx(lambda * lambda).epsilon(1e-10));
    }
  }
}

TEST_CASE("triplets: a matrix of low rank exhausts the space, and zero gives way") {
  ms::Context ctx;
  const Known matrix = known(260, 300, 3, 0.5);
  const auto a = ms::from_host<double>(ctx, {260, 300}, matrix.transposed());
  const auto found = detail::krylov_triplets(ctx, a.view(), 0.0, 6, 24);
  REQUIRE(found.has_value());
  CHECK(found->units == 3);
  for (std::size_t k = 0; k < 3; ++k) CHECK(found->lambda[k] == doctest::Approx(matrix.lambda[k]).epsilon(1e-12));
  const auto zero = ms::zeros<double>(ctx, {260, 300});
  const auto none = detail::krylov_triplets(ctx, zero.view(), 0.0, 6, 24);
  CHECK((!none || none->units == 0));
}

TEST_CASE("triplets: both routes agree where both apply") {
  ms::Context ctx;
  const std::int64_t m = 520, r = 530;
  const auto a = ms::from_host<double>(ctx, {m, r}, support::normal_values<double>(m * r, 5));
  const auto few = detail::leading_triplets(ctx, a.view(), 0.0, 8);
  const auto all = detail::leading_triplets(ctx, a.view(), 0.0, 200);
  CHECK(few.partial);
  CHECK_FALSE(all.partial);
  // A Gaussian matrix has no gap at all: the sum of the squares is what converges.
  double gain = 0.0, best = 0.0;
  for (std::size_t k = 0; k < 8; ++k) {
    gain += few.lambda[k] * few.lambda[k];
    best += all.lambda[k] * all.lambda[k];
  }
  CHECK(gain == doctest::Approx(best).epsilon(1e-5));
}

TEST_SUITE_END();

}  // namespace grow_triplets_test
