// Wrong usage of the main program: exit code 2, nothing on stdout, and a sentence that names the option, what was given
// and what is accepted. And what the program says of itself.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Outcome;

namespace {

struct Wrong {
  std::vector<std::string> arguments;
  std::string sentence;
};

/// `option` given each of `values`.
void check_refused(const std::string& option, const std::vector<std::string>& values, const std::string& accepted) {
  for (const std::string& value : values) {
    CAPTURE(option);
    CAPTURE(value);
    const Outcome outcome = program::run({option, value});
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.out == "");
    CHECK(outcome.err ==
          "cifar10: " + option + ": got '" + value + "'; give " + accepted + "\nRun cifar10 --help for the options.\n");
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("usage: whole numbers") {
  const std::vector<std::string> never = {"-1", "x", "1.5", "", "nan", "99999999999999999999"};
  check_refused("--epochs", never, "a whole number from 1 to 1000000");
  check_refused("--epochs", {"0", "1000001", "3x", " 3", "0x3", "-3"}, "a whole number from 1 to 1000000");
  check_refused("--images", {"-5", "many"}, "a whole number from 0 to 1000000000");
  check_refused("--batch", {"0", "-128"}, "a whole number from 1 to 1000000");
  check_refused("--channels", {"0", "-16", "4097", "1/16", ""}, "a whole number from 1 to 4096");
  check_refused("--grow-every", {"0", "-1"}, "a whole number from 1 to 1000000");
  check_refused("--grow-until", {"-1"}, "a whole number from 0 to 1000000");
  check_refused("--units", {"0", "-8", "65537"}, "a whole number from 1 to 65536");
  check_refused("--statistics-samples", {"0"}, "a whole number from 1 to 1000000000");
  check_refused("--search-samples", {"0", "-1"}, "a whole number from 1 to 1000000000");
  check_refused("--max-parameters", {"-1"}, "a whole number from 0 to 1000000000000");
  check_refused("--image-size", {"7", "513", "32x32", "", "-32", "0"}, "a whole number from 8 to 512");
  check_refused("--seed", {"-1", "abc", "1e3", "18446744073709551616"},
                "a whole number from 0 to 18446744073709551615");
}

TEST_CASE("usage: numbers") {
  const std::vector<std::string> never = {"-1", "nan", "-nan", "inf", "-inf", "1e400", "", "x", "0.1x"};
  check_refused("--learning-rate", never, "a number from 0 to 1000000");
  check_refused("--momentum", {"2", "nan", "inf", "-0.1"}, "a number from 0 to 1");
  check_refused("--weight-decay", {"-1", "nan", "inf"}, "a number from 0 to 1000000");
  check_refused("--label-smoothing", {"1.5", "1", "nan", "-0.1"}, "a number from 0 to 0.99");
  check_refused("--significance", {"nan", "inf", "-1"}, "a number from 0 to 1000");
  check_refused("--damping", {"nan", "-1e-3", "inf"}, "a number from 0 to 1000000");
}

TEST_CASE("usage: widths") {
  check_refused("--width",
                {"0", "3/2", "1.5", "-1/16", "1/0", "0/16", "1/", "/16", "1/16/2", "1 /16", "", "x", "nan", "1/nan",
                 "inf", "1e-400"},
                "a share above 0 and up to 1, such as 1/16 or 0.25");
  check_refused("--hidden", {"8,0", "", "8,x", "8,", ",8", "8,,8", "8, 8", "[8,8]", "-8", "8,65537", "8;8", "nan"},
                "widths from 1 to 65536, only commas between");
}

TEST_CASE("usage: names") {
  check_refused("--model", {"resnet", ""}, "one of resnet18, resnet18-strided, vgg, mlp");
  check_refused("--activation", {"softmax", "ReLU"}, "one of relu, gelu, silu, tanh, selu, identity");
  check_refused(
      "--method", {"gradmin", ""},
      "one of tiny, tiny-eigen, tiny-joint, tiny-fisher, gradmax, random, random-kaiming, random-fan-out, nest, "
      "net2wider, paired, north, senn, firefly, none");
  check_refused("--grow-where", {"nowhere"},
                "one of all, together, best, best-per-parameter, best-per-operation, round-robin");
  check_refused("--fan-out", {"center", ""}, "one of full, centre");
  check_refused("--grow-layers", {"", ",", "conv1,", ",conv1", "conv1,,conv2", "conv1,conv2,conv1"},
                "names of layers such as stage1.block1.conv1, each once, only commas between");
  check_refused("--optimizer", {"adam"}, "one of sgd, adamw");
  check_refused("--schedule", {"linear"}, "one of constant, cosine");
  check_refused("--data", {""}, "the name of a folder");
  check_refused("--report", {""}, "the name of a folder");
  check_refused("--checkpoint", {""}, "the name of a file");
  check_refused("--resume", {""}, "the name of a file");
}

TEST_CASE("usage: arguments that are missing or too many") {
  const std::vector<Wrong> cases = {
      {{"--epochs"}, "--epochs: no value was given; give a whole number from 1 to 1000000"},
      {{"--seed", "3", "--hidden"}, "--hidden: no value was given; give widths from 1 to 65536, only commas between"},
      {{"--epochs", "--seed", "3"}, "--epochs: got '--seed'; give a whole number from 1 to 1000000"},
      {{"--data"}, "--data: no value was given; give the name of a folder"},
      {{"--dampng", "0"}, "there is no option --dampng"},
      {{"--Seed", "0"}, "there is no option --Seed"},
      {{"-x"}, "there is no option -x"},
      {{"tiny"}, "'tiny' belongs to no option"},
      {{"--hidden", "8,8", "9"}, "'9' belongs to no option"},
      {{"--device=yes please"}, "--device takes no value"},
      {{"--augment=some"}, "--augment takes no value"},
      {{"--json=lines"}, "--json takes no value"},
      {{"--report"}, "--report: no value was given; give the name of a folder"},
      {{"--checkpoint"}, "--checkpoint: no value was given; give the name of a file"},
      {{"--resume"}, "--resume: no value was given; give the name of a file"},
      {{"--seed", "1", "classify"}, "classify comes first: cifar10 classify MODEL IMAGE..."},
  };
  for (const Wrong& wrong : cases) {
    CAPTURE(wrong.sentence);
    const Outcome outcome = program::run(wrong.arguments);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.out == "");
    CHECK(outcome.err == "cifar10: " + wrong.sentence + "\nRun cifar10 --help for the options.\n");
  }
}

TEST_CASE("usage: options that do not go together") {
  const std::vector<Wrong> cases = {
      {{"--hidden", "8,8"}, "--hidden: resnet18 has eight blocks; give a width for each, or --width for all"},
      {{"--hidden", "8,8", "--model", "vgg"},
       "--hidden does not belong to --model vgg, which has --width and --channels"},
      {{"--hidden", "1,1,1,1,1,1,1,1", "--width", "1/2"},
       "--hidden and --width both give the widths inside the blocks; give one of them"},
      {{"--model", "vgg", "--activation", "tanh"}, "--activation belongs to --model mlp; vgg has relu"},
      {{"--width", "1", "--model", "mlp"}, "--width does not belong to --model mlp; give its widths by --hidden"},
      {{"--channels", "16", "--model", "mlp"},
       "--channels does not belong to --model mlp; give its widths by --hidden"},
      {{"--fan-out", "centre", "--model", "mlp"},
       "--fan-out does not belong to --model mlp, which has no convolutions"},
      {{"--optimizer", "adamw", "--momentum", "0.5"}, "--momentum belongs to --optimizer sgd, not adamw"},
  };
  for (const Wrong& wrong : cases) {
    CAPTURE(wrong.sentence);
    const Outcome outcome = program::run(wrong.arguments);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.out == "");
    CHECK(outcome.err == "cifar10: " + wrong.sentence + "\nRun cifar10 --help for the options.\n");
  }
}

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
      {"--schedule NAME", "default cosine"},
      {"--label-smoothing X", "default 0"},
      {"--augment", "horizontal flips"},
      {"--method NAME", "default tiny"},
      {"--grow-where NAME",
       "all, together, best, best-per-parameter, best-per-operation, round-robin; default all with an mlp, else "
       "together"},
      {"--grow-layers NAME,...", "default all that can grow"},
      {"--fan-out NAME", "full, centre; default full"},
      {"--grow-every N", "default 1"},
      {"--grow-until N", "default two thirds"},
      {"--units N", "default 8 with an mlp, else an eighth"},
      {"--significance X", "default 1"},
      {"--damping X", "default 0.001"},
      {"--statistics-samples N", "default 10000 with an mlp, else 2000"},
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

TEST_CASE("usage: the device is told, and nothing else is done") {
  const Outcome outcome = program::run({"--device"});
  CHECK(outcome.exit_code == 0);
  CHECK(outcome.err == "");
  CHECK(outcome.out.starts_with("device    CPU, 1 thread"));
  CHECK(program::lines_of(outcome.out).size() == 1);
}

TEST_CASE("usage: of an option given twice the last one counts") {
  CHECK(program::run({"--device", "--epochs", "3", "--epochs", "4"}).exit_code == 0);
  CHECK(program::run({"--device", "--epochs", "3", "--epochs", "x"}).exit_code == 2);
}

TEST_SUITE_END();
