// Leading singular triplets: the block Krylov space against a matrix built from triplets that are known.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <meristem/grow/solve/triplets.hpp>
#include <support/check.hpp>

namespace grow_triplets_test {

namespace ms = meristem;
namespace detail = ms::grow::detail;

namespace {

/// A matrix (m, r) with given singular values.
struct Known {
  std::int64_t m, r;
  std::vector<double> lambda, u, v;  // v: k × m, u: k × r

  std::vector<double> elements() const {
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
  constexpr std::int64_t most = MERISTEM_GPU ? 512 : 256;
  CHECK_FALSE(detail::is_worth_krylov(most, 4));
  CHECK(detail::is_worth_krylov(most + 1, 4));
  CHECK(detail::is_worth_krylov(4608, 64));
  CHECK(detail::is_worth_krylov(600, 64));
  CHECK_FALSE(detail::is_worth_krylov(600, 100));
  CHECK_FALSE(detail::is_worth_krylov(4608, 0));
  CHECK_FALSE(detail::is_worth_krylov(4608, INT64_MAX));
}

TEST_CASE("triplets: the Krylov space finds the leading triplets of a known matrix") {
  // A slowly decaying spectrum: λ_7 / λ_0 = 0.93, and 120 of them above 1e-1 λ_0.
  ms::Context ctx;
  for (const auto& [m, r] : {std::pair<std::int64_t, std::int64_t>{300, 420}, {420, 300}}) {
    const Known matrix = known(m, r, 200, 0.99);
    const auto a = ms::from_host<double>(ctx, {m, r}, matrix.elements());
    const auto found = detail::krylov_triplets(ctx, detail::WhitenedCross<double>(a.view()), 0.0, 6, 24);
    REQUIRE(found.has_value());
    REQUIRE(found->units == 6);
    CHECK(found->partial);
    // Ritz values are below the singular values, and their squares lack no more than 2e-5 of their sum, as estimated
    // from the last two blocks; five times that allows for the estimate.
    double gain = 0.0, best = 0.0;
    for (std::size_t k = 0; k < 6; ++k) {
      gain += found->lambda[k] * found->lambda[k];
      best += matrix.lambda[k] * matrix.lambda[k];
    }
    CHECK(gain <= best * (1 + 1e-12));
    CHECK(gain >= best * (1 - 1e-4));
    // left and right belong together: X has the value λ² between u √λ and v √λ.
    const auto left = ms::to_host(ctx, found->left), right = ms::to_host(ctx, found->right);
    const auto elements = matrix.elements();
    for (std::int64_t k = 0; k < 6; ++k) {
      double value = 0.0;
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < r; ++j) {
          value += left[static_cast<std::size_t>(k * m + i)] * elements[static_cast<std::size_t>(i * r + j)] *
                   right[static_cast<std::size_t>(k * r + j)];
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
  const auto a = ms::from_host<double>(ctx, {260, 300}, matrix.elements());
  const auto found = detail::krylov_triplets(ctx, detail::WhitenedCross<double>(a.view()), 0.0, 6, 24);
  REQUIRE(found.has_value());
  CHECK(found->units == 3);
  for (std::size_t k = 0; k < 3; ++k) CHECK(found->lambda[k] == doctest::Approx(matrix.lambda[k]).epsilon(1e-12));
  const auto zero = ms::zeros<double>(ctx, {260, 300});
  const auto none = detail::krylov_triplets(ctx, detail::WhitenedCross<double>(zero.view()), 0.0, 6, 24);
  CHECK((!none || none->units == 0));
}

TEST_CASE("triplets: both routes agree where both apply") {
  ms::Context ctx;
  const std::int64_t m = 520, r = 530;
  const auto a = ms::from_host<double>(ctx, {m, r}, support::normal_values<double>(m * r, 5));
  const detail::WhitenedCross<double> x(a.view());
  const auto few = detail::leading_triplets(ctx, x, 0.0, 8);
  const auto all = detail::leading_triplets(ctx, x, 0.0, 200);
  CHECK(few.partial);
  CHECK_FALSE(all.partial);
  // A Gaussian matrix has no gap at all: the sum of the squares is what converges.
  double gain = 0.0, best = 0.0;
  for (std::size_t k = 0; k < 8; ++k) {
    gain += few.lambda[k] * few.lambda[k];
    best += all.lambda[k] * all.lambda[k];
  }
  CHECK(gain == doctest::Approx(best).epsilon(1e-4));
}

namespace {

/// Share of the gain of the `units` largest singular values that the Krylov space finds, in float.
double share_found(std::vector<double> lambda, std::int64_t units, std::size_t first = 0) {
  ms::Context ctx;
  const std::int64_t m = 540, r = 560;
  Known matrix = known(m, r, static_cast<std::int64_t>(lambda.size()), 1.0);
  matrix.lambda = lambda;
  const std::vector<double> elements = matrix.elements();
  const auto a = ms::from_host<float>(ctx, {m, r}, std::vector<float>(elements.begin(), elements.end()));
  const auto found = detail::krylov_triplets(ctx, detail::WhitenedCross<float>(a.view()), 0.0, units, 48);
  REQUIRE(found.has_value());
  double gain = 0.0, best = 0.0;
  for (std::size_t k = first; k < static_cast<std::size_t>(units); ++k) {
    best += lambda[k] * lambda[k];
    if (k < found->lambda.size()) gain += found->lambda[k] * found->lambda[k];
  }
  return gain / best;
}

}  // namespace

TEST_CASE("triplets: the Krylov space is not misled by equal values, nor by one far above the others") {
  // More equal values than a block has rows, above others that are needed too.
  std::vector<double> equal(24, 1.0);
  for (int k = 0; k < 120; ++k) equal.push_back(0.5 * std::pow(0.99, k));
  // More than all would be a direction that is found twice; the products are in float, the lengths of their rows known
  // to 1e-5.
  const double of_equal = share_found(equal, 32);
  CHECK(of_equal > 0.9999);
  CHECK(of_equal < 1.00001);
  // The others are 1e-6 of the gain: Σ λ sees them. A float product knows them to eps_float λ_0 = 1e-4 λ_1.
  std::vector<double> tower = {1000.0};
  for (int k = 0; k < 120; ++k) tower.push_back(std::pow(0.98, k));
  CHECK(share_found(tower, 16) > 0.9999);
  const double of_others = share_found(tower, 16, 1);
  CHECK(of_others > 0.99);
  CHECK(of_others < 1.001);
}

TEST_CASE("triplets: the product with the whitening, which is not formed, gives the triplets of the formed one") {
  ms::Context ctx;
  const std::int64_t p = 530, m = 525, n = 1060;
  const auto inputs = ms::from_host<double>(ctx, {n, p}, support::normal_values<double>(n * p, 3));
  ms::Tensor<double> s(ctx, {p, p});
  ms::gemm(ctx, ms::Transpose::yes, ms::Transpose::no, 1.0 / double(n), inputs.view(), inputs.view(), 0, s.view());
  const auto y = ms::from_host<double>(ctx, {p, m}, support::normal_values<double>(p * m, 4));
  const auto whitening = ms::grow::detail::Whitening<double>::cholesky<double>(
      ctx, s.view(), std::vector<double>(static_cast<std::size_t>(p), 1.0), 0.0, 1e-16,
      [](const ms::grow::detail::Whitening<double>&) {});
  REQUIRE(whitening.has_value());
  const detail::WhitenedCross<double> x(y.view(), &*whitening);
  const auto formed = x.transposed(ctx);
  ms::Tensor<double> explicit_x(ctx, {p, m});
  ms::copy<double>(ctx, detail::converted_transposed<double, double>(ctx, formed.view()), explicit_x.view());
  const auto few = detail::leading_triplets(ctx, x, 0.0, 8);
  const auto all = detail::leading_triplets(ctx, detail::WhitenedCross<double>(explicit_x.view()), 0.0, 400);
  REQUIRE(few.partial);
  REQUIRE_FALSE(all.partial);
  double gain = 0.0, best = 0.0;
  for (std::size_t k = 0; k < 8; ++k) {
    gain += few.lambda[k] * few.lambda[k];
    best += all.lambda[k] * all.lambda[k];
  }
  CHECK(gain == doctest::Approx(best).epsilon(1e-4));
  CHECK(few.lambda[0] == doctest::Approx(all.lambda[0]).epsilon(1e-3));
}

TEST_SUITE_END();

}  // namespace grow_triplets_test
