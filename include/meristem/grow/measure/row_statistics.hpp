// The statistics of one place of growth between layers that read vectors.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include <meristem/grow/solve/moments.hpp>
#include <meristem/grow/statistics/accumulator.hpp>
#include <meristem/grow/statistics/random_signs.hpp>
#include <meristem/grow/statistics/site_shape.hpp>

namespace meristem::grow::detail {

/// What to gather.
struct StatisticsOptions {
  bool fisher = false;     ///< E as well, for output-side preconditioning
  bool covariance = true;  ///< S; it may be left out where it is known already
  bool consumer = true;    ///< S1 and M1
  bool goal = true;        ///< M
  bool cross = true;       ///< P
  bool noise = false;      ///< M1, M and P with a random sign for each sample, those of them that are gathered
};

/// Accumulates S1, M1, S, M, P and E of section "Definitions" in M. Verbockhaven et al., "Growing tiny networks" (TMLR
/// 2024): sums of per-sample outer products divided once by the number of samples. Streaming and mergeable.
template <Real T>
class RowStatistics {
 public:
  /// For a unit with `unit_inputs` inputs that feeds a layer of `consumer_inputs` inputs and `outputs` outputs, biases
  /// not counted.
  RowStatistics(Context& ctx, std::int64_t unit_inputs, bool unit_bias, std::int64_t consumer_inputs,
                bool consumer_bias, std::int64_t outputs, const StatisticsOptions& options = {});

  RowStatistics(Context& ctx, const SiteShape& site, const StatisticsOptions& options = {});

  /// Adds one batch. `unit_input` (n, ..., unit inputs) feeds the producer, `consumer_input` (n, ..., consumer inputs)
  /// the consumer; `goal` (n, ..., outputs) is the desired update, minus the gradient of the SUM loss at the consumer's
  /// output. The samples are the first axis; further axes are positions, which are summed. Throws ShapeError for shapes
  /// that do not fit and NumericError, before anything is added, for a goal that is not finite.
  void update(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal);

  /// Adds everything another one has seen.
  void merge(Context& ctx, const RowStatistics& other);

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }

  /// The finished moments as far as they were gathered; others are empty. Throws ArgumentError before the first sample.
  [[nodiscard]] Moments<double> moments(Context& ctx);

  /// M1, M and P with a random sign for each sample, if they were asked for; all else is empty. Merged statistics of
  /// different samples have to be gathered with different seeds. Throws ArgumentError before the first sample.
  [[nodiscard]] Moments<double> noise(Context& ctx);

 private:
  /// Cross moments of one pass over the samples.
  struct CrossMoments {
    std::optional<CrossCovariance<T>> m1, m, cross, unit_sums;

    void merge(Context& ctx, const CrossMoments& other);

    void mean(Context& ctx, Tensor<double>& m1_mean, Tensor<double>& m_mean, Tensor<double>& cross_mean);
  };

  /// `consumer` stands on the right of P, `ones` (positions, 1) is its bias.
  static void update(Context& ctx, CrossMoments& moments, View<const T> unit_input, View<const T> consumer_input,
                     View<const T> consumer, View<const T> goal, View<const T> ones);

  /// The first `rows` of a column of ones.
  View<const T> ones(Context& ctx, std::int64_t samples, std::int64_t rows);

  std::array<std::int64_t, 3> features_;  // of the unit's input, the consumer's input and the goal
  std::string site_;
  std::optional<Covariance<T>> s_, s1_;
  CrossMoments plain_;
  std::optional<CrossMoments> signed_;
  std::optional<Covariance<T>> fisher_;
  Tensor<T> ones_;
  double goal_squares_ = 0.0;
  std::int64_t samples_ = 0;
};

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/row_statistics_impl.hpp>
#endif
