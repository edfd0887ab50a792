// Insertions into streams: what each reader gets of one, and what the other sources and earlier readers get.
#pragma once

#include <cstddef>
#include <cstdint>

#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

namespace detail {

/// Throws ShapeError or ArgumentError unless the insertion was made for this stream as it is.
template <Real T>
void require_stream_fit(const Site<T>& site, const Insertion& insertion);

/// The insertion as one reader alone sees it, for Site::read_by(index): its fan-outs and its move.
template <Real T>
[[nodiscard]] Insertion part_of(const Site<T>& site, const Insertion& insertion, std::size_t index);

/// The multiple of each unit α_kᵀ[b 1] that a stream carries whatever the amplitude, where norms in front of its
/// readers make the unit of it: fan-ins scaled by `scales`, behind a norm of the source at the weights of its other
/// channels.
template <Real T>
[[nodiscard]] std::vector<double> carried_scales(Context& ctx, const Site<T>& site, const Insertion& insertion,
                                                 const std::vector<double>& scales);

/// Adds channels to the norms in front of the readers that the units reach, where the stream carries these multiples.
template <Real T>
void add_input_norms(Context& ctx, const Site<T>& site, const Insertion& insertion, const std::vector<double>& carried,
                     Edit<T>& edit);

/// Adds the new channels of a stream where its units come from elsewhere, and where they do not reach.
template <Real T>
void add_riders(Context& ctx, const Site<T>& site, const Insertion& insertion, Edit<T>& edit);

}  // namespace detail

/// Takes units along that were found before another site gave one of the readers, `consumer`, `added` more outputs:
/// their weights there are zero, or those of the units they copy, and their moves are zero.
template <Real T>
void follow_outputs(Context& ctx, const Site<T>& site, const nn::Layer<T>* consumer, std::int64_t added,
                    Insertion& insertion);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/stream_insertion_impl.hpp>
#endif
