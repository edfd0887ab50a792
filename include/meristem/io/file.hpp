// Whole files: read into memory, and written so that a reader finds the old content or the new, never a part.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <exception>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
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
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  [[nodiscard]] int get() const noexcept { return number_; }
  [[nodiscard]] bool open() const noexcept { return number_ >= 0; }

 private:
  int number_;
};

/// What the system says about an error number.
[[nodiscard]] inline std::string system_message(int error) { return std::generic_category().message(error); }

}  // namespace detail

/// The bytes of a file. Throws IoError if it cannot be read, is no regular file or does not fit into memory.
[[nodiscard]] inline std::vector<std::byte> read_file(const std::string& path) {
  const detail::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.open()) {
    throw IoError(
        concat(path, ": cannot be opened: ", detail::system_message(errno), "; check the name and the rights"));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) {
    throw IoError(concat(path, ": cannot be examined: ", detail::system_message(errno)));
  }
  if (!S_ISREG(status.st_mode)) throw IoError(concat(path, ": is no regular file; name a file"));
  std::vector<std::byte> bytes;
  try {
    bytes.resize(static_cast<std::size_t>(status.st_size));
  } catch (const std::exception&) {  // std::bad_alloc or std::length_error
    throw IoError(concat(path, ": its ", status.st_size, " bytes do not fit into memory; give a smaller file"));
  }
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw IoError(concat(path, ": reading failed: ", detail::system_message(errno)));
    if (count == 0) throw IoError(concat(path, ": became shorter while it was read; another program writes to it"));
    done += static_cast<std::size_t>(count);
  }
  return bytes;
}

/// Writes a file beside its final place, `<path>.part`, and puts it there in one step: whoever reads `path`, also after
/// the power failed, finds the old content or the whole new one. Unless `commit` was called and succeeded, nothing
/// remains. A `<path>.part` that a killed program left is overwritten.
class AtomicFile {
 public:
  /// Throws IoError if the folder cannot be written to, if `path` is there and no regular file, or if another program
  /// is writing it.
  explicit AtomicFile(const std::string& path) : shown_(path), path_(path) {
    std::error_code ignored;
    // Through a link the file it points to is replaced, not the link.
    if (std::filesystem::is_symlink(path_, ignored)) {
      std::error_code error;
      path_ = std::filesystem::weakly_canonical(path_, error).string();
      if (error) fail("cannot be followed", error.value());
    }
    struct stat status {};
    if (::stat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
      throw IoError(concat(path, ": is no regular file and cannot be replaced; choose another name"));
    }
    part_ = path_ + ".part";
    // The lock is on what was opened; if that was renamed or removed meanwhile, it is not ours.
    for (int attempt = 0; attempt < 16 && !file_.open(); ++attempt) {
      detail::Descriptor file(::open(part_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
      if (!file.open()) fail("cannot be written", errno);
      if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        throw IoError(concat(path, ": another program is writing it now; wait for it or choose another name"));
      }
      struct stat opened {};
      struct stat named {};
      if (::fstat(file.get(), &opened) == 0 && ::lstat(part_.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
          opened.st_dev == named.st_dev) {
        file_ = std::move(file);
      }
    }
    if (!file_.open()) throw IoError(concat(path, ": other programs write it all the time; choose another name"));
    if (::ftruncate(file_.get(), 0) != 0) {
      const int error = errno;
      discard();
      fail("cannot be written", error);
    }
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() { discard(); }

  /// Appends bytes. Throws IoError if they cannot be written, such as for a full disk.
  void write(std::span<const std::byte> bytes) {
    if (!file_.open()) throw IoError(concat(shown_, ": was written and closed already"));
    while (!bytes.empty()) {
      const ssize_t count = ::write(file_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("cannot be written", errno);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }
  void write(std::string_view text) { write(std::as_bytes(std::span<const char>(text.data(), text.size()))); }

  /// Makes sure that everything is on the disk and puts the file in its place. Throws IoError; the old file is then
  /// untouched, unless it is the folder that could not be synchronised.
  void commit() {
    if (!file_.open()) throw IoError(concat(shown_, ": was written and closed already"));
    if (::fsync(file_.get()) != 0) fail("cannot be written to the disk", errno);
    if (::rename(part_.c_str(), path_.c_str()) != 0) fail("cannot be put in its place", errno);
    part_.clear();
    file_ = detail::Descriptor();
    const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
    const detail::Descriptor opened(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // Some file systems do not synchronise folders and say EINVAL.
    if (opened.open() && ::fsync(opened.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
      fail("its folder cannot be written to the disk", errno);
    }
  }

 private:
  [[noreturn]] void fail(const char* what, int error) const {
    const char* const remedy = error == ENOSPC || error == EDQUOT ? "make room or choose another disk"
                               : error == ENOENT                  ? "make its folder first"
                                                                  : "check the folder and its rights";
    throw IoError(concat(shown_, ": ", what, ": ", detail::system_message(error), "; ", remedy));
  }

  void discard() noexcept {
    if (file_.open() && !part_.empty()) ::unlink(part_.c_str());
    file_ = detail::Descriptor();
  }

  std::string shown_, path_, part_;
  detail::Descriptor file_;
};

/// Replaces a file by one with this content, as AtomicFile does. Throws IoError.
inline void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace meristem::io
