// What files of models and of checkpoints share in their metadata.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/version.hpp>
#include <meristem/io/json_text.hpp>
#include <meristem/io/layer_fields.hpp>
#include <meristem/io/safetensors.hpp>

namespace meristem::io {

/// Where an architecture comes from, and what it may cost.
struct BuildOptions {
  std::string source = "network";  ///< what messages call the file
  BuildLimits limits = {};
};

namespace detail {

/// The version of the library as text.
[[nodiscard]] inline std::string library_version() {
  return concat(MERISTEM_VERSION_MAJOR, ".", MERISTEM_VERSION_MINOR, ".", MERISTEM_VERSION_PATCH);
}

/// Throws DataError unless the metadata names this format and version.
inline void require_format(const Safetensors& file, std::string_view format, std::int64_t version) {
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

/// Throws DataError unless the metadata says that the numbers are of type T.
template <Real T>
void require_dtype(const Safetensors& file) {
  if (file.metadata("dtype") == dtype_name<T>) return;
  throw DataError(concat(file.source(), ": holds numbers of type ", file.metadata("dtype"),
                         "; this program computes in ", dtype_name<T>));
}

/// A network is not much larger than the file it comes from. The leeway leaves it to later checks to name a tensor that
/// the file lacks.
template <Real T>
[[nodiscard]] BuildOptions build_options(const Safetensors& file) {
  BuildOptions options{.source = file.source()};
  options.limits.elements = 65'536;
  for (const auto& [name, tensor] : file.tensors()) {
    options.limits.elements += 2 * static_cast<std::int64_t>(tensor.bytes.size() / sizeof(T));
  }
  return options;
}

/// Members of an object in the metadata; DataError if one is missing or not what it should be.
class Members {
 public:
  Members(std::string where, const Json& value) : where_(std::move(where)), value_(&value) {}

  [[nodiscard]] const Json& member(const char* name) const {
    if (!value_->is_object() || !value_->contains(name)) throw DataError(concat(where_, ": '", name, "' is missing"));
    return (*value_)[name];
  }
  [[nodiscard]] std::uint64_t whole(const char* name) const {
    const Json& value = member(name);
    if (!value.is_number_unsigned()) throw DataError(concat(where_, ": '", name, "' is no whole number from 0 up"));
    return value.get<std::uint64_t>();
  }
  [[nodiscard]] double real(const char* name) const {
    const Json& value = member(name);
    if (!value.is_number()) throw DataError(concat(where_, ": '", name, "' is no number"));
    return value.get<double>();
  }
  [[nodiscard]] bool flag(const char* name) const {
    const Json& value = member(name);
    if (!value.is_boolean()) throw DataError(concat(where_, ": '", name, "' is neither true nor false"));
    return value.get<bool>();
  }
  [[nodiscard]] std::string text(const char* name) const {
    const Json& value = member(name);
    if (!value.is_string()) throw DataError(concat(where_, ": '", name, "' is no string"));
    return value.get<std::string>();
  }
  [[nodiscard]] const Json& list(const char* name) const {
    return as_list(concat(where_, ": '", name, "'"), member(name));
  }
  /// `value`, which must be a list.
  [[nodiscard]] static const Json& as_list(const std::string& where, const Json& value) {
    if (!value.is_array()) throw DataError(concat(where, " is no list"));
    return value;
  }

 private:
  std::string where_;
  const Json* value_;
};

}  // namespace detail

}  // namespace meristem::io
