// Runs that are stopped or killed go on from their checkpoint as if nothing had happened.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Folder;
using program::lines_of;
using program::Outcome;

namespace {

/// A run of the program that can be sent signals.
class Running {
 public:
  explicit Running(const std::vector<std::string>& arguments) {
    child_ = fork();
    if (child_ == 0) {
      setenv("OMP_NUM_THREADS", "1", 1);
      for (const auto& [name, descriptor] : {std::pair{"out", STDOUT_FILENO}, std::pair{"err", STDERR_FILENO}}) {
        const int file = open((folder_.path() / name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(file, descriptor);
      }
      std::vector<char*> all = {const_cast<char*>(MERISTEM_CIFAR10)};
      for (const std::string& argument : arguments) all.push_back(const_cast<char*>(argument.c_str()));
      all.push_back(nullptr);
      execv(all[0], all.data());
      _exit(127);
    }
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    if (child_ > 0) (void)end(SIGKILL);
  }

  /// True as soon as the output has `part`; false if the program ends before.
  bool wait_for(const std::string& part) {
    for (;;) {
      if (contains(program::read(folder_.path() / "out"), part)) return true;
      int status = 0;
      if (waitpid(child_, &status, WNOHANG) == child_) {
        status_ = status;
        child_ = -1;
        return contains(program::read(folder_.path() / "out"), part);
      }
      usleep(500);
    }
  }

  /// Sends a signal, if it is above 0, and waits for the end.
  Outcome end(int signal = 0) {
    if (child_ > 0) {
      if (signal > 0) kill(child_, signal);
      waitpid(child_, &status_, 0);
      child_ = -1;
    }
    return {WIFEXITED(status_) ? WEXITSTATUS(status_) : -1, program::read(folder_.path() / "out"),
            program::read(folder_.path() / "err")};
  }

 private:
  Folder folder_;
  pid_t child_ = -1;
  int status_ = 0;
};

std::vector<std::string> joined(std::vector<std::string> first, const std::vector<std::string>& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

/// Epochs and growth tables without times, and the result.
std::vector<std::string> story(const std::string& out) {
  const std::regex seconds("[0-9]+\\.[0-9] s\\b"),
      column("(  (layer|conv|stage|stem|block).*[0-9%-]) +[0-9]+\\.[0-9]{2}$");
  std::vector<std::string> result;
  for (const std::string& line : lines_of(out)) {
    const bool header = std::regex_search(line, std::regex("^(device|data|network|training|growth  |resumed|stopped)"));
    if (header || line.empty()) continue;
    result.push_back(std::regex_replace(std::regex_replace(line, seconds, "TIME"), column, "$1"));
  }
  return result;
}

/// All tensors of a safetensors file, as bytes: the network's weights and buffers, and the optimiser's moments.
std::string tensors_of(const std::filesystem::path& path) {
  const std::string content = program::read(path);
  REQUIRE(content.size() > 8);
  std::uint64_t header = 0;
  std::memcpy(&header, content.data(), 8);
  REQUIRE(content.size() > header + 8);
  return content.substr(8 + header);
}

bool ends_with(const std::vector<std::string>& all, const std::vector<std::string>& end) {
  return end.size() <= all.size() && std::equal(end.rbegin(), end.rend(), all.rbegin());
}

/// What a run on few images grows by, whatever its model.
std::vector<std::string> growing(const std::filesystem::path& data, const std::vector<std::string>& more) {
  return joined({"--data", data.string(), "--significance", "0", "--batch", "20", "--units", "2"}, more);
}

/// The run stopped as soon as it has printed `part` goes on to the same end.
void check_stopped(const std::vector<std::string>& arguments, const std::vector<std::string>& parts) {
  const Folder folder;
  const std::string whole = (folder.path() / "whole").string();
  const Outcome uninterrupted = program::run(joined(arguments, {"--checkpoint", whole}));
  CAPTURE(uninterrupted.err);
  REQUIRE(uninterrupted.exit_code == 0);
  REQUIRE(contains(uninterrupted.out, "\n  now hidden "));
  for (const std::string& part : parts) {
    CAPTURE(part);
    const std::string file = (folder.path() / "stopped").string();
    std::filesystem::remove(file);
    Running run(joined(arguments, {"--checkpoint", file}));
    REQUIRE(run.wait_for(part));
    const Outcome stopped = run.end(std::array{SIGINT, SIGTERM, SIGHUP}[part.size() % 3]);
    CAPTURE(stopped.out);
    CAPTURE(stopped.err);
    // The last signal may come when all is done.
    if (stopped.exit_code != 0) {
      REQUIRE(stopped.exit_code == 130);
      CHECK(stopped.err == "");
      if (!std::filesystem::exists(file)) continue;
      CHECK(contains(stopped.out, "; go on with --resume " + file + "\n"));
    }
    const Outcome resumed = program::run({"--resume", file, "--data", arguments[1]});
    CAPTURE(resumed.out);
    CAPTURE(resumed.err);
    REQUIRE(resumed.exit_code == 0);
    CHECK(contains(resumed.out, "resumed   from " + file + " in epoch "));
    CHECK(ends_with(story(uninterrupted.out), story(resumed.out)));
    CHECK(tensors_of(whole) == tensors_of(file));
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("resume: a run that was stopped at any phase ends as if it had not been") {
  const Folder folder;
  program::write_cifar(folder.path());
  check_stopped(growing(folder.path(), {"--model", "mlp", "--epochs", "4", "--hidden", "4,3", "--augment"}),
                {"to train", "growth    ", "epoch 1/4", "growth after epoch 1", "epoch 2/4", "growth after epoch 2",
                 "epoch 3/4", "epoch 4/4"});
  check_stopped(growing(folder.path(), {"--model", "resnet18", "--epochs", "3", "--channels", "2", "--width", "1/4",
                                        "--optimizer", "adamw"}),
                {"epoch 1/3", "growth after epoch 1", "epoch 2/3"});
  check_stopped(growing(folder.path(), {"--auto", "--max-operations", "1e10", "--epochs", "4"}),
                {"growth after epoch 1"});
}

TEST_CASE("resume: a run that was killed at any moment goes on from the last checkpoint, which is whole") {
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  const auto data = folder.path() / "data";
  const std::vector<std::string> arguments = growing(data, {"--model", "mlp", "--hidden", "4,3", "--epochs", "60",
                                                            "--grow-after", "10,20,30,40", "--grow-layers", "layer2"});
  const std::string whole = (folder.path() / "whole").string(), file = (folder.path() / "killed").string();
  REQUIRE(program::run(joined(arguments, {"--checkpoint", whole})).exit_code == 0);
  const char* wanted = std::getenv("MERISTEM_KILLS");
  const int kills = wanted ? std::atoi(wanted) : 20;
  std::uint32_t state = 12345;
  int killed = 0, finished = 0, with_part = 0;
  while (killed < kills) {
    const bool there = std::filesystem::exists(file);
    std::filesystem::remove(file + ".part");
    Running run(there ? std::vector<std::string>{"--resume", file, "--data", data.string()}
                      : joined(arguments, {"--checkpoint", file}));
    // Most of the time between the first and the last epoch goes into checkpoints.
    bool alive = run.wait_for(there ? "resumed " : "growth    ");
    state = state * 1664525 + 1013904223;
    const std::uint32_t random = state >> 8;
    if (killed % 2 == 0) {
      usleep(random % 100'000);
    } else {
      // As soon as the next checkpoint but a few is being written, or a moment later.
      const std::string part = file + ".part";
      const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(2);
      for (std::uint32_t left = 1 + random % 5; left > 0 && std::chrono::steady_clock::now() < until; --left) {
        while (access(part.c_str(), F_OK) == 0 && left > 1 && std::chrono::steady_clock::now() < until) {
        }
        while (access(part.c_str(), F_OK) != 0 && std::chrono::steady_clock::now() < until) {
        }
      }
      if (random % 4 != 0) usleep(random % 1'000);
    }
    const Outcome outcome = run.end(alive ? SIGKILL : 0);
    if (outcome.exit_code == -1) {
      ++killed;
      with_part += std::filesystem::exists(file + ".part");
    }
    if (std::filesystem::exists(file)) {
      const Outcome card = program::run({"classify", file, "--model-card"});
      CAPTURE(card.err);
      REQUIRE(card.exit_code == 0);
    }
    if (outcome.exit_code == 0) {
      ++finished;
      CHECK(tensors_of(whole) == tensors_of(file));
      std::filesystem::remove(file);
    } else {
      CAPTURE(outcome.err);
      REQUIRE(outcome.exit_code == -1);
    }
  }
  if (std::filesystem::exists(file)) {
    REQUIRE(program::run({"--resume", file, "--data", data.string()}).exit_code == 0);
    CHECK(tensors_of(whole) == tensors_of(file));
    ++finished;
  }
  CHECK(finished >= 1);
  CHECK(with_part >= 1);
  MESSAGE(killed, " kills, ", with_part, " of them while a checkpoint was written, ", finished,
          " runs to the end, all with the same weights");
}

TEST_CASE("resume: options that say what the checkpoint says do not contradict it") {
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  const std::string file = (folder.path() / "saved").string(), data = (folder.path() / "data").string();
  REQUIRE(program::run({"--model", "mlp", "--data", data, "--epochs", "2", "--batch", "20", "--seed", "3", "--method",
                        "none", "--checkpoint", file})
              .exit_code == 0);
  CHECK(program::run({"--resume", file, "--data", data, "--batch", "20", "--hidden", "8,8", "--seed", "3"}).exit_code ==
        0);
}

TEST_CASE("resume: files that are no checkpoints, other data, and work that would be overwritten") {
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  const std::string file = (folder.path() / "saved").string(), data = (folder.path() / "data").string();
  const std::vector<std::string> run = {"--model", "mlp", "--data", data, "--epochs", "1", "--method", "none"};
  REQUIRE(program::run(joined(run, {"--checkpoint", file})).exit_code == 0);
  const std::string content = program::read(file);
  const auto check = [&](const std::vector<std::string>& arguments, int exit_code,
                         const std::vector<std::string>& parts) {
    const Outcome outcome = program::run(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code == exit_code);
    CHECK_FALSE(contains(outcome.out, "epoch 1"));
    for (const std::string& part : parts) {
      CAPTURE(part);
      CHECK(contains(outcome.err, part));
    }
  };
  check(joined(run, {"--checkpoint", file}), 2,
        {"--checkpoint " + file + ": the file is there already", "--resume " + file});
  // Somebody else is writing there.
  std::ofstream(file + ".part").flush();
  const int lock = open((file + ".part").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(flock(lock, LOCK_EX | LOCK_NB) == 0);
  check({"--resume", file, "--data", data}, 1,
        {"--resume saves there too; " + file + ": another program is writing it now", "--checkpoint"});
  close(lock);
  std::filesystem::remove(file + ".part");
  check({"--resume", file + "2"}, 1, {file + "2", "No such file", "check the name"});
  check({"--resume", folder.path().string()}, 1, {folder.path().string(), "no regular file"});
  check({"--resume", file, "--data", "/nowhere"}, 1, {"/nowhere: no such file or folder"});
  check({"--resume", file, "--model", "mlp"}, 1, {file + ": was trained on other images", "--data"});
  check(joined(run, {"--checkpoint", "/proc/nowhere/file"}), 1,
        {"--checkpoint: /proc/nowhere/file", "can be written to"});
  check(joined(run, {"--report", "/proc/nowhere"}), 1, {"--report /proc/nowhere", "choose another"});
  // Damage of every sort is told, and nothing is loaded.
  const std::string damaged = (folder.path() / "damaged").string();
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, content.size() / 2, content.size() - 1}) {
    CAPTURE(length);
    std::ofstream(damaged, std::ios::binary) << content.substr(0, length);
    check({"--resume", damaged, "--data", data}, 1, {damaged});
  }
  for (std::size_t at = 9; at < content.size(); at += content.size() / 23) {
    CAPTURE(at);
    std::string changed = content;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    std::ofstream(damaged, std::ios::binary) << changed;
    check({"--resume", damaged, "--data", data}, 1, {damaged});
  }
}

TEST_CASE("resume: a checkpoint that cannot be written is told, training goes on, and the exit code says so") {
  // Every write to a file beyond so many blocks fails, as on a full disk.
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  const std::string command = "ulimit -f 40; trap '' XFSZ; exec " + program::quoted(MERISTEM_CIFAR10) +
                              " --model mlp --epochs 2 --method none --data data --checkpoint saved --report page";
  const Outcome outcome = program::run_in(folder.path(), "/bin/bash", {"-c", command});
  CAPTURE(outcome.out);
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 1);
  CHECK(contains(outcome.out, "\nresult "));
  CHECK(contains(outcome.err, "cifar10: saved: "));
  CHECK(contains(outcome.err, "training goes on"));
  CHECK(contains(outcome.err,
                 "cifar10: saved: what the run ended with is not saved, see above; there is no checkpoint\n"));
  CHECK_FALSE(std::filesystem::exists(folder.path() / "saved"));
  CHECK_FALSE(std::filesystem::exists(folder.path() / "saved.part"));
}

TEST_CASE("resume: output that cannot be written ends the program with a sentence") {
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  const Outcome outcome = program::run_in(
      folder.path(), "/bin/bash",
      {"-c", "exec " + program::quoted(MERISTEM_CIFAR10) + " --model mlp --epochs 2 --data data >/dev/full"});
  CHECK(outcome.exit_code == 1);
  CHECK(contains(outcome.err, "cifar10: standard output cannot be written: "));
  CHECK(contains(outcome.err, "send the output elsewhere"));
}

TEST_SUITE_END();
