// Moments of what units of given fan-ins would put out, between two layers that read vectors.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/grow/measure/unit_path.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

/// Accumulates FeatureMoments of the outputs of K units behind a ReLU.
template <Real T>
class FeaturePass {
 public:
  /// `fan_ins` (K, p) in the layout of Insertion; with `noise` moments with random signs are gathered as well.
  FeaturePass(Context& ctx, const Site<T>& site, const std::vector<double>& fan_ins, bool noise)
      : path_(ctx, site, units_of(site, fan_ins)),
        statistics_(ctx, path_.units(), false, site.consumer.in_features(), site.consumer.has_bias(),
                    site.consumer.out_features(), StatisticsOptions{.consumer = false, .noise = noise}) {}

  /// Adds one batch, as RowStatistics::update.
  void update(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    const Tensor<T> outputs = path_.through(ctx, path_.pre_activation(ctx, unit_input), T(1));
    statistics_.update(ctx, outputs, consumer_input, goal);
  }

  [[nodiscard]] FeatureMoments moments(Context& ctx) { return {statistics_.gathered(ctx), statistics_.noise(ctx)}; }

 private:
  static Insertion units_of(const Site<T>& site, const std::vector<double>& fan_ins) {
    Insertion units{.inputs = site.fan_in(), .outputs = site.fan_out()};
    units.units = static_cast<std::int64_t>(fan_ins.size()) / units.inputs;
    units.fan_in = fan_ins;
    units.fan_out.assign(static_cast<std::size_t>(units.units * units.outputs), 0.0);
    return units;
  }

  UnitPath<T> path_;
  RowStatistics<T> statistics_;
};

}  // namespace meristem::grow
