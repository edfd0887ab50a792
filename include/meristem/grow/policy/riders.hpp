// What the other sources of a stream get when one of them brings it units.
#pragma once

#include <cstdint>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

/// Rows of new units in the riders of a stream, for Insertion::rider_rows: random ones of the mean norm of today's, bias
/// 0, where a norm of weight 0 stands behind them, and none otherwise. They follow from the context's seed, the rider's
/// name and its weights.
template <Real T>
[[nodiscard]] std::vector<std::vector<double>> draw_rider_rows(Context& ctx, const Site<T>& site, std::int64_t units);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/riders_impl.hpp>
#endif
