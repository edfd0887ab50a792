// Line plots as SVG, written by hand.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace plot {

struct Point {
  double x = 0.0, y = 0.0;
};

struct Line {
  std::string name;
  std::vector<Point> points;
};

/// One diagram; the x axis is logarithmic.
struct Panel {
  std::string title, x_label, y_label;
  std::vector<Line> lines;
};

inline std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else
      result += c;
  }
  return result;
}

/// Colours that stay apart; every second line is dashed.
inline std::string style_of(std::size_t index) {
  static const char* const colours[] = {"#1b6ca8", "#d1495b", "#2e933c", "#8f5d9f", "#c77b0a", "#3d8f8f", "#7a6a53"};
  std::string style = std::string("stroke=\"") + colours[index % 7] + "\"";
  if (index >= 7) style += index >= 14 ? " stroke-dasharray=\"1 3\"" : " stroke-dasharray=\"6 3\"";
  return style;
}

/// 12345 as 12k, 3.2e12 as 3.2T.
inline std::string shown(double value) {
  const char* const units[] = {"", "k", "M", "G", "T", "P"};
  int unit = 0;
  for (; value >= 1000.0 && unit < 5; value /= 1000.0) ++unit;
  std::ostringstream text;
  text << std::setprecision(value < 10.0 ? 2 : 3) << value << units[unit];
  return text.str();
}

/// The panels side by side, with one legend for all.
inline std::string svg(const std::vector<Panel>& panels) {
  constexpr double width = 460, height = 360, left = 60, right = 14, top = 34, bottom = 50, legend = 150;
  std::ostringstream out;
  out << std::fixed << std::setprecision(1);
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 "
      << width * static_cast<double>(panels.size()) + legend << ' ' << height
      << "\" font-family=\"sans-serif\" font-size=\"12\">\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  for (std::size_t p = 0; p < panels.size(); ++p) {
    const Panel& panel = panels[p];
    double least_x = std::numeric_limits<double>::infinity(), most_x = 0.0, least_y = least_x, most_y = -least_x;
    for (const Line& line : panel.lines) {
      for (const Point& point : line.points) {
        least_x = std::min(least_x, point.x);
        most_x = std::max(most_x, point.x);
        least_y = std::min(least_y, point.y);
        most_y = std::max(most_y, point.y);
      }
    }
    if (!(most_x > 0.0)) continue;
    least_x /= 1.05;
    most_x *= 1.05;
    const double margin = std::max(0.05 * (most_y - least_y), 1e-6);
    least_y -= margin;
    most_y += margin;
    const double x0 = static_cast<double>(p) * width + left, x1 = static_cast<double>(p + 1) * width - right;
    const double y0 = height - bottom, y1 = top;
    const auto at_x = [&](double x) { return x0 + (x1 - x0) * std::log(x / least_x) / std::log(most_x / least_x); };
    const auto at_y = [&](double y) { return y0 + (y1 - y0) * (y - least_y) / (most_y - least_y); };
    out << "<text x=\"" << (x0 + x1) / 2 << "\" y=\"18\" text-anchor=\"middle\" font-weight=\"bold\">"
        << escaped(panel.title) << "</text>\n<text x=\"" << (x0 + x1) / 2 << "\" y=\"" << height - 10
        << "\" text-anchor=\"middle\">" << escaped(panel.x_label) << "</text>\n<text transform=\"translate(" << x0 - 44
        << ' ' << (y0 + y1) / 2 << ") rotate(-90)\" text-anchor=\"middle\">" << escaped(panel.y_label)
        << "</text>\n<path d=\"M" << x0 << ' ' << y1 << 'V' << y0 << 'H' << x1
        << "\" fill=\"none\" stroke=\"#333\"/>\n";
    for (int i = 0; i <= 4; ++i) {
      const double x = least_x * std::pow(most_x / least_x, i / 4.0), y = least_y + (most_y - least_y) * i / 4.0;
      out << "<text x=\"" << at_x(x) << "\" y=\"" << y0 + 18 << "\" text-anchor=\"middle\">" << shown(x)
          << "</text>\n<text x=\"" << x0 - 6 << "\" y=\"" << at_y(y) + 4 << "\" text-anchor=\"end\">" << y
          << "</text>\n<path d=\"M" << x0 << ' ' << at_y(y) << 'H' << x1 << "\" stroke=\"#e4e4e4\"/>\n";
    }
    for (std::size_t i = 0; i < panel.lines.size(); ++i) {
      out << "<path fill=\"none\" stroke-width=\"1.8\" " << style_of(i) << " d=\"";
      for (std::size_t k = 0; k < panel.lines[i].points.size(); ++k) {
        const Point& point = panel.lines[i].points[k];
        out << (k == 0 ? 'M' : 'L') << at_x(point.x) << ' ' << at_y(point.y);
      }
      out << "\"/>\n";
      const Point& last = panel.lines[i].points.back();
      out << "<circle r=\"3\" fill=\"white\" " << style_of(i) << " cx=\"" << at_x(last.x) << "\" cy=\"" << at_y(last.y)
          << "\"/>\n";
    }
  }
  const double x = width * static_cast<double>(panels.size()) + 8;
  for (std::size_t i = 0; !panels.empty() && i < panels.front().lines.size(); ++i) {
    const double y = top + 18.0 * static_cast<double>(i);
    out << "<path stroke-width=\"1.8\" " << style_of(i) << " d=\"M" << x << ' ' << y << "h26\"/>\n<text x=\"" << x + 32
        << "\" y=\"" << y + 4 << "\">" << escaped(panels.front().lines[i].name) << "</text>\n";
  }
  out << "</svg>\n";
  return out.str();
}

}  // namespace plot
