// What candidate units gain to first order, and how that changes with their weights: one pass over samples.
#pragma once

#include <cstddef>
#include <cstdint>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/measure/unit_effects.hpp>
#include <meristem/grow/measure/unit_path.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

namespace detail {

/// Gathers GrowthMethod::Gradients of the units of an insertion. Streaming.
template <Real T>
class CandidatePass {
 public:
  /// Throws ShapeError for units that do not fit the site.
  CandidatePass(Context& ctx, const Site<T>& site, const Insertion& insertion, std::size_t reader = 0);

  /// Adds one batch: the producer's input and the desired update at the consumer's output.
  void update(Context& ctx, View<const T> unit_input, View<const T> goal);

  /// Means over the samples seen.
  [[nodiscard]] GrowthMethod::Gradients gradients(Context& ctx) const;

 private:
  /// sums += the sums of the columns of terms (..., units)
  void add_column_sums(Context& ctx, const Tensor<T>& terms, View<double> sums) const;

  /// The weight gradient of the consumer, with the units' values as its input.
  void add_fan_out(Context& ctx, const Tensor<T>& u, View<const T> goal);

  /// The weight gradient of the producer.
  void add_fan_in(Context& ctx, View<const T> unit_input, const Tensor<T>& dh);

  UnitPath<T> path_;
  Tensor<double> gain_, fan_in_, fan_out_;  // sums: (units, 1), (units, p), (units, taps q)
  std::int64_t samples_ = 0;
};

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/candidate_gradients_impl.hpp>
#endif
