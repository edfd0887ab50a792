// Definitions of first_steps.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include <meristem/optim/first_steps.hpp>

namespace meristem::optim {

MERISTEM_INLINE std::vector<std::int64_t> FirstSteps::along(int axis, std::int64_t extent) const {
  const auto found = axes.find(axis);
  return found != axes.end() ? found->second : std::vector<std::int64_t>(static_cast<std::size_t>(extent), base);
}

MERISTEM_INLINE void FirstSteps::follow(int axis, std::int64_t extent, std::span<const std::int64_t> map,
                                        std::span<const std::int64_t> joined) {
  const std::vector<std::int64_t> old = along(axis, extent);
  std::vector<std::int64_t> result;
  bool later = false;
  std::size_t next = 0;
  for (const std::int64_t from : map) {
    result.push_back(from >= 0 ? old[static_cast<std::size_t>(from)] : joined[next++]);
    later = later || result.back() > base;
  }
  axes.erase(axis);
  if (later) axes.emplace(axis, std::move(result));
}

MERISTEM_INLINE bool FirstSteps::fits(const Shape& shape) const {
  return std::all_of(axes.begin(), axes.end(), [&](const auto& axis) {
    return axis.first >= 0 && axis.first < shape.rank() && std::ssize(axis.second) == shape[axis.first];
  });
}

MERISTEM_INLINE GrowthStages growth_stages(const FirstSteps& steps, const Shape& shape) {
  std::vector<std::int64_t> known{steps.base};
  for (const auto& [axis, along] : steps.axes) known.insert(known.end(), along.begin(), along.end());
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  const auto number_of = [&](std::int64_t first) {
    return static_cast<std::int32_t>(std::lower_bound(known.begin(), known.end(), first) - known.begin());
  };
  GrowthStages result;
  result.of_element.assign(static_cast<std::size_t>(shape.size()), number_of(steps.base));
  for (const auto& [axis, along] : steps.axes) {
    std::int64_t inner = 1;
    for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
    for (auto element = result.of_element.begin(); element != result.of_element.end();) {
      for (const std::int64_t first : along) {
        const std::int32_t number = number_of(first);
        for (std::int64_t i = 0; i < inner; ++i, ++element) *element = std::max(*element, number);
      }
    }
  }
  // Numbers without a gap: of some first steps no element may be left.
  std::vector<std::int32_t> renumbered(known.size(), -1);
  for (const std::int32_t number : result.of_element) renumbered[static_cast<std::size_t>(number)] = 0;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (renumbered[i] < 0) continue;
    renumbered[i] = static_cast<std::int32_t>(result.first_steps.size());
    result.first_steps.push_back(known[i]);
  }
  if (result.first_steps.size() == 1) {
    result.of_element.clear();
    return result;
  }
  for (std::int32_t& number : result.of_element) number = renumbered[static_cast<std::size_t>(number)];
  return result;
}

}  // namespace meristem::optim
