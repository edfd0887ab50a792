// The fields of one layer in an architecture's JSON, read with errors that name the layer.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>
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
  LayerFields(detail::BuildUse& use, std::string path, const Json& value);

  [[nodiscard]] const std::string& kind() const noexcept { return kind_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] detail::BuildUse& use() const noexcept { return *use_; }

  [[noreturn]] void fail(const std::string& problem) const;

  [[nodiscard]] const Json& field(const std::string& name);

  /// A whole number from `least` to `max_size`.
  [[nodiscard]] std::int64_t size(const std::string& name, std::int64_t least = 0) {
    return size_of(name, field(name), least, max_size);
  }
  /// [rows, columns], each a whole number from `least` to `max_extent`.
  [[nodiscard]] Extent2 extent(const std::string& name, std::int64_t least = 0);
  /// A list of one to Shape::max_rank whole numbers, each from 1 to `max_size`, and so their product.
  [[nodiscard]] Shape shape(const std::string& name);
  /// A finite number.
  [[nodiscard]] double real(const std::string& name);
  [[nodiscard]] bool flag(const std::string& name);
  [[nodiscard]] std::string text(const std::string& name);

  /// To be called before a layer is made: its parameters and buffers will have as many elements as these products of
  /// extents, together. Throws DataError if the network would become larger than the limits allow.
  void claim(std::initializer_list<std::initializer_list<std::int64_t>> tensors);

  /// Throws DataError for fields that nobody asked for: they would mean something that is not done.
  void finish() const;

 private:
  [[nodiscard]] std::int64_t size_of(const std::string& name, const Json& number, std::int64_t least,
                                     std::int64_t most) const;

  detail::BuildUse* use_;
  std::string path_;
  const Json* value_;
  std::string kind_;
  std::set<std::string> used_;
};

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/layer_fields_impl.hpp>
#endif
