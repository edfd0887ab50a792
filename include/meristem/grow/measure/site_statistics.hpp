// All that a growth method reads of one place of growth, from tensors of a network or of one's own.
#pragma once

#include <optional>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/measure/goal_means.hpp>
#include <meristem/grow/measure/map_statistics.hpp>
#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/shrinkage.hpp>
#include <meristem/grow/solve/whitening.hpp>
#include <meristem/grow/statistics/site_shape.hpp>

namespace meristem::grow {

/// The moments of one site in one or two passes over the same samples:
///
///   SiteStatistics<float> statistics(ctx, shape, method->needs());
///   while (statistics.wants_pass()) {
///     for (each batch) statistics.update(ctx, unit_input, consumer_input, goal);
///     statistics.finish_pass(ctx);
///   }
///   Choice choice = method->choose(ctx, statistics.moments(ctx));
///
/// Between vectors one pass is enough. Where positions matter, N takes a second one: the residual is formed, sample by
/// sample, and never P.
template <Real T>
class SiteStatistics {
 public:
  struct Options {
    FanOut fan_out = FanOut::full;  ///< of units that a convolution consumes
    /// The share by which S1 is damped for δW*; none: chosen by cross-validation where the noise is gathered, else
    /// `usual_damping`.
    std::optional<double> damping = std::nullopt;
    bool norm = false;  ///< a BatchNorm stands behind the units: means are gathered for M of centred inputs
    /// S from earlier on the same samples, which is not gathered again; it has to outlive the statistics.
    const Tensor<double>* known_covariance = nullptr;
  };

  /// Throws ShapeError for a consumer that does not read what the producer puts out.
  SiteStatistics(Context& ctx, const SiteShape& shape, const Needs& needs, const Options& options = {});

  /// Whether the samples have to be shown, once more or at all.
  [[nodiscard]] bool wants_pass() const noexcept { return pass_ < passes_; }

  /// Adds one batch. `unit_input` feeds the producer, `consumer_input` the consumer; `goal` is the desired update,
  /// minus the gradient of the SUM loss at the consumer's output. The samples are the first axis; sums over positions.
  /// Throws ShapeError for shapes that do not fit, NumericError, before anything is added, for a goal that is not
  /// finite, and ArgumentError where no pass is wanted.
  void update(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal);

  /// Adds what another one has seen of other samples in the same pass, before `finish_pass`. Throws ArgumentError for
  /// statistics of another site, other options or another pass.
  void merge(Context& ctx, const SiteStatistics& other);

  /// After the last batch of a pass. Throws ArgumentError if there was none.
  void finish_pass(Context& ctx);

  /// What was gathered, with the sizes of the site; once, after the last pass. The site is taken for one with the
  /// identity between its two layers. Throws NumericError for statistics that are not finite.
  [[nodiscard]] SiteMoments moments(Context& ctx);

 private:
  void finish_rows(Context& ctx, SiteMoments& result);

  void finish_maps(Context& ctx, SiteMoments& result);

  /// Ψ = (1/n) ‖V_goal - δW* B1‖² = (1/n) ‖V_goal‖² - 2 ⟨δW*, M1ᵀ⟩ + ⟨δW* S1, δW*⟩, of a damped move as well.
  [[nodiscard]] static double unexpressed(Context& ctx, const SiteMoments& site);

  void require_finite(Context& ctx, const SiteMoments& site) const;

  SiteShape shape_;
  Needs needs_;
  Options options_;
  std::optional<detail::RowStatistics<T>> rows_;
  std::optional<detail::MapStatistics<T>> maps_;
  std::optional<detail::GoalMeans<T>> goal_means_;
  int pass_ = 0, passes_ = 0;
};

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/site_statistics_impl.hpp>
#endif
