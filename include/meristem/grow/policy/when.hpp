// When a network grows: small values that a training loop asks after every step or epoch.
#pragma once

#include <algorithm>
#include <cmath>
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
  [[nodiscard]] static When plateau(const PlateauOptions& options = {}) {
    if (options.patience < 1) {
      throw ArgumentError(concat("When: plateau: patience is ", options.patience, "; it must be at least 1"));
    }
    if (!(options.least_decrease >= 0.0 && options.least_decrease < 1.0)) {
      throw ArgumentError(
          concat("When: plateau: least_decrease is ", options.least_decrease, "; it must lie in [0, 1)"));
    }
    When result;
    result.kind_ = Kind::plateau;
    result.period_ = options.patience;
    result.share_ = options.least_decrease;
    result.best_ = no_loss;
    return result;
  }

  /// Due when the bottleneck exceeds this share of the gradient, Ψ > share · ‖V_goal‖². Throws ArgumentError for a
  /// share outside [0, 1).
  [[nodiscard]] static When bottleneck(double share) {
    if (!(share >= 0.0 && share < 1.0)) {
      throw ArgumentError(concat("When: bottleneck: the share is ", share, "; it must lie in [0, 1)"));
    }
    When result;
    result.kind_ = Kind::bottleneck;
    result.share_ = share;
    return result;
  }

  /// Due as long as no more than `epochs` are done: `every_epochs(5) && until_epoch(60)`. Throws ArgumentError for
  /// epochs < 0.
  [[nodiscard]] static When until_epoch(std::int64_t epochs) {
    if (epochs < 0) throw ArgumentError(concat("When: until_epoch: ", epochs, " epochs; they must be 0 or more"));
    When result;
    result.kind_ = Kind::until;
    result.period_ = epochs;
    return result;
  }

  friend When operator&&(When a, When b) { return both(Kind::all, std::move(a), std::move(b)); }
  friend When operator||(When a, When b) { return both(Kind::any, std::move(a), std::move(b)); }

  /// Whether growth is due now. Ask once per epoch or step, whichever the conditions count. Throws ArgumentError if
  /// `now` lacks what a condition needs, NumericError for a share of the bottleneck that is not a number.
  bool operator()(const Progress& now) {
    if (!due(now)) return false;
    start_over(now);
    return true;
  }

  /// Everything it remembers, as plain finite numbers; for a checkpoint.
  [[nodiscard]] std::vector<double> state() const {
    std::vector<double> numbers;
    write(numbers);
    return numbers;
  }

  /// Takes up where the When that gave `numbers` was. Throws ArgumentError for numbers of another condition.
  void restore(const std::vector<double>& numbers) {
    std::size_t at = 0;
    When restored = *this;
    if (!restored.read(numbers, at) || at != numbers.size()) {
      throw ArgumentError(concat("When: the ", numbers.size(), " saved numbers are not those of ", describe(),
                                 "; restore a condition of the same kind with the same numbers"));
    }
    *this = std::move(restored);
  }

  /// In words, such as `every 5 epochs and (a plateau of 3 or a bottleneck above 0.3)`.
  [[nodiscard]] std::string describe() const {
    switch (kind_) {
      case Kind::epochs:
        return concat("every ", period_, period_ == 1 ? " epoch" : " epochs");
      case Kind::steps:
        return concat("every ", period_, period_ == 1 ? " step" : " steps");
      case Kind::plateau:
        return concat("a plateau of ", period_);
      case Kind::bottleneck:
        return concat("a bottleneck above ", share_);
      case Kind::until:
        return concat("until epoch ", period_);
      case Kind::all:
      case Kind::any: {
        std::string text;
        for (const When& part : parts_) {
          const bool nested = !part.parts_.empty();
          text += concat(text.empty()         ? ""
                         : kind_ == Kind::all ? " and "
                                              : " or ",
                         nested ? "(" : "", part.describe(), nested ? ")" : "");
        }
        return text;
      }
      case Kind::never:
        break;
    }
    return "never";
  }

 private:
  enum class Kind { never, epochs, steps, plateau, bottleneck, until, all, any };
  /// Finite, so that every format can hold the state.
  static constexpr double no_loss = std::numeric_limits<double>::max();

  static When periodic(Kind kind, std::int64_t n, const char* name) {
    if (n < 1) throw ArgumentError(concat("When: ", name, "(", n, "): the number must be at least 1"));
    When result;
    result.kind_ = kind;
    result.period_ = n;
    return result;
  }

  static When both(Kind kind, When a, When b) {
    When result;
    result.kind_ = kind;
    result.parts_.push_back(std::move(a));
    result.parts_.push_back(std::move(b));
    return result;
  }

  /// Every part that remembers something sees `now`; the bottleneck is measured only if the rest leaves it open.
  bool due(const Progress& now) {
    switch (kind_) {
      case Kind::epochs:
        return now.epoch - last_ >= period_;
      case Kind::steps:
        return now.step - last_ >= period_;
      case Kind::until:
        return now.epoch <= period_;
      case Kind::plateau:
        return flat(now.loss);
      case Kind::bottleneck: {
        if (!now.unexpressed) {
          throw ArgumentError(
              "When: bottleneck needs Progress::unexpressed; give it a function that measures it, such as "
              "Grower::unexpressed");
        }
        const double share = now.unexpressed();
        if (std::isnan(share)) throw NumericError("When: the share of the bottleneck is nan; look at the gradients");
        return share > share_;
      }
      case Kind::all:
      case Kind::any: {
        const bool decisive = kind_ == Kind::any;
        bool decided = false;
        for (const bool measured : {false, true}) {
          for (When& part : parts_) {
            if (part.measures() != measured || (decided && measured && !part.remembers())) continue;
            decided = part.due(now) == decisive || decided;
          }
        }
        return decided == decisive;
      }
      case Kind::never:
        break;
    }
    return false;
  }

  bool flat(double loss) {
    if (std::isnan(loss)) {
      throw ArgumentError("When: plateau needs Progress::loss, and it is nan; give it the latest loss");
    }
    if (loss < best_ - share_ * std::abs(best_) || best_ == no_loss) {
      best_ = loss;
      last_ = 0;
    } else {
      ++last_;
    }
    return last_ >= period_;
  }

  void start_over(const Progress& now) {
    if (kind_ == Kind::epochs) last_ = now.epoch;
    if (kind_ == Kind::steps) last_ = now.step;
    if (kind_ == Kind::plateau) {
      // Growth changes the loss: the next one sets the mark.
      last_ = 0;
      best_ = no_loss;
    }
    for (When& part : parts_) part.start_over(now);
  }

  [[nodiscard]] bool measures() const {
    return kind_ == Kind::bottleneck ||
           std::any_of(parts_.begin(), parts_.end(), [](const When& part) { return part.measures(); });
  }
  [[nodiscard]] bool remembers() const {
    return kind_ == Kind::plateau ||
           std::any_of(parts_.begin(), parts_.end(), [](const When& part) { return part.remembers(); });
  }

  void write(std::vector<double>& numbers) const {
    numbers.push_back(static_cast<double>(static_cast<int>(kind_)));
    numbers.push_back(static_cast<double>(last_));
    numbers.push_back(best_);
    for (const When& part : parts_) part.write(numbers);
  }
  bool read(const std::vector<double>& numbers, std::size_t& at) {
    if (at + 3 > numbers.size() || numbers[at] != static_cast<double>(static_cast<int>(kind_))) return false;
    last_ = static_cast<std::int64_t>(numbers[at + 1]);
    best_ = numbers[at + 2];
    at += 3;
    return std::all_of(parts_.begin(), parts_.end(), [&](When& part) { return part.read(numbers, at); });
  }

  Kind kind_ = Kind::never;
  std::int64_t period_ = 0;  // or patience, or the last epoch
  double share_ = 0.0;       // or the least decrease
  std::vector<When> parts_;
  std::int64_t last_ = 0;  // epoch or step when it was due last; losses since the best one
  double best_ = 0.0;      // loss
};

}  // namespace meristem::grow
