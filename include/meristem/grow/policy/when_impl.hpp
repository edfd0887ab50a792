// Definitions of when.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include <meristem/grow/policy/when.hpp>

namespace meristem::grow {

MERISTEM_INLINE When When::make(Kind kind, const char* name, std::int64_t n, double share, double best) {
  if (n < 1) throw ArgumentError(concat("When: ", name, "(", n, "): the number must be at least 1"));
  if (!(share >= 0.0 && share < 1.0)) {
    throw ArgumentError(concat("When: ", name, ": ", share, " is given; it must lie in [0, 1)"));
  }
  When result;
  result.kind_ = kind;
  result.period_ = n;
  result.share_ = share;
  result.best_ = best;
  return result;
}

MERISTEM_INLINE When When::plateau(std::int64_t patience, double least_decrease) {
  return make(Kind::plateau, "plateau", patience, least_decrease, no_loss);
}

MERISTEM_INLINE When When::bottleneck(double share) { return make(Kind::bottleneck, "bottleneck", 1, share); }

MERISTEM_INLINE When When::until_epoch(std::int64_t epochs) {
  if (epochs < 0) throw ArgumentError(concat("When: until_epoch: ", epochs, " epochs; they must be 0 or more"));
  When result = make(Kind::until, "until_epoch", 1);
  result.period_ = epochs;
  return result;
}

MERISTEM_INLINE When When::until_empty(std::int64_t growth_steps) {
  return make(Kind::empty, "until_empty", growth_steps);
}

MERISTEM_INLINE When When::until_latency(double seconds) {
  if (!(seconds > 0.0)) throw ArgumentError(concat("When: until_latency(", seconds, "): it must be above 0 seconds"));
  When result = make(Kind::latency, "until_latency", 1);
  result.share_ = seconds;
  return result;
}

MERISTEM_INLINE When When::until_stale(std::int64_t growth_steps, double least_gain) {
  if (!(least_gain >= 0.0 && std::isfinite(least_gain))) {
    throw ArgumentError(concat("When: until_stale: the least gain is ", least_gain,
                               "; it must be 0 or more, and "
                               "finite"));
  }
  When result = make(Kind::stale, "until_stale", growth_steps, 0.0, no_score);
  result.share_ = least_gain;
  return result;
}

MERISTEM_INLINE bool When::operator()(const Progress& now) {
  if (over() || !due(now)) return false;
  start_over(now);
  return !over();  // the validation that this growth step begins with counts
}

MERISTEM_INLINE std::optional<std::string> When::over() const {
  const std::string steps = last_ == 1 ? std::string("the last growth step") : concat(last_, " growth steps in a row");
  switch (kind_) {
    case Kind::empty:
      if (last_ >= period_) return concat(steps, " added no unit");
      break;
    case Kind::stale:
      if (last_ >= period_) return concat(steps, " gained nothing in validation, best ", best_);
      break;
    case Kind::latency:
      if (best_ > share_) return concat("a sample takes ", best_, " s, more than ", share_);
      break;
    case Kind::all:
      for (const When& part : parts_) {
        if (std::optional<std::string> why = part.over()) return why;
      }
      break;
    case Kind::any: {
      std::optional<std::string> first = parts_.front().over(), second = parts_.back().over();
      if (first && second) return concat(*first, ", and ", *second);
      break;
    }
    default:
      break;
  }
  return std::nullopt;
}

MERISTEM_INLINE void When::grown(std::int64_t added, double seconds) {
  if (kind_ == Kind::empty) last_ = added > 0 ? 0 : last_ + 1;
  if (kind_ == Kind::latency) best_ = seconds;
  for (When& part : parts_) part.grown(added, seconds);
}

MERISTEM_INLINE void When::more_room() {
  if (kind_ == Kind::empty) last_ = 0;
  for (When& part : parts_) part.more_room();
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
    case Kind::empty:
      return concat("until ", period_, period_ == 1 ? " growth step adds" : " growth steps add", " nothing");
    case Kind::latency:
      return concat("until a sample takes ", share_, " s");
    case Kind::stale:
      return concat("until the validation gains nothing for ", period_,
                    period_ == 1 ? " growth step" : " growth steps");
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
    case Kind::empty:
    case Kind::latency:
      return !over();
    case Kind::stale:
      if (!std::isfinite(now.validation)) {
        throw ArgumentError(concat("When: until_stale needs When::Progress::validation, and it is ", now.validation,
                                   "; give it the latest accuracy on samples that are held out, or the negative loss"));
      }
      return !over();
    case Kind::plateau:
      return flat(now.loss);
    case Kind::bottleneck: {
      if (!now.unexpressed) {
        throw ArgumentError(
            "When: bottleneck needs When::Progress::unexpressed; give it a function that measures it, such as "
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
    throw ArgumentError("When: plateau needs When::Progress::loss, and it is nan; give it the latest loss");
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
  if (kind_ == Kind::stale && (best_ == no_score || now.validation > best_ + share_)) {
    best_ = now.validation;
    last_ = 0;
  } else if (kind_ == Kind::stale) {
    ++last_;
  }
  for (When& part : parts_) part.start_over(now);
}

MERISTEM_INLINE bool When::has(Kind kind) const {
  return kind_ == kind || std::any_of(parts_.begin(), parts_.end(), [&](const When& part) { return part.has(kind); });
}

MERISTEM_INLINE bool When::measures() const { return has(Kind::bottleneck); }

MERISTEM_INLINE bool When::times() const { return has(Kind::latency); }

MERISTEM_INLINE bool When::remembers() const { return has(Kind::plateau); }

MERISTEM_INLINE void When::write(std::vector<double>& numbers) const {
  numbers.push_back(static_cast<double>(static_cast<int>(kind_)));
  numbers.push_back(static_cast<double>(last_));
  numbers.push_back(best_);
  for (const When& part : parts_) part.write(numbers);
}

MERISTEM_INLINE bool When::read(const std::vector<double>& numbers, std::size_t& at) {
  if (at + 3 > numbers.size() || numbers[at] != static_cast<double>(static_cast<int>(kind_))) return false;
  // Counts, epochs and steps are whole; what is best is finite.
  if (!(numbers[at + 1] >= 0.0 && numbers[at + 1] < 1e15) || numbers[at + 1] != std::floor(numbers[at + 1]))
    return false;
  if (!std::isfinite(numbers[at + 2])) return false;
  last_ = static_cast<std::int64_t>(numbers[at + 1]);
  best_ = numbers[at + 2];
  at += 3;
  return std::all_of(parts_.begin(), parts_.end(), [&](When& part) { return part.read(numbers, at); });
}

template <Real T>
double measure_latency(Context& ctx, nn::Layer<T>& network, View<const std::type_identity_t<T>> inputs, int repeats) {
  if (repeats < 1) throw ArgumentError(concat("measure_latency: ", repeats, " repeats; give 1 or more"));
  std::vector<double> seconds;
  for (int i = 0; i <= repeats; ++i) {
    ctx.synchronize();
    const auto start = std::chrono::steady_clock::now();
    (void)nn::infer<T>(ctx, network, inputs);
    ctx.synchronize();
    if (i > 0) seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

}  // namespace meristem::grow
