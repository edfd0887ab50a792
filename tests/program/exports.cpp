// Networks that the program exports, and model files that it reads; what it says of those it cannot use.
#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Folder;
using program::lines_of;
using program::Outcome;

namespace {

/// A network that has trained and grown for moments; its checkpoint.
std::string grown(const std::filesystem::path& folder, const std::vector<std::string>& model) {
  program::write_cifar(folder / "data");
  const std::string file = (folder / "run.ckpt").string();
  std::vector<std::string> arguments = {"--data",         (folder / "data").string(),
                                        "--significance", "0",
                                        "--batch",        "20",
                                        "--units",        "2",
                                        "--epochs",       "2",
                                        "--checkpoint",   file};
  arguments.insert(arguments.end(), model.begin(), model.end());
  const Outcome outcome = program::run(arguments);
  CAPTURE(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  REQUIRE(contains(outcome.out, "\n  now hidden "));
  return file;
}

Outcome exported(const std::string& model, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"export", model};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return program::run(arguments);
}

/// Exit code, nothing on standard output, and one sentence with all of `parts`; of wrong usage, the way to help.
void check_fails(const std::vector<std::string>& arguments, int exit_code, const std::vector<std::string>& parts) {
  const Outcome outcome = program::run(arguments);
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == exit_code);
  CHECK(outcome.out == "");
  CHECK(outcome.err.starts_with("cifar10 " + arguments[0] + ": "));
  CHECK(lines_of(outcome.err).size() == (contains(outcome.err, "\nRun cifar10 ") ? 2 : 1));
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(contains(outcome.err, part));
  }
}

std::size_t files_in(const std::filesystem::path& folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("export: from a checkpoint and from model files of both layouts, the answers are the same") {
  const std::vector<std::vector<std::string>> models = {{"--model", "mlp", "--hidden", "4,3"},
                                                        {"--model", "resnet18", "--channels", "2", "--width", "1/4"}};
  for (const auto& model : models) {
    CAPTURE(model[1]);
    const Folder folder;
    const std::string checkpoint = grown(folder.path(), model);
    const auto name = [&](const char* file) { return (folder.path() / file).string(); };
    const std::string torch = name("torch.safetensors"), own = name("own.safetensors"), onnx = name("net.onnx");

    const Outcome both = exported(checkpoint, {"--safetensors", torch, "--onnx", onnx});
    CAPTURE(both.out);
    CAPTURE(both.err);
    REQUIRE(both.exit_code == 0);
    CHECK(both.err == "");
    const auto lines = lines_of(both.out);
    REQUIRE(lines.size() >= 5);
    CHECK(lines[0].starts_with("model     " + model[1] + ", hidden "));
    CHECK(lines[1].starts_with("wrote     " + torch + ": weights in PyTorch's layout, "));
    CHECK(lines[2].starts_with("wrote     " + onnx + ": ONNX, from 'input' to 'output', "));
    CHECK(contains(both.out, "\nreads     (batch, 3, 32, 32) in PyTorch and ONNX: pixels / 255, channel by channel"));
    CHECK(contains(both.out, "\ntells     (batch, 10), before softmax: airplane, automobile,"));
    REQUIRE(exported(checkpoint, {"--layout", "meristem", "--safetensors", own}).exit_code == 0);

    // What was read from a file is the same as what was written: exported again, nothing changes.
    for (const std::string& source : {own, torch}) {
      const std::string again = name("again.safetensors"), again_onnx = name("again.onnx");
      REQUIRE(exported(source, {"--safetensors", again, "--onnx", again_onnx}).exit_code == 0);
      CHECK(program::read(again) == program::read(torch));
      CHECK(program::read(again_onnx) == program::read(onnx));
      std::filesystem::remove(again);
      std::filesystem::remove(again_onnx);
    }
    CHECK(program::read(own) != program::read(torch));
    for (const char* part : {"\"history\":\"{\\\"growth\\\":0,\\\"epoch\\\":1,", "\"layout\":\"pytorch\"",
                             "\"sample\":\"[32,32,3]\"", "\"note.training\":\"2 epochs, growth by tiny, seed 0;"}) {
      CAPTURE(part);
      CHECK(contains(program::read(torch), part));
    }

    const std::string picture = name("red.png");
    program::write(picture, program::png(40, 220, 20, 10));
    const auto asked = [&](const std::string& file) {
      Outcome text = program::run({"classify", file, picture, "--model-card"});
      CAPTURE(text.err);
      CHECK(text.exit_code == 0);
      return text.out + program::run({"classify", file, picture, "--json"}).out;
    };
    const std::string answers = asked(checkpoint);
    CHECK(contains(answers, "\"answers\":[{\"class\":"));
    CHECK(contains(answers, "history   2 epochs, 1 growth step, test accuracy"));
    CHECK(asked(own) == answers);
    CHECK(asked(torch) == answers);
  }
}

TEST_CASE("export: wrong usage") {
  const Folder folder;
  const std::string model = grown(folder.path(), {"--model", "mlp", "--hidden", "4,3"});
  const std::string out = (folder.path() / "out").string(), other = (folder.path() / "other").string();
  const std::size_t files = files_in(folder.path());
  const auto check = [&](std::vector<std::string> arguments, const std::vector<std::string>& parts, int exit_code = 2) {
    arguments.insert(arguments.begin(), "export");
    check_fails(arguments, exit_code, parts);
  };
  check({}, {"MODEL is missing: give a file that --checkpoint wrote"});
  check({"--onnx", out}, {"MODEL is missing"});
  check({model}, {"there is nothing to write: give --safetensors FILE, --onnx FILE or both"});
  check({model, "--layout", "pytorch"}, {"there is nothing to write"});
  check({model, "--safetensors"}, {"--safetensors: no value was given; give the name of a file"});
  check({model, "--onnx"}, {"--onnx: no value was given; give the name of a file"});
  check({model, "--onnx", ""}, {"--onnx: got ''; give the name of a file"});
  check({model, "--safetensors", ""}, {"--safetensors: got ''; give the name of a file"});
  check({model, "--safetensors", out, "--layout"}, {"--layout: no value was given; give one of pytorch, meristem"});
  check({model, "--safetensors", out, "--layout", "tf"}, {"--layout: got 'tf'; give one of pytorch, meristem"});
  check({model, "--onnx", out, "--layout", "pytorch"}, {"--layout belongs to --safetensors", "leave it out"});
  check({model, "--safetensors", out, "--onnx", out}, {"--safetensors and --onnx both name " + out, "file of its own"});
  check({model, "--safetensors", out, "--onnx", (folder.path() / "data/../out").string()}, {"both name"});
  check({model, other, "--onnx", out}, {"'" + other + "' is one argument too many; give one MODEL"});
  check({model, "--tensors", out}, {"there is no option --tensors; it has --safetensors, --layout, --onnx and --help"});
  check({model, "--onnx", model},
        {"--onnx " + model + ": the file is there already; choose another name, or remove it"});
  check({model, "--safetensors", model}, {"--safetensors " + model + ": the file is there already"});
  check({model, "--onnx", folder.path().string()}, {"--onnx " + folder.path().string() + ": is a folder"});
  check({model, "--onnx", "/proc/nowhere/net.onnx"}, {"--onnx: /proc/nowhere/net.onnx: ", "choose a place"}, 1);
  check({model, "--safetensors", out, "--onnx", (folder.path() / "absent/net.onnx").string()},
        {"absent/net.onnx: ", "make its folder first"}, 1);
  check_fails({"export", out, "--onnx", other}, 1, {out, "No such file", "check the name"});
  CHECK(files_in(folder.path()) == files);
  const Outcome late = program::run({"--seed", "1", "export"});
  CHECK(late.exit_code == 2);
  CHECK(contains(late.err, "cifar10: export comes first: cifar10 export MODEL --safetensors FILE"));
  const Outcome help = program::run({"export", "--help"});
  CHECK(help.exit_code == 0);
  for (const char* part : {"MODEL", "--safetensors FILE", "--onnx FILE", "--layout NAME"}) {
    CAPTURE(part);
    CHECK(contains(help.out, part));
  }
}

TEST_CASE("export: of two files both are written or none") {
  const Folder folder;
  const std::string model = grown(folder.path(), {"--model", "mlp", "--hidden", "4,3"});
  const std::size_t before = files_in(folder.path());
  const std::string command = "export run.ckpt --onnx net.onnx --safetensors net.safetensors";
  const auto limited = [&](std::size_t kilobytes) {
    return program::run_in(folder.path(), "/bin/bash",
                           {"-c", "ulimit -f " + std::to_string(kilobytes) + "; trap '' XFSZ; exec " +
                                      program::quoted(MERISTEM_CIFAR10) + " " + command});
  };
  // Too little for the larger one and enough for the smaller one; too little for both.
  REQUIRE(limited(1'000'000).exit_code == 0);
  const auto size = [&](const char* name) {
    const auto bytes = static_cast<std::size_t>(std::filesystem::file_size(folder.path() / name));
    std::filesystem::remove(folder.path() / name);
    return bytes;
  };
  const std::size_t onnx = size("net.onnx"), safetensors = size("net.safetensors");
  REQUIRE(onnx + 2'048 < safetensors);
  for (const std::size_t kilobytes : {onnx / 1'024 + 1, std::size_t{20}}) {
    CAPTURE(kilobytes);
    const Outcome outcome = limited(kilobytes);
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code == 1);
    CHECK(outcome.out == "");
    CHECK(contains(outcome.err, "cannot be written: File too large; "));
    CHECK(files_in(folder.path()) == before);
  }
}

TEST_CASE("export: files that hold no network of this kind are refused, by classify as well") {
  const Folder folder;
  const std::string checkpoint = grown(folder.path(), {"--model", "mlp", "--hidden", "4,3"});
  const std::string torch = (folder.path() / "torch").string(), onnx = (folder.path() / "net.onnx").string();
  REQUIRE(exported(checkpoint, {"--safetensors", torch, "--onnx", onnx}).exit_code == 0);
  const std::string own = (folder.path() / "own").string();
  REQUIRE(exported(checkpoint, {"--safetensors", own, "--layout", "meristem"}).exit_code == 0);
  std::string content = program::read(own);
  const std::string bad = (folder.path() / "bad").string();
  const std::string output = (folder.path() / "out").string(), picture = (folder.path() / "red.png").string();
  program::write(picture, program::png(40, 220, 20, 10));
  const auto refused = [&](const std::string& file, const std::vector<std::string>& parts) {
    std::vector<std::string> all = {"MODEL takes a whole file that --checkpoint wrote, or a model file; ", file + ": "};
    all.insert(all.end(), parts.begin(), parts.end());
    check_fails({"classify", file, picture}, 1, all);
    check_fails({"export", file, "--onnx", output}, 1, all);
    CHECK_FALSE(std::filesystem::exists(output));
  };
  // The same length, so that the header stays whole.
  const auto changed = [&](const std::string& from, std::string to, const std::vector<std::string>& parts) {
    CAPTURE(from);
    std::string text = content;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    to.resize(from.size(), ' ');
    program::write(bad, text.replace(at, from.size(), to));
    refused(bad, parts);
  };
  changed("\"[32,32,3]\"", "\"[0]\"", {"does not say what images it reads", "save it with sample, class_names and"});
  changed("\"[32,32,3]\"", "\"[32,32,0]\"", {"reads images of 32 x 32 x 0", "must be from 1 to 65536"});
  changed("\"[32,32,3]\"", "\"[32,16,3]\"", {"layer1 (Linear)"});
  changed("\\\"airplane\\\",", "", {"its network puts out (1, 10) for 9 classes"});
  changed("stddev\\\":[0.", "stddev\\\":[-1", {"normalization: channel 0 has mean"});
  changed("\"float32\"", "\"float64\"", {"holds numbers of type float64; this program computes in float32"});
  changed("\\\"Linear\\\"", "\\\"Lineal\\\"", {"(Lineal): there is no such kind of layer here"});
  changed("meristem.format\"", "somebodys.name\"", {"holds tensors, but no network of this library"});
  changed("meristem-model", "meristem-mode1", {"is no meristem-checkpoint file but meristem-mode1"});
  changed("meristem.format_version\":\"1\"", "meristem.format_version\":\"9\"", {"has version 9"});
  for (const std::size_t length : {std::size_t{0}, std::size_t{100}, content.size() / 2, content.size() - 1}) {
    CAPTURE(length);
    program::write(bad, content.substr(0, length));
    refused(bad, {});
  }
  // Without the shape of a sample nobody can tell how PyTorch orders the weights.
  content = program::read(torch);
  changed("\"[32,32,3]\"", "\"[0]\"", {"the layout cannot be undone: flatten (Flatten): sample is missing"});
  program::write(bad, "no model, but text of some length");
  refused(bad, {"no safetensors file"});
  refused(onnx, {"no safetensors file"});
}

TEST_SUITE_END();
