// Definitions of riders.hpp.
#pragma once

#include <cstddef>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/policy/riders.hpp>

namespace meristem::grow {

template <Real T>
std::vector<std::vector<double>> draw_rider_rows(Context& ctx, const Site<T>& site, std::int64_t units) {
  std::vector<std::vector<double>> result;
  for (const Source<T>& rider : site.riders) {
    result.emplace_back();
    if (!rider.norm) continue;
    SiteMoments today;
    today.name = rider.layer.name();
    today.inputs = rider.layer.inputs();
    today.width = rider.layer.out_features();
    today.unit_bias = rider.layer.has_bias();
    const std::int64_t features = detail::features_of(today);
    const std::vector<T> weights = to_host(ctx, rider.layer.weight().value);
    const std::vector<T> biases = rider.layer.has_bias() ? to_host(ctx, rider.layer.bias().value) : std::vector<T>();
    for (std::int64_t k = 0; k < today.width; ++k) {
      const auto begin = weights.begin() + k * features;
      today.fan_in.insert(today.fan_in.end(), begin, begin + features);
      if (today.unit_bias) today.fan_in.push_back(static_cast<double>(biases[static_cast<std::size_t>(k)]));
    }
    result.back() =
        detail::random_rows(detail::random_of(ctx, today, detail::Draw::fan_in), units, features,
                            detail::fan_in_norm(today, UnitScale::copied), today.unit_bias);
  }
  return result;
}

}  // namespace meristem::grow
