#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <meristem/grow/policy/amplitude.hpp>
#include <support/check.hpp>

namespace grow_amplitude_test {

namespace ms = meristem;
using ms::grow::Amplitude;
using ms::grow::line_search;
using ms::grow::detail::LineSearchResult;
using support::contains;
using support::message_of;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// The search, and at which γ it looked.
struct Search {
  std::vector<double> tried;
  LineSearchResult result;

  Search(const std::function<double(double)>& loss, double slope, const Amplitude& options = {}) {
    result = line_search(
        [&](double gamma) {
          tried.push_back(gamma);
          return loss(gamma);
        },
        slope, options);
    CHECK(result.evaluations == static_cast<int>(tried.size()));
    CHECK(tried[0] == 0.0);
  }
};

/// A slope for which the search of a loss of 1 at γ = 0 begins at `gamma`.
double begin_at(double gamma) { return Amplitude{}.first_decrease / gamma; }

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("line search: it begins where the first-order decrease is a share of the loss, at a power of two") {
  const auto first = [](double loss, double slope, const Amplitude& options = {}) {
    return Search([=](double gamma) { return gamma == 0.0 ? loss : loss + 1; }, slope, options).tried[1];
  };
  // 0.02 · 2 / 0.5 = 0.08, between 2^-4 = 0.0625 and 2^-3 = 0.125; the middle of them on a log scale is 0.088.
  CHECK(first(2.0, 0.5) == 0x1p-4);
  CHECK(first(2.0, 0.5, {.first_decrease = 0.025}) == 0x1p-3);
  CHECK(first(-2.0, 0.5) == 0x1p-4);
  CHECK(first(2.0, 1e-9) == 16.0);
  CHECK(first(2.0, 1e-9, {.largest = 3.0}) == 3.0);
  // No slope downhill, no scale to go by.
  for (const double none : {0.0, -1.0, not_a_number}) CHECK(first(2.0, none) == 1.0);
  CHECK(first(0.0, 0.5) == 1.0);
  CHECK(first(1.0, infinity) == 1.0);
}

TEST_CASE("line search: from either side a quadratic is followed to the power of two at its minimum") {
  const auto loss = [](double gamma) { return 0.75 + (gamma - 0.5) * (gamma - 0.5); };
  const Search up(loss, begin_at(0.125));
  CHECK(up.result.accepted);
  CHECK(up.result.gamma == 0.5);
  CHECK(up.result.loss_before == 1.0);
  CHECK(up.result.loss_after == 0.75);
  CHECK(up.tried == std::vector<double>{0.0, 0.125, 0.25, 0.5, 1.0});
  // At 4 and 2 the loss is above that at 0, at 1 it is the same: no better.
  const Search down(loss, begin_at(4.0));
  CHECK(down.result.gamma == 0.5);
  CHECK(down.result.loss_after == 0.75);
  CHECK(down.tried == std::vector<double>{0.0, 4.0, 2.0, 1.0, 0.5, 0.25});
}

TEST_CASE("line search: a loss that falls for ever ends at the largest amplitude, included") {
  const Search search([](double gamma) { return std::exp(-gamma); }, begin_at(4.0));
  CHECK(search.result.gamma == 16.0);
  CHECK(search.result.loss_after == std::exp(-16.0));
  CHECK(search.tried == std::vector<double>{0.0, 4.0, 8.0, 16.0});
  const Search narrow([](double gamma) { return 1 - gamma / 8; }, begin_at(0.25), {.largest = 3.0});
  CHECK(narrow.tried == std::vector<double>{0.0, 0.25, 0.5, 1.0, 2.0});
  CHECK(narrow.result.gamma == 2.0);
}

TEST_CASE("line search: the number of losses is bounded, up and down") {
  for (const int most : {2, 3, 10}) {
    CAPTURE(most);
    const Amplitude options{.largest = 1e9, .most_evaluations = most};
    CHECK(Search([](double gamma) { return std::exp(-gamma); }, begin_at(0.25), options).result.evaluations == most);
    const Search rises([](double gamma) { return 1 + gamma; }, begin_at(0.25), options);
    CHECK(rises.result.evaluations == most);
    CHECK_FALSE(rises.result.accepted);
    CHECK(rises.result.gamma == 0.0);
    CHECK(rises.result.loss_after == 1.0);
    CHECK(rises.tried.back() == std::ldexp(0.25, 2 - most));
  }
}

TEST_CASE("line search: the first rise behind a decrease ends it, whatever lies beyond") {
  const auto two_valleys = [](double gamma) {
    if (gamma < 0.5) return 1.0 - gamma;
    return gamma < 2.0 ? 0.9 : 0.0;
  };
  const Search search(two_valleys, begin_at(0.125));
  CHECK(search.tried == std::vector<double>{0.0, 0.125, 0.25, 0.5});
  CHECK(search.result.gamma == 0.25);
  CHECK(search.result.loss_after == 0.75);
}

TEST_CASE("line search: a flat loss is not accepted") {
  for (const double level : {1.0, 0.0, -3.0}) {
    CAPTURE(level);
    const Search search([&](double) { return level; }, 1.0, {.least_relative_decrease = 0.0});
    CHECK_FALSE(search.result.accepted);
    CHECK(search.result.gamma == 0.0);
    CHECK(search.result.loss_after == level);
  }
}

TEST_CASE("line search: a loss that is not finite counts as a rise") {
  for (const double bad : {not_a_number, infinity, -infinity}) {
    CAPTURE(bad);
    const auto loss = [&](double gamma) { return gamma > 1.0 ? bad : 1.0 - gamma / 2; };
    for (const double begin : {0.5, 8.0}) {
      const Search search(loss, begin_at(begin));
      CHECK(search.result.accepted);
      CHECK(search.result.gamma == 1.0);
      CHECK(search.result.loss_after == 0.5);
    }
    CHECK_FALSE(Search([&](double gamma) { return gamma > 0.0 ? bad : 1.0; }, 1.0).result.accepted);
  }
}

TEST_CASE("line search: the decrease is accepted from the threshold on, relative to the loss") {
  const auto falls_by = [](double share, double level) {
    return [=](double gamma) {
      return gamma == 1.0 ? level - share * std::abs(level) : gamma < 1.0 ? level : level + 1;
    };
  };
  const auto accepted = [](const std::function<double(double)>& loss, const Amplitude& options = {}) {
    return Search(loss, begin_at(1.0) * std::abs(loss(0.0)), options).result.accepted;
  };
  // Powers of two: the difference is exact.
  const Amplitude options{.least_relative_decrease = 0x1p-10};
  for (const double level : {1.0, 4.0, -2.0}) {
    CAPTURE(level);
    CHECK(accepted(falls_by(0x1p-10, level), options));
    CHECK(accepted(falls_by(0x1p-10 + 0x1p-40, level), options));
    CHECK_FALSE(accepted(falls_by(0x1p-10 - 0x1p-40, level), options));
  }
  // The default threshold is one in a thousand.
  CHECK(accepted(falls_by(1.001e-3, 1.0)));
  CHECK_FALSE(accepted(falls_by(0.999e-3, 1.0)));
  // Threshold 0: any decrease will do, no decrease will not.
  CHECK(accepted(falls_by(0x1p-50, 1.0), {.least_relative_decrease = 0.0}));
  CHECK_FALSE(accepted(falls_by(0.0, 1.0), {.least_relative_decrease = 0.0}));
  // From a loss of 0 any fall is enough, relative to nothing.
  CHECK(accepted([](double gamma) { return -gamma; }));
}

TEST_CASE("line search: a loss before growth that is not finite is an error") {
  int calls = 0;
  const auto text = message_of<ms::NumericError>([&] {
    (void)line_search(
        [&](double) {
          ++calls;
          return not_a_number;
        },
        1.0);
  });
  CHECK(contains(text, "line search: the loss before growth is nan"));
  CHECK(contains(text, "look at the data"));
  CHECK(calls == 1);
  CHECK(contains(message_of<ms::NumericError>([] { (void)line_search([](double) { return infinity; }, 1.0); }),
                 "is inf"));
}

TEST_CASE("line search: bad options are told before the loss is looked at") {
  const auto refused = [](const Amplitude& options) {
    return message_of<ms::ArgumentError>([&] {
      (void)line_search([](double) -> double { throw std::logic_error("the loss was evaluated"); }, 1.0, options);
    });
  };
  for (const double bad : {0.0, 1.0, -0.1, not_a_number}) {
    CHECK(contains(refused({.first_decrease = bad}), "first_decrease is"));
  }
  CHECK(contains(refused({.first_decrease = 2.0}), "first_decrease is 2; it must lie between 0 and 1"));
  CHECK(contains(refused({.largest = 0.0}), "largest is 0; it must be positive, and finite"));
  CHECK(contains(refused({.largest = not_a_number}), "largest is nan"));
  CHECK(contains(refused({.largest = infinity}), "largest is inf"));
  CHECK(contains(refused({.least_relative_decrease = -0.1}), "least_relative_decrease is -0.1; it must lie in [0, 1)"));
  CHECK(contains(refused({.least_relative_decrease = 1.0}), "least_relative_decrease is 1;"));
  CHECK(contains(refused({.least_relative_decrease = not_a_number}), "least_relative_decrease is nan"));
  CHECK(contains(refused({.most_evaluations = 1}), "most_evaluations is 1; it must be 2 or more"));
}

TEST_CASE("line search: an error of the loss reaches the caller") {
  const auto text = message_of<ms::DataError>([] {
    (void)line_search(
        [](double gamma) {
          if (gamma > 1.0) throw ms::DataError("the samples are gone");
          return 1.0 - gamma / 4;
        },
        begin_at(1.0));
  });
  CHECK(text == "the samples are gone");
}

TEST_SUITE_END();

}  // namespace grow_amplitude_test
