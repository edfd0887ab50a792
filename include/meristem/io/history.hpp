// Reads the JSON lines that grow::History writes.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/grow/history.hpp>

namespace meristem::io {

namespace detail {

/// The members of one line of a history.
class HistoryLine {
 public:
  HistoryLine(const std::string& source, std::int64_t line, const std::string& text);

  [[nodiscard]] std::string text(const char* key) const;
  [[nodiscard]] std::int64_t count(const char* key) const;
  [[nodiscard]] double number(const char* key) const { return as_number(find(key), key); }
  [[nodiscard]] std::vector<double> numbers(const char* key) const;

  [[noreturn]] void refuse(const std::string& why) const;

 private:
  [[nodiscard]] const nlohmann::json& find(const char* key) const;
  [[nodiscard]] double as_number(const nlohmann::json& value, const char* key) const;

  std::string source_;
  std::int64_t line_;
  nlohmann::json members_;
};

}  // namespace detail

/// The history in `lines`, every number with the bits it had (a NaN is a NaN); empty lines are skipped. `source` names
/// it in messages. Throws DataError that names the line if it is not what History writes.
[[nodiscard]] grow::History read_history(std::istream& lines, const std::string& source = "the history");

/// The history in a file. Throws IoError if it cannot be opened, DataError as above.
[[nodiscard]] grow::History load_history(const std::string& path);

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/history_impl.hpp>
#endif
