// The statistics of a growth site with convolutions, gathered in two passes over the same samples: the first finds the
// best move of today's weights, the second correlates the patches with what that move leaves. P is never formed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/measure/consumer_products.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/moments.hpp>
#include <meristem/grow/solve/shrinkage.hpp>
#include <meristem/grow/solve/units.hpp>
#include <meristem/grow/solve/whitening.hpp>
#include <meristem/grow/statistics/accumulator.hpp>
#include <meristem/grow/statistics/patch_statistics.hpp>
#include <meristem/grow/statistics/random_signs.hpp>
#include <meristem/grow/statistics/site_shape.hpp>

namespace meristem::grow::detail {

/// Averages of patches over the windows of a pooling: out[i, u, v, (tap, c)] for samples i, pooled positions (u, v).
/// Positions of the pooling that lie in its padding do not count.
template <Real T>
struct PooledPatches {
  const T* x;
  T* out;
  Extent2 map, hidden, pooled;
  Window patch, pool;
  std::int64_t channels;

  MERISTEM_HD void operator()(std::int64_t row, std::int64_t tap, std::int64_t c) const;
};

/// S, S1, M1 and N of a site with maps: sums over samples and positions, divided once by the number of samples (M.
/// Verbockhaven et al., "Growing tiny networks", TMLR 2024). Coordinates of a patch: [ky][kx][in], the bias last;
/// columns of N: [ky][kx][out] (FanOut::full) or [out] (FanOut::centre).
///
/// Pooling between the two layers is taken as average pooling, which commutes with the producer: patches are averaged.
/// A Linear behind a Flatten is a convolution whose kernel is the map. Each pass has to show the same samples.
///
/// What N would be if it were pure noise is gathered beside it: the same sum with a random sign for each sample, which
/// keeps how the positions of a sample depend on each other, as no formula can.
template <Real T>
class MapStatistics {
 public:
  /// What to gather, by default what TINY reads.
  struct Options {
    bool covariance = true;   ///< S; it may be left out where it is known already
    bool consumer = true;     ///< S1 and M1
    bool goal = false;        ///< M
    bool residual = true;     ///< N, for which S1 and M1 have to be gathered as well
    bool noise = true;        ///< what N would be if it were noise; only beside N
    bool move_noise = false;  ///< the same of M1, by which the damping of S1 is chosen; only beside S1
    bool joint = false;       ///< C, see `explained`; only beside S1
    bool fisher = false;      ///< E
  };

  /// Throws ShapeError for a consumer that does not read what the producer puts out.
  explicit MapStatistics(Context& ctx, const SiteShape& site, FanOut fan_out = FanOut::full)
      : MapStatistics(ctx, site, fan_out, Options()) {}

  MapStatistics(Context& ctx, const SiteShape& site, FanOut fan_out, const Options& options);

  [[nodiscard]] const SiteShape& shape() const noexcept { return site_; }
  [[nodiscard]] FanOut fan_out() const noexcept { return fan_out_; }
  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }

  /// First pass. `unit_input` (n, H, W, channels) feeds the producer, `consumer_input` the consumer; `goal` is the
  /// desired update, minus the gradient of the SUM loss at the consumer's output.
  void update(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal);

  /// Adds everything another one has seen in the same pass, of other samples: after the first pass before `find_move`,
  /// after the second one with the same move. Throws ArgumentError for statistics of another site or other options.
  void merge(Context& ctx, const MapStatistics& other);

  /// Between the passes: δW* from S1 and M1, damped as asked for or as `damped_move` chooses. Throws ArgumentError
  /// before the first sample, NumericError if a goal was not finite.
  void find_move(Context& ctx, std::optional<double> damping, Route route = Route::cholesky);

  /// Second pass, with the same samples: N, and the squared norm of the residual V_proj = V_goal - δW* B1.
  void update_residual(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal);

  /// δW* (q, d) and D_W; after `find_move`.
  [[nodiscard]] const BestMove<double>& move() const noexcept { return move_; }
  /// The share by which S1 was damped; after `find_move`.
  [[nodiscard]] double damping() const noexcept { return damping_; }
  /// The same, moved out.
  [[nodiscard]] BestMove<double> take_move() { return std::move(move_); }
  /// S (p, p). Throws ArgumentError if it was left out.
  [[nodiscard]] Tensor<double> covariance(Context& ctx);
  /// S1 (d, d).
  [[nodiscard]] Tensor<double> consumer_covariance(Context& ctx);
  /// M1 (d, q); after `find_move`.
  [[nodiscard]] Tensor<double> first_moment(Context& ctx) const;
  /// N (p, columns) and, unless it was left out, the same sum with a random sign for each sample; after the second
  /// pass.
  [[nodiscard]] std::vector<Tensor<double>> residual_cross_moments(Context& ctx) {
    return n_->means(ctx, options_.noise ? 2 : 1);
  }
  /// M (p, columns), if it was asked for.
  [[nodiscard]] Tensor<double> goal_cross_moment(Context& ctx) { return m_->mean(ctx); }
  /// E (q, q), if it was asked for: sums over positions.
  [[nodiscard]] Tensor<double> fisher(Context& ctx) { return fisher_->mean(ctx); }
  /// C (p, taps r), if it was asked for, with C Cᵀ = Σ_e P_e S1⁺ P_eᵀ over the taps e of the fan-out: what the
  /// consumer's inputs explain of S, each tap a sample of its own. After the second pass; empty if the consumer reads
  /// nothing.
  [[nodiscard]] Tensor<double> explained(Context& ctx) { return explained_ ? explained_->mean(ctx) : Tensor<double>(); }
  /// ‖V_goal‖² and ‖V_proj‖², the second of them after the second pass; there once the device was waited for.
  [[nodiscard]] std::vector<double> squares_later(Context& ctx) const { return to_host_later(ctx, squares_.view()); }
  /// (1/n) ‖V_goal‖².
  [[nodiscard]] double goal_norm2(Context& ctx) const {
    return to_host(ctx, squares_)[0] / static_cast<double>(samples_);
  }
  /// Ψ = (1/n) ‖V_proj‖²; after the second pass.
  [[nodiscard]] double bottleneck(Context& ctx) const {
    return to_host(ctx, squares_)[1] / static_cast<double>(samples_);
  }
  /// Relative error of the elements.
  [[nodiscard]] static double resolution() { return static_cast<double>(std::numeric_limits<T>::epsilon()); }

 private:
  /// A layer that reads what the consumer reads, with other weights.
  struct Readout {
    Tensor<T> weight, bias;
    std::int64_t outputs = 0;
  };

  void require_maps(View<const T> unit_input) const;

  [[nodiscard]] Tensor<double> mean_of_consumer(Context& ctx);

  /// Of the consumer's weight, with as many outputs.
  [[nodiscard]] Shape weight_shape(std::int64_t outputs) const;

  // Averaged patches are formed; to what follows they are the channels of a 1x1 convolution.
  [[nodiscard]] std::int64_t patch_features() const {
    return site_.producer.in * (site_.pool ? site_.producer.window.kernel.size() : 1);
  }
  [[nodiscard]] Window patch_window() const { return site_.pool ? Window{} : site_.producer.window; }
  [[nodiscard]] Extent2 patch_map() const { return site_.pool ? site_.pooled() : site_.map; }

  void emplace_cross(Context& ctx, std::int64_t outputs, std::optional<PatchCrossCovariance<T>>& cross);

  /// factor · rows (outputs, d), the bias last.
  [[nodiscard]] Readout readout(Context& ctx, const Tensor<double>& from, double factor) const;

  /// Overwrites `out` (n, ..., outputs).
  void read(Context& ctx, const Readout& by, View<const T> consumer_input, View<T> out) const;

  /// P_e S1^{-1/2} is N with the whitened inputs of the consumer in the place of the residual.
  void add_explained(Context& ctx, View<const T> unit_input, View<const T> consumer_input);

  /// Calls use(x, v) with the maps whose patches count: the producer's input or, a few samples at a time, averaged
  /// patches.
  template <class Use>
  void for_each_part(Context& ctx, View<const T> unit_input, View<const T> v, Use&& use,
                     std::int64_t channels_of_v = -1) {
    const std::int64_t n = unit_input.extent(0);
    const Extent2 outputs = site_.outputs();
    const View<const T> maps =
        v.reshape({n, outputs.y, outputs.x, channels_of_v < 0 ? site_.fan_out() : channels_of_v});
    if (!site_.pool) return use(unit_input, maps);
    const Window patch = site_.producer.window;
    const std::int64_t channels = site_.producer.in, taps = patch.kernel.size();
    const std::int64_t per_sample = std::max<std::int64_t>(site_.pooled().size() * taps * channels, 1);
    const std::int64_t at_once = std::max<std::int64_t>((std::int64_t{1} << 21) / per_sample, 1);
    for (std::int64_t begin = 0; begin < n; begin += at_once) {
      const std::int64_t end = std::min(begin + at_once, n);
      const View<const T> x = unit_input.slice(0, begin, end);
      Tensor<T> patches(ctx, {end - begin, site_.pooled().y, site_.pooled().x, taps * channels});
      for_each(ctx, (end - begin) * site_.pooled().size(), taps, channels,
               detail::PooledPatches<T>{x.data_handle(), patches.data(), site_.map, site_.hidden(), site_.pooled(),
                                        patch, *site_.pool, channels});
      use(patches.view(), maps.slice(0, begin, end));
    }
  }

  SiteShape site_;
  FanOut fan_out_;
  Options options_;
  std::optional<PatchCovariance<T>> s_;
  std::optional<PatchCovariance<T>> s1_maps_;
  std::optional<Covariance<T>> s1_rows_, fisher_;
  std::optional<PatchCrossCovariance<T>> m_, n_, explained_;  // n_: with its noise beside it
  Tensor<double> s1_;                                         // its mean, once it was asked for
  Tensor<double> m1t_;                                        // (q, d), or with its noise below it (2 q, d): sums
  Tensor<double> m1_;                                         // (d, q): the mean, once the move was found
  double damping_ = 0.0;
  BestMove<double> move_;
  Readout minus_move_, whitening_;
  Tensor<double> squares_;  // (2), see squares_later
  std::int64_t samples_ = 0;
  std::int64_t seen_again_ = 0;  // samples of the second pass
};

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/map_statistics_impl.hpp>
#endif
