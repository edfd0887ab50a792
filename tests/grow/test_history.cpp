// The history of growth as JSON lines.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <meristem/grow/history.hpp>
#include <meristem/io/history.hpp>
#include <support/check.hpp>

namespace grow_history_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

ms::grow::History sample() {
  ms::grow::History history;
  ms::grow::GrowthReport report;
  report.method = "tiny";
  report.where = "all";
  report.parameters = 1234567;
  report.operations = 1.5e12;
  report.seconds = 0.25;
  report.sites.push_back({.name = "stage1.block1.conv1",
                          .width = 8,
                          .added = 3,
                          .goal_norm2 = 0.1,
                          .bottleneck = 1.0 / 3.0,
                          .best_move_decrease = 5e-324,
                          .lambda = {1e300, 0.7, -0.0, 2.0},
                          .threshold = 1e22,
                          .gain = std::nextafter(1.0, 2.0),
                          .slope = -1e-7,
                          .gamma = 0.25,
                          .predicted = 123456789012345678.0,
                          .loss_before = infinity,
                          .loss_after = -infinity,
                          .evaluations = 12,
                          .parameters = 1234567,
                          .multiply_adds = 9876543210,
                          .asked = 4,
                          .found = 3,
                          .samples = 2000,
                          .lambda_error = 0.3,
                          .accuracy = 0.5,
                          .seconds = 1.5,
                          .stream = "stem.conv",
                          .block = "stage1.block1_1",
                          .new_parameters = 321,
                          .new_multiply_adds = 5000000000});
  report.sites.push_back({.name = "odd \"name\" \\ with\ttab, \x01 and \xc3\xa9", .note = "two\nlines"});
  history.add(3, 150, report);
  report.sites.pop_back();
  report.where = "best_gain";
  history.add(6, 300, report);
  return history;
}

bool same_number(double a, double b) { return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof(a)) == 0; }

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("history: what is written reads back with the same bits") {
  const ms::grow::History history = sample();
  std::stringstream text;
  history.write_json_lines(text);
  const ms::grow::History back = ms::io::read_history(text);
  REQUIRE(back.steps.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto &one = history.steps[i], &two = back.steps[i];
    CHECK(one.epoch == two.epoch);
    CHECK(one.step == two.step);
    CHECK(one.method == two.method);
    CHECK(one.where == two.where);
    CHECK(one.parameters == two.parameters);
    CHECK(same_number(one.operations, two.operations));
    CHECK(same_number(one.seconds, two.seconds));
    REQUIRE(one.sites.size() == two.sites.size());
    for (std::size_t j = 0; j < one.sites.size(); ++j) {
      const auto &a = one.sites[j], &b = two.sites[j];
      CHECK(a.name == b.name);
      CHECK(a.note == b.note);
      CHECK(a.stream == b.stream);
      CHECK(a.block == b.block);
      using Site = ms::grow::SiteReport;
      for (const auto member : {&Site::width, &Site::added, &Site::parameters, &Site::multiply_adds, &Site::asked,
                                &Site::found, &Site::samples, &Site::new_parameters, &Site::new_multiply_adds}) {
        CHECK(a.*member == b.*member);
      }
      CHECK(a.evaluations == b.evaluations);
      int index = 0;
      for (const auto member : {&Site::goal_norm2, &Site::bottleneck, &Site::best_move_decrease, &Site::threshold,
                                &Site::gain, &Site::slope, &Site::gamma, &Site::predicted, &Site::loss_before,
                                &Site::loss_after, &Site::lambda_error, &Site::accuracy, &Site::seconds}) {
        CAPTURE(index++);
        CHECK(same_number(a.*member, b.*member));
      }
      REQUIRE(a.lambda.size() == b.lambda.size());
      for (std::size_t k = 0; k < a.lambda.size(); ++k) CHECK(same_number(a.lambda[k], b.lambda[k]));
    }
  }
}

TEST_CASE("history: random bits of doubles survive") {
  const ms::Philox random(5, 5);
  ms::grow::History history;
  ms::grow::SiteReport site{.name = "s"};
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const std::uint64_t bits =
        random.below(2 * i, std::uint64_t{1} << 32) << 32 | random.below(2 * i + 1, std::uint64_t{1} << 32);
    double value;
    std::memcpy(&value, &bits, sizeof(value));
    site.lambda.push_back(value);
  }
  ms::grow::GrowthReport report;
  report.sites.push_back(site);
  history.add(0, 0, report);
  std::stringstream text;
  history.write_json_lines(text);
  const auto back = ms::io::read_history(text).steps.front().sites.front().lambda;
  REQUIRE(back.size() == site.lambda.size());
  int different = 0;
  for (std::size_t i = 0; i < back.size(); ++i) different += !same_number(back[i], site.lambda[i]);
  CHECK(different == 0);
}

TEST_CASE("history: one line per site, strict JSON") {
  const std::string lines = sample().json_lines(0);
  std::istringstream in(lines);
  std::string line;
  std::vector<nlohmann::json> objects;
  while (std::getline(in, line)) objects.push_back(nlohmann::json::parse(line));
  REQUIRE(objects.size() == 2);
  CHECK(objects[0]["growth"] == 0);
  CHECK(objects[0]["epoch"] == 3);
  CHECK(objects[0]["step"] == 150);
  CHECK(objects[0]["site"] == "stage1.block1.conv1");
  CHECK(objects[0]["added"] == 3);
  CHECK(objects[0]["gamma"] == 0.25);
  CHECK(objects[0]["loss_before"] == "inf");
  CHECK(objects[0]["loss_after"] == "-inf");
  CHECK(objects[1]["accuracy"].is_null());
  CHECK(objects[1]["site"] == "odd \"name\" \\ with\ttab, \x01 and \xc3\xa9");
  CHECK(objects[1]["note"] == "two\nlines");
  CHECK(contains(message_of<ms::ArgumentError>([] { (void)sample().json_lines(2); }), "no growth step 2 among 2"));
}

TEST_CASE("history: a growth step without sites is a line") {
  ms::grow::History history = sample();
  ms::grow::GrowthReport empty{.method = "tiny", .where = "all", .parameters = 7, .seconds = 0.5, .operations = 12.0};
  history.add(7, 350, empty);
  history.add(8, 400, history.steps[1]);
  const auto line = nlohmann::json::parse(history.json_lines(2));
  CHECK(line["growth"] == 2);
  CHECK(line["sites"] == 0);
  CHECK(!line.contains("site"));
  std::stringstream text;
  history.write_json_lines(text);
  const ms::grow::History back = ms::io::read_history(text);
  REQUIRE(back.steps.size() == 4);
  CHECK(back.steps[2].sites.empty());
  CHECK(back.steps[2].epoch == 7);
  CHECK(back.steps[2].step == 350);
  CHECK(back.steps[2].method == "tiny");
  CHECK(back.steps[2].parameters == 7);
  CHECK(back.steps[2].operations == 12.0);
  CHECK(back.steps[3].sites.size() == 1);
}

TEST_CASE("history: saved to a file and loaded") {
  const auto path = std::filesystem::temp_directory_path() / "meristem_test_history.jsonl";
  sample().save(path.string());
  CHECK(ms::io::load_history(path.string()).steps.size() == 2);
  std::filesystem::remove(path);
  CHECK(contains(message_of<ms::IoError>([&] { (void)ms::io::load_history(path.string()); }), "cannot open"));
  CHECK(contains(message_of<ms::IoError>([] { sample().save("/nonexistent/folder/h.jsonl"); }), "cannot open"));
}

TEST_CASE("history: text that is no history is refused, and the line is named") {
  const auto refused = [](const std::string& text) {
    return message_of<ms::DataError>([&] {
      std::istringstream in(text);
      (void)ms::io::read_history(in, "h.jsonl");
    });
  };
  const std::string whole = sample().json_lines(0);
  const std::string first = whole.substr(0, whole.find('\n') + 1), second = whole.substr(first.size());
  CHECK(contains(refused("\n{\n"), "h.jsonl, line 2 is no JSON object"));
  CHECK(contains(refused("[1]\n"), "line 1 is no JSON object"));
  CHECK(contains(refused("{}\n"), "line 1 lacks 'growth'"));
  CHECK(contains(refused("{\"growth\":\"x\"}\n"), "has no whole number at 'growth'"));
  CHECK(contains(refused("{\"growth\":1}\n"), "belongs to growth step 1, but step 0 is next"));
  CHECK(contains(refused(first), "growth step 0 lacks 1 site"));
  CHECK(contains(refused(first + sample().json_lines(1)), "line 2 belongs to growth step 1, but step 0 lacks 1 site"));
  CHECK(contains(refused(first.substr(0, first.size() / 2)), "line 1 is no JSON object"));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = first;
    text.replace(text.find(from), from.size(), to);
    return text + second;
  };
  CHECK(contains(refused(with("\"gamma\":0.25", "\"gamma\":\"big\"")), "has no number at 'gamma'"));
  CHECK(contains(refused(with("\"method\":\"tiny\"", "\"method\":4")), "has no text at 'method'"));
  CHECK(contains(refused(with("\"lambda\":[1e+300,", "\"lambda\":{\"a\":1},\"x\":[")),
                 "has no list of numbers at 'lambda'"));
  CHECK(contains(refused(with("\"sites\":2", "\"sites\":0")), "has 0 sites"));
  CHECK(contains(refused(with("\"sites\":2", "\"sites\":-1")), "has -1 sites"));
  // A history from before networks grew in depth.
  std::string old = first + second;
  for (const char* key : {"stream", "block", "new_parameters", "new_multiply_adds"}) {
    for (std::size_t at; (at = old.find(ms::concat("\"", key, "\":"))) != std::string::npos;) {
      old.erase(at, old.find(',', at) + 1 - at);
    }
  }
  std::istringstream earlier(old);
  const auto report = ms::io::read_history(earlier).steps.at(0).sites.at(0);
  CHECK(report.block.empty());
  CHECK(report.new_parameters == 0);
  CHECK(report.name == "stage1.block1.conv1");
  std::istringstream empty("");
  CHECK(ms::io::read_history(empty).steps.empty());
}

TEST_SUITE_END();

}  // namespace grow_history_test
