// Charts as inline SVG. Colours are the page's custom properties, so that they follow light and dark.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace cifar10::charts {

std::string escaped(const std::string& text);

/// A number with few digits.
std::string number(double value, int digits = 3);

std::string point(double value);

/// The colour of line or layer `index`; there are eight.
inline std::string colour(std::size_t index) { return "var(--c" + std::to_string(index % 8) + ")"; }

struct Series {
  std::string name;
  std::size_t colour = 0;
  std::vector<std::pair<double, double>> points;
  bool steps = false;  ///< horizontal until the next point
};

struct LineChart {
  std::string label;  ///< for screen readers
  std::string x_label, y_label, unit;
  std::vector<Series> series;
  std::vector<double> marks;  ///< vertical lines: growth steps
  double x_from = 0.0, x_to = 1.0;
  bool from_zero = true;
};

std::string legend(const std::vector<Series>& series);

std::string line_chart(const LineChart& chart);

/// Singular values in descending order on a logarithmic scale, with the threshold as a line; those above it are filled.
std::string spectrum(const std::string& name, const std::vector<double>& lambda, double threshold, std::size_t kept);

}  // namespace cifar10::charts
