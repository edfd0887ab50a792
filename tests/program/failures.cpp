// What stops the main program on its way: exit code 1 and one sentence with the remedy.
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Folder;
using program::Outcome;

namespace {

/// The program reads `data` and fails with one line that has all of `parts`.
void check_fails(const std::filesystem::path& data, const std::vector<std::string>& parts) {
  const Outcome outcome = program::run({"--model", "mlp", "--data", data.string(), "--epochs", "1"});
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 1);
  CHECK(program::lines_of(outcome.err).size() == 1);
  CHECK(outcome.err.starts_with("cifar10: "));
  CHECK_FALSE(contains(outcome.out, "epoch "));
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(contains(outcome.err, part));
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("failures: a file that may not be read") {
  if (geteuid() == 0) {
    MESSAGE("skipped: the superuser may read every file");
    return;
  }
  const Folder folder;
  program::write_cifar(folder.path());
  std::filesystem::permissions(folder.path() / "data_batch_1.bin", std::filesystem::perms::none);
  check_fails(folder.path(), {"data_batch_1.bin: cannot be opened for reading", "check its permissions"});
}

TEST_CASE("failures: an incomplete folder in the place where the program looks by itself") {
  const Folder folder;
  std::filesystem::create_directory(folder.path() / "cifar-10-batches-bin");
  const Outcome outcome = program::run_in(folder.path(), MERISTEM_CIFAR10, {});
  CHECK(outcome.exit_code == 1);
  CHECK(contains(outcome.err, "./cifar-10-batches-bin: the folder is empty"));
}

TEST_CASE("failures: training that runs away") {
  const Folder folder;
  program::write_cifar(folder.path());
  for (const char* optimizer : {"sgd", "adamw"}) {
    CAPTURE(optimizer);
    const Outcome outcome =
        program::run({"--model", "mlp", "--data", folder.path().string(), "--batch", "10", "--epochs", "20", "--method",
                      "none", "--learning-rate", "1e6", "--optimizer", optimizer, "--activation", "identity"});
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code == 1);
    CHECK(program::lines_of(outcome.err).size() == 1);
    CHECK(contains(outcome.err, "lower the learning rate"));
    CHECK_FALSE(contains(outcome.out, "result"));
  }
}

TEST_CASE("failures: weights that are no numbers any more after the last step of an epoch") {
  const Folder folder;
  program::write_cifar(folder.path() / "data");
  // One step an epoch, whose weight decay multiplies the weights by -1e12; tanh keeps the loss finite until they are
  // beyond float32, which is after the fourth.
  const auto run = [&](const char* epochs, const char* checkpoint) {
    return program::run_in(
        folder.path(), MERISTEM_CIFAR10,
        {"--model",         "mlp",  "--hidden",       "1",    "--data",       "data",    "--batch",    "100",
         "--epochs",        epochs, "--method",       "none", "--activation", "tanh",    "--schedule", "constant",
         "--learning-rate", "1e6",  "--weight-decay", "1e6",  "--checkpoint", checkpoint});
  };
  CHECK(run("3", "good").exit_code == 0);
  const std::string good = program::read(folder.path() / "good");
  const Outcome outcome = run("4", "saved");
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 1);
  CHECK(program::lines_of(outcome.err).size() == 1);
  CHECK(contains(outcome.err, "cifar10: training: after step 4: layer1.weight: element 0 of (1, 3072) is nan; lower "));
  CHECK(contains(outcome.out, "epoch 3/4"));
  CHECK_FALSE(contains(outcome.out, "epoch 4/4"));
  CHECK_FALSE(contains(outcome.out, "result"));
  // What was saved after the third epoch is still there, and a run goes on from it to the same end.
  const Outcome asked = program::run_in(folder.path(), MERISTEM_CIFAR10, {"classify", "saved", "--model-card"});
  CHECK(asked.exit_code == 0);
  CHECK(contains(asked.out, "so far 3 steps"));
  const Outcome again = program::run_in(folder.path(), MERISTEM_CIFAR10, {"--resume", "saved", "--data", "data"});
  CHECK(again.exit_code == 1);
  CHECK(contains(again.err, "after step 4: layer1.weight"));
  CHECK(program::read(folder.path() / "good") == good);
}

TEST_CASE("failures: answers in testing that are no numbers") {
  const Folder folder;
  program::write_cifar(folder.path());
  const Outcome outcome =
      program::run({"--model", "mlp", "--data", folder.path().string(), "--batch", "100", "--epochs", "8", "--method",
                    "none", "--learning-rate", "1e6", "--schedule", "constant"});
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 1);
  CHECK(program::lines_of(outcome.err).size() == 1);
  CHECK(contains(outcome.err, "cifar10: testing: the loss is nan"));
  CHECK(contains(outcome.err, "lower the learning rate"));
  CHECK_FALSE(contains(outcome.out, "result"));
}

TEST_CASE("failures: layers that cannot grow") {
  const Folder folder;
  program::write_cifar(folder.path());
  const std::string blocks =
      "the layers that can grow are stage1.block1.conv1, stage1.block2.conv1, stage2.block1.conv1, "
      "stage2.block2.conv1, "
      "stage3.block1.conv1, stage3.block2.conv1, stage4.block1.conv1, stage4.block2.conv1\n";
  struct Case {
    std::string model, layers;
    std::vector<std::string> parts;
  };
  const std::vector<Case> cases = {
      {"resnet18",
       "stem.conv",
       {"stem.conv cannot grow alone: skip connections add the outputs of ", "stage1.block1.conv2",
        "stage1.block2.conv2", ", whose channels are tied; ", blocks}},
      {"resnet18",
       "stage1.block1.conv1,stage2.down.conv",
       {"stage2.down.conv cannot grow alone: ", "stage2.block1.conv2", ", whose channels are tied; ", blocks}},
      {"resnet18-strided",
       "stage2.block1.shortcut.conv",
       {"stage2.block1.shortcut.conv cannot grow alone: ", "stage2.block1.conv2", blocks}},
      {"resnet18", "linear", {"linear cannot grow: its outputs are the network's", blocks}},
      {"resnet18", "stage5.block1.conv1", {"there is no layer 'stage5.block1.conv1'; ", blocks}},
      {"vgg", "norm1", {"norm1 cannot grow", "the layers that can grow are conv1, conv2, conv3, conv4, conv5"}},
      {"mlp", "layer3", {"layer3 cannot grow", "the layers that can grow are layer1, layer2\n"}},
  };
  for (const Case& wrong : cases) {
    CAPTURE(wrong.layers);
    const Outcome outcome = program::run(
        {"--data", folder.path().string(), "--model", wrong.model, "--grow-layers", wrong.layers, "--epochs", "1"});
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code == 2);
    CHECK(program::lines_of(outcome.err).size() == 1);
    CHECK(outcome.err.starts_with("cifar10: --grow-layers: "));
    CHECK_FALSE(contains(outcome.out, "epoch "));
    for (const std::string& part : wrong.parts) {
      CAPTURE(part);
      CHECK(contains(outcome.err, part));
    }
  }
}

TEST_SUITE_END();
