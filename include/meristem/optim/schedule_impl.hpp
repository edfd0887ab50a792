// Definitions of schedule.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include <meristem/optim/schedule.hpp>

namespace meristem::optim {

MERISTEM_INLINE Schedule::Schedule(const Options& options) : options_(options) {
  if (!(options.floor >= 0.0 && options.floor <= options.peak && std::isfinite(options.peak))) {
    throw ArgumentError(concat("Schedule: rates must be finite and satisfy 0 <= floor <= peak; got floor ",
                               options.floor, ", peak ", options.peak));
  }
  if (options.warmup_steps < 0 || options.hold_steps < 0 || options.total_steps < 0) {
    throw ArgumentError(concat("Schedule: warmup_steps ", options.warmup_steps, ", hold_steps ", options.hold_steps,
                               " and total_steps ", options.total_steps, " must be 0 or more"));
  }
  // As a difference, since the sum of the two could overflow.
  if (options.decay != Decay::constant && options.total_steps - options.warmup_steps <= options.hold_steps) {
    throw ArgumentError(concat("Schedule: ", options.decay == Decay::cosine ? "cosine" : "linear",
                               " needs total_steps (", options.total_steps, ") beyond warmup_steps (",
                               options.warmup_steps, ") and hold_steps (", options.hold_steps, ") together"));
  }
}

MERISTEM_INLINE double Schedule::at(std::int64_t step) const {
  if (step < 0) throw ArgumentError(concat("Schedule: there is no step ", step, "; steps are counted from 0"));
  const Options& o = options_;
  if (step < o.warmup_steps) return o.peak * static_cast<double>(step + 1) / static_cast<double>(o.warmup_steps);
  if (o.decay == Decay::constant) return o.peak;
  const std::int64_t start = o.warmup_steps + o.hold_steps;
  if (step < start) return o.peak;
  const double done =
      static_cast<double>(std::min(step, o.total_steps) - start) / static_cast<double>(o.total_steps - start);
  if (o.decay == Decay::linear) return o.floor + (o.peak - o.floor) * (1.0 - done);
  return o.floor + (o.peak - o.floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
}

}  // namespace meristem::optim
