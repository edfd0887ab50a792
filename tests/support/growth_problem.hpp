// Samples at one place of growth, their moments, and what growth must find there, in plain double loops.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/grow/solve/solve.hpp>
#include <support/check.hpp>
#include <support/dense.hpp>

namespace support {

/// B2 (p, n), B1 (d, n) and V_goal (q, n).
struct GrowthProblem {
  Dense b2, b1, v;

  [[nodiscard]] double n() const { return static_cast<double>(v.columns); }
  [[nodiscard]] Dense moment(const Dense& a, const Dense& b) const { return (1 / n()) * (a * transposed(b)); }
  [[nodiscard]] double norm2(const Dense& a) const { return dot(a, a) / n(); }

  /// (q, d), minimum norm
  [[nodiscard]] Dense best_move() const { return transposed(power(moment(b1, b1), -1) * moment(b1, v)); }
  [[nodiscard]] Dense residual() const { return b1.rows == 0 ? v : v - best_move() * b1; }
  /// N (p, q)
  [[nodiscard]] Dense cross() const { return moment(b2, residual()); }
  [[nodiscard]] std::vector<double> lambda() const { return singular_values(power(moment(b2, b2), -0.5) * cross()); }

  template <class T>
  [[nodiscard]] ms::grow::Moments<T> moments(ms::Context& ctx) const;
};

template <class T>
ms::Tensor<T> to_tensor(ms::Context& ctx, const Dense& a) {
  return ms::from_host<T>(ctx, {a.rows, a.columns}, std::vector<T>(a.values.begin(), a.values.end()));
}

template <class T>
Dense to_dense(ms::Context& ctx, const ms::Tensor<T>& a) {
  return Dense(a.extent(0), a.extent(1), ms::to_host(ctx, a));
}

template <class T>
ms::grow::Moments<T> GrowthProblem::moments(ms::Context& ctx) const {
  ms::grow::Moments<T> result;
  if (b1.rows > 0) {
    result.s1 = to_tensor<T>(ctx, moment(b1, b1));
    result.m1 = to_tensor<T>(ctx, moment(b1, v));
    result.cross = to_tensor<T>(ctx, moment(b2, b1));
  }
  result.s = to_tensor<T>(ctx, moment(b2, b2));
  result.m = to_tensor<T>(ctx, moment(b2, v));
  result.fisher = to_tensor<T>(ctx, moment(v, v));
  result.goal_norm2 = norm2(v);
  result.samples = v.columns;
  return result;
}

/// Normal samples; the last rows of b1 and b2 are 1 with `bias`, b1 is a function of b2, and v depends on both.
inline GrowthProblem random_problem(std::int64_t p, std::int64_t d, std::int64_t q, std::int64_t n, std::uint64_t seed,
                                    bool bias = false) {
  GrowthProblem result{Dense(p, n, normal_values<double>(p * n, seed)),
                       Dense(d, n, normal_values<double>(d * n, seed + 1)),
                       Dense(q, n, normal_values<double>(q * n, seed + 2))};
  for (std::int64_t t = 0; t < n; ++t) {
    for (std::int64_t i = 0; i < d; ++i) result.b1(i, t) += 0.7 * std::tanh(result.b2(i % p, t));
    if (bias) {
      result.b2(p - 1, t) = 1;
      if (d > 0) result.b1(d - 1, t) = 1;
    }
    for (std::int64_t i = 0; i < q; ++i) {
      result.v(i, t) += result.b2((i + 1) % p, t) * (1 + 0.1 * static_cast<double>(i)) + (bias ? 0.3 : 0.0);
      if (d > 0) result.v(i, t) += 0.5 * result.b1(i % d, t);
    }
  }
  return result;
}

/// Σ α_k ω_kᵀ (p, q)
template <class Found>
Dense product_of_units(ms::Context& ctx, const Found& found) {
  return transposed(to_dense(ctx, found.fan_in)) * to_dense(ctx, found.fan_out);
}

inline void check_dense(const Dense& actual, const Dense& expected, double tolerance, const std::string& what) {
  INFO(what);
  REQUIRE(actual.rows == expected.rows);
  REQUIRE(actual.columns == expected.columns);
  check_close(actual.values, expected.values, tolerance, what);
}

}  // namespace support
