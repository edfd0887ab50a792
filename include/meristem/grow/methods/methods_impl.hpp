// Definitions of methods.hpp.
#pragma once

#include <meristem/grow/methods/methods.hpp>

namespace meristem::grow {

MERISTEM_INLINE const std::vector<Method>& all_methods() {
  static const std::vector<Method> methods = {tiny(),
                                              tiny(Route::eigen),
                                              tiny_joint(),
                                              tiny_fisher(),
                                              gradmax(),
                                              random_units(),
                                              random_units(UnitScale::kaiming),
                                              random_fan_outs(),
                                              nest(),
                                              net2wider(),
                                              paired(),
                                              north(),
                                              senn(),
                                              firefly()};
  return methods;
}

MERISTEM_INLINE Method parse_method(const std::string& name) {
  std::string names;
  for (const Method& method : all_methods()) {
    if (method->name() == name) return method;
    names += (names.empty() ? "" : ", ") + method->name();
  }
  throw ArgumentError(concat("there is no growth method '", name, "'; the methods are ", names));
}

}  // namespace meristem::grow
