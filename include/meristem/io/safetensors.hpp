// Files of named tensors in the safetensors format (https://huggingface.co/docs/safetensors): eight bytes with the
// length of the header, little-endian; the header, JSON; the numbers.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/io/file.hpp>
#include <meristem/io/json_text.hpp>

namespace meristem::io {

static_assert(std::endian::native == std::endian::little, "safetensors and .npy files are little-endian");

namespace detail {

/// Bytes of one element, 0 for a type that is not known. BOOL is one byte too.
[[nodiscard]] std::int64_t stored_bytes(std::string_view dtype);

}  // namespace detail

/// What the format calls an element type.
template <class T>
inline constexpr std::string_view stored_dtype = "";
template <>
inline constexpr std::string_view stored_dtype<float> = "F32";
template <>
inline constexpr std::string_view stored_dtype<double> = "F64";
template <>
inline constexpr std::string_view stored_dtype<std::int32_t> = "I32";
template <>
inline constexpr std::string_view stored_dtype<std::int64_t> = "I64";
template <>
inline constexpr std::string_view stored_dtype<std::uint8_t> = "U8";

/// A tensor in a file: what its header says, and its bytes in C order.
struct StoredTensor {
  std::string dtype;                ///< as the format spells it, such as `F32`
  std::vector<std::int64_t> shape;  ///< outermost first
  std::span<const std::byte> bytes;

  /// Written as a tuple: `(10, 512)`.
  [[nodiscard]] std::string shape_text() const;
};

/// Named tensors and strings, from a file or on their way into one.
class Safetensors {
 public:
  /// The longest header that is taken, as in the official library.
  static constexpr std::uint64_t max_header = 100'000'000;

  Safetensors() = default;
  Safetensors(const Safetensors&) = delete;
  Safetensors& operator=(const Safetensors&) = delete;
  Safetensors(Safetensors&&) noexcept = default;
  Safetensors& operator=(Safetensors&&) noexcept = default;

  /// Reads and checks a file. Throws IoError if it cannot be read, DataError, which names file and tensor, if it is not
  /// what the format says: the header longer than the file or no JSON, a name given twice, an unknown dtype, a shape
  /// that does not match its bytes, bytes that overlap, lie outside the file or belong to no tensor. Takes as much
  /// memory as the file and its header need.
  [[nodiscard]] static Safetensors read(const std::string& path) { return parse(read_file(path), path); }

  /// As `read`, of bytes in memory; messages call them `source`.
  [[nodiscard]] static Safetensors parse(std::vector<std::byte> content, const std::string& source);

  /// What messages call the file.
  [[nodiscard]] const std::string& source() const noexcept { return source_; }
  [[nodiscard]] std::map<std::string, std::string>& metadata() noexcept { return metadata_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  [[nodiscard]] const std::map<std::string, StoredTensor>& tensors() const noexcept { return tensors_; }

  /// A string of the metadata. Throws DataError if it is not there.
  [[nodiscard]] const std::string& metadata(const std::string& name) const;

  /// A tensor. Throws DataError if it is not there.
  [[nodiscard]] const StoredTensor& at(const std::string& name) const;

  /// A tensor of elements T. Throws DataError, which names file and tensor, if it is not there or of another dtype.
  template <class T>
  [[nodiscard]] const StoredTensor& at(const std::string& name) const {
    const StoredTensor& tensor = at(name);
    if (tensor.dtype != stored_dtype<T>) {
      throw DataError(concat(source_, ": tensor '", name, "' has dtype ", tensor.dtype, "; ", stored_dtype<T>, " (",
                             dtype_name<T>, ") is expected"));
    }
    return tensor;
  }

  /// As above, and throws DataError for another shape.
  template <class T>
  [[nodiscard]] const StoredTensor& at(const std::string& name, const Shape& shape) const {
    const StoredTensor& tensor = at<T>(name);
    bool same = static_cast<int>(tensor.shape.size()) == shape.rank();
    for (int i = 0; same && i < shape.rank(); ++i) same = tensor.shape[static_cast<std::size_t>(i)] == shape[i];
    if (!same) {
      throw DataError(
          concat(source_, ": tensor '", name, "' has shape ", tensor.shape_text(), "; ", shape, " is expected"));
    }
    return tensor;
  }

  /// A copy in the memory of a Context. Throws DataError as `at`, and for more axes than a Shape has.
  template <class T>
  [[nodiscard]] Tensor<T> tensor(Context& ctx, const std::string& name) const {
    const StoredTensor& stored = at<T>(name);
    if (stored.shape.size() > std::size_t{Shape::max_rank}) {
      throw DataError(concat(source_, ": tensor '", name, "' has ", stored.shape.size(), " axes; at most ",
                             int{Shape::max_rank}, " are taken"));
    }
    Shape shape;
    for (const std::int64_t extent : stored.shape) shape.append(extent);
    Tensor<T> result(ctx, shape);
    meristem::detail::copy_bytes(ctx, result.data(), stored.bytes.data(), stored.bytes.size());
    ctx.synchronize();
    return result;
  }

  /// Adds a tensor, whose bytes it takes. Throws ArgumentError for a name that is taken or reserved, and ShapeError if
  /// the shape needs another number of bytes.
  template <class T>
  void add(const std::string& name, const Shape& shape, std::vector<std::byte> bytes) {
    static_assert(!stored_dtype<T>.empty(), "no element type of the format is meant");
    if (name == "__metadata__" || tensors_.count(name) != 0) {
      throw ArgumentError(concat("safetensors: the name '", name, "' is ",
                                 name == "__metadata__" ? "reserved" : "taken",
                                 "; give each tensor a name of its own"));
    }
    if (bytes.size() % sizeof(T) != 0 || bytes.size() / sizeof(T) != static_cast<std::size_t>(shape.size())) {
      throw ShapeError(concat("safetensors: tensor '", name, "' of shape ", shape, " needs ", shape.size(), " times ",
                              sizeof(T), " bytes; got ", bytes.size()));
    }
    StoredTensor tensor;
    tensor.dtype = stored_dtype<T>;
    for (int i = 0; i < shape.rank(); ++i) tensor.shape.push_back(shape[i]);
    storage_.push_back(std::move(bytes));
    tensor.bytes = storage_.back();
    tensors_.emplace(name, std::move(tensor));
  }

  /// Adds a copy of a contiguous view. Throws as above.
  template <class T>
  void add(Context& ctx, const std::string& name, View<const T> view) {
    if (!view.is_contiguous()) {
      throw ShapeError(
          concat("safetensors: tensor '", name, "' of shape ", view.shape(), " is strided; copy it first"));
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(view.size()) * sizeof(T));
    meristem::detail::copy_bytes(ctx, bytes.data(), view.data_handle(), bytes.size());
    ctx.synchronize();
    add<T>(name, view.shape(), std::move(bytes));
  }

  /// Writes the file as AtomicFile does: elements of more bytes first, so that every tensor is aligned, then by name.
  /// Throws IoError, and ArgumentError for names or metadata that are not UTF-8.
  void write(const std::string& path) const;

  /// A number over names, types, shapes, bytes and metadata, except the metadata's entry `except`. Not for secrets: it
  /// finds damage, not malice. Changing any one word of the content changes it.
  [[nodiscard]] std::uint64_t checksum(const std::string& except = {}) const;

 private:
  /// The entry of one tensor; `data` is what follows the header.
  [[nodiscard]] static StoredTensor entry(const std::string& where, const Json& value, std::span<const std::byte> data);

  std::string source_ = "safetensors";
  std::map<std::string, std::string> metadata_;
  std::map<std::string, StoredTensor> tensors_;
  std::vector<std::vector<std::byte>> storage_;
};

inline StoredTensor Safetensors::entry(const std::string& where, const Json& value, std::span<const std::byte> data) {
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    throw DataError(concat(where, " must have dtype, shape and data_offsets, and nothing else"));
  }
  const auto whole_number = [](const Json& number) {
    return number.is_number_unsigned() && number.get<std::uint64_t>() <= std::uint64_t{INT64_MAX};
  };
  StoredTensor tensor;
  if (!value["dtype"].is_string()) throw DataError(concat(where, ": dtype is no string"));
  tensor.dtype = value["dtype"].get<std::string>();
  const std::int64_t element = detail::stored_bytes(tensor.dtype);
  if (element == 0) {
    throw DataError(
        concat(where, " has dtype '", tensor.dtype,
               "', which is none of the types of whole bytes that are known here; convert it, for instance to F32"));
  }
  std::int64_t size = element;
  bool fits = true, empty = false;
  if (!value["shape"].is_array()) throw DataError(concat(where, ": shape is no list"));
  for (const Json& extent : value["shape"]) {
    if (!whole_number(extent))
      throw DataError(concat(where, ": shape has an entry that is no whole number from 0 to 2^63 - 1"));
    tensor.shape.push_back(extent.get<std::int64_t>());
    empty = empty || tensor.shape.back() == 0;
    fits = fits && !__builtin_mul_overflow(size, tensor.shape.back(), &size);
  }
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !whole_number(offsets[0]) || !whole_number(offsets[1])) {
    throw DataError(concat(where, ": data_offsets must be two whole numbers from 0 up"));
  }
  const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > data.size()) {
    throw DataError(concat(where, ": data_offsets ", begin, " to ", end, " are out of range; the file has ",
                           data.size(), " bytes of data"));
  }
  if (empty) size = 0;
  if ((!fits && !empty) || static_cast<std::uint64_t>(size) != end - begin) {
    throw DataError(concat(where, " of dtype ", tensor.dtype, " and shape ", tensor.shape_text(), " cannot take the ",
                           end - begin, " bytes that its data_offsets give it"));
  }
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

inline Safetensors Safetensors::parse(std::vector<std::byte> content, const std::string& source) {
  Safetensors result;
  result.source_ = source;
  result.storage_.push_back(std::move(content));
  const std::span<const std::byte> bytes = result.storage_.back();
  std::uint64_t length = 0;
  if (bytes.size() < sizeof(length)) {
    throw DataError(concat(source, ": has ", bytes.size(), " bytes; a safetensors file has eight and a header"));
  }
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > bytes.size() - sizeof(length) || length > max_header) {
    throw DataError(concat(source, ": the header would be ", length, " bytes long, more than ",
                           length > max_header ? "the format allows" : "the file has",
                           "; it is truncated or no safetensors file"));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length);
  if (text.empty() || text.front() != '{') {
    throw DataError(concat(source, ": the header does not start with {; it is no safetensors file"));
  }
  const Json header = parse_json(text, concat(source, ": the header"));
  const std::span<const std::byte> data = bytes.subspan(sizeof(length) + length);
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      result.tensors_.emplace(name, entry(concat(source, ": tensor '", name, "'"), value, data));
      continue;
    }
    if (value.is_null()) continue;
    if (!value.is_object()) throw DataError(concat(source, ": __metadata__ is no object"));
    for (const auto& [key, string] : value.items()) {
      if (!string.is_string()) throw DataError(concat(source, ": __metadata__ entry '", key, "' is no string"));
      result.metadata_.emplace(key, string.get<std::string>());
    }
  }
  // Side by side without a gap, from the first byte to the last.
  std::vector<const std::pair<const std::string, StoredTensor>*> order;
  for (const auto& entry : result.tensors_) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const auto &x = a->second.bytes, &y = b->second.bytes;
    return x.data() != y.data() ? x.data() < y.data() : x.size() < y.size();
  });
  const std::byte* next = data.data();
  for (const auto* entry : order) {
    const std::byte* const begin = entry->second.bytes.data();
    if (begin != next) {
      throw DataError(concat(source, ": tensor '", entry->first, "' ",
                             begin < next ? "overlaps the one before it" : "starts behind a hole", " at byte ",
                             begin - data.data(), " of the data; the format wants them side by side"));
    }
    next = begin + entry->second.bytes.size();
  }
  if (next != data.data() + data.size()) {
    throw DataError(concat(source, ": ", data.data() + data.size() - next, " bytes at its end belong to no tensor"));
  }
  return result;
}

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/safetensors_impl.hpp>
#endif
