// The moments of a stream, which has several readers.
#pragma once

#include <cstddef>
#include <vector>

#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow::detail {

/// Throws ArgumentError for a method that reads what a stream with several readers does not have.
template <Real T>
void require_served(const Site<T>& site, const Method& method);

/// The moments of a stream from those of each of its readers; S of reader t is that of reader same_inputs[t].
[[nodiscard]] SiteMoments side_by_side(Context& ctx, std::vector<SiteMoments> all,
                                       const std::vector<std::size_t>& same_inputs);

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/side_by_side_impl.hpp>
#endif
