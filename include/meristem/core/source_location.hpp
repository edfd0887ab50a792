// Where in the source a call was made. std::source_location is missing in clang 14 with libstdc++.
#pragma once

#include <meristem/core/config.hpp>

namespace meristem {

/// The file, line and function of the call that evaluated `SourceLocation::current()` as a default argument.
struct SourceLocation {
  const char* file = "";
  int line = 0;
  const char* function = "";

  [[nodiscard]] static constexpr MERISTEM_HD SourceLocation current(const char* file = __builtin_FILE(),
                                                                    int line = __builtin_LINE(),
                                                                    const char* function = __builtin_FUNCTION()) {
    return {file, line, function};
  }
};

}  // namespace meristem
