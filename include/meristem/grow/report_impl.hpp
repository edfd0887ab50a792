// Definitions of report.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iomanip>
#include <sstream>

#include <meristem/grow/report.hpp>

namespace meristem::grow {

MERISTEM_INLINE std::int64_t GrowthReport::added() const {
  std::int64_t total = 0;
  for (const SiteReport& site : sites) total += site.added;
  return total;
}

MERISTEM_INLINE std::ostream& operator<<(std::ostream& out, const GrowthReport& report) {
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
