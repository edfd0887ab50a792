// Whole files: read into memory, and written so that a reader finds the old content or the new, never a part.
#pragma once

#include <sys/file.h>
#include <unistd.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>

namespace meristem::io {

namespace detail {

/// An open file that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) noexcept : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  [[nodiscard]] int get() const noexcept { return number_; }
  [[nodiscard]] bool open() const noexcept { return number_ >= 0; }

 private:
  int number_;
};

}  // namespace detail

/// The bytes of a file. Throws IoError if it cannot be read, is no regular file or does not fit into memory.
[[nodiscard]] std::vector<std::byte> read_file(const std::string& path);

/// Writes a file beside its final place, `<path>.part`, and puts it there in one step: whoever reads `path`, also after
/// the power failed, finds the old content or the whole new one. Unless `commit` was called and succeeded, nothing
/// remains. A `<path>.part` that a killed program left is overwritten.
class AtomicFile {
 public:
  /// Throws IoError if the folder cannot be written to, if `path` is there and no regular file, or if another program
  /// is writing it.
  explicit AtomicFile(const std::string& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() { discard(); }

  /// Appends bytes. Throws IoError if they cannot be written, such as for a full disk.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span<const char>(text.data(), text.size()))); }

  /// Makes sure that everything is on the disk and puts the file in its place. Throws IoError; the old file is then
  /// untouched, unless it is the folder that could not be synchronised.
  void commit();

 private:
  [[noreturn]] void fail(const char* what, int error) const;

  void discard() noexcept;

  std::string shown_, path_, part_;
  detail::Descriptor file_;
};

/// Replaces a file by one with this content, as AtomicFile does. Throws IoError.
void write_file(const std::string& path, std::string_view content);

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/file_impl.hpp>
#endif
