// The fields of one layer in an architecture's JSON, read with errors that name the layer.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/window.hpp>
#include <meristem/io/json_text.hpp>

namespace meristem::io {

/// How large a network from a file may be. What loads weights too sets `elements` by the length of the file.
struct BuildLimits {
  std::int64_t elements = std::int64_t{1} << 31;  ///< numbers in all parameters and buffers together
  std::int64_t layers = 100'000;
  int depth = 60;  ///< containers in containers
};

namespace detail {
/// What building a network has used up so far.
struct BuildUse {
  std::string source;
  BuildLimits limits;
  std::int64_t elements = 0;
  std::int64_t layers = 0;
  int depth = 0;
};
}  // namespace detail

/// One layer's fields. Every reader throws DataError, which names the source and the layer, if the field is missing or
/// of the wrong type or size.
class LayerFields {
 public:
  /// The largest number that a field of sizes may hold; products of two cannot overflow.
  static constexpr std::int64_t max_size = (std::int64_t{1} << 31) - 1;
  /// The largest extent of a window, so that sizes of maps stay far from overflowing.
  static constexpr std::int64_t max_extent = 65'536;

  /// `path` is the layer's path name. Both other arguments must outlive the object.
  LayerFields(detail::BuildUse& use, std::string path, const Json& value)
      : use_(&use), path_(std::move(path)), value_(&value) {
    if (!value.is_object()) fail("must be an object with a kind");
    used_.insert("name");
    kind_ = text("kind");
  }

  [[nodiscard]] const std::string& kind() const noexcept { return kind_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] detail::BuildUse& use() const noexcept { return *use_; }

  [[noreturn]] void fail(const std::string& problem) const {
    throw DataError(concat(use_->source, ": architecture: layer '", path_, "'", kind_.empty() ? "" : " (" + kind_ + ")",
                           ": ", problem));
  }

  [[nodiscard]] const Json& field(const std::string& name) {
    used_.insert(name);
    const auto found = value_->find(name);
    if (found == value_->end()) fail(concat("the field '", name, "' is missing"));
    return *found;
  }

  /// A whole number from `least` to `max_size`.
  [[nodiscard]] std::int64_t size(const std::string& name, std::int64_t least = 0) {
    return size_of(name, field(name), least, max_size);
  }
  /// [rows, columns], each a whole number from `least` to `max_extent`.
  [[nodiscard]] Extent2 extent(const std::string& name, std::int64_t least = 0) {
    const Json& both = field(name);
    if (!both.is_array() || both.size() != 2) fail(concat("the field '", name, "' must be a list of two numbers"));
    return {size_of(name, both[0], least, max_extent), size_of(name, both[1], least, max_extent)};
  }
  /// A finite number.
  [[nodiscard]] double real(const std::string& name) {
    const Json& number = field(name);
    if (!number.is_number() || !std::isfinite(number.get<double>())) {
      fail(concat("the field '", name, "' must be a number"));
    }
    return number.get<double>();
  }
  [[nodiscard]] bool flag(const std::string& name) {
    const Json& boolean = field(name);
    if (!boolean.is_boolean()) fail(concat("the field '", name, "' must be true or false"));
    return boolean.get<bool>();
  }
  [[nodiscard]] std::string text(const std::string& name) {
    const Json& string = field(name);
    if (!string.is_string()) fail(concat("the field '", name, "' must be a string"));
    return string.get<std::string>();
  }

  /// To be called before a layer is made: its parameters and buffers will have as many elements as these products of
  /// extents, together. Throws DataError if the network would become larger than the limits allow.
  void claim(std::initializer_list<std::initializer_list<std::int64_t>> tensors) {
    for (const auto& extents : tensors) {
      std::int64_t elements = 1;
      bool fits = true;
      for (const std::int64_t extent : extents) fits = fits && !__builtin_mul_overflow(elements, extent, &elements);
      fits = fits && !__builtin_add_overflow(use_->elements, elements, &use_->elements);
      if (!fits || use_->elements > use_->limits.elements) {
        fail(concat("its parameters would make the network larger than the ", use_->limits.elements,
                    " numbers that are allowed for"));
      }
    }
  }

  /// Throws DataError for fields that nobody asked for: they would mean something that is not done.
  void finish() const {
    for (const auto& [name, value] : value_->items()) {
      if (used_.count(name) == 0) fail(concat("the field '", name, "' is not known here"));
    }
  }

 private:
  [[nodiscard]] std::int64_t size_of(const std::string& name, const Json& number, std::int64_t least,
                                     std::int64_t most) const {
    const bool whole = number.is_number_integer();
    if (!whole || (number.is_number_unsigned() && number.get<std::uint64_t>() > static_cast<std::uint64_t>(most)) ||
        number.get<std::int64_t>() < least) {
      fail(concat("the field '", name, "' must be a whole number from ", least, " to ", most));
    }
    return number.get<std::int64_t>();
  }

  detail::BuildUse* use_;
  std::string path_;
  const Json* value_;
  std::string kind_;
  std::set<std::string> used_;
};

}  // namespace meristem::io
