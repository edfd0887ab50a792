// Runs the main program as a person would, and says what it printed.
#pragma once

#include <sys/wait.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace program {

/// A folder of its own that goes away with the object.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "meristem-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder could be made");
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct Outcome {
  int exit_code = -1;  ///< -1 if a signal ended it
  std::string out, err;
};

inline std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

inline std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// Runs `executable` in `folder`, with one thread.
inline Outcome run_in(const std::filesystem::path& folder, const std::string& executable,
                      const std::vector<std::string>& arguments) {
  const Folder captured;
  const std::filesystem::path out = captured.path() / "out", err = captured.path() / "err";
  std::string command = "cd " + quoted(folder.string()) + " && OMP_NUM_THREADS=1 " + quoted(executable);
  for (const std::string& argument : arguments) command += " " + quoted(argument);
  const int status = std::system((command + " >" + quoted(out.string()) + " 2>" + quoted(err.string())).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(out), read(err)};
}

/// Runs the program compiled for the CPU in an empty folder, in which it must leave nothing (else the exit code is -2).
inline Outcome run(const std::vector<std::string>& arguments) {
  const Folder empty;
  Outcome outcome = run_in(empty.path(), MERISTEM_CIFAR10, arguments);
  if (!std::filesystem::is_empty(empty.path())) outcome.exit_code = -2;
  return outcome;
}

/// Writes `records` CIFAR-10 records, labelled 0, 1, .., 9, 0, .. or all `label`, and `extra` bytes. Pixels are random,
/// but brighter the higher the label, so that there is something to learn.
inline void write_batch(const std::filesystem::path& path, int records, int label = -1, int extra = 0) {
  std::ofstream file(path, std::ios::binary);
  std::uint32_t state = 1;
  for (int r = 0; r < records; ++r) {
    const int mark = label < 0 ? r % 10 : label;
    file.put(static_cast<char>(mark));
    for (int i = 0; i < 3072; ++i) {
      state = state * 1664525 + 1013904223;
      file.put(static_cast<char>((state >> 25) + static_cast<std::uint32_t>(12 * mark)));
    }
  }
  for (int i = 0; i < extra; ++i) file.put('\0');
}

/// Six files that are read as CIFAR-10: 100 images to train on, 20 to test.
inline void write_cifar(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (int i = 1; i <= 5; ++i) write_batch(folder / ("data_batch_" + std::to_string(i) + ".bin"), 20);
  write_batch(folder / "test_batch.bin", 20);
}

/// The four bytes of a number, the largest digit first.
inline std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

/// A chunk of a PNG file with its checksum, bit by bit.
inline std::string png_chunk(const std::string& type, const std::string& data) {
  std::uint32_t crc = 0xffffffff;
  for (const char c : type + data) {
    crc ^= static_cast<unsigned char>(c);
    for (int k = 0; k < 8; ++k) crc = crc & 1 ? 0xedb88320 ^ crc >> 1 : crc >> 1;
  }
  return big_endian(static_cast<std::uint32_t>(data.size())) + type + data + big_endian(~crc);
}

inline const std::string png_signature = "\x89PNG\r\n\x1a\n";

inline std::string png_header(std::uint32_t width, std::uint32_t height, int depth, int colour_type) {
  return png_chunk("IHDR", big_endian(width) + big_endian(height) +
                               std::string{static_cast<char>(depth), static_cast<char>(colour_type), 0, 0, 0});
}

/// Image data, rows with their filter bytes, stored without compression; at most 65,535 bytes.
inline std::string png_data(const std::string& raw) {
  std::uint32_t a = 1, b = 0;
  for (const char c : raw) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  const auto length = static_cast<std::uint16_t>(raw.size());
  return png_chunk("IDAT",
                   std::string{'\x78', '\x01', '\x01', static_cast<char>(length), static_cast<char>(length >> 8),
                               static_cast<char>(~length), static_cast<char>(~length >> 8)} +
                       raw + big_endian(b << 16 | a));
}

/// A PNG of one colour.
inline std::string png(int side, unsigned char red, unsigned char green, unsigned char blue) {
  std::string raw;
  for (int y = 0; y < side; ++y) {
    raw += '\0';
    for (int x = 0; x < side; ++x) raw += {static_cast<char>(red), static_cast<char>(green), static_cast<char>(blue)};
  }
  const auto size = static_cast<std::uint32_t>(side);
  return png_signature + png_header(size, size, 8, 2) + png_data(raw) + png_chunk("IEND", "");
}

inline void write(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace program
