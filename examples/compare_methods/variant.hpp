// What a line of the comparison trains: a growth method or a control, with settings of its own.
#pragma once

#include <charconv>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <meristem/meristem.hpp>

/// `name[:setting=value]...`, for instance `tiny:split=even:damping=0.001`. Settings of the command line hold where a
/// variant has none of its own.
struct Variant {
  std::string text;  ///< as it was given
  /// Or a control: `small`, `large`, `large-equal`; or `scratch`, `scratch-equal`: the network that the line before it
  /// ended with, with new weights.
  std::string method;

  meristem::grow::Widths widths = meristem::grow::Widths::hidden;  ///< of a resnet18
  bool depth = false;                       ///< of a resnet18: starts with one block a stage, and blocks join
  std::vector<std::int64_t> grow_after;     ///< epochs after which it grows, ascending
  std::int64_t hold = 0;                    ///< epochs before the rate falls
  double learning_rate = 0.05;              ///< at its peak
  meristem::optim::GrowthRate growth_rate;  ///< of new units; steps of rewarm count epochs until the training begins
  std::optional<double> damping;
  meristem::grow::Amplitude amplitude;
  bool move_weights = true;
  double significance = 0.0;
  std::int64_t statistics_samples = 1000, search_samples = 500;
  /// After each growth step every weight w of the old network becomes shrink · w + perturb · (a fresh one): J. Ash, R.
  /// Adams, "On warm-starting neural network training" (2020).
  double shrink = 1.0, perturb = 0.0;
  bool forget_moments = false;  ///< the optimiser's, at every growth step

  [[nodiscard]] bool from_scratch() const { return method.starts_with("scratch"); }
  [[nodiscard]] bool grows() const {
    return !method.starts_with("small") && !method.starts_with("large") && !from_scratch();
  }
};

namespace detail {

[[nodiscard]] inline double number(const std::string& text, const std::string& what) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw meristem::ArgumentError(meristem::concat(what, " is '", text, "'; give a number"));
  }
  return value;
}

[[nodiscard]] inline std::int64_t whole(const std::string& text, const std::string& what) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    throw meristem::ArgumentError(meristem::concat(what, " is '", text, "'; give a whole number"));
  }
  return value;
}

[[nodiscard]] inline std::vector<std::string> parts(const std::string& text, char separator) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) result.push_back(part);
  return result;
}

}  // namespace detail

/// Epochs as `2/4/6`. Throws ArgumentError unless they ascend.
[[nodiscard]] inline std::vector<std::int64_t> parse_epochs(const std::string& text, const std::string& what) {
  std::vector<std::int64_t> epochs;
  for (const std::string& part : detail::parts(text, '/')) {
    epochs.push_back(detail::whole(part, what));
    if (epochs.back() < 1 || (epochs.size() > 1 && epochs[epochs.size() - 2] >= epochs.back())) {
      throw meristem::ArgumentError(meristem::concat(what, " is '", text, "'; give epochs in order, such as 2/4"));
    }
  }
  return epochs;
}

/// The methods of the library by name, and GradMax with fan-outs as long as today's, as in its own paper; those of
/// `gradmax` have a thousandth, as in TINY's.
[[nodiscard]] inline meristem::grow::Method method_named(const std::string& name) {
  return name == "gradmax-copied" ? meristem::grow::gradmax(0.0) : meristem::grow::parse_method(name);
}

/// Reads a variant; `usual` has what the command line says. Throws ArgumentError that names what it does not know.
[[nodiscard]] inline Variant parse_variant(const std::string& text, const Variant& usual) {
  namespace grow = meristem::grow;
  Variant result = usual;
  result.text = text;
  const std::vector<std::string> words = detail::parts(text, ':');
  result.method = words.empty() ? "" : words.front();
  if (result.grows()) (void)method_named(result.method);
  const std::map<std::string, std::function<void(const std::string&, const std::string&)>> settings{
      {"grow", [&](auto& value, auto& what) { result.grow_after = parse_epochs(value, what); }},
      {"widths",
       [&](auto& value, auto& what) {
         if (value != "hidden" && value != "all") {
           throw meristem::ArgumentError(meristem::concat(what, " is '", value, "'; it is hidden or all"));
         }
         result.widths = value == "all" ? grow::Widths::all : grow::Widths::hidden;
       }},
      {"depth", [&](auto& value, auto& what) { result.depth = detail::whole(value, what) != 0; }},
      {"hold", [&](auto& value, auto& what) { result.hold = detail::whole(value, what); }},
      {"lr", [&](auto& value, auto& what) { result.learning_rate = detail::number(value, what); }},
      {"rate",
       [&](auto& value, auto& what) {
         const std::vector<std::string> numbers = detail::parts(value, '/');
         if (value == "constant") {
           result.growth_rate = {};
         } else if (value == "norm-ratio") {
           result.growth_rate = meristem::optim::norm_ratio();
         } else if (numbers.size() == 2) {
           result.growth_rate =
               meristem::optim::rewarm(detail::number(numbers[0], what), detail::whole(numbers[1], what));
         } else {
           throw meristem::ArgumentError(
               meristem::concat(what, " is '", value, "'; it is constant, norm-ratio, or START/EPOCHS as in 3/2"));
         }
       }},
      {"damping",
       [&](auto& value, auto& what) {
         result.damping = value == "auto" ? std::nullopt : std::optional<double>(detail::number(value, what));
       }},
      {"split",
       [&](auto& value, auto& what) {
         if (value != "even" && value != "balanced") {
           throw meristem::ArgumentError(meristem::concat(what, " is '", value, "'; it is even or balanced"));
         }
         result.amplitude.balanced = value == "balanced";
       }},
      {"gamma", [&](auto& value, auto& what) { result.amplitude.fixed = detail::number(value, what); }},
      {"first", [&](auto& value, auto& what) { result.amplitude.first_decrease = detail::number(value, what); }},
      {"evaluations",
       [&](auto& value, auto& what) {
         result.amplitude.most_evaluations = static_cast<int>(detail::whole(value, what));
       }},
      {"move", [&](auto& value, auto& what) { result.move_weights = detail::whole(value, what) != 0; }},
      {"significance", [&](auto& value, auto& what) { result.significance = detail::number(value, what); }},
      {"samples", [&](auto& value, auto& what) { result.statistics_samples = detail::whole(value, what); }},
      {"search", [&](auto& value, auto& what) { result.search_samples = detail::whole(value, what); }},
      {"shrink", [&](auto& value, auto& what) { result.shrink = detail::number(value, what); }},
      {"perturb", [&](auto& value, auto& what) { result.perturb = detail::number(value, what); }},
      {"moments", [&](auto& value, auto& what) { result.forget_moments = detail::whole(value, what) == 0; }},
  };
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::size_t equals = words[i].find('=');
    const auto found = settings.find(words[i].substr(0, equals));
    if (equals == std::string::npos || found == settings.end()) {
      std::string known;
      for (const auto& setting : settings) known += (known.empty() ? "" : ", ") + setting.first;
      throw meristem::ArgumentError(
          meristem::concat("'", words[i], "' in '", text, "' is no setting=value; settings are ", known));
    }
    found->second(words[i].substr(equals + 1), meristem::concat(found->first, " in '", text, "'"));
  }
  try {
    result.amplitude.require_valid();
  } catch (const meristem::ArgumentError& error) {
    throw meristem::ArgumentError(meristem::concat("'", text, "': ", error.message()));
  }
  return result;
}
