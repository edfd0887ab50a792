// When a network grows: small values that a training loop asks after every step or epoch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::grow {

/// Where training is when it asks a When.
struct Progress {
  std::int64_t epoch = 0;                                  ///< epochs done
  std::int64_t step = 0;                                   ///< steps done
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< latest loss; `plateau` needs it
  /// Latest score on samples that are held out, larger is better; Until::patience needs it.
  double validation = std::numeric_limits<double>::quiet_NaN();
  /// Share of the desired update that today's weights cannot express, Ψ / ‖V_goal‖² in [0, 1]; `bottleneck` needs it.
  /// Called only if the answer depends on it, for it takes passes over samples; Grower::unexpressed measures it.
  std::function<double()> unexpressed = {};
};

struct PlateauOptions {
  std::int64_t patience = 3;     ///< growth is due after this many losses in a row without a sufficient fall
  double least_decrease = 1e-3;  ///< a fall counts if it is at least this share of the best loss
};

/// A condition for growth. `a && b` is due when both are, `a || b` when one is. Counts and plateaus start over whenever
/// the whole condition was due, so that `every_epochs(5) && bottleneck(0.3)` grows at most every 5 epochs.
class When {
 public:
  /// Never due.
  When() = default;

  /// Due when n epochs have passed since it was due last, or since epoch 0. Throws ArgumentError for n < 1.
  [[nodiscard]] static When every_epochs(std::int64_t n) { return periodic(Kind::epochs, n, "every_epochs"); }
  /// Due when n steps have passed since it was due last, or since step 0. Throws ArgumentError for n < 1.
  [[nodiscard]] static When every_steps(std::int64_t n) { return periodic(Kind::steps, n, "every_steps"); }

  /// Due when the loss has stopped falling. Throws ArgumentError for options outside their range.
  [[nodiscard]] static When plateau(const PlateauOptions& options = {});

  /// Due when the bottleneck exceeds this share of the gradient, Ψ > share · ‖V_goal‖². Throws ArgumentError for a
  /// share outside [0, 1).
  [[nodiscard]] static When bottleneck(double share);

  /// Due as long as no more than `epochs` are done: `every_epochs(5) && until_epoch(60)`. Throws ArgumentError for
  /// epochs < 0.
  [[nodiscard]] static When until_epoch(std::int64_t epochs);

  friend When operator&&(When a, When b) { return both(Kind::all, std::move(a), std::move(b)); }
  friend When operator||(When a, When b) { return both(Kind::any, std::move(a), std::move(b)); }

  /// Whether growth is due now. Ask once per epoch or step, whichever the conditions count. Throws ArgumentError if
  /// `now` lacks what a condition needs, NumericError for a share of the bottleneck that is not a number.
  bool operator()(const Progress& now);

  /// Everything it remembers, as plain finite numbers; for a checkpoint.
  [[nodiscard]] std::vector<double> state() const;

  /// Takes up where the When that gave `numbers` was. Throws ArgumentError for numbers of another condition.
  void restore(const std::vector<double>& numbers);

  /// Whether a condition asks for the bottleneck.
  [[nodiscard]] bool measures() const;

  /// In words, such as `every 5 epochs and (a plateau of 3 or a bottleneck above 0.3)`.
  [[nodiscard]] std::string describe() const;

 private:
  enum class Kind { never, epochs, steps, plateau, bottleneck, until, all, any };
  /// Finite, so that every format can hold the state.
  static constexpr double no_loss = std::numeric_limits<double>::max();

  static When periodic(Kind kind, std::int64_t n, const char* name);

  static When both(Kind kind, When a, When b);

  /// Every part that remembers something sees `now`; the bottleneck is measured only if the rest leaves it open.
  bool due(const Progress& now);

  bool flat(double loss);

  void start_over(const Progress& now);

  [[nodiscard]] bool remembers() const;

  void write(std::vector<double>& numbers) const;
  bool read(const std::vector<double>& numbers, std::size_t& at);

  Kind kind_ = Kind::never;
  std::int64_t period_ = 0;  // or patience, or the last epoch
  double share_ = 0.0;       // or the least decrease
  std::vector<When> parts_;
  std::int64_t last_ = 0;  // epoch or step when it was due last; losses since the best one
  double best_ = 0.0;      // loss
};

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/when_impl.hpp>
#endif
