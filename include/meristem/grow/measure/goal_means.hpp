// What a BatchNorm behind new units takes out of their gradient.
#pragma once

#include <cstdint>
#include <vector>

#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/grow/statistics/site_shape.hpp>

namespace meristem::grow {

namespace detail {

/// Means that turn M into the M of centred inputs. At zero variance a BatchNorm lets the gradient of a channel pass but
/// for its mean over samples and positions, so that fan-ins of zero receive Σ_t (b_t - μ) v_tᵀ: M - μ rᵀ with the mean
/// input μ of the units and r, for each column of M, the sum of the desired updates there divided by the number of
/// samples. Streaming.
template <Real T>
class GoalMeans {
 public:
  explicit GoalMeans(const SiteShape& site) : site_(site) {}

  /// Adds one batch: the producer's input and the desired update at the consumer's output.
  void update(Context& ctx, View<const T> unit_input, View<const T> goal);

  /// Adds what another one has seen.
  void merge(const GoalMeans& other);

  /// M - μ rᵀ for M (p, taps q), where one tap of several is that in the centre.
  [[nodiscard]] Tensor<double> centred(Context& ctx, const Tensor<double>& m) const;

 private:
  [[nodiscard]] static std::vector<T> column_sums(Context& ctx, View<const T> rows);

  static void add(const std::vector<T>& batch, std::vector<double>& sums);

  SiteShape site_;
  std::vector<double> input_sums_, goal_sums_;
  std::int64_t samples_ = 0, positions_ = 0;
};

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/goal_means_impl.hpp>
#endif
