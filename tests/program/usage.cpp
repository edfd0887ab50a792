// What the main program says of itself.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Outcome;

TEST_SUITE_BEGIN("unit");

TEST_CASE("usage: help lists every option with its default") {
  const Outcome help = program::run({"--help"});
  CHECK(help.exit_code == 0);
  CHECK(help.err == "");
  CHECK(program::run({"-h"}).out == help.out);
  // Descriptions are wrapped; the words are what counts.
  std::string words;
  for (const char c : help.out) {
    const bool blank = c == ' ' || c == '\n';
    if (!blank || (!words.empty() && words.back() != ' ')) words += blank ? ' ' : c;
  }
  const std::vector<std::vector<std::string>> options = {
      {"--data DIR", "./cifar-10-batches-bin"},
      {"--images N", "default 0"},
      {"--image-size N", "default 32"},
      {"--checkpoint FILE", "when Ctrl-C stops the program"},
      {"--resume FILE", "go on from a checkpoint"},
      {"--report DIR", "report.html"},
      {"--json", "a line of JSON"},
      {"--model NAME", "resnet18, resnet18-strided, vgg, mlp; default resnet18"},
      {"--width X", "default 1/16"},
      {"--channels N", "default 16"},
      {"--hidden N,N,...", "default 8,8 with an mlp"},
      {"--activation NAME", "default relu"},
      {"--epochs N", "default 10"},
      {"--batch N", "default 128"},
      {"--optimizer NAME", "default sgd"},
      {"--learning-rate X", "default for sgd 0.02 with an mlp, else 0.1; for adamw 0.001"},
      {"--momentum X", "default 0.9"},
      {"--weight-decay X", "default 0.0005"},
      {"--schedule NAME", "default hold-cosine"},
      {"--hold N", "default until the last growth step"},
      {"--label-smoothing X", "default 0"},
      {"--augment", "horizontal flips"},
      {"--method NAME", "default tiny"},
      {"--grow NAME", "hidden, all-widths, depth, all; default hidden"},
      {"--auto", "from the smallest network"},
      {"--max-operations X", "default 0"},
      {"--grow-where NAME",
       "all, together, best, best-per-parameter, best-per-operation, round-robin; default "
       "together"},
      {"--grow-layers NAME,...", "default all that can grow"},
      {"--fan-out NAME", "full, centre; default full"},
      {"--grow-after N,N-N,...", "default half"},
      {"--units N",
       "from 1 to 65536, or a share of the channels that the next layer puts out, such as 1/4; default 20 with an mlp, "
       "1/4 in an automatic run, else 1/2"},
      {"--significance X", "default 0"},
      {"--damping X", "default chosen by cross-validation"},
      {"--statistics-samples N", "default 5000 with an mlp, else 2000"},
      {"--search-samples N", "default 1000 with an mlp, else 500"},
      {"--max-parameters N", "default 0"},
      {"--seed N", "default 0"},
      {"--device", "stop"},
      {"-h,--help", "stop"},
  };
  for (const auto& option : options) {
    CAPTURE(option[0]);
    const std::size_t at = words.find(" " + option[0] + " ");
    REQUIRE(at != std::string::npos);
    // Up to the next option.
    const std::string entry = words.substr(at, words.find(" --", at + 2 + option[0].size()) - at);
    CAPTURE(entry);
    CHECK(contains(entry, option[1]));
  }
  for (const std::string& line : program::lines_of(help.out)) {
    CAPTURE(line);
    CHECK(line.size() <= 85);
  }
  for (const char* column :
       {"bottleneck", "unexpressed", "units", "gamma", "predicted", "measured", "params", "accuracy", "sec"}) {
    CAPTURE(column);
    CHECK(contains(help.out, std::string("\n  ") + column + " "));
  }
}

TEST_CASE("usage: help of classify") {
  const Outcome help = program::run({"classify", "--help"});
  CHECK(help.exit_code == 0);
  CHECK(help.err == "");
  for (const char* word : {"MODEL", "IMAGE", "--model-card", "--json"}) CHECK(contains(help.out, word));
}

TEST_CASE("usage: the device is told, and nothing else is done") {
  const Outcome outcome = program::run({"--device"});
  CHECK(outcome.exit_code == 0);
  CHECK(outcome.err == "");
  CHECK(outcome.out.starts_with("device    CPU, 1 thread"));
  CHECK(program::lines_of(outcome.out).size() == 1);
}

TEST_CASE("usage: of an option given twice the last one counts") {
  CHECK(program::run({"--device", "--epochs", "3", "--epochs", "4"}).exit_code == 0);
  CHECK(program::run({"--device", "--epochs", "x", "--epochs", "4"}).exit_code == 0);
}

TEST_SUITE_END();
