// Definitions of shrinkage.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
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

/// out[i] = a(i, i)^{-1/2}, 0 where `damp` takes the variance for zero.
struct InverseDeviations {
  static constexpr std::int64_t elements = 64;
  const double* variances;
  std::int64_t count;
  double* out;
  MERISTEM_HD void operator()(std::int64_t i) const {
    double largest = 0.0;
    for (std::int64_t j = 0; j < count; ++j) largest = variances[j] > largest ? variances[j] : largest;
    out[i] = variances[i] > negligible_variance * largest ? 1.0 / std::sqrt(variances[i]) : 0.0;
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
      : inverse_scale(ctx, {mean.extent(0)}), outputs(mean.extent(1)) {
    const std::int64_t p = mean.extent(0);
    Tensor<double> variances(ctx, {p});
    for_each(ctx, p, Diagonal<double>{second_moment, variances.data()});
    for_each(ctx, p, InverseDeviations{variances.data(), p, inverse_scale.data()});
    s = equilibrated(ctx, second_moment);
    cross = Tensor<U>(ctx, {2, outputs, p});
    for_each(ctx, 2, outputs, p, SplitCross<U>{mean, noise, inverse_scale.data(), cross.view()});
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

  Tensor<double> inverse_scale;  ///< D⁻¹ (p)
  std::int64_t outputs;          ///< m
  Tensor<U> s;                   ///< D⁻¹ S D⁻¹ (p, p)
  Tensor<U> cross;               ///< (2, m, p)
};

/// inner[i] = ⟨a_i, b_{i + shift}⟩ and norm2[i] = ⟨c_i, d_i⟩ of rows, where i + shift goes on at the first row.
template <class U>
struct Products {
  View<const U> a, b, c, d;
  std::int64_t shift;
  double* inner;
  double* norm2;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const std::int64_t other = (i + shift) % a.extent(0);
    double sum = 0.0;
    for (std::int64_t j = 0; j < a.extent(1); ++j) {
      sum += static_cast<double>(a(i, j)) * static_cast<double>(b(other, j));
    }
    inner[i] = sum;
    RowDots<U, U>{c, d, norm2}(i);
  }
};

/// The share whose solutions explain most. For each, `explain(whitening, products, calls)` is given the whitening of
/// s + share I and writes for the solution A of each half the parts, `terms` of them, of its inner product with the
/// other half's cross moment to products(0, half, ·), and of its squared norm to products(1, half, ·), which are read
/// when all shares are done. Where a factor breaks down the solution is 0 and explains nothing.
template <Real U, class Explain>
[[nodiscard]] double validated_damping(Context& ctx, View<const U> s, std::int64_t terms, Explain&& explain) {
  constexpr auto shares = static_cast<std::int64_t>(damping_shares.size());
  Tensor<double> products = zeros<double>(ctx, {shares, 2, 2, terms});
  meristem::detail::Decompositions calls;
  for (std::int64_t i = 0; i < shares; ++i) {
    const auto whitening = Whitening<U>::damped(ctx, s, damping_shares[static_cast<std::size_t>(i)], calls);
    explain(whitening, products.view().slice(0, i, i + 1).reshape({2, 2 * terms}), calls);
  }
  const std::vector<double> there = to_host(ctx, products);
  auto next = there.begin();
  const auto sum = [&] {
    const auto first = next;
    next += terms;
    return std::accumulate(first, next, 0.0);
  };
  double best = usual_damping, most = 0.0;
  for (const double share : damping_shares) {
    const double inner = sum(), other_inner = sum(), norm2 = sum(), other_norm2 = sum();
    const double value = explained_by_multiple(inner, norm2) + explained_by_multiple(other_inner, other_norm2);
    if (value > most) {
      most = value;
      best = share;
    }
  }
  return best;
}

template <Real U>
[[nodiscard]] double damping_of_move(Context& ctx, View<const double> s1, View<const double> m1,
                                     View<const double> noise) {
  const Halves<U> halves(ctx, s1, m1, noise);
  const std::int64_t rows = 2 * halves.outputs;
  return validated_damping<U>(
      ctx, halves.s.view(), halves.outputs,
      [&](const Whitening<U>& whitening, View<double> products, meristem::detail::Decompositions&) {
        const Tensor<U> moves = whitening.times(ctx, whitening.times_transposed(ctx, halves.both()).view());
        Tensor<U> moved(ctx, moves.shape());
        gemm(ctx, Transpose::no, Transpose::no, 1, moves.view(), halves.s.view(), 0, moved.view());
        for_each(ctx, rows,
                 Products<U>{moves.view(), halves.both(), moved.view(), moves.view(), halves.outputs, &products(0, 0),
                             &products(1, 0)});
      });
}

template <Real U>
[[nodiscard]] double damping_of_units_in(Context& ctx, View<const double> s, View<const double> unexplained,
                                         View<const double> mean, View<const double> noise, View<const double> metric,
                                         std::int64_t max_units) {
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
  return validated_damping<U>(
      ctx, joint ? rest.view() : halves.s.view(), kept,
      [&](const Whitening<U>& whitening, View<double> products, meristem::detail::Decompositions& calls) {
        Tensor<double> left = zeros<double>(ctx, {2 * kept, p}), right = zeros<double>(ctx, {2 * kept, m});
        const auto place = [&](std::int64_t half, const Tensor<double>& u, const Tensor<double>& v) {
          if (u.empty()) return;
          const std::int64_t first = half * kept, last = first + u.extent(0);
          copy<double>(ctx, u, left.view().slice(0, first, last));
          copy<double>(ctx, v, right.view().slice(0, first, last));
        };
        if (few) {
          for (std::size_t half : {0, 1}) {
            const Triplets found =
                leading_triplets(ctx, WhitenedCross<U>(by_input[half].view(), &whitening), 0.0, max_units);
            place(static_cast<std::int64_t>(half), found.left, found.right);
          }
        } else {
          const Tensor<double> whitened =
              converted<double, U>(ctx, whitening.times_transposed(ctx, halves.both()).view());
          for (std::int64_t half : {0, 1}) {
            const RankedTriplets found =
                all_triplets(ctx, whitened.view().slice(0, half * m, (half + 1) * m), 0.0, max_units, calls);
            place(half, found.left, found.right);
          }
        }
        const Tensor<U> fan_in = whitening.times(ctx, converted<U, double>(ctx, left.view()).view());
        const Tensor<U> found = converted<U, double>(ctx, right.view());
        Tensor<U> fan_out;
        if (metric.rank() == 2) {
          const std::int64_t taps = m / metric.extent(0);
          fan_out = Tensor<U>(ctx, {2 * kept, taps * metric.extent(1)});
          gemm(ctx, Transpose::no, Transpose::no, 1, found.view().reshape({2 * kept * taps, metric.extent(0)}),
               to_outputs.view(), 0, fan_out.view().reshape({2 * kept * taps, metric.extent(1)}));
        }
        Tensor<U> seen(ctx, {2 * kept, m}), moved(ctx, {2 * kept, p}), of_inputs(ctx, {2 * kept, kept}),
            of_outputs(ctx, {2 * kept, kept});
        gemm<U>(ctx, Transpose::no, Transpose::no, 1, fan_in.view(), halves.s.view(), 0, moved.view());
        for (std::int64_t half : {0, 1}) {
          const auto mine = [&](auto& rows) { return rows.view().slice(0, half * kept, (half + 1) * kept); };
          const View<const U> v = mine(metric.rank() == 0 ? found : std::as_const(fan_out));
          gemm<U>(ctx, Transpose::no, Transpose::yes, 1, mine(fan_in), halves.half(1 - half), 0, mine(seen));
          gemm<U>(ctx, Transpose::no, Transpose::yes, 1, mine(moved), mine(fan_in), 0, mine(of_inputs));
          gemm<U>(ctx, Transpose::no, Transpose::yes, 1, v, v, 0, mine(of_outputs));
        }
        for_each(ctx, 2 * kept,
                 Products<U>{seen.view(), found.view(), of_inputs.view(), of_outputs.view(), 0, &products(0, 0),
                             &products(1, 0)});
      });
}

MERISTEM_INLINE double damping_of_units(Context& ctx, View<const double> s, View<const double> unexplained,
                                        View<const double> mean, View<const double> noise, View<const double> metric,
                                        std::int64_t max_units, double resolution) {
  if (mean.empty() || noise.empty() || max_units == 0) return usual_damping;
  return deserves_double(mean.extent(0), resolution)
             ? damping_of_units_in<double>(ctx, s, unexplained, mean, noise, metric, max_units)
             : damping_of_units_in<float>(ctx, s, unexplained, mean, noise, metric, max_units);
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE detail::DampedMove damped_move(Context& ctx, const Tensor<double>& s1, const Tensor<double>& m1,
                                               const Tensor<double>& noise, std::optional<double> damping, Route route,
                                               double resolution) {
  detail::require_finite<double>(ctx, {{"S1", s1.view()}, {"M1", m1.view()}});
  if (!damping) {
    if (noise.empty() || s1.empty()) {
      damping = usual_damping;
    } else if (detail::deserves_double(s1.extent(0), resolution)) {
      damping = detail::damping_of_move<double>(ctx, s1.view(), m1.view(), noise.view());
    } else {
      damping = detail::damping_of_move<float>(ctx, s1.view(), m1.view(), noise.view());
    }
  }
  Tensor<double> damped = clone(ctx, s1);
  std::vector<double> variances = detail::diagonal<double>(ctx, s1.view());
  detail::damp_known(ctx, *damping, damped, variances);
  return {detail::best_move_of<double>(ctx, damped.view(), m1.view(), {.route = route}, resolution, variances),
          *damping};
}

}  // namespace meristem::grow
