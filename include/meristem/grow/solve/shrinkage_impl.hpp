// Definitions of shrinkage.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/grow/solve/shrinkage.hpp>

namespace meristem::grow::detail {

/// What the best multiple of a linear map explains of a residual: the map has the inner product `inner` with it, and
/// the squared norm `norm2`. A map that points the wrong way explains nothing.
[[nodiscard]] MERISTEM_INLINE double explained_by_multiple(double inner, double norm2) {
  return inner > 0.0 && norm2 > 0.0 ? inner * inner / norm2 : 0.0;
}

/// variances[i] = a(i, i), out[i] = a(i, i)^{-1/2}, 0 where `damp` takes the variance for zero.
struct InverseDeviations {
  static constexpr std::int64_t elements = 64;
  View<const double> a;
  double* variances;
  double* out;
  MERISTEM_HD void operator()(std::int64_t i) const {
    double largest = 0.0;
    for (std::int64_t j = 0; j < a.extent(0); ++j) largest = a(j, j) > largest ? a(j, j) : largest;
    variances[i] = a(i, i);
    out[i] = a(i, i) > negligible_variance * largest ? 1.0 / std::sqrt(a(i, i)) : 0.0;
  }
};

/// to = D⁻¹ from D⁻¹
template <class U>
struct EquilibrateAll {
  View<const double> from;
  const double* inverse_scale;
  View<U> to;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const {
    to(i, j) = static_cast<U>(from(i, j) * inverse_scale[i] * inverse_scale[j]);
  }
};

/// to(half, j, i) = (mean(i, j) ± noise(i, j)) / D_i
template <class U>
struct SplitCross {
  View<const double> mean, noise;
  const double* inverse_scale;
  View<U> to;
  MERISTEM_HD void operator()(std::int64_t half, std::int64_t j, std::int64_t i) const {
    const double signed_noise = half == 0 ? noise(i, j) : -noise(i, j);
    to(half, j, i) = static_cast<U>((mean(i, j) + signed_noise) * inverse_scale[i]);
  }
};

/// The moments of two random halves of the samples, in units of the inputs' deviations D = diag(S)^{1/2}: there damping
/// adds the share to the diagonal.
template <Real U>
struct Halves {
  Halves(Context& ctx, View<const double> second_moment, View<const double> mean, View<const double> noise)
      : variances(ctx, {mean.extent(0)}), inverse_scale(ctx, {mean.extent(0)}), outputs(mean.extent(1)) {
    const std::int64_t p = mean.extent(0);
    for_each(ctx, p, InverseDeviations{second_moment, variances.data(), inverse_scale.data()});
    s = Tensor<U>(ctx, second_moment.shape());
    cross = Tensor<U>(ctx, {2, outputs, p});
    for_each_of(ctx, part(p, p, EquilibrateAll<U>{second_moment, inverse_scale.data(), s.view()}),
                part(2, outputs, p, SplitCross<U>{mean, noise, inverse_scale.data(), cross.view()}));
  }

  /// D⁻¹ a D⁻¹
  [[nodiscard]] Tensor<U> equilibrated(Context& ctx, View<const double> a) const {
    Tensor<U> result(ctx, a.shape());
    for_each(ctx, a.extent(0), a.extent(1), EquilibrateAll<U>{a, inverse_scale.data(), result.view()});
    return result;
  }

  /// Both halves' cross moments transposed, one below the other (2 m, p).
  [[nodiscard]] View<const U> both() const { return cross.view().reshape({2 * outputs, cross.extent(2)}); }
  [[nodiscard]] View<const U> half(std::int64_t which) const {
    return both().slice(0, which * outputs, (which + 1) * outputs);
  }

  Tensor<double> variances;      ///< D² (p)
  Tensor<double> inverse_scale;  ///< D⁻¹ (p)
  std::int64_t outputs;          ///< m
  Tensor<U> s;                   ///< D⁻¹ S D⁻¹ (p, p)
  Tensor<U> cross;               ///< (2, m, p)
};

/// inner[i] = ⟨a_i, b_{i + shift}⟩ and norm2[i] = ⟨c_i, d_i⟩ of rows, where rows of b go on at the first one.
template <class U>
struct Products {
  View<const U> a, b, c, d;
  std::int64_t shift;
  double* inner;
  double* norm2;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const std::int64_t other = (i + shift) % b.extent(0);
    double sum = 0.0;
    for (std::int64_t j = 0; j < a.extent(1); ++j) {
      sum += static_cast<double>(a(i, j)) * static_cast<double>(b(other, j));
    }
    inner[i] = sum;
    RowDots<U, U>{c, d, norm2}(i);
  }
};

/// rows = rows L⁻ᵀ (Transpose::yes) or rows L⁻¹, for each of the factors (shares, p, p) its own rows (shares, k, p).
template <Real U>
void solve_each(Context& ctx, Transpose transpose, const Tensor<U>& factors, View<U> rows) {
  using meristem::detail::matrix_of;
  for (std::int64_t i = 0; i < factors.extent(0); ++i) {
    trsm(ctx, Side::right, Triangle::lower, transpose, 1, matrix_of(factors.view(), i), matrix_of(rows, i));
  }
}

/// As many copies of some rows (k, p), one after the other.
template <Real U>
[[nodiscard]] Tensor<U> repeated(Context& ctx, View<const U> rows, std::int64_t times) {
  Tensor<U> result(ctx, {times, rows.extent(0), rows.extent(1)});
  for (std::int64_t i = 0; i < times; ++i) copy<U>(ctx, rows, meristem::detail::matrix_of(result.view(), i));
  return result;
}

/// The share whose solutions explain most. For some shares at a time, of which each takes about `numbers` numbers,
/// `explain(factors, inner, norm2, calls)` is given the factors L of s + share I, (shares, p, p), and writes for the
/// solution A of each half the parts, `terms` of them, of its inner product with the other half's cross moment to
/// `inner` (shares, 2, terms), and of its squared norm to `norm2`; all are read when all shares are done. Where a
/// factor breaks down the solution is 0 and explains nothing.
template <Real U, class Explain>
[[nodiscard]] ValidatedDamping validated_damping(Context& ctx, const Halves<U>& halves, View<const U> s,
                                                 std::int64_t terms, std::int64_t numbers, Explain&& explain) {
  constexpr auto shares = static_cast<std::int64_t>(damping_shares.size());
  // A GPU takes them together unless they are large; the CPU has other shares in its caches soon enough.
  constexpr std::int64_t most_numbers = MERISTEM_GPU ? std::int64_t{1} << 26 : 1;
  const std::int64_t at_once = std::clamp<std::int64_t>(most_numbers / std::max<std::int64_t>(numbers, 1), 1, shares);
  Tensor<double> products = zeros<double>(ctx, {2, shares, 2, terms});
  meristem::detail::Decompositions calls;
  // Unless they are large, one of the factors will serve further.
  constexpr std::int64_t most_kept = std::int64_t{1} << 26;
  const std::int64_t p = s.extent(0);
  const bool keeps = shares * p * p <= most_kept;
  std::vector<Tensor<U>> kept;
  Tensor<double> diagonals(ctx, {keeps ? shares : 0, p});
  for (std::int64_t first = 0; first < shares; first += at_once) {
    const std::int64_t count = std::min(at_once, shares - first);
    const std::span some(damping_shares.begin() + first, static_cast<std::size_t>(count));
    double* const inner = products.data() + first * 2 * terms;
    Tensor<U> factors = damped_factors<U>(ctx, s, some, calls, keeps ? diagonals.data() + first * p : nullptr);
    explain(std::as_const(factors), inner, inner + shares * 2 * terms, calls);
    if (keeps) kept.push_back(std::move(factors));
  }
  const auto there =
      to_host(ctx, std::vector<View<const double>>{products.view(), halves.variances.view(), diagonals.view()});
  const auto sum = [&](std::int64_t at) {
    const auto begin = there[0].begin() + at * terms;
    return std::accumulate(begin, begin + terms, 0.0);
  };
  ValidatedDamping best{usual_damping, there[1]};
  double most = 0.0;
  auto index = std::find(damping_shares.begin(), damping_shares.end(), usual_damping) - damping_shares.begin();
  for (std::int64_t i = 0; i < shares; ++i) {
    double value = 0.0;
    for (const std::int64_t half : {2 * i, 2 * i + 1})
      value += explained_by_multiple(sum(half), sum(2 * shares + half));
    if (value > most) {
      most = value;
      index = i;
    }
  }
  best.share = damping_shares[static_cast<std::size_t>(index)];
  if (!keeps) return best;
  const auto pivots = there[2].begin() + index * p;
  if (!std::all_of(pivots, pivots + p, [](double pivot) { return std::isfinite(pivot) && pivot > 0.0; })) return best;
  const double least = p > 0 ? *std::min_element(pivots, pivots + p) : 1.0;
  Tensor<U> factor(ctx, {p, p});
  copy<U>(ctx, meristem::detail::matrix_of(kept[static_cast<std::size_t>(index / at_once)].view(), index % at_once),
          factor.view());
  best.whitening = Whitening<U>::of_scaled_factor(std::move(factor), clone(ctx, halves.inverse_scale),
                                                  least * least / (1.0 + best.share));
  return best;
}

template <Real U>
[[nodiscard]] ValidatedDamping damping_of_move(Context& ctx, View<const double> s1, View<const double> m1,
                                               View<const double> noise) {
  const Halves<U> halves(ctx, s1, m1, noise);
  const std::int64_t d = s1.extent(0), rows = 2 * halves.outputs;
  return validated_damping<U>(
      ctx, halves, halves.s.view(), halves.outputs, d * (d + 2 * rows),
      [&](const Tensor<U>& factors, double* inner, double* norm2, meristem::detail::Decompositions&) {
        Tensor<U> moves = repeated<U>(ctx, halves.both(), factors.extent(0));
        solve_each(ctx, Transpose::yes, factors, moves.view());
        solve_each(ctx, Transpose::no, factors, moves.view());
        const View<const U> all = std::as_const(moves).view().as_matrix();
        Tensor<U> moved(ctx, all.shape());
        gemm(ctx, Transpose::no, Transpose::no, 1, all, halves.s.view(), 0, moved.view());
        for_each(ctx, all.extent(0), Products<U>{all, halves.both(), moved.view(), all, halves.outputs, inner, norm2});
      });
}

/// The `kept` leading triplets of both halves for each of the factors, fan-ins still in whitened coordinates.
template <Real U>
struct HalfUnits {
  Tensor<U> fan_in;   ///< (shares, 2 kept, p)
  Tensor<U> fan_out;  ///< (shares, 2 kept, m)
};

/// By the Krylov space of each.
template <Real U>
[[nodiscard]] HalfUnits<U> few_half_units(Context& ctx, const Halves<U>& halves,
                                          const std::array<Tensor<U>, 2>& by_input, const Tensor<U>& factors,
                                          std::int64_t kept, std::int64_t max_units) {
  const std::int64_t p = factors.extent(1), m = halves.outputs, shares = factors.extent(0);
  HalfUnits<U> result{zeros<U>(ctx, {shares, 2 * kept, p}), zeros<U>(ctx, {shares, 2 * kept, m})};
  for (std::int64_t i = 0; i < shares; ++i) {
    Tensor<U> factor(ctx, {p, p});
    copy<U>(ctx, meristem::detail::matrix_of(factors.view(), i), factor.view());
    const auto whitening = Whitening<U>::of_factor(std::move(factor));
    for (std::int64_t half : {0, 1}) {
      const Triplets found = leading_triplets(
          ctx, WhitenedCross<U>(by_input[static_cast<std::size_t>(half)].view(), &whitening), 0.0, max_units);
      const auto place = [&](const Tensor<double>& rows, Tensor<U>& to) {
        if (rows.empty()) return;
        copy<U>(ctx, converted<U, double>(ctx, rows.view()),
                meristem::detail::matrix_of(to.view(), i).slice(0, half * kept, half * kept + rows.extent(0)));
      };
      place(found.left, result.fan_in);
      place(found.right, result.fan_out);
    }
  }
  return result;
}

/// By all eigenvectors.
template <Real U>
[[nodiscard]] HalfUnits<U> all_half_units(Context& ctx, const Halves<U>& halves, const Tensor<U>& factors,
                                          std::int64_t kept, meristem::detail::Decompositions& calls) {
  const std::int64_t p = factors.extent(1), m = halves.outputs, shares = factors.extent(0);
  Tensor<U> whitened = repeated<U>(ctx, halves.both(), shares);
  solve_each(ctx, Transpose::yes, factors, whitened.view());
  RankedTriplets found;
  if constexpr (std::is_same_v<U, double>) {
    found = all_triplets(ctx, std::as_const(whitened).view().reshape({2 * shares, m, p}), kept, calls);
    return {std::move(found.left).reshape({shares, 2 * kept, p}),
            std::move(found.right).reshape({shares, 2 * kept, m})};
  } else {
    const Tensor<double> there = converted<double, U>(ctx, std::as_const(whitened).view().as_matrix());
    found = all_triplets(ctx, there.view().reshape({2 * shares, m, p}), kept, calls);
    const auto back = [&](const Tensor<double>& rows) {
      return converted<U, double>(ctx, rows.view().as_matrix()).reshape({shares, 2 * kept, rows.extent(2)});
    };
    return {back(found.left), back(found.right)};
  }
}

template <Real U>
[[nodiscard]] ValidatedDamping damping_of_units_in(Context& ctx, View<const double> s, View<const double> unexplained,
                                                   View<const double> mean, View<const double> noise,
                                                   View<const double> metric, std::int64_t max_units) {
  const Halves<U> halves(ctx, s, mean, noise);
  const bool joint = unexplained.data_handle() != s.data_handle();
  const Tensor<U> rest = joint ? halves.equilibrated(ctx, unexplained) : Tensor<U>();
  const std::int64_t p = mean.extent(0), m = halves.outputs, kept = std::min({max_units, p, m});
  const bool few = is_worth_krylov(std::min(p, m), max_units);
  std::array<Tensor<U>, 2> by_input;
  if (few) {
    for (int half : {0, 1})
      by_input[static_cast<std::size_t>(half)] = converted_transposed<U, U>(ctx, halves.half(half));
  }
  const Tensor<U> to_outputs = metric.rank() == 0 ? Tensor<U>() : converted<U, double>(ctx, metric);
  const std::int64_t numbers = p * p + (few ? 2 * kept * (p + m) : 6 * m * p + 2 * std::min(p, m) * std::min(p, m));
  return validated_damping<U>(
      ctx, halves, joint ? rest.view() : halves.s.view(), kept, numbers,
      [&](const Tensor<U>& factors, double* inner, double* norm2, meristem::detail::Decompositions& calls) {
        const std::int64_t shares = factors.extent(0), rows = shares * 2 * kept;
        HalfUnits<U> units = few ? few_half_units<U>(ctx, halves, by_input, factors, kept, max_units)
                                 : all_half_units<U>(ctx, halves, factors, kept, calls);
        solve_each(ctx, Transpose::no, factors, units.fan_in.view());
        const View<const U> fan_in = std::as_const(units.fan_in).view().as_matrix();
        const View<const U> found = std::as_const(units.fan_out).view().as_matrix();
        Tensor<U> outputs;
        if (metric.rank() == 2) {
          const std::int64_t taps = m / metric.extent(0);
          outputs = Tensor<U>(ctx, {rows, taps * metric.extent(1)});
          gemm(ctx, Transpose::no, Transpose::no, 1, found.reshape({rows * taps, metric.extent(0)}), to_outputs.view(),
               0, outputs.view().reshape({rows * taps, metric.extent(1)}));
        }
        const View<const U> fan_out = metric.rank() == 0 ? found : std::as_const(outputs).view();
        Tensor<U> seen(ctx, {rows, m}), moved(ctx, {rows, p}), of_inputs(ctx, {rows, kept}),
            of_outputs(ctx, {rows, kept});
        gemm<U>(ctx, Transpose::no, Transpose::no, 1, fan_in, halves.s.view(), 0, moved.view());
        for (std::int64_t i = 0; i < 2 * shares; ++i) {
          const auto mine = [&](auto all) { return all.slice(0, i * kept, (i + 1) * kept); };
          const View<const U> v = mine(fan_out);
          gemm<U>(ctx, Transpose::no, Transpose::yes, 1, mine(fan_in), halves.half(1 - i % 2), 0, mine(seen.view()));
          gemm<U>(ctx, Transpose::no, Transpose::yes, 1, mine(moved.view()), mine(fan_in), 0, mine(of_inputs.view()));
          gemm<U>(ctx, Transpose::no, Transpose::yes, 1, v, v, 0, mine(of_outputs.view()));
        }
        for_each(ctx, rows, Products<U>{seen.view(), found, of_inputs.view(), of_outputs.view(), 0, inner, norm2});
      });
}

/// The move that a whitening of the damped S1 gives.
[[nodiscard]] MERISTEM_INLINE BestMove<double> best_move_by(Context& ctx,
                                                            const decltype(ValidatedDamping::whitening)& by,
                                                            const Tensor<double>& m1) {
  BestMove<double> result;
  if (const auto* const whitening = std::get_if<Whitening<double>>(&by)) {
    result.weights = whitening->times(ctx, whitening->times_cross(ctx, m1.view()).view());
  } else {
    const auto& single = std::get<Whitening<float>>(by);
    const Tensor<float> cross = converted<float, double>(ctx, m1.view());
    const Tensor<float> move = single.times(ctx, single.times_cross(ctx, cross.view()).view());
    result.weights = converted<double, float>(ctx, move.view());
  }
  Tensor<double> dots(ctx, {result.weights.extent(0)});
  for_each(ctx, dots.size(), DotsWithColumns<double>{std::as_const(result.weights).view(), m1.view(), dots.data()});
  for (const double dot : to_host(ctx, dots)) result.decrease += dot;
  return result;
}

MERISTEM_INLINE ValidatedDamping damping_of_units(Context& ctx, View<const double> s, View<const double> unexplained,
                                                  View<const double> mean, View<const double> noise,
                                                  View<const double> metric, std::int64_t max_units,
                                                  double resolution) {
  if (mean.empty() || noise.empty() || max_units == 0) return {};
  return deserves_double(mean.extent(0), resolution)
             ? damping_of_units_in<double>(ctx, s, unexplained, mean, noise, metric, max_units)
             : damping_of_units_in<float>(ctx, s, unexplained, mean, noise, metric, max_units);
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE detail::DampedMove damped_move(Context& ctx, const Tensor<double>& s1, const Tensor<double>& m1,
                                               const Tensor<double>& noise, std::optional<double> damping, Route route,
                                               double resolution) {
  detail::ValidatedDamping chosen{damping.value_or(usual_damping)};
  if (!damping && !noise.empty() && !s1.empty()) {
    chosen = detail::deserves_double(s1.extent(0), resolution)
                 ? detail::damping_of_move<double>(ctx, s1.view(), m1.view(), noise.view())
                 : detail::damping_of_move<float>(ctx, s1.view(), m1.view(), noise.view());
  }
  if (route == Route::cholesky && chosen.whitening.index() != 0) {
    return {detail::best_move_by(ctx, chosen.whitening, m1), chosen.share};
  }
  if (chosen.variances.empty()) chosen.variances = detail::diagonal<double>(ctx, s1.view());
  Tensor<double> damped = clone(ctx, s1);
  detail::damp_known(ctx, chosen.share, damped, chosen.variances);
  // The least eigenvalue, in units of the variances, is then at least about the share.
  const double ridge = chosen.share > 1e3 * resolution ? detail::no_ridge : 0.0;
  return {detail::best_move_of<double>(ctx, damped.view(), m1.view(), {.route = route, .ridge = ridge}, resolution,
                                       chosen.variances),
          chosen.share};
}

}  // namespace meristem::grow
