// The statistics of a growth site with convolutions, gathered in two passes over the same samples: the first finds the
// best move of today's weights, the second correlates the patches with what that move leaves. P is never formed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/grow/accumulator.hpp>
#include <meristem/grow/matrix_ops.hpp>
#include <meristem/grow/moments.hpp>
#include <meristem/grow/patch_statistics.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/grow/units.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::inline MERISTEM_BACKEND::grow {

namespace detail {

/// Averages of patches over the windows of a pooling: out[i, u, v, (tap, c)] for samples i, pooled positions (u, v).
/// Positions of the pooling that lie in its padding do not count.
template <Real T>
struct PooledPatches {
  const T* x;
  T* out;
  Extent2 map, hidden, pooled;
  Window patch, pool;
  std::int64_t channels;

  MERISTEM_HD void operator()(std::int64_t row, std::int64_t tap, std::int64_t c) const {
    const std::int64_t v = row % pooled.x, u = row / pooled.x % pooled.y, sample = row / pooled.size();
    const std::int64_t ky = tap / patch.kernel.x, kx = tap % patch.kernel.x;
    T sum = T(0);
    std::int64_t count = 0;
    for (std::int64_t a = 0; a < pool.kernel.y; ++a) {
      const std::int64_t hy = u * pool.stride.y - pool.padding.y + a * pool.dilation.y;
      if (hy < 0 || hy >= hidden.y) continue;
      const std::int64_t y = hy * patch.stride.y - patch.padding.y + ky * patch.dilation.y;
      for (std::int64_t b = 0; b < pool.kernel.x; ++b) {
        const std::int64_t hx = v * pool.stride.x - pool.padding.x + b * pool.dilation.x;
        if (hx < 0 || hx >= hidden.x) continue;
        ++count;
        const std::int64_t at = hx * patch.stride.x - patch.padding.x + kx * patch.dilation.x;
        if (y < 0 || y >= map.y || at < 0 || at >= map.x) continue;
        sum += x[((sample * map.y + y) * map.x + at) * channels + c];
      }
    }
    out[(row * patch.kernel.size() + tap) * channels + c] = count > 0 ? sum / static_cast<T>(count) : T(0);
  }
};

/// The window of a pooling layer over a map.
template <Real T>
[[nodiscard]] Window pool_window(nn::Layer<T>* pool, Extent2 map) {
  if (auto* sliding = dynamic_cast<nn::WindowPool<T>*>(pool)) return sliding->window();
  return Window{.kernel = map, .stride = map};
}

/// total (rows, columns [+ 1]) += part (rows, columns) [and sums (rows) in the last column], in double.
template <Real T>
struct AddRows {
  const T* part;
  const T* sums;  // null without a last column
  double* total;
  std::int64_t columns;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t width = columns + (sums ? 1 : 0);
    total[row * width + column] += static_cast<double>(column < columns ? part[row * columns + column] : sums[row]);
  }
};

/// out[i, j] = sign[i] · v[i, j]
template <Real T>
struct FlipSamples {
  const T* v;
  const T* sign;
  T* out;
  std::int64_t each;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const { out[i * each + j] = sign[i] * v[i * each + j]; }
};

}  // namespace detail

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
  /// For inputs of the producer of shape `input` (the number of samples does not count). `covariance` false leaves S
  /// out where it is known already, `noise` false the noise. Throws ShapeError for an input that the site cannot read.
  MapStatistics(Context& ctx, const Site<T>& site, const Shape& input, FanOut fan_out, bool covariance = true,
                bool noise = true)
      : site_(site),
        geometry_(site.geometry(input)),
        // Every position of a flattened map is a place of its own.
        fan_out_(site.consumer.is_convolution() ? fan_out : FanOut::full),
        m1t_(zeros<double>(ctx, {site.fan_out(), site.consumer_inputs()})) {
    const std::int64_t channels = site.producer.in_features(), q = site.fan_out();
    const bool bias = site.producer.has_bias();
    const auto [rows, columns] = position_counts(geometry_.consumer, geometry_.pooled, fan_out_);
    // Averaged patches are formed; to what follows they are the channels of a 1x1 convolution.
    const std::int64_t features = site.pool ? channels * site.producer.window().kernel.size() : channels;
    const Window window = site.pool ? Window{} : site.producer.window();
    const Extent2 map = site.pool ? geometry_.pooled : geometry_.map;
    if (covariance) s_.emplace(ctx, features, window, map, bias, rows, columns);
    n_.emplace(ctx, features, window, map, bias, q, geometry_.consumer, fan_out_);
    if (noise) noise_.emplace(ctx, features, window, map, bias, q, geometry_.consumer, fan_out_);
    if (site.width() == 0) return;
    if (site.consumer.is_convolution()) {
      s1_maps_.emplace(ctx, site.width(), site.consumer.window(), geometry_.pooled, site.consumer.has_bias());
    } else {
      s1_rows_.emplace(ctx, site.consumer.in_features(), site.consumer.has_bias());
    }
  }

  [[nodiscard]] const Geometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] FanOut fan_out() const noexcept { return fan_out_; }
  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }

  /// First pass. `unit_input` (n, H, W, channels) feeds the producer, `consumer_input` the consumer; `goal` is the
  /// desired update, minus the gradient of the SUM loss at the consumer's output. Throws NumericError, before anything
  /// is added, for a goal that is not finite.
  void update(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    const std::int64_t n = unit_input.extent(0);
    const double squares = kernels::sum_squares(ctx, goal);
    if (!std::isfinite(squares)) {
      kernels::check_finite(ctx, goal,
                            concat("site ", site_.name, ": the desired update (minus the gradient at ",
                                   site_.consumer.layer()->label(), ")"));
    }
    if (s_) {
      for_each_part(ctx, unit_input, goal, [&](View<const T> x, View<const T>) { s_->update(ctx, x); });
    }
    if (s1_maps_) s1_maps_->update(ctx, consumer_input);
    if (s1_rows_) s1_rows_->update(ctx, consumer_input, n);
    add_first_moment(ctx, consumer_input, goal);
    goal_squares_ += squares;
    samples_ += n;
  }

  /// Between the passes: δW* from S1 with `damping` (see `damp`) and M1. Throws ArgumentError before the first sample.
  void find_move(Context& ctx, double damping, Route route = Route::cholesky) {
    if (samples_ == 0) throw ArgumentError(concat("site ", site_.name, ": no samples were shown; call update first"));
    const std::int64_t d = site_.consumer_inputs(), q = site_.fan_out();
    kernels::scale<double>(ctx, 1.0 / static_cast<double>(samples_), m1t_.view());
    move_.weights = zeros<double>(ctx, {q, d});
    if (d > 0) {
      Tensor<double> s1 = consumer_covariance(ctx);
      damp(ctx, damping, s1);
      const Tensor<double> m1 = detail::converted_transposed<double, double>(ctx, m1t_.view());
      move_ = best_move<double>(ctx, s1.view(), m1.view(), SolveOptions{.route = route}, resolution());
    }
    std::vector<T> weights, biases;
    const std::vector<double> rows = to_host(ctx, move_.weights);
    const std::int64_t features = d - (site_.consumer.has_bias() ? 1 : 0);
    for (std::int64_t o = 0; o < q; ++o) {
      for (std::int64_t i = 0; i < d; ++i) {
        (i < features ? weights : biases).push_back(static_cast<T>(-rows[static_cast<std::size_t>(o * d + i)]));
      }
    }
    minus_weight_ = from_host<T>(ctx, site_.consumer.weight().value.shape(), weights);
    minus_bias_ = from_host<T>(ctx, {static_cast<std::int64_t>(biases.size())}, biases);
  }

  /// Second pass, with the same samples: N, and the squared norm of the residual V_proj = V_goal - δW* B1.
  void update_residual(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    Tensor<T> residual(ctx, goal.shape());
    if (site_.width() == 0) {
      kernels::fill(ctx, T(0), residual.view());
      if (site_.consumer.has_bias()) kernels::add_bias<T>(ctx, minus_bias_, residual.view().as_matrix());
    } else if (site_.consumer.is_convolution()) {
      kernels::conv2d_forward<T>(ctx, consumer_input, minus_weight_, bias_view(), site_.consumer.window(), residual);
    } else {
      gemm(ctx, Transpose::no, Transpose::yes, 1, consumer_input.as_matrix(), minus_weight_.view(), 0,
           residual.view().as_matrix());
      if (site_.consumer.has_bias()) kernels::add_bias<T>(ctx, minus_bias_, residual.view().as_matrix());
    }
    kernels::axpy<T>(ctx, T(1), goal, residual);
    residual_squares_ += kernels::sum_squares<T>(ctx, residual.view());
    for_each_part(ctx, unit_input, residual, [&](View<const T> x, View<const T> v) { n_->update(ctx, x, v); });
    if (!noise_) return;
    flip(ctx, residual);
    for_each_part(ctx, unit_input, residual, [&](View<const T> x, View<const T> v) { noise_->update(ctx, x, v); });
  }

  /// δW* (q, d) and D_W; after `find_move`.
  [[nodiscard]] const BestMove<double>& move() const noexcept { return move_; }
  /// The same, moved out.
  [[nodiscard]] BestMove<double> take_move() { return std::move(move_); }
  /// S (p, p). Throws ArgumentError if it was left out.
  [[nodiscard]] Tensor<double> covariance(Context& ctx) {
    if (!s_)
      throw ArgumentError(concat("site ", site_.name, ": S was left out; ask for it when the statistics are made"));
    return s_->mean(ctx);
  }
  /// S1 (d, d).
  [[nodiscard]] Tensor<double> consumer_covariance(Context& ctx) {
    if (s1_maps_) return s1_maps_->mean(ctx);
    if (s1_rows_) return s1_rows_->mean(ctx);
    // An empty hidden layer leaves the bias, one at every position.
    const std::int64_t d = site_.consumer_inputs();
    const Extent2 outputs = geometry_.consumer.output(geometry_.pooled);
    Tensor<double> result(ctx, {d, d});
    kernels::fill(ctx, static_cast<double>(outputs.size()), result.view());
    return result;
  }
  /// M1 (d, q); after `find_move`.
  [[nodiscard]] Tensor<double> first_moment(Context& ctx) const {
    return detail::converted_transposed<double, double>(ctx, m1t_.view());
  }
  /// N (p, columns); after the second pass.
  [[nodiscard]] Tensor<double> residual_cross_moment(Context& ctx) { return n_->mean(ctx); }
  /// The same sum as N with a random sign for each sample (p, columns); after the second pass.
  /// Throws ArgumentError if it was left out.
  [[nodiscard]] Tensor<double> noise_cross_moment(Context& ctx) {
    if (!noise_) {
      throw ArgumentError(
          concat("site ", site_.name, ": the noise was left out; ask for it when the statistics are made"));
    }
    return noise_->mean(ctx);
  }
  /// (1/n) ‖V_goal‖².
  [[nodiscard]] double goal_norm2() const { return goal_squares_ / static_cast<double>(samples_); }
  /// Ψ = (1/n) ‖V_proj‖²; after the second pass.
  [[nodiscard]] double bottleneck() const { return residual_squares_ / static_cast<double>(samples_); }
  /// Relative error of the elements.
  [[nodiscard]] static double resolution() { return static_cast<double>(std::numeric_limits<T>::epsilon()); }

 private:
  [[nodiscard]] View<const T> bias_view() const {
    return site_.consumer.has_bias() ? minus_bias_.view() : View<const T>();
  }

  /// Turns the sign of every sample with probability one half; the second pass shows them in the order of their signs.
  void flip(Context& ctx, Tensor<T>& residual) {
    const std::int64_t n = residual.extent(0);
    if (residual.empty()) return;
    const Philox random(ctx.seed(), std::uint64_t{0x7369676e} << 32);
    std::vector<T> signs;
    for (std::int64_t i = 0; i < n; ++i) {
      signs.push_back(random.below(static_cast<std::uint64_t>(flipped_ + i), 2) == 0 ? T(1) : T(-1));
    }
    flipped_ += n;
    const Tensor<T> there = from_host<T>(ctx, {n}, signs);
    const std::int64_t each = residual.size() / n;
    for_each(ctx, n, each, detail::FlipSamples<T>{residual.data(), there.data(), residual.data(), each});
  }

  /// Calls use(x, v) with the maps whose patches count: the producer's input or, a few samples at a time, averaged
  /// patches.
  template <class Use>
  void for_each_part(Context& ctx, View<const T> unit_input, View<const T> v, Use&& use) {
    const std::int64_t n = unit_input.extent(0);
    const Extent2 outputs = geometry_.consumer.output(geometry_.pooled);
    const View<const T> maps = v.reshape({n, outputs.y, outputs.x, site_.fan_out()});
    if (!site_.pool) return use(unit_input, maps);
    const Window patch = site_.producer.window();
    const std::int64_t channels = site_.producer.in_features(), taps = patch.kernel.size();
    const std::int64_t per_sample = std::max<std::int64_t>(geometry_.pooled.size() * taps * channels, 1);
    const std::int64_t at_once = std::max<std::int64_t>((std::int64_t{1} << 21) / per_sample, 1);
    for (std::int64_t begin = 0; begin < n; begin += at_once) {
      const std::int64_t end = std::min(begin + at_once, n);
      const View<const T> x = unit_input.slice(0, begin, end);
      Tensor<T> patches(ctx, {end - begin, geometry_.pooled.y, geometry_.pooled.x, taps * channels});
      for_each(
          ctx, (end - begin) * geometry_.pooled.size(), taps, channels,
          detail::PooledPatches<T>{x.data_handle(), patches.data(), geometry_.map, geometry_.hidden, geometry_.pooled,
                                   patch, detail::pool_window(site_.pool, geometry_.hidden), channels});
      use(patches.view(), maps.slice(0, begin, end));
    }
  }

  /// M1 is minus the weight gradient of the sum loss: the kernel that backward runs, here for the desired update.
  void add_first_moment(Context& ctx, View<const T> consumer_input, View<const T> goal) {
    const std::int64_t q = site_.fan_out(), d = site_.consumer_inputs();
    const std::int64_t features = d - (site_.consumer.has_bias() ? 1 : 0);
    if (d == 0 || q == 0) return;
    Tensor<T> products(ctx, {q, features});
    if (features > 0 && site_.consumer.is_convolution()) {
      kernels::conv2d_backward_weights<T>(ctx, consumer_input, goal, site_.consumer.window(),
                                          kernels::Accumulate::overwrite,
                                          products.view().reshape(site_.consumer.weight().value.shape()));
    } else if (features > 0) {
      gemm(ctx, Transpose::yes, Transpose::no, 1, goal.as_matrix(), consumer_input.as_matrix(), 0, products.view());
    }
    Tensor<T> sums;
    if (site_.consumer.has_bias()) {
      sums = Tensor<T>(ctx, {q});
      kernels::column_sums<T>(ctx, goal.as_matrix(), sums, kernels::Accumulate::overwrite);
    }
    for_each(ctx, q, d,
             detail::AddRows<T>{products.data(), sums.empty() ? nullptr : sums.data(), m1t_.data(), features});
  }

  Site<T> site_;
  Geometry geometry_;
  FanOut fan_out_;
  std::optional<PatchCovariance<T>> s_;
  std::optional<PatchCovariance<T>> s1_maps_;
  std::optional<Covariance<T>> s1_rows_;
  std::optional<PatchCrossCovariance<T>> n_, noise_;
  Tensor<double> m1t_;  // (q, d): a sum in the first pass, then the mean
  BestMove<double> move_;
  Tensor<T> minus_weight_, minus_bias_;
  double goal_squares_ = 0.0;
  double residual_squares_ = 0.0;
  std::int64_t samples_ = 0;
  std::int64_t flipped_ = 0;
};

}  // namespace meristem::inline MERISTEM_BACKEND::grow
