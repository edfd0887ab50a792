// Text for people at a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace meristem {

/// 1234567 as 1,234,567.
[[nodiscard]] inline std::string grouped(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (std::ptrdiff_t at = std::ssize(digits) - 3; at > (value < 0 ? 1 : 0); at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

/// a, b, c.
[[nodiscard]] inline std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// The words of `text` in lines of at most `columns` characters, of which the first `indent` are blank; no line break
/// at the end. A word that is too long gets a line of its own.
[[nodiscard]] inline std::string wrapped(const std::string& text, std::size_t columns, std::size_t indent = 0) {
  const std::string margin(indent, ' ');
  std::string result, line, word;
  std::istringstream words(text);
  while (words >> word) {
    if (!line.empty() && indent + line.size() + 1 + word.size() > columns) {
      result += margin + line + '\n';
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return result + margin + line;
}

/// Whether these are the bytes of a text in UTF-8 (RFC 3629: no surrogates, nothing longer than it has to be).
[[nodiscard]] inline bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(i < text.size() ? text[i] : '\0'); };
    const unsigned first = byte(at);
    const std::size_t length = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
    if (length == 0) return false;
    char32_t code = length == 1 ? first : first & (0x7fu >> length);
    for (std::size_t i = 1; i < length; ++i) {
      if (byte(at + i) >> 6 != 2) return false;
      code = code << 6 | (byte(at + i) & 0x3fu);
    }
    constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    at += length;
  }
  return true;
}

/// The text in UTF-8. File names are bytes; those that are not UTF-8 are taken for Latin-1, in which old systems named
/// their files and every byte is a character.
[[nodiscard]] inline std::string to_utf8(std::string_view text) {
  if (is_utf8(text)) return std::string(text);
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) result += static_cast<char>(0xc0 | byte >> 6);
    result += byte < 0x80 ? c : static_cast<char>(0x80 | (byte & 0x3f));
  }
  return result;
}

}  // namespace meristem
