// Tables of numbers from CSV files, read by libcsv (Debian: libcsv-dev). With CMake, link meristem::csv.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <csv.h>

#include <meristem/core/error.hpp>
#include <meristem/core/text.hpp>
#include <meristem/data/sample_set.hpp>
#include <meristem/io/file.hpp>

namespace meristem::io {

/// Which columns of a table mean what; those that nobody names are inputs.
struct CsvOptions {
  std::vector<std::string> targets = {};  ///< columns of numbers to be predicted, in this order
  std::string label = {};                 ///< the column of class numbers 0, 1, ..., if there is one
  std::vector<std::string> ignored = {};
  char delimiter = ',';
};

namespace detail {

/// The fields of a CSV file, row by row.
class CsvRows {
 public:
  /// Throws DataError for what is no CSV.
  CsvRows(const std::vector<std::byte>& bytes, char delimiter, const std::string& source) {
    csv_parser parser;
    if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI) != 0) throw IoError(concat(source, ": libcsv does not start"));
    struct Freed {
      csv_parser* parser;
      ~Freed() { csv_free(parser); }
    } const freed{&parser};
    csv_set_delim(&parser, static_cast<unsigned char>(delimiter));
    const auto failed = [&] {
      throw DataError(concat(source, ": row ", rows_.size() + 1, ": ", csv_strerror(csv_error(&parser)),
                             "; quotes must enclose a whole field, and be doubled inside"));
    };
    if (csv_parse(&parser, bytes.data(), bytes.size(), field, row, this) != bytes.size()) failed();
    if (csv_fini(&parser, field, row, this) != 0) failed();
  }

  [[nodiscard]] const std::vector<std::vector<std::string>>& rows() const noexcept { return rows_; }

 private:
  static void field(void* text, std::size_t size, void* self) {
    static_cast<CsvRows*>(self)->current_.emplace_back(static_cast<const char*>(text), size);
  }
  static void row(int, void* self) {
    auto& rows = *static_cast<CsvRows*>(self);
    rows.rows_.push_back(std::exchange(rows.current_, {}));
  }

  std::vector<std::vector<std::string>> rows_;
  std::vector<std::string> current_;
};

[[nodiscard]] inline double csv_number(std::string_view text, const std::string& where) {
  const char* first = text.data();
  const char* const last = first + text.size();
  if (first != last && *first == '+') ++first;
  double value = 0.0;
  const auto [end, error] = std::from_chars(first, last, value);
  if (text.empty()) throw DataError(concat(where, ": the field is empty; fill it in or leave the row out"));
  if (error != std::errc() || end != last) throw DataError(concat(where, ": '", text, "' is not a number"));
  if (!std::isfinite(value)) throw DataError(concat(where, ": ", text, " is not finite"));
  return value;
}

}  // namespace detail

/// The samples of a CSV file whose first row names its columns: one sample a row, every column a number. Throws IoError
/// if it cannot be read, and DataError that names row and column: for columns that are not there or are named twice,
/// rows of another length, fields that are no finite numbers, labels that are no class numbers, and files without a
/// sample or without an input.
[[nodiscard]] inline data::SampleSet<double> read_csv(const std::string& path, const CsvOptions& options = {}) {
  const detail::CsvRows file(read_file(path), options.delimiter, path);
  if (file.rows().empty()) throw DataError(concat(path, ": the file is empty; its first row must name the columns"));
  std::vector<std::string> names = file.rows().front();
  // Spreadsheets put a byte order mark in front.
  if (names.front().starts_with("\xEF\xBB\xBF")) names.front().erase(0, 3);
  const auto column_of = [&](const std::string& name) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
    throw DataError(concat(path, ": there is no column '", name, "'; there are ", listed(names)));
  };
  enum class Role { input, target, label, ignored };
  std::vector<Role> roles(names.size(), Role::input);
  const auto set = [&](const std::string& name, Role role) {
    const std::size_t column = column_of(name);
    if (roles[column] != Role::input) throw DataError(concat(path, ": column '", name, "' is given two meanings"));
    roles[column] = role;
    return column;
  };
  std::vector<std::size_t> targets;
  for (const std::string& name : options.targets) targets.push_back(set(name, Role::target));
  if (!options.label.empty()) (void)set(options.label, Role::label);
  for (const std::string& name : options.ignored) (void)set(name, Role::ignored);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
        names.begin() + static_cast<std::ptrdiff_t>(i)) {
      throw DataError(concat(path, ": two columns are called '", names[i], "'; give them names of their own"));
    }
  }
  const std::int64_t inputs = std::count(roles.begin(), roles.end(), Role::input);
  if (inputs == 0) throw DataError(concat(path, ": no column is left as an input"));

  data::SampleSet<double> result{.inputs = {}, .input = {inputs}, .source = path};
  result.target = {std::max<std::int64_t>(std::ssize(targets), 1)};
  for (std::size_t r = 1; r < file.rows().size(); ++r) {
    const std::vector<std::string>& row = file.rows()[r];
    if (row.size() != names.size()) {
      throw DataError(concat(path, ": row ", r + 1, " has ", row.size(), " fields, the first row has ", names.size()));
    }
    const auto number = [&](std::size_t column) {
      return detail::csv_number(row[column], concat(path, ": row ", r + 1, ", column '", names[column], "'"));
    };
    for (std::size_t column = 0; column < names.size(); ++column) {
      if (roles[column] == Role::input) result.inputs.push_back(number(column));
      if (roles[column] != Role::label) continue;
      const double label = number(column);
      if (label < 0 || label > std::numeric_limits<std::int32_t>::max() || label != std::floor(label)) {
        throw DataError(concat(path, ": row ", r + 1, ", column '", names[column], "': ", row[column],
                               " is no class number; classes are 0, 1, 2, ..."));
      }
      result.labels.push_back(static_cast<std::int32_t>(label));
    }
    for (const std::size_t column : targets) result.targets.push_back(number(column));
  }
  if (result.inputs.empty()) throw DataError(concat(path, ": there is no row below the names of the columns"));
  return result;
}

}  // namespace meristem::io
