// What a growth step found and did, as values and as a table for people.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <limits>
#include <ostream>
#include <sstream>
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
  std::string note = {};  ///< why nothing was added, or what was out of the ordinary

  /// Share of the desired update that today's weights cannot express, in [0, 1]; NaN if unknown.
  [[nodiscard]] double unexpressed() const { return goal_norm2 == 0.0 ? 0.0 : bottleneck / goal_norm2; }
  [[nodiscard]] double measured() const { return loss_before - loss_after; }
};

/// One growth step.
struct GrowthReport {
  std::string method;
  std::string where = {};  ///< the rule that chose the sites
  std::vector<SiteReport> sites;
  std::int64_t parameters = 0;  ///< of the network afterwards
  double seconds = 0.0;
  /// Floating-point operations of the network's passes for measuring and line search, from its multiply-adds.
  double operations = 0.0;

  [[nodiscard]] std::int64_t added() const {
    std::int64_t total = 0;
    for (const SiteReport& site : sites) total += site.added;
    return total;
  }
};

/// A table of at most 100 columns (unless names or numbers are very long), one line a site and its note below it. The
/// column of accuracies is left out if the caller measured none.
inline std::ostream& operator<<(std::ostream& out, const GrowthReport& report) {
  const auto number = [](double value, int digits = 3) {
    std::ostringstream text;
    text << std::setprecision(digits) << value;
    return text.str();
  };
  const auto fixed = [](double value, int digits, const char* unit = "") {
    std::ostringstream text;
    text << std::fixed << std::setprecision(digits) << value << unit;
    return text.str();
  };
  using Cells = std::array<std::string, 10>;
  std::vector<Cells> lines = {
      {"layer", "bottleneck", "unexpressed", "units", "gamma", "predicted", "measured", "params", "accuracy", "sec"}};
  bool accuracies = false;
  for (const SiteReport& site : report.sites) {
    const bool grown = site.added > 0, known = !std::isnan(site.accuracy);
    const bool measured = !std::isnan(site.bottleneck);
    lines.push_back({site.name, measured ? number(site.bottleneck) : "-",
                     measured ? fixed(100.0 * site.unexpressed(), 1, " %") : "-",
                     grown ? concat(site.width, " + ", site.added) : std::to_string(site.width),
                     grown ? number(site.gamma, site.gamma < 1.0 ? 3 : 6) : "-", grown ? number(site.predicted) : "-",
                     grown ? number(site.measured()) : "-", grouped(site.parameters),
                     known ? fixed(100.0 * site.accuracy, 2, " %") : "-", fixed(site.seconds, 2)});
    accuracies = accuracies || known;
  }
  // Columns are wide enough for most numbers, and as narrow as theirs allow if the names leave no room.
  std::array<std::size_t, 10> widths{8, 11, 12, 10, 9, 10, 9, 11, 10, 7}, least{};
  for (const Cells& cells : lines) {
    for (std::size_t i = 0; i < cells.size(); ++i) least[i] = std::max(least[i], cells[i].size() + (i == 0 ? 2 : 1));
  }
  if (!accuracies) widths[8] = least[8] = 0;
  std::size_t total = 0;
  for (std::size_t i = 0; i < widths.size(); ++i) total += widths[i] = std::max(widths[i], least[i]);
  for (std::size_t i = widths.size() - 1; i > 0 && total > 100; --i) {
    const std::size_t spare = std::min(widths[i] - least[i], total - 100);
    widths[i] -= spare;
    total -= spare;
  }
  std::ostringstream table;
  for (std::size_t row = 0; row < lines.size(); ++row) {
    const Cells& cells = lines[row];
    table << "  " << std::left << std::setw(static_cast<int>(widths[0]) - 2) << cells[0] << std::right;
    for (std::size_t i = 1; i < cells.size(); ++i) {
      if (widths[i] > 0) table << std::setw(static_cast<int>(widths[i])) << cells[i];
    }
    table << '\n';
    if (row > 0 && !report.sites[row - 1].note.empty()) table << wrapped(report.sites[row - 1].note, 96, 4) << '\n';
  }
  return out << table.str();
}

}  // namespace meristem::grow
