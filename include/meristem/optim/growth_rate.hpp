// Learning rates of weights that joined a network by growth.
#pragma once

#include <cmath>
#include <cstdint>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::optim {

/// How the learning rate of weights that joined later differs from that of the others. Weights that joined in the same
/// step are one growth stage; what was there from the start always keeps the optimiser's rate.
struct GrowthRate {
  enum class Rule {
    constant,    ///< the optimiser's rate for all
    norm_ratio,  ///< stage by stage rate · ‖W_stage‖_F / ‖W_oldest‖_F
    rewarm,      ///< begins at `start` times the rate and is back at it after `steps` steps, in a straight line
  };
  Rule rule = Rule::constant;
  double start = 1.0;      ///< of rewarm, 0 or more
  std::int64_t steps = 0;  ///< of rewarm, 1 or more

  friend bool operator==(const GrowthRate&, const GrowthRate&) = default;
};

/// The optimiser's rate for all.
[[nodiscard]] inline GrowthRate constant_rate() { return {}; }

/// X. Yuan, P. Savarese, M. Maire, "Accelerated Training via Incrementally Growing Neural Networks using Variance
/// Transfer and Learning Rate Adaptation" (2023): within each weight tensor, a stage takes ‖W_stage‖_F / ‖W_oldest‖_F
/// times the rate, with the norms before each step. Vectors (biases, norms' weights) and stages whose weights are all
/// zero take the rate itself. On a GPU each stage of each tensor that has grown is waited for in every step.
[[nodiscard]] inline GrowthRate norm_ratio() { return {.rule = GrowthRate::Rule::norm_ratio}; }

/// What joins begins at `start` times the rate (below 1 a warm-up, above 1 a head start) and is back at it after
/// `steps` steps, in a straight line. Throws ArgumentError for a start below 0 or not finite, or fewer than 1 step.
[[nodiscard]] inline GrowthRate rewarm(double start, std::int64_t steps) {
  if (!(start >= 0.0 && std::isfinite(start)) || steps < 1) {
    throw ArgumentError(
        concat("rewarm: start is ", start, ", steps ", steps, "; start must be 0 or more and finite, steps 1 or more"));
  }
  return {.rule = GrowthRate::Rule::rewarm, .start = start, .steps = steps};
}

}  // namespace meristem::optim
