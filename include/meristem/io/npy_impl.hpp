// Definitions of npy.hpp.
#pragma once

#include <charconv>

#include <meristem/io/npy.hpp>

namespace meristem::io::detail {

MERISTEM_INLINE bool names_npy_dtype(std::string descr, std::string_view dtype) {
  const bool one_byte = dtype.back() == '1';
  if (!descr.empty() && (descr[0] == '<' || descr[0] == '=' || descr[0] == '|' || (descr[0] == '>' && one_byte))) {
    descr.erase(0, 1);
  }
  if (descr == dtype.substr(1)) return true;
  const char* const names[][3] = {
      {"f4", "f", "float32"}, {"f8", "d", "float64"}, {"i4", "i", "int32"}, {"i8", "q", "int64"}, {"u1", "B", "uint8"}};
  for (const auto& [code, letter, name] : names) {
    if (dtype.substr(1) == code && (descr == letter || descr == name)) return true;
  }
  return false;
}

MERISTEM_INLINE NpyHeader::NpyHeader(std::string_view text, const std::string& source) : source_(&source), rest_(text) {
  expect('{');
  bool has_descr = false, has_order = false, has_shape = false;
  while (peek() != '}') {
    const std::string key = string();
    expect(':');
    if (key == "descr" && !has_descr) {
      has_descr = true;
      if (peek() == '[' || peek() == '(') {
        throw DataError(concat(source, ": its elements are structures; an array of single numbers is expected"));
      }
      descr_ = string();
    } else if (key == "fortran_order" && !has_order) {
      has_order = true;
      const std::string_view word = take_word();
      if (word != "True" && word != "False") fail(concat("fortran_order is neither True nor False"));
      fortran_order_ = word == "True";
    } else if (key == "shape" && !has_shape) {
      has_shape = true;
      read_shape();
    } else {
      fail(concat("it has '", key, "' twice, or where only descr, fortran_order and shape belong"));
    }
    if (peek() != '}') expect(',');
  }
  expect('}');
  if ((void)peek(), !rest_.empty()) fail("something follows the closing brace");
  if (!has_descr || !has_order || !has_shape) fail("descr, fortran_order or shape is missing");
}

MERISTEM_INLINE void NpyHeader::fail(const std::string& problem) const {
  throw DataError(concat(*source_, ": the header of the .npy file cannot be read: ", problem));
}

MERISTEM_INLINE char NpyHeader::peek() {
  const std::size_t at = rest_.find_first_not_of(" \t\n\r");
  rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at);
  return rest_.empty() ? '\0' : rest_.front();
}

MERISTEM_INLINE std::string NpyHeader::next() const {
  std::string text(rest_.substr(0, 20));
  for (char& c : text) c = c >= ' ' && c <= '~' ? c : '?';
  return text;
}

MERISTEM_INLINE void NpyHeader::expect(char wanted) {
  if (peek() != wanted || rest_.empty()) fail(concat("'", wanted, "' is expected before '", next(), "'"));
  rest_.remove_prefix(1);
}

MERISTEM_INLINE std::string NpyHeader::string() {
  // Python 2 could mark text so.
  if ((peek() == 'u' || rest_.starts_with('U')) && rest_.size() > 1 && (rest_[1] == '\'' || rest_[1] == '"')) {
    rest_.remove_prefix(1);
  }
  const char quote = peek();
  if (quote != '\'' && quote != '"') fail(concat("a string is expected before '", next(), "'"));
  const std::size_t end = rest_.find(quote, 1);
  if (end == std::string_view::npos) fail("a string does not end");
  const std::string result(rest_.substr(1, end - 1));
  for (const char c : result) {
    if (c < ' ' || c > '~' || c == '\\') fail("a string in it has characters that no name of its parts has");
  }
  rest_.remove_prefix(end + 1);
  return result;
}

MERISTEM_INLINE std::string_view NpyHeader::take_word() {
  (void)peek();
  std::size_t end = 0;
  while (end < rest_.size() && ((rest_[end] >= 'A' && rest_[end] <= 'Z') || (rest_[end] >= 'a' && rest_[end] <= 'z'))) {
    ++end;
  }
  const std::string_view word = rest_.substr(0, end);
  rest_.remove_prefix(end);
  return word;
}

MERISTEM_INLINE void NpyHeader::read_shape() {
  if (peek() == '[') fail("its shape is a list, not a tuple");
  expect('(');
  bool comma = false;
  while (peek() != ')') {
    if (shape_.rank() > 0 && !comma) expect(',');
    std::int64_t extent = -1;
    const char first = peek();
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
    const auto digits = static_cast<std::size_t>(end - rest_.data());
    if (error != std::errc() || extent < 0 || (first == '0' && digits > 1 && extent != 0)) {
      fail(concat("an extent of the shape is not plainly a whole number from 0 up: '", next(), "'"));
    }
    rest_.remove_prefix(digits);
    // Python 2 writes long numbers so, as NumPy on 64-bit Windows had them.
    if (rest_.starts_with('L')) rest_.remove_prefix(1);
    if (shape_.rank() == Shape::max_rank) {
      throw DataError(concat(*source_, ": the array has more than ", int{Shape::max_rank}, " axes, which are taken"));
    }
    shape_.append(extent);
    comma = peek() == ',';
    if (comma) expect(',');
  }
  expect(')');
  if (shape_.rank() == 1 && !comma) fail("its shape is a number, not a tuple");
}

}  // namespace meristem::io::detail
