// Which step of the optimiser was the first for each element of a parameter that grew.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/shape.hpp>

namespace meristem::optim {

/// The first step that each element of a parameter takes part in, counted from 1: the latest of those of its indices
/// along the axes that have grown, and of `base`. An index that joins an axis brings a row or column with it.
struct FirstSteps {
  std::int64_t base = 0;  ///< of the parameter itself; 0 before its first step
  std::map<int, std::vector<std::int64_t>> axes =
      {};  ///< by axis, one number an index; no entry for one that never grew

  friend bool operator==(const FirstSteps&, const FirstSteps&) = default;

  /// Of every index of an axis with `extent` indices.
  [[nodiscard]] std::vector<std::int64_t> along(int axis, std::int64_t extent) const {
    const auto found = axes.find(axis);
    return found != axes.end() ? found->second : std::vector<std::int64_t>(static_cast<std::size_t>(extent), base);
  }

  /// Follows an axis edit: `map` has for every index of the result the one it comes from, or -1 for the next of
  /// `joined`; the axis had `extent` indices.
  void follow(int axis, std::int64_t extent, std::span<const std::int64_t> map, std::span<const std::int64_t> joined) {
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

  /// As above, where all that joins does so before step `first`.
  void follow(int axis, std::int64_t extent, std::span<const std::int64_t> map, std::int64_t first) {
    follow(axis, extent, map, std::vector<std::int64_t>(map.size(), first));
  }

  /// Whether the axes that have grown have the extents of `shape`.
  [[nodiscard]] bool fits(const Shape& shape) const {
    return std::all_of(axes.begin(), axes.end(), [&](const auto& axis) {
      return axis.first >= 0 && axis.first < shape.rank() && std::ssize(axis.second) == shape[axis.first];
    });
  }
};

/// The elements of a parameter by growth stage: those with the same first step are one.
struct GrowthStages {
  std::vector<std::int64_t> first_steps;  ///< of every stage that has elements, ascending
  std::vector<std::int32_t> of_element;   ///< which stage, in memory order; empty if there is but one
};

/// `steps` fits `shape`.
[[nodiscard]] inline GrowthStages growth_stages(const FirstSteps& steps, const Shape& shape) {
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
