// One site in one growth step, from its statistics to the proposal of units and moves.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/insertion.hpp>
#include <meristem/grow/map_statistics.hpp>
#include <meristem/grow/method.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/grow/solver.hpp>
#include <meristem/grow/statistics.hpp>
#include <meristem/grow/unit_effects.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

struct MeasurementOptions {
  Method method = tiny();
  FanOut fan_out = FanOut::full;  ///< of units that a convolution consumes
  double damping = 1e-3;          ///< added to the diagonals of S, S1 and E, in units of their mean
  /// c of the threshold on λ: for vectors see SolveOptions; for maps times 1.1 times the largest singular value of N
  /// with random signs for the samples, which is noise and nothing else.
  double significance = 1.0;
  bool move_weights = true;  ///< whether δW belongs to the proposal
};

/// What a site could get, before the amplitude is chosen.
struct Proposal {
  SiteReport report;
  Insertion insertion;
  /// Outputs of the consumer per sample. Each has a small share in the loss, whose curvature at one of them is small
  /// alike: the amplitude that lowers the loss most grows with their number.
  std::int64_t positions = 1;
};

/// Gathers the statistics of one site in up to three passes over the same samples, solves, and proposes. The caller
/// shows every batch of a pass: `first`; if `two_passes()`, `between` and then `second`; `solve`; if `wants_effects()`,
/// `effects`; `propose`.
template <Real T>
class Measurement {
 public:
  /// `known_covariance`, if not null, is S from an earlier measurement on the same samples. Throws ArgumentError for a
  /// method that cannot serve the site.
  Measurement(Context& ctx, const Site<T>& site, const MeasurementOptions& options,
              const Tensor<double>* known_covariance = nullptr)
      : site_(site), options_(options), known_covariance_(known_covariance) {
    require_method(site, options.method);
    if (!site.spatial()) {
      rows_.emplace(ctx, site, StatisticsOptions{.fisher = options.method.fisher, .covariance = !known_covariance});
    }
  }

  /// Throws ArgumentError for a method that cannot serve the site.
  static void require_method(const Site<T>& site, const Method& method) {
    if (site.spatial() && (method.joint || method.fisher)) {
      throw ArgumentError(concat("growth: ", method.name, " cannot grow ", site.name, ", a site with convolutions: ",
                                 method.joint ? "P" : "E", " is not gathered for maps; use tiny"));
    }
  }

  [[nodiscard]] const Site<T>& site() const noexcept { return site_; }
  [[nodiscard]] bool two_passes() const { return site_.spatial(); }

  /// The producer's input, the consumer's input and the desired update at its output.
  void first(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    if (rows_) return rows_->update(ctx, unit_input, consumer_input, goal);
    if (!maps_) {
      maps_.emplace(ctx, site_, unit_input.shape(), options_.fan_out, known_covariance_ == nullptr,
                    options_.significance > 0.0);
    }
    maps_->update(ctx, unit_input, consumer_input, goal);
  }

  void between(Context& ctx) { maps_->find_move(ctx, options_.damping, options_.method.route); }

  void second(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    maps_->update_residual(ctx, unit_input, consumer_input, goal);
  }

  /// Weights by which an output of the consumer reads one unit.
  [[nodiscard]] std::int64_t consumer_taps() const { return maps_ ? maps_->geometry().consumer.kernel.size() : 1; }

  /// Finds at most `max_units` units. S, if it was gathered, is moved to `covariance` where that is not null.
  void solve(Context& ctx, std::int64_t max_units, Tensor<double>* covariance = nullptr) {
    const auto start = std::chrono::steady_clock::now();
    SiteReport& report = proposal_.report;
    Insertion& insertion = proposal_.insertion;
    report.name = site_.name;
    report.width = site_.width();
    insertion.inputs = site_.fan_in();
    insertion.outputs = site_.fan_out();
    insertion.consumer_inputs = site_.consumer_inputs();
    if (rows_) {
      solve_rows(ctx, max_units, covariance);
    } else {
      solve_maps(ctx, max_units, covariance);
    }
    report.seconds = seconds_since(start);
    if (insertion.units > 0 && (site_.spatial() || site_.norm || site_.activation == nn::Activation::relu)) {
      effects_.emplace(ctx, site_, insertion);
    }
  }

  [[nodiscard]] bool wants_effects() const { return effects_.has_value(); }
  void effects(Context& ctx, View<const T> unit_input, View<const T> goal) { effects_->update(ctx, unit_input, goal); }

  /// The proposal, complete; once.
  [[nodiscard]] Proposal propose() {
    Insertion& insertion = proposal_.insertion;
    if (effects_) {
      if (site_.norm) {
        for (std::int64_t k = 0; k < insertion.units; ++k) {
          insertion.mean.push_back(effects_->mean(k));
          insertion.variance.push_back(effects_->variance(k));
        }
      }
      slope_ = choose_signs(*effects_, insertion);
      if (insertion.taps > 1) rescale(insertion, effects_->move_norm2());
    }
    if (insertion.units > 0) proposal_.report.slope = slope_ + (options_.move_weights ? move_slope_ : 0.0);
    return std::move(proposal_);
  }

 private:
  void solve_rows(Context& ctx, std::int64_t max_units, Tensor<double>* covariance) {
    Moments<double> moments = rows_->moments(ctx, known_covariance_);
    if (covariance && !known_covariance_) *covariance = clone(ctx, moments.s);
    const Tensor<double> s1 = clone(ctx, moments.s1);
    moments.layer = site_.name;
    damp(ctx, options_.damping, moments.s);
    damp(ctx, options_.damping, moments.s1);
    if (options_.method.fisher) damp(ctx, options_.damping, moments.fisher);
    const Solution<double> solution = grow::solve(ctx, moments,
                                                  SolveOptions{.route = options_.method.route,
                                                               .joint = options_.method.joint,
                                                               .fisher = options_.method.fisher,
                                                               .max_units = max_units,
                                                               .significance = options_.significance});
    SiteReport& report = proposal_.report;
    report.goal_norm2 = moments.goal_norm2;
    report.best_move_decrease =
        best_move<double>(ctx, s1, View<const double>(moments.m1), {}, moments.resolution).decrease;
    report.bottleneck = std::max(0.0, moments.goal_norm2 - report.best_move_decrease);
    report.lambda = solution.lambda;
    report.threshold = solution.threshold;
    report.gain = solution.gain;
    report.note = solution.note;
    take(ctx, solution.units, solution.fan_in, solution.fan_out, solution.best_move);
    slope_ = kernels::slope_at_zero(site_.activation) * solution.first_order_gain;
    move_slope_ = solution.returned_move_decrease;
  }

  void solve_maps(Context& ctx, std::int64_t max_units, Tensor<double>* covariance) {
    Tensor<double> s = known_covariance_ ? clone(ctx, *known_covariance_) : maps_->covariance(ctx);
    if (covariance && !known_covariance_) *covariance = clone(ctx, s);
    damp(ctx, options_.damping, s);
    const Tensor<double> n = maps_->residual_cross_moment(ctx);
    SiteReport& report = proposal_.report;
    report.goal_norm2 = maps_->goal_norm2();
    report.best_move_decrease = maps_->move().decrease;
    report.bottleneck = maps_->bottleneck();
    const SolveOptions options{.route = options_.method.route, .max_units = max_units};
    report.threshold = options_.significance > 0.0 ? options_.significance * noise_edge(ctx, s) : 0.0;
    const Units<double> units =
        new_units<double>(ctx, s, n.view(), options, report.threshold, {}, MapStatistics<T>::resolution());
    report.lambda = units.lambda;
    for (std::int64_t k = 0; k < units.units; ++k) {
      report.gain += units.lambda[static_cast<std::size_t>(k)] * units.lambda[static_cast<std::size_t>(k)];
    }
    report.note = units.note;
    proposal_.positions = maps_->geometry().consumer.output(maps_->geometry().pooled).size();
    proposal_.insertion.taps = n.extent(1) / std::max<std::int64_t>(site_.fan_out(), 1);
    take(ctx, units.units, units.fan_in, units.fan_out, maps_->move().weights);
    move_slope_ = maps_->move().decrease;
  }

  /// The largest singular value of the noise that N holds. One draw scatters about it by some per cent, more for small
  /// matrices: a tenth is added, so that c = 1 seldom lets noise pass.
  [[nodiscard]] double noise_edge(Context& ctx, const Tensor<double>& s) {
    const Tensor<double> noise = maps_->noise_cross_moment(ctx);
    const Units<double> units =
        new_units<double>(ctx, s, noise.view(), SolveOptions{.route = options_.method.route, .max_units = 1}, 0.0, {},
                          MapStatistics<T>::resolution());
    return units.lambda.empty() ? 0.0 : 1.1 * units.lambda.front();
  }

  void take(Context& ctx, std::int64_t units, const Tensor<double>& fan_in, const Tensor<double>& fan_out,
            const Tensor<double>& move) {
    Insertion& insertion = proposal_.insertion;
    insertion.units = units;
    if (units == 0) return;
    insertion.fan_in = to_host(ctx, fan_in);
    insertion.fan_out = to_host(ctx, fan_out);
    if (options_.move_weights) insertion.move = to_host(ctx, move);
  }

  /// The taps of a fan-out overlap: A times ⟨N, A⟩ / Q(A) is the multiple of A that leaves least of the residual.
  void rescale(Insertion& insertion, double move_norm2) {
    const double factor = proposal_.report.gain / move_norm2;
    if (!(move_norm2 > 0.0) || !std::isfinite(factor)) return;
    const double root = std::sqrt(factor);
    for (double& value : insertion.fan_in) value *= root;
    for (double& value : insertion.fan_out) value *= root;
    for (double& value : insertion.mean) value *= root;
    for (double& value : insertion.variance) value *= factor;
    slope_ *= factor;
  }

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  Site<T> site_;
  MeasurementOptions options_;
  const Tensor<double>* known_covariance_;
  std::optional<SiteStatistics<T>> rows_;
  std::optional<MapStatistics<T>> maps_;
  std::optional<UnitEffects<T>> effects_;
  Proposal proposal_;
  double slope_ = 0.0;       // of the units
  double move_slope_ = 0.0;  // of the move of today's weights
};

}  // namespace meristem::inline MERISTEM_BACKEND::grow
