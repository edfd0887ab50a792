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
