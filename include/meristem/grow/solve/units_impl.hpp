// Definitions of units.hpp.
#pragma once

#include <cmath>

#include <meristem/grow/solve/units.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE void require_options(const SolveOptions& options) {
  const auto refuse = [](const char* name, auto value, const char* rule) {
    throw ArgumentError(concat("solve: ", name, " is ", value, "; ", rule));
  };
  if (options.max_units < 0) refuse("max_units", options.max_units, "it is 0 or more");
  if (!(options.significance >= 0.0) || std::isinf(options.significance)) {
    refuse("significance", options.significance, "it is a finite number, 0 (keep everything) or more");
  }
  if (!(options.ridge >= 0.0 && options.ridge <= 1e-2)) {
    refuse("ridge", options.ridge, "it is between 0 and 0.01, relative to a unit diagonal");
  }
  if (!(options.rank_tolerance >= 0.0 && options.rank_tolerance < 1.0)) {
    refuse("rank_tolerance", options.rank_tolerance, "it is between 0 (derived) and 1");
  }
  if (options.joint && !options.best_move) {
    throw ArgumentError(
        "solve: joint is set but best_move is not; the joint solution moves the weights along with the "
        "units: set both or neither");
  }
}

MERISTEM_INLINE Tensor<double> whitening_rows(Context& ctx, const std::string& name, const Tensor<double>& s,
                                              Route route, double resolution) {
  const std::vector<double> inverse_scale = inverse_deviations(diagonal<double>(ctx, s.view()));
  if (route == Route::cholesky) {
    const auto factor = detail::Whitening<double>::cholesky<double>(
        ctx, s.view(), inverse_scale, resolution, resolution, [](const detail::Whitening<double>&) {});
    if (factor) {
      const std::int64_t p = s.extent(0);
      Tensor<double> identity = zeros<double>(ctx, {p, p});
      for_each(ctx, p, AddToDiagonal<double>{identity.data(), p + 1, 1.0});
      return factor->times(ctx, identity.view());
    }
  }
  const auto whitening = detail::Whitening<double>::eigen<double>(ctx, name, s.view(), inverse_scale, 0.0, resolution);
  return converted<double, double>(ctx, whitening.rows());
}

MERISTEM_INLINE std::string why_no_units(std::int64_t units, const std::vector<double>& lambda, bool s_is_zero,
                                         bool n_is_zero, double threshold, double floor, std::int64_t max_units,
                                         double significance, std::int64_t samples) {
  if (units > 0) return "";
  if (lambda.empty()) return "no unit added: the layer has no inputs or no outputs";
  if (max_units == 0) return "no unit added: max_units is 0";
  if (s_is_zero) return "no unit added: S is zero, the inputs of the layer are zero on every sample";
  if (n_is_zero) return "no unit added: N is zero, nothing is left that new units could express";
  if (lambda.front() <= std::max(floor, 0.0)) {
    return concat("no unit added: N is zero up to rounding, its largest singular value is ", lambda.front());
  }
  return concat("no unit added: nothing significant, the largest singular value ", lambda.front(),
                " does not exceed the threshold ", threshold, " (significance ", significance, ", ", samples,
                " samples)");
}

template <Real T>
void require_matrix(const std::string& name, View<const T> a, std::int64_t rows) {
  if (a.rank() != 2 || (rows >= 0 && a.extent(0) != rows)) {
    throw ShapeError(concat(name, " has shape ", a.shape(), ", expected a matrix",
                            rows >= 0 ? concat(" with ", rows, " rows") : std::string()));
  }
}

template <Real T>
void require_square_matrix(const std::string& name, View<const T> a) {
  if (a.rank() != 2 || a.extent(0) != a.extent(1)) {
    throw ShapeError(concat(name, " has shape ", a.shape(), "; a second moment is a square matrix"));
  }
}

template <Real T>
WhitenedInputs<T>::WhitenedInputs(Context& ctx, View<const T> s, const SolveOptions& options, double resolution,
                                  std::vector<double> variances)
    : options_(options),
      resolution_(resolution),
      variances_(std::move(variances)),
      made_(with_precision(
          options, s.extent(0), resolution, [&](auto precision, const SolveOptions& chosen) -> std::optional<Made> {
            auto whitening =
                whiten<decltype(precision), T>(ctx, "S", s, inverse_deviations(variances_), chosen, resolution);
            if (!whitening) return std::nullopt;
            return Made{std::move(*whitening), {}};
          })) {}

template <Real T>
WhitenedInputs<T>::WhitenedInputs(std::variant<Whitening<float>, Whitening<double>> whitening,
                                  const SolveOptions& options, double resolution, std::vector<double> variances)
    : options_(options), resolution_(resolution), variances_(std::move(variances)), made_{std::move(whitening), {}} {}

template <Real U>
TripletsAndNoise triplets_above_noise(Context& ctx, const detail::Whitening<U>& whitening, View<const U> n,
                                      View<const U> noise, double threshold, double times_noise,
                                      const SolveOptions& options) {
  const WhitenedCross<U> x(n, &whitening), noise_x(noise, &whitening);
  const std::int64_t m = x.columns(), r = x.rows(), count = std::min(m, r);
  TripletsAndNoise result;
  const auto least = [&] { return std::max(threshold, times_noise * result.noise); };
  if (times_noise == 0.0 || count == 0 || is_worth_krylov(count, 1) || is_worth_krylov(count, options.max_units)) {
    if (times_noise != 0.0 && count > 0) {
      result.noise = leading_triplets(ctx, noise_x, 0.0, 1, options.max_krylov_blocks).lambda.front();
    }
    result.triplets = leading_triplets(ctx, x, least(), options.max_units, options.max_krylov_blocks);
    return result;
  }
  Tensor<U> both = whitening.times_crosses(ctx, n, noise);
  meristem::detail::Decompositions calls;
  RankedTriplets ranked;
  if constexpr (std::is_same_v<U, double>) {
    ranked = all_triplets(ctx, std::as_const(both).view(), options.max_units, calls);
  } else {
    const Tensor<double> there = converted<double, U>(ctx, std::as_const(both).view().as_matrix());
    ranked = all_triplets(ctx, there.view().reshape({2, m, r}), options.max_units, calls);
  }
  std::vector<std::vector<double>> lambda = lambdas_of(ctx, ranked);
  result.noise = lambda[1].front();
  result.triplets = taken(ctx, ranked, 0, std::move(lambda[0]), least());
  return result;
}

template <Real T>
Units<T> WhitenedInputs<T>::units(Context& ctx, View<const T> n, View<const double> outputs, std::int64_t max_units,
                                  double threshold, double parts, View<const std::type_identity_t<T>> noise,
                                  double times_noise) const {
  SolveOptions options = options_;
  options.max_units = max_units;
  Units<T> result = std::visit(
      [&]<class U>(const Whitening<U>& whitening) {
        const double floor = rounding_floor(whitening, parts, n.extent(0), n.extent(1), resolution_);
        const auto of = [&](View<const U> cross, View<const U> noise_cross) {
          TripletsAndNoise found = triplets_above_noise<U>(ctx, whitening, cross, noise_cross,
                                                           std::max(threshold, floor), times_noise, options);
          Units<T> units = units_of<T>(ctx, whitening, std::move(found.triplets), cross.extent(1), outputs);
          units.threshold = std::max(threshold, times_noise * found.noise);
          return units;
        };
        const auto ready = [&](View<const T> a) {
          if (a.rank() == 0) return Tensor<U>();
          return outputs.rank() == 2 ? in_output_metric<U>(ctx, a, outputs) : converted<U, T>(ctx, a);
        };
        if constexpr (std::is_same_v<T, U>) {
          if (outputs.rank() != 2) return of(n, noise);
        }
        const Tensor<U> ready_n = ready(n), ready_noise = ready(noise);
        return of(ready_n.view(), ready_noise.view());
      },
      made_.whitening);
  result.note = joined(result.note, made_.note);
  if (result.units > 0) return result;
  const bool s_is_zero = std::all_of(variances_.begin(), variances_.end(), [](double v) { return v == 0.0; });
  const bool n_is_zero =
      !result.lambda.empty() && result.lambda.front() == 0.0 && inner_product<T, T>(ctx, n, n) == 0.0;
  std::string why;
  if (result.lambda.empty() || max_units == 0 || s_is_zero || n_is_zero) {
    why = why_no_units(0, result.lambda, s_is_zero, n_is_zero, result.threshold, 0.0, max_units, 0.0, 0);
  } else {
    why = concat("no unit added: the largest singular value ", result.lambda.front(), " does not exceed the threshold ",
                 result.threshold);
  }
  result.note = joined(why, result.note);
  return result;
}

template <Real T>
BestMove<T> best_move_of(Context& ctx, View<const std::type_identity_t<T>> s1, View<const T> m1,
                         const SolveOptions& options, double resolution, const std::vector<double>& variances) {
  const std::vector<double> inverse_scale = inverse_deviations(variances);
  // What is not finite shows in the decrease, and where the Cholesky route fails.
  const auto check = [&] { require_finite<T>(ctx, {{"S1", s1}, {"M1", m1}}); };
  const auto attempt = [&](auto precision, const SolveOptions& chosen) -> std::optional<BestMove<T>> {
    using U = decltype(precision);
    if (chosen.route == Route::eigen) check();
    Tensor<U> converted_m1;
    View<const U> cross;
    if constexpr (std::is_same_v<U, T>) {
      cross = m1;
    } else {
      cross = (converted_m1 = converted<U, T>(ctx, m1)).view();
    }
    BestMove<T> result;
    std::vector<double> products;
    const auto whitening =
        whiten<U, T>(ctx, "S1", s1, inverse_scale, chosen, resolution, [&](const Whitening<U>& candidate) {
          const Tensor<U> move = candidate.template solve_cross<T>(ctx, s1, cross);
          result.weights = converted<T, U>(ctx, move.view());
          Tensor<double> dots(ctx, {move.extent(0)});
          for_each(ctx, move.extent(0), DotsWithColumns<U>{move.view(), cross, dots.data()});
          products = to_host_later(ctx, dots.view());
        });
    if (!whitening) return std::nullopt;
    if (chosen.route == Route::eigen || s1.extent(0) == 0) ctx.synchronize();
    for (const double product : products) result.decrease += product;
    result.ridge_used = whitening->ridge();
    if (chosen.route == Route::eigen) result.rank = whitening->rank();
    if (!std::isfinite(result.decrease)) check();
    return result;
  };
  return with_precision(options, s1.extent(0), resolution, attempt);
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
BestMove<T> best_move(Context& ctx, View<const std::type_identity_t<T>> s1, View<const T> m1,
                      const SolveOptions& options, double resolution) {
  detail::require_options(options);
  detail::require_square_matrix<T>("S1", s1);
  detail::require_matrix<T>("M1", m1, s1.extent(0));
  if (resolution == 0.0) resolution = detail::epsilon_of<T>;
  return detail::best_move_of<T>(ctx, s1, m1, options, resolution, detail::diagonal<T>(ctx, s1));
}

template <Real T>
Tensor<T> residual_cross(Context& ctx, View<const std::type_identity_t<T>> m, View<const std::type_identity_t<T>> cross,
                         View<const T> move) {
  Tensor<T> n = detail::converted<T, T>(ctx, m);
  gemm(ctx, Transpose::no, Transpose::yes, -1, cross, move, 1, n.view());
  return n;
}

template <Real T>
Units<T> new_units(Context& ctx, View<const std::type_identity_t<T>> s, View<const T> n, const SolveOptions& options,
                   double threshold, View<const std::type_identity_t<T>> fisher, double resolution,
                   std::vector<double> variances, double parts) {
  detail::require_options(options);
  detail::require_square_matrix<T>("S", s);
  detail::require_matrix<T>("N", n, s.extent(0));
  detail::require_finite<T>(ctx, {{"S", s}, {"N", n}});
  if (resolution == 0.0) resolution = detail::epsilon_of<T>;
  const std::int64_t p = n.extent(0), q = n.extent(1);
  Tensor<double> outputs;
  if (fisher.rank() != 0) {
    detail::require_square_matrix<T>("E", fisher);
    detail::require_matrix<T>("E", fisher, q);
    detail::require_finite<T>(ctx, {{"E", fisher}});
    const std::vector<double> inverse_scale = inverse_deviations(detail::diagonal<T>(ctx, fisher));
    outputs = detail::converted<double, double>(
        ctx, detail::Whitening<double>::eigen<T>(ctx, "E", fisher, inverse_scale, options.rank_tolerance, resolution)
                 .rows());
  }
  if (variances.empty()) variances = detail::diagonal<T>(ctx, s);
  if (static_cast<std::int64_t>(variances.size()) != p) {
    throw ShapeError(concat("new_units: ", variances.size(), " variances for S of order ", p));
  }
  return detail::WhitenedInputs<T>(ctx, s, options, resolution, std::move(variances))
      .units(ctx, n, outputs.view(), options.max_units, threshold, parts);
}

}  // namespace meristem::grow
