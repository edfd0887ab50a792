// Definitions of until.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include <meristem/grow/policy/until.hpp>

namespace meristem::grow {

MERISTEM_INLINE void Until::require_valid() const {
  const auto refuse = [](const char* limit, double value, const char* range) {
    throw ArgumentError(concat("Grower: until.", limit, " is ", value, "; it must be ", range));
  };
  if (empty_steps < 0) refuse("empty_steps", static_cast<double>(empty_steps), "0 or more");
  if (!(latency > 0.0)) refuse("latency", latency, "above 0 seconds");
  if (patience < 0) refuse("patience", static_cast<double>(patience), "0 or more");
  if (!(least_gain >= 0.0 && std::isfinite(least_gain))) refuse("least_gain", least_gain, "0 or more, and finite");
}

MERISTEM_INLINE void Until::require_validation(double validation) const {
  if (patience == 0 || std::isfinite(validation)) return;
  throw ArgumentError(concat("Grower: until.patience needs Progress::validation, and it is ", validation,
                             "; give it the latest accuracy on samples that are held out, or the negative loss"));
}

MERISTEM_INLINE void detail::UntilCount::before_step(const Until& limits, double validation) {
  if (limits.patience == 0) return;
  if (best_ == none || validation > best_ + limits.least_gain) {
    best_ = validation;
    stale_ = 0;
  } else {
    ++stale_;
  }
}

MERISTEM_INLINE void detail::UntilCount::after_step(std::int64_t added, std::optional<double> latency) {
  empty_ = added > 0 ? 0 : empty_ + 1;
  if (latency) latency_ = *latency;
}

MERISTEM_INLINE std::optional<std::string> detail::UntilCount::over(const Until& limits) const {
  const auto steps = [](std::int64_t count) { return count == 1 ? "the last growth step" : "growth steps in a row"; };
  if (limits.empty_steps > 0 && empty_ >= limits.empty_steps) {
    return concat(empty_ == 1 ? "" : concat(empty_, " "), steps(empty_), " added no unit");
  }
  if (limits.patience > 0 && stale_ >= limits.patience) {
    return concat(stale_ == 1 ? "" : concat(stale_, " "), steps(stale_), " gained nothing in validation, best ", best_);
  }
  if (latency_ > limits.latency) {
    return concat("a sample takes ", latency_, " s, more than ", limits.latency);
  }
  return std::nullopt;
}

MERISTEM_INLINE std::vector<double> detail::UntilCount::state() const {
  return {static_cast<double>(empty_), static_cast<double>(stale_), best_, latency_};
}

MERISTEM_INLINE void detail::UntilCount::restore(const std::vector<double>& numbers) {
  if (numbers.size() != state().size()) {
    throw ArgumentError(
        concat("Grower: ", numbers.size(), " saved numbers tell when growth is over; ", state().size(), " are needed"));
  }
  const auto counts = [](double number) { return number >= 0.0 && number < 1e15 && number == std::floor(number); };
  if (!counts(numbers[0]) || !counts(numbers[1]) || !std::isfinite(numbers[2]) ||
      !(numbers[3] >= 0.0 && std::isfinite(numbers[3]))) {
    throw ArgumentError(concat("Grower: ", numbers[0], ", ", numbers[1], ", ", numbers[2], ", ", numbers[3],
                               " were saved of when growth is over; two counts, a finite best validation and seconds "
                               "are needed"));
  }
  empty_ = static_cast<std::int64_t>(numbers[0]);
  stale_ = static_cast<std::int64_t>(numbers[1]);
  best_ = numbers[2];
  latency_ = numbers[3];
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
