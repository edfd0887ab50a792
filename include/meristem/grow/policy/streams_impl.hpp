// Definitions of streams.hpp.
#pragma once

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

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

MERISTEM_INLINE void keep_best(Proposal& proposal, std::int64_t count) {
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
  keep(proposal.insertion, kept);
  if (slopes.empty()) return;
  const std::vector<double> all = std::exchange(slopes, {});
  for (const std::int64_t unit : kept) slopes.push_back(all[static_cast<std::size_t>(unit)]);
  proposal.report.slope = proposal.move_slope + std::accumulate(slopes.begin(), slopes.end(), 0.0);
}

template <Real T>
void share_out(const std::vector<Site<T>>& sites, const std::vector<std::size_t>& which,
               const std::function<double(const Site<T>&, const Proposal&)>& worth, std::vector<Proposal>& proposals) {
  std::map<std::string, std::vector<std::size_t>> streams;
  for (std::size_t i = 0; i < which.size(); ++i) {
    const Site<T>& site = sites[which[i]];
    if (site.tied() && proposals[i].insertion.units > 0) streams[site.stream].push_back(i);
  }
  for (const auto& [stream, members] : streams) {
    std::int64_t most = 0;
    std::size_t best = members.front();
    bool measured = true;
    std::vector<std::pair<double, std::size_t>> units;
    for (const std::size_t i : members) {
      const Proposal& one = proposals[i];
      most = std::max(most, one.report.asked);
      if (worth(sites[which[i]], one) > worth(sites[which[best]], proposals[best])) best = i;
      measured = measured && std::ssize(one.unit_slopes) == one.insertion.units;
      for (const double slope : one.unit_slopes) units.emplace_back(slope, i);
    }
    std::stable_sort(units.begin(), units.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::map<std::size_t, std::int64_t> shares;
    if (measured) {
      units.resize(std::min(units.size(), static_cast<std::size_t>(most)));
      for (const auto& unit : units) ++shares[unit.second];
    } else {
      shares[best] = proposals[best].insertion.units;
    }
    for (const std::size_t i : members) {
      Proposal& one = proposals[i];
      const std::int64_t found = one.insertion.units, share = shares[i];
      if (share == found) continue;
      keep_best(one, share);
      const std::string why =
          measured ? concat(share, " of ", found, " units: other sources of the stream bring better ones")
                   : concat(sites[which[best]].name, ", which feeds the same stream, promises more");
      one.report.note = detail::joined(why, one.report.note);
    }
  }
}

MERISTEM_INLINE void leave_weights(Proposal& proposal) {
  proposal.report.slope -= std::exchange(proposal.move_slope, 0.0);
  proposal.insertion.move.clear();
}

}  // namespace meristem::grow
