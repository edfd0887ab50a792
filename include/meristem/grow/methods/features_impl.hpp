// Definitions of features.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <meristem/core/blas.hpp>
#include <meristem/core/lapack.hpp>
#include <meristem/grow/methods/features.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

/// Random fan-ins that are tried.
inline constexpr std::int64_t random_features = 512;

/// Ridge in units of each feature's own variance: features are much alike, and without one those that hardly differ
/// would get large weights of opposite signs, with which training is not stable.
inline constexpr double feature_ridge = 0.1;

MERISTEM_INLINE Tensor<double> feature_fan_ins(Context& ctx, const SiteMoments& site, const Insertion& found) {
  const auto p = static_cast<std::size_t>(site.inputs), features = static_cast<std::size_t>(features_of(site));
  const std::vector<double> variances = diagonal<double>(ctx, site.moments.s.view());
  const Philox random = random_of(ctx, site, Draw::features);
  std::uint64_t draw = 0;
  std::vector<double> rows(static_cast<std::size_t>(random_features) * p, 0.0);
  for (std::size_t k = 0; k < static_cast<std::size_t>(random_features); ++k) {
    for (std::size_t i = 0; i < features; ++i) {
      rows[k * p + i] = variances[i] > 0.0 ? random.normal(draw++) / std::sqrt(variances[i]) : 0.0;
    }
  }
  const Tensor<double> weights = from_host<double>(ctx, {random_features, site.inputs}, rows);
  Tensor<double> seen(ctx, weights.shape());
  gemm(ctx, Transpose::no, Transpose::no, 1, weights.view(), site.moments.s.view(), 0, seen.view());
  const std::vector<double> sums = to_host(ctx, seen);
  for (std::size_t k = 0; k < static_cast<std::size_t>(random_features); ++k) {
    double square = 0.0;
    for (std::size_t i = 0; i < features; ++i) square += rows[k * p + i] * sums[k * p + i];
    for (std::size_t i = 0; i < features; ++i) rows[k * p + i] *= square > 0.0 ? 1.0 / std::sqrt(square) : 0.0;
    if (site.unit_bias) rows[k * p + features] = random.normal(draw++);
  }
  Tensor<double> opposite = clone(ctx, found.fan_in);
  kernels::scale<double>(ctx, -1.0, opposite.view());
  return stacked(ctx, stacked(ctx, clone(ctx, found.fan_in), opposite),
                 from_host<double>(ctx, {random_features, site.inputs}, rows));
}

MERISTEM_INLINE PickedFeatures pick_features(std::vector<double> c, std::vector<double> g, std::size_t count,
                                             std::size_t outputs, std::size_t taken, std::int64_t most,
                                             double threshold, double ridge) {
  std::vector<double> whole(count);
  for (std::size_t k = 0; k < count; ++k) {
    whole[k] = c[k * count + k];
    c[k * count + k] *= 1.0 + ridge;
  }
  // What is left of a copy is the ridge, and without one rounding.
  const auto fresh = [&](std::size_t k) {
    return whole[k] > 0.0 && c[k * count + k] > (1.01 * ridge + 1e-9) * whole[k];
  };
  const auto explains = [&](std::size_t k) {
    double squares = 0.0;
    for (std::size_t o = 0; o < outputs; ++o) squares += g[k * outputs + o] * g[k * outputs + o];
    return squares / c[k * count + k];
  };
  struct Step {
    std::vector<double> row, target;  // C_j. and G_j. when j was picked
  };
  std::vector<std::size_t> order;
  std::vector<Step> steps;
  const auto eliminate = [&](std::size_t j) {
    Step step;
    step.row.assign(c.begin() + static_cast<std::ptrdiff_t>(j * count),
                    c.begin() + static_cast<std::ptrdiff_t>((j + 1) * count));
    step.target.assign(g.begin() + static_cast<std::ptrdiff_t>(j * outputs),
                       g.begin() + static_cast<std::ptrdiff_t>((j + 1) * outputs));
    const double pivot = step.row[j];
    for (std::size_t k = 0; k < count; ++k) {
      const double share = step.row[k] / pivot;
      if (share == 0.0) continue;
      for (std::size_t i = 0; i < count; ++i) c[k * count + i] -= share * step.row[i];
      for (std::size_t o = 0; o < outputs; ++o) g[k * outputs + o] -= share * step.target[o];
    }
    order.push_back(j);
    steps.push_back(std::move(step));
  };
  for (std::size_t j = 0; j < taken; ++j) {
    if (fresh(j)) eliminate(j);
  }
  const std::size_t first = order.size();
  PickedFeatures result;
  while (true) {
    std::size_t best = count;
    double value = 0.0;
    for (std::size_t k = taken; k < count; ++k) {
      const bool known = std::find(order.begin(), order.end(), k) != order.end();
      if (known || !fresh(k) || explains(k) <= value) continue;
      value = explains(k);
      best = k;
    }
    result.next = std::sqrt(value);
    if (best == count || static_cast<std::int64_t>(order.size() - first) >= most || result.next <= threshold) break;
    result.gain += value;
    eliminate(best);
  }
  // Back substitution: the last one's fan-out is known, the others' follow.
  const std::vector<std::size_t> which(order.begin() + static_cast<std::ptrdiff_t>(first), order.end());
  result.which.assign(which.begin(), which.end());
  result.fan_out.assign(which.size() * outputs, 0.0);
  for (std::size_t s = which.size(); s-- > 0;) {
    const Step& step = steps[first + s];
    const double pivot = step.row[which[s]];
    for (std::size_t o = 0; o < outputs; ++o) {
      double value = step.target[o];
      for (std::size_t later = s + 1; later < which.size(); ++later) {
        value -= step.row[which[later]] * result.fan_out[later * outputs + o];
      }
      result.fan_out[s * outputs + o] = value / pivot;
    }
  }
  return result;
}

/// L (n, n), lower, with L Lᵀ = A + ridge diag(A) for a second moment a (n, n); a ridge that rounding outweighs is
/// raised. Elements without variance have rows of zeros.
[[nodiscard]] MERISTEM_INLINE Tensor<double> factor(Context& ctx, std::vector<double> a, double ridge) {
  const auto n = static_cast<std::size_t>(std::llround(std::sqrt(static_cast<double>(a.size()))));
  std::vector<double> scale(n, 0.0);
  for (std::size_t i = 0; i < n; ++i) scale[i] = a[i * n + i] > 0.0 ? std::sqrt(a[i * n + i]) : 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      const double product = scale[i] * scale[j];
      a[i * n + j] = i == j ? 1.0 : product > 0.0 ? a[i * n + j] / product : 0.0;
    }
  }
  const auto order = static_cast<std::int64_t>(n);
  Tensor<double> result;
  do {
    for (std::size_t i = 0; i < n; ++i) a[i * n + i] = 1.0 + ridge;
    result = from_host<double>(ctx, {order, order}, a);
    ridge *= 2.0;
  } while (try_potrf(ctx, Triangle::lower, result.view()) != 0);
  std::vector<double> values = to_host(ctx, result);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) values[i * n + j] = j <= i ? scale[i] * values[i * n + j] : 0.0;
  }
  return from_host<double>(ctx, {order, order}, values);
}

MERISTEM_INLINE double feature_noise(Context& ctx, const SiteMoments& site, const std::vector<double>& c,
                                     const Tensor<double>& residual, std::int64_t samples, std::size_t taken) {
  constexpr int draws = 9;
  const std::int64_t q = residual.extent(0);
  const Tensor<double> features = factor(ctx, c, feature_ridge), outputs = factor(ctx, to_host(ctx, residual), 1e-6);
  const std::int64_t count = features.extent(0);
  const Philox random = random_of(ctx, site, Draw::feature_noise);
  std::uint64_t at = 0;
  double most = 0.0;
  for (int draw = 0; draw < draws; ++draw) {
    std::vector<double> normal(static_cast<std::size_t>(count * q));
    for (double& value : normal) value = random.normal(at++) / std::sqrt(static_cast<double>(samples));
    const Tensor<double> white = from_host<double>(ctx, {count, q}, normal);
    Tensor<double> rows(ctx, {count, q}), noise(ctx, {count, q});
    gemm(ctx, Transpose::no, Transpose::no, 1, features.view(), white.view(), 0, rows.view());
    gemm(ctx, Transpose::no, Transpose::yes, 1, rows.view(), outputs.view(), 0, noise.view());
    const auto picked = pick_features(c, to_host(ctx, noise), static_cast<std::size_t>(count),
                                      static_cast<std::size_t>(q), taken, 0, 0.0, feature_ridge);
    most = std::max(most, picked.next);
  }
  return most;
}

/// c -= Aᵀ B, row of A by row.
struct SubtractProducts {
  View<const double> a, b;
  View<double> c;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const {
    for (std::int64_t k = 0; k < a.extent(0); ++k) c(i, j) -= a(k, i) * b(k, j);
  }
};

MERISTEM_INLINE void add_features(Context& ctx, const SiteMoments& site, const Tensor<double>& fan_ins,
                                  const Moments<double>& features, Choice& choice) {
  const auto q = static_cast<std::size_t>(site.outputs);
  const std::size_t count = static_cast<std::size_t>(fan_ins.extent(0)),
                    taken = 2 * static_cast<std::size_t>(choice.insertion.units);
  // What today's weights make of the features: P S1⁺.
  std::vector<double> c = to_host(ctx, features.s);
  Tensor<double> made;
  if (site.consumer_inputs > 0) {
    Tensor<double> s1 = clone(ctx, site.moments.s1);
    damp(ctx, site.consumer_damping, s1);
    const Tensor<double> transposed = detail::converted_transposed<double, double>(ctx, features.cross.view());
    made = std::move(best_move<double>(ctx, s1.view(), transposed.view(), {}, site.moments.resolution).weights);
    Tensor<double> left = clone(ctx, features.s);
    gemm(ctx, Transpose::no, Transpose::yes, -1, made.view(), features.cross.view(), 1, left.view());
    c = to_host(ctx, left);
  }
  const View<const double> move = site.move.weights;
  std::vector<double> g = to_host(ctx, residual_cross<double>(ctx, features.m, features.cross, move));
  // Of a feature that today's weights make as well, nothing but rounding is left.
  const std::vector<double> whole = diagonal<double>(ctx, features.s.view());
  for (std::size_t k = 0; k < count; ++k) {
    if (c[k * count + k] > 1e3 * features.resolution * whole[k]) continue;
    for (std::size_t i = 0; i < count; ++i) c[k * count + i] = c[i * count + k] = 0.0;
    for (std::size_t o = 0; o < q; ++o) g[k * q + o] = 0.0;
  }
  double threshold = 0.0;
  if (site.significance > 0.0) {
    // Of what the move leaves the size is known, of E that of the whole.
    Tensor<double> residual = clone(ctx, features.fisher);
    const double left = features.goal_norm2 > 0.0 ? std::min(site.bottleneck / features.goal_norm2, 1.0) : 0.0;
    kernels::scale<double>(ctx, left, residual.view());
    threshold = site.significance * feature_noise(ctx, site, c, residual, features.samples, taken);
  }
  const std::int64_t most = site.max_units - choice.insertion.units;
  const PickedFeatures picked = pick_features(c, g, count, q, taken, most, threshold, feature_ridge);
  if (picked.which.empty()) return;
  Insertion& insertion = choice.insertion;
  // Shared out between both sides as in TINY's units, whose pre-activations have the root mean square of the fan-out's
  // norm; a ReLU leaves the function alone. Kept at a root mean square of 1, features with small fan-outs would be
  // large inputs of the consumer, at which its learning rate is too high.
  const auto added = std::ssize(picked.which);
  std::vector<double> scales, fan_out = picked.fan_out;
  for (std::size_t s = 0; s < picked.which.size(); ++s) {
    double squares = 0.0;
    for (std::size_t o = 0; o < q; ++o) squares += fan_out[s * q + o] * fan_out[s * q + o];
    scales.push_back(squares > 0.0 ? std::sqrt(std::sqrt(squares)) : 1.0);
    for (std::size_t o = 0; o < q; ++o) fan_out[s * q + o] /= scales.back();
  }
  insertion.fan_in =
      stacked(ctx, std::move(insertion.fan_in), gathered<double, double>(ctx, fan_ins.view(), picked.which, scales));
  insertion.fan_out =
      stacked(ctx, std::move(insertion.fan_out), from_host<double>(ctx, {added, site.outputs}, fan_out));
  insertion.units += added;
  choice.gain += picked.gain;
  choice.first_order_gain.reset();
  // The move gives back what the features do within the span of today's weights.
  if (site.move_weights && site.consumer_inputs > 0) {
    if (insertion.move.empty()) insertion.move = clone(ctx, site.move.weights);
    const Tensor<double> within = slices(ctx, made, 0, picked.which),
                         outputs = from_host<double>(ctx, {added, site.outputs}, picked.fan_out);
    for_each(ctx, site.outputs, site.consumer_inputs,
             SubtractProducts{outputs.view(), within.view(), insertion.move.view()});
    const Tensor<double> m1t = converted_transposed<double, double>(ctx, site.moments.m1.view());
    choice.move_decrease = inner_product<double, double>(ctx, insertion.move.view(), m1t.view());
  }
  const std::string note = concat(added, added == 1 ? " unit is a random feature" : " units are random features",
                                  ", as nothing more is significant that is linear in the layer's inputs");
  // Without any unit before, the note says why there was none.
  choice.note = taken == 0 ? note : choice.note + (choice.note.empty() ? "" : "; ") + note;
}

}  // namespace meristem::grow::detail
