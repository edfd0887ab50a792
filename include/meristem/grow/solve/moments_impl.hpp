// Definitions of moments.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <meristem/grow/solve/moments.hpp>

namespace meristem::grow::detail {

/// a_ii *= factor
template <class T>
struct ScaleDiagonal {
  T* a;
  std::int64_t stride;
  T factor;
  MERISTEM_HD void operator()(std::int64_t i) const { a[i * stride] *= factor; }
};

/// Rows and columns of elements whose variance is not above `least` become those of an independent one of variance
/// `largest`.
template <class T>
struct DropNegligible {
  View<T> a;
  const double* variances;
  double least, largest;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const {
    if (variances[i] > least && variances[j] > least) return;
    a(i, j) = i == j && variances[i] > 0.0 ? static_cast<T>(largest) : T(0);
  }
};

template <Real T>
void require_shape(const std::string& name, const Tensor<T>& tensor, const Shape& shape, const char* meaning) {
  if (tensor.shape() == shape || (tensor.empty() && shape.size() == 0)) return;
  throw ShapeError(concat(name, " has shape ", tensor.shape(), ", expected ", shape, " ", meaning));
}

/// Throws ShapeError unless square; returns the order, 0 for an empty tensor of any rank.
template <Real T>
[[nodiscard]] std::int64_t require_square(const std::string& name, const Tensor<T>& tensor) {
  if (tensor.empty()) return 0;
  if (tensor.rank() == 2 && tensor.extent(0) == tensor.extent(1)) return tensor.extent(0);
  throw ShapeError(concat(name, " has shape ", tensor.shape(), "; a second moment is a square matrix"));
}

template <Real T>
void require_covariance(Context& ctx, const std::string& name, const Tensor<T>& tensor) {
  if (tensor.empty()) return;
  const std::vector<double> variances = diagonal<T>(ctx, tensor.view());
  for (std::size_t i = 0; i < variances.size(); ++i) {
    if (variances[i] >= 0.0) continue;
    throw NumericError(concat(name, ": diagonal element ", i, " is ", variances[i],
                              "; a second moment cannot be negative: accumulate sums of outer products"));
  }
}

template <Real T>
Extents require_moments(Context& ctx, const Moments<T>& moments, bool with_fisher) {
  const auto name = [&](const char* symbol) { return qualified(moments.layer, symbol); };
  Extents e{require_square(name("S"), moments.s), require_square(name("S1"), moments.s1), 0};
  if (moments.m.rank() != 2 || moments.m.extent(0) != e.p) {
    throw ShapeError(
        concat(name("M"), " has shape ", moments.m.shape(), ", expected (p, q) with p = ", e.p, ", the order of S"));
  }
  e.q = moments.m.extent(1);
  require_shape(name("M1"), moments.m1, {e.d, e.q}, "(d, q): the order of S1, the columns of M");
  require_shape(name("P"), moments.cross, {e.p, e.d}, "(p, d): the orders of S and S1");
  if (moments.samples <= 0) {
    throw ArgumentError(concat(name("the number of samples"), " is ", moments.samples,
                               "; growth needs statistics of at least one sample"));
  }
  if (!std::isfinite(moments.goal_norm2) || moments.goal_norm2 < 0.0) {
    throw NumericError(concat(name("the mean squared norm of the desired update"), " is ", moments.goal_norm2,
                              "; it must be finite and not negative"));
  }
  if (!(moments.resolution >= 0.0 && moments.resolution < 1.0)) {
    throw ArgumentError(concat(name("the resolution of the moments"), " is ", moments.resolution,
                               "; it is the epsilon of the type they were accumulated in, or 0 for that of T"));
  }
  std::vector<Named<T>> given;
  const auto add = [&](const char* symbol, const Tensor<T>& matrix) {
    if (!matrix.empty()) given.push_back({name(symbol), matrix.view()});
  };
  add("S", moments.s);
  add("S1", moments.s1);
  add("M", moments.m);
  if (e.d > 0) {
    add("M1", moments.m1);
    add("P", moments.cross);
  }
  if (with_fisher) {
    add("E", moments.fisher);
    if (moments.fisher.empty() && e.q > 0) {
      throw ArgumentError(concat(name("E"), " is empty, but the Fisher preconditioning needs it: accumulate E, (", e.q,
                                 ", ", e.q, "), or set fisher = false"));
    }
    require_shape(name("E"), moments.fisher, {e.q, e.q}, "(q, q): the columns of M");
  }
  require_finite<T>(ctx, given);
  require_covariance(ctx, name("S"), moments.s);
  require_covariance(ctx, name("S1"), moments.s1);
  if (with_fisher) require_covariance(ctx, name("E"), moments.fisher);
  return e;
}

template <Real T>
void damp_known(Context& ctx, double share, Tensor<T>& a, std::vector<double>& variances) {
  if (!(share >= 0.0) || std::isinf(share))
    throw ArgumentError(concat("damp: the share is ", share, "; it is 0 or more"));
  const auto p = static_cast<std::int64_t>(variances.size());
  if (p == 0 || share == 0.0) return;
  const double largest = *std::max_element(variances.begin(), variances.end());
  const double least = negligible_variance * largest;
  const auto negligible = [&](double v) { return v > 0.0 && v <= least; };
  if (std::any_of(variances.begin(), variances.end(), negligible)) {
    const Tensor<double> there = from_host<double>(ctx, {p}, variances);
    for_each(ctx, p, p, DropNegligible<T>{a.view(), there.data(), least, largest});
  }
  const auto factor = static_cast<T>(1.0 + share);
  for_each(ctx, p, ScaleDiagonal<T>{a.data(), p + 1, factor});
  for (double& v : variances) {
    v = static_cast<double>(factor * static_cast<T>(negligible(v) ? largest : std::max(v, 0.0)));
  }
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
void damp(Context& ctx, double share, Tensor<T>& a) {
  std::vector<double> variances;
  if (detail::require_square("damp: the matrix", a) > 0 && share != 0.0) variances = detail::diagonal<T>(ctx, a.view());
  detail::damp_known(ctx, share, a, variances);
}

}  // namespace meristem::grow
