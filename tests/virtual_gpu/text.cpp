#include "text.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

#include "operations.hpp"

namespace virtual_gpu {

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

Text trimmed(Text text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<Text> split(Text text) {
  std::vector<Text> parts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : ',';
    if (c == '{' || c == '[' || c == '(') ++depth;
    if (c == '}' || c == ']' || c == ')') --depth;
    if (c != ',' || depth != 0) continue;
    const Text part = trimmed(text.substr(begin, i - begin));
    if (!part.empty()) parts.push_back(part);
    begin = i + 1;
  }
  return parts;
}

std::vector<Text> elements(Text operand) {
  return operand.starts_with('{') ? split(operand.substr(1, operand.rfind('}') - 1)) : std::vector<Text>{operand};
}

std::optional<u64> number(Text text, u32 bytes) {
  u64 value = 0;
  const auto digits = [&](Text from, int base) {
    const auto [end, error] = std::from_chars(from.data(), from.data() + from.size(), value, base);
    return error == std::errc() && (end == from.data() + from.size() || Text(end, 1) == "U");
  };
  if (text.starts_with("0f") || text.starts_with("0d")) {
    if (bytes != (text[1] == 'f' ? 4 : 8)) throw Unsupported("a number of another type in");
    return digits(text.substr(2), 16) ? std::optional(value) : std::nullopt;
  }
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.empty() || !is_digit(text[0])) return std::nullopt;
  if (!(text.starts_with("0x") ? digits(text.substr(2), 16) : digits(text, 10))) return std::nullopt;
  if (negative) value = u64{0} - value;
  return bytes < 8 ? value & 0xffffffff : value;
}

Declaration::Declaration(Text text) {
  u32 element = 1;
  bool aligned = false;
  while (!(text = trimmed(text)).empty()) {
    const Text word = text.substr(0, std::min(text.size(), text.find_first_of(" \t\n")));
    text.remove_prefix(word.size());
    if (word == ".align") {
      text = trimmed(text);
      std::from_chars(text.data(), text.data() + text.size(), align);
      while (!text.empty() && is_digit(text[0])) text.remove_prefix(1);
      aligned = true;
    } else if (word[0] == '.') {
      const Type type = type_of(word.substr(1));
      if (type == Type::none) continue;
      element = bytes_of(type);
      if (!aligned) align = element;
    } else {
      const std::size_t bracket = word.find('[');
      name = word.substr(0, bracket);
      u32 count = bracket == Text::npos ? 1 : 0;  // name[] has no size
      if (count == 0) std::from_chars(word.data() + bracket + 1, word.data() + word.size(), count);
      bytes = element * count;
    }
  }
}

namespace {

constexpr std::pair<Text, Type> type_names[] = {
    {"pred", Type::predicate}, {"u8", Type::u8},   {"s8", Type::s8},   {"b8", Type::b8},   {"u16", Type::u16},
    {"s16", Type::s16},        {"b16", Type::b16}, {"u32", Type::u32}, {"s32", Type::s32}, {"b32", Type::b32},
    {"u64", Type::u64},        {"s64", Type::s64}, {"b64", Type::b64}, {"f32", Type::f32}, {"f64", Type::f64}};

}  // namespace

Type type_of(Text name) {
  for (const auto& [known, type] : type_names) {
    if (known == name) return type;
  }
  return Type::none;
}

u32 bytes_of(Type type) {
  switch (type) {
    case Type::none:
    case Type::predicate:
      return 0;
    case Type::u8:
    case Type::s8:
    case Type::b8:
      return 1;
    case Type::u16:
    case Type::s16:
    case Type::b16:
      return 2;
    case Type::u64:
    case Type::s64:
    case Type::b64:
    case Type::f64:
      return 8;
    default:
      return 4;
  }
}

Opcode::Opcode(Text whole) : text(whole), name(whole.substr(0, whole.find('.'))) {
  for (std::size_t at = name.size(); at < whole.size();) {
    const std::size_t end = std::min(whole.find('.', at + 1), whole.size());
    modifiers.push_back(whole.substr(at + 1, end - at - 1));
    at = end;
  }
  if (!modifiers.empty()) type = type_of(modifiers.back());
  if (modifiers.size() > 1) other_type = type_of(modifiers[modifiers.size() - 2]);
}

bool Opcode::has(Text modifier) const {
  return std::find(modifiers.begin(), modifiers.end(), modifier) != modifiers.end();
}

}  // namespace virtual_gpu
