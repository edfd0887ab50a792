// Definitions of feature_pass.hpp.
#pragma once

#include <cstdint>

#include <meristem/grow/measure/feature_pass.hpp>

namespace meristem::grow {

template <Real T>
detail::FeaturePass<T>::FeaturePass(Context& ctx, const Site<T>& site, const std::vector<double>& fan_ins)
    : path_(ctx, site, units_of(site, fan_ins)),
      statistics_(ctx, path_.units(), false, site.consumer.in_features(), site.consumer.has_bias(),
                  site.consumer.out_features(), StatisticsOptions{.fisher = true, .consumer = false}) {}

template <Real T>
void detail::FeaturePass<T>::update(Context& ctx, View<const T> unit_input, View<const T> consumer_input,
                                    View<const T> goal) {
  const Tensor<T> outputs = path_.through(ctx, path_.pre_activation(ctx, unit_input), T(1));
  statistics_.update(ctx, outputs, consumer_input, goal);
}

template <Real T>
Insertion detail::FeaturePass<T>::units_of(const Site<T>& site, const std::vector<double>& fan_ins) {
  Insertion units{.inputs = site.fan_in(), .outputs = site.fan_out()};
  units.units = static_cast<std::int64_t>(fan_ins.size()) / units.inputs;
  units.fan_in = fan_ins;
  units.fan_out.assign(static_cast<std::size_t>(units.units * units.outputs), 0.0);
  return units;
}

}  // namespace meristem::grow
