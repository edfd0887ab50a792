// The figure of the comparison as SVG, written by hand: lines in panels, and below them every line's last values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iomanip>
#include <limits>
#include <numeric>
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

/// What a line ended with, once for each repetition.
struct Ending {
  std::string name;
  std::vector<double> values;
};

struct Spread {
  double mean = 0.0, deviation = 0.0;
  explicit Spread(const std::vector<double>& values) {
    for (const double v : values) mean += v / static_cast<double>(values.size());
    for (const double v : values) deviation += (v - mean) * (v - mean);
    deviation = values.size() > 1 ? std::sqrt(deviation / static_cast<double>(values.size() - 1)) : 0.0;
  }
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

inline std::string number(double value) {
  std::ostringstream text;
  text << std::setprecision(6) << value;
  return text.str();
}

/// 12000 as 12k, 3.2e12 as 3.2T.
inline std::string shown(double value) {
  const char* const units[] = {"", "k", "M", "G", "T", "P"};
  int unit = 0;
  for (; value >= 999.5 && unit < 5; value /= 1000.0) ++unit;
  std::ostringstream text;
  text << std::setprecision(3) << value << units[unit];
  return text.str();
}

/// From one round number to another, with round numbers between.
struct Axis {
  double least = 0.0, most = 1.0;
  std::vector<double> ticks;
};

inline Axis linear_axis(double least, double most, int about) {
  if (!(most > least)) most = least + 1.0;
  const double rough = (most - least) / about, power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10.0 * power;
  for (const double round : {5.0, 2.0, 1.0}) {
    if (round * power >= rough) step = round * power;
  }
  Axis axis{std::floor(least / step) * step, std::ceil(most / step) * step, {}};
  for (int i = 0; axis.least + i * step <= axis.most + step / 2; ++i) axis.ticks.push_back(axis.least + i * step);
  return axis;
}

/// Logarithmic, with room at both ends.
inline Axis log_axis(double least, double most) {
  if (!(most > least)) most = 2.0 * least;
  const double room = std::pow(most / least, 0.04);
  Axis axis{least / room, most * room, {}};
  for (const std::vector<double>& digits :
       {std::vector<double>{1}, {1, 3}, {1, 2, 5}, {1, 2, 3, 5, 7}, {1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9}}) {
    axis.ticks.clear();
    for (double power = std::pow(10.0, std::floor(std::log10(axis.least))); power <= axis.most; power *= 10.0) {
      for (const double digit : digits) {
        if (digit * power >= axis.least && digit * power <= axis.most) axis.ticks.push_back(digit * power);
      }
    }
    if (axis.ticks.size() >= 4) break;
  }
  return axis;
}

/// Colour, dash and marker of a line: no two of the first 35 agree in all, the first two (of nine colours) stand apart.
struct Style {
  std::string colour, dash;
  std::size_t marker = 0;

  explicit Style(std::size_t index) : marker(index % 5) {
    static const char* const colours[] = {"#222222", "#7d7d7d", "#0063a8", "#c8500a", "#0a7d55",
                                          "#b03a86", "#8a6a00", "#5a3fb0", "#0d8a9e"};
    static const char* const dashes[] = {"", "7 3", "2 3", "9 3 2 3", "1 2"};
    colour = colours[index < 2 ? index : 2 + (index - 2) % 7];
    dash = dashes[index < 2 ? 0 : (index - 2) / 7 % 5];
  }

  [[nodiscard]] std::string stroke() const {
    return "stroke=\"" + colour + '"' + (dash.empty() ? std::string() : " stroke-dasharray=\"" + dash + '"');
  }
};

/// A circle, square, triangle, diamond or cross of about `r` around a point.
inline void draw_marker(std::ostream& out, const Style& style, double x, double y, double r = 4.5) {
  out << "<path fill=\"" << (style.marker == 4 ? "none" : "white") << "\" stroke=\"" << style.colour
      << "\" stroke-width=\"1.8\" d=\"M";
  switch (style.marker) {
    case 0:
      out << x - r << ' ' << y << 'a' << r << ' ' << r << " 0 1 0 " << 2 * r << " 0a" << r << ' ' << r << " 0 1 0 "
          << -2 * r << " 0z";
      break;
    case 1:
      out << x - r * 0.85 << ' ' << y - r * 0.85 << 'h' << 1.7 * r << 'v' << 1.7 * r << 'h' << -1.7 * r << 'z';
      break;
    case 2:
      out << x << ' ' << y - 1.1 * r << 'l' << 1.1 * r << ' ' << 2 * r << 'h' << -2.2 * r << 'z';
      break;
    case 3:
      out << x << ' ' << y - 1.25 * r << 'l' << 1.25 * r << ' ' << 1.25 * r << 'l' << -1.25 * r << ' ' << 1.25 * r
          << 'l' << -1.25 * r << ' ' << -1.25 * r << 'z';
      break;
    default:
      out << x - 0.85 * r << ' ' << y - 0.85 * r << 'l' << 1.7 * r << ' ' << 1.7 * r << 'M' << x - 0.85 * r << ' '
          << y + 0.85 * r << 'l' << 1.7 * r << ' ' << -1.7 * r;
  }
  out << "\"/>\n";
}

/// Heights of labels near where they are wanted, in their order, at least `gap` apart, between `top` and `bottom` if
/// there is room.
inline std::vector<double> apart(const std::vector<double>& wanted, double gap, double top, double bottom) {
  std::vector<std::size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return wanted[a] < wanted[b]; });
  std::vector<double> result(wanted);
  for (std::size_t k = 0; k < order.size(); ++k) {
    result[order[k]] = std::max(wanted[order[k]], k == 0 ? top : result[order[k - 1]] + gap);
  }
  double limit = bottom;
  for (std::size_t k = order.size(); k-- > 0; limit -= gap) {
    result[order[k]] = std::min(result[order[k]], limit);
    limit = result[order[k]];
  }
  return result;
}

/// Room for the longest of the names: letters are seven wide on average.
template <class Named>
double room_for_names(const std::vector<Named>& all) {
  std::size_t longest = 11;
  for (const Named& one : all) longest = std::max(longest, one.name.size());
  return 7.0 * static_cast<double>(longest) + 55.0;
}

/// With the lines' names at the right.
inline void draw_panel(std::ostream& out, const Panel& panel, double left, double top, double width, double height) {
  const double names = room_for_names(panel.lines);
  double least_x = std::numeric_limits<double>::infinity(), most_x = 0.0, least_y = least_x, most_y = -least_x;
  for (const Line& line : panel.lines) {
    for (const Point& point : line.points) {
      least_x = std::min(least_x, point.x);
      most_x = std::max(most_x, point.x);
      least_y = std::min(least_y, point.y);
      most_y = std::max(most_y, point.y);
    }
  }
  if (!(most_x > 0.0 && least_x > 0.0)) return;
  const Axis across = log_axis(least_x, most_x), up = linear_axis(least_y, most_y, 8);
  const double x0 = left + 56, x1 = left + width - names, y0 = top + height - 50, y1 = top + 30;
  const auto at_x = [&](double x) {
    return x0 + (x1 - x0) * std::log(x / across.least) / std::log(across.most / across.least);
  };
  const auto at_y = [&](double y) { return y0 + (y1 - y0) * (y - up.least) / (up.most - up.least); };
  const auto text = [&](double x, double y, const std::string& words, const char* more) {
    out << "<text x=\"" << x << "\" y=\"" << y << "\" " << more << '>' << escaped(words) << "</text>\n";
  };
  text((x0 + x1) / 2, top + 14, panel.title, "text-anchor=\"middle\" font-weight=\"bold\"");
  text((x0 + x1) / 2, top + height - 10, panel.x_label, "text-anchor=\"middle\"");
  out << "<text transform=\"translate(" << left + 14 << ' ' << (y0 + y1) / 2
      << ") rotate(-90)\" text-anchor=\"middle\">" << escaped(panel.y_label) << "</text>\n";
  for (const double x : across.ticks) {
    out << "<path d=\"M" << at_x(x) << ' ' << y0 << 'V' << y1 << "\" stroke=\"#e6e6e6\"/>\n";
    text(at_x(x), y0 + 18, shown(x), "text-anchor=\"middle\"");
  }
  for (const double y : up.ticks) {
    out << "<path d=\"M" << x0 << ' ' << at_y(y) << 'H' << x1 << "\" stroke=\"#e6e6e6\"/>\n";
    text(x0 - 7, at_y(y) + 4, number(y), "text-anchor=\"end\"");
  }
  out << "<path d=\"M" << x0 << ' ' << y1 << 'V' << y0 << 'H' << x1 << "\" fill=\"none\" stroke=\"#333\"/>\n";
  std::vector<double> wanted;
  for (std::size_t i = 0; i < panel.lines.size(); ++i) {
    out << "<path fill=\"none\" stroke-width=\"1.7\" stroke-linejoin=\"round\" " << Style(i).stroke() << " d=\"";
    for (std::size_t k = 0; k < panel.lines[i].points.size(); ++k) {
      const Point& point = panel.lines[i].points[k];
      out << (k == 0 ? 'M' : 'L') << at_x(point.x) << ' ' << at_y(point.y);
    }
    out << "\"/>\n";
    wanted.push_back(at_y(panel.lines[i].points.back().y));
  }
  const std::vector<double> heights = apart(wanted, 15.0, y1, y0 + 8);
  for (std::size_t i = 0; i < panel.lines.size(); ++i) {
    const Style style(i);
    const double x = at_x(panel.lines[i].points.back().x);
    out << "<path fill=\"none\" stroke-width=\"0.8\" stroke-opacity=\"0.6\" stroke=\"" << style.colour << "\" d=\"M"
        << x + 5 << ' ' << wanted[i] << 'L' << x1 + 8 << ' ' << wanted[i] << 'L' << x1 + 20 << ' ' << heights[i]
        << "\"/>\n";
    draw_marker(out, style, x, wanted[i]);
    out << "<text font-size=\"12\" x=\"" << x1 + 22 << "\" y=\"" << heights[i] + 4 << "\" fill=\"" << style.colour
        << "\">" << escaped(panel.lines[i].name) << "</text>\n";
  }
}

/// One row for each line, the best first: its look, its name, its values (dots), their mean and deviation.
inline void draw_endings(std::ostream& out, const std::string& title, const std::string& label,
                         const std::vector<Ending>& endings, double top, double width, double row) {
  std::vector<std::size_t> order(endings.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  double least = std::numeric_limits<double>::infinity(), most = -least;
  for (const Ending& ending : endings) {
    const Spread spread(ending.values);
    least = std::min(
        {least, spread.mean - spread.deviation, *std::min_element(ending.values.begin(), ending.values.end())});
    most =
        std::max({most, spread.mean + spread.deviation, *std::max_element(ending.values.begin(), ending.values.end())});
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return Spread(endings[a].values).mean > Spread(endings[b].values).mean;
  });
  const Axis across = linear_axis(least, most, 9);
  const double x0 = room_for_names(endings) + 20, x1 = width - 112, y1 = top + 26,
               y0 = y1 + row * static_cast<double>(endings.size());
  const auto at_x = [&](double x) { return x0 + (x1 - x0) * (x - across.least) / (across.most - across.least); };
  out << "<text x=\"" << (x0 + x1) / 2 << "\" y=\"" << top + 12 << "\" text-anchor=\"middle\" font-weight=\"bold\">"
      << escaped(title) << "</text>\n";
  for (const double x : across.ticks) {
    out << "<path d=\"M" << at_x(x) << ' ' << y0 << 'V' << y1 << "\" stroke=\"#e6e6e6\"/>\n<text x=\"" << at_x(x)
        << "\" y=\"" << y0 + 18 << "\" text-anchor=\"middle\">" << number(x) << "</text>\n";
  }
  out << "<path d=\"M" << x0 << ' ' << y0 << 'H' << x1 << "\" stroke=\"#333\"/>\n<text x=\"" << (x0 + x1) / 2
      << "\" y=\"" << y0 + 38 << "\" text-anchor=\"middle\">" << escaped(label) << "</text>\n";
  for (std::size_t k = 0; k < order.size(); ++k) {
    const std::size_t i = order[k];
    const Style style(i);
    const Spread spread(endings[i].values);
    const double y = y1 + row * (static_cast<double>(k) + 0.5);
    out << "<path stroke-width=\"1.8\" fill=\"none\" " << style.stroke() << " d=\"M18 " << y << "h40\"/>\n";
    draw_marker(out, style, 38, y);
    out << "<text x=\"66\" y=\"" << y + 4 << "\">" << escaped(endings[i].name) << "</text>\n<path stroke=\""
        << style.colour << "\" stroke-width=\"1.6\" fill=\"none\" d=\"M" << at_x(spread.mean - spread.deviation) << ' '
        << y - 4 << "v8M" << at_x(spread.mean + spread.deviation) << ' ' << y - 4 << "v8M"
        << at_x(spread.mean - spread.deviation) << ' ' << y << 'H' << at_x(spread.mean + spread.deviation) << "\"/>\n";
    for (const double value : endings[i].values) {
      out << "<circle r=\"3\" stroke=\"white\" fill=\"" << style.colour << "\" cx=\"" << at_x(value) << "\" cy=\"" << y
          << "\"/>\n";
    }
    draw_marker(out, style, at_x(spread.mean), y);
    std::ostringstream both;
    both << std::fixed << std::setprecision(1) << spread.mean << " ± " << spread.deviation;
    out << "<text x=\"" << width - 14 << "\" y=\"" << y + 4 << "\" text-anchor=\"end\">" << both.str() << "</text>\n";
  }
}

/// Two panels side by side and the endings of their lines, which they must have in the same order, below.
inline std::string svg(const Panel& left, const Panel& right, const std::string& title, const std::string& label,
                       const std::vector<Ending>& endings) {
  constexpr double height = 410, row = 22;
  const double width = 836 + 2 * room_for_names(left.lines);
  std::ostringstream out;
  out << std::fixed << std::setprecision(1);
  const double total = height + 26 + row * static_cast<double>(endings.size()) + 54;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << width << ' ' << total
      << "\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#222\">\n<title>"
      << escaped(left.title + "; " + right.title + "; " + title)
      << "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  draw_panel(out, left, 4, 8, width / 2 - 4, height - 16);
  draw_panel(out, right, width / 2 + 4, 8, width / 2 - 4, height - 16);
  if (!endings.empty()) draw_endings(out, title, label, endings, height + 6, width, row);
  out << "</svg>\n";
  return out.str();
}

}  // namespace plot
