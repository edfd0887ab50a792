// Reads the JSON lines that grow::History writes.
#pragma once

#include <istream>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/grow/history.hpp>

namespace meristem::io {

/// The history in `lines`, every number with the bits it had (a NaN is a NaN); empty lines are skipped. `source` names
/// it in messages. Throws DataError that names the line if it is not what History writes.
[[nodiscard]] grow::History read_history(std::istream& lines, const std::string& source = "the history");

/// The history in a file. Throws IoError if it cannot be opened, DataError as above.
[[nodiscard]] grow::History load_history(const std::string& path);

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/history_impl.hpp>
#endif
