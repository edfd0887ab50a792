// Typed exceptions. Every message is a sentence that says what was wrong, where, and what to do about it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#include <meristem/core/source_location.hpp>

namespace meristem {

/// Joins its arguments, each written with `<<`, into one string.
template <class... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

/// Base of everything the library throws. `what()` is the message followed by the source line that threw it;
/// `message()` is the sentence alone, for showing to the person at the terminal.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, SourceLocation where = SourceLocation::current())
      : std::runtime_error(concat(message, " [", where.file, ":", where.line, "]")), message_(message), where_(where) {}

  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const SourceLocation& where() const noexcept { return where_; }

 private:
  std::string message_;
  SourceLocation where_;
};

/// An option or argument outside its range.
class ArgumentError : public Error {
 public:
  explicit ArgumentError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

/// Shapes that do not fit together.
class ShapeError : public Error {
 public:
  explicit ShapeError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

/// Memory that the device or the host does not have.
class MemoryError : public Error {
 public:
  explicit MemoryError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

/// A failed CUDA runtime, cuBLAS or cuSOLVER call, or no GPU.
class CudaError : public Error {
 public:
  explicit CudaError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

/// A kernel used the launch machinery wrongly: too large a block, threads of a block waiting at different barriers.
class LaunchError : public Error {
 public:
  explicit LaunchError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

/// A decomposition that failed or did not converge.
class SolverError : public Error {
 public:
  explicit SolverError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

/// A NaN or infinity where numbers were expected.
class NumericError : public Error {
 public:
  explicit NumericError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

/// A file that cannot be opened, read or written.
class IoError : public Error {
 public:
  explicit IoError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

/// A file or data set whose content is not what its format says.
class DataError : public Error {
 public:
  explicit DataError(const std::string& message, SourceLocation where = SourceLocation::current())
      : Error(message, where) {}
};

}  // namespace meristem
