// A growth step from its moments: the best move of today's weights, the bottleneck Ψ it leaves, and the units that
// express most of that, alone or jointly with the weights.
//
// The method is TINY's (grow/solve/units.hpp); the joint solution, the significance threshold and the slope ⟨A, M⟩ go
// beyond it. Matrices are named as in grow/solve/moments.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/moments.hpp>
#include <meristem/grow/solve/significance.hpp>
#include <meristem/grow/solve/units.hpp>
#include <meristem/grow/solve/whitening.hpp>

namespace meristem::grow {

/// A growth step before its amplitude is chosen. Every decrease is per unit of the step γ, for the mean loss.
template <Real T>
struct Solution {
  /// (q, d): δW*, or the companion move δW* - Aᵀ P S1⁺ of the joint solution; 0 without best move.
  Tensor<T> best_move;
  Tensor<T> fan_in;                     ///< (K, p), rows α_k, the bias last
  Tensor<T> fan_out;                    ///< (K, q), rows ω_k
  std::vector<double> lambda;           ///< all min(p, q) singular values, descending, significant or not
  std::int64_t units = 0;               ///< K
  double goal_norm2 = 0.0;              ///< (1/n) ‖V_goal‖²; with fisher rank(E), the same norm in that metric
  double best_move_decrease = 0.0;      ///< D_W, the slope of δW* (with fisher, of E⁺ δW*)
  double returned_move_decrease = 0.0;  ///< ⟨best_move, M1ᵀ⟩, the slope of the move returned: D_W unless joint
  double bottleneck = 0.0;              ///< Ψ = goal_norm2 - D_W
  double bottleneck_after = 0.0;        ///< Ψ - Σ_{k≤K} λ²
  double gain = 0.0;                    ///< Σ_{k≤K} λ²
  /// ⟨A, M⟩ with A = Σ α_k ω_kᵀ as returned: what the units alone gain where the activation has slope 1 at 0. The
  /// slope of everything applied is returned_move_decrease + σ'(0) first_order_gain.
  double first_order_gain = 0.0;
  double threshold = 0.0;   ///< λ a unit had to exceed
  double ridge_used = 0.0;  ///< on S (S⊥), Cholesky route
  std::int64_t rank = -1;   ///< of S (S⊥) by the eigen route, else -1
  std::string note;         ///< empty, or a sentence: why no unit was added, which route gave way
};

/// Best move, bottleneck and units of one place from its moments.
///
/// Nothing significant, S = 0 or N = 0 are answers, not errors: `units` is 0 and `note` says why. Throws ShapeError for
/// moments that do not fit together, NumericError for NaN, infinity or a matrix that is no second moment, ArgumentError
/// for options out of range, no samples, or moments that contradict each other.
template <Real T>
[[nodiscard]] Solution<T> solve(Context& ctx, const Moments<T>& moments, const SolveOptions& options = {});

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/solve/solve_impl.hpp>
#endif
