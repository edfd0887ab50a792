// Typed exceptions. Every message is a sentence that says what was wrong, where, and what to do about it.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

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
  explicit Error(const std::string& message, std::source_location where = std::source_location::current())
      : std::runtime_error(concat(message, " [", where.file_name(), ":", where.line(), "]")),
        message_(message),
        where_(where) {}

  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const std::source_location& where() const noexcept { return where_; }

 private:
  std::string message_;
  std::source_location where_;
};

/// An option or argument outside its range.
class ArgumentError : public Error {
 public:
  using Error::Error;
};

/// Shapes that do not fit together.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A failed CUDA runtime, cuBLAS or cuSOLVER call, or no GPU.
class CudaError : public Error {
 public:
  using Error::Error;
};

/// A kernel used the launch machinery wrongly: too large a block, threads of a block waiting at different barriers.
class LaunchError : public Error {
 public:
  using Error::Error;
};

/// A decomposition that failed or did not converge.
class SolverError : public Error {
 public:
  using Error::Error;
};

/// A NaN or infinity where numbers were expected.
class NumericError : public Error {
 public:
  using Error::Error;
};

/// A file that cannot be opened, read or written.
class IoError : public Error {
 public:
  using Error::Error;
};

/// A file or data set whose content is not what its format says.
class DataError : public Error {
 public:
  using Error::Error;
};

}  // namespace meristem
