// Definitions of site_measurement.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

template <Real T>
SiteMeasurement<T>::SiteMeasurement(Context& ctx, const Site<T>& site, const MeasurementOptions& options, Limit limit,
                                    const Tensor<double>* known_covariance)
    : ctx_(&ctx),
      site_(site),
      options_(options),
      needs_(options.method->needs()),
      known_covariance_(known_covariance),
      limit_(std::move(limit)) {
  if (!limit_) throw ArgumentError(concat("site ", site.name, ": no function was given for the most units"));
  needs_.consumer = needs_.consumer || needs_.residual || needs_.joint || options.bottleneck;
  needs_.noise = needs_.noise && (options.significance > 0.0 || !options.damping);
  require_served(site, options.method);
  statistics_.resize(site.readers());
  same_inputs_.resize(site.readers(), 0);
}

template <Real T>
auto SiteMeasurement<T>::wants() const noexcept -> Batches {
  if (feature_path_ || !candidates_.empty() || !effects_.empty()) return Batches::all;
  if (solved_) return Batches::none;
  const bool reads = needs_.inputs || needs_.consumer || needs_.goal || needs_.fisher;
  return reads ? Batches::all : Batches::one;
}

template <Real T>
void SiteMeasurement<T>::update(Context& ctx, View<const T> unit_input, View<const T> consumer_input,
                                View<const T> goal, std::size_t reader) {
  if (wants() == Batches::none) {
    throw ArgumentError(concat("site ", site_.name, ": the measurement is complete; no further pass is wanted"));
  }
  if (feature_path_) {
    const Tensor<T> outputs = feature_path_->through(ctx, feature_path_->pre_activation(ctx, unit_input), T(1));
    return feature_moments_->update(ctx, outputs, consumer_input, goal);
  }
  if (!candidates_.empty()) return candidates_[reader].update(ctx, unit_input, goal);
  if (!effects_.empty()) return effects_[reader].update(ctx, unit_input, goal, consumer_input);
  std::optional<SiteStatistics<T>>& statistics = statistics_[reader];
  if (!statistics) begin_statistics(ctx, reader, unit_input.shape());
  if (statistics->wants_pass()) return statistics->update(ctx, unit_input, consumer_input, goal);
  kernels::check_finite(ctx, goal, concat("site ", site_.name, ": the desired update"));
}

template <Real T>
void SiteMeasurement<T>::begin_statistics(Context& ctx, std::size_t reader, const Shape& unit_input) {
  Needs needs = needs_;
  const SiteShape shape = site_.read_by(reader).shape(unit_input);
  // S depends on the reader by the positions of the unit that it reads.
  const auto same = [&](const SiteShape& other) {
    return !shape.spatial() || (other.pool == shape.pool && other.consumer_window() == shape.consumer_window());
  };
  for (std::size_t i = 0; i < reader; ++i) {
    if (!same(site_.read_by(i).shape(unit_input))) continue;
    same_inputs_[reader] = i;
    needs.inputs = false;
    break;
  }
  if (needs.inputs) same_inputs_[reader] = reader;
  statistics_[reader].emplace(
      ctx, shape, needs,
      typename SiteStatistics<T>::Options{.fan_out = site_.tied() ? FanOut::full : options_.fan_out,
                                          .damping = options_.damping,
                                          .norm = site_.producer.norm() || site_.reader(reader).input_norm,
                                          .known_covariance = known_covariance_});
}

template <Real T>
bool SiteMeasurement<T>::wants_statistics() const {
  return std::any_of(statistics_.begin(), statistics_.end(), [](const auto& one) { return one && one->wants_pass(); });
}

template <Real T>
void SiteMeasurement<T>::finish_pass(Context& ctx, Tensor<double>* covariance) {
  const auto start = std::chrono::steady_clock::now();
  if (feature_path_) {
    options_.method->add_features(ctx, moments_, features_.fan_in, feature_moments_->moments(ctx), choice_);
    feature_path_.reset();
    feature_moments_.reset();
    complete(choice_.insertion);
    prepare_pass(ctx);
  } else if (!candidates_.empty()) {
    options_.method->refine(ctx, moments_, gradients(), pass_++, choice_);
    complete(choice_.insertion);
    prepare_pass(ctx);
  } else if (!effects_.empty()) {
    measured_ = std::exchange(effects_, {});
  } else {
    const auto shown = [](const auto& one) { return one.has_value(); };
    if (solved_ || !std::all_of(statistics_.begin(), statistics_.end(), shown)) {
      throw ArgumentError(concat("site ", site_.name, ": a pass ended in which no batch was shown"));
    }
    for (std::optional<SiteStatistics<T>>& one : statistics_) {
      if (one->wants_pass()) one->finish_pass(ctx);
    }
    if (!wants_statistics()) solve(ctx, covariance);
  }
  seconds_ += seconds_since(start);
}

template <Real T>
Proposal SiteMeasurement<T>::propose() {
  if (wants() != Batches::none) {
    throw ArgumentError(concat("site ", site_.name,
                               ": a proposal was asked for before the passes that it takes; show "
                               "batches as long as `wants` asks for them"));
  }
  Insertion& insertion = choice_.insertion;
  double slope = site_.slope_at_zero() * choice_.first_order_gain.value_or(0.0);
  std::vector<double> unit_slopes;
  if (!measured_.empty()) {
    if (wants_means()) {
      std::size_t reader = 0;
      while (!site_.producer.norm() && !site_.reader(reader).input_norm) ++reader;
      std::vector<double> means, variances;
      for (std::int64_t k = 0; k < insertion.units; ++k) {
        means.push_back(measured_[reader].mean(k));
        variances.push_back(measured_[reader].variance(k));
      }
      insertion.mean = from_host<double>(*ctx_, {insertion.units}, means);
      insertion.variance = from_host<double>(*ctx_, {insertion.units}, variances);
    }
    // Without a slope asked for, the units are as the method means them to be.
    if (wants_slope()) {
      unit_slopes = choose_signs(*ctx_, measured_, insertion);
      slope = std::accumulate(unit_slopes.begin(), unit_slopes.end(), 0.0);
    }
    double factor = 1.0;
    Tensor<double> explained;
    double explained_norm2 = 0.0;
    if (choice_.companion) {
      const Tensor<double> cross = measured_.front().consumer_cross(*ctx_);
      explained = solve_consumer(cross);
      explained_norm2 = inner_product<double, double>(*ctx_, in_metric(explained).view(), cross.view());
    }
    if (choice_.rescale && overlaps()) {
      double norm2 = -explained_norm2;
      for (const UnitEffects<T>& effects : measured_) norm2 += effects.move_norm2();
      factor = rescale(insertion, choice_.gain / norm2);
    }
    slope *= factor;
    for (double& one : unit_slopes) one *= factor;
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
  proposal.unit_slopes = std::move(unit_slopes);
  proposal.positions = moments_.positions;
  proposal.taps = taps();
  proposal.homogeneous = moments_.homogeneous;
  static_cast<Choice&>(proposal) = std::move(choice_);
  return proposal;
}

template <Real T>
void SiteMeasurement<T>::complete(Insertion& insertion) const {
  insertion.inputs = moments_.inputs;
  insertion.outputs = moments_.outputs;
  insertion.consumer_inputs = moments_.consumer_inputs;
  insertion.taps = choice_.all_taps ? moments_.all_taps : moments_.taps;
}

template <Real T>
bool SiteMeasurement<T>::wants_slope() const {
  return !choice_.preserves_function && choice_.choose_signs &&
         (site_.tied() || site_.spatial() || site_.producer.norm() || !choice_.first_order_gain ||
          site_.activation == nn::Activation::relu);
}

template <Real T>
bool SiteMeasurement<T>::wants_means() const {
  return site_.normed() && choice_.insertion.mean.empty() && choice_.insertion.copies.empty();
}

template <Real T>
void SiteMeasurement<T>::prepare_pass(Context& ctx) {
  candidates_.clear();
  if (choice_.insertion.units == 0 || feature_path_) return;
  if (pass_ < passes_) {
    for (std::size_t i = 0; i < site_.readers(); ++i) candidates_.emplace_back(ctx, site_, choice_.insertion, i);
  } else if (wants_slope() || choice_.companion || wants_means()) {
    for (std::size_t i = 0; i < site_.readers(); ++i) {
      effects_.emplace_back(
          ctx, site_, choice_.insertion,
          typename UnitEffects<T>::Options{
              .norm2 = choice_.rescale && overlaps(),
              .companion = choice_.companion,
              .metric = choice_.output_metric.empty() ? View<const double>() : choice_.output_metric.view(),
              .reader = i});
    }
  }
}

template <Real T>
GrowthMethod::Gradients SiteMeasurement<T>::gradients() const {
  std::vector<GrowthMethod::Gradients> all;
  for (const CandidatePass<T>& one : candidates_) all.push_back(one.gradients(*ctx_));
  GrowthMethod::Gradients result = std::move(all.front());
  for (std::size_t i = 1; i < all.size(); ++i) {
    for (std::size_t k = 0; k < result.gain.size(); ++k) result.gain[k] += all[i].gain[k];
    kernels::axpy<double>(*ctx_, 1.0, all[i].fan_in, result.fan_in.view());
    result.fan_out = beside(*ctx_, result.fan_out, all[i].fan_out);
  }
  return result;
}

template <Real T>
SiteMoments SiteMeasurement<T>::gathered(Context& ctx) {
  std::vector<SiteMoments> all;
  for (std::optional<SiteStatistics<T>>& one : statistics_) {
    all.push_back(one->moments(ctx));
    one.reset();
  }
  if (!site_.tied()) return std::move(all.front());
  return side_by_side(ctx, std::move(all), same_inputs_);
}

template <Real T>
void SiteMeasurement<T>::solve(Context& ctx, Tensor<double>* covariance) {
  moments_ = gathered(ctx);
  solved_ = true;
  moments_.slope_at_zero = site_.slope_at_zero();
  moments_.homogeneous = moments_.consumer_norm = true;
  for (std::size_t i = 0; i < site_.readers(); ++i) {
    const Reader<T>& reader = site_.reader(i);
    moments_.relu = moments_.relu || reader.activation == nn::Activation::relu;
    moments_.homogeneous = moments_.homogeneous && reader.homogeneous();
    moments_.consumer_norm = moments_.consumer_norm && reader.consumer.norm();
  }
  moments_.norm = site_.normed();
  moments_.tied = !site_.riders.empty() || !site_.input_norms().empty();
  moments_.damping = options_.damping;
  moments_.significance = options_.significance;
  moments_.move_weights = options_.move_weights;
  moments_.max_units = limit_(taps(), nullptr);
  moments_.today = LazyNumbers([&ctx, site = site_] { return numbers_of_units<T>(ctx, site); });
  if (covariance && needs_.inputs && !known_covariance_) *covariance = clone(ctx, moments_.moments.s);
  choice_ = options_.method->choose(ctx, moments_);
  // Candidates that are still to be refined are not found yet. Where there are no units, features may still become
  // some.
  if (moments_.max_units > 0 && options_.method->candidate_passes() == 0) {
    const std::int64_t found = choice_.insertion.units;
    moments_.max_units = std::min(moments_.max_units, limit_(taps(), &choice_));
    if (moments_.max_units < found) choice_ = options_.method->choose(ctx, moments_);
  }
  if (needs_.consumer) choice_.note = joined(choice_.note, note_of_move(moments_.move));
  complete(choice_.insertion);
  passes_ = choice_.insertion.units > 0 ? options_.method->candidate_passes() : 0;
  prepare_features(ctx);
  prepare_pass(ctx);
}

template <Real T>
void SiteMeasurement<T>::prepare_features(Context& ctx) {
  if (site_.tied() || moments_.spatial || !moments_.relu || site_.producer.norm() || !needs_.residual) return;
  features_ = {.inputs = moments_.inputs, .outputs = moments_.outputs};
  features_.fan_in = options_.method->features(ctx, moments_, choice_);
  if (features_.fan_in.empty()) return;
  features_.units = features_.fan_in.extent(0);
  features_.fan_out = zeros<double>(ctx, {features_.units, features_.outputs});
  feature_path_.emplace(ctx, site_, features_);
  feature_moments_.emplace(ctx, features_.units, false, site_.consumer.in_features(), site_.consumer.has_bias(),
                           features_.outputs, StatisticsOptions{.fisher = true, .consumer = false});
}

template <Real T>
Tensor<double> SiteMeasurement<T>::damped(Context& ctx, const Tensor<double>& a) const {
  Tensor<double> result = clone(ctx, a);
  damp(ctx, moments_.consumer_damping, result);
  return result;
}

template <Real T>
Tensor<double> SiteMeasurement<T>::solve_consumer(const Tensor<double>& cross) const {
  const Tensor<double> s1 = damped(*ctx_, moments_.moments.s1);
  const Tensor<double> transposed = converted_transposed<double, double>(*ctx_, cross.view());
  BestMove<double> found = best_move<double>(*ctx_, s1.view(), transposed.view(), SolveOptions{.route = needs_.route},
                                             moments_.moments.resolution);
  return std::move(found.weights);
}

template <Real T>
Tensor<double> SiteMeasurement<T>::in_metric(const Tensor<double>& a) const {
  if (choice_.output_metric.empty()) return clone(*ctx_, a);
  Tensor<double> result(*ctx_, a.shape());
  gemm(*ctx_, Transpose::no, Transpose::no, 1, choice_.output_metric.view(), a.view(), 0, result.view());
  return result;
}

template <Real T>
void SiteMeasurement<T>::subtract_from_move(const Tensor<double>& explained, double factor) {
  Tensor<double>& move = choice_.insertion.move;
  if (move.empty()) return;
  kernels::axpy<double>(*ctx_, -factor, explained, move.view());
  const Tensor<double> m1t = converted_transposed<double, double>(*ctx_, moments_.moments.m1.view());
  choice_.move_decrease = inner_product<double, double>(*ctx_, move.view(), m1t.view());
}

template <Real T>
double SiteMeasurement<T>::rescale(Insertion& insertion, double factor) const {
  if (!(factor > 0.0) || !std::isfinite(factor)) return 1.0;
  const double root = std::sqrt(factor);
  for (Tensor<double>* const numbers : {&insertion.fan_in, &insertion.fan_out, &insertion.mean}) {
    kernels::scale<double>(*ctx_, root, numbers->view());
  }
  kernels::scale<double>(*ctx_, factor, insertion.variance.view());
  return factor;
}

}  // namespace meristem::grow::detail
