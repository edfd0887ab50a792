// One function for each reader: gives it bytes as the content of a file and uses what it returns. A reader may accept
// or throw meristem::Error; anything else is a fault.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <meristem/data/cifar.hpp>
#include <meristem/data/image_file.hpp>
#include <meristem/data/image_folder.hpp>
#include <meristem/io/architecture.hpp>
#include <meristem/io/checkpoint.hpp>
#if __has_include(<csv.h>)
#include <meristem/io/csv.hpp>
#endif
#include <meristem/io/history.hpp>
#include <meristem/io/model.hpp>
#include <meristem/io/npy.hpp>
#include <meristem/io/safetensors.hpp>

namespace fuzz {

namespace ms = meristem;
using Bytes = std::span<const std::uint8_t>;

inline void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

inline ms::Context& context() {
  static ms::Context ctx;
  return ctx;
}

inline std::vector<std::byte> as_bytes(Bytes input) {
  const auto* first = reinterpret_cast<const std::byte*>(input.data());
  return {first, first + input.size()};
}

inline std::string as_text(Bytes input) { return {reinterpret_cast<const char*>(input.data()), input.size()}; }

/// A folder in memory for readers that want files; it goes away with the program.
inline const std::filesystem::path& folder() {
  struct Folder {
    std::filesystem::path path;
    Folder() {
      std::error_code missing;
      const bool memory = std::filesystem::is_directory("/dev/shm", missing);
      std::string name =
          (memory ? std::filesystem::path("/dev/shm") : std::filesystem::temp_directory_path()) / "fuzz-XXXXXX";
      require(mkdtemp(name.data()) != nullptr, "no temporary folder");
      path = name;
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };
  static const Folder made;
  return made.path;
}

inline std::filesystem::path write(const std::filesystem::path& path, Bytes input) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(input.data()), std::ssize(input));
  return path;
}

/// The first byte chooses the version; the rest is the file of the test images.
inline void cifar(Bytes input) {
  if (input.empty()) throw ms::DataError("nothing to choose the version by");
  const bool ten = input[0] % 2 == 0;
  write(folder() / (ten ? "test_batch.bin" : "test.bin"), input.subspan(1));
  const ms::data::ImageSet set =
      ten ? ms::data::cifar10(folder(), ms::data::Split::test)
          : ms::data::cifar100(folder(), ms::data::Split::test,
                               input[0] % 4 == 1 ? ms::data::Cifar100Labels::fine : ms::data::Cifar100Labels::coarse);
  set.check();
}

/// Every element type on the same bytes; one accepts at most.
inline void npy(Bytes input) {
  const std::vector<std::byte> bytes = as_bytes(input);
  int accepted = 0;
  std::string refusal;
  const auto read = [&]<class T>() {
    try {
      const auto array = ms::io::parse_npy<T>(bytes, "input");
      require(array.values.size() * sizeof(T) <= input.size(), "npy: more values than bytes");
      ++accepted;
    } catch (const ms::Error& error) {
      refusal = error.message();
    }
  };
  read.operator()<float>();
  read.operator()<double>();
  read.operator()<std::int32_t>();
  read.operator()<std::int64_t>();
  read.operator()<std::uint8_t>();
  require(accepted <= 1, "npy: two element types");
  if (accepted == 0) throw ms::DataError(refusal);
}

inline void safetensors(Bytes input) {
  const auto file = ms::io::Safetensors::parse(as_bytes(input), "input");
  std::size_t total = 0;
  for (const auto& [name, tensor] : file.tensors()) total += tensor.bytes.size();
  require(total <= input.size(), "safetensors: more bytes than the file has");
  (void)file.checksum("checksum");
}

/// With the checksum set right, so that what lies behind it is reached.
inline void checkpoint(Bytes input) {
  auto file = ms::io::Safetensors::parse(as_bytes(input), "input");
  file.metadata()["checksum"] = ms::io::detail::hexadecimal(file.checksum("checksum"));
  const ms::io::Checkpoint<float> read(std::move(file));
  ms::Context ctx({.seed = read.seed()});
  auto net = read.network(ctx);
  const auto optimizer = read.optimizer(net);
  read.restore(ctx, net, *optimizer);
  require(optimizer->steps() >= 0, "checkpoint: steps");
  optimizer->step(ctx);
}

inline void model(Bytes input) {
  const auto file = ms::io::Safetensors::parse(as_bytes(input), "input");
  const auto read = ms::io::load_model<float>(context(), file);
  (void)read;
}

/// What was built is written down and built again, to the same text.
inline void architecture(Bytes input) {
  const std::string text = as_text(input);
  const ms::io::BuildOptions options{.source = "input", .limits = {.elements = 100'000, .layers = 200}};
  auto net = ms::io::build<float>(context(), text, options);
  const std::string once = ms::io::architecture(net);
  auto again = ms::io::build<float>(context(), once, options);
  require(ms::io::architecture(again) == once, "architecture: written and read is something else");
}

inline void history(Bytes input) {
  std::istringstream lines(as_text(input));
  (void)ms::io::read_history(lines, "input");
}

/// With the checksums of a PNG file's chunks set right, so that what lies behind them is reached.
inline std::vector<std::uint8_t> with_checksums(Bytes input) {
  std::vector<std::uint8_t> bytes(input.begin(), input.end());
  for (std::size_t at = 8; at + 12 <= bytes.size();) {
    const Bytes all(bytes);
    const std::size_t length = ms::data::detail::big_endian(all.subspan(at, 4));
    if (length > bytes.size() - at - 12) break;
    const std::uint32_t sum = ms::data::detail::png_checksum(all.subspan(at + 4, 4 + length));
    for (std::size_t i = 0; i < 4; ++i) bytes[at + 8 + length + i] = static_cast<std::uint8_t>(sum >> (24 - 8 * i));
    at += 12 + length;
  }
  return bytes;
}

/// The bytes as a JPEG or PNG file, at another size.
inline void image(Bytes input) {
  const bool png = ms::data::detail::starts_with(input, "\x89PNG");
  const std::vector<std::uint8_t> bytes = png ? with_checksums(input) : std::vector(input.begin(), input.end());
  const ms::data::Image decoded = ms::data::decode_image(bytes, "input");
  require(std::ssize(decoded.pixels) == 3 * decoded.height * decoded.width, "image: size");
  const ms::data::Image sized = ms::data::resize_image(decoded, 8, 8);
  require(sized.pixels.size() == 192, "image: resized");
}

/// The bytes as one file of a data set of pictures.
inline void image_folder(Bytes input) {
  const std::filesystem::path root = folder() / "pictures";
  static const bool made = [&] {
    for (const char* name : {"train/a", "test/a"}) std::filesystem::create_directories(root / name);
    return true;
  }();
  (void)made;
  write(root / "train/a/1.png", input);
  write(root / "test/a/1.jpg", input);
  const auto read = ms::data::image_folder(root, {.height = 4, .width = 4});
  read.train.check();
  read.test.check();
}

#if __has_include(<csv.h>)
/// The first byte chooses what the columns mean.
inline void csv(Bytes input) {
  if (input.empty()) throw ms::DataError("nothing to choose the columns by");
  ms::io::CsvOptions options;
  if (input[0] & 1) options.targets = {"y"};
  if (input[0] & 2) options.label = "class";
  if (input[0] & 4) options.ignored = {"name"};
  if (input[0] & 8) options.delimiter = ';';
  const ms::data::SampleSet<double> set =
      ms::io::read_csv(write(folder() / "input.csv", input.subspan(1)).string(), options);
  require(set.size() > 0 && set.size() <= std::ssize(input), "csv: size");
  (void)set.batch(context(), std::array<std::int64_t, 1>{set.size() - 1});
}
#endif

using Target = void (*)(Bytes);

inline const std::map<std::string, Target>& targets() {
  static const std::map<std::string, Target> all = {
    {"cifar", cifar},
#if __has_include(<csv.h>)
    {"csv", csv},
#endif
    {"npy", npy},
    {"safetensors", safetensors},
    {"checkpoint", checkpoint},
    {"model", model},
    {"history", history},
    {"architecture", architecture},
    {"image", image},
    {"image_folder", image_folder}
  };
  return all;
}

}  // namespace fuzz
