// Definitions of history.hpp.
#pragma once

#include <cmath>
#include <fstream>
#include <string_view>

#include <charconv>
#include <meristem/grow/history.hpp>

namespace meristem::grow::detail {

/// Writes the members of one JSON object on one line.
class JsonLine {
 public:
  void add(std::string_view key, std::string_view text);
  void add(std::string_view key, std::int64_t number);
  void add(std::string_view key, int number) { add(key, std::int64_t{number}); }
  void add(std::string_view key, double number);
  void add(std::string_view key, const std::vector<double>& numbers);
  [[nodiscard]] std::string finished() const { return text_ + '}'; }

  /// The shortest decimal number that reads back as the same bits; NaN as null, infinities as strings.
  [[nodiscard]] static std::string written(double number);

  [[nodiscard]] static std::string quoted(std::string_view text);

 private:
  void start(std::string_view key);

  std::string text_;
};

MERISTEM_INLINE void JsonLine::add(std::string_view key, std::string_view text) {
  start(key);
  text_ += quoted(text);
}

MERISTEM_INLINE void JsonLine::add(std::string_view key, std::int64_t number) {
  start(key);
  text_ += std::to_string(number);
}

MERISTEM_INLINE void JsonLine::add(std::string_view key, double number) {
  start(key);
  text_ += written(number);
}

MERISTEM_INLINE void JsonLine::add(std::string_view key, const std::vector<double>& numbers) {
  start(key);
  text_ += '[';
  for (std::size_t i = 0; i < numbers.size(); ++i) text_ += (i == 0 ? "" : ",") + written(numbers[i]);
  text_ += ']';
}

MERISTEM_INLINE std::string JsonLine::written(double number) {
  if (std::isnan(number)) return "null";
  if (std::isinf(number)) return number > 0.0 ? "\"inf\"" : "\"-inf\"";
  char digits[40];
  const std::to_chars_result end = std::to_chars(digits, digits + sizeof(digits), number);
  // Without a point, readers take it for a whole number, which has no sign at 0.
  return number == 0.0 && std::signbit(number) ? "-0.0" : std::string(digits, end.ptr);
}

MERISTEM_INLINE std::string JsonLine::quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (code < 0x20) {
      constexpr char hex[] = "0123456789abcdef";
      result += "\\u00";
      result += hex[code / 16];
      result += hex[code % 16];
    } else {
      result += c;
    }
  }
  return result + '"';
}

MERISTEM_INLINE void JsonLine::start(std::string_view key) {
  text_ += text_.empty() ? "{" : ",";
  text_ += quoted(key) + ':';
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

MERISTEM_INLINE void History::write_json_lines(std::ostream& out) const {
  for (std::size_t i = 0; i < steps.size(); ++i) out << json_lines(i);
}

MERISTEM_INLINE std::string History::json_lines(std::size_t index) const {
  if (index >= steps.size()) {
    throw ArgumentError(concat("history: there is no growth step ", index, " among ", steps.size()));
  }
  const GrowthReport& step = steps[index];
  const auto start = [&] {
    detail::JsonLine line;
    line.add("growth", static_cast<std::int64_t>(index));
    line.add("epoch", step.epoch);
    line.add("step", step.step);
    line.add("method", step.method);
    line.add("where", step.where);
    line.add("sites", static_cast<std::int64_t>(step.sites.size()));
    line.add("operations", step.operations);
    line.add("all_seconds", step.seconds);
    line.add("all_parameters", step.parameters);
    return line;
  };
  if (step.sites.empty()) return start().finished() + '\n';
  std::string lines;
  for (const SiteReport& site : step.sites) {
    detail::JsonLine line = start();
    detail::for_each_member(site, [&](const char* key, const auto& member) { line.add(key, member); });
    lines += line.finished() + '\n';
  }
  return lines;
}

MERISTEM_INLINE void History::save(const std::string& path) const {
  std::ofstream file(path);
  if (!file) throw IoError(concat("history: cannot open ", path, " for writing"));
  write_json_lines(file);
  file.flush();
  if (!file) throw IoError(concat("history: writing ", path, " failed; the disk may be full"));
}

}  // namespace meristem::grow
