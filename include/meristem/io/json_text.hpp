// JSON text from files, which may hold anything: errors say where, and nothing is dropped silently.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/text.hpp>

namespace meristem::io {

using Json = nlohmann::json;

namespace detail {

/// Builds a value from the parser's events. Unlike nlohmann's own, it refuses a key that an object has already, and
/// nesting without end.
class JsonBuilder {
 public:
  static constexpr std::size_t max_depth = 200;

  [[nodiscard]] Json take() { return std::move(root_); }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

  // The names of these functions are nlohmann's.
  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(std::int64_t value) { return put(value); }
  bool number_unsigned(std::uint64_t value) { return put(value); }
  bool number_float(double value, const std::string&) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t&) { return refuse("has binary values"); }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool key(std::string& name);
  bool end_object() { return close(); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_array() { return close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error);

 private:
  bool refuse(std::string problem);

  Json* add(Json value);

  bool put(Json value);

  bool open(Json container);

  bool close();

  Json root_;
  // An element is added to a container only while that is the innermost open one, so the pointers stay good.
  std::vector<Json*> open_;
  std::vector<std::set<std::string>> keys_;
  std::vector<std::string> names_;
  std::string problem_;
};

}  // namespace detail

/// The value of a JSON text. Throws DataError, which starts with `source`, for text that is no JSON, objects with the
/// same name twice, and more than 200 levels.
[[nodiscard]] Json parse_json(std::string_view text, const std::string& source);

/// The value as text on one line. Throws ArgumentError, which starts with `source`, for strings that are not UTF-8.
[[nodiscard]] std::string json_text(const Json& value, const std::string& source);

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/json_text_impl.hpp>
#endif
