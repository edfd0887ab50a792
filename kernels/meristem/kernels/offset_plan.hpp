// How offset_products_kernel.cuh divides its work: offsets into runs and groups, a map into tiles. Host code only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/region.hpp>

namespace meristem::kernels::offset_tiles {

/// Farthest apart that the offsets of one block may lie: their tile has to fit in shared memory.
inline constexpr Extent2 farthest = {8, 12};

/// The offsets (y, x), (y, x + 1), ..., (y, x + length - 1).
struct Run {
  int y = 0;
  int x = 0;
  int length = 0;
  int first = 0;  ///< the first offset's place among the products; the others follow
};

/// The runs of one block.
struct Group {
  int first = 0;
  int count = 0;
  int y = 0;  ///< least y and x of their offsets
  int x = 0;
};

/// What the kernel computes for a list of offsets.
struct OffsetPlan {
  std::vector<Run> runs;
  std::vector<Group> groups;
  Extent2 spread = 0;      ///< how far the offsets of a group lie apart, at most
  std::vector<int> place;  ///< for each offset given: its place among the products, -1 where there is nothing to add
};

/// `offsets` in runs of at most `longest_run`, these in groups of at most `most_runs`; equal offsets once, those that
/// reach nothing of b's map not at all. Maps have less than 2^31 rows and columns.
[[nodiscard]] inline OffsetPlan plan_offsets(std::span<const Extent2> offsets, const Region& region, Extent2 b_map,
                                             int longest_run, int most_runs) {
  OffsetPlan plan;
  std::vector<Extent2> sorted;
  for (const Extent2& offset : offsets) {
    // Arranged so that no sum can overflow, whatever the offset is.
    const bool reaches = offset.y < b_map.y - region.begin.y && offset.y > -region.end.y &&
                         offset.x < b_map.x - region.begin.x && offset.x > -region.end.x;
    if (reaches) sorted.push_back(offset);
  }
  std::sort(sorted.begin(), sorted.end(), [](Extent2 a, Extent2 b) { return a.y != b.y ? a.y < b.y : a.x < b.x; });
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  for (const Extent2& offset : offsets) {
    const auto at = std::find(sorted.begin(), sorted.end(), offset);
    plan.place.push_back(at == sorted.end() ? -1 : static_cast<int>(at - sorted.begin()));
  }

  for (std::size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    for (end = begin + 1; end < sorted.size(); ++end) {
      if (sorted[end].y != sorted[begin].y || sorted[end].x != sorted[end - 1].x + 1) break;
    }
    const int count = static_cast<int>(end - begin);
    const int pieces = (count + longest_run - 1) / longest_run;
    for (int piece = 0; piece < pieces; ++piece) {
      const int from = count * piece / pieces;
      const int to = count * (piece + 1) / pieces;
      plan.runs.push_back({static_cast<int>(sorted[begin].y), static_cast<int>(sorted[begin].x) + from, to - from,
                           static_cast<int>(begin) + from});
    }
  }

  const int runs = static_cast<int>(plan.runs.size());
  const int fewest_groups = std::max(1, (runs + most_runs - 1) / most_runs);
  const int group_size = (runs + fewest_groups - 1) / fewest_groups;
  Extent2 low, high;
  for (int r = 0; r < runs; ++r) {
    const Run& run = plan.runs[static_cast<std::size_t>(r)];
    const Extent2 first = {run.y, run.x};
    const Extent2 last = {run.y, run.x + run.length - 1};
    const Extent2 joint_low = {std::min(low.y, first.y), std::min(low.x, first.x)};
    const Extent2 joint_high = {std::max(high.y, last.y), std::max(high.x, last.x)};
    const bool joins = !plan.groups.empty() && plan.groups.back().count < group_size &&
                       joint_high.y - joint_low.y <= farthest.y && joint_high.x - joint_low.x <= farthest.x;
    if (!joins) plan.groups.push_back({r, 0, 0, 0});
    low = joins ? joint_low : first;
    high = joins ? joint_high : last;
    Group& group = plan.groups.back();
    ++group.count;
    group.y = static_cast<int>(low.y);
    group.x = static_cast<int>(low.x);
    plan.spread = {std::max(plan.spread.y, high.y - low.y), std::max(plan.spread.x, high.x - low.x)};
  }
  return plan;
}

/// Part of a batch of maps: rows × columns positions of each of some samples.
struct Tile {
  std::int64_t samples = 1;
  std::int64_t rows = 1;
  std::int64_t columns = 1;
};

/// The tile for a region of `samples` maps, when b's tile is larger than a's by `spread` and both together have at most
/// `capacity` positions. Its rows are divided among `phases` teams of threads.
[[nodiscard]] inline Tile choose_tile(std::int64_t samples, Extent2 region, Extent2 spread, std::int64_t capacity,
                                      std::int64_t phases) {
  const auto ceil_div = [](std::int64_t n, std::int64_t d) { return (n + d - 1) / d; };
  Tile best;
  double least = 1e300;
  const auto consider = [&](const Tile& tile) {
    const std::int64_t steps =
        ceil_div(samples, tile.samples) * ceil_div(region.y, tile.rows) * ceil_div(region.x, tile.columns);
    const double positions =
        static_cast<double>(samples) * static_cast<double>(region.size()) / static_cast<double>(steps);
    const std::int64_t rows = tile.samples * tile.rows;
    const double idle = static_cast<double>(ceil_div(rows, phases) * phases) / static_cast<double>(rows);
    const double loads = static_cast<double>(
        tile.samples * (tile.rows * tile.columns + (tile.rows + spread.y) * (tile.columns + spread.x)));
    // In units of one position's products: waiting teams and the start of a row, loads, and the barrier.
    const double cost = idle * (1.0 + 0.2 / static_cast<double>(tile.columns)) + (0.04 * loads + 2.0) / positions;
    if (cost < least) {
      least = cost;
      best = tile;
    }
  };
  // Only extents that differ in how often they go into the region.
  const auto next_smaller = [&](std::int64_t whole, std::int64_t part) {
    return part == 1 ? 0 : ceil_div(whole, ceil_div(whole, part - 1));
  };
  for (std::int64_t columns = std::min(region.x, capacity); columns > 0; columns = next_smaller(region.x, columns)) {
    const std::int64_t room = capacity - spread.y * (columns + spread.x);
    const std::int64_t most_rows = std::min(region.y, room / (2 * columns + spread.x));
    for (std::int64_t rows = most_rows; rows > 0; rows = next_smaller(region.y, rows)) {
      const std::int64_t each = rows * columns + (rows + spread.y) * (columns + spread.x);
      const std::int64_t most_samples = std::min(samples, capacity / each);
      consider({most_samples, rows, columns});
      if (most_samples > phases) consider({most_samples / phases * phases, rows, columns});
    }
  }
  return best;
}

}  // namespace meristem::kernels::offset_tiles
