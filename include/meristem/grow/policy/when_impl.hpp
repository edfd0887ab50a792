// Definitions of when.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include <meristem/grow/policy/when.hpp>

namespace meristem::grow {

MERISTEM_INLINE When When::plateau(const PlateauOptions& options) {
  if (options.patience < 1) {
    throw ArgumentError(concat("When: plateau: patience is ", options.patience, "; it must be at least 1"));
  }
  if (!(options.least_decrease >= 0.0 && options.least_decrease < 1.0)) {
    throw ArgumentError(concat("When: plateau: least_decrease is ", options.least_decrease, "; it must lie in [0, 1)"));
  }
  When result;
  result.kind_ = Kind::plateau;
  result.period_ = options.patience;
  result.share_ = options.least_decrease;
  result.best_ = no_loss;
  return result;
}

MERISTEM_INLINE When When::bottleneck(double share) {
  if (!(share >= 0.0 && share < 1.0)) {
    throw ArgumentError(concat("When: bottleneck: the share is ", share, "; it must lie in [0, 1)"));
  }
  When result;
  result.kind_ = Kind::bottleneck;
  result.share_ = share;
  return result;
}

MERISTEM_INLINE When When::until_epoch(std::int64_t epochs) {
  if (epochs < 0) throw ArgumentError(concat("When: until_epoch: ", epochs, " epochs; they must be 0 or more"));
  When result;
  result.kind_ = Kind::until;
  result.period_ = epochs;
  return result;
}

MERISTEM_INLINE bool When::operator()(const Progress& now) {
  if (!due(now)) return false;
  start_over(now);
  return true;
}

MERISTEM_INLINE std::vector<double> When::state() const {
  std::vector<double> numbers;
  write(numbers);
  return numbers;
}

MERISTEM_INLINE void When::restore(const std::vector<double>& numbers) {
  std::size_t at = 0;
  When restored = *this;
  if (!restored.read(numbers, at) || at != numbers.size()) {
    throw ArgumentError(concat("When: the ", numbers.size(), " saved numbers are not those of ", describe(),
                               "; restore a condition of the same kind with the same numbers"));
  }
  *this = std::move(restored);
}

MERISTEM_INLINE std::string When::describe() const {
  switch (kind_) {
    case Kind::epochs:
      return concat("every ", period_, period_ == 1 ? " epoch" : " epochs");
    case Kind::steps:
      return concat("every ", period_, period_ == 1 ? " step" : " steps");
    case Kind::plateau:
      return concat("a plateau of ", period_);
    case Kind::bottleneck:
      return concat("a bottleneck above ", share_);
    case Kind::until:
      return concat("until epoch ", period_);
    case Kind::all:
    case Kind::any: {
      std::string text;
      for (const When& part : parts_) {
        const bool nested = !part.parts_.empty();
        text += concat(text.empty()         ? ""
                       : kind_ == Kind::all ? " and "
                                            : " or ",
                       nested ? "(" : "", part.describe(), nested ? ")" : "");
      }
      return text;
    }
    case Kind::never:
      break;
  }
  return "never";
}

MERISTEM_INLINE When When::periodic(Kind kind, std::int64_t n, const char* name) {
  if (n < 1) throw ArgumentError(concat("When: ", name, "(", n, "): the number must be at least 1"));
  When result;
  result.kind_ = kind;
  result.period_ = n;
  return result;
}

MERISTEM_INLINE When When::both(Kind kind, When a, When b) {
  When result;
  result.kind_ = kind;
  result.parts_.push_back(std::move(a));
  result.parts_.push_back(std::move(b));
  return result;
}

MERISTEM_INLINE bool When::due(const Progress& now) {
  switch (kind_) {
    case Kind::epochs:
      return now.epoch - last_ >= period_;
    case Kind::steps:
      return now.step - last_ >= period_;
    case Kind::until:
      return now.epoch <= period_;
    case Kind::plateau:
      return flat(now.loss);
    case Kind::bottleneck: {
      if (!now.unexpressed) {
        throw ArgumentError(
            "When: bottleneck needs Progress::unexpressed; give it a function that measures it, such as "
            "Grower::unexpressed");
      }
      const double share = now.unexpressed();
      if (std::isnan(share)) throw NumericError("When: the share of the bottleneck is nan; look at the gradients");
      return share > share_;
    }
    case Kind::all:
    case Kind::any: {
      const bool decisive = kind_ == Kind::any;
      bool decided = false;
      for (const bool measured : {false, true}) {
        for (When& part : parts_) {
          if (part.measures() != measured || (decided && measured && !part.remembers())) continue;
          decided = part.due(now) == decisive || decided;
        }
      }
      return decided == decisive;
    }
    case Kind::never:
      break;
  }
  return false;
}

MERISTEM_INLINE bool When::flat(double loss) {
  if (std::isnan(loss)) {
    throw ArgumentError("When: plateau needs Progress::loss, and it is nan; give it the latest loss");
  }
  if (loss < best_ - share_ * std::abs(best_) || best_ == no_loss) {
    best_ = loss;
    last_ = 0;
  } else {
    ++last_;
  }
  return last_ >= period_;
}

MERISTEM_INLINE void When::start_over(const Progress& now) {
  if (kind_ == Kind::epochs) last_ = now.epoch;
  if (kind_ == Kind::steps) last_ = now.step;
  if (kind_ == Kind::plateau) {
    // Growth changes the loss: the next one sets the mark.
    last_ = 0;
    best_ = no_loss;
  }
  for (When& part : parts_) part.start_over(now);
}

MERISTEM_INLINE bool When::measures() const {
  return kind_ == Kind::bottleneck ||
         std::any_of(parts_.begin(), parts_.end(), [](const When& part) { return part.measures(); });
}

MERISTEM_INLINE bool When::remembers() const {
  return kind_ == Kind::plateau ||
         std::any_of(parts_.begin(), parts_.end(), [](const When& part) { return part.remembers(); });
}

MERISTEM_INLINE void When::write(std::vector<double>& numbers) const {
  numbers.push_back(static_cast<double>(static_cast<int>(kind_)));
  numbers.push_back(static_cast<double>(last_));
  numbers.push_back(best_);
  for (const When& part : parts_) part.write(numbers);
}

MERISTEM_INLINE bool When::read(const std::vector<double>& numbers, std::size_t& at) {
  if (at + 3 > numbers.size() || numbers[at] != static_cast<double>(static_cast<int>(kind_))) return false;
  last_ = static_cast<std::int64_t>(numbers[at + 1]);
  best_ = numbers[at + 2];
  at += 3;
  return std::all_of(parts_.begin(), parts_.end(), [&](When& part) { return part.read(numbers, at); });
}

}  // namespace meristem::grow
