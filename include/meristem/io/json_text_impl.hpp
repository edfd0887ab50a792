// Definitions of json_text.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include <meristem/io/json_text.hpp>

namespace meristem::io::detail {

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

MERISTEM_INLINE bool JsonBuilder::key(std::string& name) {
  if (!keys_.back().insert(name).second) return refuse(concat("has the name \"", name, "\" twice in one object"));
  names_.back() = name;
  return true;
}

MERISTEM_INLINE bool JsonBuilder::parse_error(std::size_t position, const std::string&,
                                              const nlohmann::detail::exception& error) {
  // It quotes what was read, which may be anything.
  const std::string text = to_utf8(error.what());
  // nlohmann's messages start with a code in brackets.
  const std::size_t end = text.find("] ");
  return refuse(
      concat("is no JSON at byte ", position, " (", end == std::string::npos ? text : text.substr(end + 2), ")"));
}

MERISTEM_INLINE bool JsonBuilder::refuse(std::string problem) {
  problem_ = std::move(problem);
  return false;
}

MERISTEM_INLINE Json* JsonBuilder::add(Json value) {
  if (open_.empty()) {
    root_ = std::move(value);
    return &root_;
  }
  Json& parent = *open_.back();
  if (parent.is_array()) {
    parent.push_back(std::move(value));
    return &parent.back();
  }
  return &(parent[names_.back()] = std::move(value));
}

MERISTEM_INLINE bool JsonBuilder::put(Json value) {
  add(std::move(value));
  return true;
}

MERISTEM_INLINE bool JsonBuilder::open(Json container) {
  if (open_.size() == max_depth) return refuse(concat("is nested more than ", max_depth, " deep"));
  open_.push_back(add(std::move(container)));
  keys_.emplace_back();
  names_.emplace_back();
  return true;
}

MERISTEM_INLINE bool JsonBuilder::close() {
  open_.pop_back();
  keys_.pop_back();
  names_.pop_back();
  return true;
}

}  // namespace meristem::io::detail

namespace meristem::io {

MERISTEM_INLINE Json parse_json(std::string_view text, const std::string& source) {
  // nlohmann's parser takes a zero byte for the end of the text.
  const std::size_t zero = text.find('\0');
  if (zero != std::string_view::npos)
    throw DataError(concat(source, ": is no JSON at byte ", zero + 1, " (a zero byte)"));
  detail::JsonBuilder builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) throw DataError(concat(source, ": ", builder.problem()));
  return builder.take();
}

MERISTEM_INLINE std::string json_text(const Json& value, const std::string& source) {
  try {
    return value.dump();
  } catch (const Json::exception&) {
    throw ArgumentError(concat(source, ": a string in it is not UTF-8; JSON cannot hold it"));
  }
}

}  // namespace meristem::io
