// PTX text to a decoded kernel. The text is nvcc's, so that errors are either forms that the interpreter lacks or its
// own.
#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device.hpp"
#include "machine.hpp"
#include "operations.hpp"
#include "program.hpp"
#include "races.hpp"
#include "text.hpp"

namespace virtual_gpu {

namespace {

u64 aligned_up(u64 value, u64 align) { return (value + align - 1) / align * align; }

class Parser {
 public:
  Parser(Kernel& kernel, Text text, std::size_t at)
      : kernel_(kernel),
        text_(text),
        at_(at),
        line_(1 + static_cast<u32>(std::count(text.begin(), text.begin() + at, '\n'))) {
    // Behind every static array there may be.
    kernel_.dynamic_begin = shared_begin + (u64{64} << 10);
  }

  void kernel() {
    header();
    scopes_.emplace_back();
    while (!scopes_.empty()) next();
    for (const auto& [instruction, label] : branches_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) throw Unsupported("a branch to nowhere: " + label);
      kernel_.code[instruction].target = found->second;
    }
    kernel_.local_bytes = static_cast<u32>(aligned_up(kernel_.local_bytes, 16));
    Instruction end;
    end.flow = Flow::exit;
    kernel_.code.push_back(end);
  }

 private:
  struct Register {
    Type type;
    u32 at;  // or the number of a predicate
  };
  struct Scope {
    std::map<std::string, Type, std::less<>> declared;  // of a family %r<n>, under "%r<"
    std::map<std::string, Register, std::less<>> used;
  };

  void skip_space() {
    for (; at_ < text_.size(); ++at_) {
      if (text_.substr(at_, 2) == "//") at_ = std::min(text_.find('\n', at_), text_.size() - 1);
      if (!is_space(text_[at_])) return;
      if (text_[at_] == '\n') ++line_;
    }
    throw Unsupported("the end of the text");
  }

  /// Up to a character, which is skipped; without comments.
  std::string up_to(char end) {
    std::string result;
    for (;; ++at_) {
      skip_space_if_comment();
      const char c = text_[at_];
      if (c == '\n') ++line_;
      if (c == end) break;
      result += c;
    }
    ++at_;
    return result;
  }
  void skip_space_if_comment() {
    if (text_.substr(at_, 2) == "//") skip_space();
  }

  void header() {
    skip_space();
    if (text_[at_] == '(') {
      ++at_;
      for (const Text text : split(keep(up_to(')')))) {
        const Declaration parameter(text);
        const u32 at = static_cast<u32>(aligned_up(kernel_.parameter_bytes, parameter.align));
        kernel_.parameters.push_back({at, parameter.bytes});
        kernel_.parameter_bytes = at + parameter.bytes;
        symbols_[std::string(parameter.name)] = {Space::parameter, at};
      }
    }
    const Text bounds = keep(up_to('{'));
    constexpr Text word = ".maxntid";
    const std::size_t found = bounds.find(word);
    if (found == Text::npos) return;
    kernel_.most_threads = 1;
    Text rest = bounds.substr(found + word.size());
    for (const Text extent : split(rest.substr(0, rest.find_first_of(".\n")))) {
      kernel_.most_threads *= static_cast<u32>(number(extent, 4).value_or(1));
    }
  }

  void next() {
    skip_space();
    if (text_[at_] == '{' || text_[at_] == '}') {
      if (text_[at_] == '{') scopes_.emplace_back();
      if (text_[at_] == '}') scopes_.pop_back();
      ++at_;
      return;
    }
    const std::size_t end = text_.find_first_of(" \t\n;{:", at_);
    if (end != Text::npos && text_[end] == ':') {
      labels_[std::string(text_.substr(at_, end - at_))] = static_cast<u32>(kernel_.code.size());
      at_ = end + 1;
      return;
    }
    const u32 line = line_;
    const std::string text = up_to(';');
    const Text trimmed_text = trimmed(text);
    try {
      trimmed_text.starts_with('.') ? directive(trimmed_text) : statement(trimmed_text, line);
    } catch (const Unsupported& e) {
      throw Unsupported(std::string(e.what()) + " `" + std::string(trimmed_text) + "`, PTX line " +
                        std::to_string(line));
    }
  }

  void directive(Text text) {
    const Text word = text.substr(0, text.find_first_of(" \t"));
    if (word == ".pragma" || word == ".loc") return;
    const Text rest = trimmed(text.substr(word.size()));
    if (word == ".reg") {
      const std::size_t end = rest.find_first_of(" \t");
      const Type type = type_of(rest.substr(1, end - 1));
      for (const Text name : split(rest.substr(end))) {
        scopes_.back()
            .declared[std::string(name.substr(0, name.find('<') == Text::npos ? name.size() : name.find('<') + 1))] =
            type;
      }
    } else if (word == ".shared") {
      add_shared(Declaration(rest));
    } else if (word == ".local") {
      const Declaration array(rest);
      const u64 at = aligned_up(kernel_.local_bytes, std::max(array.align, 8u));
      kernel_.local_bytes = static_cast<u32>(at + array.bytes);
      symbols_[std::string(array.name)] = {Space::local, at};
    } else {
      throw Unsupported("the directive");
    }
  }

  u64 add_shared(const Declaration& array) {
    const bool dynamic = array.bytes == 0;
    const u64 at = dynamic ? kernel_.dynamic_begin : aligned_up(kernel_.shared_end, array.align);
    kernel_.shared.push_back({std::string(array.name), at, array.bytes, dynamic});
    if (!dynamic) {
      kernel_.static_shared = aligned_up(kernel_.static_shared, array.align) + array.bytes;
      kernel_.shared_end = at + array.bytes + shared_gap;
    }
    symbols_[std::string(array.name)] = {Space::shared, at};
    return at;
  }

  struct Symbol {
    Space space;
    u64 at;
  };
  Symbol symbol(Text name) {
    const auto known = symbols_.find(name);
    if (known != symbols_.end()) return known->second;
    // Arrays of several kernels and dynamic ones are declared outside of kernels, at the beginning of a line.
    for (std::size_t at = text_.find(name); at != Text::npos; at = text_.find(name, at + 1)) {
      const std::size_t line = text_.rfind('\n', at) + 1, shared = text_.find(".shared", line);
      if (text_[line] != '.' || shared > at || text_[at + name.size()] != '[') continue;
      return {Space::shared, add_shared(Declaration(text_.substr(shared, text_.find(';', at) - shared)))};
    }
    throw Unsupported("the symbol " + std::string(name) + " in");
  }

  Register lookup(Text name) {
    std::size_t digits = name.size();
    while (digits > 0 && is_digit(name[digits - 1])) --digits;
    const std::string family = std::string(name.substr(0, digits)) + '<';
    for (std::size_t i = scopes_.size(); i-- > 0;) {
      Scope& scope = scopes_[i];
      const auto used = scope.used.find(name);
      if (used != scope.used.end()) return used->second;
      auto declared = scope.declared.find(name);
      if (declared == scope.declared.end()) declared = scope.declared.find(family);
      if (declared == scope.declared.end()) continue;
      const Type type = declared->second;
      const Register fresh{type, type == Type::predicate ? kernel_.predicates++ : new_register(bytes_of(type))};
      scope.used.emplace(name, fresh);
      return fresh;
    }
    throw Unsupported("the register " + std::string(name) + " in");
  }

  u32 new_register(u32 bytes) {
    const u32 at = kernel_.register_bytes;
    kernel_.register_bytes += warp_size * (bytes == 8 ? 8 : 4);
    return at;
  }
  static u32 register_bytes(Type type) { return bytes_of(type) == 8 ? 8 : 4; }

  u32 constant(u64 bits, u32 bytes) {
    const auto [found, fresh] = constants_.try_emplace({bits, bytes}, kernel_.register_bytes);
    if (fresh) kernel_.constants.push_back({new_register(bytes), bytes, bits});
    return found->second;
  }

  static bool is_special(Text name) {
    for (const Text prefix : {"%tid.", "%ntid.", "%ctaid.", "%nctaid.", "%laneid", "%warpid", "%nwarpid", "%lanemask_",
                              "%dynamic_smem_size"}) {
      if (name.starts_with(prefix)) return true;
    }
    return false;
  }

  u32 source(Text operand, u32 bytes) {
    if (is_special(operand)) {
      for (const auto& special : kernel_.specials) {
        if (special.name == operand) return special.at;
      }
      const u32 at = new_register(4);
      kernel_.specials.push_back({std::string(operand), at});
      return at;
    }
    if (operand.starts_with('%')) return result(operand, bytes);
    if (const auto bits = number(operand, bytes)) return constant(*bits, bytes);
    return constant(symbol(operand).at, bytes);
  }

  u32 result(Text operand, u32 bytes) {
    if (operand == "_") return no_register;
    const Register r = lookup(operand);
    if (r.type == Type::predicate || register_bytes(r.type) != bytes)
      throw Unsupported("a register of another size in");
    return r.at;
  }

  Predicate predicate(Text operand) {
    const bool negated = operand.starts_with('!');
    if (negated) operand = trimmed(operand.substr(1));
    const u32 flip = negated ? all_lanes : 0;
    if (const auto bits = number(operand, 4)) return {true_predicate, *bits != 0 ? flip : ~flip};
    const Register r = lookup(operand);
    if (r.type != Type::predicate) throw Unsupported("a predicate that is none in");
    return {r.at, flip};
  }

  /// [register], [register+n], [symbol+n]: the base, and what to add to it.
  std::pair<Text, s64> address(Text operand) {
    const Text inside = trimmed(operand.substr(1, operand.find(']') - 1));
    const std::size_t sign = inside.find_first_of("+-");
    if (sign == Text::npos) return {inside, 0};
    Text offset = inside.substr(sign);
    if (offset[0] == '+') offset = offset.substr(1);
    return {trimmed(inside.substr(0, sign)), static_cast<s64>(number(trimmed(offset), 8).value())};
  }

  void set_address(Instruction& in, Text operand) {
    const auto [base, offset] = address(operand);
    in.offset = offset;
    if (base.starts_with('%')) {
      const Register r = lookup(base);
      in.source[0] = r.at;
      in.wide_address = register_bytes(r.type) == 8;
      return;
    }
    const Symbol found = symbol(base);
    if (in.space == Space::parameter) {
      in.offset += static_cast<s64>(found.at);
      in.source[0] = no_register;  // one address for all lanes
    } else {
      in.source[0] = constant(found.at, 8);
    }
  }

  void statement(Text text, u32 line) {
    Instruction in;
    in.line = line;
    if (text.starts_with('@')) {
      const std::size_t end = text.find_first_of(" \t\n");
      in.guard = predicate(text.substr(1, end - 1));
      text = trimmed(text.substr(end));
    }
    const std::size_t end = std::min(text.find_first_of(" \t\n{["), text.size());
    const Opcode op(text.substr(0, end));
    const auto operands = split(text.substr(end));
    in.space = op.has("param")    ? Space::parameter
               : op.has("global") ? Space::global
               : op.has("shared") ? Space::shared
               : op.has("local")  ? Space::local
                                  : Space::generic;
    if (op.name == "prefetch") return;
    const bool fences = op.name == "membar" || op.name == "fence";
    if (fences && (!looks_for_races || op.has("cta") || op.has("proxy"))) return;  // everything is in order here
    if (fences) in.execute = fence;
    const bool known = fences || control(in, op, operands) || together(in, op, operands) ||
                       predicates(in, op, operands) || memory(in, op, operands) || moves(in, op, operands) ||
                       arithmetic(in, op, operands);
    if (!known) throw Unsupported("the instruction");
    kernel_.code.push_back(in);
  }

  bool control(Instruction& in, const Opcode& op, const std::vector<Text>& operands) {
    if (op.name == "bra") {
      in.flow = Flow::branch;
      branches_.emplace_back(kernel_.code.size(), std::string(operands.at(0)));
    } else if (op.name == "ret" || op.name == "exit") {
      in.flow = Flow::exit;
    } else if (op.name == "trap") {
      in.flow = Flow::trap;
    } else {
      return false;
    }
    return true;
  }

  // Barriers, shuffles and votes.
  bool together(Instruction& in, const Opcode& op, const std::vector<Text>& operands) {
    const auto form = [&](std::initializer_list<Text> names) {
      const auto* const found = std::find_if(names.begin(), names.end(), [&](Text name) { return op.has(name); });
      if (found == names.end()) throw Unsupported("the instruction");
      return static_cast<u8>(found - names.begin());
    };
    if (op.name == "bar" || op.name == "barrier") {
      if (op.has("warp")) {
        in.flow = Flow::warp;
        in.execute = warp_barrier;
        in.source[3] = source(operands.at(0), 4);
        return true;
      }
      in.flow = Flow::block;
      const bool reduces = op.has("red");
      if (operands.size() != (reduces ? 3 : 1) || operands.at(reduces ? 1 : 0) != "0" || op.has("arrive")) {
        throw Unsupported("a barrier of some of the threads,");
      }
      if (!reduces) return true;
      in.mode = static_cast<u8>(1 + form({"popc", "and", "or"}));
      if (op.has("popc")) {
        in.result = result(operands[0], 4);
      } else {
        in.set = predicate(operands[0]).number;
      }
      in.test = predicate(operands[2]);
      return true;
    }
    if (op.name == "shfl") {
      in.flow = Flow::warp;
      in.execute = shuffle;
      in.mode = form({"up", "down", "bfly", "idx"});
      const std::size_t bar = operands.at(0).find('|');
      in.result = result(trimmed(operands[0].substr(0, bar)), 4);
      if (bar != Text::npos) in.set = predicate(trimmed(operands[0].substr(bar + 1))).number;
      for (std::size_t i = 0; i < 4; ++i) in.source[i] = source(operands.at(i + 1), 4);
      return true;
    }
    if (op.name == "vote") {
      in.flow = Flow::warp;
      in.execute = vote;
      in.mode = form({"all", "any", "uni", "ballot"});
      if (op.has("ballot")) {
        in.result = result(operands.at(0), 4);
      } else {
        in.set = predicate(operands.at(0)).number;
      }
      in.test = predicate(operands.at(1));
      in.source[3] = source(operands.at(2), 4);
      return true;
    }
    return false;
  }

  // Instructions with predicates as operands.
  bool predicates(Instruction& in, const Opcode& op, const std::vector<Text>& operands) {
    const auto logic = [&] {
      return static_cast<u8>(op.has("xor") || op.name == "xor" ? Logic::bit_xor
                             : op.has("or") || op.name == "or" ? Logic::bit_or
                                                               : Logic::bit_and);
    };
    if (op.name == "setp") {
      const std::size_t bar = operands.at(0).find('|');
      in.set = predicate(trimmed(operands[0].substr(0, bar))).number;
      if (bar != Text::npos) in.set_complement = predicate(trimmed(operands[0].substr(bar + 1))).number;
      in.mode = logic();
      if (operands.size() == 4) in.test = predicate(operands[3]);
      for (std::size_t i = 0; i < 2; ++i) in.source[i] = source(operands.at(i + 1), register_bytes(op.type));
      in.execute = comparison(op);
      return true;
    }
    if (op.name == "selp") {
      const u32 bytes = register_bytes(op.type);
      in.result = result(operands.at(0), bytes);
      for (std::size_t i = 0; i < 2; ++i) in.source[i] = source(operands.at(i + 1), bytes);
      in.test = predicate(operands.at(3));
      in.execute = selection(bytes);
      return true;
    }
    if (op.type != Type::predicate) return false;
    in.set = predicate(operands.at(0)).number;
    in.test = predicate(operands.at(1));
    if (operands.size() == 3) in.second_test = predicate(operands[2]);
    if (op.name == "not") in.test.flip = ~in.test.flip;
    in.mode = logic();
    in.execute = combine_predicates;
    return op.name == "and" || op.name == "or" || op.name == "xor" || op.name == "not" || op.name == "mov";
  }

  bool memory(Instruction& in, const Opcode& op, const std::vector<Text>& operands) {
    if (op.name == "ld" || op.name == "st") return load_or_store(in, op, operands);
    if (op.name == "atom" || op.name == "red") return atomic(in, op, operands);
    if (op.name != "cp") return false;
    if (op.has("commit_group")) {
      in.execute = commit_copies;
    } else if (op.has("wait_group") || op.has("wait_all")) {
      in.mode = op.has("wait_all");
      if (in.mode == 0) in.offset = static_cast<s64>(number(operands.at(0), 8).value());
      in.execute = wait_for_copies;
    } else if (op.has("async") && !op.has("bulk") && !op.has("mbarrier")) {
      in.space = Space::shared;
      set_address(in, operands.at(0));
      const auto [base, offset] = address(operands.at(1));
      in.source[1] = source(base, 8);
      in.second_offset = offset;
      in.bytes = static_cast<u32>(number(operands.at(2), 4).value());
      in.mode = operands.size() > 3;
      if (in.mode == 1) in.source[2] = source(operands[3], 4);
      in.execute = start_copy;
    } else {
      return false;
    }
    return true;
  }

  bool load_or_store(Instruction& in, const Opcode& op, const std::vector<Text>& operands) {
    const bool stores = op.name == "st";
    in.count = op.has("v4") ? 4 : op.has("v2") ? 2 : 1;
    set_address(in, operands.at(stores ? 0 : 1));
    const auto values = elements(operands.at(stores ? 1 : 0));
    if (values.size() != in.count) throw Unsupported("a vector of another size in");
    if (stores && in.space == Space::parameter) return false;
    // Registers may be wider than what memory holds.
    u32 bytes = register_bytes(op.type);
    for (const Text value : values) {
      if (value.starts_with('%')) bytes = register_bytes(lookup(value).type);
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      in.element[i] = stores ? source(values[i], bytes) : result(values[i], bytes);
    }
    if (in.space == Space::parameter && in.source[0] == no_register) {
      in.execute = load_parameter_operation(op.type, bytes);
    } else {
      in.execute = stores ? store_operation(op.type, bytes) : load_operation(op.type, bytes);
    }
    return true;
  }

  bool atomic(Instruction& in, const Opcode& op, const std::vector<Text>& operands) {
    static constexpr std::pair<Text, Update> updates[] = {{"add", Update::add},       {"min", Update::min},
                                                          {"max", Update::max},       {"and", Update::bit_and},
                                                          {"or", Update::bit_or},     {"xor", Update::bit_xor},
                                                          {"exch", Update::exchange}, {"cas", Update::compare_and_swap},
                                                          {"inc", Update::increment}, {"dec", Update::decrement}};
    const auto* const update =
        std::find_if(std::begin(updates), std::end(updates), [&](const auto& u) { return op.has(u.first); });
    if (update == std::end(updates)) return false;
    in.mode = static_cast<u8>(update->second);
    const std::size_t returns = op.name == "atom" ? 1 : 0;
    const u32 bytes = register_bytes(op.type);
    in.result = returns ? result(operands.at(0), bytes) : no_register;
    set_address(in, operands.at(returns));
    in.source[1] = source(operands.at(returns + 1), bytes);
    if (update->second == Update::compare_and_swap) in.source[2] = source(operands.at(returns + 2), bytes);
    in.execute = atomic_operation(op.type);
    return true;
  }

  // Moves with vectors, and of addresses.
  bool moves(Instruction& in, const Opcode& op, const std::vector<Text>& operands) {
    const u32 bytes = register_bytes(op.type);
    if (op.name == "cvta") {
      const u64 window = in.space == Space::shared ? shared_window : in.space == Space::local ? local_window : 0;
      if (in.space == Space::parameter) return false;
      in.result = result(operands.at(0), 8);
      const bool wide = !operands.at(1).starts_with('%') || register_bytes(lookup(operands[1]).type) == 8;
      in.source[0] = source(operands[1], wide ? 8 : 4);
      in.offset = static_cast<s64>(op.has("to") ? u64{0} - window : window);
      in.execute = shift_address(wide);
      return true;
    }
    if (op.name != "mov" || (!operands.at(0).starts_with('{') && !operands.at(1).starts_with('{'))) return false;
    const bool packs = operands[1].starts_with('{');
    const auto halves = elements(operands[packs ? 1 : 0]);
    if (halves.size() != 2) return false;
    for (std::size_t i = 0; i < 2; ++i) in.element[i] = packs ? source(halves[i], 4) : result(halves[i], 4);
    if (packs) {
      in.result = result(operands[0], bytes);
    } else {
      in.source[0] = source(operands[1], bytes);
    }
    in.execute = packs ? packing(bytes) : unpacking(bytes);
    return true;
  }

  bool arithmetic(Instruction& in, const Opcode& op, const std::vector<Text>& operands) {
    const auto found = operation(op);
    if (!found) return false;
    if (operands.size() != found->source_bytes.size() + 1) throw Unsupported("the number of operands of");
    in.result = result(operands[0], found->result_bytes);
    for (std::size_t i = 0; i < found->source_bytes.size(); ++i) {
      in.source[i] = source(operands[i + 1], found->source_bytes[i]);
    }
    in.execute = found->execute;
    return true;
  }

  /// Text that lives as long as the parser.
  Text keep(std::string text) { return kept_.emplace_back(std::make_unique<std::string>(std::move(text))).operator*(); }

  Kernel& kernel_;
  Text text_;
  std::size_t at_;
  u32 line_;
  std::vector<Scope> scopes_;
  std::map<std::string, Symbol, std::less<>> symbols_;
  std::map<std::pair<u64, u32>, u32> constants_;
  std::map<std::string, u32> labels_;
  std::vector<std::pair<std::size_t, std::string>> branches_;
  std::vector<std::unique_ptr<std::string>> kept_;
};

}  // namespace

void parse_kernel(Kernel& kernel, Text text, std::size_t at) {
  try {
    Parser(kernel, text, at).kernel();
  } catch (const std::exception& e) {
    kernel.unsupported = e.what();
  }
}

}  // namespace virtual_gpu
