// Definitions of streams.hpp.
#pragma once

#include <algorithm>
#include <numeric>
#include <utility>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/policy/streams.hpp>

namespace meristem::grow {

template <Real T>
std::vector<Tensor<double>> draw_rider_rows(Context& ctx, const Site<T>& site, std::int64_t units) {
  std::vector<Tensor<double>> result;
  for (const Affine<T>& rider : site.riders) {
    result.emplace_back();
    if (!rider.norm()) continue;
    SiteMoments today;
    today.name = rider.name();
    today.inputs = rider.inputs();
    today.width = rider.out_features();
    today.unit_bias = rider.has_bias();
    const auto view = [](const Tensor<T>& tensor) { return tensor.view(); };
    today.today = detail::LazyNumbers([&] {
      detail::NumbersOfUnits numbers;
      numbers.fan_in = detail::fan_ins_of<T>(ctx, view(rider.weight().value),
                                             today.unit_bias ? view(rider.bias().value) : View<const T>());
      return numbers;
    });
    result.back() =
        detail::random_rows(ctx, detail::random_of(ctx, today, detail::Draw::fan_in), units, detail::features_of(today),
                            detail::fan_in_norm(ctx, today, UnitScale::copied), today.unit_bias);
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

MERISTEM_INLINE void keep_best(Context& ctx, detail::Proposal& proposal, std::int64_t count) {
  const std::int64_t units = proposal.insertion.units;
  if (count >= units) return;
  std::vector<double>& slopes = proposal.unit_slopes;
  std::vector<std::int64_t> kept(static_cast<std::size_t>(units));
  std::iota(kept.begin(), kept.end(), std::int64_t{0});
  if (!slopes.empty()) {
    std::stable_sort(kept.begin(), kept.end(), [&](std::int64_t a, std::int64_t b) {
      return slopes[static_cast<std::size_t>(a)] > slopes[static_cast<std::size_t>(b)];
    });
  }
  kept.resize(static_cast<std::size_t>(count));
  std::sort(kept.begin(), kept.end());
  keep(ctx, proposal.insertion, kept);
  if (slopes.empty()) {
    const double share = static_cast<double>(count) / static_cast<double>(units);
    proposal.report.slope = proposal.move_slope + share * (proposal.report.slope - proposal.move_slope);
    return;
  }
  const std::vector<double> all = std::exchange(slopes, {});
  for (const std::int64_t unit : kept) slopes.push_back(all[static_cast<std::size_t>(unit)]);
  proposal.report.slope = proposal.move_slope + std::accumulate(slopes.begin(), slopes.end(), 0.0);
}

MERISTEM_INLINE void leave_weights(detail::Proposal& proposal) {
  proposal.report.slope -= std::exchange(proposal.move_slope, 0.0);
  proposal.insertion.move = {};
}

}  // namespace meristem::grow
