// Streams in a growth step: whose turn it is, which source brings units, and what the others get.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/grow/measure/measurement.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

/// Rows of new units in the riders of a stream, for Insertion::rider_rows: random ones of the mean norm of today's,
/// bias 0, where a norm of weight 0 stands behind them, and none otherwise. They follow from the context's seed, the
/// rider's name and its weights.
template <Real T>
[[nodiscard]] std::vector<std::vector<double>> draw_rider_rows(Context& ctx, const Site<T>& site, std::int64_t units);

/// Indices of the sites that take turns: a hidden layer alone, the sources of a stream together.
template <Real T>
[[nodiscard]] std::vector<std::vector<std::size_t>> turns_of(const std::vector<Site<T>>& sites);

/// Of the proposals for the sites `which`, leaves each stream the one that is worth most, and takes all units from the
/// others.
template <Real T>
void choose_sources(const std::vector<Site<T>>& sites, const std::vector<std::size_t>& which,
                    const std::function<double(const Site<T>&, const Proposal&)>& worth,
                    std::vector<Proposal>& proposals);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/streams_impl.hpp>
#endif
