// Definitions of history.hpp.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <fstream>
#include <meristem/io/history.hpp>

namespace meristem::io::detail {

/// The members of one line of a history.
class HistoryLine {
 public:
  HistoryLine(const std::string& source, std::int64_t line, const std::string& text);

  [[nodiscard]] bool has(const char* key) const { return members_.contains(key); }
  [[nodiscard]] std::string text(const char* key) const;
  [[nodiscard]] std::int64_t count(const char* key) const;
  [[nodiscard]] double number(const char* key) const { return as_number(find(key), key); }
  [[nodiscard]] std::vector<double> numbers(const char* key) const;

  void read(const char* key, std::string& member) const { member = text(key); }
  void read(const char* key, std::int64_t& member) const { member = count(key); }
  void read(const char* key, int& member) const { member = static_cast<int>(count(key)); }
  void read(const char* key, double& member) const { member = number(key); }
  void read(const char* key, std::vector<double>& member) const { member = numbers(key); }

  [[noreturn]] void refuse(const std::string& why) const;

 private:
  [[nodiscard]] const nlohmann::json& find(const char* key) const;
  [[nodiscard]] double as_number(const nlohmann::json& value, const char* key) const;

  std::string source_;
  std::int64_t line_;
  nlohmann::json members_;
};

MERISTEM_INLINE HistoryLine::HistoryLine(const std::string& source, std::int64_t line, const std::string& text)
    : source_(source), line_(line) {
  members_ = nlohmann::json::parse(text, nullptr, false);
  if (!members_.is_object()) refuse("is no JSON object");
}

MERISTEM_INLINE std::string HistoryLine::text(const char* key) const {
  const nlohmann::json& member = find(key);
  if (!member.is_string()) refuse(concat("has no text at '", key, "'"));
  return member.get<std::string>();
}

MERISTEM_INLINE std::int64_t HistoryLine::count(const char* key) const {
  const nlohmann::json& member = find(key);
  // Unsigned numbers beyond that would become negative.
  if (!member.is_number_integer() ||
      (member.is_number_unsigned() && member.get<std::uint64_t>() > std::uint64_t{INT64_MAX})) {
    refuse(concat("has no whole number at '", key, "'"));
  }
  return member.get<std::int64_t>();
}

MERISTEM_INLINE std::vector<double> HistoryLine::numbers(const char* key) const {
  const nlohmann::json& member = find(key);
  if (!member.is_array()) refuse(concat("has no list of numbers at '", key, "'"));
  std::vector<double> result;
  for (const nlohmann::json& value : member) result.push_back(as_number(value, key));
  return result;
}

MERISTEM_INLINE void HistoryLine::refuse(const std::string& why) const {
  throw DataError(
      concat("history: ", source_, ", line ", line_, " ", why, "; give a file that grow::History has written, whole"));
}

MERISTEM_INLINE const nlohmann::json& HistoryLine::find(const char* key) const {
  const auto found = members_.find(key);
  if (found == members_.end()) refuse(concat("lacks '", key, "'"));
  return *found;
}

MERISTEM_INLINE double HistoryLine::as_number(const nlohmann::json& value, const char* key) const {
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (value.is_number()) return value.get<double>();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  refuse(concat("has no number at '", key, "'"));
}

}  // namespace meristem::io::detail

namespace meristem::io {

MERISTEM_INLINE grow::History read_history(std::istream& lines, const std::string& source) {
  grow::History history;
  std::int64_t line_number = 0, missing = 0;
  std::string text;
  while (std::getline(lines, text)) {
    ++line_number;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const detail::HistoryLine line(source, line_number, text);
    const std::int64_t growth = line.count("growth");
    if (missing == 0) {
      if (growth != std::ssize(history.steps)) {
        line.refuse(concat("belongs to growth step ", growth, ", but step ", history.steps.size(), " is next"));
      }
      missing = line.count("sites");
      if (missing < 0 || (missing == 0 && line.has("site"))) {
        line.refuse(concat("says that its growth step has ", missing, " sites"));
      }
      grow::GrowthReport report;
      report.method = line.text("method");
      report.where = line.text("where");
      report.parameters = line.count("all_parameters");
      report.operations = line.number("operations");
      report.seconds = line.number("all_seconds");
      history.add(line.count("epoch"), line.count("step"), std::move(report));
      if (missing == 0) continue;
    } else if (growth + 1 != std::ssize(history.steps)) {
      line.refuse(concat("belongs to growth step ", growth, ", but step ", history.steps.size() - 1, " lacks ", missing,
                         missing == 1 ? " site" : " sites"));
    }
    --missing;
    grow::SiteReport site;
    // Histories of version 0.1 before depth growth lack these.
    const std::set<std::string_view> added_later{"stream", "block", "new_parameters", "new_multiply_adds"};
    grow::detail::for_each_member(site, [&](const char* key, auto& member) {
      if (line.has("block") || !added_later.contains(key)) line.read(key, member);
    });
    history.steps.back().sites.push_back(std::move(site));
  }
  if (missing > 0) {
    throw DataError(concat("history: ", source, " ends after line ", line_number, ", and growth step ",
                           history.steps.size() - 1, " lacks ", missing, missing == 1 ? " site" : " sites",
                           "; give the whole file"));
  }
  return history;
}

MERISTEM_INLINE grow::History load_history(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw IoError(concat("history: cannot open ", path));
  return read_history(file, path);
}

}  // namespace meristem::io
