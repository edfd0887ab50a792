// S and S1 of convolutions: covariances of the patches that a window cuts from maps.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/core/window.hpp>
#include <meristem/grow/statistics/accumulator.hpp>
#include <meristem/grow/statistics/offset_sums.hpp>
#include <meristem/grow/statistics/patch_geometry.hpp>

namespace meristem::grow {

/// (1/n) Σ_samples Σ_{y,x} weight_y[y] weight_x[x] [patch 1]ᵀ[patch 1] over the patches that a window cuts from maps:
/// S1 with all weights 1, S with those of `position_counts`. Coordinates of a patch: [ky][kx][channel], the bias last.
template <Real T>
class PatchCovariance {
 public:
  /// Patches of `window` on maps `map` of `channels` channels. `weight_y` and `weight_x` hold one number for each row
  /// and column of the window's positions; empty means ones. Throws ArgumentError or ShapeError for a window that does
  /// not fit, weights that are negative, not finite or not as many as there are positions, and ArgumentError for
  /// detail::PatchPath::offsets with a stride or dilation.
  PatchCovariance(Context& ctx, std::int64_t channels, const Window& window, Extent2 map, bool bias,
                  std::vector<double> weight_y = {}, std::vector<double> weight_x = {},
                  detail::PatchPath path = detail::PatchPath::automatic);

  /// Adds the maps x (n, H, W, channels). Throws ShapeError for others.
  void update(Context& ctx, View<const T> x);

  /// Adds everything another one has seen. Throws ArgumentError unless both were made alike.
  void merge(Context& ctx, const PatchCovariance& other);

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }
  /// How the sums are computed.
  [[nodiscard]] detail::PatchPath path() const noexcept { return path_; }

  /// (p, p), both triangles, p = ky·kx·channels (+ 1). Throws ArgumentError before the first sample.
  [[nodiscard]] Tensor<double> mean(Context& ctx);

 private:
  static constexpr std::int64_t unlimited_sums = std::numeric_limits<std::int64_t>::max();
  static constexpr const char* name = "PatchCovariance";

  static detail::PatchGeometry checked(const detail::PatchGeometry& geometry);
  static std::vector<double> checked(std::vector<double> weights, std::int64_t positions, const char* argument,
                                     const char* what);
  static Tensor<double> device_weights(Context& ctx, const std::vector<double>& weights) {
    return from_host<double>(ctx, {static_cast<std::int64_t>(weights.size())}, weights);
  }

  [[nodiscard]] detail::PatchPath choose(const detail::OffsetPlan& plan) const;

  void add_patches(Context& ctx, View<const T> x);

  detail::PatchGeometry geometry_;
  std::vector<double> weight_y_, weight_x_;
  detail::PatchPath path_;
  detail::MapSum<T> map_sum_;
  detail::OffsetSums<T> offsets_;
  std::optional<detail::TwoPartSum<T>> sum_;  // (p, p) without the bias, lower triangle
  detail::PatchPositions<T> positions_;
  std::int64_t samples_ = 0;
};

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/statistics/patch_covariance_impl.hpp>
#endif
