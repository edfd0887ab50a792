// Text for people at a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

namespace meristem {

/// 1234567 as 1,234,567.
[[nodiscard]] inline std::string grouped(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (std::ptrdiff_t at = std::ssize(digits) - 3; at > (value < 0 ? 1 : 0); at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
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

}  // namespace meristem
