// All growth methods, also by name.
#pragma once

#include <string>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/core/text.hpp>
#include <meristem/grow/methods/copies.hpp>
#include <meristem/grow/methods/firefly.hpp>
#include <meristem/grow/methods/gradmax.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/methods/nest.hpp>
#include <meristem/grow/methods/north.hpp>
#include <meristem/grow/methods/random.hpp>
#include <meristem/grow/methods/senn.hpp>
#include <meristem/grow/methods/tiny.hpp>

namespace meristem::grow {

/// All methods of the library with their usual options.
[[nodiscard]] const std::vector<Method>& all_methods();

/// The method of that name. Throws ArgumentError that lists the names.
[[nodiscard]] Method parse_method(const std::string& name);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/methods_impl.hpp>
#endif
