#include "charts.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>

namespace cifar10::charts {

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string number(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  std::ostringstream text;
  text << std::setprecision(digits) << value;
  std::string shown = text.str();
  // 1e-05 takes more room than 1e-5.
  if (const std::size_t e = shown.find("e-0"); e != std::string::npos) shown.erase(e + 2, 1);
  return shown;
}

std::string point(double value) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << value;
  return text.str();
}

/// A step of 1, 2 or 5 times a power of ten, so that about `count` of them make up `range`.
double nice_step(double range, int count) {
  const double rough = std::max(range, 1e-12) / count, power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power * 1.0001) return factor * power;
  }
  return 10.0 * power;
}

std::string legend(const std::vector<Series>& series) {
  std::string html = "<ul class=\"legend\">";
  for (const Series& one : series) {
    html += "<li><span style=\"background:" + colour(one.colour) + "\"></span>" + escaped(one.name) + "</li>";
  }
  return html + "</ul>";
}

std::string line_chart(const LineChart& chart) {
  constexpr double width = 480, height = 270, left = 52, right = 12, top = 14, bottom = 40;
  double low = chart.from_zero ? 0.0 : std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  for (const Series& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      if (!std::isfinite(y)) continue;
      low = std::min(low, y);
      high = std::max(high, y);
    }
  }
  if (!(high > low)) high = low + 1.0;
  if (!std::isfinite(low)) low = 0.0, high = 1.0;
  const double step = nice_step(high - low, 5);
  low = std::floor(low / step + 1e-9) * step;
  high = std::ceil(high / step - 1e-9) * step;
  const double x_range = std::max(chart.x_to - chart.x_from, 1e-9);
  const auto at_x = [&](double x) { return left + (x - chart.x_from) / x_range * (width - left - right); };
  const auto at_y = [&](double y) { return height - bottom - (y - low) / (high - low) * (height - top - bottom); };

  std::string svg = "<svg viewBox=\"0 0 480 270\" role=\"img\" aria-label=\"" + escaped(chart.label) + "\">";
  for (int i = 0; i <= static_cast<int>(std::lround((high - low) / step)); ++i) {
    const double y = low + i * step;
    svg += "<line class=\"grid\" x1=\"" + point(left) + "\" x2=\"" + point(width - right) + "\" y1=\"" +
           point(at_y(y)) + "\" y2=\"" + point(at_y(y)) + "\"/><text x=\"" + point(left - 6) + "\" y=\"" +
           point(at_y(y) + 4) + "\" text-anchor=\"end\">" + number(std::abs(y) < 1e-9 * step ? 0.0 : y, 6) + "</text>";
  }
  const double x_step = std::max(1.0, nice_step(x_range, 8));
  for (double x = std::ceil(chart.x_from / x_step) * x_step; x <= chart.x_to + 1e-9; x += x_step) {
    svg += "<text x=\"" + point(at_x(x)) + "\" y=\"" + point(height - bottom + 16) + "\" text-anchor=\"middle\">" +
           number(x, 6) + "</text>";
  }
  for (const double mark : chart.marks) {
    svg += "<line class=\"mark\" x1=\"" + point(at_x(mark)) + "\" x2=\"" + point(at_x(mark)) + "\" y1=\"" + point(top) +
           "\" y2=\"" + point(height - bottom) + "\"><title>growth after epoch " + number(mark, 6) + "</title></line>";
  }
  svg += "<text x=\"" + point((left + width - right) / 2) + "\" y=\"" + point(height - 6) +
         "\" text-anchor=\"middle\">" + escaped(chart.x_label) + "</text>";
  svg += "<text x=\"" + point(left) + "\" y=\"10\" text-anchor=\"start\" class=\"unit\">" + escaped(chart.y_label) +
         "</text>";
  for (const Series& series : chart.series) {
    std::string path, dots;
    double last_y = 0.0;
    for (const auto& [x, y] : series.points) {
      if (!std::isfinite(y)) continue;
      if (!path.empty() && series.steps) path += "L" + point(at_x(x)) + " " + point(at_y(last_y));
      path += (path.empty() ? "M" : "L") + point(at_x(x)) + " " + point(at_y(y));
      last_y = y;
      if (series.steps && series.points.size() > 40) continue;
      dots += "<circle cx=\"" + point(at_x(x)) + "\" cy=\"" + point(at_y(y)) + "\" r=\"" +
              (series.points.size() > 40 ? "1.5" : "3") + "\" fill=\"" + colour(series.colour) + "\"><title>" +
              escaped(series.name) + ", " + escaped(chart.x_label) + " " + number(x, 6) + ": " + number(y, 4) +
              escaped(chart.unit) + "</title></circle>";
    }
    svg += "<path class=\"line\" d=\"" + path + "\" stroke=\"" + colour(series.colour) + "\"/>" + dots;
  }
  return svg + "</svg>" + (chart.series.size() > 1 ? legend(chart.series) : "");
}

std::string spectrum(const std::string& name, const std::vector<double>& lambda, double threshold, std::size_t kept) {
  constexpr double width = 240, height = 150, left = 52, right = 8, top = 8, bottom = 22;
  constexpr std::size_t most = 64;
  const std::size_t shown = std::min(lambda.size(), most);
  double high = threshold > 0.0 ? threshold : 0.0, low = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < shown; ++i) high = std::max(high, lambda[i]);
  if (!(high > 0.0)) return "";
  // Four decades say enough; what is below lies on the floor.
  for (std::size_t i = 0; i < shown; ++i) {
    if (lambda[i] > 1e-4 * high) low = std::min(low, lambda[i]);
  }
  if (threshold > 1e-4 * high) low = std::min(low, threshold);
  if (!std::isfinite(low)) low = high / 10;
  const double log_low = std::log10(low) - 0.1, log_high = std::log10(high) + 0.1;
  const auto at_y = [&](double y) {
    const double share = (std::log10(std::max(y, low)) - log_low) / (log_high - log_low);
    return height - bottom - share * (height - top - bottom);
  };
  const double pitch = (width - left - right) / static_cast<double>(std::max<std::size_t>(shown, 4));
  std::string svg = "<svg viewBox=\"0 0 240 150\" role=\"img\" aria-label=\"spectrum of " + escaped(name) + "\">";
  svg += "<line class=\"axis\" x1=\"52\" x2=\"232\" y1=\"128\" y2=\"128\"/>";
  for (const double tick : {high, low}) {
    svg += "<text x=\"48\" y=\"" + point(at_y(tick) + 4) + "\" text-anchor=\"end\">" + number(tick, 2) + "</text>";
    if (high < 1.3 * low) break;
  }
  for (std::size_t i = 0; i < shown; ++i) {
    const double x = left + pitch * (static_cast<double>(i) + 0.5), y = at_y(lambda[i]);
    svg += "<line class=\"stem\" x1=\"" + point(x) + "\" x2=\"" + point(x) + "\" y1=\"128\" y2=\"" + point(y) +
           "\"/><circle class=\"" + (i < kept ? "kept" : "left-out") + "\" cx=\"" + point(x) + "\" cy=\"" + point(y) +
           "\" r=\"" + (shown > 24 ? "2" : "3.2") + "\"><title>λ" + std::to_string(i + 1) + " = " + number(lambda[i]) +
           "</title></circle>";
  }
  if (threshold > 0.0) {
    svg += "<line class=\"threshold\" x1=\"52\" x2=\"232\" y1=\"" + point(at_y(threshold)) + "\" y2=\"" +
           point(at_y(threshold)) + "\"><title>threshold " + number(threshold) + "</title></line>";
  }
  const std::string note = shown < lambda.size() ? "first " + std::to_string(shown) + " of " : "";
  svg += "<text x=\"142\" y=\"145\" text-anchor=\"middle\">" + note + std::to_string(lambda.size()) +
         (shown < lambda.size() ? " values"
          : lambda.size() == 1  ? " singular value"
                                : " singular values") +
         "</text>";
  return svg + "</svg>";
}

}  // namespace cifar10::charts
