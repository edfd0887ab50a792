// What a growth step found and did, as values and as a table for people.
#pragma once

#include <cmath>
#include <cstdint>
#include <iomanip>
#include <limits>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include <meristem/core/config.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// One site in one growth step. Losses are means over samples.
struct SiteReport {
  std::string name;
  std::int64_t width = 0;           ///< units before
  std::int64_t added = 0;           ///< units added
  double goal_norm2 = 0.0;          ///< (1/n) ‖V_goal‖²
  double bottleneck = 0.0;          ///< Ψ: the part of it that today's weights cannot express
  double best_move_decrease = 0.0;  ///< D_W: the part that they can
  std::vector<double> lambda = {};       ///< all singular values, descending
  double threshold = 0.0;           ///< λ below it are noise
  double gain = 0.0;                ///< Σ λ² of the units
  double slope = 0.0;               ///< true first-order decrease of the loss per γ, of everything applied
  double gamma = 0.0;               ///< amplitude; 0 if nothing was added
  double predicted = 0.0;           ///< γ · slope
  double loss_before = 0.0;         ///< on the samples of the line search
  double loss_after = 0.0;
  int evaluations = 0;          ///< forward passes of the line search
  std::int64_t parameters = 0;  ///< of the network afterwards
  /// Share of correct answers on held-out samples afterwards, if the caller measured it.
  double accuracy = std::numeric_limits<double>::quiet_NaN();
  double seconds = 0.0;
  std::string note = {};  ///< why nothing was added, or what was out of the ordinary

  /// Share of the desired update that today's weights cannot express, in [0, 1].
  [[nodiscard]] double unexpressed() const { return goal_norm2 > 0.0 ? bottleneck / goal_norm2 : 0.0; }
  [[nodiscard]] double measured() const { return loss_before - loss_after; }
};

/// One growth step.
struct GrowthReport {
  std::string method;
  std::vector<SiteReport> sites;
  std::int64_t parameters = 0;  ///< of the network afterwards
  double seconds = 0.0;

  [[nodiscard]] std::int64_t added() const {
    std::int64_t total = 0;
    for (const SiteReport& site : sites) total += site.added;
    return total;
  }
};

/// A table, one line a site.
inline std::ostream& operator<<(std::ostream& out, const GrowthReport& report) {
  const auto number = [](double value, int digits) {
    std::ostringstream text;
    text << std::setprecision(digits) << value;
    return text.str();
  };
  std::ostringstream table;
  table << std::left << std::setw(10) << "  layer" << std::right << std::setw(10) << "bottleneck" << std::setw(13)
        << "unexpressed" << std::setw(13) << "units" << std::setw(11) << "gamma" << std::setw(11) << "predicted"
        << std::setw(10) << "measured" << std::setw(11) << "params" << std::setw(10) << "accuracy" << std::setw(8)
        << "sec" << '\n';
  for (const SiteReport& site : report.sites) {
    const bool grown = site.added > 0;
    std::ostringstream share, seconds, accuracy;
    if (std::isnan(site.accuracy)) {
      accuracy << "-";
    } else {
      accuracy << std::fixed << std::setprecision(2) << 100.0 * site.accuracy << " %";
    }
    share << std::fixed << std::setprecision(1) << 100.0 * site.unexpressed() << " %";
    seconds << std::fixed << std::setprecision(2) << site.seconds;
    const std::string units =
        grown ? std::to_string(site.width) + " + " + std::to_string(site.added) : std::to_string(site.width);
    table << "  " << std::left << std::setw(8) << site.name << std::right << std::setw(10) << number(site.bottleneck, 3)
          << std::setw(13) << share.str() << std::setw(13) << units << std::setw(11)
          << (grown ? number(site.gamma, 3) : "-") << std::setw(11) << (grown ? number(site.predicted, 3) : "-")
          << std::setw(10) << (grown ? number(site.measured(), 3) : "-") << std::setw(11) << site.parameters
          << std::setw(10) << accuracy.str() << std::setw(8) << seconds.str();
    if (!site.note.empty()) table << "  " << site.note;
    table << '\n';
  }
  return out << table.str();
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow
