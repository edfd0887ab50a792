// Definitions of layer_fields.hpp.
#pragma once

#include <cmath>
#include <utility>

#include <meristem/io/layer_fields.hpp>

namespace meristem::io {

MERISTEM_INLINE LayerFields::LayerFields(detail::BuildUse& use, std::string path, const Json& value)
    : use_(&use), path_(std::move(path)), value_(&value) {
  if (!value.is_object()) fail("must be an object with a kind");
  used_.insert("name");
  kind_ = text("kind");
}

MERISTEM_INLINE void LayerFields::fail(const std::string& problem) const {
  throw DataError(concat(use_->source, ": architecture: layer '", path_, "'", kind_.empty() ? "" : " (" + kind_ + ")",
                         ": ", problem));
}

MERISTEM_INLINE const Json& LayerFields::field(const std::string& name) {
  used_.insert(name);
  const auto found = value_->find(name);
  if (found == value_->end()) fail(concat("the field '", name, "' is missing"));
  return *found;
}

MERISTEM_INLINE Extent2 LayerFields::extent(const std::string& name, std::int64_t least) {
  const Json& both = field(name);
  if (!both.is_array() || both.size() != 2) fail(concat("the field '", name, "' must be a list of two numbers"));
  return {size_of(name, both[0], least, max_extent), size_of(name, both[1], least, max_extent)};
}

MERISTEM_INLINE Shape LayerFields::shape(const std::string& name) {
  const Json& extents = field(name);
  if (!extents.is_array() || extents.empty() || extents.size() > Shape::max_rank) {
    fail(concat("the field '", name, "' must be a list of one to ", int{Shape::max_rank}, " numbers"));
  }
  Shape result;
  std::int64_t elements = 1;
  for (const Json& extent : extents) {
    result.append(size_of(name, extent, 1, max_size));
    if ((elements *= result[result.rank() - 1]) > max_size) {
      fail(concat("the field '", name, "' is a shape of more than ", max_size, " numbers"));
    }
  }
  return result;
}

MERISTEM_INLINE double LayerFields::real(const std::string& name) {
  const Json& number = field(name);
  if (!number.is_number() || !std::isfinite(number.get<double>())) {
    fail(concat("the field '", name, "' must be a number"));
  }
  return number.get<double>();
}

MERISTEM_INLINE bool LayerFields::flag(const std::string& name) {
  const Json& boolean = field(name);
  if (!boolean.is_boolean()) fail(concat("the field '", name, "' must be true or false"));
  return boolean.get<bool>();
}

MERISTEM_INLINE std::string LayerFields::text(const std::string& name) {
  const Json& string = field(name);
  if (!string.is_string()) fail(concat("the field '", name, "' must be a string"));
  return string.get<std::string>();
}

MERISTEM_INLINE void LayerFields::claim(std::initializer_list<std::initializer_list<std::int64_t>> tensors) {
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

MERISTEM_INLINE void LayerFields::finish() const {
  for (const auto& [name, value] : value_->items()) {
    if (used_.count(name) == 0) fail(concat("the field '", name, "' is not known here"));
  }
}

MERISTEM_INLINE std::int64_t LayerFields::size_of(const std::string& name, const Json& number, std::int64_t least,
                                                  std::int64_t most) const {
  const bool whole = number.is_number_integer();
  if (!whole || (number.is_number_unsigned() && number.get<std::uint64_t>() > static_cast<std::uint64_t>(most)) ||
      number.get<std::int64_t>() < least) {
    fail(concat("the field '", name, "' must be a whole number from ", least, " to ", most));
  }
  return number.get<std::int64_t>();
}

}  // namespace meristem::io
