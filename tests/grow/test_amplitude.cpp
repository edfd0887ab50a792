#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <meristem/grow/amplitude.hpp>
#include <support/check.hpp>

namespace grow_amplitude_test {

namespace ms = meristem;
using ms::grow::line_search;
using ms::grow::LineSearchOptions;
using ms::grow::LineSearchResult;
using support::contains;
using support::message_of;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// The search, and at which γ it looked.
struct Search {
  std::vector<double> tried;
  LineSearchResult result;

  explicit Search(const std::function<double(double)>& loss, const LineSearchOptions& options = {},
                  double slope = 0.0) {
    result = line_search(
        [&](double gamma) {
          tried.push_back(gamma);
          return loss(gamma);
        },
        options, slope);
    CHECK(result.evaluations == static_cast<int>(tried.size()));
    CHECK(tried[0] == 0.0);
  }
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("line search: a quadratic is followed to the power of two at its minimum") {
  const Search search([](double gamma) { return 1.0 + (gamma - 0.5) * (gamma - 0.5); });
  CHECK(search.result.accepted);
  CHECK(search.result.gamma == 0.5);
  CHECK(search.result.loss_before == 1.25);
  CHECK(search.result.loss_after == 1.0);
  // 0, then 2^-27 ... 2^-1, then 1, where it rises: powers of two, each exact.
  REQUIRE(search.tried.size() == 29);
  for (std::size_t i = 1; i < search.tried.size(); ++i) {
    CHECK(search.tried[i] == std::ldexp(1.0, static_cast<int>(i) - 28));
  }
}

TEST_CASE("line search: between two powers of two it takes the better one") {
  CHECK(Search([](double gamma) { return (gamma - 0.7) * (gamma - 0.7) + 1; }).result.gamma == 0.5);
  CHECK(Search([](double gamma) { return (gamma - 0.8) * (gamma - 0.8) + 1; }).result.gamma == 1.0);
}

TEST_CASE("line search: a loss that falls for ever ends at the largest amplitude, included") {
  const Search search([](double gamma) { return std::exp(-gamma); });
  CHECK(search.result.gamma == 16.0);
  CHECK(search.result.loss_after == std::exp(-16.0));
  CHECK(search.tried.size() == 1 + 32);
  CHECK(search.tried.back() == 16.0);

  const Search narrow([](double gamma) { return 1 - gamma / 8; }, {.smallest = 0.25, .largest = 3.0});
  CHECK(narrow.tried == std::vector<double>{0.0, 0.25, 0.5, 1.0, 2.0});
  CHECK(narrow.result.gamma == 2.0);

  const Search single([](double gamma) { return 1 - gamma / 8; }, {.smallest = 1.0, .largest = 1.0});
  CHECK(single.tried == std::vector<double>{0.0, 1.0});
  CHECK(single.result.gamma == 1.0);
}

TEST_CASE("line search: a slope passes over amplitudes far below what acceptance asks for, and changes no result") {
  const auto loss = [](double gamma) { return 2.0 - 0.5 * gamma + 0.5 * gamma * gamma; };
  const Search all(loss), few(loss, {}, 0.5);
  CHECK(few.result.gamma == all.result.gamma);
  CHECK(few.result.loss_after == all.result.loss_after);
  // Acceptance asks for 2e-3; an eighth of it is promised at 5e-4, above 2^-11 = 4.9e-4.
  CHECK(few.tried[1] == 0x1p-11);
  CHECK(few.tried.size() + 16 == all.tried.size());
  // A slope so small that even the largest amplitude promises too little leaves that one to try.
  CHECK(Search(loss, {.largest = 1.0}, 1e-9).tried == std::vector<double>{0.0, 1.0});
  // Without a decrease to ask for nothing is passed over.
  CHECK(Search(loss, {.least_relative_decrease = 0.0}, 0.5).tried == all.tried);
}

TEST_CASE("line search: a rise at once adds nothing") {
  const Search search([](double gamma) { return 1 + gamma; }, {.smallest = 0.125});
  CHECK_FALSE(search.result.accepted);
  CHECK(search.result.gamma == 0.0);
  CHECK(search.result.loss_before == 1.0);
  CHECK(search.result.loss_after == 1.0);
  CHECK(search.tried == std::vector<double>{0.0, 0.125});
}

TEST_CASE("line search: the first rise ends it, whatever lies beyond") {
  const auto two_valleys = [](double gamma) {
    if (gamma < 0.5) return 1.0 - gamma;
    return gamma < 2.0 ? 0.9 : 0.0;
  };
  const Search search(two_valleys, {.smallest = 0.125});
  CHECK(search.tried == std::vector<double>{0.0, 0.125, 0.25, 0.5});
  CHECK(search.result.gamma == 0.25);
  CHECK(search.result.loss_after == 0.75);
}

TEST_CASE("line search: amplitudes below the resolution of the loss do not count as rises") {
  // A float32 loss just below 1 moves in steps of 2^-24: it goes one down and one up again while γ is too small.
  const auto jitter = [](double gamma) {
    int exponent = 0;
    (void)std::frexp(gamma, &exponent);
    if (gamma < 0x1p-20) return exponent % 2 == 0 ? 1.0 : 1.0 - 0x1p-24;
    return 1.0 - 0.5 * gamma;
  };
  const Search search(jitter, {.largest = 1.0});
  CHECK(search.result.accepted);
  CHECK(search.result.gamma == 1.0);
  // 1.000001 is a rise: ten times the resolution.
  CHECK_FALSE(Search([](double gamma) { return gamma == 0 ? 1.0 : gamma < 1e-3 ? 1.000001 : 0.5; }).result.accepted);
}

TEST_CASE("line search: a flat loss is walked to the end and not accepted") {
  for (const double level : {1.0, 0.0, -3.0}) {
    CAPTURE(level);
    const Search search([&](double) { return level; }, {.least_relative_decrease = 0.0});
    CHECK_FALSE(search.result.accepted);
    CHECK(search.result.gamma == 0.0);
    CHECK(search.result.loss_after == level);
    CHECK(search.tried.size() == 33);
  }
}

TEST_CASE("line search: a loss that is not finite counts as a rise") {
  for (const double bad : {not_a_number, infinity, -infinity}) {
    CAPTURE(bad);
    const Search search([&](double gamma) { return gamma > 1.0 ? bad : 1.0 - gamma / 2; });
    CHECK(search.result.accepted);
    CHECK(search.result.gamma == 1.0);
    CHECK(search.result.loss_after == 0.5);
    CHECK(search.tried.back() == 2.0);
    const Search at_once([&](double gamma) { return gamma > 0.0 ? bad : 1.0; });
    CHECK_FALSE(at_once.result.accepted);
    CHECK(at_once.result.evaluations == 2);
  }
}

TEST_CASE("line search: the decrease is accepted from the threshold on, relative to the loss") {
  const auto falls_by = [](double share, double level) {
    return [=](double gamma) {
      return gamma == 1.0 ? level - share * std::abs(level) : gamma < 1.0 ? level : level + 1;
    };
  };
  // Powers of two: the difference is exact.
  const LineSearchOptions options{.least_relative_decrease = 0x1p-10};
  for (const double level : {1.0, 4.0, -2.0}) {
    CAPTURE(level);
    CHECK(Search(falls_by(0x1p-10, level), options).result.accepted);
    CHECK(Search(falls_by(0x1p-10 + 0x1p-40, level), options).result.accepted);
    const Search below(falls_by(0x1p-10 - 0x1p-40, level), options);
    CHECK_FALSE(below.result.accepted);
    CHECK(below.result.gamma == 0.0);
    CHECK(below.result.loss_after == level);
  }
  // The default threshold is one in a thousand.
  CHECK(Search(falls_by(1.001e-3, 1.0)).result.accepted);
  CHECK_FALSE(Search(falls_by(0.999e-3, 1.0)).result.accepted);
  // Threshold 0: any decrease will do, no decrease will not.
  CHECK(Search(falls_by(0x1p-50, 1.0), {.least_relative_decrease = 0.0}).result.accepted);
  CHECK_FALSE(Search(falls_by(0.0, 1.0), {.least_relative_decrease = 0.0}).result.accepted);
  // From a loss of 0 any fall is enough, relative to nothing.
  CHECK(Search([](double gamma) { return -gamma; }).result.accepted);
}

TEST_CASE("line search: the same values twice are no better") {
  const Search search([](double gamma) { return gamma >= 1.0 ? 0.5 : 1.0; }, {.smallest = 0.5, .largest = 4.0});
  CHECK(search.result.gamma == 1.0);
}

TEST_CASE("line search: a loss before growth that is not finite is an error") {
  int calls = 0;
  const auto text = message_of<ms::NumericError>([&] {
    (void)line_search([&](double) {
      ++calls;
      return not_a_number;
    });
  });
  CHECK(contains(text, "line search: the loss before growth is nan"));
  CHECK(contains(text, "look at the data"));
  CHECK(calls == 1);
  CHECK(contains(message_of<ms::NumericError>([] { (void)line_search([](double) { return infinity; }); }), "is inf"));
}

TEST_CASE("line search: bad options are told before the loss is looked at") {
  const auto refused = [](const LineSearchOptions& options) {
    return message_of<ms::ArgumentError>([&] {
      (void)line_search([](double) -> double { throw std::logic_error("the loss was evaluated"); }, options);
    });
  };
  CHECK(contains(refused({.smallest = 0.0}), "needs 0 < smallest <= largest; got 0 and 16"));
  CHECK(contains(refused({.smallest = -1.0}), "got -1 and 16"));
  CHECK(contains(refused({.smallest = 2.0, .largest = 1.0}), "got 2 and 1"));
  CHECK(contains(refused({.smallest = not_a_number}), "got nan and 16"));
  CHECK(contains(refused({.largest = not_a_number}), "and nan"));
  CHECK(contains(refused({.largest = infinity}), "and inf"));
  CHECK(contains(refused({.least_relative_decrease = -0.1}), "least_relative_decrease is -0.1; it must lie in [0, 1)"));
  CHECK(contains(refused({.least_relative_decrease = 1.0}), "least_relative_decrease is 1;"));
  CHECK(contains(refused({.least_relative_decrease = not_a_number}), "least_relative_decrease is nan"));
}

TEST_CASE("line search: an error of the loss reaches the caller") {
  const auto text = message_of<ms::DataError>([] {
    (void)line_search([](double gamma) {
      if (gamma > 1.0) throw ms::DataError("the samples are gone");
      return 1.0 - gamma / 4;
    });
  });
  CHECK(text == "the samples are gone");
}

TEST_SUITE_END();

}  // namespace grow_amplitude_test
