// When growth is over for good.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/view.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

/// Limits that end growth; the first one that is reached does. How large a network may get is the Budget's business: a
/// growth step for which it has no room adds nothing.
struct Until {
  /// Growth steps in a row that added no unit, as nothing was significant, lowered the loss or fitted into the budget;
  /// 0 sets no limit.
  std::int64_t empty_steps = 0;
  /// Seconds that the network takes for one sample in evaluation mode, measured on this device after every growth step.
  /// The step that exceeds it is the last.
  double latency = std::numeric_limits<double>::infinity();
  /// Growth steps in a row before which Progress::validation was no better than it had been; 0 sets no limit.
  std::int64_t patience = 0;
  double least_gain = 1e-3;  ///< a validation is better if it exceeds the best one by this

  /// Throws ArgumentError for a limit outside its range.
  void require_valid() const;
  /// Throws ArgumentError for a validation that is not finite where `patience` needs it.
  void require_validation(double validation) const;
};

namespace detail {

/// Counts what an Until asks for.
class UntilCount {
 public:
  /// A growth step is due, and this is the latest validation, finite where the limits need it.
  void before_step(const Until& limits, double validation);
  /// A growth step was taken.
  void after_step(std::int64_t added, std::optional<double> latency);

  /// The budget was raised: what did not fit may fit now.
  void more_room() { empty_ = 0; }

  /// Why growth is over, in words; nothing as long as it is not.
  [[nodiscard]] std::optional<std::string> over(const Until& limits) const;

  /// Plain finite numbers, for a checkpoint.
  [[nodiscard]] std::vector<double> state() const;
  /// Throws ArgumentError for numbers that `state` did not give.
  void restore(const std::vector<double>& numbers);

 private:
  static constexpr double none = std::numeric_limits<double>::lowest();

  std::int64_t empty_ = 0, stale_ = 0;
  double best_ = none;
  double latency_ = 0.0;
};

}  // namespace detail

/// Seconds that a network takes for these inputs in evaluation mode: the median of `repeats` passes after one that
/// warms up. Throws ArgumentError for less than one.
template <Real T>
[[nodiscard]] double measure_latency(Context& ctx, nn::Layer<T>& network, View<const std::type_identity_t<T>> inputs,
                                     int repeats = 11);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/until_impl.hpp>
#endif
