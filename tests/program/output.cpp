// What the program writes beside text: lines of JSON, the report, answers of classify; and what a terminal shows.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Folder;
using program::lines_of;
using program::Outcome;
using program::png;
using program::write;

namespace {

std::vector<std::string> small(const std::filesystem::path& data, std::vector<std::string> more) {
  more.insert(more.end(), {"--model", "mlp", "--data", data.string(), "--epochs", "2", "--hidden", "4,3",
                           "--significance", "0", "--batch", "20", "--units", "2"});
  return more;
}

int count(const std::string& text, const std::string& part) {
  int result = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++result;
  return result;
}

/// Runs the program on a terminal of `columns` columns; what it shows, control characters included.
std::string on_terminal(int columns, const std::vector<std::string>& arguments) {
  const Folder folder;
  std::string command = "stty cols " + std::to_string(columns) + "; exec " + program::quoted(MERISTEM_CIFAR10);
  for (const std::string& argument : arguments) command += " " + program::quoted(argument);
  const Outcome outcome =
      program::run_in(folder.path(), "/usr/bin/env", {"TERM=xterm", "script", "-qec", command, "/dev/null"});
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 0);
  return outcome.out;
}

/// Two classes of one colour each, 12 pictures a class.
void write_pictures(const std::filesystem::path& folder) {
  for (int i = 0; i < 12; ++i) {
    const auto shade = static_cast<unsigned char>(150 + 8 * i);
    write(folder / "blue" / (std::to_string(i) + ".png"), png(20 + i, 10, 20, shade));
    write(folder / "red" / (std::to_string(i) + ".PNG"), png(50 - i, shade, 20, 10));
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("output: one line of JSON an event, nothing else") {
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  const std::string file = (folder.path() / "saved").string();
  const Outcome outcome = program::run(small(folder.path() / "data", {"--json", "--checkpoint", file}));
  CAPTURE(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  CHECK(outcome.err == "");
  std::string events;
  for (const std::string& line : lines_of(outcome.out)) {
    CAPTURE(line);
    REQUIRE(line.starts_with("{\"event\":\""));
    CHECK(line.ends_with("}"));
    const std::string name = line.substr(10, line.find('"', 10) - 10);
    // Of the steps of an epoch one stands for all.
    if (name != "step" || !events.ends_with("step ")) events += name + " ";
  }
  CHECK(events == "device data run step epoch checkpoint growth checkpoint step epoch checkpoint result ");
  CHECK(count(outcome.out, "\"event\":\"step\"") == 10);
  for (const char* key :
       {"\"lambda\":[", "\"threshold\":", "\"bottleneck\":", "\"hidden_names\":[\"layer1\",\"layer2\"]",
        "\"classes\":[\"airplane\"", "\"seed\":0", "\"learning_rate\":"}) {
    CAPTURE(key);
    CHECK(contains(outcome.out, key));
  }
  const Outcome device = program::run({"--json", "--device"});
  CHECK(device.out.starts_with("{\"event\":\"device\",\"device\":\"CPU"));
  // Failures are sentences on the other stream.
  const Outcome failed = program::run({"--json", "--data", "/nowhere"});
  CHECK(failed.exit_code == 1);
  CHECK(contains(failed.err, "cifar10: /nowhere: no such file or folder"));
}

TEST_CASE("output: the report is one file with everything in it, also after each epoch") {
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  const auto page = folder.path() / "deep" / "er" / "report.html";
  const Outcome outcome = program::run(small(folder.path() / "data", {"--report", page.parent_path().string()}));
  CAPTURE(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const std::string html = program::read(page);
  for (const char* section : {"progress", "widths", "network", "bottlenecks", "spectra", "growth", "confusion",
                              "filters", "examples", "mistakes"}) {
    CAPTURE(section);
    CHECK(contains(html, std::string("<section id=\"") + section + "\">"));
  }
  CHECK(contains(html, "prefers-color-scheme:dark"));
  CHECK(contains(html, "data:image/png;base64,iVBORw0KGgo"));
  CHECK(contains(html, "aria-label=\"spectrum of layer1\""));
  // Nothing is fetched: no address but those of the page's own data.
  CHECK_FALSE(contains(html, "http"));
  CHECK_FALSE(contains(html, "<script"));
  CHECK_FALSE(std::filesystem::exists(page.string() + ".part"));
  // A run without a report prints the same.
  const Outcome plain = program::run(small(folder.path() / "data", {}));
  const std::regex seconds(" [0-9]+\\.[0-9]+( s|$)");
  for (std::size_t i = 0; i < lines_of(plain.out).size(); ++i) {
    const std::string a = lines_of(plain.out)[i], b = lines_of(outcome.out)[i];
    if (a.starts_with("  layer") || a.starts_with("     ")) continue;
    CHECK(std::regex_replace(a, seconds, "") == std::regex_replace(b, seconds, ""));
  }
}

TEST_CASE("output: a terminal shows a bar that fits, a pipe only lines") {
  const Folder folder;
  program::write_cifar(folder.path());
  // Enough steps for more than a tenth of a second, after which a bar is drawn, on any machine.
  const std::vector<std::string> run = {"--model",
                                        "resnet18",
                                        "--channels",
                                        "8",
                                        "--data",
                                        folder.path().string(),
                                        "--epochs",
                                        "12",
                                        "--batch",
                                        "1",
                                        "--significance",
                                        "0",
                                        "--grow-layers",
                                        "stage1.block1.conv1",
                                        "--statistics-samples",
                                        "20"};
  for (const int columns : {60, 80, 120}) {
    CAPTURE(columns);
    const std::string shown = on_terminal(columns, run);
    CHECK(contains(shown, "\r\x1b[K"));
    CHECK(contains(shown, "] "));
    CHECK(contains(shown, " left"));
    // What stands between two carriage returns or line ends never reaches beyond the last column.
    std::string line;
    for (const char c : std::regex_replace(shown, std::regex("\x1b\\[K"), "")) {
      if (c != '\r' && c != '\n') {
        line += c;
        continue;
      }
      CAPTURE(line);
      CHECK(static_cast<int>(line.size()) <= std::max(columns, 60));
      line.clear();
    }
  }
  CHECK_FALSE(contains(program::run(run).out, "\r"));
  CHECK_FALSE(contains(program::run(run).out, "\x1b"));
}

TEST_CASE("output: pictures in folders are data, and files that cannot be read are told") {
  const Folder folder;
  const auto data = folder.path() / "pictures";
  write_pictures(data);
  write(data / "red" / "broken.png", png(9, 1, 2, 3).substr(0, 50));
  write(data / "blue" / "text.jpg", "not a picture");
  write(data / "blue" / "notes.txt", "not looked at");
  const std::string model = (folder.path() / "model").string();
  const Outcome outcome = program::run({"--model", "mlp", "--data", data.string(), "--epochs", "4", "--batch", "5",
                                        "--image-size", "16", "--method", "none", "--checkpoint", model});
  CAPTURE(outcome.err);
  CAPTURE(outcome.out);
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "pictures in " + data.string() + ", 2 classes: 20 to train, 4 to test\n"));
  CHECK(contains(outcome.err, "cifar10: 2 files were left out; mend or remove them:\n"));
  CHECK(contains(outcome.err, "broken.png: damaged PNG file ("));
  CHECK(contains(outcome.err, "text.jpg: neither JPEG nor PNG, whatever its name says; convert it"));
  CHECK_FALSE(contains(outcome.err, "notes.txt"));
  CHECK(contains(outcome.out, "result    test accuracy 100.00 %"));

  const std::string red = (folder.path() / "r.png").string(), blue = (folder.path() / "b.png").string();
  write(red, png(100, 220, 20, 10));
  write(blue, png(7, 10, 20, 220));
  const Outcome answers = program::run({"classify", model, red, blue, "--model-card"});
  CAPTURE(answers.out);
  CAPTURE(answers.err);
  REQUIRE(answers.exit_code == 0);
  CHECK(std::regex_search(answers.out,
                          std::regex("/r.png\n +[0-9.]+ %  red\n +[0-9.]+ %  blue\n.*/b.png\n +[0-9.]+ %  blue\n")));
  for (const char* part : {"model     mlp, hidden 8-8, 6,242 parameters", "reads     16 x 16 x 3",
                           "2 classes: blue, red", "history   4 epochs", "layer1", "growth by none"}) {
    CAPTURE(part);
    CHECK(contains(answers.out, part));
  }
  const Outcome json = program::run({"classify", model, red, "--json"});
  CHECK(contains(json.out, "\"answers\":[{\"class\":\"red\",\"probability\":"));
  // One that cannot be read does not keep the others from being answered.
  const Outcome some = program::run({"classify", model, "/nowhere.png", (data / "blue/text.jpg").string(), blue});
  CHECK(some.exit_code == 1);
  CHECK(lines_of(some.err).size() == 2);
  CHECK(contains(some.err, "cifar10 classify: /nowhere.png: no such file; check the name\n"));
  CHECK(contains(some.out, "%  blue\n"));
}

TEST_SUITE_END();
