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

#include <meristem/grow/measure/candidate_gradients.hpp>
#include <meristem/grow/measure/feature_pass.hpp>
#include <meristem/grow/measure/goal_means.hpp>
#include <meristem/grow/measure/map_statistics.hpp>
#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/grow/measure/unit_effects.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/methods/tiny.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/solve/shrinkage.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// Numbers of today's units of a site, in the layout of Insertion, with all taps.
struct NumbersOfUnits {
  std::vector<double> fan_in, fan_out;
  NormChannels norm;
};

/// Reads them from the network.
template <Real T>
[[nodiscard]] NumbersOfUnits numbers_of_units(Context& ctx, const Site<T>& site) {
  NumbersOfUnits result;
  const std::int64_t width = site.width(), q = site.fan_out();
  const std::vector<T> rows = to_host(ctx, site.producer.weight().value);
  const std::vector<T> biases = site.producer.has_bias() ? to_host(ctx, site.producer.bias().value) : std::vector<T>();
  const std::size_t features = width > 0 ? rows.size() / static_cast<std::size_t>(width) : 0;
  for (std::size_t k = 0; k < static_cast<std::size_t>(width); ++k) {
    for (std::size_t i = 0; i < features; ++i) result.fan_in.push_back(static_cast<double>(rows[k * features + i]));
    if (!biases.empty()) result.fan_in.push_back(static_cast<double>(biases[k]));
  }
  const std::vector<T> columns = to_host(ctx, site.consumer.weight().value);
  const std::int64_t taps = width * q > 0 ? static_cast<std::int64_t>(columns.size()) / (width * q) : 0;
  for (std::int64_t k = 0; k < width; ++k) {
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (std::int64_t o = 0; o < q; ++o) {
        result.fan_out.push_back(static_cast<double>(columns[static_cast<std::size_t>((o * taps + tap) * width + k)]));
      }
    }
  }
  if (!site.norm) return result;
  const auto read = [&](const Tensor<T>& tensor) {
    const std::vector<T> values = to_host(ctx, tensor);
    return std::vector<double>(values.begin(), values.end());
  };
  result.norm = {read(site.norm->running_mean().value), read(site.norm->running_variance().value),
                 read(site.norm->weight().value), read(site.norm->bias().value)};
  return result;
}

namespace detail {

/// What was out of the ordinary in the move of today's weights.
[[nodiscard]] inline std::string note_of_move(const BestMove<double>& move) {
  return move.note.empty() ? std::string() : concat("the move of today's weights ", move.note);
}

}  // namespace detail

struct MeasurementOptions {
  Method method = tiny();
  FanOut fan_out = FanOut::full;  ///< of units that a convolution consumes
  /// The share by which S, S1 and E are damped (see `damp`). None: chosen for S1 and for S by cross-validation, where a
  /// method reads the noise, else `usual_damping`; E takes that of S1.
  std::optional<double> damping = std::nullopt;
  /// c of the threshold on λ: for vectors see SolveOptions; for maps times 1.1 times the largest singular value of N
  /// with random signs for the samples, which is noise and nothing else.
  double significance = 1.0;
  bool move_weights = true;  ///< whether δW belongs to the proposal
  /// Gather S1 and M1 for Ψ even if the method does not read them.
  bool bottleneck = false;
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
  double move_slope = 0.0;   ///< the part of the report's slope that the move of today's weights has
  bool homogeneous = false;  ///< σ(c h) = c σ(h) for positive c: the split between fan-in and fan-out changes nothing
  /// False: the method fixes the amplitude, and the units go in at γ = 1 without a line search.
  bool search_amplitude = true;
  /// The network's outputs stay what they are, in training and evaluation mode, up to rounding: no running statistics
  /// have to follow.
  bool preserves_function = false;
};

/// Gathers the statistics of one site in passes over the same samples, lets the method choose units, and proposes. The
/// caller shows every batch of a pass: `first`; if `two_passes()`, `between` and then `second`; `solve`; if
/// `wants_features()`, `features` and then `take_features`; while `wants_candidates()`, `candidates` and then `refine`;
/// if `wants_effects()`, `effects`; `propose`.
template <Real T>
class Measurement {
 public:
  /// `known_covariance`, if not null, is S from an earlier measurement on the same samples. The context has to outlive
  /// the Measurement.
  Measurement(Context& ctx, const Site<T>& site, const MeasurementOptions& options,
              const Tensor<double>* known_covariance = nullptr)
      : ctx_(&ctx),
        site_(site),
        options_(options),
        needs_(options.method->needs()),
        known_covariance_(known_covariance) {
    needs_.consumer = needs_.consumer || needs_.residual || needs_.joint || options.bottleneck;
    needs_.noise = needs_.noise && (options.significance > 0.0 || !options.damping);
    if (!site.spatial()) {
      rows_.emplace(ctx, site,
                    StatisticsOptions{.fisher = needs_.fisher,
                                      .covariance = needs_.inputs && !known_covariance,
                                      .consumer = needs_.consumer,
                                      .goal = needs_.goal || needs_.residual,
                                      .cross = needs_.residual || needs_.joint,
                                      .noise = needs_.noise});
    }
  }

  [[nodiscard]] const Site<T>& site() const noexcept { return site_; }
  /// False if the method reads nothing: one batch of the first pass is enough then.
  [[nodiscard]] bool wants_statistics() const {
    return needs_.inputs || needs_.consumer || needs_.goal || needs_.fisher;
  }
  [[nodiscard]] bool two_passes() const { return site_.spatial() && (needs_.residual || needs_.joint); }

  /// The producer's input, the consumer's input and the desired update at its output. Throws NumericError that names
  /// the site for a desired update that is not finite.
  void first(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    if (needs_.goal && site_.norm) {
      if (!goal_means_) goal_means_.emplace(site_);
      goal_means_->update(ctx, unit_input, goal);
    }
    if (rows_) return rows_->update(ctx, unit_input, consumer_input, goal);
    if (!maps_) {
      maps_.emplace(ctx, site_, unit_input.shape(), options_.fan_out,
                    typename MapStatistics<T>::Options{.covariance = needs_.inputs && !known_covariance_,
                                                       .consumer = needs_.consumer,
                                                       .goal = needs_.goal,
                                                       .residual = needs_.residual,
                                                       .noise = needs_.noise,
                                                       .move_noise = needs_.noise && !options_.damping,
                                                       .joint = needs_.joint,
                                                       .fisher = needs_.fisher});
    }
    maps_->update(ctx, unit_input, consumer_input, goal);
  }

  void between(Context& ctx) { maps_->find_move(ctx, options_.damping, needs_.route); }

  void second(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    maps_->update_residual(ctx, unit_input, consumer_input, goal);
  }

  /// Weights by which an output of the consumer reads one unit.
  [[nodiscard]] std::int64_t consumer_taps() const { return maps_ ? maps_->geometry().consumer.kernel.size() : 1; }

  /// Finds at most `max_units` units. S, if it was gathered, is copied to `covariance` where that is not null. Throws
  /// NumericError that names the site for statistics that are not finite.
  void solve(Context& ctx, std::int64_t max_units, Tensor<double>* covariance = nullptr) {
    const auto start = std::chrono::steady_clock::now();
    describe(max_units);
    if (rows_) {
      finish_rows(ctx);
    } else {
      finish_maps(ctx);
    }
    require_finite_statistics(ctx);
    if (goal_means_) moments_.centred_goal = goal_means_->centred(ctx, moments_.moments.m);
    if (covariance && needs_.inputs && !known_covariance_) *covariance = clone(ctx, moments_.moments.s);
    choice_ = options_.method->choose(ctx, moments_);
    if (options_.wanted && choice_.insertion.units > 0) {
      const std::int64_t wanted = options_.wanted(choice_);
      if (wanted < choice_.insertion.units) {
        moments_.max_units = wanted;
        choice_ = options_.method->choose(ctx, moments_);
      }
    }
    if (needs_.consumer) choice_.note = detail::joined(choice_.note, detail::note_of_move(moments_.move));
    complete(choice_.insertion);
    passes_ = choice_.insertion.units > 0 ? options_.method->candidate_passes() + 1 : 0;
    if (options_.method->candidate_passes() == 0) passes_ = 0;
    if (rows_ && moments_.relu && !site_.norm && needs_.residual) {
      feature_fan_ins_ = options_.method->features(ctx, moments_, choice_);
      if (!feature_fan_ins_.empty()) features_.emplace(ctx, site_, feature_fan_ins_, needs_.noise);
    }
    seconds_ = seconds_since(start);
    prepare_pass(ctx);
  }

  [[nodiscard]] bool wants_features() const { return features_.has_value(); }
  void features(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    features_->update(ctx, unit_input, consumer_input, goal);
  }
  void take_features(Context& ctx) {
    const auto start = std::chrono::steady_clock::now();
    options_.method->add_features(ctx, moments_, feature_fan_ins_, features_->moments(ctx), choice_);
    features_.reset();
    complete(choice_.insertion);
    seconds_ += seconds_since(start);
    prepare_pass(ctx);
  }

  [[nodiscard]] bool wants_candidates() const { return candidates_.has_value(); }
  void candidates(Context& ctx, View<const T> unit_input, View<const T> goal) {
    candidates_->update(ctx, unit_input, goal);
  }
  /// After each pass of candidates.
  void refine(Context& ctx) {
    const auto start = std::chrono::steady_clock::now();
    options_.method->refine(ctx, moments_, candidates_->gradients(), pass_++, choice_);
    complete(choice_.insertion);
    seconds_ += seconds_since(start);
    prepare_pass(ctx);
  }

  [[nodiscard]] bool wants_effects() const { return effects_.has_value(); }
  void effects(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    effects_->update(ctx, unit_input, goal, consumer_input);
  }

  /// The proposal, complete; once. Throws NumericError if the bottleneck or the slope is not finite.
  [[nodiscard]] Proposal propose() {
    Insertion& insertion = choice_.insertion;
    double slope = site_.slope_at_zero() * choice_.first_order_gain.value_or(0.0);
    if (effects_) {
      if (site_.norm && insertion.mean.empty()) {
        for (std::int64_t k = 0; k < insertion.units; ++k) {
          insertion.mean.push_back(effects_->mean(k));
          insertion.variance.push_back(effects_->variance(k));
        }
      }
      // Without a slope asked for, the units are as the method means them to be.
      if (wants_slope()) slope = choose_signs(*effects_, insertion);
      double factor = 1.0;
      Tensor<double> explained;
      double explained_norm2 = 0.0;
      if (choice_.companion) {
        const Tensor<double> cross = effects_->consumer_cross(*ctx_);
        explained = solve_consumer(cross);
        explained_norm2 = detail::inner_product<double, double>(*ctx_, in_metric(explained).view(), cross.view());
      }
      if (choice_.rescale && insertion.taps > 1) {
        factor = rescale(insertion, choice_.gain / (effects_->move_norm2() - explained_norm2));
      }
      slope *= factor;
      if (choice_.companion) subtract_from_move(explained, factor);
    }
    Proposal proposal;
    SiteReport& report = proposal.report;
    report.name = site_.name;
    report.width = site_.width();
    if (needs_.consumer) {
      report.goal_norm2 = moments_.moments.goal_norm2;
      report.best_move_decrease = moments_.move.decrease;
      report.bottleneck = moments_.bottleneck;
    }
    report.lambda = std::move(choice_.lambda);
    report.threshold = choice_.threshold;
    report.damping = choice_.damping;
    report.ridge_used = choice_.ridge_used;
    report.gain = choice_.gain;
    report.note = std::move(choice_.note);
    report.seconds = seconds_;
    if (insertion.units > 0) report.slope = slope + (insertion.move.empty() ? 0.0 : choice_.move_decrease);
    if (!std::isfinite(moments_.moments.goal_norm2) || !std::isfinite(moments_.bottleneck) ||
        !std::isfinite(report.slope)) {
      throw NumericError("the bottleneck or what growth would gain is not finite");
    }
    proposal.move_slope = insertion.move.empty() ? 0.0 : choice_.move_decrease;
    proposal.insertion = std::move(insertion);
    proposal.positions = moments_.positions;
    proposal.taps = consumer_taps();
    proposal.homogeneous = moments_.homogeneous;
    proposal.search_amplitude = choice_.search_amplitude;
    proposal.preserves_function = choice_.preserves_function;
    return proposal;
  }

 private:
  void complete(Insertion& insertion) const {
    insertion.inputs = moments_.inputs;
    insertion.outputs = moments_.outputs;
    insertion.consumer_inputs = moments_.consumer_inputs;
    insertion.taps = choice_.all_taps ? moments_.all_taps : moments_.taps;
  }

  /// Whether what the units gain is of interest and not known yet.
  [[nodiscard]] bool wants_slope() const {
    return !choice_.preserves_function && choice_.choose_signs &&
           (site_.spatial() || site_.norm || !choice_.first_order_gain || site_.activation == nn::Activation::relu);
  }

  void prepare_pass(Context& ctx) {
    candidates_.reset();
    effects_.reset();
    if (choice_.insertion.units == 0 || features_) return;
    if (pass_ < passes_) {
      candidates_.emplace(ctx, site_, choice_.insertion);
    } else if (wants_slope() || choice_.companion || (site_.norm && choice_.insertion.mean.empty())) {
      effects_.emplace(ctx, site_, choice_.insertion,
                       typename UnitEffects<T>::Options{.norm2 = choice_.rescale && choice_.insertion.taps > 1,
                                                        .companion = choice_.companion,
                                                        .metric = choice_.output_metric});
    }
  }

  void describe(std::int64_t max_units) {
    moments_.name = site_.name;
    moments_.inputs = site_.fan_in();
    moments_.outputs = site_.fan_out();
    moments_.consumer_inputs = site_.consumer_inputs();
    moments_.width = site_.width();
    moments_.unit_bias = site_.producer.has_bias();
    moments_.consumer_bias = site_.consumer.has_bias();
    moments_.spatial = site_.spatial();
    moments_.slope_at_zero = site_.slope_at_zero();
    moments_.relu = site_.activation == nn::Activation::relu;
    moments_.homogeneous =
        moments_.relu || (site_.activation == nn::Activation::identity && !site_.own_slope.has_value());
    moments_.norm = site_.norm != nullptr;
    moments_.consumer_norm = site_.consumer_norm != nullptr;
    moments_.damping = options_.damping;
    moments_.significance = options_.significance;
    moments_.move_weights = options_.move_weights;
    moments_.max_units = max_units;
    if (maps_) {
      const Geometry& geometry = maps_->geometry();
      moments_.positions = geometry.consumer.output(geometry.pooled).size();
      moments_.all_taps = geometry.consumer.kernel.size();
      moments_.taps = maps_->fan_out() == FanOut::full ? moments_.all_taps : 1;
    }
    const NumbersOfUnits now = numbers_of_units<T>(*ctx_, site_);
    moments_.fan_in = now.fan_in;
    moments_.fan_out = now.fan_out;
    moments_.norm_channels = now.norm;
  }

  void finish_rows(Context& ctx) {
    Moments<double>& moments = moments_.moments = rows_->gathered(ctx);
    if (needs_.inputs && known_covariance_) moments.s = clone(ctx, *known_covariance_);
    moments.layer = site_.name;
    if (!needs_.consumer) return;
    require_finite_statistics(ctx);
    const Moments<double> noise = needs_.noise ? rows_->noise(ctx) : Moments<double>();
    take(damped_move(ctx, moments.s1, moments.m1, options_.damping ? Tensor<double>() : clone(ctx, noise.m1),
                     options_.damping, needs_.route, moments.resolution));
    moments_.bottleneck = unexpressed(ctx);
    const View<const double> move = moments_.move.weights;
    if (needs_.residual) moments_.n = residual_cross<double>(ctx, moments.m, moments.cross, move);
    if (needs_.noise) moments_.noise = residual_cross<double>(ctx, noise.m, noise.cross, move);
    if (needs_.joint && moments_.consumer_inputs > 0) {
      const Tensor<double> rows = detail::whitening_rows(ctx, concat("site ", site_.name, ": S1"),
                                                         damped(ctx, moments.s1), needs_.route, moments.resolution);
      moments_.explained = Tensor<double>(ctx, {moments_.inputs, rows.extent(0)});
      gemm(ctx, Transpose::no, Transpose::yes, 1, moments.cross.view(), rows.view(), 0, moments_.explained.view());
    }
  }

  void take(DampedMove found) {
    moments_.move = std::move(found.move);
    moments_.consumer_damping = found.damping;
  }

  void finish_maps(Context& ctx) {
    Moments<double>& moments = moments_.moments;
    moments.layer = site_.name;
    if (needs_.inputs) moments.s = known_covariance_ ? clone(ctx, *known_covariance_) : maps_->covariance(ctx);
    if (needs_.goal) moments.m = maps_->goal_cross_moment(ctx);
    if (needs_.fisher) moments.fisher = maps_->fisher(ctx);
    moments.goal_norm2 = maps_->goal_norm2();
    moments.samples = maps_->samples();
    moments.resolution = MapStatistics<T>::resolution();
    if (!needs_.consumer) return;
    if (!two_passes()) maps_->find_move(ctx, options_.damping, needs_.route);
    moments.s1 = maps_->consumer_covariance(ctx);
    moments.m1 = maps_->first_moment(ctx);
    moments_.move = maps_->take_move();
    moments_.consumer_damping = maps_->damping();
    moments_.bottleneck = needs_.residual ? maps_->bottleneck() : unexpressed(ctx);
    if (needs_.residual) moments_.n = maps_->residual_cross_moment(ctx);
    if (needs_.noise) moments_.noise = maps_->noise_cross_moment(ctx);
    if (needs_.joint) moments_.explained = maps_->explained(ctx);
  }

  /// S1 as it was damped for the move.
  [[nodiscard]] Tensor<double> damped(Context& ctx, const Tensor<double>& a) const {
    Tensor<double> result = clone(ctx, a);
    damp(ctx, moments_.consumer_damping, result);
    return result;
  }

  /// Ψ = (1/n) ‖V_goal - δW* B1‖² = (1/n) ‖V_goal‖² - 2 ⟨δW*, M1ᵀ⟩ + ⟨δW* S1, δW*⟩, of a damped move as well.
  [[nodiscard]] double unexpressed(Context& ctx) const {
    const Moments<double>& moments = moments_.moments;
    const Tensor<double>& move = moments_.move.weights;
    double squares = 0.0;
    if (!move.empty()) {
      Tensor<double> product(ctx, move.shape());
      gemm(ctx, Transpose::no, Transpose::no, 1, move.view(), moments.s1.view(), 0, product.view());
      squares = detail::inner_product<double, double>(ctx, product.view(), move.view());
    }
    return std::max(0.0, moments.goal_norm2 - 2.0 * moments_.move.decrease + squares);
  }

  void require_finite_statistics(Context& ctx) const {
    const Moments<double>& m = moments_.moments;
    const auto check = [&](const char* symbol, const Tensor<double>& matrix) {
      if (!matrix.empty())
        detail::require_finite<double>(ctx, concat("site ", site_.name, ": ", symbol), matrix.view());
    };
    check("S", m.s);
    check("S1", m.s1);
    check("M", m.m);
    check("M1", m.m1);
    check("P", m.cross);
    check("E", m.fisher);
    check("N", moments_.n);
  }

  /// G S1⁺.
  [[nodiscard]] Tensor<double> solve_consumer(const Tensor<double>& cross) const {
    const Tensor<double> s1 = damped(*ctx_, moments_.moments.s1);
    const Tensor<double> transposed = detail::converted_transposed<double, double>(*ctx_, cross.view());
    BestMove<double> found = best_move<double>(*ctx_, s1.view(), transposed.view(), SolveOptions{.route = needs_.route},
                                               moments_.moments.resolution);
    return std::move(found.weights);
  }

  /// E a, for the metric E in which the choice measures what the units add.
  [[nodiscard]] Tensor<double> in_metric(const Tensor<double>& a) const {
    if (choice_.output_metric.empty()) return clone(*ctx_, a);
    const Tensor<double> metric = from_host<double>(*ctx_, {moments_.outputs, moments_.outputs}, choice_.output_metric);
    Tensor<double> result(*ctx_, a.shape());
    gemm(*ctx_, Transpose::no, Transpose::no, 1, metric.view(), a.view(), 0, result.view());
    return result;
  }

  /// δW -= factor · G S1⁺, and what the move gains along with it.
  void subtract_from_move(const Tensor<double>& explained, double factor) {
    std::vector<double>& move = choice_.insertion.move;
    if (move.empty()) return;
    const std::vector<double> change = to_host(*ctx_, explained);
    const std::vector<double> m1 = to_host(*ctx_, moments_.moments.m1);
    const std::size_t q = static_cast<std::size_t>(moments_.outputs), d = move.size() / std::max<std::size_t>(q, 1);
    choice_.move_decrease = 0.0;
    for (std::size_t o = 0; o < q; ++o) {
      for (std::size_t i = 0; i < d; ++i) {
        move[o * d + i] -= factor * change[o * d + i];
        choice_.move_decrease += move[o * d + i] * m1[i * q + o];
      }
    }
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

  Context* ctx_;
  Site<T> site_;
  MeasurementOptions options_;
  Needs needs_;
  const Tensor<double>* known_covariance_;
  std::optional<SiteStatistics<T>> rows_;
  std::optional<MapStatistics<T>> maps_;
  std::optional<GoalMeans<T>> goal_means_;
  std::vector<double> feature_fan_ins_;
  std::optional<FeaturePass<T>> features_;
  std::optional<CandidatePass<T>> candidates_;
  std::optional<UnitEffects<T>> effects_;
  SiteMoments moments_;
  Choice choice_;
  int pass_ = 0, passes_ = 0;
  double seconds_ = 0.0;
};

}  // namespace meristem::inline MERISTEM_BACKEND::grow
