// One site in one growth step, from its statistics to the proposal of units and moves.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <meristem/grow/measure/candidate_gradients.hpp>
#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/grow/measure/side_by_side.hpp>
#include <meristem/grow/measure/site_statistics.hpp>
#include <meristem/grow/measure/unit_effects.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/methods/tiny.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/solve/shrinkage.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow::detail {

/// What was out of the ordinary in the move of today's weights.
[[nodiscard]] inline std::string note_of_move(const BestMove<double>& move) {
  return move.note.empty() ? std::string() : concat("the move of today's weights ", move.note);
}

struct MeasurementOptions {
  Method method = tiny();
  FanOut fan_out = FanOut::full;  ///< of units that a convolution consumes
  /// The share by which S, S1 and E are damped (see `damp`). None: chosen for S1 and for S by cross-validation, where a
  /// method reads the noise, else `usual_damping`; E takes that of S1.
  std::optional<double> damping = std::nullopt;
  /// c of the threshold on λ: for vectors see SolveOptions; for maps times 1.1 times the largest singular value of N
  /// with random signs for the samples, which is noise and nothing else.
  double significance = 1.0;
  bool move_weights = true;  ///< whether δW belongs to the proposal
  /// Gather S1 and M1 for Ψ even if the method does not read them.
  bool bottleneck = false;
};

/// What a site could get, before the amplitude is chosen: what the method chose, its scores now in the report.
struct Proposal : Choice {
  SiteReport report;
  /// True first-order decrease of the loss that each unit brings per γ; empty where it was not measured unit by unit.
  std::vector<double> unit_slopes = {};
  /// Outputs of the consumer per sample. Each has a small share in the loss, whose curvature at one of them is small
  /// alike: the amplitude that lowers the loss most grows with their number.
  std::int64_t positions = 1;
  /// Weights by which an output of the consumer reads one unit.
  std::int64_t taps = 1;
  double move_slope = 0.0;   ///< the part of the report's slope that the move of today's weights has
  bool homogeneous = false;  ///< σ(c h) = c σ(h) for positive c: the split between fan-in and fan-out changes nothing
};

/// Gathers the statistics of one site in passes over the same samples, lets the method choose units, and proposes:
/// while `wants()` a pass, show its batches to `update` and end it with `finish_pass`; then `propose`.
template <Real T>
class SiteMeasurement {
 public:
  /// What the next pass has to show.
  enum class Batches { none, one, all };
  /// Most units the site may get, before they are found (`found` is null) and, if any may be, once more when they are,
  /// none included: for fewer than those the method chooses again. `taps` is the number of weights by which an output
  /// of the consumer reads one unit.
  using Limit = std::function<std::int64_t(std::int64_t taps, const Choice* found)>;

  /// `known_covariance`, if not null, is S from an earlier measurement on the same samples. The context has to outlive
  /// the SiteMeasurement. Throws ArgumentError for a method that a stream does not have the statistics for.
  SiteMeasurement(Context& ctx, const Site<T>& site, const MeasurementOptions& options, Limit limit,
                  const Tensor<double>* known_covariance = nullptr);

  [[nodiscard]] const Site<T>& site() const noexcept { return site_; }

  /// A method that reads nothing wants one batch, as sizes of maps show in any.
  [[nodiscard]] Batches wants() const noexcept;

  /// One batch: the producer's input, the consumer's input and the desired update at its output; of a stream once for
  /// each reader. Throws NumericError that names the site for a desired update that is not finite, ArgumentError where
  /// no pass is wanted.
  void update(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal,
              std::size_t reader = 0);

  /// After the last batch of a pass. S, if it was gathered, is copied to `covariance` once it is complete, where that
  /// is not null. Throws ArgumentError for a pass without a batch and NumericError that names the site for statistics
  /// that are not finite.
  void finish_pass(Context& ctx, Tensor<double>* covariance = nullptr);

  /// The proposal, complete; once, when no pass is wanted any more, ArgumentError before. Throws NumericError if the
  /// bottleneck or the slope is not finite.
  [[nodiscard]] Proposal propose();

 private:
  void complete(Insertion& insertion) const;

  /// Whether what the units gain is of interest and not known yet.
  [[nodiscard]] bool wants_slope() const;

  /// Whether a norm needs the units' means and variances, and they are not known yet.
  [[nodiscard]] bool wants_means() const;

  void prepare_pass(Context& ctx);

  /// Where the method has features to try, makes ready for the pass that gathers their moments.
  void prepare_features(Context& ctx);

  /// Lets the method choose once the statistics are complete.
  void solve(Context& ctx, Tensor<double>* covariance);

  /// Weights by which an output of the consumer reads one unit.
  [[nodiscard]] std::int64_t taps() const noexcept { return moments_.all_taps; }

  /// Makes the statistics of one reader.
  void begin_statistics(Context& ctx, std::size_t reader, const Shape& unit_input);

  [[nodiscard]] bool wants_statistics() const;

  /// What was gathered, of all readers.
  [[nodiscard]] SiteMoments gathered(Context& ctx);

  [[nodiscard]] GrowthMethod::Gradients gradients() const;

  /// Whether weights of a fan-out are read by neighbouring outputs.
  [[nodiscard]] bool overlaps() const { return choice_.insertion.taps > 1 || (site_.tied() && site_.spatial()); }

  /// S1 as it was damped for the move.
  [[nodiscard]] Tensor<double> damped(Context& ctx, const Tensor<double>& a) const;

  /// G S1⁺.
  [[nodiscard]] Tensor<double> solve_consumer(const Tensor<double>& cross) const;

  /// E a, for the metric E in which the choice measures what the units add.
  [[nodiscard]] Tensor<double> in_metric(const Tensor<double>& a) const;

  /// δW -= factor · G S1⁺, and what the move gains along with it.
  void subtract_from_move(const Tensor<double>& explained, double factor);

  /// The taps of a fan-out overlap: A times ⟨N, A⟩ / Q(A) is the multiple of A that leaves least of the residual.
  double rescale(Insertion& insertion, double factor) const;

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  Context* ctx_;
  Site<T> site_;
  MeasurementOptions options_;
  Needs needs_;
  const Tensor<double>* known_covariance_;
  Limit limit_;
  std::vector<std::optional<SiteStatistics<T>>> statistics_;  // of each reader
  std::vector<std::size_t> same_inputs_;                      // the first reader with the same S
  bool solved_ = false;
  // Units that may join between vectors, and the moments of what they put out.
  Insertion features_;
  std::optional<UnitPath<T>> feature_path_;
  std::optional<RowStatistics<T>> feature_moments_;
  std::vector<CandidatePass<T>> candidates_;  // of each reader, as those below
  std::vector<UnitEffects<T>> effects_, measured_;
  SiteMoments moments_;
  Choice choice_;
  int pass_ = 0, passes_ = 0;
  double seconds_ = 0.0;
};

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/site_measurement_impl.hpp>
#endif
