// Whole runs of the main program: what it prints, and that it prints the same twice.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
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
  const std::regex seconds("[0-9]+\\.[0-9] s\\b"),
      column("(  (layer|conv|stage|stem|block).*[0-9%-]) +[0-9]+\\.[0-9]{2}$");
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

std::vector<std::string> small_run(const std::filesystem::path& data, std::vector<std::string> more) {
  more.insert(more.end(), {"--model", "mlp", "--data", data.string(), "--epochs", "3", "--hidden", "4,3", "--batch",
                           "20", "--units", "2"});
  return more;
}

/// The same with one of the other models.
std::vector<std::string> small_convolutions(const std::string& model, const std::filesystem::path& data,
                                            std::vector<std::string> more) {
  more.insert(more.end(), {"--model", model, "--channels", model == "vgg" ? "8" : "2", "--width", "1/4", "--data",
                           data.string(), "--epochs", "3", "--grow-after", "1,2", "--batch", "20", "--units", "2"});
  return more;
}

/// No line of the output is too wide for a terminal, but the one with the name of the data's folder.
void check_columns(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    CAPTURE(line);
    CHECK((line.size() <= 100 || line.starts_with("data ")));
  }
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
  CHECK(contains(outcome.out, "network   mlp, hidden 4-3, 12,347 parameters\n"));
  CHECK(contains(outcome.out,
                 "training  3 epochs of 5 steps; sgd, learning rate 0.02 for 2 epochs, then falling to 0; seed 0\n"));
  CHECK(contains(outcome.out, "growth    " + method + ", 2 steps: after epochs 1,2, 2 units a layer\n"));
  CHECK(count(lines,
              "epoch [123]/3   loss [0-9.e+]+   accuracy [0-9.]+ % train, [0-9.]+ % test   [0-9,]+ parameters   "
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
  CHECK(count(lines, "  now hidden [0-9]+-[0-9]+, [0-9,]+ parameters, test accuracy [0-9.]+ %|  no layer grew") == 2);
  CHECK(count(lines, "result    test accuracy [0-9.]+ %, hidden [0-9]+-[0-9]+, [0-9,]+ parameters") == 1);
  CHECK(count(lines,
              "          [0-9.]+ s, of which [0-9.]+ s growing; [0-9.]+ (mega|giga)FLOP of training, [0-9.]+ "
              "(mega|giga)FLOP of growing") == 1);
  check_columns(lines);
}

/// The whole output of a run of a model with convolutions, whose layers have names that match `layer`.
void check_model(const std::string& model, const std::string& layer, const std::vector<std::string>& more) {
  const Folder folder;
  program::write_cifar(folder.path());
  CAPTURE(model);
  const Outcome outcome = program::run(small_convolutions(model, folder.path(), more));
  CAPTURE(outcome.err);
  CAPTURE(outcome.out);
  REQUIRE(outcome.exit_code == 0);
  CHECK(outcome.err == "");
  const auto lines = lines_of(outcome.out);
  CHECK(count(lines, "network   " + model + ", hidden ([0-9]+-){7}[0-9]+, [0-9,]+ parameters") == 1);
  CHECK(contains(outcome.out,
                 "training  3 epochs of 5 steps; sgd, learning rate 0.1 for 2 epochs, then falling to 0; seed 0\n"));
  CHECK(count(lines, "growth after epoch [12]") == 2);
  CHECK(count(lines, "  layer +bottleneck +unexpressed +units +gamma +predicted +measured +params +sec") == 2);
  const std::string numbers = " +[0-9.e-]+ +[0-9.]+ % +[0-9]+";
  const int grown = count(lines, "  " + layer + numbers + " \\+ [12]( +[0-9.e+-]+){3} +[0-9,]+ +[0-9.]+");
  const int same = count(lines, "  " + layer + numbers + " +- +- +- +[0-9,]+ +[0-9.]+");
  CHECK(grown >= 1);
  CHECK(grown + same == 16);
  CHECK(count(lines, "  now hidden ([0-9]+-){7}[0-9]+, [0-9,]+ parameters, test accuracy [0-9.]+ %") >= 1);
  CHECK(count(lines, "result    test accuracy [0-9.]+ %, hidden ([0-9]+-){7}[0-9]+, [0-9,]+ parameters") == 1);
  CHECK(count(lines, "          [0-9.]+ s, of which [0-9.]+ s growing; [0-9.]+ .*FLOP of training, .* of growing") ==
        1);
  check_columns(lines);
}

/// Two runs print the same, and a run with another seed something else beyond the lines that tell the seed.
void check_seeds(const std::vector<std::string>& arguments) {
  const auto with_seed = [&](const char* seed) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {"--seed", seed, "--augment"});
    const Outcome outcome = program::run(all);
    CAPTURE(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return timeless(outcome.out);
  };
  const std::string first = with_seed("5"), second = with_seed("5"), other = with_seed("6");
  CHECK(contains(first, "\n  now hidden "));
  CHECK(first == second);
  CHECK(first.substr(first.find("\nepoch ")) != other.substr(other.find("\nepoch ")));
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
  CHECK(count(lines_of(outcome.out), "epoch .* test   12,347 parameters   .*") == 3);
  CHECK(count(lines_of(outcome.out), "result .* hidden 4-3, 12,347 parameters") == 1);
  CHECK(count(lines_of(outcome.out), "          [0-9.]+ s; [0-9.]+ megaFLOP of training") == 1);
}

TEST_CASE("runs: operations of training are six for each multiply-add and image") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run(small_run(folder.path(), {"--method", "none"}));
  REQUIRE(outcome.exit_code == 0);
  // (3072 * 4 + 4 * 3 + 3 * 10) * 6 * 100 images * 3 epochs = 22194000
  CHECK(contains(outcome.out, "; 22.2 megaFLOP of training\n"));
}

TEST_CASE("runs: very many hidden layers are summed up") {
  const Folder folder;
  program::write_cifar(folder.path());
  std::string hidden = "3";
  for (int i = 0; i < 20; ++i) hidden += ",12";
  const Outcome outcome = program::run(
      {"--model", "mlp", "--data", folder.path().string(), "--hidden", hidden, "--method", "none", "--epochs", "1"});
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "network   mlp, hidden 21 layers of 3 to 12, "));
}

TEST_CASE("runs: growth that no epoch is left for is said to be none") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run(small_run(folder.path(), {"--grow-after", "3"}));
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "growth    none: no growth step falls into these epochs"));
  CHECK_FALSE(contains(outcome.out, "bottleneck"));
}

TEST_CASE("runs: growth steps come when they were asked for") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run({"--model", "mlp", "--data", folder.path().string(), "--epochs", "7",
                                        "--grow-after", "2,4,7", "--hidden", "4", "--units", "1"});
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "2 steps: after epochs 2,4, 1 unit a layer\n"));
  CHECK(count(lines_of(outcome.out), "growth after epoch [24]") == 2);
  CHECK(count(lines_of(outcome.out), "growth after epoch .*") == 2);
}

TEST_CASE("runs: the rate is held as long as asked for") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run(small_run(folder.path(), {"--grow-after", "2", "--hold", "1"}));
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "learning rate 0.02 for 1 epoch, then falling to 0"));
}

TEST_CASE("runs: the parameters never exceed the budget") {
  const Folder folder;
  program::write_cifar(folder.path());
  // Room for one unit of the second layer (4 + 1 inputs, 10 outputs) and none of the first.
  const Outcome outcome = program::run(small_run(folder.path(), {"--max-parameters", "12362"}));
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "the budget of 12362 parameters leaves no room"));
  CHECK(count(lines_of(outcome.out), "result .* hidden 4-[34], 12,3(47|62) parameters") == 1);
}

TEST_CASE("runs: a budget that forbids any growth is refused") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome = program::run(small_run(folder.path(), {"--max-parameters", "12348"}));
  CHECK(outcome.exit_code == 2);
  CHECK(contains(outcome.err, "--max-parameters: 12348 leaves no room to grow: the network has 12347 and"));
  CHECK(contains(outcome.err, "give at least"));
}

TEST_CASE("runs: the same seed prints the same, another seed something else") {
  const Folder folder;
  program::write_cifar(folder.path());
  check_seeds(small_run(folder.path(), {}));
  check_seeds(small_convolutions("resnet18", folder.path(),
                                 {"--channels", "4", "--grow-layers", "stage3.block1.conv1,stage4.block2.conv1"}));
}

TEST_CASE("runs: a residual network grows inside its blocks") {
  check_model("resnet18", "stage[1-4].block[12].conv1", {});
}

TEST_CASE("runs: a residual network with strides grows inside its blocks") {
  check_model("resnet18-strided", "stage[1-4].block[12].conv1", {"--fan-out", "centre"});
}

TEST_CASE("runs: a residual network grows in all its widths") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome =
      program::run(small_convolutions("resnet18", folder.path(), {"--grow", "all-widths", "--units", "2"}));
  CAPTURE(outcome.err);
  CAPTURE(outcome.out);
  REQUIRE(outcome.exit_code == 0);
  const auto lines = lines_of(outcome.out);
  // Eight hidden widths, and that of the stream in each of four stages.
  CHECK(count(lines, "network   resnet18, hidden ([0-9]+-){11}[0-9]+, [0-9,]+ parameters") == 1);
  // The sources of a stream share two units in each of two growth steps.
  CHECK(count(lines, "    [01] of 2 units: other sources of the stream bring better ones.*") > 0);
  const std::string source = "  (stem.conv|stage1.block[12].conv2) .* [0-9]+ \\+ ";
  CHECK(2 * count(lines, source + "2 .*") + count(lines, source + "1 .*") == 4);
}

TEST_CASE("runs: networks get deeper by blocks that were not there") {
  const Folder folder;
  program::write_cifar(folder.path());
  for (const char* model : {"resnet18", "vgg"}) {
    CAPTURE(model);
    const auto report = folder.path() / (std::string("report_") + model);
    const Outcome outcome =
        program::run(small_convolutions(model, folder.path(), {"--grow", "depth", "--report", report.string()}));
    CAPTURE(outcome.err);
    CAPTURE(outcome.out);
    REQUIRE(outcome.exit_code == 0);
    const auto lines = lines_of(outcome.out);
    CHECK(count(lines, "growth    tiny, depth, 2 steps: .*") == 1);
    CHECK(count(lines, "  .*block.*conv1 +.* 0 \\+ [12] .*") >= 1);
    CHECK(count(lines, "bought    [12] blocks?: [1-4] units?, .*") == 1);
    // In the drawing the layers of a block are new, and no other.
    const std::string page = program::read(report / "report.html");
    const std::regex grew("<title>([^<]*): [0-9]+ channels, [^<]*; ([0-9]+) at the start</title>");
    int drawn = 0;
    for (std::sregex_iterator at(page.begin(), page.end(), grew), end; at != end; ++at, ++drawn) {
      CAPTURE(at->str());
      CHECK(contains((*at)[1].str(), "block"));
      CHECK((*at)[2] == "0");
    }
    CHECK((drawn == 2 || drawn == 4));  // two for each block
  }
}

TEST_CASE("runs: a network chooses its size within the operations that it is given") {
  const Folder folder;
  program::write_cifar(folder.path());
  const std::vector<std::string> arguments{"--data",   folder.path().string(),
                                           "--auto",   "--epochs",
                                           "4",        "--max-operations",
                                           "3e10",     "--batch",
                                           "20",       "--json",
                                           "--report", (folder.path() / "report").string()};
  const Outcome outcome = program::run(arguments);
  CAPTURE(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const std::string result = lines_of(outcome.out).back();
  CAPTURE(result);
  const auto number = [&](const std::string& key) {
    const std::size_t at = result.find("\"" + key + "\":");
    REQUIRE(at != std::string::npos);
    return std::stod(result.substr(at + key.size() + 3));
  };
  const double spent = number("training_operations") + number("growing_operations");
  CHECK(spent <= 3e10);
  CHECK(contains(result, "\"kind\":"));
  // It starts with one block a stage, and gets larger.
  CHECK(contains(outcome.out, "\"hidden\":[4,1,8,1,16,1,32,1]"));
  const std::string page = program::read(folder.path() / "report" / "report.html");
  CHECK(contains(page, "What growth bought"));
}

TEST_CASE("runs: an automatic run that has just the operations it needs takes no more of them") {
  const Folder folder;
  program::write_cifar(folder.path());
  const auto run = [&](const std::string& operations) {
    return program::run(
        {"--data", folder.path().string(), "--auto", "--epochs", "3", "--max-operations", operations, "--json"});
  };
  const std::string told = run("1").err;
  const std::string before = "alone take ";
  REQUIRE(contains(told, before));
  const double most = 1.001 * std::stod(told.substr(told.find(before) + before.size()));
  const auto outcome = run(std::to_string(most));
  CAPTURE(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const auto number = [&](const std::string& key) {
    return std::stod(outcome.out.substr(outcome.out.rfind("\"" + key + "\":") + key.size() + 3));
  };
  CHECK(number("training_operations") > 0.0);
  CHECK(number("training_operations") + number("growing_operations") <= most);
}

TEST_CASE("runs: a chain of convolutions grows at every layer") { check_model("vgg", "conv[1-8]", {}); }

TEST_CASE("runs: a residual network is the default") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome =
      program::run({"--data", folder.path().string(), "--images", "20", "--epochs", "1", "--method", "none"});
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "network   resnet18, hidden 1-1-2-2-4-4-8-8, 63,668 parameters\n"));
}

TEST_CASE("runs: layers that feed each other are measured together, then grown") {
  const Folder folder;
  program::write_cifar(folder.path());
  for (const auto& arguments : {small_run(folder.path(), {"--grow-where", "together"}),
                                small_convolutions("vgg", folder.path(), {"--grow-where", "together"}),
                                small_convolutions("vgg", folder.path(), {"--grow-where", "all"})}) {
    const Outcome outcome = program::run(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code == 0);
    CHECK(contains(outcome.out, "\n  now hidden "));
  }
}

TEST_CASE("runs: convolutions grow by a share of what they feed unless a number is given") {
  const Folder folder;
  program::write_cifar(folder.path());
  // Of 32 channels.
  for (const auto& [units, plan, added] :
       {std::array{"", "1/2 of what a layer feeds", "16"}, std::array{"2/8", "1/4 of what a layer feeds", "8"},
        std::array{"1", "1 unit a layer", "1"}}) {
    std::vector<std::string> arguments{"--data",         folder.path().string(),
                                       "--epochs",       "2",
                                       "--channels",     "4",
                                       "--significance", "0",
                                       "--batch",        "20",
                                       "--grow-layers",  "stage4.block1.conv1"};
    if (*units != 0) arguments.insert(arguments.end(), {"--units", units});
    const Outcome outcome = program::run(arguments);
    CAPTURE(outcome.out);
    REQUIRE(outcome.exit_code == 0);
    CHECK(contains(outcome.out, std::string("1 step: after epoch 1, ") + plan + "\n"));
    CHECK(count(lines_of(outcome.out), std::string("  stage4.block1.conv1 .* 2 \\+ ") + added + " .*") == 1);
  }
}

TEST_CASE("runs: only the layers that were asked for are measured") {
  const Folder folder;
  program::write_cifar(folder.path());
  for (const char* where : {"all", "together", "best"}) {
    CAPTURE(where);
    const Outcome outcome = program::run(
        small_convolutions("resnet18", folder.path(),
                           {"--grow-layers", "stage3.block2.conv1,stage4.block2.conv1", "--grow-where", where}));
    CAPTURE(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    CHECK(count(lines_of(outcome.out), "  stage.*") == 4);
    CHECK(count(lines_of(outcome.out), "  stage[34].block2.conv1 .*") == 4);
    CHECK(contains(outcome.out, "another site promises more") == (where == std::string("best")));
  }
}

TEST_CASE("runs: CIFAR-10 is found beside the person, and the program says so") {
  const Folder folder;
  program::write_cifar(folder.path() / "cifar-10-batches-bin");
  const Outcome outcome =
      program::run_in(folder.path(), MERISTEM_CIFAR10, {"--model", "mlp", "--epochs", "1", "--images", "30"});
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "data      CIFAR-10 from ./cifar-10-batches-bin: 30 to train, 20 to test\n"));
}

TEST_CASE("runs: compiled for the GPU") {
#if defined(MERISTEM_CIFAR10_CUDA)
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  for (const auto& arguments : {small_run(folder.path() / "data", {"--seed", "5"}),
                                small_convolutions("resnet18", folder.path() / "data", {"--seed", "5"})}) {
    const Outcome outcome = program::run_in(folder.path(), MERISTEM_CIFAR10_CUDA, arguments);
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
      const Outcome again = program::run_in(folder.path(), MERISTEM_CIFAR10_CUDA, arguments);
      CHECK(timeless(outcome.out) == timeless(again.out));
    }
  }
#else
  MESSAGE("skipped: this build is for the CPU only");
#endif
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("slow");

TEST_CASE("runs: the eigen route prints a table with all columns and a result") { check_method("tiny-eigen"); }

TEST_CASE("runs: without data the built-in images are used, and the program says so") {
  const Outcome outcome = program::run({"--model", "mlp", "--images", "1500", "--epochs", "2"});
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

TEST_CASE("runs: there are fewer built-in images for convolutions") {
  const Outcome outcome = program::run({"--images", "100", "--epochs", "1", "--channels", "1", "--method", "none"});
  REQUIRE(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "data      built-in procedural images: 100 to train, 1,000 to test\n"));
}

TEST_SUITE_END();
