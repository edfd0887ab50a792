// Definitions of methods.hpp.
#pragma once

#include <meristem/grow/methods/methods.hpp>

namespace meristem::grow {

MERISTEM_INLINE const std::vector<NamedMethod>& all_methods() {
  static const std::vector<NamedMethod> methods = {
      {"tiny", "units that express most of what today's weights cannot", [] { return tiny(); }},
      {"tiny-eigen", "tiny by the reference route, eigenvectors in double precision",
       [] { return tiny(Route::eigen); }},
      {"tiny-joint", "units and the move of today's weights optimised together", [] { return tiny_joint(); }},
      {"tiny-fisher", "tiny in the metric of the outputs' empirical Fisher matrix", [] { return tiny_fisher(); }},
      {"gradmax", "fan-ins of zero, fan-outs that maximise their gradient", [] { return gradmax(); }},
      {"random", "random fan-ins at today's scale, fan-outs of zero", [] { return random_units(); }},
      {"random-kaiming", "random fan-ins at Kaiming's scale, fan-outs of zero",
       [] { return random_units(ZeroSide::fan_out, UnitScale::kaiming); }},
      {"random-fan-out", "random fan-outs at today's scale, fan-ins of zero",
       [] { return random_units(ZeroSide::fan_in); }},
      {"nest", "units between the inputs and outputs that the gradient would connect first", [] { return nest(); }},
      {"net2wider", "copies of today's units, which share their fan-out", [] { return net2wider(); }},
      {"paired", "pairs of units that cancel, with variance transfer", [] { return paired(); }},
      {"north", "fan-ins orthogonal to today's units, fan-outs of zero", [] { return north(); }},
      {"senn", "fan-ins that raise the natural expansion score, fan-outs of zero", [] { return senn(); }},
      {"firefly", "random candidates trained for a moment, of which the best are kept", [] { return firefly(); }},
  };
  return methods;
}

MERISTEM_INLINE Method parse_method(const std::string& name) {
  std::string names;
  for (const NamedMethod& method : all_methods()) {
    if (method.name == name) return method.make();
    names += (names.empty() ? "" : ", ") + method.name;
  }
  throw ArgumentError(concat("there is no growth method '", name, "'; the methods are ", names));
}

}  // namespace meristem::grow
