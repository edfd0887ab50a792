// Arrays in NumPy's .npy format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/io/file.hpp>

namespace meristem::io {

/// How .npy files name an element type; they are little-endian.
template <class T>
inline constexpr std::string_view npy_dtype = "";
template <>
inline constexpr std::string_view npy_dtype<float> = "<f4";
template <>
inline constexpr std::string_view npy_dtype<double> = "<f8";
template <>
inline constexpr std::string_view npy_dtype<std::int32_t> = "<i4";
template <>
inline constexpr std::string_view npy_dtype<std::int64_t> = "<i8";
template <>
inline constexpr std::string_view npy_dtype<std::uint8_t> = "|u1";

/// An array in host memory, in C order.
template <class T>
struct NpyArray {
  Shape shape;
  std::vector<T> values;
};

namespace detail {

/// Whether NumPy takes `descr` for the element type that .npy files call `dtype`, such as f4, =f4 and float32 for <f4.
[[nodiscard]] bool names_npy_dtype(std::string descr, std::string_view dtype);

/// The header: a Python dictionary such as {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
class NpyHeader {
 public:
  NpyHeader(std::string_view text, const std::string& source);

  [[nodiscard]] const std::string& descr() const noexcept { return descr_; }
  [[nodiscard]] bool fortran_order() const noexcept { return fortran_order_; }
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }

 private:
  [[noreturn]] void fail(const std::string& problem) const;

  /// The next character that is no blank, '\0' at the end.
  [[nodiscard]] char peek();
  /// The next characters for a message, on one line.
  [[nodiscard]] std::string next() const;
  void expect(char wanted);
  [[nodiscard]] std::string string();
  [[nodiscard]] std::string_view take_word();
  void read_shape();

  const std::string* source_;
  std::string_view rest_;
  std::string descr_;
  bool fortran_order_ = false;
  Shape shape_;
};

}  // namespace detail

/// The array in the bytes of a .npy file of version 1.0, 2.0 or 3.0, also as Python 2 wrote it; messages call it
/// `source`. Throws DataError, which says what was found and what is taken, for other files, element types other than
/// T, Fortran order, and a size that is not what the header says. Takes no more memory than the bytes.
template <class T>
[[nodiscard]] NpyArray<T> parse_npy(std::span<const std::byte> bytes, const std::string& source) {
  static_assert(!npy_dtype<T>.empty(), "arrays are of float, double, int32, int64 or uint8");
  constexpr std::size_t magic = 8;
  if (bytes.size() < magic + 2 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0) {
    throw DataError(concat(source, ": is no .npy file; it does not start as one"));
  }
  const auto byte = [&](std::size_t at) { return std::to_integer<std::size_t>(bytes[at]); };
  const std::size_t major = byte(6), minor = byte(7);
  if (major < 1 || major > 3 || minor != 0) {
    throw DataError(concat(source, ": is of .npy version ", major, ".", minor, "; 1.0, 2.0 and 3.0 are read"));
  }
  const std::size_t width = major == 1 ? 2 : 4;
  std::size_t length = 0;
  if (bytes.size() >= magic + width) {
    for (std::size_t i = 0; i < width; ++i) length |= byte(magic + i) << (8 * i);
  }
  if (bytes.size() < magic + width || length > bytes.size() - magic - width) {
    throw DataError(concat(source, ": the header of the .npy file would be ", length,
                           " bytes long, more than the file has; it is truncated"));
  }
  const char* const text = reinterpret_cast<const char*>(bytes.data()) + magic + width;
  const detail::NpyHeader header(std::string_view(text, length), source);
  if (!detail::names_npy_dtype(header.descr(), npy_dtype<T>)) {
    throw DataError(concat(source, ": its elements are '", header.descr(), "'; '", npy_dtype<T>, "' (", dtype_name<T>,
                           ", little-endian) is expected: convert it with astype"));
  }
  if (header.fortran_order() && header.shape().rank() > 1) {
    throw DataError(
        concat(source, ": the array is in Fortran order; C order is expected: save numpy.ascontiguousarray"));
  }
  const std::span<const std::byte> data = bytes.subspan(magic + width + length);
  std::int64_t size = 0;
  try {
    size = header.shape().size();
  } catch (const ShapeError& error) {
    throw DataError(concat(source, ": ", error.message()));
  }
  if (data.size() / sizeof(T) > static_cast<std::uint64_t>(size) ||
      (data.size() / sizeof(T) == static_cast<std::uint64_t>(size) && data.size() % sizeof(T) != 0)) {
    throw DataError(concat(source, ": ", data.size() - static_cast<std::size_t>(size) * sizeof(T),
                           " bytes follow the array of shape ", header.shape(), " of '", npy_dtype<T>,
                           "'; give each array a file of its own"));
  }
  if (data.size() / sizeof(T) != static_cast<std::uint64_t>(size)) {
    throw DataError(concat(source, ": an array of shape ", header.shape(), " of '", npy_dtype<T>,
                           "' does not take the ", data.size(),
                           " bytes that follow the header; it is truncated or damaged"));
  }
  NpyArray<T> array{header.shape(), std::vector<T>(static_cast<std::size_t>(size))};
  if (!data.empty()) std::memcpy(array.values.data(), data.data(), data.size());
  return array;
}

/// The array in a file. Throws IoError if it cannot be read, else as `parse_npy`.
template <class T>
[[nodiscard]] NpyArray<T> read_npy(const std::string& path) {
  return parse_npy<T>(read_file(path), path);
}

/// As a tensor. Throws as above.
template <class T>
[[nodiscard]] Tensor<T> read_npy(Context& ctx, const std::string& path) {
  const NpyArray<T> array = read_npy<T>(path);
  return from_host<T>(ctx, array.shape, array.values);
}

/// Writes an array in C order as a .npy file of version 1.0, as AtomicFile does. Throws ShapeError if shape and values
/// do not match, IoError if the file cannot be written.
template <class T>
void write_npy(const std::string& path, const Shape& shape, std::span<const T> values) {
  static_assert(!npy_dtype<T>.empty(), "arrays are of float, double, int32, int64 or uint8");
  if (shape.size() != std::ssize(values)) {
    throw ShapeError(
        concat(path, ": an array of shape ", shape, " has ", shape.size(), " elements; got ", values.size()));
  }
  // Python writes a tuple of one with a comma behind it.
  std::string tuple = shape.to_string();
  if (shape.rank() == 1) tuple.insert(tuple.size() - 1, ",");
  std::string header = concat("{'descr': '", npy_dtype<T>, "', 'fortran_order': False, 'shape': ", tuple, ", }");
  // The numbers start at a multiple of 64 bytes.
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string start("\x93NUMPY\x01\x00", 8);
  start += static_cast<char>(header.size() % 256);
  start += static_cast<char>(header.size() / 256);
  AtomicFile file(path);
  file.write(start);
  file.write(header);
  file.write(std::as_bytes(values));
  file.commit();
}

/// Writes a contiguous view. Throws as above, and ShapeError for a view with gaps.
template <class T>
void write_npy(const std::string& path, Context& ctx, View<const T> view) {
  const std::vector<T> values = to_host(ctx, view);
  write_npy<T>(path, view.shape(), std::span<const T>(values));
}

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/npy_impl.hpp>
#endif
