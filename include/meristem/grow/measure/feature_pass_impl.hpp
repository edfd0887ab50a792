// Definitions of feature_pass.hpp.
#pragma once

#include <meristem/grow/measure/feature_pass.hpp>

namespace meristem::grow {

template <Real T>
detail::FeaturePass<T>::FeaturePass(Context& ctx, const Site<T>& site, const Tensor<double>& fan_ins)
    : path_(ctx, site, units_of(ctx, site, fan_ins)),
      statistics_(ctx, path_.units(), false, site.consumer.in_features(), site.consumer.has_bias(),
                  site.consumer.out_features(), StatisticsOptions{.fisher = true, .consumer = false}) {}

template <Real T>
void detail::FeaturePass<T>::update(Context& ctx, View<const T> unit_input, View<const T> consumer_input,
                                    View<const T> goal) {
  const Tensor<T> outputs = path_.through(ctx, path_.pre_activation(ctx, unit_input), T(1));
  statistics_.update(ctx, outputs, consumer_input, goal);
}

template <Real T>
Insertion detail::FeaturePass<T>::units_of(Context& ctx, const Site<T>& site, const Tensor<double>& fan_ins) {
  Insertion units{.units = fan_ins.extent(0), .inputs = site.fan_in(), .outputs = site.fan_out()};
  units.fan_in = clone(ctx, fan_ins);
  units.fan_out = zeros<double>(ctx, {units.units, units.outputs});
  return units;
}

}  // namespace meristem::grow
