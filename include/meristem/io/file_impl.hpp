// Definitions of file.hpp.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <system_error>

#include <meristem/io/file.hpp>

namespace meristem::io::detail {

MERISTEM_INLINE Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

/// What the system says about an error number.
[[nodiscard]] MERISTEM_INLINE std::string system_message(int error) { return std::generic_category().message(error); }

}  // namespace meristem::io::detail

namespace meristem::io {

MERISTEM_INLINE std::vector<std::byte> read_file(const std::string& path) {
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

MERISTEM_INLINE AtomicFile::AtomicFile(const std::string& path) : shown_(path), path_(path) {
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

MERISTEM_INLINE void AtomicFile::write(std::span<const std::byte> bytes) {
  if (!file_.open()) throw IoError(concat(shown_, ": was written and closed already"));
  while (!bytes.empty()) {
    const ssize_t count = ::write(file_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("cannot be written", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

MERISTEM_INLINE void AtomicFile::commit() {
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

MERISTEM_INLINE void AtomicFile::fail(const char* what, int error) const {
  const char* const remedy = error == ENOSPC || error == EDQUOT ? "make room or choose another disk"
                             : error == ENOENT                  ? "make its folder first"
                                                                : "check the folder and its rights";
  throw IoError(concat(shown_, ": ", what, ": ", detail::system_message(error), "; ", remedy));
}

MERISTEM_INLINE void AtomicFile::discard() noexcept {
  if (file_.open() && !part_.empty()) ::unlink(part_.c_str());
  file_ = detail::Descriptor();
}

MERISTEM_INLINE void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace meristem::io
