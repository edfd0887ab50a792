// Which step of the optimiser was the first for each element of a parameter that grew.
#pragma once

#include <cstdint>
#include <map>
#include <span>
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
  [[nodiscard]] std::vector<std::int64_t> along(int axis, std::int64_t extent) const;

  /// Follows an axis edit: `map` has for every index of the result the one it comes from, or -1 for the next of
  /// `joined`; the axis had `extent` indices.
  void follow(int axis, std::int64_t extent, std::span<const std::int64_t> map, std::span<const std::int64_t> joined);

  /// As above, where all that joins does so before step `first`.
  void follow(int axis, std::int64_t extent, std::span<const std::int64_t> map, std::int64_t first) {
    follow(axis, extent, map, std::vector<std::int64_t>(map.size(), first));
  }

  /// Whether the axes that have grown have the extents of `shape`.
  [[nodiscard]] bool fits(const Shape& shape) const;
};

/// The elements of a parameter by growth stage: those with the same first step are one.
struct GrowthStages {
  std::vector<std::int64_t> first_steps;  ///< of every stage that has elements, ascending
  std::vector<std::int32_t> of_element;   ///< which stage, in memory order; empty if there is but one
};

/// `steps` fits `shape`.
[[nodiscard]] GrowthStages growth_stages(const FirstSteps& steps, const Shape& shape);

}  // namespace meristem::optim

#if !defined(MERISTEM_COMPILED)
#include <meristem/optim/first_steps_impl.hpp>
#endif
