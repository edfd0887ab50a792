#include <meristem/core/lapack.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>
#include <support/check.hpp>
#include <support/strided.hpp>

namespace core_lapack_test {

namespace {

namespace ms = meristem;
using ms::Transpose;
using ms::Triangle;
using support::Strided;

const Triangle triangles[] = {Triangle::lower, Triangle::upper};

std::size_t at(std::int64_t row, std::int64_t column, std::int64_t columns) {
  return static_cast<std::size_t>(row * columns + column);
}

bool in_triangle(Triangle triangle, std::int64_t i, std::int64_t j) {
  return triangle == Triangle::lower ? j <= i : j >= i;
}

/// b bᵀ + ridge I for a random b (n, rank), in double precision.
std::vector<double> gram(std::int64_t n, std::int64_t rank, double ridge, std::uint64_t seed) {
  const auto b = support::normal_values<double>(n * rank, seed);
  std::vector<double> a;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = i == j ? ridge : 0.0;
      for (std::int64_t l = 0; l < rank; ++l) sum += b[at(i, l, rank)] * b[at(j, l, rank)];
      a.push_back(sum);
    }
  }
  return a;
}

/// The matrix with these eigenvalues whose eigenvectors are the columns of the reflection I - 2 u uᵀ.
std::vector<double> with_eigenvalues(const std::vector<double>& values, std::uint64_t seed) {
  const auto n = static_cast<std::int64_t>(values.size());
  auto u = support::normal_values<double>(n, seed);
  double norm = 0.0;
  for (const double x : u) norm += x * x;
  for (double& x : u) x /= std::sqrt(norm);
  const auto q = [&](std::int64_t i, std::int64_t j) {
    return (i == j ? 1.0 : 0.0) - 2.0 * u[at(0, i, n)] * u[at(0, j, n)];
  };
  std::vector<double> a;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0.0;
      for (std::int64_t l = 0; l < n; ++l) sum += q(i, l) * values[at(0, l, n)] * q(j, l);
      a.push_back(sum);
    }
  }
  return a;
}

/// The same numbers in T, with NaN in the triangle that must not be read.
template <class T>
std::vector<T> one_triangle(const std::vector<double>& a, std::int64_t n, Triangle triangle) {
  std::vector<T> result;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      result.push_back(in_triangle(triangle, i, j) ? static_cast<T>(a[at(i, j, n)])
                                                   : std::numeric_limits<T>::quiet_NaN());
    }
  }
  return result;
}

/// Element of the symmetric matrix of which only the lower triangle holds numbers.
template <class T>
double symmetric(const std::vector<T>& lower, std::int64_t i, std::int64_t j, std::int64_t n) {
  return static_cast<double>(i >= j ? lower[at(i, j, n)] : lower[at(j, i, n)]);
}

/// Largest sum of absolute values in a row: bounds every |eigenvalue|.
template <class T>
double row_norm(const std::vector<T>& lower, std::int64_t n) {
  double norm = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (std::int64_t j = 0; j < n; ++j) sum += std::abs(symmetric(lower, i, j, n));
    norm = std::max(norm, sum);
  }
  return norm;
}

/// The decomposition is that of a matrix within c n eps |A| of A (LAPACK Users' Guide, section 4.7.1), and so are its
/// residuals; the eigenvectors are orthogonal to c n eps. c = 1 in units of eps = 2 roundings.
template <class T>
double eigen_tolerance(std::int64_t n) {
  return static_cast<double>(std::max<std::int64_t>(n, 4)) * support::eps<T>;
}

template <class T>
void check_potrf(ms::Context& ctx, Triangle triangle, std::int64_t n) {
  INFO("n ", n, ", lower ", triangle == Triangle::lower);
  const auto before = one_triangle<T>(gram(n, n, 0.1, 11), n, triangle);
  Strided<T> a(ctx, n, n, before);
  ms::potrf(ctx, triangle, a.view());
  const auto after = a.values(ctx);
  std::vector<double> product, expected;
  std::vector<T> outside, outside_before;
  double diagonal = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    diagonal = std::max(diagonal, double(before[at(i, i, n)]));
    CHECK(after[at(i, i, n)] > T(0));
    for (std::int64_t j = 0; j < n; ++j) {
      if (!in_triangle(triangle, i, j)) {
        outside.push_back(after[at(i, j, n)]);
        outside_before.push_back(before[at(i, j, n)]);
        continue;
      }
      double sum = 0.0;
      for (std::int64_t l = 0; l <= std::min(i, j); ++l) {
        sum += triangle == Triangle::lower ? double(after[at(i, l, n)]) * double(after[at(j, l, n)])
                                           : double(after[at(l, i, n)]) * double(after[at(l, j, n)]);
      }
      product.push_back(sum);
      expected.push_back(double(before[at(i, j, n)]));
    }
  }
  // |L Lᵀ - A| <= (n + 1) u |L| |Lᵀ| (Higham, theorem 10.3), and |L| |Lᵀ| is at most the largest diagonal element.
  support::check_close(product, expected, static_cast<double>(n + 2) * 0.5 * support::eps<T> * diagonal);
  support::check_same_bits(outside, outside_before, "the other triangle");
  a.check_gaps(ctx);
}

/// Decomposes `a` and checks residuals, orthogonality, order, the gaps between the rows, and the known eigenvalues, if
/// any are given.
template <class T>
void check_syevd(ms::Context& ctx, const std::vector<double>& a, std::int64_t n, std::vector<double> known = {}) {
  INFO("n ", n);
  const auto before = one_triangle<T>(a, n, Triangle::lower);
  const double norm = std::max(row_norm(before, n), 1e-300);
  Strided<T> matrix(ctx, n, n, before);
  support::Guarded<T> guarded(ctx, {n});
  ms::syevd(ctx, matrix.view(), guarded.view());
  const auto vectors = matrix.values(ctx);
  const auto values = guarded.values(ctx);
  std::vector<double> residual, inner, identity;
  for (std::int64_t i = 0; i < n; ++i) {
    if (i > 0) CHECK(values[at(0, i - 1, n)] <= values[at(0, i, n)]);
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = -double(values[at(0, i, n)]) * double(vectors[at(i, j, n)]), dot = 0.0;
      for (std::int64_t l = 0; l < n; ++l) {
        sum += symmetric(before, j, l, n) * double(vectors[at(i, l, n)]);
        dot += double(vectors[at(i, l, n)]) * double(vectors[at(j, l, n)]);
      }
      residual.push_back(sum);
      inner.push_back(dot);
      identity.push_back(i == j ? 1.0 : 0.0);
    }
  }
  support::check_close(residual, std::vector<double>(residual.size(), 0.0), eigen_tolerance<T>(n) * norm, "residual");
  support::check_close(inner, identity, eigen_tolerance<T>(n), "orthogonality");
  if (!known.empty()) {
    std::sort(known.begin(), known.end());
    // Weyl: an eigenvalue moves no further than the matrix does, here by rounding to T and by the decomposition.
    support::check_close(values, known, 2.0 * eigen_tolerance<T>(n) * norm, "eigenvalues");
  }
  matrix.check_gaps(ctx);
  guarded.check_guards(ctx);

  Strided<T> again(ctx, n, n, before);
  support::Guarded<T> alone(ctx, {n});
  ms::syevd(ctx, again.view(), alone.view(), ms::EigenJob::values);
  const std::vector<double> with_vectors(values.begin(), values.end());
  support::check_close(alone.values(ctx), with_vectors, 2.0 * eigen_tolerance<T>(n) * norm, "eigenvalues alone");
  again.check_gaps(ctx);
  alone.check_guards(ctx);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("solver: potrf reproduces the matrix and leaves the other triangle alone", T, float, double) {
  ms::Context ctx;
  for (const std::int64_t n : {0, 1, 2, 31, 33, 64, 150}) {
    for (const Triangle triangle : triangles) check_potrf<T>(ctx, triangle, n);
  }
}

TEST_CASE_TEMPLATE("solver: potrf names the leading minor that is not positive definite", T, float, double) {
  ms::Context ctx;
  for (const Triangle triangle : triangles) {
    for (const std::int64_t n : {64, 600}) {
      for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{16}, n - 1}) {
        INFO("n ", n, ", bad ", bad);
        std::vector<T> identity(static_cast<std::size_t>(n * n), T(0));
        for (std::int64_t i = 0; i < n; ++i) identity[at(i, i, n)] = i == bad ? T(-1) : T(1);
        auto a = ms::from_host<T>(ctx, {n, n}, identity);
        CHECK(ms::try_potrf(ctx, triangle, a.view()) == bad + 1);
        a = ms::from_host<T>(ctx, {n, n}, identity);
        CHECK(support::message_of<ms::SolverError>([&] { ms::potrf(ctx, triangle, a.view()); }) ==
              ms::concat("potrf: the leading minor of order ", bad + 1, " of the ", n, "×", n,
                         " matrix is not positive definite; add a ridge or use the eigen route"));
      }
    }
  }
}

TEST_CASE_TEMPLATE("solver: potrf refuses a singular matrix", T, float, double) {
  ms::Context ctx;
  // Two equal rows of ones: the second pivot is exactly 0.
  auto ones = ms::from_host<T>(ctx, {2, 2}, std::vector<T>{1, 1, 1, 1});
  CHECK(ms::try_potrf(ctx, Triangle::lower, ones.view()) == 2);
  auto zero = ms::zeros<T>(ctx, {40, 40});
  CHECK(ms::try_potrf(ctx, Triangle::lower, zero.view()) == 1);
}

TEST_CASE_TEMPLATE("solver: potrf reports an overflow between finite elements", T, float, double) {
  ms::Context ctx;
  const T tiny = std::numeric_limits<T>::min() * T(2), huge = std::numeric_limits<T>::max() / T(4);
  // l20 = huge / sqrt(tiny) overflows, l21 = 0 - inf * 0 is NaN, and so is the third pivot.
  auto a = ms::from_host<T>(ctx, {3, 3}, std::vector<T>{tiny, 0, huge, 0, 1, 0, huge, 0, 1});
  CHECK(ms::try_potrf(ctx, Triangle::lower, a.view()) == 3);
}

TEST_CASE_TEMPLATE("solver: NaN and infinity are named by their place and nothing is written", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const std::int64_t n = 33;
    for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
      auto elements = one_triangle<T>(gram(n, n, 1.0, 12), n, Triangle::lower);
      elements[at(20, 7, n)] = bad;
      auto a = ms::from_host<T>(ctx, {n, n}, elements);
      auto values = ms::zeros<T>(ctx, {n});
      const std::string sentence = ms::concat(": element (20, 7) of the 33×33 matrix is ", bad,
                                              "; check what it was computed from for NaN, infinity or overflow");
      CHECK(support::message_of<ms::NumericError>([&] { ms::syevd(ctx, a.view(), values.view()); }) ==
            "syevd" + sentence);
      CHECK(support::message_of<ms::NumericError>([&] { ms::potrf(ctx, Triangle::lower, a.view()); }) ==
            "potrf" + sentence);
      CHECK(support::message_of<ms::NumericError>(
                [&] { static_cast<void>(ms::try_potrf(ctx, Triangle::lower, a.view())); }) == "try_potrf" + sentence);
      support::check_same_bits(ms::to_host(ctx, a), elements);
      support::check_same_bits(ms::to_host(ctx, values), std::vector<T>(static_cast<std::size_t>(n), T(0)));
    }
    // In the upper triangle: found there, and not looked for by those that read the lower one.
    auto upper = ms::from_host<T>(ctx, {2, 2}, std::vector<T>{4, -std::numeric_limits<T>::infinity(), 2, 4});
    CHECK(
        support::contains(support::message_of<ms::NumericError>([&] { ms::potrf(ctx, Triangle::upper, upper.view()); }),
                          "potrf: element (0, 1) of the 2×2 matrix is -inf"));
    CHECK(ms::try_potrf(ctx, Triangle::lower, upper.view()) == 0);
  });
}

TEST_CASE_TEMPLATE("solver: syevd of random, rank-deficient and zero matrices", T, float, double) {
  ms::Context ctx;
  for (const std::int64_t n : {0, 1, 2, 31, 33, 64, 150}) {
    check_syevd<T>(ctx, support::normal_values<double>(n * n, 13), n);
    check_syevd<T>(ctx, gram(n, 3, 0.0, 14), n);
    check_syevd<T>(ctx, std::vector<double>(static_cast<std::size_t>(n * n), 0.0), n,
                   std::vector<double>(static_cast<std::size_t>(n), 0.0));
  }
}

TEST_CASE_TEMPLATE("solver: syevd finds known eigenvalues, repeated ones included", T, float, double) {
  ms::Context ctx;
  std::vector<double> repeated;
  for (int i = 0; i < 33; ++i) repeated.push_back(i < 20 ? 1.0 : i < 30 ? 2.0 : 1000.0);
  check_syevd<T>(ctx, with_eigenvalues(repeated, 15), 33, repeated);
  std::vector<double> graded;
  for (int i = 0; i < 64; ++i) graded.push_back(std::pow(0.5, i) * (i % 2 == 0 ? 1.0 : -1.0));
  check_syevd<T>(ctx, with_eigenvalues(graded, 16), 64, graded);
  // Rows of eigenvectors, not columns: (1, 2) is that of 4, (-2, 1) that of -1.
  auto a = ms::from_host<T>(ctx, {2, 2}, std::vector<T>{0, 99, 2, 3});
  auto values = ms::empty<T>(ctx, {2});
  ms::syevd(ctx, a.view(), values.view());
  const double root = 1.0 / std::sqrt(5.0);
  auto vectors = ms::to_host(ctx, a);
  for (const std::size_t row : {std::size_t{0}, std::size_t{2}}) {
    if (vectors[row + 1] < T(0)) {
      vectors[row] = -vectors[row];
      vectors[row + 1] = -vectors[row + 1];
    }
  }
  support::check_close(ms::to_host(ctx, values), {-1.0, 4.0}, 4.0 * eigen_tolerance<T>(2));
  support::check_close(vectors, {-2.0 * root, root, root, 2.0 * root}, eigen_tolerance<T>(2));
}

TEST_CASE_TEMPLATE("solver: syevd survives elements near the ends of the range", T, float, double) {
  ms::Context ctx;
  for (const double scale :
       {double(std::numeric_limits<T>::max()) * 1e-3, double(std::numeric_limits<T>::min()) * 1e3}) {
    auto a = support::normal_values<double>(100, 17);
    for (double& x : a) x *= scale;
    check_syevd<T>(ctx, a, 10);
  }
}

TEST_CASE_TEMPLATE("solver: the same decomposition gives the same bits twice", T, float, double) {
  ms::Context ctx;
  const std::int64_t n = 130;
  const auto elements = one_triangle<T>(gram(n, 20, 0.0, 18), n, Triangle::lower);
  const auto run = [&] {
    auto a = ms::from_host<T>(ctx, {n, n}, elements);
    auto values = ms::empty<T>(ctx, {n});
    ms::syevd(ctx, a.view(), values.view());
    auto result = ms::to_host(ctx, a);
    const auto tail = ms::to_host(ctx, values);
    result.insert(result.end(), tail.begin(), tail.end());
    return result;
  };
  support::check_same_bits(run(), run());
}

TEST_CASE("solver: shapes that do not fit are named") {
  ms::Context ctx;
  ms::Tensor<float> a(ctx, {4, 3}), square(ctx, {4, 4}), values(ctx, {3}), matrix_values(ctx, {4, 1});
  CHECK(support::message_of<ms::ShapeError>([&] { ms::potrf(ctx, Triangle::lower, a.view()); }) ==
        "potrf: a has shape (4, 3); it must be square");
  CHECK(support::message_of<ms::ShapeError>([&] { ms::syevd(ctx, a.view(), values.view()); }) ==
        "syevd: a has shape (4, 3); it must be square");
  CHECK(support::message_of<ms::ShapeError>([&] { ms::syevd(ctx, square.view(), values.view()); }) ==
        "syevd: a is (4, 4), values is (3); values must be contiguous of shape (4)");
  CHECK(support::message_of<ms::ShapeError>([&] { ms::syevd(ctx, square.view(), matrix_values.view()); }) ==
        "syevd: a is (4, 4), values is (4, 1); values must be contiguous of shape (4)");
}

TEST_CASE("solver: a decomposition that did not converge says so") {
  const auto message = [](std::int64_t info) {
    return support::message_of<ms::SolverError>(
        [&] { ms::detail::require_eigen_success(info, 64, ms::SourceLocation::current()); });
  };
  CHECK(message(3) ==
        "syevd: the eigenvalue iteration of the 64×64 matrix did not converge (info 3); add a ridge, scale the matrix "
        "or use float64");
  CHECK(message(-8) == "syevd: the library refused argument 8");
  CHECK_NOTHROW(ms::detail::require_eigen_success(0, 64, ms::SourceLocation::current()));
}

#if !MERISTEM_GPU
TEST_CASE("solver: a workspace beyond 32 bits is refused before anything is read") {
  ms::Context ctx;
  float element = 0.0f;
  const ms::View<float> a(&element, {32767, 32767}), values(&element, {32767});
  CHECK(support::message_of<ms::ShapeError>([&] { ms::syevd(ctx, a, values); }) ==
        "syevd: a is (32767, 32767); its workspace of 2147549181 numbers exceeds what LAPACK can count to, 2^31 - 1; "
        "the largest order is 32766");
}
#endif

TEST_SUITE_END();

TEST_SUITE_BEGIN("slow");

// From n = 2897 on the workspace size that LAPACK's own query gives in float32 is too small.
TEST_CASE("solver: syevd in float32 at n = 3073") {
  ms::Context ctx;
  const std::int64_t n = 3073, samples = 1024;
  auto x = ms::from_host<float>(ctx, {samples, n}, support::normal_values<float>(samples * n, 19));
  auto a = ms::zeros<float>(ctx, {n, n});
  ms::syrk(ctx, Triangle::lower, Transpose::yes, 1.0f / float(samples), x, 0, a.view());
  const auto before = ms::to_host(ctx, a);
  auto values = ms::empty<float>(ctx, {n});
  ms::syevd(ctx, a.view(), values.view());
  const auto vectors = ms::to_host(ctx, a);
  const auto lambda = ms::to_host(ctx, values);
  CHECK(std::is_sorted(lambda.begin(), lambda.end()));
  const double norm = row_norm(before, n), tolerance = eigen_tolerance<float>(n);

  double trace = 0.0, sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    trace += double(before[at(i, i, n)]);
    sum += double(lambda[at(0, i, n)]);
  }
  CHECK(std::abs(trace - sum) <= tolerance * norm * std::sqrt(double(n)));
  // Rank 1024: all but 1024 eigenvalues vanish.
  for (std::int64_t i = 0; i < n - samples; ++i) REQUIRE(std::abs(double(lambda[at(0, i, n)])) <= tolerance * norm);

  const std::int64_t rows[] = {0, 1, 1000, n - samples - 1, n - samples, n / 2, n - 2, n - 1};
  std::vector<double> residual, inner, identity;
  for (const std::int64_t i : rows) {
    for (std::int64_t j = 0; j < n; ++j) {
      double term = -double(lambda[at(0, i, n)]) * double(vectors[at(i, j, n)]), dot = 0.0;
      for (std::int64_t l = 0; l < n; ++l) {
        term += symmetric(before, j, l, n) * double(vectors[at(i, l, n)]);
        dot += double(vectors[at(i, l, n)]) * double(vectors[at(j, l, n)]);
      }
      residual.push_back(term);
      inner.push_back(dot);
      identity.push_back(i == j ? 1.0 : 0.0);
    }
  }
  support::check_close(residual, std::vector<double>(residual.size(), 0.0), tolerance * norm, "residual");
  support::check_close(inner, identity, tolerance, "orthogonality");
}

TEST_CASE_TEMPLATE("solver: stacks are factorised matrix by matrix, and one that breaks down has the inverse 0", T,
                   float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t n : {1, 2, 33}) {
      INFO("n ", n);
      std::vector<T> stack;
      for (const std::uint64_t seed : {31, 32, 33}) {
        auto one = one_triangle<T>(gram(n, n, 1.0, seed), n, Triangle::lower);
        if (seed == 32) one[at(n - 1, n - 1, n)] = T(-1);
        stack.insert(stack.end(), one.begin(), one.end());
      }
      const auto size = static_cast<std::size_t>(n * n);
      auto there = ms::from_host<T>(ctx, {3, n, n}, stack);
      ms::detail::Decompositions calls;
      calls.factorize_each(ctx, there.view());
      const std::vector<T> factors = ms::to_host(ctx, there);
      for (const std::size_t k : {0, 1, 2}) {
        std::vector<T> expected(stack.begin() + static_cast<std::ptrdiff_t>(k * size),
                                stack.begin() + static_cast<std::ptrdiff_t>((k + 1) * size));
        if (k == 1) {
          for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t j = 0; j <= i; ++j) {
              expected[at(i, j, n)] = i == j ? std::numeric_limits<T>::infinity() : T(0);
            }
          }
        } else {
          auto alone = ms::from_host<T>(ctx, {n, n}, expected);
          ms::potrf(ctx, Triangle::lower, alone.view());
          expected = ms::to_host(ctx, alone);
        }
        support::check_same_bits(std::vector<T>(factors.begin() + static_cast<std::ptrdiff_t>(k * size),
                                                factors.begin() + static_cast<std::ptrdiff_t>((k + 1) * size)),
                                 expected);
      }
    }
  });
}

TEST_CASE_TEMPLATE("solver: a matrix of a stack that is not finite is told where the outcome is read", T, float,
                   double) {
  ms::Context ctx;
  const std::int64_t n = 5;
  for (const T bad : {std::numeric_limits<T>::quiet_NaN(), -std::numeric_limits<T>::infinity()}) {
    for (const std::size_t element : {at(0, 0, n), at(3, 1, n)}) {
      std::vector<T> stack;
      for (const std::uint64_t seed : {51, 52, 53}) {
        auto one = one_triangle<T>(gram(n, n, 1.0, seed), n, Triangle::lower);
        if (seed == 52) one[element] = bad;
        stack.insert(stack.end(), one.begin(), one.end());
      }
      auto there = ms::from_host<T>(ctx, {3, n, n}, stack);
      ms::Tensor<T> values(ctx, {3, n});
      ms::Tensor<double> outcomes(ctx, {3, n + 1});
      ms::detail::Decompositions calls;
      calls.eigen_each(ctx, there.view(), values.data(), ms::EigenJob::vectors, outcomes.data(), n + 1);
      const std::vector<double> outcome = ms::to_host(ctx, outcomes);
      CHECK(outcome[0] == 0.0);
      CHECK(std::isnan(outcome[static_cast<std::size_t>(n + 1)]));
      CHECK(outcome[static_cast<std::size_t>(2 * (n + 1))] == 0.0);
      CHECK(support::contains(support::message_of<ms::NumericError>([&] {
                                ms::detail::require_eigen_success(outcome[static_cast<std::size_t>(n + 1)], n,
                                                                  ms::SourceLocation::current());
                              }),
                              "syevd: the 5×5 matrix holds NaN or infinity"));
    }
  }
}

TEST_CASE_TEMPLATE("solver: eigenvalues and eigenvectors of a stack are those of its matrices", T, float, double) {
  ms::Context ctx;
  for (const std::int64_t matrices : {1, 3}) {
    for (const std::int64_t n : {1, 2, 40}) {
      INFO("matrices ", matrices, ", n ", n);
      std::vector<T> stack;
      for (std::int64_t k = 0; k < matrices; ++k) {
        const auto one = one_triangle<T>(gram(n, n, 1.0, 41 + static_cast<std::uint64_t>(k)), n, Triangle::lower);
        stack.insert(stack.end(), one.begin(), one.end());
      }
      auto there = ms::from_host<T>(ctx, {matrices, n, n}, stack);
      ms::Tensor<T> values(ctx, {matrices, n});
      ms::Tensor<double> outcomes = ms::zeros<double>(ctx, {matrices, n + 3});
      ms::detail::Decompositions calls;
      calls.eigen_each(ctx, there.view(), values.data(), ms::EigenJob::vectors, outcomes.data(), n + 3);
      const std::vector<T> vectors = ms::to_host(ctx, there), found = ms::to_host(ctx, values);
      const std::vector<double> outcome = ms::to_host(ctx, outcomes);
      for (std::int64_t k = 0; k < matrices; ++k) {
        const std::vector<T> before(stack.begin() + k * n * n, stack.begin() + (k + 1) * n * n);
        const double norm = row_norm(before, n);
        std::vector<double> residual;
        CHECK(outcome[static_cast<std::size_t>(k * (n + 3))] == 0.0);
        for (std::int64_t i = 0; i < n; ++i) {
          const double value = double(found[static_cast<std::size_t>(k * n + i)]);
          CHECK(outcome[static_cast<std::size_t>(k * (n + 3) + 1 + i)] == value);
          for (std::int64_t j = 0; j < n; ++j) {
            const auto element = [&](std::int64_t of) {
              return double(vectors[static_cast<std::size_t>((k * n + i) * n + of)]);
            };
            double sum = -value * element(j);
            for (std::int64_t l = 0; l < n; ++l) sum += symmetric(before, j, l, n) * element(l);
            residual.push_back(sum);
          }
        }
        support::check_close(residual, std::vector<double>(residual.size(), 0.0), eigen_tolerance<T>(n) * norm,
                             "residual");
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace core_lapack_test
