// Moments of what units of given fan-ins would put out, between two layers that read vectors.
#pragma once

#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/grow/measure/unit_path.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

namespace detail {

/// Accumulates S, M, P and E of the outputs of K units behind a ReLU.
template <Real T>
class FeaturePass {
 public:
  /// `fan_ins` (K, p) in the layout of Insertion.
  FeaturePass(Context& ctx, const Site<T>& site, const Tensor<double>& fan_ins);

  /// Adds one batch, as RowStatistics::update.
  void update(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal);

  [[nodiscard]] Moments<double> moments(Context& ctx) { return statistics_.gathered(ctx); }

 private:
  static Insertion units_of(Context& ctx, const Site<T>& site, const Tensor<double>& fan_ins);

  UnitPath<T> path_;
  RowStatistics<T> statistics_;
};

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/feature_pass_impl.hpp>
#endif
