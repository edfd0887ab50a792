#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <meristem/optim/schedule.hpp>
#include <support/check.hpp>

namespace optim_schedule_test {

namespace ms = meristem;
using ms::optim::Decay;
using ms::optim::Schedule;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("schedule: constant keeps its rate for ever") {
  const Schedule schedule({.peak = 0.3});
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1} << 40}) {
    CHECK(schedule.at(step) == 0.3);
  }
  CHECK(Schedule({.peak = 0.0}).at(5) == 0.0);
  CHECK(Schedule({.peak = 0.3, .total_steps = 2}).at(7) == 0.3);
}

TEST_CASE("schedule: warm-up rises in equal steps to the peak") {
  const Schedule schedule({.peak = 0.8, .warmup_steps = 4});
  CHECK(schedule.at(0) == 0.2);
  CHECK(schedule.at(1) == 0.4);
  CHECK(schedule.at(2) == doctest::Approx(0.6).epsilon(1e-15));
  CHECK(schedule.at(3) == 0.8);
  CHECK(schedule.at(4) == 0.8);
  CHECK(schedule.at(100) == 0.8);
  CHECK(Schedule({.peak = 0.8, .warmup_steps = 1}).at(0) == 0.8);
}

TEST_CASE("schedule: cosine has its closed forms at the ends, the middle and the thirds") {
  // cos is accurate to an ulp or so, and a few roundings follow: 8 eps of the peak.
  const double tolerance = 8 * support::eps<double>;
  for (const std::int64_t warmup : {0, 6}) {
    CAPTURE(warmup);
    const Schedule schedule(
        {.peak = 1.0, .decay = Decay::cosine, .warmup_steps = warmup, .total_steps = warmup + 12, .floor = 0.2});
    CHECK(schedule.at(warmup) == 1.0);
    CHECK(std::abs(schedule.at(warmup + 6) - 0.6) <= tolerance);
    // cos(π/3) = 1/2, cos(2π/3) = -1/2, cos(π/4) = √2/2.
    CHECK(std::abs(schedule.at(warmup + 4) - (0.2 + 0.8 * 0.75)) <= tolerance);
    CHECK(std::abs(schedule.at(warmup + 8) - (0.2 + 0.8 * 0.25)) <= tolerance);
    CHECK(std::abs(schedule.at(warmup + 3) - (0.2 + 0.4 * (1.0 + std::sqrt(2.0) / 2))) <= tolerance);
    CHECK(schedule.at(warmup + 12) == 0.2);
    for (std::int64_t step = warmup; step < warmup + 12; ++step) CHECK(schedule.at(step) > schedule.at(step + 1));
    if (warmup > 0) {
      CHECK(schedule.at(0) == doctest::Approx(1.0 / 6).epsilon(1e-15));
      CHECK(schedule.at(warmup - 1) == 1.0);
    }
  }
}

TEST_CASE("schedule: linear falls in equal steps") {
  const Schedule schedule({.peak = 1.0, .decay = Decay::linear, .warmup_steps = 2, .total_steps = 10, .floor = 0.5});
  // The fractions are eighths: no rounding.
  CHECK(schedule.at(1) == 1.0);
  for (std::int64_t step = 2; step <= 10; ++step) {
    CHECK(schedule.at(step) == 1.0 - 0.5 * static_cast<double>(step - 2) / 8.0);
  }
  CHECK(schedule.at(11) == 0.5);
  CHECK(Schedule({.peak = 3.0, .decay = Decay::linear, .total_steps = 4}).at(4) == 0.0);
}

TEST_CASE("schedule: holds the peak after warm-up, then decays over the rest") {
  for (const Decay decay : {Decay::cosine, Decay::linear}) {
    for (const std::int64_t warmup : {0, 3}) {
      for (const std::int64_t hold : {0, 1, 5, 11}) {
        CAPTURE(warmup);
        CAPTURE(hold);
        const std::int64_t total = 20;
        const Schedule schedule({.peak = 0.7,
                                 .decay = decay,
                                 .warmup_steps = warmup,
                                 .hold_steps = hold,
                                 .total_steps = total,
                                 .floor = 0.1});
        for (std::int64_t step = 0; step < total + 3; ++step) {
          const double x = std::clamp(
              static_cast<double>(step - warmup - hold) / static_cast<double>(total - warmup - hold), 0.0, 1.0);
          const double half = std::cos(std::acos(-1.0) * x / 2);  // (1 + cos πx) / 2 = cos²(πx/2)
          double expected = 0.1 + 0.6 * (decay == Decay::cosine ? half * half : 1.0 - x);
          if (step < warmup) expected = 0.7 * static_cast<double>(step + 1) / static_cast<double>(warmup);
          CAPTURE(step);
          CHECK(std::abs(schedule.at(step) - expected) <= 8 * support::eps<double>);
          if (step >= warmup && step <= warmup + hold) CHECK(schedule.at(step) == 0.7);
        }
        CHECK(schedule.at(warmup + hold + 1) < 0.7);
        CHECK(schedule.at(total) == doctest::Approx(0.1).epsilon(1e-15));
      }
    }
  }
  // Decay after a hold is the schedule without one, later.
  const Schedule later({.decay = Decay::cosine, .hold_steps = 6, .total_steps = 17});
  const Schedule plain({.decay = Decay::cosine, .total_steps = 11});
  for (std::int64_t step = 0; step < 13; ++step) CHECK(later.at(step + 6) == plain.at(step));
  CHECK(Schedule({.peak = 0.3, .hold_steps = 5}).at(100) == 0.3);
}

TEST_CASE("schedule: steps beyond the end keep the last rate") {
  const Schedule schedule({.peak = 1.0, .decay = Decay::cosine, .total_steps = 10, .floor = 0.125});
  CHECK(schedule.at(11) == 0.125);
  CHECK(schedule.at(std::numeric_limits<std::int64_t>::max()) == 0.125);
  CHECK(Schedule({.peak = 1.0, .decay = Decay::cosine, .total_steps = 1}).at(1) == 0.0);
}

TEST_CASE("schedule: a floor at the peak makes cosine constant") {
  const Schedule schedule({.peak = 0.5, .decay = Decay::cosine, .total_steps = 7, .floor = 0.5});
  for (std::int64_t step = 0; step < 9; ++step) CHECK(schedule.at(step) == 0.5);
}

TEST_CASE("schedule: bad options are told with their numbers") {
  const auto refused = [](const ms::optim::ScheduleOptions& options) {
    return message_of<ms::ArgumentError>([&] { Schedule{options}; });
  };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  CHECK(contains(refused({.peak = -0.1}), "0 <= floor <= peak; got floor 0, peak -0.1"));
  CHECK(contains(refused({.peak = 0.1, .floor = 0.2}), "got floor 0.2, peak 0.1"));
  CHECK(contains(refused({.peak = 0.1, .floor = -1}), "got floor -1, peak 0.1"));
  CHECK(contains(refused({.peak = nan}), "peak nan"));
  CHECK(contains(refused({.floor = nan}), "floor nan"));
  CHECK(contains(refused({.peak = infinity}), "must be finite"));
  CHECK(contains(refused({.warmup_steps = -1}), "warmup_steps -1, hold_steps 0 and total_steps 0 must be 0"));
  CHECK(contains(refused({.total_steps = -5}), "total_steps -5 must be 0 or more"));
  CHECK(contains(refused({.hold_steps = -2}), "hold_steps -2 and total_steps 0 must be 0 or more"));
  CHECK(contains(refused({.decay = Decay::cosine}),
                 "cosine needs total_steps (0) beyond warmup_steps (0) and hold_steps (0) together"));
  CHECK(contains(refused({.decay = Decay::linear, .warmup_steps = 2, .hold_steps = 3, .total_steps = 5}),
                 "linear needs total_steps (5) beyond warmup_steps (2) and hold_steps (3) together"));
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  CHECK(contains(refused({.decay = Decay::cosine, .warmup_steps = most, .hold_steps = most, .total_steps = 5}),
                 "together"));
  CHECK(contains(refused({.decay = Decay::cosine, .warmup_steps = 5, .total_steps = 5}),
                 "total_steps (5) beyond warmup_steps (5)"));
  const Schedule schedule({.peak = 0.1});
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)schedule.at(-1); }), "there is no step -1"));
}

TEST_SUITE_END();

}  // namespace optim_schedule_test
