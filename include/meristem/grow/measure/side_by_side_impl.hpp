// Definitions of side_by_side.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/grow/measure/side_by_side.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

template <class MatrixOf>
[[nodiscard]] Tensor<double> columns_of(Context& ctx, const std::vector<SiteMoments>& all, MatrixOf&& matrix_of) {
  Tensor<double> result;
  for (const SiteMoments& one : all) {
    const Tensor<double>& matrix = matrix_of(one);
    if (matrix.empty()) return {};
    result = result.empty() ? clone(ctx, matrix) : beside(ctx, result, matrix);
  }
  return result;
}

MERISTEM_INLINE SiteMoments side_by_side(Context& ctx, std::vector<SiteMoments> all,
                                         const std::vector<std::size_t>& same_inputs) {
  SiteMoments result;
  const SiteMoments& first = all.front();
  result.name = first.name;
  result.inputs = first.inputs;
  result.consumer_inputs = first.consumer_inputs;
  result.width = first.width;
  result.before = first.before;
  result.after = first.after;
  result.unit_bias = first.unit_bias;
  result.consumer_bias = first.consumer_bias;
  result.spatial = first.spatial;
  result.consumer_damping = first.consumer_damping;
  result.moments.layer = first.moments.layer;
  result.moments.samples = first.moments.samples;
  result.moments.resolution = first.moments.resolution;
  result.moments.m = columns_of(
      ctx, all, [](const SiteMoments& one) -> const auto& { return one.moments.m; });
  result.n = columns_of(
      ctx, all, [](const SiteMoments& one) -> const auto& { return one.n; });
  result.noise = columns_of(
      ctx, all, [](const SiteMoments& one) -> const auto& { return one.noise; });
  // A reader without a norm, beside others that have one, sees the means.
  const bool centred = std::any_of(all.begin(), all.end(), [](const auto& one) { return !one.centred_goal.empty(); });
  result.centred_goal = columns_of(
      ctx, all, [&](const SiteMoments& one) -> const auto& {
        return centred && one.centred_goal.empty() ? one.moments.m : one.centred_goal;
      });
  if (!first.moments.s.empty()) {
    result.moments.s = zeros<double>(ctx, first.moments.s.shape());
    for (const std::size_t same : same_inputs) {
      kernels::axpy<double>(ctx, 1.0 / static_cast<double>(all.size()), all[same].moments.s, result.moments.s.view());
    }
  }
  for (const SiteMoments& one : all) {
    result.outputs += one.taps * one.outputs;
    result.positions = std::max(result.positions, one.positions);
    result.bottleneck += one.bottleneck;
    result.moments.goal_norm2 += one.moments.goal_norm2;
    result.move.decrease += one.move.decrease;
    if (result.move.note.empty()) result.move.note = one.move.note;
    if (one.move.weights.empty()) continue;
    const Tensor<double> move = clone(ctx, one.move.weights).reshape({1, one.move.weights.size()});
    result.move.weights = result.move.weights.empty() ? clone(ctx, move) : beside(ctx, result.move.weights, move);
  }
  result.moments.s1 = std::move(all.front().moments.s1);
  result.moments.m1 = std::move(all.front().moments.m1);
  return result;
}

template <Real T>
void require_served(const Site<T>& site, const Method& method) {
  const Needs needs = method->needs();
  if (!site.tied() || !(needs.joint || needs.fisher)) return;
  throw ArgumentError(
      concat("site ", site.name, ": ", method->name(),
             " reads P or E of a single consumer and moves its weights, which those of a stream do not; "
             "choose another method, such as tiny, or let hidden widths alone grow"));
}

}  // namespace meristem::grow::detail
