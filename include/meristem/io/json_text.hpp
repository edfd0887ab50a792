// JSON text from files, which may hold anything: errors say where, and nothing is dropped silently.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/text.hpp>

namespace meristem::io {

using Json = nlohmann::json;

/// The value of a JSON text. Throws DataError, which starts with `source`, for text that is no JSON, objects with the
/// same name twice, and more than 200 levels.
[[nodiscard]] Json parse_json(std::string_view text, const std::string& source);

/// The value as text on one line. Throws ArgumentError, which starts with `source`, for strings that are not UTF-8.
[[nodiscard]] std::string json_text(const Json& value, const std::string& source);

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/json_text_impl.hpp>
#endif
