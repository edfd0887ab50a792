// Which units a growth step computes, and how.
#pragma once

#include <string>

#include <meristem/grow/units.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// Which new units, and how they are computed.
struct Method {
  std::string name;
  Route route = Route::cholesky;
  bool joint = false;
  bool fisher = false;
};

/// The units of M. Verbockhaven et al., "Growing tiny networks" (TMLR 2024), with the best move of today's weights.
[[nodiscard]] inline Method tiny(Route route = Route::cholesky) {
  return {route == Route::cholesky ? "tiny" : "tiny-eigen", route, false, false};
}
/// Units and the move of today's weights optimised together. Not for sites with convolutions.
[[nodiscard]] inline Method tiny_joint(Route route = Route::cholesky) { return {"tiny-joint", route, true, false}; }
/// TINY preconditioned by the empirical Fisher matrix of the outputs. Not for sites with convolutions.
[[nodiscard]] inline Method tiny_fisher() { return {"tiny-fisher", Route::cholesky, false, true}; }

}  // namespace meristem::inline MERISTEM_BACKEND::grow
