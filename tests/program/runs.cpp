// Whole runs of the main program: what it prints, and that it prints the same twice.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Folder;
using program::lines_of;
using program::Outcome;

namespace {

/// Output without times: seconds, and the last column of the growth table.
std::string timeless(const std::string& out) {
  const std::regex seconds("[0-9]+\\.[0-9] s\\b"), column("(accuracy +sec|%|-) +[0-9.]*$");
  std::string result;
  for (const std::string& line : lines_of(out)) {
    result += std::regex_replace(std::regex_replace(line, seconds, "TIME"), column, "$1") + '\n';
  }
  return result;
}

int count(const std::vector<std::string>& lines, const std::string& pattern) {
  const std::regex regex(pattern);
  return static_cast<int>(
      std::count_if(lines.begin(), lines.end(), [&](const std::string& l) { return std::regex_match(l, regex); }));
}

/// Few images are noise throughout; --significance 0 lets the network grow all the same.
std::vector<std::string> small_run(const std::filesystem::path& data, std::vector<std::string> more) {
  more.insert(more.end(), {"--data", data.string(), "--epochs", "3", "--hidden", "4,3", "--significance", "0",
                           "--batch", "20", "--units", "2"});
  return more;
}

/// The whole output of a run by `method`.
void check_method(const std::string& method) {
  const Folder folder;
  program::write_cifar(folder.path());
  CAPTURE(method);
  const Outcome outcome = program::run(small_run(folder.path(), {"--method", method, "--activation", "tanh"}));
  CAPTURE(outcome.err);
  CAPTURE(outcome.out);
  REQUIRE(outcome.exit_code == 0);
  CHECK(outcome.err == "");
  const auto lines = lines_of(outcome.out);
  CHECK(contains(outcome.out, "data      CIFAR-10 from " + folder.path().string() + ": 100 to train, 20 to test\n"));
  CHECK(contains(outcome.out, "network   mlp, hidden 4-3, 12,347 parameters; seed 0\n"));
  CHECK(contains(outcome.out, "growth    " + method + ", 2 steps: after every epoch up to epoch 2, at most 2 units"));
  CHECK(count(lines,
              "epoch [123]/3   loss [0-9.e+]+   accuracy [0-9.]+ % train, [0-9.]+ % test   hidden [0-9-]+   "
              "[0-9.]+ s") == 3);
  CHECK(count(lines, "growth after epoch [12]") == 2);
  CHECK(count(lines, "  layer +bottleneck +unexpressed +units +gamma +predicted +measured +params +accuracy +sec") ==
        2);
  // All nine numbers of a layer that grew, and a layer that did not.
  const int grown = count(lines,
                          "  layer[12] +[0-9.e-]+ +[0-9.]+ % +[0-9]+ \\+ [12] +[0-9.e-]+ +[0-9.e-]+ +"
                          "[0-9.e-]+ +[0-9]+,[0-9]{3} +[0-9.]+ % +[0-9.]+");
  const int same = count(lines,
                         "  layer[12] +[0-9.e-]+ +[0-9.]+ % +[0-9]+ +- +- +- +[0-9]+,[0-9]{3} +[0-9.]+ % +"
                         "[0-9.]+");
  CHECK(grown >= 1);
  CHECK(grown + same == 4);
  CHECK(count(lines,
              "result    test accuracy [0-9.]+ %, hidden [0-9]+-[0-9]+, [0-9,]+ parameters, [0-9.]+ s, of "
              "which [0-9.]+ s growing") == 1);
  for (const std::string& line : lines) {
    CAPTURE(line);
    CHECK((line.size() <= 100 || line.starts_with("data ")));
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("runs: every method prints a table with all columns and a result") {
  for (const char* method : {"tiny", "tiny-joint", "tiny-fisher"}) check_method(method);
}

TEST_CASE("runs: without growth the widths stay") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run(small_run(folder.path(), {"--method", "none"}));
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "growth    none\n"));
  CHECK_FALSE(contains(outcome.out, "bottleneck"));
  CHECK(count(lines_of(outcome.out), "epoch .* hidden 4-3 .*") == 3);
  CHECK(count(lines_of(outcome.out), "result .* hidden 4-3, 12,347 parameters, .*") == 1);
}

TEST_CASE("runs: growth that no epoch is left for is said to be none") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run(small_run(folder.path(), {"--grow-every", "3"}));
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "growth    none: no growth step falls into these epochs"));
  CHECK_FALSE(contains(outcome.out, "bottleneck"));
}

TEST_CASE("runs: growth steps come when they were asked for") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run({"--data", folder.path().string(), "--epochs", "7", "--grow-every", "2",
                                        "--grow-until", "5", "--hidden", "4", "--units", "1"});
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "2 steps: after every 2 epochs up to epoch 4, at most 1 unit a layer\n"));
  CHECK(count(lines_of(outcome.out), "growth after epoch [24]") == 2);
  CHECK(count(lines_of(outcome.out), "growth after epoch .*") == 2);
}

TEST_CASE("runs: the parameters never exceed the budget") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run(small_run(folder.path(), {"--max-parameters", "12348"}));
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "the budget of 12348 parameters leaves no room"));
  CHECK(count(lines_of(outcome.out), "result .* hidden 4-3, 12,347 parameters, .*") == 1);
}

TEST_CASE("runs: the same seed prints the same, another seed something else") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome first = program::run(small_run(folder.path(), {"--seed", "5", "--augment"}));
  const Outcome second = program::run(small_run(folder.path(), {"--seed", "5", "--augment"}));
  const Outcome other = program::run(small_run(folder.path(), {"--seed", "6", "--augment"}));
  REQUIRE(first.exit_code == 0);
  CHECK(timeless(first.out) == timeless(second.out));
  // Beyond the line that tells the seed.
  const auto from_epochs = [](const std::string& out) { return timeless(out.substr(out.find("\nepoch "))); };
  CHECK(from_epochs(first.out) != from_epochs(other.out));
}

TEST_CASE("runs: CIFAR-10 is found beside the person, and the program says so") {
  const Folder folder;
  program::write_cifar(folder.path() / "cifar-10-batches-bin");
  const Outcome outcome = program::run_in(folder.path(), MERISTEM_CIFAR10, {"--epochs", "1", "--images", "30"});
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "data      CIFAR-10 from ./cifar-10-batches-bin: 30 to train, 20 to test\n"));
}

TEST_CASE("runs: compiled for the GPU") {
#if defined(MERISTEM_CIFAR10_CUDA)
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  const Outcome outcome =
      program::run_in(folder.path(), MERISTEM_CIFAR10_CUDA, small_run(folder.path() / "data", {"--seed", "5"}));
  CAPTURE(outcome.err);
  if (contains(outcome.err, "no GPU was found")) {
    CHECK(outcome.exit_code == 1);
    CHECK(outcome.out == "");
    CHECK(lines_of(outcome.err).size() == 1);
    CHECK(contains(outcome.err, "compile it with g++ or clang++ to run it on the CPU"));
  } else {
    CHECK(outcome.exit_code == 0);
    CHECK(outcome.out.starts_with("device    GPU 0: "));
    CHECK(contains(outcome.out, "\nresult "));
    const Outcome again =
        program::run_in(folder.path(), MERISTEM_CIFAR10_CUDA, small_run(folder.path() / "data", {"--seed", "5"}));
    CHECK(timeless(outcome.out) == timeless(again.out));
  }
#else
  MESSAGE("skipped: this build is for the CPU only");
#endif
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("slow");

TEST_CASE("runs: the eigen route prints a table with all columns and a result") { check_method("tiny-eigen"); }

TEST_CASE("runs: without data the built-in images are used, and the program says so") {
  const Outcome outcome = program::run({"--images", "1500", "--epochs", "2"});
  CAPTURE(outcome.err);
  CAPTURE(outcome.out);
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out,
                 "data      built-in procedural images: 1,500 to train, 4,000 to test\n"
                 "          (for CIFAR-10 give --data DIR; there is no ./cifar-10-batches-bin here)\n"));
  CHECK(count(lines_of(outcome.out), "epoch [12]/2 .*") == 2);
  CHECK(count(lines_of(outcome.out), "growth after epoch 1") == 1);
  CHECK(count(lines_of(outcome.out), "  layer[12] .*") == 2);
  CHECK(count(lines_of(outcome.out), "result .*") == 1);
}

TEST_SUITE_END();
