// Definitions of format.hpp.
#pragma once

#include <meristem/io/format.hpp>

namespace meristem::io::detail {

MERISTEM_INLINE void require_format(const Safetensors& file, std::string_view format, std::int64_t version) {
  const auto found = file.metadata().find("meristem.format");
  if (found == file.metadata().end() || found->second != format) {
    throw DataError(concat(file.source(), ": is no ", format, " file",
                           found == file.metadata().end() ? std::string() : " but " + found->second));
  }
  const std::string& written = file.metadata("meristem.format_version");
  if (written != std::to_string(version)) {
    throw DataError(concat(file.source(), ": has version ", written, " of the format; version ", version,
                           " is read here: use the meristem that wrote it"));
  }
}

template <Real T>
void require_dtype(const Safetensors& file) {
  if (file.metadata("dtype") == dtype_name<T>) return;
  throw DataError(concat(file.source(), ": holds numbers of type ", file.metadata("dtype"),
                         "; this program computes in ", dtype_name<T>));
}

template <Real T>
BuildOptions build_options(const Safetensors& file) {
  BuildOptions options{.source = file.source()};
  options.limits.elements = 65'536;
  for (const auto& [name, tensor] : file.tensors()) {
    options.limits.elements += 2 * static_cast<std::int64_t>(tensor.bytes.size() / sizeof(T));
  }
  return options;
}

MERISTEM_INLINE const Json& Members::member(const char* name) const {
  if (!value_->is_object() || !value_->contains(name)) throw DataError(concat(where_, ": '", name, "' is missing"));
  return (*value_)[name];
}

MERISTEM_INLINE std::uint64_t Members::whole(const char* name) const {
  const Json& value = member(name);
  if (!value.is_number_unsigned()) throw DataError(concat(where_, ": '", name, "' is no whole number from 0 up"));
  return value.get<std::uint64_t>();
}

MERISTEM_INLINE double Members::real(const char* name) const {
  const Json& value = member(name);
  if (!value.is_number()) throw DataError(concat(where_, ": '", name, "' is no number"));
  return value.get<double>();
}

MERISTEM_INLINE bool Members::flag(const char* name) const {
  const Json& value = member(name);
  if (!value.is_boolean()) throw DataError(concat(where_, ": '", name, "' is neither true nor false"));
  return value.get<bool>();
}

MERISTEM_INLINE std::string Members::text(const char* name) const {
  const Json& value = member(name);
  if (!value.is_string()) throw DataError(concat(where_, ": '", name, "' is no string"));
  return value.get<std::string>();
}

MERISTEM_INLINE const Json& Members::as_list(const std::string& where, const Json& value) {
  if (!value.is_array()) throw DataError(concat(where, " is no list"));
  return value;
}

}  // namespace meristem::io::detail
