// How long do the units of a growth step take to find from S (p, p) and N (p, q), and how much of the attainable gain
// do they keep?
//
//   new_units/cholesky   equilibrated Cholesky factor and the leading triplets by block iteration: the library's choice
//   new_units/eigen      eigenvectors in float64 and all triplets: the reference
//   new_units/lapack_eigh_svd  what gromo does, in LAPACK: eigh of S, S^{-1/2} as a matrix, svd of S^{-1/2} N; float32
//   solve/cholesky       a whole decision from the moments of a linear layer with 64 outputs: best move, units, slopes
//   hard/<case>          p = q = 288 (577: with factors in float32) and 32 units on features (as after a ReLU),
//                        condition 1e6, half the rank with dead channels, scales of 1e-3 to 1e2
//
// S and N are given in float32. `kept_percent` compares with float64 statistics and the reference: the decrease
// 2⟨A, N⟩ - ⟨A, S A⟩ of the units over the sum of as many λ² (p up to 1153). Floor: p³/3 operations for the factor and
// 6 p² for each unit, which has to pass N and the factor once each way, at the rate of float32, and S and N read once;
// how often units pass does not count, as it follows from the data.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/lapack.hpp>
#include <meristem/grow/solve/solve.hpp>
#include <meristem/grow/solve/units.hpp>

#include "main.hpp"

namespace {

namespace ms = meristem;
using bench::context;
using bench::normal_matrix;
using ms::Transpose;

enum class Spectrum { features, condition, half_rank, scales };

ms::Tensor<double> product(Transpose ta, const ms::Tensor<double>& a, Transpose tb, const ms::Tensor<double>& b,
                           double alpha = 1.0) {
  ms::Tensor<double> c(context(), {a.extent(ta == Transpose::no ? 0 : 1), b.extent(tb == Transpose::no ? 1 : 0)});
  ms::gemm(context(), ta, tb, alpha, a.view(), b.view(), 0, c.view());
  return c;
}

/// a (rows, columns) times `scale(column)` for each column, plus `shift`.
template <class Scale>
ms::Tensor<double> with_columns(const ms::Tensor<double>& a, Scale&& scale) {
  auto values = ms::to_host(context(), a);
  const auto columns = static_cast<std::size_t>(a.extent(1));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= scale(static_cast<double>(i % columns));
  return ms::from_host<double>(context(), a.shape(), values);
}

/// Inputs of a layer, n samples of p features.
ms::Tensor<double> inputs(std::int64_t n, std::int64_t p, Spectrum spectrum) {
  const double last = static_cast<double>(p - 1);
  switch (spectrum) {
    case Spectrum::features:
      return normal_matrix<double>({n, p}, 1, 0.5);
    case Spectrum::condition: {
      auto basis =
          product(Transpose::yes, normal_matrix<double>({p, p}, 5), Transpose::no, normal_matrix<double>({p, p}, 5));
      ms::Tensor<double> values(context(), {p});
      ms::syevd(context(), basis.view(), values.view());
      const auto scaled =
          with_columns(normal_matrix<double>({n, p}, 1), [&](double j) { return std::pow(10.0, -3.0 * j / last); });
      return product(Transpose::no, scaled, Transpose::no, basis);
    }
    case Spectrum::half_rank: {
      const auto mixed = product(Transpose::no, normal_matrix<double>({n, p / 2}, 1), Transpose::no,
                                 normal_matrix<double>({p / 2, p}, 5));
      return with_columns(mixed, [](double j) { return std::fmod(j, 8.0) == 0.0 ? 0.0 : 1.0; });
    }
    case Spectrum::scales:
      return with_columns(normal_matrix<double>({n, p}, 1, 0.5),
                          [&](double j) { return std::pow(10.0, -3.0 + 5.0 * j / last); });
  }
  return {};
}

/// Statistics of a layer whose desired update follows its inputs in 32 directions beneath noise, and what is
/// attainable.
struct Problem {
  ms::Tensor<double> s, n;
  ms::Tensor<float> s32, n32;
  std::vector<double> lambda;

  Problem(std::int64_t p, Spectrum spectrum) {
    const std::int64_t samples = (p > 2000 ? 2 : 4) * p;
    const auto x = inputs(samples, p, spectrum);
    const auto into = normal_matrix<double>({p, 32}, 2), out = normal_matrix<double>({32, p}, 3);
    auto v = normal_matrix<double>({samples, p}, 4);
    const auto hidden = product(Transpose::no, x, Transpose::no, into, 1.0 / std::sqrt(static_cast<double>(p)));
    ms::gemm(context(), Transpose::no, Transpose::no, 1.0, hidden.view(), out.view(), 1.0, v.view());
    s = product(Transpose::yes, x, Transpose::no, x, 1.0 / static_cast<double>(samples));
    n = product(Transpose::yes, x, Transpose::no, v, 1.0 / static_cast<double>(samples));
    s32 = ms::grow::detail::converted<float, double>(context(), s.view());
    ms::symmetrize(context(), ms::Triangle::lower, s32.view());
    n32 = ms::grow::detail::converted<float, double>(context(), n.view());
    if (p > 1153) return;
    const ms::grow::SolveOptions reference{.route = ms::grow::Route::eigen};
    lambda = ms::grow::new_units<double>(context(), s.view(), ms::View<const double>(n), reference).lambda;
  }

  /// Per cent of the attainable gain that units keep, α (K, p) and ω (K, q); 0 if that is not known.
  double kept(const ms::Tensor<float>& alpha32, const ms::Tensor<float>& omega32) const {
    if (lambda.empty()) return 0.0;
    ms::Context& ctx = context();
    const auto alpha = ms::grow::detail::converted<double, float>(ctx, alpha32.view());
    const auto omega = ms::grow::detail::converted<double, float>(ctx, omega32.view());
    const auto an = product(Transpose::no, alpha, Transpose::no, n);
    const auto as = product(Transpose::no, alpha, Transpose::no, s);
    const auto quadratic = product(Transpose::no, as, Transpose::yes, alpha);
    const auto outer = product(Transpose::no, omega, Transpose::yes, omega);
    const double linear = ms::grow::detail::inner_product<double, double>(ctx, an.view(), omega.view());
    const double square = ms::grow::detail::inner_product<double, double>(ctx, quadratic.view(), outer.view());
    double attainable = 0.0;
    for (std::int64_t k = 0; k < alpha.extent(0); ++k) {
      attainable += lambda[static_cast<std::size_t>(k)] * lambda[static_cast<std::size_t>(k)];
    }
    return 100.0 * (2.0 * linear - square) / attainable;
  }
};

const Problem& problem(std::int64_t p, Spectrum spectrum) {
  static std::map<std::pair<std::int64_t, Spectrum>, std::unique_ptr<Problem>> all;
  auto& one = all[{p, spectrum}];
  if (!one) {
    all.clear();  // one at a time: the largest takes a gigabyte
    return *(all[{p, spectrum}] = std::make_unique<Problem>(p, spectrum));
  }
  return *one;
}

bench::Work work_of(std::int64_t p, std::int64_t units) {
  const auto order = static_cast<double>(p);
  return {order * order * order / 3.0 + 6.0 * order * order * static_cast<double>(units),
          2.0 * order * order * sizeof(float)};
}

void new_units(benchmark::State& state, std::int64_t p, std::int64_t units, Spectrum spectrum, ms::grow::Route route) {
  const Problem& given = problem(p, spectrum);
  ms::grow::Units<float> result;
  bench::measure(state, work_of(p, units), [&] {
    result = ms::grow::new_units<float>(context(), given.s32.view(), ms::View<const float>(given.n32),
                                        {.route = route, .max_units = units});
  });
  state.counters["units"] = static_cast<double>(result.units);
  if (!given.lambda.empty()) state.counters["kept_percent"] = given.kept(result.fan_in, result.fan_out);
}

void cholesky(benchmark::State& state) {
  new_units(state, state.range(0), 64, Spectrum::features, ms::grow::Route::cholesky);
}
void eigen(benchmark::State& state) {
  new_units(state, state.range(0), 64, Spectrum::features, ms::grow::Route::eigen);
}

#if !MERISTEM_GPU
/// gromo's compute_optimal_added_parameters with its threshold of 1e-6, in the calls that PyTorch makes.
void lapack_eigh_svd(benchmark::State& state, std::int64_t order, std::int64_t units, Spectrum spectrum) {
  const Problem& given = problem(order, spectrum);
  const auto p = static_cast<lapack_int>(order);
  const auto size = static_cast<std::size_t>(order * order);
  ms::Context& ctx = context();
  ms::Tensor<float> root(ctx, {order, order}), x(ctx, root.shape()), vectors(ctx, root.shape()),
      scaled(ctx, root.shape()), values(ctx, {order});
  std::vector<float> lambda(static_cast<std::size_t>(order)), left(size), right(size);
  ms::Tensor<float> alpha, omega;
  bench::measure(state, work_of(order, units), [&] {
    ms::copy(ctx, given.s32.view(), vectors.view());
    ms::syevd(ctx, vectors.view(), values.view());  // LAPACK's ssyevd; LAPACKE's own rounds the workspace of large ones
    for (std::int64_t i = 0; i < order; ++i) {
      const float value = values.data()[i];
      const float factor = value > 1e-6f ? 1.0f / std::sqrt(value) : 0.0f;
      for (std::int64_t j = 0; j < order; ++j) scaled.data()[i * order + j] = factor * vectors.data()[i * order + j];
    }
    ms::gemm(ctx, Transpose::yes, Transpose::no, 1, scaled.view(), vectors.view(), 0, root.view());
    ms::gemm(ctx, Transpose::no, Transpose::no, 1, root.view(), given.n32.view(), 0, x.view());
    // In column order x is its transpose: U and V change places.
    LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'S', p, p, x.data(), p, lambda.data(), right.data(), p, left.data(), p);
    ms::Tensor<float> u(ctx, {units, order});
    omega = ms::Tensor<float>(ctx, {units, order});
    for (std::int64_t k = 0; k < units; ++k) {
      const float factor = std::sqrt(lambda[static_cast<std::size_t>(k)]);
      for (std::int64_t j = 0; j < order; ++j) {
        u.data()[k * order + j] = factor * left[static_cast<std::size_t>(j * order + k)];
        omega.data()[k * order + j] = factor * right[static_cast<std::size_t>(k * order + j)];
      }
    }
    alpha = ms::Tensor<float>(ctx, {units, order});
    ms::gemm(ctx, Transpose::no, Transpose::no, 1, u.view(), root.view(), 0, alpha.view());
  });
  state.counters["units"] = static_cast<double>(units);
  if (!given.lambda.empty()) state.counters["kept_percent"] = given.kept(alpha, omega);
}
#endif

/// A linear layer with 64 outputs, p inputs of its producer and 65 of its own, the bias included.
void solve(benchmark::State& state) {
  ms::Context& ctx = context();
  const std::int64_t p = state.range(0), n = 4 * p, outputs = 64, consumer = 65;
  const auto samples = [&](std::int64_t features, std::uint64_t seed, bool bias) {
    auto values = ms::to_host(ctx, normal_matrix({n, features}, seed, 0.5));
    for (std::int64_t t = 1; bias && t <= n; ++t) values[static_cast<std::size_t>(t * features - 1)] = 1.0f;
    return ms::from_host<float>(ctx, {n, features}, values);
  };
  const auto moment = [&](const ms::Tensor<float>& a, const ms::Tensor<float>& b) {
    ms::Tensor<float> result(ctx, {a.extent(1), b.extent(1)});
    ms::gemm(ctx, Transpose::yes, Transpose::no, 1.0f / static_cast<float>(n), a.view(), b.view(), 0, result.view());
    return result;
  };
  const auto b2 = samples(p, 1, true), b1 = samples(consumer, 2, true), v = samples(outputs, 3, false);
  ms::grow::Moments<float> moments;
  moments.s1 = moment(b1, b1);
  moments.m1 = moment(b1, v);
  moments.s = moment(b2, b2);
  moments.m = moment(b2, v);
  moments.cross = moment(b2, b1);
  moments.goal_norm2 = ms::grow::detail::inner_product<float, float>(ctx, v.view(), v.view()) / static_cast<double>(n);
  moments.samples = n;
  const auto order = static_cast<double>(p);
  const bench::Work work{order * order * order / 3.0 + 2.0 * order * order * outputs,
                         bench::bytes_of(moments.s, moments.m, moments.cross, moments.s1, moments.m1)};
  ms::grow::Solution<float> solution;
  bench::measure(state, work,
                 [&] { solution = ms::grow::solve(ctx, moments, {.max_units = 64, .significance = 0.0}); });
  state.counters["units"] = static_cast<double>(solution.units);
  state.counters["gain"] = solution.gain;
}

void orders(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgName("p");
  for (const std::int64_t p : {288, 577, 1153, 2305, 4609}) bench->Arg(p);
}

BENCHMARK(cholesky)->Name("new_units/cholesky")->Apply(orders);
BENCHMARK(eigen)->Name("new_units/eigen")->Apply(orders);
BENCHMARK(solve)->Name("solve/cholesky")->Apply(bench::rows)->ArgName("p")->Arg(257)->Arg(1025)->Arg(3073);

#define MERISTEM_HARD(name)                                                                      \
  BENCHMARK_CAPTURE(new_units, name, 288, 32, Spectrum::name, ms::grow::Route::cholesky)         \
      ->Name("hard/" #name "/cholesky")                                                          \
      ->Apply(bench::rows);                                                                      \
  BENCHMARK_CAPTURE(new_units, name##_float, 577, 32, Spectrum::name, ms::grow::Route::cholesky) \
      ->Name("hard/" #name "/cholesky/p:577")                                                    \
      ->Apply(bench::rows);                                                                      \
  BENCHMARK_CAPTURE(new_units, name##_eigen, 288, 32, Spectrum::name, ms::grow::Route::eigen)    \
      ->Name("hard/" #name "/eigen")                                                             \
      ->Apply(bench::rows)

MERISTEM_HARD(features);
MERISTEM_HARD(condition);
MERISTEM_HARD(half_rank);
MERISTEM_HARD(scales);

#if !MERISTEM_GPU
void lapack(benchmark::State& state) { lapack_eigh_svd(state, state.range(0), 64, Spectrum::features); }
BENCHMARK(lapack)->Name("new_units/lapack_eigh_svd")->Apply(orders);
#define MERISTEM_HARD_LAPACK(name)                                  \
  BENCHMARK_CAPTURE(lapack_eigh_svd, name, 288, 32, Spectrum::name) \
      ->Name("hard/" #name "/lapack_eigh_svd")                      \
      ->Apply(bench::rows)
MERISTEM_HARD_LAPACK(features);
MERISTEM_HARD_LAPACK(condition);
MERISTEM_HARD_LAPACK(half_rank);
MERISTEM_HARD_LAPACK(scales);
#endif

}  // namespace
