// The command line of the main program: its help, and sentences for options that were given wrongly.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <meristem/core/text.hpp>

#include "options.hpp"

namespace CLI {
class App;
}

namespace cifar10 {

struct Accepts;

/// Parses the command line. What goes wrong is told in terms of the option's name, what was given and what is accepted.
class CommandLine {
 public:
  /// `methods` are the names of the methods of growth.
  CommandLine(Options& o, std::vector<std::string> methods);
  ~CommandLine();

  /// The options of the run that were given, as text. Where data is and what is written where does not belong to them.
  [[nodiscard]] std::map<std::string, std::string> given() const;

  /// Takes over the options `saved` with `checkpoint`. Nothing, or the exit code after a sentence about an option that
  /// was given and contradicts them. Throws DataError for saved options that are none.
  std::optional<int> go_on(const std::map<std::string, std::string>& saved, const std::string& file);

  /// Nothing, or the exit code with which the program stops after --help (0) or wrong usage (2).
  std::optional<int> parse(int argc, char** argv);

 private:
  /// Options that are right each by itself, but not together.
  std::optional<int> clashes();

  /// What each option of a run stands for, defaults included.
  static std::map<std::string, std::string> settings(const Options& o);

  static std::string described(const std::string& text) { return meristem::wrapped(text, 54); }

  void add(const std::string& name, const std::string& placeholder, const Accepts& accepts,
           const std::string& description, const std::string& standard = "");

  /// What to do instead of an option that there is not, as the end of a sentence; empty if nobody knows.
  [[nodiscard]] std::string instead_of(const std::string& given) const;

  /// What people type who come from other programs.
  [[nodiscard]] static std::string hint_for_other_programs(const std::string& name);

  static int refuse(const std::string& sentence);

  Options* options_;
  std::unique_ptr<CLI::App> app_;
  std::string group_;
  std::map<std::string, std::string> accepts_, given_;
  std::map<std::string, std::function<bool(const std::string&)>> stores_;
};

}  // namespace cifar10
