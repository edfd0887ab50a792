// When a network grows: small values that a training loop asks after every step or epoch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/view.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

/// A condition for growth. `a && b` is due when both are, `a || b` when one is. Counts and plateaus start over whenever
/// the whole condition was due, so that `every_epochs(5) && bottleneck(0.3)` grows at most every 5 epochs. Growth is
/// over for good when an `until` of growth steps says so: of `a && b` either, of `a || b` both. How large a network may
/// get is the Budget's business: a growth step for which it has no room adds nothing.
class When {
 public:
  /// Where training is when it asks whether to grow.
  struct Progress {
    std::int64_t epoch = 0;                                  ///< epochs done
    std::int64_t step = 0;                                   ///< steps done
    double loss = std::numeric_limits<double>::quiet_NaN();  ///< latest loss; `plateau` needs it
    /// Latest score on samples that are held out, larger is better; `until_stale` needs it.
    double validation = std::numeric_limits<double>::quiet_NaN();
    /// Share of the desired update that today's weights cannot express, Ψ / ‖V_goal‖² in [0, 1]; `bottleneck` needs it.
    /// Called only if the answer depends on it, for it takes passes over samples; Grower::unexpressed measures it.
    std::function<double()> unexpressed = {};
  };

  /// Never due.
  When() = default;

  /// Due when n epochs have passed since it was due last, or since epoch 0. Throws ArgumentError for n < 1.
  [[nodiscard]] static When every_epochs(std::int64_t n) { return make(Kind::epochs, "every_epochs", n); }
  /// Due when n steps have passed since it was due last, or since step 0. Throws ArgumentError for n < 1.
  [[nodiscard]] static When every_steps(std::int64_t n) { return make(Kind::steps, "every_steps", n); }

  /// Due when the loss has not fallen for `patience` times in a row by at least this share of the best one. Throws
  /// ArgumentError for a patience below 1 and a share outside [0, 1).
  [[nodiscard]] static When plateau(std::int64_t patience = 3, double least_decrease = 1e-3);

  /// Due when the bottleneck exceeds this share of the gradient, Ψ > share · ‖V_goal‖². Throws ArgumentError for a
  /// share outside [0, 1).
  [[nodiscard]] static When bottleneck(double share);

  /// Due as long as no more than `epochs` are done: `every_epochs(5) && until_epoch(60)`. Throws ArgumentError for
  /// epochs < 0.
  [[nodiscard]] static When until_epoch(std::int64_t epochs);

  /// Due until so many growth steps in a row have added no unit, as nothing was significant, lowered the loss or fitted
  /// into the budget. Throws ArgumentError for less than 1.
  [[nodiscard]] static When until_empty(std::int64_t growth_steps = 1);
  /// Due until the network takes longer than that for one sample in evaluation mode, measured on this device after
  /// every growth step: the step that exceeds it is the last. Throws ArgumentError unless seconds > 0.
  [[nodiscard]] static When until_latency(double seconds);
  /// Due until, before so many growth steps in a row, When::Progress::validation was no better than the best one by
  /// `least_gain`. Throws ArgumentError for less than 1 and for a gain below 0.
  [[nodiscard]] static When until_stale(std::int64_t growth_steps = 1, double least_gain = 1e-3);

  friend When operator&&(When a, When b) { return both(Kind::all, std::move(a), std::move(b)); }
  friend When operator||(When a, When b) { return both(Kind::any, std::move(a), std::move(b)); }

  /// Whether growth is due now. Ask once per epoch or step, whichever the conditions count. Throws ArgumentError if
  /// `now` lacks what a condition needs, NumericError for a share of the bottleneck that is not a number.
  bool operator()(const Progress& now);

  /// Why growth is over, in words; nothing as long as it is not.
  [[nodiscard]] std::optional<std::string> over() const;

  /// To be told of each growth step: the units added and, if it `times`, the seconds that the network takes then.
  void grown(std::int64_t added, double seconds = 0.0);
  /// What did not fit into the budget may fit now.
  void more_room();

  /// Everything it remembers, as plain finite numbers; for a checkpoint.
  [[nodiscard]] std::vector<double> state() const;

  /// Takes up where the When that gave `numbers` was. Throws ArgumentError for numbers of another condition.
  void restore(const std::vector<double>& numbers);

  /// Whether a condition asks for the bottleneck.
  [[nodiscard]] bool measures() const;

  /// Whether a condition asks for the network's latency.
  [[nodiscard]] bool times() const;

  /// In words, such as `every 5 epochs and (a plateau of 3 or a bottleneck above 0.3)`.
  [[nodiscard]] std::string describe() const;

 private:
  enum class Kind { never, epochs, steps, plateau, bottleneck, until, empty, latency, stale, all, any };
  /// Finite, so that every format can hold the state.
  static constexpr double no_loss = std::numeric_limits<double>::max();
  static constexpr double no_score = std::numeric_limits<double>::lowest();

  /// Throws ArgumentError unless the number is at least 1 and the share in [0, 1).
  static When make(Kind kind, const char* name, std::int64_t n, double share = 0.0, double best = 0.0);

  static When both(Kind kind, When a, When b);

  /// Every part that remembers something sees `now`; the bottleneck is measured only if the rest leaves it open.
  bool due(const Progress& now);

  bool flat(double loss);

  void start_over(const Progress& now);

  [[nodiscard]] bool remembers() const;

  /// Whether it or a part is of that kind.
  [[nodiscard]] bool has(Kind kind) const;

  void write(std::vector<double>& numbers) const;
  bool read(const std::vector<double>& numbers, std::size_t& at);

  Kind kind_ = Kind::never;
  std::int64_t period_ = 0;  // or patience, the last epoch, growth steps
  double share_ = 0.0;       // or the least decrease, the least gain, seconds
  std::vector<When> parts_;
  std::int64_t last_ = 0;  // epoch or step when it was due last; losses since the best one; growth steps
  double best_ = 0.0;      // loss, or score; seconds measured
};

/// Seconds that a network takes for these inputs in evaluation mode: the median of `repeats` passes after one that
/// warms up. Throws ArgumentError for less than one.
template <Real T>
[[nodiscard]] double measure_latency(Context& ctx, nn::Layer<T>& network, View<const std::type_identity_t<T>> inputs,
                                     int repeats = 11);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/when_impl.hpp>
#endif
