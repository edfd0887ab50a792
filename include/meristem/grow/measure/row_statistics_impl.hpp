// Definitions of row_statistics.hpp.
#pragma once

#include <cmath>
#include <limits>
#include <utility>

#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow::detail {

/// Joins the products of B2 with the features of B1 and the sums of B2 into P, whose last column stands for the bias.
struct AppendColumn {
  const double* products;
  const double* sums;
  double* result;
  std::int64_t columns;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column) const;
};

MERISTEM_INLINE void AppendColumn::operator()(std::int64_t row, std::int64_t column) const {
  result[row * (columns + 1) + column] = column < columns ? products[row * columns + column] : sums[row];
}

template <Real T>
RowStatistics<T>::RowStatistics(Context& ctx, std::int64_t unit_inputs, bool unit_bias, std::int64_t consumer_inputs,
                                bool consumer_bias, std::int64_t outputs, const StatisticsOptions& options)
    : features_{unit_inputs, consumer_inputs, outputs} {
  if (options.covariance) s_.emplace(ctx, unit_inputs, unit_bias);
  if (options.consumer) s1_.emplace(ctx, consumer_inputs, consumer_bias);
  const auto emplace = [&](CrossMoments& moments) {
    if (options.consumer) moments.m1.emplace(ctx, consumer_inputs, consumer_bias, outputs);
    if (options.goal) moments.m.emplace(ctx, unit_inputs, unit_bias, outputs);
    if (!options.cross) return;
    moments.cross.emplace(ctx, unit_inputs, unit_bias, consumer_inputs);
    if (consumer_bias) moments.unit_sums.emplace(ctx, unit_inputs, unit_bias, 1);
  };
  emplace(plain_);
  if (options.noise) emplace(signed_.emplace());
  if (options.fisher) fisher_.emplace(ctx, outputs, false);
}

template <Real T>
RowStatistics<T>::RowStatistics(Context& ctx, const SiteShape& site, const StatisticsOptions& options)
    : RowStatistics(ctx, site.producer.in, site.producer.bias, site.consumer.in, site.consumer.bias, site.consumer.out,
                    options) {
  site.check();
  site_ = site.name;
}

template <Real T>
void RowStatistics<T>::update(Context& ctx, View<const T> unit_input, View<const T> consumer_input,
                              View<const T> goal) {
  const std::int64_t n = unit_input.extent(0);
  const std::array<View<const T>, 3> arrived{unit_input.as_matrix(), consumer_input.as_matrix(), goal.as_matrix()};
  const std::int64_t rows = arrived[2].extent(0);
  for (std::size_t i = 0; i < 3; ++i) {
    if (arrived[i].extent(0) == rows && arrived[i].extent(1) == features_[i]) continue;
    throw ShapeError(concat("RowStatistics: unit input ", unit_input.shape(), ", consumer input ",
                            consumer_input.shape(), " and goal ", goal.shape(),
                            " must agree in all axes but the last,"
                            " which must be ",
                            features_[0], ", ", features_[1], " and ", features_[2]));
  }
  const double squares = kernels::sum_squares(ctx, goal);
  if (!std::isfinite(squares)) {
    kernels::check_finite(ctx, goal,
                          concat(site_.empty() ? "RowStatistics" : concat("site ", site_),
                                 ": the desired update (minus the gradient at the consumer's output)"));
  }
  if (s_) s_->update(ctx, unit_input, n);
  if (s1_) s1_->update(ctx, consumer_input, n);
  update(ctx, plain_, unit_input, consumer_input, consumer_input, goal, ones(ctx, n, rows));
  if (signed_) {
    const auto flipped = [&](View<const T> v) {
      return with_random_signs<T>(ctx, v.reshape({n, n > 0 ? v.size() / n : 0}), samples_);
    };
    const Tensor<T> consumer = flipped(consumer_input), goals = flipped(goal);
    Tensor<T> signs;
    if (signed_->unit_sums) signs = flipped(ones(ctx, n, rows));
    update(ctx, *signed_, unit_input, consumer_input, consumer.view().reshape(consumer_input.shape()),
           goals.view().reshape(goal.shape()), signs.view());
  }
  if (fisher_) fisher_->update(ctx, goal, n);
  goal_squares_ += squares;
  samples_ += n;
}

template <Real T>
void RowStatistics<T>::merge(Context& ctx, const RowStatistics& other) {
  const auto same = [](const auto& a, const auto& b) { return a.has_value() == b.has_value(); };
  if (!same(s_, other.s_) || !same(s1_, other.s1_) || !same(fisher_, other.fisher_) ||
      !same(plain_.m, other.plain_.m) || !same(plain_.cross, other.plain_.cross) || !same(signed_, other.signed_)) {
    throw ArgumentError("RowStatistics: cannot merge statistics gathered with different options");
  }
  if (s_) s_->merge(ctx, *other.s_);
  if (s1_) s1_->merge(ctx, *other.s1_);
  plain_.merge(ctx, other.plain_);
  if (signed_) signed_->merge(ctx, *other.signed_);
  if (fisher_) fisher_->merge(ctx, *other.fisher_);
  goal_squares_ += other.goal_squares_;
  samples_ += other.samples_;
}

template <Real T>
Moments<double> RowStatistics<T>::moments(Context& ctx) {
  if (samples_ == 0) throw ArgumentError("RowStatistics: moments of no samples were asked for; call update first");
  Moments<double> result;
  if (s_) result.s = s_->mean(ctx);
  if (s1_) result.s1 = s1_->mean(ctx);
  plain_.mean(ctx, result.m1, result.m, result.cross);
  if (fisher_) result.fisher = fisher_->mean(ctx);
  result.goal_norm2 = goal_squares_ / static_cast<double>(samples_);
  result.samples = samples_;
  // Products of one stretch are summed in T.
  result.resolution = static_cast<double>(std::numeric_limits<T>::epsilon());
  return result;
}

template <Real T>
Moments<double> RowStatistics<T>::noise(Context& ctx) {
  if (samples_ == 0) throw ArgumentError("RowStatistics: moments of no samples were asked for; call update first");
  Moments<double> result;
  if (signed_) signed_->mean(ctx, result.m1, result.m, result.cross);
  return result;
}

template <Real T>
void RowStatistics<T>::CrossMoments::merge(Context& ctx, const CrossMoments& other) {
  if (m1) m1->merge(ctx, *other.m1);
  if (m) m->merge(ctx, *other.m);
  if (cross) cross->merge(ctx, *other.cross);
  if (unit_sums) unit_sums->merge(ctx, *other.unit_sums);
}

template <Real T>
void RowStatistics<T>::CrossMoments::mean(Context& ctx, Tensor<double>& m1_mean, Tensor<double>& m_mean,
                                          Tensor<double>& cross_mean) {
  if (m1) m1_mean = m1->mean(ctx);
  if (m) m_mean = m->mean(ctx);
  if (cross) cross_mean = cross->mean(ctx);
  if (!unit_sums) return;
  const Tensor<double> products = std::move(cross_mean);
  const Tensor<double> sums = unit_sums->mean(ctx);
  const std::int64_t p = products.extent(0), columns = products.extent(1);
  cross_mean = Tensor<double>(ctx, {p, columns + 1});
  if (p > 0) {
    for_each(ctx, p, columns + 1, detail::AppendColumn{products.data(), sums.data(), cross_mean.data(), columns});
  }
}

template <Real T>
void RowStatistics<T>::update(Context& ctx, CrossMoments& moments, View<const T> unit_input,
                              View<const T> consumer_input, View<const T> consumer, View<const T> goal,
                              View<const T> ones) {
  const std::int64_t n = unit_input.extent(0);
  if (moments.m1) moments.m1->update(ctx, consumer_input, goal, n);
  if (moments.m) moments.m->update(ctx, unit_input, goal, n);
  if (moments.cross) moments.cross->update(ctx, unit_input, consumer, n);
  if (moments.unit_sums) moments.unit_sums->update(ctx, unit_input, ones.reshape({ones.size(), 1}), n);
}

template <Real T>
View<const T> RowStatistics<T>::ones(Context& ctx, std::int64_t samples, std::int64_t rows) {
  if (!plain_.unit_sums) return {};
  if (ones_.size() < rows) {
    ones_ = Tensor<T>(ctx, {rows, 1});
    kernels::fill(ctx, T(1), ones_.view());
  }
  return std::as_const(ones_).view().slice(0, 0, rows).reshape({samples, samples > 0 ? rows / samples : 0});
}

}  // namespace meristem::grow::detail
