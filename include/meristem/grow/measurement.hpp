// One site in one growth step, from its statistics to the proposal of units and moves.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/insertion.hpp>
#include <meristem/grow/map_statistics.hpp>
#include <meristem/grow/method.hpp>
#include <meristem/grow/methods/tiny.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/site.hpp>
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
  /// If given: how many of the units that a method chose are wanted. For fewer it chooses again, with that limit.
  std::function<std::int64_t(const Choice&)> wanted = {};
};

/// What a site could get, before the amplitude is chosen.
struct Proposal {
  SiteReport report;
  Insertion insertion;
  /// Outputs of the consumer per sample. Each has a small share in the loss, whose curvature at one of them is small
  /// alike: the amplitude that lowers the loss most grows with their number.
  std::int64_t positions = 1;
  /// Weights by which an output of the consumer reads one unit.
  std::int64_t taps = 1;
  double move_slope = 0.0;  ///< the part of the report's slope that the move of today's weights has
  /// False: the method fixes the amplitude, and the units go in at γ = 1 without a line search.
  bool search_amplitude = true;
  /// The network's outputs stay what they are, in training and evaluation mode, up to rounding: no running statistics
  /// have to follow.
  bool preserves_function = false;
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
      : site_(site), options_(options), needs_(options.method->needs()), known_covariance_(known_covariance) {
    require_method(site, options.method);
    if (!site.spatial()) {
      rows_.emplace(ctx, site, StatisticsOptions{.fisher = needs_.fisher, .covariance = !known_covariance});
    }
  }

  /// Throws ArgumentError for a method that cannot serve the site.
  static void require_method(const Site<T>& site, const Method& method) {
    const Needs needs = method->needs();
    if (site.spatial() && (needs.joint || needs.fisher)) {
      throw ArgumentError(concat("growth: ", method.name(), " cannot grow ", site.name, ", a site with convolutions: ",
                                 needs.joint ? "P" : "E", " is not gathered for maps; use tiny"));
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

  void between(Context& ctx) { maps_->find_move(ctx, options_.damping, needs_.route); }

  void second(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    maps_->update_residual(ctx, unit_input, consumer_input, goal);
  }

  /// Weights by which an output of the consumer reads one unit.
  [[nodiscard]] std::int64_t consumer_taps() const { return maps_ ? maps_->geometry().consumer.kernel.size() : 1; }

  /// Finds at most `max_units` units. S, if it was gathered, is moved to `covariance` where that is not null.
  void solve(Context& ctx, std::int64_t max_units, Tensor<double>* covariance = nullptr) {
    const auto start = std::chrono::steady_clock::now();
    describe(max_units);
    if (rows_) {
      finish_rows(ctx);
    } else {
      finish_maps(ctx);
    }
    if (covariance && !known_covariance_) *covariance = clone(ctx, moments_.moments.s);
    choice_ = options_.method->choose(ctx, moments_);
    if (options_.wanted && choice_.insertion.units > 0) {
      const std::int64_t wanted = options_.wanted(choice_);
      if (wanted < choice_.insertion.units) {
        moments_.max_units = wanted;
        choice_ = options_.method->choose(ctx, moments_);
      }
    }
    Insertion& insertion = choice_.insertion;
    insertion.inputs = moments_.inputs;
    insertion.outputs = moments_.outputs;
    insertion.consumer_inputs = moments_.consumer_inputs;
    insertion.taps = moments_.taps;
    seconds_ = seconds_since(start);
    if (insertion.units > 0 && (site_.spatial() || site_.norm || site_.activation == nn::Activation::relu)) {
      effects_.emplace(ctx, site_, insertion);
    }
  }

  [[nodiscard]] bool wants_effects() const { return effects_.has_value(); }
  void effects(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    (void)consumer_input;
    effects_->update(ctx, unit_input, goal);
  }

  /// The proposal, complete; once.
  [[nodiscard]] Proposal propose() {
    Insertion& insertion = choice_.insertion;
    double slope = kernels::slope_at_zero(site_.activation) * choice_.first_order_gain.value_or(0.0);
    if (effects_) {
      if (site_.norm) {
        for (std::int64_t k = 0; k < insertion.units; ++k) {
          insertion.mean.push_back(effects_->mean(k));
          insertion.variance.push_back(effects_->variance(k));
        }
      }
      slope = choose_signs(*effects_, insertion);
      if (choice_.rescale && insertion.taps > 1) slope *= rescale(insertion, choice_.gain / effects_->move_norm2());
    }
    Proposal proposal;
    SiteReport& report = proposal.report;
    report.name = site_.name;
    report.width = site_.width();
    report.goal_norm2 = moments_.moments.goal_norm2;
    report.best_move_decrease = moments_.move.decrease;
    report.bottleneck = moments_.bottleneck;
    report.lambda = std::move(choice_.lambda);
    report.threshold = choice_.threshold;
    report.gain = choice_.gain;
    report.note = std::move(choice_.note);
    report.seconds = seconds_;
    if (insertion.units > 0) report.slope = slope + (insertion.move.empty() ? 0.0 : choice_.move_decrease);
    proposal.move_slope = insertion.move.empty() ? 0.0 : choice_.move_decrease;
    proposal.insertion = std::move(insertion);
    proposal.positions = moments_.positions;
    proposal.taps = consumer_taps();
    proposal.search_amplitude = choice_.search_amplitude;
    proposal.preserves_function = choice_.preserves_function;
    return proposal;
  }

 private:
  void describe(std::int64_t max_units) {
    moments_.name = site_.name;
    moments_.inputs = site_.fan_in();
    moments_.outputs = site_.fan_out();
    moments_.consumer_inputs = site_.consumer_inputs();
    moments_.width = site_.width();
    moments_.unit_bias = site_.producer.has_bias();
    moments_.consumer_bias = site_.consumer.has_bias();
    moments_.spatial = site_.spatial();
    moments_.activation = site_.activation;
    moments_.norm = site_.norm != nullptr;
    moments_.damping = options_.damping;
    moments_.significance = options_.significance;
    moments_.move_weights = options_.move_weights;
    moments_.max_units = max_units;
  }

  void finish_rows(Context& ctx) {
    Moments<double>& moments = moments_.moments = rows_->moments(ctx, known_covariance_);
    moments.layer = site_.name;
    moments_.move = best_move<double>(ctx, moments.s1, View<const double>(moments.m1), {}, moments.resolution);
    moments_.bottleneck = std::max(0.0, moments.goal_norm2 - moments_.move.decrease);
  }

  void finish_maps(Context& ctx) {
    Moments<double>& moments = moments_.moments;
    moments.layer = site_.name;
    moments.s = known_covariance_ ? clone(ctx, *known_covariance_) : maps_->covariance(ctx);
    moments.goal_norm2 = maps_->goal_norm2();
    moments.samples = maps_->samples();
    moments.resolution = MapStatistics<T>::resolution();
    moments_.n = maps_->residual_cross_moment(ctx);
    if (options_.significance > 0.0) moments_.noise = maps_->noise_cross_moment(ctx);
    moments_.move = maps_->take_move();
    moments_.bottleneck = maps_->bottleneck();
    moments_.positions = maps_->geometry().consumer.output(maps_->geometry().pooled).size();
    moments_.taps = moments_.n.extent(1) / std::max<std::int64_t>(site_.fan_out(), 1);
  }

  /// The taps of a fan-out overlap: A times ⟨N, A⟩ / Q(A) is the multiple of A that leaves least of the residual.
  static double rescale(Insertion& insertion, double factor) {
    if (!(factor > 0.0) || !std::isfinite(factor)) return 1.0;
    const double root = std::sqrt(factor);
    for (double& value : insertion.fan_in) value *= root;
    for (double& value : insertion.fan_out) value *= root;
    for (double& value : insertion.mean) value *= root;
    for (double& value : insertion.variance) value *= factor;
    return factor;
  }

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  Site<T> site_;
  MeasurementOptions options_;
  Needs needs_;
  const Tensor<double>* known_covariance_;
  std::optional<SiteStatistics<T>> rows_;
  std::optional<MapStatistics<T>> maps_;
  std::optional<UnitEffects<T>> effects_;
  SiteMoments moments_;
  Choice choice_;
  double seconds_ = 0.0;
};

}  // namespace meristem::inline MERISTEM_BACKEND::grow
