// What a growth step found and did, as values and as a table for people.
#pragma once

#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/text.hpp>

namespace meristem::grow {

/// One site in one growth step. Losses are means over samples.
struct SiteReport {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

  std::string name;
  std::int64_t width = 0;  ///< units before
  std::int64_t added = 0;  ///< units added
  /// (1/n) ‖V_goal‖²; NaN, like the two that follow, if the method does not read what it takes to know them.
  double goal_norm2 = unknown;
  double bottleneck = unknown;          ///< Ψ: the part of it that today's weights cannot express
  double best_move_decrease = unknown;  ///< D_W: the part that they can
  std::vector<double> lambda = {};      ///< all singular values, descending
  double threshold = 0.0;               ///< λ below it are noise
  double damping = 0.0;                 ///< by which S was damped
  double ridge_used = 0.0;              ///< what its Cholesky factor needed beside it
  double gain = 0.0;                    ///< Σ λ² of the units
  double slope = 0.0;                   ///< true first-order decrease of the loss per γ, of everything applied
  double gamma = 0.0;                   ///< amplitude; 0 if nothing was added
  double predicted = 0.0;               ///< γ · slope
  double loss_before = 0.0;             ///< on the samples of the line search
  double loss_after = 0.0;
  int evaluations = 0;          ///< forward passes of the line search
  std::int64_t parameters = 0;  ///< of the network afterwards
  /// Multiply-adds of one forward pass of one sample through the network afterwards; 0 where no sample was looked at.
  std::int64_t multiply_adds = 0;
  std::int64_t asked = 0;    ///< units that limits and budgets allowed
  std::int64_t found = 0;    ///< units that the method proposed
  std::int64_t samples = 0;  ///< of the statistics
  /// By how much sampling noise may move a λ: the largest singular value of noise alone, σ (√p + √q) / √n; 0 if
  /// unknown.
  double lambda_error = 0.0;
  /// Share of correct answers on held-out samples afterwards, if the caller measured it.
  double accuracy = unknown;
  double seconds = 0.0;
  std::string stream = {};  ///< of a stream: the name of its first source; empty for a hidden layer
  /// Of a residual block that was not there before: its path name; empty for units of a layer that was.
  std::string block = {};
  std::int64_t new_parameters = 0;     ///< that the units brought, with what else their block is made of
  std::int64_t new_multiply_adds = 0;  ///< of one forward pass of one sample
  std::string note = {};               ///< why nothing was added, or what was out of the ordinary

  /// Share of the desired update that today's weights cannot express, in [0, 1]; NaN if unknown.
  [[nodiscard]] double unexpressed() const { return goal_norm2 == 0.0 ? 0.0 : bottleneck / goal_norm2; }
  [[nodiscard]] double measured() const { return loss_before - loss_after; }
};

/// One growth step.
struct GrowthReport {
  std::int64_t epoch = 0;  ///< epochs trained before it, if the caller says so
  std::int64_t step = 0;   ///< and steps
  std::string method = {};
  std::string where = {};  ///< the rule that chose the sites
  std::vector<SiteReport> sites = {};
  std::int64_t parameters = 0;  ///< of the network afterwards
  double seconds = 0.0;
  /// Floating-point operations of the network's passes for measuring and line search, from its multiply-adds.
  double operations = 0.0;

  [[nodiscard]] std::int64_t added() const;
};

/// A table of at most 100 columns (unless names or numbers are very long), one line a site and its note below it. The
/// column of accuracies is left out if the caller measured none.
std::ostream& operator<<(std::ostream& out, const GrowthReport& report);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/report_impl.hpp>
#endif
