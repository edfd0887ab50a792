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

namespace meristem::inline MERISTEM_BACKEND::grow {

/// One site in one growth step. Losses are means over samples.
struct SiteReport {
  std::string name;
  std::int64_t width = 0;           ///< units before
  std::int64_t added = 0;           ///< units added
  double goal_norm2 = 0.0;          ///< (1/n) ‖V_goal‖²
  double bottleneck = 0.0;          ///< Ψ: the part of it that today's weights cannot express
  double best_move_decrease = 0.0;  ///< D_W: the part that they can
  std::vector<double> lambda = {};  ///< all singular values, descending
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
  /// Floating-point operations of the network's passes for measuring and line search, from its multiply-adds.
  double operations = 0.0;

  [[nodiscard]] std::int64_t added() const {
    std::int64_t total = 0;
    for (const SiteReport& site : sites) total += site.added;
    return total;
  }
};

/// A table of at most 100 columns (if layer names are short), one line a site and its note below it.
inline std::ostream& operator<<(std::ostream& out, const GrowthReport& report) {
  const auto number = [](double value) {
    std::ostringstream text;
    text << std::setprecision(3) << value;
    return text.str();
  };
  const auto fixed = [](double value, int digits, const char* unit = "") {
    std::ostringstream text;
    text << std::fixed << std::setprecision(digits) << value << unit;
    return text.str();
  };
  std::size_t name_width = 6;
  for (const SiteReport& site : report.sites) name_width = std::max(name_width, site.name.size());
  std::ostringstream table;
  const auto line = [&](const std::string& name, const std::array<std::string, 9>& cells) {
    constexpr std::array<int, 9> widths{11, 12, 10, 9, 10, 9, 11, 10, 7};
    table << "  " << std::left << std::setw(static_cast<int>(name_width)) << name << std::right;
    for (std::size_t i = 0; i < cells.size(); ++i) table << std::setw(widths[i]) << cells[i];
    table << '\n';
  };
  line("layer", {"bottleneck", "unexpressed", "units", "gamma", "predicted", "measured", "params", "accuracy", "sec"});
  for (const SiteReport& site : report.sites) {
    const bool grown = site.added > 0;
    line(site.name,
         {number(site.bottleneck), fixed(100.0 * site.unexpressed(), 1, " %"),
          grown ? concat(site.width, " + ", site.added) : std::to_string(site.width), grown ? number(site.gamma) : "-",
          grown ? number(site.predicted) : "-", grown ? number(site.measured()) : "-", grouped(site.parameters),
          std::isnan(site.accuracy) ? "-" : fixed(100.0 * site.accuracy, 2, " %"), fixed(site.seconds, 2)});
    if (!site.note.empty()) table << wrapped(site.note, 96, 4) << '\n';
  }
  return out << table.str();
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow
