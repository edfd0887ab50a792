// What people point --data at: folders as archives leave them, names in other encodings, CIFAR-100.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Folder;
using program::lines_of;
using program::Outcome;
using program::png;
using program::write;

namespace {

/// `count` pictures 0.png, 1.png, ... of one brightness.
void put(const std::filesystem::path& folder, int count, int brightness) {
  for (int i = 0; i < count; ++i) {
    write(folder / (std::to_string(i) + ".png"),
          png(8, static_cast<unsigned char>(brightness + i), static_cast<unsigned char>(brightness + 2 * i),
              static_cast<unsigned char>(brightness)));
  }
}

Outcome train(const std::filesystem::path& folder, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"--model", "mlp",      "--hidden", "1",      "--epochs",
                                        "1",       "--method", "none",     "--data", folder.string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return program::run(arguments);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("data: class names and numbers of images are shown, junk is skipped, other files are counted") {
  const Folder folder;
  put(folder.path() / "cats", 6, 20);
  put(folder.path() / "dogs", 12, 120);
  write(folder.path() / "cats/6.webp", "RIFF");
  write(folder.path() / "cats/more/7.png", png(8, 1, 2, 3));
  write(folder.path() / "labels.csv", "a,b");
  for (const char* junk : {"__MACOSX/._cats", ".ipynb_checkpoints/1.png", "@eaDir/1.png", "cats/.DS_Store",
                           "dogs/Thumbs.db", "dogs/desktop.ini", "cats/._0.png"}) {
    write(folder.path() / junk, "junk");
  }
  const Outcome outcome = train(folder.path());
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "2 classes: 15 to train, 3 to test\n"));
  CHECK(contains(outcome.out, "classes: cats (5), dogs (10)\n"));
  CHECK(outcome.err ==
        "cifar10: not read are files that are no pictures of a class: 1 .csv, 1 .webp; the folder more\n");
}

TEST_CASE("data: --images draws evenly from all classes of pictures") {
  const Folder folder;
  put(folder.path() / "a", 12, 20);
  put(folder.path() / "b", 2, 120);
  put(folder.path() / "c", 12, 200);
  const Outcome outcome = train(folder.path(), {"--images", "9"});
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 0);
  // b has no more than 2; the others share what it leaves.
  CHECK(contains(outcome.out, "3 classes: 9 to train, 4 to test\n"));
  CHECK(contains(outcome.out, "classes: a (3), b (2), c (4)\n"));
}

TEST_CASE("data: val is taken for test where that has no folders of classes") {
  const Folder folder;
  for (const char* name : {"train/a", "train/b", "valid/a", "valid/b"}) put(folder.path() / name, 3, 20);
  put(folder.path() / "test", 3, 20);
  const Outcome outcome = train(folder.path());
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "2 classes: 6 to train, 6 to test\n"));
  CHECK(contains(outcome.err, "the folder test\n"));
}

TEST_CASE("data: a class named in Latin-1 is saved, resumed, asked and exported under its name") {
  const Folder folder;
  const std::filesystem::path data = folder.path() / "data";
  put(data / "caf\xe9", 6, 20);
  put(data / "tea", 6, 200);
  const auto run = [&](const std::vector<std::string>& arguments) {
    return program::run_in(folder.path(), MERISTEM_CIFAR10, arguments);
  };
  const std::vector<std::string> training = {"--model", "mlp",    "--hidden", "1",    "--epochs",     "2",
                                             "--data",  "./data", "--method", "none", "--checkpoint", "saved"};
  const Outcome outcome = run(training);
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 0);
  CHECK(outcome.err.empty());
  CHECK(contains(outcome.out, "classes: caf\xc3\xa9 (5), tea (5)\n"));
  const Outcome resumed = run({"--resume", "saved", "--data", "data", "--json"});
  CHECK(resumed.exit_code == 0);
  CHECK(contains(resumed.out, "\"classes\":[\"caf\xc3\xa9\",\"tea\"]"));
  const Outcome asked = run({"classify", "saved", "data/tea/0.png"});
  CHECK(asked.exit_code == 0);
  CHECK(contains(asked.out, "caf\xc3\xa9"));
  CHECK(run({"export", "saved", "--onnx", "out.onnx", "--safetensors", "out.safetensors"}).exit_code == 0);
  // Both spellings of one name would be one class.
  put(data / "caf\xc3\xa9", 1, 20);
  const Outcome twice = run({"--data", "data"});
  CHECK(twice.exit_code == 1);
  CHECK(contains(twice.err, "data: two of its folders are called 'caf\xc3\xa9', one in UTF-8 and one in Latin-1"));
}

TEST_CASE("data: CIFAR-100 in its binary version has its hundred classes") {
  const Folder folder;
  for (const auto& [name, records] : {std::pair{"train.bin", 200}, std::pair{"test.bin", 100}}) {
    std::string content;
    for (int r = 0; r < records; ++r) {
      content += {static_cast<char>(r % 20), static_cast<char>(r % 100)};
      content += std::string(3072, static_cast<char>(r % 100));
    }
    write(folder.path() / name, content);
  }
  write(folder.path() / "fine_label_names.txt", "apple\n");
  const Outcome outcome = train(folder.path(), {"--json"});
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 0);
  CHECK(contains(outcome.out, "\"description\":\"CIFAR-100 from "));
  CHECK(contains(outcome.out, "\"training\":200,\"testing\":100,\"classes\":[\"apple\",\"aquarium_fish\""));
  // 3072 inputs, one hidden unit, 100 classes.
  CHECK(contains(outcome.out, "\"parameters\":" + std::to_string(3072 + 1 + 100 + 100)));
}

TEST_SUITE_END();
