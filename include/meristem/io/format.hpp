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
void require_format(const Safetensors& file, std::string_view format, std::int64_t version);

/// Throws DataError unless the metadata says that the numbers are of type T.
template <Real T>
void require_dtype(const Safetensors& file);

/// A network is not much larger than the file it comes from. The leeway leaves it to later checks to name a tensor that
/// the file lacks.
template <Real T>
[[nodiscard]] BuildOptions build_options(const Safetensors& file);

/// Members of an object in the metadata; DataError if one is missing or not what it should be.
class Members {
 public:
  Members(std::string where, const Json& value) : where_(std::move(where)), value_(&value) {}

  [[nodiscard]] const Json& member(const char* name) const;
  [[nodiscard]] std::uint64_t whole(const char* name) const;
  [[nodiscard]] double real(const char* name) const;
  [[nodiscard]] bool flag(const char* name) const;
  [[nodiscard]] std::string text(const char* name) const;
  [[nodiscard]] const Json& list(const char* name) const {
    return as_list(concat(where_, ": '", name, "'"), member(name));
  }
  /// `value`, which must be a list.
  [[nodiscard]] static const Json& as_list(const std::string& where, const Json& value);

 private:
  std::string where_;
  const Json* value_;
};

}  // namespace detail

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/format_impl.hpp>
#endif
