// Streams in a growth step: whose turn it is, and what the sources get that bring no units.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

/// Rows of new units in the riders of a stream, for Insertion::rider_rows: random ones of the mean norm of today's,
/// bias 0, where a norm of weight 0 stands behind them, and none otherwise. They follow from the context's seed, the
/// rider's name and its weights.
template <Real T>
[[nodiscard]] std::vector<Tensor<double>> draw_rider_rows(Context& ctx, const Site<T>& site, std::int64_t units);

/// Indices of the sites that take turns: a hidden layer alone, the sources of a stream together.
template <Real T>
[[nodiscard]] std::vector<std::vector<std::size_t>> turns_of(const std::vector<Site<T>>& sites);

/// Leaves a proposal those of its units that lower the loss most, `count` of them, or the first ones where that was not
/// measured, with an equal share of the slope each; not for units that belong together.
void keep_best(Context& ctx, detail::Proposal& proposal, std::int64_t count);

/// Takes the move of today's weights out of a proposal. In a stream it would be made for all readers at once, give
/// channels that carry little the weights to match, and training would fall behind (examples/compare_methods).
void leave_weights(detail::Proposal& proposal);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/streams_impl.hpp>
#endif
