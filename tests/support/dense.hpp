// Plain loops on double matrices: the oracle of the linear algebra in growth. Shares no code with the library.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace support {

struct Dense {
  std::int64_t rows = 0, columns = 0;
  std::vector<double> values;

  Dense() = default;
  Dense(std::int64_t m, std::int64_t n) : rows(m), columns(n), values(static_cast<std::size_t>(m * n), 0.0) {}
  template <class T>
  Dense(std::int64_t m, std::int64_t n, const std::vector<T>& given)
      : rows(m), columns(n), values(given.begin(), given.end()) {}

  double& operator()(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i * columns + j)]; }
  double operator()(std::int64_t i, std::int64_t j) const { return values[static_cast<std::size_t>(i * columns + j)]; }
};

inline Dense transposed(const Dense& a) {
  Dense c(a.columns, a.rows);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < a.columns; ++j) c(j, i) = a(i, j);
  }
  return c;
}

inline Dense operator*(const Dense& a, const Dense& b) {
  Dense c(a.rows, b.columns);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t k = 0; k < a.columns; ++k) {
      for (std::int64_t j = 0; j < b.columns; ++j) c(i, j) += a(i, k) * b(k, j);
    }
  }
  return c;
}

inline Dense operator*(double factor, Dense a) {
  for (double& value : a.values) value *= factor;
  return a;
}

inline Dense operator-(Dense a, const Dense& b) {
  for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] -= b.values[i];
  return a;
}

inline double dot(const Dense& a, const Dense& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.values.size(); ++i) sum += a.values[i] * b.values[i];
  return sum;
}

inline double largest(const Dense& a) {
  double result = 0.0;
  for (const double value : a.values) result = std::max(result, std::abs(value));
  return result;
}

struct Eigen {
  std::vector<double> values;  ///< descending
  Dense vectors;               ///< column k belongs to values[k]
};

/// Cyclic Jacobi rotations of a symmetric matrix.
inline Eigen jacobi(Dense a) {
  const std::int64_t n = a.rows;
  Dense v(n, n);
  for (std::int64_t i = 0; i < n; ++i) v(i, i) = 1.0;
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool rotated = false;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = i + 1; j < n; ++j) {
        if (std::abs(a(i, j)) <= 1e-17 * std::sqrt(std::abs(a(i, i) * a(j, j))) || a(i, j) == 0.0) continue;
        rotated = true;
        const double theta = (a(j, j) - a(i, i)) / (2 * a(i, j));
        const double t = (theta >= 0 ? 1.0 : -1.0) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (std::int64_t k = 0; k < n; ++k) {
          const double x = a(k, i), y = a(k, j);
          a(k, i) = c * x - s * y;
          a(k, j) = s * x + c * y;
        }
        for (std::int64_t k = 0; k < n; ++k) {
          const double x = a(i, k), y = a(j, k);
          a(i, k) = c * x - s * y;
          a(j, k) = s * x + c * y;
        }
        a(i, j) = a(j, i) = 0.0;
        for (std::int64_t k = 0; k < n; ++k) {
          const double x = v(k, i), y = v(k, j);
          v(k, i) = c * x - s * y;
          v(k, j) = s * x + c * y;
        }
      }
    }
    if (!rotated) break;
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) { return a(i, i) > a(j, j); });
  Eigen result{{}, Dense(n, n)};
  for (std::int64_t k = 0; k < n; ++k) {
    const std::int64_t from = order[static_cast<std::size_t>(k)];
    result.values.push_back(a(from, from));
    for (std::int64_t i = 0; i < n; ++i) result.vectors(i, k) = v(i, from);
  }
  return result;
}

/// S to a power on the eigenvectors whose eigenvalues exceed `tolerance` times the largest, 0 on the others.
inline Dense power(const Dense& s, double exponent, double tolerance = 1e-12) {
  const Eigen e = jacobi(s);
  Dense result(s.rows, s.rows);
  for (std::int64_t k = 0; k < s.rows; ++k) {
    const double value = e.values[static_cast<std::size_t>(k)];
    if (value <= tolerance * e.values[0]) continue;
    const double factor = std::pow(value, exponent);
    for (std::int64_t i = 0; i < s.rows; ++i) {
      for (std::int64_t j = 0; j < s.rows; ++j) result(i, j) += factor * e.vectors(i, k) * e.vectors(j, k);
    }
  }
  return result;
}

/// The min(rows, columns) singular values, descending.
inline std::vector<double> singular_values(const Dense& x) {
  std::vector<double> values = jacobi(x.rows < x.columns ? x * transposed(x) : transposed(x) * x).values;
  for (double& value : values) value = std::sqrt(std::max(value, 0.0));
  return values;
}

}  // namespace support
