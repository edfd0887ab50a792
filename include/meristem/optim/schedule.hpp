// Learning rates over time, as pure functions of the step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::inline MERISTEM_BACKEND::optim {

enum class Decay { constant, cosine };

struct ScheduleOptions {
  double peak = 0.1;              ///< the rate after warm-up
  Decay decay = Decay::constant;  ///< cosine: I. Loshchilov, F. Hutter, "SGDR" (2017), one cycle without restarts
  std::int64_t warmup_steps = 0;  ///< linear from peak / warmup_steps to peak
  std::int64_t total_steps = 0;   ///< where cosine reaches `floor`; not used by constant
  double floor = 0.0;             ///< the last rate of cosine
};

/// Learning rate at each step, counted from 0.
class Schedule {
 public:
  /// Throws ArgumentError for rates below 0 or not finite, negative step counts, or a cosine whose end lies inside the
  /// warm-up.
  explicit Schedule(const ScheduleOptions& options) : options_(options) {
    if (!(options.floor >= 0.0 && options.floor <= options.peak && std::isfinite(options.peak))) {
      throw ArgumentError(concat("Schedule: rates must be finite and satisfy 0 <= floor <= peak; got floor ",
                                 options.floor, ", peak ", options.peak));
    }
    if (options.warmup_steps < 0 || options.total_steps < 0) {
      throw ArgumentError(concat("Schedule: warmup_steps ", options.warmup_steps, " and total_steps ",
                                 options.total_steps, " must be 0 or more"));
    }
    if (options.decay == Decay::cosine && options.total_steps <= options.warmup_steps) {
      throw ArgumentError(concat("Schedule: cosine needs total_steps (", options.total_steps, ") beyond warmup_steps (",
                                 options.warmup_steps, ")"));
    }
  }

  /// Rate at `step`; steps beyond the end keep the last rate. Throws ArgumentError for a negative step.
  [[nodiscard]] double at(std::int64_t step) const {
    if (step < 0) throw ArgumentError(concat("Schedule: there is no step ", step, "; steps are counted from 0"));
    const ScheduleOptions& o = options_;
    if (step < o.warmup_steps) return o.peak * static_cast<double>(step + 1) / static_cast<double>(o.warmup_steps);
    if (o.decay == Decay::constant) return o.peak;
    const double done = static_cast<double>(std::min(step, o.total_steps) - o.warmup_steps) /
                        static_cast<double>(o.total_steps - o.warmup_steps);
    return o.floor + (o.peak - o.floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  }

 private:
  ScheduleOptions options_;
};

}  // namespace meristem::inline MERISTEM_BACKEND::optim
