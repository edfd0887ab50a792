// A rectangle of a map's positions.
#pragma once

#include <cstdint>
#include <ostream>

#include <meristem/core/config.hpp>
#include <meristem/core/window.hpp>

namespace meristem::kernels {

/// The positions (y, x) with begin.y <= y < end.y and begin.x <= x < end.x.
struct Region {
  Extent2 begin;
  Extent2 end;

  /// The positions of a whole map.
  [[nodiscard]] static constexpr Region whole(Extent2 map) { return {Extent2(0), map}; }

  [[nodiscard]] MERISTEM_HD constexpr bool empty() const { return end.y <= begin.y || end.x <= begin.x; }
  /// Positions along each axis, none negative.
  [[nodiscard]] MERISTEM_HD constexpr Extent2 extent() const {
    return {end.y > begin.y ? end.y - begin.y : 0, end.x > begin.x ? end.x - begin.x : 0};
  }
  /// Whether the ranges run forwards and lie on a map of this size.
  [[nodiscard]] MERISTEM_HD constexpr bool fits(Extent2 map) const {
    return begin.y >= 0 && begin.x >= 0 && end.y <= map.y && end.x <= map.x && begin.y <= end.y && begin.x <= end.x;
  }

  friend constexpr bool operator==(const Region&, const Region&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Region& region) {
    return out << "rows [" << region.begin.y << ", " << region.end.y << "), columns [" << region.begin.x << ", "
               << region.end.x << ')';
  }
};

}  // namespace meristem::kernels
