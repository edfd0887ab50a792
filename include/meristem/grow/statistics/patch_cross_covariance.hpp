// N (and M) of convolutions: products of patches and the outputs of the layer that reads them.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/core/window.hpp>
#include <meristem/grow/statistics/accumulator.hpp>
#include <meristem/grow/statistics/offset_sums.hpp>
#include <meristem/grow/statistics/patch_geometry.hpp>

namespace meristem::grow {

/// N between patches and outputs: N[:, (e, m)] = (1/n) Σ_i Σ_outputs j v[i, j, m] · [patch 1](i, the hidden position
/// that tap e of output j reads); zero, the bias coordinate too, where that position lies in the consumer's padding.
/// With V_goal in place of V_proj this is M.
template <Real T>
class PatchCrossCovariance {
 public:
  /// Patches of `window` on maps `map` of `channels` channels; `consumer` slides over the positions of `window` and has
  /// `outputs` outputs at each of its own. Throws ArgumentError or ShapeError for windows that do not fit, and
  /// ArgumentError for detail::PatchPath::offsets with a stride or dilation.
  PatchCrossCovariance(Context& ctx, std::int64_t channels, const Window& window, Extent2 map, bool bias,
                       std::int64_t outputs, const Window& consumer, FanOut fan_out,
                       detail::PatchPath path = detail::PatchPath::automatic);

  /// Adds the maps x (n, H, W, channels) and v (n, rows, columns, outputs) of the consumer's outputs. Throws ShapeError
  /// for others.
  void update(Context& ctx, View<const T> x, View<const T> v);

  /// Adds everything another one has seen. Throws ArgumentError unless both were made alike.
  void merge(Context& ctx, const PatchCrossCovariance& other);

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }
  /// How the sums are computed.
  [[nodiscard]] detail::PatchPath path() const noexcept { return path_; }

  /// (p, columns), p = ky·kx·channels (+ 1). Columns are [ky][kx][output] of the consumer for FanOut::full, [output]
  /// for FanOut::centre. Throws ArgumentError before the first sample.
  [[nodiscard]] Tensor<double> mean(Context& ctx) { return std::move(means(ctx, 1).front()); }
  /// The same of each of one or two `groups`, of the same number of outputs, that v holds side by side.
  [[nodiscard]] std::vector<Tensor<double>> means(Context& ctx, std::int64_t groups);

 private:
  static constexpr std::int64_t unlimited_sums = std::numeric_limits<std::int64_t>::max();
  static constexpr const char* name = "PatchCrossCovariance";

  /// Taps that read the same hidden positions, and these positions.
  struct TapSet {
    Tensor<std::int64_t> taps_y, taps_x;
    detail::PatchPositions<T> positions;
    std::int64_t offset = 0;  // of its (p, taps, outputs) sums
    [[nodiscard]] std::int64_t taps() const { return taps_y.size() * taps_x.size(); }
  };

  static detail::PatchGeometry checked(const detail::PatchGeometry& geometry);
  static Window checked(const Window& consumer, Extent2 hidden);
  static std::int64_t checked(std::int64_t outputs);

  [[nodiscard]] Extent2 taps() const { return fan_out_ == FanOut::full ? consumer_.kernel : Extent2(1); }
  [[nodiscard]] Extent2 first_tap() const;
  [[nodiscard]] std::int64_t columns() const { return taps().size() * outputs_; }

  /// Taps of one axis by the residue of the positions they read, each with the weights (0 or 1) of these positions.
  [[nodiscard]] std::vector<std::pair<std::vector<std::int64_t>, std::vector<double>>> sets_of_axis(
      const detail::WindowAxis& axis) const;

  [[nodiscard]] detail::PatchPath choose(const detail::OffsetPlan& plan) const;

  void plan_patches(Context& ctx);

  void place_patches(Context& ctx, const Tensor<double>& sums, const detail::GroupedColumns& to) const;

  void add_patches(Context& ctx, View<const T> x, View<const T> v);
  detail::PatchGeometry geometry_;
  Window consumer_;
  std::int64_t outputs_;
  FanOut fan_out_;
  detail::PatchPath path_;
  Extent2 hidden_, v_map_;
  detail::MapSum<T> v_sum_;
  detail::OffsetSums<T> offsets_;
  std::optional<detail::TwoPartSum<T>> sum_;
  std::vector<TapSet> sets_;
  std::int64_t samples_ = 0;
};

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/statistics/patch_cross_covariance_impl.hpp>
#endif
