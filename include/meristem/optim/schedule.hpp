// Learning rates over time, as pure functions of the step.
#pragma once

#include <cstdint>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::optim {

enum class Decay { constant, cosine, linear };

struct ScheduleOptions {
  double peak = 0.1;              ///< the rate after warm-up
  Decay decay = Decay::constant;  ///< cosine: I. Loshchilov, F. Hutter, "SGDR" (2017), one cycle without restarts
  std::int64_t warmup_steps = 0;  ///< linear from peak / warmup_steps to peak
  std::int64_t hold_steps = 0;    ///< after warm-up at the peak, for instance while a network grows; then decay begins
  std::int64_t total_steps = 0;   ///< where cosine and linear reach `floor`; not used by constant
  double floor = 0.0;             ///< the last rate of cosine and linear
};

/// Learning rate at each step, counted from 0: with s = warmup_steps + hold_steps and x = (step - s) / (total_steps -
/// s) in [0, 1], cosine is floor + (peak - floor) (1 + cos πx) / 2, linear floor + (peak - floor) (1 - x).
class Schedule {
 public:
  using Options = ScheduleOptions;

  /// Throws ArgumentError for rates below 0 or not finite, negative step counts, or a decay whose end does not lie
  /// beyond warm-up and hold.
  explicit Schedule(const Options& options);

  /// Rate at `step`; steps beyond the end keep the last rate. Throws ArgumentError for a negative step.
  [[nodiscard]] double at(std::int64_t step) const;

 private:
  Options options_;
};

}  // namespace meristem::optim

#if !defined(MERISTEM_COMPILED)
#include <meristem/optim/schedule_impl.hpp>
#endif
