// The words of PTX.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "program.hpp"

namespace virtual_gpu {

using Text = std::string_view;

[[nodiscard]] Text trimmed(Text text);
/// Parts between commas that are in no brackets.
[[nodiscard]] std::vector<Text> split(Text text);
/// The elements of {a, b}, or the operand itself.
[[nodiscard]] std::vector<Text> elements(Text operand);
/// The bits of a number of so many bytes; nothing if the text is something else.
[[nodiscard]] std::optional<u64> number(Text text, u32 bytes);
[[nodiscard]] bool is_space(char c);
[[nodiscard]] bool is_digit(char c);

/// [.align n] .type name[size]; name[] has no bytes.
struct Declaration {
  explicit Declaration(Text text);
  u32 align = 1, bytes = 0;
  Text name;
};

}  // namespace virtual_gpu
