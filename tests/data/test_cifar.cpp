#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <doctest/doctest.h>

#include <meristem/data/cifar.hpp>

namespace data_cifar_test {

namespace ms = meristem;
namespace fs = std::filesystem;
using ms::data::cifar10;
using ms::data::cifar100;
using ms::data::Cifar100Labels;
using ms::data::ImageSet;
using ms::data::Split;

namespace {

/// A folder of its own that goes away with the object.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "meristem_cifar_XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const fs::path& path() const { return path_; }
  void write(const std::string& file, const std::vector<std::uint8_t>& bytes) const {
    std::ofstream out(path_ / file, std::ios::binary);
    for (const std::uint8_t byte : bytes) out.put(static_cast<char>(byte));
    REQUIRE(out.good());
  }

 private:
  fs::path path_;
};

/// While it lives, root acts as a user without rights; others stay who they are.
class Unprivileged {
 public:
  Unprivileged() : was_(geteuid()) {
    if (was_ == 0) changed_ = seteuid(65534) == 0;
  }
  ~Unprivileged() {
    if (changed_) CHECK(seteuid(was_) == 0);
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;

 private:
  uid_t was_;
  bool changed_ = false;
};

/// A pixel value that depends on everything, so that no two places can be exchanged unnoticed.
std::uint8_t pixel(int image, int channel, int y, int x) {
  return static_cast<std::uint8_t>((image * 131 + channel * 71 + y * 37 + x * 11 + y * x) % 251);
}

/// Records `first` ... `first + count - 1`; the label bytes of record i are those of `label_bytes(i)`.
template <class LabelBytes>
std::vector<std::uint8_t> records(int first, int count, LabelBytes label_bytes) {
  std::vector<std::uint8_t> bytes;
  for (int i = first; i < first + count; ++i) {
    for (const int label : label_bytes(i)) bytes.push_back(static_cast<std::uint8_t>(label));
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < 32; ++y) {
        for (int x = 0; x < 32; ++x) bytes.push_back(pixel(i, c, y, x));
      }
    }
  }
  return bytes;
}

std::vector<std::uint8_t> cifar10_records(int first, int count) {
  return records(first, count, [](int i) { return std::array{i * 7 % 10}; });
}

std::vector<std::uint8_t> cifar100_records(int count) {
  return records(0, count, [](int i) { return std::array{i % 20, 99 - i}; });
}

/// Number of pixels that are not where NHWC has them, and the first of them.
void check_pixels(const ImageSet& set) {
  int wrong = 0;
  for (int i = 0; i < set.size(); ++i) {
    for (int y = 0; y < 32; ++y) {
      for (int x = 0; x < 32; ++x) {
        for (int c = 0; c < 3; ++c) {
          const auto at = static_cast<std::size_t>(((i * 32 + y) * 32 + x) * 3 + c);
          if (set.pixels.at(at) == pixel(i, c, y, x)) continue;
          if (wrong++ == 0) FAIL_CHECK("first wrong pixel: image ", i, " y ", y, " x ", x, " channel ", c);
        }
      }
    }
  }
  CHECK(wrong == 0);
}

template <class Read>
std::string io_complaint(Read read) {
  try {
    (void)read();
  } catch (const ms::IoError& error) {
    return error.message();
  }
  return "no IoError";
}

template <class Read>
std::string data_complaint(Read read) {
  try {
    (void)read();
  } catch (const ms::DataError& error) {
    return error.message();
  }
  return "no DataError";
}

const std::string remedy10 =
    "download the binary version (cifar-10-binary.tar.gz) from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it "
    "and name the folder that holds its .bin files";

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("cifar: the five training files of CIFAR-10 are read in order, planes become NHWC") {
  const Folder folder;
  int first = 0;
  for (int file = 1; file <= 5; ++file) {
    folder.write("data_batch_" + std::to_string(file) + ".bin", cifar10_records(first, file));
    first += file;
  }
  const ImageSet set = cifar10(folder.path(), Split::train);
  CHECK(set.size() == 15);
  CHECK(set.height == 32);
  CHECK(set.width == 32);
  CHECK(set.channels == 3);
  CHECK(set.classes() == 10);
  CHECK(set.class_names[9] == "truck");
  CHECK(set.source == "CIFAR-10 train set in " + folder.path().string());
  for (int i = 0; i < 15; ++i) CHECK(set.labels.at(static_cast<std::size_t>(i)) == i * 7 % 10);
  check_pixels(set);
}

TEST_CASE("cifar: the test file of CIFAR-10 needs no training files and has their normalization") {
  const Folder folder;
  folder.write("test_batch.bin", cifar10_records(0, 2));
  const ImageSet set = cifar10(folder.path(), Split::test);
  CHECK(set.size() == 2);
  check_pixels(set);
  for (int file = 1; file <= 5; ++file) {
    folder.write("data_batch_" + std::to_string(file) + ".bin", cifar10_records(0, 1));
  }
  CHECK(set.normalization == cifar10(folder.path(), Split::train).normalization);
}

TEST_CASE("cifar: CIFAR-100 has a coarse, then a fine label") {
  const Folder folder;
  folder.write("train.bin", cifar100_records(4));
  folder.write("test.bin", cifar100_records(3));
  const ImageSet fine = cifar100(folder.path(), Split::train);
  CHECK(fine.classes() == 100);
  CHECK(fine.labels == std::vector<std::int32_t>{99, 98, 97, 96});
  CHECK(fine.class_names[0] == "apple");
  CHECK(fine.class_names[99] == "worm");
  CHECK(std::is_sorted(fine.class_names.begin(), fine.class_names.end()));
  check_pixels(fine);
  const ImageSet coarse = cifar100(folder.path(), Split::test, Cifar100Labels::coarse);
  CHECK(coarse.classes() == 20);
  CHECK(coarse.labels == std::vector<std::int32_t>{0, 1, 2});
  CHECK(coarse.class_names[19] == "vehicles_2");
  check_pixels(coarse);
}

TEST_CASE("cifar: a missing folder or file is named with the remedy") {
  const Folder folder;
  const fs::path nowhere = folder.path() / "nowhere";
  CHECK(io_complaint([&] { return cifar10(nowhere, Split::train); }) ==
        nowhere.string() + ": no such file or folder; " + remedy10);
  CHECK(io_complaint([&] { return cifar10(folder.path(), Split::train); }) ==
        (folder.path() / "data_batch_1.bin").string() + ": no such file or folder; " + remedy10);
  CHECK(io_complaint([&] {
          return cifar100(folder.path(), Split::test);
        }).find("test.bin: no such file or folder; download the binary version (cifar-100-binary.tar.gz)") !=
        std::string::npos);
  folder.write("file", {});
  const fs::path file = folder.path() / "file";
  CHECK(io_complaint([&] { return cifar10(file, Split::test); }) == file.string() + ": not a folder; " + remedy10);
  fs::create_directory(folder.path() / "test_batch.bin");
  CHECK(io_complaint([&] { return cifar10(folder.path(), Split::test); }) ==
        (folder.path() / "test_batch.bin").string() + ": not a file; " + remedy10);
}

TEST_CASE("cifar: a file or folder without permission is named") {
  const Folder folder;
  const fs::path data = folder.path() / "data";
  fs::create_directory(data);
  folder.write("data/test_batch.bin", cifar10_records(0, 1));
  fs::permissions(folder.path(), fs::perms::all);
  fs::permissions(data / "test_batch.bin", fs::perms::none);
  std::string closed_file, closed_folder;
  {
    const Unprivileged unprivileged;
    if (geteuid() == 0) {
      MESSAGE("root may read everything and cannot become someone else here; skipped");
      return;
    }
    closed_file = io_complaint([&] { return cifar10(data, Split::test); });
  }
  fs::permissions(data, fs::perms::none);
  {
    const Unprivileged unprivileged;
    closed_folder = io_complaint([&] { return cifar10(data, Split::test); });
  }
  fs::permissions(data, fs::perms::owner_all);
  const std::string path = (data / "test_batch.bin").string();
  CHECK(closed_file == path + ": cannot be opened for reading; check its permissions");
  CHECK(closed_folder == path + ": cannot be reached: Permission denied; check the name and the rights");
}

TEST_CASE("cifar: a truncated or empty file is named with its size") {
  const Folder folder;
  const std::string path = (folder.path() / "test_batch.bin").string();
  std::vector<std::uint8_t> bytes = cifar10_records(0, 2);
  bytes.pop_back();
  folder.write("test_batch.bin", bytes);
  CHECK(data_complaint([&] { return cifar10(folder.path(), Split::test); }) ==
        path +
            ": truncated, or not the binary version of CIFAR-10: 6145 bytes are no multiple of the record size 3073; " +
            remedy10);
  folder.write("test_batch.bin", {});
  CHECK(data_complaint([&] { return cifar10(folder.path(), Split::test); }) ==
        path + ": the file is empty; " + remedy10);
  // A hole of whole records, where the file system takes one.
  std::error_code unable;
  fs::resize_file(path, std::uintmax_t{3073} << 21, unable);
  if (!unable) {
    CHECK(data_complaint([&] { return cifar10(folder.path(), Split::test); }) ==
          path + ": 6146 MiB are too many for a file of CIFAR-10; the limit is 4096 MiB; " + remedy10);
  }
  // A CIFAR-10 file is no CIFAR-100 file.
  folder.write("test.bin", cifar10_records(0, 1));
  CHECK(data_complaint([&] {
          return cifar100(folder.path(), Split::test);
        }).find("CIFAR-100: 3073 bytes are no multiple of the record size 3074") != std::string::npos);
}

TEST_CASE("cifar: a label out of range is named with file, record and value") {
  const Folder folder;
  std::vector<std::uint8_t> bytes = cifar10_records(0, 3);
  bytes[2 * 3073] = 10;
  folder.write("test_batch.bin", bytes);
  CHECK(data_complaint([&] { return cifar10(folder.path(), Split::test); }) ==
        (folder.path() / "test_batch.bin").string() + ": record 2 has label 10; CIFAR-10 labels run from 0 to 9; " +
            remedy10);
  std::vector<std::uint8_t> bytes100 = cifar100_records(2);
  bytes100[3074 + 1] = 100;
  folder.write("test.bin", bytes100);
  CHECK(data_complaint([&] {
          return cifar100(folder.path(), Split::test);
        }).find("test.bin: record 1 has label 100; CIFAR-100 labels run from 0 to 99") != std::string::npos);
  bytes100[3074] = 20;
  folder.write("test.bin", bytes100);
  CHECK(data_complaint([&] {
          return cifar100(folder.path(), Split::test, Cifar100Labels::coarse);
        }).find("test.bin: record 1 has label 20; CIFAR-100 labels run from 0 to 19") != std::string::npos);
}

TEST_SUITE_END();

}  // namespace data_cifar_test
