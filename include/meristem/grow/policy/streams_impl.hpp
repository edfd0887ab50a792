// Definitions of streams.hpp.
#pragma once

#include <algorithm>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/policy/streams.hpp>

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
    result.back() = detail::random_rows(detail::random_of(ctx, today, detail::Draw::fan_in), units, features,
                                        detail::fan_in_norm(today, UnitScale::copied), today.unit_bias);
  }
  return result;
}

template <Real T>
std::vector<std::vector<std::size_t>> turns_of(const std::vector<Site<T>>& sites) {
  std::vector<std::vector<std::size_t>> result;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const auto same = [&](const std::vector<std::size_t>& turn) {
      return sites[i].tied() && sites[turn.front()].stream == sites[i].stream;
    };
    const auto found = std::find_if(result.begin(), result.end(), same);
    if (found == result.end()) {
      result.push_back({i});
    } else {
      found->push_back(i);
    }
  }
  return result;
}

template <Real T>
void choose_sources(const std::vector<Site<T>>& sites, const std::vector<std::size_t>& which,
                    const std::function<double(const Site<T>&, const Proposal&)>& worth,
                    std::vector<Proposal>& proposals) {
  for (std::size_t i = 0; i < which.size(); ++i) {
    const Site<T>& site = sites[which[i]];
    if (!site.tied() || proposals[i].insertion.units == 0) continue;
    for (std::size_t j = 0; j < which.size(); ++j) {
      const Site<T>& other = sites[which[j]];
      if (j == i || other.stream != site.stream) continue;
      const double mine = worth(site, proposals[i]), theirs = worth(other, proposals[j]);
      if (theirs < mine || (theirs == mine && j > i)) continue;
      proposals[i].insertion.units = 0;
      proposals[i].report.note =
          detail::joined(concat(other.name, ", which feeds the same stream, promises more"), proposals[i].report.note);
      break;
    }
  }
}

}  // namespace meristem::grow
