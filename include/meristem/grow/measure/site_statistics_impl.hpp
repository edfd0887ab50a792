// Definitions of site_statistics.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/core/blas.hpp>
#include <meristem/grow/measure/site_statistics.hpp>

namespace meristem::grow {

template <Real T>
SiteStatistics<T>::SiteStatistics(Context& ctx, const SiteShape& shape, const Needs& needs, const Options& options)
    : shape_(shape), needs_(needs), options_(options) {
  needs_.consumer = needs_.consumer || needs_.residual || needs_.joint;
  passes_ = needs_.inputs || needs_.consumer || needs_.goal || needs_.fisher ? 1 : 0;
  const bool covariance = needs_.inputs && options.known_covariance == nullptr;
  if (needs_.goal && options.norm) goal_means_.emplace(shape);
  if (!shape.spatial()) {
    rows_.emplace(ctx, shape,
                  detail::StatisticsOptions{.fisher = needs_.fisher,
                                            .covariance = covariance,
                                            .consumer = needs_.consumer,
                                            .goal = needs_.goal || needs_.residual,
                                            .cross = needs_.residual || needs_.joint,
                                            .noise = needs_.noise});
    return;
  }
  maps_.emplace(ctx, shape, options.fan_out,
                typename detail::MapStatistics<T>::Options{.covariance = covariance,
                                                           .consumer = needs_.consumer,
                                                           .goal = needs_.goal,
                                                           .residual = needs_.residual,
                                                           .noise = needs_.noise,
                                                           .move_noise = needs_.noise && !options.damping,
                                                           .joint = needs_.joint,
                                                           .fisher = needs_.fisher});
  if (needs_.residual || needs_.joint) passes_ = 2;
}

template <Real T>
void SiteStatistics<T>::update(Context& ctx, View<const T> unit_input, View<const T> consumer_input,
                               View<const T> goal) {
  if (!wants_pass()) {
    throw ArgumentError(concat("site ", shape_.name, ": its statistics are complete; no further pass is wanted"));
  }
  if (pass_ == 1) return maps_->update_residual(ctx, unit_input, consumer_input, goal);
  if (goal_means_) goal_means_->update(ctx, unit_input, goal);
  if (rows_) return rows_->update(ctx, unit_input, consumer_input, goal);
  maps_->update(ctx, unit_input, consumer_input, goal);
}

template <Real T>
void SiteStatistics<T>::merge(Context& ctx, const SiteStatistics& other) {
  if (pass_ != other.pass_ || rows_.has_value() != other.rows_.has_value()) {
    throw ArgumentError(concat("site ", shape_.name, ": cannot merge statistics of different passes or sites"));
  }
  if (goal_means_) goal_means_->merge(*other.goal_means_);
  if (rows_) return rows_->merge(ctx, *other.rows_);
  maps_->merge(ctx, *other.maps_);
}

template <Real T>
void SiteStatistics<T>::finish_pass(Context& ctx) {
  if (!wants_pass()) {
    throw ArgumentError(concat("site ", shape_.name, ": its statistics are complete; no further pass is wanted"));
  }
  if (pass_++ == 0 && maps_ && passes_ == 2) maps_->find_move(ctx, options_.damping, needs_.route);
}

template <Real T>
SiteMoments SiteStatistics<T>::moments(Context& ctx) {
  if (wants_pass()) {
    throw ArgumentError(concat("site ", shape_.name, ": its statistics are not complete; a pass is missing"));
  }
  SiteMoments result;
  result.name = shape_.name;
  result.inputs = shape_.fan_in();
  result.outputs = shape_.fan_out();
  result.consumer_inputs = shape_.consumer_inputs();
  result.width = shape_.width();
  result.before = shape_.before;
  result.after = shape_.after;
  result.unit_bias = shape_.producer.bias;
  result.consumer_bias = shape_.consumer.bias;
  result.spatial = shape_.spatial();
  result.moments.layer = shape_.name;
  std::vector<double> squares;
  if (rows_) {
    if (passes_ > 0) finish_rows(ctx, result);
  } else {
    squares = maps_->squares_later(ctx);
    result.positions = shape_.outputs().size();
    result.all_taps = shape_.consumer_window().kernel.size();
    result.taps = maps_->fan_out() == FanOut::full ? result.all_taps : 1;
    if (passes_ > 0) finish_maps(ctx, result);
  }
  require_finite(ctx, result);  // and wait
  if (maps_ && passes_ > 0) {
    result.moments.goal_norm2 = squares[0] / static_cast<double>(maps_->samples());
    if (needs_.residual) result.bottleneck = squares[1] / static_cast<double>(maps_->samples());
  }
  if (goal_means_) result.centred_goal = goal_means_->centred(ctx, result.moments.m);
  return result;
}

template <Real T>
void SiteStatistics<T>::finish_rows(Context& ctx, SiteMoments& result) {
  Moments<double>& moments = result.moments = rows_->moments(ctx);
  moments.layer = shape_.name;
  if (needs_.inputs && options_.known_covariance) moments.s = clone(ctx, *options_.known_covariance);
  if (!needs_.consumer) return;
  require_finite(ctx, result);
  const Moments<double> noise = needs_.noise ? rows_->noise(ctx) : Moments<double>();
  detail::DampedMove found =
      damped_move(ctx, moments.s1, moments.m1, options_.damping ? Tensor<double>() : clone(ctx, noise.m1),
                  options_.damping, needs_.route, moments.resolution);
  result.move = std::move(found.move);
  result.consumer_damping = found.damping;
  result.bottleneck = unexpressed(ctx, result);
  const View<const double> move = result.move.weights;
  if (needs_.residual) result.n = residual_cross<double>(ctx, moments.m, moments.cross, move);
  if (needs_.noise) result.noise = residual_cross<double>(ctx, noise.m, noise.cross, move);
  if (needs_.joint && result.consumer_inputs > 0) {
    Tensor<double> s1 = clone(ctx, moments.s1);
    damp(ctx, result.consumer_damping, s1);
    const Tensor<double> rows =
        detail::whitening_rows(ctx, concat("site ", shape_.name, ": S1"), s1, needs_.route, moments.resolution);
    result.explained = Tensor<double>(ctx, {result.inputs, rows.extent(0)});
    gemm(ctx, Transpose::no, Transpose::yes, 1, moments.cross.view(), rows.view(), 0, result.explained.view());
  }
}

template <Real T>
void SiteStatistics<T>::finish_maps(Context& ctx, SiteMoments& result) {
  Moments<double>& moments = result.moments;
  if (needs_.inputs) {
    moments.s = options_.known_covariance ? clone(ctx, *options_.known_covariance) : maps_->covariance(ctx);
  }
  if (needs_.goal) moments.m = maps_->goal_cross_moment(ctx);
  if (needs_.fisher) moments.fisher = maps_->fisher(ctx);
  moments.samples = maps_->samples();
  moments.resolution = detail::MapStatistics<T>::resolution();
  if (!needs_.consumer) return;
  if (passes_ == 1) maps_->find_move(ctx, options_.damping, needs_.route);
  moments.s1 = maps_->consumer_covariance(ctx);
  moments.m1 = maps_->first_moment(ctx);
  result.move = maps_->take_move();
  result.consumer_damping = maps_->damping();
  if (!needs_.residual) {
    moments.goal_norm2 = maps_->goal_norm2(ctx);
    result.bottleneck = unexpressed(ctx, result);
  }
  if (needs_.residual) {
    std::vector<Tensor<double>> cross = maps_->residual_cross_moments(ctx);
    result.n = std::move(cross.front());
    if (needs_.noise) result.noise = std::move(cross.back());
  }
  if (needs_.joint) result.explained = maps_->explained(ctx);
}

template <Real T>
double SiteStatistics<T>::unexpressed(Context& ctx, const SiteMoments& site) {
  const Tensor<double>& move = site.move.weights;
  double squares = 0.0;
  if (!move.empty()) {
    Tensor<double> product(ctx, move.shape());
    gemm(ctx, Transpose::no, Transpose::no, 1, move.view(), site.moments.s1.view(), 0, product.view());
    squares = detail::inner_product<double, double>(ctx, product.view(), move.view());
  }
  return std::max(0.0, site.moments.goal_norm2 - 2.0 * site.move.decrease + squares);
}

template <Real T>
void SiteStatistics<T>::require_finite(Context& ctx, const SiteMoments& site) const {
  const Moments<double>& m = site.moments;
  std::vector<detail::Named<double>> given;
  const auto check = [&](const char* symbol, const Tensor<double>& matrix) {
    if (!matrix.empty()) given.push_back({concat("site ", shape_.name, ": ", symbol), matrix.view()});
  };
  check("S", m.s);
  check("S1", m.s1);
  check("M", m.m);
  check("M1", m.m1);
  check("P", m.cross);
  check("E", m.fisher);
  check("N", site.n);
  check("the noise of N", site.noise);
  detail::require_finite<double>(ctx, given);
}

}  // namespace meristem::grow
